"""The calls of AuditService."""

from collections.abc import Iterator
from datetime import datetime
from typing import TypedDict, Unpack

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from ims.client.connection import Connection
from ims.client.vocabulary import AuditEvent
from ims.v1.audit_service_pb2 import (
    AuditEventFilter,
    ExportAuditEventsRequest,
    ListAuditEventsRequest,
)


class AuditFilter(TypedDict, total=False):
    """Which events a call wants; what is left out lets everything through."""

    image_id: str
    action: str
    actor_tenant_id: str
    counterpart_tenant_id: str
    result: str
    time_from: datetime | None
    time_before: datetime | None


class AuditCalls(Connection):
    """Tells who did what. Every method raises Declined or Unreachable.

    Only a caller with the role `admin` names another tenant than its own.
    """

    def list_audit_events(
        self,
        *,
        tenant_id: str = "",
        oldest_first: bool = False,
        page_size: int = 0,
        **wanted: Unpack[AuditFilter],
    ) -> Iterator[AuditEvent]:
        """Yield what a tenant may know of what was done, the newest first unless said otherwise.

        Asks page by page, as far as it is read.
        """
        request = ListAuditEventsRequest(
            tenant_id=tenant_id,
            filter=_filter(wanted),
            order_by="time" if oldest_first else "",
            page_size=page_size,
        )
        for page in self._pages(self._audit.ListAuditEvents, request):
            yield from page.events

    def export_audit_events(
        self, *, tenant_id: str = "", **wanted: Unpack[AuditFilter]
    ) -> Iterator[AuditEvent]:
        """Yield everything that a tenant may know of what was done, the oldest first, in one call.

        It takes as long as it takes, and is not repeated by itself.
        """
        request = ExportAuditEventsRequest(tenant_id=tenant_id, filter=_filter(wanted))
        call = self._audit.ExportAuditEvents(request, metadata=self._credentials.metadata())
        try:
            for part in call:
                yield from part.events
        except grpc.RpcError as error:
            raise self._meaning(error) from error
        finally:
            call.cancel()


def _filter(wanted: AuditFilter) -> AuditEventFilter:
    return AuditEventFilter(
        image_id=wanted.get("image_id", ""),
        action=wanted.get("action", ""),
        actor_tenant_id=wanted.get("actor_tenant_id", ""),
        counterpart_tenant_id=wanted.get("counterpart_tenant_id", ""),
        result=wanted.get("result", ""),
        time_from=_timestamp(wanted.get("time_from")),
        time_before=_timestamp(wanted.get("time_before")),
    )


def _timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp
