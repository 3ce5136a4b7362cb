"""docs/law.md, docs/rules.md and the rules say the same, in both directions."""

import ast
import re
from functools import cache

import pytest
from google.rpc.code_pb2 import Code

from contract.descriptions import ROOT, STATUSES, Row, described_reasons, law_lines, law_sections, rows
from ims.domain.rejection import Reason
from ims.rules.catalogue import all_rules
from ims.servicers.errors import CODES

ROWS = rows()
RULES = {rule.name: rule for rule in all_rules()}
LAW = law_lines()
NOT_YET = {
    law
    for line in re.findall(r"^Not yet: .*", (ROOT / "docs/rules.md").read_text(), re.MULTILINE)
    for law in re.findall(r"\d\.\d+", line)
}
"""The lines of which nothing is there yet."""

each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.law} {row.sentence}")


def test_every_line_of_the_law_has_a_row_or_is_said_to_be_missing():
    told = {row.law for row in ROWS}

    assert set(LAW) - told == NOT_YET
    assert told <= set(LAW) | law_sections()


def test_the_rows_are_in_the_order_of_the_law():
    numbers = [tuple(map(int, row.law.split("."))) for row in ROWS]

    assert numbers == sorted(numbers)


def test_every_rule_has_one_row():
    named = [rule for row in ROWS for rule in row.rules]

    assert sorted(named) == sorted(RULES)


@each_row
def test_a_row_is_held_by_a_rule_or_by_tests_or_is_not_yet(row: Row):
    assert len(row.rules) <= 1
    assert not (row.rules and row.tests)


@each_row
def test_a_row_says_of_its_rule_what_the_rule_says_of_itself(row: Row):
    for name in row.rules:
        rule = RULES[name]
        assert row.law == rule.law
        assert row.sentence == rule.sentence
        assert row.reasons == (rule.reason,)
        assert row.status == Code.Name(CODES[rule.category])


@each_row
def test_the_tests_of_a_row_exist(row: Row):
    for test in row.tests:
        path, _, function = test.partition("::")
        assert function in functions_in(path), test


@each_row
def test_a_reason_of_a_row_has_its_status(row: Row):
    assert {described_reasons()[reason].status for reason in row.reasons} == {row.status} - {""}


def test_every_reason_is_in_the_table():
    assert {reason for row in ROWS for reason in row.reasons} == set(Reason)


@pytest.mark.parametrize("law", [law for law in LAW if law not in NOT_YET])
def test_what_the_law_says_is_answered_is_what_its_rows_say(law: str):
    answers = {reason: row.status for row in ROWS if row.law == law for reason in row.reasons}

    for status, reason in re.findall(r"(\b[A-Z_]+)? `([A-Z]+(?:_[A-Z]+)+)`", LAW[law]):
        if reason not in Reason.__members__:
            assert reason in TYPES, reason
        elif status in STATUSES:
            assert answers[reason] == status
        else:
            assert reason in answers


TYPES = {"FULL_ECS", "SYSTEM_DISK", "DATA_DISK"}


@cache
def functions_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
