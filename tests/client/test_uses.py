"""What a Python program does about registered uses."""

import re
from pathlib import Path

import pytest

from client.test_client import an_image
from ims.client import Declined, TenantUsage, Use


@pytest.fixture
def image_id(acme, globex):
    image = an_image(acme)
    acme.share_image(image.id, ["globex"])
    globex.accept_share(image.id)
    return image.id


def test_a_use_is_registered_listed_counted_and_released(client_of, acme, globex, image_id):
    nova = client_of("nova", "service")

    use = nova.register_use(image_id, Use.ECS, "server-1", tenant_id="globex")

    assert list(globex.list_uses()) == list(nova.list_uses(tenant_id="globex")) == [use]
    assert list(globex.list_uses(image_id, kind=Use.VOLUME)) == []
    assert list(acme.get_usage(image_id)) == [TenantUsage(tenant_id="globex", ecs_count=1)]
    assert nova.release_use(image_id, Use.ECS, "server-1", tenant_id="globex")
    assert not nova.release_use(image_id, Use.ECS, "server-1", tenant_id="globex")
    assert list(globex.list_uses()) == []


def test_lists_go_over_all_pages(acme, globex, image_id):
    for number in range(3):
        acme.register_use(image_id, Use.ECS, f"server-{number}")
    globex.register_use(image_id, Use.VOLUME, "volume")

    uses = acme.list_uses(page_size=1)
    usages = acme.get_usage(image_id, page_size=1)

    assert [use.consumer_id for use in uses] == ["server-0", "server-1", "server-2"]
    assert [usage.tenant_id for usage in usages] == ["acme", "globex"]


@pytest.mark.parametrize("all_tenants", [False, True])
def test_nothing_in_use_is_taken_away_where_that_is_required(acme, globex, image_id, all_tenants):
    globex.register_use(image_id, Use.ECS, "server-1")
    whose = {"tenant_ids": () if all_tenants else ("globex",), "all_tenants": all_tenants}

    for take in (acme.delete_image, lambda *args, **more: acme.unshare_image(*args, **whose, **more)):
        with pytest.raises(Declined) as declined:
            take(image_id, require_unused=True)
        told = take(image_id, require_unused=True, validate_only=True)

        assert declined.value.reason == "IMAGE_IN_USE"
        assert declined.value.metadata == {"uses": "1", "tenants": "1"}
        assert len(told.refusals) == told.usage.use_count == 1
        assert list(told.usage.usages) == [TenantUsage(tenant_id="globex", ecs_count=1)]


def test_what_the_documentation_tells_consumers_to_do_works(client_of, acme, globex, image_id, tmp_path):
    guide = (Path(__file__).parents[2] / "docs" / "consumers.md").read_text()
    making, tearing_down = re.findall(r"^```python\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    given = {
        "nova": client_of("nova", "service"),
        "tenant": "globex",
        "image_id": image_id,
        "server_id": "server-1",
        "folder": tmp_path,
    }

    exec(making, given)
    assert (tmp_path / "disk-0").read_bytes() == b"bytes"
    assert [use.consumer_id for use in globex.list_uses()] == ["server-1"]
    acme.delete_image(image_id)
    exec(tearing_down, given)
    assert list(globex.list_uses()) == []
