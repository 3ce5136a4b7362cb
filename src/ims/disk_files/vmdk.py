"""Examines VMDK: only disks that are whole in one file, monolithicSparse and streamOptimized."""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from oslo_utils.imageutils import format_inspector

from ims.disk_files.examiner import (
    BACKING_FILE,
    ENCRYPTED,
    MALFORMED_HEADER,
    SECTOR_BYTES,
    TAIL_BYTES,
    TRUNCATED_HEADER,
    End,
    Examiner,
    Part,
    absurd_capacity,
    broken,
    divide_up,
    is_power_of_two,
)
from ims.disk_files.second_opinion import failed_checks

_MAGIC = b"KDMV"
_LINE_ENDS = b"\n \r\n"
_DIRECTORY_AT_END = 2**64 - 1
_REDUNDANT_DIRECTORY = 1 << 1
_VERSIONS = (1, 2, 3)
_MIN_GRAIN_SECTORS = 8
_MAX_GRAIN_SECTORS = 0x200000
_MAX_TABLE_ENTRIES = 512
_ENTRY_BYTES = 4
_ORPHAN = "ffffffff"

_NEEDS_OTHER_FILES = "the disk lies in other files, of which this is the description"
_BAD_DESCRIPTOR = "the descriptor is missing or malformed"
_FOOTER_DIFFERS = "the footer is missing or differs from the header"

_WHOLE_TYPES = ("monolithicsparse", "streamoptimized")
# Within a line and without backtracking: a descriptor may be a MiB of whatever is slowest.
_PARENT_ID = re.compile(r"^[ \t]*+parentcid[ \t]*+=[ \t]*+(.*)$", re.MULTILINE)
_KEYS = re.compile(r"^[ \t]*+(?:encryptionkeys|datafilekey)[ \t]*+=", re.MULTILINE)
_EXTENT = re.compile(r"^[ \t]*+(?:rw|rdonly|noaccess)\b.*$", re.MULTILINE)
_WHOLE_EXTENT = re.compile(r'\s*\w+\s+(\d{1,19})\s+sparse\s+"[^"/\\]*"\s*')

# What OpenStack's checks find and we say in our words; the rest is told by name.
_SAID_BY_US = {"descriptor": _BAD_DESCRIPTOR, "footer": _FOOTER_DIFFERS}


class _Header(NamedTuple):
    magic: bytes
    version: int
    flags: int
    capacity_sectors: int
    grain_sectors: int
    descriptor_sector: int
    descriptor_sectors: int
    table_entries: int
    redundant_directory_sector: int
    directory_sector: int
    data_sector: int
    unclean: int
    line_ends: bytes
    compression: int

    @property
    def directory_at_end(self) -> bool:
        return self.directory_sector == _DIRECTORY_AT_END


_STRUCT = struct.Struct("<4sIIQQQQIQQQB4sH")


class VmdkExaminer(Examiner):
    """Examines VMDK: header, descriptor and footer, with OpenStack's reading of the latter two."""

    HEADER_BYTES = SECTOR_BYTES

    def __init__(self, head: bytes) -> None:
        super().__init__(head)
        self._header = _Header._make(_STRUCT.unpack_from(self._head))
        self._whole = self._header.magic == _MAGIC
        self._readable = self._whole
        self._oslo = format_inspector.VMDKInspector()
        if self._whole:
            # As it came, not padded: this inspector looks for the end of the file as well.
            self.eat(head)

    @property
    def hungry(self) -> bool:
        return self._readable and not self._descriptor_complete

    def eat(self, block: bytes) -> None:
        try:
            self._oslo.eat_chunk(block)
        except Exception:  # noqa: BLE001 - a hostile file may find any hole in a parser
            self._readable = False

    @property
    def capacity_bytes(self) -> int:
        return self._header.capacity_sectors * SECTOR_BYTES if self._whole else 0

    @property
    def _descriptor_complete(self) -> bool:
        return self._oslo.region("descriptor").complete

    def dangers(self) -> Iterator[str]:
        # A description alone may be shorter than the header it does not have.
        if self._whole:
            yield from super().dangers()
        else:
            yield _NEEDS_OTHER_FILES

    def dangers_at_end(self, end: End) -> Iterator[str]:
        if self._whole:
            yield from super().dangers_at_end(end)

    def _header_dangers(self) -> Iterator[str]:
        header = self._header
        yield from absurd_capacity(self.capacity_bytes)
        yield from broken(
            (not self._readable, MALFORMED_HEADER),
            (header.version not in _VERSIONS, "the version of the format is not known"),
            (header.line_ends != _LINE_ENDS, MALFORMED_HEADER),
            (not is_power_of_two(header.grain_sectors), MALFORMED_HEADER),
            (
                not _MIN_GRAIN_SECTORS <= header.grain_sectors <= _MAX_GRAIN_SECTORS,
                MALFORMED_HEADER,
            ),
            (not 0 < header.table_entries <= _MAX_TABLE_ENTRIES, MALFORMED_HEADER),
            (header.directory_sector == 0, MALFORMED_HEADER),
        )
        if self._readable and self._descriptor_complete:
            yield from self._descriptor_dangers()

    def _descriptor_dangers(self) -> Iterator[str]:
        # Readers differ on where it ends, so a parent is looked for in all of it.
        everything = bytes(self._oslo.region("descriptor").data).lower()
        if b"parentfilenamehint" in everything:
            yield BACKING_FILE
        text = self._oslo.desc_text
        if not text:
            yield _BAD_DESCRIPTOR
            return
        extents = _EXTENT.findall(text)
        yield from broken(
            (any(parent.strip() != _ORPHAN for parent in _PARENT_ID.findall(text)), BACKING_FILE),
            (_KEYS.search(text) is not None, ENCRYPTED),
            (self._oslo.vmdktype not in _WHOLE_TYPES, _NEEDS_OTHER_FILES),
            (len(extents) > 1, _NEEDS_OTHER_FILES),
        )
        if len(extents) == 1:
            yield from self._extent_dangers(extents[0])
        try:
            self._oslo.check_descriptor()
        except Exception:  # noqa: BLE001 - a hostile file may find any hole in a parser
            yield _BAD_DESCRIPTOR

    def _extent_dangers(self, extent: str) -> Iterator[str]:
        whole = _WHOLE_EXTENT.fullmatch(extent)
        if whole is None:
            yield _NEEDS_OTHER_FILES
            return
        # The header's capacity may be rounded up to a grain.
        surplus_sectors = self._header.capacity_sectors - int(whole[1])
        if not 0 <= surplus_sectors < self._header.grain_sectors:
            yield "the descriptor and the header differ on the size of the disk inside"

    def _end_dangers(self, end: End) -> Iterator[str]:
        if self.hungry:
            yield TRUNCATED_HEADER
            return
        if not self._readable or len(end.tail) < TAIL_BYTES:
            return  # said already: the header is malformed, or its parts are missing
        if self._header.directory_at_end:
            yield from self._footer_dangers(end)
        # The blocks since the descriptor were kept from it; all it still wants is the end.
        self.eat(end.tail)
        for name in failed_checks(self._oslo):
            yield _SAID_BY_US.get(name, f"the file fails the safety check {name}")

    def _footer_dangers(self, end: End) -> Iterator[str]:
        footer = _Header._make(_STRUCT.unpack_from(end.tail, SECTOR_BYTES))
        # The only difference that has a reason: the header was written too early to know it.
        expected = self._header._replace(
            directory_sector=footer.directory_sector,
            redundant_directory_sector=footer.redundant_directory_sector,
            unclean=footer.unclean,
        )
        if footer != expected or footer.directory_at_end:
            yield _FOOTER_DIFFERS
        elif self._directory_end_bytes(footer.directory_sector) > end.size_bytes:
            yield "the grain directory lies beyond the end of the file"

    def _parts(self) -> Iterator[Part]:
        header = self._header
        yield Part("first grain", header.data_sector * SECTOR_BYTES)
        if header.directory_at_end:
            return
        yield Part("grain directory", self._directory_end_bytes(header.directory_sector))
        if header.flags & _REDUNDANT_DIRECTORY:
            yield Part(
                "redundant grain directory",
                self._directory_end_bytes(header.redundant_directory_sector),
            )

    def _directory_end_bytes(self, sector: int) -> int:
        sectors_per_entry = max(self._header.grain_sectors * self._header.table_entries, 1)
        entries = divide_up(self._header.capacity_sectors, sectors_per_entry)
        return sector * SECTOR_BYTES + entries * _ENTRY_BYTES
