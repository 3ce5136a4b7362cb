"""What can go wrong with a call, as exceptions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, QuotaFailure
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from ims.client.vocabulary import ErrorReason

_DOMAIN = "ims"
_REQUEST_ID = "ims-request-id"

_Detail = TypeVar("_Detail", bound=Message)


@dataclass(frozen=True)
class Violation:
    """One broken rule."""

    reason: str
    """A name of ErrorReason; empty where the server does not tell it."""
    subject: str
    """What it is about: the path of a field, a tenant's id; empty for the image as a whole."""
    message: str
    """A sentence a person can act on; empty where so many rules are broken that it did not fit."""


class Declined(Exception):
    """The service has understood a call and declines it."""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        """A sentence a person can act on; it may change with any release."""
        self.code = code
        """The name of the gRPC status, for instance `FAILED_PRECONDITION`."""
        self.reason = reason
        """A name of ErrorReason: what a program reads. Empty when the answer is not the service's own,
        for instance a proxy's."""
        self.metadata = dict(metadata or {})
        """The values of the message, under the keys that the reason documents."""
        self.violations = list(violations)
        """Every rule that was broken in the deciding step, the deciding one first; at least one, if
        there is a reason."""
        self.request_id = request_id
        """What the server's log has the call under."""

    def is_for(self, *reasons: ErrorReason.ValueType) -> bool:
        """Say whether the deciding reason is one of these."""
        return self.reason in {ErrorReason.Name(reason) for reason in reasons}


class Unreachable(Exception):
    """No service has answered; whether a call that changes something has done so is not known."""


class DamagedDownload(Exception):
    """The bytes that arrived are not those that the service announced."""


def to_exception(error: grpc.RpcError, *, server: str) -> Declined | Unreachable:
    """Return what a failed call means to a caller."""
    trailing = {each.key: each.value for each in error.trailing_metadata() or ()}
    code, message = error.code(), error.details() or ""
    status = _status(error)
    info = next(_details(status, ErrorInfo), ErrorInfo())
    if info.domain != _DOMAIN:
        info = ErrorInfo()
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unreachable(f"No answer from {server} in time.")
        if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:
            return Unreachable(f"No answer from {server}: {message}")
    return Declined(
        message,
        code=code.name,
        reason=info.reason,
        metadata=info.metadata,
        violations=_violations(status, info),
        request_id=str(trailing.get(_REQUEST_ID, "")),
    )


def declined_by(status: Status) -> Declined:
    """Return what an operation's error means: the same as if its call had been declined with it."""
    info = next(_details(status, ErrorInfo), ErrorInfo())
    return Declined(
        status.message,
        code=Code.Name(status.code),
        reason=info.reason,
        metadata=info.metadata,
        violations=_violations(status, info),
    )


def details_of(error: grpc.RpcError, kind: type[_Detail]) -> Iterator[_Detail]:
    """Yield what a failed call says of one kind."""
    return _details(_status(error), kind)


def _status(error: grpc.RpcError) -> Status:
    try:
        return rpc_status.from_call(error) or Status()
    except (ValueError, DecodeError):  # somebody else's details, or somebody else's status around them
        return Status()


def _violations(status: Status, info: ErrorInfo) -> list[Violation]:
    violations = [
        *(
            Violation(each.type, each.subject, each.description)
            for failure in _details(status, PreconditionFailure)
            for each in failure.violations
        ),
        *(
            Violation(each.reason, each.field, each.description)
            for request in _details(status, BadRequest)
            for each in request.field_violations
        ),
        *(
            # A QuotaFailure has no place for reasons; the first violation is the one that decides.
            Violation(info.reason if number == 0 else "", each.subject, each.description)
            for failure in _details(status, QuotaFailure)
            for number, each in enumerate(failure.violations)
        ),
    ]
    if not violations and info.reason:
        violations.append(Violation(info.reason, "", status.message))
    return violations


def _details(status: Status, kind: type[_Detail]) -> Iterator[_Detail]:
    for packed in status.details:
        detail = kind()
        if packed.Unpack(detail):
            yield detail
