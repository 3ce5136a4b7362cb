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


def test_the_settings_of_a_server_say_where_its_keys_are(ims: Ims, tmp_path):
    config = tmp_path / "ims.toml"
    config.write_text(f'key_file = "{tmp_path / "elsewhere.toml"}"')

    assert ims("key", "new", "disk-key", "--config", config).code == 0

    assert "[keys.disk-key]" in (tmp_path / "elsewhere.toml").read_text()


def test_the_keys_of_a_server_with_a_key_server_are_made_there(ims: Ims, tmp_path):
    config = tmp_path / "ims.toml"
    config.write_text(
        f'data = "{tmp_path}"\n'
        '[transit]\nurl = "https://keys.example:8200"\nmount = "ims/transit"\n'
        'token_file = "/run/token"\n'
    )

    told = ims("key", "new", "disk-key", "--config", config, "--tenant", "acme")

    assert told.code == 2
    assert "takes its keys from the key server at https://keys.example:8200" in told.stderr
    assert "bao write -f ims/transit/keys/acme.disk-key" in told.stderr
    assert [path.name for path in tmp_path.iterdir() if path.name == "keys.toml"] == []


def test_settings_that_are_none_say_nothing_of_keys(ims: Ims, tmp_path):
    told = ims("key", "new", "disk-key", "--config", tmp_path / "none.toml")

    assert told.code == 2
    assert "there is no settings file" in told.stderr


def test_a_key_goes_to_one_place(ims: Ims, tmp_path):
    neither = ims("key", "new", "disk-key")
    both = ims("key", "new", "disk-key", "--file", tmp_path / "a", "--config", tmp_path / "b")

    assert (neither.code, both.code) == (2, 2)
    assert not (tmp_path / "a").exists()


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
