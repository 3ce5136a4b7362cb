"""The law of operations: whose they are, and what can be done with one."""

from collections.abc import Iterator
from dataclasses import dataclass

from ims.domain.operation import Operation
from ims.domain.rejection import Category, Problems, Reason
from ims.rules.engine import Breach, Rule, breach, rule
from ims.rules.form import every_field_can_be_read


@dataclass(frozen=True, kw_only=True)
class OperationAttempt:
    """Somebody wants something of an operation."""

    found: Operation | None
    """The tenant's operation of that id; None where there is none, or it is another tenant's."""
    problems: Problems = ()


@rule("10.1", Reason.OPERATION_NOT_FOUND, Category.MISSING)
def the_operation_is_the_callers_tenants(attempt: OperationAttempt) -> Iterator[Breach]:
    """An operation is its tenant's; to all others it is exactly like one that never was."""
    if attempt.found is None:
        # No id, no hint: the answer for another tenant's and for none is one constant.
        yield breach("There is no such operation.")


@rule("10.4", Reason.OPERATION_NOT_DONE, Category.WRONG_STATE)
def only_what_has_ended_is_forgotten(attempt: OperationAttempt) -> Iterator[Breach]:
    """An operation is deleted once it has ended; deleting it stops nothing."""
    if attempt.found is not None and not attempt.found.state.ended:
        yield breach(
            f"The operation is {attempt.found.state}; cancel it, or wait for its end.",
            state=attempt.found.state,
        )


SEE_OPERATION: tuple[Rule[OperationAttempt], ...] = (
    the_operation_is_the_callers_tenants,
    every_field_can_be_read,
)
DELETE_OPERATION: tuple[Rule[OperationAttempt], ...] = (
    *SEE_OPERATION,
    only_what_has_ended_is_forgotten,
)
