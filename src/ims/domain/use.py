"""What an image is used for, and for whom."""

from dataclasses import dataclass
from enum import StrEnum

from ims.domain.image import Disk, Firmware, Image, Relation
from ims.domain.tenant import Region


class Purpose(StrEnum):
    """What a consumer asks an image for (law 7.1)."""

    CREATE_ECS = "CREATE_ECS"
    CREATE_BMS = "CREATE_BMS"
    CREATE_VOLUME = "CREATE_VOLUME"
    CHANGE_OS = "CHANGE_OS"


@dataclass(frozen=True, kw_only=True)
class Use:
    """An intended use of an image; 0 and None stand for what the consumer did not say."""

    purpose: Purpose
    region: Region
    disk_gib: int = 0
    ram_mib: int = 0
    firmware: Firmware | None = None


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """The answer to a consumer: what it may read, pinned."""

    image: Image
    relation: Relation
    disks: tuple[Disk, ...]
