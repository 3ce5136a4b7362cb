"""Measures the server's memory and speed while one large file goes up and comes down again.

Run by `make bench`; GIB=n chooses the size of the file. Speeds are ratios against what this machine does
with the same number of bytes without us; the memory is the peak that the kernel kept for the server.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from calling import Tenant
from ims.v1 import image_service_pb2
from serving import Server

MIB = 1024**2
SIZE_BYTES = int(float(os.environ.get("GIB", "2")) * 1024 * MIB)
TARGET_MIB = 150


def seconds(work: Callable[[], object]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def blocks() -> Iterator[bytes]:
    """Yield a file's bytes in chunks of 1 MiB, the same ones at every call, none like the other."""
    block = bytearray(os.urandom(MIB))
    for number in range(SIZE_BYTES // MIB):
        block[:8] = number.to_bytes(8, "big")
        yield bytes(block)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ims-bench-", dir=os.environ.get("BENCH_DIR")) as name:
        folder = Path(name)
        source = folder / "source.raw"
        with source.open("wb") as file:
            file.writelines(blocks())
        hashing = seconds(
            lambda: subprocess.run(["openssl", "sha256", source], check=True, stdout=subprocess.DEVNULL)
        )
        copying = seconds(
            lambda: subprocess.run(
                f"cp {source} {folder}/copy && sync {folder}/copy", shell=True, check=True
            )
        )
        (folder / "copy").unlink()
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with Server(folder / "data") as server:
            idle = server.memory_mib()
            tenant = Tenant(server.target, "bench")
            image = tenant.create("large")

            def messages() -> Iterator[image_service_pb2.UploadImageDataRequest]:
                request = image_service_pb2.UploadImageDataRequest
                yield request(start={"image_id": image.id, "size_bytes": SIZE_BYTES, "sha256": digest})
                with source.open("rb") as file:
                    while block := file.read(MIB):
                        yield request(chunk=block)

            stub = tenant._stubs["ImageService"]
            up = seconds(lambda: stub.UploadImageData(messages(), metadata=tenant._metadata))
            after_upload = server.peak_memory_mib()
            seen = hashlib.sha256()

            def download() -> None:
                request = image_service_pb2.DownloadImageDataRequest(image_id=image.id)
                for message in stub.DownloadImageData(request, metadata=tenant._metadata):
                    seen.update(message.chunk)

            down = seconds(download)
            assert seen.hexdigest() == digest
            peak = server.peak_memory_mib()
    rows = [
        ("file", f"{SIZE_BYTES / 1024 / MIB:g} GiB", ""),
        ("server memory, idle", f"{idle:.0f} MiB", ""),
        ("server memory, peak of the upload", f"{after_upload:.0f} MiB", ""),
        ("server memory, peak of upload and download", f"{peak:.0f} MiB", f"target: {TARGET_MIB}"),
        ("upload, hashed, inspected, written, synced", f"{SIZE_BYTES / MIB / up:.0f} MiB/s", ""),
        ("  ÷ the slower of openssl sha256 and cp + sync", f"{max(hashing, copying) / up:.2f}", ""),
        ("download, hashed by the client", f"{SIZE_BYTES / MIB / down:.0f} MiB/s", ""),
        ("  ÷ openssl sha256", f"{hashing / down:.2f}", ""),
    ]
    for what, value, remark in rows:
        print(f"{what:50} {value:>14}  {remark}")
    sys.exit(peak > TARGET_MIB)


if __name__ == "__main__":
    main()
