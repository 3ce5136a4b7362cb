"""Every RPC and the rules it is judged by; what the documentation and its tests read.

Every RPC is judged by CALL_RPC before anything else, and then by CALL_FOR_TENANT. An RPC on an image is
then first judged by SEE_IMAGE, and one that acts for a tenant by ACT_FOR_TENANT before that. Receiving
and finishing are the later moments of an upload. An RPC that changes something is judged by REPEAT_CALL
before these, if it carries a request id.
"""

from typing import Any

from ims.rules.audit import EXPORT_AUDIT_EVENTS, LIST_AUDIT_EVENTS
from ims.rules.changes import (
    DEACTIVATE_IMAGE,
    DEACTIVATE_TENANT_IMAGE,
    DELETE_IMAGE,
    REACTIVATE_IMAGE,
    REACTIVATE_TENANT_IMAGE,
    UNDELETE_IMAGE,
    UPDATE_IMAGE,
)
from ims.rules.copying import COPY_IMAGE
from ims.rules.creation import CREATE_IMAGE
from ims.rules.engine import Rule
from ims.rules.exporting import EXPORT_IMAGE
from ims.rules.form import READ_QUERY
from ims.rules.image_data import (
    CREATE_DOWNLOAD_URL,
    DOWNLOAD_IMAGE_DATA,
    FINISH_IMPORT,
    FINISH_UPLOAD,
    RECEIVE_CHUNK,
    START_RESUMABLE_UPLOAD,
    START_UPLOAD,
)
from ims.rules.operations import DELETE_OPERATION, SEE_OPERATION
from ims.rules.publication import PUBLISH_IMAGE, UNPUBLISH_IMAGE
from ims.rules.quotas import GET_TENANT_QUOTAS, SET_TENANT_QUOTAS
from ims.rules.regions import COPY_IMAGE_TO_REGION, DISCARD_IMAGE
from ims.rules.registered_uses import GET_USAGE, LIST_USES, REGISTER_USE, RELEASE_USE
from ims.rules.repetition import REPEAT_CALL
from ims.rules.roles import CALL_RPC
from ims.rules.sharing import (
    ACCEPT_SHARE,
    GET_SHARE,
    LEAVE_SHARE,
    LIST_SHARES,
    REJECT_SHARE,
    SHARE_IMAGE,
    UNSHARE_IMAGE,
    UPDATE_SHARE,
)
from ims.rules.tenants import (
    CALL_FOR_TENANT,
    GET_SHARING_POLICY,
    GET_TENANT,
    LIST_TENANTS,
    REGISTER_TENANT,
    RESUME_TENANT,
    SET_SHARING_POLICY,
    SUSPEND_TENANT,
    UPDATE_TENANT,
)
from ims.rules.trust import SET_TRUST_RULES
from ims.rules.uploads import (
    ABORT_UPLOAD,
    COMPLETE,
    COMPLETE_UPLOAD,
    CREATE_PART_URLS,
    GET_UPLOAD,
    GO_ON,
    IMPORT_UPLOAD,
    WRITE_UPLOAD,
)
from ims.rules.use import ACT_FOR_TENANT, RESOLVE_IMAGE
from ims.rules.visibility import SEE_IMAGE

CATALOGUE: dict[str, tuple[Rule[Any], ...]] = {
    "CreateImage": (*REPEAT_CALL, *CREATE_IMAGE),
    "GetImage": SEE_IMAGE,
    "ListImages": READ_QUERY,
    "UpdateImage": (*REPEAT_CALL, *SEE_IMAGE, *UPDATE_IMAGE),
    "DeleteImage": (*REPEAT_CALL, *SEE_IMAGE, *DELETE_IMAGE),
    "UndeleteImage": (*REPEAT_CALL, *SEE_IMAGE, *UNDELETE_IMAGE),
    "DeactivateImage": (*REPEAT_CALL, *SEE_IMAGE, *DEACTIVATE_IMAGE),
    "ReactivateImage": (*REPEAT_CALL, *SEE_IMAGE, *REACTIVATE_IMAGE),
    "UploadImageData": (*REPEAT_CALL, *SEE_IMAGE, *START_UPLOAD, *RECEIVE_CHUNK, *FINISH_UPLOAD),
    "DownloadImageData": (*ACT_FOR_TENANT, *SEE_IMAGE, *DOWNLOAD_IMAGE_DATA),
    "CreateDownloadUrl": (*ACT_FOR_TENANT, *SEE_IMAGE, *CREATE_DOWNLOAD_URL),
    "ResolveImage": (*ACT_FOR_TENANT, *SEE_IMAGE, *RESOLVE_IMAGE),
    "GetQuotas": (),
    "ImportImage": (
        *REPEAT_CALL,
        *SEE_IMAGE,
        *START_UPLOAD,
        *IMPORT_UPLOAD,
        *COMPLETE,
        *FINISH_UPLOAD,
        *FINISH_IMPORT,
    ),
    "CopyImage": (*REPEAT_CALL, *SEE_IMAGE, *COPY_IMAGE),
    "ExportImage": (*REPEAT_CALL, *SEE_IMAGE, *EXPORT_IMAGE),
    "CopyImageToRegion": (*REPEAT_CALL, *SEE_IMAGE, *COPY_IMAGE_TO_REGION),
    "DiscardImage": (*REPEAT_CALL, *SEE_IMAGE, *DISCARD_IMAGE),
    "ShareImage": (*REPEAT_CALL, *SEE_IMAGE, *SHARE_IMAGE),
    "UnshareImage": (*REPEAT_CALL, *SEE_IMAGE, *UNSHARE_IMAGE),
    "UpdateShare": (*REPEAT_CALL, *SEE_IMAGE, *UPDATE_SHARE),
    "GetShare": (*SEE_IMAGE, *GET_SHARE),
    "ListShares": (*SEE_IMAGE, *LIST_SHARES),
    "ListReceivedShares": READ_QUERY,
    "AcceptShare": (*REPEAT_CALL, *SEE_IMAGE, *ACCEPT_SHARE),
    "RejectShare": (*REPEAT_CALL, *SEE_IMAGE, *REJECT_SHARE),
    "LeaveShare": (*REPEAT_CALL, *SEE_IMAGE, *LEAVE_SHARE),
    "GetTrustRules": (),
    "SetTrustRules": (*REPEAT_CALL, *SET_TRUST_RULES),
    "PublishImage": (*REPEAT_CALL, *SEE_IMAGE, *PUBLISH_IMAGE),
    "UnpublishImage": (*REPEAT_CALL, *SEE_IMAGE, *UNPUBLISH_IMAGE),
    "GetTenantQuotas": GET_TENANT_QUOTAS,
    "SetTenantQuotas": (*REPEAT_CALL, *SET_TENANT_QUOTAS),
    "RegisterTenant": (*REPEAT_CALL, *REGISTER_TENANT),
    "UpdateTenant": (*REPEAT_CALL, *UPDATE_TENANT),
    "SuspendTenant": (*REPEAT_CALL, *SUSPEND_TENANT),
    "ResumeTenant": (*REPEAT_CALL, *RESUME_TENANT),
    "GetTenant": GET_TENANT,
    "ListTenants": LIST_TENANTS,
    "GetSharingPolicy": GET_SHARING_POLICY,
    "SetSharingPolicy": (*REPEAT_CALL, *SET_SHARING_POLICY),
    "DeactivateTenantImage": (*REPEAT_CALL, *SEE_IMAGE, *DEACTIVATE_TENANT_IMAGE),
    "ReactivateTenantImage": (*REPEAT_CALL, *SEE_IMAGE, *REACTIVATE_TENANT_IMAGE),
    "RegisterUse": (*REPEAT_CALL, *ACT_FOR_TENANT, *SEE_IMAGE, *REGISTER_USE),
    "ReleaseUse": (*REPEAT_CALL, *ACT_FOR_TENANT, *RELEASE_USE),
    "ListUses": (*ACT_FOR_TENANT, *LIST_USES),
    "GetUsage": (*SEE_IMAGE, *GET_USAGE),
    "StartUpload": (*REPEAT_CALL, *SEE_IMAGE, *START_RESUMABLE_UPLOAD),
    "WriteUpload": (*SEE_IMAGE, *WRITE_UPLOAD, *GO_ON, *RECEIVE_CHUNK, *FINISH_UPLOAD),
    "CreatePartUrls": (*SEE_IMAGE, *CREATE_PART_URLS),
    "GetUpload": (*SEE_IMAGE, *GET_UPLOAD),
    "FinishUpload": (*REPEAT_CALL, *SEE_IMAGE, *COMPLETE_UPLOAD, *COMPLETE, *FINISH_UPLOAD),
    "AbortUpload": (*REPEAT_CALL, *SEE_IMAGE, *ABORT_UPLOAD),
    "ListAuditEvents": LIST_AUDIT_EVENTS,
    "ExportAuditEvents": EXPORT_AUDIT_EVENTS,
    "ListOperations": READ_QUERY,
    "GetOperation": SEE_OPERATION,
    "DeleteOperation": DELETE_OPERATION,
    "CancelOperation": SEE_OPERATION,
    "WaitOperation": SEE_OPERATION,
}


def all_rules() -> tuple[Rule[Any], ...]:
    """Return every rule of the catalogue once."""
    of_some = [rule for rules in CATALOGUE.values() for rule in rules]
    return tuple(dict.fromkeys([*CALL_RPC, *CALL_FOR_TENANT, *of_some]))
