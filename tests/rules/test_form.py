"""Is the request well formed (law 2.4)."""

from ims.domain.rejection import Category, FieldProblem, Reason
from ims.rules.form import READ_QUERY, every_field_can_be_read
from rules.facts import a_query, an_attempt, is_kept, the_violation


class TestEveryFieldCanBeRead:
    def test_a_request_without_problems_keeps_it(self):
        assert is_kept(every_field_can_be_read, a_query())
        assert is_kept(every_field_can_be_read, an_attempt())

    def test_a_problem_names_its_field(self):
        violation = the_violation(
            every_field_can_be_read, a_query(FieldProblem("disks[0].format", "it is required."))
        )

        assert violation.reason is Reason.INVALID_FIELD
        assert violation.message == "disks[0].format: it is required."
        assert violation.subject == "disks[0].format"
        assert violation.metadata == {"field": "disks[0].format"}

    def test_every_problem_is_named_in_the_order_of_reading(self):
        problems = (FieldProblem("b", "it is long."), FieldProblem("a", "it is short."))

        violations = list(every_field_can_be_read.violations(an_attempt(problems=problems)))

        assert [each.subject for each in violations] == ["b", "a"]

    def test_it_is_all_that_is_asked_of_a_listing(self):
        assert (every_field_can_be_read,) == READ_QUERY
        assert every_field_can_be_read.category is Category.MALFORMED
