"""Runs `ims serve` as a process of its own, to be measured, killed and started again."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

START_SECONDS = 30


class Server:
    """An `ims serve` on a free port of this machine, with its things in a folder."""

    def __init__(self, data: Path, *flags: str) -> None:
        self._command = [
            str(Path(sys.executable).parent / "ims"),
            *("serve", "--listen", "127.0.0.1:0", "--data", str(data)),
            *flags,
        ]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in stop
        environment = {name: value for name, value in os.environ.items() if not name.startswith("IMS_")}
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=self._log, text=True, env=environment
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
        return self._process.pid

    def log(self) -> str:
        """Return what the server has logged, up to now or, without a greeting, to its end."""
        if "try" not in self.greeting:
            self._process.wait(START_SECONDS)
        self._log.seek(0)
        return self._log.read().decode()

    def memory_mib(self) -> float:
        """Return the memory that the server has resident now."""
        return self._memory("VmRSS")

    def peak_memory_mib(self) -> float:
        """Return the most memory that the server has ever had resident."""
        return self._memory("VmHWM")

    def _memory(self, name: str) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"{name}:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) / 1024

    def kill(self) -> None:
        """End the server as a power cut would: no handler of its runs."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """Ask the server to end; return its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(START_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
