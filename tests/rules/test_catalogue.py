"""What holds of every rule there is."""

import re
from pathlib import Path

import pytest

from ims.domain.rejection import Violation
from ims.rules.catalogue import all_rules
from ims.rules.engine import Rule
from rules.broken import BROKEN
from rules.facts import the_violation

HERE = Path(__file__).parent
RULES = {rule.name: rule for rule in all_rules()}
FACTS = [
    pytest.param(rule, facts, id=f"{rule.name}-{number}") for number, (rule, facts) in enumerate(BROKEN)
]


def test_a_name_stands_for_one_sentence():
    told = {(rule.name, rule.law, rule.reason, rule.category, rule.sentence) for rule in all_rules()}

    assert len(told) == len(RULES)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_rule_is_a_sentence(rule: Rule):
    assert re.fullmatch(r"[A-Zm].*[.)]", rule.sentence)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_has_a_class_of_tests_named_after_it(name: str):
    classes = {
        found
        for file in HERE.glob("test_*.py")
        for found in re.findall(r"^class Test(\w+)", file.read_text(), flags=re.MULTILINE)
    }

    assert "".join(word.capitalize() for word in name.split("_")) in classes


def test_every_rule_has_facts_that_break_it():
    assert {rule.name for rule, _ in BROKEN} == set(RULES)


@pytest.mark.parametrize(("rule", "facts"), FACTS)
def test_every_number_of_a_message_is_in_its_metadata(rule: Rule, facts: object):
    violation = the_violation(rule, facts)

    assert _numbers(violation) <= _values(violation)


def _numbers(violation: Violation) -> set[str]:
    # 0 and 1 are where counting begins, and no limits of anybody's.
    words = re.findall(r"(?<![\w.-])-?\d+(?![\w-])", violation.message)
    return set(words) - {"0", "1"}


def _values(violation: Violation) -> set[str]:
    values = set(violation.metadata.values())
    in_gib = {value // 1024**3 for value in values if isinstance(value, int)}
    return {str(value) for value in values | in_gib}


@pytest.mark.parametrize(("rule", "facts"), FACTS)
def test_metadata_keys_are_lower_camel_case(rule: Rule, facts: object):
    assert all(
        re.fullmatch(r"[a-z]+([A-Z0-9][a-z0-9]*)*", key) for key in the_violation(rule, facts).metadata
    )
