"""At the end of a play, the audit trail tells of everything that is on record, and of nothing else."""

import pytest

from conftest import Clock
from ims.domain.audit import AuditEvent, AuditFilter
from ims.domain.tenant import TenantId
from ims.repository.audit_log import AuditLog
from ims.use_cases.deployment import Deployment
from model.imagination import TENANTS
from model.play import Play
from model.trail import received, replayed


def seen_by(deployment: Deployment, tenant: str) -> list[AuditEvent]:
    with deployment.database.reading() as reading:
        page = reading.audit_log.list(
            TenantId(tenant), AuditFilter(), size=100_000, after=None, descending=False
        )
    return list(page.items)


def replay_and_compare(deployment: Deployment, play: Play) -> None:
    now = deployment.now()
    on_record = {key: row for key, row in play.records().items() if key not in TENANTS}
    images = {
        key: (*row[:4], {tenant: status for tenant, status, _end in row[-1]})
        for key, row in on_record.items()
    }
    told = {}
    for tenant in TENANTS:
        events = seen_by(deployment, tenant)
        told |= replayed((event for event in events if event.image_owner == tenant), now)
        lent = {
            key: shares[tenant]
            for key, (_, _, state, _, shares) in images.items()
            if tenant in shares and state != "DELETED"
        }
        assert received(events, tenant, now) == lent
        # Its half: what is about another recipient is of its own image.
        assert not [e for e in events if e.counterpart not in {"", tenant} and e.image_owner != tenant]
    assert told == images


@pytest.mark.parametrize("at_once", [False, True])
def test_the_trail_of_a_play_replays_to_what_is_on_record(
    deployment: Deployment, clock: Clock, at_once: bool
):
    play = Play(deployment, clock, seed=5)

    play.eight_at_once(400) if at_once else play.one_after_the_other(400)

    replay_and_compare(deployment, play)


def test_an_event_that_was_forgotten_is_missed(
    deployment: Deployment, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    """The tests above are worth something: without the events of one action, they fail."""
    add = AuditLog.add
    monkeypatch.setattr(
        AuditLog,
        "add",
        lambda self, told: add(self, [each for each in told if each[1].action != "AcceptShare"]),
    )
    play = Play(deployment, clock, seed=5)

    play.one_after_the_other(400)

    with pytest.raises(AssertionError):
        replay_and_compare(deployment, play)
