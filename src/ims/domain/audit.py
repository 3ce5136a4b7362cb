"""What is recorded of who did what: the audit trail."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from ims.domain.image import ImageId
from ims.domain.tenant import NOBODY, TenantId

DONE: Final = "OK"
"""The result of what was done; that of a refusal is its reason."""


class Action(StrEnum):
    """What changes something: the RPC's name, or what the service does by itself."""

    CREATE_IMAGE = "CreateImage"
    UPDATE_IMAGE = "UpdateImage"
    DELETE_IMAGE = "DeleteImage"
    UNDELETE_IMAGE = "UndeleteImage"
    DEACTIVATE_IMAGE = "DeactivateImage"
    REACTIVATE_IMAGE = "ReactivateImage"
    UPLOAD_IMAGE_DATA = "UploadImageData"
    START_UPLOAD = "StartUpload"
    FINISH_UPLOAD = "FinishUpload"
    ABORT_UPLOAD = "AbortUpload"
    COPY_IMAGE = "CopyImage"
    COPY_IMAGE_TO_REGION = "CopyImageToRegion"
    DISCARD_IMAGE = "DiscardImage"
    IMPORT_IMAGE = "ImportImage"
    EXPORT_IMAGE = "ExportImage"
    SHARE_IMAGE = "ShareImage"
    UPDATE_SHARE = "UpdateShare"
    UNSHARE_IMAGE = "UnshareImage"
    ACCEPT_SHARE = "AcceptShare"
    REJECT_SHARE = "RejectShare"
    LEAVE_SHARE = "LeaveShare"
    SET_TRUST_RULES = "SetTrustRules"
    PUBLISH_IMAGE = "PublishImage"
    UNPUBLISH_IMAGE = "UnpublishImage"
    DEACTIVATE_TENANT_IMAGE = "DeactivateTenantImage"
    REACTIVATE_TENANT_IMAGE = "ReactivateTenantImage"
    SET_TENANT_QUOTAS = "SetTenantQuotas"
    REGISTER_TENANT = "RegisterTenant"
    UPDATE_TENANT = "UpdateTenant"
    SUSPEND_TENANT = "SuspendTenant"
    RESUME_TENANT = "ResumeTenant"
    SET_SHARING_POLICY = "SetSharingPolicy"
    REGISTER_USE = "RegisterUse"
    RELEASE_USE = "ReleaseUse"
    # by the service itself
    ABANDON_UPLOAD = "AbandonUpload"
    CHECK_IMAGE_DATA = "CheckImageData"
    ABANDON_COPY = "AbandonCopy"
    ABANDON_IMPORT = "AbandonImport"
    ABANDON_EXPORT = "AbandonExport"
    EXPIRE_SHARE = "ExpireShare"
    PURGE_IMAGE = "PurgeImage"
    SUPPRESS_REFUSALS = "SuppressRefusals"


class ActorKind(StrEnum):
    """As what somebody acts."""

    TENANT = "TENANT"
    SERVICE = "SERVICE"
    """A compute, volume or backup service, or that of another region, for the tenant that it names."""
    ADMINISTRATOR = "ADMINISTRATOR"
    """Who runs the deployment, on what is another tenant's."""
    SYSTEM = "SYSTEM"
    """This service itself, without anybody's call."""


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Who did it."""

    kind: ActorKind
    tenant_id: TenantId = NOBODY
    user_id: str = ""
    acting_for: TenantId = NOBODY
    """The tenant on whose behalf a service acts."""


@dataclass(frozen=True, kw_only=True)
class AuditEvent:
    """One thing that happened, between an image's owner and one other tenant at the most."""

    id: str
    time: datetime
    action: str
    actor: Actor
    image_id: ImageId | None = None
    image_name: str = ""
    """As it was when this happened, or became by it."""
    image_owner: TenantId = NOBODY
    counterpart: TenantId = NOBODY
    """The tenant that it is about beside the owner: the share's, the use's, the quotas'."""
    request_id: str = ""
    """What the client called its call."""
    call_id: str = ""
    """What the log calls it."""
    result: str = DONE
    details: Mapping[str, str] = field(default_factory=dict)
    """What it changed: states, names of fields and numbers, and never what is in them."""

    def as_seen_by(self, viewer: TenantId) -> "AuditEvent":
        """Return what a tenant may know of it: not which of another tenant's users acted, nor how."""
        if viewer == self.actor.tenant_id:
            return self
        named = self.actor.kind is not ActorKind.ADMINISTRATOR
        actor = replace(self.actor, user_id="", tenant_id=self.actor.tenant_id if named else NOBODY)
        return replace(self, actor=actor, request_id="", call_id="")


@dataclass(frozen=True, kw_only=True)
class AuditFilter:
    """What a listing of events lets through; what is left out lets everything through."""

    image_id: ImageId | None = None
    action: str = ""
    actor_tenant: TenantId | None = None
    counterpart: TenantId | None = None
    result: str = ""
    time_from: datetime | None = None
    time_before: datetime | None = None
