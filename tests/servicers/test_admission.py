"""More than a server can do is refused at once, and no kind of calls can take the threads of another."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc

from builders import OWNER
from calling import METHODS, Declined, Tenant, answer_of, request_class
from conftest import As, MakeService
from ims.bootstrap import Service
from ims.servicers.admission import HEALTH_THREADS, Room, _too_many_calls
from ims.v1.image_service_pb2 import UploadImageDataRequest

SERVING = health_pb2.HealthCheckResponse.SERVING
PATIENCE_SECONDS = 60


class Slow:
    """Holds every call that reads the catalogue, until it is let go."""

    def __init__(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        self._go_on = threading.Event()
        self.held = 0
        self._one_more = threading.Condition()
        database = type(service.deployment.database)
        reading = database.reading

        @contextmanager
        def held_reading(of: Any) -> Iterator[Any]:
            with self._one_more:
                self.held += 1
                self._one_more.notify_all()
            self._go_on.wait(PATIENCE_SECONDS)
            with reading(of) as opened:
                yield opened

        monkeypatch.setattr(database, "reading", held_reading)

    def wait_for(self, calls: int) -> None:
        with self._one_more:
            assert self._one_more.wait_for(lambda: self.held == calls, PATIENCE_SECONDS)

    def let_go(self) -> None:
        self._go_on.set()


@contextmanager
def connected(service: Service) -> Iterator[grpc.Channel]:
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{service.port}", options) as channel:
        yield channel


def get_image(channel: grpc.Channel) -> Any:
    method, request = METHODS["GetImage"][1], request_class("GetImage")
    call = channel.unary_unary(
        f"/{method.containing_service.full_name}/GetImage", request.SerializeToString, bytes
    )
    metadata = (("ims-tenant", OWNER),)
    return call.future(request(image_id="x"), metadata=metadata, timeout=PATIENCE_SECONDS)


def ended(calls: list[Any]) -> list[Declined]:
    return [answer_of(call.result) for call in calls]


def healthy_within_a_second(service: Service) -> bool:
    """Ask as a new client would: on a connection of its own."""
    with connected(service) as channel:
        asked = time.monotonic()
        request = health_pb2.HealthCheckRequest()
        answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=PATIENCE_SECONDS)
        return answer.status == SERVING and time.monotonic() - asked < 1


def test_what_is_more_than_is_served_or_may_wait_is_refused_at_once(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
):
    service = make_service(threads=2, max_waiting_calls=3)
    slow = Slow(service, monkeypatch)
    with connected(service) as channel:
        served = [get_image(channel) for _ in range(2)]
        slow.wait_for(2)
        waiting = [get_image(channel) for _ in range(3)]
        refused = ended([get_image(channel) for _ in range(4)])
        slow.let_go()
        answered = ended(served + waiting)
        later = answer_of(get_image(channel).result)

    assert {(seen.code, seen.reason) for seen in refused} == {("RESOURCE_EXHAUSTED", "TOO_MANY_CALLS")}
    assert refused[0].metadata == {"maxCalls": "2", "maxWaitingCalls": "3"}
    assert [each.retry_delay.seconds for each in refused[0].details if isinstance(each, RetryInfo)] == [
        1
    ]
    assert refused[0].headers["ims-request-id"]
    assert {seen.reason for seen in answered} == {"IMAGE_NOT_FOUND"}
    assert later.reason == "IMAGE_NOT_FOUND"


def test_a_flood_is_refused_and_health_answers_within_a_second(
    make_service: MakeService, as_: As, monkeypatch: pytest.MonkeyPatch
):
    """2,000 calls are under way, none of which ends, and every transfer's place is taken too."""
    service = make_service(max_transfers=2)
    owner = as_(OWNER, of=service)
    images = [owner.create(name) for name in ("one", "two")]
    uploads = [HeldUpload(owner, image.id) for image in images]
    slow = Slow(service, monkeypatch)
    with connected(service) as first, connected(service) as second:
        flood = [get_image(channel) for channel in (first, second) for _ in range(1000)]
        admitted = service.settings.threads + service.settings.max_waiting_calls
        healthy = [healthy_within_a_second(service)]
        while sum(call.done() for call in flood) < len(flood) - admitted:
            healthy.append(healthy_within_a_second(service))
        slow.let_go()
        told = Counter((seen.code, seen.reason) for seen in ended(flood))

    assert all(healthy)
    assert told == {
        ("NOT_FOUND", "IMAGE_NOT_FOUND"): admitted,
        ("RESOURCE_EXHAUSTED", "TOO_MANY_CALLS"): len(flood) - admitted,
    }
    assert [upload.finish().code for upload in uploads] == ["OK", "OK"]


class HeldUpload:
    """An upload in the middle of its disk."""

    def __init__(self, owner: Tenant, image_id: str) -> None:
        self._go_on = threading.Event()

        def messages() -> Iterator[UploadImageDataRequest]:
            yield UploadImageDataRequest(start={"image_id": image_id, "size_bytes": 10})
            yield UploadImageDataRequest(chunk=b"first")
            self._go_on.wait(PATIENCE_SECONDS)
            yield UploadImageDataRequest(chunk=b" last")

        self._upload = owner.begin("UploadImageData", messages())
        while owner.GetImage(image_id=image_id).image.state != _SAVING:
            pass

    def finish(self) -> Declined:
        self._go_on.set()
        return answer_of(self._upload.result)


class TestSilentClients:
    """A call whose client sends its headers and then nothing holds a thread, but not for long."""

    @pytest.fixture
    def service(self, make_service: MakeService) -> Service:
        return make_service(threads=1, max_waiting_calls=0, max_transfers=1, idle_seconds=1)

    @pytest.mark.parametrize("method", ["ims.v1.ImageService/GetImage", "grpc.health.v1.Health/Check"])
    def test_their_small_calls_end_and_others_are_served(self, service: Service, as_: As, method: str):
        never = threading.Event()

        def nothing() -> Iterator[bytes]:
            never.wait(PATIENCE_SECONDS)
            yield from ()

        with connected(service) as channel:
            call = channel.stream_unary(f"/{method}")
            metadata = (("ims-tenant", OWNER),)
            silent = [
                call.future(nothing(), metadata=metadata, timeout=PATIENCE_SECONDS)
                for _ in range(HEALTH_THREADS)
            ]
            codes = {seen.code for seen in ended(silent)}
            never.set()

            assert codes <= {"CANCELLED", "RESOURCE_EXHAUSTED"}
            assert "CANCELLED" in codes
            assert healthy_within_a_second(service)
            assert answer_of(get_image(channel).result).reason == "IMAGE_NOT_FOUND"

    def test_their_uploads_end_and_the_place_is_free(self, service: Service, as_: As):
        owner = as_(OWNER, of=service)
        image = owner.create("one")
        upload = HeldUpload(owner, image.id)

        silent = answer_of(upload._upload.result)
        upload._go_on.set()

        assert silent.code == "CANCELLED"
        while (seen := answer_of(lambda: owner.upload(image.id, b"whole"))).code != "OK":
            assert seen.reason in {"TOO_MANY_TRANSFERS", "IMAGE_BUSY"}

    def test_so_do_downloads_that_they_do_not_take(self, make_service: MakeService, as_: As):
        service = make_service(max_transfers=1, idle_seconds=3)
        owner = as_(OWNER, of=service)
        image = owner.active("one", bytes(16 * 1024**2))
        untaken = owner.begin("DownloadImageData", request_class("DownloadImageData")(image_id=image.id))
        next(untaken)

        while (seen := answer_of(lambda: owner.download(image.id))).code != "OK":
            assert seen.reason == "TOO_MANY_TRANSFERS"
        assert answer_of(lambda: list(untaken)).code == "CANCELLED"


def test_a_call_without_its_message_is_told_so(service: Service):
    with connected(service) as channel:
        call = channel.stream_unary("/ims.v1.ImageService/GetImage")
        metadata = (("ims-tenant", OWNER),)
        seen = answer_of(lambda: call(iter(()), metadata=metadata, timeout=PATIENCE_SECONDS))

    assert (seen.code, seen.reason) == ("INVALID_ARGUMENT", "UNREADABLE_REQUEST")


class TestRoom:
    @pytest.fixture
    def room(self) -> Iterator[Room]:
        room = Room("tested", threads=1, waiting=1, rejection=_too_many_calls(1, 1))
        yield room
        room.shutdown()

    def test_it_is_full_when_every_thread_and_every_place_to_wait_is_taken(self, room: Room):
        go_on = threading.Event()
        fullness = [room.is_full]
        for _ in range(2):
            last = room.submit(go_on.wait)
            fullness.append(room.is_full)
        go_on.set()
        last.result(PATIENCE_SECONDS)

        assert fullness == [False, False, True]
        assert not room.is_full

    def test_a_call_that_fails_or_is_cancelled_leaves_it(self, room: Room):
        go_on = threading.Event()
        failing, cancelled = room.submit(lambda: go_on.wait() / 0), room.submit(go_on.wait)
        cancelled.cancel()
        go_on.set()
        failing.exception(PATIENCE_SECONDS)

        assert room._inside == 0

    def test_a_call_that_comes_too_late_is_not_counted(self, room: Room):
        room.shutdown()

        with pytest.raises(RuntimeError):
            room.submit(print)
        assert room._inside == 0


_SAVING = 2


def test_a_service_that_ends_lets_a_cancelled_upload_tidy_up(
    make_service: MakeService, as_: As, monkeypatch: pytest.MonkeyPatch
):
    """To the library the call has ended; its thread still removes what had arrived."""
    service = make_service()
    blobs, tidying, goes_on = service.deployment.blobs, threading.Event(), threading.Event()
    delete = blobs.delete

    def slow_delete(key: Any) -> None:
        tidying.set()
        goes_on.wait(PATIENCE_SECONDS)
        delete(key)

    monkeypatch.setattr(blobs, "delete", slow_delete)
    owner = as_(OWNER, of=service)
    image = owner.create("one")

    def messages() -> Iterator[Any]:
        yield UploadImageDataRequest(start={"image_id": image.id, "size_bytes": 10})
        tidying.wait(PATIENCE_SECONDS)

    call = owner.begin("UploadImageData", messages())
    while owner.GetImage(image_id=image.id).image.state != image.SAVING:
        pass
    call.cancel()
    assert tidying.wait(PATIENCE_SECONDS)
    threading.Timer(0.3, goes_on.set).start()

    service.stop()

    with service.deployment.database.reading() as reading:
        assert not reading.pending_blobs.abandoned(now=service.deployment.now() + timedelta(days=1))
