"""Facts that keep every rule; a test changes the one thing that it is about."""

from dataclasses import replace

from builders import (
    A_MOMENT,
    ELSEWHERE,
    HOME,
    OWNER,
    RECIPIENT,
    STRANGER,
    a_caller,
    a_disk,
    a_full_ecs_image,
    a_share,
    a_tenant,
    a_view,
    an_accepted_share,
    an_image,
)
from ims.domain.caller import Role
from ims.domain.disk_file import DiskFileReport
from ims.domain.export import ExportOrder
from ims.domain.image import (
    GIB,
    BackupService,
    BlobKey,
    Disk,
    DiskFormat,
    DiskRole,
    Image,
    ImageId,
    ImageState,
    ImageType,
    Source,
    SourceKind,
)
from ims.domain.operation import Operation, OperationId, OperationKind
from ims.domain.quotas import Allowance, Quotas, Usage
from ims.domain.rejection import FieldProblem, Violation
from ims.domain.repetition import RememberedCall, RepeatableCall
from ims.domain.tenant import RegisteredTenant
from ims.domain.trust import TrustRules
from ims.domain.upload import Upload
from ims.domain.use import Purpose, Use
from ims.domain.vault import Vault, VaultType
from ims.rules.attempt import Attempt
from ims.rules.audit import AuditQuery
from ims.rules.changes import ChangeAttempt, DeletionAttempt, UndeletionAttempt, UpdateAttempt
from ims.rules.copying import CopyAttempt
from ims.rules.creation import CreationAttempt, role_order
from ims.rules.engine import Rule
from ims.rules.exporting import ExportAttempt
from ims.rules.form import Query
from ims.rules.image_data import (
    Announcement,
    Arrival,
    ArrivedFile,
    DirectDownloadAttempt,
    DownloadAttempt,
    UploadAttempt,
)
from ims.rules.operations import OperationAttempt
from ims.rules.quotas import QuotaAttempt
from ims.rules.regions import RegionCopyAttempt
from ims.rules.registered_uses import RegistrationAttempt
from ims.rules.repetition import Repetition
from ims.rules.sharing import AcceptAttempt, OneShareAttempt, ShareAttempt, ShareUpdateAttempt
from ims.rules.tenants import Governance, RegistrationOfTenant, TenantAttempt
from ims.rules.trust import TrustAttempt
from ims.rules.uploads import FoundUpload, Progress
from ims.rules.use import Representation, UseAttempt
from ims.rules.visibility import Sight

A_PROBLEM = FieldProblem("page_size", "it is 0 or more.")
SHA256 = "0" * 64
ANOTHER_SHA256 = "f" * 64


def is_kept(rule: Rule, facts: object) -> bool:
    """Whether facts do not break a rule."""
    return not list(rule.violations(facts))


def the_violation(rule: Rule, facts: object) -> Violation:
    """Return the one violation of a rule that facts break once."""
    (violation,) = rule.violations(facts)
    return violation


# --- an image that is to be ---


def an_empty_disk(**changes) -> Disk:
    return Disk(**{"index": 0, "role": DiskRole.SYSTEM, "format": DiskFormat.QCOW2, **changes})


def a_draft(**changes) -> Image:
    """A system-disk image from a file, as OWNER's creation asks for it."""
    given = {"state": ImageState.QUEUED, "disks": (an_empty_disk(),), "min_disk_gib": 0, **changes}
    return an_image(**given)


def a_draft_of(image_type: ImageType, *, disks: int = 1, **changes) -> Image:
    """A draft of any type, with what such an image has."""
    file_format = DiskFormat.ISO if image_type is ImageType.ISO else DiskFormat.RAW
    roles = role_order(image_type, disks)
    full_ecs = image_type is ImageType.FULL_ECS
    source = (
        Source(kind=SourceKind.CBR_BACKUP, id="backup-1") if full_ecs else Source(kind=SourceKind.FILE)
    )
    given = {
        "type": image_type,
        "disks": tuple(
            an_empty_disk(index=i, role=role, format=file_format) for i, role in enumerate(roles)
        ),
        "source": source,
        **changes,
    }
    return a_draft(**given)


def an_allowance(*, limits: Quotas | None = None, **used: int) -> Allowance:
    """A tenant that uses so much, in a deployment with the law's defaults."""
    return Allowance(used=Usage(**used), limits=limits or Quotas())


def a_creation(**changes) -> CreationAttempt:
    """OWNER creates an image from a file."""
    given = {
        "caller": a_caller(),
        "draft": a_draft(),
        "name_taken": False,
        "backup_used": False,
        "key_usable": False,
        "allowance": an_allowance(),
        **changes,
    }
    return CreationAttempt(**given)


def a_creation_of(**changes) -> CreationAttempt:
    """OWNER creates an image that has these attributes."""
    return a_creation(draft=a_draft(**changes))


# --- an image that is ---


def an_attempt(**changes) -> Attempt:
    """OWNER wants something of an image of its own."""
    return Attempt(**{"caller": a_caller(), "image": an_image(), **changes})


def an_attempt_on(**changes) -> Attempt:
    """OWNER wants something of an image of its own that has these attributes."""
    return an_attempt(image=an_image(**changes))


def a_recipients_attempt(**changes) -> Attempt:
    """RECIPIENT wants something of an image that it has accepted."""
    return an_attempt(**{"caller": a_caller(RECIPIENT), "share": an_accepted_share(), **changes})


def a_change(**changes) -> ChangeAttempt:
    """OWNER deletes an image, whatever its etag."""
    return ChangeAttempt(**{"caller": a_caller(), "image": an_image(), **changes})


def a_deletion(**changes) -> DeletionAttempt:
    """OWNER deletes an image, whatever its etag and whoever uses it."""
    return DeletionAttempt(**{"caller": a_caller(), "image": an_image(), **changes})


def an_update(**changes) -> UpdateAttempt:
    """OWNER gives an image another description."""
    image = changes.pop("image", None) or an_image()
    given = {
        "caller": a_caller(),
        "image": image,
        "draft": image,
        "fields": frozenset({"description"}),
        "name_taken": False,
        **changes,
    }
    return UpdateAttempt(**given)


def a_copying(**changes) -> CopyAttempt:
    """OWNER copies an image of its own, as it is stored."""
    image = changes.pop("image", None) or an_image()
    source = Source(kind=SourceKind.IMAGE, id=image.id, region=image.region)
    given = {
        "caller": a_caller(),
        "image": image,
        "draft": an_image(source=source),
        "name_taken": False,
        "key_usable": False,
        "new_key_usable": False,
        "allowance": an_allowance(),
        **changes,
    }
    return CopyAttempt(**given)


def an_exporting(**changes) -> ExportAttempt:
    """OWNER exports an image of its own to where there is nothing yet."""
    given = {
        "caller": a_caller(),
        "image": an_image(),
        "order": ExportOrder(bucket="exports", object_key="debian.qcow2"),
        "key_usable": False,
        "bucket_open": True,
        **changes,
    }
    return ExportAttempt(**given)


def a_copying_to_a_region(**changes) -> RegionCopyAttempt:
    """OWNER copies an image of its own to ELSEWHERE."""
    image = changes.pop("image", None) or an_image()
    given = {
        "caller": a_caller(),
        "image": image,
        "draft": an_image(region=ELSEWHERE),
        "region": ELSEWHERE,
        "peer_known": True,
        "allowance": an_allowance(),
        **changes,
    }
    return RegionCopyAttempt(**given)


def a_taking_in(*, full_ecs: bool = False, **changes) -> CreationAttempt:
    """The service of ELSEWHERE brings the copy of an image of OWNER's."""
    source = Source(
        kind=SourceKind.IMAGE,
        id="image",
        region=ELSEWHERE,
        backup_service=BackupService.CBR if full_ecs else None,
    )
    image_type = ImageType.FULL_ECS if full_ecs else ImageType.SYSTEM_DISK
    given = {
        "caller": a_caller("ims.elsewhere", Role.PEER, region=ELSEWHERE),
        "draft": a_draft_of(image_type, source=source),
        "capacity_bytes": 4 * GIB,
        "backup_provider_exists": True,
        "vault": a_vault(),
        **changes,
    }
    return a_creation(**given)


def a_look_at_an_operation(**changes) -> OperationAttempt:
    """OWNER wants something of an operation of its own that is QUEUED."""
    return OperationAttempt(**{"found": an_operation(), **changes})


def an_operation(**changes) -> Operation:
    given = {
        "id": OperationId("an-operation"),
        "tenant_id": OWNER,
        "kind": OperationKind.COPY_IMAGE,
        "image_id": an_image().id,
        "source_image_id": an_image().id,
        "create_time": A_MOMENT,
        "update_time": A_MOMENT,
        **changes,
    }
    return Operation(**given)


def an_undeletion(**changes) -> UndeletionAttempt:
    """OWNER wants a deleted image back."""
    given = {
        "caller": a_caller(),
        "image": an_image(state=ImageState.DELETED, purge_time=A_MOMENT),
        "name_taken": False,
        "backup_used": False,
        "allowance": an_allowance(),
        **changes,
    }
    return UndeletionAttempt(**given)


# --- shares ---


def a_sharing(**changes) -> ShareAttempt:
    """OWNER shares an image that nobody has yet with RECIPIENT."""
    given = {
        "caller": a_caller(),
        "image": an_image(),
        "recipients": (a_tenant(),),
        "sharing_with": frozenset(),
        "share_count": 0,
        "share_limit": 128,
        "now": A_MOMENT,
        **changes,
    }
    return ShareAttempt(**given)


def a_look_at_a_share(**changes) -> OneShareAttempt:
    """OWNER asks for RECIPIENT's share."""
    given = {
        "caller": a_caller(),
        "image": an_image(),
        "tenant_id": RECIPIENT,
        "found": a_share(),
        **changes,
    }
    return OneShareAttempt(**given)


def a_share_update(**changes) -> ShareUpdateAttempt:
    """OWNER lets RECIPIENT's share not end by itself any more."""
    given = {
        "caller": a_caller(),
        "image": an_image(),
        "tenant_id": RECIPIENT,
        "found": a_share(),
        "fields": frozenset({"expire_time"}),
        "now": A_MOMENT,
        **changes,
    }
    return ShareUpdateAttempt(**given)


def a_change_of_trust(**changes) -> TrustAttempt:
    """RECIPIENT makes rules for the first time."""
    return TrustAttempt(**{"rules": TrustRules(), "draft": TrustRules(), **changes})


def a_vault(**changes) -> Vault:
    """A server backup vault that holds the two disks of `a_full_ecs_image`, and no byte more."""
    return Vault(**{"id": "vault-1", "type": VaultType.SERVER_BACKUP, "capacity_gib": 4, **changes})


def an_acceptance(**changes) -> AcceptAttempt:
    """RECIPIENT accepts a full-ECS image where there is a backup provider, and names a vault."""
    given = {
        "caller": a_caller(RECIPIENT),
        "image": a_full_ecs_image(),
        "share": a_share(),
        "backup_provider_exists": True,
        "vault": a_vault(),
        **changes,
    }
    return AcceptAttempt(**given)


# --- bytes ---


def an_upload(**changes) -> UploadAttempt:
    """OWNER begins to upload the disk of an image from a file."""
    given = {
        "caller": a_caller(),
        "image": a_draft(),
        "disk_index": 0,
        "announced": Announcement(size_bytes=1000),
        "upload_id": "an-upload",
        "max_file_bytes": 128 * GIB,
        "allowance": an_allowance(),
        "key_usable": False,
        **changes,
    }
    return UploadAttempt(**given)


def an_arrival(**changes) -> Arrival:
    given = {
        "announced": Announcement(size_bytes=1000),
        "received_bytes": 1000,
        "max_file_bytes": 128 * GIB,
        **changes,
    }
    return Arrival(**given)


def a_report(**changes) -> DiskFileReport:
    given = {"format": DiskFormat.QCOW2, "described_as": "QCOW2", "capacity_bytes": 2 * GIB, **changes}
    return DiskFileReport(**given)


def an_arrived_file(**changes) -> ArrivedFile:
    """The 1000 announced bytes of `a_disk` are here, and are what they were said to be."""
    disk = changes.pop("disk", a_disk())
    given = {
        "draft": an_image(disks=(disk,)),
        "disk": disk,
        "announced": Announcement(size_bytes=1000, sha256=SHA256),
        "report": a_report(),
        **changes,
    }
    return ArrivedFile(**given)


def a_download(**changes) -> DownloadAttempt:
    """OWNER reads the disk of its image from the beginning."""
    given = {
        "caller": a_caller(),
        "image": an_image(),
        "disk_index": 0,
        "offset_bytes": 0,
        "key_usable": False,
        **changes,
    }
    return DownloadAttempt(**given)


def a_direct_download(**changes) -> DirectDownloadAttempt:
    """OWNER wants to read the disk of its image from a store that lets it."""
    given = {
        "caller": a_caller(),
        "image": an_image(),
        "disk_index": 0,
        "key_usable": True,
        "store_gives_urls": True,
        **changes,
    }
    return DirectDownloadAttempt(**given)


def a_started_upload(**changes) -> Upload:
    given = {
        "blob_key": BlobKey("an-upload"),
        "image_id": ImageId("an-image"),
        "disk_index": 0,
        "size_bytes": 1000,
        "sha256": SHA256,
        **changes,
    }
    return Upload(**given)


def a_found_upload(**changes) -> FoundUpload:
    """OWNER goes on with the upload of its image's disk."""
    given = {
        "caller": a_caller(),
        "image": a_draft(),
        "disk_index": 0,
        "upload": a_started_upload(),
        "key_usable": False,
        **changes,
    }
    return FoundUpload(**given)


def a_progress(**changes) -> Progress:
    """An upload that has come half the way."""
    given = {
        "upload": a_started_upload(),
        "received_bytes": 500,
        "offset_bytes": 500,
        **changes,
    }
    return Progress(**given)


# --- knowing of images, and using them ---


def a_look_at_quotas(**changes) -> QuotaAttempt:
    """An administrator asks for a tenant's quotas."""
    return QuotaAttempt(**{"caller": a_caller(STRANGER, Role.ADMIN), **changes})


def a_governance(**changes) -> Governance:
    """An administrator sees or changes what holds of tenants."""
    return Governance(**{"caller": a_caller(STRANGER, Role.ADMIN), **changes})


def a_registered_tenant(**changes) -> RegisteredTenant:
    """RECIPIENT, as the directory has it."""
    tenant = RegisteredTenant(id=RECIPIENT, region=HOME, register_time=A_MOMENT)
    return replace(tenant, **changes)


def a_look_at_a_tenant(**changes) -> TenantAttempt:
    """An administrator looks at what the directory says of RECIPIENT."""
    given = {
        "caller": a_caller(STRANGER, Role.ADMIN),
        "tenant_id": RECIPIENT,
        "found": a_registered_tenant(),
        **changes,
    }
    return TenantAttempt(**given)


def a_registration_of_a_tenant(**changes) -> RegistrationOfTenant:
    """An administrator registers RECIPIENT, whom the directory does not name yet."""
    given = {
        "caller": a_caller(STRANGER, Role.ADMIN),
        "tenant_id": RECIPIENT,
        "region": HOME,
        "found": None,
        **changes,
    }
    return RegistrationOfTenant(**given)


def an_audit_query(**changes) -> AuditQuery:
    """OWNER asks who did what to its own."""
    return AuditQuery(**{"caller": a_caller(), "tenant_id": OWNER, **changes})


def a_sight(**changes) -> Sight:
    """OWNER looks for its own image."""
    return Sight(**{"caller": a_caller(), "view": a_view(), "now": A_MOMENT, **changes})


def a_query(*problems: FieldProblem) -> Query:
    return Query(problems)


def a_repeatable_call(**changes) -> RepeatableCall:
    """OWNER creates an image, and gives the call an id."""
    call = RepeatableCall(
        tenant_id=OWNER, request_id="a-request", method="CreateImage", digest=b"digest"
    )
    return replace(call, **changes)


def a_repetition(**changes) -> Repetition:
    """OWNER repeats the creation of an image, or something else with its id."""
    earlier = RememberedCall(method="CreateImage", digest=b"digest", answer=b"answer")
    return Repetition(call=a_repeatable_call(**changes), earlier=earlier)


def a_representation(**changes) -> Representation:
    """OWNER acts for itself."""
    return Representation(**{"caller": a_caller(), "tenant_id": OWNER, **changes})


def a_use(purpose: Purpose = Purpose.CREATE_ECS, *, image: Image | None = None, **use) -> UseAttempt:
    """OWNER uses an image in its own region."""
    key_usable = use.pop("key_usable", False)
    return UseAttempt(
        caller=a_caller(),
        image=image or an_image(),
        use=Use(**{"purpose": purpose, "region": HOME, **use}),
        key_usable=key_usable,
    )


def a_registration(**changes) -> RegistrationAttempt:
    """OWNER makes the first server from an image of its own."""
    given = {
        "caller": a_caller(),
        "image": an_image(),
        "known": False,
        "use_count": 0,
        "use_limit": 10_000,
        **changes,
    }
    return RegistrationAttempt(**given)
