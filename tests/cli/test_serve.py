"""`ims serve`: how flags become settings, and how it refuses to start."""

import signal
import subprocess

import pytest

from cli.conftest import IMS, without_settings
from ims.client import Client, Disk, Image
from serving import Server


def refused(*flags: object, before: tuple[str, ...] = ()) -> str:
    """Run a server that does not start; return what it says."""
    ended = subprocess.run(
        [IMS, *before, "serve", *map(str, flags)],
        check=False,
        capture_output=True,
        text=True,
        env=without_settings(),
        timeout=60,
    )

    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_flags_go_before_the_file_and_the_file_before_defaults(tmp_path):
    config = tmp_path / "ims.toml"
    config.write_text('region = "from-file"\nshares_per_image = 1\n')
    data = tmp_path / "data"

    with Server(data, "--config", str(config)) as server:
        assert "region from-file" in server.greeting
        assert str(data) in server.greeting
    with Server(data, "--config", str(config), "--region", "from-flag") as server:
        assert "region from-flag" in server.greeting
        with Client(server.target, tenant="acme") as client:
            image = client.create_image(name="x", type=Image.SYSTEM_DISK, formats=[Disk.RAW])
            client.upload_image_data(image.id, [b"x"], size_bytes=1)
            assert client.share_image(image.id, ["a"]).share_limit == 1


def test_it_ends_well_when_it_is_asked_to(tmp_path):
    server = Server(tmp_path / "data")

    assert server.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_running_calls_may_end(tmp_path, number):
    with Server(tmp_path / "data") as server, Client(server.target, tenant="acme") as client:
        image = client.create_image(name="x", type=Image.SYSTEM_DISK, formats=[Disk.RAW])

        def chunks():
            yield b"half"
            while client.get_image(image.id).state != Image.SAVING:
                pass
            server._process.send_signal(number)
            yield b" and half"

        uploaded = client.upload_image_data(image.id, chunks(), size_bytes=13)

        assert uploaded.image.state == Image.ACTIVE
        assert server._process.wait(60) == 0


def test_strangers_are_refused_unless_told_so_in_so_many_words(tmp_path):
    data = tmp_path / "data"

    assert "cannot start" in refused("--listen", "0.0.0.0:0", "--data", data)
    with Server(data, "--listen", "0.0.0.0:0", "--allow-development-identity-on-network") as server:
        assert "0.0.0.0" in server.greeting


def test_a_port_that_is_taken_is_named(tmp_path):
    with Server(tmp_path / "one") as server:
        said = refused("--listen", server.target, "--data", tmp_path / "two")

    assert server.target in said


def test_what_is_wrong_with_the_settings_is_named(tmp_path):
    config = tmp_path / "ims.toml"
    config.write_text('no_such_setting = "x"\n')

    assert "no_such_setting" in refused("--config", config, "--data", tmp_path / "data")
    assert "region" in refused("--data", tmp_path / "data", before=("--region", "not a region"))
    assert "nowhere.toml" in refused("--config", tmp_path / "nowhere.toml")
