"""The story of a call that is sent again: it is done once, and answered as it was the first time."""

from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeVar

from ims.domain.rejection import Rejection
from ims.domain.repetition import RememberedCall, RepeatableCall
from ims.repository.database import Reading, Transaction
from ims.rules.engine import enforce
from ims.rules.repetition import REPEAT_CALL, Repetition
from ims.use_cases.deployment import Deployment, refuse_suspended

Told = TypeVar("Told")

_FORGET_AT_ONCE: Final = 1000
"""How many calls are forgotten in one transaction, so that nobody waits long for its end."""


def once(deployment: Deployment, call: RepeatableCall, tell: Callable[[], bytes]) -> bytes:
    """Tell the story of a call and remember its answer, or return the answer that it had the first time.

    What the story changes and what is remembered of it is one transaction: a story that is declined
    leaves nothing to remember. Of two calls that come at once one waits for the other.
    """

    def story(tx: Transaction) -> bytes:
        earlier = _claim(deployment, tx, call)
        if earlier is not None:
            return earlier.answer
        answer = tell()
        tx.requests.answer(call, answer)
        return answer

    return deployment.database.run(story)


def once_finished(deployment: Deployment, call: RepeatableCall, tell: Callable[[], bytes]) -> bytes:
    """Do the same with a story of more than one transaction, of which the last one is for `remember`.

    Of two calls that come at once, one may be declined because the other is still at work.
    """
    answer = first_answer(deployment, call)
    if answer is not None:
        return answer
    try:
        return tell()
    except Rejection:
        # Perhaps only because the same call came before this one, and has its answer by now.
        answer = first_answer(deployment, call)
        if answer is None:
            raise
        return answer


def first_answer(deployment: Deployment, call: RepeatableCall) -> bytes | None:
    """Return what a call was answered the first time; None when it has not been yet.

    Raises Rejection REQUEST_ID_REUSED when its id belongs to another call.
    """
    with deployment.database.reading() as reading:
        earlier = _earlier(reading, call, deployment.now())
    return None if earlier is None else earlier.answer


def remember(
    deployment: Deployment,
    call: RepeatableCall,
    tell_the_end: Callable[[], Told],
    answer: Callable[[Told], bytes],
) -> Told:
    """Tell the end of a story that began when its call had not been answered yet, and remember that."""

    def story(tx: Transaction) -> Told:
        # Should the same call have been answered meanwhile, the end says what became of this one.
        _claim(deployment, tx, call)
        told = tell_the_end()
        tx.requests.answer(call, answer(told))
        return told

    return deployment.database.run(story)


def forget_requests(deployment: Deployment) -> int:
    """Forget the calls that need be remembered no longer; return how many there were."""
    forgotten = 0
    while True:
        with deployment.database.transaction() as tx:
            some = tx.requests.forget(now=deployment.now(), most=_FORGET_AT_ONCE)
        forgotten += some
        if some < _FORGET_AT_ONCE:
            return forgotten


def _claim(deployment: Deployment, tx: Transaction, call: RepeatableCall) -> RememberedCall | None:
    """Take the id of a call, or return what the call was answered when it is not the first."""
    now = deployment.now()
    if tx.requests.claim(call, now=now, until=now + deployment.request_memory):
        return None
    return _earlier(tx, call, now)


def _earlier(reading: Reading, call: RepeatableCall, now: datetime) -> RememberedCall | None:
    earlier = reading.requests.find(call, now=now)
    if earlier is not None:
        refuse_suspended(reading, call.tenant_id)
        enforce(REPEAT_CALL, Repetition(call=call, earlier=earlier))
    return earlier
