"""Whatever goes wrong with an upload: no record without bytes, no bytes without a record."""

import time
from datetime import timedelta

import pytest

from builders import (
    A_MOMENT,
    OWNER,
    a_caller,
    an_image,
)
from calling import declined
from conftest import As, Clock
from ims.domain.image import BlobKey, DiskFormat, DiskRole, DiskState, ImageId, ImageState
from ims.domain.rejection import Category, Reason, Rejection, reject
from ims.repository.database import Database
from ims.rules.image_data import Announcement
from ims.use_cases import image_data
from ims.use_cases.deployment import Deployment
from ims.use_cases.image_data import give_up_dead_uploads, keep_uploads_alive, upload_image_data
from ims.use_cases.images import delete_image, purge_images

CONTENT = b"bytes of a disk " * 4096


@pytest.fixture
def image_id(deployment: Deployment) -> ImageId:
    disk = an_image().disks[0]
    empty = type(disk)(index=0, role=DiskRole.SYSTEM, format=DiskFormat.RAW)
    image = an_image(state=ImageState.QUEUED, disks=(empty,), min_disk_gib=0)
    with deployment.database.transaction() as tx:
        tx.images.add(image)
    return image.id


def upload(deployment: Deployment, image_id: ImageId, content: bytes = CONTENT) -> None:
    upload_image_data(
        deployment,
        caller=a_caller(),
        image_id=image_id,
        disk_index=0,
        announced=Announcement(size_bytes=len(CONTENT)),
        chunks=iter([content]),
    )


def state(deployment: Deployment, image_id: ImageId) -> tuple[ImageState, DiskState]:
    with deployment.database.reading() as reading:
        view = reading.images.view(image_id, OWNER, now=A_MOMENT)
    assert view is not None
    return view.image.state, view.image.disks[0].state


def blobs(deployment: Deployment) -> int:
    return len(list(deployment.blobs.keys()))


def pending(deployment: Deployment, clock: Clock) -> tuple[object, ...]:
    """Return all that a sweep could ever find to be removed."""
    with deployment.database.reading() as reading:
        return reading.pending_blobs.abandoned(now=clock.now() + timedelta(days=365))


def away() -> Rejection:
    return reject(Category.UNAVAILABLE, Reason.CATALOGUE_UNAVAILABLE, "away")


def test_a_lost_answer_to_the_last_commit_keeps_the_bytes(deployment, image_id, monkeypatch):
    """The record says ACTIVE, though the service was told that the catalogue is gone."""
    finish = image_data.name_bytes

    def finish_and_lose_the_answer(*arguments, **options):
        finish(*arguments, **options)
        raise away()

    monkeypatch.setattr(image_data, "name_bytes", finish_and_lose_the_answer)
    with pytest.raises(Rejection):
        upload(deployment, image_id)
    give_up_dead_uploads(deployment)

    assert state(deployment, image_id) == (ImageState.ACTIVE, DiskState.STORED)
    assert blobs(deployment) == 1


def test_a_crash_between_making_bytes_visible_and_saying_so_is_swept(
    deployment, image_id, clock, monkeypatch
):
    def crash(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(image_data, "name_bytes", crash)
    monkeypatch.setattr(image_data, "give_up_now_or_later", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        upload(deployment, image_id)
    assert state(deployment, image_id) == (ImageState.SAVING, DiskState.SAVING)
    assert blobs(deployment) == 1
    assert give_up_dead_uploads(deployment) == 0  # its process may be alive
    clock.advance(seconds=20)

    assert give_up_dead_uploads(deployment) == 1

    assert state(deployment, image_id) == (ImageState.QUEUED, DiskState.EMPTY)
    assert blobs(deployment) == 0


def test_an_upload_that_fails_while_the_catalogue_is_away_is_given_up_later(
    deployment, image_id, clock, monkeypatch
):
    transaction, calls = Database.transaction, iter([True, False])

    def sometimes(database):
        if next(calls, False):
            return transaction(database)
        raise away()

    with monkeypatch.context() as patch:
        patch.setattr(Database, "transaction", sometimes)
        with pytest.raises(Rejection) as first_error:
            upload(deployment, image_id, CONTENT[:-1])
    assert first_error.value.reason == "SIZE_MISMATCH"
    assert state(deployment, image_id) == (ImageState.SAVING, DiskState.SAVING)
    clock.advance(seconds=20)

    give_up_dead_uploads(deployment)

    assert state(deployment, image_id) == (ImageState.QUEUED, DiskState.EMPTY)
    upload(deployment, image_id)
    assert state(deployment, image_id) == (ImageState.ACTIVE, DiskState.STORED)


def test_a_living_upload_is_left_alone_by_the_sweep(deployment, image_id, clock):
    def chunks():
        yield CONTENT[:100]
        clock.advance(seconds=19)
        keep_uploads_alive(deployment)
        clock.advance(seconds=19)
        assert give_up_dead_uploads(deployment) == 0
        yield CONTENT[100:]

    upload_image_data(
        deployment,
        caller=a_caller(),
        image_id=image_id,
        disk_index=0,
        announced=Announcement(size_bytes=len(CONTENT)),
        chunks=chunks(),
    )

    assert state(deployment, image_id) == (ImageState.ACTIVE, DiskState.STORED)
    assert pending(deployment, clock) == ()


def test_an_upload_that_was_taken_for_dead_is_superseded_and_leaves_nothing(deployment, image_id, clock):
    """A process that was silent for too long comes back: its disk is another's by now."""

    def chunks():
        yield CONTENT[:100]
        clock.advance(seconds=20)
        assert give_up_dead_uploads(deployment) == 1
        keep_uploads_alive(deployment)  # too late: what was given up stays so
        upload(deployment, image_id)
        yield CONTENT[100:]

    with pytest.raises(Rejection) as late:
        upload_image_data(
            deployment,
            caller=a_caller(),
            image_id=image_id,
            disk_index=0,
            announced=Announcement(size_bytes=len(CONTENT)),
            chunks=chunks(),
        )

    assert late.value.reason == "UPLOAD_SUPERSEDED"
    assert state(deployment, image_id) == (ImageState.ACTIVE, DiskState.STORED)
    assert blobs(deployment) == 1
    assert pending(deployment, clock) == ()


def test_a_blob_that_cannot_be_removed_keeps_nothing_else_waiting(
    deployment, image_id, clock, monkeypatch
):
    delete = deployment.blobs.delete
    with deployment.database.transaction() as tx:
        tx.pending_blobs.doom([BlobKey("stuck"), BlobKey("another")])

    def broken(key):
        if key == "stuck":
            raise OSError("broken")
        delete(key)

    monkeypatch.setattr(deployment.blobs, "delete", broken)
    give_up_dead_uploads(deployment)

    assert [each.blob_key for each in pending(deployment, clock)] == ["stuck"]


def test_an_upload_whose_time_is_over_is_given_up_at_once(deployment, image_id, clock):
    def chunks():
        yield CONTENT[:100]
        time.sleep(0.3)
        yield CONTENT[100:200]

    with pytest.raises(Rejection), deployment.database.until(time.monotonic() + 0.25):
        upload_image_data(
            deployment,
            caller=a_caller(),
            image_id=image_id,
            disk_index=0,
            announced=Announcement(size_bytes=len(CONTENT)),
            chunks=chunks(),
        )

    assert state(deployment, image_id) == (ImageState.QUEUED, DiskState.EMPTY)
    assert pending(deployment, clock) == ()


def test_a_failed_upload_leaves_nothing_pending(deployment, image_id, clock):
    with pytest.raises(Rejection):
        upload(deployment, image_id, b"short")

    assert blobs(deployment) == 0
    assert pending(deployment, clock) == ()


def test_a_purged_image_whose_bytes_cannot_be_removed_now_is_swept_later(
    deployment, image_id, clock, as_: As, monkeypatch
):
    upload(deployment, image_id)
    delete_image(deployment, caller=a_caller(), image_id=image_id)
    clock.advance(days=8)

    def broken(_key):
        raise OSError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(deployment.blobs, "delete", broken)
        assert purge_images(deployment) == 1
    with declined() as gone:
        as_(OWNER).GetImage(image_id=image_id)
    assert gone.reason == "IMAGE_NOT_FOUND"
    assert blobs(deployment) == 1

    give_up_dead_uploads(deployment)

    assert blobs(deployment) == 0
