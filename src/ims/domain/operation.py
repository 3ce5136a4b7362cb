"""The long-running operation: work that outlives the call that began it, and whoever does it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NewType

from ims.domain.image import ImageId
from ims.domain.rejection import Rejection
from ims.domain.tenant import TenantId

OperationId = NewType("OperationId", str)


class OperationKind(StrEnum):
    """What an operation does: the RPC that begins it."""

    COPY_IMAGE = "COPY_IMAGE"
    IMPORT_IMAGE = "IMPORT_IMAGE"
    EXPORT_IMAGE = "EXPORT_IMAGE"
    COPY_IMAGE_TO_REGION = "COPY_IMAGE_TO_REGION"


class OperationState(StrEnum):
    """How far an operation is."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def ended(self) -> bool:
        return self not in {OperationState.QUEUED, OperationState.RUNNING}


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation as it is on record."""

    id: OperationId
    tenant_id: TenantId
    """Whose it is: the tenant that began it."""
    kind: OperationKind
    state: OperationState = OperationState.QUEUED
    request: Mapping[str, Any] = field(default_factory=dict)
    """What is to be done, in words that JSON has; its kind says which."""
    image_id: ImageId
    """The image that it makes or fills; empty where it does neither, or not in this region yet."""
    source_image_id: ImageId
    """The image that it reads; empty where it reads none."""
    done_bytes: int = 0
    total_bytes: int = 0
    """0 where no bytes have to be moved."""
    error: Rejection | None = None
    """Why it FAILED, or that it was CANCELLED; None of one that failed by a mistake of the service."""
    answer: bytes = b""
    """What the wire's answer is made of, once it has SUCCEEDED."""
    cancel_requested: bool = False
    place: Mapping[str, Any] = field(default_factory=dict)
    """What whoever takes it up next has to know of what was done so far; its kind says what that is."""
    epoch: int = 0
    """How often it was taken up. Whoever does it writes nothing any more once somebody else has."""
    create_time: datetime
    update_time: datetime
    end_time: datetime | None = None
    expire_time: datetime | None = None
    """From when on it is forgotten; None until it has ended."""

    @property
    def settled(self) -> bool:
        """Whether it has passed the point from which it is not cancelled any more."""
        return "settled" in self.place


@dataclass(frozen=True, kw_only=True)
class OperationFilter:
    """What a listing of operations lets through; what is left out lets everything through."""

    ended: bool | None = None
