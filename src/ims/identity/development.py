"""The development identity: callers say who they are, and are believed.

For trying the service on one's own machine; whoever can reach the port is whoever it likes to be.
"""

from functools import lru_cache

from ims.domain.caller import Caller, Role
from ims.domain.rejection import Category, Reason, Rejection, reject
from ims.domain.tenant import Region, TenantId
from ims.identity.interface import Metadata, Names
from ims.identity.shapes import MAX_USER_LENGTH, REGION, TENANT_ID

TENANT, USER, ROLES, HOME = "ims-tenant", "ims-user", "ims-roles", "ims-region"
_CLAIMS = frozenset({TENANT, USER, ROLES, HOME})

_NO_ROLE_NAMED = frozenset({Role.MEMBER})


class DevelopmentIdentity:
    """Takes tenant, user, roles and region from the metadata of a call."""

    def __init__(self, *, home: Region) -> None:
        self._home = home
        self._judged = lru_cache(maxsize=1024)(self._judge)

    def caller_of(self, metadata: Metadata, names: Names = ()) -> Caller:  # noqa: ARG002 - proves nothing
        """Return the caller that the metadata claims.

        `ims-tenant` is required; `ims-user`, `ims-roles` (separated by commas) and `ims-region` are not.
        Who names no role is a member; who names any has exactly those.
        """
        # Who calls tends to call again: the claims are judged once.
        return self._judged(tuple(claim for claim in metadata if claim[0] in _CLAIMS))

    def _judge(self, claimed: tuple[tuple[str, str | bytes], ...]) -> Caller:
        claims = _once_each(claimed)
        tenant_id = claims.get(TENANT, "")
        if not TENANT_ID.fullmatch(tenant_id):
            raise _unauthenticated(
                f"Say who you are: metadata '{TENANT}', 1 to 64 letters, digits, '.', '_', ':' and '-'."
            )
        region = claims.get(HOME, self._home)
        if not REGION.fullmatch(region):
            raise _unauthenticated(f"Metadata '{HOME}' is not the name of a region.")
        user_id = claims.get(USER, "")
        if len(user_id) > MAX_USER_LENGTH:
            raise _unauthenticated(f"Metadata '{USER}' has more than {MAX_USER_LENGTH} characters.")
        return Caller(
            tenant_id=TenantId(tenant_id),
            user_id=user_id,
            roles=_roles(claims.get(ROLES, "")),
            region=Region(region),
        )


def _once_each(claimed: Metadata) -> dict[str, str]:
    claims: dict[str, str] = {}
    for key, value in claimed:
        if key in claims:
            raise _unauthenticated(f"Metadata '{key}' is there more than once.")
        claims[key] = value if isinstance(value, str) else value.decode("ascii", "replace")
    return claims


def _roles(names: str) -> frozenset[Role]:
    wanted = {name.strip() for name in names.split(",")} - {""}
    unknown = wanted - set(Role)
    if unknown:
        raise _unauthenticated(f"Metadata '{ROLES}' names an unknown role; there are {', '.join(Role)}.")
    return frozenset(Role(name) for name in wanted) or _NO_ROLE_NAMED


def _unauthenticated(message: str) -> Rejection:
    return reject(Category.UNAUTHENTICATED, Reason.UNAUTHENTICATED, message)
