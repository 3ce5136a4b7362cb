"""The story of each call on the audit trail, and its end."""

from collections.abc import Iterator
from typing import Final

from ims.domain.audit import AuditEvent, AuditFilter
from ims.domain.caller import Caller
from ims.domain.page import Page, Position
from ims.domain.rejection import Problems
from ims.domain.tenant import TenantId
from ims.rules.audit import EXPORT_AUDIT_EVENTS, LIST_AUDIT_EVENTS, AuditQuery
from ims.rules.engine import enforce
from ims.use_cases.deployment import Deployment, refuse_suspended

_READ_AT_ONCE: Final = 500
"""How many events of an export are read with one statement, and sent in one message."""
_FORGET_AT_ONCE: Final = 1000
"""How many events are removed in one transaction, so that nobody waits long for its end."""


def list_audit_events(
    deployment: Deployment,
    *,
    caller: Caller,
    audit_filter: AuditFilter,
    tenant_id: TenantId | None = None,
    size: int,
    after: Position | None,
    descending: bool,
    problems: Problems = (),
) -> Page[AuditEvent]:
    """Return a part of what a tenant (None: the caller's own) may know of what was done."""
    viewer = tenant_id or caller.tenant_id
    with deployment.database.reading() as reading:
        refuse_suspended(reading, caller.tenant_id)
        enforce(LIST_AUDIT_EVENTS, AuditQuery(caller=caller, tenant_id=viewer, problems=problems))
        return reading.audit_log.list(
            viewer, audit_filter, size=size, after=after, descending=descending
        )


def export_audit_events(
    deployment: Deployment,
    *,
    caller: Caller,
    audit_filter: AuditFilter,
    tenant_id: TenantId | None = None,
    problems: Problems = (),
) -> Iterator[tuple[AuditEvent, ...]]:
    """Yield all that a tenant (None: the caller's own) may know was done, in parts, the oldest first."""
    viewer = tenant_id or caller.tenant_id
    after = None
    while True:
        # Page by page: nobody waits for a transaction that lasts as long as the slowest client.
        with deployment.database.reading() as reading:
            refuse_suspended(reading, caller.tenant_id)
            enforce(EXPORT_AUDIT_EVENTS, AuditQuery(caller=caller, tenant_id=viewer, problems=problems))
            page = reading.audit_log.list(
                viewer, audit_filter, size=_READ_AT_ONCE, after=after, descending=False
            )
        if page.items:
            yield page.items
        if not page.more:
            return
        after = page.places[-1]


def forget_audit_events(deployment: Deployment) -> int:
    """Remove the events that need be kept no longer; return how many rows they were."""
    forgotten = 0
    before = deployment.now() - deployment.audit_retention
    while True:
        with deployment.database.transaction() as tx:
            some = tx.audit_log.forget(before=before, most=_FORGET_AT_ONCE)
        forgotten += some
        if some < _FORGET_AT_ONCE:
            return forgotten
