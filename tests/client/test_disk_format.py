"""Guessing what a disk file is."""

import pytest

from disk_files.makers import TINY_QCOW2, make_good_files
from ims.client import Disk, guess_format

CONTENTS = {
    "QCOW2, version 2": (b"QFI\xfb\0\0\0\2", Disk.QCOW2),
    "QCOW2, version 3": (b"QFI\xfb\0\0\0\3", Disk.QCOW2),
    "QCOW": (b"QFI\xfb\0\0\0\1", Disk.QCOW),
    "QED": (b"QED\0", Disk.QED),
    "VMDK": (b"KDMV\1\0\0\0", Disk.VMDK),
    "VMDK descriptor": (b"# Disk DescriptorFile\nversion=1\n", Disk.VMDK),
    "VHDX": (b"vhdxfile", Disk.VHDX),
    "VDI": (b"<<< Oracle VM VirtualBox >>>".ljust(0x40) + b"\x7f\x10\xda\xbe", Disk.VDI),
    "ISO": (bytes(0x8001) + b"CD001\1", Disk.ISO),
    "dynamic VHD": (b"conectix" + bytes(5000), Disk.VHD),
    "fixed VHD": (bytes(5000) + b"conectix".ljust(512, b"\0"), Disk.VHD),
    "fixed VHD, a byte short": (bytes(5000) + b"conectix".ljust(511, b"\0"), Disk.VHD),
}


@pytest.mark.parametrize(("content", "expected"), CONTENTS.values(), ids=CONTENTS)
def test_content_goes_before_the_name(tmp_path, content, expected):
    path = tmp_path / "disk.raw"
    path.write_bytes(content)

    assert guess_format(path) == expected


@pytest.mark.parametrize("suffix", ["qcow2", "qcow", "qed", "vmdk", "vhdx", "vhd", "vdi", "iso"])
def test_a_name_tells_what_content_does_not(tmp_path, suffix):
    path = tmp_path / f"disk.{suffix.upper()}"
    path.write_bytes(b"no magic")

    assert guess_format(path) == Disk.Format.Value(suffix.upper())


@pytest.mark.parametrize("name", ["disk", "disk.raw", "disk.img", "disk.bin"])
@pytest.mark.parametrize(
    "content", [b"", b"x", bytes(100_000), b"conectix".rjust(5000)[:-8] + b"12345678"]
)
def test_anything_else_is_raw(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)

    assert guess_format(path) == Disk.RAW


def test_what_tools_make_is_recognised(tmp_path):
    files = make_good_files(tmp_path)

    assert {file.name: Disk.Format.Name(guess_format(file.path)) for file in files} == {
        file.name: file.format for file in files
    }
    assert guess_format(TINY_QCOW2) == Disk.QCOW2


def test_a_file_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        guess_format(tmp_path / "nothing.iso")
