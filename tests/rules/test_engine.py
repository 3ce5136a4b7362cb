"""The order of judgement (law 2), on rules made up for it."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from ims.domain.rejection import Category, Reason, Rejection, Step, Violation
from ims.rules.engine import Breach, Rule, breach, enforce, judge, rule


@dataclass(frozen=True)
class Facts:
    """Which of the rules below are broken, by their names."""

    broken: frozenset[str]


def breaking(*rules: Rule) -> Facts:
    return Facts(frozenset(each.name for each in rules))


def a_rule(name: str, reason: Reason, category: Category) -> Rule:
    def check(facts: Facts) -> Iterator[Breach]:
        if name in facts.broken:
            yield breach(f"{name} is broken.", subject=name, number=7)

    check.__name__, check.__doc__ = name, f"{name} is kept."
    return rule("0.0", reason, category)(check)


KNOW = a_rule("know", Reason.IMAGE_NOT_FOUND, Category.MISSING)
MAY = a_rule("may", Reason.NOT_IMAGE_OWNER, Category.FORBIDDEN)
FORM = a_rule("form", Reason.INVALID_FIELD, Category.MALFORMED)
RANGE = a_rule("range", Reason.OFFSET_OUT_OF_RANGE, Category.OUT_OF_RANGE)
STATE = a_rule("state", Reason.IMAGE_NOT_ACTIVE, Category.WRONG_STATE)
STALE = a_rule("stale", Reason.ETAG_MISMATCH, Category.CONFLICT)
LAW = a_rule("law", Reason.PUBLIC_IMAGE_NOT_SHAREABLE, Category.AGAINST_RULES)
DIRECTORY = a_rule("directory", Reason.TENANT_NOT_FOUND, Category.UNKNOWN_TENANT)
TAKEN = a_rule("taken", Reason.IMAGE_NAME_TAKEN, Category.EXISTS)
LIMIT = a_rule("limit", Reason.SHARE_LIMIT_EXCEEDED, Category.OVER_LIMIT)

IN_ORDER = (KNOW, MAY, FORM, STATE, LAW, LIMIT)
"""One rule for each step, in the order of the law."""


def rejection_of(rules: tuple[Rule, ...], facts: Facts) -> Rejection:
    with pytest.raises(Rejection) as caught:
        enforce(rules, facts)
    return caught.value


class TestARule:
    def test_is_named_after_its_function(self):
        assert KNOW.name == "know"

    def test_its_sentence_is_the_first_line_of_the_docstring(self):
        @rule("1.2", Reason.IMAGE_BUSY, Category.WRONG_STATE)
        def something_holds(_facts: object) -> Iterator[Breach]:
            """Something holds.

            And more is said of it.
            """
            yield from ()

        assert something_holds.sentence == "Something holds."
        assert something_holds.law == "1.2"

    def test_a_violation_has_the_rules_reason_and_all_that_the_breach_says(self):
        (violation,) = KNOW.violations(breaking(KNOW))

        assert violation == Violation(
            Reason.IMAGE_NOT_FOUND, "know is broken.", {"number": 7}, subject="know"
        )


class TestEnforce:
    def test_nothing_is_raised_when_every_rule_is_kept(self):
        enforce(IN_ORDER, breaking())

    def test_nothing_is_raised_when_there_is_no_rule(self):
        enforce((), breaking(KNOW))

    @pytest.mark.parametrize("deciding", range(len(IN_ORDER)))
    def test_an_earlier_step_hides_all_later_ones(self, deciding: int):
        rejection = rejection_of(IN_ORDER, breaking(*IN_ORDER[deciding:]))

        assert [each.reason for each in rejection.violations] == [IN_ORDER[deciding].reason]
        assert rejection.category is IN_ORDER[deciding].category

    def test_the_step_decides_and_not_the_place_among_the_rules(self):
        rejection = rejection_of(tuple(reversed(IN_ORDER)), breaking(MAY, LIMIT))

        assert rejection.reason is MAY.reason

    def test_all_rules_broken_in_the_deciding_step_are_reported_in_order(self):
        rules = (STALE, LIMIT, STATE, LAW)

        rejection = rejection_of(rules, breaking(*rules))

        assert [each.reason for each in rejection.violations] == [STALE.reason, STATE.reason]

    @pytest.mark.parametrize(
        ("first", "second"),
        [(LAW, DIRECTORY), (DIRECTORY, LAW), (TAKEN, LAW), (FORM, RANGE), (RANGE, FORM), (STALE, STATE)],
        ids=lambda rule: rule.name,
    )
    def test_the_first_broken_rule_gives_reason_and_category(self, first: Rule, second: Rule):
        rejection = rejection_of((first, second), breaking(first, second))

        assert (rejection.reason, rejection.category) == (first.reason, first.category)
        assert [each.reason for each in rejection.violations] == [first.reason, second.reason]

    def test_a_kept_rule_gives_nothing_although_it_comes_first(self):
        rejection = rejection_of((DIRECTORY, LAW), breaking(LAW))

        assert (rejection.reason, rejection.category) == (LAW.reason, Category.AGAINST_RULES)

    def test_a_rule_names_everything_that_breaks_it(self):
        @rule("0.0", Reason.INVALID_TAG, Category.MALFORMED)
        def no_number_is_odd(numbers: tuple[int, ...]) -> Iterator[Breach]:
            """No number is odd."""
            for number in numbers:
                if number % 2:
                    yield breach(f"{number} is odd.", number=number)

        with pytest.raises(Rejection) as caught:
            enforce((no_number_is_odd,), (1, 2, 3))

        assert [each.metadata for each in caught.value.violations] == [{"number": 1}, {"number": 3}]
        assert str(caught.value) == "1 is odd."


class TestJudge:
    def test_everything_is_reported_in_the_order_of_judgement(self):
        rules = (LIMIT, LAW, KNOW, STATE, FORM, MAY)

        violations = judge(rules, breaking(*rules))

        assert [each.reason for each in violations] == [each.reason for each in IN_ORDER]

    def test_nothing_is_reported_when_every_rule_is_kept(self):
        assert judge(IN_ORDER, breaking()) == ()


class TestTheSteps:
    def test_they_are_those_of_the_law_and_in_its_order(self):
        law = (
            "Authenticated? → may you know of it? → may you do it? → is the request well formed? → "
            "is the state right? → do the rules allow it? → is it too much?"
        )

        told = " → ".join(
            {
                Step.WHO_CALLS: "Authenticated?",
                Step.MAY_YOU_KNOW_OF_IT: "may you know of it?",
                Step.MAY_YOU_DO_IT: "may you do it?",
                Step.IS_IT_WELL_FORMED: "is the request well formed?",
                Step.IS_THE_STATE_RIGHT: "is the state right?",
                Step.DO_THE_RULES_ALLOW_IT: "do the rules allow it?",
                Step.IS_IT_TOO_MUCH: "is it too much?",
            }[step]
            for step in sorted(Step)
            if step is not Step.CAN_THE_SERVICE_DO_IT
        )
        assert told == law

    @pytest.mark.parametrize("category", Category, ids=lambda category: category.name)
    def test_every_category_is_decided_in_one_of_them(self, category: Category):
        assert category.step in Step
