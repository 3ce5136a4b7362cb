"""Calls that carry a request id: what makes a repetition the same call, and how it gets its answer."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from ims.domain.rejection import Rejection
from ims.domain.repetition import RepeatableCall
from ims.servicers.current_call import current_caller, note_change
from ims.servicers.reading import REQUEST_ID
from ims.use_cases import requests
from ims.use_cases.deployment import Deployment


class _Servicer(Protocol):
    _deployment: Deployment


Servicer = TypeVar("Servicer", bound=_Servicer)
Asked = TypeVar("Asked", bound=Message)
Answer = TypeVar("Answer", bound=Message)
Told = TypeVar("Told")
_Method = Callable[[Servicer, Asked, grpc.ServicerContext], Answer]


def once(
    answer_type: type[Answer],
    *,
    rpc: str = "",
    before: Callable[[Servicer, Asked], None] | None = None,
) -> Callable[[_Method[Servicer, Asked, Answer]], _Method[Servicer, Asked, Answer]]:
    """Have a method that changes something answer a repeated call as it did the first time (law 5.9).

    A call with a request id is one transaction from its beginning; `before` is done before that, and
    decides nothing. Without `rpc` the method is called like its RPC.
    """

    def make(method: _Method[Servicer, Asked, Answer]) -> _Method[Servicer, Asked, Answer]:
        @wraps(method)
        def answered(self: Servicer, request: Asked, context: grpc.ServicerContext) -> Answer:
            note_what_is_asked(request)
            if before is not None:
                # Whatever is wrong is for the story to say, unless the call has its answer already.
                with suppress(Rejection):
                    before(self, request)
            call = repeatable_call(rpc or method.__name__, request)
            if call is None:
                return method(self, request, context)
            answer = requests.once(
                self._deployment, call, lambda: as_bytes(method(self, request, context))
            )
            return answer_type.FromString(answer)

        return answered

    return make


def once_finished(
    deployment: Deployment,
    method: str,
    request: Message,
    tell: Callable[[Callable[[Callable[[], Told]], Told]], Told],
    render: Callable[[Told], Answer],
    answer_type: type[Answer],
) -> Answer:
    """Have a story of more than one transaction told once, and answer a repeated call the same again.

    `tell` is given what does its last step, in the transaction in which that is remembered.
    """
    note_what_is_asked(request)
    call = repeatable_call(method, request)
    if call is None:
        return render(tell(_at_once))

    def finishing(finish: Callable[[], Told]) -> Told:
        return requests.remember(deployment, call, finish, lambda told: as_bytes(render(told)))

    answer = requests.once_finished(deployment, call, lambda: as_bytes(render(tell(finishing))))
    return answer_type.FromString(answer)


def _at_once(finish: Callable[[], Told]) -> Told:
    return finish()


def note_what_is_asked(request: Message) -> None:
    """Note of the present call that it is to change something, for what is recorded of it."""
    request_id = getattr(request, "request_id")  # noqa: B009 - see below
    note_change(
        request_id if REQUEST_ID.fullmatch(request_id) else "",
        validates_only=getattr(request, "validate_only", False),
    )


def repeatable_call(method: str, request: Message) -> RepeatableCall | None:
    """Return the call that a request id stands for; None where a repetition is a call like any other.

    That is so without an id, with one that declines the call anyway, and where nothing is changed.
    """
    request_id = getattr(request, "request_id")  # noqa: B009 - every request here has it, no type says so
    if not REQUEST_ID.fullmatch(request_id) or getattr(request, "validate_only", False):
        return None
    caller = current_caller()
    body = type(request)()
    body.CopyFrom(request)
    body.ClearField("request_id")
    # What a caller may do depends on its roles: whoever has others does not repeat the call.
    digest = hashlib.sha256(",".join(sorted(caller.roles)).encode() + b"\0" + as_bytes(body))
    return RepeatableCall(
        tenant_id=caller.tenant_id, request_id=request_id, method=method, digest=digest.digest()
    )


def as_bytes(message: Message) -> bytes:
    """Return a message as bytes, the same for the same message."""
    return message.SerializeToString(deterministic=True)
