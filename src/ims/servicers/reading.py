"""Takes a request's fields apart, and collects everything that is wrong with them."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Final, Protocol, TypeVar

from google.api.field_behavior_pb2 import REQUIRED, field_behavior
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from ims.domain.image import ImageId
from ims.domain.rejection import Category, FieldProblem, Reason, reject
from ims.domain.tenant import Region, TenantId

Word = TypeVar("Word", bound=StrEnum)


class _AboutImage(Protocol):
    """Any request that names an image."""

    @property
    def image_id(self) -> str: ...


TENANT_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,64}", re.ASCII)
REGION: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
KEY_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
SHA256: Final = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII)
FOREIGN_ID: Final = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)
"""The id of a server, a volume, a backup or a vault: another service's, so anything printable."""

WORD: Final = re.compile(r"[A-Za-z0-9_]{1,64}", re.ASCII)
CONSUMER_ID: Final = re.compile(r"[\x21-\x7e]{1,64}", re.ASCII)
"""The id of a server or a volume that was made from an image."""

MAX_ITEMS: Final = 10_000
"""How many items any list of a request has. Each field has a limit of its own, far below; this one is
for requests that are nothing but a million empty items: to tell what is wrong would take gigabytes."""

_REQUEST_ID_FIELD: Final = "request_id"

_URL_SECONDS: Final = 300
_LONGEST_URL_SECONDS: Final = 3600

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 1000


def image_id_of(request: _AboutImage) -> ImageId:
    """Return the id of the image that a request is about.

    Without one there is nothing to judge: raises Rejection INVALID_FIELD at once.
    """
    if not request.image_id:
        raise reject(
            Category.MALFORMED,
            Reason.INVALID_FIELD,
            "image_id: it is required.",
            subject="image_id",
            field="image_id",
        )
    # What cannot be an id is one that never existed.
    return ImageId("" if "\0" in request.image_id else request.image_id)


class RequestReading:
    """One request being read; `problems` says what could not be.

    Raises Rejection INVALID_FIELD at once for a list of more than MAX_ITEMS.
    """

    def __init__(self, request: Message) -> None:
        self._problems = list(_problems(request, ""))

    @property
    def problems(self) -> tuple[FieldProblem, ...]:
        return tuple(self._problems)

    def problem(self, path: str, message: str, **metadata: str | int) -> None:
        """Note that a field cannot be read; every value of the message stands again in the metadata."""
        self._problems.append(FieldProblem(path, message, metadata))

    def word(self, message: Message, field: str, vocabulary: type[Word], *, at: str = "") -> Word | None:
        """Return the word of ours for what an enum field says; None where it says nothing.

        `at` is the path of the message, with a dot at its end.
        """
        enum = message.DESCRIPTOR.fields_by_name[field].enum_type
        assert enum is not None  # only enum fields are read as words
        value = enum.values_by_number.get(getattr(message, field))
        if value is None:
            self.problem(f"{at}{field}", f"it is one of {', '.join(vocabulary)}.")
            return None
        return vocabulary(value.name) if value.number else None

    def text(self, path: str, value: str, *, longest: int) -> str:
        """Return a text of at most so many characters, all of which can be shown."""
        if len(value) > longest:
            message = f"it has at most {longest} characters, not {len(value)}."
            self.problem(path, message, maxLength=longest, length=len(value))
        if not value.isprintable():
            self.problem(path, "it has control characters.")
        return value

    def matching(self, path: str, value: str, pattern: re.Pattern[str], what: str) -> str:
        """Return a text that is empty or matches a pattern."""
        if value and not pattern.fullmatch(value):
            self.problem(path, f"it is not {what}.")
        # What is looked up before the request is judged as a whole finds nothing under such a text:
        # PostgreSQL cannot even be asked for one with a NUL.
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")

    def tenant_id(self, path: str, value: str) -> TenantId | None:
        """Return a tenant's id; None where it is not said."""
        what = "a tenant's id: 1 to 64 letters, digits, '-', '.', '_' and ':'"
        return TenantId(self.matching(path, value, TENANT_ID, what)) or None

    def region(self, path: str, value: str) -> Region | None:
        """Return a region's name; None where it is not said."""
        what = "a region's name: 1 to 64 letters, digits, '-', '.' and '_'"
        return Region(self.matching(path, value, REGION, what)) or None

    def not_negative(self, path: str, value: int) -> int:
        """Return a number that is 0 or more."""
        if value < 0:
            self.problem(path, f"it is 0 or more, not {value}.", value=value)
        return value

    def url_seconds(self, value: int) -> timedelta:
        """Return for how long a URL is asked."""
        seconds = self.counted("valid_seconds", value, default=_URL_SECONDS, most=_LONGEST_URL_SECONDS)
        return timedelta(seconds=seconds)

    def counted(self, path: str, value: int, *, default: int, most: int) -> int:
        """Return a number from 1 on; the default where it is 0."""
        if 0 <= value <= most:
            return value or default
        self.problem(path, f"it is 1 to {most}, not {value}.", value=value, most=most)
        return default

    def time(self, message: Message, field: str, *, at: str = "") -> datetime | None:
        """Return a time, rounded up to a microsecond; None where it is not said.

        `at` is the path of the message, with a dot at its end.
        """
        if not message.HasField(field):
            return None
        said = getattr(message, field)
        try:
            said.ToJsonString()  # judges, which `ToDatetime` does not
            time: datetime = said.ToDatetime(UTC)
            return time + timedelta(microseconds=bool(said.nanos % 1000))
        except (ValueError, OverflowError):
            self.problem(f"{at}{field}", "it is no time between the years 1 and 9999.")
            return None

    def page_size(self, value: int) -> int:
        """Return how many items a page has."""
        self.not_negative("page_size", value)
        return min(value, MAX_PAGE_SIZE) or DEFAULT_PAGE_SIZE


def _problems(message: Message, prefix: str) -> Iterator[FieldProblem]:
    """Yield what is wrong with any message: required fields that are missing, texts nobody can store."""
    for field, required in _fields(message.DESCRIPTOR):
        path = f"{prefix}{field.name}"
        if required and not _is_given(message, field):
            yield FieldProblem(path, "it is required.")
        for place, part in _parts(message, field, path):
            if isinstance(part, Message):
                yield from _problems(part, f"{place}.")
            elif isinstance(part, str) and "\0" in part:
                yield FieldProblem(place, "it has a NUL character.")
            elif part and field.name == _REQUEST_ID_FIELD and not REQUEST_ID.fullmatch(str(part)):
                what = "1 to 64 printable ASCII characters without spaces"
                yield FieldProblem(place, f"it is not a request's id: {what}.")


@cache
def _fields(descriptor: Descriptor) -> tuple[tuple[FieldDescriptor, bool], ...]:
    """Return the fields that need looking at, each with whether it is required."""
    fields = (
        (field, REQUIRED in field.GetOptions().Extensions[field_behavior]) for field in descriptor.fields
    )
    looked_at = {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE}
    return tuple((field, required) for field, required in fields if required or field.type in looked_at)


def _is_given(message: Message, field: FieldDescriptor) -> bool:
    return message.HasField(field.name) if field.has_presence else bool(getattr(message, field.name))


def _parts(message: Message, field: FieldDescriptor, path: str) -> Iterator[tuple[str, object]]:
    value = getattr(message, field.name)
    if field.is_repeated and len(value) > MAX_ITEMS:
        raise reject(
            Category.MALFORMED,
            Reason.INVALID_FIELD,
            f"{path}: it has at most {MAX_ITEMS} items, not {len(value)}.",
            subject=path,
            field=path,
            maxItems=MAX_ITEMS,
            items=len(value),
        )
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        for key, item in value.items():
            yield path, key
            yield path, item
    elif field.is_repeated:
        for index, item in enumerate(value):
            yield f"{path}[{index}]", item
    elif field.message_type is None or message.HasField(field.name):
        yield path, value
