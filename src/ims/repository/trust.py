"""Whom tenants trust: rules in, rules out.

Whoever changes a tenant's rules, or shares with one whose rules decide on the share, holds the tenant's
lock (`tenants.lock`).
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from ims.domain.share import ShareStatus
from ims.domain.tenant import Region, TenantId
from ims.domain.trust import Attitude, TrustRules
from ims.repository.share_conditions import has_blocked, lasts
from ims.repository.tables import shares, trust_in_owners, trust_rules
from ims.repository.times import to_microseconds

# Of a deleted image the shares do not say the owner: they are nobody's to decide on meanwhile. What is
# hidden from the recipient counts for the owner of that, and for no other (decision 0018).
_PENDING = (
    sa.select(shares.c.tenant_id, sa.func.count().label("pending"))
    .where(
        shares.c.tenant_id.in_(sa.bindparam("tenant_ids", expanding=True)),
        shares.c.status == ShareStatus.PENDING,
        shares.c.image_owner.is_not(None),
        lasts(shares),
        sa.or_(
            shares.c.image_owner == sa.bindparam("owner"),
            sa.not_(has_blocked(shares.c.tenant_id, shares.c.image_owner)),
        ),
    )
    .group_by(shares.c.tenant_id)
)


class TrustRepository:
    """The trust rules of the catalogue's tenants."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def rules(self, tenant_id: TenantId) -> TrustRules:
        """Return a tenant's rules; one that never made any has none."""
        # In one statement, so that they are those of one moment.
        query = (
            sa.select(
                trust_rules.c.max_pending_shares,
                trust_rules.c.version,
                trust_in_owners.c.owner,
                trust_in_owners.c.attitude,
            )
            .select_from(
                trust_rules.outerjoin(
                    trust_in_owners, trust_in_owners.c.tenant_id == trust_rules.c.tenant_id
                )
            )
            .where(trust_rules.c.tenant_id == tenant_id)
            .order_by(trust_in_owners.c.owner)
        )
        rows = self._connection.execute(query).all()
        if not rows:
            return TrustRules()

        def those(attitude: Attitude) -> tuple[TenantId, ...]:
            return tuple(TenantId(row.owner) for row in rows if row.attitude == attitude)

        return TrustRules(
            auto_accept_from=those(Attitude.AUTO_ACCEPT),
            blocked=those(Attitude.BLOCK),
            max_pending_shares=rows[0].max_pending_shares,
            version=rows[0].version,
        )

    def save(self, tenant_id: TenantId, rules: TrustRules, *, home: Region) -> None:
        """Store a tenant's rules, and where it is at home, in place of those before."""
        mine = trust_in_owners.c.tenant_id == tenant_id
        self._connection.execute(trust_in_owners.delete().where(mine))
        rows = [
            {"tenant_id": tenant_id, "owner": owner, "attitude": str(attitude)}
            for attitude, owners in (
                (Attitude.AUTO_ACCEPT, rules.auto_accept_from),
                (Attitude.BLOCK, rules.blocked),
            )
            for owner in owners
        ]
        if rows:
            self._connection.execute(trust_in_owners.insert(), rows)
        values = {
            "region": home,
            "max_pending_shares": rules.max_pending_shares,
            "version": rules.version,
        }
        if rules.version == 1:
            self._connection.execute(trust_rules.insert().values(tenant_id=tenant_id, **values))
        else:
            changed = trust_rules.update().where(trust_rules.c.tenant_id == tenant_id)
            self._connection.execute(changed.values(values))

    def blocking(self, owner: TenantId, tenant_ids: Collection[TenantId]) -> frozenset[TenantId]:
        """Return those of some tenants that have blocked an owner."""
        query = sa.select(trust_in_owners.c.tenant_id).where(
            trust_in_owners.c.tenant_id.in_(tenant_ids),
            trust_in_owners.c.owner == owner,
            trust_in_owners.c.attitude == Attitude.BLOCK,
        )
        return frozenset(TenantId(value) for value in self._connection.execute(query).scalars())

    def pending(
        self, tenant_ids: Sequence[TenantId], owner: TenantId, *, now: datetime
    ) -> Mapping[TenantId, int]:
        """Return how many pending shares some tenants have, as far as an owner may know it.

        Exact only for those whose lock is held.
        """
        keys = {"tenant_ids": tenant_ids, "owner": owner, "now": to_microseconds(now)}
        found = {row.tenant_id: row.pending for row in self._connection.execute(_PENDING, keys)}
        return {tenant_id: found.get(tenant_id, 0) for tenant_id in tenant_ids}
