from pathlib import Path

import pytest

from ims.settings import Settings, SettingsError, load


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    for name in ("IMS_LISTEN", "IMS_DATA", "IMS_REGION"):
        monkeypatch.delenv(name, raising=False)


def file_with(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "ims.toml"
    path.write_text(text)
    return path


def test_the_defaults_are_the_laws(monkeypatch):
    settings = load(None, {})

    assert settings.shares_per_image == 128
    assert settings.max_image_file_bytes == 128 * 1024**3
    assert settings.listen == "127.0.0.1:50051"
    assert settings.data == Path("data")


def test_flags_outweigh_the_environment_and_that_the_file(tmp_path, monkeypatch):
    path = file_with(tmp_path, 'region = "file"\nlisten = "127.0.0.1:1"\nthreads = 40')
    monkeypatch.setenv("IMS_REGION", "environment")
    monkeypatch.setenv("IMS_LISTEN", "127.0.0.1:2")

    settings = load(path, {"listen": "127.0.0.1:3"})

    assert (settings.listen, settings.region, settings.threads) == ("127.0.0.1:3", "environment", 40)


def test_sizes_may_have_units(tmp_path):
    settings = load(file_with(tmp_path, 'max_image_file_bytes = "10GiB"'), {})

    assert settings.max_image_file_bytes == 10 * 1024**3


def test_an_image_file_may_have_up_to_1_tib(tmp_path):
    assert Settings(max_image_file_bytes=1024**4).max_image_file_bytes == 1024**4
    with pytest.raises(SettingsError, match="max_image_file_bytes"):
        load(file_with(tmp_path, f"max_image_file_bytes = {1024**4 + 1}"), {})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("shares_per_imag = 1", "shares_per_imag"),
        ("threads = 0", "threads"),
        ("workers = 0", "workers"),
        ('region = "no spaces here"', "region"),
        ("max_transfers = 0", "max_transfers"),
        ("threads = ", "cannot be read"),
        ('[[vaults.acme]]\nid = "v"\ncapacity_gib = 0', "vaults.acme"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path, text, named):
    with pytest.raises(SettingsError, match=named):
        load(file_with(tmp_path, text), {})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"no-such\.toml"):
        load(tmp_path / "no-such.toml", {})


def test_a_misspelt_variable_is_named(monkeypatch):
    monkeypatch.setenv("IMS_SHARE_PER_IMAGE", "5")

    with pytest.raises(SettingsError, match="IMS_SHARE_PER_IMAGE"):
        load(None, {})


def test_a_clients_variables_are_none_of_a_servers_business(monkeypatch):
    monkeypatch.setenv("IMS_TENANT", "acme")

    load(None, {})
