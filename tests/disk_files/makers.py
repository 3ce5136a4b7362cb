"""Makes disk files: good ones with the tools at hand, and sound or hostile ones byte by byte.

The functions named after formats return small sound files; each keyword changes one field of the
header, so that what is wrong with a hostile file is exactly what its line says.
"""

import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from ims.disk_files.vhdx import crc32c
from ims.domain.image import DiskFormat
from ims.domain.rejection import Reason

KIB = 1024
MIB = 1024 * KIB
SECTOR = 512

CAPACITY = 256 * KIB
"""Of the disks in the files that are written byte by byte."""

TINY_QCOW2 = Path(__file__).parent.parent / "data" / "tiny.qcow2"
TINY_QCOW2_CAPACITY = 8 * MIB


@dataclass(frozen=True)
class GoodFile:
    """A file that a real tool made, and what is inside."""

    name: str
    format: DiskFormat
    path: Path
    capacity_bytes: int


@dataclass(frozen=True)
class SoundFile:
    """A file written byte by byte that nothing is wrong with."""

    name: str
    format: DiskFormat
    content: bytes
    capacity_bytes: int = CAPACITY


@dataclass(frozen=True)
class HostileFile:
    """A file that must be refused, under which name it comes and why it is refused."""

    name: str
    declared: DiskFormat
    content: bytes
    reason: Reason


# --- sound files, byte by byte ---------------------------------------------------------------


def _packed(layout: str, fields: dict[str, object], changes: dict[str, object]) -> bytes:
    unknown = changes.keys() - fields.keys()
    if unknown:
        raise ValueError(f"no such fields: {unknown}")
    return struct.pack(layout, *(fields | changes).values())


def boot_record() -> bytes:
    """Return a master boot record with one Linux partition."""
    entry = struct.pack("<B3sB3sII", 0x80, b"\1\1\0", 0x83, b"\xfe\xff\xff", 1, 100)
    return bytes(446) + entry + bytes(48) + b"\x55\xaa"


def raw() -> bytes:
    return boot_record() + b"nothing in particular".ljust(CAPACITY - SECTOR, b"\0")


def qcow2(*, extensions: bytes = b"", **changes: object) -> bytes:
    """Return a QCOW2 file with clusters of 512 bytes: header, refcount table, its block, L1."""
    header = _packed(
        ">4sIQIIQIIQQIIQQQQIIB7x",
        {
            "magic": b"QFI\xfb",
            "version": 3,
            "backing_file_offset": 0,
            "backing_file_bytes": 0,
            "cluster_bits": 9,
            "capacity_bytes": CAPACITY,
            "encryption_method": 0,
            "l1_entries": 32,
            "l1_offset": 3 * 512,
            "refcount_table_offset": 1 * 512,
            "refcount_table_clusters": 1,
            "snapshots": 0,
            "snapshots_offset": 0,
            "incompatible_features": 0,
            "compatible_features": 0,
            "autoclear_features": 0,
            "refcount_order": 4,
            "header_bytes": 112,
            "compression_type": 0,
        },
        changes,
    )
    refcount_table = struct.pack(">Q", 2 * 512).ljust(512, b"\0")
    refcounts = struct.pack(">4H", 1, 1, 1, 1).ljust(512, b"\0")
    return (header + extensions).ljust(512, b"\0") + refcount_table + refcounts + bytes(512)


def qcow2_v2(**changes: object) -> bytes:
    content = qcow2(version=2, **changes)
    return content[:72] + bytes(512 - 72) + content[512:]


def qcow(**changes: object) -> bytes:
    header = _packed(
        ">4sIQIIQBBHIQ",
        {
            "magic": b"QFI\xfb",
            "version": 1,
            "backing_file_offset": 0,
            "backing_file_bytes": 0,
            "modified_seconds": 0,
            "capacity_bytes": CAPACITY,
            "cluster_bits": 12,
            "l2_bits": 9,
            "padding": 0,
            "encryption_method": 0,
            "l1_offset": 48,
        },
        changes,
    )
    return header.ljust(512, b"\0")


def qed(**changes: object) -> bytes:
    header = _packed(
        "<4sIIIQQQQQII",
        {
            "magic": b"QED\0",
            "cluster_bytes": 4096,
            "table_clusters": 2,
            "header_clusters": 1,
            "features": 0,
            "compatible_features": 0,
            "autoclear_features": 0,
            "l1_offset": 4096,
            "capacity_bytes": CAPACITY,
            "backing_file_offset": 0,
            "backing_file_bytes": 0,
        },
        changes,
    )
    return header.ljust(3 * 4096, b"\0")


def vdi(**changes: object) -> bytes:
    header = _packed(
        "<64sIIIII256sIIIIIIIQIIII16s16s16s16s",
        {
            "text": b"<<< Oracle VM VirtualBox Disk Image >>>\n",
            "signature": 0xBEDA107F,
            "version": 0x00010001,
            "header_bytes": 384,
            "kind": 1,
            "flags": 0,
            "description": b"",
            "block_map_offset": 512,
            "data_offset": 1024,
            "cylinders": 0,
            "heads": 0,
            "sectors": 0,
            "sector_bytes": 512,
            "unused": 0,
            "capacity_bytes": CAPACITY,
            "block_bytes": MIB,
            "block_extra_bytes": 0,
            "blocks": 1,
            "blocks_allocated": 0,
            "uuid": b"u" * 16,
            "snapshot_uuid": bytes(16),
            "linked_uuid": bytes(16),
            "parent_uuid": bytes(16),
        },
        changes,
    )
    return header.ljust(512, b"\0") + b"\xff\xff\xff\xff".ljust(512, b"\0")


def _checksummed(structure: bytes, offset: int) -> bytes:
    checksum = ~sum(structure) & 0xFFFFFFFF
    return structure[:offset] + struct.pack(">I", checksum) + structure[offset + 4 :]


def vhd_footer(**changes: object) -> bytes:
    """Return the footer of a fixed disk, its checksum right."""
    footer = _packed(
        ">8sIIQI4sI4sQQHBBII16sB427x",
        {
            "cookie": b"conectix",
            "features": 2,
            "version": 0x00010000,
            "dynamic_header_offset": 2**64 - 1,
            "modified_seconds": 0,
            "creator": b"win ",
            "creator_version": 0,
            "creator_os": b"Wi2k",
            "original_bytes": CAPACITY,
            "capacity_bytes": CAPACITY,
            "cylinders": 30,
            "heads": 4,
            "sectors": 17,
            "kind": 2,
            "checksum": 0,
            "uuid": b"u" * 16,
            "saved": 0,
        },
        changes,
    )
    return _checksummed(footer, 64)


def fixed_vhd(**changes: object) -> bytes:
    return raw() + vhd_footer(**changes)


def dynamic_vhd(*, table_entries: int = 1, table_offset: int = 1536, **changes: object) -> bytes:
    footer = vhd_footer(**{"kind": 3, "dynamic_header_offset": 512} | changes)
    dynamic = struct.pack(
        ">8sQQIIII",
        b"cxsparse",
        2**64 - 1,
        table_offset,
        0x00010000,
        table_entries,
        2 * MIB,
        0,
    ).ljust(1024, b"\0")
    table = b"\xff" * 512
    return footer + _checksummed(dynamic, 36) + table + footer


def _vhdx_checksummed(structure: bytes) -> bytes:
    return structure[:4] + struct.pack("<I", crc32c(structure)) + structure[8:]


def vhdx(
    *,
    capacity_bytes: int = CAPACITY,
    has_parent: bool = False,
    log_id: bytes = bytes(16),
    region_magic: bytes = b"regi",
    metadata_offset: int = 2 * MIB,
) -> bytes:
    """Return a VHDX file of 4 MiB: the log in its second, metadata in its third, table last."""
    content = bytearray(4 * MIB)
    content[: len(b"vhdxfile")] = b"vhdxfile"
    for offset, sequence in ((64 * KIB, 1), (128 * KIB, 2)):
        header = struct.pack(
            "<4sIQ16s16s16sHHIQ",
            *(b"head", 0, sequence, b"f" * 16, b"d" * 16, log_id, 0, 1, MIB, MIB),
        )
        content[offset : offset + 4096] = _vhdx_checksummed(header.ljust(4096, b"\0"))
    table = struct.pack("<4sIII", region_magic, 0, 2, 0)
    for id_, offset in (
        (UUID("2DC27766-F623-4200-9D64-115E9BFD4A08"), 3 * MIB),
        (UUID("8B7CA206-4790-4B9A-B8FE-575F050F886E"), metadata_offset),
    ):
        table += struct.pack("<16sQII", id_.bytes_le, offset, MIB, 1)
    table = _vhdx_checksummed(table.ljust(64 * KIB, b"\0"))
    for offset in (192 * KIB, 256 * KIB):
        content[offset : offset + len(table)] = table
    items = (
        ("CAA16737-FA36-4D43-B3B6-33F0AA44E76B", struct.pack("<II", MIB, 2 * has_parent)),
        ("2FA54224-CD1B-4876-B211-5DBED83BF4B8", struct.pack("<Q", capacity_bytes)),
        ("BECA12AB-B2E6-4523-93EF-C309E000C746", b"p" * 16),
        ("8141BF1D-A96F-4709-BA47-F233A8FAAB5F", struct.pack("<I", 512)),
        ("CDA348C7-445D-4471-9CC9-E9885251C556", struct.pack("<I", 512)),
    )
    metadata = struct.pack("<8sHH20x", b"metadata", 0, len(items))
    values = b""
    for id_, value in items:
        place = 64 * KIB + len(values)
        metadata += struct.pack("<16sIII4x", UUID(id_).bytes_le, place, len(value), 4)
        values += value
    metadata = metadata.ljust(64 * KIB, b"\0") + values
    content[2 * MIB : 2 * MIB + len(metadata)] = metadata
    return bytes(content)


_VMDK_LAYOUT = "<4sIIQQQQIQQQB4sH"
_VMDK_FIELDS: dict[str, object] = {
    "magic": b"KDMV",
    "version": 1,
    "flags": 1,
    "capacity_sectors": CAPACITY // SECTOR,
    "grain_sectors": 128,
    "descriptor_sector": 1,
    "descriptor_sectors": 20,
    "table_entries": 512,
    "redundant_directory_sector": 0,
    "directory_sector": 21,
    "data_sector": 128,
    "unclean": 0,
    "line_ends": b"\n \r\n",
    "compression": 0,
}
_VMDK_EXTENT = f'RW {CAPACITY // SECTOR} SPARSE "disk.vmdk"'


def vmdk_descriptor(
    *,
    kind: str = "monolithicSparse",
    extents: tuple[str, ...] = (_VMDK_EXTENT,),
    parent_id: str = "ffffffff",
    more: tuple[str, ...] = (),
) -> bytes:
    lines = (
        "# Disk DescriptorFile",
        "version=1",
        "CID=01234567",
        f"parentCID={parent_id}",
        f'createType="{kind}"',
        *more,
        "",
        "# Extent description",
        *extents,
        "",
        "# The Disk Data Base",
        "#DDB",
        "",
        'ddb.adapterType = "ide"',
    )
    return "\n".join(lines).encode() + b"\n"


def vmdk(*, descriptor: bytes | None = None, **changes: object) -> bytes:
    header = _packed(_VMDK_LAYOUT, _VMDK_FIELDS, changes).ljust(SECTOR, b"\0")
    text = (vmdk_descriptor() if descriptor is None else descriptor).ljust(20 * SECTOR, b"\0")
    return (header + text).ljust(128 * SECTOR, b"\0")


def stream_vmdk(*, end: bytes = b"", **footer_changes: object) -> bytes:
    """Return a streamOptimized file without a grain; the keywords change its footer only."""
    stream = {"version": 3, "flags": 0x30001, "compression": 1, "directory_sector": 2**64 - 1}
    descriptor = vmdk_descriptor(kind="streamOptimized")
    start = vmdk(descriptor=descriptor, **stream)
    directory = struct.pack("<QII", 1, 0, 2).ljust(SECTOR, b"\0") + bytes(SECTOR)
    footer_marker = struct.pack("<QII", 1, 0, 3).ljust(SECTOR, b"\0")
    footer = _packed(
        _VMDK_LAYOUT, _VMDK_FIELDS, stream | {"directory_sector": 129} | footer_changes
    ).ljust(SECTOR, b"\0")
    return start + directory + footer_marker + footer + bytes(SECTOR) + end


def iso(*, system_area: bytes = b"", blocks: int = 18, block_bytes: int = 2048, kind: int = 1) -> bytes:
    """Return an ISO 9660 volume of 36 KiB that holds nothing."""
    descriptor = bytearray(2048)
    descriptor[:7] = bytes([kind]) + b"CD001\1"
    descriptor[80:88] = struct.pack("<I", blocks) + struct.pack(">I", blocks)
    descriptor[128:132] = struct.pack("<H", block_bytes) + struct.pack(">H", block_bytes)
    terminator = b"\xffCD001\1".ljust(2048, b"\0")
    return system_area.ljust(32 * KIB, b"\0") + bytes(descriptor) + terminator


def luks() -> bytes:
    return b"LUKS\xba\xbe\0\1aes".ljust(64 * KIB, b"\0")


def sound_files() -> tuple[SoundFile, ...]:
    """Return a file of every format and variant, made without any tool."""
    iso_bytes = len(iso())
    return (
        SoundFile("raw", DiskFormat.RAW, raw()),
        SoundFile("qcow2 version 3", DiskFormat.QCOW2, qcow2()),
        SoundFile("qcow2 version 2", DiskFormat.QCOW2, qcow2_v2()),
        SoundFile("qcow", DiskFormat.QCOW, qcow()),
        SoundFile("qed", DiskFormat.QED, qed()),
        SoundFile("vdi", DiskFormat.VDI, vdi()),
        SoundFile("dynamic vhd", DiskFormat.VHD, dynamic_vhd()),
        SoundFile("fixed vhd", DiskFormat.VHD, fixed_vhd()),
        SoundFile("vhdx", DiskFormat.VHDX, vhdx()),
        SoundFile("monolithicSparse vmdk", DiskFormat.VMDK, vmdk()),
        SoundFile("streamOptimized vmdk", DiskFormat.VMDK, stream_vmdk()),
        SoundFile("iso", DiskFormat.ISO, iso(), iso_bytes),
        SoundFile("hybrid iso", DiskFormat.ISO, iso(system_area=boot_record()), iso_bytes),
    )


# --- hostile files ---------------------------------------------------------------------------


def _unsafe(name: str, declared: DiskFormat, content: bytes) -> HostileFile:
    return HostileFile(name, declared, content, Reason.UNSAFE_IMAGE_FILE)


def _mismatched(name: str, declared: DiskFormat, content: bytes) -> HostileFile:
    return HostileFile(name, declared, content, Reason.FORMAT_MISMATCH)


def _qcow2_extension(kind: int, value: bytes) -> bytes:
    return struct.pack(">II", kind, len(value)) + value.ljust(-(-len(value) // 8) * 8, b"\0")


_PASSWD_EXTENT = 'RW 16 FLAT "/etc/passwd" 0'
_TWO_EXTENTS = ('RW 1024 SPARSE "a.vmdk"', 'RW 1024 SPARSE "b.vmdk"')

_REACHING_OUTSIDE = (
    _unsafe(
        "qcow2 with a backing file",
        DiskFormat.QCOW2,
        qcow2(extensions=bytes(144) + b"/etc/passwd", backing_file_offset=256, backing_file_bytes=11),
    ),
    _unsafe(
        "qcow2 version 2 with a backing file",
        DiskFormat.QCOW2,
        qcow2_v2(backing_file_offset=256, backing_file_bytes=11),
    ),
    _unsafe("qcow2 with an external data file", DiskFormat.QCOW2, qcow2(incompatible_features=1 << 2)),
    _unsafe(
        "qcow2 with the name of an external data file",
        DiskFormat.QCOW2,
        qcow2(extensions=_qcow2_extension(0x44415441, b"/etc/passwd")),
    ),
    _unsafe(
        "qcow with a backing file",
        DiskFormat.QCOW,
        qcow(backing_file_offset=64, backing_file_bytes=11),
    ),
    _unsafe(
        "qed with a backing file",
        DiskFormat.QED,
        qed(features=1, backing_file_offset=64, backing_file_bytes=11),
    ),
    _unsafe(
        "vmdk text descriptor",
        DiskFormat.VMDK,
        vmdk_descriptor(kind="twoGbMaxExtentSparse"),
    ),
    _unsafe(
        "vmdk text descriptor behind comments",
        DiskFormat.VMDK,
        b"# nothing\n" * 500 + b'version=1\nRW 16 FLAT "/etc/passwd" 0\n',
    ),
    _unsafe(
        "vmdk text descriptor with a flat extent",
        DiskFormat.VMDK,
        vmdk_descriptor(kind="monolithicFlat", extents=(_PASSWD_EXTENT,)),
    ),
    _unsafe(
        "sparse vmdk with a flat extent",
        DiskFormat.VMDK,
        vmdk(descriptor=vmdk_descriptor(extents=(_PASSWD_EXTENT,))),
    ),
    _unsafe(
        "sparse vmdk that calls itself flat",
        DiskFormat.VMDK,
        vmdk(descriptor=vmdk_descriptor(kind="monolithicFlat")),
    ),
    _unsafe(
        "sparse vmdk with an extent elsewhere",
        DiskFormat.VMDK,
        vmdk(descriptor=vmdk_descriptor(extents=(f'RW {CAPACITY // SECTOR} SPARSE "/srv/other.vmdk"',))),
    ),
    _unsafe(
        "sparse vmdk with two extents",
        DiskFormat.VMDK,
        vmdk(descriptor=vmdk_descriptor(extents=_TWO_EXTENTS)),
    ),
    _unsafe(
        "sparse vmdk with the name of a parent",
        DiskFormat.VMDK,
        vmdk(descriptor=vmdk_descriptor(more=('parentFileNameHint="/etc/passwd"',))),
    ),
    _unsafe(
        "sparse vmdk with a parent behind the end of its descriptor",
        DiskFormat.VMDK,
        vmdk(descriptor=vmdk_descriptor() + b'\0parentFileNameHint="/etc/passwd"'),
    ),
    _unsafe(
        "sparse vmdk with the id of a parent",
        DiskFormat.VMDK,
        vmdk(descriptor=vmdk_descriptor(parent_id="01234567")),
    ),
    _unsafe("differencing vhd", DiskFormat.VHD, dynamic_vhd(kind=4)),
    _unsafe("vdi with a parent", DiskFormat.VDI, vdi(parent_uuid=b"p" * 16)),
    _unsafe("differencing vdi", DiskFormat.VDI, vdi(kind=4)),
)

_ENCRYPTED = (
    _unsafe("qcow2 with AES", DiskFormat.QCOW2, qcow2(encryption_method=1)),
    _unsafe("qcow2 with LUKS inside", DiskFormat.QCOW2, qcow2(encryption_method=2)),
    _unsafe(
        "qcow2 with the place of an encryption header",
        DiskFormat.QCOW2,
        qcow2(extensions=_qcow2_extension(0x0537BE77, bytes(16))),
    ),
    _unsafe("qcow with AES", DiskFormat.QCOW, qcow(encryption_method=1)),
    _unsafe(
        "vmdk with keys",
        DiskFormat.VMDK,
        vmdk(descriptor=vmdk_descriptor(more=('encryptionKeys="vmware:key/list"',))),
    ),
)

_TRUNCATED = (
    _unsafe("truncated qcow2 header", DiskFormat.QCOW2, qcow2()[:60]),
    _unsafe("qcow2 of four bytes", DiskFormat.QCOW2, b"QFI\xfb"),
    _unsafe("truncated qcow header", DiskFormat.QCOW, qcow()[:30]),
    _unsafe("truncated qed header", DiskFormat.QED, qed()[:40]),
    _unsafe("truncated vmdk header", DiskFormat.VMDK, vmdk()[:70]),
    _unsafe("truncated vmdk descriptor", DiskFormat.VMDK, vmdk()[:700]),
    _unsafe("truncated vmdk tables", DiskFormat.VMDK, vmdk()[: 21 * SECTOR]),
    _unsafe("truncated vmdk stream", DiskFormat.VMDK, stream_vmdk()[:-SECTOR]),
    _unsafe("truncated vhd header", DiskFormat.VHD, dynamic_vhd()[:700]),
    _unsafe("vhd without its footer", DiskFormat.VHD, dynamic_vhd()[:-SECTOR]),
    _mismatched("fixed vhd without its footer", DiskFormat.VHD, fixed_vhd()[: 64 * KIB]),
    _unsafe("fixed vhd without its start", DiskFormat.VHD, fixed_vhd()[-64 * KIB :]),
    _unsafe("truncated vhdx signature", DiskFormat.VHDX, vhdx()[:100]),
    _unsafe("truncated vhdx headers", DiskFormat.VHDX, vhdx()[: 200 * KIB]),
    _unsafe("vhdx without its metadata", DiskFormat.VHDX, vhdx()[: 512 * KIB]),
    _unsafe("truncated vdi header", DiskFormat.VDI, vdi()[:100]),
    _unsafe("vdi without its blocks", DiskFormat.VDI, vdi(blocks_allocated=1)),
    _unsafe("truncated iso descriptor", DiskFormat.ISO, iso()[: 32 * KIB + 100]),
    _unsafe("truncated iso volume", DiskFormat.ISO, iso(blocks=19)),
)

_ABSURD = (
    _unsafe("qcow2 of no size", DiskFormat.QCOW2, qcow2(capacity_bytes=0)),
    _unsafe("qcow2 of 2^63 bytes", DiskFormat.QCOW2, qcow2(capacity_bytes=2**63)),
    _unsafe("qcow2 larger than its tables", DiskFormat.QCOW2, qcow2(capacity_bytes=2 * MIB)),
    _unsafe("qcow of 2^63 bytes", DiskFormat.QCOW, qcow(capacity_bytes=2**63)),
    _unsafe("qed of no size", DiskFormat.QED, qed(capacity_bytes=0)),
    _unsafe("qed of 2^63 bytes", DiskFormat.QED, qed(capacity_bytes=2**63)),
    _unsafe("vmdk of no size", DiskFormat.VMDK, vmdk(capacity_sectors=0)),
    _unsafe("vmdk of 2^63 sectors", DiskFormat.VMDK, vmdk(capacity_sectors=2**63)),
    _unsafe("vmdk larger than its descriptor says", DiskFormat.VMDK, vmdk(capacity_sectors=4096)),
    _unsafe("vhd of 2^63 bytes", DiskFormat.VHD, dynamic_vhd(capacity_bytes=2**63)),
    _unsafe("vhd larger than its table", DiskFormat.VHD, dynamic_vhd(capacity_bytes=4 * MIB)),
    _unsafe("fixed vhd of another size", DiskFormat.VHD, fixed_vhd(capacity_bytes=2 * MIB)),
    _unsafe("vdi of no size", DiskFormat.VDI, vdi(capacity_bytes=0)),
    _unsafe("vdi of 2^64 - 1 bytes", DiskFormat.VDI, vdi(capacity_bytes=2**64 - 1)),
    _unsafe("vdi larger than its block map", DiskFormat.VDI, vdi(capacity_bytes=2 * MIB)),
)

_MALFORMED = (
    _unsafe("qcow2 of version 9", DiskFormat.QCOW2, qcow2(version=9)),
    _unsafe("qcow2 with an unknown feature", DiskFormat.QCOW2, qcow2(incompatible_features=1 << 5)),
    _unsafe(
        "qcow2 with the last unknown feature",
        DiskFormat.QCOW2,
        qcow2(incompatible_features=1 << 63),
    ),
    _unsafe("qcow2 marked corrupt", DiskFormat.QCOW2, qcow2(incompatible_features=1 << 1)),
    _unsafe(
        "qcow2 with an unknown compression",
        DiskFormat.QCOW2,
        qcow2(incompatible_features=1 << 3, compression_type=7),
    ),
    _unsafe("qcow2 with a short header length", DiskFormat.QCOW2, qcow2(header_bytes=8)),
    _unsafe("qcow2 with a long header length", DiskFormat.QCOW2, qcow2(header_bytes=2**32 - 8)),
    _unsafe(
        "qcow2 with an endless extension",
        DiskFormat.QCOW2,
        qcow2(extensions=struct.pack(">II", 0x6803F857, 2**32 - 1)),
    ),
    _unsafe("qcow2 without clusters", DiskFormat.QCOW2, qcow2(cluster_bits=0)),
    _unsafe("qcow2 with huge clusters", DiskFormat.QCOW2, qcow2(cluster_bits=2**32 - 1)),
    _unsafe("qcow2 with its L1 table outside", DiskFormat.QCOW2, qcow2(l1_offset=2**40)),
    _unsafe("qcow2 with its L1 table in its header", DiskFormat.QCOW2, qcow2(l1_offset=0)),
    _unsafe("qcow2 with its refcounts outside", DiskFormat.QCOW2, qcow2(refcount_table_offset=2**40)),
    _unsafe(
        "qcow2 with its snapshots outside",
        DiskFormat.QCOW2,
        qcow2(snapshots=1, snapshots_offset=2**40),
    ),
    _unsafe("qcow with its L1 table outside", DiskFormat.QCOW, qcow(l1_offset=2**40)),
    _unsafe("qcow with huge clusters", DiskFormat.QCOW, qcow(cluster_bits=255, l2_bits=255)),
    _unsafe("qed with an unknown feature", DiskFormat.QED, qed(features=1 << 7)),
    _unsafe("qed with odd clusters", DiskFormat.QED, qed(cluster_bytes=5000)),
    _unsafe("qed without clusters", DiskFormat.QED, qed(cluster_bytes=0)),
    _unsafe("qed with its L1 table outside", DiskFormat.QED, qed(l1_offset=2**40)),
    _unsafe("vmdk of version 9", DiskFormat.VMDK, vmdk(version=9)),
    _unsafe("vmdk without a descriptor", DiskFormat.VMDK, vmdk(descriptor_sectors=0)),
    _unsafe("vmdk with its descriptor elsewhere", DiskFormat.VMDK, vmdk(descriptor_sector=2)),
    _unsafe(
        "vmdk with a descriptor of no ASCII",
        DiskFormat.VMDK,
        vmdk(descriptor=vmdk_descriptor() + b"\xff\xfe"),
    ),
    _unsafe("vmdk mangled as text", DiskFormat.VMDK, vmdk(line_ends=b"\n \n\n")),
    _unsafe("vmdk without grains", DiskFormat.VMDK, vmdk(grain_sectors=0, table_entries=0)),
    _unsafe("vmdk with its tables outside", DiskFormat.VMDK, vmdk(directory_sector=2**40)),
    _unsafe("old kind of vmdk", DiskFormat.VMDK, b"COWD".ljust(4096, b"\0")),
    _unsafe(
        "vmdk stream with another capacity in its footer",
        DiskFormat.VMDK,
        stream_vmdk(capacity_sectors=1 << 30),
    ),
    _unsafe(
        "vmdk stream with another descriptor in its footer",
        DiskFormat.VMDK,
        stream_vmdk(descriptor_sector=100),
    ),
    _unsafe(
        "vmdk stream whose footer names another footer",
        DiskFormat.VMDK,
        stream_vmdk(directory_sector=2**64 - 1),
    ),
    _unsafe("vmdk stream that goes on", DiskFormat.VMDK, stream_vmdk(end=bytes(SECTOR))),
    _unsafe("vhd of an unknown kind", DiskFormat.VHD, dynamic_vhd(kind=9)),
    _unsafe("vhd with its table outside", DiskFormat.VHD, dynamic_vhd(table_offset=2**40)),
    _unsafe(
        "vhd with another footer",
        DiskFormat.VHD,
        dynamic_vhd()[:-SECTOR] + vhd_footer(kind=3, capacity_bytes=2 * MIB),
    ),
    _unsafe("vhd with a wrong checksum", DiskFormat.VHD, dynamic_vhd().replace(b"win ", b"vpc ")),
    _unsafe("fixed vhd with a wrong checksum", DiskFormat.VHD, fixed_vhd().replace(b"win ", b"vpc ")),
    _unsafe("vhdx without regions", DiskFormat.VHDX, vhdx(region_magic=b"none")[: 320 * KIB]),
    _unsafe(
        "vhdx with its metadata in its header",
        DiskFormat.VHDX,
        vhdx(metadata_offset=128 * KIB)[: 320 * KIB],
    ),
    _unsafe("vhdx of unapplied changes", DiskFormat.VHDX, vhdx(log_id=b"l" * 16)[: 320 * KIB]),
    _unsafe("vdi of version 9", DiskFormat.VDI, vdi(version=9)),
    _unsafe("vdi with bad geometry", DiskFormat.VDI, vdi(sector_bytes=4096)),
    _unsafe("vdi with odd blocks", DiskFormat.VDI, vdi(block_bytes=MIB + 1)),
    _unsafe("vdi with its block map outside", DiskFormat.VDI, vdi(block_map_offset=2**31)),
    _unsafe("iso with odd blocks", DiskFormat.ISO, iso(block_bytes=3)),
    _unsafe("iso without a primary descriptor", DiskFormat.ISO, iso(kind=0)),
    _unsafe("empty file called raw", DiskFormat.RAW, b""),
)

_POLYGLOTS = (
    _unsafe("iso and qcow2, called iso", DiskFormat.ISO, iso(system_area=qcow2())),
    _unsafe("iso and qcow2, called qcow2", DiskFormat.QCOW2, iso(system_area=qcow2())),
    _unsafe("iso and vmdk", DiskFormat.ISO, iso(system_area=vmdk()[: 32 * KIB])),
    _unsafe("iso and vmdk text descriptor", DiskFormat.ISO, iso(system_area=vmdk_descriptor())),
    _unsafe("qcow2 and vdi", DiskFormat.QCOW2, qcow2()[:64] + vdi()[64:68] + qcow2()[68:]),
    _unsafe("qcow2 and boot record", DiskFormat.QCOW2, qcow2()[:510] + b"\x55\xaa" + qcow2()[512:]),
    _unsafe(
        "qcow2 and fixed vhd",
        DiskFormat.QCOW2,
        qcow2() + vhd_footer(capacity_bytes=len(qcow2())),
    ),
)

_MISNAMED = (
    _mismatched("text called qcow2", DiskFormat.QCOW2, b"I am a disk, believe me.\n"),
    _mismatched("one byte called qcow2", DiskFormat.QCOW2, b"Q"),
    _mismatched("raw called qcow2", DiskFormat.QCOW2, raw()[: 64 * KIB]),
    _mismatched("raw called iso", DiskFormat.ISO, raw()[: 64 * KIB]),
    _mismatched("raw called vhd", DiskFormat.VHD, raw()[: 64 * KIB]),
    _mismatched("qcow2 called raw", DiskFormat.RAW, qcow2()),
    _mismatched("qcow called qcow2", DiskFormat.QCOW2, qcow()),
    _mismatched("iso called qcow2", DiskFormat.QCOW2, iso()),
    _mismatched("hybrid iso called raw", DiskFormat.RAW, iso(system_area=boot_record())),
    _mismatched(
        "fixed vhd called raw", DiskFormat.RAW, bytes(SECTOR) + vhd_footer(capacity_bytes=SECTOR)
    ),
    _mismatched("vhdx called vhd", DiskFormat.VHD, vhdx()[: 320 * KIB]),
    _mismatched("luks called raw", DiskFormat.RAW, luks()),
    _mismatched("parallels called raw", DiskFormat.RAW, b"WithoutFreeSpace".ljust(4096, b"\0")),
)

HOSTILE_FILES: tuple[HostileFile, ...] = (
    *_REACHING_OUTSIDE,
    *_ENCRYPTED,
    *_TRUNCATED,
    *_ABSURD,
    *_MALFORMED,
    *_POLYGLOTS,
    *_MISNAMED,
)
"""All of them at most some hundred KiB, with names that are unique."""


# --- good files, made by real tools ----------------------------------------------------------

GOOD_CAPACITY = 4 * MIB


@dataclass(frozen=True)
class _Recipe:
    name: str
    format: DiskFormat
    tool: str
    make: Callable[[Path, Path], object]
    """Makes a file at the second path of the raw disk at the first."""


def run(*command: str | Path) -> str:
    """Run a tool and return what it prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _converted(format_: str, *options: str) -> Callable[[Path, Path], object]:
    def make(disk: Path, path: Path) -> None:
        run("qemu-img", "convert", "-f", "raw", "-O", format_, *options, disk, path)

    return make


def _with_snapshot(disk: Path, path: Path) -> None:
    _converted("qcow2")(disk, path)
    run("qemu-img", "snapshot", "-c", "first", path)


def _mastered(disk: Path, path: Path) -> None:
    folder = path.with_suffix(".files")
    folder.mkdir()
    shutil.copy(disk, folder / "disk")
    run("genisoimage", "-quiet", "-J", "-R", "-V", "TEST", "-o", path, folder)


def _hybrid(disk: Path, path: Path) -> None:
    _mastered(disk, path)
    with path.open("r+b") as file:
        file.write(boot_record())


_Q = "qemu-img"
_RECIPES = (
    _Recipe("raw", DiskFormat.RAW, "", shutil.copy),
    _Recipe("qcow2-v2", DiskFormat.QCOW2, _Q, _converted("qcow2", "-o", "compat=0.10")),
    _Recipe("qcow2-v3", DiskFormat.QCOW2, _Q, _converted("qcow2")),
    _Recipe("qcow2-compressed", DiskFormat.QCOW2, _Q, _converted("qcow2", "-c")),
    _Recipe(
        "qcow2-zstd", DiskFormat.QCOW2, _Q, _converted("qcow2", "-c", "-o", "compression_type=zstd")
    ),
    _Recipe("qcow2-extended-l2", DiskFormat.QCOW2, _Q, _converted("qcow2", "-o", "extended_l2=on")),
    _Recipe("qcow2-small-clusters", DiskFormat.QCOW2, _Q, _converted("qcow2", "-o", "cluster_size=512")),
    _Recipe("qcow2-large-clusters", DiskFormat.QCOW2, _Q, _converted("qcow2", "-o", "cluster_size=2M")),
    _Recipe("qcow2-snapshot", DiskFormat.QCOW2, _Q, _with_snapshot),
    _Recipe("qcow", DiskFormat.QCOW, _Q, _converted("qcow")),
    _Recipe("qed", DiskFormat.QED, _Q, _converted("qed")),
    _Recipe("vdi", DiskFormat.VDI, _Q, _converted("vdi")),
    _Recipe("vdi-static", DiskFormat.VDI, _Q, _converted("vdi", "-o", "static=on")),
    _Recipe("vmdk-monolithic-sparse", DiskFormat.VMDK, _Q, _converted("vmdk")),
    _Recipe(
        "vmdk-stream-optimized",
        DiskFormat.VMDK,
        _Q,
        _converted("vmdk", "-o", "subformat=streamOptimized"),
    ),
    _Recipe("vpc-dynamic", DiskFormat.VHD, _Q, _converted("vpc", "-o", "force_size=on")),
    _Recipe("vpc-fixed", DiskFormat.VHD, _Q, _converted("vpc", "-o", "subformat=fixed,force_size=on")),
    _Recipe("vhdx", DiskFormat.VHDX, _Q, _converted("vhdx")),
    _Recipe("vhdx-fixed", DiskFormat.VHDX, _Q, _converted("vhdx", "-o", "subformat=fixed")),
    _Recipe("iso", DiskFormat.ISO, "genisoimage", _mastered),
    _Recipe("iso-hybrid", DiskFormat.ISO, "genisoimage", _hybrid),
)

GOOD_FILE_NAMES = tuple(recipe.name for recipe in _RECIPES)


def missing_tools() -> dict[str, str]:
    """Return the name of each good file that cannot be made here, and the tool it needs."""
    return {
        recipe.name: recipe.tool
        for recipe in _RECIPES
        if recipe.tool and shutil.which(recipe.tool) is None
    }


def make_good_files(folder: Path) -> list[GoodFile]:
    """Make every good file that the tools at hand can make; `missing_tools` names the rest.

    Each holds a boot record and a little data (an ISO: a file of that) on a disk of 4 MiB.
    """
    disk = folder / "disk.bin"
    disk.write_bytes((boot_record() + os.urandom(100 * KIB)).ljust(GOOD_CAPACITY, b"\0"))
    missing = missing_tools()
    files = []
    for recipe in _RECIPES:
        if recipe.name in missing:
            continue
        path = folder / recipe.name
        recipe.make(disk, path)
        capacity = path.stat().st_size if recipe.format is DiskFormat.ISO else GOOD_CAPACITY
        files.append(GoodFile(recipe.name, recipe.format, path, capacity))
    return files
