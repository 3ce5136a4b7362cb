"""Many callers at one moment."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ims.domain.rejection import Rejection


def all_at_once(calls: list[Callable[[], object]]) -> Counter[str]:
    """Run the calls in as many threads, all released at one moment; count how they ended."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> str:
        barrier.wait()
        try:
            call()
        except Rejection as rejection:
            return rejection.reason
        return "OK"

    with ThreadPoolExecutor(len(calls)) as pool:
        return Counter(pool.map(run, calls))
