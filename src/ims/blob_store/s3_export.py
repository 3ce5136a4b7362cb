"""Puts objects into buckets of any S3-compatible store, and overwrites nothing there.

An object is always one of the store's uploads in parts, however small it is: only so can whoever takes
an export over see to it that nobody who was at it before can finish it any more. Whose an object is, its
metadata tells by a token.

Some stores see to it that finishing an upload overwrites nothing (If-None-Match). Others do so
only when an object is put whole, Ceph 16 for instance: there the name is claimed first with an empty
object, which is the export's own to be overwritten. Which kind a store is, is tried out once.
"""

import hashlib
import threading
import uuid
from contextlib import suppress
from dataclasses import replace
from functools import cache
from io import BytesIO
from typing import Final

from boto3.session import Session

from ims.blob_store.exports import ExportSuperseded, ObjectWriter, TargetTaken
from ims.blob_store.interface import storage_unavailable
from ims.blob_store.s3_bucket import (
    BucketAddress,
    BucketRefused,
    NoSuchObject,
    NoSuchUpload,
    ObjectExists,
    S3Bucket,
    UnusableBucket,
    UploadSpoilt,
)
from ims.blob_store.s3_part import Part
from ims.blob_store.s3_record import PartSizes
from ims.domain.rejection import Category, Reason, Rejection, reject

_LOOK_SECONDS: Final = 3
"""How long a caller is kept waiting for what a store says of a name."""
_CLAIMS: Final = 3
"""How often a name is claimed from what an earlier writer of the same export has left there."""


_session: Final = cache(Session)
"""Of all buckets: what the library knows of S3 takes a dozen megabytes."""


class S3ExportBucket:
    """An ExportBucket. Belongs to no thread: any number may use it at once."""

    def __init__(self, address: BucketAddress, sizes: PartSizes) -> None:
        """Ask nothing of it yet. Raises Rejection EXPORT_BUCKET_UNUSABLE when the address is wrong.

        Not to be made by two threads at once.
        """
        try:
            self._bucket = S3Bucket(address, session=_session())
            quick = replace(address, silence_seconds=_LOOK_SECONDS, attempts=1)
            self._glance = S3Bucket(quick, session=_session())
        except UnusableBucket as error:
            raise _unusable() from error
        self._sizes = sizes
        self._keeps_when_finishing: bool | None = None
        self._lock = threading.Lock()

    def is_taken(self, name: str) -> bool:
        try:
            self._glance.head(name)
        except NoSuchObject:
            return False
        return True

    def begin(self, name: str, *, token: str) -> ObjectWriter:
        with self._lock:
            if self._keeps_when_finishing is None:
                self._keeps_when_finishing = self._try_out(name)
        return _Writer(self._bucket, name, token, self._sizes, claims=not self._keeps_when_finishing)

    def is_finished(self, name: str, *, token: str) -> bool:
        return _token_of(self._bucket, name) == token

    def abort(self, name: str, upload_id: str) -> None:
        self._bucket.abort_upload(name, upload_id)

    def clear(self, name: str, *, token: str) -> None:
        found = _token_of(self._bucket, name)
        if found is not None and (found == token or _is_claim(found, token)):
            self._bucket.remove(name)

    def close(self) -> None:
        self._bucket.close()
        self._glance.close()

    def _try_out(self, beside: str) -> bool:
        """Tell whether the store overwrites nothing when an upload is finished either."""
        try:
            self._bucket.reach()
        except BucketRefused as error:
            raise _unusable() from error
        except UnusableBucket as error:
            raise storage_unavailable() from error
        # In the same folder, which may be all that may be written to.
        folder = beside.rpartition("/")[0]
        name = f"{folder}/.ims-check-{uuid.uuid4().hex}".removeprefix("/")
        try:
            self._bucket.put_new(name, BytesIO(b"first"))
            with suppress(ObjectExists):
                self._bucket.put_new(name, BytesIO(b"second"))
                raise _unusable()
            return self._keeps(name)
        finally:
            with suppress(Rejection):
                self._bucket.remove(name)

    def _keeps(self, name: str) -> bool:
        upload_id = self._bucket.begin_upload(name)
        try:
            etag = self._bucket.put_part(name, upload_id, 1, BytesIO(b"third"))
            self._bucket.finish_upload(name, upload_id, [(1, etag)])
        except ObjectExists:
            return True
        except (NoSuchUpload, UploadSpoilt) as error:
            raise storage_unavailable() from error
        finally:
            with suppress(Rejection):
                self._bucket.abort_upload(name, upload_id)
        return False


class _Writer:
    """An ObjectWriter with one part in hand."""

    def __init__(
        self, bucket: S3Bucket, name: str, token: str, sizes: PartSizes, *, claims: bool
    ) -> None:
        self._bucket = bucket
        self._name = name
        self._token = token
        self._sizes = sizes
        self._claims = claims
        self._claim = f"{token}.{uuid.uuid4().hex}"
        self._digest = hashlib.sha256()
        self._sent: list[tuple[int, str]] = []
        self._ended = False
        self.size_bytes = 0
        self.upload_id = bucket.begin_upload(name, token=token)
        self._part = Part(sizes.of(1))

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        rest = memoryview(chunk)
        while rest:
            taken = rest[: self._part.room_bytes]
            self._part.write(taken)
            self.size_bytes += len(taken)
            rest = rest[len(taken) :]
            if not self._part.room_bytes:
                self._send()
                self._part = Part(self._sizes.of(len(self._sent) + 1))

    def _send(self) -> None:
        number, part = len(self._sent) + 1, self._part
        try:
            etag = self._bucket.put_part(self._name, self.upload_id, number, part.rewound())
        except NoSuchUpload as error:
            raise ExportSuperseded from error
        finally:
            part.close()
        self._sent.append((number, etag))

    def finish(self) -> None:
        if self._part.size_bytes:
            self._send()
        if self._claims:
            self._claim_name()
        try:
            # Over its own claim, if there is one, and over nothing else.
            self._bucket.finish_upload(self._name, self.upload_id, self._sent, overwrite=self._claims)
        except (ObjectExists, NoSuchUpload) as error:
            self._judge(error)
        except UploadSpoilt as error:
            raise storage_unavailable() from error
        self._ended = True

    def _judge(self, error: ObjectExists | NoSuchUpload) -> None:
        """Raise what it means, unless it was this very call that has finished it, and was repeated."""
        found = _token_of(self._bucket, self._name)
        if found == self._token:
            return
        if isinstance(error, NoSuchUpload):
            raise ExportSuperseded from error
        if found is None:
            # Two have come at the same moment, and the other has not come to its end.
            raise storage_unavailable() from error
        raise TargetTaken from error

    def _claim_name(self) -> None:
        """Have an object of this writer's own there. Raises TargetTaken."""
        for _ in range(_CLAIMS):
            with suppress(ObjectExists):
                # Somebody else's may be as empty.
                self._bucket.put_new(self._name, BytesIO(), token=self._claim)
            found = _token_of(self._bucket, self._name)
            if found == self._claim:
                return
            if found is not None and not _is_claim(found, self._token):
                raise TargetTaken
            # The claim of a writer whose upload has been ended.
            self._bucket.remove(self._name)
        raise storage_unavailable()

    def discard(self) -> None:
        if self._ended:
            return
        self._ended = True
        self._part.close()
        # What is left is on record, and removed by whoever takes the export up.
        with suppress(Rejection):
            self._bucket.abort_upload(self._name, self.upload_id)
            if self._claims and _token_of(self._bucket, self._name) == self._claim:
                self._bucket.remove(self._name)


def _token_of(bucket: S3Bucket, name: str) -> str | None:
    """Return by whom an object was put there, empty where that cannot be told; None for no object."""
    try:
        return bucket.head(name).token
    except NoSuchObject:
        return None


def _is_claim(found: str, token: str) -> bool:
    return found.startswith(f"{token}.")


def _unusable() -> Rejection:
    return reject(
        Category.AGAINST_RULES,
        Reason.EXPORT_BUCKET_UNUSABLE,
        "Nothing can be exported to this bucket as it is set up; the operator has to look at it.",
    )
