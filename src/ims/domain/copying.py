"""What somebody wants a copy to be."""

from dataclasses import dataclass

from ims.domain.image import DiskFormat, Image, KeyId
from ims.domain.tenant import Region


@dataclass(frozen=True, kw_only=True)
class CopyOrder:
    """A copy as it is asked for; of what it leaves out, the copy is as its source."""

    name: str
    description: str | None = None
    encryption_key_id: KeyId | None = None
    """The key to encrypt the copy with; None where that is not said."""
    decrypt: bool = False
    """Whether the copy is not to be encrypted."""
    format: DiskFormat | None = None
    """What its disk is to be; None where that is not said."""

    def key_of_copy(self, source: Image) -> KeyId | None:
        """Return the key of the copy; None for one that is not encrypted."""
        if self.decrypt:
            return None
        return self.encryption_key_id or source.encryption_key_id


@dataclass(frozen=True, kw_only=True)
class RegionCopyOrder:
    """A copy in another region as it is asked for; of what it leaves out, the copy is as its source."""

    region: Region
    name: str | None = None
    description: str | None = None
    vault_id: str = ""
    """The owner's backup vault there; empty where none is named."""


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """What the service of another region says of a copy that it brings, beside what it is."""

    vault_id: str = ""
    capacity_bytes: int = 0
    """How large its disks are together."""
