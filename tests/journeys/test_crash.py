"""What a power cut leaves: the service is killed in the middle of an upload, and started again."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from calling import Tenant, declined
from ims.v1 import image_service_pb2
from serving import Server

CHUNK = os.urandom(256 * 1024)
CHUNKS = 8


def blob_files(data: Path) -> list[Path]:
    folder = data / "blobs"
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
def tenant_of():
    tenants = []

    def of(server: Server) -> Tenant:
        tenants.append(Tenant(server.target, "owner"))
        return tenants[-1]

    yield of
    for tenant in tenants:
        tenant.close()


def test_an_upload_killed_half_way_leaves_nothing_and_succeeds_at_the_next_try(tmp_path, tenant_of):
    data, impatient = tmp_path / "data", tmp_path / "impatient.toml"
    impatient.write_text("upload_lease_seconds = 1\nsweep_seconds = 0.2\n")
    with Server(data, "--config", str(impatient)) as server:
        tenant = tenant_of(server)
        kept = tenant.active("kept")
        image = tenant.create("cut")
        half_way, go_on = threading.Event(), threading.Event()

        def messages():
            request = image_service_pb2.UploadImageDataRequest
            yield request(start={"image_id": image.id, "size_bytes": len(CHUNK) * CHUNKS})
            for number in range(CHUNKS):
                if number == CHUNKS // 2:
                    half_way.set()
                    go_on.wait()
                yield request(chunk=CHUNK)

        upload = tenant._stubs["ImageService"].UploadImageData.future(
            messages(), metadata=tenant._metadata
        )
        half_way.wait()
        wait_until_written(data, at_least=len(CHUNK))
        assert state(tenant, image.id) == "SAVING"
        server.kill()
        go_on.set()
        with pytest.raises(grpc.RpcError):
            upload.result()

    assert len(blob_files(data)) == 2  # what was kept, and half a file

    with Server(data, "--config", str(impatient)) as server:
        tenant = tenant_of(server)

        wait_until(lambda: state(tenant, image.id) == "QUEUED" and len(blob_files(data)) == 1)
        assert tenant.download(kept.id)
        again = tenant.upload(image.id, CHUNK * CHUNKS).image
        assert again.State.Name(again.state) == "ACTIVE"
        assert tenant.download(image.id) == CHUNK * CHUNKS


def test_another_catalogue_costs_no_blob(tmp_path, tenant_of):
    """A service that is started once with the wrong catalogue leaves alone what it does not know."""
    data = tmp_path / "data"
    with Server(data) as server:
        kept = tenant_of(server).active("kept")
    with Server(data, "--database-url", f"sqlite:///{tmp_path / 'another'}") as server:
        assert not tenant_of(server).ListImages().images

    with Server(data) as server:
        assert tenant_of(server).download(kept.id)


def test_what_was_acknowledged_survives(tmp_path, tenant_of):
    data = tmp_path / "data"
    with Server(data) as server:
        owner = tenant_of(server)
        image = owner.active("shared")
        owner.ShareImage(image_id=image.id, recipients=[{"tenant_id": "recipient"}])
        server.kill()

    with Server(data) as server:
        shares = tenant_of(server).ListShares(image_id=image.id).shares
        assert [share.tenant_id for share in shares] == ["recipient"]


def test_a_second_server_on_the_same_port_is_refused(tmp_path):
    with Server(tmp_path / "one") as server, pytest.raises(AssertionError, match="cannot listen"):
        Server(tmp_path / "two", "--listen", server.target)


def test_sigterm_ends_the_service_with_code_0(tmp_path):
    server = Server(tmp_path / "data")

    assert server.stop() == 0


def test_a_stopped_service_is_gone(tmp_path, tenant_of):
    with Server(tmp_path / "data") as server:
        tenant = tenant_of(server)
        tenant.ListImages()
        server.stop()

        with declined() as gone:
            tenant.ListImages()

    assert gone.code == "UNAVAILABLE"


def state(tenant: Tenant, image_id: str) -> str:
    image = tenant.GetImage(image_id=image_id).image
    return image.State.Name(image.state)


def wait_until_written(data: Path, *, at_least: int) -> None:
    folder = data / "blobs" / "unfinished"
    wait_until(
        lambda: any(path.is_file() and path.stat().st_size >= at_least for path in folder.iterdir())
    )


def wait_until(is_so: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(1000):
        if is_so():
            return
        waiting.wait(0.01)
    message = "it never came to be so"
    raise AssertionError(message)
