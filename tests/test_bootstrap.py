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
