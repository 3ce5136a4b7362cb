"""AuditService on the wire."""

from collections.abc import Iterator

import grpc

from ims.servicers.audit_messages import audit_event_message, read_audit_filter, read_audit_order
from ims.servicers.current_call import current_caller
from ims.servicers.page_tokens import Listing
from ims.servicers.reading import RequestReading
from ims.use_cases import audit
from ims.use_cases.deployment import Deployment
from ims.v1 import audit_service_pb2 as pb
from ims.v1 import audit_service_pb2_grpc


class AuditServicer(audit_service_pb2_grpc.AuditServiceServicer):
    """Parses requests, tells the use case, renders its answer."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def ListAuditEvents(
        self, request: pb.ListAuditEventsRequest, context: grpc.ServicerContext
    ) -> pb.ListAuditEventsResponse:
        caller, reading = current_caller(), RequestReading(request)
        tenant_id = reading.tenant_id("tenant_id", request.tenant_id)
        audit_filter = read_audit_filter(reading, request.filter)
        descending = read_audit_order(reading, request.order_by)
        listing = Listing(self._deployment.page_token_key, caller.tenant_id, request)
        after = listing.place(reading, request.page_token)
        size = reading.page_size(request.page_size)
        page = audit.list_audit_events(
            self._deployment,
            caller=caller,
            audit_filter=audit_filter,
            tenant_id=tenant_id,
            size=size,
            after=after,
            descending=descending,
            problems=reading.problems,
        )
        return pb.ListAuditEventsResponse(
            events=[audit_event_message(event) for event in page.items],
            next_page_token=listing.token(page.places[-1]) if page.more else "",
        )

    def ExportAuditEvents(
        self, request: pb.ExportAuditEventsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ExportAuditEventsResponse]:
        caller, reading = current_caller(), RequestReading(request)
        tenant_id = reading.tenant_id("tenant_id", request.tenant_id)
        audit_filter = read_audit_filter(reading, request.filter)
        for events in audit.export_audit_events(
            self._deployment,
            caller=caller,
            audit_filter=audit_filter,
            tenant_id=tenant_id,
            problems=reading.problems,
        ):
            yield pb.ExportAuditEventsResponse(events=[audit_event_message(event) for event in events])
