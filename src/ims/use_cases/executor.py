"""The story of operations being done: taken up, held, and ended, by whichever process is there."""

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from ims.domain.operation import Operation, OperationKind
from ims.domain.rejection import Category, Rejection
from ims.use_cases.deployment import Deployment
from ims.use_cases.jobs import (
    Cancelled,
    Interrupted,
    Job,
    Jobs,
    LeavesElsewhere,
    Lost,
    Work,
    cancellation,
)
from ims.use_cases.works import WORKS

_log = logging.getLogger(__name__)

MOST_ATTEMPTS: Final = 100
"""How often an operation is taken up: one that ends every process that does it is not for ever."""
_LONGEST_PAUSE_SECONDS: Final = 20


class Executor:
    """Does operations that were begun here or elsewhere, and those whose process is silent."""

    def __init__(
        self,
        deployment: Deployment,
        holder: str,
        works: Mapping[OperationKind, Work] = WORKS,
    ) -> None:
        """Take whose operations they are while they are done: an id that no other process has."""
        self._deployment = deployment
        self._holder = holder
        self._works = works
        self._jobs = Jobs()
        self._ending = False

    def do_next(self) -> bool:
        """Do one operation from its beginning to its end; tell whether there was one to be done."""
        operation = self._claim()
        if operation is None:
            return False
        job = Job(self._deployment, operation)
        with self._jobs.in_hand(job):
            if self._ending:
                job.interrupt()
            self._do(job)
        return True

    def _claim(self) -> Operation | None:
        deployment = self._deployment
        now = deployment.now()
        # Nearly always there is none, and then nobody has to wait for a turn to write.
        with deployment.database.reading() as reading:
            if self._ending or not reading.operations.waiting(now=now):
                return None
        with deployment.database.transaction() as tx:
            until = now + deployment.operation_lease
            return tx.operations.claim(self._holder, now=now, until=until)

    def hold_all(self) -> None:
        """Say of every operation in hand that it is being done, and hear which are to be cancelled."""
        for job in self._jobs.all():
            try:
                job.hold()
            except Rejection:
                # The catalogue is away. Should that last, others take it up: the epoch tells them apart.
                _log.info("Operation %s cannot be held just now.", job.operation.id)

    def end(self) -> None:
        """Begin no more operations, and have those in hand begun again by others."""
        self._ending = True
        for job in self._jobs.all():
            job.interrupt()
        self._deployment.bell.ring()

    def _do(self, job: Job) -> None:
        operation = job.operation
        try:
            self._attempt(job)
        except Lost:
            _log.info("Operation %s is somebody else's by now.", operation.id)
        except Rejection as rejection:
            # Its end cannot be put on record just now. Somebody takes it up again.
            _log.warning("Operation %s has not ended: %s", operation.id, rejection.reason)

    def _attempt(self, job: Job) -> None:
        operation, work = job.operation, self._works[job.operation.kind]
        again = operation.epoch < MOST_ATTEMPTS
        try:
            if operation.epoch > MOST_ATTEMPTS:
                _log.error("Operation %s has been taken up too often.", operation.id)
                self._fail(job, work, None)
                return
            job.goes_on()
            work.do(self._deployment, job)
        except Lost:
            raise
        except Cancelled:
            self._fail(job, work, cancellation())
        except Interrupted:
            job.put_back(until=self._deployment.now())
        except Rejection as rejection:
            if rejection.category is Category.UNAVAILABLE and again:
                self._put_back_for_a_while(job)
            else:
                self._fail(job, work, rejection)
        except OSError:
            # Too many open files, or a disk that fails: it says nothing about what is to be done.
            _log.exception("The system refuses operation %s something.", operation.id)
            if again:
                self._put_back_for_a_while(job)
            else:
                self._fail(job, work, None)
        except Exception:  # noqa: BLE001 - a worker outlives a mistake in what it does
            _log.exception("Operation %s fails by a mistake of the service.", operation.id)
            self._fail(job, work, None)

    def _put_back_for_a_while(self, job: Job) -> None:
        pause = timedelta(seconds=min(2**job.operation.epoch, _LONGEST_PAUSE_SECONDS))
        job.put_back(until=self._deployment.now() + pause)

    def _fail(self, job: Job, work: Work, error: Rejection | None) -> None:
        if isinstance(work, LeavesElsewhere):
            try:
                # The operation is this process's, and so is what is left of it, for a lease from now on.
                job.hold_now()
                work.clear(self._deployment, job.operation)
            except Rejection as rejection:
                if job.operation.epoch < MOST_ATTEMPTS:
                    raise
                _log.error("Operation %s leaves something: %s", job.operation.id, rejection.reason)
        job.fail(work, error)
