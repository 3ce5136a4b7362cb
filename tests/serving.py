"""Runs `ims serve` as a process of its own, to be measured, killed and started again."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

START_SECONDS = 30


class Server:
    """An `ims serve` on a free port of this machine, with its things in a folder."""

    def __init__(self, data: Path, *flags: str, under: Sequence[str] = (), **variables: str) -> None:
        """Start it, `under` another command if one is given."""
        self.data = data
        self._command = [
            *under,
            str(Path(sys.executable).parent / "ims"),
            *("serve", "--listen", "127.0.0.1:0", "--data", str(data)),
            *flags,
        ]
        self._folder = tempfile.TemporaryDirectory(prefix="ims-log-")
        # Written at its end, and read through another opening: one that both shared would be written to
        # wherever it is being read.
        self._log = Path(self._folder.name) / "log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("IMS_")}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment | variables,
            )
        self.greeting = ""
        self.target = self._wait_for_target()

    def _wait_for_target(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.greeting += line
            if line.startswith("  try"):
                break
        found = re.search(r"listens on (\S+),", self.greeting)
        if found is None:
            message = f"the server did not start: {self.greeting}{self.log()}"
            self.stop()
            raise AssertionError(message)
        return found[1]

    @property
    def pid(self) -> int:
        """The supervisor's."""
        return self._process.pid

    @property
    def workers(self) -> list[int]:
        """The pids of the workers that there are now."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def log(self) -> str:
        """Return what the server has logged, up to now or, without a greeting, to its end."""
        if "try" not in self.greeting:
            self._process.wait(START_SECONDS)
        return self._log.read_text()

    def log_lines(self) -> list[dict[str, object]]:
        """Return what the server has logged up to now, line by line."""
        lines = self.log().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def memory_mib(self) -> float:
        """Return the memory that the largest worker has resident now."""
        return self._memory("VmRSS")

    def peak_memory_mib(self) -> float:
        """Return the most memory that a worker has ever had resident."""
        return self._memory("VmHWM")

    def _memory(self, name: str) -> float:
        return max(_memory_mib(pid, name) for pid in self.workers)

    def kill(self) -> None:
        """End the server as a power cut would: no handler of any process of its runs."""
        workers = self.workers
        self._process.kill()  # first, or it would replace the others
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        self._process.wait()
        for pid in workers:
            wait_until_gone(pid)

    def stop(self) -> int:
        """Ask the server to end; return its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(START_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._folder.cleanup()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def wait_until_gone(pid: int, seconds: float = START_SECONDS) -> None:
    """Wait for the end of a process that may be no child of ours."""
    waiting = threading.Event()
    until = time.monotonic() + seconds
    while is_running(pid):
        assert time.monotonic() < until, f"process {pid} goes on"
        waiting.wait(0.01)


def is_running(pid: int) -> bool:
    process = Path(f"/proc/{pid}")
    try:
        status = (process / "stat").read_text()
        # The first thread of a process may be dead while others still hold its sockets.
        return status.rpartition(")")[2].split()[0] != "Z" or len(list((process / "task").iterdir())) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


def _memory_mib(pid: int, name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024
