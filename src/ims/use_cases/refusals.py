"""The story of a refusal: it is recorded by itself, when everything else of its call was undone."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from typing import Final

from ims.domain.audit import Action, AuditEvent
from ims.domain.rejection import Rejection
from ims.domain.tenant import NOBODY, TenantId
from ims.repository.database import Transaction
from ims.rules.audit import refusal_matters
from ims.use_cases.current_call import CurrentCall, current_call
from ims.use_cases.deployment import Deployment
from ims.use_cases.trail import add, event_of, record

MOST_A_MINUTE: Final = 60
"""How many refusals of a tenant a process records in a minute; the others are only counted."""

_A_MINUTE: Final = timedelta(minutes=1)
_PATIENCE_SECONDS: Final = 0.25
"""How long an answer waits for its refusal to be recorded; the catalogue may be away, or busy."""

_log = logging.getLogger(__name__)


@dataclass
class _Minute:
    """What a process has recorded of a tenant's refusals since a moment."""

    begin: datetime
    recorded: int = 0
    suppressed: int = 0


class Refusals:
    """Records what was refused, as much of it as anybody wants to read."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._minutes: dict[TenantId, _Minute] = {}
        self._lock = Lock()

    def note(self, rejection: Rejection) -> None:
        """Record that the present call was refused, if that matters; never fails, and hardly waits."""
        call = current_call()
        if call is None or call.validates_only:
            return
        if not refusal_matters(rejection, of_a_change=call.changes):
            return
        try:
            self._settle(call.caller.tenant_id)
            if self._has_room(call.caller.tenant_id):
                self._record(_refusal(self._deployment, call, rejection))
        except Exception:  # noqa: BLE001 - the caller is told of its refusal, whatever this was
            _log.warning("A refusal cannot be recorded just now; the line of its call has it.")

    def settle(self, *, ending: bool = False) -> None:
        """Record how many refusals of each tenant were left out in minutes that are over, or end now."""
        with self._lock:
            tenants = list(self._minutes)
        for tenant_id in tenants:
            self._settle(tenant_id, ending=ending)

    def _settle(self, tenant_id: TenantId, *, ending: bool = False) -> None:
        with self._lock:
            minute = self._minutes.get(tenant_id)
            if minute is None:
                return
            if not ending and self._deployment.now() < minute.begin + _A_MINUTE:
                return
            del self._minutes[tenant_id]
        if not minute.suppressed:
            return
        try:
            with self._transaction() as tx:
                record(
                    self._deployment,
                    tx,
                    Action.SUPPRESS_REFUSALS,
                    by=None,
                    about=tenant_id,
                    details={"suppressed": minute.suppressed},
                )
        except BaseException:
            with self._lock:  # to be told with the next
                again = self._minutes.setdefault(tenant_id, _Minute(self._deployment.now()))
                again.suppressed += minute.suppressed
            raise

    def _has_room(self, tenant_id: TenantId) -> bool:
        with self._lock:
            minute = self._minutes.setdefault(tenant_id, _Minute(self._deployment.now()))
            if minute.recorded < MOST_A_MINUTE:
                minute.recorded += 1
                return True
            minute.suppressed += 1
            return False

    def _record(self, event: AuditEvent) -> None:
        with self._transaction() as tx:
            # For whoever was refused and for whom it acted; the image's owner has not been touched.
            add(tx, [(event, (event.actor.tenant_id, event.actor.acting_for))])

    @contextmanager
    def _transaction(self) -> Iterator[Transaction]:
        database = self._deployment.database
        with database.until(time.monotonic() + _PATIENCE_SECONDS), database.transaction() as tx:
            yield tx


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
