"""What a Python program does about the audit trail."""

from datetime import UTC, datetime

import pytest

from client.test_client import an_image
from ims.client import Declined, Disk, Image


@pytest.fixture
def image_id(acme, globex):
    image = an_image(acme)
    acme.share_image(image.id, ["globex"])
    globex.accept_share(image.id)
    return image.id


def test_events_are_listed_over_all_pages_and_exported(acme, globex, image_id):
    own = list(acme.list_audit_events(page_size=2))
    half = list(globex.list_audit_events(oldest_first=True))

    assert [event.action for event in own] == [
        "AcceptShare",
        "ShareImage",
        *["UploadImageData"] * 2,
        "CreateImage",
    ]
    assert [event.action for event in half] == ["ShareImage", "AcceptShare"]
    assert list(acme.export_audit_events()) == own[::-1]


def test_only_what_is_wanted_is_listed_and_exported(acme, globex, image_id):
    another = acme.create_image(name="another", type=Image.ISO, formats=[Disk.ISO]).id
    moment = datetime(2126, 1, 1, tzinfo=UTC)

    for wanted, actions in (
        ({"image_id": another}, ["CreateImage"]),
        ({"image_id": image_id, "action": "ShareImage"}, ["ShareImage"]),
        ({"actor_tenant_id": "globex"}, ["AcceptShare"]),
        ({"counterpart_tenant_id": "globex", "time_before": moment}, ["AcceptShare", "ShareImage"]),
        ({"result": "NOT_IMAGE_OWNER"}, []),
        ({"time_from": moment}, []),
    ):
        assert [event.action for event in acme.list_audit_events(**wanted)] == actions
        assert [event.action for event in acme.export_audit_events(**wanted)] == actions[::-1]


def test_another_tenants_are_an_administrators_to_read(client_of, acme, image_id):
    governor = client_of("governor", "admin")

    assert list(governor.list_audit_events(tenant_id="acme")) == list(acme.list_audit_events())
    for read in (acme.list_audit_events, acme.export_audit_events):
        with pytest.raises(Declined) as declined:
            list(read(tenant_id="globex"))
        assert declined.value.reason == "ROLE_REQUIRED"
