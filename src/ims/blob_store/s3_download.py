"""Reads an object of a bucket, and goes on where a connection breaks off."""

from typing import Final

from ims.blob_store.interface import data_damaged, storage_unavailable
from ims.blob_store.s3_bucket import Incoming, NoSuchObject, PartBeyondObject, S3Bucket

_BREAKS_IN_A_ROW: Final = 4
"""How often it may break off without a byte in between."""


class Download:
    """The bytes of an object from one place to another; at least one."""

    def __init__(self, bucket: S3Bucket, name: str, place: int, end: int) -> None:
        """Open it. Raises Rejection DISK_DATA_DAMAGED if there is no such part of an object."""
        self._bucket = bucket
        self._name = name
        self._place = place
        self._end = end
        self._breaks = 0
        self._incoming = self._open()

    def read(self, size_bytes: int) -> bytes:
        """Return exactly so many of the next bytes, of which there have to be as many."""
        pieces: list[bytes] = []
        missing = size_bytes
        while missing:
            try:
                piece = self._incoming.read(missing)
            except ConnectionError as error:
                self._reopen(error)
                continue
            pieces.append(piece)
            missing -= len(piece)
            self._place += len(piece)
            self._breaks = 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        self._incoming.close()

    def _reopen(self, error: ConnectionError) -> None:
        self._breaks += 1
        if self._breaks > _BREAKS_IN_A_ROW:
            raise storage_unavailable() from error
        self._incoming.close()
        self._incoming = self._open()

    def _open(self) -> Incoming:
        try:
            return self._bucket.get(
                self._name, offset_bytes=self._place, length_bytes=self._end - self._place
            )
        except (NoSuchObject, PartBeyondObject) as error:
            raise data_damaged() from error
