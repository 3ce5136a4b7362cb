"""Tenants and regions."""

from dataclasses import dataclass
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
