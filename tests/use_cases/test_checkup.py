"""A checkup finds what is planted, mends it, and finds nothing where everything is as it should be."""

import os
import threading
from datetime import timedelta
from functools import partial

import pytest
import sqlalchemy as sa

from builders import (
    A_MOMENT,
    HOME,
    OWNER,
    RECIPIENT,
    a_caller,
    a_disk,
    a_share,
    an_image,
)
from conftest import Clock
from crowd import all_at_once
from ims.domain.copying import CopyOrder
from ims.domain.image import BlobKey, DiskState, ImageId, ImageState, KeyId
from ims.domain.quotas import Usage
from ims.domain.rejection import Rejection
from ims.domain.repetition import RepeatableCall
from ims.domain.tenant import TenantId
from ims.providers.keys import add_key
from ims.repository import tables
from ims.use_cases import checkup
from ims.use_cases.checkup import CHECKS, Finding, check_up
from ims.use_cases.copying import BegunCopy, copy_image
from ims.use_cases.deployment import Deployment
from ims.use_cases.images import delete_image, purge_images, undelete_image
from use_cases.quota_stories import (
    CONTENT,
    SIZE,
    a_draft,
    an_active_image,
    create,
    held_upload,
    recount,
    upload,
    used,
)

SETTLED = timedelta(hours=1)
BEFORE = timedelta(hours=1, microseconds=1)


def findings(deployment: Deployment) -> list[Finding]:
    return list(check_up(deployment, settled=SETTLED))


def told(deployment: Deployment) -> list[tuple[str, str]]:
    return [(finding.check, finding.subject) for finding in findings(deployment)]


def mended(deployment: Deployment) -> list[tuple[str, str]]:
    """Mend all that is found; return what is found afterwards."""
    for finding in check_up(deployment, settled=SETTLED):
        assert finding.mend is not None
        finding.mend()
    return told(deployment)


def write(deployment: Deployment, statement: sa.Executable) -> None:
    with deployment.database.transaction() as tx:
        tx.images._connection.execute(statement)


def a_blob(deployment: Deployment, key: str, *, age: timedelta = BEFORE) -> BlobKey:
    """Put bytes into the store that nobody knows of."""
    writer = deployment.blobs.open_writer(BlobKey(key))
    writer.write(CONTENT)
    writer.commit()
    return date_back(deployment, BlobKey(key), age)


def date_back(deployment: Deployment, key: BlobKey, age: timedelta) -> BlobKey:
    moment = (deployment.now() - age).timestamp()
    os.utime(deployment.blobs._path(key), (moment, moment))
    return key


def blob_key_of(deployment: Deployment, image_id: ImageId) -> BlobKey:
    with deployment.database.reading() as reading:
        return reading.images.view(image_id, OWNER, now=A_MOMENT).image.disks[0].blob_key


@pytest.fixture
def image_id(deployment: Deployment) -> ImageId:
    image_id = an_active_image(deployment)
    date_back(deployment, blob_key_of(deployment, image_id), BEFORE)
    return image_id


def test_a_check_is_called_by_its_name(deployment: Deployment, image_id: ImageId):
    names = {check.__name__ for check in CHECKS}

    assert len(names) == len(CHECKS)


@pytest.mark.usefixtures("image_id")
def test_where_everything_is_as_it_should_be_nothing_is_found(deployment: Deployment):
    encrypted = create_encrypted(deployment)
    upload(deployment, encrypted)
    date_back(deployment, blob_key_of(deployment, encrypted), BEFORE)
    deleted = an_active_image(deployment)
    delete_image(deployment, caller=a_caller(), image_id=deleted)

    with held_upload(deployment, create(deployment)):
        assert told(deployment) == []


def create_encrypted(deployment: Deployment) -> ImageId:
    image = a_draft(encryption_key_id=KeyId("key-1"))
    with deployment.database.transaction() as tx:
        tx.images.add(image)
    return image.id


# --- Counters ---


@pytest.mark.parametrize(
    "wrong", [{"private_images": 5}, {"stored_bytes": 0}, {"creations": 1}], ids=str
)
def test_a_counter_that_is_wrong_is_recounted(deployment: Deployment, image_id: ImageId, wrong):
    write(deployment, tables.tenants.update().values(wrong))

    found = findings(deployment)

    assert [(each.check, each.subject) for each in found] == [
        ("tenants_use_what_their_images_take", "tenant owner")
    ]
    assert f"take 1 private images, {SIZE} bytes, 0 creations and 0 copies" in found[0].message
    assert mended(deployment) == []
    assert used(deployment) == Usage(private_images=1, stored_bytes=SIZE)


def test_a_tenant_without_a_record_is_recounted(deployment: Deployment, image_id: ImageId):
    write(deployment, tables.tenants.delete())

    assert told(deployment) == [("tenants_use_what_their_images_take", "tenant owner")]
    assert mended(deployment) == []
    assert used(deployment) == recount(deployment)


def test_a_tenant_that_has_nothing_any_more_is_recounted(deployment: Deployment):
    write(
        deployment,
        tables.tenants.insert().values(id="gone", private_images=1, stored_bytes=0, creations=0),
    )

    assert told(deployment) == [("tenants_use_what_their_images_take", "tenant gone")]
    assert mended(deployment) == []
    assert used(deployment, TenantId("gone")) == Usage()


def test_what_changes_while_it_is_counted_is_no_finding(
    deployment: Deployment, image_id: ImageId, monkeypatch: pytest.MonkeyPatch
):
    look = checkup._used

    def somebody_is_faster(deployment):
        create(deployment)
        yield from look(deployment)

    monkeypatch.setattr(checkup, "_used", somebody_is_faster)

    assert told(deployment) == []


# --- Columns and tags ---


@pytest.mark.parametrize(
    ("table", "values", "column"),
    [
        (tables.images, {"live_name": "another"}, "live_name"),
        (tables.images, {"live_backup": "CBR_BACKUP:no"}, "live_backup"),
        (tables.images, {"os_type": "WINDOWS"}, "os_type"),
        (tables.images, {"size_bytes": 1}, "size_bytes"),
        (tables.images, {"rendering": b"another"}, "rendering"),
        (tables.tags, {"value": "another"}, "tags"),
        (tables.tags, {"owner": None}, "tags"),
        (tables.shares, {"image_name": "another"}, "shares"),
        (tables.shares, {"image_create_time": None}, "shares"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_says_something_else_than_the_image_is_filed_anew(
    deployment: Deployment, table, values, column
):
    image = an_image(tags=(("a", "1"), ("b", "")), state=ImageState.QUEUED, disks=())
    with deployment.database.transaction() as tx:
        tx.images.add(image)
        tx.shares.add([a_share(image_id=image.id)])
    write(deployment, table.update().values(values))

    (found,) = findings(deployment)

    assert (found.check, found.subject) == ("images_are_filed_as_they_are", f"image {image.id}")
    assert found.message == f"It is not filed as it is: {column}."
    assert mended(deployment) == []
    with deployment.database.reading() as reading:
        assert reading.images.view(image.id, OWNER, now=A_MOMENT).image == image


def test_a_rendering_that_nobody_uses_says_nothing(deployment: Deployment, image_id: ImageId):
    """A version that knows of no renderings leaves one of the image as it was before."""
    write(deployment, tables.images.update().values(rendering=b"old", rendering_version=1))

    assert told(deployment) == []


# --- Records and bytes ---


def test_a_record_without_bytes_is_told_and_cannot_be_mended(deployment: Deployment, image_id: ImageId):
    deployment.blobs.delete(blob_key_of(deployment, image_id))

    (found,) = findings(deployment)

    assert (found.check, found.subject) == ("stored_disks_have_their_bytes", f"image {image_id}")
    assert "are missing" in found.message
    assert found.mend is None


@pytest.mark.parametrize("encrypted", [False, True])
def test_bytes_of_another_size_are_told(deployment: Deployment, encrypted):
    image_id = create_encrypted(deployment) if encrypted else create(deployment)
    upload(deployment, image_id)
    path = deployment.blobs._path(blob_key_of(deployment, image_id))
    size = path.stat().st_size
    os.truncate(path, size - 1)

    (found,) = findings(deployment)

    assert found.check == "stored_disks_have_their_bytes"
    assert f"has {size - 1} bytes and should have {size}" in found.message
    assert found.mend is None


def test_an_active_image_with_an_empty_disk_is_told(deployment: Deployment):
    image = an_image(disks=(a_disk(state=DiskState.EMPTY, size_bytes=0, blob_key=""),))
    with deployment.database.transaction() as tx:
        tx.images.add(image)

    (found,) = findings(deployment)

    assert found.message == "Disk 0: the image is ACTIVE, but the disk is EMPTY."


@pytest.mark.usefixtures("image_id")
def test_bytes_without_a_record_are_removed(deployment: Deployment):
    key = a_blob(deployment, "nobodys")

    assert told(deployment) == [("bytes_belong_to_a_disk_or_an_upload", "blob nobodys")]
    assert mended(deployment) == []
    assert key not in set(deployment.blobs.keys())
    assert len(list(deployment.blobs.keys())) == 1


@pytest.mark.usefixtures("image_id")
def test_bytes_that_are_young_or_pending_are_left_alone(deployment: Deployment):
    a_blob(deployment, "young", age=SETTLED - timedelta(minutes=1))
    a_blob(deployment, "pending")
    with deployment.database.transaction() as tx:
        tx.pending_blobs.doom([BlobKey("pending")])

    assert told(deployment) == []


def test_bytes_of_another_catalogue_are_told_and_never_removed(deployment: Deployment):
    """Whoever looks with the wrong catalogue loses nothing."""
    a_blob(deployment, "one")
    a_blob(deployment, "two")

    found = findings(deployment)

    assert [each.subject for each in found] == ["blob one", "blob two"]
    assert all(each.mend is None for each in found)
    assert "is it this catalogue's?" in found[0].message


# --- Uploads and leftovers ---


def an_upload_of_nobody(deployment: Deployment) -> ImageId:
    """Return an image whose disk is being filled by a process that is no more."""
    image_id = create(deployment)

    def chunks():
        yield CONTENT
        raise Crash

    class Crash(BaseException):
        pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ims.use_cases.image_data.give_up_now_or_later", lambda *_: None)
        with pytest.raises(Crash):
            upload(deployment, image_id, chunks(), size_bytes=2 * SIZE)
    return image_id


def test_a_dead_upload_that_nobody_sweeps_is_given_up(deployment: Deployment, clock: Clock):
    image_id = an_upload_of_nobody(deployment)
    clock.advance(minutes=60)
    assert told(deployment) == []  # its lease ended less than an hour ago
    clock.advance(seconds=21)

    assert told(deployment) == [("uploads_are_held_by_somebody", f"image {image_id}")]
    assert mended(deployment) == []
    assert used(deployment) == Usage(private_images=1)
    upload(deployment, image_id)


def test_an_upload_without_a_lease_is_given_up(deployment: Deployment):
    image_id = an_upload_of_nobody(deployment)
    write(deployment, tables.pending_blobs.delete())

    assert told(deployment) == [("uploads_are_held_by_somebody", f"image {image_id}")]
    assert mended(deployment) == []
    assert used(deployment) == Usage(private_images=1)
    upload(deployment, image_id)


def test_what_was_to_be_purged_long_ago_is_purged(
    deployment: Deployment, image_id: ImageId, clock: Clock
):
    delete_image(deployment, caller=a_caller(), image_id=image_id)
    clock.advance(days=7, minutes=59)
    assert told(deployment) == []
    clock.advance(minutes=1)

    assert told(deployment) == [("nothing_is_kept_beyond_its_time", f"image {image_id}")]
    assert mended(deployment) == []
    assert used(deployment) == Usage()
    assert list(deployment.blobs.keys()) == []


def test_request_ids_that_nobody_forgets_are_forgotten(deployment: Deployment, clock: Clock):
    call = RepeatableCall(tenant_id=OWNER, request_id="one", method="M", digest=bytes(32))
    with deployment.database.transaction() as tx:
        tx.requests.claim(call, now=clock.now(), until=clock.now())
    clock.advance(minutes=59)
    assert told(deployment) == []
    clock.advance(minutes=1)

    assert told(deployment) == [("nothing_is_kept_beyond_its_time", "request ids")]
    assert mended(deployment) == []


# --- Beside a service that is at work ---


def test_a_busy_service_is_found_healthy_and_nothing_of_it_is_mended(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
):
    """Whoever is at work is never taken for something that is wrong, though nothing counts as young."""
    monkeypatch.setattr(checkup, "_BATCH", 3)
    done, found = threading.Event(), []

    def look() -> None:
        while not done.is_set():
            found.extend(
                (each.check, each.subject, each.message)
                for each in check_up(deployment, settled=timedelta(days=-3650))
                if not each.message.endswith(OF_AGE)
            )

    def work(tenant: TenantId) -> None:
        for _ in range(6):
            try:
                image_id = an_active_image(deployment, tenant)
                caller = a_caller(tenant)
                delete_image(deployment, caller=caller, image_id=image_id)
                undelete_image(deployment, caller=caller, image_id=image_id)
                delete_image(deployment, caller=caller, image_id=image_id)
                purge_images(deployment)
            except Rejection:
                pass

    looking = threading.Thread(target=look)
    looking.start()
    try:
        ended = all_at_once([partial(work, tenant) for tenant in (OWNER, RECIPIENT) for _ in range(3)])
    finally:
        done.set()
        looking.join()

    assert ended == {"OK": 6}
    assert found == []
    assert told(deployment) == []


OF_AGE = ("and nobody has given it up.", "and nobody has purged it.")
"""What is told of everything when nothing is too young to be told of."""


def test_a_large_catalogue_is_never_read_whole(deployment: Deployment, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checkup, "_BATCH", 7)
    with deployment.database.transaction() as tx:
        for _ in range(50):
            tx.images.add(a_draft(region=HOME, tags=(("a", "1"),)))
    most = []
    batch = type(tx.images).batch

    def noting(self, **details):
        images = batch(self, **details)
        most.append(len(images))
        return images

    monkeypatch.setattr(type(tx.images), "batch", noting)

    assert told(deployment) == []
    assert max(most) == 7


# --- Copies ---


def a_copy(deployment: Deployment, image_id: ImageId, **order) -> BegunCopy:
    copied = CopyOrder(name=f"copy-{deployment.new_id()}", **order)
    return copy_image(deployment, caller=a_caller(), image_id=image_id, order=copied)


@pytest.mark.parametrize("wrong", [1, 2, 4, None], ids=str)
def test_a_blob_that_is_counted_wrong_is_recounted(deployment: Deployment, image_id: ImageId, wrong):
    blob_key = blob_key_of(deployment, image_id)
    for _ in range(2):
        a_copy(deployment, image_id)
    assert told(deployment) == []

    if wrong is None:
        write(deployment, tables.shared_blobs.delete())
    else:
        write(deployment, tables.shared_blobs.update().values(reference_count=wrong))

    check = "shared_blobs_are_counted_as_they_are_named"
    assert told(deployment) == [(check, f"blob {blob_key}")]
    assert mended(deployment) == []
    with deployment.database.reading() as reading:
        assert reading.shared_blobs.counts([blob_key]) == {blob_key: 3}


def test_a_count_of_what_is_not_shared_is_removed(deployment: Deployment, image_id: ImageId):
    counted = {"blob_key": blob_key_of(deployment, image_id), "reference_count": 2}
    write(deployment, tables.shared_blobs.insert().values(counted))
    write(deployment, tables.shared_blobs.insert().values({**counted, "blob_key": "nobodys"}))

    assert len(told(deployment)) == 2
    assert mended(deployment) == []
    with deployment.database.reading() as reading:
        assert not reading.shared_blobs.batch(after="", size=10)


def test_a_copy_that_no_operation_makes_is_removed(make_service):
    deployment = _without_workers(make_service)
    image_id = an_active_image(deployment)
    copy = a_copy(deployment, image_id, encryption_key_id=KeyId("key-1"))
    assert told(deployment) == []

    write(deployment, tables.operations.delete())

    check, subject = "copies_are_made_by_an_operation", f"image {copy.view.image.id}"
    assert told(deployment) == [(check, subject)]
    assert mended(deployment) == []
    assert used(deployment) == Usage(private_images=1, stored_bytes=SIZE)


def test_an_operation_that_should_be_forgotten_is(deployment: Deployment, image_id: ImageId, clock):
    a_copy(deployment, image_id)
    clock.advance(days=31)

    assert told(deployment) == [("nothing_is_kept_beyond_its_time", "operations")]
    assert mended(deployment) == []


def _without_workers(make_service) -> Deployment:
    service = make_service(operation_threads=0)
    add_key(service.settings.keys, KeyId("key-1"))
    return service.deployment
