"""The backup provider: which vaults a tenant has."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ims.domain.tenant import TenantId
from ims.domain.vault import Vault


class BackupProvider(Protocol):
    """Knows the backup vaults of tenants."""

    def find_vault(self, tenant_id: TenantId, vault_id: str) -> Vault | None:
        """Return a vault of a tenant; None when it has no such vault."""


@dataclass(frozen=True)
class ListedVaults:
    """The vaults that the settings list."""

    vaults: Mapping[TenantId, tuple[Vault, ...]] = field(default_factory=dict)

    def find_vault(self, tenant_id: TenantId, vault_id: str) -> Vault | None:
        own = self.vaults.get(tenant_id, ())
        return next((vault for vault in own if vault.id == vault_id), None)
