"""The calls of AdminService."""

from typing import TypedDict, Unpack

from google.protobuf.field_mask_pb2 import FieldMask

from ims.client.connection import Connection
from ims.client.vocabulary import Image, PublishImageResponse, TenantQuotas
from ims.v1.admin_service_pb2 import (
    GetTenantQuotasRequest,
    PublishImageRequest,
    SetTenantQuotasRequest,
    UnpublishImageRequest,
)
from ims.v1.quota_pb2 import QuotaLimits


class Limits(TypedDict, total=False):
    """The limits that a call sets; None is the deployment's default again."""

    private_images: int | None
    stored_bytes: int | None
    creations: int | None


class AdminCalls(Connection):
    """Governs the deployment, for the role `admin`. Every method raises Declined or Unreachable."""

    def publish_image(self, image_id: str, *, request_id: str = "") -> PublishImageResponse:
        """Make a private image public; its shares end."""
        return self._call(
            self._admin.PublishImage, PublishImageRequest(image_id=image_id, request_id=request_id)
        )

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
