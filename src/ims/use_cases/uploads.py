"""Which uploads this process is receiving, so that it can hold them until they have ended."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Uploads:
    """The ids of the uploads that are alive."""

    def __init__(self) -> None:
        self._alive: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def alive(self, upload_id: str) -> Iterator[None]:
        """Keep an upload alive for the block; it begins before the upload is on record anywhere."""
        with self._lock:
            self._alive.add(upload_id)
        try:
            yield
        finally:
            with self._lock:
                self._alive.discard(upload_id)

    def all(self) -> frozenset[str]:
        """Return the uploads that are alive now."""
        with self._lock:
            return frozenset(self._alive)
