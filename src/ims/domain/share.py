"""The share: a private image lent to another tenant."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from ims.domain.image import ImageId
from ims.domain.tenant import Region, TenantId
from ims.domain.trust import NO_RULES, Attitude, Trust


class ShareStatus(StrEnum):
    """What the recipient has decided (law 4.2)."""

    PENDING = "PENDING"
    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"


@dataclass(frozen=True, kw_only=True)
class Share:
    """One image lent to one recipient."""

    image_id: ImageId
    tenant_id: TenantId
    region: Region
    status: ShareStatus = ShareStatus.PENDING
    vault_id: str = ""
    """The backup vault that the recipient named when it accepted a full-ECS image."""
    create_time: datetime
    update_time: datetime
    expire_time: datetime | None = None
    """When it ends by itself; None where it does not."""


@dataclass(frozen=True, kw_only=True)
class Prospect:
    """What is on record when an owner wants to share an image with some tenants."""

    shares: Mapping[TenantId, Share]
    """Those that these tenants have already."""
    share_count: int
    """How many shares the image has in all."""
    regions: Mapping[TenantId, Region] = field(default_factory=dict)
    """Where those of these tenants are at home that the directory names."""
    trust: Mapping[TenantId, Trust] = field(default_factory=dict)
    """What those of these tenants that have made rules say of the owner."""
    owner_blocked: bool = False
    """Whether the owner may not share with anybody new."""
    all_blocked: bool = False
    """Whether nobody may."""

    @property
    def blocked_by(self) -> frozenset[TenantId]:
        """Those of these tenants that have blocked the owner."""
        return frozenset(
            tenant_id for tenant_id, trust in self.trust.items() if trust.attitude is Attitude.BLOCK
        )

    def trust_of(self, tenant_id: TenantId) -> Trust:
        """Return what a tenant's rules say; nothing where it has made none."""
        return self.trust.get(tenant_id, NO_RULES)
