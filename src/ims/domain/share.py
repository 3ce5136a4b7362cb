"""The share: a private image lent to another tenant."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ims.domain.image import ImageId
from ims.domain.tenant import Region, TenantId


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
