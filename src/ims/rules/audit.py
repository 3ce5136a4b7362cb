"""The law of the audit trail: who reads it, and which refusals are a part of it (law 9)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ims.domain.caller import Caller, Role
from ims.domain.rejection import Category, FieldProblem, Reason, Rejection
from ims.domain.tenant import TenantId
from ims.rules.engine import Breach, Rule, breach, rule
from ims.rules.form import every_field_can_be_read


@dataclass(frozen=True, kw_only=True)
class AuditQuery:
    """Somebody wants to read what a tenant may know of what was done."""

    caller: Caller
    tenant_id: TenantId
    problems: tuple[FieldProblem, ...] = ()


@rule("9.3", Reason.ROLE_REQUIRED, Category.FORBIDDEN)
def only_administrators_read_the_trail_of_others(query: AuditQuery) -> Iterator[Breach]:
    """A tenant reads its own audit events; an administrator those of any tenant it names."""
    if query.tenant_id != query.caller.tenant_id and not query.caller.has(Role.ADMIN):
        yield breach(
            f"Only a caller with the role '{Role.ADMIN}' reads the audit events of other tenants.",
            requiredRoles=Role.ADMIN,
        )


LIST_AUDIT_EVENTS: tuple[Rule[AuditQuery], ...] = (
    only_administrators_read_the_trail_of_others,
    every_field_can_be_read,
)
EXPORT_AUDIT_EVENTS: tuple[Rule[AuditQuery], ...] = LIST_AUDIT_EVENTS


_AGAINST_A_CHANGE: Final = {Category.WRONG_STATE, Category.AGAINST_RULES}
_OF_A_CROWD: Final = {
    Reason.TOO_MANY_CALLS,
    Reason.TOO_MANY_TRANSFERS,
    Reason.TOO_MANY_STREAMS,
    Reason.STORAGE_FULL,
}
"""What is too much for the service just now, and no quota or limit of the tenant's."""


def refusal_matters(rejection: Rejection, *, of_a_change: bool) -> bool:
    """Whether a refusal is recorded (law 9.4).

    Those of a change are, and whatever somebody may not do. What the caller may not know of is none: it
    leaves no trace that could tell it from what never existed.
    """
    if rejection.category in {Category.FORBIDDEN, Category.SUSPENDED}:
        return True
    if rejection.category is Category.OVER_LIMIT:
        return of_a_change and rejection.reason not in _OF_A_CROWD
    return of_a_change and rejection.category in _AGAINST_A_CHANGE
