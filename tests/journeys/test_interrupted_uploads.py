"""Uploads that are cut at random: the line, the service, the client; none begins anew."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ims.client import Client, Disk, Image
from ims.client.files import _chunks
from ims.domain.image import KeyId
from ims.providers.keys import add_key
from interruptions import BreakingLine
from serving import Server

MIB = 1024**2
CUTS = 50
SIZE = 260 * MIB + 12345

_UPLOADER = """
import sys
from ims.client import Client
server, image_id, path, sha256 = sys.argv[1:]
with Client(server, tenant="acme") as client:
    client.upload(image_id, path, sha256=sha256, patience_seconds=120)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    with path.open("wb") as opened:
        for _ in range(SIZE // MIB):
            opened.write(os.urandom(MIB))
        opened.write(os.urandom(SIZE % MIB))
    return path


def digest(path: Path) -> str:
    sha256 = hashlib.sha256()
    with path.open("rb") as opened:
        for chunk in _chunks(opened, SIZE, None):
            sha256.update(chunk)
    return sha256.hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_an_upload_that_is_cut_50_times_ends_with_the_right_bytes(
    tmp_path: Path, file: Path, encrypted: bool
):
    """A third of the cuts each: the line, the service killed, the client killed."""
    chance = random.Random(3)
    sha256 = digest(file)
    data = tmp_path / "data"
    data.mkdir()
    key = {"encryption_key_id": "a-key"} if encrypted else {}
    add_key(data / "keys.toml", KeyId("a-key"))
    with Server(data, "--workers", "2") as server:
        port_free_target = server.target
        line = BreakingLine(server.target, breaks_after=lambda: None)
        with Client(server.target, tenant="acme") as client:
            image = client.create_image(name="disk", type=Image.SYSTEM_DISK, formats=[Disk.RAW], **key)
        sizes, uploader = [0], None
        cuts = 0
        while True:
            if uploader is None:
                command = [sys.executable, "-c", _UPLOADER, line.target, image.id, file, sha256]
                uploader = subprocess.Popen(command)
            if cuts < CUTS:
                _wait_until_it_has_come_further(data, sizes, chance, uploader)
            if uploader.poll() is not None or cuts == CUTS:
                assert uploader.wait(timeout=300) == 0
                break
            cuts += 1
            match chance.choice(["line", "server", "client"]):
                case "line":
                    line.break_all()
                case "server":
                    victim = chance.choice(server.workers)
                    os.kill(victim, signal.SIGKILL)
                case "client":
                    uploader.kill()
                    uploader.wait()
                    uploader = None
        assert server.target == port_free_target
        assert cuts == CUTS
        with Client(server.target, tenant="acme") as client:
            assert client.get_image(image.id).disks[0].sha256 == sha256
            client.download(image.id, tmp_path / "copy")
        line.__exit__()
    assert digest(tmp_path / "copy") == sha256
    (blob,) = [path for path in (data / "blobs").rglob("*") if path.is_file()]
    assert blob.parent.parent.name == "blobs"


def _wait_until_it_has_come_further(
    data: Path, sizes: list[int], chance: random.Random, uploader: "subprocess.Popen[bytes]"
) -> None:
    """Wait until some more of the file has arrived, so that the cuts are spread over all of it."""
    wanted = sizes[-1] + chance.randrange(MIB, 5 * MIB)
    while uploader.poll() is None:
        there = [path.stat().st_size for path in (data / "blobs" / "unfinished").glob("*")]
        if any(size >= wanted for size in there):
            sizes.append(max(there))
            return
        time.sleep(0.005)
