"""The backup vault that a recipient names when it accepts a full-ECS image."""

from dataclasses import dataclass
from enum import StrEnum


class VaultType(StrEnum):
    """What a vault keeps."""

    SERVER_BACKUP = "SERVER_BACKUP"
    DISK_BACKUP = "DISK_BACKUP"


@dataclass(frozen=True, kw_only=True)
class Vault:
    """A tenant's place for backups."""

    id: str
    type: VaultType
    capacity_gib: int
