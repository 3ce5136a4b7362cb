"""What sends a file, over one connection for each question: asked, waited for, and judged by form."""

import hashlib
import http.client
import io
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any, Final

from ims.domain.rejection import Category, Reason, Rejection, reject
from ims.providers.addresses import Address, Location

MAX_HEAD_BYTES: Final = 64 * 1024
"""How long an answer's headers may be, all that precede them included."""
_BUFFER_BYTES: Final = 64 * 1024
_MOST_ADDRESSES: Final = 4
"""How many addresses of one host are tried."""
_LOOK_SECONDS: Final = 0.5
"""How often somebody who waits for bytes asks whether to go on."""

_LENGTH: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", re.ASCII)

Dial = Callable[[str, int, float], socket.socket]
"""Connects to an address and port within so many seconds. Raises OSError."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How much a source may be waited for. What we do with its bytes in between does not count."""

    connect_seconds: float = 10
    """How long one connection may take, its TLS included."""
    stall_seconds: float = 30
    """How long no byte of the file may come; then the rest is asked for anew."""
    min_bytes_per_second: int = 32 * 1024
    """How many bytes a second must come on average, after `grace_seconds`."""
    grace_seconds: float = 60
    max_seconds: float = 24 * 3600
    """How long all may take."""
    tries: int = 5
    """How often in a row a fetch may break off without getting further."""


class Watch:
    """Measures how long the source is waited for, and says when it was too long."""

    def __init__(
        self, patience: Patience, clock: Callable[[], float], keep_on: Callable[[], None]
    ) -> None:
        self._patience = patience
        self._clock = clock
        self._keep_on = keep_on
        self._waited_seconds = 0.0
        self._since = 0.0
        self._stalled_since = 0.0
        self._next_question = 0.0
        self._received_bytes = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time within as that of the source."""
        self._since = self._stalled_since = self._clock()
        try:
            yield
        finally:
            self._waited_seconds += self._clock() - self._since

    def received(self, bytes_: int) -> None:
        self._received_bytes += bytes_

    def stir(self) -> None:
        """Begin anew to wait for a byte."""
        self._stalled_since = self._clock()

    def judge(self) -> float:
        """Return for how many seconds to wait before asking again.

        Raises what `keep_on` raises, _Stalled, and Rejection IMPORT_SOURCE_TOO_SLOW.
        """
        now, patience = self._clock(), self._patience
        if now >= self._next_question:
            self._next_question = now + _LOOK_SECONDS
            self._keep_on()
        earned_seconds = self._received_bytes / patience.min_bytes_per_second
        allowed_seconds = min(patience.grace_seconds + earned_seconds, patience.max_seconds)
        left_seconds = allowed_seconds - self._waited_seconds - (now - self._since)
        if left_seconds <= 0:
            raise too_slow(self._received_bytes)
        until_stalled_seconds = patience.stall_seconds - (now - self._stalled_since)
        if until_stalled_seconds <= 0:
            raise _Stalled(f"no byte has come for {patience.stall_seconds} seconds")
        return min(left_seconds, until_stalled_seconds, _LOOK_SECONDS)


class _Reader(io.RawIOBase):
    """Reads what a source sends, no longer than the watch allows, and headers of a bounded length."""

    def __init__(self, line: socket.socket, watch: Watch) -> None:
        self._line = line
        self._watch = watch
        self._head_bytes: int | None = 0
        """How much came before the body; None once that is over."""

    def end_head(self) -> None:
        self._head_bytes = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - whatever can be written into
        if self._head_bytes is not None and self._head_bytes >= MAX_HEAD_BYTES:
            raise unusable(Problem.HEADERS_TOO_LONG)
        while True:
            self._line.settimeout(self._watch.judge())
            try:
                length = self._line.recv_into(buffer)
            except TimeoutError:
                continue
            if self._head_bytes is not None:
                self._head_bytes += length
            return length

    def close(self) -> None:
        self._line.close()
        super().close()


class _Line:
    """What http.client takes for a socket."""

    def __init__(self, line: socket.socket, watch: Watch) -> None:
        self._line = line
        self.reader = _Reader(line, watch)

    def sendall(self, data: bytes) -> None:
        self._line.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self.reader, _BUFFER_BYTES)

    def close(self) -> None:
        """Leave it open: http.client closes its socket as soon as nothing more is to be sent."""


class Connection(http.client.HTTPConnection):
    """A connection for one request to an address that was judged, whatever the host's name means now."""

    def __init__(
        self,
        location: Location,
        addresses: Sequence[Address],
        *,
        dial: Dial,
        tls: ssl.SSLContext,
        connect_seconds: float,
        watch: Watch,
    ) -> None:
        super().__init__(location.host, location.port)
        self._location = location
        self._addresses = addresses
        self._dial = dial
        self._tls = tls
        self._connect_seconds = connect_seconds
        self._watch = watch
        self.line: _Line | None = None

    def connect(self) -> None:
        plain = self._dial_one()
        try:
            plain.settimeout(self._connect_seconds)
            line = plain
            if self._location.scheme == "https":
                # A connection that is cut is told from one that ends only if TLS is asked to say so.
                line = self._tls.wrap_socket(
                    plain, server_hostname=self._location.host, suppress_ragged_eofs=False
                )
        except BaseException:
            plain.close()
            raise
        self._watch.stir()
        self.line = _Line(line, self._watch)
        self.sock = self.line

    def _dial_one(self) -> socket.socket:
        for address in self._addresses[:_MOST_ADDRESSES]:
            self._watch.judge()
            try:
                return self._dial(str(address), self._location.port, self._connect_seconds)
            except OSError as error:
                failure = error
            finally:
                self._watch.stir()
        raise Broken("no connection came about") from failure

    def ask(self, headers: dict[str, str]) -> "Answer":
        """Return the answer to a GET; without one, the connection is ended."""
        try:
            with _in_our_words():
                self.request("GET", self._location.target, headers=headers)
                return Answer(self, self.getresponse())
        except BaseException:
            self.hang_up()
            raise

    def hang_up(self) -> None:
        self.close()
        if self.line is not None:
            self.line.reader.close()


class Answer:
    """An answer of a source: its head, and its body as it comes."""

    def __init__(self, connection: Connection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response
        self._headers = response.headers
        if connection.line is not None:
            connection.line.reader.end_head()
        self.status = response.status
        self.size_bytes: int | None = None
        """How large the whole file is, as far as the source says."""
        self.position_bytes = 0
        """Where in the file the next byte of the body belongs."""
        self._end_bytes: int | None = None
        """Where in the file the body ends."""
        self.known = hashlib.sha256()
        """Of what was read again."""

    def header(self, name: str) -> str:
        """Return a header's only value, empty without one. Raises Rejection when there are more."""
        values = {str(value).strip() for value in self._headers.get_all(name, ())}
        if len(values) > 1:
            raise unusable(Problem.AMBIGUOUS_HEADERS)
        return values.pop() if values else ""

    def measure(self, *, asked_from_bytes: int) -> None:
        """Find out which bytes of the file the body has."""
        if self.header("Content-Encoding").lower() not in {"", "identity"}:
            raise unusable(Problem.CONTENT_ENCODED)
        length_bytes = self._body_bytes()
        if self.status == HTTPStatus.OK:
            self.size_bytes = self._end_bytes = length_bytes
            return
        found = _CONTENT_RANGE.fullmatch(self.header("Content-Range"))
        if found is None:
            raise unusable(Problem.WRONG_CONTENT_RANGE)
        first, last, size_bytes = map(int, found.groups())
        if first != asked_from_bytes or not first <= last < size_bytes:
            raise unusable(Problem.WRONG_CONTENT_RANGE)
        if length_bytes not in {None, last + 1 - first}:
            raise unusable(Problem.WRONG_CONTENT_RANGE)
        self.size_bytes = size_bytes
        self.position_bytes, self._end_bytes = first, last + 1

    def _body_bytes(self) -> int | None:
        coding = self.header("Transfer-Encoding").lower()
        if coding not in {"", "chunked"}:
            # http.client would give its bytes as if they were the file's.
            raise unusable(Problem.CONTENT_ENCODED)
        length = self.header("Content-Length")
        if coding or not length:
            return None
        if not _LENGTH.fullmatch(length):
            raise unusable(Problem.NOT_HTTP)
        return int(length)

    def read(self, most_bytes: int) -> bytes:
        """Return what comes next, as soon as anything does; nothing at the end. Raises Interrupted."""
        if self._end_bytes is not None:
            most_bytes = min(most_bytes, self._end_bytes - self.position_bytes)
        if not most_bytes:
            return b""
        with _in_our_words():
            return self._response.read1(most_bytes)

    def close(self) -> None:
        self._response.close()
        self._connection.hang_up()


# --- what goes wrong ---


class Interrupted(Exception):
    """The source stopped before the end, and may go on if asked again."""

    def rejection(self, received_bytes: int) -> Rejection:
        """Return what it is called when it does not."""
        return reject(
            Category.UNAVAILABLE,
            Reason.IMPORT_SOURCE_UNREACHABLE,
            f"The source cannot be reached, or breaks off again and again; {received_bytes} bytes came.",
            receivedBytes=received_bytes,
        )


class Broken(Interrupted):
    """The connection broke, or did not come about."""


class _Stalled(Interrupted):
    """The source keeps silent."""

    def rejection(self, received_bytes: int) -> Rejection:
        return too_slow(received_bytes)


class CutShort(Interrupted):
    """The source ended in good order before it had sent all."""

    def __init__(self, size_bytes: int, received_bytes: int) -> None:
        super().__init__(f"{received_bytes} of {size_bytes} bytes came")
        self._size_bytes = size_bytes

    def rejection(self, received_bytes: int) -> Rejection:
        return size_mismatch(self._size_bytes, received_bytes)


class Refused(Interrupted):
    """The source gives no file now, and may later."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self._status = status

    def rejection(self, received_bytes: int) -> Rejection:  # noqa: ARG002 - the status says it all
        return refused(self._status)


@contextmanager
def _in_our_words() -> Iterator[None]:
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise unusable(Problem.CERTIFICATE_NOT_TRUSTED) from error
    except (OSError, http.client.IncompleteRead) as error:
        raise Broken(type(error).__name__) from error
    except (http.client.HTTPException, ValueError) as error:
        raise unusable(Problem.NOT_HTTP) from error


def forbidden() -> Rejection:
    """Return the one rejection of all that must not be asked.

    It says nothing more, so that nobody learns what there is where they must not go.
    """
    return reject(
        Category.AGAINST_RULES,
        Reason.IMPORT_SOURCE_FORBIDDEN,
        "Files are fetched from https URLs of public hosts that exist, plainly written and without a "
        "user name; the same goes for wherever they redirect to.",
    )


def refused(status: int) -> Rejection:
    """Return a rejection of a source that does not give the file."""
    return reject(
        Category.AGAINST_RULES,
        Reason.IMPORT_SOURCE_REFUSED,
        f"The source answers with the HTTP status {status}.",
        httpStatus=status,
    )


def changed() -> Rejection:
    """Return a rejection of a source that gives another file than before."""
    return reject(
        Category.CONFLICT,
        Reason.IMPORT_SOURCE_CHANGED,
        "The file changed at its source while it was fetched; try again.",
    )


class Problem(Enum):
    """Why a source is of no use, and the same for a person."""

    TOO_MANY_REDIRECTS = "it redirects too often"
    CONTENT_ENCODED = "it sends the file compressed, which was not asked for"
    WRONG_CONTENT_RANGE = "it sends another part of the file than was asked for"
    AMBIGUOUS_HEADERS = "its headers say several things at once"
    HEADERS_TOO_LONG = "its headers are too long"
    NOT_HTTP = "what it sends is not HTTP"
    CERTIFICATE_NOT_TRUSTED = "its certificate is not trusted"


def unusable(problem: Problem) -> Rejection:
    """Return a rejection of a source that will not do, whenever it is asked."""
    return reject(
        Category.AGAINST_RULES,
        Reason.IMPORT_SOURCE_UNUSABLE,
        f"The source is of no use: {problem.value}.",
        problem=problem.name,
    )


def too_slow(received_bytes: int) -> Rejection:
    """Return a rejection of a source that keeps us waiting."""
    return reject(
        Category.UNAVAILABLE,
        Reason.IMPORT_SOURCE_TOO_SLOW,
        f"The source is too slow; {received_bytes} bytes came.",
        receivedBytes=received_bytes,
    )


def size_mismatch(announced_bytes: int, received_bytes: int) -> Rejection:
    """Return a rejection of a file that has another size than its caller or its source announced."""
    more_or_less = "more" if received_bytes > announced_bytes else "less"
    return reject(
        Category.AGAINST_RULES,
        Reason.SIZE_MISMATCH,
        f"{announced_bytes} bytes were announced and {more_or_less} arrived: {received_bytes}.",
        announcedBytes=announced_bytes,
        receivedBytes=received_bytes,
    )
