"""`ims image copy` and `ims operation …`."""

import shutil
import subprocess

import pytest

from cli.conftest import Ims
from conftest import needs
from disk_files.makers import TINY_QCOW2, TINY_QCOW2_CAPACITY
from disk_files.test_ova import member, ova
from ims.domain.image import KeyId
from ims.providers.keys import add_key
from serving import Server


@pytest.fixture(scope="module", autouse=True)
def keys(server: Server) -> None:
    add_key(server.data / "keys.toml", KeyId("key-1"))


def test_a_copy_is_made_and_told(ims: Ims, owner: str, tiny: str, tmp_path):
    copied = ims("image", "copy", "tiny", "copy", "--description", "mine", tenant=owner)
    shown = ims("image", "show", "copy", tenant=owner, json=True).json["image"]
    ims("image", "download", "copy", "--output", tmp_path / "copy", tenant=owner)

    assert copied.stdout == f"Copied to copy ({shown['id']}).\n"
    assert shown["source"]["image"]["image_id"] == tiny
    assert shown["description"] == "mine"
    assert (tmp_path / "copy").read_bytes() == TINY_QCOW2.read_bytes()


@pytest.mark.usefixtures("tiny")
def test_an_encrypted_copy_is_waited_for(ims: Ims, owner: str):
    copied = ims("image", "copy", "tiny", "sealed", "--key", "key-1", tenant=owner, json=True).json

    assert copied["done"]
    assert copied["response"]["encryption_key_id"] == "key-1"
    assert copied["metadata"]["state"] == "SUCCEEDED"
    plain = ims("image", "copy", "sealed", "plain", "--decrypt", tenant=owner)
    assert plain.stdout.startswith("Copied to plain (")


@pytest.mark.usefixtures("tiny")
def test_an_operation_is_followed_listed_and_forgotten(ims: Ims, owner: str):
    copy = ("image", "copy", "tiny", "sealed", "--key", "key-1", "--no-wait")
    name = ims(*copy, tenant=owner, json=True).json["name"]
    short = name.removeprefix("operations/")

    waited = ims("operation", "wait", short, tenant=owner)
    listed = ims("operation", "list", tenant=owner)
    cancelled = ims("operation", "cancel", name, tenant=owner)

    assert "SUCCEEDED" in waited.stdout
    assert "32.0 KiB of 32.0 KiB" in waited.stdout
    assert listed.stdout.splitlines()[2].split()[:3] == [name, "COPY_IMAGE", "SUCCEEDED"]
    assert ims("operation", "list", "--not-done", tenant=owner).stdout == "No operations.\n"
    assert "SUCCEEDED" in cancelled.stdout
    assert ims("operation", "delete", short, tenant=owner).stdout == f"Forgot {name}.\n"
    gone = ims("operation", "get", name, tenant=owner)
    assert gone.code == 1
    assert "OPERATION_NOT_FOUND" in gone.stderr
    assert "ims operation list" in gone.stderr


@pytest.mark.usefixtures("tiny")
def test_what_is_refused_is_told_beforehand_too(ims: Ims, owner: str):
    dry = ims("image", "copy", "tiny", "copy", "--dry-run", tenant=owner)
    taken = ims("image", "copy", "tiny", "tiny", "--dry-run", tenant=owner)
    both = ims("image", "copy", "tiny", "copy", "--key", "key-1", "--decrypt", tenant=owner)

    assert dry.stdout == "It would be copied. Nothing was done.\n"
    assert ims("operation", "list", tenant=owner).stdout == "No operations.\n"
    assert (taken.code, both.code) == (1, 2)
    assert "IMAGE_NAME_TAKEN" in taken.stderr


def test_a_copy_is_made_in_another_format(ims: Ims, owner: str, tiny: str, tmp_path):
    needs(shutil.which("qemu-img"), "qemu-img")
    copied = ims("image", "copy", tiny, "raw", "--format", "raw", tenant=owner, json=True).json
    ims("image", "download", "raw", "--output", tmp_path / "raw", tenant=owner)

    (disk,) = copied["response"]["disks"]
    assert (disk["format"], disk["size_bytes"]) == ("RAW", str(TINY_QCOW2_CAPACITY))
    compare = ["qemu-img", "compare", "-f", "qcow2", "-F", "raw", TINY_QCOW2, tmp_path / "raw"]
    subprocess.run(compare, check=True)


def test_a_file_of_another_format_is_uploaded_and_converted(ims: Ims, owner: str, tmp_path):
    needs(shutil.which("qemu-img"), "qemu-img")
    given = ("--from", "qcow2", "--format", "raw")
    uploaded = ims("image", "upload", TINY_QCOW2, "--name", "raw", *given, tenant=owner)
    ims("image", "download", "raw", "--output", tmp_path / "raw", tenant=owner)
    ims("image", "create", "--name", "empty", "--type", "system-disk", "--format", "vmdk", tenant=owner)
    filled = ims("image", "upload", TINY_QCOW2, "--image", "empty", "--from", "qcow2", tenant=owner)

    assert uploaded.stdout.startswith("Uploaded 8.0 MiB of RAW into disk 0 of raw (")
    compare = ["qemu-img", "compare", "-f", "qcow2", "-F", "raw", TINY_QCOW2, tmp_path / "raw"]
    subprocess.run(compare, check=True)
    assert "of VMDK into disk 0 of empty (" in filled.stdout
    assert ims("operation", "list", "--not-done", tenant=owner).stdout == "No operations.\n"


def test_the_disk_of_an_ova_is_uploaded(ims: Ims, owner: str, tmp_path):
    (tmp_path / "machine.ova").write_bytes(ova(member()))
    uploaded = ims("image", "upload", tmp_path / "machine.ova", "--name", "m", "--ova", tenant=owner)

    assert "of VMDK into disk 0 of m (" in uploaded.stdout


def test_what_a_file_is_to_become_is_said(ims: Ims, owner: str):
    refused = ims("image", "upload", TINY_QCOW2, "--name", "x", "--from", "qcow2", tenant=owner)

    assert refused.code == 2
    assert "--format" in refused.stderr
