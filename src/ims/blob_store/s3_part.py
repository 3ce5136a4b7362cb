"""One part of an upload in parts, while it fills."""

from io import BytesIO
from mmap import mmap
from tempfile import TemporaryFile
from typing import IO, Final, cast

_IN_MEMORY_BYTES: Final = 8 * 1024**2


class Part:
    """Takes the bytes of a part; in memory, or in a temporary file if it can be large."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self.size_bytes = 0
        # Not of the heap, which such pieces of memory leave in tatters: measured, a third less.
        self._bytes: mmap | IO[bytes] = (
            mmap(-1, capacity_bytes) if capacity_bytes <= _IN_MEMORY_BYTES else TemporaryFile()  # noqa: SIM115 - closed in close
        )

    @property
    def room_bytes(self) -> int:
        return self._capacity_bytes - self.size_bytes

    def write(self, data: memoryview) -> None:
        self._bytes.write(data)
        self.size_bytes += len(data)

    def last(self, size_bytes: int) -> IO[bytes]:
        """Return a file of so many of the bytes that were written last."""
        self._bytes.seek(self.size_bytes - size_bytes)
        return BytesIO(self._bytes.read(size_bytes))

    def rewound(self) -> IO[bytes]:
        """Return a file of what is in it, at its beginning; nothing is written to it afterwards."""
        if isinstance(self._bytes, mmap) and self.room_bytes:
            return BytesIO(self._bytes[: self.size_bytes])
        self._bytes.seek(0)
        return cast("IO[bytes]", self._bytes)

    def close(self) -> None:
        self._bytes.close()
