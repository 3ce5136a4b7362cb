"""Which uploads this process is receiving, so that all others on record are known to be dead."""

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

    def is_alive(self, upload_id: str) -> bool:
        with self._lock:
            return upload_id in self._alive
