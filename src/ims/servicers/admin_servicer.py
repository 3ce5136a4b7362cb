"""AdminService on the wire."""

import grpc

from ims.servicers.current_call import current_caller
from ims.servicers.image_messages import image_message
from ims.servicers.once import once
from ims.servicers.page_tokens import Listing
from ims.servicers.reading import RequestReading, image_id_of
from ims.servicers.tenant_messages import (
    quotas_message,
    read_limits,
    read_tenant_changes,
    read_tenant_filter,
    tenant_message,
)
from ims.use_cases import images, quotas, tenants
from ims.use_cases.deployment import Deployment
from ims.v1 import admin_service_pb2 as pb
from ims.v1 import admin_service_pb2_grpc, tenant_pb2


class AdminServicer(admin_service_pb2_grpc.AdminServiceServicer):
    """Parses requests, tells the use case, renders its answer."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    @once(pb.PublishImageResponse)
    def PublishImage(
        self, request: pb.PublishImageRequest, context: grpc.ServicerContext
    ) -> pb.PublishImageResponse:
        caller, reading = current_caller(), RequestReading(request)
        view, ended = images.publish_image(
            self._deployment,
            caller=caller,
            image_id=image_id_of(request),
            non_exportable=request.non_exportable,
            problems=reading.problems,
        )
        return pb.PublishImageResponse(image=image_message(view), ended_share_count=ended)

    @once(pb.UnpublishImageResponse)
    def UnpublishImage(
        self, request: pb.UnpublishImageRequest, context: grpc.ServicerContext
    ) -> pb.UnpublishImageResponse:
        caller, reading = current_caller(), RequestReading(request)
        view = images.unpublish_image(
            self._deployment, caller=caller, image_id=image_id_of(request), problems=reading.problems
        )
        return pb.UnpublishImageResponse(image=image_message(view))

    def GetTenantQuotas(
        self, request: pb.GetTenantQuotasRequest, context: grpc.ServicerContext
    ) -> pb.GetTenantQuotasResponse:
        caller, reading = current_caller(), RequestReading(request)
        tenant_id = reading.tenant_id("tenant_id", request.tenant_id)
        allowance = quotas.get_tenant_quotas(
            self._deployment, caller=caller, tenant_id=tenant_id, problems=reading.problems
        )
        return pb.GetTenantQuotasResponse(quotas=quotas_message(allowance))

    @once(pb.SetTenantQuotasResponse)
    def SetTenantQuotas(
        self, request: pb.SetTenantQuotasRequest, context: grpc.ServicerContext
    ) -> pb.SetTenantQuotasResponse:
        caller, reading = current_caller(), RequestReading(request)
        tenant_id = reading.tenant_id("tenant_id", request.tenant_id)
        limits = read_limits(reading, request)
        allowance = quotas.set_tenant_quotas(
            self._deployment,
            caller=caller,
            tenant_id=tenant_id,
            limits=limits,
            problems=reading.problems,
        )
        return pb.SetTenantQuotasResponse(quotas=quotas_message(allowance))

    @once(pb.RegisterTenantResponse)
    def RegisterTenant(
        self, request: pb.RegisterTenantRequest, context: grpc.ServicerContext
    ) -> pb.RegisterTenantResponse:
        caller, reading = current_caller(), RequestReading(request)
        tenant_id = reading.tenant_id("tenant_id", request.tenant_id)
        region = reading.region("region", request.region)
        tenant = tenants.register_tenant(
            self._deployment,
            caller=caller,
            tenant_id=tenant_id,
            region=region,
            problems=reading.problems,
        )
        return pb.RegisterTenantResponse(tenant=tenant_message(tenant))

    @once(pb.UpdateTenantResponse)
    def UpdateTenant(
        self, request: pb.UpdateTenantRequest, context: grpc.ServicerContext
    ) -> pb.UpdateTenantResponse:
        caller, reading = current_caller(), RequestReading(request)
        tenant_id = reading.tenant_id("tenant_id", request.tenant_id)
        changes = read_tenant_changes(reading, request)
        tenant = tenants.update_tenant(
            self._deployment,
            caller=caller,
            tenant_id=tenant_id,
            changes=changes,
            problems=reading.problems,
        )
        return pb.UpdateTenantResponse(tenant=tenant_message(tenant))

    @once(pb.SuspendTenantResponse)
    def SuspendTenant(
        self, request: pb.SuspendTenantRequest, context: grpc.ServicerContext
    ) -> pb.SuspendTenantResponse:
        caller, reading = current_caller(), RequestReading(request)
        tenant_id = reading.tenant_id("tenant_id", request.tenant_id)
        tenant = tenants.suspend_tenant(
            self._deployment, caller=caller, tenant_id=tenant_id, problems=reading.problems
        )
        return pb.SuspendTenantResponse(tenant=tenant_message(tenant))

    @once(pb.ResumeTenantResponse)
    def ResumeTenant(
        self, request: pb.ResumeTenantRequest, context: grpc.ServicerContext
    ) -> pb.ResumeTenantResponse:
        caller, reading = current_caller(), RequestReading(request)
        tenant_id = reading.tenant_id("tenant_id", request.tenant_id)
        tenant = tenants.resume_tenant(
            self._deployment, caller=caller, tenant_id=tenant_id, problems=reading.problems
        )
        return pb.ResumeTenantResponse(tenant=tenant_message(tenant))

    def GetTenant(
        self, request: pb.GetTenantRequest, context: grpc.ServicerContext
    ) -> pb.GetTenantResponse:
        caller, reading = current_caller(), RequestReading(request)
        tenant_id = reading.tenant_id("tenant_id", request.tenant_id)
        tenant = tenants.get_tenant(
            self._deployment, caller=caller, tenant_id=tenant_id, problems=reading.problems
        )
        return pb.GetTenantResponse(tenant=tenant_message(tenant))

    def ListTenants(
        self, request: pb.ListTenantsRequest, context: grpc.ServicerContext
    ) -> pb.ListTenantsResponse:
        caller, reading = current_caller(), RequestReading(request)
        tenant_filter = read_tenant_filter(reading, request)
        listing = Listing(self._deployment.page_token_key, caller.tenant_id, request)
        after = listing.place(reading, request.page_token)
        size = reading.page_size(request.page_size)
        page = tenants.list_tenants(
            self._deployment,
            caller=caller,
            tenant_filter=tenant_filter,
            size=size,
            after=after,
            problems=reading.problems,
        )
        return pb.ListTenantsResponse(
            tenants=[tenant_message(tenant) for tenant in page.items],
            next_page_token=listing.token(page.places[-1]) if page.more else "",
        )

    def GetSharingPolicy(
        self, request: pb.GetSharingPolicyRequest, context: grpc.ServicerContext
    ) -> pb.GetSharingPolicyResponse:
        blocked = tenants.get_sharing_policy(self._deployment, caller=current_caller())
        return pb.GetSharingPolicyResponse(policy=tenant_pb2.SharingPolicy(new_shares_blocked=blocked))

    @once(pb.SetSharingPolicyResponse)
    def SetSharingPolicy(
        self, request: pb.SetSharingPolicyRequest, context: grpc.ServicerContext
    ) -> pb.SetSharingPolicyResponse:
        caller, reading = current_caller(), RequestReading(request)
        blocked = tenants.set_sharing_policy(
            self._deployment,
            caller=caller,
            blocked=request.policy.new_shares_blocked,
            problems=reading.problems,
        )
        return pb.SetSharingPolicyResponse(policy=tenant_pb2.SharingPolicy(new_shares_blocked=blocked))

    @once(pb.DeactivateTenantImageResponse)
    def DeactivateTenantImage(
        self, request: pb.DeactivateTenantImageRequest, context: grpc.ServicerContext
    ) -> pb.DeactivateTenantImageResponse:
        caller, reading = current_caller(), RequestReading(request)
        view = images.deactivate_tenant_image(
            self._deployment, caller=caller, image_id=image_id_of(request), problems=reading.problems
        )
        return pb.DeactivateTenantImageResponse(image=image_message(view))

    @once(pb.ReactivateTenantImageResponse)
    def ReactivateTenantImage(
        self, request: pb.ReactivateTenantImageRequest, context: grpc.ServicerContext
    ) -> pb.ReactivateTenantImageResponse:
        caller, reading = current_caller(), RequestReading(request)
        view = images.reactivate_tenant_image(
            self._deployment, caller=caller, image_id=image_id_of(request), problems=reading.problems
        )
        return pb.ReactivateTenantImageResponse(image=image_message(view))
