"""Guesses the format of a disk file, for people who do not say it; the service checks it in earnest."""

import os
from pathlib import Path
from typing import BinaryIO, Final

from ims.client.vocabulary import Disk, DiskFormat

_QCOW_MAGIC: Final = b"QFI\xfb"
_MAGICS: Final = (
    (0, b"QED\0", Disk.QED),
    (0, b"KDMV", Disk.VMDK),
    (0, b"# Disk DescriptorFile", Disk.VMDK),
    (0, b"vhdxfile", Disk.VHDX),
    (0, b"conectix", Disk.VHD),
    (0x40, b"\x7f\x10\xda\xbe", Disk.VDI),
    (0x8001, b"CD001", Disk.ISO),
)
_VHD_FOOTER: Final = b"conectix"
_VHD_FOOTER_BYTES: Final = 512
_SUFFIXES: Final = {
    ".qcow2": Disk.QCOW2,
    ".qcow": Disk.QCOW,
    ".qed": Disk.QED,
    ".vmdk": Disk.VMDK,
    ".vhdx": Disk.VHDX,
    ".vhd": Disk.VHD,
    ".vpc": Disk.VHD,
    ".vdi": Disk.VDI,
    ".iso": Disk.ISO,
}


def guess_format(path: Path) -> DiskFormat:
    """Return what a file's content announces, else what its name does, else RAW. Raises OSError."""
    with path.open("rb") as file:
        announced = _announced(file)
    if announced is not None:
        return announced
    return _SUFFIXES.get(path.suffix.lower(), Disk.RAW)


def _announced(file: BinaryIO) -> DiskFormat | None:
    head = file.read(0x8001 + 5)
    if head.startswith(_QCOW_MAGIC):
        return Disk.QCOW if head[4:8] == b"\0\0\0\1" else Disk.QCOW2
    for offset, magic, disk_format in _MAGICS:
        if head.startswith(magic, offset):
            return disk_format
    # A fixed VHD is a raw disk with a footer, which old tools wrote one byte short.
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(max(0, size_bytes - _VHD_FOOTER_BYTES))
    tail = file.read()
    return Disk.VHD if tail.startswith(_VHD_FOOTER) or tail.startswith(_VHD_FOOTER, 1) else None
