"""Examines VDI."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ims.disk_files.examiner import (
    BACKING_FILE,
    MALFORMED_HEADER,
    SECTOR_BYTES,
    Examiner,
    Part,
    absurd_capacity,
    broken,
    is_power_of_two,
)

_VERSION = 0x0001_0001
_DYNAMIC, _STATIC = 1, 2
_NO_UUID = bytes(16)
_ENTRY_BYTES = 4


class _Header(NamedTuple):
    signature: int
    version: int
    header_bytes: int
    kind: int
    block_map_offset: int
    data_offset: int
    sector_bytes: int
    capacity_bytes: int
    block_bytes: int
    block_extra_bytes: int
    blocks: int
    blocks_allocated: int
    linked_uuid: bytes
    parent_uuid: bytes


_SIGNATURE_OFFSET = 0x40
_STRUCT = struct.Struct("<IIII260xII12xI4xQIIII32x16s16s")


class VdiExaminer(Examiner):
    """Examines VDI: the header, and whether all its allocated blocks are in the file."""

    HEADER_BYTES = SECTOR_BYTES

    def __init__(self, head: bytes) -> None:
        super().__init__(head)
        self._header = _Header._make(_STRUCT.unpack_from(self._head, _SIGNATURE_OFFSET))

    @property
    def capacity_bytes(self) -> int:
        return self._header.capacity_bytes

    def _header_dangers(self) -> Iterator[str]:
        header = self._header
        if header.version != _VERSION:
            yield "the version of the format is not known"
            return
        yield from broken(
            (header.kind not in (_DYNAMIC, _STATIC), BACKING_FILE),
            (header.linked_uuid != _NO_UUID or header.parent_uuid != _NO_UUID, BACKING_FILE),
        )
        yield from absurd_capacity(header.capacity_bytes)
        yield from broken(
            (header.sector_bytes != SECTOR_BYTES, MALFORMED_HEADER),
            (not is_power_of_two(header.block_bytes), MALFORMED_HEADER),
            (header.block_bytes < SECTOR_BYTES, MALFORMED_HEADER),
            (header.block_map_offset < self.HEADER_BYTES, MALFORMED_HEADER),
            (header.data_offset < self._block_map_end_bytes(), MALFORMED_HEADER),
            (header.block_map_offset % SECTOR_BYTES != 0, MALFORMED_HEADER),
            (header.data_offset % SECTOR_BYTES != 0, MALFORMED_HEADER),
            (header.blocks_allocated > header.blocks, MALFORMED_HEADER),
            (
                header.capacity_bytes > header.blocks * header.block_bytes,
                "the block map is too small for the disk inside",
            ),
        )

    def _block_map_end_bytes(self) -> int:
        return self._header.block_map_offset + self._header.blocks * _ENTRY_BYTES

    def _parts(self) -> Iterator[Part]:
        header = self._header
        yield Part("block map", self._block_map_end_bytes())
        block_bytes = header.block_extra_bytes + header.block_bytes
        yield Part("last block", header.data_offset + header.blocks_allocated * block_bytes)
