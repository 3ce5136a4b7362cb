"""Shares: records in, records out.

Whoever changes the shares of an image holds the image's lock (`images.lock`).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from ims.domain.image import ImageId, ImageState
from ims.domain.page import Page, Position, ShareFilter
from ims.domain.share import Prospect, Share, ShareStatus
from ims.domain.tenant import Region, TenantId
from ims.repository.policies import sharing_is_blocked
from ims.repository.statement import Statement
from ims.repository.tables import images, shares, tenants
from ims.repository.times import from_microseconds, to_microseconds

SHARE_COLUMNS: Final = (
    "image_id",
    "tenant_id",
    "region",
    "status",
    "vault_id",
    "create_time",
    "update_time",
)
"""The columns that a share is made of."""
LISTED: Final = {
    "image_owner": images.c.owner,
    "image_create_time": images.c.create_time,
    "image_name": images.c.name,
    "image_size_bytes": images.c.size_bytes,
}
"""The columns that repeat what lists look at in the image, unless it is deleted."""
_ADD = shares.insert().values(
    {
        copy: sa.select(column)
        .where(images.c.id == sa.bindparam("of_image"), images.c.state != ImageState.DELETED)
        .scalar_subquery()
        for copy, column in LISTED.items()
    }
)
_ADD_ONE = Statement(
    _ADD.values({name: sa.bindparam(name, type_=shares.c[name].type) for name in SHARE_COLUMNS})
)

_of_image = shares.c.image_id == sa.bindparam("image_id")
_counted = sa.select(sa.func.count().label("total")).where(_of_image).subquery()


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


def _of_one() -> sa.Select[Any]:
    """Return the query for what is on record of one recipient, and of the whole call.

    Its columns after those are the recipient's id and region in the directory, and its share.
    """
    theirs = shares.c.tenant_id == sa.bindparam("tenant_id")
    found = _counted.outerjoin(shares, sa.and_(_of_image, theirs)).outerjoin(
        tenants, tenants.c.id == sa.bindparam("tenant_id")
    )
    columns = (tenants.c.id, tenants.c.region, *(shares.c[name] for name in SHARE_COLUMNS))
    return sa.select(*_OF_THE_CALL, *columns).select_from(found)


def _of_some() -> sa.Select[Any]:
    """Return the same for many: a row for each that the directory names, and one for each share."""
    asked: sa.BindParameter[Any] = sa.bindparam("tenant_ids", expanding=True)
    of_share = [shares.c[name] for name in SHARE_COLUMNS]
    registered = sa.select(
        tenants.c.id.label("known_id"),
        tenants.c.region.label("home"),
        *(_nothing_like(column).label(column.name) for column in of_share),
    )
    sharing = sa.select(
        _nothing_like(tenants.c.id).label("known_id"),
        _nothing_like(tenants.c.region).label("home"),
        *of_share,
    )
    rows = sa.union_all(
        registered.where(tenants.c.id.in_(asked)),
        sharing.where(_of_image, shares.c.tenant_id.in_(asked)),
    ).subquery()
    return sa.select(*_OF_THE_CALL, *rows.c).select_from(_counted.outerjoin(rows, sa.true()))


def _nothing_like(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    # Not the column's own type, whose collation has no place in a cast.
    return sa.cast(sa.null(), sa.BigInteger if isinstance(column.type, sa.BigInteger) else sa.String)


_OF_ONE = Statement(_of_one())
_OF_SOME = _of_some()

_ONE = sa.select(shares).where(
    shares.c.image_id == sa.bindparam("image_id"), shares.c.tenant_id == sa.bindparam("tenant_id")
)


class ShareRepository:
    """The shares of the catalogue."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def find(self, image_id: ImageId, tenant_id: TenantId) -> Share | None:
        """Return the share of a tenant in an image; None when there is none."""
        keys = {"image_id": image_id, "tenant_id": tenant_id}
        row = self._connection.execute(_ONE, keys).mappings().first()
        return None if row is None else to_share(row)

    def prospect(self, image_id: ImageId, owner: TenantId, tenant_ids: Sequence[TenantId]) -> Prospect:
        """Return what is on record when an owner wants to share an image with some tenants.

        In one statement: ShareImage holds the image's lock while it asks.
        """
        rows: Sequence[Sequence[Any]]
        asked = {"image_id": image_id, "owner": owner}
        if len(tenant_ids) == 1:
            rows = _OF_ONE.rows(self._connection, {**asked, "tenant_id": tenant_ids[0]})
        else:
            rows = self._connection.execute(_OF_SOME, {**asked, "tenant_ids": tenant_ids}).all()
        share_count, owner_blocked, all_blocked = rows[0][:3]
        named = [dict(zip(SHARE_COLUMNS, row[5:], strict=True)) for row in rows]
        found = (to_share(row) for row in named if row["tenant_id"] is not None)
        return Prospect(
            shares={share.tenant_id: share for share in found},
            share_count=share_count,
            regions={TenantId(row[3]): Region(row[4]) for row in rows if row[4] is not None},
            owner_blocked=bool(owner_blocked),
            all_blocked=bool(all_blocked),
        )

    def count(self, image_id: ImageId) -> int:
        """Return how many shares an image has, in every status."""
        query = sa.select(sa.func.count()).where(shares.c.image_id == image_id)
        return self._connection.execute(query).scalar_one()

    def add(self, new_shares: Iterable[Share]) -> None:
        """Add shares to tenants that have none in the image."""
        rows = [{**_to_row(share), "of_image": share.image_id} for share in new_shares]
        if len(rows) == 1:
            _ADD_ONE.run(self._connection, rows[0])
        elif rows:
            self._connection.execute(_ADD, rows)

    def save(self, share: Share) -> None:
        """Store a changed share."""
        self._connection.execute(
            shares.update()
            .where(shares.c.image_id == share.image_id, shares.c.tenant_id == share.tenant_id)
            .values(_to_row(share))
        )

    def remove(
        self, image_id: ImageId, tenant_ids: Sequence[TenantId] | None = None
    ) -> tuple[Share, ...]:
        """Remove the shares of some tenants in an image, or all (None); return what they were."""
        condition = _of_tenants(image_id, tenant_ids)
        removed = self._those(condition)
        self._connection.execute(shares.delete().where(condition))
        return removed

    def those(
        self, image_id: ImageId, tenant_ids: Sequence[TenantId] | None = None
    ) -> tuple[Share, ...]:
        """Return the shares of some tenants in an image, or all (None), by tenant."""
        return self._those(_of_tenants(image_id, tenant_ids))

    def _those(self, condition: sa.ColumnElement[bool]) -> tuple[Share, ...]:
        query = sa.select(shares).where(condition).order_by(shares.c.tenant_id)
        return tuple(to_share(row) for row in self._connection.execute(query).mappings())

    def list(
        self, image_id: ImageId, share_filter: ShareFilter, *, size: int, after: str, count: bool
    ) -> Page[Share]:
        """Return a part of an image's shares, by tenant, from behind the tenant `after` on."""
        condition = shares.c.image_id == image_id
        if share_filter.status is not None:
            condition &= shares.c.status == share_filter.status
        query = (
            sa.select(shares)
            .where(condition, shares.c.tenant_id > after)
            .order_by(shares.c.tenant_id)
            .limit(size + 1)
        )
        found = [to_share(row) for row in self._connection.execute(query).mappings()]
        total = None
        if count:
            counting = sa.select(sa.func.count()).select_from(shares).where(condition)
            total = self._connection.execute(counting).scalar_one()
        return Page(
            items=tuple(found[:size]),
            places=tuple(Position("", share.tenant_id) for share in found[:size]),
            more=len(found) > size,
            total_size=total,
        )


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
    )
