"""Cuts off whoever waits for a database that does not answer."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOOK_SECONDS = 0.05

_log = logging.getLogger(__name__)


class Watchdog:
    """Watches blocks of work, and cuts off those that take longer than they may.

    A frozen server answers no timeout of its own; only whoever waits for it can end the wait.
    """

    def __init__(self) -> None:
        self._watches: set[Watch] = set()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def watching(self, seconds: float, cut: Callable[[], None]) -> Iterator["Watch"]:
        """Call `cut` from another thread if the block still runs after so many seconds."""
        if self._thread is None:
            self._start()
        watch = Watch(time.monotonic() + seconds, cut)
        self._watches.add(watch)
        try:
            yield watch
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
                    self._cut_off(watch)

    @staticmethod
    def _cut_off(watch: "Watch") -> None:
        try:
            watch.cut_off()
        except Exception:  # noqa: BLE001 - whatever it was, the others are still to be watched
            _log.exception("A connection that waits for too long cannot be cut.")


class Watch:
    """One block that is watched."""

    has_cut = False
    """Whether it took so long that it was cut off."""

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
                self._ended = self.has_cut = True
                self._cut()
