"""Blobs whose parts others bring to the bucket themselves, at presigned URLs."""

from collections.abc import Callable
from typing import Final

from ims.blob_store.interface import BlobBusy, BlobDeleted
from ims.blob_store.s3_bucket import (
    NoSuchObject,
    NoSuchUpload,
    ObjectExists,
    S3Bucket,
    UploadSpoilt,
)
from ims.blob_store.s3_record import MIB, PartSizes
from ims.domain.image import BlobKey

_MOST_PARTS: Final = 10_000


class S3PartUrls:
    """PartUrls of a bucket: a blob's parts are those of one of the store's own unfinished uploads.

    Nobody else writes to that upload. Whoever deletes the blob aborts it.
    """

    def __init__(self, bucket: S3Bucket, name_of: Callable[[BlobKey], str], sizes: PartSizes) -> None:
        """Take the bucket, and what a blob is called in it."""
        self._bucket = bucket
        self._name_of = name_of
        self._sizes = sizes

    def part_bytes(self, size_bytes: int) -> int:
        """Return whole MiB, as few as the number of parts allows."""
        at_least = max(self._sizes.of(1), -(-size_bytes // _MOST_PARTS))
        return -(-at_least // MIB) * MIB

    def begin(self, key: BlobKey) -> str:
        return self._bucket.begin_upload(self._name_of(key))

    def arrived(self, key: BlobKey, upload_id: str) -> dict[int, int]:
        try:
            parts = list(self._bucket.parts(self._name_of(key), upload_id))
        except NoSuchUpload as error:
            raise _deleted() from error
        return {part.number: part.size_bytes for part in parts}

    def part_url(
        self, key: BlobKey, upload_id: str, number: int, *, length_bytes: int, valid_seconds: int
    ) -> str:
        return self._bucket.part_url(
            self._name_of(key), upload_id, number, length_bytes=length_bytes, valid_seconds=valid_seconds
        )

    def finish(self, key: BlobKey, upload_id: str) -> None:
        name = self._name_of(key)
        try:
            parts = [(part.number, part.etag) for part in self._bucket.parts(name, upload_id)]
            self._bucket.finish_upload(name, upload_id, parts)
        except UploadSpoilt as error:
            raise BlobBusy("A part was brought again while the upload was being finished.") from error
        except (NoSuchUpload, ObjectExists) as error:
            # Another has finished it, or this very call whose first answer was lost; or it was aborted.
            try:
                self._bucket.head(name)
            except NoSuchObject:
                raise _deleted() from error

    def abandon(self, key: BlobKey, upload_id: str) -> None:
        self._bucket.abort_upload(self._name_of(key), upload_id)


def _deleted() -> BlobDeleted:
    return BlobDeleted("The blob was deleted while its parts were being brought.")
