"""What every figure is made with: the folder, the databases, the filled catalogues, the servers."""

import random
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import sqlalchemy as sa

from bench.bare import CALL, BareServer
from bench.catalogue import BIG, Seeded, seed
from bench.databases import Databases, engine_of
from bench.load import Request, calls_per_second
from bench.processor import Cost
from calling import request_class
from ims.repository.tables import images
from ims.settings import Settings
from serving import Server

WORKERS = 2
"""Processes of a server, and of the bare server beside it."""
THREADS = Settings.model_fields["threads"].default
"""Threads of a process of the bare server: as many as `ims serve` has for small calls."""
_AS_MEASURED = {"IMS_SCRUB_BYTES_PER_SECOND": "0"}
"""Images of filled catalogues have no bytes: each would be found to be damaged, and be changed."""
BODIES = 8
"""How many different requests are sent at the same time."""


class Session:
    """One run of the benchmark."""

    def __init__(self, *, quick: bool, soak_minutes: float = 0) -> None:
        self.quick = quick
        self.soak_minutes = soak_minutes
        self._stack = ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="ims-bench-")))
        self.databases = Databases(self.folder)
        self._stack.callback(self.databases.close)
        self._seeded: dict[tuple[str, int], Seeded] = {}
        self.chance = random.Random(1)

    @property
    def rounds(self) -> int:
        """How often each of the runs that are compared is run."""
        return 2 if self.quick else 7

    @property
    def large(self) -> int:
        """How many images are in a large catalogue: filling it takes its time."""
        return 10_000 if self.quick else 100_000

    @property
    def seconds(self) -> float:
        """How long one run goes on."""
        return 0.7 if self.quick else 4

    def filled(self, kind: str, size: int) -> Seeded:
        """Return a filled catalogue; it is filled when it is first asked for."""
        if (kind, size) not in self._seeded:
            begun = time.monotonic()
            url = self.databases.url(kind, f"catalogue-{size}")
            self._seeded[kind, size] = seed(kind, url, size)
            say(f"filled {kind} with {size:,} images in {time.monotonic() - begun:.0f} s")
        return self._seeded[kind, size]

    def sizes(self, kind: str) -> tuple[int, ...]:
        """Return how large the catalogues are whose lists are compared."""
        if self.quick:
            return (1_000, self.large)
        return (1_000, 100_000, 1_000_000) if kind == "PostgreSQL" else (1_000, 100_000)

    @contextmanager
    def serving(self, url: str, *flags: str, workers: int = WORKERS) -> Iterator[Server]:
        """Serve the catalogue at an address."""
        with tempfile.TemporaryDirectory(dir=self.folder) as data:
            flags = ("--database-url", url, "--workers", str(workers), *flags)
            with Server(Path(data), *flags, **_AS_MEASURED) as server:
                yield server

    @contextmanager
    def bare(self, *, processes: int = WORKERS) -> Iterator[BareServer]:
        with BareServer(processes=processes, threads=THREADS) as server:
            yield server

    def cost(self, kind: str, service: Iterable[int]) -> Cost:
        """Return what tells how much processor time calls take, in some processes and in a database."""
        return Cost(service=service, database=lambda: self.databases.processes(kind))

    # --- loads; each returns answers a second ---

    def no_op(self, bare: BareServer) -> float:
        """Load a bare server with empty messages."""
        request = Request(target=bare.target, method=CALL)
        return calls_per_second([request] * BODIES, seconds=self.seconds)

    def get_image(self, server: Server, ids: list[str]) -> float:
        """Ask for some images out of many, by chance others in each run."""
        requests = [
            rpc(server, "GetImage", image_id=image_id) for image_id in self.chance.sample(ids, BODIES)
        ]
        return calls_per_second(requests, seconds=self.seconds)

    def ids(self, seeded: Seeded, *conditions: sa.ColumnElement[bool]) -> list[str]:
        """Return the ids of images that the big tenant owns."""
        engine = engine_of(seeded.url)
        with engine.connect() as connection:
            query = sa.select(images.c.id).where(images.c.owner == BIG, *conditions)
            found = list(connection.execute(query.order_by(images.c.id)).scalars())
        engine.dispose()
        return found

    def close(self) -> None:
        self._stack.close()


def rpc(server: Server, name: str, *, tenant: str = BIG, **fields: object) -> Request:
    """Return the request of one of ours."""
    message = request_class(name)(**fields)
    return Request(
        target=server.target, method=method(name), body=message.SerializeToString(), tenant=tenant
    )


def method(name: str) -> str:
    """Return the path of one of our RPCs."""
    file = request_class(name).DESCRIPTOR.file
    services = file.services_by_name.values()
    service = next(each for each in services if name in each.methods_by_name)
    return f"/{service.full_name}/{name}"


def say(line: str) -> None:
    """Tell what is going on, apart from the results."""
    print(f"  … {line}", file=sys.stderr, flush=True)
