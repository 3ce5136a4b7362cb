"""A server or a volume that was made from an image, and how many there are."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ims.domain.image import ImageId, Relation
from ims.domain.tenant import TenantId


class UseKind(StrEnum):
    """What is made from an image (law 1)."""

    ECS = "ECS"
    BMS = "BMS"
    VOLUME = "VOLUME"


@dataclass(frozen=True, kw_only=True)
class UseKey:
    """What tells one use from all others."""

    image_id: ImageId
    tenant_id: TenantId
    kind: UseKind
    consumer_id: str
    """The server's or the volume's id, another service's: no two of a kind have the same."""


@dataclass(frozen=True, kw_only=True)
class RegisteredUse:
    """A use as it is on record."""

    key: UseKey
    registered_by: TenantId
    """The service that registered it last, or the tenant itself."""
    relation: Relation
    """How the tenant stood to the image: one that used a public image is not named to its owner."""
    create_time: datetime


@dataclass(frozen=True, kw_only=True)
class UseFilter:
    """What a listing of uses lets through; what is left out lets everything through."""

    image_id: ImageId | None = None
    kind: UseKind | None = None
    registered_by: TenantId | None = None


@dataclass(frozen=True, kw_only=True)
class TenantUsage:
    """How many uses a tenant has of an image."""

    tenant_id: TenantId
    """NOBODY for all together that used it as a public image."""
    ecs: int = 0
    bms: int = 0
    volumes: int = 0


@dataclass(frozen=True, kw_only=True)
class UsageTotal:
    """How many uses there are."""

    uses: int = 0
    tenants: int = 0
    """How many tenants have them."""


@dataclass(frozen=True, kw_only=True)
class UsageSummary:
    """All uses that something would hit."""

    total: UsageTotal
    largest: tuple[TenantUsage, ...]
    """Those of the tenants that have the most, the most first."""
