"""How many calls are served at once, and what becomes of one that comes on top of them.

Every kind of call has a room of its own, with threads of its own, so that no kind can take the threads
of another. Whether there is room is known the moment a call arrives, before it has any thread and before
who calls is known: everybody is told the same.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from ims.domain.rejection import Category, Reason, Rejection, reject

HEALTH: Final = "/grpc.health.v1.Health/"
REFLECTION: Final = "/grpc.reflection."

WAIT: Final = "/google.longrunning.Operations/WaitOperation"

WAITING_THREADS: Final = 8
HEALTH_THREADS: Final = 2
MAX_WAITING_HEALTH_CALLS: Final = 200
MAX_REFLECTION_STREAMS: Final = 4

LONG_CALLS: Final = frozenset({"/ims.v1.UploadService/FinishUpload"})
"""Calls of one message that may read as much as a transfer carries."""


class Room(ThreadPoolExecutor):
    """The threads of one kind of calls, and a bounded number of places to wait for one.

    The library submits every call that it takes; here they are counted until they have ended.
    """

    def __init__(self, name: str, *, threads: int, waiting: int, rejection: Rejection) -> None:
        super().__init__(threads, thread_name_prefix=name)
        self._limit = threads + waiting
        self._inside = 0
        self._lock = threading.Lock()
        self._emptied = threading.Condition(self._lock)
        self.rejection = rejection
        """What a call is told that finds no room."""

    @property
    def is_full(self) -> bool:
        """Whether the next call finds neither a thread nor a place to wait.

        It stays true or false until the next `submit`, but that calls may end in between: the library
        takes calls one after the other.
        """
        return self._inside >= self._limit

    def submit(self, fn: Callable[..., Any], /, *args: object, **kwargs: object) -> Future[Any]:
        with self._lock:
            self._inside += 1
        try:
            future = super().submit(fn, *args, **kwargs)
        except RuntimeError:  # the threads have been dismissed
            self._leave(None)
            raise
        future.add_done_callback(self._leave)
        return future

    def _leave(self, _call: Future[Any] | None) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._emptied.notify_all()

    def wait_until_empty(self, seconds: float) -> None:
        """Wait until no call is inside any more, for so long at most."""
        with self._lock:
            self._emptied.wait_for(lambda: not self._inside, timeout=seconds)


class Doorstep(ThreadPoolExecutor):
    """Serves at once, on the thread that asks: for answers that wait for nothing, such as a refusal.

    It is an executor because that is what the library takes; it has no threads.
    """

    def __init__(self) -> None:
        super().__init__(1)

    def submit(self, fn: Callable[..., Any], /, *args: object, **kwargs: object) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - whoever asks for the result gets it
            future.set_exception(error)
        return future


class Rooms:
    """All rooms of a server."""

    def __init__(self, *, threads: int, max_waiting_calls: int, max_transfers: int) -> None:
        self.calls = Room(
            "call",
            threads=threads,
            waiting=max_waiting_calls,
            rejection=_too_many_calls(threads, max_waiting_calls),
        )
        # A transfer may take hours: none waits for another.
        self.transfers = Room(
            "transfer", threads=max_transfers, waiting=0, rejection=_too_many_transfers(max_transfers)
        )
        self.health = Room(
            "health",
            threads=HEALTH_THREADS,
            waiting=MAX_WAITING_HEALTH_CALLS,
            rejection=_too_many_calls(HEALTH_THREADS, MAX_WAITING_HEALTH_CALLS),
        )
        # Who waits for an operation does nothing, for a long time.
        self.waiting = Room(
            "wait",
            threads=WAITING_THREADS,
            waiting=max_waiting_calls,
            rejection=_too_many_calls(WAITING_THREADS, max_waiting_calls),
        )
        self.reflection = Room(
            "reflection",
            threads=MAX_REFLECTION_STREAMS,
            waiting=0,
            rejection=_too_many_streams(MAX_REFLECTION_STREAMS),
        )

    def room_of(self, method: str, *, is_stream: bool) -> Room:
        """Return where the calls of a method are served."""
        if method.startswith(HEALTH):
            return self.health
        if method.startswith(REFLECTION):
            return self.reflection
        if method == WAIT:
            return self.waiting
        return self.transfers if is_stream or method in LONG_CALLS else self.calls

    def dismiss(self, *, patience_seconds: float) -> None:
        """Let all threads end once they have nothing to do, and wait for that, but not for longer.

        To the library a call that was cancelled has ended, also while its thread still tidies up.
        """
        rooms = (self.calls, self.transfers, self.health, self.waiting, self.reflection)
        for room in rooms:
            room.shutdown(wait=False)
        until = time.monotonic() + patience_seconds
        for room in rooms:
            room.wait_until_empty(max(0.0, until - time.monotonic()))


def _too_many_calls(threads: int, max_waiting_calls: int) -> Rejection:
    return reject(
        Category.OVER_LIMIT,
        Reason.TOO_MANY_CALLS,
        f"{threads} calls are being served and {max_waiting_calls} wait already; try again in a while.",
        maxCalls=threads,
        maxWaitingCalls=max_waiting_calls,
    )


def _too_many_transfers(max_transfers: int) -> Rejection:
    return reject(
        Category.OVER_LIMIT,
        Reason.TOO_MANY_TRANSFERS,
        f"{max_transfers} uploads and downloads are running already; try again in a while.",
        maxTransfers=max_transfers,
    )


def _too_many_streams(max_streams: int) -> Rejection:
    return reject(
        Category.OVER_LIMIT,
        Reason.TOO_MANY_STREAMS,
        f"{max_streams} reflection streams are open already; close some.",
        maxStreams=max_streams,
    )
