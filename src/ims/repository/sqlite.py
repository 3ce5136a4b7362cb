"""The catalogue in an SQLite file: the embedded default."""

import fcntl
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, cast

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import NullPool

from ims.repository.statement import run_sql

_LOOK_SECONDS: Final = 0.001


class SqliteBackend:
    """An SQLite file: many readers beside one writer at a time."""

    embedded: Final = True

    def __init__(self, url: sa.URL) -> None:
        self._engine = sa.create_engine(
            url, poolclass=NullPool, isolation_level="AUTOCOMMIT", hide_parameters=True
        )
        event.listen(self._engine, "connect", _prepare)
        # A file in memory is one connection's own, and nobody waits for it.
        self._turn = _Turn(Path(url.database)) if url.database and url.database != ":memory:" else None

    def connect(self, seconds: float) -> sa.Connection:  # noqa: ARG002 - a file is there or not
        return self._engine.connect()

    @contextmanager
    def queue(self, seconds: float) -> Iterator[None]:
        if self._turn is None:
            yield
            return
        with self._turn.taken(seconds):
            yield

    def begin(self, connection: sa.Connection, seconds: float) -> None:  # noqa: ARG002 - it had its turn
        # At once, not at the first write: what was read before it may have changed by then.
        run_sql(connection, "BEGIN IMMEDIATE")

    def close(self) -> None:
        if self._turn is not None:
            self._turn.close()
        self._engine.dispose()

    def cut(self, connection: sa.Connection) -> None:
        cast("sqlite3.Connection", connection.connection.dbapi_connection).interrupt()


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    for pragma in (
        # First, since the next one has to wait as well when several open a new file at once.
        f"busy_timeout = {_BUSY_TIMEOUT_MILLISECONDS}",
        "journal_mode = WAL",
        "synchronous = FULL",  # what was acknowledged survives a power cut
        "foreign_keys = ON",
        # Pages come from the system's memory without a call and a copy for each: a walk through a large
        # catalogue leaves SQLite's own cache, of 2 MB a connection, again and again.
        f"mmap_size = {_MAPPED_BYTES}",
    ):
        connection.execute(f"PRAGMA {pragma}")


# Writers wait for their turn elsewhere; this is for whoever meets a checkpoint, a backup or a shell.
_BUSY_TIMEOUT_MILLISECONDS: Final = 5000
_MAPPED_BYTES: Final = 1024**3
"""How much of the file is mapped at the most; address space, and no memory until it is read."""


class _Turn:
    """The turn to write, among the threads of this process and the processes on this file.

    SQLite's own busy handler looks again now and then, at longer and longer intervals: under load a few
    would never get in. Here a process that waits for `writer` holds `next`, so that whoever writes now
    cannot come before it again.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._threads = threading.Lock()
        self._files: tuple[BinaryIO, BinaryIO] | None = None

    @contextmanager
    def taken(self, seconds: float) -> Iterator[None]:
        until = time.monotonic() + seconds
        if not self._threads.acquire(timeout=max(0, seconds)):
            raise TimeoutError
        try:
            following, writing = self._opened()
            with _locked(following, until):
                _lock(writing, until)
            try:
                yield
            finally:
                fcntl.flock(writing, fcntl.LOCK_UN)
        finally:
            self._threads.release()

    def close(self) -> None:
        for file in self._files or ():
            file.close()
        self._files = None

    def _opened(self) -> tuple[BinaryIO, BinaryIO]:
        # In each process by itself: what is locked through a file opened before a fork, all hold.
        if self._files is None:
            path = self._database
            self._files = (
                path.with_name(f"{path.name}-next").open("ab"),
                path.with_name(f"{path.name}-writer").open("ab"),
            )
        return self._files


@contextmanager
def _locked(file: BinaryIO, until: float) -> Iterator[None]:
    _lock(file, until)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _lock(file: BinaryIO, until: float) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise TimeoutError from None
            time.sleep(_LOOK_SECONDS)
        else:
            return
