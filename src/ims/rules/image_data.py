"""The law of image bytes: who brings them, what they must be, who takes them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ims.domain.caller import Role
from ims.domain.disk_file import DiskFileReport
from ims.domain.image import GIB, Disk, DiskState, Image, ImageState
from ims.domain.quotas import Allowance, Usage, usage_of
from ims.domain.rejection import Category, Reason
from ims.rules.attempt import Attempt
from ims.rules.engine import Breach, Rule, breach, rule
from ims.rules.form import every_field_can_be_read
from ims.rules.images import max_disk_gib, min_disk_holds_the_disk_inside_the_file, whole_gib
from ims.rules.keys import the_key_of_an_encrypted_image_is_usable
from ims.rules.quotas import (
    copies_at_once_stay_within_the_quota,
    creations_at_once_stay_within_the_quota,
    stored_bytes_stay_within_the_quota,
)
from ims.rules.sharing import only_accepted_shares_are_used
from ims.rules.states import Verb, state_allows
from ims.rules.visibility import declared_it

# --- Upload: before the first byte ---


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """What a caller says of a file before it sends it."""

    size_bytes: int
    sha256: str = ""
    """Empty when the caller leaves it to us to compute it."""


@dataclass(frozen=True, kw_only=True)
class DiskAttempt(Attempt):
    """Somebody wants to write or read the bytes of one disk."""

    disk_index: int
    key_usable: bool
    """Whether the key of an encrypted image can be used now."""

    @property
    def disk(self) -> Disk | None:
        """The disk of that index, where the image has one."""
        return next((disk for disk in self.image.disks if disk.index == self.disk_index), None)


@dataclass(frozen=True, kw_only=True)
class UploadAttempt(DiskAttempt):
    """Somebody wants to fill a disk with bytes."""

    announced: Announcement
    upload_id: str
    """What the upload is to be known by."""
    max_file_bytes: int
    allowance: Allowance
    """The owner's."""
    direct: bool = False
    """Whether its bytes are to be brought to the store itself."""
    store_takes_parts: bool = False
    """Whether there is such a store, and the deployment lets it."""

    @property
    def received_bytes(self) -> int:
        return self.announced.size_bytes

    @property
    def draft(self) -> Image:
        """The image as it would be: the disk's bytes are arriving."""
        disks = tuple(
            replace(
                disk,
                state=DiskState.SAVING,
                upload_id=self.upload_id,
                announced_bytes=self.announced.size_bytes,
            )
            if disk.index == self.disk_index
            else disk
            for disk in self.image.disks
        )
        return replace(self.image, state=ImageState.SAVING, disks=disks)

    @property
    def asked(self) -> Usage:
        return usage_of(self.draft) - usage_of(self.image)


@rule("2.2", Reason.NOT_IMAGE_OWNER, Category.FORBIDDEN)
def only_the_owner_or_its_service_uploads(attempt: Attempt) -> Iterator[Breach]:
    """Bytes come from the owner, or from the service that declared the image."""
    if attempt.image.owner != attempt.caller.tenant_id and not declared_it(
        attempt.caller, attempt.image
    ):
        yield breach("Only the image's owner may do this.")


@rule("5.10", Reason.ROLE_REQUIRED, Category.FORBIDDEN)
def only_the_declaring_service_uploads_what_it_vouches_for(attempt: Attempt) -> Iterator[Breach]:
    """Who declares that an image came from a server, a volume or a backup uploads the disks."""
    if attempt.image.declared_by is not None and not declared_it(attempt.caller, attempt.image):
        yield breach(
            f"The service that declared the image's source uploads its disks, with the role "
            f"'{Role.SERVICE}'.",
            requiredRoles=Role.SERVICE,
        )


@rule("5.10", Reason.ROLE_REQUIRED, Category.FORBIDDEN)
def only_members_upload_files_of_their_own(attempt: Attempt) -> Iterator[Breach]:
    """A service uploads what it declared; a tenant's own file a member of the tenant uploads."""
    if attempt.image.declared_by is None and not attempt.caller.has(Role.MEMBER):
        yield breach(
            f"Only a caller with the role '{Role.MEMBER}' uploads a file of its own.",
            requiredRoles=Role.MEMBER,
        )


@rule("2.3", Reason.DISK_NOT_FOUND, Category.MISSING)
def the_disk_is_one_of_the_image(attempt: DiskAttempt) -> Iterator[Breach]:
    """A child id is always checked against its parent: a disk belongs to its image."""
    if attempt.disk is None:
        yield breach(
            f"The image has {len(attempt.image.disks)} disks, numbered from 0; there is no disk "
            f"{attempt.disk_index}.",
            subject="disk_index",
            diskIndex=attempt.disk_index,
            disks=len(attempt.image.disks),
        )


@rule("5.7", Reason.IMAGE_BUSY, Category.WRONG_STATE)
def one_upload_at_a_time_fills_a_disk(attempt: UploadAttempt) -> Iterator[Breach]:
    """While a disk's bytes are arriving, nobody else brings any."""
    if attempt.disk is not None and attempt.disk.state is DiskState.SAVING:
        yield breach(
            f"Disk {attempt.disk_index} is being uploaded already.",
            subject="disk_index",
            diskIndex=attempt.disk_index,
        )


@rule("5.4", Reason.IMAGE_DATA_FINAL, Category.WRONG_STATE)
def a_stored_disk_is_not_filled_again(attempt: DiskAttempt) -> Iterator[Breach]:
    """A disk that is complete keeps its bytes, also while others of its image are still missing."""
    if attempt.disk is not None and attempt.disk.state is DiskState.STORED:
        yield breach(
            f"Disk {attempt.disk_index} is complete; create another image for other bytes.",
            subject="disk_index",
            diskIndex=attempt.disk_index,
        )


class Receiving(Protocol):
    """Anything that knows how much of a file there is, or is going to be."""

    @property
    def received_bytes(self) -> int: ...
    @property
    def max_file_bytes(self) -> int: ...


@rule("5.5", Reason.IMAGE_FILE_TOO_LARGE, Category.OVER_LIMIT)
def files_stay_within_the_limit(attempt: Receiving) -> Iterator[Breach]:
    """Files up to 128 GiB by default (a setting, up to 1 TiB)."""
    if attempt.received_bytes > attempt.max_file_bytes:
        yield breach(
            f"A file has at most {attempt.max_file_bytes} bytes "
            f"({attempt.max_file_bytes / GIB:g} GiB); this one has {attempt.received_bytes}.",
            subject="size_bytes",
            maxImageFileBytes=attempt.max_file_bytes,
            imageFileBytes=attempt.received_bytes,
        )


START_UPLOAD: tuple[Rule[UploadAttempt], ...] = (
    the_disk_is_one_of_the_image,
    only_the_owner_or_its_service_uploads,
    only_the_declaring_service_uploads_what_it_vouches_for,
    only_members_upload_files_of_their_own,
    every_field_can_be_read,
    *state_allows(Verb.UPLOAD),
    one_upload_at_a_time_fills_a_disk,
    a_stored_disk_is_not_filled_again,
    the_key_of_an_encrypted_image_is_usable,
    files_stay_within_the_limit,
    stored_bytes_stay_within_the_quota,
    creations_at_once_stay_within_the_quota,
    copies_at_once_stay_within_the_quota,
)


class BringingDirectly(Protocol):
    """Somebody wants to bring the bytes of an upload, perhaps to the store itself."""

    @property
    def image(self) -> Image: ...
    @property
    def direct(self) -> bool: ...
    @property
    def store_takes_parts(self) -> bool: ...


@rule("7.8", Reason.DIRECT_TRANSFER_UNAVAILABLE, Category.AGAINST_RULES)
def only_plain_bytes_are_brought_directly_to_a_store_for_it(
    attempt: BringingDirectly,
) -> Iterator[Breach]:
    """Bytes are brought directly where the store takes them, and they are not to be encrypted."""
    if not attempt.direct or (attempt.store_takes_parts and not attempt.image.encrypted):
        return
    yield breach(
        "These bytes cannot be brought to their store directly; upload them to the service.",
        encrypted="true" if attempt.image.encrypted else "false",
    )


START_RESUMABLE_UPLOAD: tuple[Rule[UploadAttempt], ...] = (
    *START_UPLOAD,
    only_plain_bytes_are_brought_directly_to_a_store_for_it,
)


# --- Upload: while bytes arrive, and when they have ---


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """Bytes are arriving; more may follow."""

    announced: Announcement
    received_bytes: int
    max_file_bytes: int


@rule("5.4", Reason.SIZE_MISMATCH, Category.AGAINST_RULES)
def no_more_arrives_than_was_announced(arrival: Arrival) -> Iterator[Breach]:
    """A file that grows past its announced size is cut off."""
    if arrival.received_bytes > arrival.announced.size_bytes:
        yield _size_mismatch(arrival.announced.size_bytes, arrival.received_bytes)


RECEIVE_CHUNK: tuple[Rule[Arrival], ...] = (
    no_more_arrives_than_was_announced,
    files_stay_within_the_limit,
)


@dataclass(frozen=True, kw_only=True)
class ArrivedFile:
    """All bytes of a disk's file are here, or so its sender says."""

    draft: Image
    """The image with the disk filled."""
    disk: Disk
    """The disk, with the declared format and what was measured of the file."""
    announced: Announcement
    report: DiskFileReport
    cut_short: bool = False
    """Whether we stopped listening before the sender was done, since the file was hopeless."""


@rule("5.4", Reason.SIZE_MISMATCH, Category.AGAINST_RULES)
def the_file_has_its_announced_size(arrived: ArrivedFile) -> Iterator[Breach]:
    """The size announced is checked before anyone can read a byte."""
    if not arrived.cut_short and arrived.disk.size_bytes != arrived.announced.size_bytes:
        yield _size_mismatch(arrived.announced.size_bytes, arrived.disk.size_bytes)


def _size_mismatch(announced_bytes: int, received_bytes: int) -> Breach:
    more_or_less = "more" if received_bytes > announced_bytes else "less"
    return breach(
        f"{announced_bytes} bytes were announced and {more_or_less} arrived: {received_bytes}.",
        subject="size_bytes",
        announcedBytes=announced_bytes,
        receivedBytes=received_bytes,
    )


@rule("5.4", Reason.DIGEST_MISMATCH, Category.AGAINST_RULES)
def the_file_has_its_announced_digest(arrived: ArrivedFile) -> Iterator[Breach]:
    """The digest announced is checked before anyone can read a byte."""
    announced = arrived.announced.sha256
    if announced and announced != arrived.disk.sha256 and not arrived.cut_short:
        yield breach(
            f"The bytes that arrived have the SHA-256 {arrived.disk.sha256}, not the announced "
            f"{announced}.",
            subject="sha256",
            announcedSha256=announced,
            receivedSha256=arrived.disk.sha256,
        )


@rule("5.4", Reason.FORMAT_MISMATCH, Category.AGAINST_RULES)
def the_file_is_what_it_claims_to_be(arrived: ArrivedFile) -> Iterator[Breach]:
    """What a file claims to be must be what it is."""
    if arrived.report.format is not arrived.disk.format:
        yield breach(
            f"The disk was declared as {arrived.disk.format}, but the file is "
            f"{arrived.report.described_as}.",
            subject=f"disks[{arrived.disk.index}].format",
            declaredFormat=arrived.disk.format,
            foundFormat=arrived.report.described_as,
        )


@rule("5.4", Reason.UNSAFE_IMAGE_FILE, Category.AGAINST_RULES)
def the_file_is_sound_and_keeps_to_itself(arrived: ArrivedFile) -> Iterator[Breach]:
    """A file that reaches outside itself or is malformed is refused."""
    for danger in arrived.report.dangers:
        yield breach(f"The file is not safe to use: {danger}", danger=danger)


@rule("5.3", Reason.DISK_CAPACITY_TOO_LARGE, Category.AGAINST_RULES)
def the_disk_inside_fits_the_largest_disk(arrived: ArrivedFile) -> Iterator[Breach]:
    """System disks have up to 1024 GiB, data disks up to 2048."""
    most = max_disk_gib(arrived.disk.role)
    if whole_gib(arrived.disk.capacity_bytes) > most:
        yield breach(
            f"The disk inside the file has {arrived.disk.capacity_bytes} bytes; such a disk has at most "
            f"{most} GiB.",
            capacityBytes=arrived.disk.capacity_bytes,
            maxCapacityGib=most,
        )


FINISH_UPLOAD: tuple[Rule[ArrivedFile], ...] = (
    the_file_has_its_announced_size,
    the_file_has_its_announced_digest,
    the_file_is_what_it_claims_to_be,
    the_file_is_sound_and_keeps_to_itself,
    the_disk_inside_fits_the_largest_disk,
    min_disk_holds_the_disk_inside_the_file,
)


# --- Import: when the file is here ---


@dataclass(frozen=True, kw_only=True)
class ImportedFile:
    """A file was fetched, and is to be stored as a disk."""

    image: Image
    """The image with the disk filled."""
    key_usable: bool
    allowance: Allowance
    """The owner's."""
    asked: Usage
    """What the file takes beyond what was announced of it."""


FINISH_IMPORT: tuple[Rule[ImportedFile], ...] = (
    the_key_of_an_encrypted_image_is_usable,
    stored_bytes_stay_within_the_quota,
)


# --- Download ---


class NeedingBytes(Protocol):
    """Anything that reads stored bytes of an image."""

    @property
    def disks(self) -> Sequence[Disk]: ...


@rule("5.12", Reason.DISK_DATA_DAMAGED, Category.CORRUPT)
def damaged_bytes_are_not_given_out(attempt: NeedingBytes) -> Iterator[Breach]:
    """Bytes that were found to be damaged are refused; metadata and shares are kept."""
    if any(disk.damaged for disk in attempt.disks):
        yield breach("The stored bytes are damaged or missing.")


@dataclass(frozen=True, kw_only=True)
class ReadAttempt(DiskAttempt):
    """Somebody wants a disk's bytes."""

    @property
    def disks(self) -> Sequence[Disk]:
        """What is read."""
        return () if self.disk is None else (self.disk,)


@dataclass(frozen=True, kw_only=True)
class DownloadAttempt(ReadAttempt):
    """Somebody wants a disk's bytes, or the rest of them."""

    offset_bytes: int


@dataclass(frozen=True, kw_only=True)
class DirectDownloadAttempt(ReadAttempt):
    """Somebody wants to read a disk's bytes from the store itself."""

    store_gives_urls: bool
    """Whether there is such a store, and the deployment lets it."""


@rule("7.7", Reason.DIRECT_TRANSFER_UNAVAILABLE, Category.AGAINST_RULES)
def only_plain_bytes_in_a_store_for_it_are_read_directly(
    attempt: DirectDownloadAttempt,
) -> Iterator[Breach]:
    """Bytes are read directly where the store gives them out, and they are not encrypted."""
    if attempt.store_gives_urls and not attempt.image.encrypted:
        return
    yield breach(
        "These bytes cannot be read from their store directly; download them with DownloadImageData.",
        encrypted="true" if attempt.image.encrypted else "false",
    )


@rule("2.3", Reason.OFFSET_OUT_OF_RANGE, Category.OUT_OF_RANGE)
def a_download_begins_within_the_file(attempt: DownloadAttempt) -> Iterator[Breach]:
    """An offset lies within its disk's file, or just at its end."""
    disk = attempt.disk
    if (
        disk is None
        or disk.state is not DiskState.STORED
        or 0 <= attempt.offset_bytes <= disk.size_bytes
    ):
        return
    yield breach(
        f"The file has {disk.size_bytes} bytes; {attempt.offset_bytes} lies outside.",
        subject="offset_bytes",
        offsetBytes=attempt.offset_bytes,
        sizeBytes=disk.size_bytes,
    )


DOWNLOAD_IMAGE_DATA: tuple[Rule[DownloadAttempt], ...] = (
    the_disk_is_one_of_the_image,
    every_field_can_be_read,
    a_download_begins_within_the_file,
    *state_allows(Verb.READ_DATA),
    only_accepted_shares_are_used,
    the_key_of_an_encrypted_image_is_usable,
    damaged_bytes_are_not_given_out,
)
CREATE_DOWNLOAD_URL: tuple[Rule[DirectDownloadAttempt], ...] = (
    the_disk_is_one_of_the_image,
    every_field_can_be_read,
    *state_allows(Verb.READ_DATA),
    only_accepted_shares_are_used,
    the_key_of_an_encrypted_image_is_usable,
    damaged_bytes_are_not_given_out,
    only_plain_bytes_in_a_store_for_it_are_read_directly,
)
