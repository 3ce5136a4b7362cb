"""`ims key new`: a key that a running server takes at once."""

from cli.conftest import Ims, ImsOf
from disk_files.makers import TINY_QCOW2
from serving import Server


def test_a_key_is_never_made_twice(ims: Ims, tmp_path):
    key_file = tmp_path / "keys.toml"
    ims("key", "new", "disk-key", "--file", key_file)
    before = key_file.read_bytes()

    again = ims("key", "new", "disk-key", "--file", key_file)

    assert again.code == 4
    assert "There is a key disk-key already." in again.stderr
    assert key_file.read_bytes() == before


def test_a_file_that_cannot_be_written_is_file_trouble(ims: Ims, tmp_path):
    assert ims("key", "new", "disk-key", "--file", tmp_path / "nowhere" / "keys.toml").code == 4


def test_a_running_server_encrypts_with_it_at_once_for_its_tenant_only(ims_of: ImsOf, tmp_path):
    key_file = tmp_path / "keys.toml"
    upload = ("image", "upload", TINY_QCOW2, "--name", "secret", "--key", "disk-key")

    with Server(tmp_path / "data", "--key-file", str(key_file)) as server:
        ims = ims_of(server)
        too_early = ims(*upload, tenant="acme")
        ims("key", "new", "disk-key", "--file", key_file, "--tenant", "acme")
        uploaded = ims(*upload, tenant="acme")
        foreign = ims(*upload, tenant="globex")
        shared = ims("share", "add", "secret", "globex", tenant="acme")

    assert "KEY_UNAVAILABLE" in too_early.stderr
    assert uploaded.code == 0, uploaded
    assert "KEY_UNAVAILABLE" in foreign.stderr
    assert "ENCRYPTED_IMAGE_NOT_SHAREABLE" in shared.stderr
