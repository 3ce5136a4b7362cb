"""The story of a copy to another region: what goes from here, and what is discarded that came here.

The other region has the copy's record and bytes, and judges both by its own law; this one has the
operation. Every step is one that can be taken again: whoever takes the operation up asks how far it has
come over there, and goes on. It is settled before the other region is told to complete the copy's last
disk: until then it can be cancelled, and from then on only the other region decides.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, Final

from ims.blob_store.interface import data_damaged
from ims.domain.audit import Action
from ims.domain.caller import Caller
from ims.domain.copying import RegionCopyOrder
from ims.domain.image import (
    Architecture,
    BlobKey,
    Disk,
    DiskState,
    Firmware,
    Image,
    ImageId,
    ImageState,
    OperatingSystem,
    OsType,
    Source,
    SourceKind,
)
from ims.domain.operation import Operation, OperationKind
from ims.domain.rejection import Category, Problems, Reason, Rejection, reject
from ims.domain.tenant import NOBODY, Region
from ims.domain.view import View
from ims.providers.peers import Peer, PeerDisk, PeerImage, PeerUpload
from ims.repository.database import Reading, Transaction
from ims.rules.attempt import Attempt
from ims.rules.engine import enforce
from ims.rules.images import MAX_NAME_LENGTH
from ims.rules.regions import (
    COPY_IMAGE_TO_REGION,
    DISCARD_IMAGE,
    GO_ON_COPYING,
    RegionCopyAttempt,
)
from ims.use_cases.copying import BegunCopy
from ims.use_cases.deployment import Deployment, in_one_transaction, see, see_locked
from ims.use_cases.downloads import download_image_data
from ims.use_cases.image_data import remove_doomed
from ims.use_cases.jobs import Job, begin, caller_of, new_operation
from ims.use_cases.trail import record_image

PATIENCE_SECONDS: Final = 10.0
"""How long it is tried again while no byte gets through; then the operation pauses, for others' sake."""
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 2.0


# --- Begun here ---


@in_one_transaction
def copy_image_to_region(
    deployment: Deployment,
    tx: Transaction,
    *,
    caller: Caller,
    image_id: ImageId,
    order: RegionCopyOrder,
    validate_only: bool = False,
    problems: Problems = (),
) -> BegunCopy:
    """Begin to copy an image of the caller's to another region, as it is now."""
    source = see_locked(deployment, tx, caller, image_id).image
    # Counted under the tenant's lock, behind the image's.
    account = (tx.tenants.account if validate_only else tx.tenants.lock)(caller.tenant_id)
    under_way = tx.operations.count_unfinished(OperationKind.COPY_IMAGE_TO_REGION, caller.tenant_id)
    allowance = account.under(deployment.limits.quotas)
    frozen = _frozen(source, order)
    draft = _draft(source, frozen)
    attempt = RegionCopyAttempt(
        caller=caller,
        image=source,
        draft=draft,
        region=order.region,
        peer_known=order.region in deployment.peers,
        allowance=replace(allowance, used=replace(allowance.used, copies=under_way)),
        problems=problems,
    )
    enforce(COPY_IMAGE_TO_REGION, attempt)
    view = View(image=draft, viewer=caller.tenant_id)
    if validate_only:
        return BegunCopy(view=view, operation=None)
    operation = new_operation(
        deployment,
        caller,
        OperationKind.COPY_IMAGE_TO_REGION,
        request=frozen,
        source_image_id=source.id,
        total_bytes=source.size_bytes,
    )
    begin(deployment, tx, operation)
    _record(deployment, tx, Action.COPY_IMAGE_TO_REGION, source, by=caller, region=order.region)
    return BegunCopy(view=view, operation=operation)


def _frozen(source: Image, order: RegionCopyOrder) -> Mapping[str, Any]:
    """Return what the copy is to be, as its source is now, in words that JSON has."""
    default_name = f"copy_{source.region}_{source.name}"[:MAX_NAME_LENGTH].rstrip()
    return {
        "to": order.region,
        "name": default_name if order.name is None else order.name,
        "description": source.description if order.description is None else order.description,
        "vaultId": order.vault_id,
        "os": asdict(source.os),
        "architecture": source.architecture,
        "firmware": source.firmware,
        "minDiskGib": source.min_disk_gib,
        "minRamMib": source.min_ram_mib,
        "maxRamMib": source.max_ram_mib,
        "nonExportable": source.non_exportable,
    }


def _draft(source: Image, frozen: Mapping[str, Any]) -> Image:
    """Return the copy as it would be in the other region, before its bytes are there."""
    os = frozen["os"]
    return replace(
        source,
        id=ImageId(""),
        region=Region(frozen["to"]),
        name=frozen["name"],
        description=frozen["description"],
        os=OperatingSystem(**{**os, "type": OsType(os["type"])}),
        architecture=Architecture(frozen["architecture"]),
        firmware=Firmware(frozen["firmware"]),
        min_disk_gib=frozen["minDiskGib"],
        min_ram_mib=frozen["minRamMib"],
        max_ram_mib=frozen["maxRamMib"],
        non_exportable=frozen["nonExportable"],
        state=ImageState.QUEUED,
        public=False,
        protected=False,
        tags=(),
        source=Source(
            kind=SourceKind.IMAGE,
            id=source.id,
            region=source.region,
            backup_service=source.source.taken_by,
            backup_received_by_sharing=source.source.backup_received_by_sharing,
        ),
        disks=tuple(Disk(index=each.index, role=each.role, format=each.format) for each in source.disks),
    )


def _record(
    deployment: Deployment,
    tx: Transaction,
    action: Action,
    source: Image,
    *,
    by: Caller | None,
    region: str,
    copy_id: str = "",
) -> None:
    # What the operation does is the source's story; of the copy its own region tells.
    details = {"region": region, "copyImageId": copy_id}
    record_image(deployment, tx, action, by=by, before=source, after=source, details=details)


# --- Done by whoever takes it up ---


class RegionCopying:
    """How images are copied to another region."""

    def do(self, deployment: Deployment, job: Job) -> None:
        going = _Going(deployment, job)
        while True:
            try:
                made = going.go()
                break
            except Rejection as trouble:
                if trouble.reason is not Reason.PEER_UNREACHABLE:
                    raise
                going.wait(trouble)
        job.operation = replace(job.operation, image_id=ImageId(job.operation.place["imageId"]))
        job.succeed(lambda tx: _finish(deployment, tx, job.operation, made))

    def clear(self, deployment: Deployment, operation: Operation) -> None:
        """Have the other region discard the copy. Raises Rejection where it cannot be reached."""
        peer = deployment.peers.get(Region(operation.request["to"]))
        if peer is not None and operation.place:
            peer.discard(ImageId(operation.place["imageId"]))

    def undo(
        self, deployment: Deployment, tx: Transaction, operation: Operation, by: Caller | None
    ) -> None:
        view = tx.images.lock(operation.source_image_id, NOBODY, now=deployment.now, governing=True)
        if view is not None:
            region = operation.request["to"]
            _record(deployment, tx, Action.ABANDON_COPY, view.image, by=by, region=region)


def _finish(deployment: Deployment, tx: Transaction, operation: Operation, made: PeerImage) -> bytes:
    view = tx.images.lock(operation.source_image_id, NOBODY, now=deployment.now, governing=True)
    if view is not None:
        _record(
            deployment,
            tx,
            Action.COPY_IMAGE_TO_REGION,
            view.image,
            by=caller_of(operation),
            region=operation.request["to"],
            copy_id=operation.image_id,
        )
    return made.rendered


class _Going:
    """An attempt at one operation, in as many goes as need be: each takes the steps that are left."""

    def __init__(self, deployment: Deployment, job: Job) -> None:
        self._deployment = deployment
        self._job = job
        self._region = Region(job.operation.request["to"])
        self._has_moved()

    # How long

    def _has_moved(self) -> None:
        self._until = time.monotonic() + PATIENCE_SECONDS
        self._pause_seconds = _FIRST_PAUSE_SECONDS

    def wait(self, trouble: Rejection) -> None:
        """Wait a while, longer each time. Raises the trouble at patience's end, or what ends the job."""
        begun = time.monotonic()
        if begun + self._pause_seconds > self._until:
            raise trouble
        waiting = threading.Event()
        while time.monotonic() < begun + self._pause_seconds:
            self._job.goes_on()
            waiting.wait(_FIRST_PAUSE_SECONDS)
        self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)
        # The trouble may be that another process has the operation, and brings its bytes.
        self._job.hold()
        self._job.goes_on()

    # What is left

    def go(self) -> PeerImage:
        """Take the steps that are left. Raises PEER_UNREACHABLE where another go may take more."""
        peer = self._deployment.peers.get(self._region)
        if peer is None:
            raise self._without_peer()
        if not self._job.operation.settled:
            self._bring(peer)
        return self._complete(peer)

    def _without_peer(self) -> Rejection:
        return reject(
            Category.AGAINST_RULES,
            Reason.REGION_WITHOUT_PEER,
            f"No service of a region '{self._region}' is known here any more.",
            subject="region",
            region=self._region,
        )

    def _bring(self, peer: Peer) -> None:
        """Bring everything over but the word that the last disk is complete."""
        source = self._source()
        copy_id = self._create(peer, source)
        there = peer.stored_disks(copy_id)
        missing = [disk for disk in source.disks if disk.index not in there]
        # All before the first byte goes: what the other region has no room for it refuses now.
        for disk in missing:
            peer.start_upload(copy_id, disk)
        for disk in missing:
            upload = self._send(peer, source, copy_id, disk)
            if disk is missing[-1]:
                self._settle(upload, disk)
            else:
                made = peer.finish_upload(
                    upload, request_id=self._request_id(disk.index), keep_on=self._job.goes_on
                )
                _refuse_other_bytes(made, disk.size_bytes, disk.sha256)

    def _source(self) -> Image:
        """Return the image that is copied. Raises Rejection when it may not be any more."""
        operation = self._job.operation
        with self._deployment.database.reading() as reading:
            view = see(self._deployment, reading, caller_of(operation), operation.source_image_id)
            return self._judged(reading, view.image)

    def _judge_under_lock(self, tx: Transaction) -> None:
        """Do so once more: nothing is copied to its end once a call that forbids it has returned."""
        operation = self._job.operation
        view = see_locked(self._deployment, tx, caller_of(operation), operation.source_image_id)
        self._judged(tx, view.image)

    def _judged(self, reading: Reading, source: Image) -> Image:
        caller = caller_of(self._job.operation)
        attempt = RegionCopyAttempt(
            caller=caller,
            image=source,
            draft=_draft(source, self._job.operation.request),
            region=self._region,
            peer_known=self._region in self._deployment.peers,
            allowance=reading.tenants.account(caller.tenant_id).under(self._deployment.limits.quotas),
        )
        enforce(GO_ON_COPYING, attempt)
        return source

    def _create(self, peer: Peer, source: Image) -> ImageId:
        operation = self._job.operation
        if operation.place:
            return ImageId(operation.place["imageId"])
        self._job.goes_on()
        copy_id = peer.create(
            _draft(source, operation.request),
            vault_id=operation.request["vaultId"],
            capacity_bytes=sum(disk.capacity_bytes for disk in source.disks),
            request_id=f"{operation.id}/create",
        )
        self._job.note({"imageId": copy_id})
        return copy_id

    def _send(self, peer: Peer, source: Image, copy_id: ImageId, disk: Disk) -> PeerUpload:
        """Send what is missing of a disk; return its upload."""
        upload = peer.start_upload(copy_id, disk)
        before = sum(each.size_bytes for each in source.disks if each.index < disk.index)
        self._job.done_bytes = before + upload.received_bytes
        if upload.received_bytes < disk.size_bytes:
            chunks = self._chunks(source.id, disk, upload.received_bytes)
            peer.write_upload(upload, chunks, keep_on=self._job.goes_on)
            self._job.done_bytes = before + disk.size_bytes
        return upload

    def _chunks(self, source_id: ImageId, disk: Disk, offset_bytes: int) -> Iterator[bytes]:
        # Judged like any download, at every chunk: what may not be read any more is not copied.
        download = download_image_data(
            self._deployment,
            caller=caller_of(self._job.operation),
            image_id=source_id,
            disk_index=disk.index,
            offset_bytes=offset_bytes,
        )
        for chunk in download.chunks:
            self._job.goes_on()
            yield chunk
            self._job.done_bytes += len(chunk)
            self._has_moved()

    def _settle(self, upload: PeerUpload, disk: Disk) -> None:
        settled = {
            "uploadId": upload.id,
            "diskIndex": disk.index,
            "sizeBytes": disk.size_bytes,
            "sha256": disk.sha256,
        }
        self._job.goes_on()
        place = {**self._job.operation.place, "settled": settled}
        self._job.settle(place, self._judge_under_lock)

    def _complete(self, peer: Peer) -> PeerImage:
        """Have the last disk be complete, and with it the copy."""
        place = self._job.operation.place
        last = place["settled"]
        upload = PeerUpload(
            id=last["uploadId"],
            image_id=ImageId(place["imageId"]),
            disk_index=last["diskIndex"],
        )
        made = peer.finish_upload(
            upload, request_id=self._request_id(last["diskIndex"]), keep_on=self._job.goes_on
        )
        _refuse_other_bytes(made, last["sizeBytes"], last["sha256"])
        return made

    def _request_id(self, disk_index: int) -> str:
        # The same for whoever does the operation: what was answered the first time is answered again.
        return f"{self._job.operation.id}/{disk_index}"


def _refuse_other_bytes(made: PeerImage, size_bytes: int, sha256: str) -> None:
    if made.disk != PeerDisk(size_bytes=size_bytes, sha256=sha256):
        raise data_damaged()


# --- Discarded here ---


def discard_image(
    deployment: Deployment,
    *,
    caller: Caller,
    image_id: ImageId,
    problems: Problems = (),
    finishing: Callable[[Callable[[], None]], None] = lambda discard: discard(),
) -> None:
    """Remove for ever an image that the caller brings and has not completed, with what is there of it.

    `finishing` is given the step that changes something, to do it within a transaction of its own.
    """
    discarded: list[BlobKey] = []

    def discard() -> None:
        discarded[:] = _discard(deployment, caller, image_id, problems)

    finishing(discard)
    for blob_key in discarded:
        remove_doomed(deployment, blob_key)


@in_one_transaction
def _discard(
    deployment: Deployment, tx: Transaction, caller: Caller, image_id: ImageId, problems: Problems
) -> tuple[BlobKey, ...]:
    image = see_locked(deployment, tx, caller, image_id).image
    enforce(DISCARD_IMAGE, Attempt(caller=caller, image=image, problems=problems))
    return _remove(deployment, tx, image, Action.DISCARD_IMAGE, by=caller)


def discard_incomplete_arrivals(deployment: Deployment) -> int:
    """Remove copies of which their regions have brought nothing for long; return how many there were."""
    since = deployment.now() - deployment.upload_patience
    with deployment.database.reading() as reading:
        due = reading.images.incomplete_arrivals(since=since)
    discarded = 0
    for image_id in due:
        blob_keys = _discard_if_incomplete(deployment, image_id)
        discarded += blob_keys is not None
        for blob_key in blob_keys or ():
            remove_doomed(deployment, blob_key)
    return discarded


@in_one_transaction
def _discard_if_incomplete(
    deployment: Deployment, tx: Transaction, image_id: ImageId
) -> tuple[BlobKey, ...] | None:
    view = tx.images.lock(image_id, NOBODY, now=deployment.now, governing=True)
    if view is None:
        return None
    image = view.image
    since = deployment.now() - deployment.upload_patience
    still_due = image.state is ImageState.QUEUED and image.update_time <= since
    # What a service of this region has declared waits for as long as that likes.
    if not still_due or image.source.kind is not SourceKind.IMAGE or image.declared_by is None:
        return None
    return _remove(deployment, tx, image, Action.ABANDON_COPY, by=None)


def _remove(
    deployment: Deployment, tx: Transaction, image: Image, action: Action, *, by: Caller | None
) -> tuple[BlobKey, ...]:
    tx.images.purge(image.id)
    coming = [BlobKey(disk.upload_id) for disk in image.disks if disk.state is DiskState.SAVING]
    stored = [disk.blob_key for disk in image.disks if disk.state is DiskState.STORED]
    blob_keys = (*coming, *filter(tx.shared_blobs.release, stored))
    for blob_key in coming:
        tx.pending_blobs.remove(blob_key)
    tx.pending_blobs.doom(blob_keys)
    record_image(deployment, tx, action, by=by, before=image)
    return blob_keys
