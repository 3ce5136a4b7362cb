"""The database goes away under a running service, freezes, and comes back; nobody restarts anything."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc

from calling import METHODS, Tenant, declined, request_class
from databases import Postgres
from ims.repository.database import Database
from serving import Server

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
DEADLINE_SECONDS = 4
AWAY_SECONDS = 30
START_SECONDS = 30


@pytest.fixture
def postgres_of_own() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def server(postgres_of_own: Postgres, tmp_path: Path) -> Iterator[Server]:
    url = postgres_of_own.new_database()
    database = Database(url)
    database.migrate()
    database.close()
    with Server(tmp_path, "--database-url", url, "--workers", "2") as server:
        yield server


@pytest.fixture
def owner(server: Server) -> Iterator[Tenant]:
    tenant = Tenant(server.target, "owner")
    yield tenant
    tenant.close()


def health_of(server: Server) -> int:
    # A new connection each time, so that either worker may be the one that answers.
    with grpc.insecure_channel(server.target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        request = health_pb2.HealthCheckRequest()
        return health_pb2_grpc.HealthStub(channel).Check(request, timeout=1).status


def wait_for_health(server: Server, status: int) -> None:
    waiting, until = threading.Event(), time.monotonic() + START_SECONDS
    in_a_row = 0
    while in_a_row < 10:
        in_a_row = in_a_row + 1 if health_of(server) == status else 0
        assert time.monotonic() < until, "health does not follow the catalogue"
        waiting.wait(0.05)


def is_told_in_time(owner: Tenant, rpc: str, **fields: object) -> None:
    stub = getattr(owner._stubs[METHODS[rpc][0]], rpc)
    begun = time.monotonic()
    with declined() as away:
        stub(request_class(rpc)(**fields), metadata=owner._metadata, timeout=DEADLINE_SECONDS)

    assert (away.code, away.reason) == ("UNAVAILABLE", "CATALOGUE_UNAVAILABLE")
    assert [detail for detail in away.details if isinstance(detail, RetryInfo)]
    assert time.monotonic() - begun < DEADLINE_SECONDS


def everything_is_told_in_time(owner: Tenant, image_id: str) -> None:
    is_told_in_time(owner, "GetImage", image_id=image_id)
    is_told_in_time(owner, "ListImages")
    is_told_in_time(owner, "DeleteImage", image_id=image_id)
    is_told_in_time(owner, "CreateImage", name="n", type="SYSTEM_DISK", disks=[{"format": "RAW"}])


@pytest.mark.slow
def test_a_database_that_is_gone_for_30_seconds_is_told_in_time_and_used_again(
    postgres_of_own: Postgres, server: Server, owner: Tenant
):
    image, workers = owner.active("kept"), server.workers

    postgres_of_own.stop()
    gone = time.monotonic()
    wait_for_health(server, NOT_SERVING)
    while time.monotonic() < gone + AWAY_SECONDS:
        everything_is_told_in_time(owner, image.id)
        assert health_of(server) == NOT_SERVING
    postgres_of_own.start()

    wait_for_health(server, SERVING)
    assert server.workers == workers, "nothing was restarted"
    assert owner.GetImage(image_id=image.id).image.name == "kept"
    assert owner.DeleteImage(image_id=image.id)


def test_a_database_that_freezes_is_told_in_time_and_used_again(
    postgres_of_own: Postgres, server: Server, owner: Tenant
):
    image = owner.active("kept")

    postgres_of_own.freeze()
    try:
        everything_is_told_in_time(owner, image.id)
        wait_for_health(server, NOT_SERVING)
        everything_is_told_in_time(owner, image.id)
    finally:
        postgres_of_own.thaw()

    wait_for_health(server, SERVING)
    assert owner.GetImage(image_id=image.id).image.name == "kept"
    assert owner.DeleteImage(image_id=image.id)
