"""Fetches a file from a URL that a caller chose, without going where that caller could not.

Every address is judged before it is connected to, and connected to as it was judged: a name is resolved
once for each connection, so that no second answer of its DNS counts. The environment's proxies are not
asked: they would resolve names by themselves. docs/decisions/0022 says more.
"""

import hashlib
import ipaddress
import logging
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ims.domain.rejection import Category, Reason, reject
from ims.providers.addresses import (
    Address,
    BadAddress,
    Location,
    OpenHosts,
    is_public,
    parse_url,
)
from ims.providers.sources import (
    Answer,
    Broken,
    Connection,
    CutShort,
    Dial,
    Interrupted,
    Patience,
    Problem,
    Refused,
    Watch,
    changed,
    forbidden,
    refused,
    size_mismatch,
    unusable,
)

_log = logging.getLogger(__name__)

CHUNK_BYTES: Final = 1024**2
MAX_REDIRECTS: Final = 5
PROGRESS_BYTES: Final = 64 * 1024
"""How much has to come for an interrupted fetch to have got further."""
_MAX_PAUSE_SECONDS: Final = 5.0

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_LATER: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that may be others when asked again."""
_STRONG_ETAG: Final = re.compile(r'"[!#-~]*"', re.ASCII)
_DATE: Final = re.compile(r"[A-Za-z]{3}, [0-9A-Za-z: ]{10,40}", re.ASCII)

Resolve = Callable[[str], Sequence[str]]
"""Returns the addresses of a host; none when there is none. Raises OSError when it cannot say."""


class Fetcher:
    """Fetches files from public https addresses and from the hosts that the operator has opened."""

    def __init__(
        self,
        *,
        open_hosts: OpenHosts,
        tls: ssl.SSLContext,
        patience: Patience,
        resolve: Resolve | None = None,
        dial: Dial | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.open_hosts = open_hosts
        self.tls = tls
        self.patience = patience
        self.resolve = resolve or _resolve
        self.dial = dial or _dial
        self.clock = clock
        self.pause = pause

    def check(self, url: str) -> None:
        """Judge a URL by what it says, without asking anybody; for the call that orders an import.

        Raises Rejection IMPORT_SOURCE_FORBIDDEN. What passes may be refused by `fetch` nevertheless.
        """
        location = _location(url)
        if location not in self.open_hosts:
            _judge_scheme(location)
            if location.address is not None:
                _judge_addresses(location, (location.address,))

    def fetch(
        self,
        url: str,
        *,
        max_bytes: int,
        announced_bytes: int | None = None,
        keep_on: Callable[[], None] = lambda: None,
    ) -> "Fetch":
        """Begin to fetch: return when the source has answered, and its size is known if ever.

        `keep_on` is asked about twice a second while the source is waited for (but for the
        `connect_seconds` that one connection may take), and ends the fetch by raising anything.

        Raises Rejection: IMPORT_SOURCE_FORBIDDEN, the same for whatever must not be asked, also when
        there is no such host; IMPORT_SOURCE_UNREACHABLE; IMPORT_SOURCE_REFUSED when the source answers
        with another status; IMPORT_SOURCE_UNUSABLE when what it answers makes no sense or is compressed;
        IMPORT_SOURCE_TOO_SLOW; SIZE_MISMATCH when another size was announced; IMAGE_FILE_TOO_LARGE.
        """
        limits = _Limits(max_bytes=max_bytes, announced_bytes=announced_bytes)
        return Fetch(self, _location(url), limits, keep_on)


class Fetch:
    """A file on its way. Iterating yields its bytes in chunks of a MiB; the last may be shorter.

    What breaks off is continued where it was, or, where the source cannot do that, read again from the
    beginning and compared with what had come. Iterating raises what `Fetcher.fetch` raises, and
    IMPORT_SOURCE_CHANGED when the source gives another file than before. Only when it ends by itself has
    the file come whole.
    """

    def __init__(
        self, fetcher: Fetcher, start: Location, limits: "_Limits", keep_on: Callable[[], None]
    ) -> None:
        self._fetcher = fetcher
        self._start = start
        self._limits = limits
        self._watch = Watch(fetcher.patience, fetcher.clock, keep_on)
        self._digest = hashlib.sha256()
        self._received_bytes = 0
        self._file: _Description | None = None
        self._futile = 0
        """How often it has broken off since it last got further."""
        self._further_from_bytes = 0
        self._answer: Answer | None = None
        self._reach()

    @property
    def size_bytes(self) -> int | None:
        """The size of the file; None when its source does not say."""
        return None if self._file is None else self._file.size_bytes

    @property
    def received_bytes(self) -> int:
        return self._received_bytes

    def __iter__(self) -> Iterator[bytes]:
        pending = bytearray()
        try:
            while piece := self._next(CHUNK_BYTES - len(pending)):
                pending += piece
                if len(pending) == CHUNK_BYTES:
                    yield bytes(pending)
                    pending.clear()
            if pending:
                yield bytes(pending)
        finally:
            self.close()

    def close(self) -> None:
        """End the connection."""
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _reach(self) -> Answer:
        """Return an answer that gives what has not come yet."""
        while self._answer is None:
            try:
                with self._watch.waiting():
                    self._answer = self._ask()
            except Interrupted as interruption:
                self._recover(interruption)
        return self._answer

    def _next(self, most_bytes: int) -> bytes:
        """Return what comes next of the file, up to so many bytes; none at its end."""
        while True:
            answer = self._reach()
            try:
                with self._watch.waiting():
                    piece = answer.read(most_bytes)
                if not piece:
                    self._end(answer)
                    return b""
                if fresh := self._take(answer, piece):
                    return fresh
            except Interrupted as interruption:
                self._recover(interruption)

    def _take(self, answer: Answer, piece: bytes) -> bytes:
        """Return what is new of a piece; compare the rest with what came before."""
        known_bytes = min(len(piece), max(self._received_bytes - answer.position_bytes, 0))
        answer.position_bytes += len(piece)
        if known_bytes:
            answer.known.update(piece[:known_bytes])
            if answer.position_bytes >= self._received_bytes and (
                answer.known.digest() != self._digest.digest()
            ):
                raise changed()
        fresh = piece[known_bytes:]
        self._digest.update(fresh)
        self._received_bytes += len(fresh)
        self._watch.received(len(fresh))
        self._limits.judge_growing(self._received_bytes)
        return fresh

    def _end(self, answer: Answer) -> None:
        size_bytes = self.size_bytes
        if size_bytes is not None and answer.position_bytes < size_bytes:
            raise CutShort(size_bytes, self._received_bytes)
        if answer.position_bytes < self._received_bytes:
            raise changed()
        self._limits.judge_size(self._received_bytes)
        self.close()

    def _recover(self, interruption: "Interrupted") -> None:
        """Get over an interruption, unless there were too many in a row."""
        self.close()
        _log.info("an import's source interrupted: %s", interruption)
        if self._received_bytes - self._further_from_bytes >= PROGRESS_BYTES:
            self._further_from_bytes = self._received_bytes
            self._futile = 0
        self._futile += 1
        if self._futile >= self._fetcher.patience.tries:
            raise interruption.rejection(self._received_bytes) from interruption
        if self._futile > 1:
            with self._watch.waiting():
                self._fetcher.pause(min(2.0 ** (self._futile - 4), _MAX_PAUSE_SECONDS))
                self._watch.stir()
                self._watch.judge()

    def _ask(self) -> Answer:
        """Ask for what has not come yet, wherever the source sends us, and judge the answer's head."""
        headers = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "ims"}
        validator = "" if self._file is None else self._file.validator
        ranged = bool(self._received_bytes and validator)
        if ranged:
            headers |= {"Range": f"bytes={self._received_bytes}-", "If-Range": validator}
        location = self._start
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._request(location, headers)
            try:
                if answer.status not in _REDIRECTS:
                    self._judge(answer, ranged=ranged)
                    return answer
                location = _redirected(location, answer)
            except BaseException:
                answer.close()
                raise
            answer.close()
        raise unusable(Problem.TOO_MANY_REDIRECTS)

    def _request(self, location: Location, headers: dict[str, str]) -> Answer:
        self._watch.stir()
        fetcher = self._fetcher
        connection = Connection(
            location,
            self._addresses(location),
            dial=fetcher.dial,
            tls=fetcher.tls,
            connect_seconds=fetcher.patience.connect_seconds,
            watch=self._watch,
        )
        return connection.ask({"Host": location.authority} | headers)

    def _addresses(self, location: Location) -> tuple[Address, ...]:
        """Return the addresses to connect to, judged. Only here is a name resolved."""
        opened = location in self._fetcher.open_hosts
        if not opened:
            _judge_scheme(location)
        if location.address is not None:
            addresses: tuple[Address, ...] = (location.address,)
        else:
            try:
                addresses = tuple(map(ipaddress.ip_address, self._fetcher.resolve(location.host)))
            except OSError as error:
                raise Broken("the name cannot be resolved now") from error
        if not opened:
            _judge_addresses(location, addresses)
        elif not addresses:
            raise Broken("there is no host of the opened name")
        return addresses

    def _judge(self, answer: Answer, *, ranged: bool) -> None:
        """Judge the head of an answer that is no redirect, and find out where in the file it begins."""
        if ranged and answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise changed()
        if answer.status in _LATER:
            raise Refused(answer.status)
        if answer.status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            raise refused(answer.status)
        if answer.status == HTTPStatus.PARTIAL_CONTENT and not ranged:
            raise unusable(Problem.WRONG_CONTENT_RANGE)
        answer.measure(asked_from_bytes=self._received_bytes if ranged else 0)
        described = _Description.of(answer)
        if self._file is None:
            self._file = described
        elif described.is_another_than(self._file):
            raise changed()
        if described.size_bytes is not None:
            self._limits.judge_size(described.size_bytes)


# --- what was said, and what is allowed ---


@dataclass(frozen=True, kw_only=True)
class _Limits:
    max_bytes: int
    announced_bytes: int | None

    def judge_growing(self, bytes_: int) -> None:
        """Judge what has come of a file so far."""
        if self.announced_bytes is not None and bytes_ > self.announced_bytes:
            raise size_mismatch(self.announced_bytes, bytes_)
        if bytes_ > self.max_bytes:
            raise reject(
                Category.OVER_LIMIT,
                Reason.IMAGE_FILE_TOO_LARGE,
                f"A file has at most {self.max_bytes} bytes; this one has {bytes_} or more.",
                maxImageFileBytes=self.max_bytes,
                imageFileBytes=bytes_,
            )

    def judge_size(self, bytes_: int) -> None:
        """Judge the size of a whole file."""
        self.judge_growing(bytes_)
        if self.announced_bytes is not None and bytes_ != self.announced_bytes:
            raise size_mismatch(self.announced_bytes, bytes_)


@dataclass(frozen=True, kw_only=True)
class _Description:
    """What a source says of its file."""

    size_bytes: int | None
    etag: str
    modified: str

    @classmethod
    def of(cls, answer: Answer) -> Self:
        return cls(
            size_bytes=answer.size_bytes,
            etag=answer.header("ETag"),
            modified=answer.header("Last-Modified"),
        )

    @property
    def validator(self) -> str:
        """What tells in If-Range that the file is still the same; empty when nothing does."""
        if _STRONG_ETAG.fullmatch(self.etag):
            return self.etag
        return self.modified if _DATE.fullmatch(self.modified) else ""

    def is_another_than(self, before: Self) -> bool:
        """Whether this cannot be the same file; what is said only once tells nothing."""
        return any(
            now != then and now not in {None, ""} and then not in {None, ""}
            for now, then in (
                (self.size_bytes, before.size_bytes),
                (self.etag, before.etag),
                (self.modified, before.modified),
            )
        )


def _resolve(host: str) -> Sequence[str]:
    try:
        # As bytes, since Python would put a name through its IDNA first.
        found = socket.getaddrinfo(host.encode("ascii"), None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise
        return ()
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


def _dial(address: str, port: int, timeout_seconds: float) -> socket.socket:
    line = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        line.settimeout(timeout_seconds)
        line.connect((address, port))
    except BaseException:
        line.close()
        raise
    return line


def https_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """Return what verifies sources by the system's authorities, or by those of a PEM file instead."""
    context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    context.set_alpn_protocols(["http/1.1"])
    return context


# --- where it leads ---


def _location(url: str) -> Location:
    try:
        return parse_url(url)
    except BadAddress:
        _log.info("an import's URL is not written plainly")
        raise forbidden() from None


def _redirected(location: Location, answer: Answer) -> Location:
    try:
        return location.redirected(answer.header("Location"))
    except BadAddress:
        _log.info("an import is redirected to what is not written plainly, by %s", location.host)
        raise forbidden() from None


def _judge_scheme(location: Location) -> None:
    if location.scheme != "https":
        _log.info("an import is not from https: %s", location.host)
        raise forbidden()


def _judge_addresses(location: Location, addresses: Sequence[Address]) -> None:
    # All of them, lest it be chance which one is taken.
    if not addresses or not all(map(is_public, addresses)):
        _log.info("an import's host is not public: %s", location.host)
        raise forbidden()
