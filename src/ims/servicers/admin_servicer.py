"""AdminService on the wire."""

import grpc

from ims.servicers.current_call import current_caller
from ims.servicers.messages import image_message
from ims.servicers.once import once
from ims.servicers.reading import RequestReading, image_id_of
from ims.use_cases import images
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
