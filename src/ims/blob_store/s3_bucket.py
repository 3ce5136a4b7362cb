"""The words of S3: what the store asks of a bucket, and what becomes of each error that is answered.

Only what every S3-compatible store can do is asked for. The library's own checksums are off: older
stores do not understand how it sends them. Every body goes with its MD5 instead, which all compare.
"""

import hashlib
import logging
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from ims.blob_store.interface import storage_full, storage_unavailable

_log = logging.getLogger(__name__)

_CONNECT_SECONDS: Final = 5
_SILENCE_SECONDS: Final = 60
_ATTEMPTS: Final = 4
_MAX_CONNECTIONS: Final = 64
_PIECE_BYTES: Final = 128 * 1024
_TOKEN: Final = "token"  # noqa: S105 - a name, and no secret

_NO_ROOM: Final = {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "StorageFull"}
_NO_ROOM_STATUS: Final = 507
_REFUSALS: Final = {400, 401, 403, 404}


@dataclass(frozen=True, kw_only=True)
class BucketAddress:
    """Where a bucket is, and who asks. What is None is found where Amazon's own programs look for it."""

    name: str
    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    secret_access_key_file: Path | None = None
    """The file that the secret is in, if it is not given; white space round it does not count."""
    path_style: bool = False
    """Whether the bucket is named in the path of a URL and not in its host."""
    ca_file: Path | None = None
    silence_seconds: int = _SILENCE_SECONDS
    """How long an answer may take."""
    attempts: int = _ATTEMPTS
    """How often a call is made before its failure is one; the waits between are the library's."""


@dataclass(frozen=True, kw_only=True)
class ObjectFacts:
    """What a bucket tells of an object."""

    size_bytes: int
    modified: datetime
    etag: str
    """Of an object that came in one piece, most stores' is the MD5 of its bytes in hexadecimal."""
    token: str
    """What it was put there with; empty when with none."""


@dataclass(frozen=True, kw_only=True)
class KeptPart:
    """A part of an unfinished upload, as the bucket has it."""

    number: int
    """1 to 10,000."""
    size_bytes: int
    etag: str


class UnusableBucket(Exception):
    """A bucket that no blobs can be kept in; the message is one line for the operator."""


class BucketRefused(UnusableBucket):
    """The store says that there is no such bucket, or that it is not for these credentials."""


class NoSuchObject(Exception):
    """There is no such object, in a bucket that is there."""


class ObjectExists(Exception):
    """There is an object already where a new one was to be."""


class NoSuchUpload(Exception):
    """There is no such unfinished upload: it was finished, or aborted."""


class UploadSpoilt(Exception):
    """The parts of an upload are not those that are to be finished."""


class PartBeyondObject(Exception):
    """An object ends before the part of it does that was asked for."""


class S3Bucket:
    """A bucket. Whatever else goes wrong is Rejection STORAGE_FULL or STORAGE_UNAVAILABLE.

    Belongs to no thread: any number may use it at once.
    """

    def __init__(self, address: BucketAddress, *, session: Session | None = None) -> None:
        """Ask nothing of it yet. Raises UnusableBucket when the address itself is wrong.

        Buckets of one session, which are made one at a time, together take little more memory than one.
        """
        self._name = address.name
        secret = address.secret_access_key
        try:
            if address.secret_access_key_file is not None:
                secret = address.secret_access_key_file.read_text("utf-8").strip()
            self._client = (session or Session()).client(
                "s3",
                endpoint_url=address.endpoint_url,
                region_name=address.region,
                aws_access_key_id=address.access_key_id,
                aws_secret_access_key=secret,
                verify=None if address.ca_file is None else str(address.ca_file),
                config=Config(
                    signature_version="s3v4",
                    connect_timeout=_CONNECT_SECONDS,
                    read_timeout=address.silence_seconds,
                    retries={"mode": "standard", "total_max_attempts": address.attempts},
                    max_pool_connections=_MAX_CONNECTIONS,
                    tcp_keepalive=True,
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                    s3={"addressing_style": "path" if address.path_style else "auto"},
                ),
            )
        except (BotoCoreError, OSError, ValueError) as error:
            raise UnusableBucket(str(error)) from error

    def close(self) -> None:
        self._client.close()

    def reach(self) -> None:
        """Raise UnusableBucket, saying why, unless the bucket answers to these credentials."""
        try:
            self._client.list_objects_v2(Bucket=self._name, MaxKeys=1)
        except ClientError as error:
            message = f"bucket {self._name} cannot be used: the store answers {_code(error)}"
            if _status(error) in _REFUSALS:
                raise BucketRefused(message) from error
            raise UnusableBucket(message) from error
        except BotoCoreError as error:
            message = f"bucket {self._name} cannot be used: {error}"
            raise UnusableBucket(message) from error

    # objects

    def put(self, name: str, body: IO[bytes]) -> None:
        """Keep an object, in the place of what was there."""
        with _failing("PutObject"):
            self._put(name, body, {})

    def put_new(self, name: str, body: IO[bytes], *, token: str = "") -> bool:
        """Keep an object where there is none; tell whether it was this call that made it.

        It may have been another with the same bytes, or this one with its first answer lost. Raises
        ObjectExists for what has other bytes.
        """
        with _failing("PutObject"):
            try:
                self._put(name, body, {"IfNoneMatch": "*", "Metadata": {_TOKEN: token}})
            except ClientError as error:
                # The second is said of two that come at the same moment.
                if _code(error) not in {"PreconditionFailed", "ConditionalRequestConflict"}:
                    raise
            else:
                return True
        with suppress(NoSuchObject):
            if self.head(name).etag == _md5(body).hex():
                return False
        raise ObjectExists

    def _put(self, name: str, body: IO[bytes], options: dict[str, Any]) -> None:
        self._client.put_object(
            Bucket=self._name,
            Key=name,
            Body=body,
            ContentMD5=b64encode(_md5(body)).decode("ascii"),
            **options,
        )

    def head(self, name: str) -> ObjectFacts:
        """Return what there is to tell of an object. Raises NoSuchObject."""
        with _failing("HeadObject"):
            try:
                answer = self._client.head_object(Bucket=self._name, Key=name)
            except ClientError as error:
                if _code(error) not in {"404", "NoSuchKey", "NotFound"}:
                    raise
                # The answer has no body that could say what is missing, and a bucket is not its blobs.
                self._client.head_bucket(Bucket=self._name)
                raise NoSuchObject from error
        return ObjectFacts(
            size_bytes=answer["ContentLength"],
            modified=answer["LastModified"],
            etag=answer["ETag"].strip('"'),
            token=answer["Metadata"].get(_TOKEN, ""),
        )

    def get(self, name: str, *, offset_bytes: int, length_bytes: int) -> "Incoming":
        """Open a part of an object, not an empty one. Raises NoSuchObject and PartBeyondObject."""
        wanted = f"bytes={offset_bytes}-{offset_bytes + length_bytes - 1}"
        with _failing("GetObject"):
            try:
                answer = self._client.get_object(Bucket=self._name, Key=name, Range=wanted)
            except ClientError as error:
                if _code(error) == "NoSuchKey":
                    raise NoSuchObject from error
                if _code(error) == "InvalidRange":
                    raise PartBeyondObject from error
                raise
        if answer["ContentLength"] != length_bytes:
            answer["Body"].close()
            raise PartBeyondObject
        return Incoming(answer["Body"], length_bytes)

    def content(self, name: str) -> bytes:
        """Return a small object whole. Raises NoSuchObject."""
        with _failing("GetObject"):
            try:
                answer = self._client.get_object(Bucket=self._name, Key=name)
                with answer["Body"] as body:
                    content: bytes = body.read()
            except ClientError as error:
                if _code(error) == "NoSuchKey":
                    raise NoSuchObject from error
                raise
        return content

    def remove(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        with _failing("DeleteObject"):
            self._client.delete_object(Bucket=self._name, Key=name)

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield the name and the size in bytes of every object whose name begins so."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=prefix)
        with _failing("ListObjectsV2"):
            for page in pages:
                for each in page.get("Contents", ()):
                    yield each["Key"], each["Size"]

    def url(self, name: str, *, valid_seconds: int, disposition: str) -> str:
        """Return a URL with which anybody reads this object, and can do nothing else, for so long."""
        with _failing("presigning"):
            url: str = self._client.generate_presigned_url(
                "get_object",
                Params={"Bucket": self._name, "Key": name, "ResponseContentDisposition": disposition},
                ExpiresIn=valid_seconds,
            )
        return url

    # uploads in parts

    def begin_upload(self, name: str, *, token: str = "") -> str:
        """Begin an object that is uploaded in parts; return the upload's id."""
        options = {"Metadata": {_TOKEN: token}} if token else {}
        with _failing("CreateMultipartUpload"):
            answer = self._client.create_multipart_upload(Bucket=self._name, Key=name, **options)
        upload_id: str = answer["UploadId"]
        return upload_id

    def uploads(self, name: str) -> list[str]:
        """Return the ids of an object's unfinished uploads, the newest last."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self._name, Prefix=name
        )
        with _failing("ListMultipartUploads"):
            found = [
                (each["Initiated"], each["UploadId"])
                for page in pages
                for each in page.get("Uploads", ())
                if each["Key"] == name
            ]
        return [upload_id for _, upload_id in sorted(found)]

    def put_part(self, name: str, upload_id: str, number: int, body: IO[bytes]) -> str:
        """Upload a part; return its ETag. Raises NoSuchUpload."""
        with _failing("UploadPart"), _missing_upload():
            answer = self._client.upload_part(
                Bucket=self._name,
                Key=name,
                UploadId=upload_id,
                PartNumber=number,
                Body=body,
                ContentMD5=b64encode(_md5(body)).decode("ascii"),
            )
        etag: str = answer["ETag"]
        return etag

    def part_url(
        self, name: str, upload_id: str, number: int, *, length_bytes: int, valid_seconds: int
    ) -> str:
        """Return a URL with which anybody uploads this part, of just this length, for so long."""
        with _failing("presigning"):
            url: str = self._client.generate_presigned_url(
                "upload_part",
                # The length is one of the headers that are signed: with another the store declines it.
                Params={
                    "Bucket": self._name,
                    "Key": name,
                    "UploadId": upload_id,
                    "PartNumber": number,
                    "ContentLength": length_bytes,
                },
                ExpiresIn=valid_seconds,
            )
        return url

    def parts(self, name: str, upload_id: str) -> Iterator[KeptPart]:
        """Yield the parts that an upload has, in the order of their numbers. Raises NoSuchUpload."""
        pages = self._client.get_paginator("list_parts").paginate(
            Bucket=self._name, Key=name, UploadId=upload_id
        )
        with _failing("ListParts"), _missing_upload():
            for page in pages:
                for each in page.get("Parts", ()):
                    yield KeptPart(number=each["PartNumber"], size_bytes=each["Size"], etag=each["ETag"])

    def finish_upload(
        self, name: str, upload_id: str, parts: list[tuple[int, str]], *, overwrite: bool = False
    ) -> None:
        """Make an object of all the parts of an upload, given by their numbers and their ETags.

        Raises NoSuchUpload, UploadSpoilt, and, unless it may overwrite, ObjectExists where the store
        sees to it that nothing is overwritten.
        """
        options = {} if overwrite else {"IfNoneMatch": "*"}
        with _failing("CompleteMultipartUpload"), _missing_upload():
            try:
                self._client.complete_multipart_upload(
                    Bucket=self._name,
                    Key=name,
                    UploadId=upload_id,
                    MultipartUpload={
                        "Parts": [{"PartNumber": number, "ETag": etag} for number, etag in parts]
                    },
                    **options,
                )
            except ClientError as error:
                if _code(error) in {"PreconditionFailed", "ConditionalRequestConflict"}:
                    raise ObjectExists from error
                if _code(error) == "InvalidPart":
                    raise UploadSpoilt from error
                raise

    def abort_upload(self, name: str, upload_id: str) -> None:
        """Forget an unfinished upload and its parts; one that is not there is no error."""
        with _failing("AbortMultipartUpload"), suppress(NoSuchUpload), _missing_upload():
            self._client.abort_multipart_upload(Bucket=self._name, Key=name, UploadId=upload_id)


class Incoming:
    """Bytes on their way from a bucket."""

    def __init__(self, body: Any, length_bytes: int) -> None:  # noqa: ANN401 - the library has no types
        self._body = body
        self._missing_bytes = length_bytes

    def read(self, size_bytes: int) -> bytes:
        """Return some of the next bytes. Raises ConnectionError when they break off."""
        try:
            data: bytes = self._body.read(size_bytes)
            self._missing_bytes -= len(data)
            if not self._missing_bytes:
                self._body.read()  # finds the end, and lets the connection be used again
        except (BotoCoreError, OSError) as error:
            raise ConnectionError from error
        if not data:
            raise ConnectionError
        return data

    def close(self) -> None:
        self._body.close()


@contextmanager
def _failing(operation: str) -> Iterator[None]:
    """Turn what the library raises into a Rejection, and have the log say which call it was."""
    try:
        yield
    except ClientError as error:
        code, status = _code(error), _status(error)
        # The code alone: what else the store says may name the key, the bucket or who asked.
        _log.warning("S3 %s was answered with %s (%s)", operation, code, status)
        if code in _NO_ROOM or status == _NO_ROOM_STATUS:
            raise storage_full() from error
        raise storage_unavailable() from error
    except BotoCoreError as error:
        _log.warning("S3 %s failed: %s", operation, type(error).__name__)
        raise storage_unavailable() from error


@contextmanager
def _missing_upload() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        # The second is what Ceph says when it is asked for the parts.
        if _code(error) in {"NoSuchUpload", "NoSuchKey"}:
            raise NoSuchUpload from error
        raise


def _code(error: ClientError) -> str:
    return str(error.response["Error"].get("Code", ""))


def _status(error: ClientError) -> int:
    status: int = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return status


def _md5(body: IO[bytes]) -> bytes:
    """Return the MD5 of what is in a file, and leave it at its beginning. It guards no secret."""
    digest = hashlib.md5(usedforsecurity=False)
    body.seek(0)
    while piece := body.read(_PIECE_BYTES):
        digest.update(piece)
    body.seek(0)
    return digest.digest()
