"""`ims use …`, and asking beforehand what would be hit."""

import pytest

from cli.conftest import Ims

NOVA = {"tenant": "nova", "roles": "service"}


@pytest.fixture
def used(ims: Ims, owner, recipient, tiny) -> str:
    """The id of `tiny`, from which a server of the recipient's was made."""
    ims("share", "add", tiny, recipient, tenant=owner)
    ims("share", "accept", tiny, tenant=recipient)
    made = ("use", "register", tiny, "server-1", "--kind", "ecs", "--for-tenant", recipient)
    assert ims(*made, **NOVA).code == 0
    return tiny


def test_a_use_is_registered_listed_counted_and_released(ims: Ims, owner, recipient, used):
    listed = ims("use", "list", tenant=recipient)
    counted = ims("use", "count", "tiny", tenant=owner)
    own = ims("use", "count", "tiny", tenant=recipient, json=True)
    release = ("use", "release", used, "server-1", "--kind", "ecs", "--for-tenant", recipient)
    released = ims(*release, **NOVA)
    again = ims(*release, **NOVA)

    assert listed.stdout.splitlines()[2].split()[:3] == [used, "ECS", "server-1"]
    assert counted.stdout.splitlines()[2].split() == [recipient, "1", "0", "0"]
    assert [each["tenant_id"] for each in own.json["usages"]] == [recipient]
    assert released.stdout == f"Released ECS server-1 of image {used}.\n"
    assert (again.code, again.stdout[:28]) == (0, "There was nothing to release")
    assert ims("use", "list", "tiny", tenant=recipient).stdout == "No uses are registered.\n"


def test_a_lost_images_use_is_released_by_its_id(ims: Ims, owner, recipient, used):
    ims("image", "delete", used, tenant=owner)

    assert "server-1" in ims("use", "list", used, tenant=recipient).stdout
    released = ims("use", "release", used, "server-1", "--kind", "ecs", tenant=recipient, json=True)
    assert released.json == {"released": True}


def test_a_dry_deletion_tells_what_it_would_hit(ims: Ims, owner, recipient, used):
    would = ims("image", "delete", "tiny", "--dry-run", tenant=owner)
    required = ims("image", "delete", "tiny", "--dry-run", "--require-unused", tenant=owner)
    document = ims("image", "delete", "tiny", "--dry-run", tenant=owner, json=True).json

    assert would.code == 0
    assert "1 share would end. Nothing was deleted." in would.stdout
    assert "1 registered use of 1 tenant:" in would.stdout
    assert recipient in would.stdout
    assert "Nothing refuses it." in would.stdout
    assert required.code == 1
    assert "Refused: IMAGE_IN_USE" in required.stdout
    assert "→ Whose they are: `ims use count`." in required.stdout
    assert document["usage"]["use_count"] == "1"
    assert ims("image", "show", "tiny", tenant=owner).code == 0


def test_a_dry_removal_of_shares_tells_what_it_would_hit(ims: Ims, owner, recipient, used):
    would = ims("share", "remove", "tiny", "--all", "--dry-run", tenant=owner)
    idle = ims("share", "remove", "tiny", "nobody", "--dry-run", tenant=owner)

    assert "1 share would end. Nothing was changed." in would.stdout
    assert recipient in would.stdout
    assert "0 shares would end. Nothing was changed. It was not shared with nobody." in idle.stdout
    assert "No uses are registered." in idle.stdout
    assert len(ims("share", "list", "tiny", tenant=owner, json=True).json["shares"]) == 1


@pytest.mark.parametrize("taking", [("image", "delete", "tiny"), ("share", "remove", "tiny", "--all")])
def test_what_is_in_use_is_kept_where_that_is_required(ims: Ims, owner, used, taking):
    refused = ims(*taking, "--require-unused", tenant=owner)

    assert refused.code == 1
    assert "IMAGE_IN_USE" in refused.stderr
    assert ims(*taking, tenant=owner).code == 0
