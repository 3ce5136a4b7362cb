"""The calls of AdminService."""

from collections.abc import Iterator
from typing import TypedDict, Unpack

from google.protobuf.field_mask_pb2 import FieldMask

from ims.client.connection import Connection
from ims.client.vocabulary import (
    Image,
    PublishImageResponse,
    SharingPolicy,
    Tenant,
    TenantQuotas,
    TenantState,
)
from ims.v1.admin_service_pb2 import (
    DeactivateTenantImageRequest,
    GetSharingPolicyRequest,
    GetTenantQuotasRequest,
    GetTenantRequest,
    ListTenantsRequest,
    PublishImageRequest,
    ReactivateTenantImageRequest,
    RegisterTenantRequest,
    ResumeTenantRequest,
    SetSharingPolicyRequest,
    SetTenantQuotasRequest,
    SuspendTenantRequest,
    UnpublishImageRequest,
    UpdateTenantRequest,
)
from ims.v1.quota_pb2 import QuotaLimits


class Limits(TypedDict, total=False):
    """The limits that a call sets; None is the deployment's default again."""

    private_images: int | None
    stored_bytes: int | None
    creations: int | None
    copies: int | None


class TenantChanges(TypedDict, total=False):
    """What the directory says of a tenant and can be changed."""

    region: str
    sharing_blocked: bool


class AdminCalls(Connection):
    """Governs the deployment, for the role `admin`. Every method raises Declined or Unreachable."""

    def publish_image(
        self, image_id: str, *, non_exportable: bool = False, request_id: str = ""
    ) -> PublishImageResponse:
        """Make a private image public; its shares end.

        Marked non-exportable, it is never exported, nor is what is copied from it; for good.
        """
        request = PublishImageRequest(
            image_id=image_id, non_exportable=non_exportable, request_id=request_id
        )
        return self._call(self._admin.PublishImage, request)

    def unpublish_image(self, image_id: str, *, request_id: str = "") -> Image:
        """Make a public image its owner's private one again."""
        return self._call(
            self._admin.UnpublishImage, UnpublishImageRequest(image_id=image_id, request_id=request_id)
        ).image

    def get_tenant_quotas(self, tenant_id: str) -> TenantQuotas:
        """Return what a tenant has taken of its quotas, and the most that it can have."""
        request = GetTenantQuotasRequest(tenant_id=tenant_id)
        return self._call(self._admin.GetTenantQuotas, request).quotas

    def set_tenant_quotas(
        self, tenant_id: str, *, request_id: str = "", **limits: Unpack[Limits]
    ) -> TenantQuotas:
        """Give a tenant limits of its own; those that are not named stay as they are."""
        request = SetTenantQuotasRequest(
            tenant_id=tenant_id,
            limits=QuotaLimits(**limits),
            update_mask=FieldMask(paths=list(limits)),
            request_id=request_id,
        )
        return self._call(self._admin.SetTenantQuotas, request).quotas

    # Tenants

    def register_tenant(self, tenant_id: str, region: str, *, request_id: str = "") -> Tenant:
        """Have the directory name a tenant, at home in a region; the same again changes nothing."""
        request = RegisterTenantRequest(tenant_id=tenant_id, region=region, request_id=request_id)
        return self._call(self._admin.RegisterTenant, request).tenant

    def update_tenant(
        self, tenant_id: str, *, request_id: str = "", **changes: Unpack[TenantChanges]
    ) -> Tenant:
        """Change what the directory says of a tenant; what is not named stays as it is."""
        request = UpdateTenantRequest(
            tenant_id=tenant_id,
            tenant=Tenant(**changes),
            update_mask=FieldMask(paths=list(changes)),
            request_id=request_id,
        )
        return self._call(self._admin.UpdateTenant, request).tenant

    def suspend_tenant(self, tenant_id: str, *, request_id: str = "") -> Tenant:
        """Let a tenant do nothing, and serve nothing of its own but its public images."""
        request = SuspendTenantRequest(tenant_id=tenant_id, request_id=request_id)
        return self._call(self._admin.SuspendTenant, request).tenant

    def resume_tenant(self, tenant_id: str, *, request_id: str = "") -> Tenant:
        """Have everything of a suspended tenant be as it was."""
        request = ResumeTenantRequest(tenant_id=tenant_id, request_id=request_id)
        return self._call(self._admin.ResumeTenant, request).tenant

    def get_tenant(self, tenant_id: str) -> Tenant:
        """Return a tenant as the directory has it."""
        return self._call(self._admin.GetTenant, GetTenantRequest(tenant_id=tenant_id)).tenant

    def list_tenants(
        self, *, state: TenantState = Tenant.STATE_UNSPECIFIED, region: str = "", page_size: int = 0
    ) -> Iterator[Tenant]:
        """Yield the tenants that the directory names, by id. Asks page by page, as far as it is read."""
        request = ListTenantsRequest(state=state, region=region, page_size=page_size)
        for page in self._pages(self._admin.ListTenants, request):
            yield from page.tenants

    def get_sharing_policy(self) -> SharingPolicy:
        """Return what holds for the sharing of all tenants."""
        return self._call(self._admin.GetSharingPolicy, GetSharingPolicyRequest()).policy

    def set_sharing_policy(self, *, new_shares_blocked: bool, request_id: str = "") -> SharingPolicy:
        """Keep all tenants from sharing with anybody new, or let them again."""
        policy = SharingPolicy(new_shares_blocked=new_shares_blocked)
        request = SetSharingPolicyRequest(policy=policy, request_id=request_id)
        return self._call(self._admin.SetSharingPolicy, request).policy

    # Any tenant's images

    def deactivate_tenant_image(self, image_id: str, *, request_id: str = "") -> Image:
        """Refuse any tenant's image's bytes to everyone, until an administrator reactivates it."""
        request = DeactivateTenantImageRequest(image_id=image_id, request_id=request_id)
        return self._call(self._admin.DeactivateTenantImage, request).image

    def reactivate_tenant_image(self, image_id: str, *, request_id: str = "") -> Image:
        """Make any tenant's deactivated image active again."""
        request = ReactivateTenantImageRequest(image_id=image_id, request_id=request_id)
        return self._call(self._admin.ReactivateTenantImage, request).image
