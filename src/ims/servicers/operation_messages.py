"""Operations to and from the wire: google.longrunning as it stands, with our metadata in it."""

from typing import Final

from google.longrunning import operations_pb2
from google.protobuf.any_pb2 import Any

from ims.domain.copying import CopyOrder, RegionCopyOrder
from ims.domain.export import ExportedObject, ExportOrder
from ims.domain.image import DiskFormat
from ims.domain.import_order import ImportOrder
from ims.domain.operation import Operation, OperationFilter, OperationId, OperationKind, OperationState
from ims.domain.rejection import Category, Reason, reject
from ims.domain.tenant import Region
from ims.domain.view import View
from ims.servicers.errors import internal_status, to_status
from ims.servicers.image_messages import draft_message
from ims.servicers.image_requests import read_announcement, read_key_id, read_vault_id
from ims.servicers.reading import RequestReading
from ims.servicers.times import timestamp
from ims.use_cases.exporting import export_order_of
from ims.v1 import image_pb2, image_service_pb2, operation_metadata_pb2, upload_service_pb2

_COLLECTION: Final = "operations"
_RESPONSES: Final = dict.fromkeys(OperationKind, image_pb2.Image.DESCRIPTOR) | {
    OperationKind.EXPORT_IMAGE: image_service_pb2.ExportedObject.DESCRIPTOR
}
_LONGEST_URL: Final = 4096
_LONGEST_BUCKET: Final = 255
_LONGEST_OBJECT_KEY_BYTES: Final = 960
"""S3 allows 1024; the rest is room for a name in the same folder."""
_FILTERS: Final = {"": None, "done=true": True, "done=false": False}


def operation_message(operation: Operation) -> operations_pb2.Operation:
    """Return an operation as its tenant gets it."""
    metadata = operation_metadata_pb2.OperationMetadata(
        kind=operation_metadata_pb2.OperationMetadata.Kind.Value(operation.kind),
        state=operation_metadata_pb2.OperationMetadata.State.Value(operation.state),
        image_id=operation.image_id,
        source_image_id=operation.source_image_id,
        done_bytes=operation.done_bytes,
        total_bytes=operation.total_bytes,
        cancel_requested=operation.cancel_requested,
        create_time=timestamp(operation.create_time),
        update_time=timestamp(operation.update_time),
        end_time=timestamp(operation.end_time),
        expire_time=timestamp(operation.expire_time),
        export_target=_export_target_message(operation),
    )
    message = operations_pb2.Operation(name=f"{_COLLECTION}/{operation.id}", done=operation.state.ended)
    message.metadata.Pack(metadata)
    if operation.state is OperationState.SUCCEEDED:
        response = _RESPONSES[operation.kind].full_name
        message.response.CopyFrom(
            Any(type_url=f"type.googleapis.com/{response}", value=operation.answer)
        )
    elif operation.state.ended:
        error = internal_status() if operation.error is None else to_status(operation.error)
        message.error.CopyFrom(error)
    return message


def _export_target_message(operation: Operation) -> operation_metadata_pb2.ExportTarget | None:
    if operation.kind is not OperationKind.EXPORT_IMAGE:
        return None
    order = export_order_of(operation)
    assert order.format is not None  # see export_order_of
    return operation_metadata_pb2.ExportTarget(
        bucket=order.bucket,
        object_key=order.object_key,
        format=image_pb2.Disk.Format.Value(order.format),
    )


def exported_bytes(exported: ExportedObject) -> bytes:
    """Return what an export answers once it is there, serialised."""
    return _exported_message(exported).SerializeToString()


def judged_export_message(exported: ExportedObject) -> operations_pb2.Operation:
    """Return what answers an export that was only judged: no name, and the object as it would be."""
    message = operations_pb2.Operation(done=True)
    message.response.Pack(_exported_message(exported))
    return message


def _exported_message(exported: ExportedObject) -> image_service_pb2.ExportedObject:
    return image_service_pb2.ExportedObject(
        bucket=exported.bucket,
        object_key=exported.object_key,
        format=image_pb2.Disk.Format.Value(exported.format),
        size_bytes=exported.size_bytes,
        sha256=exported.sha256,
    )


def judged_copy_message(view: View) -> operations_pb2.Operation:
    """Return what answers a copy that was only judged: no name, and the copy as it would be."""
    message = operations_pb2.Operation(done=True)
    message.response.Pack(draft_message(view))
    return message


def operation_id_of(name: str) -> OperationId:
    """Return the id in an operation's name.

    Without a name there is nothing to judge: raises Rejection INVALID_FIELD at once.
    """
    if not name:
        raise reject(
            Category.MALFORMED,
            Reason.INVALID_FIELD,
            "name: it is required.",
            subject="name",
            field="name",
        )
    collection, _, operation_id = name.partition("/")
    # What cannot be an operation's name is that of one that never was.
    known = collection == _COLLECTION and "\0" not in operation_id
    return OperationId(operation_id if known else "")


def read_operation_filter(
    reading: RequestReading, request: operations_pb2.ListOperationsRequest
) -> OperationFilter:
    """Return what a listing of operations lets through."""
    if request.name not in {"", _COLLECTION}:
        reading.problem("name", f"it is '{_COLLECTION}', or left out.")
    wanted = "".join(request.filter.split())
    if wanted not in _FILTERS:
        reading.problem("filter", "it is done=true or done=false, or left out.")
    return OperationFilter(ended=_FILTERS.get(wanted))


def read_copy_order(reading: RequestReading, request: image_service_pb2.CopyImageRequest) -> CopyOrder:
    """Return what a copy is to be."""
    if request.WhichOneof("encryption") == "decrypt" and not request.decrypt:
        reading.problem("decrypt", "it is true; left out, the copy is encrypted as its source is.")
    copy_format = reading.word(request, "format", DiskFormat)
    if copy_format is DiskFormat.ISO:
        reading.problem("format", "an ISO is a medium and no disk; nothing is converted to one.")
    return CopyOrder(
        name=request.name,
        description=request.description if request.HasField("description") else None,
        encryption_key_id=read_key_id(reading, request.encryption_key_id),
        decrypt=request.decrypt,
        format=copy_format,
    )


def read_source_format(
    reading: RequestReading,
    request: image_service_pb2.ImportImageRequest | upload_service_pb2.StartUploadRequest,
) -> DiskFormat | None:
    """Return what a file is said to be; None where it is what its disk is."""
    source_format = reading.word(request, "source_format", DiskFormat)
    if request.ova and source_format not in {None, DiskFormat.VMDK}:
        reading.problem("source_format", "the disk in an OVA is a VMDK; leave it out.")
    return source_format


def read_upload_to_import(reading: RequestReading, request: image_service_pb2.ImportImageRequest) -> str:
    """Return the upload that is to be taken."""
    for field in ("size_bytes", "sha256", "source_format", "ova"):
        if getattr(request, field):
            reading.problem(field, "it was said when the upload was started; leave it out.")
    return request.upload_id


def read_export_order(
    reading: RequestReading, request: image_service_pb2.ExportImageRequest
) -> ExportOrder:
    """Return what is to be put where."""
    file_format = reading.word(request, "format", DiskFormat)
    if file_format is DiskFormat.ISO:
        reading.problem("format", "nothing is exported as an ISO.")
    object_key = reading.text("object_key", request.object_key, longest=_LONGEST_OBJECT_KEY_BYTES)
    length_bytes = len(object_key.encode())
    if length_bytes > _LONGEST_OBJECT_KEY_BYTES >= len(object_key):
        reading.problem(
            "object_key",
            f"it has at most {_LONGEST_OBJECT_KEY_BYTES} bytes, not {length_bytes}.",
            maxLengthBytes=_LONGEST_OBJECT_KEY_BYTES,
            lengthBytes=length_bytes,
        )
    if object_key and not {"", ".", ".."}.isdisjoint(object_key.split("/")):
        reading.problem("object_key", "no part of it between slashes is empty, '.' or '..'.")
    return ExportOrder(
        bucket=reading.text("bucket", request.bucket, longest=_LONGEST_BUCKET),
        object_key=object_key,
        format=file_format,
    )


def read_region_copy_order(
    reading: RequestReading, request: image_service_pb2.CopyImageToRegionRequest
) -> RegionCopyOrder:
    """Return what a copy to another region is to be."""
    # Left out, it is a problem that the reading has noted already.
    region = reading.region("region", request.region) or Region("")
    return RegionCopyOrder(
        region=region,
        name=request.name or None,
        description=request.description if request.HasField("description") else None,
        vault_id=read_vault_id(reading, "vault_id", request.vault_id),
    )


def read_import_order(
    reading: RequestReading, request: image_service_pb2.ImportImageRequest
) -> ImportOrder:
    """Return what is to be fetched."""
    announced = read_announcement(reading, request)
    source_format = read_source_format(reading, request)
    return ImportOrder(
        url=reading.text("url", request.url, longest=_LONGEST_URL),
        size_bytes=announced.size_bytes,
        sha256=announced.sha256,
        source_format=source_format,
        ova=request.ova,
    )
