"""Examines QCOW2 (versions 2 and 3) and its ancestor QCOW (version 1)."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from oslo_utils.imageutils import format_inspector

from ims.disk_files.examiner import (
    BACKING_FILE,
    BLOCK_BYTES,
    ENCRYPTED,
    EXTERNAL_DATA_FILE,
    MALFORMED_HEADER,
    MIB,
    UNKNOWN_FEATURES,
    Examiner,
    Part,
    absurd_capacity,
    broken,
    divide_up,
)
from ims.disk_files.second_opinion import failed_checks

_ENTRY_BYTES = 8
_SNAPSHOT_ENTRY_BYTES = 40

# QCOW2, incompatible features
_CORRUPT = 1 << 1
_EXTERNAL_DATA = 1 << 2
_COMPRESSION_TYPE = 1 << 3
_EXTENDED_L2 = 1 << 4
_KNOWN_FEATURES = 0b11111

# QCOW2, header extensions
_END_OF_EXTENSIONS = 0
_ENCRYPTION_EXTENSION = 0x0537BE77
_DATA_FILE_EXTENSION = 0x44415441

_V2_HEADER_BYTES = 72
_V3_HEADER_BYTES = 104
_MIN_CLUSTER_BITS = 9
_MAX_CLUSTER_BITS = 21
_MAX_REFCOUNT_ORDER = 6
_MAX_L1_BYTES = 32 * MIB
_MAX_REFCOUNT_TABLE_BYTES = 8 * MIB
_MAX_SNAPSHOTS = 65536
_KNOWN_COMPRESSIONS = (0, 1)

# What OpenStack's checks find and we say in our words; the rest is told by name.
_SAID_BY_US = {
    "backing_file": BACKING_FILE,
    "data_file": EXTERNAL_DATA_FILE,
    "unknown_features": "",  # theirs does not know extended L2 entries; ours is exact
}


class _Qcow2Header(NamedTuple):
    magic: bytes
    version: int
    backing_file_offset: int
    backing_file_bytes: int
    cluster_bits: int
    capacity_bytes: int
    encryption_method: int
    l1_entries: int
    l1_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    snapshots: int
    snapshots_offset: int
    # version 3
    incompatible_features: int
    compatible_features: int
    autoclear_features: int
    refcount_order: int
    header_bytes: int
    compression_type: int


_QCOW2_STRUCT = struct.Struct(">4sIQIIQIIQQIIQQQQIIB")


class Qcow2Examiner(Examiner):
    """Examines QCOW2: the header, its extensions, and where its tables lie."""

    HEADER_BYTES = _V2_HEADER_BYTES

    def __init__(self, head: bytes) -> None:
        super().__init__(head)
        header = _Qcow2Header._make(_QCOW2_STRUCT.unpack_from(self._head))
        if header.version >= 3:  # noqa: PLR2004 - the format's version 3
            self._header_truncated = len(head) < _V3_HEADER_BYTES
        else:
            # In version 2 other things stand where version 3 has its features.
            header = header._replace(
                incompatible_features=0,
                refcount_order=4,
                header_bytes=_V2_HEADER_BYTES,
                compression_type=0,
            )
        if not header.incompatible_features & _COMPRESSION_TYPE:
            header = header._replace(compression_type=0)
        self._header = header
        # Bounded before it is used as an exponent and divided by: the field has 32 bits.
        bounded_bits = min(max(header.cluster_bits, _MIN_CLUSTER_BITS), _MAX_CLUSTER_BITS)
        self._cluster_bytes = 1 << bounded_bits

    @property
    def capacity_bytes(self) -> int:
        return self._header.capacity_bytes

    def _header_dangers(self) -> Iterator[str]:
        header = self._header
        if header.version not in (2, 3):
            yield "the version of the format is not known"
            return
        yield from broken(
            (header.backing_file_offset != 0, BACKING_FILE),
            (header.encryption_method != 0, ENCRYPTED),
        )
        yield from self._feature_dangers()
        yield from self._extension_dangers()
        yield from absurd_capacity(header.capacity_bytes)
        yield from self._layout_dangers()
        yield from self._second_opinion()

    def _feature_dangers(self) -> Iterator[str]:
        features = self._header.incompatible_features
        yield from broken(
            (features & _EXTERNAL_DATA != 0, EXTERNAL_DATA_FILE),
            (features & ~_KNOWN_FEATURES != 0, UNKNOWN_FEATURES),
            (self._header.compression_type not in _KNOWN_COMPRESSIONS, UNKNOWN_FEATURES),
            (features & _CORRUPT != 0, "the file is marked as corrupt"),
        )

    def _extension_dangers(self) -> Iterator[str]:
        position = self._header.header_bytes
        limit = min(self._cluster_bytes, BLOCK_BYTES)
        while position + 8 <= limit:
            kind, length = struct.unpack_from(">II", self._head, position)
            if kind == _END_OF_EXTENSIONS:
                return
            yield from broken(
                (kind == _ENCRYPTION_EXTENSION, ENCRYPTED),
                (kind == _DATA_FILE_EXTENSION, EXTERNAL_DATA_FILE),
            )
            position += 8 + divide_up(length, 8) * 8
        if position > limit:
            yield MALFORMED_HEADER

    def _layout_dangers(self) -> Iterator[str]:
        header = self._header
        cluster_bytes = self._cluster_bytes
        refcount_table_bytes = header.refcount_table_clusters * cluster_bytes
        yield from broken(
            (not _MIN_CLUSTER_BITS <= header.cluster_bits <= _MAX_CLUSTER_BITS, MALFORMED_HEADER),
            (header.refcount_order > _MAX_REFCOUNT_ORDER, MALFORMED_HEADER),
            (
                header.version == 3  # noqa: PLR2004 - the format's version 3
                and not _V3_HEADER_BYTES <= header.header_bytes <= cluster_bytes,
                MALFORMED_HEADER,
            ),
            (header.header_bytes % 8 != 0, MALFORMED_HEADER),
            (not self._may_begin_table(header.l1_offset), MALFORMED_HEADER),
            (not self._may_begin_table(header.refcount_table_offset), MALFORMED_HEADER),
            (not 0 < refcount_table_bytes <= _MAX_REFCOUNT_TABLE_BYTES, MALFORMED_HEADER),
            (header.l1_entries * _ENTRY_BYTES > _MAX_L1_BYTES, MALFORMED_HEADER),
            (header.snapshots > _MAX_SNAPSHOTS, MALFORMED_HEADER),
            (
                header.snapshots > 0 and not self._may_begin_table(header.snapshots_offset),
                MALFORMED_HEADER,
            ),
            (
                header.l1_entries < self._l1_entries_needed(),
                "the L1 table is too small for the disk inside",
            ),
        )

    def _may_begin_table(self, offset: int) -> bool:
        """Whether a table may lie there: at a cluster's beginning, behind the header's."""
        return offset > 0 and offset % self._cluster_bytes == 0

    def _l1_entries_needed(self) -> int:
        extended = self._header.incompatible_features & _EXTENDED_L2
        l2_entries = self._cluster_bytes // (2 * _ENTRY_BYTES if extended else _ENTRY_BYTES)
        return divide_up(self._header.capacity_bytes, self._cluster_bytes * l2_entries)

    def _second_opinion(self) -> Iterator[str]:
        inspector = format_inspector.QcowInspector()
        inspector.eat_chunk(self._head)
        for name in failed_checks(inspector):
            sentence = _SAID_BY_US.get(name, f"the file fails the safety check {name}")
            if sentence:
                yield sentence

    def _parts(self) -> Iterator[Part]:
        header = self._header
        yield Part("L1 table", header.l1_offset + header.l1_entries * _ENTRY_BYTES)
        yield Part(
            "refcount table",
            header.refcount_table_offset + header.refcount_table_clusters * self._cluster_bytes,
        )
        if header.snapshots:
            yield Part(
                "snapshot table",
                header.snapshots_offset + header.snapshots * _SNAPSHOT_ENTRY_BYTES,
            )


class _QcowHeader(NamedTuple):
    magic: bytes
    version: int
    backing_file_offset: int
    backing_file_bytes: int
    modified_seconds: int
    capacity_bytes: int
    cluster_bits: int
    l2_bits: int
    padding: int
    encryption_method: int
    l1_offset: int


_QCOW_STRUCT = struct.Struct(">4sIQIIQBBHIQ")
_QCOW_CLUSTER_BITS = range(9, 17)
_QCOW_L2_BITS = range(6, 14)


class QcowExaminer(Examiner):
    """Examines QCOW, version 1, of which no library here knows more than the name."""

    HEADER_BYTES = _QCOW_STRUCT.size

    def __init__(self, head: bytes) -> None:
        super().__init__(head)
        self._header = _QcowHeader._make(_QCOW_STRUCT.unpack_from(self._head))

    @property
    def capacity_bytes(self) -> int:
        return self._header.capacity_bytes

    def _header_dangers(self) -> Iterator[str]:
        header = self._header
        yield from broken(
            (header.backing_file_offset != 0 or header.backing_file_bytes != 0, BACKING_FILE),
            (header.encryption_method != 0, ENCRYPTED),
        )
        yield from absurd_capacity(header.capacity_bytes)
        yield from broken(
            (header.cluster_bits not in _QCOW_CLUSTER_BITS, MALFORMED_HEADER),
            (header.l2_bits not in _QCOW_L2_BITS, MALFORMED_HEADER),
            (header.l1_offset < self.HEADER_BYTES, MALFORMED_HEADER),
        )

    def _parts(self) -> Iterator[Part]:
        header = self._header
        l1_entries = divide_up(header.capacity_bytes, 1 << (header.cluster_bits + header.l2_bits))
        yield Part("L1 table", header.l1_offset + l1_entries * _ENTRY_BYTES)
