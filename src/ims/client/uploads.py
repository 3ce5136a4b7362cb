"""The calls of UploadService: uploads that are interrupted and gone on with."""

from collections.abc import Iterable

import google_crc32c

from ims.client.images import ImageCalls
from ims.client.vocabulary import Disk, DiskFormat, FinishUploadResponse, Image, Upload
from ims.v1.upload_service_pb2 import (
    AbortUploadRequest,
    CreatePartUrlsRequest,
    CreatePartUrlsResponse,
    FinishUploadRequest,
    GetUploadRequest,
    StartUploadRequest,
    WriteUploadRequest,
)


class UploadCalls(ImageCalls):
    """Brings the bytes of disks in as many goes as need be."""

    def start_upload(
        self,
        image_id: str,
        *,
        size_bytes: int,
        sha256: str,
        disk_index: int = 0,
        source_format: DiskFormat = Disk.FORMAT_UNSPECIFIED,
        ova: bool = False,
        direct: bool = False,
        request_id: str = "",
    ) -> Upload:
        """Start the upload of a disk; the same again is that upload as it is.

        A file of another format than the disk's, or an OVA, is brought like any other; then it is
        `import_upload` that takes it, and not `finish_upload`. A direct upload is brought to the URLs of
        `create_part_urls`, and not with `write_upload`.
        """
        request = StartUploadRequest(
            image_id=image_id,
            disk_index=disk_index,
            size_bytes=size_bytes,
            sha256=sha256,
            source_format=source_format,
            ova=ova,
            direct=direct,
            request_id=request_id,
        )
        return self._call(self._uploads.StartUpload, request).upload

    def write_upload(
        self, upload: Upload, chunks: Iterable[bytes], *, offset_bytes: int | None = None
    ) -> Upload:
        """Go on with an upload, from where it has come to; return it as it is then.

        Chunks have at most 4 MiB. They are asked for by another thread; what they raise, this raises
        too, beside Declined and Unreachable. What has arrived is kept, however it ends.
        """
        offset_bytes = upload.received_bytes if offset_bytes is None else offset_bytes
        start = WriteUploadRequest.Start(
            image_id=upload.image_id,
            disk_index=upload.disk_index,
            upload_id=upload.id,
            offset_bytes=offset_bytes,
        )
        return self._send(
            self._uploads.WriteUpload, WriteUploadRequest(start=start), map(_counted, chunks)
        ).upload

    def create_part_urls(
        self, upload: Upload, *, first_number: int = 0, max_parts: int = 0, valid_seconds: int = 0
    ) -> CreatePartUrlsResponse:
        """Return URLs at which the parts of a direct upload are PUT that have not arrived.

        From a number on (0: from the first), of 1 to 1,000 parts (0: 100); they are good for 1 to 3600
        seconds (0: 300). Where there is none from the first on, `finish_upload` is called.
        """
        request = CreatePartUrlsRequest(
            image_id=upload.image_id,
            disk_index=upload.disk_index,
            upload_id=upload.id,
            first_number=first_number,
            max_parts=max_parts,
            valid_seconds=valid_seconds,
        )
        return self._call(self._uploads.CreatePartUrls, request)

    def get_upload(self, image_id: str, *, disk_index: int = 0, upload_id: str = "") -> Upload:
        """Return an upload, and how far it has come; without an id, the one that fills the disk now."""
        request = GetUploadRequest(image_id=image_id, disk_index=disk_index, upload_id=upload_id)
        return self._call(self._uploads.GetUpload, request).upload

    def finish_upload(self, upload: Upload, *, request_id: str = "") -> FinishUploadResponse:
        """Have the disk take the bytes that have arrived, for as long as it takes to check them."""
        request = FinishUploadRequest(
            image_id=upload.image_id,
            disk_index=upload.disk_index,
            upload_id=upload.id,
            request_id=request_id,
        )
        seconds = _FINISH_SECONDS + upload.size_bytes / _READ_BYTES_PER_SECOND
        return self._call(self._uploads.FinishUpload, request, timeout_seconds=seconds)

    def abort_upload(
        self, image_id: str, *, disk_index: int = 0, upload_id: str = "", request_id: str = ""
    ) -> Image:
        """End an upload, whose bytes are gone then; without an id, the one that fills the disk now."""
        request = AbortUploadRequest(
            image_id=image_id, disk_index=disk_index, upload_id=upload_id, request_id=request_id
        )
        return self._call(self._uploads.AbortUpload, request).image


_FINISH_SECONDS = 600.0
_READ_BYTES_PER_SECOND = 32 * 1024**2
"""What was interrupted, or brought directly, is read once more: at least so fast."""


def _counted(chunk: bytes) -> WriteUploadRequest:
    counted = WriteUploadRequest.Chunk(data=chunk, crc32c=google_crc32c.value(chunk))
    return WriteUploadRequest(chunk=counted)
