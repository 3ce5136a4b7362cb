"""Shares and trust rules: as messages, and as requests say it."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from google.protobuf.message import Message

from ims.domain.page import ShareFilter
from ims.domain.rejection import Violation
from ims.domain.share import Share, ShareStatus
from ims.domain.tenant import TenantId
from ims.domain.trust import TrustRules
from ims.rules.trust import MAX_AUTO_ACCEPT_FROM, MAX_BLOCKED
from ims.servicers.reading import (
    RequestReading,
)
from ims.servicers.times import timestamp
from ims.use_cases.sharing import Recipient, Sharing
from ims.v1 import (
    error_reason_pb2,
    share_pb2,
    sharing_service_pb2,
    trust_pb2,
)


def share_message(share: Share, *, viewer: TenantId) -> share_pb2.Share:
    """Return a share as one of its two sides gets it."""
    return share_pb2.Share(
        image_id=share.image_id,
        tenant_id=share.tenant_id,
        region=share.region,
        status=share_pb2.Share.Status.Value(share.status),
        # A recipient's vault is none of the owner's business.
        vault_id=share.vault_id if viewer == share.tenant_id else "",
        create_time=timestamp(share.create_time),
        update_time=timestamp(share.update_time),
        expire_time=timestamp(share.expire_time),
    )


def sharing_message(sharing: Sharing, *, viewer: TenantId) -> sharing_service_pb2.ShareImageResponse:
    """Return how sharing went."""
    return sharing_service_pb2.ShareImageResponse(
        results=[
            sharing_service_pb2.ShareImageResponse.Result(
                tenant_id=outcome.tenant_id,
                share=None if outcome.share is None else share_message(outcome.share, viewer=viewer),
                refusals=refusal_messages(outcome.refusals),
            )
            for outcome in sharing.outcomes
        ],
        image_refusals=refusal_messages(sharing.image_refusals),
        share_count=sharing.share_count,
        share_limit=sharing.share_limit,
    )


def refusal_messages(violations: Iterable[Violation]) -> list[share_pb2.Refusal]:
    """Return the rules that refuse something, told as data."""
    return [
        share_pb2.Refusal(
            reason=error_reason_pb2.ErrorReason.Value(violation.reason),
            message=violation.message,
            metadata={key: str(value) for key, value in violation.metadata.items()},
        )
        for violation in violations
    ]


def read_share_filter(reading: RequestReading, request: Message) -> ShareFilter:
    """Return what a listing of shares lets through."""
    return ShareFilter(status=reading.word(request, "status", ShareStatus))


def read_share_order(reading: RequestReading, order_by: str) -> bool:
    """Return whether the newest shares are listed first."""
    if order_by not in {"", "create_time", "create_time desc"}:
        reading.problem("order_by", "it is 'create_time' or 'create_time desc'.")
    return order_by != "create_time"


def read_recipients(
    reading: RequestReading, recipients: Sequence[share_pb2.Recipient]
) -> tuple[Recipient, ...]:
    """Return the tenants that a request names, each once, in its order."""
    read: dict[TenantId, Recipient] = {}
    for index, each in enumerate(recipients):
        path = f"recipients[{index}]"
        tenant_id = reading.tenant_id(f"{path}.tenant_id", each.tenant_id)
        region = reading.region(f"{path}.region", each.region)
        if tenant_id is None:
            continue
        if read.setdefault(tenant_id, Recipient(tenant_id=tenant_id, region=region)).region != region:
            reading.problem(f"{path}.region", "the same tenant is named with another region.")
    return tuple(read.values())


def read_tenant_ids(reading: RequestReading, tenant_ids: Sequence[str]) -> tuple[TenantId, ...]:
    """Return the tenants that a request names, each once, in its order."""
    if len(tenant_ids) > MAX_TENANT_IDS:
        message = f"at most {MAX_TENANT_IDS} are named a call, not {len(tenant_ids)}."
        reading.problem("tenant_ids", message, maxItems=MAX_TENANT_IDS, items=len(tenant_ids))
    read = [reading.tenant_id(f"tenant_ids[{index}]", each) for index, each in enumerate(tenant_ids)]
    if None in read:
        reading.problem("tenant_ids", "none is empty.")
    return tuple(dict.fromkeys(each for each in read if each is not None))


MAX_TENANT_IDS: Final = 1000


def read_share_changes(
    reading: RequestReading, request: sharing_service_pb2.UpdateShareRequest
) -> tuple[frozenset[str], datetime | None]:
    """Return the fields of a share that an update names, and when the share shall end."""
    fields = frozenset(request.update_mask.paths)
    if request.HasField("update_mask") and not fields:
        reading.problem("update_mask", "it names at least one field.")
    return fields, reading.time(request.share, "expire_time", at="share.")


def trust_rules_message(rules: TrustRules) -> trust_pb2.TrustRules:
    """Return a tenant's rules as the tenant gets them."""
    return trust_pb2.TrustRules(
        auto_accept_from=rules.auto_accept_from,
        blocked=rules.blocked,
        max_pending_shares=rules.max_pending_shares,
        etag=rules.etag,
    )


def read_trust_changes(
    reading: RequestReading, request: sharing_service_pb2.SetTrustRulesRequest, *, own: TenantId
) -> dict[str, Any]:
    """Return the rules that a request sets, by the names of their fields; None clears the limit."""
    paths = list(dict.fromkeys(request.update_mask.paths))
    if request.HasField("update_mask") and not paths:
        reading.problem("update_mask", "it names at least one rule.")
    given: dict[str, Any] = {
        field: _read_owners(reading, f"rules.{field}", getattr(request.rules, field), most, own)
        for field, most in _MOST_OWNERS.items()
    }
    most_pending = request.rules.max_pending_shares
    given["max_pending_shares"] = (
        reading.not_negative("rules.max_pending_shares", most_pending)
        if request.rules.HasField("max_pending_shares")
        else None
    )
    for path in paths:
        if path not in given:
            reading.problem("update_mask", f"there is no rule '{path}', but {', '.join(given)}.")
    return {field: value for field, value in given.items() if field in paths}


_MOST_OWNERS: Final = {"auto_accept_from": MAX_AUTO_ACCEPT_FROM, "blocked": MAX_BLOCKED}


def _read_owners(
    reading: RequestReading, path: str, tenant_ids: Sequence[str], most: int, own: TenantId
) -> tuple[TenantId, ...]:
    read = []
    if len(tenant_ids) > most:
        message = f"at most {most} tenants are named, not {len(tenant_ids)}."
        reading.problem(path, message, maxItems=most, items=len(tenant_ids))
    for index, each in enumerate(tenant_ids):
        tenant_id = reading.tenant_id(f"{path}[{index}]", each)
        if tenant_id is None:
            reading.problem(f"{path}[{index}]", "it is empty.")
        elif tenant_id == own:
            reading.problem(f"{path}[{index}]", "it is your own tenant.")
        else:
            read.append(tenant_id)
    return tuple(sorted(set(read)))
