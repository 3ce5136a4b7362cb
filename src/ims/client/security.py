"""How a connection is secured."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True, kw_only=True)
class Tls:
    """TLS to the server: whom to believe, and, where the server asks, who calls."""

    ca: Path | None = None
    """The authorities that the server's certificate may come from, PEM; left out, the system's."""
    certificate: Path | None = None
    """The client's certificate with its chain, PEM."""
    key: Path | None = None
    """Its private key, PEM."""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("A client certificate and its key go together.")

    def credentials(self) -> grpc.ChannelCredentials:
        """Return what a channel is opened with. Raises ValueError where a file cannot be read."""
        return grpc.ssl_channel_credentials(
            root_certificates=_contents(self.ca),
            private_key=_contents(self.key),
            certificate_chain=_contents(self.certificate),
        )


def is_on_this_machine(server: str) -> bool:
    """Whether what is sent to `HOST:PORT` leaves this machine for none."""
    host = server.rpartition(":")[0].strip("[]")
    if server.startswith("unix:") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _contents(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
