"""Cuts off whoever waits for a database that does not answer."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOOK_SECONDS = 0.05


class Watchdog:
    """Watches blocks of work, and cuts off those that take longer than they may.

    A frozen server answers no timeout of its own; only whoever waits for it can end the wait.
    """

    def __init__(self) -> None:
        self._watches: set[_Watch] = set()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def watching(self, seconds: float, cut: Callable[[], None]) -> Iterator[None]:
        """Call `cut` from another thread if the block still runs after so many seconds."""
        if self._thread is None:
            self._start()
        watch = _Watch(time.monotonic() + seconds, cut)
        self._watches.add(watch)
        try:
            yield
        finally:
            watch.end()
            self._watches.discard(watch)

    def _start(self) -> None:
        # Not before there is something to watch: a process that forks has no threads until then.
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._look_again_and_again, daemon=True)
                self._thread.start()

    def _look_again_and_again(self) -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            now = time.monotonic()
            for watch in self._watches.copy():
                if watch.until < now:
                    watch.cut_off()


class _Watch:
    def __init__(self, until: float, cut: Callable[[], None]) -> None:
        self.until = until
        self._cut = cut
        self._ended = False
        self._lock = threading.Lock()

    def end(self) -> None:
        # The lock, or a connection could be cut that already serves another call.
        with self._lock:
            self._ended = True

    def cut_off(self) -> None:
        with self._lock:
            if not self._ended:
                self._ended = True
                self._cut()
