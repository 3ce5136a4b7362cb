"""The contract's words, under the names that a Python program uses."""

from typing import TYPE_CHECKING, TypeAlias

from google.longrunning.operations_pb2 import Operation

from ims.v1.admin_service_pb2 import PublishImageResponse
from ims.v1.audit_pb2 import AuditEvent
from ims.v1.error_reason_pb2 import ErrorReason
from ims.v1.image_pb2 import Disk, Image, OperatingSystem, Relation, Source
from ims.v1.image_service_pb2 import (
    DeleteImageResponse,
    ExportedObject,
    ResolveImageRequest,
    ResolveImageResponse,
    TagFilter,
    UndeleteImageResponse,
    UploadImageDataResponse,
)
from ims.v1.operation_metadata_pb2 import OperationMetadata
from ims.v1.quota_pb2 import TenantQuotas
from ims.v1.share_pb2 import Recipient, Refusal, Share
from ims.v1.sharing_service_pb2 import (
    ListReceivedSharesResponse,
    ShareImageResponse,
    UnshareImageResponse,
)
from ims.v1.tenant_pb2 import SharingPolicy, Tenant
from ims.v1.trust_pb2 import TrustRules
from ims.v1.upload_pb2 import Upload
from ims.v1.upload_service_pb2 import FinishUploadResponse
from ims.v1.use_pb2 import TenantUsage, UsageSummary, Use

if TYPE_CHECKING:
    ImageClass: TypeAlias = Image.Class.ValueType
    ImageType: TypeAlias = Image.Type.ValueType
    ImageState: TypeAlias = Image.State.ValueType
    Architecture: TypeAlias = Image.Architecture.ValueType
    Firmware: TypeAlias = Image.Firmware.ValueType
    RelationKind: TypeAlias = Relation.Kind.ValueType
    BackupService: TypeAlias = Source.BackupService.ValueType
    DiskFormat: TypeAlias = Disk.Format.ValueType
    DiskRole: TypeAlias = Disk.Role.ValueType
    OsType: TypeAlias = OperatingSystem.Type.ValueType
    ShareStatus: TypeAlias = Share.Status.ValueType
    Purpose: TypeAlias = ResolveImageRequest.Purpose.ValueType
    UseKind: TypeAlias = Use.Kind.ValueType
    TenantState: TypeAlias = Tenant.State.ValueType
else:
    # When a program runs, enum values are integers; only the type checker tells them apart.
    ImageClass = ImageType = ImageState = Architecture = Firmware = int
    RelationKind = BackupService = DiskFormat = DiskRole = OsType = ShareStatus = Purpose = int
    UseKind = TenantState = int

ReceivedShare = ListReceivedSharesResponse.ReceivedShare

__all__ = [
    "Architecture",
    "AuditEvent",
    "BackupService",
    "DeleteImageResponse",
    "Disk",
    "DiskFormat",
    "DiskRole",
    "ErrorReason",
    "ExportedObject",
    "FinishUploadResponse",
    "Firmware",
    "Image",
    "ImageClass",
    "ImageState",
    "ImageType",
    "OperatingSystem",
    "Operation",
    "OperationMetadata",
    "OsType",
    "PublishImageResponse",
    "Purpose",
    "ReceivedShare",
    "Recipient",
    "Refusal",
    "Relation",
    "RelationKind",
    "ResolveImageRequest",
    "ResolveImageResponse",
    "Share",
    "ShareImageResponse",
    "ShareStatus",
    "SharingPolicy",
    "Source",
    "TagFilter",
    "Tenant",
    "TenantQuotas",
    "TenantState",
    "TenantUsage",
    "TrustRules",
    "UndeleteImageResponse",
    "UnshareImageResponse",
    "Upload",
    "UploadImageDataResponse",
    "UsageSummary",
    "Use",
    "UseKind",
]
