"""Statements of the hottest calls, made into SQL once and run by the database's driver itself."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

Rows = list[tuple[Any, ...]]

KEPT_CURSOR: Final = "kept cursor"
"""What a connection's record calls its one cursor, where making one costs as much as a small query."""


class Statement:
    """A statement whose SQL is made once for each kind of database.

    The toolkit's own way to the driver and back costs as much as the smallest query itself. Rows are
    tuples of what the driver returns: times and words are not made into ours.
    """

    def __init__(self, query: sa.Select[Any] | sa.Insert) -> None:
        self._query = query
        self._made: dict[str, _Made] = {}

    def rows(self, connection: sa.Connection, parameters: Mapping[str, Any]) -> Rows:
        """Return all rows. Raises DBAPIError like the toolkit."""
        with _told_by_the_toolkit(connection, self) as driver:
            rows: Rows = self._execute(driver, connection.dialect, parameters).fetchall()
        return rows

    def run(self, connection: sa.Connection, parameters: Mapping[str, Any]) -> None:
        """Execute it for what it does. Raises DBAPIError like the toolkit."""
        with _told_by_the_toolkit(connection, self) as driver:
            self._execute(driver, connection.dialect, parameters)

    def _execute(self, driver: Any, dialect: sa.Dialect, parameters: Mapping[str, Any]) -> Any:  # noqa: ANN401
        sql, order, constants = self._made.get(dialect.name) or self._make(dialect)
        values = {**constants, **parameters}
        return driver.execute(sql, values if order is None else [values[name] for name in order])

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


def run_sql(connection: sa.Connection, sql: str, **options: Any) -> None:  # noqa: ANN401 - the driver's
    """Execute SQL that takes no parameters, as it is. Raises DBAPIError like the toolkit."""
    with _told_by_the_toolkit(connection, sql) as driver:
        driver.execute(sql, **options)


class _told_by_the_toolkit:  # noqa: N801 - reads as a clause of the with statement
    """Gives the driver to the block, for one statement, and makes its errors the toolkit's."""

    def __init__(self, connection: sa.Connection, statement: "Statement | str") -> None:
        self._dialect = connection.dialect
        record = connection.connection
        self._driver: Any = record.dbapi_connection
        self._executes: Any = record.info.get(KEPT_CURSOR, self._driver)
        self._statement = statement

    def __enter__(self) -> Any:  # noqa: ANN401 - drivers have no type in common
        return self._executes

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        dialect, statement = self._dialect, self._statement
        if not isinstance(error, dialect.loaded_dbapi.Error):
            return
        raise DBAPIError.instance(
            statement if isinstance(statement, str) else statement.sql(dialect),
            None,
            error,
            dialect.loaded_dbapi.Error,
            hide_parameters=True,
            connection_invalidated=dialect.is_disconnect(error, self._driver, None),
            dialect=dialect,
        ) from error


class _Made(NamedTuple):
    sql: str
    order: tuple[str, ...] | None
    """The names of the parameters in their order; None where the driver takes them by name."""
    constants: dict[str, Any]
    """The parameters that are the query's own."""
