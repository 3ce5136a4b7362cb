"""What somebody wants to have fetched, or taken from an upload."""

from dataclasses import dataclass

from ims.domain.image import Disk, DiskFormat


@dataclass(frozen=True, kw_only=True)
class ImportOrder:
    """A file that is to be brought to a disk."""

    url: str = ""
    """Where it is fetched; empty where it was uploaded."""
    upload_id: str = ""
    """The upload that has brought it."""
    size_bytes: int = 0
    """How many bytes it has; 0 where that is not known."""
    sha256: str = ""
    """Of the file as it comes; empty where that is not known."""
    source_format: DiskFormat | None = None
    """None where it is the disk's own."""
    ova: bool = False
    """Whether it is an OVA, of which the disk is taken."""

    def format_for(self, disk: Disk) -> DiskFormat:
        """Return what the file is to be; of an OVA, what the disk inside is."""
        return DiskFormat.VMDK if self.ova else self.source_format or disk.format
