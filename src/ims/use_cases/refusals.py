"""The story of a refusal: it is recorded by itself, when everything else of its call was undone."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from typing import Final

from ims.domain.audit import Action, AuditEvent
from ims.domain.rejection import Rejection
from ims.domain.tenant import NOBODY, TenantId
from ims.rules.audit import refusal_matters
from ims.use_cases.current_call import CurrentCall, current_call
from ims.use_cases.deployment import Deployment
from ims.use_cases.trail import add, event_of, record

MOST_A_MINUTE: Final = 60
"""How many refusals of a tenant a process records in a minute; the others are only counted."""
MOST_WAITING: Final = 10_000
"""How many refusals of all tenants wait to be recorded; further ones are only counted."""

_A_MINUTE: Final = timedelta(minutes=1)
_LATEST: Final = timedelta(seconds=30)
"""How late a refusal is recorded at the most. Whoever exports the trail in parts begins each a minute
before the end of the last one, and is to miss nothing."""
_AT_ONCE: Final = 500
"""How many refusals are recorded in one transaction, so that nobody waits long for its end."""

_log = logging.getLogger(__name__)


@dataclass
class _Minute:
    """What a process has taken of a tenant's refusals since a moment."""

    begin: datetime
    taken: int = 0
    left_out: int = 0

    def is_over(self, now: datetime) -> bool:
        return now >= self.begin + _A_MINUTE


class Refusals:
    """Takes what was refused, as much of it as anybody wants to read, and records it a little later.

    Not in the call: its answer is not to wait for a catalogue that is away, or busy.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._lock = Lock()
        self._minutes: dict[TenantId, _Minute] = {}
        self._waiting: list[AuditEvent] = []
        self._left_out: Counter[TenantId] = Counter()
        """How many were only counted, of minutes that are over, or because they came too late."""
        self._recording = Lock()

    def note(self, rejection: Rejection) -> None:
        """Take note that the present call was refused, if that matters. Raises nothing."""
        try:
            self._note(rejection)
        except Exception:  # noqa: BLE001 - the caller is told of its refusal, whatever this was
            _log.exception("a refusal is not recorded")

    def record(self, *, ending: bool = False) -> None:
        """Record what waits, and of minutes that are over, or end now, how many were left out.

        What cannot be recorded waits on. Raises Rejection CATALOGUE_UNAVAILABLE.
        """
        with self._recording:
            while waiting := self._next():
                self._record(waiting)
            self._end_minutes(all_of_them=ending)
            for tenant_id, number in list(self._left_out.items()):
                self._record_left_out(tenant_id, number)

    def _note(self, rejection: Rejection) -> None:
        call = current_call()
        if call is None or call.validates_only:
            return
        if not refusal_matters(rejection, of_a_change=call.changes):
            return
        event = _refusal(self._deployment, call, rejection)
        with self._lock:
            minute = self._minute_of(event.actor.tenant_id, event.time)
            if minute.taken < MOST_A_MINUTE and len(self._waiting) < MOST_WAITING:
                minute.taken += 1
                self._waiting.append(event)
            else:
                minute.left_out += 1

    def _minute_of(self, tenant_id: TenantId, now: datetime) -> _Minute:
        minute = self._minutes.get(tenant_id)
        if minute is None or minute.is_over(now):
            self._end_minute(tenant_id)
            minute = self._minutes[tenant_id] = _Minute(now)
        return minute

    def _end_minutes(self, *, all_of_them: bool) -> None:
        now = self._deployment.now()
        with self._lock:
            for tenant_id, minute in list(self._minutes.items()):
                if all_of_them or minute.is_over(now):
                    self._end_minute(tenant_id)

    def _end_minute(self, tenant_id: TenantId) -> None:
        minute = self._minutes.pop(tenant_id, None)
        if minute is not None and minute.left_out:
            self._left_out[tenant_id] += minute.left_out

    def _next(self) -> list[AuditEvent]:
        """Return what is to be recorded now; what has waited for too long is only counted."""
        latest = self._deployment.now() - _LATEST
        with self._lock:
            self._left_out.update(e.actor.tenant_id for e in self._waiting if e.time < latest)
            self._waiting = [event for event in self._waiting if event.time >= latest]
            return self._waiting[:_AT_ONCE]

    def _record(self, events: Sequence[AuditEvent]) -> None:
        with self._deployment.database.transaction() as tx:
            # For whoever was refused and for whom it acted; the image's owner has not been touched.
            add(tx, [(event, (event.actor.tenant_id, event.actor.acting_for)) for event in events])
        recorded = {event.id for event in events}
        with self._lock:
            self._waiting = [event for event in self._waiting if event.id not in recorded]

    def _record_left_out(self, tenant_id: TenantId, number: int) -> None:
        with self._deployment.database.transaction() as tx:
            record(
                self._deployment,
                tx,
                Action.SUPPRESS_REFUSALS,
                by=None,
                about=tenant_id,
                details={"suppressed": number},
            )
        with self._lock:
            self._left_out[tenant_id] -= number
            if not self._left_out[tenant_id]:
                del self._left_out[tenant_id]


def _refusal(deployment: Deployment, call: CurrentCall, rejection: Rejection) -> AuditEvent:
    reasons = dict.fromkeys(str(violation.reason) for violation in rejection.violations)
    return event_of(
        deployment,
        call.rpc,
        by=call.caller,
        image=call.image,
        acting_for=call.acting_for or NOBODY,
        result=str(rejection.reason),
        details={"broken": tuple(reasons) if len(reasons) > 1 else ()},
    )
