"""The story of each call on the tenant directory: who the tenants are, and what they may do."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from ims.domain.audit import Action
from ims.domain.caller import Caller
from ims.domain.page import Page, Position, TenantFilter
from ims.domain.rejection import Problems
from ims.domain.tenant import Region, RegisteredTenant, TenantId
from ims.repository.database import Reading, Transaction
from ims.rules.engine import Rule, enforce
from ims.rules.tenants import (
    GET_SHARING_POLICY,
    GET_TENANT,
    GOVERN,
    REGISTER_TENANT,
    RESUME_TENANT,
    SUSPEND_TENANT,
    UPDATE_TENANT,
    Governance,
    RegistrationOfTenant,
    TenantAttempt,
)
from ims.use_cases.deployment import Deployment, in_one_transaction, refuse_suspended
from ims.use_cases.trail import record


@in_one_transaction
def register_tenant(
    deployment: Deployment,
    tx: Transaction,
    *,
    caller: Caller,
    tenant_id: TenantId | None,
    region: Region | None,
    problems: Problems = (),
) -> RegisteredTenant:
    """Have the directory name a tenant; where it does so already, in this region, nothing changes."""
    _admit(tx, caller, problems)
    assert tenant_id is not None  # or it would have been a problem
    assert region is not None
    tx.tenants.lock(tenant_id)  # makes its record, or waits for whoever is making it
    found = tx.tenants.find(tenant_id)
    attempt = RegistrationOfTenant(caller=caller, tenant_id=tenant_id, region=region, found=found)
    enforce(REGISTER_TENANT, attempt)
    if found is not None:
        return found
    tenant = RegisteredTenant(id=tenant_id, region=region, register_time=deployment.now())
    tx.tenants.save(tenant)
    record(
        deployment, tx, Action.REGISTER_TENANT, by=caller, about=tenant_id, details={"region": region}
    )
    return tenant


@dataclass(frozen=True, kw_only=True)
class TenantChanges:
    """What an update of a tenant changes; None where it leaves something as it is."""

    region: Region | None = None
    sharing_blocked: bool | None = None


def update_tenant(
    deployment: Deployment,
    *,
    caller: Caller,
    tenant_id: TenantId | None,
    changes: TenantChanges,
    problems: Problems = (),
) -> RegisteredTenant:
    """Change what the directory says of a tenant; what there is of images and shares stays."""

    def change(tenant: RegisteredTenant) -> RegisteredTenant:
        blocked = changes.sharing_blocked
        return replace(
            tenant,
            region=changes.region or tenant.region,
            sharing_blocked=tenant.sharing_blocked if blocked is None else blocked,
        )

    return _change(deployment, UPDATE_TENANT, change, Action.UPDATE_TENANT, caller, tenant_id, problems)


def suspend_tenant(
    deployment: Deployment, *, caller: Caller, tenant_id: TenantId | None, problems: Problems = ()
) -> RegisteredTenant:
    """Let a tenant do nothing, and serve nothing of its own to others, from now on."""

    def suspend(tenant: RegisteredTenant) -> RegisteredTenant:
        return replace(tenant, suspend_time=tenant.suspend_time or deployment.now())

    return _change(
        deployment, SUSPEND_TENANT, suspend, Action.SUSPEND_TENANT, caller, tenant_id, problems
    )


def resume_tenant(
    deployment: Deployment, *, caller: Caller, tenant_id: TenantId | None, problems: Problems = ()
) -> RegisteredTenant:
    """Have everything of a suspended tenant be as it was."""

    def resume(tenant: RegisteredTenant) -> RegisteredTenant:
        return replace(tenant, suspend_time=None)

    return _change(deployment, RESUME_TENANT, resume, Action.RESUME_TENANT, caller, tenant_id, problems)


@in_one_transaction
def _change(
    deployment: Deployment,
    tx: Transaction,
    rules: tuple[Rule[TenantAttempt], ...],
    change: Callable[[RegisteredTenant], RegisteredTenant],
    action: Action,
    caller: Caller,
    tenant_id: TenantId | None,
    problems: Problems,
) -> RegisteredTenant:
    _admit(tx, caller, problems)
    assert tenant_id is not None  # or it would have been a problem
    tenant = _judged(rules, caller, tenant_id, tx.tenants.find_locked(tenant_id))
    changed = change(tenant)
    if changed != tenant:
        tx.tenants.save(changed)
        record(
            deployment,
            tx,
            action,
            by=caller,
            about=tenant_id,
            details=_what_is_new(tenant, changed),
        )
    return changed


def _what_is_new(before: RegisteredTenant, after: RegisteredTenant) -> dict[str, object]:
    new: dict[str, object] = {}
    if after.state != before.state:
        new |= {"stateFrom": before.state, "stateTo": after.state}
    if after.region != before.region:
        new["region"] = after.region
    if after.sharing_blocked != before.sharing_blocked:
        new["sharingBlocked"] = after.sharing_blocked
    return new


def get_tenant(
    deployment: Deployment, *, caller: Caller, tenant_id: TenantId | None, problems: Problems = ()
) -> RegisteredTenant:
    """Return a tenant as the directory has it."""
    with deployment.database.reading() as reading:
        _admit(reading, caller, problems)
        assert tenant_id is not None  # or it would have been a problem
        return _judged(GET_TENANT, caller, tenant_id, reading.tenants.find(tenant_id))


def list_tenants(
    deployment: Deployment,
    *,
    caller: Caller,
    tenant_filter: TenantFilter,
    size: int,
    after: Position | None,
    problems: Problems = (),
) -> Page[RegisteredTenant]:
    """Return a part of the directory, by id, from behind a place on."""
    with deployment.database.reading() as reading:
        _admit(reading, caller, problems)
        return reading.tenants.list(tenant_filter, size=size, after=after)


def _admit(reading: Reading, caller: Caller, problems: Problems) -> None:
    """Have only administrators look at tenants, and only they lock what is on record of one."""
    refuse_suspended(reading, caller.tenant_id)
    enforce(GOVERN, Governance(caller=caller, problems=problems))


def _judged(
    rules: tuple[Rule[TenantAttempt], ...],
    caller: Caller,
    tenant_id: TenantId,
    found: RegisteredTenant | None,
) -> RegisteredTenant:
    enforce(rules, TenantAttempt(caller=caller, tenant_id=tenant_id, found=found))
    assert found is not None  # or a rule would have been broken
    return found


# --- What holds for all tenants ---


def get_sharing_policy(deployment: Deployment, *, caller: Caller) -> bool:
    """Return whether nobody may share with anybody new."""
    with deployment.database.reading() as reading:
        refuse_suspended(reading, caller.tenant_id)
        enforce(GET_SHARING_POLICY, Governance(caller=caller))
        return reading.policies.sharing_blocked()


@in_one_transaction
def set_sharing_policy(
    deployment: Deployment,
    tx: Transaction,
    *,
    caller: Caller,
    blocked: bool,
    problems: Problems = (),
) -> bool:
    """Keep all tenants from sharing with anybody new, or let them again; return which."""
    _admit(tx, caller, problems)
    if blocked != tx.policies.sharing_blocked():
        tx.policies.block_sharing(blocked=blocked)
        # Of all tenants, so of none: for who runs the deployment.
        record(
            deployment,
            tx,
            Action.SET_SHARING_POLICY,
            by=caller,
            about=caller.tenant_id,
            details={"newSharesBlocked": blocked},
        )
    return blocked
