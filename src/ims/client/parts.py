"""Brings the parts of a file to the URLs that the service gives for them."""

import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Final
from urllib.parse import urlsplit

from ims.client.errors import Unreachable
from ims.v1.upload_service_pb2 import CreatePartUrlsResponse

if TYPE_CHECKING:
    from http.client import HTTPConnection

PARALLEL: Final = 4
"""How many parts are brought at the same time."""

_SILENCE_SECONDS: Final = 60.0
_PIECE_BYTES: Final = 1024 * 1024
_OK: Final = 200

Part = CreatePartUrlsResponse.Part


def bring_parts(file: BinaryIO, parts: Sequence[Part], sent: Callable[[int], object]) -> None:
    """Bring parts of a file, some at the same time; `sent` hears each time how many bytes have gone out.

    Raises Unreachable when the store takes one of them not, or not just now, OSError about the file, and
    what `sent` raises.
    """
    broken_off = threading.Event()

    def bring(part: Part) -> None:
        if broken_off.is_set():
            return
        try:
            _put(part.url, part.length_bytes, _pieces(file, part, broken_off, sent))
        except _NotTheStores as error:
            raise error.reason from None
        except _BrokenOff:
            pass  # another part tells why

    with ThreadPoolExecutor(PARALLEL) as threads:
        try:
            for done in as_completed([threads.submit(bring, part) for part in parts]):
                done.result()
        except BaseException:
            broken_off.set()
            raise


def _pieces(
    file: BinaryIO, part: Part, broken_off: threading.Event, sent: Callable[[int], object]
) -> Iterator[bytes]:
    place, end = part.offset_bytes, part.offset_bytes + part.length_bytes
    while place < end:
        if broken_off.is_set():
            raise _BrokenOff
        try:
            piece = os.pread(file.fileno(), min(_PIECE_BYTES, end - place), place)
            if not piece:
                raise OSError(errno.EIO, "The file has become shorter")  # noqa: TRY301 - like any other
        except OSError as error:
            raise _NotTheStores(error) from None
        yield piece
        place += len(piece)
        try:
            sent(len(piece))
        except Exception as error:  # noqa: BLE001 - raised again by who brings the part
            raise _NotTheStores(error) from None


class _BrokenOff(Exception):
    """Another part has failed, so this one is not waited for."""


class _NotTheStores(Exception):
    """Carries what is wrong on this side past what can be wrong with the store."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(reason)
        self.reason = reason


def _put(url: str, length_bytes: int, pieces: Iterator[bytes]) -> None:
    # Seldom needed, and slow to import for a command that ends at once.
    from http.client import HTTPException  # noqa: PLC0415 - see above

    connection = _connection(url)
    address = urlsplit(url)
    try:
        # The length is a part of what is signed, and the store compares it.
        headers = {"content-length": str(length_bytes), "content-type": "application/octet-stream"}
        try:
            with suppress(BrokenPipeError):  # who refuses may do so before the end; the answer says why
                connection.request(
                    "PUT", f"{address.path}?{address.query}", body=pieces, headers=headers
                )
            answer = connection.getresponse()
            answer.read()
        except (OSError, HTTPException) as error:
            raise Unreachable(f"The store at {address.netloc} takes no part: {error!r}") from error
    finally:
        connection.close()
    if answer.status != _OK:
        raise Unreachable(f"The store at {address.netloc} takes no part: it answers {answer.status}.")


def _connection(url: str) -> "HTTPConnection":
    from http.client import HTTPConnection, HTTPSConnection  # noqa: PLC0415 - see above

    kind = HTTPSConnection if urlsplit(url).scheme == "https" else HTTPConnection
    return kind(urlsplit(url).netloc, timeout=_SILENCE_SECONDS)
