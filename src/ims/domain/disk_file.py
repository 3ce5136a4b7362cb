"""What an inspection found a disk file to be."""

from dataclasses import dataclass

from ims.domain.image import DiskFormat


@dataclass(frozen=True, kw_only=True)
class DiskFileReport:
    """The findings about one disk file, made from its bytes alone."""

    format: DiskFormat | None
    """What the bytes are; None when they are something that is no disk format of ours."""
    described_as: str
    """The same in a word for a person: "QCOW2", "LUKS", "several formats at once (ISO, QCOW2)"."""
    capacity_bytes: int
    """The size of the disk that a server would see; 0 when it cannot be told."""
    dangers: tuple[str, ...] = ()
    """Why the file must not be used: it reaches outside itself or is malformed. Empty when it is safe.

    Sentences for a person; they never quote more of the file than a feature's name.
    """
