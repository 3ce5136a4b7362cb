"""Work that every instance may do and one does."""

from datetime import datetime

import sqlalchemy as sa

from ims.repository.tables import duties
from ims.repository.times import to_microseconds


class Duties:
    """Who does what, and until when without another word."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def claim(self, name: str, holder: str, *, now: datetime, until: datetime) -> bool:
        """Take a duty that nobody holds any more, or hold one's own for longer; tell whether it is."""
        free = sa.or_(duties.c.holder == holder, duties.c.lease_until <= to_microseconds(now))
        claimed = self._connection.execute(
            duties.update()
            .where(duties.c.name == name, free)
            .values(holder=holder, lease_until=to_microseconds(until))
        )
        return claimed.rowcount == 1

    def place(self, name: str) -> str:
        """Return how far a duty has come; "" at its beginning."""
        query = sa.select(duties.c.place).where(duties.c.name == name)
        return self._connection.execute(query).scalar_one() or ""

    def come_to(self, name: str, holder: str, place: str) -> None:
        """Note how far a duty has come, if one still holds it."""
        self._connection.execute(
            duties.update().where(duties.c.name == name, duties.c.holder == holder).values(place=place)
        )

    def release(self, name: str, holder: str) -> None:
        """Let others have a duty at once."""
        self._connection.execute(
            duties.update()
            .where(duties.c.name == name, duties.c.holder == holder)
            .values(holder="", lease_until=0)
        )
