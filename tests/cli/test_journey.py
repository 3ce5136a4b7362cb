"""The main job from the shell: register, share, accept, use, lose."""

import json
import subprocess

import pytest

from cli.conftest import IMS, without_settings
from disk_files.makers import TINY_QCOW2
from serving import Server


@pytest.fixture
def shell(server: Server):
    """Run the real program."""

    def run(tenant: str, *arguments: object):
        command = [IMS, "--server", server.target, "--tenant", tenant, *map(str, arguments)]
        return subprocess.run(
            command, check=False, capture_output=True, text=True, env=without_settings()
        )

    return run


def test_a_disk_file_is_registered_shared_used_and_lost_again(shell, owner, recipient, tmp_path):
    uploaded = shell(owner, "image", "upload", TINY_QCOW2, "--name", "tiny", "--json")
    assert uploaded.returncode == 0, uploaded.stderr
    image = json.loads(uploaded.stdout)["image"]
    assert (image["name"], image["state"]) == ("tiny", "ACTIVE")

    listed = json.loads(shell(owner, "image", "list", "--json").stdout)
    assert [each["id"] for each in listed["images"]] == [image["id"]]
    assert shell(owner, "image", "show", "tiny").stdout.count(image["id"]) == 1

    assert shell(owner, "share", "check", "tiny", recipient).returncode == 0
    assert shell(recipient, "image", "show", image["id"]).returncode == 1
    assert shell(owner, "share", "add", "tiny", recipient).returncode == 0
    assert "PENDING" in shell(recipient, "share", "received").stdout

    copy = tmp_path / "copy.qcow2"
    too_early = shell(recipient, "image", "download", "tiny", "--output", copy)
    assert too_early.returncode == 1
    assert "SHARE_NOT_ACCEPTED" in too_early.stderr
    assert not copy.exists()

    assert shell(recipient, "share", "accept", "tiny").returncode == 0
    downloaded = shell(recipient, "image", "download", "tiny", "--output", copy)
    assert downloaded.returncode == 0, downloaded.stderr
    assert copy.read_bytes() == TINY_QCOW2.read_bytes()

    assert "1 share ended" in shell(owner, "share", "remove", "tiny", recipient).stdout
    lost = shell(recipient, "image", "download", image["id"], "--output", tmp_path / "again")
    assert lost.returncode == 1
    assert "IMAGE_NOT_FOUND" in lost.stderr
    assert list(tmp_path.iterdir()) == [copy]
