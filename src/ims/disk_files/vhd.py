"""Examines VHD, dynamic (a header at the start) and fixed (nothing but a footer at the end)."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ims.disk_files.examiner import (
    BACKING_FILE,
    BLOCK_BYTES,
    MALFORMED_HEADER,
    SECTOR_BYTES,
    End,
    Examiner,
    Part,
    absurd_capacity,
    broken,
    is_power_of_two,
)

FOOTER_BYTES = SECTOR_BYTES

_FOOTER_COOKIE = b"conectix"
_FOOTER_STRUCT = struct.Struct(">8sIIQI4sI4sQQHBBII16s")
_FOOTER_CHECKSUM_OFFSET = 64
_MALFORMED_FOOTER = "the footer is malformed"

_FIXED, _DYNAMIC, _DIFFERENCING = 2, 3, 4

_DYNAMIC_COOKIE = b"cxsparse"
_DYNAMIC_STRUCT = struct.Struct(">8sQQIIII")
_DYNAMIC_BYTES = 1024
_DYNAMIC_CHECKSUM_OFFSET = 36
_ENTRY_BYTES = 4


class _Footer(NamedTuple):
    cookie: bytes
    features: int
    version: int
    dynamic_header_offset: int
    modified_seconds: int
    creator: bytes
    creator_version: int
    creator_os: bytes
    original_bytes: int
    capacity_bytes: int
    cylinders: int
    heads: int
    sectors: int
    kind: int
    checksum: int
    uuid: bytes


class _DynamicHeader(NamedTuple):
    cookie: bytes
    next_offset: int
    table_offset: int
    version: int
    table_entries: int
    block_bytes: int
    checksum: int


def _is_intact(structure: bytes, checksum_offset: int) -> bool:
    """Whether the checksum in a structure is that of its other bytes."""
    (checksum,) = struct.unpack_from(">I", structure, checksum_offset)
    others = sum(structure) - sum(structure[checksum_offset : checksum_offset + 4])
    return bool(checksum == ~others & 0xFFFF_FFFF)


def ends_with_footer(tail: bytes) -> bool:
    """Whether a file's last bytes call themselves a VHD footer."""
    return len(tail) >= FOOTER_BYTES and tail[-FOOTER_BYTES:].startswith(_FOOTER_COOKIE)


def is_fixed_disk(end: End) -> bool:
    """Whether a file, whatever it begins with, ends as a faultless fixed VHD."""
    if not ends_with_footer(end.tail):
        return False
    examiner = FixedVhdExaminer(end.tail)
    return not any(examiner.dangers()) and not any(examiner.dangers_at_end(end))


class FixedVhdExaminer(Examiner):
    """Examines a raw disk with a footer; it is made of the file's tail, not of its head."""

    def __init__(self, tail: bytes) -> None:
        super().__init__(b"")
        self._footer_bytes = tail[-FOOTER_BYTES:]
        self._footer = _Footer._make(_FOOTER_STRUCT.unpack_from(self._footer_bytes))

    @property
    def capacity_bytes(self) -> int:
        return self._footer.capacity_bytes

    def _header_dangers(self) -> Iterator[str]:
        yield from broken(
            (not _is_intact(self._footer_bytes, _FOOTER_CHECKSUM_OFFSET), _MALFORMED_FOOTER),
            (self._footer.kind == _DIFFERENCING, BACKING_FILE),
            # A dynamic disk whose header was overwritten.
            (self._footer.kind not in (_FIXED, _DIFFERENCING), _MALFORMED_FOOTER),
        )
        yield from absurd_capacity(self._footer.capacity_bytes)

    def _end_dangers(self, end: End) -> Iterator[str]:
        if self._footer.capacity_bytes + FOOTER_BYTES != end.size_bytes:
            yield "the size in the footer is not that of the file"


class DynamicVhdExaminer(Examiner):
    """Examines a dynamic VHD: footer copy, dynamic header, block allocation table, footer."""

    HEADER_BYTES = FOOTER_BYTES + _DYNAMIC_BYTES

    def __init__(self, head: bytes) -> None:
        super().__init__(head)
        self._footer_copy = self._head[:FOOTER_BYTES]
        self._footer = _Footer._make(_FOOTER_STRUCT.unpack_from(self._footer_copy))
        offset = self._footer.dynamic_header_offset
        if not FOOTER_BYTES <= offset <= BLOCK_BYTES - _DYNAMIC_BYTES:
            offset = FOOTER_BYTES  # where it belongs; a wrong cookie there tells the rest
        self._dynamic_bytes = self._head[offset : offset + _DYNAMIC_BYTES]
        self._dynamic = _DynamicHeader._make(_DYNAMIC_STRUCT.unpack_from(self._dynamic_bytes))

    @property
    def capacity_bytes(self) -> int:
        return self._footer.capacity_bytes

    def _header_dangers(self) -> Iterator[str]:
        dynamic = self._dynamic
        capacity_bytes = self._footer.capacity_bytes
        yield from broken(
            (self._footer.kind == _DIFFERENCING, BACKING_FILE),
            (self._footer.kind not in (_DYNAMIC, _DIFFERENCING), MALFORMED_HEADER),
            (not _is_intact(self._footer_copy, _FOOTER_CHECKSUM_OFFSET), MALFORMED_HEADER),
            (dynamic.cookie != _DYNAMIC_COOKIE, MALFORMED_HEADER),
            (not _is_intact(self._dynamic_bytes, _DYNAMIC_CHECKSUM_OFFSET), MALFORMED_HEADER),
            (not is_power_of_two(dynamic.block_bytes), MALFORMED_HEADER),
            (dynamic.block_bytes < SECTOR_BYTES, MALFORMED_HEADER),
            (dynamic.table_offset < self.HEADER_BYTES, MALFORMED_HEADER),
            (
                capacity_bytes > dynamic.table_entries * dynamic.block_bytes,
                "the block allocation table is too small for the disk inside",
            ),
        )
        yield from absurd_capacity(capacity_bytes)

    def _end_dangers(self, end: End) -> Iterator[str]:
        if not ends_with_footer(end.tail):
            yield "the file is truncated: it has no footer"
        elif end.tail[-FOOTER_BYTES:] != self._footer_copy:
            yield "the footer differs from the header"

    def _parts(self) -> Iterator[Part]:
        table_bytes = self._dynamic.table_entries * _ENTRY_BYTES
        yield Part("block allocation table", self._dynamic.table_offset + table_bytes)
