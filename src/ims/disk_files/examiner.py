"""What an examiner of a disk format offers, and the findings that several of them share."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB

SECTOR_BYTES = 512
BLOCK_BYTES = 64 * KIB
"""A file is examined in blocks of this size, so that how it arrived makes no difference."""
TAIL_BYTES = 3 * SECTOR_BYTES
"""How much of a file's end is kept: the last markers of a VMDK stream."""
MAX_CAPACITY_BYTES = 64 * 1024**4

BACKING_FILE = "the file needs a backing file"
EXTERNAL_DATA_FILE = "the file keeps its data in another file"
ENCRYPTED = "the file is encrypted by its own means"
UNKNOWN_FEATURES = "the file uses features that are not known"
TRUNCATED_HEADER = "the header is truncated"
MALFORMED_HEADER = "the header is malformed"
NOT_UNDERSTOOD = "the file could not be understood"


@dataclass(frozen=True)
class Part:
    """A stretch that a header says is in the file."""

    name: str
    end_bytes: int


@dataclass(frozen=True)
class End:
    """What is known of a file when it ends."""

    tail: bytes
    """Its last TAIL_BYTES, or all of a shorter file."""
    size_bytes: int


class Examiner(ABC):
    """Reads one format's structures, block after block, and says what is wrong with them.

    It is made of the first block. Every block is BLOCK_BYTES long, except the last of a file.
    No bytes make it raise.
    """

    HEADER_BYTES = 0
    """What the file's first structure takes up."""

    def __init__(self, head: bytes) -> None:
        self._header_truncated = len(head) < self.HEADER_BYTES
        # Padded, so that a field can be read without asking whether it is there.
        self._head = head.ljust(BLOCK_BYTES, b"\0")

    @property
    def hungry(self) -> bool:
        """Whether more blocks are needed; most formats tell everything in the first."""
        return False

    def eat(self, block: bytes) -> None:  # noqa: B027 - only a hungry examiner is fed
        """Take the block that follows."""

    @property
    @abstractmethod
    def capacity_bytes(self) -> int | None:
        """The size of the disk inside, as the file states it; None when the file is the disk."""

    def dangers(self) -> Iterator[str]:
        """Yield what is certain by now, whatever follows."""
        if self._header_truncated:
            yield TRUNCATED_HEADER
        else:
            yield from self._header_dangers()

    def dangers_at_end(self, end: End) -> Iterator[str]:
        """Yield what only the end of the file shows."""
        if self._header_truncated:
            return
        yield from self._end_dangers(end)
        for part in self._parts():
            if part.end_bytes > end.size_bytes:
                yield f"the {part.name} lies beyond the end of the file"

    def _header_dangers(self) -> Iterator[str]:
        yield from ()

    def _end_dangers(self, end: End) -> Iterator[str]:  # noqa: ARG002 - most have nothing there
        yield from ()

    def _parts(self) -> Iterator[Part]:
        yield from ()


class BaffledExaminer(Examiner):
    """Stands in for an examiner that failed, which no file should bring about."""

    @property
    def capacity_bytes(self) -> int:
        return 0

    def _header_dangers(self) -> Iterator[str]:
        yield NOT_UNDERSTOOD


def broken(*claims: tuple[bool, str]) -> Iterator[str]:
    """Yield the sentences whose condition holds."""
    return (sentence for holds, sentence in claims if holds)


def absurd_capacity(capacity_bytes: int) -> Iterator[str]:
    """Yield why no disk can have that size; it may be any unsigned number of 64 bits."""
    return broken(
        (capacity_bytes == 0, "the disk inside has no size"),
        (capacity_bytes > MAX_CAPACITY_BYTES, "the disk inside claims to be larger than 64 TiB"),
    )


def is_power_of_two(number: int) -> bool:
    """Whether it is 1, 2, 4, 8, ..."""
    return number > 0 and number & (number - 1) == 0


def divide_up(dividend: int, divisor: int) -> int:
    """Return the quotient rounded up."""
    return -(-dividend // divisor)
