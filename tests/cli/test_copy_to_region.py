"""`ims image copy-to-region`, between two real servers."""

from collections.abc import Iterator

import pytest

from cli.conftest import Ims, ImsOf
from disk_files.makers import TINY_QCOW2
from serving import Server


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("there") / "data", "--region", "eu-west") as running:
        yield running


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, there: Server) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("here")
    (folder / "ims.toml").write_text(
        f'region = "eu-de"\n[peers.eu-west]\nserver = "{there.target}"\ndevelopment_tenant = "ims"\n'
    )
    with Server(folder / "data", "--config", str(folder / "ims.toml")) as running:
        yield running


@pytest.fixture
def ims_here(ims_of: ImsOf, here: Server) -> Ims:
    return ims_of(here)


@pytest.fixture
def ims_there(ims_of: ImsOf, there: Server) -> Ims:
    return ims_of(there)


def test_an_image_is_copied_and_is_there(ims_here: Ims, ims_there: Ims, tmp_path):
    ims_here("image", "upload", TINY_QCOW2, "--name", "tiny", tenant="acme")

    judged = ims_here("image", "copy-to-region", "tiny", "eu-west", "--dry-run", tenant="acme")
    copied = ims_here("image", "copy-to-region", "tiny", "eu-west", "--name", "mine", tenant="acme")
    begun = ims_here("image", "copy-to-region", "tiny", "eu-west", "--no-wait", tenant="acme", json=True)
    waited = ims_here("operation", "wait", begun.json["name"], tenant="acme")

    assert judged.stdout == "It would be copied, as far as this region can tell.\n"
    shown = ims_there("image", "show", "mine", tenant="acme", json=True).json["image"]
    assert copied.stdout == f"Copied to mine ({shown['id']}) in eu-west.\n"
    assert "COPY_IMAGE_TO_REGION" in waited.stdout
    ims_there("image", "download", "copy_eu-de_tiny", "--output", tmp_path / "copy", tenant="acme")
    assert (tmp_path / "copy").read_bytes() == TINY_QCOW2.read_bytes()


def test_what_is_refused_is_told_with_what_to_do(ims_here: Ims, ims_there: Ims):
    ims_here("image", "upload", TINY_QCOW2, "--name", "tiny", tenant="globex")
    ims_there("image", "upload", TINY_QCOW2, "--name", "taken", tenant="globex")

    nowhere = ims_here("image", "copy-to-region", "tiny", "nowhere", tenant="globex")
    taken = ims_here("image", "copy-to-region", "tiny", "eu-west", "--name", "taken", tenant="globex")

    assert (nowhere.code, taken.code) == (1, 1)
    assert "REGION_WITHOUT_PEER" in nowhere.stderr
    assert "[peers.nowhere]" in nowhere.stderr
    assert "In region 'eu-west': " in taken.stderr
    assert "IMAGE_NAME_TAKEN" in taken.stderr
