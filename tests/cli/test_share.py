"""`ims share …`."""

import pytest

from cli.conftest import Ims


def statuses(ims: Ims, owner: str, image: str) -> dict[str, str]:
    shares = ims("share", "list", image, tenant=owner, json=True).json["shares"]
    return {share["tenant_id"]: share["status"] for share in shares}


class TestAdd:
    def test_many_tenants_at_once(self, ims: Ims, owner, tiny):
        shared = ims("share", "add", "tiny", "a", "b", "c@eu-de", tenant=owner, json=True)

        assert shared.code == 0, shared
        assert [result["share"]["status"] for result in shared.json["results"]] == ["PENDING"] * 3
        assert statuses(ims, owner, tiny) == {"a": "PENDING", "b": "PENDING", "c": "PENDING"}

    @pytest.mark.parametrize("far", [["b@eu-nl"], ["--tenant-region", "eu-nl", "a@eu-de", "b"]])
    def test_another_region_is_refused_with_advice_and_nothing_is_shared(
        self, ims: Ims, owner, tiny, far
    ):
        refused = ims("share", "add", "tiny", *far, tenant=owner)

        assert refused.code == 1
        assert "`ims share add` was declined (FAILED_PRECONDITION)" in refused.stderr
        assert refused.stderr.count("CROSS_REGION_SHARE") == 1
        assert "'b' is in region 'eu-nl'" in refused.stderr
        assert "TENANT@REGION" in refused.stderr
        assert "request id " in refused.stderr
        assert statuses(ims, owner, tiny) == {}

    def test_partly_shares_with_those_whom_nothing_refuses(self, ims: Ims, owner, tiny):
        partly = ims("share", "add", "tiny", "a", "b@eu-nl", "--partial", tenant=owner)

        assert partly.code == 1
        assert "CROSS_REGION_SHARE" in partly.stdout
        assert statuses(ims, owner, tiny) == {"a": "PENDING"}

    def test_partly_with_everybody_is_well(self, ims: Ims, owner, tiny):
        assert ims("share", "add", "tiny", "a", "b", "--partial", tenant=owner).code == 0


class TestCheck:
    def test_nothing_refused_and_nothing_shared(self, ims: Ims, owner, tiny):
        assert ims("share", "check", "tiny", "a", "b", tenant=owner).code == 0
        assert statuses(ims, owner, tiny) == {}

    def test_everything_that_would_be_refused_is_told(self, ims: Ims, owner, tiny):
        ims("image", "deactivate", "tiny", tenant=owner)

        asked = ims("share", "check", "tiny", "a", "b@eu-nl", owner, tenant=owner)
        document = ims("share", "check", "tiny", "a", "b@eu-nl", owner, tenant=owner, json=True)

        assert (asked.code, document.code) == (1, 1)
        for reason in ("IMAGE_NOT_ACTIVE", "CROSS_REGION_SHARE", "SHARE_WITH_OWNER"):
            assert reason in asked.stdout
        assert "→ Leave that tenant out." in asked.stdout
        assert [each["reason"] for each in document.json["image_refusals"]] == ["IMAGE_NOT_ACTIVE"]


class TestRecipient:
    @pytest.fixture(autouse=True)
    def shared(self, ims: Ims, owner, recipient, tiny):
        ims("share", "add", tiny, recipient, tenant=owner)

    @pytest.mark.parametrize("by_name", [False, True])
    def test_a_share_is_accepted_rejected_and_left(self, ims: Ims, owner, recipient, tiny, by_name):
        image = "tiny" if by_name else tiny

        for verb, status in (("accept", "ACCEPTED"), ("reject", "REJECTED"), ("accept", "ACCEPTED")):
            assert ims("share", verb, image, tenant=recipient).code == 0
            assert statuses(ims, owner, tiny) == {recipient: status}
        assert ims("share", "leave", image, tenant=recipient, json=True).json == {}
        assert statuses(ims, owner, tiny) == {}

    def test_received_shares_are_listed_by_status(self, ims: Ims, recipient, tiny):
        received = ("share", "received")

        listed = ims(*received, tenant=recipient)
        pending = ims(*received, "--status", "pending", tenant=recipient, json=True)
        accepted = ims(*received, "--status", "accepted", tenant=recipient)

        assert listed.stdout.splitlines()[2].split()[:2] == [tiny, "tiny"]
        assert pending.json["received_shares"][0]["image"]["id"] == tiny
        assert accepted.stdout == "Nothing has been shared with you.\n"

    def test_the_own_image_of_the_same_name_is_not_meant(self, ims: Ims, owner, recipient, tiny):
        ims("image", "create", "--name", "tiny", "--format", "raw", tenant=recipient)

        assert ims("share", "accept", "tiny", tenant=recipient).code == 0
        assert statuses(ims, owner, tiny) == {recipient: "ACCEPTED"}

    def test_the_owner_decides_nothing(self, ims: Ims, owner, tiny):
        refused = ims("share", "accept", tiny, tenant=owner)

        assert refused.code == 1
        assert "ONLY_RECIPIENT_DECIDES" in refused.stderr
        assert "ims share remove" in refused.stderr

    def test_a_recipient_does_not_share_on(self, ims: Ims, recipient, tiny):
        refused = ims("share", "add", tiny, "c", tenant=recipient)

        assert refused.code == 1
        assert "NOT_IMAGE_OWNER" in refused.stderr


class TestRemove:
    def test_some_or_all(self, ims: Ims, owner, tiny):
        ims("share", "add", "tiny", "a", "b", "c", tenant=owner)

        some = ims("share", "remove", "tiny", "a", "z", tenant=owner)
        rest = ims("share", "remove", "tiny", "--all", tenant=owner, json=True)

        assert some.stdout == "1 share ended. It was not shared with z.\n"
        assert [share["tenant_id"] for share in rest.json["ended_shares"]] == ["b", "c"]
        assert ims("share", "list", "tiny", tenant=owner).stdout == "Shared with nobody.\n"

    @pytest.mark.parametrize("whom", [[], ["a", "--all"]])
    def test_either_some_or_all(self, ims: Ims, owner, tiny, whom):
        assert ims("share", "remove", "tiny", *whom, tenant=owner).code == 2

    def test_shares_are_listed_by_status(self, ims: Ims, owner, recipient, tiny):
        ims("share", "add", "tiny", "a", recipient, tenant=owner)
        ims("share", "accept", "tiny", tenant=recipient)

        accepted = ims("share", "list", "tiny", "--status", "accepted", tenant=owner)

        assert recipient in accepted.stdout
        assert len(accepted.stdout.splitlines()) == 3
