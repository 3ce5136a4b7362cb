"""A figure: what was measured, what it should be, and where all of them are kept."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FIGURES = Path("build/bench.json")
"""A list of objects with name, value, unit, target and met: one for each figure."""
DETAILS = Path("build/bench-details.json")
"""The same without what a quick run measured, each with all that stands behind it: what the page is
written from."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number. `at_least` or `at_most` is its target; without one it is only told."""

    name: str
    value: float
    unit: str = "ratio"
    at_least: float | None = None
    at_most: float | None = None
    details: dict[str, Any] = field(default_factory=dict)
    """What stands behind it, by the name of a table or plot."""

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return f"≤ {self.at_most:g}" if self.at_most is not None else ""

    @property
    def met(self) -> bool | None:
        if self.at_least is not None:
            return self.value >= self.at_least
        return self.value <= self.at_most if self.at_most is not None else None

    def document(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": round(self.value, 4),
            "unit": self.unit,
            "target": self.target,
            "met": self.met,
        }


def keep(figures: Iterable[Figure], *, stays: Callable[[str], bool]) -> None:
    """Write figures into the file of all; of those that were not measured anew some stay."""
    merge(FIGURES, {figure.name: figure.document() for figure in figures}, stays=stays)


def keep_details(figures: Iterable[Figure], *, stays: Callable[[str], bool]) -> None:
    """Write figures like `keep`, with their details, for the page."""
    documents = {figure.name: {**figure.document(), **figure.details} for figure in figures}
    merge(DETAILS, documents, stays=stays)


def merge(path: Path, documents: dict[str, Any], *, stays: Callable[[str], bool]) -> None:
    """Write documents into a list of them, in the places of those of the same names."""
    there = read(path) if path.exists() else []
    kept = {each["name"]: each for each in there if each["name"] in documents or stays(each["name"])}
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        json.dumps(list({**kept, **documents}.values()), indent=1, ensure_ascii=False) + "\n"
    )


def read(path: Path) -> list[dict[str, Any]]:
    documents: list[dict[str, Any]] = json.loads(path.read_text())
    return documents
