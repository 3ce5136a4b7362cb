"""The story of each call on the shares of an image."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ims.domain.caller import Caller
from ims.domain.image import ImageId
from ims.domain.page import Page, PageRequest, Received, ShareFilter
from ims.domain.registered_use import UsageSummary
from ims.domain.rejection import Problems, Violation
from ims.domain.share import Share, ShareStatus
from ims.domain.tenant import Region, Tenant, TenantId
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
    ABOUT_THE_IMAGE,
    ABOUT_THE_SHARES_TO_END,
    ACCEPT_SHARE,
    GET_SHARE,
    LEAVE_SHARE,
    LIST_SHARES,
    REJECT_SHARE,
    SHARE_IMAGE,
    UNSHARE_IMAGE,
    AcceptAttempt,
    OneShareAttempt,
    ShareAttempt,
    UnshareAttempt,
)
from ims.use_cases.deployment import Deployment, in_one_transaction, refuse_suspended, see, see_locked

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
    allow_partial: bool = False,
    problems: Problems = (),
) -> Sharing:
    """Share an image with more tenants: with all of them, or, where allowed, with those it can be."""
    view = see_locked(deployment, tx, caller, image_id)
    attempt, existing = _share_attempt(deployment, tx, caller, view, recipients, problems)
    if allow_partial:
        enforce((*ABOUT_THE_CALL, *ABOUT_THE_IMAGE), attempt)
        outcomes = tuple(_one_by_one(attempt, existing))
    else:
        enforce(SHARE_IMAGE, attempt)
        outcomes = tuple(Outcome(tenant_id=each.id, share=None) for each in attempt.recipients)
    regions = {tenant.id: tenant.region for tenant in attempt.newcomers}
    now = deployment.now()
    added = {
        outcome.tenant_id: Share(
            image_id=image_id,
            tenant_id=outcome.tenant_id,
            region=regions[outcome.tenant_id],
            create_time=now,
            update_time=now,
        )
        for outcome in outcomes
        if outcome.tenant_id in regions and not outcome.refusals
    }
    tx.shares.add(added.values())
    shares = existing | added
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
    problems: Problems = (),
) -> Sharing:
    """Tell everything that would be refused if the image were shared now; store nothing."""
    with deployment.database.reading() as reading:
        view = see(deployment, reading, caller, image_id)
        attempt, existing = _share_attempt(deployment, reading, caller, view, recipients, problems)
        enforce(ABOUT_THE_CALL, attempt)
        return Sharing(
            outcomes=tuple(_one_by_one(attempt, existing)),
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
    problems: Problems,
) -> tuple[ShareAttempt, dict[TenantId, Share]]:
    """Return the facts, and the shares that the recipients have already."""
    named = tuple(each.tenant_id for each in recipients)
    prospect = reading.shares.prospect(view.image.id, view.image.owner, named)
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
        share_limit=deployment.limits.shares_of(view.image),
        unknown_tenants=frozenset(named) - known.keys() if deployment.directory_closed else frozenset(),
        owner_blocked=prospect.owner_blocked,
        all_blocked=prospect.all_blocked,
        problems=problems,
    )
    return attempt, dict(prospect.shares)


def _one_by_one(attempt: ShareAttempt, existing: dict[TenantId, Share]) -> Iterator[Outcome]:
    """Judge the recipients in the order of the request, each as if those before it had been let in."""
    let_in = attempt.share_count
    for tenant in attempt.recipients:
        alone = replace(attempt, recipients=(tenant,), share_count=let_in)
        refusals = judge(ABOUT_EACH_RECIPIENT, alone)
        if not refusals:
            let_in += len(alone.newcomers)
        yield Outcome(tenant_id=tenant.id, share=existing.get(tenant.id), refusals=refusals)


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
    attempt = UnshareAttempt(
        caller=caller,
        image=view.image,
        # Whoever registers a use needs the image's lock: there is none until this transaction ends.
        usage_to_spare=tx.uses.total_of_recipients(image_id, tenant_ids) if require_unused else None,
        problems=problems,
    )
    enforce(UNSHARE_IMAGE, attempt)
    return tx.shares.remove(image_id, tenant_ids)


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
        attempt = UnshareAttempt(caller=caller, image=view.image, problems=problems)
        enforce(ABOUT_THE_CALL_TO_UNSHARE, attempt)
        usage = reading.uses.summary_of_recipients(image_id, tenant_ids)
        if require_unused:
            attempt = replace(attempt, usage_to_spare=usage.total)
        return UnsharingPreview(
            ended=reading.shares.those(image_id, tenant_ids),
            usage=usage,
            refusals=judge(ABOUT_THE_SHARES_TO_END, attempt),
        )


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
            found=reading.shares.find(image_id, wanted),
            problems=problems,
        )
    enforce(GET_SHARE, attempt)
    assert attempt.found is not None  # or a rule would have been broken
    return attempt.found


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
        return reading.shares.list(image_id, share_filter, size=size, after=after, count=count)


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
        return reading.images.received(caller.tenant_id, share_filter, page, descending=descending)


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
    vault = _find_vault(deployment, caller, vault_id)
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
    return _decide(deployment, tx, view, ShareStatus.ACCEPTED, vault_id=named)


def _find_vault(deployment: Deployment, caller: Caller, vault_id: str) -> Vault | None:
    if deployment.backups is None or not vault_id:
        return None
    return deployment.backups.find_vault(caller.tenant_id, vault_id)


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
    return _decide(deployment, tx, view, ShareStatus.REJECTED, vault_id="")


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
    _recipients_view(deployment, tx, caller, image_id, LEAVE_SHARE, problems)
    tx.shares.remove(image_id, (caller.tenant_id,))


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
    deployment: Deployment, tx: Transaction, view: View, status: ShareStatus, *, vault_id: str
) -> Share:
    assert view.share is not None  # or a rule would have been broken
    if view.share.status is status and view.share.vault_id == vault_id:
        return view.share
    decided = replace(view.share, status=status, vault_id=vault_id, update_time=deployment.now())
    tx.shares.save(decided)
    return decided
