"""A call that may be sent again, and what is remembered of it."""

from dataclasses import dataclass

from ims.domain.tenant import TenantId


@dataclass(frozen=True, kw_only=True)
class RepeatableCall:
    """A call that its caller has given an id, so that its repetition has no second effect."""

    tenant_id: TenantId
    request_id: str
    method: str
    digest: bytes
    """SHA-256 of all else that the answer depends on: the request's body and the caller's roles."""


@dataclass(frozen=True, kw_only=True)
class RememberedCall:
    """A call that was accepted."""

    method: str
    digest: bytes
    answer: bytes
