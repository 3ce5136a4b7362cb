"""Tenants and regions."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType

TenantId = NewType("TenantId", str)
Region = NewType("Region", str)

NOBODY = TenantId("")
"""The viewer of an image when it is the service itself that looks."""


@dataclass(frozen=True, order=True)
class Tenant:
    """One customer of the cloud, in the region where it is at home."""

    id: TenantId
    region: Region


class TenantState(StrEnum):
    """Whether a tenant may do anything (law 8.2)."""

    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"


@dataclass(frozen=True, kw_only=True)
class RegisteredTenant:
    """A tenant as the directory has it."""

    id: TenantId
    region: Region
    sharing_blocked: bool = False
    """Whether it may not share anything with anybody new (law 8.3)."""
    register_time: datetime
    suspend_time: datetime | None = None
    """Since when it is suspended; None when it is not."""

    @property
    def state(self) -> TenantState:
        return TenantState.ACTIVE if self.suspend_time is None else TenantState.SUSPENDED
