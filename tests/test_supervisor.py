"""Workers share a port, are replaced when they die, and end together: real processes, real signals."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ims.client import Client, Disk, Image
from ims.settings import SettingsError
from ims.supervisor import MAX_SHORT_LIVES, Supervisor, WorkersKeepDying
from serving import START_SECONDS, Server, is_running, wait_until_gone

PATIENCE_SECONDS = 30
OK_CALLS = 20


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "data", "--workers", "2") as running:
        yield running


@contextmanager
def fresh_connection(server: Server) -> Iterator[grpc.Channel]:
    """Connect anew: by default the channels of a process share their connections."""
    with grpc.insecure_channel(server.target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield channel


def answers(server: Server) -> bool:
    """Whether a new connection is served."""
    return answer(server) == "SERVING"


def answer(server: Server) -> str:
    """Return how the server is by its own account or, if it does not say so, why not."""
    with fresh_connection(server) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            seen = stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_SECONDS)
        except grpc.RpcError as error:
            return str(error.details())
    return seen.ServingStatus.Name(seen.status)


def who_answered(server: Server) -> set[object]:
    """Return the pids of all workers that have logged a call."""
    return {line["pid"] for line in server.log_lines() if line["event"] == "call"}


def eventually(is_so: Callable[[], bool]) -> None:
    waiting = threading.Event()
    until = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < until
        waiting.wait(0.05)


def test_workers_share_the_calls(server: Server):
    workers = server.workers

    eventually(lambda: answers(server) and who_answered(server) == set(workers))
    assert len(workers) == 2


def test_the_greeting_comes_once_and_when_all_serve(server: Server):
    assert server.greeting.count("listens on") == 1
    assert "2 workers" in server.greeting
    assert all(answers(server) for _ in range(OK_CALLS))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_worker_that_ends_is_replaced_while_the_other_serves(server: Server, number: signal.Signals):
    first, second = server.workers
    os.kill(first, number)
    wait_until_gone(first)

    assert {answer(server) for _ in range(OK_CALLS)} == {"SERVING"}
    eventually(lambda: len(server.workers) == 2)
    assert second in server.workers
    eventually(lambda: answers(server) and who_answered(server) >= set(server.workers))


def test_a_service_whose_workers_are_killed_over_and_over_goes_on(tmp_path: Path):
    with Server(tmp_path / "data", "--workers", "1") as server:
        for _ in range(MAX_SHORT_LIVES + 1):
            eventually(lambda: bool(server.workers) and answers(server))
            (worker,) = server.workers
            os.kill(worker, signal.SIGKILL)
            wait_until_gone(worker)

        eventually(lambda: answers(server))


def test_what_the_running_calls_of_every_worker_have_begun_they_may_end(server: Server):
    """Uploads, one at least on each worker, are half done when SIGTERM comes."""
    uploads = [HalfUpload(server, number) for number in range(8)]
    server._process.send_signal(signal.SIGTERM)
    eventually(lambda: not answers(server))

    states = [upload.finish() for upload in uploads]

    assert states == [Image.ACTIVE] * 8
    assert server._process.wait(START_SECONDS) == 0


class HalfUpload:
    """An upload on a connection of its own, of which the second half is still to come."""

    def __init__(self, server: Server, number: int) -> None:
        self._client = Client(server.target, tenant=f"tenant-{number}")
        image = self._client.create_image(name="x", type=Image.SYSTEM_DISK, formats=[Disk.RAW])
        self._begun, self._go_on = threading.Event(), threading.Event()
        self._state = None

        def chunks() -> Iterator[bytes]:
            yield b"half"
            eventually(lambda: self._client.get_image(image.id).state == Image.SAVING)
            self._begun.set()
            self._go_on.wait(PATIENCE_SECONDS)
            yield b" and half"

        def upload() -> None:
            self._state = self._client.upload_image_data(image.id, chunks(), size_bytes=13).image.state

        self._thread = threading.Thread(target=upload)
        self._thread.start()
        self._begun.wait(PATIENCE_SECONDS)

    def finish(self) -> object:
        self._go_on.set()
        self._thread.join(PATIENCE_SECONDS)
        self._client.close()
        return self._state


def test_two_instances_serve_one_catalogue_and_one_folder_of_blobs(tmp_path: Path):
    data = tmp_path / "data"
    with (
        Server(data, "--workers", "1") as one,
        Server(data, "--workers", "1") as other,
        Client(one.target, tenant="acme") as here,
        Client(other.target, tenant="acme") as there,
    ):
        image = here.create_image(name="x", type=Image.SYSTEM_DISK, formats=[Disk.RAW])
        there.upload_image_data(image.id, [b"bytes"], size_bytes=5)

        with here.download_image_data(image.id) as (_, chunks):
            assert b"".join(chunks) == b"bytes"
        there.delete_image(image.id)
        assert here.get_image(image.id).state == Image.DELETED


def test_workers_end_by_themselves_when_their_supervisor_is_killed(server: Server):
    workers = server.workers
    os.kill(server.pid, signal.SIGKILL)

    for pid in workers:
        wait_until_gone(pid)
    with Server(server.data, "--workers", "1", "--listen", server.target) as next_one:
        assert answers(next_one)


def test_a_straggler_is_killed(tmp_path: Path):
    with Server(tmp_path / "data", "--workers", "2", IMS_DRAIN_SECONDS="0") as server:
        stuck, _ = server.workers
        os.kill(stuck, signal.SIGSTOP)  # it can do nothing at all any more, least of all end

        assert server.stop() == 0
        assert not is_running(stuck)


def test_who_asks_a_second_time_does_not_want_to_wait(tmp_path: Path):
    with Server(tmp_path / "data", "--workers", "2") as server:
        stuck, other = server.workers
        os.kill(stuck, signal.SIGSTOP)
        server._process.send_signal(signal.SIGINT)
        wait_until_gone(other)

        asked_again = time.monotonic()
        server._process.send_signal(signal.SIGINT)

        assert server._process.wait(START_SECONDS) == 0
        assert time.monotonic() - asked_again < 10


class TestWorkersThatDoNotLive:
    """The supervisor alone, with services that are none."""

    def run(self, service: object, *, workers: int = 1) -> None:
        Supervisor(lambda: service, workers=workers, drain_seconds=0).run(lambda: None, lambda: None)

    def test_what_a_first_worker_lacks_is_said(self):
        class Lacking:
            def start(self):
                raise SettingsError("there is no such thing")

        with pytest.raises(SettingsError, match="there is no such thing"):
            self.run(Lacking(), workers=3)

    def test_what_the_preparation_lacks_is_said(self):
        def prepare():
            raise SettingsError("the catalogue is behind")

        supervisor = Supervisor(lambda: None, workers=1, drain_seconds=0)
        with pytest.raises(SettingsError, match="the catalogue is behind"):
            supervisor.run(prepare, lambda: None)

    @pytest.mark.parametrize("how", ["raise ValueError", "os._exit(3)", "os.kill(os.getpid(), 9)"])
    def test_a_first_worker_that_dies_ends_the_service(self, how, capfd):
        class Dying:
            def start(self):
                exec(how, {"os": os})

        with pytest.raises(WorkersKeepDying, match="a worker has ended with"):
            self.run(Dying())

    def test_workers_that_served_and_die_again_and_again_end_the_service(self, monkeypatch):
        monkeypatch.setattr("ims.supervisor._Pause.seconds_left", None)

        class DyingSoon:
            def start(self):
                threading.Timer(0.01, os._exit, (3,)).start()

        with pytest.raises(WorkersKeepDying, match=f"{MAX_SHORT_LIVES} workers in a row.*exit code 3"):
            self.run(DyingSoon())
