"""Ends calls whose client lets them wait too long: a call that waits for its client holds a thread."""

import threading
import time
from collections.abc import Iterator
from typing import Final, TypeVar

import grpc

Message = TypeVar("Message")

END: Final = object()
"""Comes in place of a message when the client has no more."""


class Patience:
    """Watches the calls that wait for their clients, and cancels those that do so for too long.

    Neither the library nor HTTP/2 bounds that: a client that sends the headers of a call and then
    nothing keeps it open for ever, and so does one that takes no more of a download.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waits: dict[grpc.ServicerContext, float] = {}
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look_again_and_again, name="patience", daemon=True)

    def start(self) -> None:
        self._watch.start()

    def stop(self) -> None:
        self._ended.set()

    def next_of(self, messages: Iterator[Message], context: grpc.ServicerContext) -> Message | object:
        """Return the client's next message, or END. Raises grpc.RpcError when patience has ended."""
        self._waits[context] = time.monotonic()
        try:
            return next(messages, END)
        finally:
            del self._waits[context]

    def while_sent(self, answers: Iterator[Message], context: grpc.ServicerContext) -> Iterator[Message]:
        """Yield a servicer's answers, with patience for the client to take each."""
        for answer in answers:
            self._waits[context] = time.monotonic()
            try:
                yield answer
            finally:
                del self._waits[context]

    def _look_again_and_again(self) -> None:
        while not self._ended.wait(self._seconds / 10):
            latest = time.monotonic() - self._seconds
            # A copy, since calls come and go meanwhile.
            for context, since in self._waits.copy().items():
                if since < latest:
                    context.cancel()
