"""How the service logs: one JSON document a line, on standard error."""

import json
import logging
import os
import sys
from typing import Final

import structlog
from structlog.typing import EventDict


def log_as_json() -> None:
    """Have everything that this process and its workers log written as JSON."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_pid,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_serialize),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _add_pid(_logger: object, _method: str, event: EventDict) -> EventDict:
    # Asked each time: workers are forked.
    event["pid"] = os.getpid()
    return event


# Made once: what `json.dumps` does for every line when it is told how to write what JSON does not know.
_ENCODER: Final = json.JSONEncoder(default=repr)


def _serialize(event: EventDict, **_others: object) -> str:
    return _ENCODER.encode(event)
