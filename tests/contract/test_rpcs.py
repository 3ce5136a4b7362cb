"""Every RPC has its method, its story, its rules, and a comment that names their reasons."""

import re
from collections import defaultdict

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.rpc.code_pb2 import Code

from calling import ALL_METHODS, METHODS, OPERATIONS, request_class
from contract.descriptions import COMMENTS, STATUSES, described_reasons
from ims.domain.rejection import Reason
from ims.rules.catalogue import CATALOGUE
from ims.rules.form import every_field_can_be_read
from ims.rules.repetition import REPEAT_CALL
from ims.servicers.admin_servicer import AdminServicer
from ims.servicers.audit_servicer import AuditServicer
from ims.servicers.errors import CODES
from ims.servicers.image_servicer import ImageServicer
from ims.servicers.operations_servicer import OperationsServicer
from ims.servicers.sharing_servicer import SharingServicer
from ims.servicers.upload_servicer import UploadServicer
from ims.servicers.use_servicer import UseServicer
from ims.use_cases import (
    audit,
    copying,
    downloads,
    exporting,
    image_data,
    images,
    importing,
    operations,
    part_urls,
    quotas,
    region_copying,
    registered_uses,
    resumable_uploads,
    sharing,
    tenants,
    trust,
    use,
)

SERVICERS = {
    "ImageService": ImageServicer,
    "SharingService": SharingServicer,
    "AdminService": AdminServicer,
    "UseService": UseServicer,
    "AuditService": AuditServicer,
    "UploadService": UploadServicer,
}
REASONS = described_reasons()
USE_CASES = (
    *(
        audit,
        copying,
        downloads,
        images,
        image_data,
        operations,
        quotas,
        registered_uses,
        resumable_uploads,
    ),
    *(exporting, importing, part_urls, region_copying, sharing, tenants, trust, use),
)

GENERAL = {
    Reason.UNAUTHENTICATED,
    Reason.TENANT_SUSPENDED,
    Reason.IMAGE_NOT_FOUND,
    Reason.UNREADABLE_REQUEST,
    Reason.CATALOGUE_UNAVAILABLE,
    Reason.TOO_MANY_CALLS,
    Reason.INTERNAL_ERROR,
}
"""What any RPC can be declined with; never listed, but once for a whole service."""

READING = {
    "GetImage",
    "ListImages",
    "GetQuotas",
    "GetTenantQuotas",
    "GetTenant",
    "ListTenants",
    "GetSharingPolicy",
    "DownloadImageData",
    "CreateDownloadUrl",
    "ResolveImage",
    "GetShare",
    "ListShares",
    "ListReceivedShares",
    "GetTrustRules",
    "ListUses",
    "GetUsage",
    "ListAuditEvents",
    "ExportAuditEvents",
    "GetUpload",
    # Brings bytes, and can be repeated without harm: it says from where on.
    "WriteUpload",
    # Begins what it gives URLs for, and can be repeated without harm: it is begun once.
    "CreatePartUrls",
}
"""What changes nothing."""

OF_REFLECTION = {Reason.TOO_MANY_STREAMS}
"""What only the standard services decline, whose protos are not ours."""

OF_OPERATIONS = {
    Reason.OPERATION_NOT_FOUND,
    Reason.OPERATION_NOT_DONE,
    Reason.OPERATION_CANCELLED,
}
"""What only google.longrunning tells, whose protos are not ours."""

RAISED_DIRECTLY = {
    "UploadImageData": {
        Reason.TOO_MANY_TRANSFERS,
        Reason.STORAGE_FULL,
        Reason.STORAGE_UNAVAILABLE,
        Reason.UPLOAD_SUPERSEDED,
        Reason.KEY_UNAVAILABLE,
    },
    "DownloadImageData": {
        Reason.TOO_MANY_TRANSFERS,
        Reason.STORAGE_UNAVAILABLE,
        Reason.DISK_DATA_DAMAGED,
        Reason.KEY_UNAVAILABLE,
    },
    "ExportAuditEvents": {Reason.TOO_MANY_TRANSFERS},
    "ImportImage": {
        *(Reason.IMPORT_SOURCE_FORBIDDEN, Reason.IMPORT_SOURCE_REFUSED, Reason.IMPORT_SOURCE_UNUSABLE),
        *(Reason.IMPORT_SOURCE_CHANGED, Reason.IMPORT_SOURCE_UNREACHABLE),
        *(Reason.IMPORT_SOURCE_TOO_SLOW, Reason.IMAGE_FILE_TOO_LARGE),
        *(Reason.CONVERSION_FAILED, Reason.CONVERSION_UNAVAILABLE, Reason.CONVERSION_LIMIT_EXCEEDED),
        *(Reason.STORAGE_FULL, Reason.STORAGE_UNAVAILABLE),
        *(Reason.UPLOAD_BUSY, Reason.UPLOAD_SUPERSEDED, Reason.DISK_DATA_DAMAGED),
    },
    "CopyImage": {
        *(Reason.CONVERSION_FAILED, Reason.CONVERSION_UNAVAILABLE, Reason.CONVERSION_LIMIT_EXCEEDED),
    },
    "StartUpload": {
        *(Reason.STORAGE_UNAVAILABLE, Reason.KEY_UNAVAILABLE),
        *(Reason.CONVERSION_UNAVAILABLE, Reason.CONVERSION_FAILED),
    },
    "ExportImage": {
        *(Reason.EXPORT_BUCKET_UNUSABLE, Reason.STORAGE_FULL, Reason.STORAGE_UNAVAILABLE),
        *(Reason.CONVERSION_FAILED, Reason.CONVERSION_UNAVAILABLE, Reason.CONVERSION_LIMIT_EXCEEDED),
    },
    "CopyImageToRegion": {Reason.PEER_REFUSED, Reason.PEER_UNREACHABLE},
    "WriteUpload": {
        Reason.CHUNK_DAMAGED,
        Reason.TOO_MANY_TRANSFERS,
        Reason.STORAGE_FULL,
        Reason.STORAGE_UNAVAILABLE,
        Reason.UPLOAD_BUSY,
        Reason.UPLOAD_SUPERSEDED,
    },
    "GetUpload": {Reason.STORAGE_UNAVAILABLE},
    "CreatePartUrls": {Reason.STORAGE_UNAVAILABLE, Reason.UPLOAD_SUPERSEDED},
    "FinishUpload": {
        Reason.TOO_MANY_TRANSFERS,
        Reason.DISK_DATA_DAMAGED,
        Reason.STORAGE_FULL,
        Reason.STORAGE_UNAVAILABLE,
        Reason.UPLOAD_BUSY,
        Reason.UPLOAD_SUPERSEDED,
    },
}
"""What no rule says, but a store, a key or a crowd."""


def test_every_rpc_is_in_the_catalogue_of_rules():
    assert set(CATALOGUE) == set(ALL_METHODS)


@pytest.mark.parametrize("rpc", ALL_METHODS)
def test_every_rpc_has_a_servicers_method(rpc: str):
    service, _ = ALL_METHODS[rpc]

    assert rpc in vars((SERVICERS | {"Operations": OperationsServicer})[service])


@pytest.mark.parametrize("rpc", ALL_METHODS)
def test_every_rpc_has_a_use_case_of_its_name(rpc: str):
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", rpc).lower()

    assert [module for module in USE_CASES if name in vars(module)]


@pytest.mark.parametrize("rpc", METHODS)
def test_a_request_is_judged_by_its_form_where_a_field_can_be_wrong(rpc: str):
    assert (every_field_can_be_read in CATALOGUE[rpc]) is has_fields_to_be_wrong(rpc)


@pytest.mark.parametrize("rpc", METHODS)
def test_every_rpc_that_changes_something_takes_a_request_id(rpc: str):
    """Whoever adds an RPC says here that it changes nothing, or has it repeated without harm."""
    changes = rpc not in READING
    request = request_class(rpc).DESCRIPTOR
    start = request.fields_by_name.get("start")
    fields = request.fields_by_name if start is None else start.message_type.fields_by_name

    assert ("request_id" in fields) is changes
    assert set(REPEAT_CALL) <= set(CATALOGUE[rpc]) or not changes


@pytest.mark.parametrize("rpc", METHODS)
def test_the_comment_of_an_rpc_lists_the_reasons_that_it_can_be_declined_with(rpc: str):
    assert listed(rpc) == expected(rpc)


@pytest.mark.parametrize("rpc", METHODS)
def test_a_reason_in_a_comment_stands_behind_its_status(rpc: str):
    words = set(re.findall(r"\b[A-Z_]+\b", comment(rpc)))
    behind_a_status = {reason for reasons in listed(rpc).values() for reason in reasons}

    assert words & set(Reason) - STATUSES == behind_a_status


@pytest.mark.parametrize("service", SERVICERS)
def test_what_goes_for_every_rpc_is_said_once_for_the_service(service: str):
    said = COMMENTS[f"ims.v1.{service}"]

    for reason in (
        Reason.IMAGE_NOT_FOUND,
        Reason.INVALID_FIELD,
        Reason.UNAUTHENTICATED,
        Reason.TENANT_SUSPENDED,
    ):
        assert reason in said


def test_every_reason_is_listed_by_some_rpc():
    told = {reason for rpc in METHODS for reasons in listed(rpc).values() for reason in reasons}

    assert told | GENERAL | OF_REFLECTION | OF_OPERATIONS == set(Reason)


def test_what_operations_are_declined_with_is_said_of_their_metadata():
    said = COMMENTS["ims.v1.OperationMetadata"]

    assert {str(reason) for reason in OF_OPERATIONS} <= set(re.findall(r"\b[A-Z_]+\b", said))
    assert {rule.reason for rpc in OPERATIONS for rule in CATALOGUE[rpc]} - GENERAL == {
        *(OF_OPERATIONS - {Reason.OPERATION_CANCELLED}),
        Reason.INVALID_FIELD,
    }


def comment(rpc: str) -> str:
    return COMMENTS[f"ims.v1.{METHODS[rpc][0]}.{rpc}"]


def listed(rpc: str) -> dict[str, set[str]]:
    """Return the reasons in a comment by their statuses: `STATUS: ONE, ANOTHER.`"""
    found = re.findall(r"\b([A-Z_]+):\s([A-Z_,\s]+)\.", comment(rpc))
    return {
        status: set(re.split(r",\s+", reasons.strip()))
        for status, reasons in found
        if status in STATUSES
    }


def expected(rpc: str) -> dict[str, set[str]]:
    statuses = {rule.reason: Code.Name(CODES[rule.category]) for rule in CATALOGUE[rpc]}
    for reason in RAISED_DIRECTLY.get(rpc, ()):
        statuses[reason] = REASONS[reason].status
    by_status = defaultdict(set)
    for reason, status in statuses.items():
        if reason not in GENERAL:
            by_status[status].add(str(reason))
    return dict(by_status)


def has_fields_to_be_wrong(rpc: str) -> bool:
    """Whether a request has more than flags, which are never wrong, and the image that it is about.

    Without an image there is nothing to judge: that is said once for a whole service.
    """
    fields = request_class(rpc).DESCRIPTOR.fields
    return any(field.name != "image_id" and field.type != FieldDescriptor.TYPE_BOOL for field in fields)
