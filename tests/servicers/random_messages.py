"""Messages that no sensible client sends, of every type there is, and bytes that are no message."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

MIB = 1024**2

Words = Mapping[str, Sequence[str]]
"""Strings worth trying, by the name of the field."""


@dataclass(frozen=True)
class Nonsense:
    """Draws messages of any type."""

    words: Words

    def messages(self, descriptor: Descriptor) -> st.SearchStrategy[Message]:
        @st.composite
        def a_message(draw: st.DrawFn) -> Message:
            message = GetMessageClass(descriptor)()
            for field in descriptor.fields:
                if draw(_MOSTLY):
                    self._fill(draw, message, field)
            return message

        return a_message()

    def spoilt(self, valid: Message) -> st.SearchStrategy[Message]:
        """Draw what a valid message becomes when a field or two say something else."""

        @st.composite
        def a_message(draw: st.DrawFn) -> Message:
            message = GetMessageClass(valid.DESCRIPTOR)()
            message.CopyFrom(valid)
            for _ in range(draw(st.integers(0, 2))):
                part = message
                parts = [value for field, value in message.ListFields() if _is_one_message(field)]
                if parts and draw(st.booleans()):
                    part = draw(st.sampled_from(parts))
                if fields := list(part.DESCRIPTOR.fields):
                    field = draw(st.sampled_from(fields))
                    part.ClearField(field.name)
                    self._fill(draw, part, field)
            return message

        return a_message()

    def _fill(self, draw: st.DrawFn, message: Message, field: FieldDescriptor) -> None:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key, value = field.message_type.fields
            for _ in range(draw(_SIZES)):
                getattr(message, field.name)[self._value(draw, key)] = self._value(draw, value)
        elif field.is_repeated:
            values = [self._value(draw, field) for _ in range(draw(_SIZES))]
            getattr(message, field.name).extend(values * draw(_TIMES))
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(self._value(draw, field))
        else:
            setattr(message, field.name, self._value(draw, field))

    def _value(self, draw: st.DrawFn, field: FieldDescriptor) -> Any:
        if field.message_type is not None:
            return draw(self.messages(field.message_type))
        if field.type == FieldDescriptor.TYPE_STRING and field.name in self.words:
            return draw(st.one_of(*[st.sampled_from(self.words[field.name])] * 3, _TEXTS))
        return draw(_VALUES[field.type])


def _is_one_message(field: FieldDescriptor) -> bool:
    return field.message_type is not None and not field.is_repeated


_MOSTLY = st.sampled_from([True, True, True, False])
_SIZES = st.sampled_from([0, 1, 1, 2, 3])
_TIMES = st.sampled_from([1] * 12 + [50, 1001])

_INT32_EDGES = [0, 1, -1, 2, 10, 50, 63, 64, 65, 1000, 1001, 2**31 - 1, -(2**31)]
_INT64_EDGES = [*_INT32_EDGES, 1024, 1025, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)]
_INT32 = st.one_of(st.sampled_from(_INT32_EDGES), st.integers(-(2**31), 2**31 - 1))
_INT64 = st.one_of(st.sampled_from(_INT64_EDGES), st.integers(-(2**63), 2**63 - 1))
_ENUM_NUMBERS = st.sampled_from([0, 1, 1, 2, 2, 3, 4, 6, 9, 99, -1, 2**31 - 1, -(2**31)])

_ODD_TEXTS = [
    "",
    "\0",
    "a\0b",
    " ",
    "\n",
    "é",
    "\ud7ff\ue000",  # the neighbours of what no string may hold
    "\ufeff\u202e\u200d",
    "😀",
    "\U0010ffff",
    "%s%n{}",
    "'; DROP TABLE images; --",
    "../../etc/passwd",
    "__reserved",
    "null",
    "a" * 36,
    "a" * 129,
    "<" * 1025,
]
_HUGE_TEXTS = ["x" * MIB, "€" * (MIB // 3), "\n" * (MIB // 8)]
_TEXTS = st.one_of(
    st.sampled_from(_ODD_TEXTS * 8 + _HUGE_TEXTS[:1]),
    st.sampled_from(_ODD_TEXTS * 8 + _HUGE_TEXTS[1:]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
_BYTES = st.one_of(st.binary(max_size=50), st.sampled_from([b"", bytes(MIB), b"QFI\xfb" + bytes(600)]))
_VALUES = {
    FieldDescriptor.TYPE_STRING: _TEXTS,
    FieldDescriptor.TYPE_BYTES: _BYTES,
    FieldDescriptor.TYPE_ENUM: _ENUM_NUMBERS,
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_INT32: _INT32,
    FieldDescriptor.TYPE_FIXED32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: _INT64,
}


def as_tokens(*values: object) -> list[str]:
    """Return page tokens that hold any JSON at all."""
    return [
        base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=") for value in values
    ]


NONSENSE_TOKENS = [
    "token",
    "====",
    "é",
    "A",
    "_-_-",
    "x" * 100_000,
    *as_tokens(
        None, 1, "a", [], {}, [1, 2, 3], ["a"], ["a", "b"], ["a", "b", "c"], [None] * 3, [[]] * 3
    ),
    *as_tokens({"a": ["b"]}, ["\ud800"] * 3, ["\0"] * 2, 10**300, float("nan"), ["x" * MIB] * 2),
    base64.urlsafe_b64encode(b"[" * 100_000).decode(),
    base64.urlsafe_b64encode(b"1" * 100_000).decode(),
    base64.urlsafe_b64encode(b"\xff\xfe[\x00").decode(),
]


# --- Bytes ------------------------------------------------------------------------------------

BROKEN_BYTES = [
    b"\0",
    b"\xff",
    b"\x0a\x03\xed\xa0\x80",  # half a pair of surrogates, in a string
    b"\x0a\xff\xff\xff\xff\x0f",  # a string that is longer than everything
    b"\x0b" * 1000,  # groups in groups
    b"\x0a\x7f" * 200,
    b"\xff" * 9 + b"\x01",
    b"\x08" + b"\xff" * 20,
]


def mutated(valid: bytes) -> st.SearchStrategy[bytes]:
    """Draw what is left of a valid message after a few bytes were flipped, put in or taken out."""

    @st.composite
    def a_mutation(draw: st.DrawFn) -> bytes:
        data = bytearray(valid)
        for _ in range(draw(st.integers(1, 5))):
            place = draw(st.integers(0, len(data)))
            match draw(st.sampled_from(["flip", "flip", "put in", "take out", "repeat", "cut"])):
                case "flip" if place < len(data):
                    data[place] ^= 1 << draw(st.integers(0, 7))
                case "put in":
                    more = st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from(BROKEN_BYTES))
                    data[place:place] = draw(more)
                case "take out":
                    del data[place : place + draw(st.integers(1, 8))]
                case "repeat":
                    data[place:place] = data[: draw(st.integers(0, 64))]
                case "cut":
                    del data[place:]
        return bytes(data)

    return a_mutation()
