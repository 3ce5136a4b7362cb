"""How the service logs: one JSON document a line, on standard error."""

import json
import logging
import os
import re
import sys
from contextlib import suppress
from typing import Final, TextIO, cast

import structlog
from structlog.typing import EventDict

from ims.servicers.current_call import current_request_id


def log_as_json() -> None:
    """Have everything that this process and its workers log written as JSON."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_pid,
            _add_request_id,
            # Of a traceback the lines alone: its variables may hold a token or a tenant's data.
            structlog.processors.format_exc_info,
            redact,
            structlog.processors.JSONRenderer(serializer=_serialize),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _NeverFailing(sys.stderr))),
        cache_logger_on_first_use=True,
    )


class _NeverFailing:
    """A file whose disk may be full, or whose reader gone: no call fails with its line in the log."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()


def _add_pid(_logger: object, _method: str, event: EventDict) -> EventDict:
    # Asked each time: workers are forked.
    event["pid"] = os.getpid()
    return event


def _add_request_id(_logger: object, _method: str, event: EventDict) -> EventDict:
    request_id = current_request_id()
    if request_id is not None:
        event.setdefault("request_id", request_id)
    return event


def redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Take out of a line what gives whoever reads it the rights of another."""
    for name, value in event.items():
        if name in _SECRET:
            event[name] = _REDACTED
        elif isinstance(value, str) and ("://" in value or "eyJ" in value or "earer" in value):
            event[name] = _TELLING.sub(_REDACTED, value)
    return event


_REDACTED: Final = "[redacted]"
_SECRET: Final = frozenset({"authorization", "token", "password", "secret", "key", "client_secret"})
_TELLING: Final = re.compile(
    r"(?<=://)[^/\s@]*:[^/\s@]*(?=@)"  # user and password of an address
    r"|eyJ[\w-]{8,}\.[\w-]*(\.[\w-]*)?"  # a token, whole or begun
    r"|(?<=[Bb]earer )\S+"
)

# Made once: what `json.dumps` does for every line when it is told how to write what JSON does not know.
_ENCODER: Final = json.JSONEncoder(default=repr)


def _serialize(event: EventDict, **_others: object) -> str:
    return _ENCODER.encode(event)
