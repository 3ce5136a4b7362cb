"""Rejection to google.rpc.Status: the only table of status codes, and the only maker of details."""

from dataclasses import replace
from typing import Final

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import (
    BadRequest,
    ErrorInfo,
    PreconditionFailure,
    QuotaFailure,
    RetryInfo,
)
from google.rpc.status_pb2 import Status

from ims.domain.rejection import Category, Reason, Rejection, Violation

DOMAIN: Final = "ims"

CODES: Final = {
    Category.UNAUTHENTICATED: Code.UNAUTHENTICATED,
    Category.SUSPENDED: Code.PERMISSION_DENIED,
    Category.MISSING: Code.NOT_FOUND,
    Category.FORBIDDEN: Code.PERMISSION_DENIED,
    Category.MALFORMED: Code.INVALID_ARGUMENT,
    Category.OUT_OF_RANGE: Code.OUT_OF_RANGE,
    Category.CONFLICT: Code.ABORTED,
    Category.WRONG_STATE: Code.FAILED_PRECONDITION,
    Category.AGAINST_RULES: Code.FAILED_PRECONDITION,
    Category.UNKNOWN_TENANT: Code.NOT_FOUND,
    Category.EXISTS: Code.ALREADY_EXISTS,
    Category.OVER_LIMIT: Code.RESOURCE_EXHAUSTED,
    Category.CORRUPT: Code.DATA_LOSS,
    Category.CANCELLED: Code.CANCELLED,
    Category.UNAVAILABLE: Code.UNAVAILABLE,
}

# A status travels in headers, and peers take 8 KiB of headers by default. This much of it fits in base64
# (which some peers use) beside its message, of which every byte can take three.
_STATUS_BUDGET_BYTES: Final = 4480
_TEXT_BUDGET_BYTES: Final = 512
_RETRY_SECONDS: Final = 1
_SOON_OVER: Final = {
    Reason.TOO_MANY_CALLS,
    Reason.TOO_MANY_TRANSFERS,
    Reason.TOO_MANY_STREAMS,
    Reason.TOO_MANY_CREATIONS,
    Reason.TOO_MANY_COPIES,
}
"""What is too much now and will not be when others have finished."""

INTERNAL: Final = "The service has made a mistake; its log has it under this call's request id."


def to_status(rejection: Rejection) -> Status:
    """Return the status of a rejection: ErrorInfo of the first violation, and the list of all."""
    first = rejection.violations[0]
    message = _cut(first.message)
    info = ErrorInfo(
        reason=first.reason,
        domain=DOMAIN,
        metadata={key: _cut(str(value)) for key, value in first.metadata.items()},
    )
    details: list[Message] = [info]
    left = _STATUS_BUDGET_BYTES - len(message.encode()) - info.ByteSize()
    violations = _within_budget(rejection.violations, left)
    match rejection.category:
        case Category.MALFORMED | Category.OUT_OF_RANGE:
            details.append(_bad_request(violations))
        case Category.OVER_LIMIT:
            details.append(_quota_failure(violations))
        case Category.WRONG_STATE | Category.AGAINST_RULES | Category.EXISTS | Category.CONFLICT:
            details.append(_precondition_failure(violations))
        case _ if len(violations) > 1:
            details.append(_precondition_failure(violations))
    if rejection.category is Category.UNAVAILABLE or first.reason in _SOON_OVER:
        details.append(RetryInfo(retry_delay=Duration(seconds=_RETRY_SECONDS)))
    return _status(CODES[rejection.category], message, details)


def internal_status() -> Status:
    """Return the status of a bug: a fixed sentence, nothing of what went wrong."""
    return _status(Code.INTERNAL, INTERNAL, [ErrorInfo(reason=Reason.INTERNAL_ERROR, domain=DOMAIN)])


def _status(code: int, message: str, details: list[Message]) -> Status:
    status = Status(code=code, message=message)
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _bad_request(violations: list[Violation]) -> BadRequest:
    return BadRequest(
        field_violations=[
            BadRequest.FieldViolation(field=each.subject, description=each.message, reason=each.reason)
            for each in violations
        ]
    )


def _quota_failure(violations: list[Violation]) -> QuotaFailure:
    return QuotaFailure(
        violations=[
            QuotaFailure.Violation(subject=each.subject, description=each.message) for each in violations
        ]
    )


def _precondition_failure(violations: list[Violation]) -> PreconditionFailure:
    return PreconditionFailure(
        violations=[
            PreconditionFailure.Violation(
                type=each.reason, subject=each.subject, description=each.message
            )
            for each in violations
        ]
    )


def _within_budget(violations: tuple[Violation, ...], budget_bytes: int) -> list[Violation]:
    """Return the violations, or where they do not fit, one for each rule that names all its offenders.

    Nobody is dropped without a word: whoever does not fit even so is counted.
    """
    told = [replace(each, message=_cut(each.message)) for each in violations]
    if sum(map(_size_bytes, told)) <= budget_bytes:
        return told
    rules = {each.reason: [other for other in told if other.reason is each.reason] for each in told}
    return [_together(broken, budget_bytes // len(rules)) for broken in rules.values()]


def _together(violations: list[Violation], budget_bytes: int) -> Violation:
    """Return one violation for all of one rule: the first one's sentence, and whom they are about."""
    first = violations[0]
    room = budget_bytes - _size_bytes(replace(first, subject="")) - _FRAME_BYTES
    named: list[str] = []
    for violation in violations:
        room -= len(violation.subject.encode()) + 1
        if room < 0:
            break
        named.append(violation.subject)
    count, unnamed = len(violations), len(violations) - len(named)
    and_more = f" {unnamed} of them are not named: ask for fewer at once." if unnamed else ""
    return replace(
        first, message=f"{count} times, first: {first.message}{and_more}", subject=" ".join(named)
    )


_FRAME_BYTES: Final = 80
"""What is said around the sentence of a violation that stands for many."""


def _size_bytes(violation: Violation) -> int:
    texts = (violation.reason, violation.subject, violation.message)
    return sum(len(text.encode()) for text in texts) + _TAGS_BYTES


_TAGS_BYTES: Final = 16
"""What protobuf puts around the texts of a violation."""


def _cut(text: str) -> str:
    data = text.encode()
    if len(data) <= _TEXT_BUDGET_BYTES:
        return text
    return f"{data[: _TEXT_BUDGET_BYTES - len('…'.encode())].decode(errors='ignore')}…"
