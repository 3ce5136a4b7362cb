from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from builders import (
    A_MOMENT,
    HOME,
    OWNER,
    RECIPIENT,
    STRANGER,
    a_disk,
    a_full_ecs_image,
    a_moment,
    a_share,
    an_accepted_share,
    an_image,
)
from ims.domain.image import (
    Architecture,
    BackupService,
    BlobKey,
    DiskRole,
    DiskState,
    Firmware,
    Image,
    ImageClass,
    ImageId,
    ImageState,
    ImageType,
    KeyId,
    OperatingSystem,
    OsType,
    Relation,
    Source,
    SourceKind,
)
from ims.domain.page import ImageFilter, PageRequest, ShareFilter
from ims.domain.rejection import Rejection
from ims.domain.share import Share, ShareStatus
from ims.domain.tenant import Region, RegisteredTenant, TenantId
from ims.domain.view import View
from ims.repository.database import Database
from ims.repository.pending_blobs import Abandoned

JUST_BEFORE = A_MOMENT - timedelta(microseconds=1)

EVERYTHING = an_image(
    name="a full one",
    description="with everything, \u00fc and \u4e2d too",
    type=ImageType.FULL_ECS,
    state=ImageState.DEACTIVATED,
    public=True,
    protected=True,
    for_bms=True,
    os=OperatingSystem(type=OsType.WINDOWS, platform="Windows", version="Server 2022", bits=32),
    architecture=Architecture.AARCH64,
    firmware=Firmware.UEFI,
    min_disk_gib=40,
    min_ram_mib=2048,
    max_ram_mib=2**40,
    tags=(("env", "prod"), ("team", "")),
    source=Source(kind=SourceKind.ECS, id="ecs-1", backup_service=BackupService.CBR),
    declared_by=TenantId("nova"),
    encryption_key_id=KeyId("key-1"),
    disks=(
        a_disk(wrapped_data_key=bytes(range(256))),
        a_disk(index=1, role=DiskRole.DATA, state=DiskState.SAVING, upload_id="u", size_bytes=2**40),
    ),
)


def put(database: Database, *images: Image) -> None:
    with database.transaction() as tx:
        for image in images:
            tx.images.add(image)


def share(database: Database, *shares: Share) -> None:
    with database.transaction() as tx:
        tx.shares.add(shares)


def seen_by(database: Database, viewer: TenantId, image_id: ImageId) -> View:
    with database.reading() as reading:
        view = reading.images.view(image_id, viewer, now=A_MOMENT)
    assert view is not None
    return view


def listed(database: Database, viewer: TenantId, size: int = 100, **image_filter: object) -> list[str]:
    with database.reading() as reading:
        page = reading.images.list(
            viewer, ImageFilter(**image_filter), PageRequest(size=size), now=JUST_BEFORE
        )
    return [view.image.name for view in page.items]


class TestIncompleteArrivals:
    def test_they_are_copies_of_which_nothing_has_come_for_long(self, database):
        copy = Source(kind=SourceKind.IMAGE, id="there")
        waiting = an_image(
            id=ImageId("a"),
            state=ImageState.QUEUED,
            declared_by=TenantId("region-2"),
            source=copy,
            update_time=A_MOMENT,
        )
        others = (
            replace(waiting, id=ImageId("b"), name="b", update_time=A_MOMENT + timedelta(seconds=1)),
            replace(waiting, id=ImageId("c"), name="c", declared_by=None),
            replace(waiting, id=ImageId("d"), name="d", source=Source(kind=SourceKind.ECS, id="ecs-1")),
            replace(waiting, id=ImageId("e"), name="e", state=ImageState.ACTIVE),
        )
        put(database, waiting, *others)

        with database.reading() as reading:
            assert reading.images.incomplete_arrivals(since=JUST_BEFORE) == ()
            assert reading.images.incomplete_arrivals(since=A_MOMENT) == (waiting.id,)


class TestRecords:
    def test_an_image_comes_back_as_it_was_put_in(self, database):
        put(database, EVERYTHING)

        assert seen_by(database, OWNER, EVERYTHING.id).image == EVERYTHING

    def test_a_saved_image_has_a_new_version_and_time(self, database):
        image = an_image(tags=(("a", "1"),))
        put(database, image)
        later = A_MOMENT + timedelta(microseconds=1)

        with database.transaction() as tx:
            tx.images.lock(image.id, OWNER, now=a_moment)
            saved = tx.images.save(replace(EVERYTHING, id=image.id), now=later)

        assert saved == replace(EVERYTHING, id=image.id, version=2, update_time=later)
        assert seen_by(database, OWNER, image.id).image == saved

    def test_an_image_is_never_changed_before_it_was_made(self, database):
        """A page of what changed before a moment begins there in the order of creation."""
        image = an_image(create_time=A_MOMENT)
        put(database, image)

        with database.transaction() as tx:
            view = tx.images.lock(image.id, OWNER, now=a_moment)
            saved = tx.images.save(view.image, now=A_MOMENT - timedelta(seconds=1))

        assert saved.update_time == A_MOMENT

    def test_an_unknown_id_is_nothing(self, database):
        with database.reading() as reading:
            assert reading.images.view(ImageId("no-such"), OWNER, now=A_MOMENT) is None

    def test_a_purged_image_takes_its_tags_and_shares_along(self, database):
        image = an_image(tags=(("a", "1"),))
        put(database, image)
        share(database, a_share(image_id=image.id))

        with database.transaction() as tx:
            tx.images.lock(image.id, OWNER, now=a_moment)
            tx.images.purge(image.id)

        with database.reading() as reading:
            assert reading.shares.count(image.id, now=A_MOMENT) == 0
            assert reading.images.view(image.id, OWNER, now=A_MOMENT) is None
            assert reading.images._connection.scalar(sa.text("SELECT count(*) FROM tags")) == 0

    def test_a_failed_transaction_leaves_nothing(self, database):
        image = an_image()

        def add_and_fail() -> None:
            with database.transaction() as tx:
                tx.images.add(image)
                raise RuntimeError

        with pytest.raises(RuntimeError):
            add_and_fail()

        with database.reading() as reading:
            assert reading.images.view(image.id, OWNER, now=A_MOMENT) is None


class TestUniqueness:
    """The database refuses a second time what the rules refuse first."""

    def test_a_live_name_is_taken_once_a_tenant(self, database):
        put(database, an_image(name="one"))

        with pytest.raises(Rejection) as declined:
            put(database, an_image(name="one"))

        assert declined.value.reason == "IMAGE_NAME_TAKEN"

    def test_another_tenant_may_have_the_same_name(self, database):
        put(database, an_image(name="one"), an_image(name="one", owner=STRANGER))

    def test_a_deleted_image_frees_its_name(self, database):
        deleted = an_image(
            name="one", state=ImageState.DELETED, purge_time=A_MOMENT, delete_time=A_MOMENT
        )
        put(database, deleted, an_image(name="one"))

        with database.reading() as reading:
            assert reading.images.name_taken(OWNER, "one")
            assert not reading.images.name_taken(OWNER, "another")

    def test_a_backup_is_used_once(self, database):
        put(database, a_full_ecs_image())

        with pytest.raises(Rejection) as declined:
            put(database, a_full_ecs_image(owner=STRANGER))

        assert declined.value.reason == "BACKUP_ALREADY_USED"

    def test_a_csbs_backup_of_the_same_id_is_another(self, database):
        put(database, a_full_ecs_image())

        put(database, a_full_ecs_image(source=Source(kind=SourceKind.CSBS_BACKUP, id="backup-1")))


class TestViews:
    def test_a_view_holds_the_viewers_own_share_only(self, database):
        image = an_image()
        put(database, image)
        own = an_accepted_share(image_id=image.id)
        share(database, own, a_share(image_id=image.id, tenant_id=TenantId("third")))

        assert seen_by(database, RECIPIENT, image.id).share == own
        assert seen_by(database, RECIPIENT, image.id).relation is Relation.SHARED_WITH_ME
        assert seen_by(database, OWNER, image.id).share is None
        assert seen_by(database, OWNER, image.id).image_class is ImageClass.SHARED
        assert seen_by(database, STRANGER, image.id).relation is None


class TestListing:
    def test_the_newest_come_first_and_equal_times_by_id(self, database):
        early, late = A_MOMENT, A_MOMENT + timedelta(seconds=1)
        images = [an_image(create_time=time) for time in (early, late, early)]
        put(database, *images)

        assert listed(database, OWNER) == [images[1].name, images[2].name, images[0].name]

    def test_pages_neither_skip_nor_repeat(self, database):
        images = [an_image() for _ in range(7)]
        put(database, *images)
        seen, after = [], None
        while True:
            with database.reading() as reading:
                wanted = PageRequest(size=2, after=after, count=True)
                page = reading.images.list(OWNER, ImageFilter(), wanted, now=A_MOMENT)
            seen += [view.image.id for view in page.items]
            assert page.total_size == 7
            if not page.more:
                break
            after = page.places[-1]

        assert seen == sorted((image.id for image in images), reverse=True)

    def test_others_see_what_is_public_or_accepted(self, database):
        private, public, accepted, pending, rejected, deleted = (
            an_image(name="private"),
            an_image(name="public", public=True),
            an_image(name="accepted"),
            an_image(name="pending"),
            an_image(name="rejected"),
            an_image(name="gone", state=ImageState.DELETED, purge_time=A_MOMENT),
        )
        put(database, private, public, accepted, pending, rejected, deleted)
        share(
            database,
            an_accepted_share(image_id=accepted.id),
            a_share(image_id=pending.id),
            a_share(image_id=rejected.id, status=ShareStatus.REJECTED),
            an_accepted_share(image_id=deleted.id),
        )

        assert set(listed(database, RECIPIENT)) == {"public", "accepted"}
        assert set(listed(database, STRANGER)) == {"public"}
        assert listed(database, RECIPIENT, relation=Relation.SHARED_WITH_ME) == ["accepted"]
        assert listed(database, RECIPIENT, relation=Relation.OWNED) == []
        assert listed(database, OWNER, relation=Relation.PUBLIC) == ["public"]
        assert listed(database, OWNER, state=ImageState.DELETED) == ["gone"]
        assert listed(database, RECIPIENT, state=ImageState.DELETED) == []

    @pytest.mark.parametrize(
        ("image_filter", "expected"),
        [
            ({"image_class": ImageClass.PUBLIC}, {"public"}),
            ({"image_class": ImageClass.SHARED}, {"shared"}),
            ({"image_class": ImageClass.PRIVATE}, {"Private", "iso"}),
            ({"type": ImageType.ISO}, {"iso"}),
            ({"state": ImageState.QUEUED}, {"iso"}),
            ({"name": "iso"}, {"iso"}),
            ({"name_prefix": "p"}, {"public"}),
            ({"name_prefix": "P"}, {"Private"}),
            ({"name_prefix": "%"}, set()),
            ({"os_type": OsType.LINUX}, {"Private"}),
            ({"owner": OWNER}, {"public", "shared", "Private", "iso"}),
            ({"owner": STRANGER}, set()),
            ({"tags": (("env", "prod"),)}, {"shared", "iso"}),
            ({"tags": (("env", "prod"), ("team", "a"))}, {"iso"}),
            ({"tags": (("env", "test"),)}, set()),
        ],
    )
    def test_filters_let_through_what_they_say(self, database, image_filter, expected):
        shared = an_image(name="shared", tags=(("env", "prod"),))
        put(
            database,
            shared,
            an_image(name="public", public=True),
            an_image(name="Private", os=OperatingSystem(type=OsType.LINUX)),
            an_image(
                name="iso",
                type=ImageType.ISO,
                state=ImageState.QUEUED,
                tags=(("env", "prod"), ("team", "a")),
            ),
        )
        share(database, a_share(image_id=shared.id))

        assert set(listed(database, OWNER, **image_filter)) == expected

    def test_received_shares_are_listed_by_status_the_newest_first(self, database):
        images = [an_image() for _ in range(4)]
        put(database, *images)
        statuses = [ShareStatus.PENDING, ShareStatus.ACCEPTED, ShareStatus.REJECTED]
        share(
            database,
            *(
                a_share(
                    image_id=image.id, status=status, create_time=A_MOMENT + timedelta(seconds=number)
                )
                for number, (image, status) in enumerate(zip(images, statuses, strict=False))
            ),
            a_share(image_id=images[3].id, tenant_id=STRANGER),
        )

        def received(**share_filter: ShareStatus) -> list[str]:
            with database.reading() as reading:
                wanted = ShareFilter(**share_filter)
                page = reading.images.received(RECIPIENT, wanted, PageRequest(size=10), now=A_MOMENT)
            return [each.share.image_id for each in page.items]

        assert received() == [images[2].id, images[1].id, images[0].id]
        assert received(status=ShareStatus.PENDING) == [images[0].id]

    def test_a_deleted_image_is_listed_until_its_time_is_over(self, database):
        put(database, an_image(name="gone", state=ImageState.DELETED, purge_time=A_MOMENT))

        def at(now: datetime) -> int:
            image_filter = ImageFilter(state=ImageState.DELETED)
            with database.reading() as reading:
                return len(reading.images.list(OWNER, image_filter, PageRequest(size=1), now=now).items)

        assert (at(JUST_BEFORE), at(A_MOMENT)) == (1, 0)

    def test_the_shares_of_a_deleted_image_have_ended(self, database):
        image = an_image(state=ImageState.DELETED, purge_time=A_MOMENT)
        put(database, image)
        share(database, a_share(image_id=image.id))

        assert seen_by(database, OWNER, image.id).image_class is ImageClass.PRIVATE
        shared = {"state": ImageState.DELETED, "image_class": ImageClass.SHARED}
        assert listed(database, OWNER, **shared) == []


class TestReadingOn:
    """A running download asks before every chunk."""

    @pytest.mark.parametrize(
        ("changes", "status", "reader", "may"),
        [
            ({}, None, OWNER, True),
            ({}, None, STRANGER, False),
            ({"public": True}, None, STRANGER, True),
            ({}, ShareStatus.ACCEPTED, RECIPIENT, True),
            ({}, ShareStatus.PENDING, RECIPIENT, False),
            ({}, ShareStatus.REJECTED, RECIPIENT, False),
            ({"state": ImageState.DEACTIVATED}, ShareStatus.ACCEPTED, RECIPIENT, False),
            ({"state": ImageState.DEACTIVATED}, None, OWNER, False),
            ({"state": ImageState.DELETED, "purge_time": A_MOMENT}, None, OWNER, False),
        ],
    )
    def test_who_may_read_on(self, database, changes, status, reader, may):
        image = an_image(**changes)
        put(database, image)
        if status is not None:
            share(database, a_share(image_id=image.id, status=status))

        with database.reading() as reading:
            assert reading.images.may_be_read(image.id, reader, caller=reader, now=A_MOMENT) is may

    @pytest.mark.parametrize(
        ("suspended", "reader", "caller", "may"),
        [
            (STRANGER, RECIPIENT, RECIPIENT, True),
            (RECIPIENT, RECIPIENT, RECIPIENT, False),
            (OWNER, RECIPIENT, RECIPIENT, False),
            (OWNER, OWNER, OWNER, False),
            (RECIPIENT, OWNER, OWNER, True),
            (STRANGER, RECIPIENT, STRANGER, False),
            (RECIPIENT, RECIPIENT, STRANGER, False),
        ],
    )
    def test_who_may_read_on_when_a_tenant_is_suspended(self, database, suspended, reader, caller, may):
        image = an_image()
        put(database, image)
        share(database, an_accepted_share(image_id=image.id))
        tenant = RegisteredTenant(
            id=suspended, region=HOME, register_time=A_MOMENT, suspend_time=A_MOMENT
        )
        with database.transaction() as tx:
            tx.tenants.save(tenant)

        with database.reading() as reading:
            assert reading.images.may_be_read(image.id, reader, caller=caller, now=A_MOMENT) is may


class TestUpkeep:
    def test_only_deleted_images_past_their_time_are_due(self, database):
        due = an_image(state=ImageState.DELETED, purge_time=A_MOMENT)
        later = an_image(state=ImageState.DELETED, purge_time=A_MOMENT + timedelta(microseconds=1))
        put(database, due, later, an_image())

        with database.reading() as reading:
            assert reading.images.due_for_purge(A_MOMENT) == (due.id,)

    def test_a_blob_is_pending_from_when_it_is_noted_until_it_is_forgotten(self, database):
        with database.transaction() as tx:
            tx.pending_blobs.doom([BlobKey("one"), BlobKey("two")])
            assert tx.pending_blobs.remove(BlobKey("one"))
            assert not tx.pending_blobs.remove(BlobKey("one"))

        with database.reading() as reading:
            assert reading.pending_blobs.abandoned(now=A_MOMENT) == (Abandoned(BlobKey("two"), None),)

    def test_a_blob_that_is_being_written_is_held_until_its_lease_ends(self, database):
        image_id, later = an_image().id, A_MOMENT + timedelta(seconds=20)
        just_before = later - timedelta(microseconds=1)
        with database.transaction() as tx:
            tx.pending_blobs.add(BlobKey("one"), image_id, until=A_MOMENT)
            tx.pending_blobs.hold([BlobKey("one")], until=later)

            assert tx.pending_blobs.abandoned(now=just_before) == ()
            assert not tx.pending_blobs.give_up(BlobKey("one"), now=just_before)
            assert tx.pending_blobs.abandoned(now=later) == (Abandoned(BlobKey("one"), image_id),)
            assert tx.pending_blobs.give_up(BlobKey("one"), now=later)

    def test_a_blob_that_was_given_up_cannot_be_held_again(self, database):
        with database.transaction() as tx:
            tx.pending_blobs.add(BlobKey("one"), an_image().id, until=A_MOMENT)
            tx.pending_blobs.give_up(BlobKey("one"), now=A_MOMENT)
            tx.pending_blobs.hold([BlobKey("one")], until=A_MOMENT + timedelta(days=1))

            assert tx.pending_blobs.abandoned(now=A_MOMENT) == (Abandoned(BlobKey("one"), None),)


def test_a_share_comes_back_as_it_was_put_in(database):
    image = an_image()
    put(database, image)
    made = a_share(image_id=image.id, region=Region("r"), status=ShareStatus.REJECTED, vault_id="v")
    share(database, made)

    with database.reading() as reading:
        assert reading.shares.find(image.id, RECIPIENT, now=A_MOMENT) == made


def test_an_unreachable_database_is_said_to_be_so(tmp_path):
    with pytest.raises(Rejection) as declined:
        Database(f"sqlite:///{tmp_path / 'no-folder' / 'catalogue.sqlite3'}").prepare()

    assert declined.value.reason == "CATALOGUE_UNAVAILABLE"
    assert str(tmp_path) not in str(declined.value)
