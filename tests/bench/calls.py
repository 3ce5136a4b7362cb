"""Calls a second, divided by those of a bare server."""

from collections.abc import Iterator

from bench.databases import KINDS
from bench.figures import Figure
from bench.load import calls_per_second
from bench.medians import in_turns
from bench.session import Session, rpc

PAGE = 100
LISTERS = 2
"""How many load generators ask for pages: a list is long, so that fewer at once are a full load."""
TARGETS = {"SQLite": 0.6, "PostgreSQL": 0.4}


def getting_an_image(session: Session) -> Iterator[Figure]:
    """GetImage ÷ no-op, in a large catalogue."""
    for kind in KINDS:
        seeded = session.filled(kind, session.large)
        ids = session.ids(seeded)
        with session.serving(seeded.url) as server, session.bare() as bare:
            costs = {
                "no-op": session.cost("SQLite", bare.processes),
                "GetImage": session.cost(kind, server.workers),
            }
            runs = {
                "no-op": lambda bare=bare: session.no_op(bare),
                "GetImage": lambda server=server, ids=ids: session.get_image(server, ids),
            }
            turns = in_turns(
                {name: costs[name].metered(run, seconds=session.seconds) for name, run in runs.items()},
                rounds=session.rounds,
            )
        yield Figure(
            name=f"GetImage ÷ no-op, {kind}",
            value=turns.ratio("GetImage", "no-op"),
            at_least=TARGETS[kind],
            details={"bars": turns.measured, "spread": turns.ratios("GetImage", "no-op")},
        )
        for name in turns.measured:
            yield Figure(name=f"{name}, {kind}", value=turns.median(name), unit="calls a second")
            yield from costs[name].figures(f"{name}, {kind}")


def listing_images(session: Session) -> Iterator[Figure]:
    """ListImages of 100 ÷ GetImage, both in images a second, in a large catalogue."""
    for kind in KINDS:
        seeded = session.filled(kind, session.large)
        ids = session.ids(seeded)
        with session.serving(seeded.url) as server:
            page = rpc(server, "ListImages", page_size=PAGE)
            cost = session.cost(kind, server.workers)
            turns = in_turns(
                {
                    "GetImage": lambda server=server, ids=ids: session.get_image(server, ids),
                    "ListImages": cost.metered(
                        lambda page=page: calls_per_second([page] * LISTERS, seconds=session.seconds),
                        seconds=session.seconds,
                    ),
                },
                rounds=session.rounds,
            )
        yield Figure(
            name=f"ListImages of {PAGE}, images a second ÷ GetImage a second, {kind}",
            value=PAGE * turns.ratio("ListImages", "GetImage"),
            at_least=10,
            details={"spread": [PAGE * ratio for ratio in turns.ratios("ListImages", "GetImage")]},
        )
        yield Figure(
            name=f"ListImages of {PAGE}, {kind}",
            value=turns.median("ListImages"),
            unit="calls a second",
        )
        yield from cost.figures(f"ListImages of {PAGE}, {kind}")


def two_processes(session: Session) -> Iterator[Figure]:
    """GetImage of two processes ÷ one process."""
    for kind in KINDS[: 1 if session.quick else None]:
        seeded = session.filled(kind, session.large)
        ids = session.ids(seeded)
        with (
            session.serving(seeded.url, workers=1) as one,
            session.serving(seeded.url, workers=2) as two,
        ):
            turns = in_turns(
                {
                    "one": lambda one=one, ids=ids: session.get_image(one, ids),
                    "two": lambda two=two, ids=ids: session.get_image(two, ids),
                },
                rounds=session.rounds,
            )
        yield Figure(
            name=f"two processes ÷ one process, GetImage, {kind}",
            value=turns.ratio("two", "one"),
            at_least=1.6,
            details={"spread": turns.ratios("two", "one")},
        )
