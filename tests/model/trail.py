"""Plays what the audit trail tells again, from nothing: what there is follows from what was done."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ims.domain.audit import AuditEvent


@dataclass(frozen=True)
class _Share:
    status: str
    end: datetime | None

    def lasts(self, moment: datetime) -> bool:
        return self.end is None or self.end > moment


@dataclass
class _Image:
    owner: str
    name: str = ""
    state: str = ""
    public: bool = False
    shares: dict[str, _Share] = field(default_factory=dict)


def replayed(events: Iterable[AuditEvent], now: datetime) -> dict[str, Any]:
    """Return each image with its shares at a moment, after what its owner sees, the oldest event first.

    Raises AssertionError where an event does not begin with what those before have left.
    """
    images: dict[str, _Image] = {}
    for event in events:
        key = str(event.image_id)
        image = images.setdefault(key, _Image(event.image_owner))
        if event.counterpart:
            _replay_share(image, event)
            continue
        assert event.details.get("stateFrom", "") == image.state, event
        if event.action == "PurgeImage":
            del images[key]
            continue
        image.name, image.state = event.image_name, event.details["stateTo"]
        if event.action in {"PublishImage", "UnpublishImage"}:
            image.public = event.action == "PublishImage"
    return {
        key: (
            *(image.owner, image.name, image.state, image.public),
            {who: share.status for who, share in image.shares.items() if share.lasts(now)},
        )
        for key, image in images.items()
    }


def _replay_share(image: _Image, event: AuditEvent) -> None:
    recipient, now_is = event.counterpart, _share(event)
    if event.action == "UndeleteImage":  # it was kept on record
        assert image.shares[recipient] == now_is, event
        return
    _begins_with(image.shares.get(recipient), event)
    if event.action == "DeleteImage":
        return
    if now_is is None:
        del image.shares[recipient]
    else:
        image.shares[recipient] = now_is


def _share(event: AuditEvent) -> _Share | None:
    """Return the share that an event leaves."""
    if "statusTo" not in event.details:
        return None
    end = event.details.get("expireTime")
    return _Share(event.details["statusTo"], datetime.fromisoformat(end) if end else None)


def _begins_with(held: _Share | None, event: AuditEvent) -> None:
    """Raise AssertionError where an event is not about the share that there was.

    One that has ended by itself is as good as none, but for whoever comes round to remove it.
    """
    if event.action != "ExpireShare" and held is not None and not held.lasts(event.time):
        held = None
    assert event.details.get("statusFrom") == (held and held.status), event


def received(events: Iterable[AuditEvent], recipient: str, now: datetime) -> dict[str, str]:
    """Return the shares that a recipient has at a moment, after what it sees itself."""
    shares: dict[str, _Share] = {}
    for event in events:
        if event.counterpart != recipient:
            continue
        key = str(event.image_id)
        _begins_with(shares.pop(key, None), event)
        if (share := _share(event)) is not None:
            shares[key] = share
    return {key: share.status for key, share in shares.items() if share.lasts(now)}
