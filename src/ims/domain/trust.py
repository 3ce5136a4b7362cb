"""Whom a tenant trusts: what it says, once, of what others may share with it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ims.domain.tenant import Region, TenantId


class Attitude(StrEnum):
    """What a tenant thinks of an owner of images."""

    AUTO_ACCEPT = "AUTO_ACCEPT"
    """What it shares is accepted at once."""
    BLOCK = "BLOCK"
    """What it shares is not even seen."""


@dataclass(frozen=True, kw_only=True)
class TrustRules:
    """All the rules of a tenant."""

    auto_accept_from: tuple[TenantId, ...] = ()
    blocked: tuple[TenantId, ...] = ()
    max_pending_shares: int | None = None
    """How many pending shares it tolerates; None: as many as the deployment says."""
    version: int = 0
    """Grows with each change; 0 as long as there was none."""

    @property
    def etag(self) -> str:
        return f'"{self.version}"'


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What a recipient's rules say of one owner."""

    attitude: Attitude | None = None
    home: Region | None = None
    """Where the recipient was at home when it made its rules."""
    max_pending_shares: int | None = None

    def most_pending(self, default: int | None) -> int | None:
        """Return how many pending shares the recipient tolerates, None being any number.

        `default` is what the deployment says of those that do not say it themselves.
        """
        return default if self.max_pending_shares is None else self.max_pending_shares


NO_RULES: Final = Trust()
