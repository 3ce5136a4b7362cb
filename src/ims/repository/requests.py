"""Calls that were accepted, each with its first answer."""

from datetime import datetime
from functools import cache

import sqlalchemy as sa

from ims.domain.repetition import RememberedCall, RepeatableCall
from ims.repository.tables import requests
from ims.repository.times import to_microseconds
from ims.repository.upsert import upsert_into

_KEY = (
    requests.c.tenant_id == sa.bindparam("tenant"),
    requests.c.request_id == sa.bindparam("request"),
)
_FIND = sa.select(requests.c.method, requests.c.digest, requests.c.answer).where(
    *_KEY, requests.c.expire_time > sa.bindparam("now")
)
_ANSWER = sa.update(requests).where(*_KEY).values(answer=sa.bindparam("first_answer"))
_EXPIRED = (
    sa.select(requests.c.tenant_id, requests.c.request_id)
    .where(requests.c.expire_time <= sa.bindparam("now"))
    .limit(sa.bindparam("most"))
)
_FORGET = sa.delete(requests).where(sa.tuple_(requests.c.tenant_id, requests.c.request_id).in_(_EXPIRED))


@cache
def _claim(dialect_name: str) -> sa.sql.dml.ReturningInsert[tuple[str]]:
    insert = upsert_into(requests, dialect_name)
    # An expired row is taken over; one that is not is left alone, and no row is returned.
    given = insert.excluded
    return insert.on_conflict_do_update(
        index_elements=["tenant_id", "request_id"],
        set_={
            "method": given.method,
            "digest": given.digest,
            "answer": None,
            "expire_time": given.expire_time,
        },
        where=requests.c.expire_time <= sa.bindparam("now"),
    ).returning(requests.c.request_id)


class Requests:
    """What is remembered of calls that carried a request id."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def claim(self, call: RepeatableCall, *, now: datetime, until: datetime) -> bool:
        """Take a request id for a call that is still to be answered; tell whether it was free.

        Whoever else claims it waits until this transaction ends.
        """
        values = {
            "tenant_id": call.tenant_id,
            "request_id": call.request_id,
            "method": call.method,
            "digest": call.digest,
            "answer": None,
            "expire_time": to_microseconds(until),
            "now": to_microseconds(now),
        }
        claim = _claim(self._connection.dialect.name)
        return self._connection.execute(claim, values).first() is not None

    def answer(self, call: RepeatableCall, answer: bytes) -> None:
        """Remember the answer of a call whose request id was claimed in this transaction."""
        self._connection.execute(
            _ANSWER, {"tenant": call.tenant_id, "request": call.request_id, "first_answer": answer}
        )

    def find(self, call: RepeatableCall, *, now: datetime) -> RememberedCall | None:
        """Return the call that a request id belongs to; None when it is free."""
        keys = {
            "tenant": call.tenant_id,
            "request": call.request_id,
            "now": to_microseconds(now),
        }
        row = self._connection.execute(_FIND, keys).first()
        if row is None:
            return None
        return RememberedCall(method=row.method, digest=row.digest, answer=row.answer)

    def expired(self, *, now: datetime) -> int:
        """Return how many calls are on record that are remembered no longer."""
        expired = requests.c.expire_time <= to_microseconds(now)
        query = sa.select(sa.func.count()).select_from(requests).where(expired)
        return self._connection.execute(query).scalar_one()

    def forget(self, *, now: datetime, most: int) -> int:
        """Remove calls that are remembered no longer; return how many there were, `most` at the most."""
        return self._connection.execute(_FORGET, {"now": to_microseconds(now), "most": most}).rowcount
