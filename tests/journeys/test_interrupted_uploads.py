"""Uploads that are cut at random: the line, the service, the client; none begins anew."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from databases import Postgres
from ims.client import Client, Declined, Disk, Image
from ims.client.files import _chunks
from ims.domain.image import KeyId
from ims.providers.keys import add_key
from interruptions import BreakingLine
from serving import Server

if TYPE_CHECKING:
    from buckets import S3Server

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
            has_no_upload(client, image)
        assert line.up_bytes < SIZE + CUTS * MIB, (line.up_bytes - SIZE) / CUTS / MIB
        line.__exit__()
    assert digest(tmp_path / "copy") == sha256
    (blob,) = [path for path in (data / "blobs").rglob("*") if path.is_file()]
    assert blob.parent.parent.name == "blobs"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("key", "pieces", "most_lost_bytes"),
    [
        # Who is killed loses the part that was filling, and the one on its way.
        pytest.param({"encryption_key_id": "a-key"}, {}, 3 * MIB, id="parts"),
        pytest.param({}, {"keep_every_bytes": MIB // 2}, MIB, id="pieces"),
        # Sealed in chunks of 1 MiB: while one is on its way, as much as the line takes waits behind it.
        pytest.param(
            {"encryption_key_id": "a-key"},
            {"keep_every_bytes": MIB // 2},
            1.5 * MIB,
            id="pieces of an encrypted image",
        ),
    ],
)
def test_another_instance_goes_on_after_each_of_50_cuts(
    tmp_path: Path,
    file: Path,
    radosgw: "S3Server",
    postgres: Postgres,
    key: dict[str, str],
    pieces: dict[str, int],
    most_lost_bytes: float,
):
    """The bytes are in a real S3: after a cut the client is led to the other one of two instances."""
    chance = random.Random(4)
    sha256 = digest(file)
    bucket = radosgw.new_bucket()
    key_file = tmp_path / "keys.toml"
    add_key(key_file, KeyId("a-key"))
    with postgres.catalogue() as url:
        flags = ("--database-url", url, "--key-file", str(key_file), "--workers", "1")
        setting = radosgw.setting(bucket, part_bytes=5 * MIB, **pieces)
        variables = {"IMS_S3": json.dumps(setting), "IMS_UPLOAD_WINDOW_BYTES": str(MIB // 4)}
        with (
            Server(tmp_path / "one", *flags, **variables) as one,
            Server(tmp_path / "two", *flags, **variables) as two,
            BreakingLine(one.target, breaks_after=lambda: None) as line,
            Client(two.target, tenant="acme") as client,
        ):
            image = client.create_image(name="disk", type=Image.SYSTEM_DISK, formats=[Disk.RAW], **key)
            command = [sys.executable, "-c", _UPLOADER, line.target, image.id, file, sha256]
            here, elsewhere = one, two
            uploader = subprocess.Popen(command)
            for _ in range(CUTS):
                _wait_until_more_has_gone_up(line, chance.randrange(MIB, 6 * MIB), uploader)
                here, elsewhere = elsewhere, here
                line.lead_to(here.target)
                match chance.choice(["line", "server", "client"]):
                    case "line":
                        line.break_all()
                    case "server":
                        (worker,) = elsewhere.workers
                        os.kill(worker, signal.SIGKILL)
                        line.break_all()
                    case "client":
                        uploader.kill()
                        uploader.wait()
                        line.break_all()
                        uploader = subprocess.Popen(command)
            assert uploader.wait(timeout=300) == 0
            lost_bytes = (line.up_bytes - SIZE) / CUTS
            assert lost_bytes < most_lost_bytes

            assert client.get_image(image.id).disks[0].sha256 == sha256
            client.download(image.id, tmp_path / "copy")
            has_no_upload(client, image)
    assert digest(tmp_path / "copy") == sha256
    there = radosgw.client()
    assert len(there.list_objects_v2(Bucket=bucket)["Contents"]) == 1
    assert not there.list_multipart_uploads(Bucket=bucket).get("Uploads")
    there.close()


def has_no_upload(client: Client, image: Image) -> None:
    with pytest.raises(Declined) as ended:
        client.get_upload(image.id)
    assert ended.value.reason == "UPLOAD_NOT_FOUND"


def _wait_until_more_has_gone_up(
    line: BreakingLine, more_bytes: int, uploader: "subprocess.Popen[bytes]"
) -> None:
    wanted = line.up_bytes + more_bytes
    while line.up_bytes < wanted:
        assert uploader.poll() is None, "it has ended before it was cut often enough"
        time.sleep(0.002)


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
