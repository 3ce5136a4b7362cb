"""What must be exact whoever answers: two workers on one port, and two services on one catalogue."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier

import pytest

from calling import Tenant, answer_of
from conftest import MakeCatalogue
from serving import Server

CALLERS, LIMIT = 200, 128

Servers = tuple[Server, ...]


@pytest.fixture(params=["two workers", "two services"])
def servers(
    request: pytest.FixtureRequest, tmp_path: Path, make_catalogue: MakeCatalogue
) -> Iterator[Servers]:
    """One catalogue and one folder of blobs, and two processes that answer calls about them."""
    flags = ("--database-url", make_catalogue())
    with ExitStack() as running:
        if request.param == "two workers":
            yield (running.enter_context(Server(tmp_path, *flags, "--workers", "2")),)
        else:
            start = [Server(tmp_path, *flags, "--workers", "1") for _ in range(2)]
            yield tuple(running.enter_context(server) for server in start)


class Callers:
    """Many who call at once, each over a connection of its own, spread over the servers."""

    def __init__(self, servers: Servers, count: int, tenant: Callable[[int], str]) -> None:
        self._tenants = [
            Tenant(servers[number % len(servers)].target, tenant(number)) for number in range(count)
        ]
        self._pool = ThreadPoolExecutor(count)

    def all_at_once(self, call: Callable[[Tenant, int], object]) -> Counter[str]:
        """Let everybody call at one moment; count how it ended."""
        barrier = Barrier(len(self._tenants))

        def run(number: int) -> str:
            barrier.wait()
            answer = answer_of(lambda: call(self._tenants[number], number))
            return answer.reason or answer.code

        return Counter(self._pool.map(run, range(len(self._tenants))))

    def close(self) -> None:
        self._pool.shutdown()
        for tenant in self._tenants:
            tenant.close()


@pytest.mark.slow
def test_200_who_share_at_once_leave_exactly_128_shares_20_times_of_20(servers: Servers):
    callers = Callers(servers, CALLERS, lambda _: "owner")
    owner = Tenant(servers[0].target, "owner")
    for run in range(20):
        image = owner.active(f"image-{run}")

        ended = callers.all_at_once(
            lambda tenant, number, image_id=image.id: tenant.ShareImage(
                image_id=image_id, recipients=[{"tenant_id": f"tenant-{number}"}]
            )
        )

        assert ended == {"OK": LIMIT, "SHARE_LIMIT_EXCEEDED": CALLERS - LIMIT}
        shares = owner.ListShares(image_id=image.id, page_size=1000).shares
        assert len({share.tenant_id for share in shares}) == len(shares) == LIMIT
        owner.DeleteImage(image_id=image.id)
    callers.close()
    owner.close()


def test_of_20_creations_with_one_name_at_once_one_succeeds_whoever_answers(servers: Servers):
    callers = Callers(servers, 20, lambda _: "owner")

    ended = callers.all_at_once(lambda tenant, _: tenant.create("the-one"))

    assert ended == {"OK": 1, "IMAGE_NAME_TAKEN": 19}
    callers.close()


def test_what_one_process_has_revoked_no_process_serves(servers: Servers):
    owner, recipient = (Tenant(server.target, name) for server, name in ends(servers))
    for run in range(20):
        image = owner.active(f"image-{run}")
        owner.ShareImage(image_id=image.id, recipients=[{"tenant_id": "recipient"}])
        recipient.AcceptShare(image_id=image.id)
        assert recipient.GetImage(image_id=image.id).image.id == image.id

        owner.UnshareImage(image_id=image.id, all_tenants=True)

        for rpc in (recipient.GetImage, recipient.download):
            assert answer_of(lambda rpc=rpc, image=image: rpc(image_id=image.id)).code == "NOT_FOUND"
        assert not recipient.ListImages().images
    owner.close()
    recipient.close()


def ends(servers: Servers) -> list[tuple[Server, str]]:
    """Return the server that the owner calls and the one that the recipient does."""
    return [(servers[0], "owner"), (servers[-1], "recipient")]
