"""The story of bytes: upload, download, and what a crash in between leaves to be mended."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ims.blob_store.interface import BlobStore, BlobWriter
from ims.blob_store.sealed import SealedBlobs
from ims.disk_files.inspection import Inspection
from ims.domain.caller import Caller
from ims.domain.image import BlobKey, Disk, DiskState, Image, ImageId
from ims.domain.rejection import Category, FieldProblem, Reason, reject
from ims.domain.tenant import NOBODY, TenantId
from ims.domain.view import View
from ims.rules.engine import enforce
from ims.rules.image_data import (
    DOWNLOAD_IMAGE_DATA,
    FINISH_UPLOAD,
    RECEIVE_CHUNK,
    START_UPLOAD,
    Announcement,
    Arrival,
    ArrivedFile,
    DownloadAttempt,
    UploadAttempt,
)
from ims.rules.images import whole_gib
from ims.rules.states import Verb, state_after, state_of_filling
from ims.use_cases.deployment import Deployment, representing, see, see_locked

Problems = tuple[FieldProblem, ...]


# --- Upload: reserve, receive, finish ---


def upload_image_data(
    deployment: Deployment,
    *,
    caller: Caller,
    image_id: ImageId,
    disk_index: int,
    announced: Announcement,
    chunks: Iterator[bytes],
    problems: Problems = (),
) -> tuple[View, Disk]:
    """Fill one disk of an image with the bytes that arrive; return the image and the disk."""
    with deployment.transfers.slot():
        reserved = _reserve(deployment, caller, image_id, disk_index, announced, problems)
        blob_key = BlobKey(reserved.disk.upload_id)
        stored: Disk | None = None
        try:
            blobs, wrapped = _blobs_for_writing(deployment, reserved.image, blob_key)
            writer = blobs.open_writer(blob_key)
            try:
                filled = _receive(deployment, reserved, announced, chunks, writer)
                # Visible before the record says so: a crash in between leaves a blob that nothing names,
                # which the next start removes, and never a record whose bytes are missing.
                writer.commit()
            finally:
                writer.discard()
            stored = replace(filled, blob_key=blob_key, wrapped_data_key=wrapped)
            return _finish(deployment, caller, image_id, stored), stored
        except BaseException:
            if stored is not None:
                deployment.blobs.delete(blob_key)
            _give_back(deployment, image_id, reserved.disk)
            raise


@dataclass(frozen=True, kw_only=True)
class _Reserved:
    image: Image
    disk: Disk
    """The disk, SAVING, with the id of this upload."""


def _reserve(
    deployment: Deployment,
    caller: Caller,
    image_id: ImageId,
    disk_index: int,
    announced: Announcement,
    problems: Problems,
) -> _Reserved:
    """Note that the disk's bytes are arriving, so that nobody deletes the image or brings others."""
    with deployment.database.transaction() as tx:
        view = see_locked(deployment, tx, caller, image_id)
        attempt = UploadAttempt(
            caller=caller,
            image=view.image,
            disk_index=disk_index,
            announced=announced,
            max_file_bytes=deployment.limits.image_file_bytes,
            problems=problems,
        )
        enforce(START_UPLOAD, attempt)
        disk = replace(
            view.image.disks[disk_index], state=DiskState.SAVING, upload_id=deployment.new_id()
        )
        image = replace(_with_disk(view.image, disk), state=state_after(Verb.UPLOAD, view.image))
        return _Reserved(image=tx.images.save(image, now=deployment.now()), disk=disk)


def _receive(
    deployment: Deployment,
    reserved: _Reserved,
    announced: Announcement,
    chunks: Iterator[bytes],
    writer: BlobWriter,
) -> Disk:
    """Write what arrives, looking at it on the way; return the disk as it would be."""
    inspection = Inspection(reserved.disk.format)
    limit = deployment.limits.image_file_bytes
    cut_short = False
    for chunk in chunks:
        received = writer.size_bytes + len(chunk)
        enforce(
            RECEIVE_CHUNK, Arrival(announced=announced, received_bytes=received, max_file_bytes=limit)
        )
        inspection.write(chunk)
        if cut_short := inspection.hopeless:
            break
        writer.write(chunk)
    report = inspection.report(writer.size_bytes)
    disk = replace(
        reserved.disk,
        state=DiskState.STORED,
        capacity_bytes=report.capacity_bytes,
        size_bytes=writer.size_bytes,
        sha256=writer.sha256,
    )
    draft = _with_disk(reserved.image, disk)
    arrived = ArrivedFile(
        draft=draft, disk=disk, announced=announced, report=report, cut_short=cut_short
    )
    enforce(FINISH_UPLOAD, arrived)
    return disk


def _finish(deployment: Deployment, caller: Caller, image_id: ImageId, stored: Disk) -> View:
    with deployment.database.transaction() as tx:
        view = tx.images.lock(image_id, caller.tenant_id)
        if view is None or view.image.disks[stored.index].upload_id != stored.upload_id:
            raise reject(
                Category.CONFLICT,
                Reason.UPLOAD_SUPERSEDED,
                "The upload was given up meanwhile and its bytes are gone; upload again.",
                subject="disk_index",
                diskIndex=stored.index,
            )
        image = _with_disk(view.image, replace(stored, upload_id=""))
        image = replace(image, state=state_of_filling(image.disks))
        if stored.index == 0 and image.min_disk_gib == 0:
            image = replace(image, min_disk_gib=whole_gib(stored.capacity_bytes))
        return replace(view, image=tx.images.save(image, now=deployment.now()))


def _give_back(deployment: Deployment, image_id: ImageId, saving: Disk) -> None:
    """Return a disk whose upload failed to EMPTY, unless another upload has it by now."""
    with deployment.database.transaction() as tx:
        view = tx.images.lock(image_id, NOBODY)
        if view is None or view.image.disks[saving.index].upload_id != saving.upload_id:
            return
        emptied = replace(view.image.disks[saving.index], state=DiskState.EMPTY, upload_id="")
        image = _with_disk(view.image, emptied)
        image = replace(image, state=state_of_filling(image.disks))
        tx.images.save(image, now=deployment.now())


def _with_disk(image: Image, disk: Disk) -> Image:
    disks = tuple(disk if each.index == disk.index else each for each in image.disks)
    return replace(image, disks=disks)


def _blobs_for_writing(
    deployment: Deployment, image: Image, blob_key: BlobKey
) -> tuple[BlobStore, bytes]:
    """Return where to write a disk, and its data key, wrapped; an unencrypted image's has none."""
    if image.encryption_key_id is None:
        return deployment.blobs, b""
    data_key = deployment.keys.new_data_key(image.encryption_key_id, context=blob_key)
    return SealedBlobs(deployment.blobs, data_key.plaintext), data_key.wrapped


# --- Download ---


@dataclass(frozen=True, kw_only=True)
class Download:
    """A part of a disk's bytes, on their way."""

    disk: Disk
    offset_bytes: int
    length_bytes: int
    chunks: Iterator[bytes]


@contextmanager
def download_image_data(
    deployment: Deployment,
    *,
    caller: Caller,
    image_id: ImageId,
    disk_index: int,
    offset_bytes: int = 0,
    length_bytes: int = 0,
    tenant_id: TenantId | None = None,
    problems: Problems = (),
) -> Iterator[Download]:
    """Open the bytes of a disk from an offset on, `length_bytes` of them or (0) all to the end.

    The chunks come out only as long as the tenant may read them: each is judged anew.
    """
    reader = representing(caller, tenant_id)
    with deployment.database.reading() as reading:
        view = see(deployment, reading, reader, image_id)
    attempt = DownloadAttempt(
        caller=reader,
        image=view.image,
        share=view.share,
        disk_index=disk_index,
        offset_bytes=offset_bytes,
        problems=problems,
    )
    enforce(DOWNLOAD_IMAGE_DATA, attempt)
    with deployment.transfers.slot():
        disk = view.image.disks[disk_index]
        rest = disk.size_bytes - offset_bytes
        length = min(length_bytes, rest) if length_bytes else rest
        chunks = _blobs_for_reading(deployment, view.image, disk).read(
            disk.blob_key,
            offset_bytes=offset_bytes,
            length_bytes=length,
            chunk_bytes=deployment.chunk_bytes,
        )
        yield Download(
            disk=disk,
            offset_bytes=offset_bytes,
            length_bytes=length,
            chunks=_while_allowed(deployment, attempt, chunks),
        )


def _while_allowed(
    deployment: Deployment, attempt: DownloadAttempt, chunks: Iterator[bytes]
) -> Iterator[bytes]:
    for chunk in chunks:
        # After reading and just before sending: what is revoked while the disk is busy is not sent.
        _judge_again(deployment, attempt)
        yield chunk


def _judge_again(deployment: Deployment, attempt: DownloadAttempt) -> None:
    with deployment.database.reading() as reading:
        if reading.images.may_be_read(attempt.image.id, attempt.caller.tenant_id):
            return
        view = see(deployment, reading, attempt.caller, attempt.image.id)
    enforce(DOWNLOAD_IMAGE_DATA, replace(attempt, image=view.image, share=view.share))


def _blobs_for_reading(deployment: Deployment, image: Image, disk: Disk) -> BlobStore:
    if image.encryption_key_id is None:
        return deployment.blobs
    data_key = deployment.keys.unwrap(
        image.encryption_key_id, disk.wrapped_data_key, context=disk.blob_key
    )
    return SealedBlobs(deployment.blobs, data_key)


# --- What a crash leaves ---


def recover_interrupted_uploads(deployment: Deployment) -> int:
    """Give up the uploads that an earlier process was receiving; return how many images had any.

    Only at start-up, before the first call is served: every upload on record is then a dead one.
    """
    deployment.blobs.discard_unfinished()
    with deployment.database.reading() as reading:
        interrupted = reading.images.saving()
    for image_id in interrupted:
        with deployment.database.transaction() as tx:
            view = tx.images.lock(image_id, NOBODY)
            if view is not None:
                disks = tuple(_without_upload(disk) for disk in view.image.disks)
                image = replace(view.image, disks=disks, state=state_of_filling(disks))
                tx.images.save(image, now=deployment.now())
    _remove_unnamed_blobs(deployment)
    return len(interrupted)


def _without_upload(disk: Disk) -> Disk:
    if disk.state is DiskState.SAVING:
        return replace(disk, state=DiskState.EMPTY, upload_id="")
    return disk


def _remove_unnamed_blobs(deployment: Deployment) -> None:
    with deployment.database.reading() as reading:
        named = reading.images.blob_keys()
    for key in deployment.blobs.keys():  # noqa: SIM118 - a store is no dict
        if key not in named:
            deployment.blobs.delete(key)
