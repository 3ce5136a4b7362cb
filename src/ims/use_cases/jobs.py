"""What a worker has in hand: operations that it has taken up, and what tells it to go on or to stop."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Protocol, runtime_checkable

from ims.domain.caller import Caller, Role
from ims.domain.image import BlobKey, Image, ImageId
from ims.domain.operation import Operation, OperationId, OperationKind, OperationState
from ims.domain.rejection import Category, Reason, Rejection, reject
from ims.domain.tenant import NOBODY, Region
from ims.repository.database import Transaction
from ims.use_cases.deployment import Deployment

_NO_IMAGE: Final = ImageId("")


class Lost(Exception):
    """Somebody else has taken the operation up: what has come of it here is not wanted any more."""


class Cancelled(Exception):
    """The operation is to stop, and to leave nothing."""


class Interrupted(Exception):
    """The operation cannot go on here just now; it is begun again, here or elsewhere."""


class Work(Protocol):
    """How the operations of one kind are done."""

    def do(self, deployment: Deployment, job: "Job") -> None:
        """Do what the operation asks for, and end with `job.succeed`.

        Asks `job.goes_on` every second or so. Whatever it raises, nothing of this attempt is left but
        what `undo` removes: a Rejection fails the operation, one that says that something is away just
        now has it begun again.
        """

    def undo(
        self, deployment: Deployment, tx: Transaction, operation: Operation, by: Caller | None
    ) -> None:
        """Remove what the operation had put on record when it was begun; it ends without success."""


def _nothing(_tx: Transaction) -> None: ...


@runtime_checkable
class LeavesElsewhere(Protocol):
    """A Work of which something may be left that is in no transaction's power."""

    def clear(self, deployment: Deployment, operation: Operation) -> None:
        """Remove that, before the operation ends without success. Raises Rejection when it cannot be."""


class Job:
    """An operation that this process does, for the epoch in which it has taken it up."""

    def __init__(self, deployment: Deployment, operation: Operation) -> None:
        self._deployment = deployment
        self.operation = operation
        self.done_bytes = 0
        self._blob_keys: frozenset[BlobKey] = frozenset()
        self._kept_blob_keys: frozenset[BlobKey] = frozenset()
        cancelled = operation.cancel_requested and not operation.settled
        self._trouble: type[Exception] | None = Cancelled if cancelled else None

    def goes_on(self) -> None:
        """Raise Lost, Cancelled or Interrupted when it does not."""
        if self._trouble is not None:
            raise self._trouble

    def interrupt(self) -> None:
        """Have it begun again later: this process ends."""
        self._trouble = self._trouble or Interrupted

    def writes(self, blob_key: BlobKey) -> None:
        """Have a pending blob held together with the operation."""
        self._blob_keys |= {blob_key}

    def keeps(self, blob_key: BlobKey) -> None:
        """Have the bytes of an upload kept, for whoever comes next too."""
        self._kept_blob_keys |= {blob_key}

    def fence(self, tx: Transaction) -> None:
        """Raise Lost unless the operation is this process's until the transaction ends."""
        now = self._deployment.now()
        if self._hold(tx, now) is None:
            raise Lost

    def hold_now(self) -> None:
        """Hold it, or raise Lost."""
        self._deployment.database.run(self.fence)

    def hold(self) -> None:
        """Say that this process is alive, and hear whether the operation is to be cancelled."""
        now = self._deployment.now()
        with self._deployment.database.transaction() as tx:
            cancelled = self._hold(tx, now)
            if cancelled is not None and self._blob_keys:
                tx.pending_blobs.hold(self._blob_keys, until=now + self._deployment.operation_lease)
            if cancelled is not None and self._kept_blob_keys:
                # For longer than the operation: whoever takes it up next needs them, too.
                until = now + self._deployment.upload_patience
                tx.pending_blobs.hold(self._kept_blob_keys, until=until)
        if cancelled is None:
            self._trouble = Lost
        elif cancelled and not self.operation.settled:
            self._trouble = self._trouble or Cancelled

    def _hold(self, tx: Transaction, now: datetime) -> bool | None:
        until = now + self._deployment.operation_lease
        return tx.operations.hold(self.operation, done_bytes=self.done_bytes, now=now, until=until)

    def note(self, place: Mapping[str, Any], told: Callable[[Transaction], None] = _nothing) -> None:
        """Put on record how far it has come, for whoever takes it up next, with what is told with it.

        Raises Lost, with nothing of it on record, when somebody else has taken the operation up.
        """

        def story(tx: Transaction) -> None:
            self.fence(tx)
            told(tx)
            if not tx.operations.note_place(self.operation, place):
                raise Lost

        self._deployment.database.run(story)
        self.operation = replace(self.operation, place=place)

    def settle(self, place: Mapping[str, Any], told: Callable[[Transaction], None] = _nothing) -> None:
        """Do the same with what makes it settled: from now on it is too late to cancel it.

        Raises Cancelled, too, when somebody was in time.
        """

        def unless_cancelled(tx: Transaction) -> None:
            if self._hold(tx, self._deployment.now()):
                raise Cancelled
            told(tx)

        self.note(place, unless_cancelled)

    def succeed(self, finish: Callable[[Transaction], bytes]) -> None:
        """Tell the end of the story, which returns the answer, in one transaction with the operation's.

        Raises Lost, with nothing of it told, when somebody else has taken the operation up.
        """

        def story(tx: Transaction) -> None:
            self.fence(tx)
            answer = finish(tx)
            self._end(tx, replace(self.operation, state=OperationState.SUCCEEDED, answer=answer))

        self._deployment.database.run(story)

    def fail(self, work: Work, error: Rejection | None) -> None:
        """Undo the operation and say why; None stands for a mistake of the service. Raises Lost."""
        cancelled = error is not None and error.category is Category.CANCELLED
        state = OperationState.CANCELLED if cancelled else OperationState.FAILED

        def story(tx: Transaction) -> None:
            self.fence(tx)
            work.undo(self._deployment, tx, self.operation, None)
            self._end(tx, replace(self.operation, state=state, error=error))

        self._deployment.database.run(story)

    def put_back(self, *, until: datetime) -> None:
        """Let others take the operation up from a time on."""
        with self._deployment.database.transaction() as tx:
            tx.operations.put_back(self.operation, until=until)

    def _end(self, tx: Transaction, operation: Operation) -> None:
        ended = ended_now(self._deployment, replace(operation, done_bytes=self.done_bytes))
        if not tx.operations.end(ended):
            raise Lost


def reserve_blob(deployment: Deployment, job: Job, blob_key: BlobKey) -> Image:
    """Note that a blob is going to be written for the image that the operation makes; return that."""

    def story(tx: Transaction) -> Image:
        job.fence(tx)
        view = tx.images.lock(job.operation.image_id, NOBODY, now=deployment.now, governing=True)
        assert view is not None  # nobody removes an image that is SAVING but who ends its operation
        until = deployment.now() + deployment.operation_lease
        tx.pending_blobs.add(blob_key, view.image.id, until=until)
        return view.image

    image = deployment.database.run(story)
    job.writes(blob_key)
    return image


class Jobs:
    """The operations that this process does."""

    def __init__(self) -> None:
        self._jobs: set[Job] = set()
        self._lock = threading.Lock()

    @contextmanager
    def in_hand(self, job: Job) -> Iterator[None]:
        """Count a job among them for the block."""
        with self._lock:
            self._jobs.add(job)
        try:
            yield
        finally:
            with self._lock:
                self._jobs.discard(job)

    def all(self) -> frozenset[Job]:
        """Return the jobs that are in hand now."""
        with self._lock:
            return frozenset(self._jobs)


def ended_now(deployment: Deployment, operation: Operation) -> Operation:
    """Return an operation as it is when it ends at this moment."""
    now = deployment.now()
    return replace(
        operation, update_time=now, end_time=now, expire_time=now + deployment.operation_memory
    )


def cancellation() -> Rejection:
    """Return what an operation that was cancelled has ended with."""
    return reject(
        Category.CANCELLED,
        Reason.OPERATION_CANCELLED,
        "The operation was cancelled before it was done; nothing of it is left.",
    )


def new_operation(
    deployment: Deployment,
    caller: Caller,
    kind: OperationKind,
    *,
    operation_id: OperationId | None = None,
    request: Mapping[str, Any] = MappingProxyType({}),
    image_id: ImageId = _NO_IMAGE,
    source_image_id: ImageId = _NO_IMAGE,
    total_bytes: int = 0,
) -> Operation:
    """Return an operation that somebody asks for at this moment, with who it is in its request."""
    now = deployment.now()
    who = {"userId": caller.user_id, "roles": sorted(caller.roles), "region": caller.region}
    return Operation(
        id=operation_id or OperationId(deployment.new_id()),
        tenant_id=caller.tenant_id,
        kind=kind,
        request={**who, **request},
        image_id=image_id,
        source_image_id=source_image_id,
        total_bytes=total_bytes,
        create_time=now,
        update_time=now,
    )


def begin(deployment: Deployment, tx: Transaction, operation: Operation) -> None:
    """Put an operation on record, and wake who takes it up once that is committed."""
    tx.operations.add(operation)
    tx.once_committed(deployment.bell.ring)


def caller_of(operation: Operation) -> Caller:
    """Return who began an operation, as whom it reads and is judged to its end."""
    said = operation.request
    return Caller(
        tenant_id=operation.tenant_id,
        user_id=said["userId"],
        roles=frozenset(Role(role) for role in said["roles"]),
        region=Region(said["region"]),
    )
