"""`ims quota …`: tenants look, administrators set."""

import pytest

from cli.conftest import Ims


def test_a_tenant_sees_what_it_has_of_how_much(ims: Ims, owner: str, tiny: str):
    shown = ims("quota", tenant=owner)
    told = ims("quota", tenant=owner, json=True).json["quotas"]

    assert [line.split() for line in shown.stdout.splitlines()[2:]] == [
        ["private", "images", "1", "50", "default"],
        ["stored", "bytes", "32.0", "KiB", "6.2", "TiB", "default"],
        ["creations", "at", "once", "0", "40", "default"],
        ["copies", "at", "once", "0", "5", "default"],
    ]
    assert told["private_images"] == {"used": "1", "limit": "50", "overridden": False}


def test_an_administrator_gives_a_tenant_limits_of_its_own_and_takes_them_back(ims: Ims, owner: str):
    admin = {"tenant": "operator", "roles": "admin"}

    raised = ims("quota", "set", owner, "--images", 100, "--bytes", "10TiB", "--creations", 0, **admin)
    shown = ims("quota", "show", owner, **admin, json=True).json["quotas"]
    partly = ims("quota", "set", owner, "--images", "default", **admin, json=True).json["quotas"]

    assert raised.code == 0
    assert raised.stdout.count("override") == 3
    assert shown["private_images"] == {"used": "0", "limit": "100", "overridden": True}
    assert shown["stored_bytes"]["limit"] == str(10 * 1024**4)
    assert shown["creations"] == {"used": "0", "limit": "0", "overridden": True}
    assert partly["private_images"] == {"used": "0", "limit": "50", "overridden": False}
    assert partly["stored_bytes"]["overridden"]


@pytest.mark.parametrize(
    ("said", "means"), [("7", 7), ("7B", 7), ("3 KiB", 3072), ("2gib", 2 * 1024**3), ("0", 0)]
)
def test_a_size_is_said_as_people_say_it(ims: Ims, owner: str, said: str, means: int):
    told = ims("quota", "set", owner, "--bytes", said, tenant="operator", roles="admin", json=True).json[
        "quotas"
    ]

    assert told["stored_bytes"]["limit"] == str(means)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ((), "Say at least one limit"),
        (("--images", "many"), "'many' is no number, nor 'default'"),
        (("--images", "-1"), "'-1' is no number"),
        (("--bytes", "10 TB"), "'10 TB' is no size such as 10TiB"),
    ],
)
def test_what_is_no_limit_is_wrong_usage(ims: Ims, owner: str, options, complaint):
    ended = ims("quota", "set", owner, *options, tenant="operator", roles="admin")

    assert ended.code == 2
    assert complaint in ended.usage_error


def test_whoever_has_no_room_is_told_where_to_look(ims: Ims, owner: str):
    ims("quota", "set", owner, "--images", 0, tenant="operator", roles="admin")

    refused = ims("image", "create", "--name", "one", "--format", "raw", tenant=owner)

    assert refused.code == 1
    assert "IMAGE_QUOTA_EXCEEDED: The tenant has 0 private images of at most 0" in refused.stderr
    assert "`ims quota`" in refused.stderr


def test_only_administrators_set(ims: Ims, owner: str):
    refused = ims("quota", "set", owner, "--images", 100, tenant=owner)

    assert refused.code == 1
    assert "ROLE_REQUIRED" in refused.stderr
