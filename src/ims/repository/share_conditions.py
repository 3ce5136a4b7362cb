"""Which rows are shares at a moment, and which of those their recipients see.

Statements with such a condition take the moment as `now`, in microseconds.
"""

from typing import Any, Final

import sqlalchemy as sa

from ims.domain.share import ShareStatus
from ims.domain.trust import Attitude
from ims.repository.tables import trust_in_owners

_NEVER: Final = sa.literal_column("9223372036854775807", sa.BigInteger)
_NOW: Final[sa.ColumnElement[int]] = sa.bindparam("now", type_=sa.BigInteger)
_ACCEPTED: Final[sa.ColumnElement[Any]] = sa.literal_column(f"'{ShareStatus.ACCEPTED}'")
_BLOCK: Final[sa.ColumnElement[Any]] = sa.literal_column(f"'{Attitude.BLOCK}'")


def lasts(
    of: Any,  # noqa: ANN401 - the table or an alias of it
    now: sa.ColumnElement[int] = _NOW,
) -> sa.ColumnElement[bool]:
    """Return that a share has not ended by itself.

    In a form for which no index is used: nearly every share lasts.
    """
    return sa.func.coalesce(of.c.expire_time, _NEVER) > now


def is_shown(of: Any, owner: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:  # noqa: ANN401
    """Return that a share lasts and is seen by its recipient, which may have blocked the owner."""
    return sa.and_(lasts(of), _is_let_through(of, owner))


def _is_let_through(of: Any, owner: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:  # noqa: ANN401
    # Looked up only where a share is not accepted, and so on no way that is gone often.
    return sa.or_(of.c.status == _ACCEPTED, sa.not_(has_blocked(of.c.tenant_id, owner)))


def has_blocked(
    tenant_id: sa.ColumnElement[str], owner: sa.ColumnElement[str]
) -> sa.ColumnElement[bool]:
    """Return that a tenant has blocked an owner."""
    # Not EXISTS, which PostgreSQL may turn into a join.
    return (
        sa.select(trust_in_owners.c.owner)
        .where(
            trust_in_owners.c.tenant_id == tenant_id,
            trust_in_owners.c.owner == owner,
            trust_in_owners.c.attitude == _BLOCK,
        )
        .limit(1)
        # Both may be of any statement around this one.
        .correlate_except(trust_in_owners)
        .scalar_subquery()
        .is_not(None)
    )
