"""What happens around every RPC: who calls, what is logged, and how a rejection reaches the wire."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final

import grpc
import structlog
from google.protobuf.message import DecodeError
from google.rpc.code_pb2 import Code
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from ims.domain.rejection import Category, Reason, Rejection, reject
from ims.identity.interface import Identity
from ims.servicers.current_call import set_current_caller
from ims.servicers.errors import internal_status, to_status

REQUEST_ID: Final = "ims-request-id"
OPEN_TO_ALL: Final = ("/grpc.health.v1.Health/", "/grpc.reflection.")
"""The services that need no identity."""

_log = structlog.get_logger("ims.calls")


class OutermostInterceptor(grpc.ServerInterceptor):
    """Identifies the caller, then turns whatever is raised below into a status.

    Serves all four shapes of RPC. It is the one place that aborts, so nobody has to recognise an abort
    in flight.
    """

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "grpc.RpcMethodHandler[Any, Any] | None"],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        handler: Any = continuation(handler_call_details)
        if handler is None:
            return None
        wrap = self._streaming if handler.response_streaming else self._single
        shape = f"{_arity(handler.request_streaming)}_{_arity(handler.response_streaming)}"
        method = handler_call_details.method
        make: Any = getattr(grpc, f"{shape}_rpc_method_handler")
        return make(  # type: ignore[no-any-return]
            wrap(method, getattr(handler, shape)),
            request_deserializer=_tolerant(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    def _single(self, method: str, behavior: Any) -> Any:
        def call(request: Any, context: grpc.ServicerContext) -> Any:
            with self._around(method, context):
                return behavior(_readable(request), context)

        return call

    def _streaming(self, method: str, behavior: Any) -> Any:
        if getattr(behavior, "experimental_non_blocking", False):
            return self._pushing(method, behavior)

        def call(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            with self._around(method, context):
                yield from behavior(_readable(request), context)

        return call

    def _pushing(self, method: str, behavior: Any) -> Any:
        # The health service watches without holding a thread: it answers through a callback. Its marks
        # have to be kept for the server to know.
        @wraps(behavior)
        def call(request: Any, context: grpc.ServicerContext, *send: Any) -> Any:
            with self._around(method, context):
                return behavior(_readable(request), context, *send)

        return call

    @contextmanager
    def _around(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        call = _Call(method, context)
        try:
            if not method.startswith(OPEN_TO_ALL):
                caller = self._identity.caller_of(_metadata(context))
                set_current_caller(caller)
                call.says(tenant=caller.tenant_id, user=caller.user_id)
            context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
            yield
        except Rejection as rejection:
            call.decline(to_status(rejection), rejection)
        except (grpc.RpcError, GeneratorExit):
            # The client went away while bytes were travelling: nobody is left to be answered.
            call.ends("CANCELLED")
            raise
        except Exception:
            if not context.is_active():
                call.ends("CANCELLED")
                raise
            call.breaks(internal_status())
        else:
            call.ends(_code_said(context))


class _Call:
    """One call, from its beginning to its line in the log."""

    def __init__(self, method: str, context: grpc.ServicerContext) -> None:
        self.request_id = str(uuid.uuid4())
        self._context = context
        self._begun = time.monotonic()
        self._facts: dict[str, Any] = {"method": method, "request_id": self.request_id}

    def says(self, **facts: str) -> None:
        self._facts.update(facts)

    def ends(self, code: str) -> None:
        _log.info("call", code=code, seconds=self._seconds(), **self._facts)

    def decline(self, status: Status, rejection: Rejection) -> None:
        _log.info(
            "call",
            code=Code.Name(status.code),
            reason=rejection.reason,
            broken=sorted({violation.reason for violation in rejection.violations}),
            seconds=self._seconds(),
            **self._facts,
        )
        self._abort(status)

    def breaks(self, status: Status) -> None:
        _log.exception("bug", code=Code.Name(status.code), seconds=self._seconds(), **self._facts)
        self._abort(status)

    def _abort(self, status: Status) -> None:
        wire = rpc_status.to_status(status)
        trailing = (*wire.trailing_metadata, (REQUEST_ID, self.request_id))
        self._context.abort_with_status(_Status(wire.code, wire.details, trailing))

    def _seconds(self) -> float:
        return round(time.monotonic() - self._begun, 6)


@dataclass(frozen=True)
class _Status(grpc.Status):
    code: grpc.StatusCode
    details: str
    trailing_metadata: Any


class _Unreadable:
    """Stands for a message that could not be decoded."""


def _tolerant(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    # Left alone, the library answers INTERNAL for bytes that are no message, before our code runs.
    def tolerant(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _Unreadable()

    return tolerant


def _readable(request: Any) -> Any:
    if isinstance(request, Iterator):
        return map(_readable, request)
    if isinstance(request, _Unreadable):
        raise reject(
            Category.MALFORMED,
            Reason.UNREADABLE_REQUEST,
            "The bytes of the request are no message of this method's type.",
        )
    return request


def _code_said(context: Any) -> str:
    """Return the code of a call that raised nothing: the health service says one all the same."""
    code: grpc.StatusCode | None = context.code()
    return "OK" if code is None else code.name


def _metadata(context: grpc.ServicerContext) -> list[tuple[str, str | bytes]]:
    return [(key, value) for key, value in context.invocation_metadata()]


def _arity(streaming: bool) -> str:  # noqa: FBT001 - one flag, named by its type's only use
    return "stream" if streaming else "unary"
