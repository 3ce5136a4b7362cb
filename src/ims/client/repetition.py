"""Calls that are made again by themselves: which, when, and how the service knows them again."""

import uuid
from time import sleep
from typing import Final

import grpc
from google.rpc.error_details_pb2 import RetryInfo

from ims.client.errors import details_of

PAUSES_SECONDS: Final = (0.1, 0.3, 1.0)
"""How long to wait before each repetition, if the service does not ask for more."""


_LONGEST_PAUSE_SECONDS: Final = 5.0


class Patience:
    """Waits between one go of a transfer and the next, but not for ever.

    What it counts is the waiting: a go takes as long as it likes.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.has_moved()

    def has_moved(self) -> None:
        """Be patient anew: bytes have arrived."""
        self._left_seconds = self._seconds
        self._pause_seconds = PAUSES_SECONDS[0]

    def wait(self, trouble: Exception) -> None:
        """Wait a while, longer each time. Raises the trouble when patience is at its end."""
        if self._pause_seconds > self._left_seconds:
            raise trouble
        sleep(self._pause_seconds)
        self._left_seconds -= self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)


def new_request_id() -> str:
    """Return an id that no other call has."""
    return str(uuid.uuid4())


def give_request_id(request: object) -> None:
    """Give a request that changes something an id, unless it has one, so that it can be repeated."""
    if getattr(request, "request_id", None) == "":
        setattr(request, "request_id", new_request_id())  # noqa: B010 - a field that only some messages have


def may_be_repeated(error: grpc.RpcError) -> bool:
    """Whether a call has found no service or lost it, or the service asks to be called again."""
    return error.code() is grpc.StatusCode.UNAVAILABLE or asked_to_wait_seconds(error) > 0


def asked_to_wait_seconds(error: grpc.RpcError) -> float:
    """Return how long the service wants to be left alone; 0 where it does not say."""
    delays = (info.retry_delay.ToTimedelta() for info in details_of(error, RetryInfo))
    return max((delay.total_seconds() for delay in delays), default=0)
