"""Registered uses of images: records in, records out.

Whoever registers a use, or takes an image away only if it has none, holds the image's lock
(`images.lock`); releasing needs none.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from ims.domain.image import ImageId, Relation
from ims.domain.page import Page, Position
from ims.domain.registered_use import (
    RegisteredUse,
    TenantUsage,
    UsageSummary,
    UsageTotal,
    UseFilter,
    UseKey,
    UseKind,
)
from ims.domain.tenant import NOBODY, TenantId
from ims.repository.share_conditions import lasts
from ims.repository.tables import shares, uses
from ims.repository.times import from_microseconds, to_microseconds

MAX_LARGEST: Final = 100
"""How many tenants a summary names."""

_KEY = (uses.c.image_id, uses.c.tenant_id, uses.c.kind, uses.c.consumer_id)


def _counts(condition: sa.ColumnElement[bool], *, name_all: bool) -> sa.Select[Any]:
    """Return the query for how many uses tenants have; who used a public image may stay unnamed."""
    who: sa.ColumnElement[str] = uses.c.tenant_id
    if not name_all:
        who = sa.case(
            (uses.c.relation == Relation.PUBLIC, sa.literal(NOBODY, uses.c.tenant_id.type)), else_=who
        )
    named = sa.select(who.label("who"), uses.c.kind).where(condition).subquery()
    counts = [sa.func.count(sa.case((named.c.kind == kind, 1))).label(kind.lower()) for kind in UseKind]
    return sa.select(named.c.who, *counts, sa.func.count().label("total")).group_by(named.c.who)


class UseRepository:
    """The registered uses of the catalogue's images."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def find(self, key: UseKey) -> RegisteredUse | None:
        """Return a use; None when it is not registered."""
        row = self._connection.execute(sa.select(uses).where(_is(key))).mappings().first()
        return None if row is None else _to_use(row)

    def count(self, image_id: ImageId, tenant_id: TenantId) -> int:
        """Return how many uses a tenant has of an image."""
        query = sa.select(sa.func.count()).where(
            uses.c.image_id == image_id, uses.c.tenant_id == tenant_id
        )
        return self._connection.execute(query).scalar_one()

    def add(self, use: RegisteredUse) -> None:
        """Add a use that is not registered."""
        self._connection.execute(uses.insert().values(_to_row(use)))

    def save(self, use: RegisteredUse) -> None:
        """Store a changed use."""
        self._connection.execute(uses.update().where(_is(use.key)).values(_to_row(use)))

    def remove(self, key: UseKey, *, registered_by: TenantId | None = None) -> bool:
        """Remove a use, only if somebody (None: whoever) has registered it; tell whether it was."""
        condition = _is(key)
        if registered_by is not None:
            condition &= uses.c.registered_by == registered_by
        return self._connection.execute(uses.delete().where(condition)).rowcount > 0

    def remove_some(self, image_id: ImageId, *, most: int) -> int:
        """Remove uses of an image, whosever they are, `most` at the most; return how many."""
        some = sa.select(*_KEY).where(uses.c.image_id == image_id).limit(most)
        return self._connection.execute(uses.delete().where(sa.tuple_(*_KEY).in_(some))).rowcount

    def list(
        self, tenant_id: TenantId, use_filter: UseFilter, *, size: int, after: Position | None
    ) -> Page[RegisteredUse]:
        """Return a part of a tenant's uses, by image, kind and consumer, from behind a place on."""
        place = (uses.c.image_id, uses.c.kind, uses.c.consumer_id)
        query = sa.select(uses).where(uses.c.tenant_id == tenant_id).order_by(*place).limit(size + 1)
        if use_filter.image_id is not None:
            query = query.where(uses.c.image_id == use_filter.image_id)
        if use_filter.kind is not None:
            query = query.where(uses.c.kind == use_filter.kind)
        if use_filter.registered_by is not None:
            query = query.where(uses.c.registered_by == use_filter.registered_by)
        if after is not None:
            kind, _, consumer_id = after.id.partition(":")
            query = query.where(sa.tuple_(*place) > sa.tuple_(after.key, kind, consumer_id))
        found = [_to_use(row) for row in self._connection.execute(query).mappings()]
        return Page(
            items=tuple(found[:size]),
            places=tuple(
                Position(use.key.image_id, f"{use.key.kind}:{use.key.consumer_id}")
                for use in found[:size]
            ),
            more=len(found) > size,
        )

    def usage(self, image_id: ImageId, *, size: int, after: Position | None) -> Page[TenantUsage]:
        """Return how many uses of an image each tenant has, as its owner may know it, by tenant."""
        counts = _counts(uses.c.image_id == image_id, name_all=False).subquery()
        query = sa.select(counts).order_by(counts.c.who).limit(size + 1)
        if after is not None:
            query = query.where(counts.c.who > after.id)
        found = [_to_usage(row) for row in self._connection.execute(query).mappings()]
        return Page(
            items=tuple(found[:size]),
            places=tuple(Position("", usage.tenant_id) for usage in found[:size]),
            more=len(found) > size,
        )

    def usage_of(self, image_id: ImageId, tenant_id: TenantId) -> TenantUsage | None:
        """Return how many uses of an image one tenant has; None when it has none."""
        condition = (uses.c.image_id == image_id) & (uses.c.tenant_id == tenant_id)
        row = self._connection.execute(_counts(condition, name_all=True)).mappings().first()
        return None if row is None else _to_usage(row)

    def total(self, image_id: ImageId) -> UsageTotal:
        """Return how many uses an image has."""
        return self._total(uses.c.image_id == image_id)

    def summary(self, image_id: ImageId) -> UsageSummary:
        """Return the uses of an image, as its owner may know them."""
        return self._summary(uses.c.image_id == image_id, name_all=False)

    def total_of_recipients(
        self, image_id: ImageId, tenant_ids: Sequence[TenantId] | None, *, now: datetime
    ) -> UsageTotal:
        """Return how many uses an image has of those it is shared with, some of them or all (None)."""
        return self._total(_of_recipients(image_id, tenant_ids, now))

    def summary_of_recipients(
        self, image_id: ImageId, tenant_ids: Sequence[TenantId] | None, *, now: datetime
    ) -> UsageSummary:
        """Return the same uses; the owner knows those tenants, however they came to use the image."""
        return self._summary(_of_recipients(image_id, tenant_ids, now), name_all=True)

    def _total(self, condition: sa.ColumnElement[bool]) -> UsageTotal:
        query = sa.select(
            sa.func.count().label("uses"), sa.func.count(uses.c.tenant_id.distinct()).label("tenants")
        ).where(condition)
        row = self._connection.execute(query).one()
        return UsageTotal(uses=row.uses, tenants=row.tenants)

    def _summary(self, condition: sa.ColumnElement[bool], *, name_all: bool) -> UsageSummary:
        counts = _counts(condition, name_all=name_all).subquery()
        query = sa.select(counts).order_by(counts.c.total.desc(), counts.c.who).limit(MAX_LARGEST)
        rows = self._connection.execute(query).mappings()
        return UsageSummary(total=self._total(condition), largest=tuple(_to_usage(row) for row in rows))


def _is(key: UseKey) -> sa.ColumnElement[bool]:
    return sa.and_(
        uses.c.image_id == key.image_id,
        uses.c.tenant_id == key.tenant_id,
        uses.c.kind == key.kind,
        uses.c.consumer_id == key.consumer_id,
    )


def _of_recipients(
    image_id: ImageId, tenant_ids: Sequence[TenantId] | None, now: datetime
) -> sa.ColumnElement[bool]:
    lasting = lasts(shares, sa.literal(to_microseconds(now), sa.BigInteger))
    recipients = sa.select(shares.c.tenant_id).where(shares.c.image_id == image_id, lasting)
    if tenant_ids is not None:
        recipients = recipients.where(shares.c.tenant_id.in_(tenant_ids))
    return (uses.c.image_id == image_id) & uses.c.tenant_id.in_(recipients)


def _to_row(use: RegisteredUse) -> dict[str, Any]:
    return {
        "image_id": use.key.image_id,
        "tenant_id": use.key.tenant_id,
        "kind": str(use.key.kind),
        "consumer_id": use.key.consumer_id,
        "registered_by": use.registered_by,
        "relation": str(use.relation),
        "create_time": to_microseconds(use.create_time),
    }


def _to_use(row: sa.RowMapping) -> RegisteredUse:
    key = UseKey(
        image_id=ImageId(row["image_id"]),
        tenant_id=TenantId(row["tenant_id"]),
        kind=UseKind(row["kind"]),
        consumer_id=row["consumer_id"],
    )
    return RegisteredUse(
        key=key,
        registered_by=TenantId(row["registered_by"]),
        relation=Relation(row["relation"]),
        create_time=from_microseconds(row["create_time"]),
    )


def _to_usage(row: sa.RowMapping) -> TenantUsage:
    return TenantUsage(
        tenant_id=TenantId(row["who"]), ecs=row["ecs"], bms=row["bms"], volumes=row["volume"]
    )
