"""Transfers from and to files."""

import hashlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, Unpack

from ims.client.disk_format import guess_format
from ims.client.errors import DamagedDownload, Declined, Unreachable
from ims.client.images import NewImageAttributes
from ims.client.operations import OperationCalls
from ims.client.parts import bring_parts
from ims.client.repetition import Patience
from ims.client.transfers import TransferCalls
from ims.client.uploads import UploadCalls
from ims.client.vocabulary import (
    Disk,
    DiskFormat,
    ErrorReason,
    FinishUploadResponse,
    Image,
    ImageType,
    Source,
    Upload,
)
from ims.client.whole_file import whole_file
from ims.v1.upload_service_pb2 import CreatePartUrlsResponse

Progress = Callable[[int, int], None]
"""Is told, after every chunk, how many bytes are done and how many there are; not always by the same
thread. What it raises ends the transfer."""

CHUNK_BYTES: Final = 256 * 1024
"""What of an upload is cut in the middle is sent again."""
PATIENCE_SECONDS: Final = 60.0
"""For how long in all a transfer of a file waits between goes of which no byte arrives."""

_STEP_BYTES: Final = 1024 * 1024
"""What the parts of a parallel download are whole numbers of."""
_PARTS_AT_ONCE: Final = 16
_URL_SECONDS: Final = 3600
"""Of how many parts URLs are asked for at once, and for how long: they are to be brought by then."""
_LONGEST_FILE_NAME: Final = 255


class FileCalls(TransferCalls, UploadCalls, OperationCalls):
    """Carries disk files to the service and back."""

    def upload(
        self,
        image_id: str,
        path: str | os.PathLike[str],
        disk_index: int = 0,
        *,
        sha256: str = "",
        source_format: DiskFormat = Disk.FORMAT_UNSPECIFIED,
        ova: bool = False,
        direct: bool = False,
        patience_seconds: float = PATIENCE_SECONDS,
        progress: Progress | None = None,
    ) -> FinishUploadResponse:
        """Upload a file as one disk of an image; go on where the connection, or either side, was lost.

        So does whoever uploads the same file again, later or elsewhere. Without `sha256` the file is
        read once more beforehand, to announce it. Gives up when it has waited for
        `patience_seconds` between goes of which no byte arrived. Raises Declined, Unreachable, and
        OSError about the file; the upload waits then, unless the service has ended it.

        With a `source_format` that is not the disk's, or an OVA, the service converts what has arrived,
        and this waits for it, however long that takes. A direct upload goes to the store itself, some
        parts at the same time, where the deployment has such a one.
        """
        path = Path(path)
        sha256 = sha256 or sha256_of(path)
        with path.open("rb", buffering=0) as file:
            size_bytes = _size_bytes(file)
            patience = Patience(patience_seconds)
            start = partial(
                self.start_upload,
                image_id,
                size_bytes=size_bytes,
                sha256=sha256,
                disk_index=disk_index,
                source_format=source_format,
                ova=ova,
                direct=direct,
            )
            upload = _patiently(start, patience)
            while True:
                try:
                    if upload.direct:
                        self._bring_parts(upload, file, progress)
                    elif upload.received_bytes < size_bytes:
                        chunks = _chunks(file, size_bytes, progress, from_bytes=upload.received_bytes)
                        upload = self.write_upload(upload, chunks)
                    if not (upload.source_format or upload.ova):
                        return self.finish_upload(upload)
                    operation = self.import_upload(upload)
                    break
                except (Declined, Unreachable) as trouble:
                    upload = self._after(trouble, upload, patience)
        image = self.made_image(operation)
        return FinishUploadResponse(image=image, disk=image.disks[disk_index])

    def _missing_parts(self, upload: Upload) -> Sequence[CreatePartUrlsResponse.Part]:
        return self.create_part_urls(upload, max_parts=_PARTS_AT_ONCE, valid_seconds=_URL_SECONDS).parts

    def _bring_parts(self, upload: Upload, file: BinaryIO, progress: Progress | None) -> None:
        """Bring every part of a direct upload that has not arrived."""
        done = Counter(bytes=upload.received_bytes)
        telling = threading.Lock()

        def sent(count: int) -> None:
            with telling:
                done["bytes"] += count
                if progress is not None:
                    progress(done["bytes"], upload.size_bytes)

        last = 0
        while parts := self._missing_parts(upload):
            if parts[0].number <= last:
                raise Unreachable("The store has not kept a part that it has taken.")
            bring_parts(file, parts, sent)
            last = parts[-1].number
        # What an earlier go had sent may have arrived in the meantime.
        if done["bytes"] < upload.size_bytes:
            sent(upload.size_bytes - done["bytes"])

    def _after(self, trouble: Declined | Unreachable, upload: Upload, patience: Patience) -> Upload:
        """Return how far an upload has come when a go has failed. Raises what ends the upload."""
        while _may_go_on(trouble):
            patience.wait(trouble)
            try:
                now = self.get_upload(upload.image_id, disk_index=upload.disk_index, upload_id=upload.id)
            except (Declined, Unreachable) as another:
                trouble = another
                continue
            if now.received_bytes > upload.received_bytes:
                patience.has_moved()
            return now
        raise trouble

    def download(
        self,
        image_id: str,
        target_path: str | os.PathLike[str],
        disk_index: int = 0,
        *,
        offset_bytes: int = 0,
        length_bytes: int = 0,
        tenant_id: str = "",
        overwrite: bool = False,
        parallel: int = 1,
        patience_seconds: float = PATIENCE_SECONDS,
        progress: Progress | None = None,
    ) -> Disk:
        """Download one disk of an image, or a part of it, into a file; return the disk.

        The file gets its name when all bytes are on the disk and found to be those announced: their
        number always, their digest when it is the whole disk. Until then, and when something goes
        wrong, there is no such file, or the old one as it was. Where the connection is lost it goes on
        from there, until it has waited for `patience_seconds` in vain. With `parallel` so many parts
        are downloaded at the same time.

        Raises Declined, Unreachable, DamagedDownload, and OSError about the file, FileExistsError
        among them unless `overwrite` is set.
        """
        part = _Part(image_id, disk_index, offset_bytes, length_bytes, tenant_id, patience_seconds)
        with whole_file(Path(target_path), overwrite=overwrite) as file:
            if parallel > 1:
                return self._download_in_parallel(part, file, parallel, progress)
            sha256 = hashlib.sha256()
            received_bytes = 0
            disk = Disk()
            for disk, expected_bytes, chunk in self._pieces(part):  # noqa: B007 - the last one is told
                file.write(chunk)
                sha256.update(chunk)
                received_bytes += len(chunk)
                if progress is not None and chunk:
                    progress(received_bytes, expected_bytes)
            if received_bytes == disk.size_bytes:
                _refuse_another_digest(disk, sha256.hexdigest())
        return disk

    def _pieces(self, part: "_Part") -> Generator[tuple[Disk, int, bytes], None, None]:
        """Yield a part of a disk piece by piece, with the disk and the part's size; the first is empty.

        Goes on where a connection is lost.
        """
        patience = Patience(part.patience_seconds)
        received_bytes = 0
        disk: Disk | None = None
        expected_bytes = 0
        while disk is None or received_bytes < expected_bytes:
            try:
                with self.download_image_data(
                    part.image_id,
                    disk_index=part.disk_index,
                    offset_bytes=part.offset_bytes + received_bytes,
                    length_bytes=expected_bytes - received_bytes if disk else part.length_bytes,
                    tenant_id=part.tenant_id,
                ) as (start, chunks):
                    if disk is None:
                        disk = start.disk
                        expected_bytes = part.expected_bytes(disk)
                        yield disk, expected_bytes, b""
                    elif disk.sha256 != start.disk.sha256:
                        raise DamagedDownload("The disk is not what it was before.")
                    for chunk in chunks:
                        received_bytes += len(chunk)
                        if received_bytes > expected_bytes:
                            break
                        patience.has_moved()
                        yield disk, expected_bytes, chunk
                if received_bytes != expected_bytes:
                    message = f"{received_bytes} bytes arrived instead of {expected_bytes}."
                    raise DamagedDownload(message)
            except (Declined, Unreachable) as trouble:
                if not _may_go_on(trouble):
                    raise
                patience.wait(trouble)

    def _download_in_parallel(
        self, part: "_Part", file: BinaryIO, parallel: int, progress: Progress | None
    ) -> Disk:
        # The first piece tells how large the part is, and nothing else of it is asked for.
        pieces = self._pieces(part)
        disk, expected_bytes, _ = next(pieces)
        pieces.close()
        step_bytes = max(_STEP_BYTES, -(-expected_bytes // parallel // _STEP_BYTES) * _STEP_BYTES)
        ranges = [
            replace(
                part,
                offset_bytes=part.offset_bytes + place,
                length_bytes=min(step_bytes, expected_bytes - place),
            )
            for place in range(0, expected_bytes, step_bytes)
        ]
        received = Counter[int]()
        broken_off = threading.Event()

        def fetch(each: _Part) -> None:
            place = each.offset_bytes - part.offset_bytes
            for its_disk, _, chunk in self._pieces(each):
                if broken_off.is_set():
                    return
                if its_disk.sha256 != disk.sha256:
                    raise DamagedDownload("The disk is not what it was before.")
                os.pwrite(file.fileno(), chunk, place + received[place])
                received[place] += len(chunk)
                if progress is not None and chunk:
                    progress(received.total(), expected_bytes)

        with ThreadPoolExecutor(parallel) as threads:
            try:
                for done in as_completed([threads.submit(fetch, each) for each in ranges]):
                    done.result()
            except BaseException:
                broken_off.set()
                raise
        if expected_bytes == disk.size_bytes:
            sha256 = hashlib.sha256()
            for chunk in _chunks(file, expected_bytes, None):
                sha256.update(chunk)
            _refuse_another_digest(disk, sha256.hexdigest())
        return disk

    def create_from_file(
        self,
        path: str | os.PathLike[str],
        *,
        name: str,
        format: DiskFormat | None = None,  # noqa: A002 - the contract's word
        type: ImageType | None = None,  # noqa: A002 - the contract's word
        sha256: str = "",
        source_format: DiskFormat = Disk.FORMAT_UNSPECIFIED,
        ova: bool = False,
        direct: bool = False,
        keep: bool = False,
        progress: Progress | None = None,
        **attributes: Unpack[NewImageAttributes],
    ) -> Image:
        """Create an image of one disk and upload it; return it ACTIVE.

        The format is guessed when it is not said, and VMDK for an OVA; the type is SYSTEM_DISK, and ISO
        for an ISO file. A file of another format, its `source_format`, is converted.
        When the upload fails, the record is deleted again, unless it is to be kept for another try;
        if that fails too, a note on the exception says so. Raises what `upload` does.
        """
        path = Path(path)
        if format is None:
            format = Disk.VMDK if ova else guess_format(path)  # noqa: A001 - the contract's word
        if type is None:
            type = Image.ISO if format == Disk.ISO else Image.SYSTEM_DISK  # noqa: A001 - as above
        sha256 = sha256 or sha256_of(path)
        source = Source(file=Source.File(name=_name_to_show(path)))
        image = self.create_image(name=name, type=type, formats=[format], source=source, **attributes)
        try:
            return self.upload(
                image.id,
                path,
                sha256=sha256,
                source_format=source_format,
                ova=ova,
                direct=direct,
                progress=progress,
            ).image
        except BaseException as error:
            if not keep:
                self._discard(image.id, error)
            raise

    def _discard(self, image_id: str, error: BaseException) -> None:
        try:
            with suppress(Declined):  # it may have ended, or never begun
                self.abort_upload(image_id)
            self.delete_image(image_id)
        except (Declined, Unreachable) as trouble:
            error.add_note(f"The record of the image is still there, as {image_id}: {trouble}")


@dataclass(frozen=True)
class _Part:
    """What is downloaded: a part of a disk, or all of it."""

    image_id: str
    disk_index: int
    offset_bytes: int
    length_bytes: int
    tenant_id: str
    patience_seconds: float

    def expected_bytes(self, disk: Disk) -> int:
        rest_bytes = disk.size_bytes - self.offset_bytes
        return min(self.length_bytes, rest_bytes) if self.length_bytes else rest_bytes


def _refuse_another_digest(disk: Disk, sha256: str) -> None:
    if sha256 != disk.sha256:
        raise DamagedDownload(f"The SHA-256 is {sha256} instead of {disk.sha256}.")


def sha256_of(path: str | os.PathLike[str], *, progress: Progress | None = None) -> str:
    """Return the SHA-256 of a file's content, as 64 hexadecimal digits. Raises OSError."""
    sha256 = hashlib.sha256()
    with Path(path).open("rb", buffering=0) as file:
        for chunk in _chunks(file, _size_bytes(file), progress):
            sha256.update(chunk)
    return sha256.hexdigest()


_GOES_ON: Final = (
    *(ErrorReason.UPLOAD_BUSY, ErrorReason.UPLOAD_OFFSET_MISMATCH, ErrorReason.CHUNK_DAMAGED),
    *(ErrorReason.UPLOAD_SUPERSEDED, ErrorReason.UPLOAD_INCOMPLETE),
    *(ErrorReason.TOO_MANY_TRANSFERS, ErrorReason.TOO_MANY_CALLS),
    *(ErrorReason.STORAGE_UNAVAILABLE, ErrorReason.CATALOGUE_UNAVAILABLE),
)
"""What ends a go and not the upload."""


def _patiently(start: Callable[[], Upload], patience: Patience) -> Upload:
    while True:
        try:
            return start()
        except (Declined, Unreachable) as trouble:
            if not _may_go_on(trouble):
                raise
            patience.wait(trouble)


def _may_go_on(trouble: Declined | Unreachable) -> bool:
    return isinstance(trouble, Unreachable) or trouble.is_for(*_GOES_ON)


def _size_bytes(file: BinaryIO) -> int:
    # What a device holds, its status does not tell.
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size_bytes


def _chunks(
    file: BinaryIO, size_bytes: int, progress: Progress | None, *, from_bytes: int = 0
) -> Iterator[bytes]:
    file.seek(from_bytes)
    done_bytes = from_bytes
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
        done_bytes += len(chunk)
        if progress is not None:
            progress(done_bytes, size_bytes)


def _name_to_show(path: Path) -> str:
    # A file's name is bytes, and not always text.
    return os.fsencode(path.name).decode(errors="replace")[:_LONGEST_FILE_NAME]
