"""What administrators have put in force for all tenants."""

from typing import Final

import sqlalchemy as sa

from ims.repository.tables import policies
from ims.repository.upsert import upsert_into

_SHARING_BLOCKED: Final = "sharing blocked"

_sharing_blocked = (
    sa.select(policies.c.in_force)
    .where(policies.c.name == sa.literal_column(f"'{_SHARING_BLOCKED}'"))
    .scalar_subquery()
)


def sharing_is_blocked() -> sa.ColumnElement[bool]:
    """Return whether nobody may share with anybody new, as a part of another statement."""
    return sa.func.coalesce(_sharing_blocked, sa.false())


class Policies:
    """The policies of the catalogue; what was never set is not in force."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def sharing_blocked(self) -> bool:
        """Whether nobody may share with anybody new."""
        return bool(self._connection.execute(sa.select(sharing_is_blocked())).scalar_one())

    def block_sharing(self, *, blocked: bool) -> None:
        """Keep all tenants from sharing with anybody new, or let them again."""
        row = {"name": _SHARING_BLOCKED, "in_force": blocked}
        self._connection.execute(
            upsert_into(policies, self._connection.dialect.name)
            .values(row)
            .on_conflict_do_update(index_elements=[policies.c.name], set_={"in_force": blocked})
        )
