"""Progress bars: on the terminal only, beside the answer and never in it."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ims.cli import printing
from ims.client import Progress as TransferProgress


@contextmanager
def progress_bar(verb: str) -> Iterator[TransferProgress]:
    """Show how far a transfer is, for the block: bytes, speed, remaining time."""
    console = printing.console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    task = bar.add_task(verb, total=None)

    def show(done_bytes: int, total_bytes: int) -> None:
        bar.update(task, completed=done_bytes, total=total_bytes)

    with bar:
        yield show
