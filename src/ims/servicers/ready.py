"""Answers put together from bytes that are ready.

A field that stands again at the end of a message's bytes overrides the one before, and the items of a
repeated field stand one after the other.
"""

from collections.abc import Callable
from typing import Any, Final

_LENGTH_DELIMITED: Final = 2


def field(number: int, content: bytes) -> bytes:
    """Return a field whose value is a message, a string or bytes, as it stands in a message's bytes."""
    return b"".join((_varint(number << 3 | _LENGTH_DELIMITED), _varint(len(content)), content))


def as_it_is(serialize: Callable[[Any], bytes] | None) -> Callable[[Any], bytes] | None:
    """Return a serializer for messages that lets pass what is bytes already."""
    if serialize is None:
        return None
    return lambda answer: answer if isinstance(answer, bytes) else serialize(answer)


def _varint(number: int) -> bytes:
    if number < _ONE_BYTE:
        return _SMALL[number]
    written = bytearray()
    while number >= _ONE_BYTE:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


_ONE_BYTE: Final = 0x80
_SMALL: Final = tuple(bytes((number,)) for number in range(_ONE_BYTE))
