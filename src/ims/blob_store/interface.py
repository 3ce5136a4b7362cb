"""What a blob store promises; tests/blob_store/contract.py holds every implementation to it."""

from collections.abc import Iterator
from datetime import datetime
from typing import Protocol

from ims.domain.image import BlobKey
from ims.domain.rejection import Category, Reason, Rejection, reject


class BlobWriter(Protocol):
    """Takes a blob's bytes; nothing is visible before `commit`.

    `commit`, `discard` or `suspend` ends it.

    Whatever `write` or `commit` raises ends it as well, with everything written discarded.
    Belongs to one thread; writers of different keys may run in parallel.
    """

    @property
    def size_bytes(self) -> int:
        """How many bytes were written so far."""

    @property
    def sha256(self) -> str:
        """64 lower-case hexadecimal digits, of the bytes written so far.

        Not to be asked of a writer that was opened without hashing.
        """

    def write(self, chunk: bytes) -> None:
        """Append a chunk of any size. Raises Rejection STORAGE_FULL when it finds no room."""

    def commit(self) -> None:
        """Make the blob durable and visible, both before it returns.

        Raises Rejection STORAGE_FULL like `write`, KeyInUse rather than overwrite a blob, and
        BlobDeleted when it was deleted meanwhile.
        """

    def discard(self) -> None:
        """Forget everything written and free its space. May be called at any time, more than once.

        After `commit` it does nothing: the blob stays. So it does after `suspend`.
        """

    def suspend(self) -> None:
        """Keep what was written, durably, for another writer to go on with; ends this one.

        Raises like `write`. A crash keeps it too, but for what was written last.
        """


class BlobStore(Protocol):
    """Holds immutable blobs under keys that the service makes: never a word of a caller's."""

    def open_writer(self, key: BlobKey, *, hashed: bool = True) -> BlobWriter:
        """Begin a blob. Raises Rejection STORAGE_FULL, or KeyInUse while the key has a writer.

        Hashing is most of the work of writing: who does not ask for `sha256` turns it off.
        """

    def size_bytes(self, key: BlobKey) -> int:
        """Return a committed blob's size. Raises Rejection DISK_DATA_DAMAGED when there is none."""

    def commit_time(self, key: BlobKey) -> datetime:
        """Return when a blob was committed, or shortly before that, by the store's own clock.

        Raises Rejection DISK_DATA_DAMAGED when there is none.
        """

    def read(
        self, key: BlobKey, *, offset_bytes: int, length_bytes: int, chunk_bytes: int
    ) -> Iterator[bytes]:
        """Yield a part of a committed blob in chunks of `chunk_bytes`; the last may be shorter.

        None is empty. Raises Rejection DISK_DATA_DAMAGED: from the call itself when there is no
        such blob or it ends before the part does, and otherwise at the chunk that cannot be read.
        A reader that has begun may or may not outlive the blob's deletion.
        """

    def delete(self, key: BlobKey) -> None:
        """Remove a blob, committed or still being written; one that is not there is no error.

        A writer that is still at work is told when it commits. After a crash the blob may be back.
        """

    def keys(self) -> Iterator[BlobKey]:
        """Yield the key of every committed blob, in no order."""


class ResumableBlobStore(BlobStore, Protocol):
    """A BlobStore in which a blob may be written by several writers, one after the other.

    In whatever process, and on whatever machine.
    """

    def kept_bytes(self, key: BlobKey) -> int:
        """Return how much there is of a blob that is not committed; 0 where there is nothing."""

    def resume_writer(self, key: BlobKey, *, first_bytes: int = 0, step_bytes: int = 1) -> BlobWriter:
        """Go on with a blob whose writer was suspended or has died, or begin it. It is not hashed.

        The writer's `size_bytes` says from where on: what was written last may have to be written
        again. It is 0, or `first_bytes` and a multiple of `step_bytes`; a caller that names them has
        all its writes end at such places. Raises KeyInUse when the blob is committed, BlobBusy while
        another writer is found at work on it, and Rejection STORAGE_FULL.
        """


class DownloadUrls(Protocol):
    """What a store can do of which others may read as well."""

    def download_url(self, key: BlobKey, *, valid_seconds: int, file_name: str = "") -> str:
        """Return a URL with which anybody reads this blob for so long, and nothing else.

        A browser saves it under the file's name. Whether there is such a blob is not looked at.
        """


class PartUrls(Protocol):
    """What a store can do to which others may bring the bytes of a blob, in parts.

    Its parts are numbered from 1 on, and all but the last are of the same size.
    """

    def part_bytes(self, size_bytes: int) -> int:
        """Return how large the parts of a blob of so many bytes are best."""

    def begin(self, key: BlobKey) -> str:
        """Begin a blob that comes in parts; return what the store calls the beginning."""

    def arrived(self, key: BlobKey, upload_id: str) -> dict[int, int]:
        """Return how many bytes each part has that has arrived. Raises BlobDeleted."""

    def part_url(
        self, key: BlobKey, upload_id: str, number: int, *, length_bytes: int, valid_seconds: int
    ) -> str:
        """Return a URL with which anybody brings this part for so long, of just this length."""

    def finish(self, key: BlobKey, upload_id: str) -> None:
        """Commit a blob of all parts that have arrived; no URL changes it any more.

        Raises BlobDeleted, and BlobBusy when a part is changed at this very moment.
        """

    def abandon(self, key: BlobKey, upload_id: str) -> None:
        """Take back a beginning, with all its parts; one that is not there is no error."""


class KeyInUse(Exception):
    """A key was given twice. Keys are made once, so this is a bug and no Rejection."""


class BlobBusy(Exception):
    """A blob is being written by another writer at this moment."""


class BlobDeleted(Exception):
    """A blob was deleted while it was being written: somebody took its writer for dead."""


def storage_full() -> Rejection:
    """Return what every store raises when there is no room."""
    return reject(
        Category.OVER_LIMIT, Reason.STORAGE_FULL, "There is no room left to store these bytes."
    )


def storage_unavailable() -> Rejection:
    """Return what every store raises when it cannot be reached, or cannot work just now."""
    return reject(
        Category.UNAVAILABLE,
        Reason.STORAGE_UNAVAILABLE,
        "The store of bytes cannot be used just now; try again.",
    )


def data_damaged() -> Rejection:
    """Return what every store raises of bytes that it does not have, or not as they were."""
    return reject(Category.CORRUPT, Reason.DISK_DATA_DAMAGED, "The stored bytes are damaged or missing.")
