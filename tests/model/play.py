"""Plays random calls on the service and on the model, and finds where they differ."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from conftest import Clock
from ims.use_cases.deployment import Deployment
from model.imagination import TENANTS, Imagination
from model.law import Answer, Call, Law
from model.stage import ADMINISTRATOR, PAGE_SIZE, Stage

CLIENTS = 8
SHARE_LIMIT = 2
IMAGE_LIMIT = 3
_LONELY_EVERY = 5


class Difference(AssertionError):
    """The service did what the law does not say."""


class Play:
    """One run: the same calls are made by the clients of a service and judged by the model."""

    def __init__(self, deployment: Deployment, clock: Clock, seed: int) -> None:
        self._stage = Stage(deployment, clock)
        self._law = Law(SHARE_LIMIT, IMAGE_LIMIT, PAGE_SIZE, ADMINISTRATOR)
        self._imagination = Imagination(seed, self._law)
        self._seed = seed
        self.made = 0

    def one_after_the_other(self, calls: int) -> None:
        """Make calls, and compare every answer and everything on record. Raises Difference."""
        for number in range(calls):
            lonely = number % _LONELY_EVERY == 0
            call = self._imagination.lonely_call() if lonely else self._imagination.call()
            self._compare([call], [self._stage.answer(call)])

    def eight_at_once(self, calls: int) -> None:
        """Make calls eight at a time, each by a thread of its own.

        What they were answered, and what is on record afterwards, must be what the law says of them in
        some order. Raises Difference.
        """
        released = threading.Barrier(CLIENTS)

        def answer(call: Call) -> Answer:
            released.wait()
            return self._stage.answer(call)

        with ThreadPoolExecutor(CLIENTS) as clients:
            until = self.made + calls
            while self.made < until:
                lonely = [self._imagination.lonely_call() for _ in range(2)]
                for call in lonely:
                    self._compare([call], [self._stage.answer(call)])
                hot = self._imagination.hot()
                together = [self._imagination.call(hot) for _ in range(CLIENTS)]
                self._compare(together, list(clients.map(answer, together)))

    def records(self) -> dict[str, Any]:
        """Return what is on record at this moment; see Stage."""
        return self._stage.records()

    def _compare(self, calls: list[Call], answers: list[Answer]) -> None:
        records = self._stage.records()
        happened = dict(enumerate(zip(calls, answers, strict=True)))
        after = _explained(self._law, happened, records, set())
        if after is None:
            raise Difference(self._story(calls, answers, records))
        self._law = self._imagination.law = after
        self.made += len(calls)
        for call, answer in zip(calls, answers, strict=True):
            self._imagination.learn(call, answer)

    def _story(self, calls: list[Call], answers: list[Answer], records: dict[str, Any]) -> str:
        lines = [f"seed {self._seed}, after {self.made} calls; no order of these explains it:"]
        for call, answer in zip(calls, answers, strict=True):
            expected = self._law.copy().answer(call, answer)
            lines += [f"  {call}", f"    was answered {answer}", f"    by the law   {expected} if first"]
        before = _on_record(self._law)
        lines += ["what was on record, and is, where it differs:"]
        lines += [
            f"  {key}: {before.get(key)} -> {records.get(key)}"
            for key in sorted(before | records)
            if before.get(key) != records.get(key)
        ]
        return "\n".join(lines)


def _explained(
    law: Law, happened: dict[int, tuple[Call, Answer]], records: dict[str, Any], tried: set[Any]
) -> Law | None:
    """Return the law as it is after the calls in an order that explains all; None if none does."""
    if not happened:
        return law if _on_record(law) == records else None
    place = (frozenset(happened), law.fingerprint())
    if place in tried:
        return None
    tried.add(place)
    for number, (call, answer) in happened.items():
        after = law.copy()
        if after.answer(call, answer) != answer:
            continue
        rest = {other: each for other, each in happened.items() if other != number}
        if (explained := _explained(after, rest, records, tried)) is not None:
            return explained
    return None


def _on_record(law: Law) -> dict[str, Any]:
    images = {
        key: (
            *(image.owner, image.name, image.state),
            *(image.public, image.protected, image.version, image.shares),
        )
        for key, image in law.images.items()
    }
    return images | {tenant: law.private_images(tenant) for tenant in TENANTS}
