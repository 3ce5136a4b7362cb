"""The one disk of an OVA is taken out, and nothing else gets through."""

import io
import os
import struct
import tarfile
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from disk_files.makers import MIB, run, stream_vmdk
from ims.disk_files.ova import disk_in_ova
from ims.domain.rejection import Category, Reason, Rejection

BLOCK = 512
DISK = stream_vmdk()
OVF = b'<?xml version="1.0"?><Envelope/>'
END = bytes(2 * BLOCK)


def member(
    name: bytes = b"disk.vmdk",
    content: bytes = DISK,
    *,
    size: bytes | None = None,
    kind: bytes = b"0",
    magic: bytes = b"ustar\00000",
    link: bytes = b"",
    prefix: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """Return a member of a tar, byte by byte; what is wrong with it is what its keywords say."""
    header = struct.pack(
        "100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x",
        *(name, b"0000644\0", b"0000000\0", b"0000000\0"),
        b"%011o\0" % len(content) if size is None else size,
        *(b"00000000000\0", b" " * 8, kind, link, magic, b"", b"", b"0000000\0", b"0000000\0", prefix),
    )
    computed = b"%06o\0 " % sum(header) if checksum is None else checksum
    return header[:148] + computed + header[156:] + content + bytes(-len(content) % BLOCK)


OVF_MEMBER = member(b"machine.ovf", OVF)


def ova(*members: bytes, end: bytes = END) -> bytes:
    return b"".join([OVF_MEMBER, *members]) + end


def chunks(content: bytes, chunk_bytes: int) -> Iterator[bytes]:
    return (content[place : place + chunk_bytes] for place in range(0, len(content), chunk_bytes))


def taken(content: bytes, chunk_bytes: int = MIB) -> bytes:
    return b"".join(disk_in_ova(chunks(content, chunk_bytes)))


def made_by_library(format_: int, *names: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format_) as archive:
        for name in names:
            content = DISK if name.endswith("vmdk") else OVF
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


class TestGoodArchives:
    @pytest.mark.parametrize("chunk_bytes", [1, 7, 511, 512, 513, MIB])
    def test_the_disk_is_taken_however_the_archive_comes(self, chunk_bytes):
        content = ova(member(), member(b"machine.mf", b"SHA256(disk.vmdk)= 00"))

        assert taken(content, chunk_bytes) == DISK

    @pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])
    def test_archives_of_the_library_are_read(self, format_):
        content = made_by_library(format_, "machine.ovf", "machine.mf", "a disk-1.vmdk", "machine.nvram")

        assert taken(content) == DISK

    @pytest.mark.parametrize("format_", ["ustar", "gnu"])
    def test_archives_of_tar_are_read(self, tmp_path, format_):
        (tmp_path / "machine.ovf").write_bytes(OVF)
        (tmp_path / "Disk1.VMDK").write_bytes(DISK)
        names = ["machine.ovf", "Disk1.VMDK"]
        run("tar", "--format", format_, "-C", tmp_path, "-cf", tmp_path / "machine.ova", *names)

        assert taken((tmp_path / "machine.ova").read_bytes()) == DISK

    def test_a_large_size_may_be_written_in_its_fields_own_bytes(self):
        size = b"\x80" + len(DISK).to_bytes(11)

        assert taken(ova(member(size=size))) == DISK

    def test_zeros_may_follow(self):
        assert taken(ova(member(), end=bytes(20 * BLOCK))) == DISK

    def test_the_disk_is_not_held_in_memory(self):
        size = 64 * MIB

        def content() -> Iterator[bytes]:
            yield OVF_MEMBER
            yield member(content=b"", size=b"%011o\0" % size)
            for _ in range(64):
                yield bytes(MIB)
            yield END

        assert max(map(len, disk_in_ova(content()))) <= MIB
        assert sum(map(len, disk_in_ova(content()))) == size


HUGE = b"\x80" + (2**60).to_bytes(11)
HOSTILE = {
    "nothing": b"",
    "no archive": os.urandom(4 * BLOCK),
    "no description": member() + END,
    "the description is not the first": member() + OVF_MEMBER + END,
    "no disk": ova(),
    "two disks": ova(member(), member(b"disk2.vmdk")),
    "a disk of another format": ova(member(b"disk.qcow2")),
    "a disk and one of another format": ova(member(), member(b"disk.img")),
    "a compressed disk": ova(member(b"disk.vmdk.gz")),
    "a disk in parts": ova(member(b"disk.vmdk.000000000")),
    "a disk that is twice there": ova(member(), member()),
    "a name that is twice there": ova(member(b"a.mf", b"1"), member(b"A.MF", b"2"), member()),
    "an empty disk": ova(member(content=b"")),
    "a hard link": ova(member(kind=b"1", link=b"/etc/passwd", content=b"")),
    "a symbolic link": ova(member(kind=b"2", link=b"/etc/passwd", content=b"")),
    "a file with a link's target": ova(member(link=b"/etc/passwd")),
    "a character device": ova(member(kind=b"3", content=b"")),
    "a block device": ova(member(kind=b"4", content=b"")),
    "a folder": ova(member(b"folder", kind=b"5", content=b""), member()),
    "a pipe": ova(member(kind=b"6", content=b"")),
    "a contiguous file": ova(member(kind=b"7")),
    "a sparse file": ova(member(kind=b"S")),
    "a long name": ova(member(b"././@LongLink", b"disk.vmdk\0", kind=b"L"), member()),
    "a long link": ova(member(b"././@LongLink", b"/etc/passwd\0", kind=b"K"), member()),
    "an extended header": ova(member(b"PaxHeader", b"18 size=99999999\n", kind=b"x"), member()),
    "an extended header for all": ova(member(b"PaxHeader", b"12 path=/x\n", kind=b"g"), member()),
    "a sparse file of an extended header": ova(
        member(b"PaxHeader", b"22 GNU.sparse.major=1\n", kind=b"x"), member()
    ),
    "a volume's label": ova(member(kind=b"V")),
    "an unknown kind": ova(member(kind=b"Z")),
    "a path": ova(member(b"a/disk.vmdk")),
    "an absolute path": ova(member(b"/disk.vmdk")),
    "a path upwards": ova(member(b"../disk.vmdk")),
    "a path of another system": ova(member(b"a\\disk.vmdk")),
    "a drive of another system": ova(member(b"c:disk.vmdk")),
    "a prefix": ova(member(prefix=b"../..")),
    "no name": ova(member(b"")),
    "dots for a name": ova(member(b".."), member()),
    "a name with a line end": ova(member(b"a\n.vmdk")),
    "a name that is no text": ova(member(b"\xff.vmdk")),
    "a size that is too large": ova(member(size=b"77777777777\0")),
    "a size beyond all": ova(member(size=HUGE)),
    "a size larger by a block": ova(member(size=b"%011o\0" % (len(DISK) + BLOCK))),
    "a size smaller by two blocks": ova(member(size=b"%011o\0" % (len(DISK) - 2 * BLOCK))),
    "a negative size": ova(member(size=b"\xff" * 12)),
    "a size with a sign": ova(member(size=b"-0000000001\0")),
    "a size of no digits": ova(member(size=bytes(12))),
    "a size in hexadecimal": ova(member(size=b"0x00000000f\0")),
    "a wrong checksum": ova(member(checksum=b"000000\0 ")),
    "a checksum of no digits": ova(member(checksum=b"nothing ")),
    "an unknown kind of archive": ova(member(magic=b"unknown ")),
    "an archive from before": ova(member(magic=bytes(8))),
    "no end": ova(member(), end=b""),
    "half an end": ova(member(), end=bytes(BLOCK)),
    "an end that is none": ova(member(), end=bytes(BLOCK) + b"x" * BLOCK),
    "something after the end": ova(member(), end=END + b"x"),
    "another archive after the end": ova(member()) + ova(member(b"other.vmdk")),
    "too many files": ova(*(member(b"%d.txt" % number, b"") for number in range(64)), member()),
}


class TestHostileArchives:
    @pytest.mark.parametrize("name", HOSTILE)
    @pytest.mark.parametrize("chunk_bytes", [100, MIB])
    def test_is_refused(self, name, chunk_bytes):
        with pytest.raises(Rejection) as caught:
            taken(HOSTILE[name], chunk_bytes)

        assert caught.value.reason is Reason.UNSAFE_IMAGE_FILE
        assert caught.value.category is Category.AGAINST_RULES
        assert "passwd" not in str(caught.value)

    @pytest.mark.parametrize("length", range(0, len(ova(member())), 1777))
    def test_is_refused_when_it_is_cut_short(self, length):
        with pytest.raises(Rejection):
            taken(ova(member())[:length])

    def test_as_many_files_as_there_may_be_are_passed_over(self):
        assert taken(ova(*(member(b"%d.txt" % number, b"") for number in range(62)), member())) == DISK

    @pytest.mark.parametrize("format_", [tarfile.PAX_FORMAT])
    def test_what_came_later_than_1988_is_refused_if_it_is_used(self, format_):
        plain = made_by_library(format_, "machine.ovf", "disk.vmdk")
        extended = made_by_library(format_, "machine.ovf", f"{'long' * 30}.vmdk")

        assert taken(plain) == DISK
        with pytest.raises(Rejection):
            taken(extended)

    @given(
        patches=st.lists(
            st.tuples(st.integers(0, 3 * BLOCK), st.binary(min_size=1, max_size=12)), max_size=6
        ),
        chunk_bytes=st.integers(1, 5000),
    )
    def test_no_bytes_make_it_fail(self, patches, chunk_bytes):
        content = bytearray(ova(member()))
        for place, patch in patches:
            content[place : place + len(patch)] = patch

        with suppress(Rejection):
            taken(bytes(content), chunk_bytes)

    @given(st.binary(max_size=4000))
    def test_nor_do_any_others(self, content):
        with pytest.raises(Rejection):
            taken(content)
