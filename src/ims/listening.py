"""The address that a service listens on: held against strangers, open to the service's own workers."""

import errno
import socket
from contextlib import ExitStack
from typing import Final, Self

from ims.settings import SettingsError

_ATTEMPTS: Final = 16
_PORTS: Final = range(2**16)
_WILDCARDS: Final = {"0.0.0.0", "::", ""}  # noqa: S104 - recognised here, not bound to
_NOT_OF_THIS_MACHINE: Final = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


class HeldAddress:
    """An address and port on which this process alone decides who listens.

    With SO_REUSEPORT every program of the same user could listen beside us without a word, a second
    service of ours among them. So the port is taken without it first, which fails where anybody has it;
    only then, and without ever listening, the socket lets others in beside it.
    """

    def __init__(self, listen: str) -> None:
        """Take the address, with any free port for port 0. Raises SettingsError when it is taken."""
        self._sockets = ExitStack()
        host, _, port = listen.rpartition(":")
        try:
            self.port = self._take(host.strip("[]"), int(port))
        except (OSError, ValueError) as error:
            message = f"cannot listen on {listen}: in use, or no address of this machine"
            raise SettingsError(message) from error
        self.listen = f"{host}:{self.port}"
        """What was asked for, with the port that it came to be."""

    def _take(self, host: str, port: int) -> int:
        # A name can have several addresses, and the port that is free at the first need not be at all.
        if port not in _PORTS:
            raise ValueError("There is no such port.")
        for _ in range(_ATTEMPTS if port == 0 else 1):
            try:
                return self._take_all(host, port)
            except OSError as error:
                self._sockets.close()
                if error.errno != errno.EADDRINUSE:
                    raise
                taken = error
        raise taken

    def _take_all(self, host: str, port: int) -> int:
        if host in _WILDCARDS and socket.has_dualstack_ipv6():
            # gRPC listens for IPv4 and IPv6 alike when it is told either of "all addresses".
            return self._take_one(socket.AF_INET6, ("::", port), dual=True)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        missing: OSError | None = None
        held = 0
        for family, _, _, _, address in found:
            try:
                held = self._take_one(family, (address[0], held or port, *address[2:]))
            except OSError as error:
                if error.errno not in _NOT_OF_THIS_MACHINE:
                    raise
                missing = error
        if not held and missing:
            raise missing
        return held

    def _take_one(self, family: int, address: tuple[object, ...], *, dual: bool = False) -> int:
        taken = self._sockets.enter_context(socket.socket(family, socket.SOCK_STREAM))
        if family == socket.AF_INET6:
            taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
        # Connections of an earlier service that are still fading away are no reason to wait, …
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
        # … but a second service that takes the port in the same way is one to be refused.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        port: int = taken.getsockname()[1]
        return port

    def close(self) -> None:
        """Let go of the address here; other processes that have it keep it."""
        self._sockets.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
