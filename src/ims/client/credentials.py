"""Who calls, in the words of the wire."""

from collections.abc import Iterable
from typing import Protocol


class Credentials(Protocol):
    """Says to the server who calls."""

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what every call carries; asked anew for each, so that it may change meanwhile."""


class DevelopmentIdentity:
    """Credentials that claim and prove nothing; servers believe them on their own machine only."""

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
