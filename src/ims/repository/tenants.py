"""What tenants use, their own limits, and the tenant directory: records in, records out.

Whoever takes something that is limited locks the tenant's record (`lock`) before reading what is judged,
and after the image's lock, if it holds one: always in this order, so that nobody waits in a circle.
"""

from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from ims.domain.page import Page, Position, TenantFilter
from ims.domain.quotas import NOTHING, Account, OwnLimits, Usage
from ims.domain.tenant import Region, RegisteredTenant, TenantId, TenantState
from ims.repository.statement import Statement
from ims.repository.tables import tenants
from ims.repository.times import from_microseconds, to_microseconds
from ims.repository.upsert import upsert_into

_ONE = sa.select(tenants).where(tenants.c.id == sa.bindparam("tenant_id"))
_LOCK = _ONE.with_for_update()
_SUSPENDED = Statement(
    sa.select(tenants.c.id).where(
        tenants.c.id == sa.bindparam("tenant_id"), tenants.c.suspend_time.is_not(None)
    )
)


def is_suspended(tenant_id: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Return whether the tenant that another statement names is suspended, as a part of that one.

    Not EXISTS, of which PostgreSQL may make a join: there are few suspended tenants, and many others.
    """
    found = sa.select(_there.c.suspend_time).where(_there.c.id == tenant_id)
    # However deep within the other statement it stands.
    return found.correlate_except(_there).scalar_subquery().is_not(None)


_there = tenants.alias("there")


def _changed(column: sa.Column[int], change: sa.BindParameter[int]) -> sa.ColumnElement[int]:
    # Never below nothing: a version from before the quotas, beside this one, takes without counting.
    return sa.case((column + change < 0, 0), else_=column + change)


# Added in the database, not written as a sum: a sum could be of what was read before somebody's change.
_CHANGE = (
    tenants.update()
    .where(tenants.c.id == sa.bindparam("tenant_id"))
    .values(
        private_images=_changed(
            tenants.c.private_images, sa.bindparam("images_change", type_=sa.BigInteger)
        ),
        stored_bytes=_changed(tenants.c.stored_bytes, sa.bindparam("bytes_change", type_=sa.BigInteger)),
        creations=_changed(tenants.c.creations, sa.bindparam("creations_change", type_=sa.BigInteger)),
        copies=_changed(tenants.c.copies, sa.bindparam("copies_change", type_=sa.BigInteger)),
    )
)


class TenantRepository:
    """The tenants of the catalogue; one that is not registered and never used anything has no record."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def account(self, tenant_id: TenantId) -> Account:
        """Return what is on record of a tenant."""
        row = self._connection.execute(_ONE, {"tenant_id": tenant_id}).mappings().first()
        return Account() if row is None else _to_account(row)

    def lock(self, tenant_id: TenantId) -> Account:
        """Return the same, and keep everybody else from it until the transaction ends."""
        row = self._locked(tenant_id)
        if row is None:
            self._make(tenant_id)
            row = self._locked(tenant_id)
        assert row is not None  # it was made, by this transaction or by one that has committed
        return _to_account(row)

    def suspended(self, tenant_id: TenantId) -> bool:
        """Whether a tenant may do nothing, as it is at this moment."""
        return bool(_SUSPENDED.rows(self._connection, {"tenant_id": tenant_id}))

    def change(self, tenant_id: TenantId, change: Usage) -> None:
        """Add to what a tenant uses; where nothing changes, nothing is asked of the database."""
        if change == NOTHING:
            return
        parameters = {
            "tenant_id": tenant_id,
            "images_change": change.private_images,
            "bytes_change": change.stored_bytes,
            "creations_change": change.creations,
            "copies_change": change.copies,
        }
        if self._connection.execute(_CHANGE, parameters).rowcount == 0:
            self._make(tenant_id)
            self._connection.execute(_CHANGE, parameters)

    def limit(self, tenant_id: TenantId, own_limits: OwnLimits) -> None:
        """Store a tenant's own limits. Its lock is held."""
        self._write(tenant_id, {f"max_{quota}": limit for quota, limit in asdict(own_limits).items()})

    def recounted(self, tenant_id: TenantId, used: Usage) -> None:
        """Store what a recount has found. The tenant's lock has been held since before the count."""
        self._write(tenant_id, asdict(used))

    def batch(self, *, after: str, size: int) -> dict[TenantId, Usage]:
        """Return what tenants use, by their ids, of so many from behind the tenant `after` on."""
        query = sa.select(tenants).where(tenants.c.id > after).order_by(tenants.c.id).limit(size)
        rows = self._connection.execute(query).mappings()
        return {TenantId(row["id"]): _to_account(row).used for row in rows}

    # The directory

    def find(self, tenant_id: TenantId) -> RegisteredTenant | None:
        """Return a tenant as the directory has it; None for one that it does not name."""
        row = self._connection.execute(_ONE, {"tenant_id": tenant_id}).mappings().first()
        return _to_registered(row)

    def find_locked(self, tenant_id: TenantId) -> RegisteredTenant | None:
        """Return the same, and keep everybody else from it until the transaction ends."""
        return _to_registered(self._locked(tenant_id))

    def save(self, tenant: RegisteredTenant) -> None:
        """Have the directory say something else of a tenant, or name a new one. Its lock is held."""
        self._make(tenant.id)
        suspended = tenant.suspend_time
        self._write(
            tenant.id,
            {
                "region": tenant.region,
                "register_time": to_microseconds(tenant.register_time),
                "suspend_time": None if suspended is None else to_microseconds(suspended),
                "sharing_blocked": tenant.sharing_blocked,
            },
        )

    def list(
        self, tenant_filter: TenantFilter, *, size: int, after: Position | None
    ) -> Page[RegisteredTenant]:
        """Return a part of the directory, by id, from behind a place on."""
        query = sa.select(tenants).where(tenants.c.region.is_not(None)).order_by(tenants.c.id)
        if tenant_filter.region is not None:
            query = query.where(tenants.c.region == tenant_filter.region)
        if tenant_filter.state is TenantState.SUSPENDED:
            query = query.where(tenants.c.suspend_time.is_not(None))
        if tenant_filter.state is TenantState.ACTIVE:
            query = query.where(tenants.c.suspend_time.is_(None))
        if after is not None:
            query = query.where(tenants.c.id > after.id)
        rows = self._connection.execute(query.limit(size + 1)).mappings()
        found = [tenant for row in rows if (tenant := _to_registered(row)) is not None]
        return Page(
            items=tuple(found[:size]),
            places=tuple(Position("", tenant.id) for tenant in found[:size]),
            more=len(found) > size,
        )

    def _locked(self, tenant_id: TenantId) -> sa.RowMapping | None:
        return self._connection.execute(_LOCK, {"tenant_id": tenant_id}).mappings().first()

    def _make(self, tenant_id: TenantId) -> None:
        values = {"id": tenant_id, **asdict(NOTHING)}
        insert = upsert_into(tenants, self._connection.dialect.name)
        self._connection.execute(insert.values(values).on_conflict_do_nothing())

    def _write(self, tenant_id: TenantId, values: dict[str, Any]) -> None:
        self._connection.execute(tenants.update().where(tenants.c.id == tenant_id).values(values))


def _to_account(row: sa.RowMapping) -> Account:
    return Account(
        used=Usage(
            private_images=row["private_images"],
            stored_bytes=row["stored_bytes"],
            creations=row["creations"],
            copies=row["copies"],
        ),
        own_limits=OwnLimits(
            private_images=row["max_private_images"],
            stored_bytes=row["max_stored_bytes"],
            creations=row["max_creations"],
            copies=row["max_copies"],
        ),
        suspended=row["suspend_time"] is not None,
    )


def _to_registered(row: sa.RowMapping | None) -> RegisteredTenant | None:
    if row is None or row["region"] is None:
        return None
    suspended = row["suspend_time"]
    return RegisteredTenant(
        id=TenantId(row["id"]),
        region=Region(row["region"]),
        sharing_blocked=row["sharing_blocked"],
        register_time=from_microseconds(row["register_time"]),
        suspend_time=None if suspended is None else from_microseconds(suspended),
    )
