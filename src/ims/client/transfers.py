"""The two calls that carry bytes."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import grpc

from ims.client.errors import DamagedDownload
from ims.client.images import ImageCalls
from ims.client.repetition import new_request_id
from ims.client.vocabulary import UploadImageDataResponse
from ims.v1.image_service_pb2 import (
    CreateDownloadUrlRequest,
    CreateDownloadUrlResponse,
    DownloadImageDataRequest,
    DownloadImageDataResponse,
    UploadImageDataRequest,
)


class TransferCalls(ImageCalls):
    """Carries the bytes of disks, for as long as it takes: transfers have no deadline."""

    def upload_image_data(
        self,
        image_id: str,
        chunks: Iterable[bytes],
        *,
        size_bytes: int,
        sha256: str = "",
        disk_index: int = 0,
        request_id: str = "",
    ) -> UploadImageDataResponse:
        """Upload the bytes of one disk, in chunks of at most 4 MiB. It is not repeated by itself.

        Without `sha256` the service compares nothing but the size. The chunks are asked for by
        another thread; what they raise, this raises too, beside Declined and Unreachable.
        """
        start = UploadImageDataRequest.Start(
            image_id=image_id,
            disk_index=disk_index,
            size_bytes=size_bytes,
            sha256=sha256,
            request_id=request_id or new_request_id(),
        )
        return self._send(
            self._images.UploadImageData,
            UploadImageDataRequest(start=start),
            (UploadImageDataRequest(chunk=chunk) for chunk in chunks),
        )

    @contextmanager
    def download_image_data(
        self,
        image_id: str,
        *,
        disk_index: int = 0,
        offset_bytes: int = 0,
        length_bytes: int = 0,
        tenant_id: str = "",
    ) -> Iterator[tuple[DownloadImageDataResponse.Start, Iterator[bytes]]]:
        """Download the bytes of one disk from an offset on; length 0 means to the end.

        Gives what was announced, and the bytes in chunks, which nobody has checked against it. The
        end of the block ends the call. Reading the chunks raises Declined and Unreachable, too. Only
        a caller with the role `service` downloads for another tenant than its own.
        """
        request = DownloadImageDataRequest(
            image_id=image_id,
            disk_index=disk_index,
            offset_bytes=offset_bytes,
            length_bytes=length_bytes,
            tenant_id=tenant_id,
        )
        call = self._images.DownloadImageData(request, metadata=self._credentials.metadata())
        try:
            parts = self._parts(call)
            first = next(parts, None)
            if first is None or not first.HasField("start"):
                raise DamagedDownload("The server has not announced what it sends.")
            yield first.start, (part.chunk for part in parts)
        finally:
            call.cancel()

    def create_download_url(
        self, image_id: str, *, disk_index: int = 0, valid_seconds: int = 0, tenant_id: str = ""
    ) -> CreateDownloadUrlResponse:
        """Return a URL at which anybody reads the bytes of one disk from the store itself.

        It is good for 1 to 3600 seconds (0: 300), and until then nothing takes it back. Only a caller
        with the role `service` asks for another tenant than its own.
        """
        request = CreateDownloadUrlRequest(
            image_id=image_id,
            disk_index=disk_index,
            valid_seconds=valid_seconds,
            tenant_id=tenant_id,
        )
        return self._call(self._images.CreateDownloadUrl, request)

    def _parts(self, call: Iterable[DownloadImageDataResponse]) -> Iterator[DownloadImageDataResponse]:
        try:
            yield from call
        except grpc.RpcError as error:
            raise self._meaning(error) from error
