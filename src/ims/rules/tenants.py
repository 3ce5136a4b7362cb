"""The law of tenants: who governs them, and what becomes of one that is suspended (law 8)."""

from collections.abc import Iterator
from dataclasses import dataclass

from ims.domain.caller import Caller, Role
from ims.domain.rejection import Category, FieldProblem, Reason
from ims.domain.tenant import Region, RegisteredTenant, TenantId
from ims.rules.engine import Breach, Rule, breach, rule
from ims.rules.form import every_field_can_be_read

# --- Suspension ---


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Somebody calls for a tenant."""

    tenant_id: TenantId
    suspended: bool


@rule("8.2", Reason.TENANT_SUSPENDED, Category.SUSPENDED)
def a_suspended_tenant_does_nothing(standing: Standing) -> Iterator[Breach]:
    """A suspended tenant can do nothing, nor can anybody for it, whatever a call is about."""
    if standing.suspended:
        yield breach(
            f"Tenant '{standing.tenant_id}' is suspended; an administrator can resume it.",
            subject=standing.tenant_id,
            tenantId=standing.tenant_id,
        )


CALL_FOR_TENANT: tuple[Rule[Standing], ...] = (a_suspended_tenant_does_nothing,)


# --- The tenant directory ---


@dataclass(frozen=True, kw_only=True)
class Governance:
    """Somebody wants to see or change what holds of tenants, of one or of all."""

    caller: Caller
    problems: tuple[FieldProblem, ...] = ()


@rule("8.1", Reason.ROLE_REQUIRED, Category.FORBIDDEN)
def only_administrators_govern_tenants(attempt: Governance) -> Iterator[Breach]:
    """Administrators keep the tenant directory, and say what tenants may do."""
    if not attempt.caller.has(Role.ADMIN):
        yield breach(
            f"Only a caller with the role '{Role.ADMIN}' governs tenants.", requiredRoles=Role.ADMIN
        )


@dataclass(frozen=True, kw_only=True)
class TenantAttempt(Governance):
    """Somebody wants to see or change what the directory says of a tenant."""

    tenant_id: TenantId
    found: RegisteredTenant | None


@rule("8.1", Reason.TENANT_NOT_FOUND, Category.UNKNOWN_TENANT)
def only_registered_tenants_are_governed(attempt: TenantAttempt) -> Iterator[Breach]:
    """A tenant that is not registered is not governed: a slip of the pen would suspend nobody."""
    if attempt.found is None:
        yield breach(
            f"There is no tenant '{attempt.tenant_id}' in the directory; register it first.",
            subject="tenant_id",
            tenantId=attempt.tenant_id,
        )


@rule("8.2", Reason.INVALID_FIELD, Category.MALFORMED)
def nobody_suspends_the_tenant_that_it_calls_for(attempt: TenantAttempt) -> Iterator[Breach]:
    """Nobody suspends its own tenant: the last administrator would lock everybody out."""
    if attempt.tenant_id == attempt.caller.tenant_id:
        yield breach(
            "tenant_id: it is your own tenant, which you cannot suspend.",
            subject="tenant_id",
            field="tenant_id",
        )


@dataclass(frozen=True, kw_only=True)
class RegistrationOfTenant(TenantAttempt):
    """Somebody wants the directory to name a tenant."""

    region: Region


@rule("8.1", Reason.TENANT_ALREADY_REGISTERED, Category.EXISTS)
def a_tenant_is_registered_in_one_region(attempt: RegistrationOfTenant) -> Iterator[Breach]:
    """A tenant is registered once; the same again changes nothing, and another region is an update."""
    if attempt.found is not None and attempt.found.region != attempt.region:
        yield breach(
            f"Tenant '{attempt.tenant_id}' is registered in region '{attempt.found.region}' already; "
            "update it.",
            subject="tenant_id",
            tenantId=attempt.tenant_id,
            tenantRegion=attempt.found.region,
        )


GOVERN: tuple[Rule[Governance], ...] = (only_administrators_govern_tenants, every_field_can_be_read)
_GOVERN_TENANT: tuple[Rule[TenantAttempt], ...] = (*GOVERN, only_registered_tenants_are_governed)

REGISTER_TENANT: tuple[Rule[RegistrationOfTenant], ...] = (
    *GOVERN,
    a_tenant_is_registered_in_one_region,
)
GET_TENANT = UPDATE_TENANT = RESUME_TENANT = _GOVERN_TENANT
SUSPEND_TENANT: tuple[Rule[TenantAttempt], ...] = (
    *GOVERN,
    nobody_suspends_the_tenant_that_it_calls_for,
    only_registered_tenants_are_governed,
)
LIST_TENANTS = SET_SHARING_POLICY = GOVERN
GET_SHARING_POLICY: tuple[Rule[Governance], ...] = (only_administrators_govern_tenants,)
