"""`ims doctor`: beside a running service, and where there is none."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cli.conftest import Ims, ImsOf
from disk_files.makers import TINY_QCOW2
from serving import Server


@pytest.fixture
def data(tmp_path: Path, ims_of: ImsOf) -> Path:
    """The folder of a service that has stored an image, and is no more."""
    folder = tmp_path / "data"
    with Server(folder) as server:
        ims = ims_of(server)
        assert ims("image", "upload", TINY_QCOW2, "--name", "tiny", tenant="acme").code == 0
        assert ims("doctor", "--data", folder).stdout == "Nothing is wrong.\n"
    return folder


def plant(data: Path, statement: str) -> None:
    with closing(sqlite3.connect(data / "catalogue.sqlite3")) as connection, connection:
        connection.execute(statement)


def test_it_tells_and_mends_nothing_unless_it_is_told_to(ims: Ims, data: Path):
    plant(data, "UPDATE tenants SET private_images = 7")

    first = ims("doctor", "--data", data)
    again = ims("doctor", "--data", data, json=True)

    assert first.code == again.code == 1
    assert first.stdout.startswith("tenant acme: The counters say 7 private images, ")
    assert first.stdout.endswith("1 finding. `--repair` mends what can be mended.\n")
    assert again.json["left"] == 1
    (finding,) = again.json["findings"]
    assert finding["check"] == "tenants_use_what_their_images_take"
    assert (finding["subject"], finding["mendable"], finding["mended"]) == ("tenant acme", True, False)


def test_it_mends_beside_a_running_service(ims_of: ImsOf, data: Path):
    plant(data, "UPDATE tenants SET private_images = 7")
    blob = data / "blobs" / "blobs" / "no" / "nobodys"
    blob.parent.mkdir()
    blob.write_bytes(b"bytes")
    os.utime(blob, (0, 0))

    with Server(data) as server:
        ims = ims_of(server)
        repaired = ims("doctor", "--data", data, "--repair")
        clean = ims("doctor", "--data", data)
        quotas = ims("quota", tenant="acme", json=True).json["quotas"]

    assert repaired.code == 0
    assert "blob nobodys: " in repaired.stdout
    assert repaired.stdout.endswith("2 findings, 2 of them mended.\n")
    assert clean.stdout == "Nothing is wrong.\n"
    assert quotas["private_images"]["used"] == "1"
    assert not blob.exists()


def test_what_cannot_be_mended_is_left_and_said_to_be(ims: Ims, data: Path):
    (blob,) = (data / "blobs" / "blobs").glob("*/*")
    blob.unlink()

    repaired = ims("doctor", "--data", data, "--repair")

    assert repaired.code == 1
    assert "are missing. Cannot be mended." in repaired.stdout
    assert repaired.stdout.endswith("1 finding, 0 of them mended.\n")


def test_bytes_count_as_nobodys_only_when_they_have_been_there_for_a_while(ims: Ims, data: Path):
    blob = data / "blobs" / "blobs" / "no" / "nobodys"
    blob.parent.mkdir()
    blob.write_bytes(b"bytes")

    assert ims("doctor", "--data", data).code == 0
    assert ims("doctor", "--data", data, "--settled-minutes", 0).code == 1


def test_where_no_service_ever_was_there_is_nothing_to_be_looked_at(ims: Ims, tmp_path: Path):
    looked = ims("doctor", "--data", tmp_path / "wrong")

    assert looked.code == 2
    assert "no service has ever kept its bytes in" in looked.stderr
    assert not (tmp_path / "wrong").exists()
