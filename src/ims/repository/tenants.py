"""What tenants use, and the limits that are their own: records in, records out.

Whoever takes something that is limited locks the tenant's record (`lock`) before reading what is judged,
and after the image's lock, if it holds one: always in this order, so that nobody waits in a circle.
"""

from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from ims.domain.quotas import NOTHING, Account, OwnLimits, Usage
from ims.domain.tenant import TenantId
from ims.repository.tables import tenants

_ONE = sa.select(tenants).where(tenants.c.id == sa.bindparam("tenant_id"))
_LOCK = _ONE.with_for_update()


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
    )
)


class TenantRepository:
    """The tenants of the catalogue; one that never used anything has no record."""

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

    def change(self, tenant_id: TenantId, change: Usage) -> None:
        """Add to what a tenant uses; where nothing changes, nothing is asked of the database."""
        if change == NOTHING:
            return
        parameters = {
            "tenant_id": tenant_id,
            "images_change": change.private_images,
            "bytes_change": change.stored_bytes,
            "creations_change": change.creations,
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

    def _locked(self, tenant_id: TenantId) -> sa.RowMapping | None:
        return self._connection.execute(_LOCK, {"tenant_id": tenant_id}).mappings().first()

    def _make(self, tenant_id: TenantId) -> None:
        insert = postgresql_insert if self._connection.dialect.name == "postgresql" else sqlite_insert
        values = {"id": tenant_id, **asdict(NOTHING)}
        self._connection.execute(insert(tenants).values(values).on_conflict_do_nothing())

    def _write(self, tenant_id: TenantId, values: dict[str, Any]) -> None:
        self._connection.execute(tenants.update().where(tenants.c.id == tenant_id).values(values))


def _to_account(row: sa.RowMapping) -> Account:
    return Account(
        used=Usage(
            private_images=row["private_images"],
            stored_bytes=row["stored_bytes"],
            creations=row["creations"],
        ),
        own_limits=OwnLimits(
            private_images=row["max_private_images"],
            stored_bytes=row["max_stored_bytes"],
            creations=row["max_creations"],
        ),
    )
