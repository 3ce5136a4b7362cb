"""Generates the Python of protos/ into src/ims/v1/ whenever the package is built or installed."""

import os
import shutil
import sysconfig
import tempfile
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).parent


def generate(root: Path) -> None:
    """Write the stubs of every proto under `root`/protos to `root`/src, anew."""
    sources = sorted(str(path) for path in (root / "protos").rglob("*.proto"))
    out = root / "src"
    shutil.rmtree(out / "ims" / "v1", ignore_errors=True)
    # protoc looks for its plug-ins on the PATH; they are this interpreter's, on it or not.
    os.environ["PATH"] = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", "")))
    with tempfile.TemporaryDirectory() as borrowed:
        protos = (f"-I{root / 'protos'}", *borrowed_protos(Path(borrowed)))
        _compile(protos, sources, out)
    (out / "ims" / "v1" / "__init__.py").write_text(
        '"""The wire contract, generated from protos/ims/v1; never edited, not in git."""\n'
    )


def borrowed_protos(folder: Path) -> tuple[str, ...]:
    """Return where protoc finds what is not ours; `folder` takes what has another name there."""
    common = Path(str(distribution("googleapis-common-protos").locate_file("")))
    operations = folder / "google" / "longrunning" / "operations.proto"
    operations.parent.mkdir(parents=True)
    # It registers itself under the usual name, which its own file does not have.
    shutil.copyfile(common / "google" / "longrunning" / "operations_proto.proto", operations)
    return (f"-I{folder}", f"-I{common}", f"-I{files('grpc_tools').joinpath('_proto')}")


def _compile(protos: tuple[str, ...], sources: list[str], out: Path) -> None:
    _protoc(
        *protos,
        f"--python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--grpc_python_out={out}",
        f"--mypy_grpc_out=quiet:{out}",
        *sources,
    )
    # What reflection shows: with comments, which Python's own descriptors lack, and with the types of
    # error details, so that a client without any proto can decode them.
    _protoc(
        *protos,
        "--include_imports",
        "--include_source_info",
        f"--descriptor_set_out={out / 'ims' / 'v1' / 'descriptors.binpb'}",
        *sources,
        "google/rpc/error_details.proto",
        "google/rpc/status.proto",
    )


def _protoc(*arguments: str) -> None:
    from grpc_tools import protoc  # noqa: PLC0415 - a build requirement, not there when only imported

    if protoc.main(["protoc", *arguments]) != 0:
        raise SystemExit("protoc could not compile the protos")


class ProtoHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs before hatchling collects files, for wheels, sdists and editable installs alike."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        generate(Path(self.root))


if __name__ == "__main__":
    generate(HERE)
