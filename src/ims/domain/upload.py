"""An upload that can be interrupted and gone on with."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from ims.domain.disk_file import DiskFileReport
from ims.domain.image import BlobKey, DiskFormat, ImageId, SealRun


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was found of a file while it arrived in one piece."""

    sha256: str
    report: DiskFileReport


@dataclass(frozen=True, kw_only=True)
class PartOfUpload:
    """A part of the bytes that are brought to the store itself."""

    number: int
    """1 for the first."""
    offset_bytes: int
    """Where it begins in the file."""
    length_bytes: int


@dataclass(frozen=True, kw_only=True)
class Upload:
    """The bytes of one disk on their way, brought by any number of writers, one after the other."""

    blob_key: BlobKey
    """What its bytes are kept under; its id, too."""
    image_id: ImageId
    disk_index: int
    size_bytes: int
    """How many bytes it brings in all."""
    sha256: str
    """Of all of them: 64 lower-case hexadecimal digits."""
    source_format: DiskFormat | None = None
    """What the file is that is brought; None where it is what the disk is to be."""
    ova: bool = False
    """Whether it is an OVA, of which the disk is taken."""
    part_bytes: int = 0
    """How large the parts are that come to the store itself, but for the last; 0 where none do."""
    store_upload_id: str = ""
    """What the store calls the upload that those parts are of; empty before it has begun."""
    wrapped_data_key: bytes = b""
    """The data key that its blob is encrypted with, itself encrypted; empty when it is not."""
    seal_runs: tuple[SealRun, ...] = ()
    writers: int = 0
    """How many writers there have been; who is not the last one has been superseded."""
    findings: Findings | None = None
    """None unless the only writer there has been brought all of it."""
    expire_time: datetime | None = None
    """When it ends unless somebody goes on with it; None once it is finished."""
    finished: bool = False
    """Whether the disk has its bytes."""

    @property
    def direct(self) -> bool:
        """Whether its bytes are brought to the store itself."""
        return self.part_bytes > 0

    def parts(self) -> Iterator[PartOfUpload]:
        """Yield the parts of a direct upload, in the order of their numbers."""
        for number, offset_bytes in enumerate(range(0, self.size_bytes, self.part_bytes), 1):
            length_bytes = min(self.part_bytes, self.size_bytes - offset_bytes)
            yield PartOfUpload(number=number, offset_bytes=offset_bytes, length_bytes=length_bytes)

    @property
    def is_converted(self) -> bool:
        """Whether the disk gets other bytes than those that are brought."""
        return self.source_format is not None or self.ova
