"""Where the service may fetch from: how such a URL is written, and which addresses are public."""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urljoin

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

DEFAULT_PORTS: Final = {"https": 443, "http": 80}
MAX_URL_CHARACTERS: Final = 4096
_MAX_NAME_CHARACTERS: Final = 253
_MAX_PORT: Final = 65535

# Everything that two readers could understand differently is left out: user names, backslashes,
# percent signs and letters beyond ASCII in a host, an empty port, a port with zeros before it.
_HOST: Final = r"\[[0-9a-f:.]{2,45}\]|[a-z0-9.-]{1,253}"
_PORT: Final = r"[1-9][0-9]{0,4}"
_URL: Final = re.compile(
    rf"(?P<scheme>https?)://(?P<host>{_HOST})(?::(?P<port>{_PORT}))?"
    r"(?P<target>[/?][!#-;=?-\[\]_a-z~]*)?",
    re.ASCII | re.IGNORECASE,
)
_OPENED: Final = re.compile(rf"(?P<host>{_HOST})(?::(?P<port>{_PORT}))?", re.ASCII | re.IGNORECASE)
_REFERENCE: Final = re.compile(r"[!#-;=?-\[\]_a-z~]{1,4096}", re.ASCII | re.IGNORECASE)
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
# What the old ways of writing an IPv4 address end in: 127.1, 2130706433, 0x7f.1, 0177.0.0.1.
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)

_NOT_PUBLIC_V4: Final = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' own; one cloud has its metadata there
        "127.0.0.0/8",
        "168.63.129.16/32",  # looks public, and is a cloud's own service on every one of its servers
        "169.254.0.0/16",  # metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # relays into IPv6
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_V6: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # Teredo, ORCHID, benchmarks
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address is inside
        "3fff::/20",
    )
)
# An IPv4 address stands in the last 32 bits of these as well (ISATAP).
_ISATAP: Final = frozenset({0x0000_5EFE, 0x0200_5EFE})


class BadAddress(ValueError):
    """A URL or host that is not written as it has to be; says nothing more."""


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where a file is: a URL taken apart, so that nobody needs to read it a second time."""

    scheme: str
    """"https" or "http"."""
    host: str
    """A name in lower case, or an address as it is written shortest, without brackets."""
    port: int
    target: str
    """The path and the query, "/" at least. May hold a secret: it is never logged."""

    @property
    def address(self) -> Address | None:
        """The address that the URL names; None when it names a host."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    @property
    def authority(self) -> str:
        """Host and port as a request names them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    def redirected(self, reference: str) -> "Location":
        """Return where the Location header of an answer leads; its fragment is dropped.

        Raises BadAddress.
        """
        if not _REFERENCE.fullmatch(reference):
            raise BadAddress
        try:
            url = urljoin(self.url, reference.partition("#")[0])
        except ValueError as error:
            raise BadAddress from error
        return parse_url(url)


def parse_url(url: str) -> Location:
    """Take apart an http or https URL that is written plainly, in at most 4096 characters.

    A user name, a fragment, a host in any but its usual spelling (an IPv4 address as four decimal
    numbers, an IPv6 address in brackets, a name of ASCII letters), and a character that ought to be
    percent-encoded are refused. Raises BadAddress.
    """
    found = _URL.fullmatch(url)
    if found is None or len(url) > MAX_URL_CHARACTERS:
        raise BadAddress
    scheme = found["scheme"].lower()
    target = found["target"] or "/"
    if "#" in target:
        raise BadAddress
    return Location(
        scheme=scheme,
        host=_host(found["host"]),
        port=_port(found["port"]) or DEFAULT_PORTS[scheme],
        target=target if target.startswith("/") else f"/{target}",
    )


@dataclass(frozen=True)
class OpenHosts:
    """The hosts that the operator has opened: they may be private, and may be asked over http."""

    _opened: frozenset[tuple[str, int | None]] = frozenset()

    @classmethod
    def named(cls, names: Iterable[str]) -> Self:
        """Open the hosts of these names, "host" or "host:port"; an IPv6 address stands in brackets.

        A name without a port opens the port of the URL's scheme only. Raises BadAddress.
        """
        return cls(frozenset(_opened(name) for name in names))

    def __contains__(self, location: Location) -> bool:
        port = None if location.port == DEFAULT_PORTS[location.scheme] else location.port
        return bool({(location.host, port), (location.host, location.port)} & self._opened)


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet, with nothing else hidden inside.

    False for private, shared, loopback, link-local, multicast, reserved and documentation
    addresses, and for each kind of IPv6 address that holds an IPv4 address.
    """
    if isinstance(address, ipaddress.IPv4Address):
        # The list is ours, since the library's differs from one version of Python to the next.
        return address.is_global and not any(address in network for network in _NOT_PUBLIC_V4)
    return (
        address.scope_id is None
        and address.is_global
        and address in _GLOBAL_UNICAST
        and not any(address in network for network in _NOT_PUBLIC_V6)
        and (int(address) >> 32) & 0xFFFF_FFFF not in _ISATAP
    )


def _opened(name: str) -> tuple[str, int | None]:
    found = _OPENED.fullmatch(name)
    if found is None:
        raise BadAddress
    return _host(found["host"]), _port(found["port"])


def _host(text: str) -> str:
    host = text.lower()
    try:
        if host.startswith("["):
            return str(ipaddress.IPv6Address(host[1:-1]))
        labels = host.split(".")
        if _NUMBER.fullmatch(labels[-1]):
            return str(ipaddress.IPv4Address(host))
    except ValueError as error:
        raise BadAddress from error
    if len(host) > _MAX_NAME_CHARACTERS or not all(map(_LABEL.fullmatch, labels)):
        raise BadAddress
    return host


def _port(text: str | None) -> int | None:
    if text is None:
        return None
    if int(text) > _MAX_PORT:
        raise BadAddress
    return int(text)
