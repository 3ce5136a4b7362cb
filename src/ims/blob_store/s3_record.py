"""What a bucket keeps of a blob that is not committed yet, and whose turn it is to write it.

    unfinished/KEY.NUMBER              the mark of the blob's first, second … writer
    unfinished/KEY.NUMBER.tail.OFFSET  what that writer had from there on, beyond the parts

A writer goes on only as long as its mark is there. A mark is made only where there is none, so that of
two who want to be the next writer one is; that one takes the mark of the writer before away. Which parts
there are is asked of the store: they are numbered from 1 on, without a gap.

Of a writer that is taken for dead and is not, one part may still arrive later, in the place of one of
the next writer's. Then the store finishes the upload with neither, and nothing of the blob is kept.
"""

import json
import uuid
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import accumulate
from typing import Any, Final

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
_TIERS: Final = ((4_000, 0), (7_000, 32 * MIB), (10_000, 352 * MIB))
"""Up to which part how large parts are at least: together more than 1 TiB."""
_ABORT_ROUNDS: Final = 3


@dataclass(frozen=True, kw_only=True)
class PartSizes:
    """How large the parts of a blob are."""

    part_bytes: int = 8 * MIB
    """About how large the first thousands of them are."""
    least_bytes: int = 5 * MIB
    """How small the store lets all but the last be; the default is what S3 asks for."""
    keep_every_bytes: int | None = None
    """After how many bytes what fills a part is kept by itself meanwhile; None for when it is full."""

    def of(self, number: int) -> int:
        """Return about how large a part is, by its number from 1 on. Raises Rejection STORAGE_FULL."""
        for last, at_least in _TIERS:
            if number <= last:
                return max(self.part_bytes, at_least)
        raise storage_full()


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where parts may end, so that whoever comes next can go on from there."""

    first_bytes: int = 0
    step_bytes: int = 1

    def before(self, offset_bytes: int) -> int:
        """Return the last place up to an offset."""
        if offset_bytes < self.first_bytes:
            return 0
        return offset_bytes - (offset_bytes - self.first_bytes) % self.step_bytes

    def part_end(self, number: int, begin_bytes: int, sizes: PartSizes) -> int:
        """Return where the part of this number ends that begins there."""
        end_bytes = self.before(begin_bytes + sizes.of(number))
        while end_bytes - begin_bytes < sizes.least_bytes:
            end_bytes = max(end_bytes + self.step_bytes, self.first_bytes)
        return end_bytes


ANYWHERE: Final = Places()


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Bytes of a blob that are in none of its parts yet, as an object of their own."""

    name: str
    begin_bytes: int
    """Where in the blob they begin."""
    size_bytes: int
    """How many of them are good: the object may have more."""

    @property
    def end_bytes(self) -> int:
        return self.begin_bytes + self.size_bytes


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What a writer has put down before it writes anything."""

    number: int
    """1 for a blob's first."""
    token: str
    """What no other mark has."""
    tail: tuple[Piece, ...] = ()
    """What earlier writers had beyond their parts."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What there is of a blob for its next writer."""

    upload_id: str = ""
    parts: tuple[KeptPart, ...] = ()
    tail: tuple[Piece, ...] = ()
    """What comes after the parts, one piece after the other."""

    @property
    def parts_bytes(self) -> int:
        return sum(part.size_bytes for part in self.parts)

    @property
    def size_bytes(self) -> int:
        return self.tail[-1].end_bytes if self.tail else self.parts_bytes

    def up_to(self, places: Places) -> "Kept":
        """Return what of it ends at one of these places."""
        end_bytes = places.before(self.size_bytes)
        if end_bytes >= self.parts_bytes:
            return replace(
                self,
                tail=tuple(
                    replace(piece, size_bytes=min(piece.end_bytes, end_bytes) - piece.begin_bytes)
                    for piece in self.tail
                    if piece.begin_bytes < end_bytes
                ),
            )
        # A part is kept as it is, or not at all.
        ends = list(accumulate(part.size_bytes for part in self.parts))
        count = bisect_right(ends, end_bytes)
        while count and places.before(ends[count - 1]) != ends[count - 1]:
            count -= 1
        return replace(self, parts=self.parts[:count], tail=())


class Record:
    """What a bucket keeps of one blob."""

    def __init__(self, bucket: S3Bucket, prefix: str, key: BlobKey, sizes: PartSizes) -> None:
        self.bucket = bucket
        self.sizes = sizes
        self.blob: Final = f"{prefix}blobs/{key}"
        self._unfinished: Final = f"{prefix}unfinished/{key}."

    # whose turn it is

    def begin(self) -> Mark | None:
        """Return the mark of a blob's first writer; None where there has been one already."""
        return self._claim(Mark(number=1, token=uuid.uuid4().hex))

    def succeed(self, places: Places) -> tuple[Mark, Kept] | None:
        """Return the next writer's mark and what it goes on from; None where another was faster."""
        before = self._newest_mark()
        if before is None:
            mark = self.begin()
            return (mark, Kept()) if mark is not None and self._clear(mark, Kept()) else None
        found = self._kept(before).up_to(places)
        mark = self._claim(Mark(number=before.number + 1, token=uuid.uuid4().hex, tail=found.tail))
        if mark is None:
            return None
        # Again, now that the writer before has been stopped.
        kept = self._kept(mark).up_to(places)
        return (mark, kept) if self._clear(mark, kept) else None

    def _clear(self, mark: Mark, kept: Kept) -> bool:
        """Take away what this writer does not go on from. Where there is a next one, only say False."""
        outdated = self._tails().keys() - {piece.name for piece in kept.tail}
        # A first writer finds what half a deletion has left.
        uploads = self.bucket.uploads(self.blob) if mark.number == 1 else []
        # Looked at last: whoever is next from here on finds all the parts that this writer has found.
        if not self.is_on(mark):
            return False
        self._remove_all(outdated)
        self._abort_all(uploads)
        return True

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
        name = self._mark_name(mark.number)
        # The token is in it too: of two marks that are alike, the second would pass for the first.
        body = json.dumps([mark.token, *_told(mark.tail)]).encode("ascii")
        try:
            self.bucket.put_new(name, BytesIO(body), token=mark.token)
        except ObjectExists:
            return None
        numbers = self._marks()
        if max(numbers, default=0) > mark.number:
            self.bucket.remove(name)
            return None
        self._remove_all(self._mark_name(number) for number in numbers if number < mark.number)
        return mark

    # what there is

    def kept(self) -> Kept:
        """Return what there is of the blob, for whoever would go on with it."""
        mark = self._newest_mark()
        return Kept() if mark is None else self._kept(mark)

    def _kept(self, mark: Mark) -> Kept:
        tails = self._tails()
        # More than one upload was begun where an answer was lost.
        found = [
            self._kept_in(upload_id, mark, tails) for upload_id in ("", *self.bucket.uploads(self.blob))
        ]
        # Pieces may go at any moment once their part is there.
        return max(reversed(found), key=lambda kept: (kept.parts_bytes, kept.size_bytes))

    def _kept_in(self, upload_id: str, mark: Mark, tails: dict[str, int]) -> Kept:
        parts: list[KeptPart] = []
        for number, part in enumerate(self._parts(upload_id), 1):
            # A blob's very last part may be smaller than another may follow. It came before a crash
            # that kept the upload from being finished.
            if part.number != number or part.size_bytes < self.sizes.least_bytes:
                break
            parts.append(part)
        kept = Kept(upload_id=upload_id, parts=tuple(parts))
        return replace(kept, tail=tuple(self._tail_from(kept.parts_bytes, mark, tails)))

    def _tail_from(self, place: int, mark: Mark, tails: dict[str, int]) -> Iterator[Piece]:
        """Yield the pieces that follow each other from a place on."""
        earlier = {piece.begin_bytes: piece for piece in mark.tail if piece.name in tails}
        while True:
            own = self.tail_name(mark, place)
            if tails.get(own):
                piece = Piece(name=own, begin_bytes=place, size_bytes=tails[own])
            elif place in earlier:
                piece = earlier[place]
            else:
                return
            yield piece
            place = piece.end_bytes

    def tail_name(self, mark: Mark, offset_bytes: int) -> str:
        """Return the name of the object with what a writer had from an offset on."""
        return f"{self._mark_name(mark.number)}.tail.{offset_bytes}"

    def remove_tail(self, pieces: Iterable[Piece]) -> None:
        """Take away what is in a part by now."""
        self._remove_all(piece.name for piece in pieces)

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
            content = self.bucket.content(self._mark_name(max(numbers)))
        except NoSuchObject:  # deleted this very moment
            return None
        token, *tail = json.loads(content)
        return Mark(number=max(numbers), token=token, tail=tuple(_heard(tail)))

    def _mark_name(self, number: int) -> str:
        return f"{self._unfinished}{number:06}"

    def _marks(self) -> set[int]:
        ends = (name.removeprefix(self._unfinished) for name in self._unfinished_sizes())
        return {int(end) for end in ends if end.isdecimal()}

    def _tails(self) -> dict[str, int]:
        """Return how large each tail is."""
        return {name: size for name, size in self._unfinished_sizes().items() if ".tail." in name}

    def _unfinished_sizes(self) -> dict[str, int]:
        return dict(self.bucket.sizes(self._unfinished))

    # its end

    def forget(self) -> None:
        """Take away everything of a blob that is not the committed blob itself."""
        # In this order: a writer looks for its mark after it has begun an upload.
        self._remove_all(self._unfinished_sizes())
        # More than once, since one may just be receiving a part.
        for _ in range(_ABORT_ROUNDS):
            uploads = self.bucket.uploads(self.blob)
            if not uploads:
                return
            self._abort_all(uploads)

    def _abort_all(self, upload_ids: Iterable[str]) -> None:
        for upload_id in upload_ids:
            self.bucket.abort_upload(self.blob, upload_id)

    def _remove_all(self, names: Iterable[str]) -> None:
        for name in names:
            self.bucket.remove(name)


def _told(tail: tuple[Piece, ...]) -> list[str | int]:
    """Return what a mark says of a tail: the name and the size of each piece, or of one that is none."""
    # The first version read exactly one, and may still be at work beside this one.
    return [said for piece in tail for said in (piece.name, piece.size_bytes)] or ["", 0]


def _heard(said: list[Any]) -> Iterator[Piece]:
    for name, size_bytes in zip(said[::2], said[1::2], strict=True):
        if size_bytes:
            begin_bytes = int(name.rpartition(".")[2])
            yield Piece(name=name, begin_bytes=begin_bytes, size_bytes=size_bytes)
