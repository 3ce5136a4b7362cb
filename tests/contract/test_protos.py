"""The protos explain themselves, and what is generated from them is current."""

import filecmp
import importlib.util
import os
import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from contract.descriptions import DEFINITIONS, ROOT, Described


def test_the_protos_define_what_they_should():
    kinds = {each.kind for each in DEFINITIONS}

    assert kinds == {"service", "method", "message", "field", "oneof", "enum", "value"}


@pytest.mark.parametrize("described", DEFINITIONS, ids=lambda described: described.name)
def test_everything_has_a_comment_of_whole_sentences(described: Described):
    comment = described.comment.strip()

    assert comment.endswith((".", ".)", "}")), f"{described.kind} {described.name}"


def test_the_generated_code_is_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", os.environ["PATH"])  # the hook puts its plug-ins in front
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    (tmp_path / "src").mkdir()

    _build_hook().generate(tmp_path)

    fresh, present = tmp_path / "src/ims/v1", Path(str(files("ims.v1")))
    names = sorted(path.name for path in fresh.iterdir())
    _, differing, missing = filecmp.cmpfiles(fresh, present, names, shallow=False)
    assert (differing, missing) == ([], []), "run `make protos`"


def _build_hook():
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
