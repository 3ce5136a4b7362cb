"""What a worker keeps in memory: idle, and after a long time of everything at once."""

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import grpc

from bench.databases import KINDS
from bench.figures import Figure
from bench.session import WORKERS, Session, say
from calling import Tenant

IDLE_MIB = 90
LONG_LOAD = "mixed load"
"""What the names of figures of the long load have in common."""
CLIENTS, TENANTS = 8, 40
CALLS_A_SECOND = 10
"""Of each client."""
SAMPLE_SECONDS = 10
LAWFUL = {
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.ABORTED,
}
"""How a call may be declined when others change the same images meanwhile."""


def idle_worker(session: Session) -> Iterator[Figure]:
    """Resident memory of a worker that has answered a call and waits."""
    for kind in KINDS:
        with session.serving(session.databases.url(kind, "idle")) as server:
            for _ in range(20 * WORKERS):  # over new connections, so that every worker gets one
                tenant = Tenant(server.target, "idle")
                tenant.ListImages()
                tenant.close()
            resident = server.memory_mib()
        yield Figure(
            name=f"resident memory of an idle worker, {kind}",
            value=resident,
            unit="MiB",
            at_most=IDLE_MIB,
        )


def long_load(session: Session) -> Iterator[Figure]:
    """Resident memory of a worker after minutes of mixed load ÷ after the first one."""
    minutes = session.soak_minutes
    url = session.databases.url("PostgreSQL", "soak")
    with session.serving(url) as server:
        begun, workers = time.monotonic(), server.workers
        samples: list[tuple[float, float]] = []
        # Processes, not threads: the channels of one process share a connection, and so a worker.
        with ProcessPoolExecutor(CLIENTS, mp_context=get_context("spawn")) as processes:
            clients = [
                processes.submit(_play, server.target, number, minutes * 60) for number in range(CLIENTS)
            ]
            while not any(client.done() for client in clients):
                time.sleep(SAMPLE_SECONDS)
                samples.append((round(time.monotonic() - begun, 1), server.memory_mib()))
                if len(samples) % 30 == 0:
                    say(f"{samples[-1][0] / 60:.0f} min: {samples[-1][1]:.0f} MiB")
            calls = sum(client.result() for client in clients)
        assert server.workers == workers
    after_a_minute = next(resident for seconds, resident in samples if seconds >= 60)
    yield Figure(
        name=f"resident memory of a worker after {minutes:g} minutes' {LONG_LOAD} ÷ after a minute",
        value=samples[-1][1] / after_a_minute,
        at_most=1.1,
        details={"soak": samples, "calls": calls},
    )
    yield Figure(
        name=f"{LONG_LOAD} while memory was watched", value=calls / samples[-1][0], unit="calls a second"
    )


def _play(target: str, number: int, seconds: float) -> int:
    """Do what tenants do, at random; return how many calls it took."""
    client = _Client(target, number)
    begun = time.monotonic()
    while (passed := time.monotonic() - begun) < seconds:
        client.one_call()
        # At a pace: memory grows with what was done, and the machine is left to other work meanwhile.
        time.sleep(max(0, client.calls / CALLS_A_SECOND - passed))
    return client.calls


class _Client:
    """Some tenants, who share with everybody's."""

    def __init__(self, target: str, number: int) -> None:
        self._chance = random.Random(number)
        self._tenants = [Tenant(target, f"tenant-{each}") for each in range(number, TENANTS, CLIENTS)]
        self._images: list[tuple[Tenant, str]] = []
        self._names = 0
        self._number = number
        self.calls = 0

    def one_call(self) -> None:
        doing: Callable[[], Any] = self._chance.choices(
            (
                self._look,
                self._list,
                self._create,
                self._share,
                self._decide,
                self._change,
                self._delete,
            ),
            (40, 20, 6, 12, 10, 6, 6),
        )[0]
        self.calls += 1
        try:
            doing()
        except grpc.RpcError as error:
            if error.code() not in LAWFUL:
                raise

    def _some_image(self) -> tuple[Tenant, str]:
        return self._chance.choice(self._images) if self._images else (self._tenants[0], "none")

    def _look(self) -> None:
        tenant, image_id = self._some_image()
        tenant.GetImage(image_id=image_id)

    def _list(self) -> None:
        tenant = self._chance.choice(self._tenants)
        if self._chance.random() < 0.5:
            tenant.ListReceivedShares(page_size=20)
        else:
            tenant.ListImages(page_size=50, relation=self._chance.choice(("OWNED", "SHARED_WITH_ME")))

    def _create(self) -> None:
        tenant = self._chance.choice(self._tenants)
        self._names += 1
        content = self._chance.randbytes(self._chance.randrange(1, 256 * 1024))
        image = tenant.active(f"image-{self._number}-{self._names}", content)
        self._images.append((tenant, image.id))
        assert tenant.download(image.id) == content

    def _share(self) -> None:
        tenant, image_id = self._some_image()
        others = [f"tenant-{each}" for each in range(TENANTS) if f"tenant-{each}" != tenant.id]
        recipient = self._chance.choice(others)
        if self._chance.random() < 0.3:
            tenant.UnshareImage(image_id=image_id, tenant_ids=[recipient])
        else:
            tenant.ShareImage(image_id=image_id, recipients=[{"tenant_id": recipient}])

    def _decide(self) -> None:
        tenant = self._chance.choice(self._tenants)
        for received in tenant.ListReceivedShares(page_size=5).received_shares[:1]:
            rpc = self._chance.choice(("AcceptShare", "RejectShare", "LeaveShare"))
            getattr(tenant, rpc)(image_id=received.image.id)

    def _change(self) -> None:
        tenant, image_id = self._some_image()
        image = {"description": f"changed {self.calls} times"}
        tenant.UpdateImage(image_id=image_id, image=image, update_mask={"paths": ["description"]})

    def _delete(self) -> None:
        if not self._images:
            return
        tenant, image_id = self._images.pop(self._chance.randrange(len(self._images)))
        tenant.DeleteImage(image_id=image_id)
        if self._chance.random() < 0.3:
            tenant.UndeleteImage(image_id=image_id)
            self._images.append((tenant, image_id))
