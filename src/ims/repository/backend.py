"""What is different between the databases that a catalogue can be kept in."""

from contextlib import AbstractContextManager
from typing import Protocol

import sqlalchemy as sa


class Backend(Protocol):
    """One kind of database: how to connect, how a writing transaction begins, how a wait is ended."""

    @property
    def embedded(self) -> bool:
        """Whether the database is this deployment's own file, which it may migrate unasked."""

    def connect(self, seconds: float) -> sa.Connection:
        """Connect within about so many seconds.

        What is executed is committed at once; transactions are begun by `begin`.
        """

    def queue(self, seconds: float) -> AbstractContextManager[None]:
        """Hold the right to write for the block, where only one can.

        Raises TimeoutError when it was not to be had within so many seconds, and OSError when it cannot
        be had at all.
        """

    def begin(self, connection: sa.Connection, seconds: float) -> None:
        """Begin a writing transaction of which no statement takes longer than so many seconds."""

    def close(self) -> None:
        """Let go of everything but the connections, which are their threads'."""

    def cut(self, connection: sa.Connection) -> None:
        """End, from another thread, whatever the connection is waiting for."""


class UnusableDatabase(Exception):
    """No catalogue can be kept there; the message is for the operator."""
