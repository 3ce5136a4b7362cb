"""Registered uses on a real server (law 7.4 to 7.6): who registers, releases, lists and counts them."""

from typing import Any

import pytest

from builders import OWNER, RECIPIENT, STRANGER, a_registered_use
from calling import Tenant, declined
from conftest import As, Clock, MakeService
from ims.bootstrap import Service
from ims.use_cases import images
from ims.use_cases.deployment import Deployment
from ims.v1.error_reason_pb2 import ErrorReason
from ims.v1.image_pb2 import Image

Use = dict[str, Any]


@pytest.fixture
def owner(as_: As) -> Tenant:
    return as_(OWNER)


@pytest.fixture
def recipient(as_: As) -> Tenant:
    return as_(RECIPIENT)


@pytest.fixture
def nova(as_: As) -> Tenant:
    return as_("nova", "service")


@pytest.fixture
def cinder(as_: As) -> Tenant:
    return as_("cinder", "service")


@pytest.fixture
def image_id(owner: Tenant, recipient: Tenant) -> str:
    """An image of OWNER's that RECIPIENT has accepted."""
    image = owner.active("debian")
    share(owner, recipient, image.id)
    return image.id


def share(owner: Tenant, recipient: Tenant, image_id: str) -> None:
    owner.ShareImage(image_id=image_id, recipients=[{"tenant_id": recipient.id}])
    recipient.AcceptShare(image_id=image_id)


def a_server(image_id: str, number: int = 1, **more: Any) -> Use:
    return {"image_id": image_id, "kind": "ECS", "consumer_id": f"server-{number}", **more}


def ids(tenant: Tenant, **fields: Any) -> list[str]:
    return [use.consumer_id for use in tenant.ListUses(**fields).uses]


def usage(tenant: Tenant, image_id: str, **page: Any) -> dict[str, tuple[int, int, int]]:
    return in_numbers(tenant.GetUsage(image_id=image_id, **page).usages)


def in_numbers(usages: Any) -> dict[str, tuple[int, int, int]]:
    return {each.tenant_id: (each.ecs_count, each.bms_count, each.volume_count) for each in usages}


class TestRegistering:
    def test_a_service_registers_for_a_tenant_and_a_tenant_for_itself(
        self, owner, recipient, nova, image_id
    ):
        by_nova = nova.RegisterUse(**a_server(image_id, tenant_id=RECIPIENT)).use
        by_owner = owner.RegisterUse(image_id=image_id, kind="VOLUME", consumer_id="vol-1").use

        assert (by_nova.tenant_id, by_nova.kind, by_nova.consumer_id) == (RECIPIENT, 1, "server-1")
        assert list(recipient.ListUses().uses) == [by_nova]
        assert list(owner.ListUses().uses) == [by_owner]

    def test_a_tenant_registers_for_nobody_else(self, owner, image_id):
        with declined() as seen:
            owner.RegisterUse(**a_server(image_id, tenant_id=RECIPIENT))

        assert (seen.reason, seen.metadata) == ("ROLE_REQUIRED", {"requiredRoles": "service"})

    def test_the_same_again_is_the_same_use(self, recipient, nova, image_id):
        first = nova.RegisterUse(**a_server(image_id, tenant_id=RECIPIENT)).use
        again = nova.RegisterUse(**a_server(image_id, tenant_id=RECIPIENT)).use

        assert again == first
        assert ids(recipient) == ["server-1"]

    @pytest.mark.parametrize(
        "other", [{"kind": "BMS"}, {"consumer_id": "server-2"}, {"tenant_id": OWNER}], ids=str
    )
    def test_another_kind_id_or_tenant_is_another_use(self, owner, nova, image_id, other):
        nova.RegisterUse(**a_server(image_id, tenant_id=RECIPIENT))
        nova.RegisterUse(**a_server(image_id, tenant_id=RECIPIENT) | other)

        assert sum(map(sum, usage(owner, image_id).values())) == 2

    @pytest.mark.parametrize("consumer_id", ["x", "!" * 64, "~:/%'\""])
    def test_any_printable_id_is_taken(self, owner, image_id, consumer_id):
        use = owner.RegisterUse(**a_server(image_id) | {"consumer_id": consumer_id}).use

        assert use.consumer_id == consumer_id
        assert ids(owner) == [consumer_id]
        assert owner.ReleaseUse(**a_server(image_id) | {"consumer_id": consumer_id}).released

    @pytest.mark.parametrize("rpc", ["RegisterUse", "ReleaseUse"])
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("consumer_id", ""),
            ("consumer_id", "x" * 65),
            ("consumer_id", "a b"),
            ("consumer_id", "é"),
            ("consumer_id", "\0"),
            ("kind", 0),
            ("kind", 99),
            ("tenant_id", "no tenant"),
        ],
    )
    def test_what_cannot_be_read_is_named(self, as_, image_id, rpc, field, value):
        with declined() as seen:
            getattr(as_(RECIPIENT, "service"), rpc)(**a_server(image_id) | {field: value})

        if field == "tenant_id" and rpc == "RegisterUse":  # no such tenant sees the image
            assert seen.reason == "IMAGE_NOT_FOUND"
            return
        assert (seen.code, seen.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
        assert {violation[1] for violation in seen.violations} == {field}

    def test_the_tenant_has_to_be_able_to_use_the_image(self, owner, nova, as_, image_id):
        owner.ShareImage(image_id=image_id, recipients=[{"tenant_id": "invited"}])

        with declined() as pending:
            nova.RegisterUse(**a_server(image_id, tenant_id="invited"))
        with declined() as hidden:
            nova.RegisterUse(**a_server(image_id, tenant_id=STRANGER))
        owner.DeactivateImage(image_id=image_id)
        with declined() as inactive:
            nova.RegisterUse(**a_server(image_id, tenant_id=RECIPIENT))

        reasons = [pending.reason, hidden.reason, inactive.reason]
        assert reasons == ["SHARE_NOT_ACCEPTED", "IMAGE_NOT_FOUND", "IMAGE_NOT_ACTIVE"]

    def test_a_tenant_has_so_many_of_an_image_and_another_image_and_tenant_as_many(
        self, as_, make_service: MakeService
    ):
        small = make_service(uses_per_image_and_tenant=2)
        owner, recipient = as_(OWNER, of=small), as_(RECIPIENT, of=small)
        image, another = owner.active("debian"), owner.active("another")
        share(owner, recipient, image.id)
        for number in (1, 2):
            owner.RegisterUse(**a_server(image.id, number))

        with declined() as seen:
            owner.RegisterUse(**a_server(image.id, 3))

        assert (seen.code, seen.reason) == ("RESOURCE_EXHAUSTED", "USE_LIMIT_EXCEEDED")
        assert seen.metadata == {"limit": "2", "used": "2", "asked": "1"}
        owner.RegisterUse(**a_server(image.id, 2))
        owner.RegisterUse(**a_server(another.id, 3))
        recipient.RegisterUse(**a_server(image.id, 3))
        owner.ReleaseUse(**a_server(image.id, 1))
        owner.RegisterUse(**a_server(image.id, 3))


class TestReleasing:
    def test_what_is_released_is_gone_and_releasing_it_again_is_no_error(self, owner, image_id):
        owner.RegisterUse(**a_server(image_id))

        assert owner.ReleaseUse(**a_server(image_id)).released
        assert not owner.ReleaseUse(**a_server(image_id)).released
        assert ids(owner) == []

    def test_a_service_releases_its_own_registrations_and_nobody_elses(
        self, recipient, nova, cinder, image_id
    ):
        use = a_server(image_id, tenant_id=RECIPIENT)
        nova.RegisterUse(**use)

        assert not cinder.ReleaseUse(**use).released
        assert ids(recipient) == ["server-1"]
        assert nova.ReleaseUse(**use).released
        assert ids(recipient) == []

    def test_a_tenant_releases_what_a_service_registered_for_it_and_nothing_of_others(
        self, owner, recipient, nova, image_id
    ):
        nova.RegisterUse(**a_server(image_id, tenant_id=RECIPIENT))

        assert not owner.ReleaseUse(**a_server(image_id)).released
        with declined() as seen:
            owner.ReleaseUse(**a_server(image_id, tenant_id=RECIPIENT))
        assert seen.reason == "ROLE_REQUIRED"
        assert recipient.ReleaseUse(**a_server(image_id)).released

    def test_a_use_belongs_to_the_service_that_registered_it_last(
        self, recipient, nova, cinder, image_id
    ):
        use = a_server(image_id, tenant_id=RECIPIENT)
        recipient.RegisterUse(**a_server(image_id))
        nova.RegisterUse(**use)
        recipient.RegisterUse(**a_server(image_id))
        assert ids(nova, tenant_id=RECIPIENT) == ["server-1"]

        cinder.RegisterUse(**use)

        assert not nova.ReleaseUse(**use).released
        assert cinder.ReleaseUse(**use).released

    @pytest.mark.parametrize("lost_by", ["unsharing", "leaving", "deletion", "deactivation"])
    def test_it_goes_on_working_when_the_image_is_out_of_sight(
        self, owner, recipient, nova, image_id, lost_by
    ):
        nova.RegisterUse(**a_server(image_id, 1, tenant_id=RECIPIENT))
        nova.RegisterUse(**a_server(image_id, 2, tenant_id=RECIPIENT))
        match lost_by:
            case "unsharing":
                owner.UnshareImage(image_id=image_id, all_tenants=True)
            case "leaving":
                recipient.LeaveShare(image_id=image_id)
            case "deletion":
                owner.DeleteImage(image_id=image_id)
            case "deactivation":
                owner.DeactivateImage(image_id=image_id)

        assert ids(recipient, image_id=image_id) == ["server-1", "server-2"]
        assert nova.ReleaseUse(**a_server(image_id, 1, tenant_id=RECIPIENT)).released
        assert recipient.ReleaseUse(**a_server(image_id, 2)).released
        assert ids(recipient) == []


class TestListing:
    def test_a_tenant_gets_its_own_of_an_image_or_of_all(self, owner, recipient, nova, image_id):
        another = owner.active("another")
        nova.RegisterUse(**a_server(image_id, 1, tenant_id=RECIPIENT))
        owner.RegisterUse(**a_server(image_id, 2))
        owner.RegisterUse(**a_server(another.id, 3))
        owner.RegisterUse(image_id=another.id, kind="VOLUME", consumer_id="volume")

        assert ids(recipient) == ["server-1"]
        assert sorted(ids(owner)) == ["server-2", "server-3", "volume"]
        assert ids(owner, image_id=another.id) == ["server-3", "volume"]
        assert ids(owner, kind="VOLUME") == ["volume"]

    def test_a_service_gets_what_it_has_registered_itself(self, recipient, nova, cinder, image_id):
        recipient.RegisterUse(**a_server(image_id, 1))
        nova.RegisterUse(**a_server(image_id, 2, tenant_id=RECIPIENT))

        assert ids(nova, tenant_id=RECIPIENT) == ["server-2"]
        assert ids(cinder, tenant_id=RECIPIENT) == []
        with declined() as seen:
            recipient.ListUses(tenant_id=OWNER)
        assert seen.reason == "ROLE_REQUIRED"

    def test_pages_hold_all_in_order_and_each_once(self, owner):
        image_ids = sorted(owner.active(f"image-{number}").id for number in range(2))
        there = [
            (image_id, kind, consumer_id)
            for image_id in image_ids
            for kind in ("BMS", "ECS", "VOLUME")
            for consumer_id in ("a:b", "b", "c:")
        ]
        for image_id, kind, consumer_id in reversed(there):
            owner.RegisterUse(image_id=image_id, kind=kind, consumer_id=consumer_id)

        found, token = [], ""
        while True:
            page = owner.ListUses(page_size=2, page_token=token)
            assert len(page.uses) <= 2
            found += [(use.image_id, use.Kind.Name(use.kind), use.consumer_id) for use in page.uses]
            token = page.next_page_token
            if not token:
                break

        assert found == there

    def test_a_token_is_worthless_to_others_and_for_other_filters(
        self, owner, recipient, nova, image_id
    ):
        for number in range(3):
            nova.RegisterUse(**a_server(image_id, number, tenant_id=OWNER))
        token = nova.ListUses(tenant_id=OWNER, page_size=1).next_page_token

        for tenant, fields in (
            (owner, {}),
            (nova, {"tenant_id": RECIPIENT}),
            (nova, {"tenant_id": OWNER, "kind": "ECS"}),
            (nova, {"tenant_id": OWNER, "image_id": image_id}),
        ):
            with declined() as seen:
                tenant.ListUses(page_token=token, **fields)
            assert (seen.reason, seen.metadata) == ("INVALID_FIELD", {"field": "page_token"})


class TestCounting:
    @pytest.fixture(autouse=True)
    def used(self, owner, nova, image_id):
        for number in range(3):
            nova.RegisterUse(**a_server(image_id, number, tenant_id=RECIPIENT))
        nova.RegisterUse(image_id=image_id, kind="BMS", consumer_id="b", tenant_id=RECIPIENT)
        owner.RegisterUse(image_id=image_id, kind="VOLUME", consumer_id="v")

    def test_the_owner_sees_how_many_each_tenant_has(self, owner, image_id):
        assert usage(owner, image_id) == {OWNER: (0, 0, 1), RECIPIENT: (3, 1, 0)}

    def test_a_recipient_sees_its_own_and_nothing_of_others(self, owner, recipient, as_, image_id):
        another = as_("another")
        share(owner, another, image_id)

        assert usage(recipient, image_id) == {RECIPIENT: (3, 1, 0)}
        assert usage(another, image_id) == {}

    def test_a_former_recipients_uses_are_counted_on(self, owner, image_id):
        owner.UnshareImage(image_id=image_id, all_tenants=True)

        assert usage(owner, image_id)[RECIPIENT] == (3, 1, 0)

    def test_the_owner_of_a_deleted_image_sees_them_and_an_undeletion_finds_them(
        self, owner, recipient, image_id
    ):
        owner.DeleteImage(image_id=image_id)
        assert usage(owner, image_id) == {OWNER: (0, 0, 1), RECIPIENT: (3, 1, 0)}

        owner.UndeleteImage(image_id=image_id)
        assert usage(recipient, image_id) == {RECIPIENT: (3, 1, 0)}

    def test_pages_hold_every_tenant_once(self, owner, nova, as_, image_id):
        for name in ("a", "b", "z"):
            share(owner, as_(name), image_id)
            nova.RegisterUse(**a_server(image_id, tenant_id=name))

        found, token = [], ""
        while True:
            page = owner.GetUsage(image_id=image_id, page_size=2, page_token=token)
            found += [each.tenant_id for each in page.usages]
            token = page.next_page_token
            if not token:
                break

        assert found == sorted(["a", "b", "z", OWNER, RECIPIENT])

    def test_who_used_a_public_image_is_counted_and_not_named(self, owner, nova, as_, image_id):
        admin = as_("governor", "admin")
        admin.PublishImage(image_id=image_id)
        nova.RegisterUse(**a_server(image_id, tenant_id=STRANGER))
        nova.RegisterUse(**a_server(image_id, tenant_id="another-stranger"))

        public = usage(owner, image_id)
        own = usage(as_(STRANGER), image_id)
        admin.UnpublishImage(image_id=image_id)

        assert public == {"": (2, 0, 0), OWNER: (0, 0, 1), RECIPIENT: (3, 1, 0)}
        assert own == {STRANGER: (1, 0, 0)}
        assert usage(owner, image_id) == public
        first = owner.GetUsage(image_id=image_id, page_size=1)
        rest = usage(owner, image_id, page_size=1, page_token=first.next_page_token)
        assert (in_numbers(first.usages), rest) == ({"": (2, 0, 0)}, {OWNER: (0, 0, 1)})


class TestTakingAway:
    """Law 7.6."""

    @pytest.fixture(autouse=True)
    def used(self, nova, image_id):
        nova.RegisterUse(**a_server(image_id, 1, tenant_id=RECIPIENT))
        nova.RegisterUse(**a_server(image_id, 2, tenant_id=RECIPIENT))

    def test_an_image_in_use_is_deleted_unless_the_owner_requires_that_it_is_not(self, owner, image_id):
        with declined() as seen:
            owner.DeleteImage(image_id=image_id, require_unused=True)
        assert (seen.code, seen.reason) == ("FAILED_PRECONDITION", "IMAGE_IN_USE")
        assert seen.metadata == {"uses": "2", "tenants": "1"}

        assert owner.DeleteImage(image_id=image_id).image.state == Image.DELETED

    def test_once_all_is_released_it_is_deleted(self, owner, nova, image_id):
        nova.ReleaseUse(**a_server(image_id, 1, tenant_id=RECIPIENT))
        with declined() as seen:
            owner.DeleteImage(image_id=image_id, require_unused=True)
        assert seen.metadata == {"uses": "1", "tenants": "1"}
        nova.ReleaseUse(**a_server(image_id, 2, tenant_id=RECIPIENT))

        owner.DeleteImage(image_id=image_id, require_unused=True)

    def test_a_share_ends_in_use_unless_the_owner_requires_that_it_does_not(self, owner, as_, image_id):
        share(owner, as_("idle"), image_id)
        for whose in ({"all_tenants": True}, {"tenant_ids": ["idle", RECIPIENT]}):
            with declined() as seen:
                owner.UnshareImage(image_id=image_id, require_unused=True, **whose)
            assert (seen.code, seen.reason) == ("FAILED_PRECONDITION", "IMAGE_IN_USE")
            assert seen.metadata == {"uses": "2", "tenants": "1"}
            assert len(owner.ListShares(image_id=image_id).shares) == 2

        owner.UnshareImage(image_id=image_id, tenant_ids=["idle"], require_unused=True)
        owner.UnshareImage(image_id=image_id, tenant_ids=[RECIPIENT])
        assert not owner.ListShares(image_id=image_id).shares
        # What is used by those that have no share to lose is not hit.
        owner.UnshareImage(image_id=image_id, tenant_ids=[RECIPIENT], require_unused=True)
        owner.UnshareImage(image_id=image_id, all_tenants=True, require_unused=True)

    def test_a_preview_of_a_deletion_tells_all_it_would_hit_and_all_that_would_refuse_it(
        self, owner, image_id
    ):
        owner.RegisterUse(image_id=image_id, kind="VOLUME", consumer_id="v")
        image = owner.UpdateImage(
            image_id=image_id, image={"protected": True}, update_mask={"paths": ["protected"]}
        ).image

        told = owner.DeleteImage(image_id=image_id, validate_only=True, require_unused=True, etag="old")
        without = owner.DeleteImage(image_id=image_id, validate_only=True)

        assert names_of(told.refusals) == ["ETAG_MISMATCH", "IMAGE_PROTECTED", "IMAGE_IN_USE"]
        assert told.refusals[2].metadata == {"uses": "3", "tenants": "2"}
        assert names_of(without.refusals) == ["IMAGE_PROTECTED"]
        for each in (told, without):
            assert each.ended_share_count == 1
            assert (each.usage.use_count, each.usage.tenant_count) == (3, 2)
            assert in_numbers(each.usage.usages) == {RECIPIENT: (2, 0, 0), OWNER: (0, 0, 1)}
            assert [usage.tenant_id for usage in each.usage.usages] == [RECIPIENT, OWNER]
            assert each.image == image
        assert owner.GetImage(image_id=image_id).image == image

    def test_a_preview_of_an_unsharing_tells_the_same_of_those_whose_shares_would_end(
        self, owner, as_, image_id
    ):
        owner.RegisterUse(image_id=image_id, kind="VOLUME", consumer_id="v")
        share(owner, as_("idle"), image_id)

        everybody = owner.UnshareImage(
            image_id=image_id, all_tenants=True, validate_only=True, require_unused=True
        )
        idle = owner.UnshareImage(
            image_id=image_id,
            tenant_ids=["idle", "nobody"],
            validate_only=True,
            require_unused=True,
        )

        assert [each.tenant_id for each in everybody.ended_shares] == ["idle", RECIPIENT]
        assert names_of(everybody.refusals) == ["IMAGE_IN_USE"]
        assert in_numbers(everybody.usage.usages) == {RECIPIENT: (2, 0, 0)}
        assert (everybody.usage.use_count, everybody.usage.tenant_count) == (2, 1)
        assert [each.tenant_id for each in idle.ended_shares] == ["idle"]
        assert list(idle.not_shared_tenant_ids) == ["nobody"]
        assert (len(idle.refusals), idle.usage.use_count) == (0, 0)
        assert len(owner.ListShares(image_id=image_id).shares) == 2

    @pytest.mark.parametrize(
        ("rpc", "fields"), [("DeleteImage", {}), ("UnshareImage", {"all_tenants": True})]
    )
    def test_only_the_owner_is_told_beforehand(self, recipient, as_, image_id, rpc, fields):
        about = {"image_id": image_id, "validate_only": True, "require_unused": True, **fields}

        with declined() as not_theirs:
            getattr(recipient, rpc)(**about)
        with declined() as hidden:
            getattr(as_(STRANGER), rpc)(**about)

        assert (not_theirs.reason, hidden.reason) == ("NOT_IMAGE_OWNER", "IMAGE_NOT_FOUND")

    def test_the_most_tenants_that_a_preview_names_are_100(
        self, owner, deployment: Deployment, image_id
    ):
        with deployment.database.transaction() as tx:
            for number in range(101):
                tx.uses.add(
                    a_registered_use(image_id=image_id, tenant_id=f"t-{number:03}", consumer_id="v")
                )

        told = owner.DeleteImage(image_id=image_id, validate_only=True).usage

        assert (told.use_count, told.tenant_count, len(told.usages)) == (103, 102, 100)
        assert told.usages[0].tenant_id == RECIPIENT
        assert len(owner.GetUsage(image_id=image_id, page_size=1000).usages) == 102


def names_of(refusals: Any) -> list[str]:
    return [ErrorReason.Name(each.reason) for each in refusals]


class TestPurging:
    def test_uses_go_with_the_image_in_parts_of_which_none_is_large(
        self, owner, recipient, nova, image_id, service: Service, clock: Clock, monkeypatch
    ):
        monkeypatch.setattr(images, "_REMOVE_AT_ONCE", 2)
        another = owner.active("another")
        owner.RegisterUse(**a_server(another.id, 9))
        for number in range(5):
            nova.RegisterUse(**a_server(image_id, number, tenant_id=RECIPIENT))
        owner.DeleteImage(image_id=image_id)

        assert images.purge_images(service.deployment) == 0
        assert len(ids(recipient)) == 5
        clock.advance(days=7)
        assert images.purge_images(service.deployment) == 1

        assert ids(recipient) == []
        assert ids(owner) == ["server-9"]
        assert not nova.ReleaseUse(**a_server(image_id, 1, tenant_id=RECIPIENT)).released
