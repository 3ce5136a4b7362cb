"""UseService on the wire."""

import grpc

from ims.domain.image import ImageId
from ims.domain.registered_use import UseKind
from ims.servicers.current_call import current_caller
from ims.servicers.once import once
from ims.servicers.page_tokens import Listing
from ims.servicers.reading import RequestReading, image_id_of
from ims.servicers.use_messages import read_consumer, usage_message, use_message
from ims.use_cases import registered_uses
from ims.use_cases.deployment import Deployment
from ims.v1 import use_service_pb2 as pb
from ims.v1 import use_service_pb2_grpc


class UseServicer(use_service_pb2_grpc.UseServiceServicer):
    """Parses requests, tells the use case, renders its answer."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    @once(pb.RegisterUseResponse)
    def RegisterUse(
        self, request: pb.RegisterUseRequest, context: grpc.ServicerContext
    ) -> pb.RegisterUseResponse:
        caller, reading = current_caller(), RequestReading(request)
        image_id = image_id_of(request)
        tenant_id = reading.tenant_id("tenant_id", request.tenant_id)
        kind, consumer_id = read_consumer(reading, request)
        use = registered_uses.register_use(
            self._deployment,
            caller=caller,
            image_id=image_id,
            kind=kind,
            consumer_id=consumer_id,
            tenant_id=tenant_id,
            problems=reading.problems,
        )
        return pb.RegisterUseResponse(use=use_message(use))

    @once(pb.ReleaseUseResponse)
    def ReleaseUse(
        self, request: pb.ReleaseUseRequest, context: grpc.ServicerContext
    ) -> pb.ReleaseUseResponse:
        caller, reading = current_caller(), RequestReading(request)
        image_id = image_id_of(request)
        tenant_id = reading.tenant_id("tenant_id", request.tenant_id)
        kind, consumer_id = read_consumer(reading, request)
        released = registered_uses.release_use(
            self._deployment,
            caller=caller,
            image_id=image_id,
            kind=kind,
            consumer_id=consumer_id,
            tenant_id=tenant_id,
            problems=reading.problems,
        )
        return pb.ReleaseUseResponse(released=released)

    def ListUses(
        self, request: pb.ListUsesRequest, context: grpc.ServicerContext
    ) -> pb.ListUsesResponse:
        caller, reading = current_caller(), RequestReading(request)
        tenant_id = reading.tenant_id("tenant_id", request.tenant_id)
        kind = reading.word(request, "kind", UseKind)
        listing = Listing(self._deployment.page_token_key, caller.tenant_id, request)
        after = listing.place(reading, request.page_token)
        size = reading.page_size(request.page_size)
        page = registered_uses.list_uses(
            self._deployment,
            caller=caller,
            image_id=ImageId(request.image_id) if request.image_id else None,
            kind=kind,
            tenant_id=tenant_id,
            size=size,
            after=after,
            problems=reading.problems,
        )
        return pb.ListUsesResponse(
            uses=[use_message(use) for use in page.items],
            next_page_token=listing.token(page.places[-1]) if page.more else "",
        )

    def GetUsage(
        self, request: pb.GetUsageRequest, context: grpc.ServicerContext
    ) -> pb.GetUsageResponse:
        caller, reading = current_caller(), RequestReading(request)
        image_id = image_id_of(request)
        listing = Listing(self._deployment.page_token_key, caller.tenant_id, request)
        after = listing.place(reading, request.page_token)
        size = reading.page_size(request.page_size)
        page = registered_uses.get_usage(
            self._deployment,
            caller=caller,
            image_id=image_id,
            size=size,
            after=after,
            problems=reading.problems,
        )
        return pb.GetUsageResponse(
            usages=[usage_message(usage) for usage in page.items],
            next_page_token=listing.token(page.places[-1]) if page.more else "",
        )
