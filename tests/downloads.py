"""Downloads that stand still while something happens, and what comes of them then."""

import threading
from collections.abc import Iterator
from typing import Any, Final

from calling import Declined, answer_of
from ims.use_cases.deployment import Deployment

PATIENCE_SECONDS: Final = 30


def hold_after_the_first_chunk(deployment: Deployment) -> threading.Event:
    """Make the server's next downloads wait, with their first chunk sent, until the event is set."""
    go_on = threading.Event()
    read = deployment.blobs.read

    def read_and_wait(*args: Any, **kwargs: Any) -> Iterator[bytes]:
        chunks = read(*args, **kwargs)
        yield next(chunks)
        go_on.wait(PATIENCE_SECONDS)
        yield from chunks

    deployment.blobs.read = read_and_wait
    return go_on


def rest_of(download: Any) -> tuple[list[int], Declined]:
    """Return the sizes of the chunks that still come, and how the stream ended."""
    sizes: list[int] = []

    def read() -> None:
        for message in download:
            sizes.append(len(message.chunk))  # noqa: PERF401 - what came before the end must be kept

    return sizes, answer_of(read)
