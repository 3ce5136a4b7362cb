"""Audit events: records in, records out.

They are added, and removed when they are old; none is ever changed.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from ims.domain.audit import Actor, ActorKind, AuditEvent, AuditFilter
from ims.domain.image import ImageId
from ims.domain.page import Page, Position
from ims.domain.tenant import TenantId
from ims.repository.statement import Statement
from ims.repository.tables import audit_events
from ims.repository.times import from_microseconds, to_microseconds

MOST_IN_A_STATEMENT = 2
"""What nearly every event is: the owner's row and the other side's."""

_PLACE = (audit_events.c.time, audit_events.c.id)
_KEY = (audit_events.c.seen_by, *_PLACE)
_OLD = (
    sa.select(*_KEY)
    .where(audit_events.c.time < sa.bindparam("before"))
    .order_by(audit_events.c.time)
    .limit(sa.bindparam("most"))
)
_FORGET = sa.delete(audit_events).where(sa.tuple_(*_KEY).in_(_OLD))


SeenEvents = Sequence[tuple[TenantId, AuditEvent]]
"""Events, each with a tenant that sees it so."""


def addition(rows: int) -> sa.Insert:
    """Return the query that adds so many rows; each row's parameters end in its number."""
    values = [
        {
            column.name: sa.bindparam(f"{column.name}_{row}", type_=column.type)
            for column in audit_events.c
        }
        for row in range(rows)
    ]
    return audit_events.insert().values(values)


@cache
def _add(rows: int) -> Statement:
    return Statement(addition(rows))


def parameters_of(events: SeenEvents) -> dict[str, Any]:
    """Return what `addition` takes."""
    return {
        f"{name}_{number}": value
        for number, event in enumerate(events)
        for name, value in _to_row(*event).items()
    }


class AuditLog:
    """The audit events of the catalogue, each in a row for every tenant that may know of it."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, events: SeenEvents) -> None:
        """Add events."""
        if len(events) > MOST_IN_A_STATEMENT:
            self._connection.execute(audit_events.insert(), [_to_row(*event) for event in events])
        elif events:
            _add(len(events)).run(self._connection, parameters_of(events))

    def list(
        self,
        tenant_id: TenantId,
        audit_filter: AuditFilter,
        *,
        size: int,
        after: Position | None,
        descending: bool,
    ) -> Page[AuditEvent]:
        """Return a part of what a tenant sees, by time, from behind a place on."""
        query = sa.select(audit_events).where(
            audit_events.c.seen_by == tenant_id, *_wanted(audit_filter)
        )
        if after is not None:
            place, beyond = sa.tuple_(*_PLACE), sa.tuple_(after.key, after.id)
            query = query.where(place < beyond if descending else place > beyond)
        order = [each.desc() if descending else each for each in _PLACE]
        rows = self._connection.execute(query.order_by(*order).limit(size + 1)).mappings().all()
        return Page(
            items=tuple(_to_event(row) for row in rows[:size]),
            places=tuple(Position(row["time"], row["id"]) for row in rows[:size]),
            more=len(rows) > size,
        )

    def forget(self, *, before: datetime, most: int) -> int:
        """Remove what is from before a time, the oldest first; return how many rows, at most `most`."""
        parameters = {"before": to_microseconds(before), "most": most}
        return self._connection.execute(_FORGET, parameters).rowcount


def _wanted(audit_filter: AuditFilter) -> list[sa.ColumnElement[bool]]:
    equal = {
        audit_events.c.image_id: audit_filter.image_id,
        audit_events.c.action: audit_filter.action,
        audit_events.c.actor_tenant: audit_filter.actor_tenant,
        audit_events.c.counterpart: audit_filter.counterpart,
        audit_events.c.result: audit_filter.result,
    }
    wanted: list[sa.ColumnElement[bool]] = [column == value for column, value in equal.items() if value]
    if audit_filter.time_from is not None:
        wanted.append(audit_events.c.time >= to_microseconds(audit_filter.time_from))
    if audit_filter.time_before is not None:
        wanted.append(audit_events.c.time < to_microseconds(audit_filter.time_before))
    return wanted


def _to_row(seen_by: TenantId, event: AuditEvent) -> dict[str, Any]:
    return {
        "seen_by": seen_by,
        "time": to_microseconds(event.time),
        "id": event.id,
        "action": str(event.action),
        "actor_kind": str(event.actor.kind),
        "actor_tenant": event.actor.tenant_id,
        "actor_user": event.actor.user_id,
        "acting_for": event.actor.acting_for,
        "image_id": event.image_id or "",
        "image_name": event.image_name,
        "image_owner": event.image_owner,
        "counterpart": event.counterpart,
        "request_id": event.request_id,
        "call_id": event.call_id,
        "result": str(event.result),
        "details": json.dumps(dict(event.details)),
    }


def _to_event(row: sa.RowMapping) -> AuditEvent:
    return AuditEvent(
        id=row["id"],
        time=from_microseconds(row["time"]),
        action=row["action"],
        actor=Actor(
            kind=ActorKind(row["actor_kind"]),
            tenant_id=TenantId(row["actor_tenant"]),
            user_id=row["actor_user"],
            acting_for=TenantId(row["acting_for"]),
        ),
        image_id=ImageId(row["image_id"]) if row["image_id"] else None,
        image_name=row["image_name"],
        image_owner=TenantId(row["image_owner"]),
        counterpart=TenantId(row["counterpart"]),
        request_id=row["request_id"],
        call_id=row["call_id"],
        result=row["result"],
        details=json.loads(row["details"]),
    )
