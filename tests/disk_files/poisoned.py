"""Disk files whose headers are sound, and whose tables are not: what only a conversion meets.

All are made of the sound files of the makers, or of good ones that were cut short.
"""

import struct
import zlib
from dataclasses import dataclass

from disk_files.makers import (
    CAPACITY,
    KIB,
    MIB,
    SECTOR,
    dynamic_vhd,
    fixed_vhd,
    qcow,
    qcow2,
    qed,
    raw,
    stream_vmdk,
    vdi,
    vhdx,
    vmdk,
    vmdk_descriptor,
)
from ims.domain.image import DiskFormat

BEYOND = 2**40
COPIED = 1 << 63
COMPRESSED = 1 << 62
ZERO = 1


@dataclass(frozen=True)
class PoisonedFile:
    """A file that the inspection lets through, or not; a conversion must survive it either way."""

    name: str
    format: DiskFormat
    content: bytes


def _at(content: bytes, place: int, patch: bytes) -> bytes:
    padded = content.ljust(place + len(patch), b"\0")
    return padded[:place] + patch + padded[place + len(patch) :]


def _all(entry: int, count: int, layout: str = ">Q") -> bytes:
    return struct.pack(layout, entry) * count


# --- QCOW2: of clusters of 512 bytes, the fourth is the L1 table; the fifth and so on are added ---

_L1 = 3 * 512
_FIFTH = 4 * 512
_SIXTH = 5 * 512


def _qcow2(l1: int, *clusters: bytes, **changes: object) -> bytes:
    content = _at(qcow2(**changes), _L1, _all(l1, 8))
    for number, cluster in enumerate(clusters):
        content = _at(content, _FIFTH + number * 512, cluster.ljust(512, b"\0"))
    return content


def _qcow2_large(l2_entry: int, *, capacity_bytes: int) -> bytes:
    """Return a file of 448 KiB whose tables all say the same, however large the disk."""
    cluster = 64 * KIB
    entries = capacity_bytes // (cluster * 8192)
    header = qcow2(
        cluster_bits=16,
        capacity_bytes=capacity_bytes,
        l1_entries=entries,
        l1_offset=3 * cluster,
        refcount_table_offset=cluster,
    )[:512]
    content = _at(header, cluster, struct.pack(">Q", 2 * cluster))
    content = _at(content, 3 * cluster, _all(4 * cluster | COPIED, entries))
    content = _at(content, 4 * cluster, _all(l2_entry, 8192))
    return _at(content, 6 * cluster, b"bomb" * (cluster // 4))


_DATA_CLUSTER = 6 * 64 * KIB

_QCOW2 = {
    "its L1 table leads beyond its end": _qcow2(BEYOND | COPIED),
    "its L1 table leads between clusters": _qcow2((_FIFTH + 8) | COPIED),
    "its L1 table leads to itself": _qcow2(_L1 | COPIED),
    "its L1 table leads to its header": _qcow2(0 | COPIED),
    "its L1 table has reserved bits": _qcow2(_FIFTH | COPIED | 0b11),
    "its L2 table leads beyond its end": _qcow2(_FIFTH | COPIED, _all(BEYOND | COPIED, 64)),
    "its L2 table leads to itself": _qcow2(_FIFTH | COPIED, _all(_FIFTH | COPIED, 64)),
    "its L2 table leads to its header": _qcow2(_FIFTH | COPIED, _all(512 | COPIED, 64)),
    "its L2 table leads between clusters": _qcow2(_FIFTH | COPIED, _all((_SIXTH + 8) | COPIED, 64)),
    "its L2 table says zero": _qcow2(_FIFTH | COPIED, _all(ZERO, 64)),
    "its L2 table says zero and beyond": _qcow2(_FIFTH | COPIED, _all(BEYOND | COPIED | ZERO, 64)),
    "all of it is one cluster": _qcow2(_FIFTH | COPIED, _all(_SIXTH | COPIED, 64), b"one" * 170),
    "its compressed clusters are noise": _qcow2(
        _FIFTH, _all(_SIXTH | COMPRESSED, 64), b"\xff\x00noise" * 70
    ),
    "its compressed clusters are nowhere": _qcow2(_FIFTH, _all(BEYOND | COMPRESSED, 64)),
    "its compressed clusters have all bits": _qcow2(_FIFTH, _all(2**64 - 1, 64)),
    "its compressed clusters are bombs": _qcow2(
        _FIFTH, _all(_SIXTH | COMPRESSED, 64), zlib.compress(bytes(400 * KIB))[2:-4][:512]
    ),
    "its refcounts are noise": _at(qcow2(), 512, b"\xff" * 1024),
    "its refcounts are zero": _at(qcow2(), 512, bytes(1024)),
    "its snapshots are noise": _qcow2(0, b"\xff" * 512, snapshots=4, snapshots_offset=_FIFTH),
    "its snapshots have huge names": _qcow2(
        0,
        struct.pack(">QIHHIIQII", _L1, 32, 65535, 65535, 0, 0, 0, 0, 2**31) * 4,
        snapshots=9,
        snapshots_offset=_FIFTH,
    ),
    "it was not closed": qcow2(incompatible_features=1),
    "it has bitmaps of noise": qcow2(
        autoclear_features=1,
        extensions=struct.pack(">IIIIQQ", 0x23852875, 24, 65535, 0, 2**40, 2**50),
    ),
    "it has unknown autoclear features": qcow2(autoclear_features=2**64 - 2),
    "its L1 table is as large as can be": _at(
        qcow2(l1_entries=4 * MIB, capacity_bytes=128 * 1024 * MIB), _L1 + 32 * MIB - 8, bytes(8)
    ),
    "its L1 table is large and leads everywhere": _at(
        qcow2(l1_entries=MIB, capacity_bytes=32 * 1024 * MIB), _L1, _all(BEYOND | COPIED, MIB)
    ),
    "a bomb of a TiB": _qcow2_large(_DATA_CLUSTER | COPIED, capacity_bytes=2**40),
    "a bomb of 64 MiB over the limit": _qcow2_large(_DATA_CLUSTER | COPIED, capacity_bytes=2**29),
    "a TiB of zeros": _qcow2_large(ZERO, capacity_bytes=2**40),
    "a TiB that is its own table": _qcow2_large(4 * 64 * KIB | COPIED, capacity_bytes=2**40),
    "64 TiB": _qcow2_large(ZERO, capacity_bytes=2**46),
}

_QCOW = {
    "its L1 table leads beyond its end": _at(qcow(), 48, _all(BEYOND, 8)),
    "its L1 table leads to itself": _at(qcow(), 48, _all(48, 8)),
    "its L2 table leads to itself": _at(_at(qcow(), 48, _all(4096, 8)), 4096, _all(4096, 512)),
    "its compressed clusters are noise": _at(
        _at(qcow(), 48, _all(4096, 8)), 4096, _all(COPIED | 4096 | 1 << 51, 512)
    ),
    "a large disk without a cluster": _at(
        qcow(capacity_bytes=2**40, cluster_bits=16, l2_bits=13), 48 + 16 * KIB, b"\0"
    ),
}

_QED = {
    "its L1 table leads beyond its end": _at(qed(), 4096, _all(BEYOND, 1024, "<Q")),
    "its L1 table leads to itself": _at(qed(), 4096, _all(4096, 1024, "<Q")),
    "its L1 table leads between clusters": _at(qed(), 4096, _all(4097, 1024, "<Q")),
    "its L2 table leads to itself": _at(
        _at(qed(), 4096, _all(3 * 4096, 1024, "<Q")), 3 * 4096, _all(3 * 4096, 1024, "<Q")
    ),
    "its L2 table leads beyond its end": _at(
        _at(qed(), 4096, _all(3 * 4096, 1024, "<Q")), 3 * 4096, _all(BEYOND, 1024, "<Q")
    ),
    "it was not closed": qed(features=2),
}

_DIRECTORY = 21 * SECTOR
_TABLE = 22 * SECTOR


def _vmdk(table_sector: int, entry: int) -> bytes:
    return _at(_at(vmdk(), _DIRECTORY, _all(table_sector, 1, "<I")), _TABLE, _all(entry, 512, "<I"))


def _stream(grain: bytes, *, sector: int = 0, size: int | None = None) -> bytes:
    """Return a streamOptimized file with one grain at its 128th sector, whatever that says of itself."""
    marker = struct.pack("<QI", sector, len(grain) if size is None else size) + grain
    grain_bytes = marker.ljust(-(-len(marker) // SECTOR) * SECTOR, b"\0")
    start, rest = stream_vmdk()[: 128 * SECTOR], stream_vmdk()[128 * SECTOR :]
    table = struct.pack("<512I", 128, *[0] * 511)
    table_sector = 128 + len(grain_bytes) // SECTOR + 1
    directory = struct.pack("<QII", 1, 0, 2).ljust(SECTOR, b"\0")
    directory += struct.pack("<I", table_sector).ljust(SECTOR, b"\0")
    footer = stream_vmdk(directory_sector=table_sector + 4 + 1)[-2 * SECTOR :]
    marker_of_table = struct.pack("<QII", 4, 0, 1).ljust(SECTOR, b"\0")
    marker_of_footer = rest[2 * SECTOR : 3 * SECTOR]
    return start + grain_bytes + marker_of_table + table + directory + marker_of_footer + footer


_VMDK = {
    "its directory leads beyond its end": _vmdk(2**31, 0),
    "its directory leads to itself": _vmdk(21, 21),
    "its directory leads to its header": _vmdk(0, 0),
    "its tables lead beyond its end": _vmdk(22, 2**31),
    "its tables lead to its header": _vmdk(22, 1),
    "its tables say zero": _vmdk(22, 1),
    "its descriptor names strange files in comments": vmdk(
        descriptor=vmdk_descriptor(more=('# RW 16 FLAT "/etc/passwd" 0', 'ddb.uuid = "/etc/passwd"'))
    ),
    "a stream of noise": _stream(b"\x78\x9c" + b"\xff" * 500),
    "a stream that is none": _stream(b"nothing compressed"),
    "a stream that ends too soon": _stream(zlib.compress(bytes(64 * KIB))[:20]),
    "a stream that grows too large": _stream(zlib.compress(bytes(16 * MIB))),
    "a stream of another place": _stream(zlib.compress(bytes(64 * KIB)), sector=2**40),
    "a stream of a huge grain": _stream(zlib.compress(bytes(64 * KIB)), size=2**32 - 1),
    "a stream of an empty grain": _stream(b"", size=0),
}

_VDI = {
    "its block lies beyond its end": _at(vdi(blocks_allocated=1), 512, struct.pack("<I", 2**30)),
    "its block is the last that can be": _at(vdi(blocks_allocated=1), 512, struct.pack("<I", 2**32 - 3)),
    "its only block is missing": _at(vdi(blocks_allocated=1), 512, struct.pack("<I", 0)),
    "it says more blocks are there than are": vdi(blocks_allocated=2**32 - 1),
}

_VHD = {
    "its block lies beyond its end": _at(dynamic_vhd(), 1536, struct.pack(">I", 2**31)),
    "its block lies in its header": _at(dynamic_vhd(), 1536, struct.pack(">I", 0)),
    "its block lies in its table": _at(dynamic_vhd(), 1536, struct.pack(">I", 3)),
    "its table has more entries than it needs": dynamic_vhd(table_entries=100),
}

_VHDX = {
    "its block lies beyond its end": _at(vhdx(), 3 * MIB, struct.pack("<Q", (2**30 << 20) | 6)),
    "its block lies in its header": _at(vhdx(), 3 * MIB, struct.pack("<Q", 6)),
    "its block lies in its log": _at(vhdx(), 3 * MIB, struct.pack("<Q", (1 << 20) | 6)),
    "its block lies in its table": _at(vhdx(), 3 * MIB, struct.pack("<Q", (3 << 20) | 6)),
    "its blocks are in no known state": _at(vhdx(), 3 * MIB, struct.pack("<Q", 2**64 - 1)),
    "its log is noise": _at(vhdx(), MIB, b"loge" * 1000),
}

_RAW = {
    "it holds the header of another format further on": _at(raw(), 1024, qcow2()),
    "it is one byte": b"x",
    "it holds a description of other files": _at(raw(), 64 * KIB, vmdk_descriptor()),
    "it ends within a sector": raw() + b"x",
}

POISONED_FILES = tuple(
    PoisonedFile(f"{format_}: {name}", format_, content)
    for format_, files in (
        (DiskFormat.QCOW2, _QCOW2),
        (DiskFormat.QCOW, _QCOW),
        (DiskFormat.QED, _QED),
        (DiskFormat.VMDK, _VMDK),
        (DiskFormat.VDI, _VDI),
        (DiskFormat.VHD, _VHD),
        (DiskFormat.VHD, {"a fixed disk that is a footer only": fixed_vhd()[CAPACITY:]}),
        (DiskFormat.VHDX, _VHDX),
        (DiskFormat.RAW, _RAW),
    )
    for name, content in files.items()
)
