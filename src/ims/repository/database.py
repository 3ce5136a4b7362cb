"""The engine, the two ways to talk to it (reading and writing), and what both begin with."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from ims.domain.rejection import Category, Reason, reject
from ims.repository.images import ImageRepository
from ims.repository.pending_blobs import PendingBlobs
from ims.repository.shares import ShareRepository
from ims.repository.tables import metadata

SQLITE_BUSY_TIMEOUT_SECONDS = 30


class Reading:
    """Reads records; each statement sees what is committed when it runs."""

    def __init__(self, connection: sa.Connection) -> None:
        self.images = ImageRepository(connection)
        self.shares = ShareRepository(connection)
        self.pending_blobs = PendingBlobs(connection)


class Transaction(Reading):
    """Reads records that nobody else can change meanwhile, and is the one in which they are written.

    `images.lock` takes the one lock there is: on the image whose disks or shares are judged.
    """


class UnusableDatabase(Exception):
    """No catalogue can be kept there; the message is for the operator."""


class Database:
    """The catalogue of images. Raises UnusableDatabase when it cannot be kept at an address."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._connections = threading.local()
        # SQLite has one writer at a time. Those who wait for it here are woken when it is free; its own
        # busy handler only looks again now and then, and under load a few would never get in.
        self._writing = threading.Lock()
        with _foreign_errors():
            metadata.create_all(self._engine)

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """Read without a transaction, on a connection that is kept for this thread."""
        with _foreign_errors():
            try:
                yield self._reading()
            except DBAPIError:
                self._forget_connection()
                raise

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Commit what the block did when it ends well; undo it when it does not."""
        with _foreign_errors(), self._writing, self._engine.begin() as connection:
            yield Transaction(connection)

    def close(self) -> None:
        """Let go of every connection; the database is not used after it."""
        self._forget_connection()
        self._engine.dispose()

    def _reading(self) -> Reading:
        reading: Reading | None = getattr(self._connections, "reading", None)
        if reading is None:
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            reading = Reading(connection)
            self._connections.connection, self._connections.reading = connection, reading
        return reading

    def _forget_connection(self) -> None:
        connection: sa.Connection | None = getattr(self._connections, "connection", None)
        if connection is not None:
            connection.invalidate()
            connection.close()
            self._connections.connection = self._connections.reading = None


def _engine(url: str) -> sa.Engine:
    try:
        backend = sa.make_url(url).get_backend_name()
    except ArgumentError as error:
        raise UnusableDatabase("the address of the database is not understood") from error
    if backend != "sqlite":
        raise UnusableDatabase(f"the catalogue is kept in SQLite, not in {backend}")
    engine = sa.create_engine(url, pool_size=64, max_overflow=-1, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # Without this the driver opens a transaction only at the first write, and what was read before it
    # may have changed by then.
    connection.isolation_level = None
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",  # what was acknowledged survives a power cut
        "foreign_keys = ON",
        f"busy_timeout = {SQLITE_BUSY_TIMEOUT_SECONDS * 1000}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def _foreign_errors() -> Iterator[None]:
    """Turn a database that cannot answer into a rejection of ours; every other error is a bug."""
    try:
        yield
    except (OperationalError, PoolTimeoutError) as error:
        raise reject(
            Category.UNAVAILABLE,
            Reason.CATALOGUE_UNAVAILABLE,
            "The catalogue cannot be reached just now; try again.",
        ) from error
