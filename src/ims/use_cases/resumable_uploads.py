"""The story of uploads that can be interrupted: started, written in any number of goes, and finished."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Final

from ims.blob_store import sealed
from ims.blob_store.interface import BlobBusy, BlobDeleted, BlobWriter, KeyInUse
from ims.disk_files.inspection import Inspection
from ims.domain.audit import Action
from ims.domain.caller import Caller
from ims.domain.image import BlobKey, Disk, DiskFormat, DiskState, Image, ImageId
from ims.domain.rejection import Category, Problems, Reason, Rejection, reject
from ims.domain.upload import Findings, Upload
from ims.domain.view import View
from ims.repository.database import Reading, Transaction
from ims.rules.engine import Rule, enforce
from ims.rules.image_data import (
    FINISH_UPLOAD,
    RECEIVE_CHUNK,
    START_RESUMABLE_UPLOAD,
    Announcement,
    Arrival,
)
from ims.rules.uploads import (
    ABORT_UPLOAD,
    COMPLETE,
    COMPLETE_UPLOAD,
    GET_UPLOAD,
    GO_ON,
    RESUME_UPLOAD,
    WRITE_UPLOAD,
    FoundUpload,
    Progress,
)
from ims.use_cases.deployment import (
    Deployment,
    ask_for_key,
    in_one_transaction,
    key_is_usable,
    see,
    see_locked,
)
from ims.use_cases.direct_parts import brought_bytes, takes_parts
from ims.use_cases.downloads import blobs_for_reading
from ims.use_cases.image_data import (
    Finish,
    Finished,
    empty_the_disk_of,
    give_up_upload,
    judged,
    just_finish,
    name_bytes,
    remove_doomed,
    remove_for_now,
    reserve,
    superseded,
    upload_attempt,
)

_log = logging.getLogger(__name__)

_READ_BYTES: Final = 1024**2
_ENDING: Final = {
    *(rule.reason for rule in RECEIVE_CHUNK),
    *(rule.reason for rule in FINISH_UPLOAD),
    *(Reason.STORAGE_FULL, Reason.DISK_DATA_DAMAGED),
}
"""What ends an upload; after anything else it can be gone on with."""


@dataclass(frozen=True, kw_only=True)
class Received:
    """An upload, and how far it has come."""

    upload: Upload
    received_bytes: int


@dataclass(frozen=True, kw_only=True)
class UploadedFile:
    """What the file is that an upload brings."""

    format: DiskFormat | None = None
    """None where it is the disk's."""
    ova: bool = False
    """Whether it is an OVA, of which the disk is taken."""

    def format_for(self, disk: Disk) -> DiskFormat:
        """Return the format of what is brought for a disk: of an OVA, that of the disk inside."""
        return DiskFormat.VMDK if self.ova else self.format or disk.format


AS_THE_DISK: Final = UploadedFile()


@dataclass(frozen=True, kw_only=True)
class Go:
    """What somebody has who goes on with an upload, or takes what it has brought."""

    image: Image
    disk: Disk
    upload: Upload

    @property
    def filled(self) -> Disk:
        """The disk as it names the upload's blob."""
        return replace(
            self.disk,
            format=self.upload.source_format or self.disk.format,
            size_bytes=self.upload.size_bytes,
            sha256=self.upload.sha256,
            blob_key=self.upload.blob_key,
            wrapped_data_key=self.upload.wrapped_data_key,
            seal_runs=self.upload.seal_runs,
        )

    @property
    def announced(self) -> Announcement:
        return _announced(self.upload)


# --- Start, look, abort ---


def start_upload(
    deployment: Deployment,
    *,
    caller: Caller,
    image_id: ImageId,
    disk_index: int,
    announced: Announcement,
    file: UploadedFile = AS_THE_DISK,
    direct: bool = False,
    problems: Problems = (),
    finishing: Callable[[Callable[[], Received]], Received] = lambda start: start(),
) -> Received:
    """Start the upload of a disk; what has been started like that is returned as it is.

    `finishing` is given the step that changes something, to do it within a transaction of its own.
    """
    # Before the transaction, in which nobody is to wait for a key server or the store.
    running = _look(deployment, caller, image_id, disk_index)

    def start() -> Received:
        go = _start(deployment, caller, image_id, disk_index, announced, file, direct, problems)
        if running is None or running.blob_key != go.upload.blob_key:
            return Received(upload=go.upload, received_bytes=0)
        if isinstance(running.received_bytes, Rejection):
            raise running.received_bytes
        return Received(upload=go.upload, received_bytes=running.received_bytes)

    return finishing(start)


@dataclass(frozen=True, kw_only=True)
class _Running:
    """The upload that fills a disk, before anything is judged."""

    blob_key: BlobKey
    received_bytes: int | Rejection
    """How far it has come, or why the store cannot say: for whoever may know."""


def _look(deployment: Deployment, caller: Caller, image_id: ImageId, disk_index: int) -> _Running | None:
    """Ask for an image's key, and how far the upload of its disk has come, if the caller sees them."""
    with deployment.database.reading() as reading:
        view = reading.images.seen(image_id, caller.tenant_id, now=deployment.now())
        disk = None if view is None else _disk_of(view.image, disk_index)
        upload = None if view is None or disk is None else _upload_of(reading, view.image, disk, "")
    if view is None:
        return None
    ask_for_key(deployment, view.image.encryption_key_id, view.image.owner)
    if disk is None or upload is None:
        return None
    received_bytes: int | Rejection = 0
    if upload.writers or upload.store_upload_id:
        try:
            received_bytes = _received_bytes(deployment, Go(image=view.image, disk=disk, upload=upload))
        except Rejection as why:
            received_bytes = why
    return _Running(blob_key=upload.blob_key, received_bytes=received_bytes)


@in_one_transaction
def _start(
    deployment: Deployment,
    tx: Transaction,
    caller: Caller,
    image_id: ImageId,
    disk_index: int,
    announced: Announcement,
    file: UploadedFile,
    direct: bool,  # noqa: FBT001 - handed on
    problems: Problems,
) -> Go:
    image = see_locked(deployment, tx, caller, image_id).image
    upload_id = deployment.new_id()
    attempt = upload_attempt(
        deployment, tx, caller, image, disk_index, announced, upload_id, problems, direct=direct
    )
    if attempt.disk is not None and attempt.disk.state is DiskState.SAVING:
        running = tx.uploads.find(BlobKey(attempt.disk.upload_id))
        if (
            running is not None
            and running.direct == direct
            and _is_the_same(running, announced, file, attempt.disk)
        ):
            upload_id = attempt.disk.upload_id
            return find_upload(
                deployment, tx, caller, image, disk_index, upload_id, problems, RESUME_UPLOAD
            )
    until = deployment.now() + deployment.upload_patience
    action, rules = Action.START_UPLOAD, START_RESUMABLE_UPLOAD
    reserved = reserve(deployment, tx, attempt, action=action, until=until, rules=rules)
    brought = file.format_for(reserved.disk)
    if brought is not reserved.disk.format:
        # Rather than when everything has been brought.
        deployment.converter.require(brought, reserved.disk.format)
    part_bytes = 0
    if direct:
        assert deployment.part_urls is not None  # or a rule would have been broken
        part_bytes = deployment.part_urls.part_bytes(announced.size_bytes)
    blob_key = BlobKey(upload_id)
    wrapped_data_key = b""
    if image.encryption_key_id is not None:
        data_key = deployment.keys.new_data_key(image.encryption_key_id, context=blob_key)
        wrapped_data_key = data_key.wrapped
    upload = Upload(
        blob_key=blob_key,
        image_id=image_id,
        disk_index=disk_index,
        size_bytes=announced.size_bytes,
        sha256=announced.sha256,
        source_format=None if brought is reserved.disk.format else brought,
        ova=file.ova,
        part_bytes=part_bytes,
        wrapped_data_key=wrapped_data_key,
        expire_time=until,
    )
    tx.uploads.add(upload)
    return Go(image=reserved.image, disk=reserved.disk, upload=upload)


def _is_the_same(upload: Upload, announced: Announcement, file: UploadedFile, disk: Disk) -> bool:
    same_file = (file.format_for(disk), file.ova) == (upload.source_format or disk.format, upload.ova)
    return same_file and announced == _announced(upload)


def _announced(upload: Upload) -> Announcement:
    return Announcement(size_bytes=upload.size_bytes, sha256=upload.sha256)


def get_upload(
    deployment: Deployment,
    *,
    caller: Caller,
    image_id: ImageId,
    disk_index: int,
    upload_id: str = "",
    problems: Problems = (),
) -> Received:
    """Return an upload of a disk (without an id: the one that fills it now), and how far it has come."""
    with deployment.database.reading() as reading:
        image = see(deployment, reading, caller, image_id).image
        go = find_upload(deployment, reading, caller, image, disk_index, upload_id, problems, GET_UPLOAD)
    return Received(upload=go.upload, received_bytes=_received_bytes(deployment, go))


def abort_upload(
    deployment: Deployment,
    *,
    caller: Caller,
    image_id: ImageId,
    disk_index: int,
    upload_id: str = "",
    problems: Problems = (),
    finishing: Callable[[Callable[[], View]], View] = lambda abort: abort(),
) -> View:
    """End an upload of a disk; return the image.

    `finishing` is given the step that changes something, to do it within a transaction of its own.
    """
    ended: list[Upload] = []

    def abort() -> View:
        view, upload = _abort(deployment, caller, image_id, disk_index, upload_id, problems)
        ended[:] = [upload]
        return view

    view = finishing(abort)
    for upload in ended:
        remove = remove_for_now if upload.direct else remove_doomed
        remove(deployment, upload.blob_key)
    return view


@in_one_transaction
def _abort(
    deployment: Deployment,
    tx: Transaction,
    caller: Caller,
    image_id: ImageId,
    disk_index: int,
    upload_id: str,
    problems: Problems,
) -> tuple[View, Upload]:
    view = see_locked(deployment, tx, caller, image_id)
    go = find_upload(deployment, tx, caller, view.image, disk_index, upload_id, problems, ABORT_UPLOAD)
    blob_key = go.upload.blob_key
    emptied = empty_the_disk_of(
        deployment, tx, view.image, blob_key, action=Action.ABORT_UPLOAD, by=caller
    )
    tx.pending_blobs.remove(blob_key)
    # The store may be making a blob of a direct upload at this very moment, for another call.
    until = deployment.now() + deployment.longest_part_url if go.upload.direct else None
    tx.pending_blobs.doom([blob_key], until=until)
    return replace(view, image=emptied), go.upload


def find_upload(
    deployment: Deployment,
    reading: Reading,
    caller: Caller,
    image: Image,
    disk_index: int,
    upload_id: str,
    problems: Problems,
    rules: tuple[Rule[FoundUpload], ...],
) -> Go:
    """Return an upload of an image's disk. Raises Rejection when the rules forbid what is to be done."""
    disk = _disk_of(image, disk_index)
    upload = None if disk is None else _upload_of(reading, image, disk, upload_id)
    found = FoundUpload(
        caller=caller,
        image=image,
        disk_index=disk_index,
        upload=upload,
        store_takes_parts=takes_parts(deployment),
        key_usable=key_is_usable(deployment, image),
        problems=problems,
    )
    enforce(rules, found)
    assert disk is not None  # or a rule would have been broken
    assert upload is not None  # likewise
    return Go(image=image, disk=disk, upload=upload)


def _disk_of(image: Image, disk_index: int) -> Disk | None:
    return next((each for each in image.disks if each.index == disk_index), None)


def _upload_of(reading: Reading, image: Image, disk: Disk, upload_id: str) -> Upload | None:
    if disk.state is DiskState.SAVING and upload_id in {"", disk.upload_id}:
        return reading.uploads.find(BlobKey(disk.upload_id))
    if disk.state is DiskState.STORED and upload_id and upload_id == disk.blob_key:
        return Upload(
            blob_key=disk.blob_key,
            image_id=image.id,
            disk_index=disk.index,
            size_bytes=disk.size_bytes,
            sha256=disk.sha256,
            finished=True,
        )
    return None


def _received_bytes(deployment: Deployment, go: Go) -> int:
    """Return how many of an upload's bytes are kept: from the first one on, but of a direct upload."""
    upload = go.upload
    if upload.finished or is_whole(deployment, upload):
        return upload.size_bytes
    if upload.direct:
        try:
            return brought_bytes(deployment, upload)
        except BlobDeleted:
            return upload.size_bytes if is_whole(deployment, upload) else 0
    if go.image.encrypted:
        return sealed.kept_bytes(deployment.blobs, upload.blob_key)
    return deployment.blobs.kept_bytes(upload.blob_key)


def is_whole(deployment: Deployment, upload: Upload) -> bool:
    """Whether a writer has committed the upload's blob, which it does with the last byte."""
    try:
        deployment.blobs.size_bytes(upload.blob_key)
    except Rejection as rejection:
        if rejection.reason is not Reason.DISK_DATA_DAMAGED:
            raise
        return False
    return True


# --- Write ---


def write_upload(
    deployment: Deployment,
    *,
    caller: Caller,
    image_id: ImageId,
    disk_index: int,
    upload_id: str,
    offset_bytes: int,
    chunks: Iterator[bytes],
    problems: Problems = (),
) -> Received:
    """Go on with an upload, with the bytes that arrive; what has arrived is kept however it ends.

    Raises what the chunks raise, and Rejection. What cannot become an image ends the upload.
    """
    with deployment.uploads.alive(upload_id):
        go = take_over(deployment, caller, image_id, disk_index, upload_id, problems, WRITE_UPLOAD)
        try:
            received_bytes = _take_in(deployment, go, offset_bytes, chunks)
        finally:
            wait_for_more(deployment, go.upload)
    with deployment.database.reading() as reading:
        upload = reading.uploads.find(go.upload.blob_key) or go.upload
    return Received(upload=upload, received_bytes=received_bytes)


@in_one_transaction
def take_over(
    deployment: Deployment,
    tx: Transaction,
    caller: Caller,
    image_id: ImageId,
    disk_index: int,
    upload_id: str,
    problems: Problems,
    rules: tuple[Rule[FoundUpload], ...],
) -> Go:
    """Become the upload's last writer, unless it is finished: whoever was it finds itself superseded."""
    image = see_locked(deployment, tx, caller, image_id).image
    go = find_upload(deployment, tx, caller, image, disk_index, upload_id, problems, rules)
    if go.upload.finished:
        return go
    tx.uploads.take_over(go.upload)
    upload = tx.uploads.find(go.upload.blob_key)
    assert upload is not None  # it was there a statement before, and its image is locked
    return replace(go, upload=upload)


def wait_for_more(deployment: Deployment, upload: Upload, *, at_least: timedelta = timedelta(0)) -> None:
    """Have an upload live on for as long as one that nobody goes on with does."""
    until = deployment.now() + max(deployment.upload_patience, at_least)
    try:
        # Also when the call's time is over.
        with deployment.database.until(None), deployment.database.transaction() as tx:
            tx.pending_blobs.hold([upload.blob_key], until=until)
    except Rejection:
        # It has what is left of its time; what went wrong with the go is what its caller should hear of.
        _log.exception("An upload cannot be held for longer just now.")


def _take_in(deployment: Deployment, go: Go, offset_bytes: int, chunks: Iterator[bytes]) -> int:
    """Write what arrives; return how many bytes of the upload there are by then."""
    writer = None if is_whole(deployment, go.upload) else _open_writer(deployment, go)
    if writer is None:
        _go_on(go, offset_bytes, go.upload.size_bytes)
        for chunk in chunks:
            _refuse_too_much(deployment, go, go.upload.size_bytes + len(chunk))
        return go.upload.size_bytes
    try:
        _go_on(go, offset_bytes, writer.size_bytes)
        go = _with_sealing_on_record(deployment, go, writer)
        findings = _receive(deployment, go, writer, chunks)
        if writer.size_bytes == go.upload.size_bytes:
            writer.commit()
    except BlobDeleted as error:
        raise superseded(go.disk.index) from error
    except Rejection as rejection:
        if rejection.reason in _ENDING:
            writer.discard()
            give_up_upload(deployment, go.image.id, go.upload.blob_key)
        raise
    finally:
        # After a commit, or once it is discarded, it does nothing.
        writer.suspend()
    if findings is not None:
        _note(deployment, replace(go.upload, findings=findings))
    return writer.size_bytes


def _go_on(go: Go, offset_bytes: int, received_bytes: int) -> None:
    progress = Progress(upload=go.upload, received_bytes=received_bytes, offset_bytes=offset_bytes)
    enforce(GO_ON, progress)


def _open_writer(deployment: Deployment, go: Go) -> BlobWriter | None:
    """Return what goes on with the upload's blob; None when it is whole already."""
    upload, key_id = go.upload, go.image.encryption_key_id
    try:
        if key_id is None:
            return deployment.blobs.resume_writer(upload.blob_key)
        data_key = deployment.keys.unwrap(key_id, upload.wrapped_data_key, context=upload.blob_key)
        return sealed.resume_writer(deployment.blobs, upload.blob_key, data_key, upload.seal_runs)
    except KeyInUse:
        return None
    except BlobBusy as error:
        raise _busy() from error


def _busy() -> Rejection:
    return reject(
        Category.UNAVAILABLE,
        Reason.UPLOAD_BUSY,
        "Another writer is at work on the upload at this moment; try again.",
    )


def _with_sealing_on_record(deployment: Deployment, go: Go, writer: BlobWriter) -> Go:
    """Put on record what a sealed blob cannot be read without, before anything is sealed with it."""
    if not isinstance(writer, sealed.SealedWriter) or writer.runs == go.upload.seal_runs:
        return go
    upload = replace(go.upload, seal_runs=writer.runs)
    if not _note(deployment, upload):
        raise _taken_over()
    return replace(go, upload=upload)


def _note(deployment: Deployment, upload: Upload) -> bool:
    with deployment.database.transaction() as tx:
        return tx.uploads.note(upload)


def _receive(
    deployment: Deployment, go: Go, writer: BlobWriter, chunks: Iterator[bytes]
) -> Findings | None:
    """Write what arrives, looking at it on the way where it is the file from its beginning.

    Return what was found if it was all of it, and this the upload's only writer.
    """
    # An archive is looked into when its disk is taken.
    from_the_beginning = writer.size_bytes == 0 and not go.upload.ova
    digest, inspection = hashlib.sha256(), Inspection(go.filled.format)
    for chunk in chunks:
        # Before anything that could end the upload, which is another writer's by now.
        _refuse_superseded(deployment, go)
        _refuse_too_much(deployment, go, writer.size_bytes + len(chunk))
        if from_the_beginning:
            digest.update(chunk)
            inspection.write(chunk)
            if inspection.hopeless:
                report = inspection.report(writer.size_bytes)
                judged(go.image, go.filled, go.announced, report, cut_short=True)
        writer.write(chunk)
    if not from_the_beginning or writer.size_bytes < go.upload.size_bytes:
        return None
    report = inspection.report(writer.size_bytes)
    findings = Findings(sha256=digest.hexdigest(), report=report)
    _judge(go, findings)
    return findings if go.upload.writers == 1 else None


def _refuse_too_much(deployment: Deployment, go: Go, received_bytes: int) -> None:
    arrival = Arrival(
        announced=go.announced,
        received_bytes=received_bytes,
        max_file_bytes=deployment.limits.image_file_bytes,
    )
    enforce(RECEIVE_CHUNK, arrival)


def _judge(go: Go, findings: Findings) -> Disk:
    """Return the disk as it is to be stored. Raises Rejection when it cannot be."""
    found = replace(go.filled, sha256=findings.sha256)
    return judged(go.image, found, go.announced, findings.report)


def _refuse_superseded(deployment: Deployment, go: Go) -> None:
    with deployment.database.reading() as reading:
        writers = reading.uploads.writers(go.upload.blob_key)
    if writers is None:
        raise superseded(go.disk.index)
    if writers != go.upload.writers:
        raise _taken_over()


def _taken_over() -> Rejection:
    return reject(
        Category.CONFLICT,
        Reason.UPLOAD_SUPERSEDED,
        "Another writer goes on with the upload; ask how far it has come.",
    )


# --- Finish ---


def finish_upload(
    deployment: Deployment,
    *,
    caller: Caller,
    image_id: ImageId,
    disk_index: int,
    upload_id: str,
    problems: Problems = (),
    finishing: Callable[[Finish], Finished] = just_finish,
) -> Finished:
    """Have a disk name the bytes of its upload, once they are checked; return the image and the disk.

    `finishing` is given the last step, to do it within a transaction of its own.
    """
    with deployment.uploads.alive(upload_id):
        go = take_over(deployment, caller, image_id, disk_index, upload_id, problems, COMPLETE_UPLOAD)
        if go.upload.finished:
            return finishing(partial(_as_it_is, deployment, caller, image_id, disk_index))
        try:
            complete(deployment, go)
            stored = _judge(go, go.upload.findings or _read_again(deployment, go))
        except Rejection as rejection:
            if rejection.reason is Reason.DISK_DATA_DAMAGED and not _is_waited_for(deployment, go):
                raise superseded(go.disk.index) from rejection  # ended, and its bytes gone, meanwhile
            if rejection.reason in _ENDING:
                give_up_upload(deployment, image_id, go.upload.blob_key)
            raise
        return finishing(partial(_finished, deployment, caller, image_id, stored))


def _as_it_is(deployment: Deployment, caller: Caller, image_id: ImageId, disk_index: int) -> Finished:
    with deployment.database.reading() as reading:
        view = see(deployment, reading, caller, image_id)
    return view, view.image.disks[disk_index]


def _finished(deployment: Deployment, caller: Caller, image_id: ImageId, stored: Disk) -> Finished:
    action = Action.FINISH_UPLOAD
    view = name_bytes(deployment, caller, image_id, stored, action=action)
    return view, view.image.disks[stored.index]


def complete(deployment: Deployment, go: Go) -> None:
    """See to it that the upload's blob is committed. Raises Rejection when bytes are missing."""
    if go.upload.direct:
        if not is_whole(deployment, go.upload):
            _commit_parts(deployment, go)
        # That every part has its length is the store's word.
        _refuse_too_much(deployment, go, deployment.blobs.size_bytes(go.upload.blob_key))
        return
    writer = None if is_whole(deployment, go.upload) else _open_writer(deployment, go)
    if writer is None:
        return
    try:
        enforce(COMPLETE, Progress(upload=go.upload, received_bytes=writer.size_bytes))
        # Its writer died between the last byte and this.
        writer.commit()
    except BlobDeleted as error:
        raise superseded(go.disk.index) from error
    finally:
        writer.suspend()


def _commit_parts(deployment: Deployment, go: Go) -> None:
    try:
        progress = Progress(upload=go.upload, received_bytes=brought_bytes(deployment, go.upload))
        enforce(COMPLETE, progress)
        assert deployment.part_urls is not None  # or nothing would have been brought
        deployment.part_urls.finish(go.upload.blob_key, go.upload.store_upload_id)
    except BlobBusy as error:
        raise _busy() from error
    except BlobDeleted as error:
        if is_whole(deployment, go.upload):
            return  # finished by another at this moment
        if not _is_waited_for(deployment, go):
            raise superseded(go.disk.index) from error
        enforce(COMPLETE, Progress(upload=go.upload, received_bytes=0))


def _is_waited_for(deployment: Deployment, go: Go) -> bool:
    with deployment.database.reading() as reading:
        return reading.uploads.find(go.upload.blob_key) is not None


def _read_again(deployment: Deployment, go: Go) -> Findings:
    """Look at what is stored: several writers brought it, or one that died before it could tell."""
    digest, inspection = hashlib.sha256(), Inspection(go.filled.format)
    stored = blobs_for_reading(deployment, go.image, go.filled).read(
        go.upload.blob_key,
        offset_bytes=0,
        length_bytes=go.upload.size_bytes,
        chunk_bytes=_READ_BYTES,
    )
    for chunk in stored:
        digest.update(chunk)
        inspection.write(chunk)
    return Findings(sha256=digest.hexdigest(), report=inspection.report(go.upload.size_bytes))
