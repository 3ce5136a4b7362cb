"""Takes the disk out of an OVA: a tar of a description and the disks of a virtual machine."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, NoReturn

from ims.domain.rejection import Category, Reason, reject

_BLOCK_BYTES: Final = 512
_MAX_MEMBERS: Final = 64
_MAX_MEMBER_BYTES: Final = 2**41
_DISK: Final = ".vmdk"
_OTHER_DISKS: Final = frozenset(
    {".vhd", ".vhdx", ".vdi", ".qcow", ".qcow2", ".qed", ".img", ".raw", ".hdd"}
)
_DESCRIPTION: Final = ".ovf"

_MAGICS: Final = (b"ustar\00000", b"ustar  \0")
_PLAIN_FILES: Final = (b"0", b"\0")
_OCTAL: Final = re.compile(rb" *([0-7]{1,12})[ \0]*")
_BASE_256: Final = 0x80
_END: Final = bytes(_BLOCK_BYTES)

_TRUNCATED: Final = "the archive is truncated"
_MALFORMED: Final = "the archive is malformed"


def disk_in_ova(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the bytes of the only disk in an OVA, a VMDK, as the archive's chunks arrive.

    Nothing is written anywhere under a name from the archive. Only plain files with plain names are
    let through, in the format of 1988 without what came later: no links, devices and folders, no long
    names, no extended headers, no sparse files.

    Raises Rejection UNSAFE_IMAGE_FILE, also after the disk's last byte, when what follows it is wrong:
    what was yielded is of use only when this ends by itself.
    """
    archive = _Archive(chunks)
    names: set[str] = set()
    found = False
    while (member := _next_member(archive)) is not None:
        kind = PurePosixPath(member.name).suffix.lower()
        if not names and kind != _DESCRIPTION:
            _refuse("the archive does not begin with a description of a machine")
        if member.name.lower() in names or len(names) == _MAX_MEMBERS:
            _refuse(_MALFORMED)
        names.add(member.name.lower())
        if kind in {_DISK, *_OTHER_DISKS}:
            if found or kind != _DISK:
                _refuse("the archive holds more than one disk, or one that is no VMDK")
            if not member.size_bytes:
                _refuse("the disk in the archive is empty")
            found = True
            yield from archive.pieces(member.size_bytes)
        else:
            archive.skip(member.size_bytes)
        archive.skip(-member.size_bytes % _BLOCK_BYTES)
    if not found:
        _refuse("the archive holds no VMDK disk")
    archive.expect_nothing_but_zeros()


@dataclass(frozen=True)
class _Member:
    name: str
    size_bytes: int


class _Archive:
    """The bytes of an archive, taken in other pieces than they come in."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def pieces(self, length_bytes: int) -> Iterator[bytes]:
        """Yield exactly so many bytes, in pieces as they come."""
        while length_bytes:
            if not self._rest:
                self._rest = memoryview(self._next_chunk())
            piece = self._rest[:length_bytes]
            self._rest = self._rest[len(piece) :]
            length_bytes -= len(piece)
            if piece:
                yield bytes(piece)

    def take(self, length_bytes: int) -> bytes:
        return b"".join(self.pieces(length_bytes))

    def skip(self, length_bytes: int) -> None:
        for _ in self.pieces(length_bytes):
            pass

    def expect_nothing_but_zeros(self) -> None:
        while True:
            if any(self._rest):
                _refuse("something follows the end of the archive")
            try:
                self._rest = memoryview(next(self._chunks))
            except StopIteration:
                return

    def _next_chunk(self) -> bytes:
        try:
            return next(self._chunks)
        except StopIteration:
            _refuse(_TRUNCATED)


def _next_member(archive: _Archive) -> _Member | None:
    """Return what the next header says; None at the end of the archive, which is two empty blocks."""
    header = archive.take(_BLOCK_BYTES)
    if header == _END:
        if archive.take(_BLOCK_BYTES) != _END:
            _refuse(_MALFORMED)
        return None
    checksum = _number(header[148:156])
    if checksum != sum(header[:148]) + sum(b" " * 8) + sum(header[156:]):
        _refuse(_MALFORMED)
    if header[257:265] not in _MAGICS:
        _refuse("the archive is of a kind that is not known")
    if header[156:157] not in _PLAIN_FILES:
        _refuse("the archive holds something else than plain files")
    if any(header[157:257]) or any(header[345:500]):
        # A link's target, or folders before the name.
        _refuse("the archive holds something else than plain files")
    size_bytes = _number(header[124:136])
    if size_bytes > _MAX_MEMBER_BYTES:
        _refuse(_MALFORMED)
    return _Member(_plain_name(header[:100]), size_bytes)


def _number(field: bytes) -> int:
    """Return a number in octal digits, or, for files of more than 8 GiB, in the field's own bytes."""
    if field[0] == _BASE_256:
        return int.from_bytes(field[1:])
    found = _OCTAL.fullmatch(field)
    if found is None:
        _refuse(_MALFORMED)
    return int(found[1], 8)


def _plain_name(field: bytes) -> str:
    try:
        name = field.partition(b"\0")[0].decode()
    except UnicodeDecodeError:
        name = ""
    if not name.isprintable() or set(name) & set("/\\:") or name.strip(". ") == "":
        _refuse("the archive holds a file whose name is none")
    return name


def _refuse(danger: str) -> NoReturn:
    raise reject(
        Category.AGAINST_RULES,
        Reason.UNSAFE_IMAGE_FILE,
        f"The file is not safe to use: {danger}",
        danger=danger,
    )
