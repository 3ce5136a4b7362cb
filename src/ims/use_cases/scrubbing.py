"""The story of bytes that are read again, so that damage is found before somebody needs them."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from ims.domain.audit import Action
from ims.domain.image import Disk, DiskState, Image, ImageId
from ims.domain.rejection import Reason, Rejection
from ims.domain.tenant import NOBODY
from ims.repository.database import Transaction
from ims.use_cases.deployment import Deployment, in_one_transaction
from ims.use_cases.downloads import blobs_for_reading
from ims.use_cases.trail import record_image

SCRUB: Final = "scrub"
_PIECE_BYTES: Final = 1024**2
_RESTING: Final = "between two rounds"
"""Who holds the duty while nobody has to do it."""

Pause = Callable[[int], bool]
"""Is told how many bytes were read, waits as long as that may take, and tells whether to go on."""


@dataclass(frozen=True, kw_only=True)
class Scrubbed:
    """What was looked at, of one image."""

    image_id: ImageId
    damaged: tuple[int, ...] = ()
    """The disks that are found to be damaged by now."""
    mended: tuple[int, ...] = ()
    """Those that had been, and are as they should be."""

    @property
    def anything(self) -> bool:
        return bool(self.damaged or self.mended)


def scrub(deployment: Deployment, holder: str, pause: Pause, *, rest: timedelta) -> Scrubbed | None:
    """Read the stored bytes of the next image, and mark the disks whose bytes are not what they were.

    One instance does it at a time, image by image in the order of their ids; after the last one all
    rest, and then it begins with the first. None when there is nothing to do just now.
    """
    place = _claim(deployment, holder)
    if place is None:
        return None
    with deployment.database.reading() as reading:
        batch = reading.images.batch(after=place, size=1)
    if not batch:
        _rest(deployment, holder, rest)
        return None
    (image,) = batch
    try:
        # A look counts as a piece: images without bytes, or whose bytes are gone, take their time too.
        _go_on(pause, _PIECE_BYTES)
        found = {
            disk.index: whole
            for disk in image.disks
            if disk.state is DiskState.STORED
            and (whole := _is_whole(deployment, image, disk, holder, pause)) is not None
        }
    except _Stopped:
        return None
    scrubbed = _mark(deployment, image, found)
    with deployment.database.transaction() as tx:
        tx.duties.come_to(SCRUB, holder, image.id)
    return scrubbed


def _claim(deployment: Deployment, holder: str) -> str | None:
    """Take the duty, or hold it for longer; return where it has come to, None when others have it."""
    now = deployment.now()
    with deployment.database.transaction() as tx:
        if not tx.duties.claim(SCRUB, holder, now=now, until=now + deployment.upload_lease):
            return None
        return tx.duties.place(SCRUB)


def _rest(deployment: Deployment, holder: str, rest: timedelta) -> None:
    now = deployment.now()
    with deployment.database.transaction() as tx:
        tx.duties.come_to(SCRUB, holder, "")
        tx.duties.release(SCRUB, holder)
        tx.duties.claim(SCRUB, _RESTING, now=now, until=now + rest)


class _Stopped(Exception):
    """The image has not been read to its end: whoever has the duty next begins with it."""


def _go_on(pause: Pause, read_bytes: int) -> None:
    """Wait as long as has to be waited. Raises _Stopped."""
    if not pause(read_bytes):
        raise _Stopped


def _is_whole(
    deployment: Deployment, image: Image, disk: Disk, holder: str, pause: Pause
) -> bool | None:
    """Whether a disk's bytes are what was stored; None where that cannot be told just now.

    Raises _Stopped.
    """
    sha256 = hashlib.sha256()
    held_until = deployment.now() + deployment.upload_lease / 2
    try:
        for piece in _pieces(deployment, image, disk):
            sha256.update(piece)
            _go_on(pause, len(piece))
            if deployment.now() > held_until:
                if _claim(deployment, holder) is None:
                    raise _Stopped
                held_until = deployment.now() + deployment.upload_lease / 2
    except Rejection as rejection:
        # A key or a store that is away says nothing about the bytes.
        return False if rejection.reason is Reason.DISK_DATA_DAMAGED else None
    return sha256.hexdigest() == disk.sha256


def _pieces(deployment: Deployment, image: Image, disk: Disk) -> Iterator[bytes]:
    return blobs_for_reading(deployment, image, disk).read(
        disk.blob_key, offset_bytes=0, length_bytes=disk.size_bytes, chunk_bytes=_PIECE_BYTES
    )


def _mark(deployment: Deployment, image: Image, found: dict[int, bool]) -> Scrubbed:
    """Mark what has changed; what is as it was before costs no transaction."""
    if all(image.disks[index].damaged is not whole for index, whole in found.items()):
        return Scrubbed(image_id=image.id)
    return _mark_locked(deployment, image, found)


@in_one_transaction
def _mark_locked(
    deployment: Deployment, tx: Transaction, image: Image, found: dict[int, bool]
) -> Scrubbed:
    view = tx.images.lock(image.id, NOBODY, now=deployment.now, governing=True)
    if view is None:
        return Scrubbed(image_id=image.id)  # purged meanwhile, and its bytes with it
    changed = {
        index: replace(disk, damaged=not whole)
        for index, whole in found.items()
        if (disk := view.image.disks[index]).damaged is whole
        and disk.blob_key == image.disks[index].blob_key
    }
    if not changed:
        return Scrubbed(image_id=image.id)
    disks = tuple(changed.get(disk.index, disk) for disk in view.image.disks)
    saved = tx.images.save(replace(view.image, disks=disks), now=deployment.now())
    damaged = tuple(index for index, disk in changed.items() if disk.damaged)
    mended = tuple(index for index, disk in changed.items() if not disk.damaged)
    record_image(
        deployment,
        tx,
        Action.CHECK_IMAGE_DATA,
        by=None,
        before=view.image,
        after=saved,
        details={"damagedDisks": damaged, "mendedDisks": mended},
    )
    return Scrubbed(image_id=image.id, damaged=damaged, mended=mended)
