"""The story of a copy within the region: one that takes a moment, and one whose bytes are copied.

A copy whose bytes stay as they are stored names the same blob as its source. One whose bytes change,
because it is encrypted, decrypted or of another format, is an operation: the image is there from the
beginning, SAVING, so that its name and what it takes are settled; its bytes are written by whoever takes
the operation up, each time as a blob of their own.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ims.blob_store.interface import BlobDeleted
from ims.domain.audit import Action
from ims.domain.caller import Caller
from ims.domain.copying import CopyOrder
from ims.domain.image import (
    BlobKey,
    Disk,
    DiskFormat,
    DiskState,
    Image,
    ImageId,
    ImageState,
    Source,
    SourceKind,
)
from ims.domain.operation import Operation, OperationId, OperationKind, OperationState
from ims.domain.quotas import usage_of
from ims.domain.rejection import Problems
from ims.domain.tenant import NOBODY
from ims.domain.view import View
from ims.repository.database import Transaction
from ims.rules.copying import COPY_IMAGE, FINISH_COPY, CopyAttempt
from ims.rules.engine import enforce
from ims.use_cases.deployment import Deployment, in_one_transaction, key_is_usable, see_locked
from ims.use_cases.downloads import download_image_data
from ims.use_cases.image_data import blobs_for_writing, give_up_now_or_later
from ims.use_cases.jobs import Interrupted, Job, begin, caller_of, ended_now, new_operation, reserve_blob
from ims.use_cases.storing import read_whole, store_file
from ims.use_cases.trail import record_image


@dataclass(frozen=True, kw_only=True)
class BegunCopy:
    """A copy that was begun, or only judged."""

    view: View
    """The copy as its owner sees it."""
    operation: Operation | None
    """None where it was only judged."""


@in_one_transaction
def copy_image(
    deployment: Deployment,
    tx: Transaction,
    *,
    caller: Caller,
    image_id: ImageId,
    order: CopyOrder,
    validate_only: bool = False,
    problems: Problems = (),
) -> BegunCopy:
    """Copy an image that the caller sees and may use; the copy is its tenant's own."""
    source = see_locked(deployment, tx, caller, image_id)
    # What is taken of it is judged under its lock, behind the image's.
    account = (tx.tenants.account if validate_only else tx.tenants.lock)(caller.tenant_id)
    operation_id = OperationId(deployment.new_id())
    draft = _draft(deployment, source.image, caller, order, operation_id)
    attempt = CopyAttempt(
        caller=caller,
        image=source.image,
        share=source.share,
        draft=draft,
        key_asked=order.encryption_key_id is not None,
        name_taken=tx.images.name_taken(draft.owner, draft.name),
        key_usable=key_is_usable(deployment, source.image),
        new_key_usable=key_is_usable(deployment, draft),
        allowance=account.under(deployment.limits.quotas),
        problems=problems,
    )
    enforce(COPY_IMAGE, attempt)
    # Behind everything else, so that it tells nothing to who may not copy.
    before, after = source.image.disks[0].format, draft.disks[0].format
    if before is not after:
        deployment.converter.require(before, after)
    view = View(image=draft, viewer=caller.tenant_id)
    if validate_only:
        return BegunCopy(view=view, operation=None)
    if draft.state is ImageState.ACTIVE:
        view = replace(view, image=_rekeyed(deployment, source.image, draft))
    operation = _operation(deployment, operation_id, caller, source.image, view)
    tx.images.add(view.image)
    for disk in view.image.disks:
        if disk.state is DiskState.STORED:
            tx.shared_blobs.share(disk.blob_key)
    begin(deployment, tx, operation)
    record_image(
        deployment,
        tx,
        Action.COPY_IMAGE,
        by=caller,
        after=view.image,
        details={"sourceImageId": source.image.id},
    )
    return BegunCopy(view=view, operation=operation)


def _draft(
    deployment: Deployment, source: Image, caller: Caller, order: CopyOrder, operation_id: OperationId
) -> Image:
    """Return the copy as it is to begin with: complete where its bytes stay as they are stored."""
    key_id = order.key_of_copy(source)
    converted = order.format not in {None, *(disk.format for disk in source.disks)}
    bytes_stay = source.encrypted is (key_id is not None) and not converted
    now = deployment.now()
    return replace(
        source,
        id=ImageId(deployment.new_id()),
        owner=caller.tenant_id,
        name=order.name,
        description=source.description if order.description is None else order.description,
        state=ImageState.ACTIVE if bytes_stay else ImageState.SAVING,
        public=False,
        protected=False,
        # What its owner files an image under is the owner's own affair.
        tags=(),
        source=Source(kind=SourceKind.IMAGE, id=source.id, region=source.region),
        declared_by=None,
        encryption_key_id=key_id,
        disks=source.disks if bytes_stay else tuple(_to_be_filled(source, order, operation_id)),
        version=1,
        create_time=now,
        update_time=now,
        delete_time=None,
        purge_time=None,
        state_before_deletion=None,
        deactivated_by_admin=False,
    )


def _to_be_filled(source: Image, order: CopyOrder, operation_id: OperationId) -> list[Disk]:
    return [
        Disk(
            index=disk.index,
            role=disk.role,
            format=order.format or disk.format,
            state=DiskState.SAVING,
            # No upload's: whoever gives up uploads leaves it to the operation.
            upload_id=operation_id,
            announced_bytes=_expected_bytes(disk, order.format or disk.format),
        )
        for disk in source.disks
    ]


def _expected_bytes(disk: Disk, copy_format: DiskFormat) -> int:
    """Return what a copy's file is taken to have until it is there; of most formats nobody knows."""
    if copy_format is DiskFormat.RAW and disk.format is not DiskFormat.RAW:
        return disk.capacity_bytes
    return disk.size_bytes


def _rekeyed(deployment: Deployment, source: Image, draft: Image) -> Image:
    """Return a copy whose disks name the blobs of its source, with their data keys under its own key."""
    old, new = source.encryption_key_id, draft.encryption_key_id
    if old is None or new is None or old == new:
        return draft
    disks = []
    for disk in source.disks:
        # The blob's key is what both are bound to: it is one blob, and opens with one data key.
        data_key = deployment.keys.unwrap(old, disk.wrapped_data_key, context=disk.blob_key)
        wrapped = deployment.keys.wrap(new, data_key, context=disk.blob_key)
        disks.append(replace(disk, wrapped_data_key=wrapped))
    return replace(draft, disks=tuple(disks))


def _operation(
    deployment: Deployment, operation_id: OperationId, caller: Caller, source: Image, copy: View
) -> Operation:
    operation = new_operation(
        deployment,
        caller,
        OperationKind.COPY_IMAGE,
        operation_id=operation_id,
        image_id=copy.image.id,
        source_image_id=source.id,
    )
    if copy.image.state is ImageState.ACTIVE:
        answer = deployment.render_image(copy)
        done = replace(operation, state=OperationState.SUCCEEDED, answer=answer)
        return ended_now(deployment, done)
    return replace(operation, total_bytes=source.size_bytes)


# --- Bytes that are copied ---


class Copying:
    """How copies are made whose bytes change."""

    def do(self, deployment: Deployment, job: Job) -> None:
        blob_key = BlobKey(deployment.new_id())
        copy = reserve_blob(deployment, job, blob_key)
        try:
            disk = _store(deployment, job, copy, blob_key)
            job.succeed(lambda tx: _finish(deployment, tx, job.operation, disk))
        except BaseException:
            give_up_now_or_later(deployment, copy.id, blob_key)
            raise

    def undo(
        self, deployment: Deployment, tx: Transaction, operation: Operation, by: Caller | None
    ) -> None:
        discard_copy(deployment, tx, operation.image_id, by=by)


def discard_copy(
    deployment: Deployment, tx: Transaction, image_id: ImageId, *, by: Caller | None
) -> bool:
    """Remove an image to which bytes were being copied; tell whether there was one."""
    view = tx.images.lock(image_id, NOBODY, now=deployment.now, governing=True)
    if view is None or view.image.state is not ImageState.SAVING:
        return False
    tx.images.purge(image_id)
    record_image(deployment, tx, Action.ABANDON_COPY, by=by, before=view.image)
    return True


def _store(deployment: Deployment, job: Job, copy: Image, blob_key: BlobKey) -> Disk:
    """Write the source's bytes as the copy's blob; return the copy's disk as it would be."""
    operation = job.operation
    # Judged like any download, at every chunk: what the caller may not read any more is not copied.
    download = download_image_data(
        deployment,
        caller=caller_of(operation),
        image_id=operation.source_image_id,
        disk_index=0,
    )
    chunks = read_whole(job, download)
    source, disk = download.disk, copy.disks[0]
    if source.format is disk.format:
        stored = _write(deployment, job, copy, source, blob_key, chunks)
    else:
        stored = store_file(deployment, job, copy, disk, blob_key, chunks, source.format)
    return replace(stored, upload_id="", announced_bytes=0)


def _write(
    deployment: Deployment,
    job: Job,
    copy: Image,
    source: Disk,
    blob_key: BlobKey,
    chunks: Iterator[bytes],
) -> Disk:
    """Write the very bytes of the source as a blob, without looking at them once more."""
    blobs, wrapped_data_key = blobs_for_writing(deployment, copy, blob_key)
    writer = blobs.open_writer(blob_key, hashed=False)
    try:
        for chunk in chunks:
            writer.write(chunk)
        job.goes_on()
        writer.commit()
    except BlobDeleted as error:
        raise Interrupted from error
    finally:
        writer.discard()
    return replace(
        copy.disks[0],
        state=DiskState.STORED,
        capacity_bytes=source.capacity_bytes,
        size_bytes=source.size_bytes,
        sha256=source.sha256,
        blob_key=blob_key,
        wrapped_data_key=wrapped_data_key,
    )


def _finish(deployment: Deployment, tx: Transaction, operation: Operation, disk: Disk) -> bytes:
    """Make the copy complete, in the transaction that ends its operation; return the answer."""
    caller = caller_of(operation)
    # Under its lock, so that nothing is copied to its end once an unsharing or a deletion has returned.
    source = see_locked(deployment, tx, caller, operation.source_image_id)
    view = tx.images.lock(operation.image_id, caller.tenant_id, now=deployment.now)
    assert view is not None  # see reserve_blob
    copy = replace(view.image, state=ImageState.ACTIVE, disks=(disk,))
    attempt = CopyAttempt(
        caller=caller,
        image=source.image,
        share=source.share,
        draft=copy,
        name_taken=False,
        key_usable=key_is_usable(deployment, source.image),
        new_key_usable=key_is_usable(deployment, copy),
        allowance=tx.tenants.lock(caller.tenant_id).under(deployment.limits.quotas),
        taken=usage_of(view.image),
    )
    enforce(FINISH_COPY, attempt)
    if not tx.pending_blobs.settle(disk.blob_key):
        raise Interrupted  # somebody took its writer for dead, and the blob is to be removed
    saved = tx.images.save(copy, now=deployment.now())
    record_image(deployment, tx, Action.COPY_IMAGE, by=caller, before=view.image, after=saved)
    return deployment.render_image(replace(view, image=saved))
