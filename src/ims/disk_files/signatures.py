"""Tells by its first bytes what a file announces itself to be."""

import re
import string
from enum import StrEnum

from ims.domain.image import DiskFormat

_QCOW_MAGIC = b"QFI\xfb"
_BOOT_RECORD_MAGIC = (510, b"\x55\xaa")


class ForeignKind(StrEnum):
    """What is no disk format of ours, but announces itself as clearly."""

    LUKS = "LUKS"
    PARALLELS = "Parallels"
    BOCHS = "Bochs"
    CLOOP = "cloop"
    BOOT_RECORD = "boot record"
    """Only in company: a raw disk begins with one, no other file has reason to."""


Kind = DiskFormat | ForeignKind

_MAGICS: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"QED\0", DiskFormat.QED),
    (0, b"KDMV", DiskFormat.VMDK),
    (0, b"COWD", DiskFormat.VMDK),
    (0, b"conectix", DiskFormat.VHD),
    (0, b"vhdxfile", DiskFormat.VHDX),
    (0x40, b"\x7f\x10\xda\xbe", DiskFormat.VDI),
    (0x8001, b"CD001", DiskFormat.ISO),
    (0, b"LUKS\xba\xbe", ForeignKind.LUKS),
    (0, b"WithoutFreeSpace", ForeignKind.PARALLELS),
    (0, b"WithouFreSpacExt", ForeignKind.PARALLELS),
    (0, b"Bochs Virtual HD Image", ForeignKind.BOCHS),
    (0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop", ForeignKind.CLOOP),
)

# How readers recognise a VMDK descriptor: comments, then a version; or text with a createType.
_COMMENTS_THEN_VERSION = re.compile(rb"\s*+(?:#[^\n]*+\n\s*+)*+version\s*+=", re.IGNORECASE)
_TEXT_BYTES = 512
_CREATE_TYPE = re.compile(rb"createtype\s*+=", re.IGNORECASE)


def announced_kinds(head: bytes) -> tuple[Kind, ...]:
    """Return every kind that the first 64 KiB announce, each once; nothing for a raw disk."""
    kinds = dict.fromkeys(kind for offset, magic, kind in _MAGICS if head.startswith(magic, offset))
    if head.startswith(_QCOW_MAGIC):
        version = head[len(_QCOW_MAGIC) : 8]
        kinds[DiskFormat.QCOW if version == b"\0\0\0\1" else DiskFormat.QCOW2] = None
    if _is_vmdk_descriptor(head):
        kinds[DiskFormat.VMDK] = None
    # A hybrid ISO begins with a boot record on purpose, so that it also starts from a USB stick.
    boots = head.startswith(_BOOT_RECORD_MAGIC[1], _BOOT_RECORD_MAGIC[0])
    if boots and any(isinstance(k, DiskFormat) and k is not DiskFormat.ISO for k in kinds):
        kinds[ForeignKind.BOOT_RECORD] = None
    return tuple(sorted(kinds))


def _is_vmdk_descriptor(head: bytes) -> bool:
    if _COMMENTS_THEN_VERSION.match(head):
        return True
    is_text = not head[:_TEXT_BYTES].translate(None, string.printable.encode())
    return is_text and _CREATE_TYPE.search(head) is not None
