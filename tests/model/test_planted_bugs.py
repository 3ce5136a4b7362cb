"""The model is worth something: each of these bugs, planted into the service, is found."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import pytest
import sqlalchemy as sa

from conftest import Clock
from ims.domain.share import ShareStatus
from ims.domain.tenant import TenantId
from ims.repository import images as images_repository
from ims.repository import tables
from ims.repository.requests import Requests
from ims.repository.sqlite import SqliteBackend
from ims.repository.statement import Statement
from ims.repository.tenants import TenantRepository
from ims.rules import visibility
from ims.servicers import once
from ims.servicers.page_tokens import Listing
from ims.use_cases import images, sharing
from ims.use_cases.deployment import Deployment
from model.play import Difference, Play

Plant = Callable[[pytest.MonkeyPatch], None]

CALLS = 2000


def found(deployment: Deployment, clock: Clock, *, at_once: bool = False) -> bool:
    """Whether one of a few plays finds a difference."""
    play = Play(deployment, clock, seed=100)
    try:
        play.eight_at_once(CALLS) if at_once else play.one_after_the_other(CALLS)
    except Difference:
        return True
    return False


def the_lock_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL's lock is that on the image's row, SQLite's that only one writes at a time."""
    unlocked = images_repository._LOCK._query.with_only_columns(tables.images.c.id)
    unlocked._for_update_arg = None
    monkeypatch.setattr(images_repository, "_LOCK", Statement(unlocked))
    monkeypatch.setattr(SqliteBackend, "queue", lambda *_: nullcontext())
    monkeypatch.setattr(
        SqliteBackend, "begin", lambda _self, connection, _: connection.exec_driver_sql("BEGIN")
    )


def an_acceptance_that_looks_before_it_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A share that is revoked in between comes back."""
    accept = sharing.accept_share

    def hasty(deployment, *, caller, image_id, **rest):
        with deployment.database.reading() as reading:
            share = reading.shares.find(image_id, caller.tenant_id, now=deployment.now())
        if share is None:
            return accept(deployment, caller=caller, image_id=image_id, **rest)
        time.sleep(0.01)
        accepted = replace(share, status=ShareStatus.ACCEPTED)
        with deployment.database.transaction() as tx:
            tx.images.lock(image_id, caller.tenant_id, now=deployment.now, governing=True)
            tx.shares.remove(image_id, (caller.tenant_id,), now=deployment.now())
            tx.shares.add([accepted])
        return accepted

    monkeypatch.setattr(sharing, "accept_share", hasty)


def a_claim_that_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Requests, "claim", lambda *_, **__: True)


def a_forgotten_decrement(monkeypatch: pytest.MonkeyPatch) -> None:
    change = TenantRepository.change

    def only_more(repository, tenant_id, usage):
        change(repository, tenant_id, replace(usage, private_images=max(0, usage.private_images)))

    monkeypatch.setattr(TenantRepository, "change", only_more)


def a_token_not_bound_to_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    bind = Listing.__init__

    def to_everybody(listing, key, _tenant_id, request):
        bind(listing, key, TenantId("everybody"), request)

    monkeypatch.setattr(Listing, "__init__", to_everybody)


def a_request_id_that_is_everybodys(monkeypatch: pytest.MonkeyPatch) -> None:
    call_of = once.repeatable_call

    def everybodys(method, request):
        call = call_of(method, request)
        return call and replace(call, tenant_id=TenantId("everybody"), request_id=method)

    monkeypatch.setattr(once, "repeatable_call", everybodys)


def an_undeletion_that_forgets_the_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    undelete = images.undelete_image

    def forgetful(deployment, *, image_id, **rest):
        answer = undelete(deployment, image_id=image_id, **rest)
        with deployment.database.transaction() as tx:
            tx.shares.remove(image_id, now=deployment.now())
        return answer

    monkeypatch.setattr(images, "undelete_image", forgetful)


def a_deleted_image_that_its_recipients_still_see(monkeypatch: pytest.MonkeyPatch) -> None:
    def visible(sight, view):
        return view.relation is not None

    monkeypatch.setattr(visibility, "_is_visible", visible)


def a_limit_that_is_one_too_high(monkeypatch: pytest.MonkeyPatch) -> None:
    facts_of = sharing._share_attempt

    def generous(*args, **hold):
        attempt, existing = facts_of(*args, **hold)
        return replace(attempt, share_limit=attempt.share_limit + 1), existing

    monkeypatch.setattr(sharing, "_share_attempt", generous)


def a_rejection_that_drops_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    reject = sharing.reject_share

    def drop(deployment, *, caller, image_id, **rest):
        share = reject(deployment, caller=caller, image_id=image_id, **rest)
        with deployment.database.transaction() as tx:
            tx.shares.remove(image_id, (caller.tenant_id,), now=deployment.now())
        return share

    monkeypatch.setattr(sharing, "reject_share", drop)


def a_share_that_outlives_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the recipient's way to the image had forgotten to ask for it."""
    query = images_repository._ONE_READY._query
    own = images_repository._has_own_share
    forgetful = (
        sa.select(tables.shares.c.tenant_id)
        .where(
            tables.shares.c.image_id == tables.images.c.id,
            tables.shares.c.tenant_id == images_repository._viewer,
        )
        .limit(1)
        .scalar_subquery()
        .is_not(None)
    )
    columns = [forgetful if each is own else each for each in images_repository._READY]
    unasked = sa.select(*columns).where(query.whereclause)
    monkeypatch.setattr(images_repository, "_ONE_READY", Statement(unasked))


def a_name_that_a_deleted_image_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    def ever_taken(repository, owner, name, *, besides=None):
        query = tables.images.select().where(
            tables.images.c.owner == owner, tables.images.c.name == name
        )
        return bool({row.id for row in repository._connection.execute(query)} - {besides})

    monkeypatch.setattr(images_repository.ImageRepository, "name_taken", ever_taken)


def a_protection_that_protects_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = tuple(
        each for each in images.DELETE_IMAGE if each.name != "protected_images_are_not_deleted"
    )
    monkeypatch.setattr(images, "DELETE_IMAGE", rules)


ANY_TIME = (
    a_forgotten_decrement,
    a_token_not_bound_to_its_caller,
    a_request_id_that_is_everybodys,
    an_undeletion_that_forgets_the_shares,
    a_deleted_image_that_its_recipients_still_see,
    a_limit_that_is_one_too_high,
    a_rejection_that_drops_the_share,
    a_share_that_outlives_its_end,
    a_name_that_a_deleted_image_keeps,
    a_protection_that_protects_nothing,
)
IN_A_RACE = (
    the_lock_removed,
    an_acceptance_that_looks_before_it_locks,
    a_claim_that_keeps_nobody_waiting,
)


def test_without_a_bug_none_is_found(deployment: Deployment, clock: Clock):
    assert not found(deployment, clock)


@pytest.mark.parametrize("plant", ANY_TIME, ids=lambda plant: plant.__name__)
def test_a_bug_is_found(plant: Plant, deployment: Deployment, clock: Clock, monkeypatch):
    plant(monkeypatch)

    assert found(deployment, clock)


@pytest.mark.parametrize("plant", IN_A_RACE, ids=lambda plant: plant.__name__)
def test_a_bug_that_needs_a_race_is_found(
    plant: Plant, deployment: Deployment, clock: Clock, monkeypatch
):
    plant(monkeypatch)

    assert found(deployment, clock, at_once=True)
