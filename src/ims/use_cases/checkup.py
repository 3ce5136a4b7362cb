"""The story of a checkup: what in a catalogue and its blobs does not fit together, and its repair.

It runs beside services that are at work. So a check first looks without holding anybody up, and what it
suspects it looks at again under the locks of those who change such things; only what is wrong then is a
finding. What is on its way somewhere, such as a running upload, is none.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Final

from ims.blob_store.sealed import sealed_bytes
from ims.domain.image import BlobKey, Disk, DiskState, Image, ImageId, ImageState, SourceKind
from ims.domain.operation import OperationId
from ims.domain.quotas import NOTHING, Usage, usage_of
from ims.domain.rejection import Reason, Rejection
from ims.domain.tenant import NOBODY, TenantId
from ims.repository.database import Transaction
from ims.use_cases.copying import discard_copy
from ims.use_cases.deployment import Deployment, in_one_transaction
from ims.use_cases.image_data import give_up_dead_upload, give_up_upload
from ims.use_cases.images import purge_image
from ims.use_cases.operations import forget_operations
from ims.use_cases.requests import forget_requests
from ims.use_cases.sharing import remove_ended_shares_of

_BATCH: Final = 500


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that does not fit."""

    check: str
    """The check that found it."""
    subject: str
    message: str
    mend: Callable[[], object] | None = None
    """Mends it; None where nothing can."""


Check = Callable[[Deployment, timedelta], Iterator[Finding]]
"""Finds what is wrong in one way; what is younger than so long is left to the service at work."""


def check_up(deployment: Deployment, *, settled: timedelta) -> Iterator[Finding]:
    """Yield all findings of all checks, one after the other: each can be mended before the next."""
    for check in CHECKS:
        yield from check(deployment, settled)


# --- Counters ---


def tenants_use_what_their_images_take(deployment: Deployment, _settled: timedelta) -> Iterator[Finding]:
    """Find the counters of a tenant that are not what a recount of its images says."""
    taken: dict[TenantId, Usage] = {}
    for image in _images(deployment):
        taken[image.owner] = taken.get(image.owner, NOTHING) + usage_of(image)
    for tenant_id, used in _used(deployment):
        if used == taken.pop(tenant_id, NOTHING):
            continue
        taken[tenant_id] = used  # suspected: perhaps only somebody was faster than the count
    for tenant_id in sorted(taken):
        counted = _recount(deployment, tenant_id)
        if counted is not None:
            said, there = map(_in_words, counted)
            yield Finding(
                check=tenants_use_what_their_images_take.__name__,
                subject=f"tenant {tenant_id}",
                message=f"The counters say {said}; its images take {there}.",
                mend=partial(_recount, deployment, tenant_id, mend=True),
            )


def _recount(
    deployment: Deployment, tenant_id: TenantId, *, mend: bool = False
) -> tuple[Usage, Usage] | None:
    """Return what the counters say and what there is, where they differ; nobody changes it meanwhile."""
    # However many images there are.
    with deployment.database.unhurried():
        return _recount_locked(deployment, tenant_id, mend=mend)


@in_one_transaction
def _recount_locked(
    deployment: Deployment,  # noqa: ARG001 - what every story begins with
    tx: Transaction,
    tenant_id: TenantId,
    *,
    mend: bool,
) -> tuple[Usage, Usage] | None:
    used = tx.tenants.lock(tenant_id).used
    taken = NOTHING
    for image in _images_of(tx, tenant_id):
        taken += usage_of(image)
    if used == taken:
        return None
    if mend:
        tx.tenants.recounted(tenant_id, taken)
    return used, taken


def _used(deployment: Deployment) -> Iterator[tuple[TenantId, Usage]]:
    after = ""
    while True:
        with deployment.database.reading() as reading:
            batch = reading.tenants.batch(after=after, size=_BATCH)
        if not batch:
            return
        yield from batch.items()
        after = max(batch)


def _in_words(usage: Usage) -> str:
    return (
        f"{usage.private_images} private images, {usage.stored_bytes} bytes, "
        f"{usage.creations} creations and {usage.copies} copies"
    )


def shared_blobs_are_counted_as_they_are_named(
    deployment: Deployment, _settled: timedelta
) -> Iterator[Finding]:
    """Find blobs of which the catalogue says that more, or fewer, disks name them than do."""
    named: dict[BlobKey, int] = {}
    for image in _images(deployment):
        for blob_key in _blob_keys_of(image):
            named[blob_key] = named.get(blob_key, 0) + 1
    counted = dict(_counted(deployment))
    suspected = {key for key, count in named.items() if counted.get(key, 1) != count}
    suspected |= counted.keys() - named.keys()
    for blob_key in sorted(suspected):
        found = _recount_blob(deployment, blob_key)
        if found is not None:
            said, there = found
            yield Finding(
                check=shared_blobs_are_counted_as_they_are_named.__name__,
                subject=f"blob {blob_key}",
                message=f"It is counted as named by {said}; {there} disks name it.",
                mend=partial(_recount_blob, deployment, blob_key, mend=True),
            )


def _recount_blob(
    deployment: Deployment, blob_key: BlobKey, *, mend: bool = False
) -> tuple[int, int] | None:
    with deployment.database.unhurried():
        return _recount_blob_locked(deployment, blob_key, mend=mend)


@in_one_transaction
def _recount_blob_locked(
    deployment: Deployment, tx: Transaction, blob_key: BlobKey, *, mend: bool
) -> tuple[int, int] | None:
    """Return what is counted and how many disks name a blob, where they differ."""
    # Whoever has one disk more, or one less, name it holds the lock of an image that does.
    for image_id in _naming(tx, blob_key):
        tx.images.lock(image_id, NOBODY, now=deployment.now, governing=True)
    there = len(_naming(tx, blob_key))
    said = tx.shared_blobs.counts([blob_key]).get(blob_key, min(there, 1))
    if said == there:
        return None
    if mend:
        tx.shared_blobs.recounted(blob_key, there)
    return said, there


def _naming(tx: Transaction, blob_key: BlobKey) -> list[ImageId]:
    after, naming = "", []
    while batch := tx.images.batch(after=after, size=_BATCH):
        naming += [each.id for each in batch for key in _blob_keys_of(each) if key == blob_key]
        after = batch[-1].id
    return naming


def _blob_keys_of(image: Image) -> list[BlobKey]:
    return [disk.blob_key for disk in image.disks if disk.blob_key]


def _counted(deployment: Deployment) -> Iterator[tuple[BlobKey, int]]:
    after = ""
    while True:
        with deployment.database.reading() as reading:
            batch = reading.shared_blobs.batch(after=after, size=_BATCH)
        if not batch:
            return
        yield from batch.items()
        after = max(batch)


# --- Columns and tables that say again what an image is ---


def images_are_filed_as_they_are(deployment: Deployment, _settled: timedelta) -> Iterator[Finding]:
    """Find what stands again in columns or in the table of tags, and not as the image itself says it."""
    for images in _batches(deployment):
        with deployment.database.reading() as reading:
            suspected = reading.images.misfiled([image.id for image in images])
        for image_id in suspected:
            columns = _refile(deployment, image_id)
            if columns:
                yield Finding(
                    check=images_are_filed_as_they_are.__name__,
                    subject=f"image {image_id}",
                    message=f"It is not filed as it is: {', '.join(columns)}.",
                    mend=partial(_refile, deployment, image_id, mend=True),
                )


@in_one_transaction
def _refile(
    deployment: Deployment,
    tx: Transaction,
    image_id: ImageId,
    *,
    mend: bool = False,
) -> tuple[str, ...]:
    if tx.images.lock(image_id, NOBODY, now=deployment.now, governing=True) is None:
        return ()
    columns = tx.images.misfiled([image_id]).get(image_id, ())
    if columns and mend:
        tx.images.file(image_id)
    return columns


# --- Records and bytes ---


def stored_disks_have_their_bytes(deployment: Deployment, _settled: timedelta) -> Iterator[Finding]:
    """Find disks that are stored, with no blob of their size; nothing can bring it back."""
    for image in _images(deployment):
        for disk in image.disks:
            trouble = _trouble_with_bytes(deployment, image, disk)
            if trouble and _is_still_on_record(deployment, image, disk):
                yield Finding(
                    check=stored_disks_have_their_bytes.__name__,
                    subject=f"image {image.id}",
                    message=f"Disk {disk.index}: {trouble}",
                )


def _trouble_with_bytes(deployment: Deployment, image: Image, disk: Disk) -> str:
    if disk.state is not DiskState.STORED:
        filled = image.state in {ImageState.ACTIVE, ImageState.DEACTIVATED}
        return f"the image is {image.state}, but the disk is {disk.state}." if filled else ""
    expected = sealed_bytes(disk.size_bytes) if image.encrypted else disk.size_bytes
    try:
        found = deployment.blobs.size_bytes(disk.blob_key)
    except Rejection as rejection:
        if rejection.reason is not Reason.DISK_DATA_DAMAGED:
            raise
        return f"its bytes, blob {disk.blob_key}, are missing."
    if found == expected:
        return ""
    return f"its blob {disk.blob_key} has {found} bytes and should have {expected}."


def _is_still_on_record(deployment: Deployment, image: Image, disk: Disk) -> bool:
    """Whether a disk is what it was when it was read: it could have been purged."""
    with deployment.database.reading() as reading:
        view = reading.images.view(image.id, NOBODY, now=deployment.now())
    return view is not None and disk in view.image.disks


def bytes_belong_to_a_disk_or_an_upload(deployment: Deployment, settled: timedelta) -> Iterator[Finding]:
    """Find blobs that no disk names and that are not on record as pending either."""
    present = set(deployment.blobs.keys())
    # Pending before named: an upload that ends in between passes from the one to the other at once.
    pending: set[BlobKey] = set()
    keys = iter(present)
    while some := tuple(islice(keys, _BATCH)):
        with deployment.database.reading() as reading:
            pending |= reading.pending_blobs.among(some)
    unknown = present - pending
    for image in _images(deployment):
        unknown.difference_update(disk.blob_key for disk in image.disks)
    known = len(unknown) < len(present)
    for key in sorted(key for key in unknown if _is_old(deployment, key, settled)):
        mend = None
        message = "No disk names these bytes, and no upload or removal is under way."
        if known:
            mend = partial(deployment.blobs.delete, key)
        else:
            # A folder of which nothing is on record is more likely to be another catalogue's.
            message += " Nothing in this folder is on record: is it this catalogue's?"
        yield Finding(
            check=bytes_belong_to_a_disk_or_an_upload.__name__,
            subject=f"blob {key}",
            message=message,
            mend=mend,
        )


def _is_old(deployment: Deployment, key: BlobKey, settled: timedelta) -> bool:
    try:
        return deployment.blobs.commit_time(key) <= deployment.now() - settled
    except Rejection as rejection:
        if rejection.reason is not Reason.DISK_DATA_DAMAGED:
            raise
        return False  # removed this very moment


# --- What is under way, or should have been ---


def uploads_are_held_by_somebody(deployment: Deployment, settled: timedelta) -> Iterator[Finding]:
    """Find uploads whose lease has ended long ago, or that have none that could ever end."""
    with deployment.database.reading() as reading:
        overdue = reading.pending_blobs.abandoned(now=deployment.now() - settled)
    for each in overdue:
        if each.image_id is not None:
            yield Finding(
                check=uploads_are_held_by_somebody.__name__,
                subject=f"image {each.image_id}",
                message=f"Upload {each.blob_key} is dead, and nobody has given it up.",
                mend=partial(give_up_dead_upload, deployment, each.image_id, each.blob_key),
            )
    for image in _images(deployment, state=ImageState.SAVING):
        if image.source.kind is SourceKind.IMAGE:
            continue  # an operation's
        for disk in image.disks:
            if disk.state is DiskState.SAVING and _has_no_lease(deployment, image.id, disk):
                blob_key = BlobKey(disk.upload_id)
                yield Finding(
                    check=uploads_are_held_by_somebody.__name__,
                    subject=f"image {image.id}",
                    message=f"Upload {blob_key} is held by nobody, and has no lease that could end.",
                    mend=partial(give_up_upload, deployment, image.id, blob_key),
                )


def _has_no_lease(deployment: Deployment, image_id: ImageId, disk: Disk) -> bool:
    """Whether nobody holds an upload, looked at so that it cannot end in between."""
    with deployment.database.transaction() as tx:
        view = tx.images.lock(image_id, NOBODY, now=deployment.now, governing=True)
        if view is None or disk not in view.image.disks:
            return False
        held = tx.pending_blobs.among([BlobKey(disk.upload_id)])
        return not held and not tx.operations.unfinished(OperationId(disk.upload_id))


def copies_are_made_by_an_operation(deployment: Deployment, _settled: timedelta) -> Iterator[Finding]:
    """Find images to which bytes are said to be copied, with no operation that does so."""
    for image in _images(deployment, state=ImageState.SAVING):
        if image.source.kind is SourceKind.IMAGE and _discard_orphan(deployment, image.id, mend=False):
            yield Finding(
                check=copies_are_made_by_an_operation.__name__,
                subject=f"image {image.id}",
                message="It waits for bytes that no operation copies; mended, it is removed.",
                mend=partial(_discard_orphan, deployment, image.id, mend=True),
            )


@in_one_transaction
def _discard_orphan(deployment: Deployment, tx: Transaction, image_id: ImageId, *, mend: bool) -> bool:
    """Tell whether nobody makes a copy, looked at so that it cannot end in between."""
    view = tx.images.lock(image_id, NOBODY, now=deployment.now, governing=True)
    if view is None or view.image.state is not ImageState.SAVING:
        return False
    if any(tx.operations.unfinished(OperationId(disk.upload_id)) for disk in view.image.disks):
        return False
    if mend:
        discard_copy(deployment, tx, image_id, by=None)
    return True


def nothing_is_kept_beyond_its_time(deployment: Deployment, settled: timedelta) -> Iterator[Finding]:
    """Find deleted images, shares, request ids and operations that were to be gone long ago."""
    with deployment.database.reading() as reading:
        due = reading.images.due_for_purge(deployment.now() - settled)
    for image_id in due:
        yield Finding(
            check=nothing_is_kept_beyond_its_time.__name__,
            subject=f"image {image_id}",
            message="Its grace period has ended, and nobody has purged it.",
            mend=partial(purge_image, deployment, image_id),
        )
    with deployment.database.reading() as reading:
        sharing = reading.shares.ended(now=deployment.now() - settled)
    for image_id in sharing:
        yield Finding(
            check=nothing_is_kept_beyond_its_time.__name__,
            subject=f"image {image_id}",
            message="It has shares that have ended by themselves, and nobody has removed them.",
            mend=partial(remove_ended_shares_of, deployment, image_id),
        )
    with deployment.database.reading() as reading:
        expired = reading.requests.expired(now=deployment.now() - settled)
    if expired:
        yield Finding(
            check=nothing_is_kept_beyond_its_time.__name__,
            subject="request ids",
            message=f"{expired} of them have expired, and nobody has forgotten them.",
            mend=partial(forget_requests, deployment),
        )
    with deployment.database.reading() as reading:
        expired = reading.operations.expired(now=deployment.now() - settled)
    if expired:
        yield Finding(
            check=nothing_is_kept_beyond_its_time.__name__,
            subject="operations",
            message=f"{expired} of them ended long ago, and nobody has forgotten them.",
            mend=partial(forget_operations, deployment),
        )


CHECKS: Final[tuple[Check, ...]] = (
    # First what ends something: it gives back what is counted then.
    uploads_are_held_by_somebody,
    copies_are_made_by_an_operation,
    nothing_is_kept_beyond_its_time,
    stored_disks_have_their_bytes,
    bytes_belong_to_a_disk_or_an_upload,
    shared_blobs_are_counted_as_they_are_named,
    images_are_filed_as_they_are,
    tenants_use_what_their_images_take,
)


def _images(deployment: Deployment, *, state: ImageState | None = None) -> Iterator[Image]:
    for batch in _batches(deployment, state=state):
        yield from batch


def _batches(deployment: Deployment, *, state: ImageState | None = None) -> Iterator[tuple[Image, ...]]:
    """Yield all images, so many at a time: a catalogue is larger than memory."""
    after = ""
    while True:
        with deployment.database.reading() as reading:
            batch = reading.images.batch(after=after, size=_BATCH, state=state)
        if not batch:
            return
        yield batch
        after = batch[-1].id


def _images_of(tx: Transaction, tenant_id: TenantId) -> Iterator[Image]:
    after = ""
    while batch := tx.images.batch(after=after, size=_BATCH, owner=tenant_id):
        yield from batch
        after = batch[-1].id
