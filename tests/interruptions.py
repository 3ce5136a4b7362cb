"""A line between a client and a server that breaks when a test says so."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

_PIECE_BYTES = 64 * 1024


class BreakingLine:
    """Carries bytes between clients and a server, and breaks each connection after so many of them.

    Counts what goes up (from clients) and down.
    """

    def __init__(self, target: str, *, breaks_after: Callable[[], int | None]) -> None:
        """`breaks_after` is asked for every connection: after how many bytes it breaks; None: never."""
        self.lead_to(target)
        self._breaks_after = breaks_after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.up_bytes = 0
        self.down_bytes = 0
        self.breaks = 0
        self._connections: list[_Connection] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(self._server)
                except OSError:
                    client.close()
                    continue
                self._connections.append(_Connection(self, client, server, self._breaks_after()))

    def lead_to(self, target: str) -> None:
        """Lead all further connections to a server."""
        host, _, port = target.rpartition(":")
        self._server = (host, int(port))

    def break_all(self) -> None:
        """Break all connections that there are."""
        for connection in self._connections:
            connection.end()
        self._connections.clear()


class _Connection:
    def __init__(
        self, line: BreakingLine, client: socket.socket, server: socket.socket, limit: int | None
    ) -> None:
        self._line = line
        self._ends = (client, server)
        self._left = limit
        self._lock = threading.Lock()
        for source, drain, name in ((client, server, "up_bytes"), (server, client, "down_bytes")):
            threading.Thread(target=self._carry, args=(source, drain, name), daemon=True).start()

    def _carry(self, source: socket.socket, drain: socket.socket, name: str) -> None:
        with suppress(OSError):
            while data := source.recv(_PIECE_BYTES):
                with self._lock:
                    if self._left is not None:
                        data = data[: max(0, self._left)]
                        self._left -= len(data)
                    broken = self._left is not None and self._left <= 0
                drain.sendall(data)
                setattr(self._line, name, getattr(self._line, name) + len(data))
                if broken:
                    self._line.breaks += 1
                    break
        self.end()

    def end(self) -> None:
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
