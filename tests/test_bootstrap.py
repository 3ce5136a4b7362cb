import subprocess
import sys

import pytest

from ims.bootstrap import Service
from ims.settings import Settings, SettingsError


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://localhost/ims", "SQLite or PostgreSQL, not in mysql"),
        ("postgresql://127.0.0.1:1/ims", "cannot be reached"),
        ("nonsense", "not understood"),
        ("sqlite:////no/such/folder/catalogue", "cannot be reached"),
    ],
)
def test_a_catalogue_that_cannot_be_kept_is_said_to_be_so(tmp_path, url, said):
    with pytest.raises(SettingsError, match=said):
        Service(Settings(listen="127.0.0.1:0", data=tmp_path, database_url=url))


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(SettingsError, match="file"):
        Service(Settings(listen="127.0.0.1:0", data=tmp_path / "file" / "data"))


def test_a_service_that_could_not_start_leaves_the_folder_to_another(tmp_path):
    with pytest.raises(SettingsError):
        Service(Settings(listen="127.0.0.1:0", data=tmp_path, database_url="nonsense"))

    service = Service(Settings(listen="127.0.0.1:0", data=tmp_path))
    service.start()
    service.stop()


def test_authorities_of_a_key_server_that_cannot_be_read_are_told_at_the_start(tmp_path):
    transit = {
        "url": "https://keys.example",
        "token_file": tmp_path / "token",
        "ca_file": tmp_path / "none.pem",
    }
    with pytest.raises(SettingsError, match=r"transit\.ca_file: No such file"):
        Service(Settings(listen="127.0.0.1:0", data=tmp_path, transit=transit))


def test_without_a_key_server_what_asks_one_is_not_loaded(tmp_path):
    """It is memory of every worker."""
    program = (
        "import sys; from ims.bootstrap import Service; from ims.settings import Settings\n"
        f"Service(Settings(listen='127.0.0.1:0', data='{tmp_path}'))\n"
        "print([name for name in sys.modules if name in "
        "('ims.providers.transit', 'ims.providers.key_server')])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert told.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("s3", "said"),
    [
        ({"endpoint_url": "http://127.0.0.1:1"}, "setting s3: bucket images cannot be used"),
        ({"access_key_id": "me", "secret_access_key_file": "/no/such/file"}, "No such file"),
    ],
)
def test_a_bucket_that_cannot_be_used_is_said_to_be_so(tmp_path, monkeypatch, s3, said):
    # What is not said is looked for, and is not to be found on the machine that the test runs on.
    monkeypatch.setattr("ims.blob_store.s3_bucket._ATTEMPTS", 1)
    given = {"bucket": "images", "region": "r", "access_key_id": "me", "secret_access_key": "hush"}
    if "secret_access_key_file" in s3:
        del given["secret_access_key"]

    with pytest.raises(SettingsError, match=said) as unusable:
        Service(Settings(listen="127.0.0.1:0", data=tmp_path, s3=given | s3))

    assert "hush" not in str(unusable.value)


def test_a_bucket_without_its_library_is_said_to_need_it(tmp_path, monkeypatch):
    for name in ("ims.blob_store.s3", "ims.blob_store.s3_bucket", "boto3", "boto3.session"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "boto3", None)

    with pytest.raises(SettingsError, match=r"pip install 'ims\[s3\]'"):
        Service(Settings(listen="127.0.0.1:0", data=tmp_path, s3={"bucket": "images"}))
