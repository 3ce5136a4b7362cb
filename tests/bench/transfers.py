"""Memory and speed of a worker while one large file goes up and comes down again."""

import hashlib
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from multiprocessing.synchronize import Event, Semaphore
from pathlib import Path

import grpc
import sqlalchemy as sa

from bench.bare import STREAM, BareServer
from bench.databases import engine_of
from bench.figures import Figure
from bench.medians import in_turns, percentile
from bench.session import Session, method
from calling import Tenant, request_class
from ims.domain.image import GIB, KeyId
from ims.providers.keys import add_key
from ims.repository.tables import images
from serving import Server

MIB = 1024**2
PEAK_MIB = 150
KEY = KeyId("bench")
TRANSFERS = 16
PAUSE_SECONDS = 0.1
"""Between two chunks of one of many downloads: some 10 MiB a second each, as over a network."""
_SETTLED_SECONDS = 1
"""How long they run before anything is measured: what a client takes ahead comes at once."""
OPTIONS = [("grpc.max_receive_message_length", 8 * MIB)]


def one_large_file(session: Session) -> Iterator[Figure]:
    """Upload ÷ the slower of hashing and copying, download ÷ a bare stream, peak memory."""
    size_mib = 256 if session.quick else 4096
    folder = session.folder / "transfers"
    folder.mkdir()
    source = folder / "source.raw"
    with source.open("wb") as file:
        file.writelines(_blocks(size_mib))
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with (
        session.serving(session.databases.url("SQLite", "transfers"), workers=1) as server,
        session.bare(processes=1) as bare,
    ):
        tenant = Tenant(server.target, "bench")
        uploaded: list[str] = []

        def upload() -> None:
            image = tenant.create(f"large-{len(uploaded)}")
            tenant.call("UploadImageData", _messages(image.id, source, digest))
            uploaded.append(image.id)

        def copy() -> None:
            subprocess.run(
                f"cp {source} {folder}/copy && sync {folder}/copy && rm {folder}/copy",
                shell=True,
                check=True,
            )

        def hashed() -> None:
            subprocess.run(["openssl", "sha256", source], check=True, stdout=subprocess.DEVNULL)

        up = in_turns(
            {name: _seconds(work) for name, work in (("up", upload), ("cp", copy), ("sha", hashed))},
            rounds=1 if session.quick else 3,
        )
        down = in_turns(
            {
                "down": lambda: _download(server, uploaded[0], size_mib),
                "bare": lambda: _stream(bare, size_mib),
            },
            rounds=3 if session.quick else 5,
        )
        peak = server.peak_memory_mib()
        tenant.close()
    slower = max(("cp", "sha"), key=up.median)
    yield Figure(
        name="upload, hashed, inspected, written, synced ÷ the slower of openssl sha256 and cp + sync",
        value=up.ratio(slower, "up"),
        at_least=0.5,
        details={"spread": up.ratios(slower, "up")},
    )
    yield Figure(name="upload", value=size_mib / up.median("up"), unit="MiB a second")
    yield Figure(
        name="download ÷ a bare Python stream of 1 MiB messages",
        value=down.ratio("bare", "down"),
        at_least=0.9,
        details={"spread": down.ratios("bare", "down")},
    )
    yield Figure(name="download", value=size_mib / down.median("down"), unit="MiB a second")
    yield Figure(
        name=f"peak memory of a worker, {size_mib / 1024:g} GiB up and down",
        value=peak,
        unit="MiB",
        at_most=PEAK_MIB,
    )


def encrypted_files(session: Session) -> Iterator[Figure]:
    """Upload and download of an encrypted image ÷ of one that is not."""
    size_mib = 32 if session.quick else 1024
    source, digest = _a_file(session.folder / "encrypted.raw", size_mib)
    with session.serving(session.databases.url("SQLite", "encrypted"), workers=1) as server:
        add_key(server.data / "keys.toml", KEY)
        tenant = Tenant(server.target, "bench")
        ids: dict[str, str] = {}

        def upload(kind: str) -> None:
            key = {"encryption_key_id": KEY} if kind == "sealed" else {}
            image = tenant.create(f"{kind}-{time.monotonic_ns()}", **key)
            tenant.call("UploadImageData", _messages(image.id, source, digest))
            ids[kind] = image.id

        up = in_turns(
            {kind: _seconds(partial(upload, kind)) for kind in ("sealed", "plain")},
            rounds=1 if session.quick else 5,
        )
        down = in_turns(
            {kind: partial(_download, server, ids[kind], size_mib) for kind in ids},
            rounds=2 if session.quick else 5,
        )
        tenant.close()
    source.unlink()
    for name, turns in (("upload", up), ("download", down)):
        yield Figure(
            name=f"{name}, encrypted ÷ unencrypted",
            value=turns.ratio("plain", "sealed"),
            at_least=0.7,
            details={"spread": turns.ratios("plain", "sealed")},
        )


def calls_beside_transfers(session: Session) -> Iterator[Figure]:
    """GetImage's p99, and memory, beside 16 running downloads ÷ without any."""
    source, digest = _a_file(session.folder / "beside.raw", 32 if session.quick else 256)
    with (
        session.serving(session.databases.url("SQLite", "beside"), workers=1) as server,
        session.serving(session.databases.url("SQLite", "elsewhere"), workers=1) as another,
    ):
        tenant = Tenant(server.target, "bench")
        image_id = _uploaded(tenant, source, digest)
        with closing(Tenant(another.target, "bench")) as there:
            elsewhere_id = _uploaded(there, source, digest)
        calls = 200 if session.quick else 2_000
        p99 = in_turns(
            {
                "alone": partial(_p99, tenant, image_id, calls),
                "beside": partial(_p99_beside, server, image_id, tenant, image_id, calls),
                "elsewhere": partial(_p99_beside, another, elsewhere_id, tenant, image_id, calls),
            },
            rounds=1 if session.quick else 5,
        )
        before_mib = server.memory_mib()
        with _downloads(server, image_id):
            _p99(tenant, image_id, calls)
            during_mib = server.memory_mib()
        tenant.close()
    source.unlink()
    yield Figure(
        name=f"GetImage's p99 beside {TRANSFERS} running downloads ÷ without",
        value=p99.ratio("beside", "alone"),
        at_most=3,
        details={"spread": p99.ratios("beside", "alone")},
    )
    yield Figure(
        name=f"GetImage's p99 beside {TRANSFERS} running downloads of another service ÷ without",
        value=p99.ratio("elsewhere", "alone"),
        details={"spread": p99.ratios("elsewhere", "alone")},
    )
    yield Figure(
        name="memory of a worker for each running download",
        value=max(0.0, during_mib - before_mib) / TRANSFERS,
        unit="MiB",
        at_most=24,
    )


def copy_of_a_large_image(session: Session) -> Iterator[Figure]:
    """CopyImage of an image of 100 GiB whose bytes stay as they are."""
    url = session.databases.url("SQLite", "copies")
    with session.serving(url, workers=1) as server:
        tenant = Tenant(server.target, "bench")
        image = tenant.create("large", type="SYSTEM_DISK")
        tenant.upload(image.id, b"small")
        _grow_on_record(server, url, image.id, 100 * GIB)
        seconds = [
            _seconds(partial(tenant.copied, image.id, f"copy-{number}"))()
            for number in range(3 if session.quick else 20)
        ]
        tenant.close()
    yield Figure(
        name="CopyImage of 100 GiB within the region",
        value=statistics.median(seconds),
        unit="s",
        at_most=1,
        details={"spread": [min(seconds), max(seconds)]},
    )


def _grow_on_record(server: Server, url: str, image_id: str, size_bytes: int) -> None:
    """Make an image's only blob a sparse file of that size, and the record say so."""
    (blob,) = (path for path in (server.data / "blobs" / "blobs").rglob("*") if path.is_file())
    os.truncate(blob, size_bytes)
    engine = engine_of(url)
    with engine.begin() as connection:
        said = connection.execute(sa.select(images.c.disks).where(images.c.id == image_id)).scalar_one()
        disks = json.dumps([{**json.loads(said)[0], "size_bytes": size_bytes}])
        connection.execute(
            images.update().where(images.c.id == image_id).values(disks=disks, size_bytes=size_bytes)
        )
    engine.dispose()


def _uploaded(tenant: Tenant, source: Path, digest: str) -> str:
    image = tenant.create("one")
    tenant.call("UploadImageData", _messages(image.id, source, digest))
    return str(image.id)


def _p99(tenant: Tenant, image_id: str, calls: int) -> float:
    return percentile(
        [_seconds(partial(tenant.GetImage, image_id=image_id))() for _ in range(calls)], 0.99
    )


def _p99_beside(server: Server, downloaded: str, tenant: Tenant, image_id: str, calls: int) -> float:
    """Ask for an image while another is downloaded, of the same service or of another."""
    with _downloads(server, downloaded):
        return _p99(tenant, image_id, calls)


@contextmanager
def _downloads(server: Server, image_id: str) -> Iterator[None]:
    """Have many downloads running for the block, in a process of their own: it hinders no measuring."""
    processes = multiprocessing.get_context("spawn")
    running, ended = processes.Semaphore(0), processes.Event()
    process = processes.Process(target=_download_many, args=(server.target, image_id, running, ended))
    process.start()
    try:
        for _ in range(TRANSFERS):
            assert running.acquire(timeout=60), "not every download has begun"
        time.sleep(_SETTLED_SECONDS)
        yield
        assert process.is_alive(), "the downloads have ended before their time"
    finally:
        ended.set()
        process.join()


def _download_many(target: str, image_id: str, running: Semaphore, ended: Event) -> None:
    with ThreadPoolExecutor(TRANSFERS) as threads:
        downloads = [
            threads.submit(_download_until, target, image_id, running, ended) for _ in range(TRANSFERS)
        ]
    for each in downloads:
        each.result()


def _download_until(target: str, image_id: str, running: Semaphore, ended: Event) -> None:
    """Download again and again, at the pace of a client on a network, until it is told to end."""
    with grpc.insecure_channel(target, OPTIONS) as channel:
        stream = channel.unary_stream(method("DownloadImageData"))
        request = request_class("DownloadImageData")(image_id=image_id).SerializeToString()
        begun, chance = False, random.Random()
        while not ended.is_set():
            for _ in stream(request, metadata=[("ims-tenant", "bench")]):
                if not begun:
                    begun = True
                    running.release()
                # No two clients at the same beat: sixteen chunks at once every so often is none's load.
                if ended.wait(chance.uniform(0, 2 * PAUSE_SECONDS)):
                    break


def _a_file(path: Path, size_mib: int) -> tuple[Path, str]:
    with path.open("wb") as file:
        file.writelines(_blocks(size_mib))
    with path.open("rb") as file:
        return path, hashlib.file_digest(file, "sha256").hexdigest()


def _seconds(work: Callable[[], object]) -> Callable[[], float]:
    def timed() -> float:
        begun = time.monotonic()
        work()
        return time.monotonic() - begun

    return timed


def _blocks(size_mib: int) -> Iterator[bytes]:
    """Yield a file's bytes in chunks of 1 MiB, none like the other."""
    block = bytearray(os.urandom(MIB))
    for number in range(size_mib):
        block[:8] = number.to_bytes(8, "big")
        yield bytes(block)


def _messages(image_id: str, source: Path, digest: str) -> Iterator[object]:
    message = request_class("UploadImageData")
    size_bytes = source.stat().st_size
    yield message(start={"image_id": image_id, "size_bytes": size_bytes, "sha256": digest})
    with source.open("rb") as file:
        while block := file.read(MIB):
            yield message(chunk=block)


def _download(server: Server, image_id: str, size_mib: int) -> float:
    request = request_class("DownloadImageData")(image_id=image_id).SerializeToString()
    return _seconds_of_stream(server.target, method("DownloadImageData"), request, size_mib)


def _stream(bare: BareServer, size_mib: int) -> float:
    return _seconds_of_stream(bare.target, STREAM, str(size_mib).encode(), size_mib)


def _seconds_of_stream(target: str, path: str, request: bytes, size_mib: int) -> float:
    """Take a stream as it comes, and do nothing with it."""
    with grpc.insecure_channel(target, OPTIONS) as channel:
        stream = channel.unary_stream(path)
        begun = time.monotonic()
        received = sum(map(len, stream(request, metadata=[("ims-tenant", "bench")])))
        seconds = time.monotonic() - begun
    assert received >= size_mib * MIB
    return seconds
