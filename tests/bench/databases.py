"""The databases that catalogues are kept in: SQLite files, and a real PostgreSQL from a wheel."""

from pathlib import Path

import sqlalchemy as sa

from bench.processor import children
from databases import Postgres
from ims.repository.database import Database

KINDS = ("SQLite", "PostgreSQL")

# Otherwise as it comes: what it acknowledged is on the disk.
_CONFIGURATION = """
max_connections = 300
"""


class Databases:
    """Gives databases; starts PostgreSQL when the first one there is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._postgres: Postgres | None = None
        self._urls: dict[tuple[str, str], str] = {}

    def url(self, kind: str, name: str) -> str:
        """Return the address of the database of a kind with a name, the first time a new one."""
        if (kind, name) not in self._urls:
            sqlite = f"sqlite:///{self._folder / name}.sqlite3"
            url = sqlite if kind == "SQLite" else self._postgresql().new_database()
            database = Database(url)
            database.migrate()
            database.close()
            self._urls[kind, name] = url
        return self._urls[kind, name]

    @property
    def postgresql_log(self) -> Path:
        return Path(self._postgresql()._server.log)

    def processes(self, kind: str) -> list[int]:
        """Return the processes that a kind of database has of its own."""
        return [] if kind == "SQLite" else children(self._postgresql()._server.get_pid())

    def close(self) -> None:
        if self._postgres is not None:
            self._postgres.close()

    def _postgresql(self) -> Postgres:
        if self._postgres is None:
            self._postgres = Postgres(_CONFIGURATION)
        return self._postgres


def engine_of(url: str) -> sa.Engine:
    """Return what the benchmark itself talks to a database with."""
    address = sa.make_url(url)
    if address.get_backend_name() == "postgresql":
        address = address.set(drivername="postgresql+psycopg")
    return sa.create_engine(address)
