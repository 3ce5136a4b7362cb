"""The story of an export: a disk's file that is put into a bucket as an object, never over another.

Whoever takes the operation up sends the bytes anew, as an upload of the store's own that is on record
before its first byte is sent, and is only seen once it is finished. So the next one ends that upload
first: then nobody before it can finish any more, and it sees whether somebody has.

Every image that is exported has one disk: a full-ECS image never is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from ims.blob_store.exports import ExportBucket, ExportSuperseded, ObjectWriter, TargetTaken
from ims.domain.audit import Action
from ims.domain.caller import Caller
from ims.domain.export import ExportedObject, ExportOrder
from ims.domain.image import DiskFormat, Image, ImageId
from ims.domain.operation import Operation, OperationKind
from ims.domain.rejection import Problems
from ims.domain.tenant import NOBODY
from ims.repository.database import Transaction
from ims.rules.engine import enforce
from ims.rules.exporting import EXPORT_IMAGE, FINISH_EXPORT, ExportAttempt
from ims.use_cases.current_call import current_call
from ims.use_cases.deployment import Deployment, in_one_transaction, key_is_usable, see_locked
from ims.use_cases.downloads import download_image_data
from ims.use_cases.jobs import Job, Lost, begin, caller_of, new_operation
from ims.use_cases.storing import read_whole
from ims.use_cases.trail import record_image

_CHUNK_BYTES: Final = 1024**2


@dataclass(frozen=True, kw_only=True)
class BegunExport:
    """An export that was begun, or only judged."""

    exported: ExportedObject
    """The object as it is to be."""
    operation: Operation | None
    """None where it was only judged."""


def look_at_target(
    deployment: Deployment, *, caller: Caller, image_id: ImageId, order: ExportOrder
) -> None:
    """Note of the present call whether its target is taken, before the transaction that judges that.

    Nothing is asked for who may not export there. Raises Rejection where the store cannot say.
    """
    call = current_call()
    if call is None or not deployment.exports.is_open(order.bucket, caller.tenant_id):
        return
    with deployment.database.reading() as reading:
        view = reading.images.seen(image_id, caller.tenant_id, now=deployment.now())
    if view is not None and view.image.owner == caller.tenant_id:
        bucket = deployment.exports.bucket(order.bucket)
        call.target_taken = bucket.is_taken(order.object_key)


@in_one_transaction
def export_image(
    deployment: Deployment,
    tx: Transaction,
    *,
    caller: Caller,
    image_id: ImageId,
    order: ExportOrder,
    validate_only: bool = False,
    problems: Problems = (),
) -> BegunExport:
    """Begin to put the file of a disk into a bucket; return the operation that does it."""
    image = see_locked(deployment, tx, caller, image_id).image
    call = current_call()
    attempt = _attempt(deployment, caller, image, order)
    taken = call is not None and call.target_taken
    enforce(EXPORT_IMAGE, replace(attempt, target_taken=taken, problems=problems))
    disk = image.disks[0]
    exported = ExportedObject(
        bucket=order.bucket, object_key=order.object_key, format=order.format or disk.format
    )
    if exported.format is not disk.format:
        deployment.converter.require(disk.format, exported.format)
    if validate_only:
        return BegunExport(exported=exported, operation=None)
    operation = new_operation(
        deployment,
        caller,
        OperationKind.EXPORT_IMAGE,
        request={
            "bucket": order.bucket,
            "objectKey": order.object_key,
            "format": exported.format,
        },
        source_image_id=image_id,
        total_bytes=disk.size_bytes,
    )
    begin(deployment, tx, operation)
    _record(deployment, tx, image, exported, by=caller)
    return BegunExport(exported=exported, operation=operation)


def _attempt(deployment: Deployment, caller: Caller, image: Image, order: ExportOrder) -> ExportAttempt:
    return ExportAttempt(
        caller=caller,
        image=image,
        order=order,
        key_usable=key_is_usable(deployment, image),
        bucket_open=deployment.exports.is_open(order.bucket, caller.tenant_id),
    )


def export_order_of(operation: Operation) -> ExportOrder:
    """Return what an export is to do; its format is always said."""
    said = operation.request
    return ExportOrder(
        bucket=said["bucket"],
        object_key=said["objectKey"],
        format=DiskFormat(said["format"]),
    )


class Exporting:
    """How exports are done."""

    def do(self, deployment: Deployment, job: Job) -> None:
        order = export_order_of(job.operation)
        target = _Target(deployment, job, order)
        target.end_earlier_upload()
        if not target.is_finished():
            target.fill()
        job.succeed(lambda tx: _finish(deployment, tx, job.operation, target.exported()))

    def clear(self, deployment: Deployment, operation: Operation) -> None:
        """Remove what may be in the bucket, whoever has left it there."""
        order = export_order_of(operation)
        # Of a bucket that the settings name no more, nothing can be removed.
        if operation.place and deployment.exports.is_named(order.bucket):
            bucket = deployment.exports.bucket(order.bucket)
            bucket.abort(order.object_key, operation.place["uploadId"])
            bucket.clear(order.object_key, token=operation.id)

    def undo(
        self, deployment: Deployment, tx: Transaction, operation: Operation, by: Caller | None
    ) -> None:
        view = tx.images.lock(operation.source_image_id, NOBODY, now=deployment.now, governing=True)
        if view is not None:
            order = export_order_of(operation)
            record_image(
                deployment,
                tx,
                Action.ABANDON_EXPORT,
                by=by,
                before=view.image,
                after=view.image,
                details=_details(order.bucket, order.object_key, str(order.format)),
            )


class _Target:
    """The object that an export is to put into its bucket."""

    def __init__(self, deployment: Deployment, job: Job, order: ExportOrder) -> None:
        """Find it. Raises Rejection where nothing can be put there any more."""
        self._deployment = deployment
        self._job = job
        self._order = order
        self._caller = caller_of(job.operation)
        self._judge_again()
        self._bucket: ExportBucket = deployment.exports.bucket(order.bucket)

    def end_earlier_upload(self) -> None:
        """See to it that nobody finishes any more what was begun before."""
        if place := self._job.operation.place:
            self._bucket.abort(self._order.object_key, place["uploadId"])

    def is_finished(self) -> bool:
        """Whether the object is there, put by whoever was at it before."""
        operation = self._job.operation
        return bool(operation.place) and self._bucket.is_finished(
            self._order.object_key, token=operation.id
        )

    def exported(self) -> ExportedObject:
        """Return the object as it is there."""
        order, place = self._order, self._job.operation.place
        assert order.format is not None  # see export_order_of
        return ExportedObject(
            bucket=order.bucket,
            object_key=order.object_key,
            format=order.format,
            size_bytes=place["sizeBytes"],
            sha256=place["sha256"],
        )

    def fill(self) -> None:
        """Put the object there. Raises Rejection EXPORT_TARGET_EXISTS rather than overwrite another."""
        job = self._job
        download = download_image_data(
            self._deployment,
            caller=self._caller,
            image_id=job.operation.source_image_id,
            disk_index=0,
        )
        if self._order.format is download.disk.format:
            self._send(read_whole(job, download))
            return
        with self._deployment.converter.begin() as conversion:
            for chunk in read_whole(job, download):
                conversion.write(chunk)
            assert self._order.format is not None  # see export_order_of
            conversion.convert(
                download.disk.format, self._order.format, on_progress=lambda _done: job.goes_on()
            )
            self._send(conversion.read(chunk_bytes=_CHUNK_BYTES))

    def _send(self, chunks: Iterator[bytes]) -> None:
        operation = self._job.operation
        writer = self._bucket.begin(self._order.object_key, token=operation.id)
        try:
            self._job.note({"uploadId": writer.upload_id})
            for chunk in chunks:
                self._job.goes_on()
                writer.write(chunk)
            self._job.goes_on()
            self._finish(writer)
        except ExportSuperseded as error:
            raise Lost from error
        finally:
            writer.discard()

    def _finish(self, writer: ObjectWriter) -> None:
        self._judge_again()
        self._job.note(
            {
                "uploadId": writer.upload_id,
                "sizeBytes": writer.size_bytes,
                "sha256": writer.sha256,
            }
        )
        try:
            writer.finish()
        except TargetTaken:
            self._judge_again(target_taken=True)

    def _judge_again(self, *, target_taken: bool = False) -> None:
        deployment, operation = self._deployment, self._job.operation

        def judge(tx: Transaction) -> None:
            # Under its lock: nothing is exported to its end once a call that forbids it has returned.
            image = see_locked(deployment, tx, self._caller, operation.source_image_id).image
            attempt = _attempt(deployment, self._caller, image, self._order)
            enforce(FINISH_EXPORT, replace(attempt, target_taken=target_taken))

        deployment.database.run(judge)


def _finish(
    deployment: Deployment, tx: Transaction, operation: Operation, exported: ExportedObject
) -> bytes:
    """Record an export, in the transaction that ends its operation; return the answer."""
    view = tx.images.lock(operation.source_image_id, NOBODY, now=deployment.now, governing=True)
    if view is not None:  # else it was deleted, and purged, while the object was finished
        _record(deployment, tx, view.image, exported, by=caller_of(operation))
    return deployment.render_export(exported)


def _record(
    deployment: Deployment, tx: Transaction, image: Image, exported: ExportedObject, *, by: Caller
) -> None:
    record_image(
        deployment,
        tx,
        Action.EXPORT_IMAGE,
        by=by,
        before=image,
        after=image,
        details={
            **_details(exported.bucket, exported.object_key, exported.format),
            "exportedBytes": exported.size_bytes or None,
        },
    )


def _details(bucket: str, object_key: str, file_format: str) -> dict[str, object]:
    return {"bucket": bucket, "objectKey": object_key, "format": file_format}
