"""The client as a whole: a method for every RPC, each against a real service."""

import re
import threading
from datetime import UTC, datetime
from itertools import islice

import pytest

from calling import METHODS
from conftest import MakeService
from ims.client import (
    Client,
    Declined,
    Disk,
    Image,
    OperatingSystem,
    Recipient,
    Relation,
    ResolveImageRequest,
    Share,
    Source,
)
from ims.client.vocabulary import TagFilter
from ims.v1.image_service_pb2 import ListImagesResponse


def an_image(client: Client, name: str = "debian", **more) -> Image:
    """Create an ACTIVE image."""
    image = client.create_image(name=name, type=Image.SYSTEM_DISK, formats=[Disk.RAW], **more)
    return client.upload_image_data(image.id, [b"bytes"], size_bytes=5).image


@pytest.mark.parametrize("rpc", METHODS)
def test_every_rpc_has_a_method_of_its_name(rpc):
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", rpc).lower()

    assert callable(getattr(Client, name))
    assert getattr(Client, name).__doc__


class TestImages:
    def test_a_created_image_is_as_it_was_described(self, acme):
        image = acme.create_image(
            name="debian",
            type=Image.SYSTEM_DISK,
            formats=[Disk.QCOW2],
            description="A small one.",
            os_type=OperatingSystem.LINUX,
            os_platform="Debian",
            os_version="12",
            os_bits=64,
            architecture=Image.AARCH64,
            firmware=Image.UEFI,
            min_disk_gib=10,
            min_ram_mib=512,
            max_ram_mib=1024,
            tags={"stage": "test"},
            protected=True,
            for_bms=True,
        )

        assert image == acme.get_image(image.id)
        assert (image.name, image.description, image.type) == (
            "debian",
            "A small one.",
            Image.SYSTEM_DISK,
        )
        assert image.os == OperatingSystem(
            type=OperatingSystem.LINUX, platform="Debian", version="12", bits=64
        )
        assert (image.architecture, image.firmware) == (Image.AARCH64, Image.UEFI)
        assert (image.min_disk_gib, image.min_ram_mib, image.max_ram_mib) == (10, 512, 1024)
        assert dict(image.tags) == {"stage": "test"}
        assert (image.protected, image.for_bms, image.state) == (True, True, Image.QUEUED)
        assert [disk.format for disk in image.disks] == [Disk.QCOW2]

    def test_a_service_creates_a_server_of_many_disks_for_another_tenant(self, client_of, globex):
        cbr = client_of("cbr", "service")

        image = cbr.create_image(
            name="server",
            type=Image.FULL_ECS,
            formats=[Disk.QCOW2, Disk.RAW],
            roles=[Disk.SYSTEM, Disk.DATA],
            source=Source(cbr_backup=Source.CbrBackup(backup_id="b-1")),
            owner_tenant_id="globex",
        )
        cbr.upload_image_data(image.id, [b"data"], size_bytes=4, disk_index=1)

        assert globex.get_image(image.id).source.cbr_backup.backup_id == "b-1"
        assert [disk.state for disk in globex.get_image(image.id).disks] == [Disk.EMPTY, Disk.STORED]

    def test_an_attribute_that_does_not_exist_is_noticed(self, acme):
        with pytest.raises(AttributeError):
            acme.create_image(name="x", type=Image.SYSTEM_DISK, formats=[Disk.RAW], min_disk_gb=1)

    def test_as_many_roles_as_formats_are_said_or_none(self, acme):
        with pytest.raises(ValueError, match="shorter"):
            acme.create_image(
                name="x", type=Image.FULL_ECS, formats=[Disk.RAW, Disk.RAW], roles=[Disk.SYSTEM]
            )

    def test_validation_stores_nothing(self, acme):
        image = acme.create_image(
            name="x", type=Image.SYSTEM_DISK, formats=[Disk.RAW], validate_only=True
        )

        assert (image.name, image.id) == ("x", "")
        assert list(acme.list_images()) == []

    def test_an_update_changes_what_is_given_and_nothing_else(self, acme):
        image = an_image(acme, description="old", os_platform="Debian", tags={"a": "1", "b": "2"})

        changed = acme.update_image(image.id, name="new", os_version="13", tags={}, description="")

        assert (changed.name, changed.description, dict(changed.tags)) == ("new", "", {})
        assert (changed.os.platform, changed.os.version) == ("Debian", "13")

    def test_an_update_says_which_image_it_is_based_on(self, acme):
        image = an_image(acme)

        changed = acme.update_image(image.id, etag=image.etag, protected=True)

        assert changed.protected
        with pytest.raises(Declined) as declined:
            acme.update_image(image.id, etag=image.etag, protected=False)
        assert declined.value.reason == "ETAG_MISMATCH"

    def test_a_list_goes_over_all_pages(self, acme):
        ids = [an_image(acme, f"image-{number}").id for number in range(5)]

        assert [image.id for image in acme.list_images(page_size=2)] == ids[::-1]

    def test_a_list_asks_no_more_pages_than_are_read(self, scripted):
        asked = []

        def answer(request, _):
            asked.append(request.page_token)
            return ListImagesResponse(images=[Image(), Image()], next_page_token=f"{len(asked)}")

        list(islice(scripted(ListImages=answer).list_images(), 3))

        assert asked == ["", "1"]

    @pytest.mark.parametrize(
        "filters",
        [
            {"relation": Relation.OWNED},
            {"image_class": Image.PRIVATE},
            {"type": Image.SYSTEM_DISK},
            {"state": Image.ACTIVE},
            {"name": "wanted"},
            {"name_prefix": "want"},
            {"os_type": OperatingSystem.LINUX},
            {"owner_tenant_id": "acme"},
            {"tags": {"stage": "test"}},
            {"tags_any": [TagFilter(key="stage")]},
            {"tags_none": [TagFilter(key="other", value="yes")], "name": "wanted"},
            {"min_size_bytes": 5, "max_size_bytes": 5},
            {"created_before": datetime(2126, 1, 1, tzinfo=UTC), "name": "wanted"},
            {"updated_from": datetime(2026, 1, 1, tzinfo=UTC), "name": "wanted"},
        ],
        ids=lambda filters: next(iter(filters)),
    )
    def test_a_list_is_filtered(self, acme, globex, client_of, filters):
        wanted = an_image(acme, "wanted", os_type=OperatingSystem.LINUX, tags={"stage": "test"})
        other = an_image(globex, "other", os_type=OperatingSystem.WINDOWS)
        client_of("op", "admin").publish_image(other.id)
        data = acme.create_image(name="other", type=Image.DATA_DISK, formats=[Disk.RAW])
        assert {image.id for image in acme.list_images()} == {wanted.id, other.id, data.id}

        listed = [image.id for image in acme.list_images(**filters)]

        assert wanted.id in listed
        assert len(listed) < 3

    def test_a_deleted_image_is_restored(self, acme, globex):
        image = an_image(acme)
        acme.share_image(image.id, ["globex"])

        assert acme.delete_image(image.id, validate_only=True).ended_share_count == 1
        assert acme.get_image(image.id).state == Image.ACTIVE
        assert acme.delete_image(image.id, etag=image.etag).ended_share_count == 1
        assert [each.id for each in acme.list_images(state=Image.DELETED)] == [image.id]
        assert acme.undelete_image(image.id).restored_share_count == 1
        assert globex.get_image(image.id).relation == Relation.SHARED_WITH_ME

    def test_a_deactivated_image_is_reactivated(self, acme):
        image = an_image(acme)

        assert acme.deactivate_image(image.id).state == Image.DEACTIVATED
        assert acme.reactivate_image(image.id).state == Image.ACTIVE

    def test_an_image_is_resolved(self, acme, client_of):
        image = an_image(acme, firmware=Image.UEFI)
        purpose = ResolveImageRequest.CHANGE_OS

        for_itself = acme.resolve_image(
            image.id, purpose, disk_gib=40, ram_mib=2048, firmware=Image.UEFI
        )
        for_another = client_of("nova", "service").resolve_image(image.id, purpose, tenant_id="acme")

        assert for_itself.disks[0].disk == image.disks[0]
        assert for_another.disks[0].read_with.tenant_id == "acme"
        with pytest.raises(Declined) as declined:
            acme.resolve_image(image.id, purpose, region="eu-nl")
        assert declined.value.reason == "IMAGE_NOT_IN_REGION"

    def test_only_an_administrator_publishes(self, acme, globex, client_of):
        image = an_image(acme)
        acme.share_image(image.id, ["globex"])
        admin = client_of("op", "admin")

        with pytest.raises(Declined) as declined:
            acme.publish_image(image.id)
        assert declined.value.reason == "ROLE_REQUIRED"
        assert admin.publish_image(image.id).ended_share_count == 1
        assert globex.get_image(image.id).relation == Relation.PUBLIC
        assert getattr(admin.unpublish_image(image.id), "class") == Image.PRIVATE


class TestSharing:
    def test_a_share_is_accepted_rejected_and_left(self, acme, globex):
        image = an_image(acme)

        shared = acme.share_image(image.id, ["globex", Recipient(tenant_id="initech", region="eu-de")])

        assert [result.share.status for result in shared.results] == [Share.PENDING, Share.PENDING]
        assert acme.get_share(image.id, "globex") == globex.get_share(image.id)
        assert [each.image.id for each in globex.list_received_shares()] == [image.id]
        assert globex.accept_share(image.id).status == Share.ACCEPTED
        assert [each.tenant_id for each in acme.list_shares(image.id, status=Share.ACCEPTED)] == [
            "globex"
        ]
        assert [each.id for each in globex.list_images()] == [image.id]
        assert globex.reject_share(image.id).status == Share.REJECTED
        assert list(globex.list_received_shares(status=Share.ACCEPTED)) == []
        globex.leave_share(image.id)
        assert [each.tenant_id for each in acme.list_shares(image.id)] == ["initech"]

    def test_lists_of_shares_go_over_all_pages(self, acme, globex):
        tenants = sorted(f"tenant-{number}" for number in range(5))
        images = [an_image(acme, f"image-{number}") for number in range(3)]
        acme.share_image(images[0].id, tenants)
        for image in images:
            acme.share_image(image.id, ["globex"])

        shares = acme.list_shares(images[0].id, page_size=2)
        received = globex.list_received_shares(page_size=2)

        assert [share.tenant_id for share in shares] == sorted([*tenants, "globex"])
        assert [each.image.name for each in received] == ["image-2", "image-1", "image-0"]

    def test_a_refused_tenant_refuses_all_unless_some_will_do(self, acme):
        image = an_image(acme)
        recipients = ["globex", Recipient(tenant_id="far", region="eu-nl")]

        with pytest.raises(Declined) as declined:
            acme.share_image(image.id, recipients)
        asked = acme.share_image(image.id, recipients, validate_only=True)
        assert list(acme.list_shares(image.id)) == []
        partly = acme.share_image(image.id, recipients, allow_partial=True)

        assert declined.value.reason == "CROSS_REGION_SHARE"
        assert declined.value.violations[0].subject == "far"
        assert [len(result.refusals) for result in asked.results] == [0, 1]
        assert [share.tenant_id for share in acme.list_shares(image.id)] == ["globex"]
        assert not partly.results[1].HasField("share")

    def test_sharing_ends_with_some_or_with_all(self, acme):
        image = an_image(acme)
        acme.share_image(image.id, ["a", "b", "c"])

        some = acme.unshare_image(image.id, ["a", "z"])
        rest = acme.unshare_image(image.id, all_tenants=True)

        assert [share.tenant_id for share in some.ended_shares] == ["a"]
        assert list(some.not_shared_tenant_ids) == ["z"]
        assert [share.tenant_id for share in rest.ended_shares] == ["b", "c"]

    def test_a_vault_is_named(self, make_service: MakeService):
        vaults = {"globex": [{"id": "v", "capacity_gib": 10}]}
        server = f"127.0.0.1:{make_service(vaults=vaults).port}"
        with (
            Client(server, tenant="cbr", roles=["service"]) as cbr,
            Client(server, tenant="acme") as acme,
            Client(server, tenant="globex") as globex,
        ):
            image = cbr.create_image(
                name="server",
                type=Image.FULL_ECS,
                formats=[Disk.RAW],
                source=Source(cbr_backup=Source.CbrBackup(backup_id="b-1")),
                owner_tenant_id="acme",
            )
            cbr.upload_image_data(image.id, [b"data"], size_bytes=4)
            acme.share_image(image.id, ["globex"])

            with pytest.raises(Declined) as declined:
                globex.accept_share(image.id)
            accepted = globex.accept_share(image.id, vault_id="v")

        assert declined.value.reason == "VAULT_REQUIRED"
        assert accepted.vault_id == "v"


def test_threads_share_a_client(acme):
    image = an_image(acme)
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(acme.get_image(image.id))) for _ in range(16)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [image] * 16
