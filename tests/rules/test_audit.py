"""The law of the audit trail (law 9), rule by rule."""

import pytest

from builders import OWNER, STRANGER, a_caller
from ims.domain.caller import Role
from ims.domain.rejection import Category, Reason, reject
from ims.rules.audit import only_administrators_read_the_trail_of_others, refusal_matters
from rules.facts import an_audit_query, is_kept, the_violation


class TestOnlyAdministratorsReadTheTrailOfOthers:
    def test_everybody_reads_its_own(self):
        assert is_kept(only_administrators_read_the_trail_of_others, an_audit_query())

    @pytest.mark.parametrize("roles", [(), (Role.SERVICE,)])
    def test_nobody_reads_that_of_others(self, roles):
        query = an_audit_query(caller=a_caller(OWNER, *roles), tenant_id=STRANGER)

        violation = the_violation(only_administrators_read_the_trail_of_others, query)

        assert violation.metadata == {"requiredRoles": "admin"}

    def test_an_administrator_reads_any(self):
        query = an_audit_query(caller=a_caller(OWNER, Role.ADMIN), tenant_id=STRANGER)

        assert is_kept(only_administrators_read_the_trail_of_others, query)


class TestWhichRefusalsMatter:
    @pytest.mark.parametrize("of_a_change", [True, False])
    def test_what_somebody_may_not_do_always_matters(self, of_a_change):
        rejection = reject(Category.FORBIDDEN, Reason.NOT_IMAGE_OWNER, "no")

        assert refusal_matters(rejection, of_a_change=of_a_change)

    @pytest.mark.parametrize(
        ("category", "reason"),
        [
            (Category.WRONG_STATE, Reason.IMAGE_NOT_ACTIVE),
            (Category.AGAINST_RULES, Reason.CROSS_REGION_SHARE),
            (Category.OVER_LIMIT, Reason.SHARE_LIMIT_EXCEEDED),
            (Category.OVER_LIMIT, Reason.IMAGE_QUOTA_EXCEEDED),
            (Category.OVER_LIMIT, Reason.USE_LIMIT_EXCEEDED),
        ],
    )
    def test_rules_and_limits_matter_where_they_forbid_a_change(self, category, reason):
        rejection = reject(category, reason, "no")

        assert refusal_matters(rejection, of_a_change=True)
        assert not refusal_matters(rejection, of_a_change=False)

    @pytest.mark.parametrize(
        ("category", "reason"),
        [
            (Category.UNAUTHENTICATED, Reason.UNAUTHENTICATED),
            (Category.MISSING, Reason.IMAGE_NOT_FOUND),
            (Category.MALFORMED, Reason.INVALID_FIELD),
            (Category.CONFLICT, Reason.ETAG_MISMATCH),
            (Category.EXISTS, Reason.IMAGE_NAME_TAKEN),
            (Category.OVER_LIMIT, Reason.TOO_MANY_CALLS),
            (Category.OVER_LIMIT, Reason.TOO_MANY_TRANSFERS),
            (Category.OVER_LIMIT, Reason.STORAGE_FULL),
            (Category.UNAVAILABLE, Reason.CATALOGUE_UNAVAILABLE),
        ],
    )
    def test_what_is_hidden_mistaken_or_the_services_own_trouble_does_not(self, category, reason):
        assert not refusal_matters(reject(category, reason, "no"), of_a_change=True)
