"""Conversions outlive the server that does them, and leave nothing where it was."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from calling import Tenant, image_of
from conftest import MakeCatalogue, needs
from ims.domain.image import KeyId
from ims.providers.keys import add_key
from journeys.test_operations_survive import SETTINGS, files, taken_up, until
from serving import Server

CONTENT = os.urandom(64 * 1024**2)


@pytest.mark.slow
def test_a_killed_servers_conversion_is_done_by_another(make_catalogue: MakeCatalogue, tmp_path: Path):
    qemu_img = needs(shutil.which("qemu-img"), "qemu-img")
    settings = SETTINGS | {"IMS_DATABASE_URL": make_catalogue()}
    data = tmp_path / "data"
    # Nobody but the first could take it up, and the other sweeps up nevertheless.
    with Server(data, **settings) as first, Server(data, **settings, IMS_OPERATION_THREADS="0"):
        caller = Tenant(first.target, "owner")
        source = caller.active("source", CONTENT)
        # The oldest format is written slowly.
        begun = caller.CopyImage(image_id=source.id, name="copy", format="QCOW")
        until(lambda: any(data.glob("conversions/*/result")))
        first.kill()
        caller.close()
        until(lambda: not any(data.glob("conversions/*")))
    with Server(data, **settings) as second:
        caller = Tenant(second.target, "owner")
        copy = image_of(caller.ended(begun))

        assert taken_up(settings["IMS_DATABASE_URL"], begun.name) >= 2
        (tmp_path / "source").write_bytes(CONTENT)
        (tmp_path / "copy").write_bytes(caller.download(copy.id))
        compared = [qemu_img, "compare", "-f", "raw", "-F", "qcow", "source", "copy"]
        subprocess.run(compared, cwd=tmp_path, check=True)
        until(lambda: len(files(data)) == 2)
        assert not any(data.glob("conversions/*"))
        quotas = caller.GetQuotas().quotas
        assert quotas.copies.used == 0
        assert quotas.stored_bytes.used == len(CONTENT) + copy.size_bytes
        caller.close()


@pytest.mark.slow
@pytest.mark.parametrize("store", ["folder", "bucket"])
def test_so_is_that_of_an_upload(
    store: str, make_catalogue: MakeCatalogue, tmp_path: Path, request: pytest.FixtureRequest
):
    qemu_img = needs(shutil.which("qemu-img"), "qemu-img")
    settings = SETTINGS | {"IMS_DATABASE_URL": make_catalogue()}
    if store == "bucket":
        radosgw = request.getfixturevalue("radosgw")
        settings |= {"IMS_S3": json.dumps(radosgw.setting(radosgw.new_bucket()))}
    (tmp_path / "disk").write_bytes(CONTENT)
    convert = [qemu_img, "convert", "-f", "raw", "-O", "qcow2", "disk", "disk.qcow2"]
    subprocess.run(convert, cwd=tmp_path, check=True)
    content = (tmp_path / "disk.qcow2").read_bytes()
    data = tmp_path / "data"
    key = {"encryption_key_id": "key-1"}
    with Server(data, **settings) as first:
        add_key(data / "keys.toml", KeyId("key-1"))
        caller = Tenant(first.target, "owner")
        image = caller.create("one", disks=[{"format": "QCOW"}], **key)
        upload = caller.start_upload(image.id, content, source_format="QCOW2")
        caller.write_upload(upload, content)
        begun = caller.ImportImage(image_id=image.id, upload_id=upload.id)
        until(lambda: any(data.glob("conversions/*/result")))
        first.kill()
        caller.close()
    with Server(data, **settings) as second:
        caller = Tenant(second.target, "owner")

        made = image_of(caller.ended(begun))

        assert taken_up(settings["IMS_DATABASE_URL"], begun.name) >= 2
        (tmp_path / "made").write_bytes(caller.download(made.id))
        compared = [qemu_img, "compare", "-f", "raw", "-F", "qcow", "disk", "made"]
        subprocess.run(compared, cwd=tmp_path, check=True)
        assert not any(data.glob("conversions/*"))
        assert caller.GetQuotas().quotas.stored_bytes.used == made.size_bytes
        if store == "folder":
            until(lambda: len(files(data)) == 1)
        caller.close()
