"""The calls of google.longrunning.Operations, and those that begin an operation."""

from collections.abc import Iterator
from time import monotonic
from typing import Final

from google.longrunning.operations_pb2 import (
    CancelOperationRequest,
    DeleteOperationRequest,
    GetOperationRequest,
    ListOperationsRequest,
    Operation,
    WaitOperationRequest,
)
from google.protobuf.duration_pb2 import Duration

from ims.client.connection import Connection
from ims.client.errors import declined_by
from ims.client.vocabulary import Disk, DiskFormat, ExportedObject, Image, Upload
from ims.v1.image_service_pb2 import (
    CopyImageRequest,
    CopyImageToRegionRequest,
    ExportImageRequest,
    ImportImageRequest,
)
from ims.v1.operation_metadata_pb2 import OperationMetadata

_WAIT_SECONDS: Final = 20.0
"""How long one call waits; longer waits are several."""
_ANSWER_SECONDS: Final = 10.0
"""How long the answer to a wait may take on top of it."""


class OperationCalls(Connection):
    """Begins what takes long, and follows it. Every method raises Declined or Unreachable."""

    def copy_image(
        self,
        image_id: str,
        *,
        name: str,
        description: str | None = None,
        encryption_key_id: str = "",
        decrypt: bool = False,
        format: DiskFormat = Disk.FORMAT_UNSPECIFIED,  # noqa: A002 - the contract's word
        validate_only: bool = False,
        request_id: str = "",
    ) -> Operation:
        """Begin to copy an image within the region; `made_image` waits for the copy.

        It is encrypted as its source is, unless a key or `decrypt` says otherwise, and of the same
        format, unless another is named: then it is converted. Where the bytes stay
        as they are stored the operation is done when it is returned. With `validate_only` nothing is
        stored, and the operation has no name.
        """
        request = CopyImageRequest(
            image_id=image_id,
            name=name,
            description=description,
            format=format,
            validate_only=validate_only,
            request_id=request_id,
        )
        if encryption_key_id and decrypt:
            raise ValueError("a copy is either encrypted or not")
        if encryption_key_id:
            request.encryption_key_id = encryption_key_id
        if decrypt:
            request.decrypt = True
        return self._call(self._images.CopyImage, request)

    def copy_image_to_region(
        self,
        image_id: str,
        region: str,
        *,
        name: str = "",
        description: str | None = None,
        vault_id: str = "",
        validate_only: bool = False,
        request_id: str = "",
    ) -> Operation:
        """Begin to copy an image to another region; `made_image` waits for the copy, as it is there.

        Without a name it is called after this region and its source. A full-ECS image needs a vault
        there, where that region has a backup provider. With `validate_only` nothing is stored, the
        operation has no name, and the other region is not asked.
        """
        request = CopyImageToRegionRequest(
            image_id=image_id,
            region=region,
            name=name,
            description=description,
            vault_id=vault_id,
            validate_only=validate_only,
            request_id=request_id,
        )
        return self._call(self._images.CopyImageToRegion, request)

    def import_image(
        self,
        image_id: str,
        url: str,
        *,
        disk_index: int = 0,
        size_bytes: int = 0,
        sha256: str = "",
        source_format: DiskFormat = Disk.FORMAT_UNSPECIFIED,
        ova: bool = False,
        request_id: str = "",
    ) -> Operation:
        """Begin to fetch the file of one disk; `made_image` waits for the image.

        Size and digest are those of the file as it is fetched, where they are known. It is converted
        when it is of another format than the disk; of an OVA the disk is taken.
        """
        request = ImportImageRequest(
            image_id=image_id,
            disk_index=disk_index,
            url=url,
            size_bytes=size_bytes,
            sha256=sha256,
            source_format=source_format,
            ova=ova,
            request_id=request_id,
        )
        return self._call(self._images.ImportImage, request)

    def import_upload(self, upload: Upload, *, request_id: str = "") -> Operation:
        """Begin to convert what an upload has brought into its disk; `made_image` waits for the image.

        The upload has come to its last byte, and is over with that.
        """
        request = ImportImageRequest(
            image_id=upload.image_id,
            disk_index=upload.disk_index,
            upload_id=upload.id,
            request_id=request_id,
        )
        return self._call(self._images.ImportImage, request)

    def export_image(
        self,
        image_id: str,
        bucket: str,
        object_key: str,
        *,
        format: DiskFormat = Disk.FORMAT_UNSPECIFIED,  # noqa: A002 - the contract's word
        validate_only: bool = False,
        request_id: str = "",
    ) -> Operation:
        """Begin to put the file of an image's disk into a bucket; `exported_object` waits for it.

        The bucket is one that the operator has opened for the caller's tenant. The file is converted
        when another format than the disk's is named. With `validate_only` nothing is begun, and the
        operation has no name.
        """
        request = ExportImageRequest(
            image_id=image_id,
            bucket=bucket,
            object_key=object_key,
            format=format,
            validate_only=validate_only,
            request_id=request_id,
        )
        return self._call(self._images.ExportImage, request)

    def exported_object(
        self, operation: Operation, *, timeout_seconds: float | None = None
    ) -> ExportedObject:
        """Wait until what was to be exported is in its bucket; return what it is.

        Raises Declined where it failed or was cancelled, and TimeoutError.
        """
        exported = ExportedObject()
        self.finish(operation, timeout_seconds=timeout_seconds).response.Unpack(exported)
        return exported

    def made_image(self, operation: Operation, *, timeout_seconds: float | None = None) -> Image:
        """Wait until what was to be copied or fetched is there; return the image.

        Raises Declined where it failed or was cancelled, and TimeoutError.
        """
        image = Image()
        self.finish(operation, timeout_seconds=timeout_seconds).response.Unpack(image)
        return image

    def finish(self, operation: Operation, *, timeout_seconds: float | None = None) -> Operation:
        """Wait until an operation has ended well; return it as it is then.

        Raises Declined with its error where it has not, and TimeoutError when it goes on for longer.
        """
        until = None if timeout_seconds is None else monotonic() + timeout_seconds
        while not operation.done:
            left = _WAIT_SECONDS if until is None else min(_WAIT_SECONDS, until - monotonic())
            if left <= 0:
                raise TimeoutError(f"{operation.name} goes on")
            operation = self.wait_operation(operation.name, timeout_seconds=left)
        if operation.HasField("error"):
            raise declined_by(operation.error)
        return operation

    def get_operation(self, name: str) -> Operation:
        """Return an operation by its name, `operations/…`."""
        return self._call(self._operations.GetOperation, GetOperationRequest(name=name))

    def wait_operation(self, name: str, *, timeout_seconds: float) -> Operation:
        """Return an operation once it has ended, or as it is after so many seconds, or sooner."""
        timeout = Duration()
        timeout.FromNanoseconds(int(timeout_seconds * 10**9))
        return self._call(
            self._operations.WaitOperation,
            WaitOperationRequest(name=name, timeout=timeout),
            timeout_seconds=timeout_seconds + _ANSWER_SECONDS,
        )

    def list_operations(self, *, done: bool | None = None, page_size: int = 0) -> Iterator[Operation]:
        """Yield the tenant's operations, the newest first. Asks page by page, as far as it is read."""
        request = ListOperationsRequest(page_size=page_size)
        if done is not None:
            request.filter = f"done={str(done).lower()}"
        for page in self._pages(self._operations.ListOperations, request):
            yield from page.operations

    def cancel_operation(self, name: str) -> None:
        """Have an operation stop and leave nothing; one that has ended stays as it is."""
        self._call(self._operations.CancelOperation, CancelOperationRequest(name=name))

    def delete_operation(self, name: str) -> None:
        """Have an operation forgotten that has ended; what has come of it stays."""
        self._call(self._operations.DeleteOperation, DeleteOperationRequest(name=name))


def metadata_of(operation: Operation) -> OperationMetadata:
    """Return what an operation reports of itself."""
    metadata = OperationMetadata()
    operation.metadata.Unpack(metadata)
    return metadata
