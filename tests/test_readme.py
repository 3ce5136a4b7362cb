"""What README promises is tried."""

import re
import tomllib
from pathlib import Path

import pytest

from ims.settings import load

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SETTINGS_FILES = [
    block
    for page in (
        README,
        (ROOT / "docs" / "regions.md").read_text(),
        (ROOT / "docs" / "storage.md").read_text(),
        (ROOT / "docs" / "operations.md").read_text(),
        (ROOT / "docs" / "production.md").read_text(),
    )
    for block in re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
]


@pytest.mark.parametrize("example", SETTINGS_FILES)
def test_the_settings_files_that_users_are_shown_are_read_as_they_stand(tmp_path, example: str):
    path = tmp_path / "ims.toml"
    path.write_text(example)

    settings = load(path, {})

    for name in tomllib.loads(example):
        assert name in settings.model_fields_set


def test_a_production_start_takes_ten_lines():
    production = SETTINGS_FILES[-2]

    assert {"tls", "oidc"} <= tomllib.loads(production).keys()
    assert len([line for line in production.splitlines() if not line.startswith("[")]) <= 10


def test_every_file_that_readme_leads_to_exists():
    targets = re.findall(r"\]\(([^)#]+)\)", README)

    here = [target for target in targets if not target.startswith("http")]
    assert here
    assert not [target for target in here if not (Path(__file__).parents[1] / target).exists()]


def test_every_make_target_of_readme_exists():
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()

    for target in set(re.findall(r"make ([a-z-]+)", README)) - {"alone"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
