"""Rings where there is work to be done, so that nobody has to wait until somebody looks for it."""

import threading


class Bell:
    """Wakes one who waits for work in this process; those of other processes look by themselves."""

    def __init__(self) -> None:
        self._rung = threading.Event()

    def ring(self) -> None:
        """Say that there is work."""
        self._rung.set()

    def wait(self, seconds: float) -> None:
        """Wait until it rings, but no longer than so."""
        self._rung.wait(seconds)
        self._rung.clear()
