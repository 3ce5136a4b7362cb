"""What a person can do about a rejection, beyond what its message says already."""

from collections.abc import Mapping, Sequence
from typing import Final

from ims.client import Declined, Refusal
from ims.client.vocabulary import ErrorReason

_ADVICE: Final = {
    ErrorReason.UNAUTHENTICATED: "Say who calls: --tenant before the command, or IMS_TENANT.",
    ErrorReason.TENANT_SUSPENDED: "Ask the operator of the service: `ims tenant resume {tenantId}`.",
    ErrorReason.DEACTIVATED_BY_ADMINISTRATOR: (
        "Ask the operator of the service: `ims image reactivate ID --as-admin`."
    ),
    ErrorReason.SHARING_BLOCKED: "Ask the operator of the service: `ims tenant allow-sharing`.",
    ErrorReason.TENANT_ALREADY_REGISTERED: "`ims tenant move {tenantId} REGION`.",
    ErrorReason.IMAGE_NOT_FOUND: "What you can see: `ims image list`, `ims share received`.",
    ErrorReason.DISK_NOT_FOUND: "Its disks are listed by `ims image show`.",
    ErrorReason.SHARE_NOT_FOUND: "What is shared with you: `ims share received`.",
    ErrorReason.OPERATION_NOT_FOUND: "Your tenant's are listed by `ims operation list`.",
    ErrorReason.OPERATION_NOT_DONE: "`ims operation cancel`, or `ims operation wait`.",
    ErrorReason.NOT_IMAGE_OWNER: "Only users of the owner's tenant can; ask them.",
    ErrorReason.ROLE_REQUIRED: "Who has one of these roles says so with --roles: {requiredRoles}.",
    ErrorReason.ONLY_RECIPIENT_DECIDES: "To end a share as the owner: `ims share remove`.",
    ErrorReason.INVALID_DISKS: "One --format for each disk; only a full-ecs image has several.",
    ErrorReason.SOURCE_NOT_DECLARABLE: "Leave the source out to upload a file of your own.",
    ErrorReason.SOURCE_DOES_NOT_FIT_TYPE: "The source is said with one of the --from-… options.",
    ErrorReason.BACKUP_SERVICE_REQUIRED: "Add --backup-service cbr or csbs.",
    ErrorReason.SHARE_WITH_OWNER: "Leave that tenant out.",
    ErrorReason.TOO_MANY_RECIPIENTS: "Share in several calls of at most {maxRecipients} tenants.",
    ErrorReason.ETAG_MISMATCH: "Look at the image again (`ims image show`), then decide anew.",
    ErrorReason.IMAGE_NOT_ACTIVE: (
        "A QUEUED image lacks disks (`ims image upload FILE --image ID`); a DEACTIVATED one is woken "
        "by `ims image reactivate`."
    ),
    ErrorReason.IMAGE_BUSY: "Try again when the upload has ended; or end it: `ims image abort-upload`.",
    ErrorReason.IMAGE_DELETED: "Its owner can restore it: `ims image undelete`.",
    ErrorReason.IMAGE_DATA_FINAL: "Upload the file as a new image.",
    ErrorReason.UPLOAD_SUPERSEDED: "Upload again.",
    ErrorReason.UPLOAD_NOT_FOUND: "Upload again.",
    ErrorReason.UPLOAD_INCOMPLETE: "Upload the same file again: it goes on where it was.",
    ErrorReason.UPLOAD_NEEDS_CONVERSION: "Say --from or --ova again, as when it was begun.",
    ErrorReason.UPLOAD_BUSY: "Is the same file being uploaded elsewhere? Wait for that.",
    ErrorReason.CHUNK_DAMAGED: "Upload the same file again: it goes on where it was.",
    ErrorReason.PUBLIC_IMAGE_NOT_SHAREABLE: "Nothing needs to be done.",
    ErrorReason.CROSS_REGION_SHARE: (
        "If the tenant is at home elsewhere than it says here, say where: TENANT@REGION."
    ),
    ErrorReason.FULL_ECS_NOT_FROM_CBR: "Have the image made anew from a CBR backup of the server.",
    ErrorReason.BACKUP_IS_SHARED: "Have the image made from a backup of your own.",
    ErrorReason.TENANT_NOT_FOUND: "Check the id; administrators register: `ims tenant register`.",
    ErrorReason.SHARE_NOT_ACCEPTED: "`ims share accept IMAGE`.",
    ErrorReason.VAULT_REQUIRED: (
        "`ims share accept IMAGE --vault VAULT`, `ims image copy-to-region IMAGE REGION --vault VAULT`."
    ),
    ErrorReason.VAULT_TOO_SMALL: "Name a vault of at least {neededGib} GiB.",
    ErrorReason.EXPIRE_TIME_PASSED: "To end a share now: `ims share remove`.",
    ErrorReason.RECIPIENT_HAS_TOO_MANY_PENDING: (
        "Ask {tenantId}: `ims share received --status pending`, `ims trust set`."
    ),
    ErrorReason.PUBLIC_IMAGE_NOT_DELETABLE: (
        "An administrator has to take it back first: `ims image unpublish`."
    ),
    ErrorReason.IMAGE_PROTECTED: "Take the protection off: `ims image update IMAGE --unprotected`.",
    ErrorReason.ISO_NOT_COPYABLE: "Upload the file once more, as a new image.",
    ErrorReason.EXPORT_BUCKET_NOT_OPEN: "The operator opens buckets with the setting export_buckets.",
    ErrorReason.EXPORT_BUCKET_UNUSABLE: "Tell the operator of the service.",
    ErrorReason.EXPORT_TARGET_EXISTS: "Choose another name for the object, or remove the one there is.",
    ErrorReason.SAME_REGION: "`ims image copy IMAGE NAME`.",
    ErrorReason.REGION_WITHOUT_PEER: "Ask the operator of the service for [peers.{region}].",
    ErrorReason.ENCRYPTED_IMAGE_NOT_COPYABLE: "First `ims image copy IMAGE NAME --decrypt`.",
    ErrorReason.PEER_REFUSED: "Tell the operator of the service: [peers.{region}].",
    ErrorReason.PEER_UNREACHABLE: "Begin it again later.",
    ErrorReason.SAME_KEY: "Leave --key out to keep the key.",
    ErrorReason.KEY_UNAVAILABLE: (
        "The operator adds keys to the server's key file (`ims key new`) or to its key server."
    ),
    ErrorReason.MIN_DISK_TOO_SMALL: "Leave --min-disk out, or make it at least {neededGib}.",
    ErrorReason.IMAGE_NAME_TAKEN: "Choose another name, or rename or delete the image that has it.",
    ErrorReason.BACKUP_ALREADY_USED: "Use the image that was made from it, or delete that first.",
    ErrorReason.SIZE_MISMATCH: "Does something still write to the file? Then wait, and upload again.",
    ErrorReason.DIGEST_MISMATCH: "Does something still write to the file? Then wait, and upload again.",
    ErrorReason.FORMAT_MISMATCH: "If that is what it should be, declare it: --format {foundFormat}.",
    ErrorReason.UNSAFE_IMAGE_FILE: (
        "If you trust the file, flatten it: `qemu-img convert -O qcow2 FILE NEW-FILE`."
    ),
    ErrorReason.DISK_TOO_SMALL: "Take a disk of at least {minDiskGib} GiB.",
    ErrorReason.IMAGE_IN_USE: "Whose they are: `ims use count`. It is done without --require-unused.",
    ErrorReason.USE_LIMIT_EXCEEDED: "Release what is gone: `ims use list`, `ims use release`.",
    ErrorReason.SHARE_LIMIT_EXCEEDED: (
        "Stop sharing with those who need it no more: `ims share list`, `ims share remove`."
    ),
    ErrorReason.IMAGE_QUOTA_EXCEEDED: "What you have: `ims quota`. An administrator can raise it.",
    ErrorReason.STORAGE_QUOTA_EXCEEDED: "What you have: `ims quota`. An administrator can raise it.",
    ErrorReason.TOO_MANY_CREATIONS: "Try again when an upload has ended; how many run: `ims quota`.",
    ErrorReason.TOO_MANY_COPIES: "Try again when one is done: `ims operation list --not-done`.",
    ErrorReason.TOO_MANY_CALLS: "Try again in a while.",
    ErrorReason.TOO_MANY_TRANSFERS: "Try again in a while.",
    ErrorReason.STORAGE_FULL: "Tell the operator of the service.",
    ErrorReason.DISK_DATA_DAMAGED: "Tell the operator of the service, with the request id.",
    ErrorReason.CATALOGUE_UNAVAILABLE: "Try again in a while.",
    ErrorReason.INTERNAL_ERROR: "Tell the operator of the service, with the request id.",
}


def on_rejection(declined: Declined) -> list[str]:
    """Return what can be done about each reason of a rejection, each advice once."""
    reasons = [violation.reason for violation in declined.violations] or [declined.reason]
    return _advice(reasons, declined.metadata)


def on_refusals(refusals: Sequence[Refusal]) -> list[str]:
    """Return what can be done about what would be refused, each advice once."""
    told = [_advice([ErrorReason.Name(each.reason)], each.metadata) for each in refusals]
    return list(dict.fromkeys(advice for each in told for advice in each))


def _advice(reasons: Sequence[str], metadata: Mapping[str, str]) -> list[str]:
    advice: dict[str, None] = {}
    for reason in reasons:
        template = _BY_NAME.get(reason, "")
        try:
            advice[template.format_map(metadata)] = None
        except KeyError:  # an older server, which does not tell that number
            continue
    return [each for each in advice if each]


_BY_NAME: Final = {ErrorReason.Name(reason): advice for reason, advice in _ADVICE.items()}
