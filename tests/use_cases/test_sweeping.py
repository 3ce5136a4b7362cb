"""What is done without a call: every instance may, one does, and another takes over."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Barrier

import pytest

from builders import A_MOMENT, an_image
from conftest import Clock
from ims.domain.image import BlobKey, ImageState
from ims.use_cases.deployment import Deployment
from ims.use_cases.sweeping import SWEEP, Swept, sweep

NOTHING = Swept(
    dead_uploads=0,
    purged_images=0,
    discarded_arrivals=0,
    ended_shares=0,
    forgotten_requests=0,
    forgotten_events=0,
    forgotten_operations=0,
)


def put_an_image_to_be_purged(deployment: Deployment) -> None:
    image = an_image(
        state=ImageState.DELETED, purge_time=A_MOMENT, state_before_deletion=ImageState.ACTIVE
    )
    with deployment.database.transaction() as tx:
        tx.images.add(image)
        tx.pending_blobs.add(BlobKey(f"upload-{image.id}"), image.id, until=A_MOMENT)


def test_a_sweep_purges_and_gives_up_what_is_dead(deployment: Deployment, clock: Clock):
    clock.advance(days=2)  # beyond the moment in which the builders' things are made
    put_an_image_to_be_purged(deployment)

    assert sweep(deployment, "one") == replace(NOTHING, dead_uploads=1, purged_images=1)
    assert sweep(deployment, "one") == NOTHING


def test_while_one_sweeps_the_others_do_not(deployment: Deployment, clock: Clock):
    with deployment.database.transaction() as tx:
        assert tx.duties.claim(SWEEP, "one", now=clock.now(), until=clock.now() + timedelta(minutes=1))
    assert sweep(deployment, "another") is None

    clock.advance(seconds=61)  # one has died in the middle of it

    assert sweep(deployment, "another") == NOTHING


def test_a_sweep_that_fails_leaves_the_duty_to_others(deployment: Deployment, clock, monkeypatch):
    clock.advance(days=2)
    put_an_image_to_be_purged(deployment)

    def broken(_key):
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(deployment.blobs, "delete", broken)
        with pytest.raises(RuntimeError, match="broken"):
            sweep(deployment, "one")

    assert sweep(deployment, "another") is not None


def test_what_is_swept_by_many_at_once_is_swept_once(deployment: Deployment, clock: Clock):
    clock.advance(days=2)
    for _ in range(5):
        put_an_image_to_be_purged(deployment)
    barrier = Barrier(8)

    def sweep_as(number: int) -> Swept | None:
        barrier.wait()
        return sweep(deployment, f"instance-{number}")

    with ThreadPoolExecutor(8) as pool:
        swept = [each for each in pool.map(sweep_as, range(8)) if each is not None]

    assert sum(each.purged_images for each in swept) == 5
    assert sum(each.dead_uploads for each in swept) == 5


def test_when_the_catalogue_has_just_come_back_the_living_speak_first(
    deployment: Deployment, clock: Clock, monkeypatch
):
    """An outage may be longer than the lease of an upload, and is no sign of anybody's death."""
    clock.advance(days=2)
    put_an_image_to_be_purged(deployment)
    database, lease = deployment.database, deployment.upload_lease.total_seconds()

    monkeypatch.setattr(database, "_back_since", time.monotonic() - lease + 10)
    assert sweep(deployment, "one") is None

    monkeypatch.setattr(database, "_back_since", time.monotonic() - lease)
    assert sweep(deployment, "one") is not None
