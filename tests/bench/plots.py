"""The plots of `docs/benchmarks.md`, as SVG."""

from pathlib import Path
from typing import Any

from bench import figures

FOLDER = Path("docs/benchmarks")


def draw() -> None:
    """Draw all plots anew from what is kept behind the figures."""
    import matplotlib as mpl  # noqa: PLC0415 - a second, and only a full run needs it

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "ims", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after it knows what to draw with

    details = figures.read(figures.DETAILS)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, draw_it in (("lists", _lists), ("calls", _calls), ("memory", _memory)):
        figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
        if draw_it(axes, details):
            axes.spines[["top", "right"]].set_visible(False)
            figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)


def _lists(axes: Any, details: list[dict[str, Any]]) -> bool:
    """The p99 of each page over the size of the catalogue: a line for each, the middle one thick."""
    tables = {each["name"].rpartition(", ")[2]: each["lists"] for each in details if "lists" in each}
    for colour, (kind, lists) in zip(("tab:blue", "tab:orange"), sorted(tables.items()), strict=False):
        sizes = list(lists[0]["milliseconds"])
        p99s = [[each["milliseconds"][size]["p99"] for size in sizes] for each in lists]
        for line in p99s:
            axes.plot([int(size) for size in sizes], line, color=colour, alpha=0.2, linewidth=0.8)
        middle = [sorted(column)[len(column) // 2] for column in zip(*p99s, strict=True)]
        axes.plot([int(size) for size in sizes], middle, color=colour, marker="o", label=kind)
    axes.set(xscale="log", yscale="log", xlabel="images in the catalogue", ylabel="p99 of a page, ms")
    if tables:
        axes.legend(frameon=False)
    return bool(tables)


def _calls(axes: Any, details: list[dict[str, Any]]) -> bool:
    """Calls a second ÷ those of the bare server, beside each other."""
    bars: dict[str, float] = {}
    for each in details:
        for name, measured in each.get("bars", {}).items():
            if name != "no-op":
                ratios = sorted(
                    one / other for one, other in zip(measured, each["bars"]["no-op"], strict=True)
                )
                kind = each["name"].rpartition(", ")[2]
                bars[f"{name}\n{kind}"] = ratios[len(ratios) // 2]
    drawn = axes.bar(list(bars), list(bars.values()), color="tab:blue")
    axes.bar_label(drawn, fmt="%.2f")
    axes.set(ylabel="calls a second ÷ bare no-op", ylim=(0, 1))
    return bool(bars)


def _memory(axes: Any, details: list[dict[str, Any]]) -> bool:
    """Resident memory of the largest worker while it was under a long load."""
    samples = next((each["soak"] for each in details if "soak" in each), [])
    axes.plot([seconds / 60 for seconds, _ in samples], [resident for _, resident in samples])
    axes.set(xlabel="minutes of mixed load", ylabel="resident memory, MiB", ylim=(0, None))
    return bool(samples)
