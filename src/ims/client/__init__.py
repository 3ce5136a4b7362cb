"""Calls the service from Python: channel, typed errors, transfers; knows no room of the server."""

from ims.client.client import Client
from ims.client.credentials import (
    CertificateOnly,
    ClientCredentials,
    Credentials,
    DevelopmentIdentity,
    NoToken,
    Token,
    TokenFile,
)
from ims.client.disk_format import guess_format
from ims.client.errors import DamagedDownload, Declined, Unreachable, Violation
from ims.client.files import Progress, sha256_of
from ims.client.images import ImageAttributes, ImageChanges, NewImageAttributes
from ims.client.operations import metadata_of
from ims.client.security import Tls
from ims.client.vocabulary import (
    AuditEvent,
    Disk,
    ErrorReason,
    Image,
    OperatingSystem,
    Operation,
    OperationMetadata,
    ReceivedShare,
    Recipient,
    Refusal,
    Relation,
    ResolveImageRequest,
    Share,
    Source,
    Tenant,
    TenantUsage,
    TrustRules,
    Upload,
    UsageSummary,
    Use,
)

__all__ = [
    "AuditEvent",
    "CertificateOnly",
    "Client",
    "ClientCredentials",
    "Credentials",
    "DamagedDownload",
    "Declined",
    "DevelopmentIdentity",
    "Disk",
    "ErrorReason",
    "Image",
    "ImageAttributes",
    "ImageChanges",
    "NewImageAttributes",
    "NoToken",
    "OperatingSystem",
    "Operation",
    "OperationMetadata",
    "Progress",
    "ReceivedShare",
    "Recipient",
    "Refusal",
    "Relation",
    "ResolveImageRequest",
    "Share",
    "Source",
    "Tenant",
    "TenantUsage",
    "Tls",
    "Token",
    "TokenFile",
    "TrustRules",
    "Unreachable",
    "Upload",
    "UsageSummary",
    "Use",
    "Violation",
    "guess_format",
    "metadata_of",
    "sha256_of",
]
