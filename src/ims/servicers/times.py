"""Times as they stand in messages."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp


def timestamp(time: datetime | None) -> Timestamp | None:
    """Return a time, where there is one."""
    if time is None:
        return None
    message = Timestamp()
    message.FromDatetime(time)
    return message
