"""Workers are killed at random moments, a hundred times; nothing that was acknowledged is lost."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from calling import Declined, Tenant, fill_in, request_class, upload_messages
from conftest import MakeCatalogue
from serving import Server, is_running, wait_until_gone

KILLS = 100
CLIENTS = 4
PATIENCE_SECONDS = 60
RECIPIENTS = [f"recipient-{number}" for number in range(5)]


class Client:
    """A tenant that does one thing after the other, sends it again until it is answered, and keeps book.

    What was answered is in the book, and what was not answered has not been given up: so the book is
    what the catalogue must say in the end, exactly.
    """

    def __init__(self, server: Server, number: int) -> None:
        self._server, self._number = server, number
        self.name = f"owner-{number}"
        self._random = random.Random(number)
        self.images: dict[str, dict[str, Any]] = {}
        self.repeated = 0
        self.done = 0

    def work_until(self, ended: threading.Event) -> None:
        while not ended.is_set():
            self._do_something()
            self.done += 1

    def _do_something(self) -> None:
        live = [image_id for image_id, image in self.images.items() if image["state"] != "DELETED"]
        active = [image_id for image_id in live if self.images[image_id]["state"] == "ACTIVE"]
        queued = [image_id for image_id in live if self.images[image_id]["state"] == "QUEUED"]
        acts = [self._create] if len(live) < 30 else []
        if queued:
            acts += [lambda: self._upload(self._random.choice(queued))] * 2
        if active:
            acts += [lambda: self._share(self._random.choice(active))] * 2
            acts += [lambda: self._unshare(self._random.choice(active))]
        if len(live) > 5:
            acts += [lambda: self._delete(self._random.choice(live))]
        self._random.choice(acts)()

    def _create(self) -> None:
        name = f"image-{self.done}"
        image = self._call("CreateImage", name=name, type="SYSTEM_DISK", disks=[{"format": "RAW"}]).image
        self.images[image.id] = {"name": name, "state": "QUEUED", "shares": set(), "sha256": ""}

    def _upload(self, image_id: str) -> None:
        content = self._random.randbytes(self._random.randrange(1, 300_000))
        request_id = str(uuid.uuid4())
        self._until_answered(
            lambda tenant: tenant.call(
                "UploadImageData",
                upload_messages(
                    {"image_id": image_id, "size_bytes": len(content), "request_id": request_id}, content
                ),
            )
        )
        digest = hashlib.sha256(content).hexdigest()
        self.images[image_id] |= {"state": "ACTIVE", "sha256": digest}

    def _share(self, image_id: str) -> None:
        chosen = self._random.sample(RECIPIENTS, self._random.randrange(1, 4))
        self._call("ShareImage", image_id=image_id, recipients=[{"tenant_id": each} for each in chosen])
        self.images[image_id]["shares"] |= set(chosen)

    def _unshare(self, image_id: str) -> None:
        chosen = self._random.sample(RECIPIENTS, 2)
        self._call("UnshareImage", image_id=image_id, tenant_ids=chosen)
        self.images[image_id]["shares"] -= set(chosen)

    def _delete(self, image_id: str) -> None:
        self._call("DeleteImage", image_id=image_id)
        self.images[image_id]["state"] = "DELETED"

    def _call(self, rpc: str, **fields: Any) -> Any:
        request = request_class(rpc)(request_id=str(uuid.uuid4()), **fields)
        return self._until_answered(lambda tenant: tenant.call(rpc, request))

    def _until_answered(self, send: Any) -> Any:
        """Send the same request until it is accepted; whatever else it is answered is a failure."""
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            tenant = Tenant(self._server.target, self.name)
            try:
                return send(tenant)
            except grpc.RpcError as error:
                # A disk whose upload was killed is busy until the lease of that upload has ended.
                busy = reason_of(error) == "IMAGE_BUSY"
                unanswered = error.code() is grpc.StatusCode.UNAVAILABLE or busy
                if not unanswered or time.monotonic() > until:
                    raise
                self.repeated += 1
                time.sleep(0.05)
            finally:
                tenant.close()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_hundred_kills_lose_nothing_and_leave_nothing_half_done(
    tmp_path: Path, make_catalogue: MakeCatalogue
):
    settings = tmp_path / "settings.toml"
    settings.write_text("upload_lease_seconds = 1\nsweep_seconds = 0.5\n")
    flags = ("--config", str(settings), "--database-url", make_catalogue(), "--workers", "2")
    ended = threading.Event()
    with Server(tmp_path / "data", *flags) as server, ThreadPoolExecutor(CLIENTS) as pool:
        clients = [Client(server, number) for number in range(CLIENTS)]
        working = [pool.submit(client.work_until, ended) for client in clients]
        try:
            kill_again_and_again(server, KILLS)
        finally:
            ended.set()
        for each in working:
            each.result()

        for client in clients:
            agrees_with_the_book(server, client)
        assert sum(client.repeated for client in clients) > KILLS / 10, "the kills hit nothing"
        assert server.stop() == 0
    assert doctor(*flags[:4], "--data", str(tmp_path / "data")) == 0


def kill_again_and_again(server: Server, times: int) -> None:
    """Kill one worker of two after the other; the next one when two serve again."""
    chance = random.Random(0)
    for _ in range(times):
        until = time.monotonic() + PATIENCE_SECONDS
        while len(serving := serving_workers(server)) < 2:
            assert time.monotonic() < until, server.log()[-3000:]
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 0.5))
        killed = chance.choice(serving)
        os.kill(killed, signal.SIGKILL)
        wait_until_gone(killed)


def serving_workers(server: Server) -> list[int]:
    serve = {line["pid"] for line in server.log_lines() if line["event"] == "health"}
    return [pid for pid in server.workers if pid in serve and is_running(pid)]


def agrees_with_the_book(server: Server, client: Client) -> None:
    tenant = Tenant(server.target, client.name)
    until = time.monotonic() + PATIENCE_SECONDS
    while any(image.state == image.SAVING for image in listed(tenant)):
        assert time.monotonic() < until, "an upload is never given up"
        time.sleep(0.1)
    images = listed(tenant) + listed(tenant, state="DELETED")

    assert {image.id: (image.name, image.State.Name(image.state)) for image in images} == {
        image_id: (image["name"], image["state"]) for image_id, image in client.images.items()
    }
    for image_id, image in client.images.items():
        if image["state"] == "DELETED":
            continue
        shares = tenant.ListShares(image_id=image_id).shares
        assert {share.tenant_id for share in shares} == image["shares"]
        if image["state"] == "ACTIVE":
            assert hashlib.sha256(tenant.download(image_id)).hexdigest() == image["sha256"]
    tenant.close()


def listed(tenant: Tenant, **fields: Any) -> list[Any]:
    return list(tenant.ListImages(page_size=1000, **fields).images)


def reason_of(error: grpc.RpcError) -> str:
    seen = Declined()
    fill_in(seen, error)
    return seen.reason


def doctor(*flags: str) -> int:
    """Have catalogue and blobs examined; return the exit code, 0 when there is nothing to mend."""
    ims = Path(sys.executable).parent / "ims"
    return subprocess.run([ims, "doctor", *flags], check=False).returncode
