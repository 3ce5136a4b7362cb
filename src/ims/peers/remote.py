"""The service of another region, called over gRPC."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol, TypeVar

import google_crc32c
import grpc

from ims.blob_store.interface import data_damaged
from ims.client import Client, Declined, Tls, Unreachable
from ims.client.credentials import Credentials, NoToken
from ims.domain.image import Disk, Image, ImageId
from ims.domain.rejection import Category, Reason, Rejection, Violation, reject
from ims.domain.tenant import Region
from ims.peers.messages import creation_request, finished_image
from ims.providers.peers import PeerImage, PeerUpload
from ims.v1 import image_pb2
from ims.v1.image_service_pb2 import CreateImageRequest
from ims.v1.upload_service_pb2 import FinishUploadRequest, FinishUploadResponse, WriteUploadRequest

Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)

_CALL_SECONDS: Final = 10.0
"""How long a small call may take."""
_LOOKING_SECONDS: Final = 0.5
"""How often a long call is looked at."""
_STALL_SECONDS: Final = 120.0
"""How long the other side may take no byte, or may be at what follows the last one."""
_CHECKING_SECONDS: Final = 4 * 3600.0
"""How long it may read a whole disk once more, which it does where its bytes came in several goes."""

_CATEGORIES: Final = {
    "NOT_FOUND": Category.MISSING,
    "PERMISSION_DENIED": Category.FORBIDDEN,
    "INVALID_ARGUMENT": Category.MALFORMED,
    "OUT_OF_RANGE": Category.OUT_OF_RANGE,
    "ABORTED": Category.CONFLICT,
    "FAILED_PRECONDITION": Category.AGAINST_RULES,
    "ALREADY_EXISTS": Category.EXISTS,
    "RESOURCE_EXHAUSTED": Category.OVER_LIMIT,
    "DATA_LOSS": Category.CORRUPT,
}
"""A category of each status; which of those that have the same makes no difference to a caller."""
_ABOUT_THE_PEER: Final = {Reason.UNAUTHENTICATED, Reason.ROLE_REQUIRED, Reason.REQUEST_ID_REUSED}
"""What is no affair of the tenant's, but of who runs the two services."""
_GOES_ON: Final = {
    *(Reason.UPLOAD_BUSY, Reason.UPLOAD_OFFSET_MISMATCH, Reason.UPLOAD_SUPERSEDED),
    *(Reason.UPLOAD_INCOMPLETE, Reason.UPLOAD_NOT_FOUND, Reason.CHUNK_DAMAGED),
    *(Reason.TOO_MANY_CALLS, Reason.TOO_MANY_TRANSFERS),
}
"""What is over when it is asked anew how far an upload has come, or a while later."""


class RemotePeer:
    """A peer (see ims.providers.peers) that is reached over gRPC."""

    def __init__(
        self,
        region: Region,
        server: str,
        *,
        credentials: Callable[[], Credentials],
        tls: Callable[[], Tls] | None,
        files: tuple[Path, ...] = (),
    ) -> None:
        """Take where it is, and what this service proves itself with there; connects when it is called.

        Without `tls` nothing is encrypted. When one of the files has changed a new connection is made.
        """
        self._region = region
        self._server = server
        self._credentials = credentials
        self._tls = tls
        self._files = files
        self._lock = threading.Lock()
        self._calls: _Calls | None = None
        self._seen: tuple[object, ...] = ()

    # What a peer does

    def create(self, draft: Image, *, vault_id: str, capacity_bytes: int, request_id: str) -> ImageId:
        request = creation_request(
            draft, vault_id=vault_id, capacity_bytes=capacity_bytes, request_id=request_id
        )
        return ImageId(self._ask(lambda calls: calls.create(request)).id)

    def stored_disks(self, image_id: ImageId) -> frozenset[int]:
        image = self._ask(lambda calls: calls.get_image(image_id))
        return frozenset(each.index for each in image.disks if each.state == image_pb2.Disk.STORED)

    def start_upload(self, image_id: ImageId, disk: Disk) -> PeerUpload:
        started = self._ask(
            lambda calls: calls.start_upload(
                image_id, size_bytes=disk.size_bytes, sha256=disk.sha256, disk_index=disk.index
            )
        )
        return PeerUpload(
            id=started.id,
            image_id=image_id,
            disk_index=disk.index,
            received_bytes=started.received_bytes,
        )

    def write_upload(
        self, upload: PeerUpload, chunks: Iterator[bytes], *, keep_on: Callable[[], None]
    ) -> None:
        self._ask(lambda calls: calls.bring(upload, chunks, keep_on))

    def finish_upload(
        self, upload: PeerUpload, *, request_id: str, keep_on: Callable[[], None]
    ) -> PeerImage:
        return finished_image(self._ask(lambda calls: calls.complete(upload, request_id, keep_on)))

    def discard(self, image_id: ImageId) -> None:
        try:
            self._ask(lambda calls: calls.discard_image(image_id))
        except Rejection as rejection:
            if rejection.reason is not Reason.IMAGE_NOT_FOUND:
                raise

    # How

    def _ask(self, call: Callable[["_Calls"], Answer]) -> Answer:
        try:
            return call(self._connected())
        except (Unreachable, NoToken) as trouble:
            raise self._unreachable() from trouble
        except Declined as declined:
            raise self._meaning(declined) from declined

    def _connected(self) -> "_Calls":
        with self._lock:
            try:
                seen = tuple((path.stat().st_mtime_ns, path.stat().st_size) for path in self._files)
                if self._calls is None or seen != self._seen:
                    # The one before goes when the last call over it has ended.
                    self._calls, self._seen = self._connect(), seen
            except (OSError, ValueError) as error:
                # A file that is being exchanged is there again in a moment.
                raise Unreachable(str(error)) from error
            return self._calls

    def _connect(self) -> "_Calls":
        tls = None if self._tls is None else self._tls()
        return _Calls(
            self._server,
            credentials=self._credentials(),
            tls=tls,
            plaintext=True,  # only where the operator says so, or it would have TLS
            timeout_seconds=_CALL_SECONDS,
        )

    def _unreachable(self) -> Rejection:
        return reject(
            Category.UNAVAILABLE,
            Reason.PEER_UNREACHABLE,
            f"The service of region '{self._region}' cannot be reached, or takes nothing just now.",
            region=self._region,
        )

    def _meaning(self, declined: Declined) -> Rejection:
        """Return what the other side's answer means on this one."""
        reason = Reason.__members__.get(declined.reason)
        if declined.code == "UNAVAILABLE" or reason in _GOES_ON:
            return self._unreachable()
        if reason is Reason.DIGEST_MISMATCH:
            # What was announced is what was stored here.
            return data_damaged()
        category = _CATEGORIES.get(declined.code)
        if reason is None or category is None or reason in _ABOUT_THE_PEER:
            return reject(
                Category.AGAINST_RULES,
                Reason.PEER_REFUSED,
                f"The service of region '{self._region}' does not take images from this one: it answers "
                f"{declined.reason or declined.code}. This is for the operators of both.",
                subject="region",
                region=self._region,
                peerReason=declined.reason or declined.code,
            )
        return Rejection(category, list(self._relayed(declined, reason)))

    def _relayed(self, declined: Declined, reason: Reason) -> Iterator[Violation]:
        metadata = {**declined.metadata, "peerRegion": self._region}
        first, *others = declined.violations
        yield Violation(
            reason, f"In region '{self._region}': {declined.message}", metadata, first.subject
        )
        for each in others:
            yield Violation(Reason.__members__.get(each.reason, reason), each.message, {}, each.subject)


class _Running(Protocol[Answer_co]):
    """A call that is under way."""

    def result(self, timeout: float | None = None) -> Answer_co: ...
    def cancel(self) -> object: ...


class _Calls(Client):
    """The calls on another region's service that the client does not make like this."""

    def create(self, request: CreateImageRequest) -> image_pb2.Image:
        return self._call(self._images.CreateImage, request).image

    def bring(self, upload: PeerUpload, chunks: Iterator[bytes], keep_on: Callable[[], None]) -> None:
        messages = _Messages(upload, chunks)
        call = self._uploads.WriteUpload.future(iter(messages), metadata=self._credentials.metadata())

        def look() -> None:
            keep_on()
            if time.monotonic() > messages.asked + _STALL_SECONDS:
                raise Unreachable(f"{self.server} takes no bytes.")

        try:
            self._result(call, look)
        except (Declined, Unreachable):
            if messages.trouble is not None:
                raise messages.trouble from None
            raise
        if messages.trouble is not None:
            raise messages.trouble

    def complete(
        self, upload: PeerUpload, request_id: str, keep_on: Callable[[], None]
    ) -> FinishUploadResponse:
        request = FinishUploadRequest(
            image_id=upload.image_id,
            disk_index=upload.disk_index,
            upload_id=upload.id,
            request_id=request_id,
        )
        call = self._uploads.FinishUpload.future(
            request, timeout=_CHECKING_SECONDS, metadata=self._credentials.metadata()
        )
        return self._result(call, keep_on)

    def _result(self, call: "_Running[Answer]", look: Callable[[], None]) -> Answer:
        """Wait for the answer to a call, and end the call when `look` raises something."""
        try:
            while True:
                look()
                try:
                    return call.result(timeout=_LOOKING_SECONDS)
                except grpc.FutureTimeoutError:
                    continue
        except grpc.RpcError as error:
            raise self._meaning(error) from error
        except BaseException:
            call.cancel()
            raise


class _Messages:
    """The messages that bring bytes, asked for by a thread of the library's."""

    def __init__(self, upload: PeerUpload, chunks: Iterator[bytes]) -> None:
        self.trouble: BaseException | None = None
        """What the chunks have raised: the messages end then, and the call with them."""
        self.asked = time.monotonic()
        """When the other side has last made room for a message."""
        self._upload = upload
        self._chunks = chunks

    def __iter__(self) -> Iterator[WriteUploadRequest]:
        yield WriteUploadRequest(
            start=WriteUploadRequest.Start(
                image_id=self._upload.image_id,
                disk_index=self._upload.disk_index,
                upload_id=self._upload.id,
                offset_bytes=self._upload.received_bytes,
            )
        )
        try:
            for chunk in self._chunks:
                counted = WriteUploadRequest.Chunk(data=chunk, crc32c=google_crc32c.value(chunk))
                yield WriteUploadRequest(chunk=counted)
                self.asked = time.monotonic()
        except GeneratorExit:
            raise  # the library lets go of this because the call has died: no chunk has raised that
        except BaseException as trouble:  # noqa: BLE001 - raised again by who waits for the answer
            self.trouble = trouble
