"""The story of bytes that arrive in one call, and what a crash in between leaves to be mended."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from ims.blob_store.interface import BlobDeleted, BlobStore, BlobWriter
from ims.blob_store.sealed import SealedBlobs
from ims.disk_files.inspection import Inspection
from ims.domain.audit import Action
from ims.domain.caller import Caller
from ims.domain.disk_file import DiskFileReport
from ims.domain.image import BlobKey, Disk, DiskState, Image, ImageId
from ims.domain.rejection import Category, Problems, Reason, Rejection, reject
from ims.domain.tenant import NOBODY
from ims.domain.view import View
from ims.repository.database import Transaction
from ims.rules.engine import Rule, enforce
from ims.rules.image_data import (
    FINISH_UPLOAD,
    RECEIVE_CHUNK,
    START_UPLOAD,
    Announcement,
    Arrival,
    ArrivedFile,
    UploadAttempt,
)
from ims.rules.images import whole_gib
from ims.rules.states import state_of_filling
from ims.use_cases.deployment import (
    Deployment,
    ask_for_key_of,
    in_one_transaction,
    key_is_usable,
    refuse_if,
    see_locked,
)
from ims.use_cases.direct_parts import takes_parts
from ims.use_cases.trail import record_image

_log = logging.getLogger(__name__)


# --- Upload: reserve, receive, finish ---

Finished = tuple[View, Disk]
"""An image, and the disk of it that was filled."""
Finish = Callable[[], Finished]


def just_finish(finish: Finish) -> Finished:
    """Do the last step of an upload in a transaction of its own."""
    return finish()


def upload_image_data(
    deployment: Deployment,
    *,
    caller: Caller,
    image_id: ImageId,
    disk_index: int,
    announced: Announcement,
    chunks: Iterator[bytes],
    problems: Problems = (),
    finishing: Callable[[Finish], Finished] = just_finish,
) -> Finished:
    """Fill one disk of an image with the bytes that arrive; return the image and the disk.

    `finishing` is given the last step, to do it within a transaction of its own.
    """
    ask_for_key_of(deployment, caller, image_id)
    upload_id = deployment.new_id()
    with deployment.uploads.alive(upload_id):
        reserved = _reserve(deployment, caller, image_id, disk_index, announced, upload_id, problems)
        try:
            stored = _store(deployment, reserved, announced, chunks)
            return finishing(lambda: _named(deployment, caller, image_id, stored))
        except BaseException:
            give_up_now_or_later(deployment, image_id, _blob_key(upload_id))
            raise


def _named(deployment: Deployment, caller: Caller, image_id: ImageId, stored: Disk) -> Finished:
    action = Action.UPLOAD_IMAGE_DATA
    return name_bytes(deployment, caller, image_id, stored, action=action), stored


@dataclass(frozen=True, kw_only=True)
class Reserved:
    """A disk that waits for its bytes."""

    image: Image
    disk: Disk
    """The disk, SAVING, with the id of this upload."""


@in_one_transaction
def _reserve(
    deployment: Deployment,
    tx: Transaction,
    caller: Caller,
    image_id: ImageId,
    disk_index: int,
    announced: Announcement,
    upload_id: str,
    problems: Problems,
) -> Reserved:
    view = see_locked(deployment, tx, caller, image_id)
    attempt = upload_attempt(
        deployment, tx, caller, view.image, disk_index, announced, upload_id, problems
    )
    until = deployment.now() + deployment.upload_lease
    return reserve(deployment, tx, attempt, action=Action.UPLOAD_IMAGE_DATA, until=until)


def upload_attempt(
    deployment: Deployment,
    tx: Transaction,
    caller: Caller,
    image: Image,
    disk_index: int,
    announced: Announcement,
    upload_id: str,
    problems: Problems,
    *,
    direct: bool = False,
) -> UploadAttempt:
    """Return what is judged when the upload of a disk is to begin; locks the owner's quotas."""
    return UploadAttempt(
        caller=caller,
        image=image,
        disk_index=disk_index,
        announced=announced,
        upload_id=upload_id,
        max_file_bytes=deployment.limits.image_file_bytes,
        allowance=tx.tenants.lock(image.owner).under(deployment.limits.quotas),
        direct=direct,
        store_takes_parts=takes_parts(deployment),
        key_usable=key_is_usable(deployment, image),
        problems=problems,
    )


def reserve(
    deployment: Deployment,
    tx: Transaction,
    attempt: UploadAttempt,
    *,
    action: Action,
    until: datetime | None = None,
    rules: tuple[Rule[UploadAttempt], ...] = START_UPLOAD,
) -> Reserved:
    """Note that the disk's bytes are arriving, so that nobody deletes the image or brings others.

    An upload is held until a time without another word; without one, somebody else sees to its end.
    Raises Rejection when the law forbids it.
    """
    enforce(rules, attempt)
    if until is not None:
        tx.pending_blobs.add(_blob_key(attempt.upload_id), attempt.image.id, until=until)
    image = tx.images.save(attempt.draft, now=deployment.now())
    record_image(
        deployment,
        tx,
        action,
        by=attempt.caller,
        before=attempt.image,
        after=image,
        details={"disk": attempt.disk_index, "announcedBytes": attempt.announced.size_bytes or None},
    )
    return Reserved(image=image, disk=image.disks[attempt.disk_index])


def _blob_key(upload_id: str) -> BlobKey:
    return BlobKey(upload_id)


def _store(
    deployment: Deployment, reserved: Reserved, announced: Announcement, chunks: Iterator[bytes]
) -> Disk:
    """Write what arrives as a blob, visible once it is complete and found good; return the disk."""
    blob_key = _blob_key(reserved.disk.upload_id)
    blobs, wrapped_data_key = blobs_for_writing(deployment, reserved.image, blob_key)
    writer = blobs.open_writer(blob_key)
    try:
        filled = _receive(deployment, reserved, announced, chunks, writer)
        # Visible before the record says so: a crash in between leaves a pending blob, which is removed,
        # and never a record whose bytes are missing.
        writer.commit()
    except BlobDeleted as error:
        raise superseded(reserved.disk.index) from error
    finally:
        writer.discard()
    return replace(filled, blob_key=blob_key, wrapped_data_key=wrapped_data_key)


def _receive(
    deployment: Deployment,
    reserved: Reserved,
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
    filled = replace(reserved.disk, size_bytes=writer.size_bytes, sha256=writer.sha256)
    return judged(reserved.image, filled, announced, report, cut_short=cut_short)


def judged(
    image: Image,
    filled: Disk,
    announced: Announcement,
    report: DiskFileReport,
    *,
    cut_short: bool = False,
) -> Disk:
    """Return a disk as it is to be stored, with the size and digest that it has.

    Raises Rejection when what has arrived is not what was announced, or cannot be a disk.
    """
    disk = replace(filled, state=DiskState.STORED, capacity_bytes=report.capacity_bytes)
    arrived = ArrivedFile(
        draft=with_disk(image, disk),
        disk=disk,
        announced=announced,
        report=report,
        cut_short=cut_short,
    )
    enforce(FINISH_UPLOAD, arrived)
    return disk


@in_one_transaction
def name_bytes(
    deployment: Deployment,
    tx: Transaction,
    caller: Caller,
    image_id: ImageId,
    stored: Disk,
    *,
    action: Action,
) -> View:
    """Have a disk name the bytes that were stored for it; return its image.

    Raises Rejection UPLOAD_SUPERSEDED when the disk does not wait for them any more.
    """
    view = tx.images.lock(image_id, caller.tenant_id, now=deployment.now, governing=True)
    if view is not None and view.image.disks[stored.index].blob_key == stored.blob_key:
        return view  # two have finished the upload at once
    if view is None or view.image.disks[stored.index].upload_id != stored.upload_id:
        raise superseded(stored.index)
    # Suspended while the bytes were arriving: they are given up.
    refuse_if(caller.tenant_id, suspended=view.viewer_suspended)
    refuse_if(view.image.owner, suspended=view.owner_suspended)
    image = with_disk(view.image, replace(stored, upload_id="", announced_bytes=0))
    image = replace(image, state=state_of_filling(image.disks))
    image = replace(image, min_disk_gib=min_disk_of(image, stored))
    tx.pending_blobs.remove(stored.blob_key)
    saved = tx.images.save(image, now=deployment.now())
    record_image(
        deployment,
        tx,
        action,
        by=caller,
        before=view.image,
        after=saved,
        details={"disk": stored.index, "storedBytes": stored.size_bytes},
    )
    return replace(view, image=saved)


def min_disk_of(image: Image, stored: Disk) -> int:
    """Return the smallest disk, in GiB, that an image fits on when one of its disks has been stored."""
    if stored.index == 0 and image.min_disk_gib == 0:
        return whole_gib(stored.capacity_bytes)
    return image.min_disk_gib


def superseded(disk_index: int) -> Rejection:
    """Return what is raised when a disk does not wait for an upload any more."""
    return reject(
        Category.CONFLICT,
        Reason.UPLOAD_SUPERSEDED,
        "The upload was given up meanwhile and its bytes are gone; upload again.",
        subject="disk_index",
        diskIndex=disk_index,
    )


def give_up_now_or_later(deployment: Deployment, image_id: ImageId, blob_key: BlobKey) -> None:
    """Let go of an upload that has failed, unless its disk has its bytes all the same.

    That is so when only the answer to the last commit was lost.
    """
    try:
        # Also when the call's time is over, which may be why the upload has failed.
        with deployment.database.until(None):
            give_up_upload(deployment, image_id, blob_key)
    except Exception:  # noqa: BLE001 - whatever it was, the sweep tries again
        # What went wrong with the upload is what its caller should hear of.
        _log.exception("An upload cannot be given up just now; a sweep does it.")


def give_up_upload(deployment: Deployment, image_id: ImageId, blob_key: BlobKey) -> None:
    """Let go of an upload, whoever holds it, unless its disk has its bytes by now."""
    if _give_up(deployment, image_id, blob_key):
        remove_doomed(deployment, blob_key)


@in_one_transaction
def _give_up(deployment: Deployment, tx: Transaction, image_id: ImageId, blob_key: BlobKey) -> bool:
    """Return the disk that an upload was to fill to EMPTY; tell whether its blob is to be removed."""
    view = tx.images.lock(image_id, NOBODY, now=deployment.now, governing=True)
    if view is not None:
        if any(disk.blob_key == blob_key for disk in view.image.disks):
            return False
        empty_the_disk_of(deployment, tx, view.image, blob_key)
    # Also when others have given it up meanwhile, and its bytes came after they were removed.
    tx.pending_blobs.remove(blob_key)
    tx.pending_blobs.doom([blob_key])
    return True


def empty_the_disk_of(
    deployment: Deployment,
    tx: Transaction,
    image: Image,
    blob_key: BlobKey,
    *,
    action: Action = Action.ABANDON_UPLOAD,
    by: Caller | None = None,
) -> Image:
    """Return an image's disk to EMPTY, if it still waits for that blob; return the image."""
    disks = tuple(
        replace(disk, state=DiskState.EMPTY, upload_id="", announced_bytes=0)
        if disk.state is DiskState.SAVING and _blob_key(disk.upload_id) == blob_key
        else disk
        for disk in image.disks
    )
    if disks == image.disks:
        return image
    emptied = replace(image, disks=disks, state=state_of_filling(disks))
    saved = tx.images.save(emptied, now=deployment.now())
    record_image(deployment, tx, action, by=by, before=image, after=saved)
    return saved


def with_disk(image: Image, disk: Disk) -> Image:
    """Return an image with one of its disks as it is given."""
    disks = tuple(disk if each.index == disk.index else each for each in image.disks)
    return replace(image, disks=disks)


def blobs_for_writing(
    deployment: Deployment, image: Image, blob_key: BlobKey
) -> tuple[BlobStore, bytes]:
    """Return where to write a disk, and its data key, wrapped; an unencrypted image's has none.

    Raises Rejection KEY_UNAVAILABLE.
    """
    if image.encryption_key_id is None:
        return deployment.blobs, b""
    data_key = deployment.keys.new_data_key(image.encryption_key_id, context=blob_key)
    return SealedBlobs(deployment.blobs, data_key.plaintext), data_key.wrapped


# --- What a crash leaves ---


def keep_uploads_alive(deployment: Deployment) -> None:
    """Hold what this process is receiving for longer, so that no other takes it for dead."""
    alive = deployment.uploads.all()
    if not alive:
        return
    until = deployment.now() + deployment.upload_lease
    with deployment.database.transaction() as tx:
        tx.pending_blobs.hold([_blob_key(upload_id) for upload_id in alive], until=until)


def give_up_dead_uploads(deployment: Deployment) -> int:
    """Give up every upload whose process has not been heard of in time; return how many there were.

    Then remove the blobs that no disk names and no upload is about to.
    """
    with deployment.database.reading() as reading:
        abandoned = reading.pending_blobs.abandoned(now=deployment.now())
    given_up = 0
    for each in abandoned:
        if each.image_id is None:
            remove_doomed(deployment, each.blob_key)
        else:
            given_up += give_up_dead_upload(deployment, each.image_id, each.blob_key)
    return given_up


def give_up_dead_upload(deployment: Deployment, image_id: ImageId, blob_key: BlobKey) -> bool:
    """Give up an upload if its process has not been heard of in time; tell whether it was so."""
    dead = _give_up_dead(deployment, image_id, blob_key)
    if dead:
        remove_doomed(deployment, blob_key)
    return dead


@in_one_transaction
def _give_up_dead(deployment: Deployment, tx: Transaction, image_id: ImageId, blob_key: BlobKey) -> bool:
    """Take an upload from a process that is silent; tell whether it still was when looked at again.

    Should the process be alive after all, it finds its disk taken when it comes to finish.
    """
    view = tx.images.lock(image_id, NOBODY, now=deployment.now, governing=True)
    if not tx.pending_blobs.give_up(blob_key, now=deployment.now()):
        return False
    if view is not None:
        empty_the_disk_of(deployment, tx, view.image, blob_key)
    return True


def remove_doomed(deployment: Deployment, blob_key: BlobKey) -> None:
    """Remove a blob that no disk names, nor can any more."""
    if remove_for_now(deployment, blob_key):
        with deployment.database.transaction() as tx:
            tx.pending_blobs.remove(blob_key)


def remove_for_now(deployment: Deployment, blob_key: BlobKey) -> bool:
    """Remove a blob that is doomed, and leave it on record; tell whether it could be removed."""
    try:
        deployment.blobs.delete(blob_key)
    except (OSError, Rejection):
        # Nothing else has to wait for it.
        _log.exception("A blob cannot be removed just now; a sweep does it.")
        return False
    return True
