"""Who calls."""

from dataclasses import dataclass
from enum import StrEnum

from ims.domain.tenant import Region, TenantId


class Role(StrEnum):
    """What a caller may do; `rules/roles.py` says which RPCs that is."""

    READER = "reader"
    """Sees, resolves and downloads what its tenant may."""
    MEMBER = "member"
    """Acts for its tenant: also creates, changes, shares and accepts."""
    SERVICE = "service"
    """A compute, volume or backup service: declares origins and resolves for tenants it names."""
    ADMIN = "admin"
    """Runs the deployment: publishes images and takes them back; and what a reader may."""
    PEER = "peer"
    """The service of another region: brings copies of its images, for tenants that it names."""


@dataclass(frozen=True, kw_only=True)
class Caller:
    """A caller as some identity vouches for it; nothing in a request body changes it."""

    tenant_id: TenantId
    user_id: str = ""
    roles: frozenset[Role] = frozenset()
    region: Region
    """Where the caller's tenant is at home."""

    def has(self, role: Role) -> bool:
        return role in self.roles
