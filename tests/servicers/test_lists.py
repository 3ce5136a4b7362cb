"""Lists in pages: how many, which, in what order, and what happens to them between two pages."""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from builders import OWNER, RECIPIENT, STRANGER, a_disk, a_share, an_accepted_share, an_image
from calling import Declined, Tenant, declined, request_class
from conftest import As, MakeService
from ims.bootstrap import Service
from ims.domain.image import (
    DiskRole,
    Image,
    ImageId,
    ImageState,
    ImageType,
    OperatingSystem,
    OsType,
)
from ims.domain.share import Share, ShareStatus
from ims.domain.tenant import TenantId
from ims.use_cases.deployment import Deployment
from servicers.random_messages import NONSENSE_TOKENS


def put(deployment: Deployment, *things: Image | Share) -> None:
    """Put images and shares straight into the catalogue."""
    with deployment.database.transaction() as tx:
        for thing in things:
            if isinstance(thing, Image):
                tx.images.add(thing)
        tx.shares.add(thing for thing in things if isinstance(thing, Share))


def images(deployment: Deployment, count: int, **changes: Any) -> list[Image]:
    made = [an_image(create_time=deployment.now(), **changes) for _ in range(count)]
    put(deployment, *made)
    return made


class Listing:
    """One list RPC: what it is asked with and what it gives."""

    def __init__(self, rpc: str, items: str, **fields: Any) -> None:
        self.rpc, self._items, self.fields = rpc, items, fields

    def ask(self, tenant: Tenant, **fields: Any) -> Any:
        return tenant.call(self.rpc, self.request(**fields))

    def answer(self, tenant: Tenant, **fields: Any) -> Declined:
        return tenant.answer(self.rpc, self.request(**fields))

    def request(self, **fields: Any) -> Any:
        return request_class(self.rpc)(**self.fields | fields)

    def ids(self, page: Any) -> list[str]:
        return [self._id(item) for item in getattr(page, self._items)]

    def _id(self, item: Any) -> str:
        if self.rpc == "ListImages":
            return item.id
        return item.tenant_id if self.rpc == "ListShares" else item.image.id

    def pages(self, tenant: Tenant, **fields: Any) -> Iterator[Any]:
        """Yield page after page; what happens between two of them is the caller's business."""
        page = self.ask(tenant, **fields)
        yield page
        for _ in range(100):
            if not page.next_page_token:
                return
            page = self.ask(tenant, page_token=page.next_page_token, **fields)
            yield page
        pytest.fail("the pages never end")

    def all(self, tenant: Tenant, **fields: Any) -> list[str]:
        return [each for page in self.pages(tenant, **fields) for each in self.ids(page)]


LIST_IMAGES = Listing("ListImages", "images")
LIST_RECEIVED = Listing("ListReceivedShares", "received_shares")


def list_shares(image: Image) -> Listing:
    return Listing("ListShares", "shares", image_id=image.id)


def some_of(rpc: str, deployment: Deployment, count: int) -> tuple[Listing, str, list[str]]:
    """Make `count` things to be listed; return the listing, who asks, and the ids in their order."""
    if rpc == "ListShares":
        (image,) = images(deployment, 1)
        tenants = [TenantId(f"tenant-{number:04}") for number in range(count)]
        put(deployment, *(a_share(image_id=image.id, tenant_id=tenant) for tenant in tenants))
        return list_shares(image), OWNER, list(tenants)
    made = images(deployment, count)
    newest_first = [image.id for image in reversed(made)]
    if rpc == "ListImages":
        return LIST_IMAGES, OWNER, newest_first
    # Shared in the opposite order: what counts is when, not how old the image is.
    put(
        deployment,
        *(a_share(image_id=image.id, create_time=deployment.now()) for image in reversed(made)),
    )
    return LIST_RECEIVED, RECIPIENT, [image.id for image in made]


every_list = pytest.mark.parametrize("rpc", ["ListImages", "ListShares", "ListReceivedShares"])


# --- Pages ------------------------------------------------------------------------------------


@every_list
class TestPages:
    def test_hold_fifty_unless_asked_otherwise(self, rpc: str, deployment: Deployment, as_: As):
        listing, viewer, ids = some_of(rpc, deployment, 51)
        first, second = listing.pages(as_(viewer))

        assert listing.ids(first) == ids[:50]
        assert listing.ids(second) == ids[50:]

    def test_hold_a_thousand_at_the_most(self, rpc: str, deployment: Deployment, as_: As):
        listing, viewer, ids = some_of(rpc, deployment, 1001)
        for size in (1000, 1001, 2**31 - 1):
            page = listing.ask(as_(viewer), page_size=size)
            assert listing.ids(page) == ids[:1000]
            assert page.next_page_token

    @pytest.mark.parametrize("size", [-1, -(2**31)])
    def test_of_less_than_nothing_are_refused(
        self, rpc: str, size: int, deployment: Deployment, as_: As
    ):
        listing, viewer, _ = some_of(rpc, deployment, 1)
        seen = listing.answer(as_(viewer), page_size=size)

        assert (seen.code, seen.metadata) == (
            "INVALID_ARGUMENT",
            {"field": "page_size", "value": str(size)},
        )

    @pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 8])
    def test_neither_skip_nor_repeat_and_the_last_has_no_token(
        self, rpc: str, size: int, deployment: Deployment, as_: As
    ):
        listing, viewer, ids = some_of(rpc, deployment, 7)
        pages = list(listing.pages(as_(viewer), page_size=size))

        assert [each for page in pages for each in listing.ids(page)] == ids
        assert len(pages) == -(-7 // size)

    def test_of_nothing_are_empty(self, rpc: str, deployment: Deployment, as_: As):
        listing, viewer, _ = some_of(rpc, deployment, 0)
        page = listing.ask(as_(viewer), include_total_size=True)

        assert (listing.ids(page), page.next_page_token, page.total_size) == ([], "", 0)

    def test_count_everything_only_when_asked(self, rpc: str, deployment: Deployment, as_: As):
        listing, viewer, _ = some_of(rpc, deployment, 5)
        counted = list(listing.pages(as_(viewer), page_size=2, include_total_size=True))

        assert [page.total_size for page in counted] == [5, 5, 5]
        assert listing.ask(as_(viewer), page_size=2).total_size == 0


def test_images_made_at_the_same_moment_are_neither_skipped_nor_repeated(
    deployment: Deployment, as_: As
):
    ids = [image.id for image in images(deployment, 3)]
    twins = [an_image() for _ in range(4)]  # the builders' time is one moment
    put(deployment, *twins)

    assert sorted(LIST_IMAGES.all(as_(OWNER), page_size=1)) == sorted([*ids, *(t.id for t in twins)])


# --- Tokens -----------------------------------------------------------------------------------


@every_list
class TestTokens:
    def test_that_are_none_are_refused(self, rpc: str, deployment: Deployment, as_: As):
        listing, viewer, _ = some_of(rpc, deployment, 1)
        tenant = as_(viewer)
        for token in NONSENSE_TOKENS:
            seen = listing.answer(tenant, page_token=token)
            assert (seen.code, seen.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD"), token[:50]
            assert seen.metadata == {"field": "page_token"}

    def test_with_a_letter_changed_are_refused(self, rpc: str, deployment: Deployment, as_: As):
        listing, viewer, _ = some_of(rpc, deployment, 2)
        tenant = as_(viewer)
        token = listing.ask(tenant, page_size=1).next_page_token
        for place in range(len(token)):
            changed = f"{token[:place]}{'A' if token[place] != 'A' else 'B'}{token[place + 1 :]}"
            assert listing.answer(tenant, page_token=changed).reason == "INVALID_FIELD", place

    def test_with_something_added_or_cut_off_are_refused(
        self, rpc: str, deployment: Deployment, as_: As
    ):
        listing, viewer, _ = some_of(rpc, deployment, 2)
        tenant = as_(viewer)
        token = listing.ask(tenant, page_size=1).next_page_token
        for changed in (
            token[:-1],
            token[1:],
            token[:-4],
            f"{token}=",
            f"{token}A",
            f" {token}",
            f"{token}!",
        ):
            assert listing.answer(tenant, page_token=changed).reason == "INVALID_FIELD", changed

    def test_do_not_show_the_place(self, rpc: str, deployment: Deployment, as_: As):
        listing, viewer, ids = some_of(rpc, deployment, 2)
        token = listing.ask(as_(viewer), page_size=1).next_page_token

        assert ids[0].encode() not in base64.urlsafe_b64decode(token + "===")

    def test_are_good_on_every_instance_and_after_a_restart(
        self, rpc: str, service: Service, deployment: Deployment, as_: As, make_service: MakeService
    ):
        listing, viewer, ids = some_of(rpc, deployment, 2)
        token = listing.ask(as_(viewer), page_size=1).next_page_token
        another = make_service(data=service.settings.data)

        assert listing.ids(listing.ask(as_(viewer, of=another), page_token=token)) == ids[1:]

    def test_of_another_catalogue_are_refused(
        self, rpc: str, deployment: Deployment, as_: As, make_service: MakeService
    ):
        """Or they could be made by anybody who knows how."""
        listing, viewer, _ = some_of(rpc, deployment, 2)
        another = make_service()
        there, _, _ = some_of(rpc, another.deployment, 2)
        token = there.ask(as_(viewer, of=another), page_size=1).next_page_token

        assert listing.answer(as_(viewer), page_token=token).reason == "INVALID_FIELD"

    def test_of_another_list_are_refused(self, rpc: str, deployment: Deployment, as_: As):
        listing, viewer, _ = some_of(rpc, deployment, 2)
        token = listing.ask(as_(viewer), page_size=1).next_page_token
        (image,) = images(deployment, 1)
        others = [LIST_IMAGES, LIST_RECEIVED, list_shares(image)]
        for other in others:
            if other.rpc == listing.rpc and not other.fields:
                continue
            asker = as_(OWNER if other.fields else viewer)
            assert other.answer(asker, page_token=token).metadata == {"field": "page_token"}

    def test_survive_another_page_size_and_a_count(self, rpc: str, deployment: Deployment, as_: As):
        listing, viewer, ids = some_of(rpc, deployment, 4)
        tenant = as_(viewer)
        token = listing.ask(tenant, page_size=1).next_page_token
        page = listing.ask(tenant, page_token=token, page_size=9, include_total_size=True)

        assert (listing.ids(page), page.total_size) == (ids[1:], 4)

    def test_serve_every_user_of_the_tenant(self, rpc: str, deployment: Deployment, as_: As):
        listing, viewer, ids = some_of(rpc, deployment, 2)
        token = listing.ask(as_(viewer), page_size=1).next_page_token

        assert listing.ids(listing.ask(as_(viewer, "admin"), page_token=token)) == ids[1:]


def test_a_token_of_another_tenants_is_refused(deployment: Deployment, as_: As):
    images(deployment, 3, public=True)
    images(deployment, 3, owner=TenantId(STRANGER))
    token = LIST_IMAGES.ask(as_(OWNER), page_size=1).next_page_token

    seen = LIST_IMAGES.answer(as_(STRANGER), page_token=token)

    assert (seen.code, seen.metadata) == ("INVALID_ARGUMENT", {"field": "page_token"})


@pytest.mark.parametrize(
    "other",
    [
        {"relation": "OWNED"},
        {"class": "PRIVATE"},
        {"type": "SYSTEM_DISK"},
        {"state": "ACTIVE"},
        {"name": "a"},
        {"name_prefix": "image"},
        {"os_type": "OTHER"},
        {"owner_tenant_id": OWNER},
        {"tags": {"a": "b"}},
        {"tags_any": [{"key": "a"}]},
        {"tags_any": [{"key": "a", "value": ""}]},
        {"tags_none": [{"key": "a"}]},
        {"min_size_bytes": 1},
        {"max_size_bytes": 2000},
        {"created_from": {"seconds": 1}},
        {"created_before": {"seconds": 2**33}},
        {"updated_from": {"seconds": 1}},
        {"updated_before": {"seconds": 2**33}},
        {"order_by": "create_time"},
        {"order_by": "name desc"},
    ],
    ids=str,
)
def test_a_token_is_bound_to_every_filter(other: dict[str, Any], deployment: Deployment, as_: As):
    images(deployment, 3)
    owner = as_(OWNER)
    token = LIST_IMAGES.ask(owner, page_size=1).next_page_token

    assert LIST_IMAGES.answer(owner, page_token=token, **other).metadata == {"field": "page_token"}


@pytest.mark.parametrize("rpc", ["ListShares", "ListReceivedShares"])
def test_a_token_of_shares_is_bound_to_the_status(rpc: str, deployment: Deployment, as_: As):
    listing, viewer, _ = some_of(rpc, deployment, 3)
    tenant = as_(viewer)
    token = listing.ask(tenant, page_size=1, status="PENDING").next_page_token

    assert listing.answer(tenant, page_token=token).metadata == {"field": "page_token"}
    assert listing.answer(tenant, page_token=token, status="PENDING").code == "OK"


# --- What happens between two pages -----------------------------------------------------------


class TestBetweenTwoPages:
    def test_a_deleted_image_is_gone_and_the_others_come_once_each(
        self, deployment: Deployment, as_: As
    ):
        ids = [image.id for image in reversed(images(deployment, 6))]
        owner = as_(OWNER)
        pages = LIST_IMAGES.pages(owner, page_size=2, include_total_size=True)
        seen = LIST_IMAGES.ids(next(pages))
        owner.DeleteImage(image_id=ids[1])  # what the token points behind
        owner.DeleteImage(image_id=ids[2])  # what would have come next
        rest = list(pages)

        assert seen + [each for page in rest for each in LIST_IMAGES.ids(page)] == [*ids[:2], *ids[3:]]
        assert [page.total_size for page in rest] == [4, 4]

    def test_a_new_image_does_not_push_an_old_one_onto_the_next_page(
        self, deployment: Deployment, as_: As
    ):
        ids = [image.id for image in reversed(images(deployment, 4))]
        pages = LIST_IMAGES.pages(as_(OWNER), page_size=2)
        seen = LIST_IMAGES.ids(next(pages))
        images(deployment, 3)

        assert seen + [each for page in pages for each in LIST_IMAGES.ids(page)] == ids

    @pytest.mark.parametrize("end", ["revoked", "deleted", "rejected", "left"])
    def test_a_recipient_sees_nothing_more_of_what_ended(
        self, end: str, deployment: Deployment, as_: As
    ):
        made = images(deployment, 4)
        put(deployment, *(an_accepted_share(image_id=image.id) for image in made))
        ids = [image.id for image in reversed(made)]
        owner, recipient = as_(OWNER), as_(RECIPIENT)
        pages = LIST_IMAGES.pages(recipient, page_size=2, include_total_size=True)
        seen = LIST_IMAGES.ids(next(pages))
        for image_id in (ids[1], ids[2]):
            match end:
                case "revoked":
                    owner.UnshareImage(image_id=image_id, tenant_ids=[RECIPIENT])
                case "deleted":
                    owner.DeleteImage(image_id=image_id)
                case "rejected":
                    recipient.RejectShare(image_id=image_id)
                case "left":
                    recipient.LeaveShare(image_id=image_id)
        (rest,) = pages

        assert seen == ids[:2]
        assert (LIST_IMAGES.ids(rest), rest.total_size) == ([ids[3]], 2)

    def test_the_whole_rest_may_end(self, deployment: Deployment, as_: As):
        made = images(deployment, 4)
        put(deployment, *(an_accepted_share(image_id=image.id) for image in made))
        owner, recipient = as_(OWNER), as_(RECIPIENT)
        for listing in (LIST_IMAGES, LIST_RECEIVED):
            pages = listing.pages(recipient, page_size=2)
            next(pages)
            for image in made:
                owner.UnshareImage(image_id=image.id, all_tenants=True)
            (rest,) = pages

            assert (listing.ids(rest), rest.next_page_token) == ([], "")
            put(deployment, *(an_accepted_share(image_id=image.id) for image in made))

    def test_a_received_share_that_ends_is_gone_and_the_others_come_once_each(
        self, deployment: Deployment, as_: As
    ):
        listing, viewer, ids = some_of("ListReceivedShares", deployment, 5)
        owner = as_(OWNER)
        pages = listing.pages(as_(viewer), page_size=2)
        seen = listing.ids(next(pages))
        owner.UnshareImage(image_id=ids[1], all_tenants=True)
        owner.DeleteImage(image_id=ids[2])

        assert seen + [each for page in pages for each in listing.ids(page)] == [*ids[:2], *ids[3:]]

    def test_an_owners_share_that_ends_is_gone_and_the_others_come_once_each(
        self, deployment: Deployment, as_: As
    ):
        listing, viewer, ids = some_of("ListShares", deployment, 5)
        owner = as_(viewer)
        pages = listing.pages(owner, page_size=2, include_total_size=True)
        seen = listing.ids(next(pages))
        owner.UnshareImage(image_id=listing.fields["image_id"], tenant_ids=ids[1:3])
        rest = list(pages)

        assert seen + [each for page in rest for each in listing.ids(page)] == [*ids[:2], *ids[3:]]
        assert [page.total_size for page in rest] == [3]

    def test_an_image_deleted_between_pages_of_its_shares_is_told_as_deleted(
        self, deployment: Deployment, as_: As
    ):
        listing, viewer, _ = some_of("ListShares", deployment, 3)
        owner = as_(viewer)
        token = listing.ask(owner, page_size=1).next_page_token
        owner.DeleteImage(image_id=listing.fields["image_id"])

        assert listing.answer(owner, page_token=token).reason == "IMAGE_DELETED"


# --- Filters ----------------------------------------------------------------------------------

_DATA = a_disk(role=DiskRole.DATA)
CATALOGUE = {
    "plain": {},
    "Plain": {"tags": (("a", "b"), ("c", "d"))},
    "plain-2": {"tags": (("a", "other"),)},
    "linux": {"os": OperatingSystem(type=OsType.LINUX)},
    "data": {"type": ImageType.DATA_DISK, "disks": (_DATA,)},
    "queued": {"state": ImageState.QUEUED},
    "deactivated": {"state": ImageState.DEACTIVATED},
    "public": {"public": True},
    "shared": {},
    "lent": {"owner": TenantId("lender")},
    "offered": {"owner": TenantId("lender")},
    "foreign public": {"owner": TenantId("lender"), "public": True},
    "foreign": {"owner": TenantId("lender")},
    "100%_": {},
}
OWN = {
    "plain",
    "Plain",
    "plain-2",
    "linux",
    "data",
    "queued",
    "deactivated",
    "public",
    "shared",
    "100%_",
}
ALL = OWN | {"lent", "foreign public"}


@pytest.fixture
def catalogue(deployment: Deployment) -> None:
    made = {name: an_image(name=name, **changes) for name, changes in CATALOGUE.items()}
    put(
        deployment,
        *made.values(),
        a_share(image_id=made["shared"].id),
        an_accepted_share(image_id=made["lent"].id, tenant_id=OWNER),
        a_share(image_id=made["offered"].id, tenant_id=OWNER),
    )


@pytest.mark.usefixtures("catalogue")
class TestFilters:
    @pytest.mark.parametrize(
        ("filters", "names"),
        [
            ({}, ALL),
            ({"relation": "OWNED"}, OWN),
            ({"relation": "SHARED_WITH_ME"}, {"lent"}),
            ({"relation": "PUBLIC"}, {"public", "foreign public"}),
            ({"class": "PUBLIC"}, {"public", "foreign public"}),
            ({"class": "SHARED"}, {"shared", "lent"}),
            ({"class": "PRIVATE"}, OWN - {"public", "shared"}),
            ({"type": "SYSTEM_DISK"}, ALL - {"data"}),
            ({"type": "DATA_DISK"}, {"data"}),
            ({"type": "ISO"}, set()),
            ({"state": "ACTIVE"}, ALL - {"queued", "deactivated"}),
            ({"state": "QUEUED"}, {"queued"}),
            ({"state": "DEACTIVATED"}, {"deactivated"}),
            ({"state": "DELETED"}, set()),
            ({"name": "plain"}, {"plain"}),
            ({"name": "plai"}, set()),
            ({"name": "foreign"}, set()),
            ({"name_prefix": "plain"}, {"plain", "plain-2"}),
            ({"name_prefix": "Plain"}, {"Plain"}),
            ({"name_prefix": "100%_"}, {"100%_"}),
            ({"name_prefix": "%"}, set()),
            ({"name_prefix": "_"}, set()),
            ({"os_type": "LINUX"}, {"linux"}),
            ({"os_type": "OTHER"}, ALL - {"linux"}),
            ({"owner_tenant_id": OWNER}, OWN),
            ({"owner_tenant_id": "lender"}, {"lent", "foreign public"}),
            ({"owner_tenant_id": "nobody"}, set()),
            ({"tags": {"a": "b"}}, {"Plain"}),
            ({"tags": {"a": "b", "c": "d"}}, {"Plain"}),
            ({"tags": {"a": "b", "c": "other"}}, set()),
            ({"tags": {"a": ""}}, set()),
            ({"tags_any": [{"key": "a", "value": "b"}]}, {"Plain"}),
            ({"tags_any": [{"key": "a", "value": "b"}, {"key": "c", "value": "d"}]}, {"Plain"}),
            (
                {"tags_any": [{"key": "c", "value": "d"}, {"key": "a", "value": "other"}]},
                {"Plain", "plain-2"},
            ),
            ({"tags_any": [{"key": "a"}]}, {"Plain", "plain-2"}),
            ({"tags_any": [{"key": "a", "value": ""}]}, set()),
            ({"tags_any": [{"key": "a"}], "tags": {"c": "d"}}, {"Plain"}),
            ({"tags_none": [{"key": "a", "value": "b"}]}, ALL - {"Plain"}),
            ({"tags_none": [{"key": "a"}]}, ALL - {"Plain", "plain-2"}),
            ({"tags_none": [{"key": "a"}, {"key": "x"}]}, ALL - {"Plain", "plain-2"}),
            ({"tags_any": [{"key": "a"}], "tags_none": [{"key": "c"}]}, {"plain-2"}),
            ({"min_size_bytes": 1000}, ALL),
            ({"min_size_bytes": 1001}, set()),
            ({"max_size_bytes": 999}, set()),
            ({"max_size_bytes": 1000}, ALL),
            ({"relation": "OWNED", "class": "PUBLIC"}, {"public"}),
            ({"relation": "OWNED", "class": "PUBLIC", "owner_tenant_id": "lender"}, set()),
            ({"relation": "PUBLIC", "class": "PRIVATE"}, set()),
            ({"relation": "PUBLIC", "owner_tenant_id": OWNER}, {"public"}),
            ({"relation": "SHARED_WITH_ME", "class": "SHARED"}, {"lent"}),
            ({"relation": "SHARED_WITH_ME", "class": "PRIVATE"}, set()),
            ({"relation": "SHARED_WITH_ME", "owner_tenant_id": "lender"}, {"lent"}),
            ({"relation": "SHARED_WITH_ME", "owner_tenant_id": OWNER}, set()),
            ({"name": "lent"}, {"lent"}),
            ({"name": "foreign public"}, {"foreign public"}),
            (
                {"type": "SYSTEM_DISK", "state": "ACTIVE", "name_prefix": "p"},
                {"plain", "plain-2", "public"},
            ),
        ],
        ids=lambda value: str(value) if isinstance(value, dict) else "",
    )
    def test_let_through_what_they_say_and_nothing_else(
        self, filters: dict[str, Any], names: set[str], as_: As
    ):
        for order in ORDERS:
            page = LIST_IMAGES.ask(as_(OWNER), include_total_size=True, order_by=order, **filters)

            assert sorted(image.name for image in page.images) == sorted(names), order
            assert page.total_size == len(names)

    def test_of_the_state_deleted_show_the_owners_own(self, as_: As):
        owner = as_(OWNER)
        image = next(image for image in owner.ListImages().images if image.name == "shared")
        owner.DeleteImage(image_id=image.id)

        assert [each.name for each in owner.ListImages(state="DELETED").images] == ["shared"]
        assert "shared" not in {each.name for each in owner.ListImages().images}
        assert not as_(RECIPIENT).ListImages(state="DELETED").images

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("relation", 99),
            ("class", -1),
            ("type", 99),
            ("state", 2**31 - 1),
            ("os_type", 99),
            ("owner_tenant_id", "no tenant"),
            ("name", "\0"),
            ("tags", {f"key-{number}": "" for number in range(11)}),
            ("tags_any", [{"key": f"key-{number}"} for number in range(11)]),
            ("tags_none", [{"key": f"key-{number}"} for number in range(11)]),
            ("tags_any[0].key", {"tags_any": [{"value": "a"}]}),
            ("min_size_bytes", -1),
            ("max_size_bytes", -1),
            ("max_size_bytes", {"min_size_bytes": 2, "max_size_bytes": 1}),
            ("created_from", {"created_from": {"seconds": -(2**62)}}),
            ("created_before", {"created_before": {"nanos": -1}}),
            ("created_before", {"created_from": {"seconds": 1}, "created_before": {"seconds": 1}}),
            ("updated_before", {"updated_from": {"seconds": 2}, "updated_before": {"seconds": 1}}),
            ("updated_from", {"updated_from": {"seconds": 2**62}}),
            *(
                ("order_by", order)
                for order in ("size", "name asc", "NAME", "name,id", " name", "name  desc")
            ),
        ],
    )
    def test_that_say_nothing_sensible_are_refused(self, field: str, value: Any, as_: As):
        said = value if isinstance(value, dict) and field != "tags" else {field: value}
        seen = LIST_IMAGES.answer(as_(OWNER), **said)

        assert (seen.code, seen.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
        assert seen.metadata["field"] == field


ORDERS = ("create_time", "create_time desc", "name", "name desc", "size_bytes", "size_bytes desc")


class TestRanges:
    """From a bound on, or before it; a microsecond or a byte tells."""

    def test_of_sizes_hold_both_bounds(self, deployment: Deployment, as_: As):
        put(deployment, *(an_image(disks=(a_disk(size_bytes=size),)) for size in (0, 9, 10, 11, 12)))

        def sizes(**filters: int) -> list[int]:
            page = as_(OWNER).ListImages(order_by="size_bytes", **filters)
            return [image.size_bytes for image in page.images]

        assert sizes() == [0, 9, 10, 11, 12]
        assert sizes(min_size_bytes=10) == [10, 11, 12]
        assert sizes(max_size_bytes=11) == [0, 9, 10, 11]
        assert sizes(min_size_bytes=10, max_size_bytes=11) == [10, 11]
        assert sizes(min_size_bytes=10, max_size_bytes=10) == [10]
        assert sizes(max_size_bytes=0) == [0]

    @pytest.mark.parametrize("what", ["created", "updated"])
    @pytest.mark.parametrize("viewer", [OWNER, RECIPIENT, STRANGER])
    def test_of_times_hold_the_first_and_not_the_last(
        self, what: str, viewer: str, deployment: Deployment, as_: As
    ):
        """The viewers see the same images as their own, by sharing, and since they are public."""
        time = f"{what.removesuffix('d')}_time"
        made = [
            an_image(
                **{
                    "create_time": datetime.fromtimestamp(0, UTC),
                    time: datetime.fromtimestamp(1000, UTC) + timedelta(microseconds=number),
                },
                public=viewer == STRANGER,
            )
            for number in range(4)
        ]
        put(deployment, *made)
        if viewer == RECIPIENT:
            put(deployment, *(an_accepted_share(image_id=image.id) for image in made))
        moments = [{"seconds": 1000, "nanos": 1000 * number} for number in range(5)]

        def found(**filters: Any) -> list[int]:
            page = as_(viewer).ListImages(order_by="name", **filters)
            return [made.index(next(each for each in made if each.id == i.id)) for i in page.images]

        start, end = f"{what}_from", f"{what}_before"
        assert set(found(**{start: moments[1]})) == {1, 2, 3}
        assert set(found(**{end: moments[2]})) == {0, 1}
        assert set(found(**{start: moments[1], end: moments[3]})) == {1, 2}
        assert set(found(**{start: {"seconds": 1000, "nanos": 1001}})) == {2, 3}
        assert set(found(**{end: {"seconds": 1000, "nanos": 1001}})) == {0, 1}


class TestOrders:
    @pytest.mark.parametrize("order", ["", *ORDERS])
    def test_hold_over_all_that_a_viewer_is_shown(self, order: str, deployment: Deployment, as_: As):
        """Own, public and accepted images come in one order, equals by id, page after page."""
        names = ["b", "B", "a", "b-2", "_", "\u00fc", "b"]
        made = [
            an_image(
                name=name,
                owner=TenantId(f"{OWNER if number < 4 else 'lender'}{number if number == 6 else ''}"),
                public=number in {1, 4},
                disks=(a_disk(size_bytes=number * 7 % 3),),
                create_time=datetime.fromtimestamp(1000 + number * 5 % 3, UTC),
            )
            for number, name in enumerate(names)
        ]
        put(
            deployment,
            *made,
            *(an_accepted_share(image_id=image.id, tenant_id=OWNER) for image in made[5:]),
        )
        key, _, direction = (order or "create_time desc").partition(" ")

        def place(image: Image) -> tuple[Any, str]:
            return (image.name.encode() if key == "name" else getattr(image, key)), image.id

        in_order = [image.id for image in sorted(made, key=place, reverse=bool(direction))]
        for size in (1, 2, 7):
            assert LIST_IMAGES.all(as_(OWNER), page_size=size, order_by=order) == in_order

    def test_of_received_shares_go_both_ways(self, deployment: Deployment, as_: As):
        listing, viewer, ids = some_of("ListReceivedShares", deployment, 4)

        assert listing.all(as_(viewer), page_size=1, order_by="create_time") == ids[::-1]
        assert listing.all(as_(viewer), page_size=3, order_by="create_time desc") == ids
        seen = listing.answer(as_(viewer), order_by="name")
        assert (seen.code, seen.metadata) == ("INVALID_ARGUMENT", {"field": "order_by"})

    def test_a_new_name_has_its_place_with_the_recipients_too(self, deployment: Deployment, as_: As):
        made = images(deployment, 3)
        put(deployment, *(an_accepted_share(image_id=image.id) for image in made))
        as_(OWNER).UpdateImage(
            image_id=made[0].id, image={"name": "zzz"}, update_mask={"paths": ["name"]}
        )

        for viewer in (OWNER, RECIPIENT):
            assert LIST_IMAGES.all(as_(viewer), order_by="name desc")[0] == made[0].id
            assert LIST_IMAGES.all(as_(viewer), name="zzz") == [made[0].id]

    def test_an_undeleted_image_is_back_in_its_place(self, deployment: Deployment, as_: As):
        made = images(deployment, 3, tags=(("a", "b"),))
        put(deployment, *(an_accepted_share(image_id=image.id) for image in made))
        as_(OWNER).DeleteImage(image_id=made[1].id)
        gone = [LIST_IMAGES.all(as_(viewer), tags={"a": "b"}) for viewer in (OWNER, RECIPIENT)]
        as_(OWNER).UndeleteImage(image_id=made[1].id)

        assert gone == [[made[2].id, made[0].id]] * 2
        for viewer in (OWNER, RECIPIENT):
            for order in ORDERS:
                found = LIST_IMAGES.all(as_(viewer), tags={"a": "b"}, order_by=order)
                assert sorted(found) == sorted(image.id for image in made)


@pytest.mark.parametrize("rpc", ["ListImages", "ListReceivedShares"])
def test_a_page_of_large_images_stays_below_what_clients_take(rpc: str, deployment: Deployment, as_: As):
    listing, viewer, _ = some_of(rpc, deployment, 0)
    disks = tuple(a_disk(index=index, sha256="f" * 64) for index in range(64))
    made = []
    for _ in range(14):  # a transaction has only so much time
        some = images(deployment, 50, disks=disks, description="x" * 1024)
        put(deployment, *(an_accepted_share(image_id=image.id) for image in some))
        made += some
    pages = list(listing.pages(as_(viewer), page_size=1000))

    assert [each for page in pages for each in listing.ids(page)].count(made[0].id) == 1
    assert sum(len(listing.ids(page)) for page in pages) == 700
    assert len(pages) == 2
    assert 2.9 * 1024**2 < pages[0].ByteSize() < 3.1 * 1024**2


@pytest.mark.parametrize("rpc", ["ListShares", "ListReceivedShares"])
class TestStatusFilter:
    STATUSES = (ShareStatus.PENDING, ShareStatus.ACCEPTED, ShareStatus.REJECTED)

    @pytest.fixture
    def listing(self, rpc: str, deployment: Deployment) -> Listing:
        """One share in each status: of one image, or of one recipient."""
        made = images(deployment, 3)
        for image, status in zip(made, self.STATUSES, strict=True):
            of_one_image = a_share(image_id=made[0].id, tenant_id=TenantId(status), status=status)
            of_one_recipient = a_share(image_id=image.id, status=status)
            put(deployment, of_one_image if rpc == "ListShares" else of_one_recipient)
        return list_shares(made[0]) if rpc == "ListShares" else LIST_RECEIVED

    @pytest.mark.parametrize("status", STATUSES)
    def test_lets_through_its_status_and_nothing_else(
        self, rpc: str, status: ShareStatus, listing: Listing, as_: As
    ):
        page = listing.ask(
            as_(OWNER if rpc == "ListShares" else RECIPIENT), status=status, include_total_size=True
        )
        found = page.shares if rpc == "ListShares" else [each.share for each in page.received_shares]

        assert [share.Status.Name(share.status) for share in found] == [status]
        assert page.total_size == 1

    def test_left_out_lets_everything_through(self, rpc: str, listing: Listing, as_: As):
        page = listing.ask(as_(OWNER if rpc == "ListShares" else RECIPIENT))

        assert len(listing.ids(page)) == 3

    def test_that_is_no_status_is_refused(self, rpc: str, listing: Listing, as_: As):
        seen = listing.answer(as_(OWNER if rpc == "ListShares" else RECIPIENT), status=99)

        assert (seen.code, seen.metadata) == ("INVALID_ARGUMENT", {"field": "status"})


def test_a_recipient_learns_nothing_of_other_recipients_from_its_lists(deployment: Deployment, as_: As):
    alone, many = images(deployment, 2)
    put(deployment, an_accepted_share(image_id=alone.id), an_accepted_share(image_id=many.id))
    before = [as_(RECIPIENT).ListImages(), as_(RECIPIENT).ListReceivedShares()]
    others = [an_accepted_share(image_id=many.id, tenant_id=TenantId(f"t{n}")) for n in range(9)]
    put(deployment, *others)

    assert [as_(RECIPIENT).ListImages(), as_(RECIPIENT).ListReceivedShares()] == before


def test_a_list_of_shares_needs_an_image(as_: As):
    with declined() as seen:
        as_(OWNER).ListShares(image_id=ImageId(""))

    assert (seen.code, seen.metadata) == ("INVALID_ARGUMENT", {"field": "image_id"})
