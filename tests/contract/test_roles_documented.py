"""The table of roles names every RPC of the protos, and docs/roles.md says what it says."""

import re

import pytest

from calling import ALL_METHODS
from contract.descriptions import ROOT
from ims.domain.caller import Role
from ims.rules.roles import SUFFICIENT_ROLES

ROW = re.compile(r"^\| `(\w+)` \|(.*)\|$", re.MULTILINE)
DOCUMENT = (ROOT / "docs/roles.md").read_text()
ROWS = {rpc: [cell.strip() for cell in cells.split("|")] for rpc, cells in ROW.findall(DOCUMENT)}
HEADER = re.search(r"^\| RPC \|(.*)\|$", DOCUMENT, re.MULTILINE)


def test_every_rpc_is_in_the_table_and_no_other():
    assert list(SUFFICIENT_ROLES) == list(ALL_METHODS)


def test_no_rpc_is_for_nobody():
    assert all(SUFFICIENT_ROLES.values())


def test_the_document_has_a_row_for_every_rpc_in_order_and_a_column_for_every_role():
    assert list(ROWS) == list(ALL_METHODS)
    assert [cell.strip(" `") for cell in HEADER[1].split("|")] == list(Role)


@pytest.mark.parametrize("rpc", ALL_METHODS)
def test_the_document_says_what_the_table_says(rpc: str):
    assert ROWS[rpc] == ["yes" if role in SUFFICIENT_ROLES[rpc] else "" for role in Role]
