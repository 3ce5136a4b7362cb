"""How a story says what it has done: in its own transaction, to every tenant that may know of it.

A story that changes something ends with a line like one of these:

    record_image(deployment, tx, Action.UPDATE_IMAGE, by=caller, before=image, after=saved)
    record_shares(deployment, tx, Action.SHARE_IMAGE, by=caller, image=image, after=added)
    record(deployment, tx, Action.RELEASE_USE, by=caller, about=tenant_id, details={"kind": kind})

`by` is the caller, or None for what the service does by itself. Details become a part of what tenants
read: names of fields, states and numbers, and never a key, a credential or what somebody has stored.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Final

from ims.domain.audit import DONE, Action, Actor, ActorKind, AuditEvent
from ims.domain.caller import Caller, Role
from ims.domain.image import Image, ImageId, ImageState
from ims.domain.share import Share, ShareStatus
from ims.domain.tenant import NOBODY, TenantId
from ims.repository.database import Transaction
from ims.rules.roles import SUFFICIENT_ROLES
from ims.use_cases.current_call import current_call
from ims.use_cases.deployment import Deployment

NO_DETAILS: Final[Mapping[str, object]] = {}
_TOLD_OTHERWISE: Final = {
    *("id", "version", "update_time", "disks"),
    *("state", "state_before_deletion", "delete_time", "purge_time"),
}
"""The fields of an image whose change is no news, or is told by its states."""


def record_image(
    deployment: Deployment,
    tx: Transaction,
    action: Action,
    *,
    by: Caller | None,
    before: Image | None = None,
    after: Image | None = None,
    details: Mapping[str, object] = NO_DETAILS,
) -> None:
    """Record what became of an image, for its owner and for who did it."""
    image = after or before
    assert image is not None  # or nothing would have become of it
    # The service that declared an image fills it for its owner.
    declared = by is not None and image.declared_by == by.tenant_id != image.owner
    event = event_of(
        deployment,
        action,
        by=by,
        image=image,
        acting_for=image.owner if declared else NOBODY,
        details={
            "stateFrom": before and before.state,
            "stateTo": after and after.state,
            "fields": _changed(before, after),
            **details,
        },
    )
    add(tx, [(event, (image.owner, event.actor.tenant_id))])


def record_shares(
    deployment: Deployment,
    tx: Transaction,
    action: Action,
    *,
    by: Caller | None,
    image: Image,
    before: Iterable[Share] = (),
    after: Iterable[Share] = (),
) -> None:
    """Record what became of some shares: an event each, for the owner and for that recipient alone.

    Whoever else did it does not learn whose shares they were, nor how many (law 4.6). Recipients learn
    nothing of shares that they do not see: of an owner that they have blocked, or of an image that was
    deleted before, with which, as they have been told, their shares have ended.
    """
    before, after = tuple(before), tuple(after)
    told = told_of_shares(
        deployment,
        action,
        by=by,
        image=image,
        before=before,
        after=after,
        unseen_by=_unseen_by(tx, image, (*before, *after)),
    )
    tx.audit_log.add(told)


def told_of_shares(
    deployment: Deployment,
    action: Action,
    *,
    by: Caller | None,
    image: Image,
    before: Iterable[Share] = (),
    after: Iterable[Share] = (),
    unseen_by: Collection[TenantId],
) -> list[tuple[TenantId, AuditEvent]]:
    """Return what `record_shares` records, for who records it with the shares themselves."""
    old = {share.tenant_id: share for share in before}
    new = {share.tenant_id: share for share in after}
    told: list[tuple[AuditEvent, Sequence[TenantId]]] = []
    for tenant_id in sorted(each for each in old | new if old.get(each) != new.get(each)):
        was, is_now = old.get(tenant_id), new.get(tenant_id)
        event = event_of(
            deployment,
            action,
            by=by,
            image=image,
            about=tenant_id,
            details={
                "statusFrom": was and was.status,
                "statusTo": is_now and is_now.status,
                "expireTime": is_now and is_now.expire_time and is_now.expire_time.isoformat(),
            },
        )
        told.append((event, (image.owner, NOBODY if tenant_id in unseen_by else tenant_id)))
    return _as_seen(told)


def _unseen_by(tx: Transaction, image: Image, shares: Collection[Share]) -> Collection[TenantId]:
    recipients = {share.tenant_id for share in shares}
    if image.state is ImageState.DELETED:
        return recipients
    others = recipients - {each.tenant_id for each in shares if each.status is ShareStatus.ACCEPTED}
    return tx.trust.blocking(image.owner, others) if others else ()


def record(
    deployment: Deployment,
    tx: Transaction,
    action: Action,
    *,
    by: Caller | None,
    about: TenantId,
    image: Image | None = None,
    image_id: ImageId | None = None,
    details: Mapping[str, object] = NO_DETAILS,
) -> None:
    """Record what concerns one tenant, for that one and for who did it, and no owner of an image."""
    serves = by is not None and by.has(Role.SERVICE) and by.tenant_id != about
    event = event_of(
        deployment,
        action,
        by=by,
        image=image,
        image_id=image_id,
        about=about,
        acting_for=about if serves else NOBODY,
        details=details,
    )
    add(tx, [(event, (about, event.actor.tenant_id))])


def event_of(
    deployment: Deployment,
    action: str,
    *,
    by: Caller | None,
    image: Image | None = None,
    image_id: ImageId | None = None,
    about: TenantId = NOBODY,
    acting_for: TenantId = NOBODY,
    result: str = DONE,
    details: Mapping[str, object] = NO_DETAILS,
) -> AuditEvent:
    """Return an event of this moment; a detail that is None or empty is left out."""
    owner = image.owner if image else NOBODY
    # What the service does by itself is nobody's call, also while it serves one.
    call = current_call() if by else None
    return AuditEvent(
        id=deployment.new_id(),
        time=deployment.now(),
        action=action,
        actor=_actor(action, by, parties={owner, about}, acting_for=acting_for),
        image_id=image.id if image else image_id,
        image_name=image.name if image else "",
        image_owner=owner,
        counterpart=about,
        request_id=call.request_id if call else "",
        call_id=call.call_id if call else "",
        result=result,
        details={name: _text(value) for name, value in details.items() if value not in {None, "", ()}},
    )


def add(tx: Transaction, events: Iterable[tuple[AuditEvent, Sequence[TenantId]]]) -> None:
    """Add events, each for some tenants, as each of them may know of it."""
    tx.audit_log.add(_as_seen(events))


def _as_seen(
    events: Iterable[tuple[AuditEvent, Sequence[TenantId]]],
) -> list[tuple[TenantId, AuditEvent]]:
    return [
        (tenant_id, event.as_seen_by(tenant_id))
        for event, tenant_ids in events
        for tenant_id in dict.fromkeys(tenant_ids)
        if tenant_id != NOBODY
    ]


def _actor(
    action: str, by: Caller | None, *, parties: Collection[TenantId], acting_for: TenantId
) -> Actor:
    if by is None:
        return Actor(kind=ActorKind.SYSTEM)
    kind = ActorKind.TENANT
    if acting_for:
        kind = ActorKind.SERVICE
    elif _governs(action, by, parties):
        kind = ActorKind.ADMINISTRATOR
    return Actor(kind=kind, tenant_id=by.tenant_id, user_id=by.user_id, acting_for=acting_for)


def _governs(action: str, by: Caller, parties: Collection[TenantId]) -> bool:
    # What only administrators may do is never a tenant's act, also on what concerns their own tenant.
    return by.has(Role.ADMIN) and (
        SUFFICIENT_ROLES.get(action) == frozenset({Role.ADMIN}) or by.tenant_id not in parties
    )


def _changed(before: Image | None, after: Image | None) -> tuple[str, ...]:
    if before is None or after is None:
        return ()
    return tuple(
        field.name
        for field in fields(Image)
        if field.name not in _TOLD_OTHERWISE
        and getattr(before, field.name) != getattr(after, field.name)
    )


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
