"""A bare server: the same gRPC options, processes and threads as `ims serve`, and nothing behind them.

What every figure is divided by. No interceptors, no messages, no log: bytes in, bytes out.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Self

from bench.processor import children

CALL = "/ims.bench.Bare/Call"
STREAM = "/ims.bench.Bare/Stream"
MIB = 1024**2


class BareServer:
    """A bare server on a free port of this machine, in processes of its own."""

    def __init__(self, *, processes: int, threads: int) -> None:
        # The socket keeps the port for the processes, which bind it as well; nobody listens on it.
        self._port = socket.socket()
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._port.bind(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._port.getsockname()[1]}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.bare", self.target, str(processes), str(threads)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        for _ in range(processes):
            assert self._process.stdout.readline() == "serving\n"

    @property
    def processes(self) -> list[int]:
        """The processes that serve."""
        return children(self._process.pid)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._port.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def main() -> None:
    target, processes, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    children = []
    # Forked before grpc is imported: its threads do not survive a fork.
    for _ in range(processes):
        child = os.fork()
        if not child:
            _serve(target, threads)
            os._exit(0)
        children.append(child)

    def stop(*_: object) -> None:
        for child in children:
            os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    for child in children:
        os.waitpid(child, 0)


def _serve(target: str, threads: int) -> None:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - after the fork

    import grpc  # noqa: PLC0415 - after the fork

    from ims.bootstrap import _OPTIONS  # noqa: PLC0415 - after the fork

    chunk = os.urandom(MIB)

    def call(_request: bytes, _context: grpc.ServicerContext) -> bytes:
        return b""

    def stream(request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
        for _ in range(int(request)):
            yield chunk

    server = grpc.server(
        ThreadPoolExecutor(threads), options=tuple({**dict(_OPTIONS), "grpc.so_reuseport": 1}.items())
    )
    service = CALL.split("/")[1]
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                service,
                {
                    "Call": grpc.unary_unary_rpc_method_handler(call),
                    "Stream": grpc.unary_stream_rpc_method_handler(stream),
                },
            )
        ]
    )
    server.add_insecure_port(target)
    server.start()
    print("serving", flush=True)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()


if __name__ == "__main__":
    main()
