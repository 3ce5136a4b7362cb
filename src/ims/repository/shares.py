"""Shares: records in, records out.

Whoever changes the shares of an image holds the image's lock (`images.lock`). What has ended by itself
(`now`) is as good as none, until `remove_ended` removes it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from ims.domain.image import ImageId, ImageState
from ims.domain.page import Page, Position, ShareFilter
from ims.domain.share import Prospect, Share, ShareStatus
from ims.domain.tenant import Region, TenantId
from ims.domain.trust import Attitude, Trust
from ims.repository.audit_log import (
    MOST_IN_A_STATEMENT,
    AuditLog,
    SeenEvents,
    addition,
    parameters_of,
)
from ims.repository.policies import sharing_is_blocked
from ims.repository.share_conditions import lasts
from ims.repository.statement import Statement
from ims.repository.tables import images, shares, tenants, trust_in_owners, trust_rules
from ims.repository.times import from_microseconds, to_microseconds
from ims.repository.upsert import Upsert, upsert_into

Converted = TypeVar("Converted")

SHARE_COLUMNS: Final = (
    "image_id",
    "tenant_id",
    "region",
    "status",
    "vault_id",
    "create_time",
    "update_time",
    "expire_time",
)
"""The columns that a share is made of."""
LISTED: Final = {
    "image_owner": images.c.owner,
    "image_create_time": images.c.create_time,
    "image_name": images.c.name,
    "image_size_bytes": images.c.size_bytes,
}
"""The columns that repeat what lists look at in the image, unless it is deleted."""


_KEY: Final = ("image_id", "tenant_id")


def _adding(dialect_name: str, values: Mapping[str, Any]) -> Upsert:
    copied = {
        copy: sa.select(column)
        .where(images.c.id == sa.bindparam("of_image"), images.c.state != ImageState.DELETED)
        .scalar_subquery()
        for copy, column in LISTED.items()
    }
    adding = upsert_into(shares, dialect_name).values({**copied, **values})
    # Who still has a row had a share that has ended by itself.
    return adding.on_conflict_do_update(
        index_elements=_KEY,
        set_={name: adding.excluded[name] for name in (*SHARE_COLUMNS, *LISTED) if name not in _KEY},
    )


_ROW: Final = {name: sa.bindparam(name, type_=shares.c[name].type) for name in SHARE_COLUMNS}


@cache
def _add(dialect_name: str) -> sa.Insert:
    return _adding(dialect_name, {})


@cache
def _add_one() -> Statement:
    """Return the statement with which SQLite adds a share."""
    return Statement(_adding("sqlite", _ROW))


@cache
def _add_one_and_tell(events: int) -> Statement:
    """Return the statement with which PostgreSQL adds a share and so many events of it."""
    query = _adding("postgresql", _ROW)
    return Statement(query.add_cte(addition(events).cte("told")) if events else query)


_lasting = sa.and_(shares.c.image_id == sa.bindparam("image_id"), lasts(shares))
_counted = sa.select(sa.func.count().label("total")).where(_lasting).subquery()

# What every row of the answer says of the whole call.
_owner = tenants.alias("owner")
_OF_THE_CALL: tuple[sa.ColumnElement[Any], ...] = (
    _counted.c.total,
    sa.func.coalesce(
        sa.select(_owner.c.sharing_blocked)
        .where(_owner.c.id == sa.bindparam("owner"))
        .scalar_subquery(),
        sa.false(),
    ),
    sharing_is_blocked(),
)
# What it says of one recipient: who that is, what the directory and its own rules say, and its share.
_OF_A_RECIPIENT: tuple[sa.ColumnElement[Any], ...] = (
    sa.func.coalesce(tenants.c.id, trust_rules.c.tenant_id, shares.c.tenant_id),
    tenants.c.region,
    trust_rules.c.region,
    trust_rules.c.max_pending_shares,
    trust_in_owners.c.attitude,
    *(shares.c[name] for name in SHARE_COLUMNS),
)


def _of(recipients: sa.FromClause, recipient: sa.ColumnElement[str]) -> sa.Select[Any]:
    """Return the query for what is on record of some recipients, and of the whole call.

    There is one row at least, with no recipient where there is nothing to say of any.
    """
    trusts = sa.and_(
        trust_in_owners.c.tenant_id == recipient, trust_in_owners.c.owner == sa.bindparam("owner")
    )
    found = (
        recipients.outerjoin(tenants, tenants.c.id == recipient)
        .outerjoin(trust_rules, trust_rules.c.tenant_id == recipient)
        .outerjoin(trust_in_owners, trusts)
        .outerjoin(shares, sa.and_(_lasting, shares.c.tenant_id == recipient))
    )
    return sa.select(*_OF_THE_CALL, *_OF_A_RECIPIENT).select_from(found)


def _of_some() -> sa.Select[Any]:
    asked: sa.BindParameter[Any] = sa.bindparam("tenant_ids", expanding=True)
    ids = (shares.c.tenant_id, tenants.c.id, trust_rules.c.tenant_id)
    of_shares, *others = (sa.select(each.label("id")).where(each.in_(asked)) for each in ids)
    named = sa.union(of_shares.where(_lasting), *others).subquery()
    return _of(_counted.outerjoin(named, sa.true()), named.c.id)


_OF_ONE = Statement(_of(_counted, sa.bindparam("tenant_id")))
_OF_SOME = _of_some()

_ONE = sa.select(shares).where(_lasting, shares.c.tenant_id == sa.bindparam("tenant_id"))


class ShareRepository:
    """The shares of the catalogue."""

    def __init__(self, connection: sa.Connection, audit_log: AuditLog) -> None:
        self._connection = connection
        self._audit_log = audit_log

    def find(self, image_id: ImageId, tenant_id: TenantId, *, now: datetime) -> Share | None:
        """Return the share of a tenant in an image, seen by it or not; None when there is none."""
        keys = {"image_id": image_id, "tenant_id": tenant_id, "now": to_microseconds(now)}
        row = self._connection.execute(_ONE, keys).mappings().first()
        return None if row is None else to_share(row)

    def prospect(
        self, image_id: ImageId, owner: TenantId, tenant_ids: Sequence[TenantId], *, now: datetime
    ) -> Prospect:
        """Return what is on record when an owner wants to share an image with some tenants.

        In one statement: ShareImage holds the image's lock while it asks.
        """
        rows: Sequence[Sequence[Any]]
        asked = {"image_id": image_id, "owner": owner, "now": to_microseconds(now)}
        if len(tenant_ids) == 1:
            rows = _OF_ONE.rows(self._connection, {**asked, "tenant_id": tenant_ids[0]})
        else:
            rows = self._connection.execute(_OF_SOME, {**asked, "tenant_ids": tenant_ids}).all()
        share_count, owner_blocked, all_blocked = rows[0][: len(_OF_THE_CALL)]
        found: dict[TenantId, Share] = {}
        regions: dict[TenantId, Region] = {}
        trust: dict[TenantId, Trust] = {}
        for row in rows:
            tenant_id, region, home, max_pending_shares, attitude, *share = row[len(_OF_THE_CALL) :]
            if region is not None:
                regions[tenant_id] = region
            if home is not None:
                trust[tenant_id] = Trust(
                    attitude=_optional(Attitude, attitude),
                    # What the directory says outweighs what the recipient was once said to be.
                    home=region or home,
                    max_pending_shares=max_pending_shares,
                )
            columns = dict(zip(SHARE_COLUMNS, share, strict=True))
            if columns["image_id"] is not None:
                found[tenant_id] = to_share(columns)
        return Prospect(
            shares=found,
            share_count=share_count,
            regions=regions,
            trust=trust,
            owner_blocked=bool(owner_blocked),
            all_blocked=bool(all_blocked),
        )

    def count(self, image_id: ImageId, *, now: datetime) -> int:
        """Return how many shares an image has, in every status."""
        query = sa.select(sa.func.count()).where(_lasting)
        keys = {"image_id": image_id, "now": to_microseconds(now)}
        return self._connection.execute(query, keys).scalar_one()

    def add(self, new_shares: Iterable[Share], told: SeenEvents = ()) -> None:
        """Add shares to tenants that have none in the image, and what the audit log tells of them.

        One share and its events on the same way to the server: ShareImage holds the image's lock.
        """
        rows = [{**_to_row(share), "of_image": share.image_id} for share in new_shares]
        dialect = self._connection.dialect.name
        if len(rows) == 1 and dialect == "postgresql" and len(told) <= MOST_IN_A_STATEMENT:
            _add_one_and_tell(len(told)).run(self._connection, rows[0] | parameters_of(told))
            return
        if len(rows) == 1 and dialect == "sqlite":
            _add_one().run(self._connection, rows[0])
        elif rows:
            self._connection.execute(_add(dialect), rows)
        self._audit_log.add(told)

    def save(self, share: Share) -> None:
        """Store a changed share."""
        self._connection.execute(
            shares.update()
            .where(shares.c.image_id == share.image_id, shares.c.tenant_id == share.tenant_id)
            .values(_to_row(share))
        )

    def remove(
        self, image_id: ImageId, tenant_ids: Sequence[TenantId] | None = None, *, now: datetime
    ) -> tuple[Share, ...]:
        """Remove the shares of some tenants in an image, or all (None); return what they were."""
        removed = self.those(image_id, tenant_ids, now=now)
        self._connection.execute(shares.delete().where(_of_tenants(image_id, tenant_ids)))
        return removed

    def those(
        self, image_id: ImageId, tenant_ids: Sequence[TenantId] | None = None, *, now: datetime
    ) -> tuple[Share, ...]:
        """Return the shares of some tenants in an image, or all (None), by tenant."""
        query = (
            sa.select(shares)
            .where(_of_tenants(image_id, tenant_ids), lasts(shares))
            .order_by(shares.c.tenant_id)
        )
        rows = self._connection.execute(query, {"now": to_microseconds(now)}).mappings()
        return tuple(to_share(row) for row in rows)

    def list(
        self,
        image_id: ImageId,
        share_filter: ShareFilter,
        *,
        now: datetime,
        size: int,
        after: str,
        count: bool,
    ) -> Page[Share]:
        """Return a part of an image's shares, by tenant, from behind the tenant `after` on."""
        keys = {"image_id": image_id, "now": to_microseconds(now)}
        condition: sa.ColumnElement[bool] = _lasting
        if share_filter.status is not None:
            condition &= shares.c.status == share_filter.status
        query = (
            sa.select(shares)
            .where(condition, shares.c.tenant_id > after)
            .order_by(shares.c.tenant_id)
            .limit(size + 1)
        )
        found = [to_share(row) for row in self._connection.execute(query, keys).mappings()]
        total = None
        if count:
            counting = sa.select(sa.func.count()).select_from(shares).where(condition)
            total = self._connection.execute(counting, keys).scalar_one()
        return Page(
            items=tuple(found[:size]),
            places=tuple(Position("", share.tenant_id) for share in found[:size]),
            more=len(found) > size,
            total_size=total,
        )

    def ended(self, *, now: datetime) -> tuple[ImageId, ...]:
        """Return the images that have shares which have ended by themselves."""
        query = sa.select(shares.c.image_id).where(_has_ended(now)).distinct()
        return tuple(ImageId(value) for value in self._connection.execute(query).scalars())

    def remove_ended(self, image_id: ImageId, *, now: datetime) -> tuple[Share, ...]:
        """Remove the shares of an image that have ended by themselves; return what they were."""
        condition = sa.and_(shares.c.image_id == image_id, _has_ended(now))
        query = sa.select(shares).where(condition).order_by(shares.c.tenant_id)
        ended = tuple(to_share(row) for row in self._connection.execute(query).mappings())
        self._connection.execute(shares.delete().where(condition))
        return ended


def _has_ended(now: datetime) -> sa.ColumnElement[bool]:
    return shares.c.expire_time <= to_microseconds(now)


def _of_tenants(image_id: ImageId, tenant_ids: Sequence[TenantId] | None) -> sa.ColumnElement[bool]:
    condition = shares.c.image_id == image_id
    return condition if tenant_ids is None else condition & shares.c.tenant_id.in_(tenant_ids)


def _to_row(share: Share) -> dict[str, Any]:
    return {
        "image_id": share.image_id,
        "tenant_id": share.tenant_id,
        "region": share.region,
        "status": str(share.status),
        "vault_id": share.vault_id,
        "create_time": to_microseconds(share.create_time),
        "update_time": to_microseconds(share.update_time),
        "expire_time": _optional(to_microseconds, share.expire_time),
    }


def to_share(row: Mapping[Any, Any]) -> Share:
    """Return the share that a row of its table holds."""
    return Share(
        image_id=ImageId(row["image_id"]),
        tenant_id=TenantId(row["tenant_id"]),
        region=Region(row["region"]),
        status=ShareStatus(row["status"]),
        vault_id=row["vault_id"],
        create_time=from_microseconds(row["create_time"]),
        update_time=from_microseconds(row["update_time"]),
        expire_time=_optional(from_microseconds, row["expire_time"]),
    )


def _optional(convert: Callable[[Any], Converted], value: object) -> Converted | None:
    return None if value is None else convert(value)
