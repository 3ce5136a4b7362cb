"""What must be exact however many call at once: real threads, a real database in a file."""

from collections import Counter
from contextlib import nullcontext

import pytest

from builders import HOME, OWNER, RECIPIENT, a_caller, an_image
from crowd import all_at_once
from ims.domain.image import ImageId
from ims.domain.tenant import TenantId
from ims.repository import images, tables
from ims.repository.sqlite import SqliteBackend
from ims.repository.statement import Statement
from ims.use_cases.deployment import Deployment
from ims.use_cases.images import create_image
from ims.use_cases.sharing import Recipient, accept_share, share_image, unshare_image

CALLERS = 200
LIMIT = 128


def an_active_image(deployment: Deployment) -> ImageId:
    image = an_image(region=HOME)
    with deployment.database.transaction() as tx:
        tx.images.add(image)
    return image.id


def share_at_once(deployment: Deployment, image_id: ImageId, callers: int) -> Counter[str]:
    return all_at_once(
        [
            lambda number=number: share_image(
                deployment,
                caller=a_caller(),
                image_id=image_id,
                recipients=(Recipient(tenant_id=TenantId(f"tenant-{number}")),),
            )
            for number in range(callers)
        ]
    )


def share_count(deployment: Deployment, image_id: ImageId) -> int:
    with deployment.database.reading() as reading:
        return reading.shares.count(image_id)


@pytest.mark.parametrize("run", range(3))
def test_200_callers_at_once_leave_exactly_128_shares(deployment: Deployment, run: int):
    image_id = an_active_image(deployment)

    ended = share_at_once(deployment, image_id, CALLERS)

    assert ended == {"OK": LIMIT, "SHARE_LIMIT_EXCEEDED": CALLERS - LIMIT}
    assert share_count(deployment, image_id) == LIMIT


@pytest.mark.slow
def test_200_callers_at_once_leave_exactly_128_shares_20_times_of_20(deployment: Deployment):
    for _ in range(20):
        image_id = an_active_image(deployment)

        ended = share_at_once(deployment, image_id, CALLERS)

        assert ended == {"OK": LIMIT, "SHARE_LIMIT_EXCEEDED": CALLERS - LIMIT}
        assert share_count(deployment, image_id) == LIMIT


def test_without_the_lock_the_limit_does_not_hold(deployment: Deployment, monkeypatch):
    """The test above is worth something: take the guard out, and it fails."""
    # PostgreSQL's guard is the lock on the image's row, SQLite's that only one writes at a time.
    unlocked = images._LOCK._query.with_for_update(read=True, of=tables.images)
    monkeypatch.setattr(images, "_LOCK", Statement(unlocked))
    monkeypatch.setattr(SqliteBackend, "queue", lambda *_: nullcontext())
    monkeypatch.setattr(
        SqliteBackend, "begin", lambda _self, connection, _seconds: connection.exec_driver_sql("BEGIN")
    )
    image_id = an_active_image(deployment)

    ended = share_at_once(deployment, image_id, CALLERS)

    assert (ended["OK"], share_count(deployment, image_id)) != (LIMIT, LIMIT)


def test_a_race_of_revoke_and_accept_ends_with_no_share(deployment: Deployment):
    """Law 4.8, in whatever order the two arrive."""
    for _ in range(30):
        image_id = an_active_image(deployment)
        recipients = (Recipient(tenant_id=RECIPIENT),)
        share_image(deployment, caller=a_caller(), image_id=image_id, recipients=recipients)

        ended = all_at_once(
            [
                lambda image_id=image_id: accept_share(
                    deployment, caller=a_caller(RECIPIENT), image_id=image_id
                ),
                lambda image_id=image_id: unshare_image(
                    deployment, caller=a_caller(OWNER), image_id=image_id, tenant_ids=(RECIPIENT,)
                ),
            ]
        )

        assert ended in ({"OK": 2}, {"OK": 1, "IMAGE_NOT_FOUND": 1})
        assert share_count(deployment, image_id) == 0


def test_of_50_creations_with_one_name_at_once_one_succeeds(deployment: Deployment):
    ended = all_at_once(
        [
            lambda: create_image(deployment, caller=a_caller(), draft=an_image(name="the-one"))
            for _ in range(50)
        ]
    )

    assert ended == {"OK": 1, "IMAGE_NAME_TAKEN": 49}
