"""Images in every situation, straight into the catalogue, and a valid request of every RPC."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from builders import ELSEWHERE, HOME, OWNER, a_registered_use, a_share, an_accepted_share, an_image
from calling import ALL_METHODS, request_class, upload_messages, write_messages
from ims.domain.image import BlobKey, ImageState
from ims.domain.share import ShareStatus
from ims.domain.tenant import RegisteredTenant, TenantId
from ims.domain.trust import TrustRules
from ims.use_cases.deployment import Deployment
from ims.v1 import upload_pb2

PRIVATE, SHARED, PUBLIC = "private", "shared", "public"
DEACTIVATED, DELETED, NEVER_EXISTED = "deactivated", "deleted", "never existed"
SITUATIONS = (PRIVATE, SHARED, PUBLIC, DEACTIVATED, DELETED, NEVER_EXISTED)

ACCEPTED, PENDING, REJECTED = TenantId("accepted"), TenantId("pending"), TenantId("rejected")
EXPIRED = TenantId("expired")
"""Had accepted what has ended by itself since."""
BLOCKING = TenantId("blocking")
"""Has blocked OWNER, whose share is pending."""
_SHARES = {
    ACCEPTED: ShareStatus.ACCEPTED,
    PENDING: ShareStatus.PENDING,
    REJECTED: ShareStatus.REJECTED,
}

A_NEVER_GIVEN_ID = "99999999-9999-4999-8999-999999999999"

A_FAR_DAY = {"seconds": int(datetime(2100, 1, 1, tzinfo=UTC).timestamp())}
A_PEER = TenantId("ims.eu-nl")
"""The service of another region."""
REGISTERED = TenantId("registered")
"""Whom requests about a tenant are about."""

_numbers = count(1)


def an_image_that_is(situation: str, deployment: Deployment) -> str:
    """Put OWNER's image into the catalogue and return its id.

    What is deactivated or deleted was shared, with a tenant for each status, and with two who do not see
    it.
    """
    if situation == NEVER_EXISTED:
        return A_NEVER_GIVEN_ID
    changes: dict[str, Any] = {"public": situation == PUBLIC}
    if situation == DEACTIVATED:
        changes["state"] = ImageState.DEACTIVATED
    if situation == DELETED:
        now = deployment.now()
        changes |= {
            "state": ImageState.DELETED,
            "state_before_deletion": ImageState.ACTIVE,
            "delete_time": now,
            "purge_time": now + timedelta(days=7),
        }
    image = an_image(**changes)
    with deployment.database.transaction() as tx:
        tx.images.add(image)
        if situation in {SHARED, DEACTIVATED, DELETED}:
            tx.shares.add(
                a_share(image_id=image.id, tenant_id=tenant, status=status)
                for tenant, status in _SHARES.items()
            )
            tx.shares.add(
                (
                    an_accepted_share(
                        image_id=image.id, tenant_id=EXPIRED, expire_time=deployment.now()
                    ),
                    a_share(image_id=image.id, tenant_id=BLOCKING),
                )
            )
            if not tx.trust.rules(BLOCKING).version:
                tx.trust.save(BLOCKING, TrustRules(blocked=(OWNER,), version=1), home=HOME)
    return image.id


def register_the_owners_use(deployment: Deployment, image_id: str) -> None:
    """Have OWNER make a volume, called `the-volume`, from an image that is there."""
    with deployment.database.transaction() as tx:
        tx.uses.add(a_registered_use(image_id=image_id))


def put_into_the_directory(
    deployment: Deployment, tenant_id: str = REGISTERED, **changes: Any
) -> RegisteredTenant:
    """Have the directory name a tenant, at home here unless said otherwise."""
    given = {"id": tenant_id, "region": HOME, "register_time": deployment.now(), **changes}
    tenant = RegisteredTenant(**given)
    with deployment.database.transaction() as tx:
        tx.tenants.save(tenant)
    return tenant


def store_the_bytes_of_every_image(deployment: Deployment) -> None:
    """Give the builders' images the bytes that their disk names."""
    writer = deployment.blobs.open_writer(BlobKey("a-blob"))
    writer.write(bytes(1000))
    writer.commit()


def fields_of(rpc: str, image_id: str) -> dict[str, Any]:
    """Return the fields of a valid request about an image; what is not about one has new names in it."""
    number = next(_numbers)
    return {
        "CreateImage": {"name": f"new-{number}", "type": "SYSTEM_DISK", "disks": [{"format": "RAW"}]},
        "GetImage": {"image_id": image_id},
        "ListImages": {},
        "UpdateImage": {
            "image_id": image_id,
            "image": {"name": f"renamed-{number}"},
            "update_mask": {"paths": ["name"]},
        },
        "DeleteImage": {"image_id": image_id},
        "UndeleteImage": {"image_id": image_id},
        "DeactivateImage": {"image_id": image_id},
        "ReactivateImage": {"image_id": image_id},
        "UploadImageData": {"start": {"image_id": image_id, "size_bytes": 4}},
        "DownloadImageData": {"image_id": image_id},
        "CreateDownloadUrl": {"image_id": image_id},
        "ResolveImage": {"image_id": image_id, "purpose": "CREATE_ECS"},
        "GetQuotas": {},
        "ImportImage": {"image_id": image_id, "url": "https://images.example.org/disk.raw"},
        "CopyImage": {"image_id": image_id, "name": f"copy-{number}"},
        "ExportImage": {"image_id": image_id, "bucket": "exports", "object_key": f"object-{number}"},
        "CopyImageToRegion": {"image_id": image_id, "region": ELSEWHERE},
        "DiscardImage": {"image_id": image_id},
        "ShareImage": {"image_id": image_id, "recipients": [{"tenant_id": "newcomer"}]},
        "UnshareImage": {"image_id": image_id, "all_tenants": True},
        "UpdateShare": {
            "image_id": image_id,
            "tenant_id": ACCEPTED,
            "share": {"expire_time": A_FAR_DAY},
            "update_mask": {"paths": ["expire_time"]},
        },
        "GetShare": {"image_id": image_id},
        "ListShares": {"image_id": image_id},
        "ListReceivedShares": {},
        "AcceptShare": {"image_id": image_id},
        "RejectShare": {"image_id": image_id},
        "LeaveShare": {"image_id": image_id},
        "GetTrustRules": {},
        "SetTrustRules": {
            "rules": {"max_pending_shares": 1000},
            "update_mask": {"paths": ["max_pending_shares"]},
        },
        "PublishImage": {"image_id": image_id},
        "UnpublishImage": {"image_id": image_id},
        "GetTenantQuotas": {"tenant_id": OWNER},
        "SetTenantQuotas": {
            "tenant_id": OWNER,
            "limits": {"creations": 41},
            "update_mask": {"paths": ["creations"]},
        },
        "RegisterTenant": {"tenant_id": f"tenant-{number}", "region": HOME},
        "UpdateTenant": {
            "tenant_id": REGISTERED,
            "tenant": {"region": "elsewhere"},
            "update_mask": {"paths": ["region"]},
        },
        "SuspendTenant": {"tenant_id": REGISTERED},
        "ResumeTenant": {"tenant_id": REGISTERED},
        "GetTenant": {"tenant_id": REGISTERED},
        "ListTenants": {},
        "GetSharingPolicy": {},
        "SetSharingPolicy": {"policy": {"new_shares_blocked": False}},
        "DeactivateTenantImage": {"image_id": image_id},
        "ReactivateTenantImage": {"image_id": image_id},
        "RegisterUse": {"image_id": image_id, "kind": "ECS", "consumer_id": f"server-{number}"},
        "ReleaseUse": {"image_id": image_id, "kind": "VOLUME", "consumer_id": "the-volume"},
        "ListUses": {"image_id": image_id},
        "GetUsage": {"image_id": image_id},
        "StartUpload": {"image_id": image_id, "size_bytes": 4, "sha256": "00" * 32},
        "WriteUpload": {"start": {"image_id": image_id, "upload_id": A_NEVER_GIVEN_ID}},
        "CreatePartUrls": {"image_id": image_id, "upload_id": A_NEVER_GIVEN_ID},
        "GetUpload": {"image_id": image_id, "upload_id": A_NEVER_GIVEN_ID},
        "FinishUpload": {"image_id": image_id, "upload_id": A_NEVER_GIVEN_ID},
        "AbortUpload": {"image_id": image_id, "upload_id": A_NEVER_GIVEN_ID},
        "ListAuditEvents": {"filter": {"image_id": image_id}},
        "ExportAuditEvents": {"filter": {"image_id": image_id}},
        "ListOperations": {},
        "GetOperation": {"name": f"operations/{image_id}"},
        "DeleteOperation": {"name": f"operations/{image_id}"},
        "CancelOperation": {"name": f"operations/{image_id}"},
        "WaitOperation": {"name": f"operations/{image_id}"},
    }[rpc]


def request_about(rpc: str, image_id: str, viewer: str | None = None) -> Any:
    """Return a valid request, or an iterator of them where a stream is taken."""
    fields = fields_of(rpc, image_id)
    if rpc == "GetShare" and viewer == OWNER:
        fields["tenant_id"] = ACCEPTED  # the owner has no share of its own to ask for
    if rpc == "UpdateShare" and viewer not in {None, OWNER}:
        fields["tenant_id"] = viewer  # of the shares of others it may not know
    return messages_of(rpc, request_class(rpc)(**fields))


def messages_of(rpc: str, request: Any) -> Any:
    """Return the request, or, where a stream is taken, it and four bytes behind it."""
    if not ALL_METHODS[rpc][1].client_streaming:
        return request
    of_an_upload = {"UploadImageData": upload_messages({}, b"four"), "WriteUpload": _WRITTEN}
    return _followed_by_bytes(request, of_an_upload[rpc])


_WRITTEN = tuple(write_messages(upload_pb2.Upload(), b"four"))


def _followed_by_bytes(start: Any, messages: Iterable[Any]) -> Iterator[Any]:
    _, *chunks = messages
    yield start
    yield from chunks
