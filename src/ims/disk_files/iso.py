"""Examines ISO 9660."""

import struct
from collections.abc import Iterator

from ims.disk_files.examiner import MALFORMED_HEADER, Examiner, Part, broken

_FIRST_DESCRIPTOR_OFFSET = 0x8000
_DESCRIPTOR_BYTES = 2048
_STANDARD = b"CD001"
_PRIMARY = 1
_SPACE_OFFSET = 80
_BLOCK_BYTES_OFFSET = 128
_BLOCK_SIZES = (512, 1024, 2048)


class IsoExaminer(Examiner):
    """Examines an installation medium: a server sees the file as it is, hybrid or not."""

    HEADER_BYTES = _FIRST_DESCRIPTOR_OFFSET + _DESCRIPTOR_BYTES

    def __init__(self, head: bytes) -> None:
        super().__init__(head)
        primary = self._primary_descriptor_offset()
        self._blocks = self._block_bytes = 0
        if primary is not None:
            (self._blocks,) = struct.unpack_from("<I", self._head, primary + _SPACE_OFFSET)
            (self._block_bytes,) = struct.unpack_from("<H", self._head, primary + _BLOCK_BYTES_OFFSET)

    @property
    def capacity_bytes(self) -> None:
        return None

    def _primary_descriptor_offset(self) -> int | None:
        offsets = range(_FIRST_DESCRIPTOR_OFFSET, len(self._head), _DESCRIPTOR_BYTES)
        for offset in offsets:
            if not self._head.startswith(_STANDARD, offset + 1):
                return None
            if self._head[offset] == _PRIMARY:
                return offset
        return None

    def _header_dangers(self) -> Iterator[str]:
        yield from broken(
            (self._block_bytes not in _BLOCK_SIZES, MALFORMED_HEADER),
            (self._blocks == 0, MALFORMED_HEADER),
        )

    def _parts(self) -> Iterator[Part]:
        yield Part("last block of the volume", self._blocks * self._block_bytes)
