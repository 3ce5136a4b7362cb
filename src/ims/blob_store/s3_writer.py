"""Writes a blob into a bucket: sends one part while the next one fills.

What fills a part may be kept in pieces until the part is there: for whoever goes on after a crash.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import IO, Final

from ims.blob_store.interface import BlobDeleted, KeyInUse, storage_unavailable
from ims.blob_store.s3_bucket import (
    NoSuchObject,
    NoSuchUpload,
    ObjectExists,
    UploadSpoilt,
)
from ims.blob_store.s3_download import Download
from ims.blob_store.s3_part import Part
from ims.blob_store.s3_record import ANYWHERE, Kept, Mark, Piece, Places, Record
from ims.domain.rejection import Reason, Rejection

_STEP_BYTES: Final = 1024**2


class S3Writer:
    """A BlobWriter with two parts at most: the one that fills, and the one that is on its way.

    One that another may go on with keeps what it has sent when the store cannot be reached any more.
    """

    def __init__(
        self,
        record: Record,
        mark: Mark,
        *,
        hashed: bool = False,
        places: Places = ANYWHERE,
        kept: Kept | None = None,
    ) -> None:
        """Go on from what is kept of an earlier writer; without that, begin."""
        self._record = record
        self._bucket = record.bucket
        self._mark = mark
        self._places = places
        self._resumable = kept is not None
        self._digest = hashlib.sha256() if hashed else None
        kept = kept or Kept()
        self._upload_id = kept.upload_id if kept.parts else ""
        self._sent = [(part.number, part.etag) for part in kept.parts]
        self._sent_bytes = kept.parts_bytes
        self._next_number = len(kept.parts) + 1
        self._part = self._new_part()
        self._tail = list(kept.tail)
        self._kept_bytes = kept.size_bytes
        self._thread: ThreadPoolExecutor | None = None
        self._sending: Future[None] | None = None
        self._ended = False
        with self._ending_on_error():
            for piece in kept.tail:
                self._take_up(piece)

    def _take_up(self, piece: Piece) -> None:
        """Fetch one of the pieces that come after the parts."""
        download = Download(self._bucket, piece.name, 0, piece.size_bytes)
        try:
            for place in range(0, piece.size_bytes, _STEP_BYTES):
                self._take(download.read(min(_STEP_BYTES, piece.size_bytes - place)))
        finally:
            download.close()

    @property
    def size_bytes(self) -> int:
        return self._sent_bytes + self._part.size_bytes

    @property
    def sha256(self) -> str:
        if self._digest is None:
            raise ValueError("The writer was opened without hashing.")
        return self._digest.hexdigest()

    def write(self, chunk: bytes) -> None:
        with self._ending_on_error():
            self._take(chunk)
            if self._digest:
                self._digest.update(chunk)

    def commit(self) -> None:
        with self._ending_on_error():
            self._wait_until_sent()
            self._refuse_if_off()
            if self._sent:
                self._finish_upload()
                alone = True
            else:
                alone = self._put_whole()
        self._end()
        # Where another did it, the mark is left to that one: without it, it would take its blob away.
        if alone:
            with suppress(Rejection):  # the blob is there, and takes these with it when it is deleted
                self._record.forget()

    def discard(self) -> None:
        if self._ended:
            return
        self._settle()
        self._end()
        with suppress(Rejection):  # what is not taken away now goes with the blob's deletion
            if self._record.is_on(self._mark):
                self._record.forget()

    def suspend(self) -> None:
        if self._ended:
            return
        self._resumable = True
        # Where it is deleted, or another has gone on, there is nothing to be kept.
        with suppress(BlobDeleted), self._ending_on_error():
            self._wait_until_sent()
            self._refuse_if_off()
            if self._part.size_bytes:
                self._put_tail(self._sent_bytes, self._part.rewound())
        self._end()

    def _take(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:
            taken = rest[: self._part.room_bytes]
            self._part.write(taken)
            rest = rest[len(taken) :]
            self._keep_what_waits()
            if self._part.room_bytes == 0:
                self._send_full_part()

    def _keep_what_waits(self) -> None:
        """Put what has come since the last time where a crash leaves it, if it is time."""
        waiting_bytes = self.size_bytes - self._kept_bytes
        every_bytes = self._record.sizes.keep_every_bytes
        if every_bytes is None or not self._resumable or waiting_bytes <= 0:
            return
        if waiting_bytes >= every_bytes or self._part.room_bytes == 0:
            self._tail.append(self._put_tail(self._kept_bytes, self._part.last(waiting_bytes)))
            self._kept_bytes = self.size_bytes

    def _new_part(self) -> Part:
        end_bytes = self._places.part_end(self._next_number, self._sent_bytes, self._record.sizes)
        return Part(end_bytes - self._sent_bytes)

    def _send_full_part(self) -> None:
        """Have the part that is full sent, as soon as the one before it was."""
        self._wait_until_sent()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="s3-part")
        number, part = self._next_number, self._part
        self._next_number += 1
        self._sent_bytes += part.size_bytes
        self._part = self._new_part()
        outdated = [piece for piece in self._tail if piece.end_bytes <= self._sent_bytes]
        self._tail = self._tail[len(outdated) :]
        if self._tail and self._tail[0].begin_bytes < self._sent_bytes:
            # Made where parts end elsewhere. Nobody goes on in the middle of a piece: it is made anew.
            self._tail, self._kept_bytes = [], self._sent_bytes
        self._sending = self._thread.submit(self._send, number, part, outdated)

    def _send(self, number: int, part: Part, outdated: Sequence[Piece] = ()) -> None:
        try:
            self._send_open(number, part)
        finally:
            part.close()
        # Whoever goes on from here on finds the part; who has done so before may be reading the pieces.
        with suppress(Rejection):  # what is not taken away now goes with the next writer
            if outdated and self._record.is_on(self._mark):
                self._record.remove_tail(outdated)

    def _send_open(self, number: int, part: Part) -> None:
        begun = not self._upload_id
        if begun:
            self._upload_id = self._bucket.begin_upload(self._record.blob)
        try:
            self._refuse_if_off()
        except BlobDeleted:
            if begun:
                self._bucket.abort_upload(self._record.blob, self._upload_id)
            raise
        try:
            etag = self._bucket.put_part(self._record.blob, self._upload_id, number, part.rewound())
        except NoSuchUpload as error:
            raise _deleted() from error
        except Rejection:
            self._refuse_if_off()  # stores fail in their own ways at a part whose upload has just ended
            raise
        self._sent.append((number, etag))

    def _wait_until_sent(self) -> None:
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.result()

    def _finish_upload(self) -> None:
        with suppress(NoSuchObject):
            self._bucket.head(self._record.blob)
            # Not every store keeps what is there when an upload is finished.
            raise KeyInUse("The key holds a blob already.")
        size_bytes = self.size_bytes
        if self._part.size_bytes:
            self._send(self._next_number, self._part)
        try:
            self._bucket.finish_upload(self._record.blob, self._upload_id, self._sent)
        except UploadSpoilt as error:
            self.discard()  # or whoever goes on with it would come to the same end
            raise storage_unavailable() from error
        except (NoSuchUpload, ObjectExists) as error:
            # It was aborted; or it was finished by this very call, and the first answer was lost.
            try:
                found = self._bucket.head(self._record.blob)
            except NoSuchObject:
                raise _deleted() from error
            if found.size_bytes != size_bytes:
                raise KeyInUse("The key holds a blob already.") from error

    def _put_tail(self, begin_bytes: int, body: IO[bytes]) -> Piece:
        """Put down what comes from a place on."""
        name = self._record.tail_name(self._mark, begin_bytes)
        self._bucket.put(name, body)
        if not self._record.is_on(self._mark):
            # The next writer may go on from it, and takes it away; after a deletion nobody would.
            if not self._record.has_mark_after(self._mark):
                self._bucket.remove(name)
            raise _deleted()
        return Piece(name=name, begin_bytes=begin_bytes, size_bytes=self.size_bytes - begin_bytes)

    def _put_whole(self) -> bool:
        """Put a blob that is smaller than a part; tell whether nobody else can have done so."""
        try:
            alone = self._bucket.put_new(self._record.blob, self._part.rewound())
        except ObjectExists as error:
            raise KeyInUse("The key holds a blob already.") from error
        if alone and not self._record.is_on(self._mark):
            # The next writer finds the same bytes there, or others and says so.
            if not self._record.has_mark_after(self._mark):
                self._bucket.remove(self._record.blob)
            raise _deleted()
        return alone

    def _refuse_if_off(self) -> None:
        if not self._record.is_on(self._mark):
            raise _deleted()

    def _settle(self) -> None:
        """Wait for what is on its way, whatever becomes of it."""
        with suppress(Exception):
            self._wait_until_sent()

    def _end(self) -> None:
        self._ended = True
        self._part.close()
        if self._thread is not None:
            self._thread.shutdown()

    @contextmanager
    def _ending_on_error(self) -> Iterator[None]:
        if self._ended:
            raise ValueError("The writer is closed.")
        try:
            try:
                yield
            except OSError as error:  # of a temporary file
                raise storage_unavailable() from error
        except BaseException as error:
            if isinstance(error, BlobDeleted) or (self._resumable and _is_passing(error)):
                self._settle()
                self._end()
            else:
                self.discard()
            raise


def _is_passing(error: BaseException) -> bool:
    return isinstance(error, Rejection) and error.reason is Reason.STORAGE_UNAVAILABLE


def _deleted() -> BlobDeleted:
    return BlobDeleted("The blob was deleted while it was being written.")
