"""`ims trust …`, and shares that end by themselves."""

from datetime import UTC, datetime, timedelta

import pytest

from cli.conftest import Ims
from cli.test_share import statuses


def rules(ims: Ims, tenant: str) -> dict[str, object]:
    return ims("trust", "show", tenant=tenant, json=True).json["rules"]


class TestTrust:
    def test_without_rules_it_says_so(self, ims: Ims, recipient):
        shown = ims("trust", "show", tenant=recipient)

        assert shown.code == 0
        assert shown.stdout.count("nobody") == 2
        assert "as the service says" in shown.stdout

    def test_what_is_set_is_shown_and_the_rest_stays(self, ims: Ims, recipient):
        setting = ("trust", "set", "--accept-from", "a", "--accept-from", "b", "--max-pending", "0")
        assert ims(*setting, tenant=recipient).code == 0
        assert ims("trust", "block", "c", "a", tenant=recipient).code == 0

        made = rules(ims, recipient)

        assert (made["auto_accept_from"], made["blocked"]) == (["b"], ["a", "c"])
        assert made["max_pending_shares"] == 0
        assert ims("trust", "unblock", "a", tenant=recipient, json=True).json["rules"]["blocked"] == [
            "c"
        ]

    def test_it_is_taken_back(self, ims: Ims, recipient):
        ims("trust", "set", "--accept-from", "a", "--max-pending", "3", tenant=recipient)

        ims("trust", "set", "--accept-from-nobody", "--max-pending", "default", tenant=recipient)

        made = rules(ims, recipient)
        assert made["auto_accept_from"] == []
        assert "max_pending_shares" not in made

    @pytest.mark.parametrize(
        "options",
        [
            [],
            ["--max-pending", "many"],
            ["--accept-from", "a", "--accept-from-nobody"],
        ],
    )
    def test_wrong_usage(self, ims: Ims, recipient, options):
        assert ims("trust", "set", *options, tenant=recipient).code == 2

    def test_who_is_trusted_is_accepted_at_once_and_who_is_blocked_not_seen(
        self, ims: Ims, owner, recipient, tiny
    ):
        ims("trust", "set", "--accept-from", owner, tenant=recipient)
        ims("share", "add", "tiny", recipient, tenant=owner)
        assert statuses(ims, owner, tiny) == {recipient: "ACCEPTED"}

        ims("share", "leave", tiny, tenant=recipient)
        ims("trust", "block", owner, tenant=recipient)
        ims("share", "add", "tiny", recipient, tenant=owner)

        assert statuses(ims, owner, tiny) == {recipient: "PENDING"}
        received = ims("share", "received", tenant=recipient)
        assert received.stdout == "Nothing has been shared with you.\n"

    def test_who_tolerates_no_pending_share_is_to_be_asked(self, ims: Ims, owner, recipient, tiny):
        ims("trust", "set", "--max-pending", "0", tenant=recipient)

        refused = ims("share", "add", "tiny", recipient, tenant=owner)

        assert refused.code == 1
        assert "RECIPIENT_HAS_TOO_MANY_PENDING" in refused.stderr
        assert f"Ask {recipient}" in refused.stderr


class TestEnds:
    def test_a_share_has_an_end_that_is_moved_and_taken_away(self, ims: Ims, owner, recipient, tiny):
        day = (datetime.now(UTC) + timedelta(days=30)).strftime("%Y-%m-%d")
        later = (datetime.now(UTC) + timedelta(days=60)).strftime("%Y-%m-%dT12:00")

        ims("share", "add", "tiny", recipient, "--expires", day, tenant=owner)
        listed = ims("share", "list", "tiny", tenant=owner, json=True).json["shares"]
        moved = ims("share", "extend", "tiny", recipient, "--until", later, tenant=owner, json=True)
        forever = ims("share", "extend", "tiny", recipient, "--forever", tenant=owner)

        assert listed[0]["expire_time"] == f"{day}T00:00:00Z"
        assert moved.json["share"]["expire_time"] == f"{later}:00Z"
        assert forever.stdout == f"The share of {recipient} does not end by itself.\n"

    def test_it_is_shown_to_both_sides(self, ims: Ims, owner, recipient, tiny):
        ims("share", "add", "tiny", recipient, "--expires", "2999-12-31T12:00", tenant=owner)

        assert "2999-12-31" in ims("share", "list", "tiny", tenant=owner).stdout
        assert "2999-12-31" in ims("share", "received", tenant=recipient).stdout

    def test_a_time_that_has_passed_is_refused_with_advice(self, ims: Ims, owner, recipient, tiny):
        refused = ims("share", "add", "tiny", recipient, "--expires", "2020-01-01", tenant=owner)
        would = ims("share", "check", "tiny", recipient, "--expires", "2020-01-01", tenant=owner)

        assert (refused.code, would.code) == (1, 1)
        assert "EXPIRE_TIME_PASSED" in refused.stderr
        assert "EXPIRE_TIME_PASSED" in would.stdout
        assert "ims share remove" in refused.stderr

    @pytest.mark.parametrize("options", [[], ["--until", "2999-12-31", "--forever"], ["--until", "x"]])
    def test_wrong_usage(self, ims: Ims, owner, tiny, options):
        assert ims("share", "extend", "tiny", "a", *options, tenant=owner).code == 2
