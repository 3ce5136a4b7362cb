"""What must be exact however many call at once: real threads, a real database in a file."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import timedelta

import pytest
import sqlalchemy as sa

from builders import HOME, OWNER, RECIPIENT, a_caller, an_image
from conftest import Clock
from crowd import all_at_once
from databases import POSTGRESQL
from ims.domain.image import ImageId
from ims.domain.rejection import Reason, Rejection
from ims.domain.tenant import TenantId
from ims.repository import images, tables
from ims.repository.sqlite import SqliteBackend
from ims.repository.statement import Statement
from ims.use_cases.deployment import Deployment
from ims.use_cases.images import create_image
from ims.use_cases.sharing import Recipient, accept_share, leave_share, share_image, unshare_image
from ims.use_cases.trust import set_trust_rules

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
        return reading.shares.count(image_id, now=deployment.now())


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


@pytest.mark.databases(POSTGRESQL)
def test_a_share_that_ends_while_its_recipient_waits_is_not_accepted(
    deployment: Deployment, clock: Clock
):
    """What is judged is true once the image's lock is held. (On SQLite the waiting comes first.)"""
    image_id = an_active_image(deployment)
    share_image(
        deployment,
        caller=a_caller(),
        image_id=image_id,
        recipients=(Recipient(tenant_id=RECIPIENT),),
        expire_time=clock.now() + timedelta(minutes=1),
    )

    with ThreadPoolExecutor(1) as another:
        with deployment.database.transaction() as tx:
            tx.images.lock(image_id, OWNER, now=deployment.now)
            accepting = another.submit(
                accept_share, deployment, caller=a_caller(RECIPIENT), image_id=image_id
            )
            wait_for_one_that_waits(tx.images._connection)
            clock.advance(minutes=1)
        with pytest.raises(Rejection) as seen:
            accepting.result()

    assert seen.value.reason is Reason.IMAGE_NOT_FOUND


def wait_for_one_that_waits(connection: sa.Connection) -> None:
    """Return when another transaction waits for a lock of this one."""
    waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
    until = time.monotonic() + 20
    while connection.exec_driver_sql(waits).first() is None:
        assert time.monotonic() < until, "nobody waits"
        time.sleep(0.01)


@pytest.mark.databases(POSTGRESQL)
@pytest.mark.parametrize("out", ["its share has ended", "it has blocked the owner"])
def test_who_does_not_see_an_image_does_not_wait_for_its_lock_either(
    deployment: Deployment, clock: Clock, out: str
):
    """Or how long its call takes would tell that there is something."""
    image_id = an_active_image(deployment)
    share_image(
        deployment,
        caller=a_caller(),
        image_id=image_id,
        recipients=(Recipient(tenant_id=RECIPIENT),),
        expire_time=clock.now() + timedelta(minutes=1),
    )
    if out == "its share has ended":
        clock.advance(minutes=1)
    else:
        set_trust_rules(deployment, caller=a_caller(RECIPIENT), changes={"blocked": (OWNER,)})

    with ThreadPoolExecutor(1) as another, deployment.database.transaction() as tx:
        tx.images.lock(image_id, OWNER, now=deployment.now)
        leaving = another.submit(leave_share, deployment, caller=a_caller(RECIPIENT), image_id=image_id)
        with pytest.raises(Rejection) as seen:
            leaving.result(timeout=5)

    assert seen.value.reason is Reason.IMAGE_NOT_FOUND


def test_of_50_creations_with_one_name_at_once_one_succeeds(deployment: Deployment):
    ended = all_at_once(
        [
            lambda: create_image(deployment, caller=a_caller(), draft=an_image(name="the-one"))
            for _ in range(50)
        ]
    )

    assert ended == {"OK": 1, "IMAGE_NAME_TAKEN": 49}
