"""google.longrunning.Operations on the wire, as it stands."""

from collections.abc import Callable
from typing import Final

import grpc
from google.longrunning import operations_pb2 as pb
from google.longrunning import operations_pb2_grpc
from google.protobuf.empty_pb2 import Empty

from ims.servicers.current_call import current_caller
from ims.servicers.operation_messages import (
    operation_id_of,
    operation_message,
    read_operation_filter,
)
from ims.servicers.page_tokens import Listing
from ims.servicers.reading import RequestReading
from ims.use_cases import operations
from ims.use_cases.deployment import Deployment

LONGEST_WAIT_SECONDS: Final = 60.0
"""How long a call waits at most: whoever wants to wait for longer calls again."""
_MARGIN_SECONDS: Final = 0.5
"""How much of a call's own time is left for its answer."""


class OperationsServicer(operations_pb2_grpc.OperationsServicer):  # type: ignore[misc] # no types there
    """Parses requests, tells the use case, renders its answer."""

    def __init__(self, deployment: Deployment, *, draining: Callable[[], bool] = lambda: False) -> None:
        """Take what tells whether this process takes no new calls and waits for those that run."""
        self._deployment = deployment
        self._draining = draining

    def GetOperation(
        self, request: pb.GetOperationRequest, context: grpc.ServicerContext
    ) -> pb.Operation:
        reading = RequestReading(request)
        operation = operations.get_operation(
            self._deployment,
            caller=current_caller(),
            operation_id=operation_id_of(request.name),
            problems=reading.problems,
        )
        return operation_message(operation)

    def ListOperations(
        self, request: pb.ListOperationsRequest, context: grpc.ServicerContext
    ) -> pb.ListOperationsResponse:
        caller, reading = current_caller(), RequestReading(request)
        operation_filter = read_operation_filter(reading, request)
        listing = Listing(self._deployment.page_token_key, caller.tenant_id, request)
        after = listing.place(reading, request.page_token)
        size = reading.page_size(request.page_size)
        page = operations.list_operations(
            self._deployment,
            caller=caller,
            operation_filter=operation_filter,
            size=size,
            after=after,
            problems=reading.problems,
        )
        return pb.ListOperationsResponse(
            operations=[operation_message(operation) for operation in page.items],
            next_page_token=listing.token(page.places[-1]) if page.more else "",
        )

    def WaitOperation(
        self, request: pb.WaitOperationRequest, context: grpc.ServicerContext
    ) -> pb.Operation:
        reading = RequestReading(request)
        operation = operations.wait_operation(
            self._deployment,
            caller=current_caller(),
            operation_id=operation_id_of(request.name),
            seconds=self._seconds(reading, request, context),
            goes_on=lambda: context.is_active() and not self._draining(),
            problems=reading.problems,
        )
        return operation_message(operation)

    def CancelOperation(
        self, request: pb.CancelOperationRequest, context: grpc.ServicerContext
    ) -> Empty:
        reading = RequestReading(request)
        operations.cancel_operation(
            self._deployment,
            caller=current_caller(),
            operation_id=operation_id_of(request.name),
            problems=reading.problems,
        )
        return Empty()

    def DeleteOperation(
        self, request: pb.DeleteOperationRequest, context: grpc.ServicerContext
    ) -> Empty:
        reading = RequestReading(request)
        operations.delete_operation(
            self._deployment,
            caller=current_caller(),
            operation_id=operation_id_of(request.name),
            problems=reading.problems,
        )
        return Empty()

    @staticmethod
    def _seconds(
        reading: RequestReading, request: pb.WaitOperationRequest, context: grpc.ServicerContext
    ) -> float:
        """Return how long to wait: as the request says, and as its call's deadline leaves time."""
        seconds = LONGEST_WAIT_SECONDS
        if request.HasField("timeout"):
            said = request.timeout.seconds + request.timeout.nanos / 10**9
            if said < 0:
                reading.problem("timeout", "it is no time before now.")
            seconds = min(seconds, said)
        left = context.time_remaining()
        return seconds if left is None else min(seconds, left - _MARGIN_SECONDS)
