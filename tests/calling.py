"""Calls a real server, as one tenant or another, and takes its rejections apart."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import google_crc32c
import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import message_factory
from google.rpc import code_pb2, error_details_pb2
from grpc_status import rpc_status

from ims.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    audit_service_pb2,
    audit_service_pb2_grpc,
    image_pb2,
    image_service_pb2,
    image_service_pb2_grpc,
    operation_metadata_pb2,
    sharing_service_pb2,
    sharing_service_pb2_grpc,
    upload_pb2,
    upload_service_pb2,
    upload_service_pb2_grpc,
    use_service_pb2,
    use_service_pb2_grpc,
)

SERVICES = {
    "ImageService": (image_service_pb2, image_service_pb2_grpc.ImageServiceStub),
    "SharingService": (sharing_service_pb2, sharing_service_pb2_grpc.SharingServiceStub),
    "AdminService": (admin_service_pb2, admin_service_pb2_grpc.AdminServiceStub),
    "UseService": (use_service_pb2, use_service_pb2_grpc.UseServiceStub),
    "UploadService": (upload_service_pb2, upload_service_pb2_grpc.UploadServiceStub),
    "AuditService": (audit_service_pb2, audit_service_pb2_grpc.AuditServiceStub),
}
METHODS = {
    method.name: (service, method)
    for service, (module, _) in SERVICES.items()
    for method in module.DESCRIPTOR.services_by_name[service].methods
}
"""Every RPC of ours by its name."""
OPERATIONS = {
    method.name: ("Operations", method)
    for method in operations_pb2.DESCRIPTOR.services_by_name["Operations"].methods
}
"""The RPCs of google.longrunning, whose protos are not ours."""
ALL_METHODS = METHODS | OPERATIONS

CHUNK_BYTES = 64 * 1024
MIB = 1024**2
TIMEOUT_SECONDS = 60
STATUS = "grpc-status-details-bin"
REQUEST_ID = "ims-request-id"


def request_class(rpc: str) -> Any:
    return message_factory.GetMessageClass(ALL_METHODS[rpc][1].input_type)


def response_class(rpc: str) -> Any:
    return message_factory.GetMessageClass(ALL_METHODS[rpc][1].output_type)


class Tenant:
    """Calls a server as one tenant: `acme.GetImage(image_id=…)` for every RPC there is."""

    def __init__(self, target: str, tenant: str | None, *roles: str, region: str = "") -> None:
        self.id = tenant
        self._channel = grpc.insecure_channel(target)
        self._stubs = {name: stub(self._channel) for name, (_, stub) in SERVICES.items()}
        self._stubs["Operations"] = operations_pb2_grpc.OperationsStub(self._channel)
        self._metadata = [("ims-roles", ",".join(roles))] if roles else []
        if tenant is not None:
            self._metadata.append(("ims-tenant", tenant))
        if region:
            self._metadata.append(("ims-region", region))

    def __getattr__(self, rpc: str) -> Any:
        if rpc not in ALL_METHODS:
            raise AttributeError(rpc)
        return lambda **fields: self.call(rpc, request_class(rpc)(**fields))

    def call(self, rpc: str, request: Any) -> Any:
        """Send a request (or, where a stream is taken, an iterable of them); return what comes back."""
        answer = self._send(rpc, request, self._stub(rpc))
        return list(answer) if ALL_METHODS[rpc][1].server_streaming else answer

    def begin(self, rpc: str, request: Any) -> Any:
        """Send a request like `call`; return the running call, to be waited for, read or cancelled."""
        stub = self._stub(rpc)
        return self._send(rpc, request, stub if ALL_METHODS[rpc][1].server_streaming else stub.future)

    def answer(self, rpc: str, request: Any) -> "Declined":
        """Send a request; return what came back where it was declined, else something that says OK."""
        return answer_of(lambda: self.call(rpc, request))

    def answer_raw(self, rpc: str, data: bytes | Iterator[bytes]) -> "Declined":
        """Send bytes like `call_raw`, and return what came back like `answer`."""
        return answer_of(lambda: self.call_raw(rpc, data))

    def call_raw(self, rpc: str, data: bytes | Iterator[bytes]) -> bytes:
        """Send bytes (where a stream is taken: or an iterator of them) that may be no message."""
        _, method = ALL_METHODS[rpc]
        shape = f"{_arity(method.client_streaming)}_{_arity(method.server_streaming)}"
        call = getattr(self._channel, shape)(f"/{method.containing_service.full_name}/{rpc}")
        if method.client_streaming and isinstance(data, bytes):
            data = iter([data])
        answer = call(data, metadata=self._metadata, timeout=TIMEOUT_SECONDS)
        return b"".join(answer) if method.server_streaming else answer

    # --- stories that tests tell again and again ---

    def create(self, name: str, **fields: Any) -> image_pb2.Image:
        """Create a QUEUED image; a RAW system disk unless said otherwise."""
        fields = {"type": "SYSTEM_DISK", "disks": [{"format": "RAW"}], **fields}
        return self.CreateImage(name=name, **fields).image

    def upload(
        self, image_id: str, content: bytes, disk_index: int = 0, **start: Any
    ) -> image_service_pb2.UploadImageDataResponse:
        """Fill a disk; size and digest are announced as they are unless said otherwise."""
        announced = {
            "image_id": image_id,
            "disk_index": disk_index,
            "size_bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            **start,
        }
        return self.call("UploadImageData", upload_messages(announced, content))

    def start_upload(self, image_id: str, content: bytes, **fields: Any) -> upload_pb2.Upload:
        """Start an upload that can be gone on with; it announces the content as it is."""
        announced = {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        return self.StartUpload(image_id=image_id, **(announced | fields)).upload

    def write_upload(
        self, upload: upload_pb2.Upload, content: bytes, *, offset_bytes: int = 0, **start: Any
    ) -> upload_pb2.Upload:
        """Bring some bytes of an upload, in chunks of a MiB."""
        return self.call("WriteUpload", write_messages(upload, content, offset_bytes, **start)).upload

    def active(
        self, name: str, content: bytes = b"bytes of a disk " * 64, **fields: Any
    ) -> image_pb2.Image:
        """Create an image and upload the same bytes to each of its disks."""
        image = self.create(name, **fields)
        for disk in image.disks:
            image = self.upload(image.id, content, disk.index).image
        return image

    def download(self, image_id: str, **fields: Any) -> bytes:
        """Return the bytes of a disk."""
        messages = self.DownloadImageData(image_id=image_id, **fields)
        return b"".join(message.chunk for message in messages)

    def copy(self, image_id: str, name: str, **fields: Any) -> Any:
        """Copy an image; return the operation once it has ended."""
        return self.ended(self.CopyImage(image_id=image_id, name=name, **fields))

    def copied(self, image_id: str, name: str, **fields: Any) -> image_pb2.Image:
        """Copy an image; return the copy."""
        return image_of(self.copy(image_id, name, **fields))

    def ended(self, operation: Any) -> Any:
        """Return an operation once it has ended."""
        until = time.monotonic() + TIMEOUT_SECONDS
        while not operation.done:
            assert time.monotonic() < until, "the operation goes on"
            operation = self.WaitOperation(name=operation.name, timeout={"seconds": 10})
        return operation

    def close(self) -> None:
        self._channel.close()

    def _stub(self, rpc: str) -> Any:
        return getattr(self._stubs[ALL_METHODS[rpc][0]], rpc)

    def _send(self, rpc: str, request: Any, send: Any) -> Any:
        if ALL_METHODS[rpc][1].client_streaming and not isinstance(request, Iterator):
            request = iter([request])
        return send(request, metadata=self._metadata, timeout=TIMEOUT_SECONDS)


def image_of(operation: Any) -> image_pb2.Image:
    """Return what a copy has answered."""
    assert operation.WhichOneof("result") == "response", operation
    image = image_pb2.Image()
    assert operation.response.Unpack(image)
    return image


def metadata_of(operation: Any) -> operation_metadata_pb2.OperationMetadata:
    metadata = operation_metadata_pb2.OperationMetadata()
    assert operation.metadata.Unpack(metadata)
    return metadata


def error_of(operation: Any) -> "Declined":
    """Return what an operation has failed with."""
    assert operation.WhichOneof("result") == "error", operation
    seen = Declined(code=code_pb2.Code.Name(operation.error.code), message=operation.error.message)
    _take_apart(seen, operation.error)
    return seen


def upload_messages(
    start: dict[str, Any], content: bytes
) -> Iterator[image_service_pb2.UploadImageDataRequest]:
    message = image_service_pb2.UploadImageDataRequest
    yield message(start=start)
    for offset in range(0, len(content), CHUNK_BYTES):
        yield message(chunk=content[offset : offset + CHUNK_BYTES])


def write_messages(
    upload: upload_pb2.Upload, content: bytes, offset_bytes: int = 0, **start: Any
) -> Iterator[upload_service_pb2.WriteUploadRequest]:
    message = upload_service_pb2.WriteUploadRequest
    begun = {
        "image_id": upload.image_id,
        "disk_index": upload.disk_index,
        "upload_id": upload.id,
        "offset_bytes": offset_bytes,
        **start,
    }
    yield message(start=begun)
    for place in range(0, len(content), MIB):
        data = content[place : place + MIB]
        yield message(chunk={"data": data, "crc32c": google_crc32c.value(data)})


def _arity(streaming: bool) -> str:
    return "stream" if streaming else "unary"


@dataclass
class Declined:
    """What a rejection said."""

    code: str = ""
    message: str = ""
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    violations: list[tuple[str, str, str]] = field(default_factory=list)
    """(reason, subject, sentence) of every rule broken; a quota's has no reason of its own."""
    details: list[Any] = field(default_factory=list)
    status_bytes: bytes = b""
    """The whole google.rpc.Status, as it came."""
    headers: dict[str, str | bytes] = field(default_factory=dict)
    """All other trailing metadata."""

    @property
    def reasons(self) -> list[str]:
        return [reason for reason, _, _ in self.violations]


@contextmanager
def declined() -> Iterator[Declined]:
    """Expect the block to be declined; what it is given is filled in when the block has ended."""
    seen = Declined()
    try:
        yield seen
    except grpc.RpcError as error:
        fill_in(seen, error)
    else:
        message = "the call was not declined"
        raise AssertionError(message)


def answer_of(call: Callable[[], object]) -> Declined:
    """Return how a call was declined, or something that says OK."""
    seen = Declined(code="OK")
    try:
        call()
    except grpc.RpcError as error:
        fill_in(seen, error)
    return seen


def fill_in(seen: Declined, error: Any) -> None:
    seen.code, seen.message = error.code().name, error.details()
    seen.headers = {key: value for key, value in error.trailing_metadata() or () if key != STATUS}
    status = rpc_status.from_call(error)
    if status is not None:
        _take_apart(seen, status)


def _take_apart(seen: Declined, status: Any) -> None:
    seen.status_bytes = status.SerializeToString(deterministic=True)
    for packed in status.details:
        kind = getattr(error_details_pb2, packed.TypeName().rpartition(".")[2])
        detail = kind()
        packed.Unpack(detail)
        seen.details.append(detail)
        match detail:
            case error_details_pb2.ErrorInfo():
                seen.reason, seen.metadata = detail.reason, dict(detail.metadata)
            case error_details_pb2.PreconditionFailure():
                seen.violations = [(v.type, v.subject, v.description) for v in detail.violations]
            case error_details_pb2.BadRequest():
                seen.violations = [(v.reason, v.field, v.description) for v in detail.field_violations]
            case error_details_pb2.QuotaFailure():
                seen.violations = [("", v.subject, v.description) for v in detail.violations]
