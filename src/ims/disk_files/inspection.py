"""Inspects a disk file while its bytes pass by."""

import logging
import os
from pathlib import Path

from ims.disk_files.examiner import (
    BLOCK_BYTES,
    MAX_CAPACITY_BYTES,
    TAIL_BYTES,
    BaffledExaminer,
    End,
    Examiner,
)
from ims.disk_files.raw import RawExaminer
from ims.disk_files.signatures import Kind, announced_kinds
from ims.disk_files.vhd import FixedVhdExaminer, ends_with_footer, is_fixed_disk
from ims.domain.disk_file import DiskFileReport
from ims.domain.image import DiskFormat

_CHUNK_BYTES = 1024**2

_LOG = logging.getLogger(__name__)


class Inspection:
    """Finds out what one disk file is, from its bytes alone, whatever chunks they arrive in.

    It keeps the first block and the last sectors of the file, and feeds an examiner of the
    format that the first block announces until that one has seen enough.
    """

    def __init__(self, declared: DiskFormat) -> None:
        self._declared = declared
        self._block = bytearray()
        """The block that is filling; unused once nobody is hungry."""
        self._tail = bytearray()
        self._kinds: tuple[Kind, ...] | None = None
        """What the first block announces; None until it is full or the file ends."""
        self._examiner: Examiner = RawExaminer(b"")
        self._hopeless = False
        self._report: DiskFileReport | None = None

    @property
    def hopeless(self) -> bool:
        """Whether the file cannot be what was declared, or is dangerous, whatever follows.

        What is found then is final: the report says it, also of an upload cut short.
        """
        return self._hopeless

    def write(self, chunk: bytes) -> None:
        """Take the bytes that follow. Never raises, whatever they are."""
        self._keep_tail(chunk)
        rest = memoryview(chunk)
        while rest and self.hungry:
            room = BLOCK_BYTES - len(self._block)
            self._block += rest[:room]
            rest = rest[room:]
            if len(self._block) == BLOCK_BYTES:
                self._take_block()

    def report(self, size_bytes: int) -> DiskFileReport:
        """Return the findings, once the file of that size was written or the case is hopeless.

        The first report is the final one; what is written afterwards changes nothing. Of
        several formats at once the declared one is named as the format, so that the file is
        refused as dangerous rather than as another.
        """
        if self._report is None:
            if self.hungry and (self._block or self._kinds is None):
                self._take_block(last=True)
            end = End(tail=bytes(self._tail[-TAIL_BYTES:]), size_bytes=size_bytes)
            try:
                self._report = self._report_of(self._kinds_at_end(end), end)
            except Exception:  # noqa: BLE001 - whatever fails, the file is refused
                self._give_up()
                self._report = self._report_of(self._kinds or (DiskFormat.RAW,), end)
        return self._report

    def _report_of(self, kinds: tuple[Kind, ...], end: End) -> DiskFileReport:
        if len(kinds) > 1:
            described_as = f"several formats at once ({', '.join(kinds)})"
            return DiskFileReport(
                format=self._declared if self._declared in kinds else None,
                described_as=described_as,
                capacity_bytes=0,
                dangers=(f"the file is {described_as}",),
            )
        (kind,) = kinds
        if not isinstance(kind, DiskFormat):
            return DiskFileReport(format=None, described_as=kind.value, capacity_bytes=0)
        capacity_bytes = self._examiner.capacity_bytes
        if capacity_bytes is None:
            capacity_bytes = end.size_bytes
        return DiskFileReport(
            format=kind,
            described_as=kind.value,
            capacity_bytes=capacity_bytes if capacity_bytes <= MAX_CAPACITY_BYTES else 0,
            dangers=self._dangers(end),
        )

    @property
    def hungry(self) -> bool:
        """Whether more of the file's beginning is needed; otherwise only its end is."""
        return not self._hopeless and (self._kinds is None or self._examiner.hungry)

    def _keep_tail(self, chunk: bytes) -> None:
        if len(chunk) >= TAIL_BYTES:
            self._tail[:] = chunk[-TAIL_BYTES:]
            return
        self._tail += chunk
        # Trimmed now and then, for the sake of tiny chunks.
        if len(self._tail) > BLOCK_BYTES:
            del self._tail[:-TAIL_BYTES]

    def _take_block(self, *, last: bool = False) -> None:
        block = bytes(self._block)
        self._block.clear()
        try:
            self._examine(block, last=last)
        except Exception:  # noqa: BLE001 - whatever fails, the file is refused
            self._give_up()

    def _give_up(self) -> None:
        """Refuse the file after a failure of ours: the law allows no bytes to cause an error."""
        _LOG.exception("examiner failed", extra={"declared": self._declared.value})
        self._kinds = self._kinds or ()
        self._examiner = BaffledExaminer(b"")
        self._hopeless = True

    def _examine(self, block: bytes, *, last: bool) -> None:
        if self._kinds is None:
            self._kinds = announced_kinds(block)
            self._examiner = self._examiner_of_announced(block)
        else:
            self._examiner.eat(block)
        self._hopeless = not last and self._is_hopeless(self._kinds)

    def _examiner_of_announced(self, head: bytes) -> Examiner:
        match self._kinds:
            case (DiskFormat() as announced,):
                # Seven MiB of every worker to which nobody sends such files.
                from ims.disk_files.examiners import EXAMINERS  # noqa: PLC0415

                return EXAMINERS[announced](head)
            case _:
                return RawExaminer(head)

    def _is_hopeless(self, kinds: tuple[Kind, ...]) -> bool:
        if not kinds:
            # A fixed VHD does not tell before its end.
            return self._declared not in (DiskFormat.RAW, DiskFormat.VHD)
        return kinds != (self._declared,) or any(True for _ in self._examiner.dangers())

    def _kinds_at_end(self, end: End) -> tuple[Kind, ...]:
        """Return what the file is, at least one kind, now that its footer can be read."""
        kinds = self._kinds or ()
        if not kinds and ends_with_footer(end.tail):
            self._examiner = FixedVhdExaminer(end.tail)
            return (DiskFormat.VHD,)
        if kinds and DiskFormat.VHD not in kinds and is_fixed_disk(end):
            return tuple(sorted({*kinds, DiskFormat.VHD}))
        return kinds or (DiskFormat.RAW,)

    def _dangers(self, end: End) -> tuple[str, ...]:
        found = list(self._examiner.dangers())
        if not self._hopeless:
            found += self._examiner.dangers_at_end(end)
        # Each once, in the order found.
        return tuple(dict.fromkeys(found))


def inspect_file(path: Path, declared: DiskFormat) -> DiskFileReport:
    """Return the findings about a file on disk, of which only as much is read as is needed.

    Raises OSError. Nobody may be writing the file.
    """
    inspection = Inspection(declared)
    with path.open("rb", buffering=0) as file:
        size_bytes = file.seek(0, os.SEEK_END)
        file.seek(0)
        while inspection.hungry and (chunk := file.read(_CHUNK_BYTES)):
            inspection.write(chunk)
        file.seek(max(file.tell(), size_bytes - TAIL_BYTES))
        inspection.write(file.read(TAIL_BYTES))
    return inspection.report(size_bytes)
