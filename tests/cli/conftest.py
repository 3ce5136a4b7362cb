"""The `ims` command against a real `ims serve`."""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from disk_files.makers import TINY_QCOW2
from ims.cli.main import app
from serving import Server

IMS = Path(sys.executable).parent / "ims"

_numbers = count(1)


@dataclass(frozen=True)
class Ended:
    """How a run of the command has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The one document that was printed."""
        return json.loads(self.stdout)

    @property
    def usage_error(self) -> str:
        """What typer says in its box, in one line."""
        return " ".join(re.sub(r"[│╭╮╰╯─]", " ", self.stderr).split())


Ims = Callable[..., Ended]
ImsOf = Callable[[Server], Ims]


def without_settings() -> dict[str, str]:
    """Return this process's environment, but for what it says about ims."""
    return {name: value for name, value in os.environ.items() if not name.startswith("IMS_")}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server") / "data", "--region", "eu-de") as running:
        yield running


@pytest.fixture
def ims_of() -> ImsOf:
    """Give a runner of command lines, in this process, against a server."""

    def of(server: Server) -> Ims:
        def run(*arguments: object, tenant: str = "", roles: str = "", json: bool = False) -> Ended:
            identity = {"IMS_TENANT": tenant or None, "IMS_ROLES": roles or None}
            forget = dict.fromkeys((name for name in os.environ if name.startswith("IMS_")), None)
            ended = CliRunner().invoke(
                app,
                [*map(str, arguments), *(["--json"] if json else [])],
                env=forget | identity | {"IMS_SERVER": server.target},
                prog_name="ims",
            )
            assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
            assert "Traceback" not in ended.output
            return Ended(ended.exit_code, ended.stdout, ended.stderr)

        return run

    return of


@pytest.fixture
def ims(ims_of: ImsOf, server: Server) -> Ims:
    """Run a command line against the server; `json=True` adds `--json`."""
    return ims_of(server)


@pytest.fixture
def a_tenant() -> Callable[[], str]:
    """Give tenants that no other test has."""
    return lambda: f"tenant-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def owner(a_tenant: Callable[[], str]) -> str:
    return a_tenant()


@pytest.fixture
def recipient(a_tenant: Callable[[], str]) -> str:
    return a_tenant()


@pytest.fixture
def tiny(ims: Ims, owner: str) -> str:
    """The id of an ACTIVE image of the owner's, called `tiny`."""
    uploaded = ims("image", "upload", TINY_QCOW2, "--name", "tiny", tenant=owner, json=True)
    assert uploaded.code == 0, uploaded
    return uploaded.json["image"]["id"]
