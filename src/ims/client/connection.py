"""A channel to one server, and the one way in which calls are made over it."""

import math
from collections.abc import Iterable, Iterator
from time import monotonic, sleep
from types import TracebackType
from typing import Final, Generic, Protocol, Self, TypeVar

import grpc
from google.longrunning.operations_pb2_grpc import OperationsStub

from ims.client.credentials import Credentials
from ims.client.errors import Declined, Unreachable, to_exception
from ims.client.repetition import (
    PAUSES_SECONDS,
    asked_to_wait_seconds,
    give_request_id,
    may_be_repeated,
)
from ims.client.security import Tls, is_on_this_machine
from ims.v1.admin_service_pb2_grpc import AdminServiceStub
from ims.v1.audit_service_pb2_grpc import AuditServiceStub
from ims.v1.image_service_pb2_grpc import ImageServiceStub
from ims.v1.sharing_service_pb2_grpc import SharingServiceStub
from ims.v1.upload_service_pb2_grpc import UploadServiceStub
from ims.v1.use_service_pb2_grpc import UseServiceStub

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_PageRequest = TypeVar("_PageRequest", bound="_AsksForPage")
_Page = TypeVar("_Page", bound="_HasNextPage")

DEFAULT_TIMEOUT_SECONDS: Final = 30.0

_MIB: Final = 1024 * 1024
_OPTIONS: Final = (
    # A page of a thousand images with many disks is larger than the library's 4 MiB.
    ("grpc.max_receive_message_length", 64 * _MIB),
    ("grpc.max_metadata_size", _MIB // 16),
    # A server that vanished without a word is noticed, and a transfer waits for nobody. Servers take
    # a ping every five minutes for granted, and more of them for an attack.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # A server that is started again is found again soon, and not after the library's second or more.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)


class _AsksForPage(Protocol):
    page_token: str


class _HasNextPage(Protocol):
    next_page_token: str


class Connection:
    """A channel to one server, over which one identity calls. Threads may share it."""

    def __init__(
        self,
        server: str,
        credentials: Credentials,
        *,
        tls: Tls | None = None,
        plaintext: bool = False,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> None:
        self.server = server
        self._credentials = credentials
        self._timeout_seconds = timeout_seconds
        if tls is not None:
            self._channel = grpc.secure_channel(server, tls.credentials(), options=_OPTIONS)
        elif credentials.secret and not plaintext and not is_on_this_machine(server):
            raise ValueError(f"A token would go to {server} for everybody to read: use TLS.")
        else:
            self._channel = grpc.insecure_channel(server, options=_OPTIONS)
        # Not later: on a channel that was closed meanwhile, grpc ends the process.
        self._images = ImageServiceStub(self._channel)
        self._sharing = SharingServiceStub(self._channel)
        self._admin = AdminServiceStub(self._channel)
        self._uses = UseServiceStub(self._channel)
        self._audit = AuditServiceStub(self._channel)
        self._uploads = UploadServiceStub(self._channel)
        self._operations = OperationsStub(self._channel)

    def close(self) -> None:
        """End the connection, and with it every call that is still running."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _call(
        self,
        method: "grpc.UnaryUnaryMultiCallable[_Request, _Response]",
        request: _Request,
        *,
        timeout_seconds: float | None = None,
    ) -> _Response:
        """Make a small call, a few times where nobody answers. Raises Declined or Unreachable.

        One that changes something has an id, and one effect.
        """
        give_request_id(request)
        until = monotonic() + (timeout_seconds or self._timeout_seconds)
        pauses = iter(PAUSES_SECONDS)
        while True:
            left = until - monotonic()
            try:
                return method(request, timeout=left, metadata=self._credentials.metadata())
            except grpc.RpcError as error:
                pause = max(next(pauses, math.inf), asked_to_wait_seconds(error))
                if not may_be_repeated(error) or monotonic() + pause >= until:
                    raise self._meaning(error) from error
            sleep(pause)

    def _send(
        self,
        method: "grpc.StreamUnaryMultiCallable[_Request, _Response]",
        first: _Request,
        others: Iterable[_Request],
    ) -> _Response:
        """Send a stream of messages, once. Raises Declined or Unreachable, and what `others` raises."""
        messages = _Messages(first, others)
        call = method.future(iter(messages), metadata=self._credentials.metadata())
        try:
            response = call.result()
        except grpc.RpcError as error:
            raise messages.trouble or self._meaning(error) from error
        except BaseException:
            call.cancel()
            raise
        if messages.trouble:
            raise messages.trouble
        return response

    def _pages(
        self, method: "grpc.UnaryUnaryMultiCallable[_PageRequest, _Page]", request: _PageRequest
    ) -> Iterator[_Page]:
        """Yield page after page of a list. Raises Declined or Unreachable."""
        while True:
            page = self._call(method, request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def _meaning(self, error: grpc.RpcError) -> Declined | Unreachable:
        return to_exception(error, server=self.server)


class _Messages(Generic[_Request]):
    """The messages of one call.

    grpc iterates over them in a thread of its own, where an exception would only be logged: it is kept
    in `trouble`, and the messages end. They are fewer than announced then, so the service does not take
    them for all.
    """

    def __init__(self, first: _Request, others: Iterable[_Request]) -> None:
        self.trouble: Exception | None = None
        self._first = first
        self._others = others

    def __iter__(self) -> Iterator[_Request]:
        yield self._first
        try:
            yield from self._others
        except Exception as error:  # noqa: BLE001 - raised again by the thread that waits for the answer
            self.trouble = error
