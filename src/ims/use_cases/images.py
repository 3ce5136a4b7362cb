"""The story of each call on an image's record."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from ims.domain.audit import Action
from ims.domain.caller import Caller, Role
from ims.domain.copying import Arrival
from ims.domain.image import BlobKey, Image, ImageId, ImageState, SourceKind
from ims.domain.image_changes import ImageChanges
from ims.domain.page import ImageFilter, ImageOrder, Page, PageRequest
from ims.domain.registered_use import UsageSummary
from ims.domain.rejection import Problems, Violation
from ims.domain.tenant import NOBODY
from ims.domain.view import ReadyView, View
from ims.repository.database import Transaction
from ims.rules.attempt import Attempt
from ims.rules.changes import (
    ABOUT_THE_CALL_TO_DELETE,
    ABOUT_THE_IMAGE_TO_DELETE,
    DEACTIVATE_IMAGE,
    DEACTIVATE_TENANT_IMAGE,
    DELETE_IMAGE,
    REACTIVATE_IMAGE,
    REACTIVATE_TENANT_IMAGE,
    UNDELETE_IMAGE,
    UPDATE_IMAGE,
    DeletionAttempt,
    UndeletionAttempt,
    UpdateAttempt,
)
from ims.rules.creation import CREATE_IMAGE, SERVICE_SOURCES, CreationAttempt
from ims.rules.engine import Rule, enforce, judge
from ims.rules.form import READ_QUERY, Query
from ims.rules.images import whole_gib
from ims.rules.publication import PUBLISH_IMAGE, UNPUBLISH_IMAGE
from ims.rules.states import Verb, state_after
from ims.use_cases.deployment import (
    Deployment,
    find_vault,
    in_one_transaction,
    key_is_usable,
    refuse_if,
    refuse_suspended,
    see,
    see_locked,
    see_ready,
)
from ims.use_cases.image_data import remove_doomed
from ims.use_cases.trail import record_image, record_shares

_VOUCHED_FOR: Final = SERVICE_SOURCES | {SourceKind.IMAGE}
"""Origins for which a service vouches, of this region or of another."""
_REMOVE_AT_ONCE: Final = 1000
"""How many uses are removed in one transaction, so that nobody waits long for its end."""


@in_one_transaction
def create_image(
    deployment: Deployment,
    tx: Transaction,
    *,
    caller: Caller,
    draft: Image,
    arrival: Arrival | None = None,
    validate_only: bool = False,
    problems: Problems = (),
) -> View:
    """Create the record of an image; its disks are uploaded later.

    The draft holds what the caller said; id, region, state and times are given here.
    """
    arrival = arrival or Arrival()
    now = deployment.now()
    image = replace(
        draft,
        id=ImageId(deployment.new_id()),
        region=deployment.region,
        state=ImageState.QUEUED,
        declared_by=caller.tenant_id if draft.source.kind in _VOUCHED_FOR else None,
        create_time=now,
        update_time=now,
    )
    account = tx.tenants.account(image.owner) if validate_only else tx.tenants.lock(image.owner)
    own = image.owner == caller.tenant_id
    refuse_if(
        caller.tenant_id,
        suspended=account.suspended if own else tx.tenants.suspended(caller.tenant_id),
    )
    attempt = CreationAttempt(
        caller=caller,
        draft=image,
        name_taken=tx.images.name_taken(image.owner, image.name),
        backup_used=tx.images.backup_used(image.source),
        key_usable=key_is_usable(deployment, image),
        allowance=account.under(deployment.limits.quotas),
        capacity_bytes=arrival.capacity_bytes,
        backup_provider_exists=deployment.backups is not None,
        vault=find_vault(deployment, image.owner, arrival.vault_id),
        owner_unknown=deployment.directory_closed and tx.tenants.find(image.owner) is None,
        problems=problems,
    )
    enforce(CREATE_IMAGE, attempt)
    # Of the tenant that a service creates for, and not before the service is known to be one.
    refuse_if(image.owner, suspended=account.suspended)
    if not validate_only:
        tx.images.add(image)
        record_image(deployment, tx, Action.CREATE_IMAGE, by=caller, after=image)
    return View(image=image, viewer=caller.tenant_id)


def get_image(deployment: Deployment, *, caller: Caller, image_id: ImageId) -> ReadyView | View:
    """Return an image as the caller sees it."""
    with deployment.database.reading() as reading:
        return see_ready(deployment, reading, caller, image_id)


def list_images(
    deployment: Deployment,
    *,
    caller: Caller,
    image_filter: ImageFilter,
    order: ImageOrder,
    page: PageRequest,
    problems: Problems = (),
) -> Page[ReadyView | View]:
    """Return a part of the images that the caller's tenant owns, has accepted, or that are public."""
    with deployment.database.reading() as reading:
        refuse_suspended(reading, caller.tenant_id)
        enforce(READ_QUERY, Query(problems))
        return reading.images.list(
            caller.tenant_id, image_filter, page, order=order, now=deployment.now()
        )


@in_one_transaction
def update_image(
    deployment: Deployment,
    tx: Transaction,
    *,
    caller: Caller,
    image_id: ImageId,
    changes: ImageChanges,
    expected_etag: str = "",
    problems: Problems = (),
) -> View:
    """Change some fields of an image."""
    view = see_locked(deployment, tx, caller, image_id)
    image = view.image
    draft = _with_derived_min_disk(changes.applied_to(image))
    attempt = UpdateAttempt(
        caller=caller,
        image=image,
        draft=draft,
        fields=changes.fields,
        name_taken=tx.images.name_taken(image.owner, draft.name, besides=image.id),
        expected_etag=expected_etag,
        problems=problems,
    )
    enforce(UPDATE_IMAGE, attempt)
    saved = tx.images.save(draft, now=deployment.now())
    record_image(deployment, tx, Action.UPDATE_IMAGE, by=caller, before=image, after=saved)
    return replace(view, image=saved)


def _with_derived_min_disk(image: Image) -> Image:
    if image.min_disk_gib == 0 and image.disks:
        return replace(image, min_disk_gib=whole_gib(image.disks[0].capacity_bytes))
    return image


@in_one_transaction
def delete_image(
    deployment: Deployment,
    tx: Transaction,
    *,
    caller: Caller,
    image_id: ImageId,
    expected_etag: str = "",
    require_unused: bool = False,
    problems: Problems = (),
) -> tuple[View, int]:
    """Delete an image and end its shares; return it with the number of shares that ended.

    The shares stay on record for an undeletion; nobody but the owner can tell that they do.
    """
    view = see_locked(deployment, tx, caller, image_id)
    attempt = DeletionAttempt(
        caller=caller,
        image=view.image,
        expected_etag=expected_etag,
        # Whoever registers a use needs the image's lock: there is none until this transaction ends.
        usage_to_spare=tx.uses.total(image_id) if require_unused else None,
        problems=problems,
    )
    enforce(DELETE_IMAGE, attempt)
    now = deployment.now()
    ended = tx.shares.those(image_id, now=now)
    deleted = replace(
        view.image,
        state=state_after(Verb.DELETE, view.image),
        state_before_deletion=view.image.state,
        delete_time=now,
        purge_time=now + deployment.grace_period,
    )
    saved = tx.images.save(deleted, now=now)
    record_image(deployment, tx, Action.DELETE_IMAGE, by=caller, before=view.image, after=saved)
    record_shares(deployment, tx, Action.DELETE_IMAGE, by=caller, image=view.image, before=ended)
    return replace(view, image=saved, has_shares=False), len(ended)


@dataclass(frozen=True, kw_only=True)
class DeletionPreview:
    """What deleting an image would hit, and what would refuse it."""

    view: View
    ended: int
    """How many shares would end."""
    usage: UsageSummary
    refusals: tuple[Violation, ...]


def preview_deletion(
    deployment: Deployment,
    *,
    caller: Caller,
    image_id: ImageId,
    expected_etag: str = "",
    require_unused: bool = False,
    problems: Problems = (),
) -> DeletionPreview:
    """Tell what would be hit if an image were deleted now, and what would refuse it; change nothing."""
    with deployment.database.reading() as reading:
        view = see(deployment, reading, caller, image_id)
        attempt = DeletionAttempt(
            caller=caller, image=view.image, expected_etag=expected_etag, problems=problems
        )
        enforce(ABOUT_THE_CALL_TO_DELETE, attempt)
        usage = reading.uses.summary(image_id)
        if require_unused:
            attempt = replace(attempt, usage_to_spare=usage.total)
        return DeletionPreview(
            view=view,
            ended=reading.shares.count(image_id, now=deployment.now()),
            usage=usage,
            refusals=judge(ABOUT_THE_IMAGE_TO_DELETE, attempt),
        )


@in_one_transaction
def undelete_image(
    deployment: Deployment,
    tx: Transaction,
    *,
    caller: Caller,
    image_id: ImageId,
    problems: Problems = (),
) -> tuple[View, int]:
    """Restore a deleted image with its shares; return it with the number of shares that came back.

    What has ended by itself meanwhile stays ended.
    """
    view = see_locked(deployment, tx, caller, image_id)
    image = view.image
    # The lock comes before everything that it makes wait, or an earlier call is seen by halves.
    account = tx.tenants.lock(image.owner)
    attempt = UndeletionAttempt(
        caller=caller,
        image=image,
        name_taken=tx.images.name_taken(image.owner, image.name, besides=image.id),
        backup_used=tx.images.backup_used(image.source, besides=image.id),
        problems=problems,
        allowance=account.under(deployment.limits.quotas),
    )
    enforce(UNDELETE_IMAGE, attempt)
    undeleted = replace(
        image,
        state=state_after(Verb.UNDELETE, image),
        state_before_deletion=None,
        delete_time=None,
        purge_time=None,
    )
    now = deployment.now()
    # Those that have ended meanwhile go now, while that is nobody's news but the owner's.
    lapsed = tx.shares.remove_ended(image_id, now=now)
    record_shares(deployment, tx, Action.EXPIRE_SHARE, by=None, image=image, before=lapsed)
    saved = tx.images.save(undeleted, now=now)
    restored = tx.shares.those(image_id, now=now)
    record_image(deployment, tx, Action.UNDELETE_IMAGE, by=caller, before=image, after=saved)
    record_shares(deployment, tx, Action.UNDELETE_IMAGE, by=caller, image=saved, after=restored)
    return replace(view, image=saved, has_shares=bool(restored)), len(restored)


def deactivate_image(
    deployment: Deployment, *, caller: Caller, image_id: ImageId, problems: Problems = ()
) -> View:
    """Refuse an image's bytes to everyone from now on; a public one's as an administrator."""
    verb, action = Verb.DEACTIVATE, Action.DEACTIVATE_IMAGE
    return _move(deployment, DEACTIVATE_IMAGE, verb, action, caller, image_id, problems)


def reactivate_image(
    deployment: Deployment, *, caller: Caller, image_id: ImageId, problems: Problems = ()
) -> View:
    """Give a deactivated image's bytes out again."""
    verb, action = Verb.REACTIVATE, Action.REACTIVATE_IMAGE
    return _move(deployment, REACTIVATE_IMAGE, verb, action, caller, image_id, problems)


@in_one_transaction
def _move(
    deployment: Deployment,
    tx: Transaction,
    rules: tuple[Rule[Attempt], ...],
    verb: Verb,
    action: Action,
    caller: Caller,
    image_id: ImageId,
    problems: Problems,
) -> View:
    view = see_locked(deployment, tx, caller, image_id)
    enforce(rules, Attempt(caller=caller, image=view.image, problems=problems))
    moved = replace(
        view.image,
        state=state_after(verb, view.image),
        deactivated_by_admin=verb is Verb.DEACTIVATE and view.image.public,
    )
    saved = tx.images.save(moved, now=deployment.now())
    record_image(deployment, tx, action, by=caller, before=view.image, after=saved)
    return replace(view, image=saved)


def deactivate_tenant_image(
    deployment: Deployment, *, caller: Caller, image_id: ImageId, problems: Problems = ()
) -> View:
    """Refuse any tenant's image's bytes to everyone, until an administrator gives them out again."""

    def deactivate(_tx: Transaction, image: Image) -> tuple[Image, int]:
        state = state_after(Verb.DEACTIVATE_BY_ADMIN, image)
        return replace(image, state=state, deactivated_by_admin=True), 0

    rules, action = DEACTIVATE_TENANT_IMAGE, Action.DEACTIVATE_TENANT_IMAGE
    return _govern(deployment, rules, deactivate, action, caller, image_id, problems)[0]


def reactivate_tenant_image(
    deployment: Deployment, *, caller: Caller, image_id: ImageId, problems: Problems = ()
) -> View:
    """Give any tenant's deactivated image's bytes out again."""

    def reactivate(_tx: Transaction, image: Image) -> tuple[Image, int]:
        state = state_after(Verb.REACTIVATE, image)
        return replace(image, state=state, deactivated_by_admin=False), 0

    rules, action = REACTIVATE_TENANT_IMAGE, Action.REACTIVATE_TENANT_IMAGE
    return _govern(deployment, rules, reactivate, action, caller, image_id, problems)[0]


def publish_image(
    deployment: Deployment,
    *,
    caller: Caller,
    image_id: ImageId,
    non_exportable: bool = False,
    problems: Problems = (),
) -> tuple[View, int]:
    """Make an image every tenant's; return it with the number of shares that this ended.

    A mark that nothing of it is exported is never taken back: what derives from it bears it too.
    """

    def publish(tx: Transaction, image: Image) -> tuple[Image, int]:
        ended = tx.shares.remove(image_id, now=deployment.now())
        record_shares(deployment, tx, Action.PUBLISH_IMAGE, by=caller, image=image, before=ended)
        marked = image.non_exportable or non_exportable
        return replace(image, public=True, non_exportable=marked), len(ended)

    action = Action.PUBLISH_IMAGE
    return _govern(deployment, PUBLISH_IMAGE, publish, action, caller, image_id, problems)


def unpublish_image(
    deployment: Deployment, *, caller: Caller, image_id: ImageId, problems: Problems = ()
) -> View:
    """Make a public image its owner's private one again."""

    def unpublish(_tx: Transaction, image: Image) -> tuple[Image, int]:
        return replace(image, public=False), 0

    action = Action.UNPUBLISH_IMAGE
    return _govern(deployment, UNPUBLISH_IMAGE, unpublish, action, caller, image_id, problems)[0]


@in_one_transaction
def _govern(
    deployment: Deployment,
    tx: Transaction,
    rules: tuple[Rule[Attempt], ...],
    change: Callable[[Transaction, Image], tuple[Image, int]],
    action: Action,
    caller: Caller,
    image_id: ImageId,
    problems: Problems,
) -> tuple[View, int]:
    view = see_locked(deployment, tx, caller, image_id, governing=caller.has(Role.ADMIN))
    enforce(rules, Attempt(caller=caller, image=view.image, problems=problems))
    changed, ended = change(tx, view.image)
    if changed != view.image:
        changed = tx.images.save(changed, now=deployment.now())
        record_image(deployment, tx, action, by=caller, before=view.image, after=changed)
    return View(image=changed, viewer=caller.tenant_id, has_shares=view.has_shares and not ended), ended


def purge_images(deployment: Deployment) -> int:
    """Remove for ever the deleted images whose grace period has ended; return how many there were."""
    with deployment.database.reading() as reading:
        due = reading.images.due_for_purge(deployment.now())
    purged = 0
    for image_id in due:
        purged += purge_image(deployment, image_id)
    return purged


def purge_image(deployment: Deployment, image_id: ImageId) -> bool:
    """Remove an image for ever with its bytes and uses, if it is due; tell whether it was."""
    while _remove_uses(deployment, image_id) == _REMOVE_AT_ONCE:
        pass
    blob_keys = _remove_for_ever(deployment, image_id)
    for blob_key in blob_keys or ():
        remove_doomed(deployment, blob_key)
    return blob_keys is not None


@in_one_transaction
def _remove_uses(deployment: Deployment, tx: Transaction, image_id: ImageId) -> int:
    """Remove some of an image's uses, of which there may be millions; return how many."""
    if _due_for_purge(deployment, tx, image_id) is None:
        return 0
    return tx.uses.remove_some(image_id, most=_REMOVE_AT_ONCE)


@in_one_transaction
def _remove_for_ever(deployment: Deployment, tx: Transaction, image_id: ImageId) -> list[BlobKey] | None:
    """Remove an image's record; return its blobs, or None when it is not to be removed after all."""
    image = _due_for_purge(deployment, tx, image_id)
    if image is None:
        return None
    tx.images.purge(image_id)
    # Behind the tenant's record, as everybody does who changes both. What copies name stays for them.
    blob_keys = [
        disk.blob_key for disk in image.disks if disk.blob_key and tx.shared_blobs.release(disk.blob_key)
    ]
    tx.pending_blobs.doom(blob_keys)
    record_image(deployment, tx, Action.PURGE_IMAGE, by=None, before=image)
    return blob_keys


def _due_for_purge(deployment: Deployment, tx: Transaction, image_id: ImageId) -> Image | None:
    """Return an image with its lock; None when it is not to be purged."""
    view = tx.images.lock(image_id, NOBODY, now=deployment.now, governing=True)
    # Looked at again under the lock: it may have been undeleted or purged meanwhile.
    if view is None or view.image.purge_time is None or view.image.purge_time > deployment.now():
        return None
    return view.image
