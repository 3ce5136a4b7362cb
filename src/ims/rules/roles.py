"""The law of roles: which RPC needs which role, whatever it is about (law 2.2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ims.domain.caller import Caller, Role
from ims.domain.rejection import Category, Reason
from ims.rules.engine import Breach, Rule, breach, rule

_EVERYBODY: Final = frozenset({Role.READER, Role.MEMBER, Role.SERVICE, Role.ADMIN})
"""Of the tenants and services of this region: a peer does what it is for, and nothing else."""
_EVERYBODY_AND_PEERS: Final = _EVERYBODY | {Role.PEER}
_READERS: Final = frozenset({Role.READER, Role.MEMBER, Role.ADMIN})
_MEMBERS: Final = frozenset({Role.MEMBER})
_MEMBERS_AND_SERVICES: Final = frozenset({Role.MEMBER, Role.SERVICE})
_THOSE_WHO_BRING_IMAGES: Final = _MEMBERS_AND_SERVICES | {Role.PEER}
_PEERS: Final = frozenset({Role.PEER})
_MEMBERS_AND_ADMINISTRATORS: Final = frozenset({Role.MEMBER, Role.ADMIN})
_ADMINISTRATORS: Final = frozenset({Role.ADMIN})

SUFFICIENT_ROLES: Final[dict[str, frozenset[Role]]] = {
    # ImageService
    "CreateImage": _THOSE_WHO_BRING_IMAGES,
    "GetImage": _EVERYBODY_AND_PEERS,
    "ListImages": _READERS,
    "UpdateImage": _MEMBERS,
    "DeleteImage": _MEMBERS,
    "UndeleteImage": _MEMBERS,
    "DeactivateImage": _MEMBERS_AND_ADMINISTRATORS,
    "ReactivateImage": _MEMBERS_AND_ADMINISTRATORS,
    "UploadImageData": _MEMBERS_AND_SERVICES,
    "DownloadImageData": _EVERYBODY,
    "CreateDownloadUrl": _EVERYBODY,
    "ResolveImage": _EVERYBODY,
    "GetQuotas": _READERS,
    "ImportImage": _MEMBERS_AND_SERVICES,
    "CopyImage": _MEMBERS,
    "ExportImage": _MEMBERS,
    "CopyImageToRegion": _MEMBERS,
    "DiscardImage": _PEERS,
    # SharingService
    "ShareImage": _MEMBERS,
    "UnshareImage": _MEMBERS,
    "UpdateShare": _MEMBERS,
    "GetShare": _READERS,
    "ListShares": _READERS,
    "ListReceivedShares": _READERS,
    "AcceptShare": _MEMBERS,
    "RejectShare": _MEMBERS,
    "LeaveShare": _MEMBERS,
    "GetTrustRules": _READERS,
    "SetTrustRules": _MEMBERS,
    # AdminService
    "PublishImage": _ADMINISTRATORS,
    "UnpublishImage": _ADMINISTRATORS,
    "GetTenantQuotas": _ADMINISTRATORS,
    "SetTenantQuotas": _ADMINISTRATORS,
    "RegisterTenant": _ADMINISTRATORS,
    "UpdateTenant": _ADMINISTRATORS,
    "SuspendTenant": _ADMINISTRATORS,
    "ResumeTenant": _ADMINISTRATORS,
    "GetTenant": _ADMINISTRATORS,
    "ListTenants": _ADMINISTRATORS,
    "GetSharingPolicy": _ADMINISTRATORS,
    "SetSharingPolicy": _ADMINISTRATORS,
    "DeactivateTenantImage": _ADMINISTRATORS,
    "ReactivateTenantImage": _ADMINISTRATORS,
    # UseService
    "RegisterUse": _MEMBERS_AND_SERVICES,
    "ReleaseUse": _MEMBERS_AND_SERVICES,
    "ListUses": _EVERYBODY,
    "GetUsage": _EVERYBODY,
    # UploadService
    "StartUpload": _THOSE_WHO_BRING_IMAGES,
    "WriteUpload": _THOSE_WHO_BRING_IMAGES,
    "CreatePartUrls": _THOSE_WHO_BRING_IMAGES,
    "GetUpload": _THOSE_WHO_BRING_IMAGES,
    "FinishUpload": _THOSE_WHO_BRING_IMAGES,
    "AbortUpload": _THOSE_WHO_BRING_IMAGES,
    # AuditService
    "ListAuditEvents": _EVERYBODY,
    "ExportAuditEvents": _EVERYBODY,
    # Operations
    "ListOperations": _READERS,
    "GetOperation": _EVERYBODY,
    "DeleteOperation": _MEMBERS_AND_SERVICES,
    "CancelOperation": _MEMBERS_AND_SERVICES,
    "WaitOperation": _EVERYBODY,
}
"""Every RPC, and the roles of which each alone suffices to call it."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """A caller calls an RPC."""

    caller: Caller
    rpc: str


@rule("2.2", Reason.ROLE_REQUIRED, Category.FORBIDDEN)
def an_rpc_is_called_with_a_role_that_suffices(call: Call) -> Iterator[Breach]:
    """What a caller may do at all its roles say, whatever the call is about."""
    # An RPC that nobody wrote into the table is nobody's.
    sufficient = SUFFICIENT_ROLES.get(call.rpc, frozenset())
    if sufficient.isdisjoint(call.caller.roles):
        names = ", ".join(sorted(sufficient))
        yield breach(
            f"{call.rpc} needs one of these roles, and the caller has none of them: {names}.",
            requiredRoles=names,
        )


CALL_RPC: tuple[Rule[Call], ...] = (an_rpc_is_called_with_a_role_that_suffices,)
