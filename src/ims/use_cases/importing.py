"""The story of a file that is fetched for a disk, from where a caller says that it is.

The disk is SAVING from the call on, so that nobody else fills it; its bytes are written by whoever takes
the operation up, each time as a blob of their own. Where it fails, the disk is EMPTY again.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ims.disk_files.ova import disk_in_ova
from ims.domain.audit import Action
from ims.domain.caller import Caller
from ims.domain.disk_file import DiskFileReport
from ims.domain.image import BlobKey, Disk, DiskFormat, Image, ImageId
from ims.domain.import_order import ImportOrder
from ims.domain.operation import Operation, OperationId, OperationKind
from ims.domain.quotas import usage_of
from ims.domain.rejection import Problems
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
from ims.use_cases.deployment import Deployment, in_one_transaction, key_is_usable, see_locked
from ims.use_cases.image_data import (
    empty_the_disk_of,
    give_up_now_or_later,
    min_disk_of,
    reserve,
    upload_attempt,
    with_disk,
)
from ims.use_cases.jobs import Interrupted, Job, caller_of, reserve_blob, to_request
from ims.use_cases.storing import store_file
from ims.use_cases.trail import record_image

if TYPE_CHECKING:
    from ims.providers.fetching import Fetch


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
    if _is_converted(order, image.disks[disk_index]):
        deployment.converter.require()
    now = deployment.now()
    operation = Operation(
        id=operation_id,
        tenant_id=caller.tenant_id,
        kind=OperationKind.IMPORT_IMAGE,
        request={
            **to_request(caller),
            "diskIndex": disk_index,
            "url": order.url,
            "sizeBytes": order.size_bytes,
            "sha256": order.sha256,
            "sourceFormat": order.source_format,
            "ova": order.ova,
        },
        image_id=image_id,
        source_image_id=ImageId(""),
        total_bytes=order.size_bytes,
        create_time=now,
        update_time=now,
    )
    tx.operations.add(operation)
    tx.once_committed(deployment.bell.ring)
    return operation


def _is_converted(order: ImportOrder, disk: Disk) -> bool:
    return _format_of(order, disk) is not disk.format


def _format_of(order: ImportOrder, disk: Disk) -> DiskFormat:
    """Return what the file that is fetched is to be."""
    return DiskFormat.VMDK if order.ova else order.source_format or disk.format


def _order_of(operation: Operation) -> ImportOrder:
    said = operation.request
    return ImportOrder(
        url=said["url"],
        size_bytes=said["sizeBytes"],
        sha256=said["sha256"],
        source_format=said["sourceFormat"] and DiskFormat(said["sourceFormat"]),
        ova=said["ova"],
    )


class Importing:
    """How files are fetched."""

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


def _store(deployment: Deployment, job: Job, image: Image, disk: Disk, blob_key: BlobKey) -> Disk:
    """Fetch the file, convert it if need be, and write it as a blob; return the disk as it would be."""
    order = _order_of(job.operation)
    with deployment.fetcher().fetch(
        order.url,
        max_bytes=deployment.limits.image_file_bytes,
        announced_bytes=order.size_bytes or None,
        keep_on=job.goes_on,
    ) as fetch:
        chunks = _fetched(fetch, job, image, disk, order)
        if order.ova:
            chunks = disk_in_ova(chunks)
        return store_file(deployment, job, image, disk, blob_key, chunks, _format_of(order, disk))


def _fetched(fetch: "Fetch", job: Job, image: Image, disk: Disk, order: ImportOrder) -> Iterator[bytes]:
    """Yield what is fetched. Raises Rejection at its end when that is not what was announced."""
    digest = hashlib.sha256()
    for chunk in fetch:
        job.goes_on()
        digest.update(chunk)
        yield chunk
        job.done_bytes = fetch.received_bytes
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
