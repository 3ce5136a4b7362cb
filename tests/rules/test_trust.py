"""The law of trust (law 4.9, 4.10), rule by rule."""

import pytest

from builders import ELSEWHERE, HOME, OWNER, STRANGER, a_full_ecs_image, an_image
from ims.domain.rejection import Category, Reason
from ims.domain.share import ShareStatus
from ims.domain.trust import Attitude, Trust, TrustRules
from ims.rules.trust import (
    an_owner_is_trusted_or_blocked,
    status_of_new_share,
    the_rules_are_as_the_caller_read_them,
)
from rules.facts import a_change_of_trust, is_kept, the_violation

TRUSTING = Trust(attitude=Attitude.AUTO_ACCEPT, home=HOME)


class TestAnOwnerIsTrustedOrBlocked:
    def test_one_is_trusted_and_another_blocked(self):
        draft = TrustRules(auto_accept_from=(OWNER,), blocked=(STRANGER,))

        assert is_kept(an_owner_is_trusted_or_blocked, a_change_of_trust(draft=draft))

    def test_nobody_is_both(self):
        draft = TrustRules(auto_accept_from=(OWNER,), blocked=(OWNER, STRANGER))
        violation = the_violation(an_owner_is_trusted_or_blocked, a_change_of_trust(draft=draft))

        assert violation.reason is Reason.INVALID_FIELD
        assert violation.metadata == {"field": "rules.blocked", "tenantId": OWNER}
        assert an_owner_is_trusted_or_blocked.category is Category.MALFORMED


class TestTheRulesAreAsTheCallerReadThem:
    @pytest.mark.parametrize("etag", ["", '"3"'])
    def test_who_read_them_or_does_not_mind_changes_them(self, etag: str):
        attempt = a_change_of_trust(rules=TrustRules(version=3), expected_etag=etag)

        assert is_kept(the_rules_are_as_the_caller_read_them, attempt)

    def test_who_read_others_is_told_the_present_etag(self):
        attempt = a_change_of_trust(rules=TrustRules(version=3), expected_etag='"2"')
        violation = the_violation(the_rules_are_as_the_caller_read_them, attempt)

        assert violation.reason is Reason.ETAG_MISMATCH
        assert violation.metadata == {"etag": '"3"'}
        assert the_rules_are_as_the_caller_read_them.category is Category.CONFLICT


class TestTheStatusOfANewShare:
    def test_it_is_pending_unless_the_recipient_has_said_otherwise(self):
        for trust in (Trust(), Trust(home=HOME), Trust(attitude=Attitude.BLOCK, home=HOME)):
            status = status_of_new_share(an_image(), trust, backup_provider_exists=False)

            assert status is ShareStatus.PENDING

    def test_who_is_trusted_has_it_accepted_at_once(self):
        status = status_of_new_share(an_image(), TRUSTING, backup_provider_exists=True)

        assert status is ShareStatus.ACCEPTED

    def test_not_by_who_is_at_home_elsewhere(self):
        trust = Trust(attitude=Attitude.AUTO_ACCEPT, home=ELSEWHERE)

        assert status_of_new_share(an_image(), trust, backup_provider_exists=False) is (
            ShareStatus.PENDING
        )

    @pytest.mark.parametrize(
        ("backup_provider_exists", "status"),
        [(False, ShareStatus.ACCEPTED), (True, ShareStatus.PENDING)],
    )
    def test_not_where_a_vault_has_to_be_named(self, backup_provider_exists, status):
        image = a_full_ecs_image()

        assert (
            status_of_new_share(image, TRUSTING, backup_provider_exists=backup_provider_exists) is status
        )


class TestHowManyPendingSharesAreTolerated:
    @pytest.mark.parametrize(
        ("own", "default", "most"),
        [(None, None, None), (None, 2, 2), (3, 2, 3), (0, 2, 0), (0, None, 0)],
    )
    def test_the_own_limit_goes_before_the_deployments(self, own, default, most):
        assert Trust(max_pending_shares=own).most_pending(default) == most
