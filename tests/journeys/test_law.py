"""What the law says of behaviour, line by line, through the real server (docs/law.md, docs/rules.md)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from pydantic import ValidationError

from builders import (
    A_MOMENT,
    ELSEWHERE,
    HOME,
    a_full_ecs_image,
)
from calling import Tenant, declined, request_class, upload_messages
from conftest import As, Clock, MakeService
from ims.bootstrap import Service
from ims.domain.image import KeyId
from ims.domain.tenant import TenantId
from ims.providers.keys import add_key
from ims.rules.changes import UPDATABLE_FIELDS
from ims.settings import Settings
from ims.use_cases.image_data import give_up_dead_uploads
from ims.use_cases.images import purge_images
from ims.v1 import image_pb2, share_pb2
from ims.v1.error_reason_pb2 import ErrorReason

CONTENT = b"bytes of a disk " * 64
UNKNOWN_ID = "99999999-9999-4999-8999-999999999999"

RECIPIENTS_TO_REFUSE: dict[str, dict[str, Any]] = {
    "UpdateImage": {"image": {"name": "mine"}, "update_mask": {"paths": ["name"]}},
    "DeleteImage": {},
    "UndeleteImage": {},
    "DeactivateImage": {},
    "ReactivateImage": {},
    "ShareImage": {"recipients": [{"tenant_id": "third"}]},
    "UnshareImage": {"all_tenants": True},
    "ListShares": {},
}
"""What only an owner does, with the fields of its request beside the image."""


@pytest.fixture
def owner(as_: As) -> Tenant:
    return as_("owner")


@pytest.fixture
def recipient(as_: As) -> Tenant:
    return as_("recipient")


@pytest.fixture
def image(owner: Tenant) -> image_pb2.Image:
    """An ACTIVE private image of the owner's."""
    return owner.active("debian-12", CONTENT)


@pytest.fixture
def lent(owner: Tenant, image: image_pb2.Image) -> image_pb2.Image:
    """The image, shared with the recipient, which has not decided yet."""
    share(owner, image, "recipient")
    return image


@pytest.fixture
def accepted(recipient: Tenant, lent: image_pb2.Image) -> image_pb2.Image:
    """The image, shared with the recipient and accepted."""
    recipient.AcceptShare(image_id=lent.id)
    return lent


def share(owner: Tenant, image: image_pb2.Image, *tenants: str, **fields: Any) -> Any:
    return owner.ShareImage(
        image_id=image.id, recipients=[{"tenant_id": tenant} for tenant in tenants], **fields
    )


def shares_of(owner: Tenant, image: image_pb2.Image) -> dict[str, str]:
    """Return the status of every share by its recipient, as the owner sees them."""
    listed = owner.ListShares(image_id=image.id, page_size=1000).shares
    return {each.tenant_id: status_of(each) for each in listed}


def status_of(a_share: share_pb2.Share) -> str:
    return share_pb2.Share.Status.Name(a_share.status)


def state_of(image: image_pb2.Image) -> str:
    return image_pb2.Image.State.Name(image.state)


def outcome_of(result: Any) -> str | list[str]:
    """Return the status of the share that a tenant has now, or the reasons why it has none."""
    return status_of(result.share) if result.HasField("share") else reasons_of(result.refusals)


def reasons_of(refusals: Any) -> list[str]:
    return [ErrorReason.Name(each.reason) for each in refusals]


def image_ids(tenant: Tenant, **filters: Any) -> list[str]:
    return [each.id for each in tenant.ListImages(**filters).images]


def received(tenant: Tenant, **filters: Any) -> dict[str, str]:
    """Return the status of every received share by its image."""
    found = tenant.ListReceivedShares(**filters).received_shares
    return {each.share.image_id: status_of(each.share) for each in found}


def reason_of(tenant: Tenant, rpc: str, **fields: Any) -> str:
    """Return the reason for which a call is declined; empty when it is not."""
    return tenant.answer(rpc, request_class(rpc)(**fields)).reason


def give_up_uploads(service: Service, clock: Clock) -> None:
    """Take every disk from whoever is filling it, as when nothing is heard of them any more."""
    clock.advance(seconds=service.settings.upload_lease_seconds)
    assert give_up_dead_uploads(service.deployment) == 1


def a_whole_server(as_: As, name: str, *, backup: str = "backup-1", **source: Any) -> image_pb2.Image:
    """Return an ACTIVE full-ECS image of the owner's, from a CBR backup."""
    return as_("cbr", "service").active(
        name,
        CONTENT,
        type="FULL_ECS",
        disks=[{"format": "RAW"}, {"format": "RAW"}],
        source={"cbr_backup": {"backup_id": backup, **source}},
        owner_tenant_id="owner",
    )


class TestLaw2OrderOfJudgement:
    def test_who_has_no_identity_learns_nothing_else(self, as_: As, image: image_pb2.Image):
        nobody = as_(None)

        assert reason_of(nobody, "GetImage", image_id=image.id) == "UNAUTHENTICATED"
        assert reason_of(nobody, "GetImage") == "UNAUTHENTICATED"

    def test_2_2_what_is_seen_needs_a_role_to_be_governed(
        self, recipient: Tenant, owner: Tenant, accepted: image_pb2.Image
    ):
        for tenant in (recipient, owner):
            with declined() as refused:
                tenant.PublishImage(image_id=accepted.id)

            assert (refused.code, refused.reason) == ("PERMISSION_DENIED", "ROLE_REQUIRED")
            assert refused.metadata == {"requiredRoles": "admin"}

    def test_2_3_a_disk_belongs_to_its_image(self, owner: Tenant, image: image_pb2.Image):
        with declined() as refused:
            owner.download(image.id, disk_index=1)

        assert (refused.code, refused.reason) == ("NOT_FOUND", "DISK_NOT_FOUND")
        assert refused.metadata == {"diskIndex": "1", "disks": "1"}

    def test_2_3_a_share_belongs_to_its_image_and_its_tenant(
        self, as_: As, owner: Tenant, recipient: Tenant, lent: image_pb2.Image
    ):
        another = owner.active("another")
        share(owner, another, "third")

        assert (
            reason_of(owner, "GetShare", image_id=another.id, tenant_id="recipient") == "SHARE_NOT_FOUND"
        )
        assert reason_of(as_("third"), "GetShare", image_id=lent.id) == "IMAGE_NOT_FOUND"
        assert reason_of(recipient, "AcceptShare", image_id=another.id) == "IMAGE_NOT_FOUND"


class TestLaw3SharingOwnersSide:
    def test_3_5_shares_in_every_status_count_towards_the_limit(
        self, make_service: MakeService, as_: As
    ):
        small = make_service(shares_per_image=3)
        owner = as_("owner", of=small)
        image = owner.active("debian-12")
        share(owner, image, "accepts", "rejects", "waits")
        as_("accepts", of=small).AcceptShare(image_id=image.id)
        as_("rejects", of=small).RejectShare(image_id=image.id)

        with declined() as refused:
            share(owner, image, "one-more")

        assert (refused.code, refused.reason) == ("RESOURCE_EXHAUSTED", "SHARE_LIMIT_EXCEEDED")
        assert refused.metadata == {"limit": "3", "used": "3", "asked": "1"}

    def test_3_5_of_129_tenants_the_last_is_refused(self, owner: Tenant, image: image_pb2.Image):
        tenants = [f"tenant-{number}" for number in range(129)]
        share(owner, image, *tenants[:100])
        share(owner, image, *tenants[100:128])

        with declined() as refused:
            share(owner, image, tenants[128])

        assert refused.metadata == {"limit": "128", "used": "128", "asked": "1"}
        assert len(shares_of(owner, image)) == 128

    def test_3_5_full_ecs_images_can_have_a_lower_limit(self, make_service: MakeService, as_: As):
        low = make_service(shares_per_full_ecs_image=1)
        owner = as_("owner", of=low)
        whole = a_full_ecs_image(region=HOME, owner=TenantId("owner"))
        with low.deployment.database.transaction() as tx:
            tx.images.add(whole)
        plain = owner.active("debian-12")

        with declined() as refused:
            share(owner, owner.GetImage(image_id=whole.id).image, "first", "second")

        assert refused.metadata == {"limit": "1", "used": "0", "asked": "2"}
        assert share(owner, plain, "first", "second").share_count == 2

    def test_3_7_and_3_8_a_whole_server_is_shared_only_from_a_cbr_backup_of_ones_own(
        self, as_: As, owner: Tenant
    ):
        own = a_whole_server(as_, "own")
        borrowed = a_whole_server(as_, "borrowed", backup="backup-2", received_by_sharing=True)

        assert share(owner, own, "recipient").share_count == 1
        with declined() as refused:
            share(owner, borrowed, "recipient")
        assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "BACKUP_IS_SHARED")

    def test_3_9_a_closed_directory_knows_its_tenants_and_no_others(
        self, make_service: MakeService, as_: As
    ):
        closed = make_service(tenant_directory="closed")
        as_("operator", "admin", of=closed).RegisterTenant(tenant_id="known", region=HOME)
        owner = as_("owner", of=closed)
        image = owner.active("debian-12")

        with declined() as refused:
            share(owner, image, "known", "unheard-of")
        share(owner, image, "known")

        assert (refused.code, refused.reason) == ("NOT_FOUND", "TENANT_NOT_FOUND")
        assert refused.metadata == {"tenantId": "unheard-of"}
        assert shares_of(owner, image) == {"known": "PENDING"}

    def test_3_10_a_new_share_is_pending(self, owner: Tenant, image: image_pb2.Image):
        (result,) = share(owner, image, "recipient").results

        assert status_of(result.share) == "PENDING"
        assert result.share.create_time == result.share.update_time

    def test_3_10_sharing_again_leaves_a_share_as_it_is_and_succeeds(
        self, owner: Tenant, accepted: image_pb2.Image
    ):
        before = owner.GetShare(image_id=accepted.id, tenant_id="recipient").share

        again = share(owner, accepted, "recipient", "third")

        assert [(each.tenant_id, status_of(each.share)) for each in again.results] == [
            ("recipient", "ACCEPTED"),
            ("third", "PENDING"),
        ]
        assert again.results[0].share == before

    def test_3_10_removed_and_shared_again_it_is_pending_without_memory(
        self, owner: Tenant, recipient: Tenant, accepted: image_pb2.Image
    ):
        before = owner.GetShare(image_id=accepted.id, tenant_id="recipient").share
        owner.UnshareImage(image_id=accepted.id, tenant_ids=["recipient"])

        (result,) = share(owner, accepted, "recipient").results

        assert status_of(result.share) == "PENDING"
        assert result.share.create_time.ToNanoseconds() > before.create_time.ToNanoseconds()
        assert reason_of(recipient, "DownloadImageData", image_id=accepted.id) == "SHARE_NOT_ACCEPTED"

    def test_3_11_a_batch_with_one_offender_stores_nothing_and_names_every_offender(
        self, owner: Tenant, image: image_pb2.Image
    ):
        with declined() as refused:
            owner.ShareImage(
                image_id=image.id,
                recipients=[
                    {"tenant_id": "fine"},
                    {"tenant_id": "far", "region": ELSEWHERE},
                    {"tenant_id": "farther", "region": "ap-1"},
                ],
            )

        assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "CROSS_REGION_SHARE")
        assert [(reason, subject) for reason, subject, _ in refused.violations] == [
            ("CROSS_REGION_SHARE", "far"),
            ("CROSS_REGION_SHARE", "farther"),
        ]
        assert shares_of(owner, image) == {}

    def test_3_11_where_it_is_allowed_to_be_partial_every_tenant_has_an_outcome(
        self, make_service: MakeService, as_: As
    ):
        small = make_service(shares_per_image=2)
        owner = as_("owner", of=small)
        image = owner.active("debian-12")

        answer = owner.ShareImage(
            image_id=image.id,
            recipients=[
                {"tenant_id": "first"},
                {"tenant_id": "owner"},
                {"tenant_id": "far", "region": ELSEWHERE},
                {"tenant_id": "second"},
                {"tenant_id": "third"},
            ],
            allow_partial=True,
        )

        assert [(each.tenant_id, outcome_of(each)) for each in answer.results] == [
            ("first", "PENDING"),
            ("owner", ["SHARE_WITH_OWNER"]),
            ("far", ["CROSS_REGION_SHARE"]),
            ("second", "PENDING"),
            ("third", ["SHARE_LIMIT_EXCEEDED"]),
        ]
        assert shares_of(owner, image) == {"first": "PENDING", "second": "PENDING"}
        assert (answer.share_count, answer.share_limit) == (2, 2)

    def test_3_11_what_is_wrong_with_the_image_declines_a_partial_call_too(
        self, owner: Tenant, image: image_pb2.Image
    ):
        owner.DeactivateImage(image_id=image.id)

        with declined() as refused:
            share(owner, image, "recipient", allow_partial=True)

        assert refused.reason == "IMAGE_NOT_ACTIVE"

    @pytest.mark.parametrize("whom", [{"tenant_ids": ["recipient"]}, {"all_tenants": True}], ids=str)
    @pytest.mark.parametrize("decision", ["", "AcceptShare", "RejectShare"])
    def test_3_12_the_owner_stops_sharing_whatever_the_recipient_has_decided(
        self,
        decision: str,
        whom: dict[str, Any],
        owner: Tenant,
        recipient: Tenant,
        lent: image_pb2.Image,
    ):
        if decision:
            recipient.call(decision, request_class(decision)(image_id=lent.id))

        ended = owner.UnshareImage(image_id=lent.id, **whom)

        assert [each.tenant_id for each in ended.ended_shares] == ["recipient"]
        assert received(recipient) == {}

    def test_3_12_some_recipients_go_and_the_others_stay(self, owner: Tenant, image: image_pb2.Image):
        share(owner, image, "first", "second", "third")

        ended = owner.UnshareImage(image_id=image.id, tenant_ids=["first", "third", "stranger"])

        assert [each.tenant_id for each in ended.ended_shares] == ["first", "third"]
        assert list(ended.not_shared_tenant_ids) == ["stranger"]
        assert list(shares_of(owner, image)) == ["second"]

    def test_3_12_of_a_deleted_image_too_so_that_undeletion_brings_no_share_back(
        self, owner: Tenant, recipient: Tenant, accepted: image_pb2.Image
    ):
        owner.DeleteImage(image_id=accepted.id)

        owner.UnshareImage(image_id=accepted.id, tenant_ids=["recipient"])

        assert owner.UndeleteImage(image_id=accepted.id).restored_share_count == 0
        assert reason_of(recipient, "GetImage", image_id=accepted.id) == "IMAGE_NOT_FOUND"

    @pytest.mark.parametrize("end", ["UnshareImage", "DeleteImage"])
    def test_3_12_and_3_13_when_the_call_returns_nothing_serves_a_former_recipient(
        self, end: str, owner: Tenant, recipient: Tenant, as_: As, accepted: image_pb2.Image
    ):
        resolved = recipient.ResolveImage(image_id=accepted.id, purpose="CREATE_ECS")
        fields = {"all_tenants": True} if end == "UnshareImage" else {}

        owner.call(end, request_class(end)(image_id=accepted.id, **fields))

        for rpc, more in {
            "GetImage": {},
            "DownloadImageData": {},
            "ResolveImage": {"purpose": "CREATE_ECS"},
            "GetShare": {},
            "AcceptShare": {},
            "RejectShare": {},
            "LeaveShare": {},
        }.items():
            never_existed = recipient.answer(rpc, request_class(rpc)(image_id=UNKNOWN_ID, **more))
            gone = recipient.answer(rpc, request_class(rpc)(image_id=accepted.id, **more))
            assert gone.status_bytes == never_existed.status_bytes, rpc
            assert gone.reason == "IMAGE_NOT_FOUND"
        service = as_("compute", "service")
        assert (
            reason_of(service, "DownloadImageData", image_id=accepted.id, tenant_id="recipient")
            == "IMAGE_NOT_FOUND"
        )
        assert recipient.answer("DownloadImageData", resolved.disks[0].read_with).code == "NOT_FOUND"
        assert image_ids(recipient) == []
        assert received(recipient) == {}

    @pytest.mark.parametrize("listing", ["ListImages", "ListReceivedShares"])
    def test_3_12_a_page_token_from_before_shows_nothing_of_it(
        self, listing: str, owner: Tenant, recipient: Tenant
    ):
        images = [owner.active(f"image-{number}") for number in range(3)]
        for image in images:
            share(owner, image, "recipient")
            recipient.AcceptShare(image_id=image.id)
        list_pages = getattr(recipient, listing)
        token = list_pages(page_size=1).next_page_token

        owner.UnshareImage(image_id=images[1].id, all_tenants=True)

        page = list_pages(page_size=10, page_token=token)
        found = page.images if listing == "ListImages" else [each.image for each in page.received_shares]
        assert [each.id for each in found] == [images[0].id]

    def test_3_12_another_replica_serves_it_nothing_either(
        self,
        service: Service,
        make_service: MakeService,
        as_: As,
        owner: Tenant,
        accepted: image_pb2.Image,
    ):
        replica = make_service(database_url=service.settings.catalogue_url)
        recipient = as_("recipient", of=replica)
        assert recipient.GetImage(image_id=accepted.id).image.name == "debian-12"

        owner.UnshareImage(image_id=accepted.id, all_tenants=True)

        assert reason_of(recipient, "GetImage", image_id=accepted.id) == "IMAGE_NOT_FOUND"
        assert image_ids(recipient) == []

    def test_3_13_deleting_a_shared_image_asks_nobody_and_ends_every_share(
        self, owner: Tenant, recipient: Tenant, accepted: image_pb2.Image
    ):
        share(owner, accepted, "waits")

        deleted = owner.DeleteImage(image_id=accepted.id)

        assert deleted.ended_share_count == 2
        assert state_of(deleted.image) == "DELETED"
        assert received(recipient) == {}

    def test_3_14_only_the_owner_sees_all_shares_and_how_many(
        self, as_: As, owner: Tenant, recipient: Tenant, accepted: image_pb2.Image
    ):
        share(owner, accepted, "third")

        listed = owner.ListShares(image_id=accepted.id, include_total_size=True)
        assert (len(listed.shares), listed.total_size) == (2, 2)
        for tenant in (recipient, as_("third")):
            with declined() as refused:
                tenant.ListShares(image_id=accepted.id)
            assert (refused.code, refused.reason) == ("PERMISSION_DENIED", "NOT_IMAGE_OWNER")

    @pytest.mark.parametrize("rpc", ["AcceptShare", "RejectShare", "LeaveShare"])
    def test_3_14_the_owner_reads_a_status_and_never_sets_it(
        self, rpc: str, owner: Tenant, lent: image_pb2.Image
    ):
        read = owner.GetShare(image_id=lent.id, tenant_id="recipient").share

        refused = owner.answer(rpc, request_class(rpc)(image_id=lent.id))

        assert (refused.code, refused.reason) == ("PERMISSION_DENIED", "ONLY_RECIPIENT_DECIDES")
        assert status_of(read) == "PENDING"
        assert shares_of(owner, lent) == {"recipient": "PENDING"}

    def test_3_15_a_preview_tells_everything_and_stores_nothing(
        self, make_service: MakeService, as_: As
    ):
        small = make_service(shares_per_image=1)
        owner = as_("owner", of=small)
        image = owner.active("debian-12")
        owner.DeactivateImage(image_id=image.id)

        told = owner.ShareImage(
            image_id=image.id,
            recipients=[
                {"tenant_id": "first"},
                {"tenant_id": "owner", "region": ELSEWHERE},
                {"tenant_id": "second"},
            ],
            validate_only=True,
        )

        assert reasons_of(told.image_refusals) == ["IMAGE_NOT_ACTIVE"]
        assert [reasons_of(each.refusals) for each in told.results] == [
            [],
            ["SHARE_WITH_OWNER", "CROSS_REGION_SHARE", "SHARE_LIMIT_EXCEEDED"],
            ["SHARE_LIMIT_EXCEEDED"],
        ]
        assert not any(each.HasField("share") for each in told.results)
        assert (told.share_count, shares_of(owner, image)) == (0, {})

    def test_3_15_a_validated_creation_or_deletion_changes_nothing(
        self, owner: Tenant, image: image_pb2.Image
    ):
        checked = owner.create("another", validate_only=True)
        owner.DeleteImage(image_id=image.id, validate_only=True)

        assert checked.id == ""
        assert image_ids(owner) == [image.id]
        assert owner.create("another").id
        with declined() as refused:
            owner.create("another", validate_only=True)
        assert refused.reason == "IMAGE_NAME_TAKEN"


class TestLaw4SharingRecipientsSide:
    def test_4_1_shares_are_listed_by_status_and_only_accepted_images_by_default(
        self, owner: Tenant, recipient: Tenant
    ):
        waiting, taken, refused = (owner.active(name) for name in ("waiting", "taken", "refused"))
        for image in (waiting, taken, refused):
            share(owner, image, "recipient")
        recipient.AcceptShare(image_id=taken.id)
        recipient.RejectShare(image_id=refused.id)

        assert received(recipient) == {
            waiting.id: "PENDING",
            taken.id: "ACCEPTED",
            refused.id: "REJECTED",
        }
        for status, image in (("PENDING", waiting), ("ACCEPTED", taken), ("REJECTED", refused)):
            assert received(recipient, status=status) == {image.id: status}
        assert image_ids(recipient) == image_ids(recipient, relation="SHARED_WITH_ME") == [taken.id]

    @pytest.mark.parametrize(
        ("before", "move", "after"),
        [
            ([], "AcceptShare", "ACCEPTED"),
            ([], "RejectShare", "REJECTED"),
            (["AcceptShare"], "RejectShare", "REJECTED"),
            (["RejectShare"], "AcceptShare", "ACCEPTED"),
            (["AcceptShare"], "AcceptShare", "ACCEPTED"),
            (["RejectShare"], "RejectShare", "REJECTED"),
        ],
    )
    def test_4_2_a_recipient_moves_its_share(
        self,
        before: list[str],
        move: str,
        after: str,
        owner: Tenant,
        recipient: Tenant,
        lent: image_pb2.Image,
    ):
        for earlier in before:
            recipient.call(earlier, request_class(earlier)(image_id=lent.id))

        answer = recipient.call(move, request_class(move)(image_id=lent.id))

        assert status_of(answer.share) == after
        assert shares_of(owner, lent) == {"recipient": after}

    def test_4_2_nobody_else_moves_it_and_nobody_once_it_has_ended(
        self, as_: As, owner: Tenant, recipient: Tenant, lent: image_pb2.Image
    ):
        share(owner, lent, "third")
        as_("third").AcceptShare(image_id=lent.id)

        assert shares_of(owner, lent) == {"recipient": "PENDING", "third": "ACCEPTED"}
        assert reason_of(as_("stranger"), "AcceptShare", image_id=lent.id) == "IMAGE_NOT_FOUND"
        owner.UnshareImage(image_id=lent.id, tenant_ids=["recipient"])
        assert reason_of(recipient, "AcceptShare", image_id=lent.id) == "IMAGE_NOT_FOUND"

    def test_3_4_a_recipient_at_home_elsewhere_does_not_accept(
        self, as_: As, owner: Tenant, lent: image_pb2.Image
    ):
        moved = as_("recipient", region=ELSEWHERE)

        with declined() as refused:
            moved.AcceptShare(image_id=lent.id)

        assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "CROSS_REGION_SHARE")
        assert shares_of(owner, lent) == {"recipient": "PENDING"}

    @pytest.mark.parametrize("rejected", [False, True])
    def test_4_3_without_acceptance_there_is_metadata_by_id_and_nothing_else(
        self, rejected: bool, recipient: Tenant, lent: image_pb2.Image
    ):
        if rejected:
            recipient.RejectShare(image_id=lent.id)

        seen = recipient.GetImage(image_id=lent.id).image

        assert (seen.name, seen.disks[0].size_bytes) == ("debian-12", len(CONTENT))
        for rpc, more in (("DownloadImageData", {}), ("ResolveImage", {"purpose": "CREATE_ECS"})):
            refused = recipient.answer(rpc, request_class(rpc)(image_id=lent.id, **more))
            assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "SHARE_NOT_ACCEPTED")
            assert refused.metadata == {"shareStatus": "REJECTED" if rejected else "PENDING"}

    def test_4_4_an_accepted_image_is_used_like_ones_own(
        self, owner: Tenant, recipient: Tenant, accepted: image_pb2.Image
    ):
        data = owner.active("data", CONTENT, type="DATA_DISK")
        share(owner, data, "recipient")
        recipient.AcceptShare(image_id=data.id)

        assert recipient.download(accepted.id) == CONTENT
        for image, purpose in (
            (accepted, "CREATE_ECS"),
            (accepted, "CHANGE_OS"),
            (data, "CREATE_VOLUME"),
        ):
            resolved = recipient.ResolveImage(image_id=image.id, purpose=purpose)
            assert resolved.relation == image_pb2.Relation.SHARED_WITH_ME

    @pytest.mark.parametrize("rpc", RECIPIENTS_TO_REFUSE)
    def test_4_5_and_2_2_a_recipient_changes_nothing_of_the_image(
        self, rpc: str, owner: Tenant, recipient: Tenant, accepted: image_pb2.Image
    ):
        before = owner.GetImage(image_id=accepted.id).image

        refused = recipient.answer(
            rpc, request_class(rpc)(image_id=accepted.id, **RECIPIENTS_TO_REFUSE[rpc])
        )

        assert (refused.code, refused.reason) == ("PERMISSION_DENIED", "NOT_IMAGE_OWNER")
        assert owner.GetImage(image_id=accepted.id).image == before

    def test_4_5_leaving_removes_the_share_and_the_owner_is_not_disturbed(
        self, owner: Tenant, recipient: Tenant, accepted: image_pb2.Image
    ):
        etag = owner.GetImage(image_id=accepted.id).image.etag

        recipient.LeaveShare(image_id=accepted.id)

        assert reason_of(recipient, "GetImage", image_id=accepted.id) == "IMAGE_NOT_FOUND"
        assert shares_of(owner, accepted) == {}
        assert owner.GetImage(image_id=accepted.id).image.etag == etag

    def test_4_5_rejecting_keeps_the_share_to_be_accepted_later(
        self, recipient: Tenant, accepted: image_pb2.Image
    ):
        recipient.RejectShare(image_id=accepted.id)
        recipient.AcceptShare(image_id=accepted.id)

        assert recipient.download(accepted.id) == CONTENT

    def test_4_6_a_recipient_cannot_tell_whether_there_are_others(
        self, as_: As, owner: Tenant, recipient: Tenant, accepted: image_pb2.Image
    ):
        def everything() -> list[bytes]:
            answers = (
                recipient.GetImage(image_id=accepted.id),
                recipient.ListImages(include_total_size=True),
                recipient.ListReceivedShares(include_total_size=True),
                recipient.GetShare(image_id=accepted.id),
            )
            return [answer.SerializeToString(deterministic=True) for answer in answers]

        alone = everything()
        share(owner, accepted, "third", "fourth")
        as_("third").AcceptShare(image_id=accepted.id)

        assert everything() == alone
        hidden = recipient.answer(
            "GetShare", request_class("GetShare")(image_id=accepted.id, tenant_id="third")
        )
        missing = recipient.answer(
            "GetShare", request_class("GetShare")(image_id=accepted.id, tenant_id="nobody")
        )
        assert hidden.reason == "SHARE_NOT_FOUND"
        assert hidden.status_bytes == missing.status_bytes

    def test_4_7_accepting_a_whole_server_names_a_vault_that_holds_it(
        self, make_service: MakeService, as_: As
    ):
        vaults = [
            {"id": "large", "capacity_gib": 4},
            {"id": "small", "capacity_gib": 3},
            {"id": "for-disks", "capacity_gib": 4, "type": "DISK_BACKUP"},
        ]
        service = make_service(
            vaults={"recipient": vaults, "other": [{"id": "others", "capacity_gib": 9}]}
        )
        whole = a_full_ecs_image(region=HOME, owner=TenantId("owner"))  # its disks have 4 GiB together
        with service.deployment.database.transaction() as tx:
            tx.images.add(whole)
        as_("owner", of=service).ShareImage(image_id=whole.id, recipients=[{"tenant_id": "recipient"}])
        recipient = as_("recipient", of=service)

        for vault, reason in {
            "": "VAULT_REQUIRED",
            "no-such": "VAULT_REQUIRED",
            "others": "VAULT_REQUIRED",
            "for-disks": "VAULT_REQUIRED",
            "small": "VAULT_TOO_SMALL",
        }.items():
            assert reason_of(recipient, "AcceptShare", image_id=whole.id, vault_id=vault) == reason
        taken = recipient.AcceptShare(image_id=whole.id, vault_id="large").share

        assert (status_of(taken), taken.vault_id) == ("ACCEPTED", "large")
        seen = as_("owner", of=service).GetShare(image_id=whole.id, tenant_id="recipient").share
        assert seen.vault_id == ""

    def test_4_7_without_a_backup_provider_none_is_named(
        self, as_: As, owner: Tenant, recipient: Tenant
    ):
        whole = a_whole_server(as_, "whole")
        share(owner, whole, "recipient")

        assert status_of(recipient.AcceptShare(image_id=whole.id).share) == "ACCEPTED"

    def test_4_8_revoked_and_then_accepted_ends_with_no_share(
        self, owner: Tenant, recipient: Tenant, lent: image_pb2.Image
    ):
        owner.UnshareImage(image_id=lent.id, all_tenants=True)

        assert reason_of(recipient, "AcceptShare", image_id=lent.id) == "IMAGE_NOT_FOUND"
        assert shares_of(owner, lent) == {}

    def test_4_8_accepted_and_then_revoked_ends_with_no_share(
        self, owner: Tenant, recipient: Tenant, lent: image_pb2.Image
    ):
        recipient.AcceptShare(image_id=lent.id)
        owner.UnshareImage(image_id=lent.id, all_tenants=True)

        assert shares_of(owner, lent) == {}

    def test_4_8_revoked_and_accepted_at_once_ends_with_no_share(
        self, owner: Tenant, recipient: Tenant, image: image_pb2.Image
    ):
        barrier = Barrier(2)

        def at_once(tenant: Tenant, rpc: str, **fields: Any) -> str:
            barrier.wait()
            return reason_of(tenant, rpc, image_id=image.id, **fields)

        with ThreadPoolExecutor(2) as pool:
            for _ in range(20):
                share(owner, image, "recipient")
                accepting = pool.submit(at_once, recipient, "AcceptShare")
                revoking = pool.submit(at_once, owner, "UnshareImage", tenant_ids=["recipient"])

                assert revoking.result() == ""
                assert accepting.result() in {"", "IMAGE_NOT_FOUND"}
                assert shares_of(owner, image) == {}


class TestLaw5Images:
    def test_5_1_a_name_is_unique_among_a_tenants_live_images(
        self, as_: As, owner: Tenant, image: image_pb2.Image
    ):
        with declined() as refused:
            owner.create("debian-12")

        assert (refused.code, refused.reason) == ("ALREADY_EXISTS", "IMAGE_NAME_TAKEN")
        assert refused.metadata == {"name": "debian-12"}
        assert as_("another").create("debian-12").id
        another = owner.create("debian-13")
        rename = {"image": {"name": "debian-12"}, "update_mask": {"paths": ["name"]}}
        assert reason_of(owner, "UpdateImage", image_id=another.id, **rename) == "IMAGE_NAME_TAKEN"

    def test_5_1_deletion_frees_a_name_and_undeletion_needs_it_free(
        self, owner: Tenant, image: image_pb2.Image
    ):
        owner.DeleteImage(image_id=image.id)
        namesake = owner.create("debian-12")

        assert reason_of(owner, "UndeleteImage", image_id=image.id) == "IMAGE_NAME_TAKEN"
        owner.DeleteImage(image_id=namesake.id)
        assert state_of(owner.UndeleteImage(image_id=image.id).image) == "ACTIVE"

    def test_5_4_an_upload_that_failed_leaves_nothing_to_read_and_can_be_tried_again(
        self, owner: Tenant, service: Service, files_of: Any
    ):
        image = owner.create("debian-12")

        for wrong, reason in (
            ({"size_bytes": len(CONTENT) + 1}, "SIZE_MISMATCH"),
            ({"sha256": "0" * 64}, "DIGEST_MISMATCH"),
        ):
            with declined() as refused:
                owner.upload(image.id, CONTENT, **wrong)
            assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", reason)
            assert state_of(owner.GetImage(image_id=image.id).image) == "QUEUED"
            assert reason_of(owner, "DownloadImageData", image_id=image.id) == "IMAGE_NOT_ACTIVE"
            assert files_of(service) == []

        assert state_of(owner.upload(image.id, CONTENT).image) == "ACTIVE"
        assert owner.download(image.id) == CONTENT

    def test_5_4_an_upload_that_was_given_up_meanwhile_changes_nothing(
        self, owner: Tenant, service: Service, files_of: Any, clock: Clock
    ):
        image = owner.create("debian-12")

        def messages() -> Iterator[Any]:
            start, chunk = upload_messages({"image_id": image.id, "size_bytes": len(CONTENT)}, CONTENT)
            yield start
            while state_of(owner.GetImage(image_id=image.id).image) != "SAVING":
                pass  # it has not been reserved yet
            give_up_uploads(service, clock)
            yield chunk

        refused = owner.answer("UploadImageData", messages())

        assert (refused.code, refused.reason) == ("ABORTED", "UPLOAD_SUPERSEDED")
        assert refused.metadata == {"diskIndex": "0"}
        assert state_of(owner.GetImage(image_id=image.id).image) == "QUEUED"
        assert files_of(service) == []

    def test_5_4_the_bytes_of_an_active_image_never_change(self, owner: Tenant, image: image_pb2.Image):
        with declined() as refused:
            owner.upload(image.id, b"other bytes")

        assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "IMAGE_DATA_FINAL")
        assert owner.download(image.id) == CONTENT

    def test_5_5_the_limit_of_a_file_is_a_setting_of_up_to_1_tib(self):
        assert Settings().max_image_file_bytes == 128 * 1024**3
        assert Settings(max_image_file_bytes=1024**4).max_image_file_bytes == 1024**4
        with pytest.raises(ValidationError, match="max_image_file_bytes"):
            Settings(max_image_file_bytes=1024**4 + 1)

    def test_5_6_an_update_changes_what_its_mask_names_and_nothing_else(
        self, owner: Tenant, image: image_pb2.Image
    ):
        before = owner.GetImage(image_id=image.id).image

        after = owner.UpdateImage(
            image_id=image.id,
            image={"description": "For web servers.", "name": "not named in the mask"},
            update_mask={"paths": ["description"]},
            etag=before.etag,
        ).image

        assert after.description == "For web servers."
        assert after.etag != before.etag
        for changed in ("description", "etag", "update_time"):
            after.ClearField(changed)
            before.ClearField(changed)
        assert after == before

    @pytest.mark.parametrize(
        "field",
        [each.name for each in image_pb2.Image.DESCRIPTOR.fields if each.name not in UPDATABLE_FIELDS],
    )
    def test_5_6_what_an_image_is_can_never_be_written(
        self, field: str, owner: Tenant, image: image_pb2.Image
    ):
        refused = owner.answer(
            "UpdateImage",
            request_class("UpdateImage")(
                image_id=image.id, image={"name": "x"}, update_mask={"paths": [field]}
            ),
        )

        assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "FIELD_NOT_UPDATABLE")
        assert refused.metadata == {"field": field}

    def test_5_6_a_stale_etag_is_refused_and_the_present_one_named(
        self, owner: Tenant, image: image_pb2.Image
    ):
        stale = owner.GetImage(image_id=image.id).image.etag
        change = {"image": {"description": "new"}, "update_mask": {"paths": ["description"]}}
        present = owner.UpdateImage(image_id=image.id, **change).image.etag

        for rpc, more in (("UpdateImage", change), ("DeleteImage", {})):
            refused = owner.answer(rpc, request_class(rpc)(image_id=image.id, etag=stale, **more))
            assert (refused.code, refused.reason) == ("ABORTED", "ETAG_MISMATCH")
            assert refused.metadata == {"etag": present}

    def test_5_6_only_a_queued_or_active_image_is_updated(self, owner: Tenant, image: image_pb2.Image):
        change = {"image": {"description": "new"}, "update_mask": {"paths": ["description"]}}
        queued = owner.create("queued")

        assert owner.UpdateImage(image_id=queued.id, **change).image.description == "new"
        owner.DeactivateImage(image_id=image.id)
        assert reason_of(owner, "UpdateImage", image_id=image.id, **change) == "IMAGE_NOT_ACTIVE"

    def test_5_7_undeletion_restores_the_image_and_its_shares(
        self, as_: As, owner: Tenant, recipient: Tenant, accepted: image_pb2.Image
    ):
        share(owner, accepted, "waits", "rejects")
        as_("rejects").RejectShare(image_id=accepted.id)
        owner.DeleteImage(image_id=accepted.id)

        restored = owner.UndeleteImage(image_id=accepted.id)

        assert state_of(restored.image) == "ACTIVE"
        assert restored.restored_share_count == 3
        assert not restored.image.HasField("purge_time")
        assert shares_of(owner, accepted) == {
            "recipient": "ACCEPTED",
            "rejects": "REJECTED",
            "waits": "PENDING",
        }
        assert recipient.download(accepted.id) == CONTENT

    def test_5_7_an_image_returns_to_the_state_it_was_deleted_in(
        self, owner: Tenant, image: image_pb2.Image
    ):
        owner.DeactivateImage(image_id=image.id)
        owner.DeleteImage(image_id=image.id)

        assert state_of(owner.UndeleteImage(image_id=image.id).image) == "DEACTIVATED"

    def test_5_7_a_protected_image_is_deleted_once_the_protection_is_off(
        self, owner: Tenant, image: image_pb2.Image
    ):
        for protected, reason in ((True, "IMAGE_PROTECTED"), (False, "")):
            owner.UpdateImage(
                image_id=image.id, image={"protected": protected}, update_mask={"paths": ["protected"]}
            )
            assert reason_of(owner, "DeleteImage", image_id=image.id) == reason

    def test_5_7_after_the_grace_period_it_is_gone_for_its_owner_too(
        self, clock: Clock, owner: Tenant, service: Service, files_of: Any, accepted: image_pb2.Image
    ):
        deleted = owner.DeleteImage(image_id=accepted.id).image
        grace = deleted.purge_time.ToDatetime() - deleted.delete_time.ToDatetime()
        clock.advance(seconds=grace.total_seconds() - 1)
        assert state_of(owner.GetImage(image_id=accepted.id).image) == "DELETED"

        clock.advance(seconds=1)

        gone = owner.answer("GetImage", request_class("GetImage")(image_id=accepted.id))
        never_existed = owner.answer("GetImage", request_class("GetImage")(image_id=UNKNOWN_ID))
        assert gone.status_bytes == never_existed.status_bytes
        assert reason_of(owner, "UndeleteImage", image_id=accepted.id) == "IMAGE_NOT_FOUND"
        assert len(files_of(service)) == 1
        assert purge_images(service.deployment) == 1
        assert files_of(service) == []
        with service.deployment.database.reading() as reading:
            assert reading.images.view(accepted.id, TenantId("owner"), now=A_MOMENT) is None
            assert reading.shares.count(accepted.id, now=A_MOMENT) == 0
        assert purge_images(service.deployment) == 0

    def test_5_7_after_the_grace_period_it_is_not_listed_to_its_owner(
        self, clock: Clock, owner: Tenant, image: image_pb2.Image
    ):
        owner.DeleteImage(image_id=image.id)
        assert image_ids(owner, state="DELETED") == [image.id]

        clock.advance(days=8)

        assert image_ids(owner, state="DELETED") == []

    def test_5_8_a_deactivated_image_refuses_its_bytes_to_everyone_and_keeps_the_rest(
        self, owner: Tenant, recipient: Tenant, accepted: image_pb2.Image
    ):
        owner.DeactivateImage(image_id=accepted.id)

        for tenant in (owner, recipient):
            assert state_of(tenant.GetImage(image_id=accepted.id).image) == "DEACTIVATED"
            for rpc, more in (("DownloadImageData", {}), ("ResolveImage", {"purpose": "CREATE_ECS"})):
                refused = tenant.answer(rpc, request_class(rpc)(image_id=accepted.id, **more))
                assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "IMAGE_NOT_ACTIVE")
        assert shares_of(owner, accepted) == {"recipient": "ACCEPTED"}
        owner.ReactivateImage(image_id=accepted.id)
        assert recipient.download(accepted.id) == CONTENT

    def test_5_9_an_id_is_never_given_twice(
        self, clock: Clock, owner: Tenant, service: Service, image: image_pb2.Image
    ):
        owner.DeleteImage(image_id=image.id)
        clock.advance(days=8)
        purge_images(service.deployment)

        ids = {owner.create(f"image-{number}").id for number in range(20)}

        assert len(ids) == 20
        assert image.id not in ids
        assert reason_of(owner, "GetImage", image_id=image.id) == "IMAGE_NOT_FOUND"

    @pytest.mark.parametrize(
        "source",
        [
            {"ecs": {"server_id": "server"}},
            {"bms": {"server_id": "server"}},
            {"volume": {"volume_id": "volume"}},
            {"cbr_backup": {"backup_id": "backup"}},
            {"csbs_backup": {"backup_id": "backup"}},
        ],
        ids=lambda source: next(iter(source)),
    )
    def test_5_10_a_tenant_declares_no_origin(self, source: dict[str, Any], owner: Tenant):
        with declined() as refused:
            owner.create("whence", source=source)

        assert (refused.code, refused.reason) == ("PERMISSION_DENIED", "ROLE_REQUIRED")
        assert refused.metadata == {"requiredRoles": "service"}

    def test_5_10_a_service_declares_it_for_the_owner_and_uploads_the_disks(
        self, as_: As, owner: Tenant
    ):
        compute = as_("compute", "service")
        image = compute.create(
            "snapshot", source={"ecs": {"server_id": "server-1"}}, owner_tenant_id="owner"
        )

        with declined() as refused:
            owner.upload(image.id, CONTENT)
        compute.upload(image.id, CONTENT)

        assert (refused.code, refused.reason) == ("PERMISSION_DENIED", "ROLE_REQUIRED")
        seen = owner.GetImage(image_id=image.id).image
        assert (seen.owner_tenant_id, seen.source.ecs.server_id) == ("owner", "server-1")
        assert owner.download(image.id) == CONTENT

    def test_5_10_one_backup_makes_one_image(self, as_: As, owner: Tenant):
        first = a_whole_server(as_, "first", backup="backup-1")

        with declined() as refused:
            a_whole_server(as_, "second", backup="backup-1")

        assert (refused.code, refused.reason) == ("ALREADY_EXISTS", "BACKUP_ALREADY_USED")
        assert refused.metadata == {"backupId": "backup-1"}
        owner.DeleteImage(image_id=first.id)
        assert a_whole_server(as_, "second", backup="backup-1").id
        assert reason_of(owner, "UndeleteImage", image_id=first.id) == "BACKUP_ALREADY_USED"


class TestLaw6Encryption:
    def test_6_3_an_unusable_key_takes_away_the_bytes_and_not_the_metadata(
        self, owner: Tenant, service: Service
    ):
        image = owner.active("secret", CONTENT, encryption_key_id="key-1")
        assert owner.download(image.id) == CONTENT

        service.settings.keys.unlink()

        for rpc, more in (("DownloadImageData", {}), ("ResolveImage", {"purpose": "CREATE_ECS"})):
            refused = owner.answer(rpc, request_class(rpc)(image_id=image.id, **more))
            assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "KEY_UNAVAILABLE")
            assert refused.metadata == {"keyId": "key-1"}
        assert owner.GetImage(image_id=image.id).image.encryption_key_id == "key-1"

    def test_6_3_a_key_is_never_changed_or_added_in_place(
        self, owner: Tenant, service: Service, lent: image_pb2.Image
    ):
        add_key(service.settings.keys, KeyId("key-2"))
        encrypted = owner.active("secret", CONTENT, encryption_key_id="key-1")
        change = {
            "image": {"encryption_key_id": "key-2"},
            "update_mask": {"paths": ["encryption_key_id"]},
        }

        for image in (encrypted, lent):
            assert reason_of(owner, "UpdateImage", image_id=image.id, **change) == "FIELD_NOT_UPDATABLE"


class TestLaw7UsingAnImage:
    def test_7_1_the_answer_is_pinned(self, as_: As, owner: Tenant, accepted: image_pb2.Image):
        compute = as_("compute", "service")

        resolved = compute.ResolveImage(
            image_id=accepted.id, purpose="CREATE_ECS", tenant_id="recipient", disk_gib=1
        )

        image = owner.GetImage(image_id=accepted.id).image
        assert (resolved.image_id, resolved.etag) == (image.id, image.etag)
        assert [each.disk for each in resolved.disks] == list(image.disks)
        read = compute.call("DownloadImageData", resolved.disks[0].read_with)
        assert b"".join(message.chunk for message in read) == CONTENT

    def test_7_1_an_os_change_from_a_whole_server_reads_its_system_disk_only(
        self, as_: As, owner: Tenant
    ):
        whole = a_whole_server(as_, "whole")

        for purpose, disks in (("CREATE_ECS", [0, 1]), ("CHANGE_OS", [0])):
            resolved = owner.ResolveImage(image_id=whole.id, purpose=purpose)
            assert [each.disk.index for each in resolved.disks] == disks

    def test_7_1_a_refusal_names_every_rule(self, owner: Tenant):
        image = owner.active("large", firmware="UEFI", min_disk_gib=40, min_ram_mib=2048)

        with declined() as refused:
            owner.ResolveImage(
                image_id=image.id, purpose="CHANGE_OS", disk_gib=20, ram_mib=1024, firmware="BIOS"
            )

        assert refused.code == "FAILED_PRECONDITION"
        assert refused.reasons == ["FIRMWARE_DIFFERS", "DISK_TOO_SMALL", "MEMORY_OUT_OF_RANGE"]

    def test_7_1_only_a_service_asks_for_another_tenant_and_learns_what_that_one_would(
        self, as_: As, owner: Tenant, accepted: image_pb2.Image
    ):
        asked = {"image_id": accepted.id, "purpose": "CREATE_ECS"}

        assert reason_of(owner, "ResolveImage", tenant_id="recipient", **asked) == "ROLE_REQUIRED"
        compute = as_("compute", "service")
        assert reason_of(compute, "ResolveImage", tenant_id="recipient", **asked) == ""
        assert reason_of(compute, "ResolveImage", tenant_id="stranger", **asked) == "IMAGE_NOT_FOUND"

    @pytest.mark.parametrize("purpose", ["CHANGE_OS", "CREATE_ECS"])
    def test_7_2_an_image_is_used_in_its_region_only(
        self, purpose: str, recipient: Tenant, accepted: image_pb2.Image
    ):
        with declined() as refused:
            recipient.ResolveImage(image_id=accepted.id, purpose=purpose, region=ELSEWHERE)

        assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "IMAGE_NOT_IN_REGION")
        assert refused.metadata == {"imageRegion": HOME, "region": ELSEWHERE}

    def test_7_2_a_tenant_changes_an_os_with_its_own_images_and_those_it_accepted(
        self, owner: Tenant, recipient: Tenant, lent: image_pb2.Image
    ):
        asked = {"image_id": lent.id, "purpose": "CHANGE_OS"}

        assert reason_of(owner, "ResolveImage", **asked) == ""
        assert reason_of(recipient, "ResolveImage", **asked) == "SHARE_NOT_ACCEPTED"
        recipient.AcceptShare(image_id=lent.id)
        assert reason_of(recipient, "ResolveImage", **asked) == ""

    @pytest.mark.parametrize("end", ["UnshareImage", "DeleteImage"])
    def test_7_3_after_revocation_and_deletion_the_image_is_gone_for_reinstalling(
        self, end: str, owner: Tenant, recipient: Tenant, accepted: image_pb2.Image
    ):
        resolved = recipient.ResolveImage(image_id=accepted.id, purpose="CREATE_ECS")
        built_from = recipient.call("DownloadImageData", resolved.disks[0].read_with)
        fields = {"all_tenants": True} if end == "UnshareImage" else {}

        owner.call(end, request_class(end)(image_id=accepted.id, **fields))

        assert b"".join(message.chunk for message in built_from) == CONTENT  # what was read is kept
        assert (
            reason_of(recipient, "ResolveImage", image_id=accepted.id, purpose="CHANGE_OS")
            == "IMAGE_NOT_FOUND"
        )
