"""Two regions, each with a service that names the other as a peer: copied, shared, interrupted."""

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from calling import Tenant, declined, error_of, image_of, metadata_of
from conftest import MakeCatalogue
from ims.client import Client, Declined, Disk
from ims.domain.image import KeyId
from ims.providers.keys import add_key
from ims.v1 import image_pb2
from serving import Server

SOON_SECONDS = 60
HERE, THERE = "eu-de", "eu-west"
CONTENT = b"0123456789abcdef" * 65536 * 24
DIGEST = hashlib.sha256(CONTENT).hexdigest()
SETTINGS = {
    "IMS_OPERATION_LEASE_SECONDS": "2",
    "IMS_UPLOAD_LEASE_SECONDS": "2",
    "IMS_SWEEP_SECONDS": "1",
    "IMS_WORKERS": "1",
}
SLOWLY = {"IMS_CHUNK_BYTES": "4096"}


pytestmark = pytest.mark.slow


class Region:
    """A region's services, on one catalogue and one folder: the first at an address that it keeps."""

    def __init__(self, name: str, folder: Path, catalogue: str, port: int) -> None:
        self.name = name
        self.folder = folder
        self.address = f"127.0.0.1:{port}"
        self._catalogue = catalogue

    def serve(self, peer: "Region", *, at: str = "", **settings: str) -> Server:
        config = self.folder.parent / f"{self.name}.toml"
        config.write_text(
            f'[peers.{peer.name}]\nserver = "{peer.address}"\ndevelopment_tenant = "ims.{self.name}"\n'
        )
        variables = {"IMS_REGION": self.name, "IMS_DATABASE_URL": self._catalogue}
        flags = ("--config", str(config), "--listen", at or self.address)
        return Server(self.folder, *flags, **(SETTINGS | variables | settings))


@pytest.fixture
def here(make_catalogue: MakeCatalogue, tmp_path: Path) -> Region:
    return Region(HERE, tmp_path / HERE, make_catalogue(), a_free_port())


@pytest.fixture
def there(make_catalogue: MakeCatalogue, tmp_path: Path) -> Region:
    return Region(THERE, tmp_path / THERE, make_catalogue(), a_free_port())


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def a_free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def caller_at(server: Server, closing: ExitStack, tenant: str = "owner", *roles: str) -> Tenant:
    caller = Tenant(server.target, tenant, *roles)
    closing.callback(caller.close)
    return caller


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + SOON_SECONDS
    while not holds():
        assert time.monotonic() < end
        threading.Event().wait(0.02)


def half_way(caller: Tenant, operation) -> bool:
    seen = metadata_of(caller.GetOperation(name=operation.name))
    assert seen.done_bytes < len(CONTENT)
    return seen.done_bytes > 0


def files(region: Region) -> list[Path]:
    """Return what holds bytes of images, finished or not."""
    found = (region.folder / "blobs").rglob("*")
    return [path for path in found if path.is_file() and path.name != "lock"]


def test_an_image_is_copied_and_shared_in_the_second_region(
    here: Region, there: Region, closing: ExitStack
):
    with here.serve(there) as first, there.serve(here) as second:
        owner, at_home_there = (Client(each.target, tenant="owner") for each in (first, second))
        recipient = Client(second.target, tenant="recipient", region=THERE)
        for client in (owner, at_home_there, recipient):
            closing.enter_context(client)
        source = caller_at(first, closing).active("debian-12", CONTENT)

        copy = owner.made_image(owner.copy_image_to_region(source.id, THERE))

        assert copy == at_home_there.get_image(copy.id)
        assert copy.name == "copy_eu-de_debian-12"
        assert copy.disks[0].sha256 == DIGEST
        at_home_there.share_image(copy.id, ["recipient"])
        recipient.accept_share(copy.id)
        target = there.folder / "downloaded"
        recipient.download(copy.id, target)
        assert hashlib.sha256(target.read_bytes()).hexdigest() == DIGEST

        # And back again: each is the other's peer.
        back = at_home_there.made_image(at_home_there.copy_image_to_region(copy.id, HERE, name="back"))
        assert back.disks == source.disks
        assert owner.get_image(back.id) == back


def test_what_the_law_keeps_in_its_region_is_refused(here: Region, there: Region, closing: ExitStack):
    with here.serve(there) as first, there.serve(here):
        add_key(here.folder / "keys.toml", KeyId("key-1"))
        owner = caller_at(first, closing)
        sealed = owner.active("sealed", encryption_key_id="key-1")
        plain = owner.active("plain")

        for image_id, region, reason in (
            (sealed.id, THERE, "ENCRYPTED_IMAGE_NOT_COPYABLE"),
            (plain.id, HERE, "SAME_REGION"),
            (plain.id, "us-east", "REGION_WITHOUT_PEER"),
        ):
            with declined() as refused:
                owner.CopyImageToRegion(image_id=image_id, region=region)
            assert refused.reason == reason


def test_a_peer_that_is_killed_half_way_is_gone_on_with(here: Region, there: Region, closing: ExitStack):
    with here.serve(there, **SLOWLY) as first:
        owner = caller_at(first, closing)
        source = owner.active("source", CONTENT)
        with there.serve(here) as second:
            begun = owner.CopyImageToRegion(image_id=source.id, region=THERE)
            until(lambda: half_way(owner, begun))
            second.kill()
        assert not owner.GetOperation(name=begun.name).done
        with there.serve(here) as again:
            copy = image_of(owner.ended(begun))

            assert copy.disks[0].sha256 == DIGEST
            at_home_there = caller_at(again, closing)
            assert at_home_there.download(copy.id) == CONTENT
            assert [each.id for each in at_home_there.ListImages().images] == [copy.id]
            until(lambda: len(files(there)) == 1)


def test_a_killed_servers_copy_is_finished_by_another(here: Region, there: Region, closing: ExitStack):
    with there.serve(here) as second:
        with here.serve(there, **SLOWLY) as first:
            owner = caller_at(first, closing)
            source = owner.active("source", CONTENT)
            begun = owner.CopyImageToRegion(image_id=source.id, region=THERE)
            until(lambda: half_way(owner, begun))
            first.kill()
        with here.serve(there, at="127.0.0.1:0") as another:
            owner = caller_at(another, closing)

            copy = image_of(owner.ended(begun))

            at_home_there = caller_at(second, closing)
            assert at_home_there.download(copy.id) == CONTENT
            assert [each.id for each in at_home_there.ListImages().images] == [copy.id]
            assert copy.state == image_pb2.Image.ACTIVE


def test_cancelled_half_way_it_leaves_nothing(here: Region, there: Region, closing: ExitStack):
    with here.serve(there, **SLOWLY) as first, there.serve(here) as second:
        owner, at_home_there = caller_at(first, closing), caller_at(second, closing)
        source = owner.active("source", CONTENT)
        begun = owner.CopyImageToRegion(image_id=source.id, region=THERE)
        until(lambda: half_way(owner, begun))

        owner.CancelOperation(name=begun.name)

        assert error_of(owner.ended(begun)).reason == "OPERATION_CANCELLED"
        assert not at_home_there.ListImages().images
        assert not at_home_there.ListImages(state="DELETED").images
        until(lambda: not files(there))
        quotas = at_home_there.GetQuotas().quotas
        assert (quotas.copies.used, quotas.stored_bytes.used) == (0, 0)


def test_a_deletion_of_its_source_half_way_ends_it(here: Region, there: Region, closing: ExitStack):
    with here.serve(there, **SLOWLY) as first, there.serve(here) as second:
        owner, at_home_there = caller_at(first, closing), caller_at(second, closing)
        source = owner.active("source", CONTENT)
        begun = owner.CopyImageToRegion(image_id=source.id, region=THERE)
        until(lambda: half_way(owner, begun))

        owner.DeleteImage(image_id=source.id)

        assert error_of(owner.ended(begun)).reason == "IMAGE_DELETED"
        assert not at_home_there.ListImages().images
        until(lambda: not files(there))


def test_a_full_ecs_image_needs_a_vault_there(here: Region, there: Region, closing: ExitStack):
    vaults = '{"owner": [{"id": "vault-1", "capacity_gib": 10}]}'
    with here.serve(there) as first, there.serve(here, IMS_VAULTS=vaults) as second:
        owner = closing.enter_context(Client(first.target, tenant="owner"))
        image = caller_at(first, closing, "cbr", "service").active(
            "server",
            CONTENT[:1000],
            type="FULL_ECS",
            source={"cbr_backup": {"backup_id": "b"}},
            owner_tenant_id="owner",
            disks=[{"format": "RAW"}] * 3,
        )

        with pytest.raises(Declined) as refused:
            owner.made_image(owner.copy_image_to_region(image.id, THERE))
        assert refused.value.reason == "VAULT_REQUIRED"
        copy = owner.made_image(owner.copy_image_to_region(image.id, THERE, vault_id="vault-1"))

        assert [disk.state for disk in copy.disks] == [Disk.STORED] * 3
        assert copy.disks == image.disks
        for index in range(3):
            assert caller_at(second, closing).download(copy.id, disk_index=index) == CONTENT[:1000]
