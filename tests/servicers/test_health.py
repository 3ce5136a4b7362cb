"""Whoever balances load asks for health: without an identity, by service, and until the end."""

import threading
from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from builders import OWNER
from calling import request_class
from conftest import As, MakeService
from ims.bootstrap import SERVICES, Service
from ims.v1.image_service_pb2 import UploadImageDataRequest

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
PATIENCE_SECONDS = 30


class Health:
    """Asks one server how it is."""

    def __init__(self, service: Service) -> None:
        self._channel = grpc.insecure_channel(f"127.0.0.1:{service.port}")
        self._stub = health_pb2_grpc.HealthStub(self._channel)

    def check(self, name: str) -> int:
        request = health_pb2.HealthCheckRequest(service=name)
        return self._stub.Check(request, timeout=PATIENCE_SECONDS).status

    def watch(self, name: str) -> "grpc.Call":
        request = health_pb2.HealthCheckRequest(service=name)
        return self._stub.Watch(request, timeout=PATIENCE_SECONDS)

    def close(self) -> None:
        self._channel.close()


@pytest.fixture
def health(service: Service) -> Iterator[Health]:
    asking = Health(service)
    yield asking
    asking.close()


@pytest.mark.parametrize("name", ["", *SERVICES])
def test_the_server_and_each_of_its_services_are_serving(name: str, health: Health):
    assert health.check(name) == SERVING


@pytest.mark.parametrize("name", ["ims.v1.NoSuchService", "ImageService", "\0", "x" * 100_000])
def test_a_service_that_is_not_there_is_not_found(name: str, health: Health):
    with pytest.raises(grpc.RpcError) as seen:
        health.check(name)

    assert seen.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("name", ["", *SERVICES])
def test_a_watch_begins_with_how_it_is(name: str, health: Health):
    watch = health.watch(name)

    assert next(watch).status == SERVING
    watch.cancel()


def test_a_watch_on_a_service_that_is_not_there_waits_for_it_to_come(health: Health):
    watch = health.watch("ims.v1.NoSuchService")

    assert next(watch).status == SERVICE_UNKNOWN
    watch.cancel()


def test_watches_hold_no_thread(make_service: MakeService, as_: As):
    service = make_service(threads=2, max_transfers=2)
    health = Health(service)
    watches = [health.watch("") for _ in range(20)]

    assert {next(watch).status for watch in watches} == {SERVING}
    assert as_(OWNER, of=service).ListImages().images == []
    for watch in watches:
        watch.cancel()
    health.close()


def test_a_draining_server_says_so_lets_running_calls_end_and_takes_no_new_ones(
    make_service: MakeService, as_: As
):
    service = make_service(drain_seconds=PATIENCE_SECONDS)
    health, owner = Health(service), as_(OWNER, of=service)
    image = owner.create("one")
    go_on = threading.Event()

    def held_upload() -> Iterator[UploadImageDataRequest]:
        yield UploadImageDataRequest(start={"image_id": image.id, "size_bytes": 10})
        yield UploadImageDataRequest(chunk=b"first")
        go_on.wait(PATIENCE_SECONDS)
        yield UploadImageDataRequest(chunk=b" last")

    upload = owner.begin("UploadImageData", held_upload())
    watch = health.watch("")
    assert next(watch).status == SERVING
    while owner.GetImage(image_id=image.id).image.state != _SAVING:
        pass
    stopping = threading.Thread(target=service.stop)
    stopping.start()

    assert next(watch).status == NOT_SERVING
    request = request_class("GetImage")(image_id=image.id)
    while owner.answer("GetImage", request).code == "OK":
        pass  # it says so before it does so; a call of that very moment the library may cancel
    assert as_("late", of=service).answer("GetImage", request).code == "UNAVAILABLE"
    go_on.set()
    assert upload.result().disk.size_bytes == 10
    watch.cancel()
    stopping.join(PATIENCE_SECONDS)
    assert not stopping.is_alive()
    health.close()


_SAVING = 2
