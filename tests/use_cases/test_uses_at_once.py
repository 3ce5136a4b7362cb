"""Registered uses stay exact when many callers come at one moment."""

from contextlib import nullcontext

import pytest

from builders import OWNER, RECIPIENT, a_caller, an_accepted_share, an_image
from conftest import MakeService
from crowd import all_at_once
from ims.domain.image import ImageId, ImageState
from ims.domain.registered_use import UseKind
from ims.repository import images, tables
from ims.repository.sqlite import SqliteBackend
from ims.repository.statement import Statement
from ims.use_cases.deployment import Deployment
from ims.use_cases.images import delete_image
from ims.use_cases.registered_uses import register_use
from ims.use_cases.sharing import unshare_image

LIMIT = 20
CALLERS = 60


@pytest.fixture
def deployment(make_service: MakeService) -> Deployment:
    return make_service(uses_per_image_and_tenant=LIMIT).deployment


def a_lent_image(deployment: Deployment) -> ImageId:
    image = an_image()
    with deployment.database.transaction() as tx:
        tx.images.add(image)
        tx.shares.add([an_accepted_share(image_id=image.id)])
    return image.id


def register(deployment: Deployment, image_id: ImageId, number: int, tenant: str = OWNER) -> None:
    register_use(
        deployment,
        caller=a_caller(tenant),
        image_id=image_id,
        kind=UseKind.ECS,
        consumer_id=f"server-{number}",
    )


def use_count(deployment: Deployment, image_id: ImageId) -> int:
    with deployment.database.reading() as reading:
        return reading.uses.total(image_id).uses


def register_at_once(deployment: Deployment, image_id: ImageId) -> dict[str, int]:
    return all_at_once(
        [lambda number=number: register(deployment, image_id, number) for number in range(CALLERS)]
    )


def take_the_lock_away(monkeypatch: pytest.MonkeyPatch) -> None:
    # PostgreSQL's guard is the lock on the image's row, SQLite's that only one writes at a time.
    unlocked = images._LOCK._query.with_for_update(read=True, of=tables.images)
    monkeypatch.setattr(images, "_LOCK", Statement(unlocked))
    monkeypatch.setattr(SqliteBackend, "queue", lambda *_: nullcontext())
    monkeypatch.setattr(
        SqliteBackend, "begin", lambda _self, connection, _seconds: connection.exec_driver_sql("BEGIN")
    )


def test_60_registrations_at_once_leave_exactly_as_many_as_the_limit(deployment: Deployment):
    image_id = a_lent_image(deployment)

    ended = register_at_once(deployment, image_id)

    assert ended == {"OK": LIMIT, "USE_LIMIT_EXCEEDED": CALLERS - LIMIT}
    assert use_count(deployment, image_id) == LIMIT


def test_without_the_lock_the_limit_does_not_hold(deployment: Deployment, monkeypatch):
    """The test above is worth something: take the guard out, and it fails."""
    take_the_lock_away(monkeypatch)
    image_id = a_lent_image(deployment)

    ended = register_at_once(deployment, image_id)

    assert (ended["OK"], use_count(deployment, image_id)) != (LIMIT, LIMIT)


def test_one_use_registered_by_many_at_once_is_one(deployment: Deployment):
    image_id = a_lent_image(deployment)

    ended = all_at_once([lambda: register(deployment, image_id, 1) for _ in range(CALLERS)])

    assert ended == {"OK": CALLERS}
    assert use_count(deployment, image_id) == 1


def test_of_a_registration_and_a_deletion_of_what_is_unused_one_happens(deployment: Deployment):
    for _ in range(30):
        image_id = a_lent_image(deployment)

        ended = all_at_once(
            [
                lambda image_id=image_id: register(deployment, image_id, 1, RECIPIENT),
                lambda image_id=image_id: delete_image(
                    deployment, caller=a_caller(), image_id=image_id, require_unused=True
                ),
            ]
        )

        with deployment.database.reading() as reading:
            view = reading.images.view(image_id, OWNER, now=deployment.now())
        assert view is not None
        used = use_count(deployment, image_id)
        deleted = view.image.state is ImageState.DELETED
        assert (used, deleted) in {(1, False), (0, True)}
        assert ended == {"OK": 1, "IMAGE_IN_USE" if used else "IMAGE_NOT_FOUND": 1}


def test_of_a_registration_and_an_end_of_what_is_unused_one_happens(deployment: Deployment):
    for _ in range(30):
        image_id = a_lent_image(deployment)

        ended = all_at_once(
            [
                lambda image_id=image_id: register(deployment, image_id, 1, RECIPIENT),
                lambda image_id=image_id: unshare_image(
                    deployment,
                    caller=a_caller(),
                    image_id=image_id,
                    tenant_ids=(RECIPIENT,),
                    require_unused=True,
                ),
            ]
        )

        used = use_count(deployment, image_id)
        with deployment.database.reading() as reading:
            shared = reading.shares.count(image_id, now=deployment.now())
        assert (used, shared) in {(1, 1), (0, 0)}
        assert ended == {"OK": 1, "IMAGE_IN_USE" if used else "IMAGE_NOT_FOUND": 1}
