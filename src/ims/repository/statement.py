"""Statements of the hottest calls, made into SQL once and run by the database's driver itself."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

Rows = list[tuple[Any, ...]]


class Statement:
    """A query whose SQL is made once for each kind of database.

    The toolkit's own way to the driver and back costs as much as the smallest query itself. Rows are
    tuples of what the driver returns: times and words are not made into ours.
    """

    def __init__(self, query: sa.Select[Any]) -> None:
        self._query = query
        self._made: dict[str, _Made] = {}

    def rows(self, connection: sa.Connection, parameters: Mapping[str, Any]) -> Rows:
        """Return all rows. Raises DBAPIError like the toolkit."""
        dialect = connection.dialect
        sql, order, constants = self._made.get(dialect.name) or self._make(dialect)
        driver: Any = connection.connection.dbapi_connection
        values = {**constants, **parameters}
        try:
            found = driver.execute(sql, values if order is None else [values[name] for name in order])
            rows: Rows = found.fetchall()
        except dialect.loaded_dbapi.Error as error:
            raise DBAPIError.instance(
                sql,
                None,
                error,
                dialect.loaded_dbapi.Error,
                hide_parameters=True,
                connection_invalidated=dialect.is_disconnect(error, driver, None),
                dialect=dialect,
            ) from error
        return rows

    def sql(self, dialect: sa.Dialect) -> str:
        """Return what is run."""
        return (self._made.get(dialect.name) or self._make(dialect)).sql

    def _make(self, dialect: sa.Dialect) -> "_Made":
        compiled: Any = self._query.compile(dialect=dialect)
        made = self._made[dialect.name] = _Made(
            sql=str(compiled),
            order=tuple(compiled.positiontup) if compiled.positional else None,
            constants={
                name: str(value) if isinstance(value, StrEnum) else value
                for name, value in compiled.params.items()
                if value is not None
            },
        )
        return made


class _Made(NamedTuple):
    sql: str
    order: tuple[str, ...] | None
    """The names of the parameters in their order; None where the driver takes them by name."""
    constants: dict[str, Any]
    """The parameters that are the query's own."""
