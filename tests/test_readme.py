"""What README promises is tried."""

import re
import tomllib
from pathlib import Path

from ims.settings import load

README = (Path(__file__).parents[1] / "README.md").read_text()


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_the_settings_file_in_readme_is_read_as_it_stands(tmp_path):
    path = tmp_path / "ims.toml"
    path.write_text(block("toml"))

    settings = load(path, {})

    for name in tomllib.loads(block("toml")):
        assert name in settings.model_fields_set


def test_every_file_that_readme_leads_to_exists():
    targets = re.findall(r"\]\(([^)#]+)\)", README)

    here = [target for target in targets if not target.startswith("http")]
    assert here
    assert not [target for target in here if not (Path(__file__).parents[1] / target).exists()]


def test_every_make_target_of_readme_exists():
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()

    for target in set(re.findall(r"make ([a-z-]+)", README)) - {"alone"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
