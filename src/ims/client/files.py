"""Transfers from and to files."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, TypeVar, Unpack

import grpc

from ims.client.disk_format import guess_format
from ims.client.errors import DamagedDownload, Declined, Unreachable
from ims.client.images import NewImageAttributes
from ims.client.repetition import PAUSES_SECONDS, may_be_repeated, new_request_id
from ims.client.transfers import TransferCalls
from ims.client.vocabulary import (
    Disk,
    DiskFormat,
    ErrorReason,
    Image,
    ImageType,
    Source,
    UploadImageDataResponse,
)
from ims.client.whole_file import whole_file

Progress = Callable[[int, int], None]
"""Is told, after every chunk, how many bytes are done and how many there are; not always by the same
thread. What it raises ends the transfer."""

Answer = TypeVar("Answer")

CHUNK_BYTES: Final = 1024 * 1024

_IDLE_TRIES: Final = 25
_IDLE_PAUSE_SECONDS: Final = 0.2
_LONGEST_FILE_NAME: Final = 255


class FileCalls(TransferCalls):
    """Carries disk files to the service and back."""

    def upload(
        self,
        image_id: str,
        path: str | os.PathLike[str],
        disk_index: int = 0,
        *,
        sha256: str = "",
        request_id: str = "",
        progress: Progress | None = None,
    ) -> UploadImageDataResponse:
        """Upload a file as one disk of an image, from its beginning again when the connection is lost.

        Without `sha256` the file is read once more beforehand, to announce it. Raises Declined,
        Unreachable, and OSError about the file.
        """
        path = Path(path)
        sha256 = sha256 or sha256_of(path)
        request_id = request_id or new_request_id()

        def send() -> UploadImageDataResponse:
            with path.open("rb", buffering=0) as file:
                size_bytes = _size_bytes(file)
                return self.upload_image_data(
                    image_id,
                    _chunks(file, size_bytes, progress),
                    size_bytes=size_bytes,
                    sha256=sha256,
                    disk_index=disk_index,
                    request_id=request_id,
                )

        attempt: Callable[[], UploadImageDataResponse] = send
        for pause in PAUSES_SECONDS:
            try:
                return attempt()
            except (Declined, Unreachable) as trouble:
                if not isinstance(trouble.__cause__, grpc.RpcError) or not may_be_repeated(
                    trouble.__cause__
                ):
                    raise
            time.sleep(pause)
            attempt = partial(_when_idle, send)
        return attempt()

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
        progress: Progress | None = None,
    ) -> Disk:
        """Download one disk of an image, or a part of it, into a file; return the disk.

        The file gets its name when all bytes are on the disk and found to be those announced: their
        number always, their digest when it is the whole disk. Until then, and when something goes
        wrong, there is no such file, or the old one as it was.

        Raises Declined, Unreachable, DamagedDownload, and OSError about the file, FileExistsError
        among them unless `overwrite` is set.
        """
        with (
            whole_file(Path(target_path), overwrite=overwrite) as file,
            self.download_image_data(
                image_id,
                disk_index=disk_index,
                offset_bytes=offset_bytes,
                length_bytes=length_bytes,
                tenant_id=tenant_id,
            ) as (start, chunks),
        ):
            disk = start.disk
            rest_bytes = disk.size_bytes - offset_bytes
            expected_bytes = min(length_bytes, rest_bytes) if length_bytes else rest_bytes
            sha256 = hashlib.sha256()
            received_bytes = 0
            for chunk in chunks:
                file.write(chunk)
                sha256.update(chunk)
                received_bytes += len(chunk)
                if progress is not None:
                    progress(received_bytes, expected_bytes)
            if received_bytes != expected_bytes:
                raise DamagedDownload(f"{received_bytes} bytes arrived instead of {expected_bytes}.")
            if received_bytes == disk.size_bytes and sha256.hexdigest() != disk.sha256:
                raise DamagedDownload(f"The SHA-256 is {sha256.hexdigest()} instead of {disk.sha256}.")
        return disk

    def create_from_file(
        self,
        path: str | os.PathLike[str],
        *,
        name: str,
        format: DiskFormat | None = None,  # noqa: A002 - the contract's word
        type: ImageType | None = None,  # noqa: A002 - the contract's word
        sha256: str = "",
        keep: bool = False,
        progress: Progress | None = None,
        **attributes: Unpack[NewImageAttributes],
    ) -> Image:
        """Create an image of one disk and upload it; return it ACTIVE.

        The format is guessed when it is not said; the type is SYSTEM_DISK, and ISO for an ISO file.
        When the upload fails, the record is deleted again, unless it is to be kept for another try;
        if that fails too, a note on the exception says so. Raises what `upload` does.
        """
        path = Path(path)
        format = guess_format(path) if format is None else format  # noqa: A001 - the contract's word
        if type is None:
            type = Image.ISO if format == Disk.ISO else Image.SYSTEM_DISK  # noqa: A001 - as above
        sha256 = sha256 or sha256_of(path)
        source = Source(file=Source.File(name=_name_to_show(path)))
        image = self.create_image(name=name, type=type, formats=[format], source=source, **attributes)
        try:
            return self.upload(image.id, path, sha256=sha256, progress=progress).image
        except BaseException as error:
            if not keep:
                self._discard(image.id, error)
            raise

    def _discard(self, image_id: str, error: BaseException) -> None:
        try:
            _when_idle(partial(self.delete_image, image_id))
        except (Declined, Unreachable) as trouble:
            error.add_note(f"The record of the image is still there, as {image_id}: {trouble}")


def _when_idle(call: Callable[[], Answer]) -> Answer:
    """Make a call about an image whose upload was broken off, which the service may not know yet."""
    for _ in range(_IDLE_TRIES):
        try:
            return call()
        except Declined as declined:
            if not declined.is_for(ErrorReason.IMAGE_BUSY):
                raise
        time.sleep(_IDLE_PAUSE_SECONDS)
    return call()


def sha256_of(path: str | os.PathLike[str], *, progress: Progress | None = None) -> str:
    """Return the SHA-256 of a file's content, as 64 hexadecimal digits. Raises OSError."""
    sha256 = hashlib.sha256()
    with Path(path).open("rb", buffering=0) as file:
        for chunk in _chunks(file, _size_bytes(file), progress):
            sha256.update(chunk)
    return sha256.hexdigest()


def _size_bytes(file: BinaryIO) -> int:
    # What a device holds, its status does not tell.
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size_bytes


def _chunks(file: BinaryIO, size_bytes: int, progress: Progress | None) -> Iterator[bytes]:
    done_bytes = 0
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
        done_bytes += len(chunk)
        if progress is not None:
            progress(done_bytes, size_bytes)


def _name_to_show(path: Path) -> str:
    # A file's name is bytes, and not always text.
    return os.fsencode(path.name).decode(errors="replace")[:_LONGEST_FILE_NAME]
