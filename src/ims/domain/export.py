"""What somebody wants to have exported, and what has come of it."""

from dataclasses import dataclass

from ims.domain.image import DiskFormat


@dataclass(frozen=True, kw_only=True)
class ExportOrder:
    """A disk's file that is to be put into a bucket."""

    bucket: str
    object_key: str
    """The object's name in the bucket."""
    format: DiskFormat | None = None
    """None where it is the disk's own."""


@dataclass(frozen=True, kw_only=True)
class ExportedObject:
    """A disk's file in a bucket."""

    bucket: str
    object_key: str
    format: DiskFormat
    size_bytes: int = 0
    """0 of one that is not there yet."""
    sha256: str = ""
    """64 lower-case hexadecimal digits; empty of one that is not there yet."""
