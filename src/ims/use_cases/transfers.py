"""How many uploads and downloads run at once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ims.domain.rejection import Category, Reason, reject


class Transfers:
    """Slots for running transfers: fewer than threads, so that small calls are always answered."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._slots = threading.BoundedSemaphore(limit)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a slot for the block. Raises Rejection TOO_MANY_TRANSFERS at once when none is free."""
        if not self._slots.acquire(blocking=False):
            raise reject(
                Category.OVER_LIMIT,
                Reason.TOO_MANY_TRANSFERS,
                f"{self._limit} uploads and downloads are running already; try again in a while.",
                maxTransfers=self._limit,
            )
        try:
            yield
        finally:
            self._slots.release()
