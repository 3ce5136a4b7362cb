"""Runs that are compared take turns: a machine is faster now and slower then, for all of them."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Turns:
    """What several runs measured, one number of each in every round."""

    measured: dict[str, list[float]]

    def median(self, name: str) -> float:
        return statistics.median(self.measured[name])

    def ratios(self, name: str, divided_by: str) -> list[float]:
        """Return the ratio in each round."""
        return [
            one / other
            for one, other in zip(self.measured[name], self.measured[divided_by], strict=True)
        ]

    def ratio(self, name: str, divided_by: str) -> float:
        """Return the median of the rounds' ratios."""
        return statistics.median(self.ratios(name, divided_by))


def in_turns(runs: dict[str, Callable[[], float]], *, rounds: int, warm_up: bool = True) -> Turns:
    """Run each in every round, in an order that turns around from round to round.

    To warm up, each runs once more before: caches are filled then, and statements prepared.
    """
    for run in runs.values() if warm_up else ():
        run()
    measured: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        names = list(runs) if number % 2 == 0 else list(reversed(runs))
        for name in names:
            measured[name].append(runs[name]())
    return Turns(measured)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that a share of all (0.99) do not exceed."""
    return sorted(values)[max(0, -(-len(values) * round(share * 100) // 100) - 1)]
