"""What all instances on one catalogue know, and no caller does."""

import os

import sqlalchemy as sa

_FIND = sa.text("SELECT value FROM secrets WHERE name = :name")
_ADD = sa.text("INSERT INTO secrets (name, value) VALUES (:name, :value) ON CONFLICT DO NOTHING")


class Secrets:
    """The secrets of the catalogue."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def get_or_make(self, name: str, *, size_bytes: int) -> bytes:
        """Return a secret; whoever asks for it first makes it."""
        self._connection.execute(_ADD, {"name": name, "value": os.urandom(size_bytes)})
        value: bytes = self._connection.execute(_FIND, {"name": name}).scalar_one()
        return value
