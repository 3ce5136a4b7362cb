"""Whoever balances load asks for health: without an identity, by service, and until the end."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from builders import OWNER
from calling import request_class
from conftest import As, MakeService
from ims.bootstrap import SERVICES, Service
from ims.servicers.health import Health as HealthOfService
from ims.v1.image_service_pb2 import UploadImageDataRequest

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
PATIENCE_SECONDS = 30


class Health:
    """Asks one server how it is."""

    def __init__(self, service: "Service | Catalogue") -> None:
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


class TestWithoutItsCatalogue:
    """What is asked for the catalogue is a function, here one whose answer the test decides."""

    @pytest.fixture
    def catalogue(self) -> Iterator["Catalogue"]:
        catalogue = Catalogue()
        yield catalogue
        catalogue.close()

    def test_a_service_says_that_it_does_not_serve_and_soon_after_that_it_does_again(
        self, catalogue: "Catalogue"
    ):
        watch = catalogue.health.watch("")
        seen = [next(watch).status]
        for answer in (False, True):
            catalogue.is_there = answer
            seen.append(next(watch).status)

        assert seen == [SERVING, NOT_SERVING, SERVING]
        assert catalogue.health.check("ims.v1.ImageService") == SERVING
        watch.cancel()

    def test_a_service_that_cannot_tell_does_not_serve(self, catalogue: "Catalogue"):
        watch = catalogue.health.watch("ims.v1.ImageService")
        assert next(watch).status == SERVING
        catalogue.is_there = None

        assert next(watch).status == NOT_SERVING
        watch.cancel()

    def test_a_draining_service_does_not_serve_whatever_its_catalogue_does(self, catalogue: "Catalogue"):
        catalogue.of_service.stop()

        assert catalogue.health.check("") == NOT_SERVING


class Catalogue:
    """A server that has nothing but its health, which follows a catalogue that is there or not."""

    def __init__(self) -> None:
        self.is_there: bool | None = True
        self.of_service = HealthOfService(("", "ims.v1.ImageService"), self._answer)
        self._server = grpc.server(ThreadPoolExecutor(2))
        self.of_service.add_to(self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self.of_service.start()
        self._server.start()
        self.health = Health(self)

    def _answer(self) -> bool:
        if self.is_there is None:
            raise ValueError
        return self.is_there

    def close(self) -> None:
        self.health.close()
        self.of_service.stop()
        self._server.stop(None).wait()


_SAVING = 2
