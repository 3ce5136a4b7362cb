"""The disk fails at random, under bytes and catalogue: nothing wrong is served, nothing is left."""

import hashlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from calling import MIB, Tenant, answer_of, error_of
from failing_disks import (
    EVERYTHING,
    NO_ROOM,
    NO_ROOM_AT_ALL,
    NO_ROOM_FOR_THE_CATALOGUE,
    OPEN,
    SHORT_WRITES,
    SYNC,
    TRUNCATE,
    UNLINK,
    ServerOnFailingDisk,
)
from ims.domain.image import KeyId
from ims.providers.keys import add_key
from journeys.test_kills import doctor, listed
from providers.web import HOST, Source, file, sources

CLIENTS = 3
TURNS = 54
FAULTS = (
    *(NO_ROOM, NO_ROOM_FOR_THE_CATALOGUE, NO_ROOM_AT_ALL, SYNC, OPEN, UNLINK, TRUNCATE, EVERYTHING),
    SHORT_WRITES,
)
PROBABILITIES = (0.02, 0.1, 0.4)
SOON_SECONDS = 60
KEY = "key-1"
SETTINGS = {
    "IMS_WORKERS": "2",
    "IMS_UPLOAD_LEASE_SECONDS": "1",
    "IMS_UPLOAD_PATIENCE_SECONDS": "5",
    "IMS_OPERATION_LEASE_SECONDS": "1",
    "IMS_SWEEP_SECONDS": "0.3",
    "IMS_PRIVATE_IMAGES_PER_TENANT": "100000",
    "IMS_CREATIONS_PER_TENANT": "100000",
}
TOLD = {
    ("OK", ""),
    ("RESOURCE_EXHAUSTED", "STORAGE_FULL"),
    ("UNAVAILABLE", "STORAGE_UNAVAILABLE"),
    ("UNAVAILABLE", "CATALOGUE_UNAVAILABLE"),
    # The key file is on the same disk.
    ("FAILED_PRECONDITION", "KEY_UNAVAILABLE"),
    # What an earlier failure has left: an upload that has ended, or is not whole.
    ("NOT_FOUND", "UPLOAD_NOT_FOUND"),
    ("ABORTED", "UPLOAD_SUPERSEDED"),
    ("FAILED_PRECONDITION", "UPLOAD_INCOMPLETE"),
    ("OUT_OF_RANGE", "UPLOAD_OFFSET_MISMATCH"),
}
"""All that a caller is told: what happened, in words that tell whether to try again."""


@pytest.fixture
def source() -> Iterator[Source]:
    """Where the content of an image is fetched from, by its name."""
    with sources() as make:
        yield make(lambda request: file(content_of(request.target.strip("/")))(request))


@pytest.fixture
def server(tmp_path: Path, source: Source) -> Iterator[ServerOnFailingDisk]:
    data = tmp_path / "data"
    data.mkdir()
    add_key(data / "keys.toml", KeyId(KEY))
    opened = f'["{HOST}:{source.port}"]'
    with ServerOnFailingDisk(data, **SETTINGS, IMS_IMPORT_ALLOWED_HOSTS=opened) as server:
        yield server


def content_of(name: str) -> bytes:
    """Return the bytes that an image of that name is to have."""
    chance = random.Random(name)
    return chance.randbytes(chance.choice([1, 1000, MIB, 3 * MIB + 5]))


class Client:
    """Fills images while the disk fails, and keeps book of what it was told."""

    def __init__(self, server: ServerOnFailingDisk, source: Source, number: int) -> None:
        self._chance = random.Random(number)
        self._source = source
        self.tenant = Tenant(server.target, f"owner-{number}")
        self.told: Counter[tuple[str, str, str]] = Counter()
        """How often which RPC was answered with which code and reason."""
        self.filled: set[str] = set()
        """The names of the images of which it was said that all is well."""
        self.imports: dict[str, str] = {}
        """The imports that have begun, by their images' names."""

    def fill_one(self, turn: int) -> None:
        name = f"image-{turn}"
        key = {"encryption_key_id": KEY} if self._chance.random() < 0.4 else {}
        created = self._ask("CreateImage", lambda: self.tenant.create(name, **key))
        if created is not None:
            fill = self._chance.choice([self._in_one_call, self._in_goes, self._in_goes, self._imported])
            fill(created.id, name)

    def _in_one_call(self, image_id: str, name: str) -> None:
        content = content_of(name)
        if self._ask("UploadImageData", lambda: self.tenant.upload(image_id, content)):
            self.filled.add(name)

    def _in_goes(self, image_id: str, name: str) -> None:
        """Upload in goes of random length, each from where the service says that it is."""
        content = content_of(name)
        upload = self._ask("StartUpload", lambda: self.tenant.start_upload(image_id, content))
        for _ in range(5):
            if upload is None or upload.received_bytes == len(content):
                break
            self._write(upload, content)
            upload = self._ask("GetUpload", lambda: self._found(image_id))
        if upload is not None and self._ask("FinishUpload", lambda: self._finished(upload)):
            self.filled.add(name)

    def _write(self, upload: Any, content: bytes) -> None:
        place = upload.received_bytes
        part = content[place : self._chance.randrange(place, len(content)) + 1]
        self._ask("WriteUpload", lambda: self.tenant.write_upload(upload, part, offset_bytes=place))

    def _found(self, image_id: str) -> Any:
        return self.tenant.GetUpload(image_id=image_id, disk_index=0).upload

    def _finished(self, upload: Any) -> Any:
        return self.tenant.FinishUpload(image_id=upload.image_id, disk_index=0, upload_id=upload.id)

    def _imported(self, image_id: str, name: str) -> None:
        url = f"{self._source.url}/{name}"
        begun = self._ask("ImportImage", lambda: self.tenant.ImportImage(image_id=image_id, url=url))
        if begun is not None:
            self.imports[name] = begun.name

    def _ask(self, rpc: str, call: Callable[[], Any]) -> Any:
        """Return what a call returns; None where it is declined."""
        returned: list[Any] = [None]
        answer = answer_of(lambda: returned.append(call()))
        self.told[rpc, answer.code, answer.reason] += 1
        return returned[-1]

    def see_imports_end(self) -> None:
        """Put down how the imports have ended, when the disk works again."""
        for name, operation in self.imports.items():
            ended = self.tenant.ended(self.tenant.GetOperation(name=operation))
            if ended.HasField("response"):
                self.filled.add(name)
            else:
                error = error_of(ended)
                self.told["the import", error.code, error.reason] += 1


@pytest.mark.slow
def test_a_disk_that_fails_at_random_makes_nothing_wrong_and_leaves_nothing(
    server: ServerOnFailingDisk, source: Source
):
    chance = random.Random(11)
    clients = [Client(server, source, number) for number in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        for turn in range(TURNS):
            with server.failing(FAULTS[turn % len(FAULTS)], chance.choice(PROBABILITIES)):
                list(pool.map(lambda client, turn=turn: client.fill_one(turn), clients))
            works_again(clients[0].tenant)
    for client in clients:
        client.see_imports_end()

    told = Counter[tuple[str, str, str]]()
    for client in clients:
        told += client.told
    assert {answer[1:] for answer in told} <= TOLD, told
    assert {reason for _, _, reason in told} >= {
        *("STORAGE_FULL", "STORAGE_UNAVAILABLE", "CATALOGUE_UNAVAILABLE")
    }
    active = 0
    for client in clients:
        until(lambda client=client: not any(each.state == each.SAVING for each in listed(client.tenant)))
        images = {each.name: each for each in listed(client.tenant) if each.state == each.ACTIVE}
        assert images.keys() >= client.filled
        active += len(images)
        for name, image in images.items():
            has_its_bytes(client.tenant, image, name)
    until(lambda: len(blobs(server.data)) == active)
    assert '"event": "bug"' not in server.log()
    for client in clients:
        client.tenant.close()
    assert server.stop() == 0
    assert doctor("--data", str(server.data)) == 0


def works_again(tenant: Tenant) -> None:
    """Wait until every worker answers again: one that finds its catalogue away looks every second."""
    until(lambda: all(answer_of(tenant.ListImages).code == "OK" for _ in range(3)))


def has_its_bytes(tenant: Tenant, image: Any, name: str) -> None:
    content = content_of(name)
    assert tenant.download(image.id) == content
    assert image.disks[0].sha256 == hashlib.sha256(content).hexdigest()


def blobs(data: Path) -> set[str]:
    """Return the keys of what holds bytes of images, finished or not.

    A blob may have a second name that could not be taken away: it takes no room, and goes with it.
    """
    return {path.name for path in (data / "blobs").rglob("*") if path.is_file()}


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON_SECONDS
    while not holds():
        assert time.monotonic() < end
        threading.Event().wait(0.1)
