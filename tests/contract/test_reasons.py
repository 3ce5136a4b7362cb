"""Reasons: the code, error_reason.proto and the table of statuses say the same."""

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from google.protobuf.json_format import ParseDict
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import ErrorInfo

from contract.descriptions import ROOT, STATUSES, described_reasons, law_lines, law_sections
from ims.domain.rejection import Category, Reason
from ims.rules.catalogue import all_rules
from ims.servicers.errors import CODES, DOMAIN, internal_status
from ims.v1.error_reason_pb2 import ErrorReason
from rules.broken import metadata_keys_sent

SRC = ROOT / "src" / "ims"
REASONS = described_reasons()


# --- what the code does ---


@dataclass(frozen=True)
class Rejecting:
    """A place in the code that rejects without a rule."""

    reason: Reason
    category: Category
    metadata_keys: frozenset[str]


def sources() -> Iterator[Path]:
    """Yield the files of the service that know reasons, but the one that defines them."""
    for room in (
        "identity",
        "servicers",
        "use_cases",
        "rules",
        "repository",
        "blob_store",
        "disk_files",
        "providers",
        "peers",
    ):
        yield from sorted((SRC / room).rglob("*.py"))


def rejecting() -> Iterator[Rejecting]:
    """Yield every call of `reject` there is."""
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "reject"
            ):
                category, reason, _message = node.args
                keys = [keyword.arg for keyword in node.keywords]
                assert None not in keys, "metadata is spelt out where it is raised"
                yield Rejecting(
                    Reason[reason.attr], Category[category.attr], frozenset(keys) - {"subject"}
                )


def internal_error() -> ErrorInfo:
    info = ErrorInfo()
    internal_status().details[0].Unpack(info)
    return info


@cache
def statuses_sent() -> dict[str, set[str]]:
    sent = defaultdict(set)
    for rejection in (*all_rules(), *rejecting()):
        sent[rejection.reason].add(Code.Name(CODES[rejection.category]))
    sent[internal_error().reason].add(Code.Name(internal_status().code))
    return sent


@cache
def keys_sent() -> dict[str, set[frozenset[str]]]:
    sent = defaultdict(set, metadata_keys_sent())
    for rejection in rejecting():
        sent[rejection.reason].add(rejection.metadata_keys)
    sent[internal_error().reason].add(frozenset(internal_error().metadata))
    return sent


# --- the tests ---


def test_the_code_and_the_proto_know_the_same_reasons():
    assert {reason.value for reason in Reason} == set(ErrorReason.keys()) - {"ERROR_REASON_UNSPECIFIED"}
    assert all(reason.name == reason.value for reason in Reason)


def test_every_reason_that_the_code_names_exists_and_every_one_is_named():
    named = {
        name for path in sources() for name in re.findall(r"\bReason\.([A-Z_]+)\b", path.read_text())
    }

    assert named == set(Reason.__members__)


def test_every_reason_is_raised():
    assert set(statuses_sent()) == set(Reason)


def test_every_category_has_a_status_and_a_step():
    assert set(CODES) == set(Category)
    assert all(category.step for category in Category)


@pytest.mark.parametrize("reason", REASONS)
def test_the_status_in_the_comment_is_the_one_that_is_sent(reason: str):
    assert REASONS[reason].status in STATUSES
    assert statuses_sent()[reason] == {REASONS[reason].status}


@pytest.mark.parametrize("reason", REASONS)
def test_the_law_in_the_comment_is_that_of_the_rules(reason: str):
    laws = {rule.law for rule in all_rules() if rule.reason == reason}

    assert laws <= REASONS[reason].laws <= set(law_lines()) | law_sections()


@pytest.mark.parametrize("reason", REASONS)
def test_the_example_is_an_error_info_of_this_reason(reason: str):
    info = ParseDict(json.loads(REASONS[reason].example), ErrorInfo())

    assert (info.reason, info.domain) == (reason, DOMAIN)


@pytest.mark.parametrize("reason", REASONS)
def test_the_metadata_of_the_example_is_what_is_sent(reason: str):
    example = frozenset(json.loads(REASONS[reason].example)["metadata"])
    sent = keys_sent()[reason]

    assert example in sent
    others = frozenset().union(*sent) - example
    assert others <= set(re.findall(r"`(\w+)`", REASONS[reason].prose)), "keys that nobody explains"
