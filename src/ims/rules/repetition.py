"""The law of repetition: what a request id stands for."""

from collections.abc import Iterator
from dataclasses import dataclass

from ims.domain.rejection import Category, Reason
from ims.domain.repetition import RememberedCall, RepeatableCall
from ims.rules.engine import Breach, Rule, breach, rule


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """Somebody calls with a request id that the tenant has used before."""

    call: RepeatableCall
    earlier: RememberedCall


@rule("5.9", Reason.REQUEST_ID_REUSED, Category.MALFORMED)
def a_request_id_stands_for_one_call(repetition: Repetition) -> Iterator[Breach]:
    """A request id is repeated with the same call only."""
    call, earlier = repetition.call, repetition.earlier
    if (call.method, call.digest) != (earlier.method, earlier.digest):
        yield breach(
            f"The request id belongs to an earlier, different call of {earlier.method}; "
            "every call but a repetition has a fresh one.",
            subject="request_id",
            earlierMethod=earlier.method,
        )


REPEAT_CALL: tuple[Rule[Repetition], ...] = (a_request_id_stands_for_one_call,)
