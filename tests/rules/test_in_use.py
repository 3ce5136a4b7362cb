"""The law of what is in use (law 7.6)."""

import pytest

from builders import an_image
from ims.domain.registered_use import UsageTotal
from ims.domain.rejection import Rejection
from ims.rules.changes import DELETE_IMAGE
from ims.rules.engine import enforce
from ims.rules.in_use import nothing_in_use_is_taken_where_the_owner_requires_that
from ims.rules.sharing import UNSHARE_IMAGE, UnshareAttempt
from rules.facts import a_deletion, an_attempt, is_kept, the_violation

RULE = nothing_in_use_is_taken_where_the_owner_requires_that
ONE = UsageTotal(uses=1, tenants=1)


class TestNothingInUseIsTakenWhereTheOwnerRequiresThat:
    def test_without_a_use_it_is_taken_and_with_one_it_is_not(self):
        assert is_kept(RULE, a_deletion(usage_to_spare=UsageTotal()))
        assert the_violation(RULE, a_deletion(usage_to_spare=ONE)).metadata == {"uses": 1, "tenants": 1}

    def test_whoever_does_not_require_it_may_take_it(self):
        assert is_kept(RULE, a_deletion())

    def test_it_is_told_together_with_all_else_that_forbids_the_deletion(self):
        with pytest.raises(Rejection) as rejection:
            enforce(DELETE_IMAGE, a_deletion(image=an_image(protected=True), usage_to_spare=ONE))

        assert [each.reason for each in rejection.value.violations] == [
            "IMAGE_PROTECTED",
            "IMAGE_IN_USE",
        ]

    def test_shares_do_not_end_either(self):
        attempt = an_attempt()

        with pytest.raises(Rejection, match="in use"):
            enforce(
                UNSHARE_IMAGE,
                UnshareAttempt(caller=attempt.caller, image=attempt.image, usage_to_spare=ONE),
            )
