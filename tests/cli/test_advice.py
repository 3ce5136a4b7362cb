"""What people are advised to do about a rejection."""

import json
import re
import string
from pathlib import Path

import pytest

from ims.cli.advice import _BY_NAME, on_refusals, on_rejection
from ims.client import Declined, ErrorReason, Refusal, Violation

PROTO = Path(__file__).parents[2] / "protos/ims/v1/error_reason.proto"


def documented_metadata() -> dict[str, set[str]]:
    """Return the metadata keys of each reason's worked example in the contract."""
    examples = re.findall(r'^ *//  +(\{"reason".*\})$', PROTO.read_text(), re.MULTILINE)
    parsed = [json.loads(example) for example in examples]
    return {example["reason"]: set(example["metadata"]) for example in parsed}


@pytest.mark.parametrize("reason", _BY_NAME)
def test_advice_mentions_only_what_the_contract_promises(reason):
    fields = {field for _, field, _, _ in string.Formatter().parse(_BY_NAME[reason]) if field}

    assert fields <= documented_metadata()[reason]


def a_rejection(*reasons: str, **metadata: str) -> Declined:
    return Declined(
        "No.",
        code="FAILED_PRECONDITION",
        reason=reasons[0],
        metadata=metadata,
        violations=[Violation(reason, "", "No.") for reason in reasons],
    )


def test_each_advice_is_given_once():
    advice = on_rejection(a_rejection("SHARE_WITH_OWNER", "SHARE_WITH_OWNER", "SHARE_NOT_ACCEPTED"))

    assert advice == ["Leave that tenant out.", "`ims share accept IMAGE`."]


def test_advice_names_the_numbers():
    assert on_rejection(a_rejection("VAULT_TOO_SMALL", neededGib="140")) == [
        "Name a vault of at least 140 GiB."
    ]


def test_a_server_that_does_not_tell_a_number_leaves_the_rest_of_the_advice():
    assert on_rejection(a_rejection("VAULT_TOO_SMALL", "SHARE_WITH_OWNER")) == ["Leave that tenant out."]


def test_an_unknown_reason_has_no_advice():
    assert on_rejection(a_rejection("A_REASON_OF_THE_FUTURE")) == []
    assert on_rejection(Declined("No.", code="UNIMPLEMENTED")) == []


def test_refusals_are_advised_about_like_rejections():
    refusal = Refusal(reason=ErrorReason.SHARE_WITH_OWNER)

    assert on_refusals([refusal, refusal]) == ["Leave that tenant out."]
