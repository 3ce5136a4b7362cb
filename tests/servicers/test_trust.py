"""Trust rules on a real server (law 4.9 to 4.11): who is let in, who not seen, how many wait."""

from typing import Any

import pytest

from builders import ELSEWHERE, HOME, OWNER, RECIPIENT, STRANGER, a_full_ecs_image
from calling import Tenant, answer_of, declined, request_class
from conftest import As, MakeService
from ims.repository.tables import images
from ims.v1.share_pb2 import Share

PENDING, ACCEPTED, REJECTED = Share.PENDING, Share.ACCEPTED, Share.REJECTED
NEVER = "99999999-9999-4999-8999-999999999999"


@pytest.fixture
def owner(as_: As) -> Tenant:
    return as_(OWNER)


@pytest.fixture
def recipient(as_: As) -> Tenant:
    return as_(RECIPIENT)


@pytest.fixture
def image_id(owner: Tenant) -> str:
    return owner.active("debian").id


def trust(tenant: Tenant, **rules: Any) -> Any:
    return tenant.SetTrustRules(rules=rules, update_mask={"paths": list(rules)}).rules


def share(owner: Tenant, image_id: str, *tenants: str, **more: Any) -> Any:
    recipients = [{"tenant_id": tenant} for tenant in tenants or (RECIPIENT,)]
    return owner.ShareImage(image_id=image_id, recipients=recipients, **more)


def received(tenant: Tenant) -> dict[str, int]:
    answer = tenant.ListReceivedShares(include_total_size=True)
    assert answer.total_size == len(answer.received_shares)
    return {each.image.id: each.share.status for each in answer.received_shares}


class TestRules:
    def test_who_never_made_any_has_none(self, recipient):
        rules = recipient.GetTrustRules().rules

        assert not rules.auto_accept_from
        assert not rules.blocked
        assert not rules.HasField("max_pending_shares")
        assert rules.etag == '"0"'

    def test_what_the_mask_names_is_set_and_the_rest_stays(self, recipient, as_):
        trust(recipient, auto_accept_from=["b", "a", "b"], blocked=["c"], max_pending_shares=0)
        rules = trust(recipient, blocked=["e", "d"])

        assert recipient.GetTrustRules().rules == rules
        assert list(rules.auto_accept_from) == ["a", "b"]
        assert list(rules.blocked) == ["d", "e"]
        assert (rules.HasField("max_pending_shares"), rules.max_pending_shares) == (True, 0)
        assert as_(STRANGER).GetTrustRules().rules.etag == '"0"'

    def test_a_limit_that_is_not_said_is_cleared(self, recipient):
        trust(recipient, max_pending_shares=3)

        cleared = recipient.SetTrustRules(update_mask={"paths": ["max_pending_shares"]}).rules

        assert not cleared.HasField("max_pending_shares")

    @pytest.mark.parametrize(("field", "most"), [("auto_accept_from", 100), ("blocked", 1000)])
    def test_so_many_are_named_and_no_more(self, recipient, field, most):
        names = [f"tenant-{number}" for number in range(most + 1)]

        assert len(getattr(trust(recipient, **{field: names[:-1]}), field)) == most
        with declined() as seen:
            trust(recipient, **{field: names})

        assert seen.reason == "INVALID_FIELD"
        assert seen.metadata == {
            "field": f"rules.{field}",
            "maxItems": str(most),
            "items": str(most + 1),
        }

    @pytest.mark.parametrize(
        ("request_fields", "field"),
        [
            ({"rules": {"blocked": ["a b"]}, "update_mask": {"paths": ["blocked"]}}, "rules.blocked[0]"),
            ({"rules": {"blocked": [""]}, "update_mask": {"paths": ["blocked"]}}, "rules.blocked[0]"),
            (
                {"rules": {"blocked": ["x", RECIPIENT]}, "update_mask": {"paths": ["blocked"]}},
                "rules.blocked[1]",
            ),
            (
                {
                    "rules": {"max_pending_shares": -1},
                    "update_mask": {"paths": ["max_pending_shares"]},
                },
                "rules.max_pending_shares",
            ),
            ({"update_mask": {"paths": ["etag"]}}, "update_mask"),
            ({"update_mask": {}}, "update_mask"),
            ({}, "update_mask"),
            (
                {
                    "rules": {"blocked": ["x"], "auto_accept_from": ["x"]},
                    "update_mask": {"paths": ["blocked", "auto_accept_from"]},
                },
                "rules.blocked",
            ),
        ],
        ids=str,
    )
    def test_what_cannot_be_read_is_named(self, recipient, request_fields, field):
        with declined() as seen:
            recipient.SetTrustRules(**request_fields)

        assert (seen.code, seen.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
        assert seen.metadata["field"] == field

    def test_the_own_rules_of_before_are_judged_too(self, recipient):
        trust(recipient, auto_accept_from=[OWNER])

        with declined() as seen:
            trust(recipient, blocked=[OWNER])

        assert seen.metadata == {"field": "rules.blocked", "tenantId": OWNER}
        assert not recipient.GetTrustRules().rules.blocked

    def test_an_etag_keeps_two_from_overwriting_each_other(self, recipient):
        read = recipient.GetTrustRules().rules.etag
        mask = {"paths": ["blocked"]}
        recipient.SetTrustRules(rules={"blocked": ["a"]}, update_mask=mask, etag=read)

        with declined() as seen:
            recipient.SetTrustRules(rules={"blocked": ["b"]}, update_mask=mask, etag=read)

        assert (seen.code, seen.reason, seen.metadata) == ("ABORTED", "ETAG_MISMATCH", {"etag": '"1"'})
        assert list(recipient.GetTrustRules().rules.blocked) == ["a"]


class TestAcceptingAtOnce:
    def test_what_a_trusted_owner_shares_is_used_at_once(self, owner, recipient, image_id):
        trust(recipient, auto_accept_from=[OWNER])

        answer = share(owner, image_id, RECIPIENT, STRANGER)

        assert [each.share.status for each in answer.results] == [ACCEPTED, PENDING]
        assert [image.id for image in recipient.ListImages().images] == [image_id]
        assert recipient.download(image_id)

    def test_others_still_have_to_wait(self, as_, recipient):
        trust(recipient, auto_accept_from=[OWNER])
        other = as_("other")

        answer = share(other, other.active("debian").id)

        assert answer.results[0].share.status == PENDING

    def test_what_was_shared_before_stays_as_it_is(self, owner, recipient, image_id):
        share(owner, image_id)
        trust(recipient, auto_accept_from=[OWNER])

        assert share(owner, image_id).results[0].share.status == PENDING

    def test_it_can_be_rejected_and_left_like_any_other(self, owner, recipient, image_id):
        trust(recipient, auto_accept_from=[OWNER])
        share(owner, image_id)

        assert recipient.RejectShare(image_id=image_id).share.status == REJECTED
        recipient.LeaveShare(image_id=image_id)
        assert share(owner, image_id).results[0].share.status == ACCEPTED

    def test_not_by_who_is_at_home_in_another_region(self, owner, as_, image_id):
        """An open directory takes the owner's word for where a recipient is; its identity knows."""
        trust(as_(RECIPIENT, region=ELSEWHERE), auto_accept_from=[OWNER])

        assert share(owner, image_id).results[0].share.status == PENDING

    def test_not_where_a_vault_has_to_be_named(self, make_service: MakeService, as_):
        service = make_service(vaults={RECIPIENT: [{"id": "vault", "capacity_gib": 10}]})
        owner, recipient = as_(OWNER, of=service), as_(RECIPIENT, of=service)
        whole = a_full_ecs_image(region=HOME)
        with service.deployment.database.transaction() as tx:
            tx.images.add(whole)
        trust(recipient, auto_accept_from=[OWNER])

        assert share(owner, whole.id).results[0].share.status == PENDING
        assert share(owner, owner.active("debian").id).results[0].share.status == ACCEPTED


class TestBlocking:
    def test_the_owner_is_answered_as_if_it_had_worked(self, owner, as_, image_id, recipient):
        trust(recipient, blocked=[OWNER])
        trust(as_("another"), blocked=["somebody-else"])

        hidden, seen = share(owner, image_id, RECIPIENT, "another").results

        like_another = Share.FromString(seen.share.SerializeToString())
        like_another.tenant_id = RECIPIENT
        assert hidden.share == like_another
        assert hidden.share.status == PENDING
        assert owner.GetShare(image_id=image_id, tenant_id=RECIPIENT).share == hidden.share
        assert hidden.share in owner.ListShares(image_id=image_id).shares

    @pytest.mark.parametrize(
        ("rpc", "fields"),
        [
            ("GetImage", {}),
            ("GetShare", {}),
            ("GetShare", {"tenant_id": STRANGER}),
            ("UpdateShare", {"tenant_id": RECIPIENT, "update_mask": {"paths": ["status"]}}),
            ("AcceptShare", {}),
            ("AcceptShare", {"vault_id": "é"}),
            ("RejectShare", {}),
            ("LeaveShare", {}),
            ("ResolveImage", {"purpose": "CREATE_ECS"}),
            ("DownloadImageData", {}),
            ("RegisterUse", {"kind": "ECS", "consumer_id": "s"}),
            ("GetUsage", {}),
            ("UpdateImage", {"update_mask": {"paths": ["name"]}}),
            ("DeleteImage", {}),
            ("ShareImage", {"recipients": [{"tenant_id": STRANGER}]}),
        ],
        ids=str,
    )
    def test_the_recipient_cannot_tell_it_from_no_share_at_all(
        self, owner, recipient, image_id, rpc, fields
    ):
        trust(recipient, blocked=[OWNER])
        share(owner, image_id)

        def answer(about: str) -> Any:
            request = request_class(rpc)(image_id=about, **fields)
            return answer_of(lambda: recipient.call(rpc, request))

        assert answer(image_id).reason == "IMAGE_NOT_FOUND"
        assert answer(image_id).status_bytes == answer(NEVER).status_bytes

    def test_it_is_on_no_list(self, owner, recipient, image_id):
        trust(recipient, blocked=[OWNER])
        share(owner, image_id)

        assert received(recipient) == {}
        assert not recipient.ListImages().images

    def test_it_is_as_hidden_where_no_bytes_are_ready(self, owner, recipient, image_id, deployment):
        share(owner, image_id)
        nothing = dict.fromkeys(("rendering", "rendering_version", "rendering_format"))
        with deployment.database.transaction() as tx:
            tx.images._connection.execute(images.update().values(nothing))
        before = received(recipient), answer_of(lambda: recipient.GetImage(image_id=image_id)).reason

        trust(recipient, blocked=[OWNER])

        assert before == ({image_id: PENDING}, "")
        assert received(recipient) == {}
        assert answer_of(lambda: recipient.GetImage(image_id=image_id)).reason == "IMAGE_NOT_FOUND"

    def test_it_counts_ends_and_is_extended_like_any_other(self, make_service: MakeService, as_):
        service = make_service(shares_per_image=1)
        owner, recipient = as_(OWNER, of=service), as_(RECIPIENT, of=service)
        trust(recipient, blocked=[OWNER])
        image_id = owner.active("debian").id
        assert share(owner, image_id).share_count == 1

        with declined() as seen:
            share(owner, image_id, STRANGER)
        moved = owner.UpdateShare(
            image_id=image_id,
            tenant_id=RECIPIENT,
            share={"expire_time": {"seconds": 2**32}},
            update_mask={"paths": ["expire_time"]},
        ).share
        ended = owner.UnshareImage(image_id=image_id, tenant_ids=[RECIPIENT]).ended_shares

        assert seen.reason == "SHARE_LIMIT_EXCEEDED"
        assert list(ended) == [moved]

    def test_unblocked_it_is_seen_as_pending(self, owner, recipient, image_id):
        trust(recipient, blocked=[OWNER])
        share(owner, image_id)

        trust(recipient, blocked=[])

        assert received(recipient) == {image_id: PENDING}
        assert recipient.AcceptShare(image_id=image_id).share.status == ACCEPTED

    def test_blocking_hides_what_is_pending_or_rejected_and_keeps_what_is_accepted(
        self, owner, recipient
    ):
        pending, accepted, rejected = (owner.active(f"image-{number}").id for number in range(3))
        for image_id in (pending, accepted, rejected):
            share(owner, image_id)
        recipient.AcceptShare(image_id=accepted)
        recipient.RejectShare(image_id=rejected)

        trust(recipient, blocked=[OWNER])

        assert received(recipient) == {accepted: ACCEPTED}
        assert recipient.download(accepted)
        trust(recipient, blocked=[])
        assert received(recipient) == {pending: PENDING, accepted: ACCEPTED, rejected: REJECTED}

    @pytest.mark.parametrize("rpc", ["RejectShare", "LeaveShare"])
    def test_what_was_accepted_is_given_up_and_then_not_seen_any_more(
        self, owner, recipient, image_id, rpc
    ):
        share(owner, image_id)
        recipient.AcceptShare(image_id=image_id)
        trust(recipient, blocked=[OWNER])

        getattr(recipient, rpc)(image_id=image_id)

        assert received(recipient) == {}
        with declined() as seen:
            recipient.AcceptShare(image_id=image_id)
        assert seen.reason == "IMAGE_NOT_FOUND"
        there = [each.status for each in owner.ListShares(image_id=image_id).shares]
        assert there == ([REJECTED] if rpc == "RejectShare" else [])

    def test_a_blocked_owner_is_hidden_from_the_services_of_its_recipient(
        self, owner, recipient, as_, image_id
    ):
        trust(recipient, blocked=[OWNER])
        share(owner, image_id)

        with declined() as seen:
            as_("nova", "service").ResolveImage(
                image_id=image_id, purpose="CREATE_ECS", tenant_id=RECIPIENT
            )

        assert seen.reason == "IMAGE_NOT_FOUND"

    def test_public_images_are_everybodys(self, owner, recipient, as_, image_id):
        as_("governor", "admin").PublishImage(image_id=image_id)
        trust(recipient, blocked=[OWNER])

        assert [image.id for image in recipient.ListImages().images] == [image_id]


class TestHowManyMayBePending:
    @pytest.fixture
    def images(self, owner: Tenant) -> list[str]:
        return [owner.active(f"image-{number}").id for number in range(3)]

    def test_up_to_the_limit_and_no_further(self, owner, recipient, images):
        trust(recipient, max_pending_shares=2)
        for image_id in images[:2]:
            share(owner, image_id)

        with declined() as seen:
            share(owner, images[2])

        assert (seen.code, seen.reason) == ("RESOURCE_EXHAUSTED", "RECIPIENT_HAS_TOO_MANY_PENDING")
        assert seen.metadata == {"tenantId": RECIPIENT}
        assert [subject for _, subject, _ in seen.violations] == [RECIPIENT]
        recipient.AcceptShare(image_id=images[0])
        assert share(owner, images[2]).results[0].share.status == PENDING

    def test_none_where_none_is_tolerated(self, owner, recipient, images):
        trust(recipient, max_pending_shares=0)

        with declined() as seen:
            share(owner, images[0])

        assert seen.reason == "RECIPIENT_HAS_TOO_MANY_PENDING"
        trust(recipient, auto_accept_from=[OWNER])
        assert share(owner, images[0]).results[0].share.status == ACCEPTED

    def test_a_preview_tells_it_and_a_partial_call_lets_the_others_in(self, owner, recipient, images):
        trust(recipient, max_pending_shares=0)

        preview = share(owner, images[0], RECIPIENT, STRANGER, validate_only=True)
        partial = share(owner, images[0], RECIPIENT, STRANGER, allow_partial=True)

        for answer in (preview, partial):
            refused, let_in = answer.results
            assert [each.metadata for each in refused.refusals] == [{"tenantId": RECIPIENT}]
            assert not let_in.refusals
        assert partial.share_count == 1

    def test_a_call_that_is_refused_names_everybody_who_is_full(self, owner, as_, images):
        for name in ("a", "c"):
            trust(as_(name), max_pending_shares=0)

        with declined() as seen:
            share(owner, images[0], "a", "b", "c")

        assert [subject for _, subject, _ in seen.violations] == ["a", "c"]
        assert not owner.ListShares(image_id=images[0]).shares

    def test_sharing_again_takes_no_room(self, owner, recipient, images):
        share(owner, images[0])
        trust(recipient, max_pending_shares=0)

        assert share(owner, images[0]).results[0].share.status == PENDING

    def test_what_has_ended_or_is_deleted_takes_none(self, owner, recipient, images, clock):
        trust(recipient, max_pending_shares=1)
        end = {"seconds": int(clock.now().timestamp()) + 60}
        share(owner, images[0], expire_time=end)
        clock.advance(seconds=60)
        share(owner, images[1])
        owner.DeleteImage(image_id=images[1])

        assert share(owner, images[2]).results[0].share.status == PENDING

    def test_the_deployments_limit_counts_for_who_says_nothing(self, make_service: MakeService, as_):
        service = make_service(pending_shares_per_tenant=1)
        owner, recipient = as_(OWNER, of=service), as_(RECIPIENT, of=service)
        images = [owner.active(f"image-{number}").id for number in range(3)]
        share(owner, images[0])

        with declined() as seen:
            share(owner, images[1])
        trust(recipient, max_pending_shares=2)
        share(owner, images[1])
        recipient.SetTrustRules(update_mask={"paths": ["max_pending_shares"]})
        with declined() as again:
            share(owner, images[2])

        assert seen.reason == again.reason == "RECIPIENT_HAS_TOO_MANY_PENDING"

    def test_nobody_is_held_for_who_may_not_share_or_cannot_be_read(self, make_service, as_):
        service = make_service(pending_shares_per_tenant=1)
        owner, recipient = as_(OWNER, of=service), as_(RECIPIENT, of=service)
        image_id = owner.active("debian").id
        share(owner, image_id)

        for tenants in ([STRANGER, "x" * 5000], [STRANGER, "é"]):
            with declined() as seen:
                share(owner, image_id, *tenants)
            assert seen.reason == "INVALID_FIELD"
        with declined() as seen:
            share(recipient, image_id, STRANGER)

        assert seen.reason == "NOT_IMAGE_OWNER"
        with service.deployment.database.reading() as reading:
            assert set(reading.tenants.batch(after="", size=10)) == {OWNER, RECIPIENT}

    def test_a_blocked_owner_cannot_tell_by_it_that_it_is_blocked(self, as_, recipient):
        """It is refused where another in its place would be, and so by what it shared itself."""
        blocked, other = as_("blocked"), as_("other")

        def answers(owner: Tenant, name: str) -> list[str]:
            ids = [owner.active(f"{name}-{number}").id for number in range(3)]
            return [answer_of(lambda each=each: share(owner, each)).reason for each in ids]

        trust(recipient, blocked=["blocked"], max_pending_shares=2)
        like_others = answers(blocked, "one")
        assert like_others == ["", "", "RECIPIENT_HAS_TOO_MANY_PENDING"]
        # It takes no room from those that are seen.
        assert answers(other, "two") == like_others
        blocked.UnshareImage(image_id=blocked.ListImages(name="one-0").images[0].id, all_tenants=True)
        assert answer_of(lambda: share(blocked, blocked.active("three").id)).reason == (
            "RECIPIENT_HAS_TOO_MANY_PENDING"
        )
