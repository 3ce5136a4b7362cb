"""AdminService on the wire."""

import grpc

from ims.servicers.current_call import current_caller
from ims.servicers.messages import image_message, quotas_message, read_limits
from ims.servicers.once import once
from ims.servicers.reading import RequestReading, image_id_of
from ims.use_cases import images, quotas
from ims.use_cases.deployment import Deployment
from ims.v1 import admin_service_pb2 as pb
from ims.v1 import admin_service_pb2_grpc


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
            self._deployment, caller=caller, image_id=image_id_of(request), problems=reading.problems
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
