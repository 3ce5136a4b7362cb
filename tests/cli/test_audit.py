"""`ims audit …`."""

import json
import time

from cli.conftest import Ims

SOON_SECONDS = 10


def test_events_are_listed_for_people_and_for_programs(ims: Ims, owner, recipient, tiny):
    ims("share", "add", tiny, recipient, tenant=owner)

    listed = ims("audit", "list", "tiny", tenant=owner)
    half = ims("audit", "list", tenant=recipient, json=True)
    last = ims("audit", "list", "--limit", "1", "--oldest-first", tenant=owner, json=True)

    titles, _, newest, *_ = listed.stdout.splitlines()
    assert titles.split() == ["TIME", "WHO", "ACTION", "IMAGE", "TENANT", "RESULT", "DETAILS"]
    assert newest.split()[-6:] == [owner, "ShareImage", "tiny", recipient, "OK", "statusTo=PENDING"]
    (event,) = half.json["events"]
    assert (event["action"], event["counterpart_tenant_id"]) == ("ShareImage", recipient)
    assert [event["action"] for event in last.json["events"]] == ["CreateImage"]


def test_everything_is_exported_as_json_lines(ims: Ims, owner, recipient, tiny):
    ims("share", "add", tiny, recipient, tenant=owner)

    lines = ims("audit", "export", tenant=owner).stdout.splitlines()
    some = ims("audit", "export", tiny, "--counterpart", recipient, tenant=owner).stdout.splitlines()
    governors = ims("audit", "export", "--for-tenant", owner, tenant="governor", roles="admin")

    actions = [json.loads(line)["action"] for line in lines]
    assert actions == ["CreateImage", "StartUpload", "FinishUpload", "ShareImage"]
    assert [json.loads(line)["action"] for line in some] == ["ShareImage"]
    assert governors.stdout.splitlines() == lines


def test_who_has_nothing_on_record_is_told_so(ims: Ims, recipient):
    assert ims("audit", "list", tenant=recipient).stdout == "Nothing is on record.\n"
    assert ims("audit", "export", tenant=recipient).stdout == ""


def test_another_tenants_are_refused_with_what_to_do(ims: Ims, owner, recipient):
    refused = ims("audit", "list", "--for-tenant", owner, tenant=recipient)

    assert refused.code == 1
    assert "ROLE_REQUIRED" in refused.stderr
    assert "says so with --roles: admin" in refused.stderr


def test_what_was_refused_is_listed_a_little_later(ims: Ims, owner, recipient):
    ims("audit", "list", "--for-tenant", owner, tenant=recipient)

    end = time.monotonic() + SOON_SECONDS
    while "ROLE_REQUIRED" not in (told := ims("audit", "list", tenant=recipient).stdout):
        assert time.monotonic() < end, told


def test_an_administrator_and_the_service_itself_are_told_by_their_kind(ims: Ims, owner, tiny):
    ims("quota", "set", owner, "--images", "7", tenant="governor", roles="admin")

    (row,) = [
        line for line in ims("audit", "list", tenant=owner).stdout.splitlines() if "Quotas" in line
    ]
    assert "(administrator)" in row
    assert "private_images=7" in row
