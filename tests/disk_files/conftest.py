"""Good files are made once, by the tools at hand."""

from collections.abc import Callable

import pytest

from conftest import cannot_run
from disk_files.makers import GoodFile, make_good_files, missing_tools


@pytest.fixture(scope="session")
def good_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, GoodFile]:
    return {file.name: file for file in make_good_files(tmp_path_factory.mktemp("good_files"))}


@pytest.fixture
def good_file(good_files: dict[str, GoodFile]) -> Callable[[str], GoodFile]:
    """Give a good file by its name; skip the test where no tool can make it, but not in CI."""

    def named(name: str) -> GoodFile:
        if name not in good_files:
            cannot_run(f"{name} needs {missing_tools()[name]}")
        return good_files[name]

    return named
