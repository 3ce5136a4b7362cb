"""The story of each call on the quotas of a tenant."""

from collections.abc import Mapping
from dataclasses import replace

from ims.domain.audit import Action
from ims.domain.caller import Caller
from ims.domain.quotas import Allowance
from ims.domain.rejection import Problems
from ims.domain.tenant import TenantId
from ims.repository.database import Transaction
from ims.rules.engine import enforce
from ims.rules.quotas import GET_TENANT_QUOTAS, SET_TENANT_QUOTAS, QuotaAttempt
from ims.use_cases.deployment import Deployment, in_one_transaction, refuse_if, refuse_suspended
from ims.use_cases.trail import record


def get_quotas(deployment: Deployment, *, caller: Caller) -> Allowance:
    """Return what the caller's tenant has taken, and the most that it can have."""
    with deployment.database.reading() as reading:
        account = reading.tenants.account(caller.tenant_id)
    refuse_if(caller.tenant_id, suspended=account.suspended)
    return account.under(deployment.limits.quotas)


def get_tenant_quotas(
    deployment: Deployment, *, caller: Caller, tenant_id: TenantId | None, problems: Problems = ()
) -> Allowance:
    """Return what a tenant has taken, and the most that it can have."""
    with deployment.database.reading() as reading:
        refuse_suspended(reading, caller.tenant_id)
        enforce(GET_TENANT_QUOTAS, QuotaAttempt(caller=caller, problems=problems))
        assert tenant_id is not None  # or it would have been a problem
        return reading.tenants.account(tenant_id).under(deployment.limits.quotas)


@in_one_transaction
def set_tenant_quotas(
    deployment: Deployment,
    tx: Transaction,
    *,
    caller: Caller,
    tenant_id: TenantId | None,
    limits: Mapping[str, int | None],
    problems: Problems = (),
) -> Allowance:
    """Give a tenant limits of its own, by the names of the quotas; None is the deployment's default."""
    refuse_suspended(tx, caller.tenant_id)
    enforce(SET_TENANT_QUOTAS, QuotaAttempt(caller=caller, problems=problems))
    assert tenant_id is not None  # or it would have been a problem
    account = tx.tenants.lock(tenant_id)
    limited = replace(account, own_limits=replace(account.own_limits, **limits))
    if limited != account:
        tx.tenants.limit(tenant_id, limited.own_limits)
        said = {quota: "default" if limit is None else limit for quota, limit in limits.items()}
        record(deployment, tx, Action.SET_TENANT_QUOTAS, by=caller, about=tenant_id, details=said)
    return limited.under(deployment.limits.quotas)
