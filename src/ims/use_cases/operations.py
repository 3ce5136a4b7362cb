"""The story of each call on an operation."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from ims.domain.caller import Caller
from ims.domain.operation import Operation, OperationFilter, OperationId, OperationState
from ims.domain.page import Page, Position
from ims.domain.rejection import Problems
from ims.repository.database import Transaction
from ims.rules.engine import enforce
from ims.rules.form import READ_QUERY, Query
from ims.rules.operations import DELETE_OPERATION, SEE_OPERATION, OperationAttempt
from ims.use_cases.deployment import Deployment, in_one_transaction, refuse_suspended
from ims.use_cases.jobs import cancellation, ended_now
from ims.use_cases.works import WORKS

_FORGET_AT_ONCE: Final = 1000
_FIRST_PAUSE_SECONDS: Final = 0.02
_LONGEST_PAUSE_SECONDS: Final = 0.5


def get_operation(
    deployment: Deployment, *, caller: Caller, operation_id: OperationId, problems: Problems = ()
) -> Operation:
    """Return an operation of the caller's tenant."""
    with deployment.database.reading() as reading:
        refuse_suspended(reading, caller.tenant_id)
        found = reading.operations.find(operation_id, caller.tenant_id)
    return _seen(found, problems)


def list_operations(
    deployment: Deployment,
    *,
    caller: Caller,
    operation_filter: OperationFilter,
    size: int,
    after: Position | None,
    problems: Problems = (),
) -> Page[Operation]:
    """Return a part of the operations of the caller's tenant, the newest first."""
    with deployment.database.reading() as reading:
        refuse_suspended(reading, caller.tenant_id)
        enforce(READ_QUERY, Query(problems))
        return reading.operations.list(caller.tenant_id, operation_filter, size=size, after=after)


def wait_operation(
    deployment: Deployment,
    *,
    caller: Caller,
    operation_id: OperationId,
    seconds: float,
    goes_on: Callable[[], bool],
    problems: Problems = (),
) -> Operation:
    """Return an operation once it has ended, or as it is after so many seconds.

    Or as it is when it does not go on: its caller has left, or this process ends.
    """
    until = time.monotonic() + seconds
    pause, waiting = _FIRST_PAUSE_SECONDS, threading.Event()
    while True:
        operation = get_operation(
            deployment, caller=caller, operation_id=operation_id, problems=problems
        )
        left = until - time.monotonic()
        if operation.state.ended or left <= 0 or not goes_on():
            return operation
        waiting.wait(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


@in_one_transaction
def cancel_operation(
    deployment: Deployment,
    tx: Transaction,
    *,
    caller: Caller,
    operation_id: OperationId,
    problems: Problems = (),
) -> None:
    """Have an operation stop and leave nothing; one that has ended stays as it is.

    One that nobody has taken up has ended when this returns.
    """
    refuse_suspended(tx, caller.tenant_id)
    operation = _seen(tx.operations.find_locked(operation_id, caller.tenant_id), problems)
    if operation.state is OperationState.QUEUED:
        WORKS[operation.kind].undo(deployment, tx, operation, caller)
        cancelled = replace(
            operation,
            state=OperationState.CANCELLED,
            cancel_requested=True,
            error=cancellation(),
        )
        tx.operations.end_queued(ended_now(deployment, cancelled))
    elif not operation.state.ended:
        tx.operations.ask_to_cancel(operation_id, now=deployment.now())


@in_one_transaction
def delete_operation(
    deployment: Deployment,  # noqa: ARG001 - what every story begins with
    tx: Transaction,
    *,
    caller: Caller,
    operation_id: OperationId,
    problems: Problems = (),
) -> None:
    """Forget an operation that has ended; what has come of it stays."""
    refuse_suspended(tx, caller.tenant_id)
    found = tx.operations.find_locked(operation_id, caller.tenant_id)
    enforce(DELETE_OPERATION, OperationAttempt(found=found, problems=problems))
    tx.operations.remove(operation_id)


def forget_operations(deployment: Deployment) -> int:
    """Forget the operations that need be remembered no longer; return how many there were."""
    forgotten = 0
    while True:
        with deployment.database.transaction() as tx:
            some = tx.operations.forget(now=deployment.now(), most=_FORGET_AT_ONCE)
        forgotten += some
        if some < _FORGET_AT_ONCE:
            return forgotten


def _seen(found: Operation | None, problems: Problems) -> Operation:
    enforce(SEE_OPERATION, OperationAttempt(found=found, problems=problems))
    assert found is not None  # or the rule would have been broken
    return found
