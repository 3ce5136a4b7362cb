"""Memory and speed of a worker while one large file goes up and comes down again."""

import hashlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc

from bench.bare import STREAM, BareServer
from bench.figures import Figure
from bench.medians import in_turns
from bench.session import Session, method
from calling import Tenant, request_class
from serving import Server

MIB = 1024**2
PEAK_MIB = 150
OPTIONS = [("grpc.max_receive_message_length", 8 * MIB)]


def one_large_file(session: Session) -> Iterator[Figure]:
    """Upload ÷ the slower of hashing and copying, download ÷ a bare stream, peak memory."""
    size_mib = 256 if session.quick else 2048
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
