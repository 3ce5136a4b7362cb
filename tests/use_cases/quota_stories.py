"""What the tests of quotas tell again and again."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from builders import OWNER, a_caller, an_image
from ims.domain.image import Disk, DiskFormat, DiskRole, Image, ImageId, ImageState
from ims.domain.quotas import OwnLimits, Usage
from ims.domain.tenant import TenantId
from ims.rules.image_data import Announcement
from ims.use_cases.deployment import Deployment
from ims.use_cases.image_data import upload_image_data
from ims.use_cases.images import create_image

CONTENT = b"bytes of a disk " * 64
SIZE = len(CONTENT)
PATIENCE_SECONDS = 60


def a_draft(owner: TenantId = OWNER, **changes) -> Image:
    """An image as its owner asks for it."""
    empty = Disk(index=0, role=DiskRole.SYSTEM, format=DiskFormat.RAW)
    given = {"owner": owner, "state": ImageState.QUEUED, "disks": (empty,), "min_disk_gib": 0}
    return an_image(**given | changes)


def create(
    deployment: Deployment, owner: TenantId = OWNER, *, name: str | None = None, **details
) -> ImageId:
    draft = a_draft(owner, **({"name": name} if name else {}))
    view = create_image(deployment, caller=a_caller(owner), draft=draft, **details)
    return view.image.id


def upload(
    deployment: Deployment,
    image_id: ImageId,
    chunks: Iterator[bytes] | None = None,
    *,
    owner: TenantId = OWNER,
    size_bytes: int = SIZE,
) -> None:
    upload_image_data(
        deployment,
        caller=a_caller(owner),
        image_id=image_id,
        disk_index=0,
        announced=Announcement(size_bytes=size_bytes),
        chunks=iter([CONTENT]) if chunks is None else chunks,
    )


def an_active_image(deployment: Deployment, owner: TenantId = OWNER) -> ImageId:
    image_id = create(deployment, owner)
    upload(deployment, image_id, owner=owner)
    return image_id


def limit(deployment: Deployment, owner: TenantId = OWNER, **limits: int) -> None:
    with deployment.database.transaction() as tx:
        tx.tenants.lock(owner)
        tx.tenants.limit(owner, OwnLimits(**limits))


def used(deployment: Deployment, owner: TenantId = OWNER) -> Usage:
    """Return what the counters say."""
    with deployment.database.reading() as reading:
        return reading.tenants.account(owner).used


def recount(deployment: Deployment, owner: TenantId = OWNER) -> Usage:
    """Return what the images say, by another way than the service's own."""
    with deployment.database.reading() as reading:
        images = reading.images.batch(after="", size=10_000, owner=owner)
    return Usage(
        private_images=len([each for each in images if not each.public and each.purge_time is None]),
        stored_bytes=sum(
            disk.size_bytes + (disk.announced_bytes if disk.upload_id else 0)
            for each in images
            for disk in each.disks
        ),
        creations=len([each for each in images if any(disk.upload_id for disk in each.disks)]),
    )


@contextmanager
def held_upload(
    deployment: Deployment, image_id: ImageId, *, size_bytes: int = SIZE, ending: bytes = CONTENT
) -> Iterator[threading.Event]:
    """Have an upload running for the block; it ends, and ends well unless told otherwise, after it."""
    begun, go_on = threading.Event(), threading.Event()

    def chunks() -> Iterator[bytes]:
        begun.set()
        go_on.wait(PATIENCE_SECONDS)
        yield ending

    def run() -> None:
        upload(deployment, image_id, chunks(), size_bytes=size_bytes)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert begun.wait(PATIENCE_SECONDS)
        yield go_on
    finally:
        go_on.set()
        thread.join(PATIENCE_SECONDS)
