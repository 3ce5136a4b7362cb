"""Blobs as files in one folder.

    unfinished/KEY  a blob that is being written, or waits to be written on
    blobs/KE/KEY    a committed blob, in a folder named after the key's first two characters

A blob is committed by a second link to its file and not by renaming it: a link never replaces
what is there. A crash right after leaves a spare link in `unfinished`, which goes with the blob.

Any number of processes and machines may have the folder open: who goes on with a blob that another
writer has begun holds a lock on its file, which the system takes from who dies.
"""

import errno
import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from io import FileIO
from pathlib import Path

from ims.blob_store.interface import (
    BlobBusy,
    BlobDeleted,
    BlobWriter,
    KeyInUse,
    data_damaged,
    storage_full,
    storage_unavailable,
)
from ims.domain.image import BlobKey

_KEY = re.compile(r"[a-z0-9][a-z0-9-]{1,127}")

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

# How much a writer leaves in the page cache before it has it written out.
_WRITE_BACK_BYTES = 32 * 1024**2

# What a disk reports as lost. Anything else, such as too many open files or a folder that may not
# be entered, says nothing about the bytes and must not pass for their loss.
_LOST = {errno.ENOENT, errno.EIO, errno.ESTALE, errno.EBADMSG, getattr(errno, "EUCLEAN", errno.EIO)}


class FilesystemBlobStore:
    """A ResumableBlobStore in a folder, which it makes when there is none."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"
        self._unfinished = root / "unfinished"
        self._durable_shards: set[Path] = set()
        _make_durable_folder(root)
        self._blobs.mkdir(mode=0o700, exist_ok=True)
        self._unfinished.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(root)

    def open_writer(self, key: BlobKey, *, hashed: bool = True) -> BlobWriter:
        committed, unfinished = self._path(key), self._unfinished / key
        publish = partial(self._publish, unfinished, committed)
        with _no_room_is_a_rejection():
            return _FileWriter(_new_file(unfinished), unfinished, publish=publish, hashed=hashed)

    def kept_bytes(self, key: BlobKey) -> int:
        self._path(key)  # judges the key
        with _loss_is_a_rejection():
            try:
                return (self._unfinished / key).stat().st_size
            except FileNotFoundError:
                return 0

    def resume_writer(self, key: BlobKey, *, first_bytes: int = 0, step_bytes: int = 1) -> BlobWriter:
        committed, unfinished = self._path(key), self._unfinished / key
        publish = partial(self._publish, unfinished, committed)
        with _no_room_is_a_rejection():
            file = _own_file(unfinished)
            # Under its lock: nobody commits the blob from now on but this writer.
            if committed.exists():
                file.close()
                raise KeyInUse("The key holds a blob already.")
            kept = _keep(file, first_bytes=first_bytes, step_bytes=step_bytes)
            return _FileWriter(file, unfinished, publish=publish, hashed=False, kept_bytes=kept)

    def size_bytes(self, key: BlobKey) -> int:
        with _loss_is_a_rejection():
            return self._path(key).stat().st_size

    def commit_time(self, key: BlobKey) -> datetime:
        with _loss_is_a_rejection():
            return datetime.fromtimestamp(self._path(key).stat().st_mtime, UTC)

    def read(
        self, key: BlobKey, *, offset_bytes: int, length_bytes: int, chunk_bytes: int
    ) -> Iterator[bytes]:
        chunks = _read(
            self._path(key),
            offset_bytes=offset_bytes,
            end_bytes=offset_bytes + length_bytes,
            chunk_bytes=chunk_bytes,
        )
        next(chunks)  # runs it up to the open file, so that this call notices what is missing
        return chunks

    def delete(self, key: BlobKey) -> None:
        committed = self._path(key)
        # In this order: a writer that commits in between finds its own file gone, or its blob goes next.
        (self._unfinished / key).unlink(missing_ok=True)
        committed.unlink(missing_ok=True)

    def keys(self) -> Iterator[BlobKey]:
        for path in self._blobs.glob("??/*"):
            key = BlobKey(path.name)
            if _KEY.fullmatch(key) and path == self._path(key):
                yield key

    def _path(self, key: BlobKey) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError("A blob's key is 2 to 128 of a-z, 0-9 and '-', and begins with no '-'.")
        return self._blobs / key[:2] / key

    def _publish(self, unfinished: Path, committed: Path) -> None:
        """Give a finished file its place among the blobs, where it survives a crash."""
        shard = committed.parent
        if shard not in self._durable_shards:
            shard.mkdir(mode=0o700, exist_ok=True)
            # Also when it was there: another thread may have made it and not come this far.
            _sync_folder(self._blobs)
            self._durable_shards.add(shard)
        try:
            committed.hardlink_to(unfinished)
        except FileExistsError as error:
            raise KeyInUse("The key holds a blob already.") from error
        except FileNotFoundError as error:
            raise BlobDeleted("The blob was deleted while it was being written.") from error
        try:
            _sync_folder(shard)
        except BaseException:
            committed.unlink()
            raise


class _FileWriter:
    """A BlobWriter on a file that no one else knows until it is published."""

    def __init__(
        self,
        file: FileIO,
        unfinished: Path,
        *,
        publish: Callable[[], None],
        hashed: bool,
        kept_bytes: int = 0,
    ) -> None:
        self._file = file
        self._unfinished = unfinished
        self._publish = publish
        self._digest = hashlib.sha256() if hashed else None
        self._size_bytes = kept_bytes
        self._written_back_bytes = kept_bytes

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    @property
    def sha256(self) -> str:
        if self._digest is None:
            raise ValueError("The writer was opened without hashing.")
        return self._digest.hexdigest()

    def write(self, chunk: bytes) -> None:
        with self._discarding_on_error():
            rest = memoryview(chunk)
            while rest:
                rest = rest[self._file.write(rest) :]
            if self._digest:
                self._digest.update(chunk)
            self._size_bytes += len(chunk)
            if self._size_bytes - self._written_back_bytes >= _WRITE_BACK_BYTES:
                # From a stretch before this one's on: where the disk keeps up, that one is clean by now.
                behind_bytes = max(0, self._written_back_bytes - _WRITE_BACK_BYTES)
                _write_back(self._file, from_bytes=behind_bytes)
                self._written_back_bytes = self._size_bytes

    def commit(self) -> None:
        with self._discarding_on_error():
            os.fsync(self._file.fileno())
            self._publish()
        self._end()  # takes away the first link; the blob is the second

    def discard(self) -> None:
        if self._file.closed:
            return
        with suppress(OSError):
            # Should its name stay: nobody is to go on with bytes that may never have reached the disk.
            self._file.truncate(0)
        self._end()

    def _end(self) -> None:
        """Take the file's first name away, while it is still locked, and let go of it.

        A name that cannot be taken away just now goes when the blob is deleted.
        """
        with suppress(OSError):
            self._unfinished.unlink()
        with suppress(OSError):  # what a late close cannot write is not wanted any more
            self._file.close()

    def suspend(self) -> None:
        if self._file.closed:
            return
        with self._discarding_on_error():
            os.fsync(self._file.fileno())
            # The file's name as well, which nobody else has made durable.
            _sync_folder(self._unfinished.parent)
            self._file.close()

    @contextmanager
    def _discarding_on_error(self) -> Iterator[None]:
        try:
            with _no_room_is_a_rejection():
                yield
        except BaseException:
            self.discard()
            raise


def _write_back(file: FileIO, *, from_bytes: int) -> None:
    """Have the system begin to write out a file's end, and let go of what of it is on the disk.

    Left to itself it gathers gigabytes first: then `commit` stalls on them, and so does every
    other fsync on the disk, the catalogue's among them. Measured with 3 GiB: commit in 0.01
    instead of 0.9 seconds. And it takes ever new memory for them, which a virtual machine may first
    have to get from its host. Measured there with 1 GiB: written at 2,300 instead of 500 MiB/s.
    """
    if hasattr(os, "posix_fadvise"):  # macOS has none
        # On Linux "not needed" drops what is clean, and starts the writing of what is not.
        os.posix_fadvise(file.fileno(), from_bytes, 0, os.POSIX_FADV_DONTNEED)


def _read_ahead(descriptor: int, *, from_bytes: int) -> None:
    """Have the system read ahead more boldly: measured, 15 to 30 % on files not in its cache."""
    if hasattr(os, "posix_fadvise"):  # macOS has none
        os.posix_fadvise(descriptor, from_bytes, 0, os.POSIX_FADV_SEQUENTIAL)


def _read(path: Path, *, offset_bytes: int, end_bytes: int, chunk_bytes: int) -> Iterator[bytes]:
    """Yield nothing once, with the file open, and then the bytes from an offset to an end."""
    with _loss_is_a_rejection(), path.open("rb", buffering=0) as file:
        descriptor = file.fileno()
        if os.fstat(descriptor).st_size < end_bytes:
            raise data_damaged()
        _read_ahead(descriptor, from_bytes=offset_bytes)
        yield b""
        for place in range(offset_bytes, end_bytes, chunk_bytes):
            yield _pread(descriptor, min(chunk_bytes, end_bytes - place), place)


def _pread(descriptor: int, length_bytes: int, offset_bytes: int) -> bytes:
    """Return exactly so many bytes, even where the system hands them out in pieces."""
    data = os.pread(descriptor, length_bytes, offset_bytes)
    while len(data) < length_bytes:
        more = os.pread(descriptor, length_bytes - len(data), offset_bytes + len(data))
        if not more:
            raise data_damaged()
        data += more
    return data


@contextmanager
def _no_room_is_a_rejection() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise (storage_full() if error.errno in _NO_ROOM else storage_unavailable()) from error


@contextmanager
def _loss_is_a_rejection() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise (data_damaged() if error.errno in _LOST else storage_unavailable()) from error


def _new_file(path: Path) -> FileIO:
    try:
        return FileIO(path, "xb", opener=_open_private)
    except FileExistsError as error:
        raise KeyInUse("The key is being written already.") from error


def _own_file(path: Path) -> FileIO:
    """Return a file, made where there is none, that nobody else writes to as long as it is open."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode=0o600)
        file = FileIO(descriptor, "r+b")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, descriptor):
                return file
        except BlockingIOError as error:
            file.close()
            raise BlobBusy("The blob is being written already.") from error
        except BaseException:
            file.close()
            raise
        # Its writer has committed or discarded it in between.
        file.close()


def _keep(file: FileIO, *, first_bytes: int, step_bytes: int) -> int:
    """Cut a file where its next writer can go on, and go there; return where that is."""
    try:
        there = os.fstat(file.fileno()).st_size
        kept = there - (there - first_bytes) % step_bytes if there >= first_bytes else 0
        file.truncate(kept)
        file.seek(kept)
    except BaseException:
        file.close()
        raise
    return kept


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


def _make_durable_folder(path: Path) -> None:
    if not path.is_dir():
        _make_durable_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
