"""Transfers over a line that breaks again and again: they go on where they were."""

import hashlib
import os
import random

import pytest

from ims.bootstrap import Service
from ims.client import Client, Disk, Image, Unreachable, connection
from interruptions import BreakingLine

MIB = 1024**2
CONTENT = os.urandom(48 * MIB + 12345)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def service(make_service):
    """A service without peers, with which more of an upload would be under way."""
    return make_service()


@pytest.fixture
def chance():
    return random.Random(1)


@pytest.fixture
def breaking_client(service: Service):
    clients = []

    def client(breaks_after):
        line = BreakingLine(f"127.0.0.1:{service.port}", breaks_after=breaks_after)
        made = Client(line.target, tenant="acme")
        clients.append((line, made))
        return line, made

    yield client
    for line, made in clients:
        made.close()
        line.__exit__()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def image(acme):
    return acme.create_image(name="disk", type=Image.SYSTEM_DISK, formats=[Disk.RAW])


def test_an_upload_over_a_breaking_line_ends_with_the_right_bytes(
    acme, image, file, breaking_client, chance
):
    line, client = breaking_client(lambda: chance.randrange(4 * MIB, 12 * MIB))

    uploaded = client.upload(image.id, file, sha256=SHA256)

    assert uploaded.disk.sha256 == SHA256
    assert line.breaks >= 4
    # Each time the message that was cut, and what had reached the server and nobody had taken in yet.
    assert line.up_bytes < len(CONTENT) + line.breaks * MIB


def test_a_download_over_a_breaking_line_ends_with_the_right_bytes(
    acme, image, file, breaking_client, chance, tmp_path
):
    acme.upload(image.id, file, sha256=SHA256)
    line, client = breaking_client(lambda: chance.randrange(MIB, 4 * MIB))

    client.download(image.id, tmp_path / "copy")

    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert line.breaks >= 6


@pytest.mark.parametrize("parallel", [2, 3, 16])
def test_parts_are_downloaded_at_the_same_time(acme, image, file, tmp_path, parallel):
    acme.upload(image.id, file, sha256=SHA256)
    steps = []

    disk = acme.download(
        image.id, tmp_path / "copy", parallel=parallel, progress=lambda *step: steps.append(step)
    )

    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert disk.sha256 == SHA256
    assert max(steps) == (len(CONTENT), len(CONTENT))


def test_a_part_is_downloaded_in_parts(acme, image, file, tmp_path):
    acme.upload(image.id, file, sha256=SHA256)

    acme.download(image.id, tmp_path / "copy", offset_bytes=MIB + 1, length_bytes=9 * MIB, parallel=4)

    assert (tmp_path / "copy").read_bytes() == CONTENT[MIB + 1 : 10 * MIB + 1]


def test_parts_over_a_breaking_line_end_with_the_right_bytes(
    acme, image, file, breaking_client, chance, tmp_path
):
    acme.upload(image.id, file, sha256=SHA256)
    _, client = breaking_client(lambda: chance.randrange(4 * MIB, 8 * MIB))

    client.download(image.id, tmp_path / "copy", parallel=3)

    assert (tmp_path / "copy").read_bytes() == CONTENT


def test_an_upload_waits_for_a_service_that_is_being_started_again(
    acme, image, file, breaking_client, monkeypatch
):
    monkeypatch.setattr(connection, "PAUSES_SECONDS", ())
    breaks = iter([0, 0, 0])
    line, client = breaking_client(lambda: next(breaks, None))

    uploaded = client.upload(image.id, file, sha256=SHA256)

    assert uploaded.disk.sha256 == SHA256
    assert line.breaks >= 3


def test_who_gets_nowhere_gives_up_and_the_upload_waits(acme, image, file, breaking_client):
    _, client = breaking_client(lambda: 200_000)

    with pytest.raises(Unreachable):
        client.upload(image.id, file, sha256=SHA256, patience_seconds=0.5)

    assert acme.get_upload(image.id).received_bytes == 0
    assert acme.upload(image.id, file, sha256=SHA256).disk.sha256 == SHA256
