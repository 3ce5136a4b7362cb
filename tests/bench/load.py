"""Loads a server with h2load, Debian's native HTTP/2 load generator, and reads what it says.

h2load sends one body again and again and looks at HTTP statuses only. So a load is several h2load
processes, each with a body of its own, and what came back is held against what one real call was
answered, byte for byte of the total: an error of gRPC's carries no message, so it would be missed.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

CONNECTIONS, STREAMS = 4, 1
FRAME_BYTES = 5
"""What gRPC puts before each message: whether it is compressed, and its length."""


class WrongAnswers(Exception):
    """A server answered something else under load than it did before."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One unary call, as bytes."""

    target: str
    method: str
    body: bytes = b""
    tenant: str = "bench"

    def send(self) -> bytes:
        """Send it once, with a real client; return the message that came back. Raises grpc.RpcError."""
        with grpc.insecure_channel(self.target) as channel:
            call = channel.unary_unary(self.method)
            return bytes(call(self.body, metadata=[("ims-tenant", self.tenant)], timeout=60))


def require_h2load() -> None:
    """End the program, saying how to install h2load, when it is not there."""
    if shutil.which("h2load") is None:
        sys.exit(
            "make bench needs h2load, the load generator of nghttp2. On Debian and Ubuntu:\n"
            "  apt-get install nghttp2-client"
        )


def version() -> str:
    """Return what h2load is called and which version it is."""
    if shutil.which("h2load") is None:
        return "no h2load"
    said = subprocess.run(["h2load", "--version"], check=True, capture_output=True, text=True).stdout
    return said.strip()


def calls_per_second(requests: Sequence[Request], *, seconds: float) -> float:
    """Send each request again and again, all at the same time; return the answers a second.

    Raises WrongAnswers unless every answer was as long as the one to a real call before.
    """
    answers = [len(request.send()) for request in requests]
    with tempfile.TemporaryDirectory(prefix="ims-load-") as folder:
        bodies = [Path(folder) / str(number) for number in range(len(requests))]
        for body, request in zip(bodies, requests, strict=True):
            body.write_bytes(b"\0" + len(request.body).to_bytes(4, "big") + request.body)
        running = [
            subprocess.Popen(
                _command(request, body, seconds),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for request, body in zip(requests, bodies, strict=True)
        ]
        said = [process.communicate()[0] for process in running]
    return sum(_rate(text, answer) for text, answer in zip(said, answers, strict=True))


def _command(request: Request, body: Path, seconds: float) -> list[str]:
    headers = {"content-type": "application/grpc", "te": "trailers", "ims-tenant": request.tenant}
    return [
        *("h2load", f"--clients={CONNECTIONS}", f"--max-concurrent-streams={STREAMS}"),
        *(f"--duration={seconds * 1000:.0f}ms", f"--data={body}"),
        *(f"--header={name}: {value}" for name, value in headers.items()),
        f"http://{request.target}{request.method}",
    ]


def _rate(said: str, answer_bytes: int) -> float:
    """Return how many answers a second h2load saw, if they were what they should be."""
    finished = re.search(r"finished in .*?, ([\d.]+) req/s", said)
    counted = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", said)
    data = re.search(r"\((\d+)\) data", said)
    if finished is None or counted is None or data is None:
        raise WrongAnswers(said)
    succeeded, *bad = map(int, counted.groups())
    # When time is up, some calls are on their way: begun but not counted, or counted from the middle.
    on_the_way = CONNECTIONS * STREAMS
    missing = abs(int(data[1]) / (answer_bytes + FRAME_BYTES) - succeeded)
    if any(bad) or missing > on_the_way:
        raise WrongAnswers(f"{missing:.1f} of {succeeded} answers differ in length\n{said}")
    return float(finished[1])
