"""Operations outlive the server that does them: another finishes what a power cut has interrupted."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from calling import Tenant, image_of, metadata_of
from conftest import MakeCatalogue
from ims.domain.image import KeyId
from ims.providers.keys import add_key
from ims.repository.database import Database
from serving import Server

SOON_SECONDS = 60
CONTENT = b"0123456789abcdef" * 65536 * 48
SETTINGS = {
    "IMS_OPERATION_LEASE_SECONDS": "2",
    "IMS_UPLOAD_LEASE_SECONDS": "2",
    "IMS_SWEEP_SECONDS": "1",
    "IMS_WORKERS": "1",
}


@pytest.mark.slow
def test_a_killed_servers_work_is_finished_by_another(make_catalogue: MakeCatalogue, tmp_path: Path):
    settings = SETTINGS | {"IMS_DATABASE_URL": make_catalogue()}
    data = tmp_path / "data"
    # Chunks of a kilobyte: what the first has begun takes long.
    with Server(data, **settings, IMS_CHUNK_BYTES="1024") as first:
        add_key(data / "keys.toml", KeyId("key-1"))
        caller = Tenant(first.target, "owner")
        source = caller.active("source", CONTENT)
        begun = caller.CopyImage(image_id=source.id, name="copy", encryption_key_id="key-1")
        until(lambda: metadata_of(caller.GetOperation(name=begun.name)).done_bytes > 0)
        # Before another is there: that takes longer to start than the rest of the work.
        first.kill()
        caller.close()
        with Server(data, **settings) as second:
            caller = Tenant(second.target, "owner")

            ended = caller.ended(begun)

            assert caller.download(image_of(ended).id) == CONTENT
            assert taken_up(settings["IMS_DATABASE_URL"], begun.name) == 2
            until(lambda: len(files(data)) == 2)
            quotas = caller.GetQuotas().quotas
            assert (quotas.copies.used, quotas.stored_bytes.used) == (0, 2 * len(CONTENT))
            caller.close()


def taken_up(url: str, name: str) -> int:
    """Return how often an operation was taken up."""
    database = Database(url)
    with database.reading() as reading:
        found = reading.operations.find(name.partition("/")[2], "owner")
    database.close()
    assert found is not None
    return found.epoch


def files(data: Path) -> list[Path]:
    """Return what holds bytes of images, finished or not."""
    return [path for path in (data / "blobs").rglob("*") if path.is_file() and path.name != "lock"]


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON_SECONDS
    while not holds():
        assert time.monotonic() < end
        threading.Event().wait(0.05)
