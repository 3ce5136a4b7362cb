"""Who the tenants are and where they are at home, as far as the operator has said so."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ims.domain.tenant import Region, Tenant, TenantId


@dataclass(frozen=True, kw_only=True)
class TenantDirectory:
    """The tenants that the settings name.

    An open directory takes every other tenant at its word, or for one of this region; a closed one
    knows no others.
    """

    home: Region
    closed: bool = False
    regions: Mapping[TenantId, Region] = field(default_factory=dict)

    def look_up(self, tenant_id: TenantId, *, claimed_region: Region | None) -> Tenant:
        """Return a tenant with its region; what the directory says outweighs what a request claims."""
        return Tenant(tenant_id, self.regions.get(tenant_id) or claimed_region or self.home)

    def knows(self, tenant_id: TenantId) -> bool:
        return not self.closed or tenant_id in self.regions
