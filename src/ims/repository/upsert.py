"""The insert that may find its row there already, which each kind of database says in its own way."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

Upsert = sqlite.Insert | postgresql.Insert


def upsert_into(table: sa.Table, dialect_name: str) -> Upsert:
    """Return an insert that has `on_conflict_do_update` and `on_conflict_do_nothing`."""
    if dialect_name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)
