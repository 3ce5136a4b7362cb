"""The story of each call on a tenant's trust rules: what it says, once, of what others share with it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ims.domain.audit import Action
from ims.domain.caller import Caller
from ims.domain.rejection import Problems
from ims.domain.trust import TrustRules
from ims.repository.database import Transaction
from ims.rules.engine import enforce
from ims.rules.trust import SET_TRUST_RULES, TrustAttempt
from ims.use_cases.deployment import Deployment, in_one_transaction, refuse_if, refuse_suspended
from ims.use_cases.trail import record


def get_trust_rules(deployment: Deployment, *, caller: Caller) -> TrustRules:
    """Return the trust rules of the caller's tenant."""
    with deployment.database.reading() as reading:
        refuse_suspended(reading, caller.tenant_id)
        return reading.trust.rules(caller.tenant_id)


@in_one_transaction
def set_trust_rules(
    deployment: Deployment,
    tx: Transaction,
    *,
    caller: Caller,
    changes: Mapping[str, Any],
    expected_etag: str = "",
    problems: Problems = (),
) -> TrustRules:
    """Change some of the trust rules of the caller's tenant, by the names of their fields."""
    # Whoever adds to the pending shares of a tenant that limits them holds the same lock.
    account = tx.tenants.lock(caller.tenant_id)
    refuse_if(caller.tenant_id, suspended=account.suspended)
    rules = tx.trust.rules(caller.tenant_id)
    attempt = TrustAttempt(
        rules=rules,
        draft=replace(rules, **changes),
        expected_etag=expected_etag,
        problems=problems,
    )
    enforce(SET_TRUST_RULES, attempt)
    draft = replace(attempt.draft, version=rules.version + 1)
    tx.trust.save(caller.tenant_id, draft, home=caller.region)
    record(
        deployment,
        tx,
        Action.SET_TRUST_RULES,
        by=caller,
        about=caller.tenant_id,
        details={"fields": tuple(sorted(changes))},
    )
    return draft
