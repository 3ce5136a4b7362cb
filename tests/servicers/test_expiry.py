"""Shares that end by themselves, on a real server (law 3.16, 3.17): both sides of the moment."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from builders import OWNER, RECIPIENT, STRANGER
from calling import Tenant, answer_of, declined, request_class
from conftest import As, Clock, MakeService
from ims.bootstrap import Service
from ims.repository.shares import ShareRepository
from ims.repository.tables import images, shares
from ims.use_cases.checkup import check_up
from ims.use_cases.deployment import Deployment
from ims.use_cases.sweeping import sweep
from ims.v1.image_pb2 import Image

LATER = {"days": 1}
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
END = BEGIN + timedelta(**LATER)


def timestamp(time: datetime) -> dict[str, int]:
    return {
        "seconds": int((time - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()),
        "nanos": time.microsecond * 1000,
    }


@pytest.fixture
def owner(as_: As) -> Tenant:
    return as_(OWNER)


@pytest.fixture
def recipient(as_: As) -> Tenant:
    return as_(RECIPIENT)


def share(owner: Tenant, image_id: str, *tenants: str, end: datetime | None = END, **more: Any) -> Any:
    recipients = [{"tenant_id": tenant} for tenant in tenants or (RECIPIENT,)]
    if end is not None:
        more["expire_time"] = timestamp(end)
    return owner.ShareImage(image_id=image_id, recipients=recipients, **more)


def move(owner: Tenant, image_id: str, end: datetime | None, tenant: str = RECIPIENT) -> Any:
    return owner.UpdateShare(
        image_id=image_id,
        tenant_id=tenant,
        share={} if end is None else {"expire_time": timestamp(end)},
        update_mask={"paths": ["expire_time"]},
    ).share


@pytest.fixture
def image_id(owner: Tenant, recipient: Tenant) -> str:
    """An image of OWNER's that RECIPIENT has accepted until END."""
    image = owner.active("debian")
    share(owner, image.id)
    recipient.AcceptShare(image_id=image.id)
    return image.id


def class_of(tenant: Tenant, image_id: str) -> int:
    return getattr(tenant.GetImage(image_id=image_id).image, "class")


def forget_ready_bytes(deployment: Deployment) -> None:
    """Leave of the images only their records, as a version does that renders otherwise."""
    nothing = dict.fromkeys(("rendering", "rendering_version", "rendering_format"))
    with deployment.database.transaction() as tx:
        tx.images._connection.execute(images.update().values(nothing))


PRIVATE, SHARED = (Image.Class.Value(name) for name in ("PRIVATE", "SHARED"))


class TestSharingForAWhile:
    def test_both_sides_see_when_it_ends(self, owner, recipient):
        image = owner.active("debian")

        answer = share(owner, image.id)

        assert answer.results[0].share.expire_time.ToDatetime(UTC) == END
        mine = recipient.GetShare(image_id=image.id).share
        assert mine == owner.GetShare(image_id=image.id, tenant_id=RECIPIENT).share
        assert mine.expire_time.ToDatetime(UTC) == END
        assert not share(owner, image.id, "for-ever", end=None).results[0].share.HasField("expire_time")

    def test_a_time_that_has_passed_is_refused(self, owner, clock):
        image = owner.active("debian")

        with declined() as seen:
            share(owner, image.id, end=clock.now())

        assert (seen.code, seen.reason) == ("FAILED_PRECONDITION", "EXPIRE_TIME_PASSED")
        assert not owner.ListShares(image_id=image.id).shares
        preview = share(owner, image.id, end=clock.now(), validate_only=True)
        assert [each.message for each in preview.image_refusals] == [seen.message]

    def test_what_is_no_time_is_named(self, owner):
        image = owner.active("debian")

        with declined() as seen:
            owner.ShareImage(
                image_id=image.id,
                recipients=[{"tenant_id": RECIPIENT}],
                expire_time={"seconds": 10**15},
            )

        assert (seen.reason, seen.metadata) == ("INVALID_FIELD", {"field": "expire_time"})

    def test_who_has_a_share_keeps_it_as_long_as_it_was(self, owner):
        image = owner.active("debian")
        before = share(owner, image.id).results[0].share

        answer = share(owner, image.id, RECIPIENT, STRANGER, end=END + timedelta(days=9))

        assert answer.results[0].share == before
        assert answer.results[1].share.expire_time.ToDatetime(UTC) == END + timedelta(days=9)


def ways_of_the_recipient(recipient: Tenant, image_id: str) -> dict[str, Any]:
    """Return how the recipient is answered on every way that leads to the image or its share."""
    about = {
        "GetImage": lambda: recipient.GetImage(image_id=image_id),
        "GetShare": lambda: recipient.GetShare(image_id=image_id),
        "ResolveImage": lambda: recipient.ResolveImage(image_id=image_id, purpose="CREATE_ECS"),
        "DownloadImageData": lambda: recipient.download(image_id),
        "RegisterUse": lambda: recipient.RegisterUse(image_id=image_id, kind="ECS", consumer_id="s"),
        "GetUsage": lambda: recipient.GetUsage(image_id=image_id),
        "AcceptShare": lambda: recipient.AcceptShare(image_id=image_id),
        "RejectShare": lambda: recipient.RejectShare(image_id=image_id),
        "LeaveShare": lambda: recipient.LeaveShare(image_id=image_id),
    }
    answers: dict[str, Any] = {rpc: answer_of(call).reason or "OK" for rpc, call in about.items()}
    listed = recipient.ListImages(include_total_size=True)
    received = recipient.ListReceivedShares(include_total_size=True)
    return answers | {
        "ListImages": (len(listed.images), listed.total_size),
        "ListImages by tag": len(recipient.ListImages(tags_none=[{"key": "k"}]).images),
        "ListImages by state": len(recipient.ListImages(state="ACTIVE").images),
        "ListImages by name": len(recipient.ListImages(order_by="name").images),
        "ListReceivedShares": (len(received.received_shares), received.total_size),
    }


class TestWhenItEnds:
    def test_before_it_is_served_and_from_the_moment_on_nothing_serves_it(
        self, owner, recipient, image_id, clock
    ):
        clock.advance(hours=23, minutes=59)
        before = ways_of_the_recipient(recipient, image_id)  # which leaves it in the end
        share(owner, image_id)
        recipient.AcceptShare(image_id=image_id)

        clock.advance(minutes=1)

        gone = ways_of_the_recipient(recipient, image_id)
        assert set(before.values()) == {"OK", 0, (0, 0)}
        assert set(gone.values()) == {"IMAGE_NOT_FOUND", 0, (0, 0)}

    def test_nor_does_anything_that_is_made_from_the_record(
        self, owner, recipient, image_id, deployment, clock
    ):
        """Where no bytes are ready, the same is asked by other statements."""
        forget_ready_bytes(deployment)
        before = ways_of_the_recipient(recipient, image_id)
        share(owner, image_id)
        recipient.AcceptShare(image_id=image_id)
        forget_ready_bytes(deployment)
        seen = class_of(owner, image_id)

        clock.advance(**LATER)

        gone = ways_of_the_recipient(recipient, image_id)
        assert set(before.values()) == {"OK", 0, (0, 0)}
        assert set(gone.values()) == {"IMAGE_NOT_FOUND", 0, (0, 0)}
        assert (seen, class_of(owner, image_id)) == (SHARED, PRIVATE)

    def test_the_lists_hold_it_until_then(self, owner, recipient, image_id, clock):
        recipient.CreateImage(name="own", type="SYSTEM_DISK", disks=[{"format": "RAW"}])

        def listed() -> list[set[str]]:
            ways: tuple[dict[str, Any], ...] = (
                {},
                {"order_by": "name"},
                {"order_by": "size_bytes"},
                {"relation": "SHARED_WITH_ME"},
                {"state": "ACTIVE"},
                {"type": "SYSTEM_DISK", "order_by": "name desc"},
                {"name": "debian"},
                {"tags_none": [{"key": "k"}]},
                {"owner_tenant_id": OWNER},
            )
            return [{image.id for image in recipient.ListImages(**way).images} for way in ways]

        assert all(image_id in found for found in listed())
        clock.advance(**LATER)
        assert not any(image_id in found for found in listed())

    def test_the_owner_sees_no_share_either(self, owner, recipient, image_id, clock):
        share(owner, image_id, STRANGER, end=END + timedelta(days=1))
        assert class_of(owner, image_id) == SHARED

        clock.advance(**LATER)
        listed = owner.ListShares(image_id=image_id, include_total_size=True)
        assert ([each.tenant_id for each in listed.shares], listed.total_size) == ([STRANGER], 1)
        with declined() as seen:
            owner.GetShare(image_id=image_id, tenant_id=RECIPIENT)
        assert seen.reason == "SHARE_NOT_FOUND"
        assert class_of(owner, image_id) == SHARED
        ended = owner.UnshareImage(image_id=image_id, all_tenants=True, validate_only=True).ended_shares
        assert [each.tenant_id for each in ended] == [STRANGER]

        clock.advance(**LATER)
        assert class_of(owner, image_id) == PRIVATE

    @pytest.mark.parametrize("wanted", ["SHARED", "PRIVATE"])
    @pytest.mark.parametrize("order", ["create_time", "name", "size_bytes desc"])
    def test_the_owners_lists_by_class_know_it(self, owner, image_id, clock, wanted, order):
        def listed() -> int:
            found = owner.ListImages(**{"class": wanted}, order_by=order, include_total_size=True)
            assert len(found.images) == found.total_size
            return found.total_size

        before = listed()
        clock.advance(**LATER)

        assert (before, listed()) == ((1, 0) if wanted == "SHARED" else (0, 1))

    def test_a_page_token_from_before_shows_nothing_of_it(self, owner, recipient, image_id, clock):
        second = owner.active("second")
        share(owner, second.id)
        recipient.AcceptShare(image_id=second.id)
        first_page = recipient.ListImages(page_size=1)
        received = recipient.ListReceivedShares(page_size=1)
        assert first_page.next_page_token
        assert received.next_page_token

        clock.advance(**LATER)

        assert not recipient.ListImages(page_token=first_page.next_page_token).images
        rest = recipient.ListReceivedShares(page_token=received.next_page_token)
        assert not rest.received_shares

    def test_a_running_download_gets_no_further_chunk(self, make_service: MakeService, as_, clock):
        service = make_service(chunk_bytes=1024)
        owner, recipient = as_(OWNER, of=service), as_(RECIPIENT, of=service)
        image = owner.active("large", bytes(4 * 1024**2))
        share(owner, image.id)
        recipient.AcceptShare(image_id=image.id)
        call = recipient.begin(
            "DownloadImageData", request_class("DownloadImageData")(image_id=image.id)
        )
        next(call)

        clock.advance(**LATER)

        received = 0

        def read_the_rest() -> None:
            nonlocal received
            for message in call:
                received += len(message.chunk)

        assert answer_of(read_the_rest).reason == "IMAGE_NOT_FOUND"
        assert received < 4 * 1024**2 - 1024

    def test_it_counts_no_longer_and_can_be_shared_anew(
        self, make_service: MakeService, as_: As, clock: Clock
    ):
        service = make_service(shares_per_image=1)
        owner, recipient = as_(OWNER, of=service), as_(RECIPIENT, of=service)
        image = owner.active("debian")
        share(owner, image.id)
        recipient.AcceptShare(image_id=image.id)
        with declined() as full:
            share(owner, image.id, STRANGER)

        clock.advance(**LATER)

        answer = share(owner, image.id, STRANGER, end=None)
        owner.UnshareImage(image_id=image.id, all_tenants=True)
        again = share(owner, image.id, end=None)
        assert full.reason == "SHARE_LIMIT_EXCEEDED"
        assert (answer.share_count, again.share_count) == (1, 1)
        assert recipient.GetShare(image_id=image.id).share == again.results[0].share
        assert again.results[0].share.status == 1  # pending: nobody remembers

    def test_a_deletion_and_a_publication_end_only_what_has_not_ended(self, owner, as_, image_id, clock):
        share(owner, image_id, STRANGER, end=END + timedelta(days=1))
        clock.advance(**LATER)

        assert owner.DeleteImage(image_id=image_id, validate_only=True).ended_share_count == 1
        assert owner.DeleteImage(image_id=image_id).ended_share_count == 1
        assert owner.UndeleteImage(image_id=image_id).restored_share_count == 1
        answer = as_("governor", "admin").PublishImage(image_id=image_id)
        assert answer.ended_share_count == 1

    def test_undeletion_brings_back_what_has_not_ended_meanwhile(
        self, owner, recipient, image_id, clock
    ):
        share(owner, image_id, STRANGER, end=END + timedelta(days=1))
        owner.DeleteImage(image_id=image_id)
        clock.advance(**LATER)

        assert owner.UndeleteImage(image_id=image_id).restored_share_count == 1
        with declined() as seen:
            recipient.GetImage(image_id=image_id)
        assert seen.reason == "IMAGE_NOT_FOUND"

    def test_it_is_answered_to_the_byte_like_what_never_existed(self, recipient, image_id, clock):
        clock.advance(**LATER)

        hidden, never = (
            answer_of(lambda each=each: recipient.GetImage(image_id=each))
            for each in (image_id, image_id[::-1])
        )

        assert hidden.status_bytes == never.status_bytes

    def test_the_uses_of_who_is_out_are_not_spared(self, owner, recipient, image_id, clock):
        recipient.RegisterUse(image_id=image_id, kind="ECS", consumer_id="server")
        clock.advance(**LATER)

        answer = owner.UnshareImage(image_id=image_id, all_tenants=True, require_unused=True)

        assert not answer.ended_shares


class TestMovingTheEnd:
    def test_later_sooner_and_never(self, owner, recipient, image_id, clock):
        assert move(owner, image_id, END + timedelta(days=1)).expire_time.ToDatetime(UTC) == (
            END + timedelta(days=1)
        )
        clock.advance(**LATER)
        assert recipient.GetImage(image_id=image_id).image.id == image_id

        assert not move(owner, image_id, None).HasField("expire_time")
        clock.advance(days=365)
        assert recipient.GetImage(image_id=image_id).image.id == image_id

        move(owner, image_id, BEGIN + timedelta(days=400))
        clock.advance(days=35)
        with declined() as seen:
            recipient.GetImage(image_id=image_id)
        assert seen.reason == "IMAGE_NOT_FOUND"

    def test_it_changes_nothing_else(self, owner, recipient, image_id):
        before = recipient.GetShare(image_id=image_id).share

        after = move(owner, image_id, None)

        before.ClearField("expire_time")
        assert after == before

    def test_what_has_ended_is_not_brought_back(self, owner, image_id, clock):
        clock.advance(**LATER)

        with declined() as seen:
            move(owner, image_id, END + timedelta(days=1))

        assert (seen.code, seen.reason) == ("NOT_FOUND", "SHARE_NOT_FOUND")

    def test_not_to_a_time_that_has_passed(self, owner, recipient, image_id, clock):
        with declined() as seen:
            move(owner, image_id, clock.now())

        assert seen.reason == "EXPIRE_TIME_PASSED"
        assert recipient.GetImage(image_id=image_id).image.id == image_id

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"update_mask": {"paths": ["status"]}}, "ONLY_RECIPIENT_DECIDES"),
            ({"update_mask": {"paths": ["region"]}}, "FIELD_NOT_UPDATABLE"),
            ({"update_mask": {}}, "INVALID_FIELD"),
            ({"update_mask": None}, "INVALID_FIELD"),
            ({"tenant_id": ""}, "INVALID_FIELD"),
            ({"tenant_id": STRANGER}, "SHARE_NOT_FOUND"),
            ({"tenant_id": OWNER}, "SHARE_NOT_FOUND"),
            ({"share": {"expire_time": {"seconds": 10**15}}}, "INVALID_FIELD"),
        ],
        ids=str,
    )
    def test_nothing_else_is_changed_so(self, owner, image_id, changes, reason):
        fields = {
            "image_id": image_id,
            "tenant_id": RECIPIENT,
            "update_mask": {"paths": ["expire_time"]},
        }

        with declined() as seen:
            owner.UpdateShare(**fields | changes)

        assert seen.reason == reason
        if reason == "INVALID_FIELD":
            named = "share.expire_time" if "share" in changes else next(iter(changes))
            assert seen.metadata == {"field": named}

    def test_only_the_owner_moves_it(self, recipient, as_, image_id):
        with declined() as own:
            move(recipient, image_id, None)
        with declined() as others:
            move(recipient, image_id, None, STRANGER)
        with declined() as hidden:
            move(as_(STRANGER), image_id, None)

        assert own.reason == "NOT_IMAGE_OWNER"
        assert others.reason == "SHARE_NOT_FOUND"
        assert hidden.reason == "IMAGE_NOT_FOUND"


def rows(deployment: Deployment) -> int:
    with deployment.database.reading() as reading:
        query = sa.select(sa.func.count()).select_from(shares)
        return reading.shares._connection.execute(query).scalar_one()


class TestWhatIsLeftOfIt:
    def test_a_sweep_removes_it(self, owner, image_id, deployment, clock):
        share(owner, image_id, STRANGER, end=None)
        assert sweep(deployment, "one").ended_shares == 0

        clock.advance(**LATER)

        assert (rows(deployment), sweep(deployment, "one").ended_shares, rows(deployment)) == (2, 1, 1)

    def test_a_checkup_tells_what_no_sweep_has_removed(self, image_id, deployment, clock):
        clock.advance(**LATER)
        assert not list(check_up(deployment, settled=timedelta(hours=1)))

        clock.advance(hours=1)

        (finding,) = check_up(deployment, settled=timedelta(hours=1))
        assert finding.subject == f"image {image_id}"
        finding.mend()
        assert rows(deployment) == 0
        assert not list(check_up(deployment, settled=timedelta(hours=1)))

    def test_a_share_that_is_prolonged_this_very_moment_is_not_swept(
        self, owner, recipient, image_id, deployment, clock, monkeypatch
    ):
        """It is looked at again under the image's lock."""
        monkeypatch.setattr(ShareRepository, "ended", lambda *_, **__: (image_id,))

        assert sweep(deployment, "one").ended_shares == 0
        assert recipient.GetImage(image_id=image_id).image.id == image_id


def test_two_services_on_one_catalogue_give_no_stale_answer(
    make_service: MakeService, as_: As, service: Service, clock: Clock
):
    """Neither keeps anything of a share: 600 reads after the moment, by both, and none is served."""
    settings = service.settings
    other = make_service(data=settings.data, database_url=settings.database_url)
    owner, here, there = as_(OWNER), as_(RECIPIENT), as_(RECIPIENT, of=other)
    stale = 0
    for number in range(30):
        image = owner.active(f"image-{number}")
        end = clock.now() + timedelta(seconds=1)
        share(owner, image.id, end=end)
        here.AcceptShare(image_id=image.id)
        assert there.GetImage(image_id=image.id).image.id == image.id

        clock.advance(seconds=1)

        for tenant in (here, there):
            for _ in range(10):
                gone = answer_of(lambda tenant=tenant: tenant.GetImage(image_id=image.id))  # noqa: B023
                stale += gone.reason != "IMAGE_NOT_FOUND"
        owner.DeleteImage(image_id=image.id)
    assert stale == 0
