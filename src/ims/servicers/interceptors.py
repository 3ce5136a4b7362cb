"""What happens around every RPC: who calls, what is logged, and how a rejection reaches the wire."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import wraps
from itertools import count
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import grpc
import structlog
from google.protobuf.message import DecodeError
from google.rpc.code_pb2 import Code
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from ims.domain.rejection import Category, Reason, Rejection, reject
from ims.identity.interface import Identity, Names
from ims.rules.engine import enforce
from ims.rules.roles import CALL_RPC, Call
from ims.servicers.admission import HEALTH, REFLECTION, Doorstep, Room, Rooms
from ims.servicers.current_call import set_current_caller, set_current_request_id
from ims.servicers.errors import internal_status, to_status
from ims.servicers.patience import END, Patience
from ims.servicers.ready import as_it_is
from ims.servicers.tls import no_names

REQUEST_ID: Final = "ims-request-id"
OPEN_TO_ALL: Final = (HEALTH, REFLECTION)
"""The services that need no identity."""

Until = Callable[[float | None], AbstractContextManager[object]]
"""Notes for a block, and for this thread, when its call's time is over on the monotonic clock."""

_FAR_AWAY_SECONDS: Final = 10 * 365 * 24 * 3600
"""What the library has for "no deadline" is further away than this."""

_log = structlog.get_logger("ims.calls")


class OutermostInterceptor(grpc.ServerInterceptor):
    """Identifies the caller, sees to its roles, and turns whatever is raised below into a status.

    Serves all four shapes of RPC. It is the one place that aborts, so nobody has to recognise an abort
    in flight.
    """

    def __init__(
        self,
        identity: Identity,
        rooms: Rooms,
        patience: Patience,
        until: Until,
        *,
        on_refusal: Callable[[Rejection], None],
        names_of: Callable[[grpc.ServicerContext], Names] = no_names,
    ) -> None:
        """Take who knows the callers, what bounds their calls, and what tells a certificate's names.

        `on_refusal` hears of every rejection of a caller that is known.
        """
        self._identity = identity
        self._names_of = names_of
        self._rooms = rooms
        self._patience = patience
        self._until = until
        self._on_refusal = on_refusal
        self._doorstep = Doorstep()
        self._doors: dict[str, _Door] = {}
        # Unlike a random id for each call, it costs nothing, and no other process has the same prefix.
        self._prefix = os.urandom(8).hex()
        self._numbers = count(1)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "grpc.RpcMethodHandler[Any, Any] | None"],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Let a call in, or turn it away; runs before the call has a thread, for one call at a time."""
        door = self._doors.get(handler_call_details.method)
        if door is None:
            handler = continuation(handler_call_details)
            if handler is None:
                return None
            door = self._doors[handler_call_details.method] = self._door(
                handler_call_details.method, handler
            )
        return door.turn_away if door.room.is_full else door.let_in

    def _door(self, method: str, handler: Any) -> "_Door":
        room = self._rooms.room_of(
            method, is_stream=handler.request_streaming or handler.response_streaming
        )
        shape = f"{_arity(handler.request_streaming)}_{_arity(handler.response_streaming)}"
        read = self._all_messages if handler.request_streaming else self._only_message
        serve = self._streaming if handler.response_streaming else self._single
        call = serve(method, getattr(handler, shape), read)
        call.experimental_thread_pool = room
        # To the library every request is a stream: the wait for its only message is ours, and bounded.
        make = _stream_handler if handler.response_streaming else _single_handler
        return _Door(
            room=room,
            let_in=make(
                call,
                request_deserializer=_tolerant(handler.request_deserializer),
                response_serializer=as_it_is(handler.response_serializer),
            ),
            turn_away=_single_handler(self._turning_away(method, room.rejection)),
        )

    def _turning_away(self, method: str, rejection: Rejection) -> Any:
        status = to_status(rejection)

        def call(_messages: Any, context: grpc.ServicerContext) -> Any:
            self._begin(method, context).decline(status, rejection)

        call.experimental_thread_pool = self._doorstep  # type: ignore[attr-defined] # what grpc reads
        return call

    def _single(self, method: str, behavior: Any, read: "_Read") -> Any:
        def call(messages: Iterator[Any], context: grpc.ServicerContext) -> Any:
            with self._begin(method, context) as begun:
                self._identify(begun, context)
                request = read(messages, context)
                with self._until(_deadline(context)):
                    return behavior(request, context)

        return call

    def _streaming(self, method: str, behavior: Any, read: "_Read") -> Any:
        if getattr(behavior, "experimental_non_blocking", False):
            return self._pushing(method, behavior, read)

        def call(messages: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
            with self._begin(method, context) as begun:
                self._identify(begun, context)
                request = read(messages, context)
                with self._until(_deadline(context)):
                    yield from self._patience.while_sent(behavior(request, context), context)

        return call

    def _pushing(self, method: str, behavior: Any, read: "_Read") -> Any:
        # The health service watches without holding a thread: it answers through a callback. Its marks
        # have to be kept for the server to know.
        @wraps(behavior)
        def call(messages: Iterator[Any], context: grpc.ServicerContext, *send: Any) -> Any:
            with self._begin(method, context) as begun:
                self._identify(begun, context)
                return behavior(read(messages, context), context, *send)

        return call

    def _begin(self, method: str, context: grpc.ServicerContext) -> "_Call":
        request_id = f"{self._prefix}-{next(self._numbers):x}"
        set_current_request_id(request_id)
        return _Call(method, request_id, context, self._on_refusal)

    def _identify(self, call: "_Call", context: grpc.ServicerContext) -> None:
        if call.method.startswith(OPEN_TO_ALL):
            return
        caller = self._identity.caller_of(context.invocation_metadata(), self._names_of(context))
        set_current_caller(caller, rpc=call.rpc, call_id=call.request_id)
        call.identified = True
        call.facts["tenant"] = caller.tenant_id
        call.facts["user"] = caller.user_id
        # Before anything is read, so that the answer cannot depend on what there is.
        enforce(CALL_RPC, Call(caller=caller, rpc=call.rpc))

    def _only_message(self, messages: Iterator[Any], context: grpc.ServicerContext) -> Any:
        message = self._patience.next_of(messages, context)
        if message is END or message is _UNREADABLE:
            raise _unreadable()
        return message

    def _all_messages(self, messages: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        while (message := self._patience.next_of(messages, context)) is not END:
            if message is _UNREADABLE:
                raise _unreadable()
            yield message


_Read = Callable[[Iterator[Any], grpc.ServicerContext], Any]
_single_handler: Any = grpc.stream_unary_rpc_method_handler
_stream_handler: Any = grpc.stream_stream_rpc_method_handler


class _Door(NamedTuple):
    """What becomes of the calls of a method: made once, since a call has no time to lose."""

    room: Room
    let_in: "grpc.RpcMethodHandler[Any, Any]"
    turn_away: "grpc.RpcMethodHandler[Any, Any]"


class _Call:
    """One call, from its beginning to its line in the log."""

    def __init__(
        self,
        method: str,
        request_id: str,
        context: grpc.ServicerContext,
        on_refusal: Callable[[Rejection], None],
    ) -> None:
        self.method = method
        self.rpc = method.rpartition("/")[2]
        self.request_id = request_id
        self.identified = False
        """Whether it is known who calls."""
        self.facts: dict[str, Any] = {"method": method, "request_id": request_id}
        """What its line in the log says of it, beside how it ended."""
        self._context = context
        self._on_refusal = on_refusal
        self._begun = time.monotonic()

    def __enter__(self) -> Self:
        self._context.set_trailing_metadata(((REQUEST_ID, self.request_id),))
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        raised: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if raised is None:
            self._ends(_code_said(self._context))
        elif isinstance(raised, Rejection):
            if self.identified:
                self._on_refusal(raised)
            self.decline(to_status(raised), raised)
        elif isinstance(raised, grpc.RpcError | GeneratorExit) or not self._context.is_active():
            # The client went away while bytes were travelling: nobody is left to be answered.
            self._ends("CANCELLED")
        elif isinstance(raised, Exception):
            self._breaks(internal_status())

    def decline(self, status: Status, rejection: Rejection) -> None:
        _log.info(
            "call",
            code=Code.Name(status.code),
            reason=rejection.reason,
            broken=sorted({violation.reason for violation in rejection.violations}),
            seconds=self._seconds(),
            **self.facts,
        )
        self._abort(status)

    def _breaks(self, status: Status) -> None:
        _log.exception("bug", code=Code.Name(status.code), seconds=self._seconds(), **self.facts)
        self._abort(status)

    def _ends(self, code: str) -> None:
        _log.info("call", code=code, seconds=self._seconds(), **self.facts)

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


_UNREADABLE: Final = object()
"""Stands for a message that could not be decoded."""


def _tolerant(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    # Left alone, the library answers INTERNAL for bytes that are no message, before our code runs.
    def tolerant(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _UNREADABLE

    return tolerant


def _unreadable() -> Rejection:
    return reject(
        Category.MALFORMED,
        Reason.UNREADABLE_REQUEST,
        "The bytes of the request are no message of this method's type.",
    )


def _deadline(context: grpc.ServicerContext) -> float | None:
    seconds = context.time_remaining()
    if seconds is None or seconds > _FAR_AWAY_SECONDS:
        return None
    return time.monotonic() + seconds


def _code_said(context: Any) -> str:
    """Return the code of a call that raised nothing: the health service says one all the same."""
    code: grpc.StatusCode | None = context.code()
    return "OK" if code is None else code.name


def _arity(streaming: bool) -> str:  # noqa: FBT001 - one flag, named by its type's only use
    return "stream" if streaming else "unary"
