"""What somebody wants to have fetched."""

from dataclasses import dataclass

from ims.domain.image import DiskFormat


@dataclass(frozen=True, kw_only=True)
class ImportOrder:
    """A file that is to be fetched for a disk."""

    url: str
    size_bytes: int = 0
    """How many bytes it has; 0 where that is not known."""
    sha256: str = ""
    """Of the file as it is fetched; empty where that is not known."""
    source_format: DiskFormat | None = None
    """None where it is the disk's own."""
    ova: bool = False
    """Whether it is an OVA, of which the disk is taken."""
