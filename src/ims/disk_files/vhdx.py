"""Examines VHDX: its headers, its region table and the items of its metadata."""

import struct
from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

from oslo_utils.imageutils.format_inspector import CaptureRegion

from ims.disk_files.examiner import (
    BACKING_FILE,
    KIB,
    MALFORMED_HEADER,
    MIB,
    TRUNCATED_HEADER,
    UNKNOWN_FEATURES,
    End,
    Examiner,
    Part,
    absurd_capacity,
    broken,
    divide_up,
    is_power_of_two,
)

_START_BYTES = 256 * KIB
"""Signature, both headers and the region table."""

_HEADER_OFFSETS = (64 * KIB, 128 * KIB)
_HEADER_BYTES = 4 * KIB
_HEADER_MAGIC = b"head"
_HEADER_STRUCT = struct.Struct("<4sIQ16s16s16sHHIQ")
_VERSION = 1
_NO_LOG = bytes(16)

_REGION_TABLE_OFFSET = 192 * KIB
_REGION_TABLE_BYTES = 64 * KIB
_REGION_TABLE_MAGIC = b"regi"
_REGION_STRUCT = struct.Struct("<16sQII")
_BLOCK_TABLE_REGION = UUID("2DC27766-F623-4200-9D64-115E9BFD4A08").bytes_le
_METADATA_REGION = UUID("8B7CA206-4790-4B9A-B8FE-575F050F886E").bytes_le

_METADATA_MAGIC = b"metadata"
_METADATA_TABLE_BYTES = 64 * KIB
_MAX_METADATA_BYTES = 1 * MIB
_ITEM_STRUCT = struct.Struct("<16sIII")
_ITEM_REQUIRED = 1 << 2
_FILE_PARAMETERS = UUID("CAA16737-FA36-4D43-B3B6-33F0AA44E76B").bytes_le
_CAPACITY = UUID("2FA54224-CD1B-4876-B211-5DBED83BF4B8").bytes_le
_PARENT_LOCATOR = UUID("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C").bytes_le
_OTHER_ITEMS = {
    UUID("BECA12AB-B2E6-4523-93EF-C309E000C746").bytes_le,  # the disk's id
    UUID("8141BF1D-A96F-4709-BA47-F233A8FAAB5F").bytes_le,  # logical sector size
    UUID("CDA348C7-445D-4471-9CC9-E9885251C556").bytes_le,  # physical sector size
}
_KNOWN_ITEMS = {_FILE_PARAMETERS, _CAPACITY, _PARENT_LOCATOR, *_OTHER_ITEMS}
_HAS_PARENT = 1 << 1

_ENTRY_BYTES = 32
_MAX_ENTRIES = 2047
_MAX_BLOCK_BYTES = 256 * MIB
_BLOCK_TABLE_ENTRY_BYTES = 8


class _Header(NamedTuple):
    magic: bytes
    checksum: int
    sequence: int
    file_write_id: bytes
    data_write_id: bytes
    log_id: bytes
    log_version: int
    version: int
    log_bytes: int
    log_offset: int


class _Region(NamedTuple):
    id: bytes
    offset: int
    length: int
    required: int

    @property
    def end_bytes(self) -> int:
        return self.offset + self.length


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_CRC32C_TABLE = _crc32c_table()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C, at some megabytes a second: it is asked of headers only."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC32C_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFF_FFFF


def _is_intact(structure: bytes) -> bool:
    """Whether the checksum in a structure, at its fifth byte, is right."""
    (checksum,) = struct.unpack_from("<I", structure, 4)
    return bool(crc32c(structure[:4] + bytes(4) + structure[8:]) == checksum)


class VhdxExaminer(Examiner):
    """Examines VHDX: follows it to its metadata, which may lie anywhere behind the first MiB."""

    HEADER_BYTES = 8

    def __init__(self, head: bytes) -> None:
        super().__init__(head)
        self._position = 0
        self._start = CaptureRegion(0, _START_BYTES)
        self._metadata: CaptureRegion | None = None
        self._regions: dict[bytes, _Region] = {}
        self._log_end_bytes = 0
        self._capacity_bytes = 0
        # Found once and kept: the checksums are slow, and dangers are asked for after each block.
        self._found: list[str] = []
        self.eat(head)

    @property
    def hungry(self) -> bool:
        if self._found:
            return False
        return self._metadata is None or not self._metadata.complete

    def eat(self, block: bytes) -> None:
        self._position += len(block)
        if self._metadata is not None:
            self._metadata.capture(block, self._position)
            if self._metadata.complete:
                self._found += self._metadata_dangers(bytes(self._metadata.data))
            return
        self._start.capture(block, self._position)
        if self._start.complete:
            start = bytes(self._start.data)
            self._found += self._log_dangers(start)
            self._found += self._region_dangers(start[_REGION_TABLE_OFFSET:])
            metadata = self._regions.get(_METADATA_REGION)
            if metadata is not None:
                length = min(metadata.length, _MAX_METADATA_BYTES)
                self._metadata = CaptureRegion(metadata.offset, length)

    @property
    def capacity_bytes(self) -> int:
        return self._capacity_bytes

    def _header_dangers(self) -> Iterator[str]:
        yield from self._found

    def _end_dangers(self, end: End) -> Iterator[str]:  # noqa: ARG002 - that it ended is enough
        if self.hungry:
            yield TRUNCATED_HEADER

    def _parts(self) -> Iterator[Part]:
        yield Part("log", self._log_end_bytes)
        for region in self._regions.values():
            name = "metadata" if region.id == _METADATA_REGION else "block allocation table"
            yield Part(name, region.end_bytes)

    def _log_dangers(self, start: bytes) -> Iterator[str]:
        """Yield what is wrong with the header in force, the intact one that was written last."""
        headers = []
        for offset in _HEADER_OFFSETS:
            data = start[offset : offset + _HEADER_BYTES]
            header = _Header._make(_HEADER_STRUCT.unpack_from(data))
            if header.magic == _HEADER_MAGIC and _is_intact(data):
                headers.append(header)
        if not headers:
            yield MALFORMED_HEADER
            return
        header = max(headers, key=lambda each: each.sequence)
        self._log_end_bytes = header.log_offset + header.log_bytes
        yield from broken(
            (header.version != _VERSION, "the version of the format is not known"),
            (header.log_version != 0, "the version of the format is not known"),
            # It may overwrite any part of the file, and so all that is examined here.
            (header.log_id != _NO_LOG, "the file was not closed: its log holds unapplied changes"),
        )

    def _region_dangers(self, table: bytes) -> Iterator[str]:
        magic, _checksum, count = struct.unpack_from("<4sII", table)
        if magic != _REGION_TABLE_MAGIC or count > _MAX_ENTRIES or not _is_intact(table):
            yield MALFORMED_HEADER
            return
        for index in range(count):
            # The table's own header is half as long as an entry.
            offset = _ENTRY_BYTES // 2 + index * _ENTRY_BYTES
            region = _Region._make(_REGION_STRUCT.unpack_from(table, offset))
            yield from self._add_region(region)
        if not self._regions.keys() >= {_BLOCK_TABLE_REGION, _METADATA_REGION}:
            yield MALFORMED_HEADER

    def _add_region(self, region: _Region) -> Iterator[str]:
        if region.id not in (_BLOCK_TABLE_REGION, _METADATA_REGION):
            if region.required:
                yield UNKNOWN_FEATURES
            return
        aligned = region.offset % MIB == 0 and region.length % MIB == 0
        if not aligned or 0 in (region.offset, region.length) or region.id in self._regions:
            yield MALFORMED_HEADER
        else:
            self._regions[region.id] = region

    def _metadata_dangers(self, metadata: bytes) -> Iterator[str]:
        magic, count = struct.unpack_from("<8s2xH", metadata)
        if magic != _METADATA_MAGIC or count > _MAX_ENTRIES:
            yield MALFORMED_HEADER
            return
        items: dict[bytes, bytes] = {}
        for index in range(count):
            entry_offset = _ENTRY_BYTES + index * _ENTRY_BYTES
            id_, offset, length, flags = _ITEM_STRUCT.unpack_from(metadata, entry_offset)
            if id_ not in _KNOWN_ITEMS:
                if flags & _ITEM_REQUIRED:
                    yield UNKNOWN_FEATURES
                continue
            if id_ in items or offset < _METADATA_TABLE_BYTES:
                yield MALFORMED_HEADER
                return
            items[id_] = metadata[offset : offset + length]
        yield from self._item_dangers(items)

    def _item_dangers(self, items: dict[bytes, bytes]) -> Iterator[str]:
        if _PARENT_LOCATOR in items:
            yield BACKING_FILE
        try:
            (self._capacity_bytes,) = struct.unpack("<Q", items.get(_CAPACITY, b""))
            block_bytes, flags = struct.unpack("<II", items.get(_FILE_PARAMETERS, b""))
        except struct.error:
            yield MALFORMED_HEADER
            return
        if flags & _HAS_PARENT:
            yield BACKING_FILE
        yield from absurd_capacity(self._capacity_bytes)
        if not is_power_of_two(block_bytes) or not MIB <= block_bytes <= _MAX_BLOCK_BYTES:
            yield MALFORMED_HEADER
            return
        blocks = divide_up(self._capacity_bytes, block_bytes)
        table = self._regions.get(_BLOCK_TABLE_REGION)
        if table is not None and blocks * _BLOCK_TABLE_ENTRY_BYTES > table.length:
            yield "the block allocation table is too small for the disk inside"
