"""The identity of tokens: a caller is who the issuer of its token says it is.

A call carries a JWT as `authorization: Bearer …`. Nothing else of a call says who calls: neither other
metadata nor the request.
"""

import base64
import binascii
import hashlib
import json
import math
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import jwt
import structlog

from ims.domain.caller import Caller, Role
from ims.domain.tenant import Region, TenantId
from ims.identity.interface import AUTHORIZATION, Metadata, Names, unauthenticated
from ims.identity.key_set import KeySet
from ims.identity.shapes import MAX_USER_LENGTH, REGION, TENANT_ID

MAX_TOKEN_BYTES: Final = 16 * 1024

_BEARER: Final = re.compile(r"bearer ([\w-]+)\.([\w-]+)\.([\w-]+)", re.ASCII | re.IGNORECASE)
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt", "jose"})
_NEVER_IN_A_HEADER: Final = frozenset({"jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "enc"})
"""What would have a token say by which key, or how otherwise, it is to be judged."""
_MAX_ROLE_NAMES: Final = 1000

_signatures: Final = jwt.PyJWS()
_log = structlog.get_logger("ims.identity")


@dataclass(frozen=True, kw_only=True)
class Trust:
    """Which tokens are believed, and what of them says who calls.

    A claim is named by its path, with dots between: `realm_access.roles`. A claim whose own name has
    dots is found by its whole name.
    """

    issuer: str
    audiences: frozenset[str]
    algorithms: frozenset[str]
    skew_seconds: float
    home: Region
    tenant_claim: str
    tenant_pattern: re.Pattern[str] | None
    """With one group, which is the tenant; None when the whole claim is."""
    user_claim: str
    roles_claim: str
    region_claim: str
    """Empty when every tenant is at home here."""
    role_names: Mapping[str, Role]
    """Which names in a token give which of our roles; no other name gives any."""
    default_roles: frozenset[Role]
    """What somebody has whose token gives none."""


class _NotBelieved(Exception):
    """Why a token is not believed; for the log, never for the caller."""


class OidcIdentity:
    """Takes tenant, user, roles and region from a token that an issuer has signed."""

    def __init__(
        self,
        trust: Trust,
        keys: KeySet,
        *,
        remember_seconds: float,
        remember_tokens: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._trust = trust
        self._keys = keys
        self._now = now
        self._remember_seconds = remember_seconds
        self._known = _KnownTokens(remember_tokens)

    def caller_of(self, metadata: Metadata, names: Names = ()) -> Caller:  # noqa: ARG002 - tokens decide
        """Return whom the token in the metadata vouches for. Raises Rejection UNAUTHENTICATED."""
        try:
            return self._caller_of(_only_authorization(metadata))
        except _NotBelieved as error:
            # A caller that could tell the reasons apart could search for what is believed.
            _log.info("token not believed", why=str(error))
            raise unauthenticated() from None

    def _caller_of(self, authorization: str) -> Caller:
        if len(authorization) > MAX_TOKEN_BYTES:
            raise _NotBelieved("the token is too long")
        fingerprint = hashlib.sha256(authorization.encode("utf-8", "surrogatepass")).digest()
        now = self._now()
        known = self._known.find(fingerprint, now)
        if known is not None:
            return known
        caller, ends = self._judge(authorization, now)
        self._known.add(fingerprint, caller, min(ends, now + self._remember_seconds))
        return caller

    def _judge(self, authorization: str, now: float) -> tuple[Caller, float]:
        """Return the caller of a token that is believed, and until when it is."""
        found = _BEARER.fullmatch(authorization)
        if found is None:
            raise _NotBelieved("it is no bearer token of three parts")
        head, body = _part(found[1]), _part(found[2])
        algorithm, key_id = self._read_head(head)
        # Before a key is looked for: whose token is another's does not have us fetch keys.
        ends = self._check_claims(body, now)
        caller = _caller(body, self._trust)
        self._check_signature(authorization.partition(" ")[2], algorithm, key_id)
        return caller, ends

    def _read_head(self, head: dict[str, Any]) -> tuple[str, str | None]:
        algorithm, key_id, kind = head.get("alg"), head.get("kid"), head.get("typ", "JWT")
        if not isinstance(algorithm, str) or algorithm not in self._trust.algorithms:
            raise _NotBelieved("its algorithm is not allowed")
        if not _NEVER_IN_A_HEADER.isdisjoint(head):
            raise _NotBelieved("its header says how it is to be judged")
        if not isinstance(kind, str) or kind.lower() not in _TYPES:
            raise _NotBelieved("it is of another type")
        if key_id is not None and not isinstance(key_id, str):
            raise _NotBelieved("its key id is no text")
        return algorithm, key_id

    def _check_claims(self, body: dict[str, Any], now: float) -> float:
        if body.get("iss") != self._trust.issuer:
            raise _NotBelieved("it is another issuer's")
        audience = body.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if not all(isinstance(each, str) for each in audiences):
            raise _NotBelieved("its audience is no text")
        if self._trust.audiences.isdisjoint(audiences):
            raise _NotBelieved("it is for another audience")
        ends = _moment(body, "exp")
        if ends is None:
            raise _NotBelieved("it never ends")
        ends += self._trust.skew_seconds
        if ends <= now:
            raise _NotBelieved("it has expired")
        for claim in ("nbf", "iat"):
            begins = _moment(body, claim)
            if begins is not None and begins - self._trust.skew_seconds > now:
                raise _NotBelieved("it is not valid yet")
        return ends

    def _check_signature(self, token: str, algorithm: str, key_id: str | None) -> None:
        key = self._keys.find(key_id, algorithm)
        if key is None:
            raise _NotBelieved("its key is not known")
        try:
            _signatures.decode(token, key, algorithms=[algorithm])
        except (jwt.PyJWTError, ValueError) as error:
            raise _NotBelieved("its signature is not the issuer's") from error


class _KnownTokens:
    """The callers of tokens that were believed, until a moment; the oldest go first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._callers: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()

    def find(self, fingerprint: bytes, now: float) -> Caller | None:
        found = self._callers.get(fingerprint)
        return found[0] if found is not None and now < found[1] else None

    def add(self, fingerprint: bytes, caller: Caller, until: float) -> None:
        with self._lock:
            self._callers.pop(fingerprint, None)
            self._callers[fingerprint] = (caller, until)
            while len(self._callers) > self._size:
                self._callers.popitem(last=False)

    def __len__(self) -> int:
        return len(self._callers)


def _only_authorization(metadata: Metadata) -> str:
    values = [value for key, value in metadata if key.lower() == AUTHORIZATION]
    if len(values) != 1:
        raise _NotBelieved("there is not one authorization")
    (value,) = values
    if not isinstance(value, str):
        raise _NotBelieved("the authorization is no text")
    return value


def _part(encoded: str) -> dict[str, Any]:
    """Return a token's part; one that could be read in two ways is not read at all."""
    try:
        data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != encoded:
            raise _NotBelieved("a part of it is encoded in a second way")
        part = json.loads(
            data.decode("utf-8"), object_pairs_hook=_no_key_twice, parse_constant=_no_constant
        )
    except (ValueError, binascii.Error, RecursionError) as error:
        raise _NotBelieved("a part of it cannot be read") from error
    if not isinstance(part, dict):
        raise _NotBelieved("a part of it is no object")
    return part


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _NotBelieved("a key is there twice")
    return found


def _no_constant(_name: str) -> NoReturn:
    raise _NotBelieved("a number is none")


def _moment(body: dict[str, Any], claim: str) -> float | None:
    if claim not in body:
        return None
    moment = body[claim]
    if isinstance(moment, bool) or not isinstance(moment, int | float):
        raise _NotBelieved(f"'{claim}' is no number")
    try:
        seconds = float(moment)
    except OverflowError as error:
        raise _NotBelieved(f"'{claim}' is no moment") from error
    if not math.isfinite(seconds):
        raise _NotBelieved(f"'{claim}' is no moment")
    return seconds


def _caller(body: dict[str, Any], trust: Trust) -> Caller:
    return Caller(
        tenant_id=_tenant(body, trust),
        user_id=_user(body, trust),
        roles=_roles(body, trust),
        region=_region(body, trust),
    )


def _tenant(body: dict[str, Any], trust: Trust) -> TenantId:
    name = _claim(body, trust.tenant_claim)
    if not isinstance(name, str):
        raise _NotBelieved("it names no tenant")
    if trust.tenant_pattern is not None:
        found = trust.tenant_pattern.fullmatch(name)
        name = (found[1] or "") if found else ""
    if not TENANT_ID.fullmatch(name):
        raise _NotBelieved("its tenant is not a tenant's id")
    return TenantId(name)


def _user(body: dict[str, Any], trust: Trust) -> str:
    name = _claim(body, trust.user_claim)
    if name is None:
        return ""
    if not isinstance(name, str) or len(name) > MAX_USER_LENGTH or not name.isprintable():
        raise _NotBelieved("its user is not a user's id")
    return name


def _roles(body: dict[str, Any], trust: Trust) -> frozenset[Role]:
    named = _claim(body, trust.roles_claim)
    names = named.split(" ") if isinstance(named, str) else named or []
    if not isinstance(names, list) or len(names) > _MAX_ROLE_NAMES:
        raise _NotBelieved("its roles are no list")
    if not all(isinstance(name, str) for name in names):
        raise _NotBelieved("a role of it is no text")
    known = frozenset(trust.role_names[name] for name in names if name in trust.role_names)
    return known or trust.default_roles


def _region(body: dict[str, Any], trust: Trust) -> Region:
    name = _claim(body, trust.region_claim) if trust.region_claim else None
    if name is None:
        return trust.home
    if not isinstance(name, str) or not REGION.fullmatch(name):
        raise _NotBelieved("its region is not a region's name")
    return Region(name)


def _claim(body: dict[str, Any], path: str) -> object:
    if path in body:
        return body[path]
    found: object = body
    for step in path.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return found
