"""Tenants and their quotas: as messages, and as requests say it."""

from dataclasses import fields
from typing import Final

from ims.domain.page import TenantFilter
from ims.domain.quotas import Allowance, Quotas
from ims.domain.tenant import RegisteredTenant, TenantState
from ims.servicers.reading import (
    RequestReading,
)
from ims.servicers.times import timestamp
from ims.use_cases.tenants import TenantChanges
from ims.v1 import (
    admin_service_pb2,
    quota_pb2,
    tenant_pb2,
)


def quotas_message(allowance: Allowance) -> quota_pb2.TenantQuotas:
    """Return what a tenant has taken, and the most that it can have."""
    return quota_pb2.TenantQuotas(
        **{
            quota: quota_pb2.Quota(
                used=getattr(allowance.used, quota),
                limit=getattr(allowance.limits, quota),
                overridden=getattr(allowance.own_limits, quota) is not None,
            )
            for quota in _QUOTAS
        }
    )


_QUOTAS: Final = tuple(field.name for field in fields(Quotas))


def read_limits(
    reading: RequestReading, request: admin_service_pb2.SetTenantQuotasRequest
) -> dict[str, int | None]:
    """Return the limits that a request sets, by the names of their quotas; None where it clears one."""
    paths = list(dict.fromkeys(request.update_mask.paths))
    if request.HasField("update_mask") and not paths:
        reading.problem("update_mask", "it names at least one quota.")
    for path in paths:
        if path not in _QUOTAS:
            reading.problem("update_mask", f"there is no quota '{path}', but {', '.join(_QUOTAS)}.")
    given = {field.name: value for field, value in request.limits.ListFields()}
    return {
        quota: reading.not_negative(f"limits.{quota}", given[quota]) if quota in given else None
        for quota in _QUOTAS
        if quota in paths
    }


def tenant_message(tenant: RegisteredTenant) -> tenant_pb2.Tenant:
    """Return a tenant as administrators get it."""
    return tenant_pb2.Tenant(
        id=tenant.id,
        region=tenant.region,
        state=tenant_pb2.Tenant.State.Value(tenant.state),
        sharing_blocked=tenant.sharing_blocked,
        register_time=timestamp(tenant.register_time),
        suspend_time=timestamp(tenant.suspend_time),
    )


_TENANT_FIELDS: Final = ("region", "sharing_blocked")


def read_tenant_changes(
    reading: RequestReading, request: admin_service_pb2.UpdateTenantRequest
) -> TenantChanges:
    """Return what an update of a tenant wants to change."""
    paths = set(request.update_mask.paths)
    if request.HasField("update_mask") and not paths:
        reading.problem("update_mask", "it names at least one field.")
    for path in sorted(paths.difference(_TENANT_FIELDS)):
        fields = " and ".join(_TENANT_FIELDS)
        reading.problem("update_mask", f"'{path}' cannot be updated; {fields} can.")
    region = reading.region("tenant.region", request.tenant.region)
    if "region" in paths and not request.tenant.region:
        reading.problem("tenant.region", "it is required where update_mask names it.")
    return TenantChanges(
        region=region if "region" in paths else None,
        sharing_blocked=request.tenant.sharing_blocked if "sharing_blocked" in paths else None,
    )


def read_tenant_filter(
    reading: RequestReading, request: admin_service_pb2.ListTenantsRequest
) -> TenantFilter:
    """Return what a listing of the directory lets through."""
    return TenantFilter(
        state=reading.word(request, "state", TenantState),
        region=reading.region("region", request.region),
    )
