"""`ims image url` and `ims image upload --direct`: bytes that do not pass through the service."""

import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from buckets import moto
from cli.conftest import Ims, ImsOf
from disk_files.makers import TINY_QCOW2
from ims.client import Client, Disk, Image, Unreachable, sha256_of
from ims.client.parts import Part, bring_parts
from ims.v1.upload_service_pb2 import CreatePartUrlsResponse
from serving import Server

PART = 5 * 1024**2


@pytest.fixture(scope="module")
def on_a_bucket(tmp_path_factory):
    """A server with its bytes in a bucket."""
    with moto() as store:
        data = tmp_path_factory.mktemp("bucket")
        with Server(
            data, IMS_S3=json.dumps(store.setting(store.new_bucket(), part_bytes=PART))
        ) as running:
            yield running


def test_the_url_is_all_that_is_printed(ims_of: ImsOf, on_a_bucket: Server, owner: str):
    ims = ims_of(on_a_bucket)
    ims("image", "upload", TINY_QCOW2, "--name", "tiny", tenant=owner)

    printed = ims("image", "url", "tiny", "--valid", "60", tenant=owner)

    assert printed.code == 0, printed
    with urllib.request.urlopen(printed.stdout.strip(), timeout=10) as answer:
        assert answer.read() == TINY_QCOW2.read_bytes()


def test_a_program_asks_likewise(on_a_bucket: Server, ims_of: ImsOf, owner: str):
    uploaded = ims_of(on_a_bucket)(
        "image", "upload", TINY_QCOW2, "--name", "mine", tenant=owner, json=True
    )
    image_id = uploaded.json["image"]["id"]
    with Client(on_a_bucket.target, tenant=owner) as client:
        made = client.create_download_url(image_id, valid_seconds=7)

    assert "X-Amz-Expires=7" in made.url
    assert made.disk.sha256 == uploaded.json["image"]["disks"][0]["sha256"]


def test_a_folder_has_none(ims: Ims, tiny: str, owner: str):
    refused = ims("image", "url", tiny, tenant=owner)

    assert refused.code == 1
    assert "DIRECT_TRANSFER_UNAVAILABLE" in refused.stderr


@pytest.mark.parametrize("seconds", [0, 3601])
def test_a_time_that_no_url_has_is_wrong_usage(ims: Ims, owner: str, seconds: int):
    refused = ims("image", "url", "tiny", "--valid", seconds, tenant=owner)

    assert refused.code == 2
    assert "--valid" in refused.usage_error


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file of three parts."""
    file = tmp_path / "large.raw"
    file.write_bytes(b"\1" * 2 * PART + b"the end")
    return file


def test_a_file_goes_to_the_bucket_itself(ims_of: ImsOf, on_a_bucket: Server, owner: str, large: Path):
    ims = ims_of(on_a_bucket)

    said = ims("image", "upload", large, "--name", "large", "--format", "RAW", "--direct", tenant=owner)

    assert said.code == 0, said
    assert "is ACTIVE" in said.stdout
    ims("image", "download", "large", "-o", large.with_name("back"), tenant=owner)
    assert large.with_name("back").read_bytes() == large.read_bytes()


def test_an_interrupted_one_goes_on_with_what_is_missing(on_a_bucket: Server, large: Path, owner: str):
    told: list[int] = []

    def interrupted(done: int, _size: int) -> None:
        told.append(done)
        if done > PART:
            raise KeyboardInterrupt

    with Client(on_a_bucket.target, tenant=owner) as client:
        image = client.create_image(name="interrupted", type=Image.SYSTEM_DISK, formats=[Disk.RAW])
        with pytest.raises(KeyboardInterrupt):
            client.upload(image.id, large, direct=True, progress=interrupted)
        client.upload(image.id, large, direct=True, progress=lambda done, _: told.append(done))

        assert client.get_image(image.id).state == Image.ACTIVE
    assert max(told) == large.stat().st_size


def test_what_arrives_besides_is_told_too(on_a_bucket: Server, large: Path, owner: str):
    """The last part of an interrupted go may arrive when the next one has begun."""

    class Late(Client):
        arrived = False

        def create_part_urls(self, *args: Any, **kwargs: Any) -> CreatePartUrlsResponse:
            if not self.arrived:
                with large.open("rb") as file:
                    bring_parts(file, super().create_part_urls(*args, **kwargs).parts[:1], int)
                self.arrived = True
            return super().create_part_urls(*args, **kwargs)

    told: list[int] = []
    with Late(on_a_bucket.target, tenant=owner) as client:
        image = client.create_image(name="late", type=Image.SYSTEM_DISK, formats=[Disk.RAW])
        client.upload(image.id, large, direct=True, progress=lambda done, _: told.append(done))

    assert told == sorted(told)
    assert told[-1] == large.stat().st_size


def test_a_file_that_ends_too_early_is_told(on_a_bucket: Server, large: Path, owner: str):
    def cut_short(*_: int) -> None:
        os.truncate(large, 100)

    with Client(on_a_bucket.target, tenant=owner) as client:
        image = client.create_image(name="cut", type=Image.SYSTEM_DISK, formats=[Disk.RAW])
        with pytest.raises(OSError, match="shorter"):
            client.upload(image.id, large, direct=True, progress=cut_short)


def test_a_store_that_takes_no_part_is_told(large: Path, tmp_path: Path):
    with (
        moto() as store,
        Server(
            tmp_path / "data", IMS_S3=json.dumps(store.setting(store.new_bucket(), part_bytes=PART))
        ) as server,
        Client(server.target, tenant="owner") as client,
        large.open("rb") as file,
    ):
        image = client.create_image(name="away", type=Image.SYSTEM_DISK, formats=[Disk.RAW])
        upload = client.start_upload(
            image.id, size_bytes=large.stat().st_size, sha256=sha256_of(large), direct=True
        )
        (part,) = client.create_part_urls(upload, max_parts=1).parts
        nowhere = Part(number=1, length_bytes=PART, url="http://127.0.0.1:9/bucket/blob?X=1")

        bring_parts(file, [part], int)
        with pytest.raises(Unreachable, match="takes no part"):
            bring_parts(file, [nowhere], int)
        with pytest.raises(BrokenPipeError):
            bring_parts(file, [part], _broken_pipe)
        client.abort_upload(image.id)
        with pytest.raises(Unreachable, match="it answers"):
            bring_parts(file, [part], int)


def _broken_pipe(_: int) -> None:
    raise BrokenPipeError
