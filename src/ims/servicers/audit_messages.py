"""The audit trail: events as messages, and filters as requests say it."""

from ims.domain.audit import AuditEvent, AuditFilter
from ims.domain.image import (
    ImageId,
)
from ims.servicers.reading import (
    WORD,
    RequestReading,
)
from ims.servicers.times import timestamp
from ims.v1 import (
    audit_pb2,
    audit_service_pb2,
)


def read_audit_filter(reading: RequestReading, said: audit_service_pb2.AuditEventFilter) -> AuditFilter:
    """Return which events are wanted."""
    start = reading.time(said, "time_from", at="filter.")
    end = reading.time(said, "time_before", at="filter.")
    if start is not None and end is not None and end <= start:
        reading.problem("filter.time_before", "it is later than time_from.")
    return AuditFilter(
        image_id=ImageId(said.image_id) if said.image_id else None,
        action=reading.matching("filter.action", said.action, WORD, "the name of an action"),
        actor_tenant=reading.tenant_id("filter.actor_tenant_id", said.actor_tenant_id),
        counterpart=reading.tenant_id("filter.counterpart_tenant_id", said.counterpart_tenant_id),
        result=reading.matching("filter.result", said.result, WORD, "OK or the name of a reason"),
        time_from=start,
        time_before=end,
    )


def read_audit_order(reading: RequestReading, order_by: str) -> bool:
    """Return whether the newest events are listed first."""
    if order_by not in {"", "time", "time desc"}:
        reading.problem("order_by", "it is 'time' or 'time desc'.")
    return order_by != "time"


def audit_event_message(event: AuditEvent) -> audit_pb2.AuditEvent:
    """Return an event as it was recorded for whoever reads it."""
    return audit_pb2.AuditEvent(
        id=event.id,
        time=timestamp(event.time),
        actor=audit_pb2.AuditEvent.Actor(
            kind=audit_pb2.AuditEvent.Actor.Kind.Value(event.actor.kind),
            tenant_id=event.actor.tenant_id,
            user_id=event.actor.user_id,
            acting_for_tenant_id=event.actor.acting_for,
        ),
        action=event.action,
        image_id=event.image_id or "",
        image_name=event.image_name,
        image_owner_tenant_id=event.image_owner,
        counterpart_tenant_id=event.counterpart,
        request_id=event.request_id,
        call_id=event.call_id,
        result=event.result,
        details=event.details,
    )
