"""Examines QED, which OpenStack's inspectors only know how to refuse."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ims.disk_files.examiner import (
    BACKING_FILE,
    KIB,
    MALFORMED_HEADER,
    MIB,
    SECTOR_BYTES,
    UNKNOWN_FEATURES,
    Examiner,
    Part,
    absurd_capacity,
    broken,
    is_power_of_two,
)

_BACKING_FILE_FEATURE = 1 << 0
_KNOWN_FEATURES = 0b111
_ENTRY_BYTES = 8
_MIN_CLUSTER_BYTES = 4 * KIB
_MAX_CLUSTER_BYTES = 64 * MIB
_MAX_TABLE_CLUSTERS = 16


class _Header(NamedTuple):
    magic: bytes
    cluster_bytes: int
    table_clusters: int
    header_clusters: int
    features: int
    compatible_features: int
    autoclear_features: int
    l1_offset: int
    capacity_bytes: int
    backing_file_offset: int
    backing_file_bytes: int


_STRUCT = struct.Struct("<4sIIIQQQQQII")


class QedExaminer(Examiner):
    """Examines QED: the header, and where its L1 table lies."""

    HEADER_BYTES = _STRUCT.size

    def __init__(self, head: bytes) -> None:
        super().__init__(head)
        self._header = _Header._make(_STRUCT.unpack_from(self._head))

    @property
    def capacity_bytes(self) -> int:
        return self._header.capacity_bytes

    def _header_dangers(self) -> Iterator[str]:
        header = self._header
        yield from broken(
            (header.features & _BACKING_FILE_FEATURE != 0, BACKING_FILE),
            (header.features & ~_KNOWN_FEATURES != 0, UNKNOWN_FEATURES),
        )
        yield from absurd_capacity(header.capacity_bytes)
        yield from self._layout_dangers()

    def _layout_dangers(self) -> Iterator[str]:
        header = self._header
        cluster_bytes = header.cluster_bytes
        table_entries = header.table_clusters * cluster_bytes // _ENTRY_BYTES
        yield from broken(
            (
                not is_power_of_two(cluster_bytes)
                or not _MIN_CLUSTER_BYTES <= cluster_bytes <= _MAX_CLUSTER_BYTES,
                MALFORMED_HEADER,
            ),
            (
                not is_power_of_two(header.table_clusters)
                or header.table_clusters > _MAX_TABLE_CLUSTERS,
                MALFORMED_HEADER,
            ),
            (header.header_clusters == 0, MALFORMED_HEADER),
            (header.l1_offset < header.header_clusters * cluster_bytes, MALFORMED_HEADER),
            (header.l1_offset % max(cluster_bytes, 1) != 0, MALFORMED_HEADER),
            (header.capacity_bytes % SECTOR_BYTES != 0, MALFORMED_HEADER),
            (
                header.capacity_bytes > table_entries**2 * cluster_bytes,
                "the tables are too small for the disk inside",
            ),
        )

    def _parts(self) -> Iterator[Part]:
        header = self._header
        yield Part("L1 table", header.l1_offset + header.table_clusters * header.cluster_bytes)
