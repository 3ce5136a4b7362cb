"""Sources of files on this machine: real servers that say to the byte what a test has them say."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

HOST = "127.0.0.1"

RESET = object()
"""Instead of a piece of an answer: break the connection off."""


@dataclass(frozen=True)
class Request:
    """What a source was asked."""

    target: str
    headers: dict[str, str]
    """By names in lower case."""

    @property
    def offset(self) -> int:
        """Where the asked range begins; 0 without one."""
        range_ = self.headers.get("range", "bytes=0-")
        return int(range_.removeprefix("bytes=").removesuffix("-"))


Piece = bytes | object | Callable[[], None]
Answering = Callable[[Request], Iterable[Piece]]


@dataclass
class Source:
    """A server that answers each connection's only request with the pieces that `answer` yields."""

    answer: Answering
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    done: threading.Event = field(default_factory=threading.Event)
    """Set when the test is over: what a silent source waits for."""

    def __post_init__(self) -> None:
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{HOST}:{self.port}"

    def stay_silent(self) -> None:
        self.done.wait(60)

    def close(self) -> None:
        self.done.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(30)

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                line, _ = self._listener.accept()
                self.connections += 1
                self._threads.append(threading.Thread(target=self._converse, args=(line,)))
                self._threads[-1].start()

    def _converse(self, line: socket.socket) -> None:
        # A client that hangs up in the middle is what many tests are about.
        with suppress(OSError):
            if self.tls:
                line = self.tls.wrap_socket(line, server_side=True)
            with line:
                request = _read(line)
                self.requests.append(request)
                for piece in self.answer(request):
                    if piece is RESET:
                        # No time to linger: the other side gets a reset instead of an end.
                        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        return
                    if callable(piece):
                        piece()
                    else:
                        line.sendall(piece)
                if self.tls:
                    line.unwrap()


def _read(line: socket.socket) -> Request:
    head = b""
    while b"\r\n\r\n" not in head:
        received = line.recv(65536)
        if not received:
            raise ConnectionError
        head += received
    first, *lines = head.decode("ascii").split("\r\n\r\n")[0].split("\r\n")
    pairs = (each.partition(": ") for each in lines)
    return Request(first.split(" ")[1], {name.lower(): value for name, _, value in pairs})


def head(status: int = 200, **headers: str | int) -> bytes:
    """Return an answer's head; underscores in the names are hyphens."""
    lines = [f"HTTP/1.1 {status} Whatever"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def redirect(location: str, status: int = 302) -> Answering:
    return lambda _: [head(status, Location=location, Content_Length=0)]


def file(content: bytes, **headers: str) -> Answering:
    """Answer as a good server of a file does, ranges included."""
    headers = {"ETag": '"one"'} | headers

    def answer(request: Request) -> Iterator[bytes]:
        total = len(content)
        if "range" in request.headers and request.headers.get("if-range") == headers["ETag"]:
            range_ = f"bytes {request.offset}-{total - 1}/{total}"
            yield head(206, Content_Range=range_, Content_Length=total - request.offset, **headers)
            yield content[request.offset :]
        else:
            yield head(200, Content_Length=total, **headers)
            yield content

    return answer


def broken_every(bytes_: int, answer: Answering, *, ending: Piece = b"") -> Answering:
    """Have an answer break off when so many bytes of its body were sent."""

    def broken(request: Request) -> Iterator[Piece]:
        pieces = iter(answer(request))
        yield next(pieces)
        body = b"".join(pieces)
        yield body[:bytes_]
        if len(body) > bytes_:
            yield ending

    return broken


@contextmanager
def sources() -> Iterator[Callable[..., Source]]:
    """Lend sources, and end them."""
    made: list[Source] = []

    def make(answer: Answering, tls: ssl.SSLContext | None = None) -> Source:
        made.append(Source(answer, tls))
        return made[-1]

    yield make
    for each in made:
        each.close()
