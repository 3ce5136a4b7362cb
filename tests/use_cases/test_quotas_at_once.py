"""Quotas are exact however many call at once: real threads, real databases (law 5.2)."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import partial

import pytest

from builders import HOME, OWNER, a_caller
from conftest import MakeService
from crowd import all_at_once
from databases import POSTGRESQL
from ims.domain.image import ImageId
from ims.domain.limits import Limits
from ims.domain.quotas import Usage
from ims.domain.rejection import Rejection
from ims.domain.tenant import TenantId
from ims.repository import tenants
from ims.repository.sqlite import SqliteBackend
from ims.repository.tenants import TenantRepository
from ims.use_cases.deployment import Deployment
from ims.use_cases.images import delete_image, undelete_image
from ims.use_cases.sharing import (
    Recipient,
    accept_share,
    leave_share,
    reject_share,
    share_image,
    unshare_image,
)
from use_cases.quota_stories import (
    CONTENT,
    SIZE,
    a_draft,
    an_active_image,
    create,
    held_upload,
    limit,
    recount,
    upload,
    used,
)

CALLERS = 60
MOMENT_SECONDS = 0.3


def images_in_the_catalogue(deployment: Deployment, number: int) -> None:
    with deployment.database.transaction() as tx:
        for _ in range(number):
            tx.images.add(a_draft(region=HOME))


def create_at_once(deployment: Deployment) -> Counter[str]:
    return all_at_once([partial(create, deployment) for _ in range(CALLERS)])


@pytest.mark.parametrize("run", range(3))
def test_60_creations_at_once_at_40_of_50_let_exactly_10_in(deployment: Deployment, run: int):
    images_in_the_catalogue(deployment, 40)

    ended = create_at_once(deployment)

    assert ended == {"OK": 10, "IMAGE_QUOTA_EXCEEDED": 50}
    assert used(deployment) == recount(deployment) == Usage(private_images=50)


def test_whoever_is_refused_is_told_the_numbers(deployment: Deployment):
    images_in_the_catalogue(deployment, 50)

    with pytest.raises(Rejection) as told:
        create(deployment)

    assert told.value.violations[0].metadata == {"limit": 50, "used": 50, "asked": 1}


@pytest.fixture
def only_one_writes_at_a_time_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away SQLite's guard; PostgreSQL has none but the locks on rows."""
    monkeypatch.setattr(SqliteBackend, "queue", lambda *_: nullcontext())
    monkeypatch.setattr(
        SqliteBackend, "begin", lambda _self, connection, _seconds: connection.exec_driver_sql("BEGIN")
    )


@pytest.mark.usefixtures("only_one_writes_at_a_time_no_more")
def test_without_the_lock_the_quota_does_not_hold(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
):
    """The first test is worth something: take the guard out, and it fails."""
    monkeypatch.setattr(tenants, "_LOCK", tenants._ONE)
    images_in_the_catalogue(deployment, 40)

    ended = create_at_once(deployment)

    assert (ended["OK"], recount(deployment).private_images) != (10, 50)


@pytest.mark.usefixtures("only_one_writes_at_a_time_no_more")
def test_written_as_sums_of_what_was_read_the_counters_lose_count(
    deployment: Deployment, kind_of_database: str, monkeypatch: pytest.MonkeyPatch
):
    """Why the change is added in the database: what was read may have changed meanwhile."""

    def change(self: TenantRepository, tenant_id: TenantId, change: Usage) -> None:
        self.recounted(tenant_id, self.account(tenant_id).used + change)

    image_ids = [create(deployment) for _ in range(30)]
    monkeypatch.setattr(TenantRepository, "change", change)

    all_at_once([partial(delete, deployment, image_id) for image_id in image_ids])

    # SQLite has no transaction write over what it has not seen: without turns, all but one fail.
    assert (used(deployment) != recount(deployment)) is (kind_of_database == POSTGRESQL)


def delete(deployment: Deployment, image_id: ImageId) -> None:
    delete_image(deployment, caller=a_caller(), image_id=image_id)


def undelete(deployment: Deployment, image_id: ImageId) -> None:
    undelete_image(deployment, caller=a_caller(), image_id=image_id)


def test_deletions_at_once_give_everything_back(deployment: Deployment):
    image_ids = [create(deployment) for _ in range(30)]

    ended = all_at_once([partial(delete, deployment, each) for each in image_ids for _ in range(2)])

    assert ended == {"OK": 30, "IMAGE_DELETED": 30}
    assert used(deployment) == recount(deployment) == Usage()


def test_undeletions_and_creations_at_once_share_what_is_left(deployment: Deployment):
    deleted = [create(deployment) for _ in range(20)]
    for image_id in deleted:
        delete(deployment, image_id)
    images_in_the_catalogue(deployment, 40)

    ended = all_at_once(
        [
            *(partial(undelete, deployment, each) for each in deleted),
            *(partial(create, deployment) for _ in range(20)),
        ]
    )

    assert ended == {"OK": 10, "IMAGE_QUOTA_EXCEEDED": 30}
    assert used(deployment) == recount(deployment) == Usage(private_images=50)


def test_an_undeletion_that_waited_is_judged_by_what_it_waited_for(deployment: Deployment):
    """As if the calls had come one after the other: a taken name is said before a full quota."""
    image_id = create(deployment, name="one")
    delete(deployment, image_id)
    limit(deployment, private_images=1)
    with ThreadPoolExecutor(1) as another:
        with deployment.database.transaction() as tx:
            tx.tenants.lock(OWNER)
            tx.images.add(a_draft(name="one", region=HOME))
            waiting = another.submit(undelete, deployment, image_id)
            wait([waiting], timeout=MOMENT_SECONDS)

        with pytest.raises(Rejection) as told:
            waiting.result()

    assert told.value.reason == "IMAGE_NAME_TAKEN"


def test_uploads_at_once_store_not_one_byte_too_many(deployment: Deployment):
    limit(deployment, stored_bytes=7 * SIZE + SIZE - 1)
    image_ids = [create(deployment) for _ in range(30)]

    ended = all_at_once([partial(upload, deployment, image_id) for image_id in image_ids])

    assert ended == {"OK": 7, "STORAGE_QUOTA_EXCEEDED": 23}
    assert used(deployment) == recount(deployment) == Usage(private_images=30, stored_bytes=7 * SIZE)


def test_of_41_creations_at_once_one_is_refused(deployment: Deployment):
    *under_way, one_more = [create(deployment) for _ in range(41)]
    with ExitStack() as held:
        for image_id in under_way:
            held.enter_context(held_upload(deployment, image_id))
        assert used(deployment) == Usage(private_images=41, stored_bytes=40 * SIZE, creations=40)

        with pytest.raises(Rejection) as told:
            upload(deployment, one_more)

        assert told.value.reason == "TOO_MANY_CREATIONS"
        assert told.value.violations[0].metadata == {"limit": 40, "used": 40, "asked": 1}
    upload(deployment, one_more)

    assert used(deployment) == recount(deployment) == Usage(private_images=41, stored_bytes=41 * SIZE)


def test_uploads_that_fail_at_once_give_everything_back(deployment: Deployment):
    limit(deployment, creations=5)
    image_ids = [create(deployment) for _ in range(30)]

    ended = all_at_once(
        [partial(upload, deployment, image_id, iter([CONTENT[1:]])) for image_id in image_ids]
    )

    assert set(ended) <= {"SIZE_MISMATCH", "TOO_MANY_CREATIONS"}
    assert used(deployment) == recount(deployment) == Usage(private_images=30)


def test_two_instances_keep_one_quota(make_service: MakeService):
    one = make_service()
    another = make_service(data=one.settings.data)
    images_in_the_catalogue(one.deployment, 40)

    ended = all_at_once([partial(create, each.deployment) for each in (one, another) for _ in range(30)])

    assert ended == {"OK": 10, "IMAGE_QUOTA_EXCEEDED": 50}


def test_whatever_is_done_with_shares_at_once_leaves_exact_numbers(deployment: Deployment):
    """1,000 calls on ten images: the shares stay within the limit, and no counter moves."""
    deployment = replace(deployment, limits=Limits(shares_per_image=8))
    image_ids = [an_active_image(deployment) for _ in range(10)]
    recipients = [TenantId(f"recipient-{number}") for number in range(20)]
    before, dice = used(deployment), random.Random(5)

    def a_call(number: int):
        image_id, tenant = dice.choice(image_ids), dice.choice(recipients)
        mine, theirs = {"caller": a_caller()}, {"caller": a_caller(tenant)}
        about = {"image_id": image_id}
        return (
            partial(share_image, **mine, **about, recipients=(Recipient(tenant_id=tenant),)),
            partial(share_image, **mine, **about, recipients=(Recipient(tenant_id=tenant),)),
            partial(unshare_image, **mine, **about, tenant_ids=(tenant,)),
            partial(accept_share, **theirs, **about),
            partial(reject_share, **theirs, **about),
            partial(leave_share, **theirs, **about),
        )[number % 6]

    calls = [partial(a_call(number), deployment) for number in range(1000)]
    ended = Counter()
    for hundred in range(0, 1000, 100):
        ended += all_at_once(calls[hundred : hundred + 100])

    assert set(ended) <= {"OK", "SHARE_LIMIT_EXCEEDED", "IMAGE_NOT_FOUND"}
    assert ended["SHARE_LIMIT_EXCEEDED"]
    for image_id in image_ids:
        with deployment.database.reading() as reading:
            there = reading.shares.prospect(image_id, OWNER, recipients, now=deployment.now())
            count = reading.shares.count(image_id, now=deployment.now())
            assert count == there.share_count == len(there.shares) <= 8
    assert used(deployment) == recount(deployment) == before
    assert all(used(deployment, tenant) == Usage() for tenant in recipients)
