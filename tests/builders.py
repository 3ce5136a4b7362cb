"""Things of the domain, valid by default; a test names only what it is about."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import count

from ims.domain.caller import Caller, Role
from ims.domain.image import (
    GIB,
    BlobKey,
    Disk,
    DiskFormat,
    DiskRole,
    DiskState,
    Image,
    ImageId,
    ImageState,
    ImageType,
    Relation,
    Source,
    SourceKind,
)
from ims.domain.registered_use import RegisteredUse, UseKey, UseKind
from ims.domain.share import Share, ShareStatus
from ims.domain.tenant import Region, Tenant, TenantId
from ims.domain.view import View

HOME = Region("eu-de")
ELSEWHERE = Region("eu-nl")
OWNER = TenantId("owner")
RECIPIENT = TenantId("recipient")
STRANGER = TenantId("stranger")
A_MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

_numbers = count(1)


def a_moment() -> datetime:
    """A clock that has stopped at A_MOMENT."""
    return A_MOMENT


def a_caller(tenant_id: str = OWNER, *roles: Role, region: str = HOME) -> Caller:
    """A member of its tenant, or a caller with exactly the roles that are named."""
    return Caller(
        tenant_id=TenantId(tenant_id), roles=frozenset(roles or {Role.MEMBER}), region=Region(region)
    )


def a_disk(**changes) -> Disk:
    disk = Disk(
        index=0,
        role=DiskRole.SYSTEM,
        format=DiskFormat.QCOW2,
        state=DiskState.STORED,
        capacity_bytes=2 * GIB,
        size_bytes=1000,
        sha256="0" * 64,
        blob_key=BlobKey("a-blob"),
    )
    return replace(disk, **changes)


def an_image(**changes) -> Image:
    """An ACTIVE private system-disk image of OWNER's, from a file."""
    number = next(_numbers)
    image = Image(
        id=ImageId(f"00000000-0000-4000-8000-{number:012}"),
        owner=OWNER,
        region=HOME,
        name=f"image-{number}",
        type=ImageType.SYSTEM_DISK,
        state=ImageState.ACTIVE,
        source=Source(kind=SourceKind.FILE),
        disks=(a_disk(),),
        min_disk_gib=2,
        create_time=A_MOMENT,
        update_time=A_MOMENT,
    )
    return replace(image, **changes)


def a_full_ecs_image(**changes) -> Image:
    """An ACTIVE full-ECS image from a CBR backup."""
    disks = (a_disk(), a_disk(index=1, role=DiskRole.DATA, blob_key=BlobKey("another-blob")))
    source = Source(kind=SourceKind.CBR_BACKUP, id="backup-1")
    return an_image(**{"type": ImageType.FULL_ECS, "source": source, "disks": disks, **changes})


def a_share(**changes) -> Share:
    """A PENDING share of RECIPIENT's."""
    share = Share(
        image_id=ImageId("00000000-0000-4000-8000-000000000000"),
        tenant_id=RECIPIENT,
        region=HOME,
        create_time=A_MOMENT,
        update_time=A_MOMENT,
    )
    return replace(share, **changes)


def an_accepted_share(**changes) -> Share:
    return a_share(**{"status": ShareStatus.ACCEPTED, **changes})


def a_registered_use(**changes) -> RegisteredUse:
    """A volume of OWNER's, called `the-volume`, that OWNER has registered."""
    key = {
        "image_id": ImageId("00000000-0000-4000-8000-000000000000"),
        "tenant_id": OWNER,
        "kind": UseKind.VOLUME,
        "consumer_id": "the-volume",
    }
    key |= {name: changes.pop(name) for name in key if name in changes}
    use = RegisteredUse(
        key=UseKey(**key),
        registered_by=key["tenant_id"],
        relation=Relation.SHARED_WITH_ME,
        create_time=A_MOMENT,
    )
    return replace(use, **changes)


def a_view(**changes) -> View:
    """An image of OWNER's as OWNER sees it."""
    return replace(View(image=an_image(), viewer=OWNER), **changes)


def a_tenant(tenant_id: str = RECIPIENT, region: str = HOME) -> Tenant:
    return Tenant(TenantId(tenant_id), Region(region))
