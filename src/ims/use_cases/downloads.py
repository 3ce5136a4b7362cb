"""The story of bytes that are read: through the service, or at a URL of their store (law 7.7)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ims.blob_store.interface import BlobStore
from ims.blob_store.sealed import SealedBlobs
from ims.domain.caller import Caller
from ims.domain.image import Disk, Image, ImageId
from ims.domain.rejection import Problems, Rejection
from ims.domain.tenant import TenantId
from ims.rules.engine import enforce
from ims.rules.image_data import (
    CREATE_DOWNLOAD_URL,
    DOWNLOAD_IMAGE_DATA,
    DirectDownloadAttempt,
    DownloadAttempt,
)
from ims.use_cases.deployment import (
    Deployment,
    key_is_usable,
    refuse_suspended,
    representing,
    see,
)


@dataclass(frozen=True, kw_only=True)
class Download:
    """A part of a disk's bytes, on their way."""

    disk: Disk
    offset_bytes: int
    length_bytes: int
    chunks: Iterator[bytes]


def download_image_data(
    deployment: Deployment,
    *,
    caller: Caller,
    image_id: ImageId,
    disk_index: int,
    offset_bytes: int = 0,
    length_bytes: int = 0,
    tenant_id: TenantId | None = None,
    problems: Problems = (),
) -> Download:
    """Open the bytes of a disk from an offset on, `length_bytes` of them or (0) all to the end.

    The chunks come out only as long as the tenant may read them: each is judged anew.
    """
    with deployment.database.reading() as reading:
        reader = representing(reading, caller, tenant_id)
        view = see(deployment, reading, reader, image_id)
    attempt = DownloadAttempt(
        caller=reader,
        image=view.image,
        share=view.share,
        disk_index=disk_index,
        offset_bytes=offset_bytes,
        key_usable=key_is_usable(deployment, view.image),
        problems=problems,
    )
    enforce(DOWNLOAD_IMAGE_DATA, attempt)
    disk = view.image.disks[disk_index]
    rest = disk.size_bytes - offset_bytes
    length = min(length_bytes, rest) if length_bytes else rest
    return Download(
        disk=disk,
        offset_bytes=offset_bytes,
        length_bytes=length,
        chunks=_while_allowed(
            deployment, caller, attempt, _open(deployment, caller, attempt, disk, length)
        ),
    )


def _open(
    deployment: Deployment, caller: Caller, attempt: DownloadAttempt, disk: Disk, length_bytes: int
) -> Iterator[bytes]:
    try:
        return blobs_for_reading(deployment, attempt.image, disk).read(
            disk.blob_key,
            offset_bytes=attempt.offset_bytes,
            length_bytes=length_bytes,
            chunk_bytes=deployment.chunk_bytes,
        )
    except Rejection:
        # The bytes may be missing because the image was purged this very moment: say so, then.
        _judge_again(deployment, caller, attempt)
        raise


def _while_allowed(
    deployment: Deployment, caller: Caller, attempt: DownloadAttempt, chunks: Iterator[bytes]
) -> Iterator[bytes]:
    for chunk in chunks:
        # After reading and just before sending: what is revoked while the disk is busy is not sent.
        _judge_again(deployment, caller, attempt)
        yield chunk


def _judge_again(deployment: Deployment, caller: Caller, attempt: DownloadAttempt) -> None:
    reader, service = attempt.caller.tenant_id, caller.tenant_id
    with deployment.database.reading() as reading:
        may_be_read = reading.images.may_be_read(
            attempt.image.id, reader, caller=service, now=deployment.now()
        )
        # An image's key is never another one; whether it is usable may change at any time.
        if may_be_read and key_is_usable(deployment, attempt.image):
            return
        if service != reader:
            refuse_suspended(reading, service)
        view = see(deployment, reading, attempt.caller, attempt.image.id)
    key_usable = key_is_usable(deployment, view.image)
    again = replace(attempt, image=view.image, share=view.share, key_usable=key_usable)
    enforce(DOWNLOAD_IMAGE_DATA, again)


def blobs_for_reading(deployment: Deployment, image: Image, disk: Disk) -> BlobStore:
    """Return where to read a disk's bytes. Raises Rejection KEY_UNAVAILABLE."""
    if image.encryption_key_id is None:
        return deployment.blobs
    data_key = deployment.keys.unwrap(
        image.encryption_key_id, disk.wrapped_data_key, context=disk.blob_key
    )
    return SealedBlobs(deployment.blobs, data_key, disk.seal_runs)


@dataclass(frozen=True, kw_only=True)
class DownloadUrl:
    """Where a disk's bytes are read without the service."""

    url: str
    expire_time: datetime
    disk: Disk


def create_download_url(
    deployment: Deployment,
    *,
    caller: Caller,
    image_id: ImageId,
    disk_index: int,
    valid: timedelta,
    tenant_id: TenantId | None = None,
    problems: Problems = (),
) -> DownloadUrl:
    """Return a URL of a disk's bytes, good for so long or for as long as the deployment allows.

    Until it ends, nothing that becomes of the image or of a share takes it back.
    """
    with deployment.database.reading() as reading:
        reader = representing(reading, caller, tenant_id)
        view = see(deployment, reading, reader, image_id)
    attempt = DirectDownloadAttempt(
        caller=reader,
        image=view.image,
        share=view.share,
        disk_index=disk_index,
        key_usable=key_is_usable(deployment, view.image),
        store_gives_urls=deployment.urls is not None,
        problems=problems,
    )
    enforce(CREATE_DOWNLOAD_URL, attempt)
    assert deployment.urls is not None  # or the rule would have been broken
    disk = view.image.disks[disk_index]
    lasting = min(valid, deployment.longest_url)
    expire_time = deployment.now() + lasting
    url = deployment.urls.download_url(
        disk.blob_key,
        valid_seconds=int(lasting.total_seconds()),
        file_name=f"{view.image.name}-{disk.index}.{disk.format.lower()}",
    )
    return DownloadUrl(url=url, expire_time=expire_time, disk=disk)
