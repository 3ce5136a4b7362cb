"""A disk under a real server that fails when a test says so, by libfiu between server and system."""

import errno
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conftest import needs
from serving import Server


@dataclass(frozen=True)
class Fault:
    """What goes wrong with some of the system calls of one kind, for any file."""

    name: str
    points: tuple[str, ...]
    """libfiu's names of the calls; SQLite writes with pwrite and syncs with fdatasync or fsync."""
    error: int

    def __str__(self) -> str:
        return self.name


NO_ROOM: Final = Fault("no-room", ("posix/io/rw/write",), errno.ENOSPC)
NO_ROOM_FOR_THE_CATALOGUE: Final = Fault("no-room-catalogue", ("posix/io/rw/pwrite",), errno.ENOSPC)
NO_ROOM_AT_ALL: Final = Fault(
    "no-room-at-all", ("posix/io/rw/write", "posix/io/rw/pwrite"), errno.ENOSPC
)
SYNC: Final = Fault("sync", ("posix/io/sync/fsync", "posix/io/sync/fdatasync"), errno.EIO)
OPEN: Final = Fault("open", ("posix/io/oc/open",), errno.ENOSPC)
UNLINK: Final = Fault("unlink", ("posix/io/dir/unlink",), errno.EIO)
TRUNCATE: Final = Fault("truncate", ("posix/io/rw/ftruncate",), errno.EIO)
EVERYTHING: Final = Fault(
    "everything",
    ("posix/io/rw/write", "posix/io/rw/pwrite", "posix/io/sync/*", "posix/io/dir/unlink"),
    errno.EIO,
)
SHORT_WRITES: Final = Fault("short-writes", ("posix/io/rw/write/reduce", "posix/io/rw/pwrite/reduce"), 0)
"""No fault at all: the system may write less than it is asked to."""


class ServerOnFailingDisk(Server):
    """An `ims serve` whose disk works until a test has it fail."""

    def __init__(self, data: Path, *flags: str, **variables: str) -> None:
        self._pipes = data.parent / "fiu"
        fiu_run = needs(shutil.which("fiu-run"), "fiu-run (fiu-utils)")
        super().__init__(data, *flags, under=(fiu_run, "-x", "-f", str(self._pipes)), **variables)

    @contextmanager
    def failing(self, fault: Fault, probability: float) -> Iterator[None]:
        """Have such a part of the workers' calls fail during the block."""
        chance = f"probability={probability},failinfo={fault.error}"
        workers = self.workers
        self._tell(workers, [f"enable_random name={point},{chance}" for point in fault.points])
        try:
            yield
        finally:
            assert self.workers == workers, self.log()[-5000:]
            self._tell(workers, [f"disable name={point}" for point in fault.points])

    def _tell(self, workers: list[int], commands: list[str]) -> None:
        told = [part for command in commands for part in ("-c", command)]
        pids = [str(pid) for pid in workers]
        said = subprocess.run(
            ["fiu-ctrl", "-f", str(self._pipes), *told, *pids],
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert not said.stdout, said.stdout
