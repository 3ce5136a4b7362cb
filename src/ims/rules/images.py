"""The law of images: what one may be called and hold, whatever is done to it."""

import re
from collections.abc import Iterator
from typing import Protocol

from ims.domain.image import GIB, DiskRole, Image, ImageType
from ims.domain.rejection import Category, Reason
from ims.rules.engine import Breach, Rule, breach, rule
from ims.rules.form import Request, every_field_can_be_read

MAX_NAME_LENGTH = 128
MAX_DESCRIPTION_LENGTH = 1024
MAX_TAGS = 10
MAX_TAG_KEY_LENGTH = 36
MAX_TAG_VALUE_LENGTH = 43
MAX_SYSTEM_DISK_GIB = 1024
MAX_DATA_DISK_GIB = 2048
RESERVED_PREFIX = "__"

_NAME = re.compile(r"[A-Za-z0-9._-]([A-Za-z0-9._ -]*[A-Za-z0-9._-])?", re.ASCII)
_TAG_KEY = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_TAG_KEY_LENGTH}}}", re.ASCII)
_TAG_VALUE = re.compile(rf"[A-Za-z0-9._-]{{0,{MAX_TAG_VALUE_LENGTH}}}", re.ASCII)


# --- What an image may be: judged of the image as it would be, on creation and on every change ---


class Drafted(Protocol):
    """Anything that would leave an image as a draft says."""

    @property
    def draft(self) -> Image: ...


@rule("5.1", Reason.INVALID_NAME, Category.MALFORMED)
def names_are_1_to_128_plain_characters(attempt: Drafted) -> Iterator[Breach]:
    """Name 1 to 128: letters, digits, `-` `.` `_` and space, none leading or trailing."""
    name = attempt.draft.name
    if len(name) > MAX_NAME_LENGTH or not _NAME.fullmatch(name):
        yield breach(
            f"A name has 1 to {MAX_NAME_LENGTH} letters, digits, '-', '.', '_' and spaces, with no "
            f"space at either end; this one has {len(name)} characters.",
            subject="name",
            maxNameLength=MAX_NAME_LENGTH,
            nameLength=len(name),
        )


@rule("5.1", Reason.RESERVED_NAME, Category.MALFORMED)
def names_with_two_underscores_are_reserved(attempt: Drafted) -> Iterator[Breach]:
    """Reserved names begin with `__`."""
    names = [("name", attempt.draft.name), *(("tags", key) for key, _ in attempt.draft.tags)]
    for path, name in names:
        if name.startswith(RESERVED_PREFIX):
            yield breach(
                f"Names that begin with '{RESERVED_PREFIX}' are reserved.",
                subject=path,
                reservedPrefix=RESERVED_PREFIX,
            )


@rule("5.1", Reason.INVALID_DESCRIPTION, Category.MALFORMED)
def descriptions_are_one_plain_line(attempt: Drafted) -> Iterator[Breach]:
    """Description at most 1024 characters, no line breaks, no `<` `>`."""
    text = attempt.draft.description
    if len(text) > MAX_DESCRIPTION_LENGTH or len(f"{text}.".splitlines()) > 1 or set(text) & {*"<>"}:
        yield breach(
            f"A description has at most {MAX_DESCRIPTION_LENGTH} characters, no line breaks and no "
            f"'<' or '>'; this one has {len(text)} characters.",
            subject="description",
            maxDescriptionLength=MAX_DESCRIPTION_LENGTH,
            descriptionLength=len(text),
        )


@rule("5.1", Reason.INVALID_TAG, Category.MALFORMED)
def tags_are_short_and_plain(attempt: Drafted) -> Iterator[Breach]:
    """Tag key 1 to 36, value 0 to 43, of letters, digits, `_` `-` (values also `.`)."""
    for key, value in attempt.draft.tags:
        if not _TAG_KEY.fullmatch(key) or not _TAG_VALUE.fullmatch(value):
            yield breach(
                f"A tag's key has 1 to {MAX_TAG_KEY_LENGTH} letters, digits, '_' and '-', its value at "
                f"most {MAX_TAG_VALUE_LENGTH} of the same and '.'; here the key has {len(key)} "
                f"characters and the value {len(value)}.",
                subject="tags",
                maxKeyLength=MAX_TAG_KEY_LENGTH,
                maxValueLength=MAX_TAG_VALUE_LENGTH,
                keyLength=len(key),
                valueLength=len(value),
            )


@rule("5.1", Reason.TOO_MANY_TAGS, Category.MALFORMED)
def an_image_has_at_most_ten_tags(attempt: Drafted) -> Iterator[Breach]:
    """Ten tags."""
    count = len(attempt.draft.tags)
    if count > MAX_TAGS:
        yield breach(
            f"An image has at most {MAX_TAGS} tags; this one would have {count}.",
            subject="tags",
            maxTags=MAX_TAGS,
            tags=count,
        )


@rule("5.3", Reason.INVALID_MIN_DISK, Category.MALFORMED)
def min_disk_is_within_its_range(attempt: Drafted) -> Iterator[Breach]:
    """min_disk 1 to 1024 GiB for system disks, up to 2048 for data disks."""
    most = max_disk_gib(DiskRole.DATA if attempt.draft.type is ImageType.DATA_DISK else DiskRole.SYSTEM)
    # 0 stands for "the capacity inside the file", known when the first disk is stored.
    if not 0 <= attempt.draft.min_disk_gib <= most:
        yield breach(
            f"min_disk_gib is 1 to {most} for such an image, not {attempt.draft.min_disk_gib}.",
            subject="min_disk_gib",
            maxMinDiskGib=most,
            minDiskGib=attempt.draft.min_disk_gib,
        )


def max_disk_gib(role: DiskRole) -> int:
    """Return the largest disk of a role (law 5.3)."""
    return MAX_DATA_DISK_GIB if role is DiskRole.DATA else MAX_SYSTEM_DISK_GIB


@rule("5.3", Reason.INVALID_RAM, Category.MALFORMED)
def memory_bounds_make_sense(attempt: Drafted) -> Iterator[Breach]:
    """min_ram at least 0 MiB, max_ram at least min_ram."""
    least, most = attempt.draft.min_ram_mib, attempt.draft.max_ram_mib
    if least < 0 or most < 0 or 0 < most < least:
        yield breach(
            f"min_ram_mib is at least 0 and max_ram_mib not below it (0: no bound), not {least} and "
            f"{most}.",
            subject="max_ram_mib" if least >= 0 else "min_ram_mib",
            minRamMib=least,
            maxRamMib=most,
        )


@rule("5.3", Reason.MIN_DISK_TOO_SMALL, Category.AGAINST_RULES)
def min_disk_holds_the_disk_inside_the_file(attempt: Drafted) -> Iterator[Breach]:
    """min_disk never below the capacity inside the file."""
    image = attempt.draft
    capacity = image.disks[0].capacity_bytes if image.disks else 0
    if 0 < image.min_disk_gib < whole_gib(capacity):
        yield breach(
            f"min_disk_gib is {image.min_disk_gib}, but the disk inside the file has {capacity} bytes "
            f"and needs {whole_gib(capacity)} GiB.",
            subject="min_disk_gib",
            minDiskGib=image.min_disk_gib,
            capacityBytes=capacity,
            neededGib=whole_gib(capacity),
        )


def whole_gib(size_bytes: int) -> int:
    """Return how many GiB hold a number of bytes."""
    return -(-size_bytes // GIB)


class Content(Drafted, Request, Protocol):
    """A request to create or change an image, with the image as it would be."""


CONTENT: tuple[Rule[Content], ...] = (
    every_field_can_be_read,
    names_are_1_to_128_plain_characters,
    names_with_two_underscores_are_reserved,
    descriptions_are_one_plain_line,
    tags_are_short_and_plain,
    an_image_has_at_most_ten_tags,
    min_disk_is_within_its_range,
    memory_bounds_make_sense,
)


# --- Names and backups are taken once ---


class Naming(Drafted, Protocol):
    """Anything that gives an image a name among others."""

    @property
    def name_taken(self) -> bool: ...


@rule("5.1", Reason.IMAGE_NAME_TAKEN, Category.EXISTS)
def names_are_unique_among_live_images(attempt: Naming) -> Iterator[Breach]:
    """A name is unique among the tenant's live images."""
    if attempt.name_taken:
        yield breach(
            f"The tenant has an image called '{attempt.draft.name}' already.",
            subject="name",
            name=attempt.draft.name,
        )


class UsingBackup(Drafted, Protocol):
    """Anything that makes a live image of a backup."""

    @property
    def backup_used(self) -> bool: ...


@rule("5.10", Reason.BACKUP_ALREADY_USED, Category.EXISTS)
def one_backup_makes_one_image(attempt: UsingBackup) -> Iterator[Breach]:
    """One backup makes one image."""
    if attempt.backup_used:
        yield breach(
            f"An image was made from backup '{attempt.draft.source.id}' already.",
            subject="source",
            backupId=attempt.draft.source.id,
        )
