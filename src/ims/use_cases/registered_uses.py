"""The story of each call on registered uses: who made what from an image, and is it still there."""

from dataclasses import replace

from ims.domain.audit import Action
from ims.domain.caller import Caller
from ims.domain.image import Image, ImageId, Relation
from ims.domain.page import Page, Position
from ims.domain.registered_use import RegisteredUse, TenantUsage, UseFilter, UseKey, UseKind
from ims.domain.rejection import Problems
from ims.domain.tenant import TenantId
from ims.repository.database import Transaction
from ims.rules.attempt import Attempt
from ims.rules.engine import enforce
from ims.rules.form import Query
from ims.rules.registered_uses import (
    GET_USAGE,
    LIST_USES,
    REGISTER_USE,
    RELEASE_USE,
    RegistrationAttempt,
)
from ims.use_cases.deployment import (
    Deployment,
    in_one_transaction,
    refuse_suspended,
    representing,
    see,
    see_locked,
)
from ims.use_cases.trail import record


@in_one_transaction
def register_use(
    deployment: Deployment,
    tx: Transaction,
    *,
    caller: Caller,
    image_id: ImageId,
    kind: UseKind,
    consumer_id: str,
    tenant_id: TenantId | None = None,
    problems: Problems = (),
) -> RegisteredUse:
    """Register that a tenant (None: the caller's own) makes something from an image."""
    user = representing(tx, caller, tenant_id)
    # Under the lock, though nothing of the image changes: the count below is exact, and who takes the
    # image away only if it is unused has to be sure that it stays so.
    view = see_locked(deployment, tx, user, image_id)
    key = UseKey(image_id=image_id, tenant_id=user.tenant_id, kind=kind, consumer_id=consumer_id)
    known = None if problems else tx.uses.find(key)
    attempt = RegistrationAttempt(
        caller=user,
        image=view.image,
        share=view.share,
        known=known is not None,
        use_count=tx.uses.count(image_id, user.tenant_id),
        use_limit=deployment.limits.uses_per_image_and_tenant,
        problems=problems,
    )
    enforce(REGISTER_USE, attempt)
    assert view.relation is not None  # or the image would not have been seen, or not accepted
    if known is None:
        use = RegisteredUse(
            key=key,
            registered_by=caller.tenant_id,
            relation=view.relation,
            create_time=deployment.now(),
        )
        tx.uses.add(use)
        _record_registration(deployment, tx, caller, view.image, use)
        return use
    # A tenant that says it again does not take it from the service that keeps it.
    keeper = known.registered_by if user is caller else caller.tenant_id
    use = replace(known, registered_by=keeper, relation=view.relation)
    if use != known:
        tx.uses.save(use)
        _record_registration(deployment, tx, caller, view.image, use)
    return use


def _record_registration(
    deployment: Deployment, tx: Transaction, caller: Caller, image: Image, use: RegisteredUse
) -> None:
    # The image's owner learns how many uses there are, and not which (law 7.5).
    record(
        deployment,
        tx,
        Action.REGISTER_USE,
        by=caller,
        about=use.key.tenant_id,
        image=image,
        details={"kind": use.key.kind, "consumerId": use.key.consumer_id},
    )


@in_one_transaction
def release_use(
    deployment: Deployment,
    tx: Transaction,
    *,
    caller: Caller,
    image_id: ImageId,
    kind: UseKind,
    consumer_id: str,
    tenant_id: TenantId | None = None,
    problems: Problems = (),
) -> bool:
    """Release a use of a tenant's (None: the caller's own); tell whether there was one to release."""
    user = representing(tx, caller, tenant_id)
    refuse_suspended(tx, user.tenant_id)
    enforce(RELEASE_USE, Query(problems))
    key = UseKey(image_id=image_id, tenant_id=user.tenant_id, kind=kind, consumer_id=consumer_id)
    released = tx.uses.remove(key, registered_by=_only_by(caller, user))
    if released:
        record(
            deployment,
            tx,
            Action.RELEASE_USE,
            by=caller,
            about=user.tenant_id,
            image_id=image_id,
            details={"kind": kind, "consumerId": consumer_id},
        )
    return released


def list_uses(
    deployment: Deployment,
    *,
    caller: Caller,
    image_id: ImageId | None = None,
    kind: UseKind | None = None,
    tenant_id: TenantId | None = None,
    size: int,
    after: Position | None,
    problems: Problems = (),
) -> Page[RegisteredUse]:
    """Return a part of a tenant's uses (None: the caller's own), of an image or of all."""
    with deployment.database.reading() as reading:
        user = representing(reading, caller, tenant_id)
        refuse_suspended(reading, user.tenant_id)
        enforce(LIST_USES, Query(problems))
        wanted = UseFilter(image_id=image_id, kind=kind, registered_by=_only_by(caller, user))
        return reading.uses.list(user.tenant_id, wanted, size=size, after=after)


def get_usage(
    deployment: Deployment,
    *,
    caller: Caller,
    image_id: ImageId,
    size: int,
    after: Position | None,
    problems: Problems = (),
) -> Page[TenantUsage]:
    """Return how many uses of an image there are by tenant: all of them to its owner, else the own."""
    with deployment.database.reading() as reading:
        view = see(deployment, reading, caller, image_id)
        enforce(GET_USAGE, Attempt(caller=caller, image=view.image, problems=problems))
        if view.relation is Relation.OWNED:
            return reading.uses.usage(image_id, size=size, after=after)
        # A recipient never sees other recipients, nor how many (law 4.6).
        own = reading.uses.usage_of(image_id, caller.tenant_id)
        return Page(items=() if own is None else (own,), more=False)


def _only_by(caller: Caller, user: Caller) -> TenantId | None:
    """Return whose registrations a caller deals with: a service's are its own, a tenant's all of its."""
    return None if user is caller else caller.tenant_id
