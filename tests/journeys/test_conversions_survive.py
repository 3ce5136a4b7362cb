"""Conversions outlive the server that does them, and leave nothing where it was."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from calling import Tenant, image_of
from conftest import MakeCatalogue, needs
from journeys.test_operations_survive import SETTINGS, files, taken_up, until
from serving import Server

CONTENT = os.urandom(64 * 1024**2)


@pytest.mark.slow
def test_a_killed_servers_conversion_is_done_by_another(make_catalogue: MakeCatalogue, tmp_path: Path):
    qemu_img = needs(shutil.which("qemu-img"), "qemu-img")
    settings = SETTINGS | {"IMS_DATABASE_URL": make_catalogue()}
    data = tmp_path / "data"
    # Whoever is called takes up at once what it has begun.
    with Server(data, **settings) as first, Server(data, **settings) as second:
        caller = Tenant(first.target, "owner")
        source = caller.active("source", CONTENT)
        # The oldest format is written slowly.
        begun = caller.CopyImage(image_id=source.id, name="copy", format="QCOW")
        until(lambda: any(data.glob("conversions/*/result")))
        first.kill()
        caller.close()
        caller = Tenant(second.target, "owner")
        assert not caller.GetOperation(name=begun.name).done

        copy = image_of(caller.ended(begun))

        assert taken_up(settings["IMS_DATABASE_URL"], begun.name) == 2
        (tmp_path / "source").write_bytes(CONTENT)
        (tmp_path / "copy").write_bytes(caller.download(copy.id))
        compared = [qemu_img, "compare", "-f", "raw", "-F", "qcow", "source", "copy"]
        subprocess.run(compared, cwd=tmp_path, check=True)
        until(lambda: len(files(data)) == 2)
        until(lambda: not any(data.glob("conversions/*")))
        quotas = caller.GetQuotas().quotas
        assert quotas.copies.used == 0
        assert quotas.stored_bytes.used == len(CONTENT) + copy.size_bytes
        caller.close()
