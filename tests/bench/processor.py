"""The processor time of a call: what a busy machine changes least."""

import os
import statistics
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from bench.figures import Figure

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Cost:
    """How much processor time the calls of some runs took, in the service and in the database."""

    def __init__(self, *, service: Iterable[int], database: Callable[[], Iterable[int]]) -> None:
        self._service = list(service)
        self._database = database
        self._microseconds: list[tuple[float, float]] = []

    def metered(
        self, run: Callable[[], float], *, seconds: float = 0, calls: int = 0
    ) -> Callable[[], float]:
        """Meter a run that returns calls a second, and lasts so many seconds or calls."""

        def metered() -> float:
            before = self._spent()
            calls_per_second = run()
            made = calls or calls_per_second * seconds
            if not made:  # none was answered in time
                return 0
            service, database = (
                1e6 * (now - then) / made for now, then in zip(self._spent(), before, strict=True)
            )
            self._microseconds.append((service, database))
            return calls_per_second

        return metered

    def figures(self, name: str) -> Iterator[Figure]:
        for where, microseconds in zip(
            ("service", "database"), zip(*self._microseconds, strict=True), strict=True
        ):
            if any(microseconds):  # SQLite has no processes of its own
                yield Figure(
                    name=f"{name}, processor time of the {where}",
                    value=statistics.median(microseconds),
                    unit="µs a call",
                    details={"spread": list(microseconds)},
                )

    def _spent(self) -> tuple[float, float]:
        return _seconds(self._service), _seconds(self._database())


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _seconds(pids: Iterable[int]) -> float:
    return sum(map(_ticks, pids)) / _TICKS_A_SECOND


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
