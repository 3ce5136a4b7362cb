"""The story of a file that becomes a disk: fetched from where a caller says that it is, or uploaded.

The disk is SAVING from the call on, so that nobody else fills it; its bytes are written by whoever takes
the operation up, each time as a blob of their own. Where it fails, the disk is EMPTY again. What was
uploaded is kept until then, for whoever takes the operation up next.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Final

from ims.disk_files.ova import disk_in_ova
from ims.domain.audit import Action
from ims.domain.caller import Caller
from ims.domain.disk_file import DiskFileReport
from ims.domain.image import BlobKey, Disk, DiskFormat, DiskState, Image, ImageId
from ims.domain.import_order import ImportOrder
from ims.domain.operation import Operation, OperationId, OperationKind
from ims.domain.quotas import usage_of
from ims.domain.rejection import Problems, Rejection
from ims.domain.tenant import NOBODY
from ims.repository.database import Transaction
from ims.rules.engine import enforce
from ims.rules.image_data import (
    FINISH_IMPORT,
    Announcement,
    ArrivedFile,
    ImportedFile,
    the_file_has_its_announced_digest,
)
from ims.rules.states import state_of_filling
from ims.rules.uploads import IMPORT_UPLOAD
from ims.use_cases.deployment import Deployment, in_one_transaction, key_is_usable, see_locked
from ims.use_cases.downloads import blobs_for_reading
from ims.use_cases.image_data import (
    empty_the_disk_of,
    give_up_now_or_later,
    min_disk_of,
    remove_doomed,
    reserve,
    superseded,
    upload_attempt,
    with_disk,
)
from ims.use_cases.jobs import Interrupted, Job, begin, caller_of, new_operation, reserve_blob
from ims.use_cases.resumable_uploads import Go, complete, take_over
from ims.use_cases.storing import store_file
from ims.use_cases.trail import record_image

_CHUNK_BYTES: Final = 1024**2


@in_one_transaction
def import_image(
    deployment: Deployment,
    tx: Transaction,
    *,
    caller: Caller,
    image_id: ImageId,
    disk_index: int,
    order: ImportOrder,
    problems: Problems = (),
) -> Operation:
    """Begin to fetch the file of a disk; return the operation that does it."""
    image = see_locked(deployment, tx, caller, image_id).image
    operation_id = OperationId(deployment.new_id())
    announced = Announcement(size_bytes=order.size_bytes, sha256=order.sha256)
    attempt = upload_attempt(
        deployment, tx, caller, image, disk_index, announced, operation_id, problems
    )
    reserve(deployment, tx, attempt, action=Action.IMPORT_IMAGE)
    # Behind everything else, so that it tells nothing to who may not import.
    deployment.fetcher().check(order.url)
    disk = image.disks[disk_index]
    if _is_converted(order, disk):
        deployment.converter.require(order.format_for(disk), disk.format)
    return _begin(deployment, tx, caller, image_id, disk_index, operation_id, order)


def import_upload(
    deployment: Deployment,
    *,
    caller: Caller,
    image_id: ImageId,
    disk_index: int,
    upload_id: str,
    problems: Problems = (),
    finishing: Callable[[Callable[[], Operation]], Operation] = lambda begin: begin(),
) -> Operation:
    """Begin to make a disk of what an upload has brought; return the operation that does it.

    The upload is over with that. `finishing` is given the last step, to do it within a transaction of
    its own.
    """
    with deployment.uploads.alive(upload_id):
        go = take_over(deployment, caller, image_id, disk_index, upload_id, problems, IMPORT_UPLOAD)
        complete(deployment, go)
        return finishing(lambda: _hand_over(deployment, caller, go))


@in_one_transaction
def _hand_over(deployment: Deployment, tx: Transaction, caller: Caller, go: Go) -> Operation:
    """Have an operation fill the disk that an upload was to fill."""
    upload = go.upload
    image = see_locked(deployment, tx, caller, go.image.id).image
    disk = image.disks[go.disk.index]
    if disk.state is not DiskState.SAVING or disk.upload_id != upload.blob_key:
        raise superseded(disk.index)
    order = ImportOrder(
        upload_id=upload.blob_key,
        size_bytes=upload.size_bytes,
        sha256=upload.sha256,
        source_format=upload.source_format,
        ova=upload.ova,
    )
    if _is_converted(order, disk):
        deployment.converter.require(order.format_for(disk), disk.format)
    operation_id = OperationId(deployment.new_id())
    # No upload's any more: whoever gives up uploads leaves it to the operation.
    handed_over = with_disk(image, replace(disk, upload_id=operation_id))
    saved = tx.images.save(handed_over, now=deployment.now())
    tx.pending_blobs.hold([upload.blob_key], until=deployment.now() + deployment.upload_patience)
    record_image(
        deployment,
        tx,
        Action.IMPORT_IMAGE,
        by=caller,
        before=image,
        after=saved,
        details={"disk": disk.index, "announcedBytes": upload.size_bytes},
    )
    return _begin(deployment, tx, caller, image.id, disk.index, operation_id, order)


def _begin(
    deployment: Deployment,
    tx: Transaction,
    caller: Caller,
    image_id: ImageId,
    disk_index: int,
    operation_id: OperationId,
    order: ImportOrder,
) -> Operation:
    operation = new_operation(
        deployment,
        caller,
        OperationKind.IMPORT_IMAGE,
        operation_id=operation_id,
        request={
            "diskIndex": disk_index,
            "url": order.url,
            "uploadId": order.upload_id,
            "sizeBytes": order.size_bytes,
            "sha256": order.sha256,
            "sourceFormat": order.source_format,
            "ova": order.ova,
        },
        image_id=image_id,
        total_bytes=order.size_bytes,
    )
    begin(deployment, tx, operation)
    return operation


def _is_converted(order: ImportOrder, disk: Disk) -> bool:
    return order.format_for(disk) is not disk.format


def _order_of(operation: Operation) -> ImportOrder:
    said = operation.request
    return ImportOrder(
        url=said["url"],
        # Not there where the operation was begun by a version that only fetched.
        upload_id=said.get("uploadId", ""),
        size_bytes=said["sizeBytes"],
        sha256=said["sha256"],
        source_format=said["sourceFormat"] and DiskFormat(said["sourceFormat"]),
        ova=said["ova"],
    )


class Importing:
    """How files are brought to disks."""

    def do(self, deployment: Deployment, job: Job) -> None:
        blob_key = BlobKey(deployment.new_id())
        image = reserve_blob(deployment, job, blob_key)
        disk = image.disks[job.operation.request["diskIndex"]]
        try:
            stored = _store(deployment, job, image, disk, blob_key)
            job.succeed(lambda tx: _finish(deployment, tx, job.operation, stored))
        except BaseException:
            give_up_now_or_later(deployment, image.id, blob_key)
            raise

    def undo(
        self, deployment: Deployment, tx: Transaction, operation: Operation, by: Caller | None
    ) -> None:
        view = tx.images.lock(operation.image_id, NOBODY, now=deployment.now, governing=True)
        if view is not None:
            empty_the_disk_of(
                deployment,
                tx,
                view.image,
                BlobKey(operation.id),
                action=Action.ABANDON_IMPORT,
                by=by,
            )
        _let_go_of_the_upload(deployment, tx, operation)


def _let_go_of_the_upload(deployment: Deployment, tx: Transaction, operation: Operation) -> None:
    """Have what was uploaded removed, where something was, once the transaction is committed."""
    upload_id = _order_of(operation).upload_id
    if not upload_id:
        return
    blob_key = BlobKey(upload_id)
    tx.pending_blobs.remove(blob_key)
    tx.pending_blobs.doom([blob_key])
    tx.once_committed(lambda: _remove_now_or_later(deployment, blob_key))


def _remove_now_or_later(deployment: Deployment, blob_key: BlobKey) -> None:
    with suppress(Rejection):  # a sweep tries again
        remove_doomed(deployment, blob_key)


def _store(deployment: Deployment, job: Job, image: Image, disk: Disk, blob_key: BlobKey) -> Disk:
    """Take the file, convert it if need be, and write it as a blob; return the disk as it would be."""
    order = _order_of(job.operation)
    with _brought(deployment, job, image, disk, order) as chunks:
        taken = disk_in_ova(chunks) if order.ova else chunks
        return store_file(deployment, job, image, disk, blob_key, taken, order.format_for(disk))


@contextmanager
def _brought(
    deployment: Deployment, job: Job, image: Image, disk: Disk, order: ImportOrder
) -> Iterator[Iterator[bytes]]:
    """Give the block the file's bytes; they raise at their end where it is not what was announced."""
    if order.upload_id:
        yield _whole(job, image, disk, order, _uploaded(deployment, job, image, disk, order))
        return
    with deployment.fetcher().fetch(
        order.url,
        max_bytes=deployment.limits.image_file_bytes,
        announced_bytes=order.size_bytes or None,
        keep_on=job.goes_on,
    ) as fetch:
        yield _whole(job, image, disk, order, fetch)


def _uploaded(
    deployment: Deployment, job: Job, image: Image, disk: Disk, order: ImportOrder
) -> Iterator[bytes]:
    """Return what an upload has brought. Raises Rejection when it was given up meanwhile."""
    blob_key = BlobKey(order.upload_id)
    job.keeps(blob_key)
    with deployment.database.reading() as reading:
        upload = reading.uploads.find(blob_key)
    if upload is None:
        raise superseded(disk.index)
    found = replace(
        disk,
        size_bytes=upload.size_bytes,
        blob_key=blob_key,
        wrapped_data_key=upload.wrapped_data_key,
        seal_runs=upload.seal_runs,
    )
    return blobs_for_reading(deployment, image, found).read(
        blob_key, offset_bytes=0, length_bytes=upload.size_bytes, chunk_bytes=_CHUNK_BYTES
    )


def _whole(
    job: Job, image: Image, disk: Disk, order: ImportOrder, chunks: Iterable[bytes]
) -> Iterator[bytes]:
    """Yield a file's bytes. Raises Rejection at their end when they are not what was announced."""
    digest, taken_bytes = hashlib.sha256(), 0
    for chunk in chunks:
        job.goes_on()
        digest.update(chunk)
        taken_bytes += len(chunk)
        yield chunk
        job.done_bytes = taken_bytes
    _refuse_another_digest(image, disk, order, digest)


def _refuse_another_digest(
    image: Image, disk: Disk, order: ImportOrder, fetched: "hashlib._Hash"
) -> None:
    """Raise Rejection DIGEST_MISMATCH when the file as it was fetched is another than was announced."""
    arrived = ArrivedFile(
        draft=image,
        disk=replace(disk, sha256=fetched.hexdigest()),
        announced=Announcement(size_bytes=disk.size_bytes, sha256=order.sha256),
        report=DiskFileReport(format=disk.format, described_as=disk.format, capacity_bytes=0),
    )
    enforce((the_file_has_its_announced_digest,), arrived)


def _finish(deployment: Deployment, tx: Transaction, operation: Operation, stored: Disk) -> bytes:
    """Have the disk name its bytes, in the transaction that ends the operation; return the answer."""
    caller = caller_of(operation)
    view = see_locked(deployment, tx, caller, operation.image_id)
    filled = replace(stored, upload_id="", announced_bytes=0)
    image = with_disk(view.image, filled)
    image = replace(image, state=state_of_filling(image.disks), min_disk_gib=min_disk_of(image, filled))
    imported = ImportedFile(
        image=image,
        key_usable=key_is_usable(deployment, image),
        allowance=tx.tenants.lock(image.owner).under(deployment.limits.quotas),
        asked=usage_of(image) - usage_of(view.image),
    )
    enforce(FINISH_IMPORT, imported)
    if not tx.pending_blobs.settle(stored.blob_key):
        raise Interrupted  # somebody took its writer for dead, and the blob is to be removed
    _let_go_of_the_upload(deployment, tx, operation)
    saved = tx.images.save(image, now=deployment.now())
    record_image(
        deployment,
        tx,
        Action.IMPORT_IMAGE,
        by=caller,
        before=view.image,
        after=saved,
        details={"disk": stored.index, "storedBytes": stored.size_bytes},
    )
    return deployment.render_image(replace(view, image=saved))
