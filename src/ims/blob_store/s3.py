"""Blobs as objects in a bucket of any S3-compatible store.

    PREFIXblobs/KEY          a committed blob
    PREFIXunfinished/KEY.…   what is known of one that is not committed: s3_record.py says more

A blob is uploaded in parts, as one of the store's own unfinished uploads of `blobs/KEY`, which any
instance finds again by that name. One that ends within its first part is put there in one piece.

Parts 1 to 4,000 are of about `part_bytes`, parts 4,001 to 7,000 of at least 32 MiB and parts 7,001 to
10,000, the last that S3 has, of at least 352 MiB: so a blob may have 1 TiB, and the parts of one of
31 GiB are all small. A part that can be larger than 8 MiB waits in a temporary file.
"""

import re
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from io import BytesIO
from typing import Final
from urllib.parse import quote

from ims.blob_store.interface import BlobBusy, BlobWriter, KeyInUse, data_damaged
from ims.blob_store.s3_bucket import (
    NoSuchObject,
    ObjectExists,
    ObjectFacts,
    S3Bucket,
    UnusableBucket,
)
from ims.blob_store.s3_download import Download
from ims.blob_store.s3_part_urls import S3PartUrls
from ims.blob_store.s3_record import PartSizes, Places, Record
from ims.blob_store.s3_writer import S3Writer
from ims.domain.image import BlobKey
from ims.domain.rejection import Rejection

ORDINARY_SIZES: Final = PartSizes()

_KEY = re.compile(r"[a-z0-9][a-z0-9-]{1,127}")


class S3BlobStore:
    """A ResumableBlobStore in a bucket, under a prefix that nobody else writes to.

    Who goes on with a blob takes the turn of its earlier writer, which is told BlobDeleted then, at
    the latest when it commits. A writer of `resume_writer` whose store cannot be reached any more ends,
    and what it had sent is kept. A blob's time of commit may be the one when its first part was sent.
    """

    def __init__(self, bucket: S3Bucket, *, prefix: str = "", sizes: PartSizes = ORDINARY_SIZES) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._sizes = sizes

    def check(self) -> None:
        """Raise UnusableBucket unless the bucket is there, may be used, and overwrites nothing."""
        self._bucket.reach()
        name = f"{self._prefix}unfinished/check.{uuid.uuid4()}"
        try:
            self._bucket.put_new(name, BytesIO(b"first"))
            try:
                with suppress(ObjectExists):
                    self._bucket.put_new(name, BytesIO(b"second"))
                    raise UnusableBucket(
                        "the store overwrites what is to be kept: it ignores If-None-Match, as Ceph "
                        "does in a bucket with versions"
                    )
            finally:
                self._bucket.remove(name)
        except (Rejection, ObjectExists) as error:
            raise UnusableBucket("the bucket cannot be written to") from error

    def close(self) -> None:
        """Let the connections go."""
        self._bucket.close()

    def open_writer(self, key: BlobKey, *, hashed: bool = True) -> BlobWriter:
        record = self._record(key)
        mark = record.begin()
        if mark is None:
            raise KeyInUse("The key is being written already.")
        return S3Writer(record, mark, hashed=hashed)

    def kept_bytes(self, key: BlobKey) -> int:
        record = self._record(key)
        kept_bytes = record.kept().size_bytes
        return 0 if kept_bytes and self._is_committed(record) else kept_bytes

    def resume_writer(self, key: BlobKey, *, first_bytes: int = 0, step_bytes: int = 1) -> BlobWriter:
        record = self._record(key)
        if self._is_committed(record):
            raise KeyInUse("The key holds a blob already.")
        places = Places(first_bytes=first_bytes, step_bytes=step_bytes)
        turn = record.succeed(places)
        if turn is None:
            raise BlobBusy("Another writer has just gone on with the blob.")
        mark, kept = turn
        return S3Writer(record, mark, places=places, kept=kept)

    def size_bytes(self, key: BlobKey) -> int:
        return self._facts(key).size_bytes

    def commit_time(self, key: BlobKey) -> datetime:
        return self._facts(key).modified

    def read(
        self, key: BlobKey, *, offset_bytes: int, length_bytes: int, chunk_bytes: int
    ) -> Iterator[bytes]:
        if length_bytes == 0:
            if self._facts(key).size_bytes < offset_bytes:
                raise data_damaged()
            return iter(())
        chunks = _read(
            Download(self._bucket, self._record(key).blob, offset_bytes, offset_bytes + length_bytes),
            length_bytes=length_bytes,
            chunk_bytes=chunk_bytes,
        )
        next(chunks)  # from here on it is closed, however it is left
        return chunks

    def delete(self, key: BlobKey) -> None:
        record = self._record(key)
        # In this order: a writer that commits in between finds its mark gone, or its blob goes next.
        record.forget()
        self._bucket.remove(record.blob)

    def keys(self) -> Iterator[BlobKey]:
        folder = f"{self._prefix}blobs/"
        for name, _ in self._bucket.sizes(folder):
            key = BlobKey(name.removeprefix(folder))
            if _KEY.fullmatch(key):
                yield key

    def download_url(self, key: BlobKey, *, valid_seconds: int, file_name: str = "") -> str:
        """Return a URL with which anybody reads this blob for so long, and nothing else.

        A browser saves it under the file's name. Whether there is such a blob is not looked at.
        """
        disposition = "attachment"
        if file_name:
            disposition += f"; filename*=UTF-8''{quote(file_name, safe='')}"
        return self._bucket.url(
            self._record(key).blob, valid_seconds=valid_seconds, disposition=disposition
        )

    def part_urls(self) -> S3PartUrls:
        """Return what others bring the parts of blobs with."""
        return S3PartUrls(self._bucket, lambda key: self._record(key).blob, self._sizes)

    def _record(self, key: BlobKey) -> Record:
        if not _KEY.fullmatch(key):
            raise ValueError("A blob's key is 2 to 128 of a-z, 0-9 and '-', and begins with no '-'.")
        return Record(self._bucket, self._prefix, key, self._sizes)

    def _facts(self, key: BlobKey) -> ObjectFacts:
        try:
            return self._bucket.head(self._record(key).blob)
        except NoSuchObject as error:
            raise data_damaged() from error

    def _is_committed(self, record: Record) -> bool:
        try:
            self._bucket.head(record.blob)
        except NoSuchObject:
            return False
        return True


def _read(download: Download, *, length_bytes: int, chunk_bytes: int) -> Iterator[bytes]:
    """Yield nothing once, and then the bytes of a download."""
    try:
        yield b""
        for place in range(0, length_bytes, chunk_bytes):
            yield download.read(min(chunk_bytes, length_bytes - place))
    finally:
        download.close()
