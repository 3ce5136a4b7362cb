"""Keeps a service's workers running: forks them, replaces those that die, and ends them together.

It knows neither gRPC nor the catalogue and starts no thread, so that every fork begins from a process in
which nothing is under way.
"""

import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, NoReturn, Protocol

import structlog

from ims.settings import SettingsError

MAX_SHORT_LIVES: Final = 10
"""After so many workers in a row that died soon after they were started, the service gives up."""
SHORT_LIFE_SECONDS: Final = 10
STRAGGLER_SECONDS: Final = 5
"""How much longer than calls may take to end their worker may take, before it is killed."""

_STOP: Final = (signal.SIGTERM, signal.SIGINT)
_SERVING: Final = b"\0"
"""What a worker says when it serves; anything else is why it cannot."""

_log = structlog.get_logger("ims.supervisor")


class WorkersKeepDying(Exception):
    """The service has ended because its workers do not live; the message is for the operator."""


class Serving(Protocol):
    """What a worker does between its start and its end."""

    def start(self) -> None:
        """Begin to serve; return when it is so. Raises SettingsError when it cannot."""

    def stop(self) -> None:
        """Take no new calls, let running ones end, let everything go."""


class Supervisor:
    """Runs workers until it is told to end."""

    def __init__(
        self, make_service: Callable[[], Serving], *, workers: int, drain_seconds: float
    ) -> None:
        """Take what a worker makes, in its own process, when it starts."""
        self._make_service = make_service
        self._wanted = workers
        self._drain_seconds = drain_seconds
        self._workers: dict[int, _Child] = {}
        self._pause = _Pause()
        self._greeted = False
        self._selector = selectors.DefaultSelector()
        # Workers hold the reading end: whatever becomes of this process, they see that it is gone.
        self._alive_read, self._alive_write = os.pipe()

    def run(self, prepare: Callable[[], None], when_all_serve: Callable[[], None]) -> None:
        """Prepare in a process that ends, then keep workers serving until SIGTERM or SIGINT.

        Raises SettingsError when the preparation or one of the first workers cannot do its work, and
        WorkersKeepDying when there is no keeping them alive.
        """
        with _signals_to_a_pipe() as told:
            self._selector.register(told, selectors.EVENT_READ)
            try:
                if self._prepare(prepare, told):
                    self._keep_serving(told, when_all_serve)
            finally:
                self._end_all(told)
                self._selector.close()

    def _prepare(self, prepare: Callable[[], None], told: int) -> bool:
        """Return whether to go on: nobody has asked to end meanwhile."""
        child = self._fork(lambda _say: prepare())
        self._workers[child.reports] = child
        while child.reports in self._workers:
            for key, _ in self._selector.select():
                if key.fd == told:
                    return False
                self._listen_to(child)
        child.raise_if_it_failed("what prepares the catalogue")
        return True

    def _keep_serving(self, told: int, when_all_serve: Callable[[], None]) -> None:
        while True:
            while len(self._workers) < self._wanted and self._pause.is_over:
                worker = self._fork(self._work)
                self._workers[worker.reports] = worker
            for key, _ in self._selector.select(self._pause.seconds_left):
                if key.fd == told:
                    return
                worker = self._workers[key.fd]
                self._listen_to(worker)
                if worker.exit_code is not None:
                    self._mourn(worker)
            if not self._greeted and self._all_serve:
                self._greeted = True
                when_all_serve()

    @property
    def _all_serve(self) -> bool:
        serving = sum(worker.serves for worker in self._workers.values())
        return serving == self._wanted

    def _mourn(self, worker: "_Child") -> None:
        if not self._greeted:
            worker.raise_if_it_failed("a worker")
        self._pause.after(worker)
        _log.warning(
            "a worker has ended and is replaced",
            worker_pid=worker.pid,
            ended=worker.how_it_ended,
            said=worker.words,
            pause_seconds=round(self._pause.seconds_left or 0, 1),
        )

    def _listen_to(self, child: "_Child") -> None:
        if not child.hear():
            self._selector.unregister(child.reports)
            del self._workers[child.reports]
            child.bury()

    def _end_all(self, told: int) -> None:
        for worker in self._workers.values():
            worker.send(signal.SIGTERM)
        give_up = time.monotonic() + self._drain_seconds + STRAGGLER_SECONDS
        with suppress(BlockingIOError):
            os.read(told, 1024)
        while self._workers:
            left = give_up - time.monotonic()
            for key, _ in self._selector.select(max(left, 0)):
                if key.fd != told:
                    self._listen_to(self._workers[key.fd])
                    continue
                with suppress(BlockingIOError):
                    os.read(told, 1024)
                give_up = 0  # asked a second time: somebody is in a hurry
            if left <= 0:
                for worker in self._workers.values():
                    worker.send(signal.SIGKILL)
        for end in (self._alive_read, self._alive_write):
            os.close(end)

    def _fork(self, work: Callable[[Callable[[bytes], None]], None]) -> "_Child":
        reads, writes = os.pipe()
        # Until the child has handlers of its own, a signal must wait, or nobody hears it.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
        _flush()
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)  # the pipe behind it is the supervisor's
            os.close(self._alive_write)
            self._selector.close()
            _live_and_die(work, writes)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)
        os.close(writes)
        self._selector.register(reads, selectors.EVENT_READ)
        return _Child(pid, reads)

    def _work(self, say: Callable[[bytes], None]) -> None:
        """Serve until told to end, or until the supervisor is no more."""
        with _signals_to_a_pipe() as told, selectors.DefaultSelector() as selector:
            # Ctrl-C reaches every process at a terminal; when to end is for the supervisor to say.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)
            selector.register(told, selectors.EVENT_READ)
            selector.register(self._alive_read, selectors.EVENT_READ)
            service = self._make_service()
            service.start()
            say(_SERVING)
            selector.select()
            service.stop()


@dataclass
class _Child:
    """A forked process, and what it has said of itself."""

    pid: int
    reports: int
    """The end of a pipe on which it speaks; closed, it is dead."""
    serves: bool = False
    words: str = ""
    exit_code: int | None = None
    """Set when it has ended; minus the signal that ended it."""
    started: float = field(default_factory=time.monotonic)

    def hear(self) -> bool:
        """Take in what it says; return whether it lives."""
        said = os.read(self.reports, 4096)
        if said == _SERVING:
            self.serves = True
        else:
            self.words += said.decode(errors="replace")
        return bool(said)

    def bury(self) -> None:
        os.close(self.reports)
        _, status = os.waitpid(self.pid, 0)
        self.exit_code = os.waitstatus_to_exitcode(status)

    def send(self, number: signal.Signals) -> None:
        # It is ours until it is buried, so the pid is no one else's.
        os.kill(self.pid, number)

    @property
    def how_it_ended(self) -> str:
        assert self.exit_code is not None
        if self.exit_code < 0:
            return signal.Signals(-self.exit_code).name
        return f"exit code {self.exit_code}"

    @property
    def lived_shortly(self) -> bool:
        # One that served and was killed tells nothing of how it would have lived.
        if self.serves and self.exit_code == -signal.SIGKILL:
            return False
        return not self.serves or time.monotonic() - self.started < SHORT_LIFE_SECONDS

    def raise_if_it_failed(self, what: str) -> None:
        if self.words:
            raise SettingsError(self.words)
        if self.exit_code:
            message = f"{what} has ended with {self.how_it_ended}; the log may say why"
            raise WorkersKeepDying(message)


class _Pause:
    """How long the next worker waits to be started: not at all, unless the last ones died young."""

    def __init__(self) -> None:
        self._short_lives = 0
        self._until = 0.0

    def after(self, worker: _Child) -> None:
        """Note the end of a worker. Raises WorkersKeepDying when it was one too many."""
        self._short_lives = self._short_lives + 1 if worker.lived_shortly else 0
        if self._short_lives >= MAX_SHORT_LIVES:
            said = f": {worker.words}" if worker.words else ""
            message = (
                f"{self._short_lives} workers in a row have died within {SHORT_LIFE_SECONDS} seconds, "
                f"the last one with {worker.how_it_ended}{said}"
            )
            raise WorkersKeepDying(message)
        # The first is replaced at once. What they die of, a lost database say, may take a while to pass.
        self._until = time.monotonic() + max(self._short_lives - 1, 0)

    @property
    def seconds_left(self) -> float | None:
        """None when there is nothing to wait for."""
        left = self._until - time.monotonic()
        return left if left > 0 else None

    @property
    def is_over(self) -> bool:
        return self.seconds_left is None


def _live_and_die(work: Callable[[Callable[[bytes], None]], None], reports: int) -> NoReturn:
    """Do a child's work and end its process, whatever comes: nothing of the parent's may run in it."""
    code = 1
    try:
        work(lambda words: _write_all(reports, words))
        code = 0
    except SettingsError as error:
        _write_all(reports, str(error).encode())
    except BaseException:  # noqa: BLE001 - told in full, and the process ends
        traceback.print_exc()
    finally:
        _flush()
        os._exit(code)


def _write_all(descriptor: int, words: bytes) -> None:
    with suppress(BrokenPipeError):
        os.write(descriptor, words)


@contextmanager
def _signals_to_a_pipe() -> Iterator[int]:
    """Yield the end of a pipe that can be read once SIGTERM or SIGINT has come."""
    reads, writes = os.pipe()
    for end in (reads, writes):
        os.set_blocking(end, False)
    before = signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    handlers = [(number, signal.signal(number, lambda _number, _frame: None)) for number in _STOP]
    try:
        yield reads
    finally:
        for number, handler in handlers:
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        os.close(reads)
        os.close(writes)


def _flush() -> None:
    """Write out what is buffered, or a forked process would write it again."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
