"""The story of each call on the shares of an image."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from ims.domain.audit import Action
from ims.domain.caller import Caller
from ims.domain.image import ImageId
from ims.domain.page import Page, PageRequest, Received, ShareFilter
from ims.domain.registered_use import UsageSummary
from ims.domain.rejection import Problems, Violation
from ims.domain.share import Prospect, Share, ShareStatus
from ims.domain.tenant import NOBODY, Region, Tenant, TenantId
from ims.domain.trust import Attitude
from ims.domain.vault import Vault
from ims.domain.view import View
from ims.repository.database import Reading, Transaction
from ims.rules.attempt import Attempt
from ims.rules.engine import Rule, enforce, judge
from ims.rules.form import READ_QUERY, Query
from ims.rules.sharing import (
    ABOUT_EACH_RECIPIENT,
    ABOUT_THE_CALL,
    ABOUT_THE_CALL_TO_UNSHARE,
    ABOUT_THE_CALL_TO_UPDATE_A_SHARE,
    ABOUT_THE_IMAGE,
    ABOUT_THE_SHARES_TO_END,
    ACCEPT_SHARE,
    GET_SHARE,
    LEAVE_SHARE,
    LIST_SHARES,
    REJECT_SHARE,
    SHARE_IMAGE,
    UNSHARE_IMAGE,
    UPDATE_SHARE,
    AcceptAttempt,
    OneShareAttempt,
    ShareAttempt,
    ShareUpdateAttempt,
    UnshareAttempt,
)
from ims.rules.trust import status_of_new_share
from ims.use_cases.deployment import (
    Deployment,
    find_vault,
    in_one_transaction,
    refuse_suspended,
    see,
    see_locked,
)
from ims.use_cases.trail import record_shares, told_of_shares

# --- The owner's side ---


@dataclass(frozen=True, kw_only=True)
class Recipient:
    """A tenant that a request names; its region when the request says one."""

    tenant_id: TenantId
    region: Region | None = None


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """How sharing an image went, or would go."""

    outcomes: tuple["Outcome", ...]
    image_refusals: tuple[Violation, ...] = ()
    share_count: int
    share_limit: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How it went for one tenant: it has a share, or something refuses it one."""

    tenant_id: TenantId
    share: Share | None
    refusals: tuple[Violation, ...] = ()


@in_one_transaction
def share_image(
    deployment: Deployment,
    tx: Transaction,
    *,
    caller: Caller,
    image_id: ImageId,
    recipients: tuple[Recipient, ...],
    expire_time: datetime | None = None,
    allow_partial: bool = False,
    problems: Problems = (),
) -> Sharing:
    """Share an image with more tenants: with all of them, or, where allowed, with those it can be.

    Those who have no share yet get one that ends at `expire_time`, or not by itself.
    """
    view = see_locked(deployment, tx, caller, image_id)
    attempt, prospect = _share_attempt(
        deployment, tx, caller, view, recipients, expire_time, problems, hold=tx.tenants.lock
    )
    if allow_partial:
        enforce((*ABOUT_THE_CALL, *ABOUT_THE_IMAGE), attempt)
        outcomes = tuple(_one_by_one(attempt, prospect))
    else:
        enforce(SHARE_IMAGE, attempt)
        outcomes = tuple(Outcome(tenant_id=each.id, share=None) for each in attempt.recipients)
    regions = {tenant.id: tenant.region for tenant in attempt.newcomers}
    added = {
        outcome.tenant_id: Share(
            image_id=image_id,
            tenant_id=outcome.tenant_id,
            region=regions[outcome.tenant_id],
            status=_status_of_new_share(deployment, view, prospect, outcome.tenant_id),
            create_time=attempt.now,
            update_time=attempt.now,
            expire_time=expire_time,
        )
        for outcome in outcomes
        if outcome.tenant_id in regions and not outcome.refusals
    }
    told = told_of_shares(
        deployment,
        Action.SHARE_IMAGE,
        by=caller,
        image=view.image,
        after=added.values(),
        unseen_by=prospect.blocked_by,
    )
    tx.shares.add(added.values(), told)
    shares = {**prospect.shares, **added}
    return Sharing(
        outcomes=tuple(replace(each, share=shares.get(each.tenant_id)) for each in outcomes),
        share_count=attempt.share_count + len(added),
        share_limit=attempt.share_limit,
    )


def preview_sharing(
    deployment: Deployment,
    *,
    caller: Caller,
    image_id: ImageId,
    recipients: tuple[Recipient, ...],
    expire_time: datetime | None = None,
    problems: Problems = (),
) -> Sharing:
    """Tell everything that would be refused if the image were shared now; store nothing."""
    with deployment.database.reading() as reading:
        view = see(deployment, reading, caller, image_id)
        attempt, prospect = _share_attempt(
            deployment, reading, caller, view, recipients, expire_time, problems
        )
        enforce(ABOUT_THE_CALL, attempt)
        return Sharing(
            outcomes=tuple(_one_by_one(attempt, prospect)),
            image_refusals=judge(ABOUT_THE_IMAGE, attempt),
            share_count=attempt.share_count,
            share_limit=attempt.share_limit,
        )


def _share_attempt(
    deployment: Deployment,
    reading: Reading,
    caller: Caller,
    view: View,
    recipients: tuple[Recipient, ...],
    expire_time: datetime | None,
    problems: Problems,
    *,
    hold: Callable[[TenantId], object] | None = None,
) -> tuple[ShareAttempt, Prospect]:
    """Return the facts, and what is on record of the recipients.

    `hold` keeps a tenant's rules, and the number of its pending shares, as they are.
    """
    now = deployment.now()
    image, named = view.image, tuple(each.tenant_id for each in recipients)
    prospect = reading.shares.prospect(image.id, image.owner, named, now=now)
    known = prospect.regions
    attempt = ShareAttempt(
        caller=caller,
        image=view.image,
        share=view.share,
        # What the directory says of a tenant outweighs what a request claims of it.
        recipients=tuple(
            Tenant(each.tenant_id, known.get(each.tenant_id) or each.region or deployment.region)
            for each in recipients
        ),
        sharing_with=frozenset(prospect.shares),
        share_count=prospect.share_count,
        share_limit=deployment.limits.shares_of(image),
        unknown_tenants=frozenset(named) - known.keys() if deployment.directory_closed else frozenset(),
        owner_blocked=prospect.owner_blocked,
        all_blocked=prospect.all_blocked,
        expire_time=expire_time,
        now=now,
        problems=problems,
    )
    ruling = _ruling(deployment, attempt, prospect)
    # Nobody is held, nor counted, for a call that is none of the owner's or cannot be read.
    if ruling and not judge(ABOUT_THE_CALL, attempt):
        if hold is not None:
            for tenant_id in ruling:
                hold(tenant_id)
            # Once more: what was read without their locks, they could have changed since.
            prospect = reading.shares.prospect(image.id, image.owner, named, now=now)
        attempt = replace(attempt, full=_full(deployment, reading, view, ruling, prospect, now))
    return attempt, prospect


def _ruling(deployment: Deployment, attempt: ShareAttempt, prospect: Prospect) -> tuple[TenantId, ...]:
    """Return the newcomers who have said, or for whom it is said, what becomes of a share, in order."""
    default = deployment.limits.pending_shares_per_tenant
    return tuple(
        sorted(
            tenant.id
            for tenant in attempt.newcomers
            if prospect.trust_of(tenant.id).attitude is Attitude.AUTO_ACCEPT
            or prospect.trust_of(tenant.id).most_pending(default) is not None
        )
    )


def _full(
    deployment: Deployment,
    reading: Reading,
    view: View,
    ruling: tuple[TenantId, ...],
    prospect: Prospect,
    now: datetime,
) -> frozenset[TenantId]:
    """Return the tenants, of some, that tolerate no further pending share and would get one."""
    default = deployment.limits.pending_shares_per_tenant
    most = {
        tenant_id: prospect.trust_of(tenant_id).most_pending(default)
        for tenant_id in ruling
        if _status_of_new_share(deployment, view, prospect, tenant_id) is ShareStatus.PENDING
    }
    limits = {tenant_id: limit for tenant_id, limit in most.items() if limit is not None}
    if not limits:
        return frozenset()
    pending = reading.trust.pending(tuple(limits), view.image.owner, now=now)
    return frozenset(tenant_id for tenant_id, limit in limits.items() if pending[tenant_id] >= limit)


def _status_of_new_share(
    deployment: Deployment, view: View, prospect: Prospect, tenant_id: TenantId
) -> ShareStatus:
    return status_of_new_share(
        view.image,
        prospect.trust_of(tenant_id),
        backup_provider_exists=deployment.backups is not None,
    )


def _one_by_one(attempt: ShareAttempt, prospect: Prospect) -> Iterator[Outcome]:
    """Judge the recipients in the order of the request, each as if those before it had been let in."""
    let_in = attempt.share_count
    for tenant in attempt.recipients:
        alone = replace(attempt, recipients=(tenant,), share_count=let_in)
        refusals = judge(ABOUT_EACH_RECIPIENT, alone)
        if not refusals:
            let_in += len(alone.newcomers)
        yield Outcome(tenant_id=tenant.id, share=prospect.shares.get(tenant.id), refusals=refusals)


@in_one_transaction
def unshare_image(
    deployment: Deployment,
    tx: Transaction,
    *,
    caller: Caller,
    image_id: ImageId,
    tenant_ids: tuple[TenantId, ...] | None,
    require_unused: bool = False,
    problems: Problems = (),
) -> tuple[Share, ...]:
    """Stop sharing an image with some tenants, or with all (None); return the shares that ended."""
    view = see_locked(deployment, tx, caller, image_id)
    now = deployment.now()
    attempt = UnshareAttempt(caller=caller, image=view.image, problems=problems)
    if require_unused:
        # Whoever registers a use needs the image's lock: there is none until this transaction ends.
        usage = tx.uses.total_of_recipients(image_id, tenant_ids, now=now)
        attempt = replace(attempt, usage_to_spare=usage)
    enforce(UNSHARE_IMAGE, attempt)
    ended = tx.shares.remove(image_id, tenant_ids, now=now)
    record_shares(deployment, tx, Action.UNSHARE_IMAGE, by=caller, image=view.image, before=ended)
    return ended


@dataclass(frozen=True, kw_only=True)
class UnsharingPreview:
    """What no longer sharing an image would hit, and what would refuse it."""

    ended: tuple[Share, ...]
    """The shares that would end."""
    usage: UsageSummary
    """The uses of those tenants."""
    refusals: tuple[Violation, ...]


def preview_unsharing(
    deployment: Deployment,
    *,
    caller: Caller,
    image_id: ImageId,
    tenant_ids: tuple[TenantId, ...] | None,
    require_unused: bool = False,
    problems: Problems = (),
) -> UnsharingPreview:
    """Tell what would be hit if an image were unshared now, and what would refuse it; end nothing."""
    with deployment.database.reading() as reading:
        view = see(deployment, reading, caller, image_id)
        now = deployment.now()
        attempt = UnshareAttempt(caller=caller, image=view.image, problems=problems)
        enforce(ABOUT_THE_CALL_TO_UNSHARE, attempt)
        usage = reading.uses.summary_of_recipients(image_id, tenant_ids, now=now)
        if require_unused:
            attempt = replace(attempt, usage_to_spare=usage.total)
        return UnsharingPreview(
            ended=reading.shares.those(image_id, tenant_ids, now=now),
            usage=usage,
            refusals=judge(ABOUT_THE_SHARES_TO_END, attempt),
        )


@in_one_transaction
def update_share(
    deployment: Deployment,
    tx: Transaction,
    *,
    caller: Caller,
    image_id: ImageId,
    tenant_id: TenantId | None,
    fields: frozenset[str],
    expire_time: datetime | None,
    problems: Problems = (),
) -> Share:
    """Have the share of a tenant end at another time than it would, or not by itself (None)."""
    view = see_locked(deployment, tx, caller, image_id)
    now = deployment.now()
    wanted = tenant_id or caller.tenant_id
    attempt = ShareUpdateAttempt(
        caller=caller,
        image=view.image,
        share=view.share,
        tenant_id=wanted,
        found=_find_share(tx, view, wanted, now),
        fields=fields,
        expire_time=expire_time,
        now=now,
        problems=problems,
    )
    if tenant_id is None:
        # Then there is no share to miss: that it is not said is what is wrong.
        enforce(ABOUT_THE_CALL_TO_UPDATE_A_SHARE, attempt)
    enforce(UPDATE_SHARE, attempt)
    assert attempt.found is not None  # or a rule would have been broken
    updated = replace(attempt.found, expire_time=expire_time)
    if updated != attempt.found:
        tx.shares.save(updated)
        record_shares(
            deployment,
            tx,
            Action.UPDATE_SHARE,
            by=caller,
            image=view.image,
            before=[attempt.found],
            after=[updated],
        )
    return updated


def get_share(
    deployment: Deployment,
    *,
    caller: Caller,
    image_id: ImageId,
    tenant_id: TenantId | None = None,
    problems: Problems = (),
) -> Share:
    """Return the share of a tenant (None: the caller's own)."""
    wanted = tenant_id or caller.tenant_id
    with deployment.database.reading() as reading:
        view = see(deployment, reading, caller, image_id)
        attempt = OneShareAttempt(
            caller=caller,
            image=view.image,
            share=view.share,
            tenant_id=wanted,
            found=_find_share(reading, view, wanted, deployment.now()),
            problems=problems,
        )
    enforce(GET_SHARE, attempt)
    assert attempt.found is not None  # or a rule would have been broken
    return attempt.found


def _find_share(reading: Reading, view: View, tenant_id: TenantId, now: datetime) -> Share | None:
    """Return a share as it is to be found: a recipient's own is the one that it sees."""
    if tenant_id == view.viewer:
        return view.share
    return reading.shares.find(view.image.id, tenant_id, now=now)


def list_shares(
    deployment: Deployment,
    *,
    caller: Caller,
    image_id: ImageId,
    share_filter: ShareFilter,
    size: int,
    after: str,
    count: bool,
    problems: Problems = (),
) -> Page[Share]:
    """Return a part of an image's shares, by tenant, from behind the tenant `after` on."""
    with deployment.database.reading() as reading:
        view = see(deployment, reading, caller, image_id)
        enforce(LIST_SHARES, Attempt(caller=caller, image=view.image, problems=problems))
        return reading.shares.list(
            image_id, share_filter, now=deployment.now(), size=size, after=after, count=count
        )


# --- The recipient's side ---


def list_received_shares(
    deployment: Deployment,
    *,
    caller: Caller,
    share_filter: ShareFilter,
    page: PageRequest,
    descending: bool,
    problems: Problems = (),
) -> Page[Received]:
    """Return a part of what other tenants have shared with the caller's."""
    with deployment.database.reading() as reading:
        refuse_suspended(reading, caller.tenant_id)
        enforce(READ_QUERY, Query(problems))
        return reading.images.received(
            caller.tenant_id, share_filter, page, now=deployment.now(), descending=descending
        )


def accept_share(
    deployment: Deployment,
    *,
    caller: Caller,
    image_id: ImageId,
    vault_id: str = "",
    problems: Problems = (),
) -> Share:
    """Accept a share, pending or once rejected."""
    # Asked before the image is locked. (A call with a request id is in its transaction by then: vaults
    # that were asked of another service would have to be asked for before that.)
    vault = find_vault(deployment, caller.tenant_id, vault_id)
    return _accept(deployment, caller, image_id, vault_id, vault, problems)


@in_one_transaction
def _accept(
    deployment: Deployment,
    tx: Transaction,
    caller: Caller,
    image_id: ImageId,
    vault_id: str,
    vault: Vault | None,
    problems: Problems,
) -> Share:
    view = see_locked(deployment, tx, caller, image_id)
    registered = tx.tenants.find(caller.tenant_id)
    attempt = AcceptAttempt(
        caller=caller,
        image=view.image,
        share=view.share,
        backup_provider_exists=deployment.backups is not None,
        vault=vault,
        known_region=None if registered is None else registered.region,
        problems=problems,
    )
    enforce(ACCEPT_SHARE, attempt)
    named = vault_id if attempt.needs_vault else ""
    accepted = ShareStatus.ACCEPTED
    return _decide(deployment, tx, Action.ACCEPT_SHARE, caller, view, accepted, vault_id=named)


@in_one_transaction
def reject_share(
    deployment: Deployment,
    tx: Transaction,
    *,
    caller: Caller,
    image_id: ImageId,
    problems: Problems = (),
) -> Share:
    """Reject a share, pending or accepted; it can be accepted later."""
    view = _recipients_view(deployment, tx, caller, image_id, REJECT_SHARE, problems)
    rejected = ShareStatus.REJECTED
    return _decide(deployment, tx, Action.REJECT_SHARE, caller, view, rejected, vault_id="")


@in_one_transaction
def leave_share(
    deployment: Deployment,
    tx: Transaction,
    *,
    caller: Caller,
    image_id: ImageId,
    problems: Problems = (),
) -> None:
    """Remove a share from the recipient's side."""
    view = _recipients_view(deployment, tx, caller, image_id, LEAVE_SHARE, problems)
    left = tx.shares.remove(image_id, (caller.tenant_id,), now=deployment.now())
    record_shares(deployment, tx, Action.LEAVE_SHARE, by=caller, image=view.image, before=left)


def _recipients_view(
    deployment: Deployment,
    tx: Transaction,
    caller: Caller,
    image_id: ImageId,
    rules: tuple[Rule[Attempt], ...],
    problems: Problems,
) -> View:
    view = see_locked(deployment, tx, caller, image_id)
    enforce(rules, Attempt(caller=caller, image=view.image, share=view.share, problems=problems))
    return view


def _decide(
    deployment: Deployment,
    tx: Transaction,
    action: Action,
    caller: Caller,
    view: View,
    status: ShareStatus,
    *,
    vault_id: str,
) -> Share:
    assert view.share is not None  # or a rule would have been broken
    if view.share.status is status and view.share.vault_id == vault_id:
        return view.share
    decided = replace(view.share, status=status, vault_id=vault_id, update_time=deployment.now())
    tx.shares.save(decided)
    record_shares(
        deployment, tx, action, by=caller, image=view.image, before=[view.share], after=[decided]
    )
    return decided


# --- What ends by itself ---


def remove_ended_shares(deployment: Deployment) -> int:
    """Remove the shares that have ended by themselves; return how many there were.

    They serve nobody since they ended, and are on record only until somebody comes round.
    """
    with deployment.database.reading() as reading:
        image_ids = reading.shares.ended(now=deployment.now())
    return sum(remove_ended_shares_of(deployment, image_id) for image_id in image_ids)


@in_one_transaction
def remove_ended_shares_of(deployment: Deployment, tx: Transaction, image_id: ImageId) -> int:
    """Do the same with those of one image."""
    view = tx.images.lock(image_id, NOBODY, now=deployment.now, governing=True)
    if view is None:
        return 0
    ended = tx.shares.remove_ended(image_id, now=deployment.now())
    record_shares(deployment, tx, Action.EXPIRE_SHARE, by=None, image=view.image, before=ended)
    return len(ended)
