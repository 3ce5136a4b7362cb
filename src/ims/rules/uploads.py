"""The law of uploads that can be interrupted and gone on with (law 5.11)."""

from collections.abc import Iterator
from dataclasses import dataclass

from ims.domain.rejection import Category, Reason
from ims.domain.upload import Upload
from ims.rules.engine import Breach, Rule, breach, rule
from ims.rules.form import every_field_can_be_read
from ims.rules.image_data import (
    DiskAttempt,
    a_stored_disk_is_not_filled_again,
    only_members_upload_files_of_their_own,
    only_plain_bytes_are_brought_directly_to_a_store_for_it,
    only_the_declaring_service_uploads_what_it_vouches_for,
    only_the_owner_or_its_service_uploads,
    the_disk_is_one_of_the_image,
)
from ims.rules.keys import the_key_of_an_encrypted_image_is_usable


@dataclass(frozen=True, kw_only=True)
class FoundUpload(DiskAttempt):
    """Somebody wants to do something with an upload of a disk."""

    upload: Upload | None
    """The upload, where the disk has such a one."""
    store_takes_parts: bool = False
    """Whether bytes can be brought to the store itself, and the deployment lets that."""

    @property
    def direct(self) -> bool:
        """Whether its bytes are brought to the store itself."""
        return self.upload is not None and self.upload.direct


@rule("2.3", Reason.UPLOAD_NOT_FOUND, Category.MISSING)
def the_upload_is_one_of_the_disk(attempt: FoundUpload) -> Iterator[Breach]:
    """A child id is always checked against its parent: an upload belongs to its disk."""
    if attempt.disk is not None and attempt.upload is None:
        yield breach("The disk has no such upload: it was never started, or it has ended.")


GET_UPLOAD: tuple[Rule[FoundUpload], ...] = (
    the_disk_is_one_of_the_image,
    the_upload_is_one_of_the_disk,
    only_the_owner_or_its_service_uploads,
    only_the_declaring_service_uploads_what_it_vouches_for,
    only_members_upload_files_of_their_own,
    every_field_can_be_read,
)
RESUME_UPLOAD: tuple[Rule[FoundUpload], ...] = (
    *GET_UPLOAD,
    a_stored_disk_is_not_filled_again,
    the_key_of_an_encrypted_image_is_usable,
)


@rule("7.8", Reason.UPLOAD_MODE_MISMATCH, Category.AGAINST_RULES)
def a_direct_upload_is_not_written_to_the_service(attempt: FoundUpload) -> Iterator[Breach]:
    """The bytes of a direct upload are brought to the store, and not to the service."""
    if attempt.direct:
        yield breach(
            "The upload was started as a direct one: bring its parts to the URLs of CreatePartUrls.",
            direct="true",
        )


@rule("7.8", Reason.UPLOAD_MODE_MISMATCH, Category.AGAINST_RULES)
def only_a_direct_upload_is_brought_to_the_store(attempt: FoundUpload) -> Iterator[Breach]:
    """Only a direct upload has URLs that its bytes are brought to."""
    if attempt.upload is not None and not attempt.direct:
        yield breach(
            "The upload was not started as a direct one: bring its bytes with WriteUpload.",
            direct="false",
        )


WRITE_UPLOAD: tuple[Rule[FoundUpload], ...] = (
    *RESUME_UPLOAD,
    a_direct_upload_is_not_written_to_the_service,
)
CREATE_PART_URLS: tuple[Rule[FoundUpload], ...] = (
    *RESUME_UPLOAD,
    only_a_direct_upload_is_brought_to_the_store,
    only_plain_bytes_are_brought_directly_to_a_store_for_it,
)


@rule("5.14", Reason.UPLOAD_NEEDS_CONVERSION, Category.AGAINST_RULES)
def what_is_to_be_converted_is_imported(attempt: FoundUpload) -> Iterator[Breach]:
    """An upload of a file that is to be converted is imported, and not finished."""
    if attempt.upload is not None and attempt.upload.is_converted:
        yield breach(
            "The file that was uploaded is not what the disk is to be; have it converted with "
            "ImportImage."
        )


COMPLETE_UPLOAD: tuple[Rule[FoundUpload], ...] = (
    *GET_UPLOAD,
    the_key_of_an_encrypted_image_is_usable,
    what_is_to_be_converted_is_imported,
)
IMPORT_UPLOAD: tuple[Rule[FoundUpload], ...] = RESUME_UPLOAD
ABORT_UPLOAD: tuple[Rule[FoundUpload], ...] = (*GET_UPLOAD, a_stored_disk_is_not_filled_again)


# --- How far it has come ---


@dataclass(frozen=True, kw_only=True)
class Progress:
    """An upload has come so far."""

    upload: Upload
    received_bytes: int
    offset_bytes: int = 0
    """Where somebody wants to go on."""


@rule("5.11", Reason.UPLOAD_OFFSET_MISMATCH, Category.OUT_OF_RANGE)
def a_writer_goes_on_where_the_upload_has_come_to(progress: Progress) -> Iterator[Breach]:
    """Bytes are brought from just where the upload has come to."""
    if progress.offset_bytes != progress.received_bytes:
        yield breach(
            f"The upload has come to byte {progress.received_bytes}: go on there, not at "
            f"{progress.offset_bytes}.",
            subject="start.offset_bytes",
            expectedOffsetBytes=progress.received_bytes,
            offsetBytes=progress.offset_bytes,
        )


@rule("5.11", Reason.UPLOAD_INCOMPLETE, Category.AGAINST_RULES)
def only_a_whole_upload_is_finished(progress: Progress) -> Iterator[Breach]:
    """An upload is finished when every byte of it has arrived."""
    if progress.received_bytes < progress.upload.size_bytes:
        yield breach(
            f"{progress.received_bytes} of {progress.upload.size_bytes} bytes have arrived; bring the "
            "rest.",
            receivedBytes=progress.received_bytes,
            announcedBytes=progress.upload.size_bytes,
        )


GO_ON: tuple[Rule[Progress], ...] = (a_writer_goes_on_where_the_upload_has_come_to,)
COMPLETE: tuple[Rule[Progress], ...] = (only_a_whole_upload_is_finished,)
