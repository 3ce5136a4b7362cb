"""The catalogue in PostgreSQL, for many instances of the service."""

import math
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from ims.repository.backend import UnusableDatabase
from ims.repository.statement import KEPT_CURSOR, run_sql

_IDLE_IN_TRANSACTION_SECONDS: Final = 60
"""After how long the server itself ends the transaction of an instance that has frozen in it."""


class PostgresqlBackend:
    """A PostgreSQL server, from version 13 on, through psycopg 3."""

    embedded: Final = False

    def __init__(self, url: sa.URL, *, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        try:
            self._engine = sa.create_engine(
                url.set(drivername="postgresql+psycopg"),
                poolclass=NullPool,
                isolation_level="AUTOCOMMIT",
                hide_parameters=True,
            )
        except ModuleNotFoundError as error:
            message = "PostgreSQL needs the extra: pip install 'ims[postgres]'"
            raise UnusableDatabase(message) from error
        self._connecting = _Connecting()
        event.listen(self._engine, "do_connect", self._hurry)
        event.listen(self._engine, "connect", self._prepare)

    def connect(self, seconds: float) -> sa.Connection:
        self._connecting.seconds = seconds
        return self._engine.connect()

    def _hurry(self, _dialect: object, _record: object, _args: object, details: dict[str, Any]) -> None:
        # In whole seconds, of which the driver takes two at the least.
        details["connect_timeout"] = max(2, int(self._connecting.seconds))

    def _prepare(self, connection: Any, record: ConnectionPoolEntry) -> None:  # noqa: ANN401 - psycopg's
        # For what is read outside a transaction; a transaction sets its own.
        connection.autocommit = True
        milliseconds = _milliseconds(self._patience_seconds)
        idle = _milliseconds(_IDLE_IN_TRANSACTION_SECONDS)
        connection.execute(
            f"SET statement_timeout = {milliseconds}; SET idle_in_transaction_session_timeout = {idle};"
            # Every call is for a few rows, which an index has in the order asked for: whatever the
            # planner believes of how many there are, it is not to look at everything, nor to sort it.
            " SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;"
            " SET enable_sort = off; SET enable_bitmapscan = off;"
            " SET max_parallel_workers_per_gather = 0",
            prepare=False,
        )
        record.info[KEPT_CURSOR] = connection.cursor()

    @contextmanager
    def queue(self, seconds: float) -> Iterator[None]:  # noqa: ARG002 - rows are locked, not the catalogue
        yield

    def begin(self, connection: sa.Connection, seconds: float) -> None:
        if seconds == self._patience_seconds:
            run_sql(connection, "BEGIN")
            return
        # Two statements on one way to the server; the driver would in time prepare them, which fails.
        timeout = f"SET LOCAL statement_timeout = {_milliseconds(seconds)}"
        run_sql(connection, f"BEGIN; {timeout}", prepare=False)

    def close(self) -> None:
        self._engine.dispose()

    def cut(self, connection: sa.Connection) -> None:
        raw: Any = connection.connection.dbapi_connection
        # Not cancelled: that asks the server, which may be the one that does not answer.
        with socket.socket(fileno=raw.fileno()) as waiting_on:
            waiting_on.shutdown(socket.SHUT_RDWR)
            waiting_on.detach()


class _Connecting(threading.local):
    """What a thread that connects has in mind."""

    seconds: float = 0


def _milliseconds(seconds: float) -> int:
    return max(1, math.ceil(seconds * 1000))
