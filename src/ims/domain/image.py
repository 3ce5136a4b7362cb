"""The image: what it is, what it is made of, where it came from and which states it passes."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType

from ims.domain.tenant import Region, TenantId

ImageId = NewType("ImageId", str)
KeyId = NewType("KeyId", str)
BlobKey = NewType("BlobKey", str)

GIB = 1024**3


class ImageClass(StrEnum):
    """Who sees an image (law 1)."""

    PUBLIC = "PUBLIC"
    PRIVATE = "PRIVATE"
    SHARED = "SHARED"


class ImageType(StrEnum):
    """What an image contains, and so what it may be used for (law 1)."""

    SYSTEM_DISK = "SYSTEM_DISK"
    DATA_DISK = "DATA_DISK"
    FULL_ECS = "FULL_ECS"
    ISO = "ISO"


class ImageState(StrEnum):
    """Where an image is in its life (law 1); rules/states.py says what each allows."""

    QUEUED = "QUEUED"
    SAVING = "SAVING"
    ACTIVE = "ACTIVE"
    DEACTIVATED = "DEACTIVATED"
    FAILED = "FAILED"
    DELETED = "DELETED"


class Relation(StrEnum):
    """How a viewer stands to an image (law 1)."""

    OWNED = "OWNED"
    SHARED_WITH_ME = "SHARED_WITH_ME"
    PUBLIC = "PUBLIC"


class DiskFormat(StrEnum):
    """The formats of an external image file (law 1)."""

    QCOW2 = "QCOW2"
    RAW = "RAW"
    VMDK = "VMDK"
    VHD = "VHD"
    VHDX = "VHDX"
    VDI = "VDI"
    QED = "QED"
    QCOW = "QCOW"
    ISO = "ISO"


class DiskRole(StrEnum):
    """What a disk is to the server made from it."""

    SYSTEM = "SYSTEM"
    DATA = "DATA"
    INSTALLATION_MEDIUM = "INSTALLATION_MEDIUM"


class DiskState(StrEnum):
    """Whether a disk's bytes are there."""

    EMPTY = "EMPTY"
    SAVING = "SAVING"
    STORED = "STORED"


class OsType(StrEnum):
    """The family of an operating system."""

    LINUX = "LINUX"
    WINDOWS = "WINDOWS"
    OTHER = "OTHER"


class Architecture(StrEnum):
    """The processor that an image is made for."""

    X86_64 = "X86_64"
    AARCH64 = "AARCH64"


class Firmware(StrEnum):
    """How a server made from an image boots."""

    BIOS = "BIOS"
    UEFI = "UEFI"


class BackupService(StrEnum):
    """The service that took a backup of a server."""

    CBR = "CBR"
    CSBS = "CSBS"


class SourceKind(StrEnum):
    """The origins of an image (law 1)."""

    ECS = "ECS"
    BMS = "BMS"
    VOLUME = "VOLUME"
    CBR_BACKUP = "CBR_BACKUP"
    CSBS_BACKUP = "CSBS_BACKUP"
    FILE = "FILE"
    IMAGE = "IMAGE"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where an image came from; kept for ever and shown."""

    kind: SourceKind
    id: str = ""
    """The server, volume, backup or image; empty for a file."""
    file_name: str = ""
    """The name of the file at its owner's; only for a file, only to be shown."""
    region: Region | None = None
    """The region of the source image; only for a copy."""
    backup_service: BackupService | None = None
    """Through which service a full-ECS image was taken from an ECS, or, of a copy, its original."""
    backup_received_by_sharing: bool = False
    """Whether the CBR backup itself was lent to the owner by another tenant (law 3.8)."""

    @property
    def created_using_cbr(self) -> bool:
        """Whether CBR stands behind the image: from its backup, or from an ECS through it."""
        return self.taken_by is BackupService.CBR

    @property
    def taken_by(self) -> BackupService | None:
        """The service that took the backup of a server which stands behind the image, if one did."""
        return _BACKUPS_OF.get(self.kind, self.backup_service)


_BACKUPS_OF = {
    SourceKind.CBR_BACKUP: BackupService.CBR,
    SourceKind.CSBS_BACKUP: BackupService.CSBS,
}


@dataclass(frozen=True, kw_only=True)
class OperatingSystem:
    """What is installed on the system disk."""

    type: OsType = OsType.OTHER
    platform: str = ""
    version: str = ""
    bits: int = 64


@dataclass(frozen=True, kw_only=True)
class SealRun:
    """Chunks of a sealed blob that one writer sealed who went on with another's work."""

    first_chunk: int
    """Their first one, from 0; the last is the one before the next run."""
    salt: bytes
    """32 bytes, not secret."""


@dataclass(frozen=True, kw_only=True)
class Disk:
    """One disk of an image; everything from `capacity_bytes` on is known once it is stored."""

    index: int
    role: DiskRole
    format: DiskFormat
    state: DiskState = DiskState.EMPTY
    upload_id: str = ""
    """The upload that is filling the disk; whoever holds another id has been superseded."""
    announced_bytes: int = 0
    """How many bytes that upload said it brings; 0 when there is none."""
    capacity_bytes: int = 0
    size_bytes: int = 0
    sha256: str = ""
    """64 lower-case hexadecimal digits, of the bytes as they were uploaded."""
    blob_key: BlobKey = BlobKey("")
    wrapped_data_key: bytes = b""
    """The data key that the blob is encrypted with, itself encrypted; empty when it is not."""
    seal_runs: tuple[SealRun, ...] = ()
    """The runs of a sealed blob beside its first."""
    damaged: bool = False
    """Whether its bytes were found not to be those that were stored."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """A template from which servers or disks are made: one or more disks and what they are for."""

    id: ImageId
    owner: TenantId
    region: Region
    name: str
    description: str = ""
    type: ImageType
    state: ImageState
    public: bool = False
    protected: bool = False
    for_bms: bool = False
    """Whether it is made for bare-metal servers."""
    os: OperatingSystem = OperatingSystem()
    architecture: Architecture = Architecture.X86_64
    firmware: Firmware = Firmware.BIOS
    min_disk_gib: int = 0
    """The smallest disk it fits on; 0 until the first disk is stored, unless the owner said it."""
    min_ram_mib: int = 0
    max_ram_mib: int = 0
    """0 means no upper bound."""
    tags: tuple[tuple[str, str], ...] = ()
    """(key, value) pairs, sorted by key."""
    source: Source
    declared_by: TenantId | None = None
    """The service that vouches for the source and uploads the disks; None for a tenant's own file."""
    encryption_key_id: KeyId | None = None
    disks: tuple[Disk, ...]
    version: int = 1
    """Rises with every change of the image or its disks; the etag is made of it.

    Shares do not count: a recipient who sees the etag must not learn how many others there are.
    """
    create_time: datetime
    update_time: datetime
    delete_time: datetime | None = None
    purge_time: datetime | None = None
    """Until when a deleted image can be restored; from then on it is as if it had never existed."""
    state_before_deletion: ImageState | None = None
    """What undeletion returns it to."""
    deactivated_by_admin: bool = False
    """Whether it is an administrator who has taken its bytes away (law 8.4)."""
    non_exportable: bool = False
    """Whether it is, or derives from, a public image that was marked so (law 6.4); never taken back."""

    @property
    def encrypted(self) -> bool:
        return self.encryption_key_id is not None

    @property
    def size_bytes(self) -> int:
        """How large the files of its disks are together."""
        return sum(disk.size_bytes for disk in self.disks)

    @property
    def etag(self) -> str:
        return f'"{self.version}"'
