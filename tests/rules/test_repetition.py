"""What a request id stands for (law 5.9)."""

from builders import STRANGER
from ims.domain.rejection import Category
from ims.rules.repetition import REPEAT_CALL, a_request_id_stands_for_one_call
from rules.facts import a_repetition, is_kept, the_violation


class TestARequestIdStandsForOneCall:
    def test_the_same_call_keeps_it(self):
        assert is_kept(a_request_id_stands_for_one_call, a_repetition())

    def test_another_body_breaks_it(self):
        violation = the_violation(a_request_id_stands_for_one_call, a_repetition(digest=b"another"))

        assert violation.subject == "request_id"
        assert violation.metadata == {"earlierMethod": "CreateImage"}

    def test_another_method_breaks_it(self):
        violation = the_violation(a_request_id_stands_for_one_call, a_repetition(method="DeleteImage"))

        assert violation.metadata == {"earlierMethod": "CreateImage"}

    def test_it_compares_nothing_but_the_call(self):
        """Whose id it is was decided when the earlier call was looked up."""
        assert is_kept(a_request_id_stands_for_one_call, a_repetition(tenant_id=STRANGER))

    def test_it_is_all_that_a_repetition_is_judged_by(self):
        assert (a_request_id_stands_for_one_call,) == REPEAT_CALL
        assert a_request_id_stands_for_one_call.category is Category.MALFORMED
