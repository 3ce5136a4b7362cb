"""Who calls, in the words of the wire."""

import json
import threading
import time
from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote, urlencode

FETCH_SECONDS: Final = 10.0
"""How long an issuer may take for a token."""
MAX_ANSWER_BYTES: Final = 256 * 1024
_RENEWED_BEFORE: Final = 0.1
"""In which last part of its life a token is replaced by a new one."""


class NoToken(Exception):
    """There is no token to call with; the message says why."""


class Credentials(Protocol):
    """Says to the server who calls."""

    @property
    def secret(self) -> bool:
        """Whether whoever reads what is said can say the same; then it goes over TLS only."""

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what every call carries; asked anew for each, so that it may change meanwhile."""


class DevelopmentIdentity:
    """Credentials that claim and prove nothing; servers believe them on their own machine only."""

    secret = False

    def __init__(
        self, tenant: str, *, user: str = "", roles: Iterable[str] = (), region: str = ""
    ) -> None:
        """Claim an identity. Raises ValueError for all but printable ASCII: the wire cannot carry it."""
        claims = {
            "ims-tenant": tenant,
            "ims-user": user,
            "ims-roles": ",".join(roles),
            "ims-region": region,
        }
        for key, value in claims.items():
            if not (value.isascii() and value.isprintable()):
                what = key.removeprefix("ims-")
                raise ValueError(f"The {what} {value!r} has other characters than printable ASCII.")
        self._metadata = tuple((key, value) for key, value in claims.items() if value)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata


class CertificateOnly:
    """Credentials that say nothing: the client certificate of the connection says who calls."""

    secret = False

    def metadata(self) -> tuple[tuple[str, str], ...]:
        return ()


class Token:
    """A token that an issuer has given out."""

    secret = True

    def __init__(self, token: str) -> None:
        """Take a token. Raises ValueError for what the wire cannot carry as one."""
        self._metadata = _bearer(token, "The token")

    def metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata


class TokenFile:
    """A token in a file, for instance one that the platform keeps fresh; a change of it is noticed."""

    secret = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: tuple[tuple[int, int], tuple[tuple[str, str], ...]] | None = None

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what every call carries. Raises NoToken where the file holds none."""
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_size)
            if self._read is None or self._read[0] != seen:
                self._read = (seen, _bearer(self._path.read_text(), f"The token in {self._path}"))
        except (OSError, ValueError) as error:
            raise NoToken(f"There is no token in {self._path}: {error}") from error
        return self._read[1]


class ClientCredentials:
    """Tokens that an issuer gives to a program for its own id and secret (RFC 6749, 4.4).

    A new one is fetched in good time before the one at hand expires, by one thread for all.
    """

    secret = True

    def __init__(
        self, token_url: str, client_id: str, client_secret: str, *, scope: str = "", audience: str = ""
    ) -> None:
        """Take where tokens are, and what they are given for.

        Raises ValueError for an address without TLS that is not on this machine.
        """
        if not token_url.startswith(("https://", *_ON_THIS_MACHINE)):
            raise ValueError(
                f"The secret would be sent to {token_url} for everybody to read: use https."
            )
        self._token_url = token_url
        self._asked = urlencode(
            {
                "grant_type": "client_credentials",
                **({"scope": scope} if scope else {}),
                **({"audience": audience} if audience else {}),
            }
        ).encode()
        self._login = _basic(client_id, client_secret)
        self._lock = threading.Lock()
        self._metadata: tuple[tuple[str, str], ...] = ()
        self._renew_at = -float("inf")
        self._expires_at = -float("inf")

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what every call carries. Raises NoToken where the issuer gives none."""
        if time.monotonic() < self._renew_at:
            return self._metadata
        with self._lock:
            if time.monotonic() >= self._renew_at:
                self._renew()
        return self._metadata

    def _renew(self) -> None:
        begun = time.monotonic()
        try:
            answer = self._fetch()
            token, lifetime = answer["access_token"], float(answer.get("expires_in", 60))
            metadata = _bearer(token, "The issuer's token")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if begun < self._expires_at:
                self._renew_at = min(begun + 1, self._expires_at)  # the one at hand still serves
                return
            raise NoToken(f"{self._token_url} gives no token: {error!r}") from error
        self._metadata = metadata
        self._expires_at = begun + lifetime
        self._renew_at = begun + lifetime * (1 - _RENEWED_BEFORE)

    def _fetch(self) -> dict[str, Any]:
        # Seldom needed, and slow to import for a command that ends at once.
        import urllib.request  # noqa: PLC0415 - see above
        from http.client import HTTPException  # noqa: PLC0415 - see above
        from urllib.error import HTTPError  # noqa: PLC0415 - see above

        request = urllib.request.Request(  # noqa: S310 - the scheme is looked at when it is given
            self._token_url,
            data=self._asked,
            headers={"authorization": self._login, "accept": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=FETCH_SECONDS) as answer:  # noqa: S310 - likewise
                said: dict[str, Any] = json.loads(answer.read(MAX_ANSWER_BYTES))
        except HTTPError as error:
            error.close()  # it is the answer, too
            raise
        except HTTPException as error:
            raise OSError(str(error)) from error
        return said


_ON_THIS_MACHINE: Final = tuple(
    f"http://{host}{end}" for host in ("127.0.0.1", "localhost", "[::1]") for end in (":", "/")
)


def _basic(client_id: str, client_secret: str) -> str:
    login = f"{quote(client_id, safe='')}:{quote(client_secret, safe='')}"
    return f"Basic {b64encode(login.encode()).decode()}"


def _bearer(token: object, what: str) -> tuple[tuple[str, str], ...]:
    token = token.strip() if isinstance(token, str) else ""
    # Never the token itself: this may end in a log.
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(f"{what} is empty, or has characters that no token has.")
    return (("authorization", f"Bearer {token}"),)
