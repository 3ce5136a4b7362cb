"""What a bucket keeps of a blob that is not committed yet, and whose turn it is to write it.

    unfinished/KEY.NUMBER              the mark of the blob's first, second … writer
    unfinished/KEY.NUMBER.tail.OFFSET  what that writer had from there on when it was suspended

A writer goes on only as long as its mark is there. A mark is made only where there is none, so that of
two who want to be the next writer one is; that one takes the mark of the writer before away, and says
in its own what it goes on from. Of a writer that is taken for dead and is not, one part may still
be on its way: its number is left out, so that it never gets among the parts of others.
"""

import json
import uuid
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from itertools import accumulate
from typing import Final

from ims.blob_store.interface import storage_full
from ims.blob_store.s3_bucket import (
    KeptPart,
    NoSuchObject,
    NoSuchUpload,
    ObjectExists,
    S3Bucket,
)
from ims.domain.image import BlobKey

MIB: Final = 1024**2
MIN_PART_BYTES: Final = 5 * MIB
"""How small S3 lets all parts but the last be."""

_TIERS: Final = ((4_000, 0), (7_000, 32 * MIB), (10_000, 352 * MIB))
"""Up to which part how large parts are at least: more than 1 TiB, also where numbers are left out."""
_ABORT_ROUNDS: Final = 3

Range = tuple[int, int]
"""The numbers of the first and the last of some parts."""


def part_size(number: int, part_bytes: int) -> int:
    """Return about how large the part of this number is, from 1 on. Raises Rejection STORAGE_FULL."""
    for last, at_least in _TIERS:
        if number <= last:
            return max(part_bytes, at_least)
    raise storage_full()


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where a writer's parts may end, so that whoever comes next can go on from there."""

    first_bytes: int = 0
    step_bytes: int = 1

    def before(self, offset_bytes: int) -> int:
        """Return the last place up to an offset."""
        if offset_bytes < self.first_bytes:
            return 0
        return offset_bytes - (offset_bytes - self.first_bytes) % self.step_bytes

    def part_end(self, number: int, begin_bytes: int, part_bytes: int) -> int:
        """Return where the part of this number ends that begins there."""
        size_bytes = part_size(number, part_bytes)
        end_bytes = self.before(begin_bytes + size_bytes)
        while end_bytes - begin_bytes < min(size_bytes, MIN_PART_BYTES):
            end_bytes = max(end_bytes + self.step_bytes, self.first_bytes)
        return end_bytes


ANYWHERE: Final = Places()


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What a writer has put down before it writes anything."""

    number: int
    """1 for a blob's first one."""
    writer: int = 1
    """The number of the writer whose parts those from `first_part` on are: mostly its own."""
    token: str
    part_bytes: int
    first_bytes: int = 0
    step_bytes: int = 1
    upload_id: str = ""
    """The upload that the earlier parts are in; empty when there are none."""
    earlier: tuple[Range, ...] = ()
    """The parts of earlier writers that it goes on from."""
    tail: str = ""
    """The name of the object with what comes after them; empty when nothing does."""
    tail_bytes: int = 0
    """How much of it is good."""
    first_part: int = 1
    """The number of that writer's first part."""

    @property
    def places(self) -> Places:
        return Places(first_bytes=self.first_bytes, step_bytes=self.step_bytes)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What there is of a blob for its next writer."""

    upload_id: str = ""
    parts: tuple[KeptPart, ...] = ()
    tail: str = ""
    tail_bytes: int = 0
    last_part: int = 0
    """The highest number of a part that there is, be it of use or not."""
    at_rest: bool = False
    """Whether its last writer was suspended, and so has nothing on its way any more."""

    @property
    def parts_bytes(self) -> int:
        return sum(part.size_bytes for part in self.parts)

    @property
    def size_bytes(self) -> int:
        return self.parts_bytes + self.tail_bytes

    def up_to(self, places: Places) -> "Kept":
        """Return what of it ends at one of these places."""
        end_bytes = places.before(self.size_bytes)
        if end_bytes >= self.parts_bytes:
            tail_bytes = end_bytes - self.parts_bytes
            return replace(self, tail=self.tail if tail_bytes else "", tail_bytes=tail_bytes)
        # A part is kept as it is, or not at all.
        ends = list(accumulate(part.size_bytes for part in self.parts))
        count = bisect_right(ends, end_bytes)
        while count and places.before(ends[count - 1]) != ends[count - 1]:
            count -= 1
        return replace(self, parts=self.parts[:count], tail="", tail_bytes=0)


class Record:
    """What a bucket keeps of one blob."""

    def __init__(self, bucket: S3Bucket, prefix: str, key: BlobKey) -> None:
        self.bucket = bucket
        self.blob: Final = f"{prefix}blobs/{key}"
        self._unfinished: Final = f"{prefix}unfinished/{key}."

    # whose turn it is

    def begin(self, part_bytes: int) -> Mark | None:
        """Return the mark of a blob's first writer; None where there has been one already."""
        return self._claim(_first(part_bytes))

    def succeed(self, part_bytes: int, places: Places) -> tuple[Mark, Kept] | None:
        """Return the next writer's mark and what it goes on from; None where another was faster."""
        before = self._newest_mark()
        if before is None:
            first = self._claim(_first(part_bytes, places))
            return None if first is None else (first, Kept())
        # Two marks: the first stops the writer before and says nothing new, so that whoever finds it
        # after a crash finds the same; what there is then changes no more, and the second can say it.
        stop = self._claim(replace(before, number=before.number + 1, token=_token()))
        if stop is None:
            return None
        kept = self._kept(stop).up_to(places)
        mark = self._claim(_successor(stop, kept, part_bytes, places))
        if mark is None:
            return None
        self._remove_all(name for name, _ in self._tails() if name != mark.tail)
        return mark, kept

    def is_on(self, mark: Mark) -> bool:
        """Whether it is still this writer's turn: its blob was not deleted, and there is no next one."""
        try:
            return self.bucket.head(self._mark_name(mark.number)).token == mark.token
        except NoSuchObject:
            return False

    def has_mark_after(self, mark: Mark) -> bool:
        """Whether there is a next writer."""
        return any(number > mark.number for number in self._marks())

    def _claim(self, mark: Mark) -> Mark | None:
        """Put a mark down as the newest, and take away those before; None where another is newer."""
        body = json.dumps(asdict(mark)).encode("ascii")
        try:
            self.bucket.put_new(self._mark_name(mark.number), BytesIO(body), token=mark.token)
        except ObjectExists:
            return None
        numbers = self._marks()
        if max(numbers, default=0) > mark.number:
            self.bucket.remove(self._mark_name(mark.number))
            return None
        self._remove_all(self._mark_name(number) for number in numbers if number < mark.number)
        return mark

    # what there is

    def kept(self) -> Kept:
        """Return what there is of the blob, for whoever would go on with it."""
        mark = self._newest_mark()
        return Kept() if mark is None else self._kept(mark)

    def _kept(self, mark: Mark) -> Kept:
        uploads = self.bucket.uploads(self.blob)
        if mark.upload_id:
            return self._kept_in(mark, mark.upload_id) if mark.upload_id in uploads else Kept()
        # It may have begun more than one, when an answer was lost.
        found = [self._kept_in(mark, upload_id) for upload_id in (*uploads, "")]
        best = max(found, key=lambda kept: kept.size_bytes)
        return replace(best, last_part=max(kept.last_part for kept in found))

    def _kept_in(self, mark: Mark, upload_id: str) -> Kept:
        there = {part.number: part for part in self._parts(upload_id)}
        numbers = [number for first, last in mark.earlier for number in range(first, last + 1)]
        if not there.keys() >= set(numbers):
            return Kept(last_part=max(there, default=0))
        parts = [there[number] for number in numbers]
        end_bytes = sum(part.size_bytes for part in parts)
        number = mark.first_part
        while number in there:
            part = there[number]
            # The very last part of a blob, which a crash kept from being finished, is smaller.
            if mark.places.part_end(number, end_bytes, mark.part_bytes) != end_bytes + part.size_bytes:
                break
            parts.append(part)
            end_bytes += part.size_bytes
            number += 1
        tails = dict(self._tails())
        tail = self.tail_name(mark, end_bytes)
        tail_bytes = tails.get(tail, 0)
        at_rest = tail_bytes > 0
        if not at_rest and number == mark.first_part and mark.tail in tails:
            tail, tail_bytes = mark.tail, mark.tail_bytes
        return Kept(
            upload_id=upload_id,
            parts=tuple(parts),
            tail=tail if tail_bytes else "",
            tail_bytes=tail_bytes,
            last_part=max(there, default=0),
            at_rest=at_rest,
        )

    def tail_name(self, mark: Mark, offset_bytes: int) -> str:
        """Return the name of the object with what a suspended writer had from an offset on."""
        return f"{self._mark_name(mark.writer)}.tail.{offset_bytes}"

    def _parts(self, upload_id: str) -> list[KeptPart]:
        with suppress(NoSuchUpload):
            if upload_id:
                return list(self.bucket.parts(self.blob, upload_id))
        return []

    def _newest_mark(self) -> Mark | None:
        numbers = self._marks()
        if not numbers:
            return None
        try:
            values = json.loads(self.bucket.content(self._mark_name(max(numbers))))
        except NoSuchObject:  # deleted this very moment
            return None
        earlier = tuple((first, last) for first, last in values.pop("earlier"))
        return Mark(earlier=earlier, **values)

    def _mark_name(self, number: int) -> str:
        return f"{self._unfinished}{number:06}"

    def _marks(self) -> set[int]:
        ends = (name.removeprefix(self._unfinished) for name, _ in self._unfinished_objects())
        return {int(end) for end in ends if end.isdecimal()}

    def _tails(self) -> Iterator[tuple[str, int]]:
        return (each for each in self._unfinished_objects() if ".tail." in each[0])

    def _unfinished_objects(self) -> Iterator[tuple[str, int]]:
        return self.bucket.sizes(self._unfinished)

    # its end

    def forget(self) -> None:
        """Take away everything of a blob that is not the committed blob itself."""
        # In this order: a writer looks for its mark after it has begun an upload.
        self._remove_all([name for name, _ in self._unfinished_objects()])
        # More than once, since one may just be receiving a part.
        for _ in range(_ABORT_ROUNDS):
            uploads = self.bucket.uploads(self.blob)
            if not uploads:
                return
            for upload_id in uploads:
                self.bucket.abort_upload(self.blob, upload_id)

    def _remove_all(self, names: Iterable[str]) -> None:
        for name in list(names):
            self.bucket.remove(name)


def _first(part_bytes: int, places: Places = ANYWHERE) -> Mark:
    return Mark(
        number=1,
        token=_token(),
        part_bytes=part_bytes,
        first_bytes=places.first_bytes,
        step_bytes=places.step_bytes,
    )


def _successor(before: Mark, kept: Kept, part_bytes: int, places: Places) -> Mark:
    """Return the mark of who goes on with what is kept."""
    numbers = [part.number for part in kept.parts]
    number = before.number + 1
    taken = max(kept.last_part, before.first_part - 1)
    return Mark(
        number=number,
        writer=number,
        token=_token(),
        part_bytes=part_bytes,
        first_bytes=places.first_bytes,
        step_bytes=places.step_bytes,
        upload_id=kept.upload_id if numbers else "",
        earlier=_ranges(numbers),
        tail=kept.tail,
        tail_bytes=kept.tail_bytes,
        # One part may still be on its way, unless its writer said that it was the last.
        first_part=taken + (1 if kept.at_rest else 2),
    )


def _ranges(numbers: Iterable[int]) -> tuple[Range, ...]:
    ranges: list[Range] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return tuple(ranges)


def _token() -> str:
    """Return what makes a mark like no other: of two with one number, only one is then taken."""
    return uuid.uuid4().hex
