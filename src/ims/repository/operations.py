"""Long-running operations: records in, records out, and the lease by which one process does each.

Every write of who does an operation is for the epoch in which it took it up. One that finds no row has
lost it: somebody else has taken it up since, and whatever was about to be written is no longer so.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from ims.domain.image import ImageId
from ims.domain.operation import (
    Operation,
    OperationFilter,
    OperationId,
    OperationKind,
    OperationState,
)
from ims.domain.page import Page, Position
from ims.domain.rejection import Category, Reason, Rejection, Violation
from ims.domain.tenant import TenantId
from ims.repository.tables import operations
from ims.repository.times import from_microseconds, to_microseconds

_now = sa.bindparam("now", type_=sa.BigInteger)
_claimable = sa.and_(
    operations.c.end_time.is_(None),
    sa.or_(operations.c.state == OperationState.QUEUED, operations.c.lease_until <= _now),
)
_NEXT = (
    sa.select(operations.c.id)
    .where(_claimable)
    .order_by(operations.c.create_time, operations.c.id)
    .limit(1)
)
_CLAIM = (
    operations.update()
    .where(operations.c.id == _NEXT.with_for_update(skip_locked=True).scalar_subquery())
    .values(
        state=OperationState.RUNNING,
        lease_holder=sa.bindparam("holder"),
        lease_until=sa.bindparam("until", type_=sa.BigInteger),
        update_time=_now,
        epoch=operations.c.epoch + 1,
    )
    .returning(*operations.c)
)
_held = sa.and_(
    operations.c.id == sa.bindparam("held_id"),
    operations.c.epoch == sa.bindparam("held_epoch"),
    operations.c.state == OperationState.RUNNING,
)
_HOLD = (
    operations.update()
    .where(_held)
    .values(
        lease_until=sa.bindparam("until", type_=sa.BigInteger),
        done_bytes=sa.bindparam("done"),
        update_time=_now,
    )
    .returning(operations.c.cancel_requested)
)
_OWN = sa.select(operations).where(
    operations.c.id == sa.bindparam("id"), operations.c.tenant_id == sa.bindparam("tenant_id")
)
_OLD = (
    sa.select(operations.c.id)
    .where(operations.c.expire_time <= _now)
    .order_by(operations.c.expire_time)
    .limit(sa.bindparam("most"))
)


class Operations:
    """The operations of the catalogue."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    # What callers do

    def add(self, operation: Operation) -> None:
        """Add an operation: to be done by whoever claims it, or one that has ended already."""
        self._connection.execute(operations.insert().values(_to_row(operation)))

    def find(self, operation_id: OperationId, tenant_id: TenantId) -> Operation | None:
        """Return a tenant's operation; None when there is none, or it is another's."""
        return self._find(_OWN, operation_id, tenant_id)

    def find_locked(self, operation_id: OperationId, tenant_id: TenantId) -> Operation | None:
        """Return the same, and keep everybody else from it until the transaction ends."""
        return self._find(_OWN.with_for_update(), operation_id, tenant_id)

    def _find(
        self, query: sa.Select[Any], operation_id: OperationId, tenant_id: TenantId
    ) -> Operation | None:
        keys = {"id": operation_id, "tenant_id": tenant_id}
        row = self._connection.execute(query, keys).mappings().first()
        return None if row is None else _to_operation(row)

    def list(
        self,
        tenant_id: TenantId,
        operation_filter: OperationFilter,
        *,
        size: int,
        after: Position | None,
    ) -> Page[Operation]:
        """Return a part of a tenant's operations, the newest first, from behind a place on."""
        query = sa.select(operations).where(operations.c.tenant_id == tenant_id)
        if operation_filter.ended is not None:
            ended = operations.c.end_time.is_not(None)
            query = query.where(ended if operation_filter.ended else sa.not_(ended))
        place = sa.tuple_(operations.c.create_time, operations.c.id)
        if after is not None:
            query = query.where(place < sa.tuple_(sa.literal(after.key, sa.BigInteger), after.id))
        query = query.order_by(operations.c.create_time.desc(), operations.c.id.desc())
        found = [
            _to_operation(row) for row in self._connection.execute(query.limit(size + 1)).mappings()
        ]
        return Page(
            items=tuple(found[:size]),
            places=tuple(Position(to_microseconds(each.create_time), each.id) for each in found[:size]),
            more=len(found) > size,
        )

    def ask_to_cancel(self, operation_id: OperationId, *, now: datetime) -> None:
        """Have whoever does an operation stop. Its lock is held.

        One that nobody does, because it waits for something, is taken up for that at once.
        """
        waits = operations.c.lease_holder == ""
        self._connection.execute(
            operations.update()
            .where(operations.c.id == operation_id)
            .values(
                cancel_requested=True,
                update_time=to_microseconds(now),
                lease_until=sa.case((waits, 0), else_=operations.c.lease_until),
            )
        )

    def remove(self, operation_id: OperationId) -> None:
        """Forget an operation. Its lock is held."""
        self._connection.execute(operations.delete().where(operations.c.id == operation_id))

    def forget(self, *, now: datetime, most: int) -> int:
        """Remove operations whose time is over; return how many there were, `most` at the most."""
        old = operations.delete().where(operations.c.id.in_(_OLD))
        return self._connection.execute(old, {"now": to_microseconds(now), "most": most}).rowcount

    def expired(self, *, now: datetime) -> int:
        """Return how many operations are on record that are remembered no longer."""
        expired = operations.c.expire_time <= to_microseconds(now)
        query = sa.select(sa.func.count()).select_from(operations).where(expired)
        return self._connection.execute(query).scalar_one()

    def count_unfinished(self, kind: OperationKind, tenant_id: TenantId) -> int:
        """Return how many operations of a kind a tenant has that have not ended."""
        query = sa.select(sa.func.count()).where(
            operations.c.end_time.is_(None),
            operations.c.kind == kind,
            operations.c.tenant_id == tenant_id,
        )
        return self._connection.execute(query).scalar_one()

    def unfinished(self, operation_id: OperationId) -> bool:
        """Whether there is an operation of this id, anybody's, that has not ended."""
        query = sa.select(operations.c.id).where(
            operations.c.id == operation_id, operations.c.end_time.is_(None)
        )
        return self._connection.execute(query).first() is not None

    # What workers do

    def waiting(self, *, now: datetime) -> bool:
        """Whether there is an operation that can be claimed. Takes no lock."""
        return self._connection.execute(_NEXT, {"now": to_microseconds(now)}).first() is not None

    def claim(self, holder: str, *, now: datetime, until: datetime) -> Operation | None:
        """Take up the oldest operation that nobody does; None when there is none.

        It is the holder's until a time, without another word.
        """
        parameters = {
            "holder": holder,
            "now": to_microseconds(now),
            "until": to_microseconds(until),
        }
        row = self._connection.execute(_CLAIM, parameters).mappings().first()
        return None if row is None else _to_operation(row)

    def hold(
        self, operation: Operation, *, done_bytes: int, now: datetime, until: datetime
    ) -> bool | None:
        """Hold an operation for longer; tell whether it is to be cancelled. None: it is lost."""
        parameters = {
            "held_id": operation.id,
            "held_epoch": operation.epoch,
            "done": done_bytes,
            "now": to_microseconds(now),
            "until": to_microseconds(until),
        }
        return self._connection.execute(_HOLD, parameters).scalar()

    def note_place(self, operation: Operation, place: Mapping[str, Any]) -> bool:
        """Store how far an operation has come; tell whether it still was who claimed it that says so."""
        noted = self._connection.execute(
            operations.update().where(_held).values(place=json.dumps(place)),
            {"held_id": operation.id, "held_epoch": operation.epoch},
        )
        return noted.rowcount == 1

    def end(self, operation: Operation) -> bool:
        """Store how an operation has ended; tell whether it still was who claimed it that says so.

        Whatever else has come of it belongs into the same transaction, behind this: from here on nobody
        else takes it up.
        """
        ended = self._connection.execute(
            operations.update()
            .where(_held)
            # Whether it was to be cancelled is for others to say.
            .values({k: v for k, v in _to_row(operation).items() if k != "cancel_requested"}),
            {"held_id": operation.id, "held_epoch": operation.epoch},
        )
        return ended.rowcount == 1

    def end_queued(self, operation: Operation) -> None:
        """Store how an operation has ended that nobody had taken up. Its lock is held."""
        self._connection.execute(
            operations.update().where(operations.c.id == operation.id).values(_to_row(operation))
        )

    def put_back(self, operation: Operation, *, until: datetime) -> None:
        """Let others take up an operation from a time on."""
        self._connection.execute(
            operations.update().where(_held).values(lease_holder="", lease_until=to_microseconds(until)),
            {"held_id": operation.id, "held_epoch": operation.epoch},
        )


def _to_row(operation: Operation) -> dict[str, Any]:
    return {
        "id": operation.id,
        "tenant_id": operation.tenant_id,
        "kind": operation.kind,
        "state": operation.state,
        "request": json.dumps(operation.request),
        "image_id": operation.image_id,
        "source_image_id": operation.source_image_id,
        "done_bytes": operation.done_bytes,
        "total_bytes": operation.total_bytes,
        "error": None if operation.error is None else _to_document(operation.error),
        "answer": operation.answer,
        "cancel_requested": operation.cancel_requested,
        "create_time": to_microseconds(operation.create_time),
        "update_time": to_microseconds(operation.update_time),
        "end_time": _optional(operation.end_time),
        "expire_time": _optional(operation.expire_time),
        "lease_holder": "",
        "lease_until": 0,
        "epoch": operation.epoch,
        "place": json.dumps(operation.place) if operation.place else None,
    }


def _optional(time: datetime | None) -> int | None:
    return None if time is None else to_microseconds(time)


def _to_operation(row: Mapping[Any, Any]) -> Operation:
    ended, expires = row["end_time"], row["expire_time"]
    return Operation(
        id=OperationId(row["id"]),
        tenant_id=TenantId(row["tenant_id"]),
        kind=OperationKind(row["kind"]),
        state=OperationState(row["state"]),
        request=json.loads(row["request"]),
        image_id=ImageId(row["image_id"]),
        source_image_id=ImageId(row["source_image_id"]),
        done_bytes=row["done_bytes"],
        total_bytes=row["total_bytes"],
        error=None if row["error"] is None else _to_rejection(row["error"]),
        answer=bytes(row["answer"]),
        cancel_requested=row["cancel_requested"],
        epoch=row["epoch"],
        place=json.loads(row["place"] or "{}"),
        create_time=from_microseconds(row["create_time"]),
        update_time=from_microseconds(row["update_time"]),
        end_time=None if ended is None else from_microseconds(ended),
        expire_time=None if expires is None else from_microseconds(expires),
    )


def _to_document(rejection: Rejection) -> str:
    return json.dumps(
        {
            "category": rejection.category.name,
            "violations": [
                {
                    "reason": each.reason,
                    "message": each.message,
                    "metadata": dict(each.metadata),
                    "subject": each.subject,
                }
                for each in rejection.violations
            ],
        }
    )


def _to_rejection(document: str) -> Rejection:
    said = json.loads(document)
    violations = [
        Violation(Reason(each["reason"]), each["message"], each["metadata"], each["subject"])
        for each in said["violations"]
    ]
    return Rejection(Category[said["category"]], violations)
