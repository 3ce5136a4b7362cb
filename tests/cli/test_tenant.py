"""`ims tenant …`: administrators govern; and `--as-admin`, for any tenant's image."""

import pytest

from cli.conftest import Ims

ADMIN = {"tenant": "operator", "roles": "admin"}


def test_a_tenant_is_registered_moved_shown_and_listed(ims: Ims, owner: str):
    registered = ims("tenant", "register", owner, "--in", "eu-de", **ADMIN)
    moved = ims("tenant", "move", owner, f"region-of-{owner}", **ADMIN, json=True).json["tenant"]
    shown = ims("tenant", "show", owner, **ADMIN)
    listed = ims("tenant", "list", "--in", f"region-of-{owner}", **ADMIN)
    suspended = ims("tenant", "list", "--state", "suspended", "--in", f"region-of-{owner}", **ADMIN)

    assert registered.code == 0, registered
    assert (moved["id"], moved["region"], moved["state"]) == (owner, f"region-of-{owner}", "ACTIVE")
    assert ["region", f"region-of-{owner}"] in [line.split() for line in shown.stdout.splitlines()]
    assert listed.stdout.splitlines()[2].split()[:3] == [owner, f"region-of-{owner}", "ACTIVE"]
    assert suspended.stdout == "No tenants.\n"


def test_a_suspended_tenant_is_told_whom_to_ask(ims: Ims, owner: str, tiny: str):
    ims("tenant", "register", owner, "--in", "eu-de", **ADMIN)
    suspended = ims("tenant", "suspend", owner, **ADMIN)
    refused = ims("image", "list", tenant=owner)
    resumed = ims("tenant", "resume", owner, **ADMIN)

    assert suspended.stdout == f"Suspended {owner} (eu-de).\n"
    assert refused.code == 1
    assert "TENANT_SUSPENDED" in refused.stderr
    assert f"`ims tenant resume {owner}`" in refused.stderr
    assert resumed.stdout == f"Resumed {owner} (eu-de).\n"
    assert tiny in ims("image", "list", tenant=owner).stdout


def test_new_shares_of_one_tenant_are_blocked_and_allowed_again(
    ims: Ims, owner: str, recipient: str, tiny: str
):
    ims("tenant", "register", owner, "--in", "eu-de", **ADMIN)
    blocked = ims("tenant", "block-sharing", owner, **ADMIN)
    refused = ims("share", "add", tiny, recipient, tenant=owner)
    allowed = ims("tenant", "allow-sharing", owner, **ADMIN, json=True).json["tenant"]

    assert "blocked" in blocked.stdout
    assert "SHARING_BLOCKED" in refused.stderr
    assert allowed["sharing_blocked"] is False
    assert ims("share", "add", tiny, recipient, tenant=owner).code == 0


def test_new_shares_of_everybody_are_blocked_and_allowed_again(
    ims: Ims, owner: str, recipient: str, tiny: str
):
    blocked = ims("tenant", "block-sharing", "--everybody", **ADMIN)
    try:
        refused = ims("share", "add", tiny, recipient, tenant=owner)
        told = ims("tenant", "sharing-policy", **ADMIN, json=True).json
    finally:
        allowed = ims("tenant", "allow-sharing", "--everybody", **ADMIN)

    assert blocked.stdout == "New shares are blocked for everybody.\n"
    assert "SHARING_BLOCKED" in refused.stderr
    assert told == {"policy": {"new_shares_blocked": True}}
    assert "allowed" in allowed.stdout


@pytest.mark.parametrize("arguments", [(), ("acme", "--everybody")])
def test_a_block_is_of_one_or_of_all(ims: Ims, arguments):
    ended = ims("tenant", "block-sharing", *arguments, **ADMIN)

    assert ended.code == 2
    assert "Name a tenant, or say --everybody" in ended.usage_error


def test_an_administrator_deactivates_what_its_owner_cannot_reactivate(ims: Ims, owner: str, tiny: str):
    deactivated = ims("image", "deactivate", tiny, "--as-admin", **ADMIN)
    shown = ims("image", "show", tiny, tenant=owner)
    refused = ims("image", "reactivate", tiny, tenant=owner)
    reactivated = ims("image", "reactivate", tiny, "--as-admin", **ADMIN)

    assert deactivated.code == 0, deactivated
    assert "an administrator" in shown.stdout
    assert "DEACTIVATED_BY_ADMINISTRATOR" in refused.stderr
    assert reactivated.code == 0, reactivated


def test_only_administrators_govern(ims: Ims, owner: str):
    refused = ims("tenant", "register", owner, "--in", "eu-de", tenant=owner)

    assert refused.code == 1
    assert "ROLE_REQUIRED" in refused.stderr
