"""Encryption at rest: a view of a blob store in which blobs are plain, while it holds them sealed.

A sealed blob, version 1, byte by byte:

    0..6     49 4d 53 53 45 41 4c, "IMSSEAL"
    7        01, the version of the format
    8..39    salt: 32 random bytes, fresh for each blob
    40..     the plaintext in chunks of 1 MiB, each sealed and so 16 bytes longer

Only the last chunk is shorter than 1 MiB. None is empty, except that an empty blob is one empty
chunk. Hence the plaintext's size follows from the blob's, and every chunk's place from its number.

Each chunk is sealed with AES-256-GCM (tag appended) as a STREAM (Hoang, Reyhanitabar, Rogaway and
Vizár, 2015):

    key              HKDF-SHA-256 of the data key with the salt, info "ims sealed blob 1", 32 bytes
    nonce            0..10: the chunk's number from 0, big-endian; 11: 01 for the last, else 00
    associated data  the 40 bytes of header, then the blob's key in ASCII

So a chunk opens only as this chunk of this blob, and only as the last if it was: one that is
changed, moved or taken from elsewhere is noticed when it is read, and chunks that are missing or too
many when the end is. Thanks to the salt no nonce repeats under a key even if two blobs are written
with one data key.

Who goes on with a blob that another writer has begun may bring other bytes than that one did, and no
nonce may repeat then either. So the chunks from there on are a run of their own: sealed with a salt of
their own, which stands in place of the header's in what is said above. The blob does not hold it; who
reads the blob is to know its runs.
"""

import hashlib
import os
from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator, Sequence
from datetime import datetime

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ims.blob_store.interface import (
    BlobStore,
    BlobWriter,
    ResumableBlobStore,
    data_damaged,
)
from ims.domain.image import BlobKey, SealRun

DATA_KEY_BYTES = 32

_MAGIC = b"IMSSEAL\x01"
_KEY_USE = b"ims sealed blob 1"
_SALT_BYTES = 32
_HEADER_BYTES = len(_MAGIC) + _SALT_BYTES
_CHUNK_BYTES = 1024**2
_TAG_BYTES = 16
_SEALED_CHUNK_BYTES = _CHUNK_BYTES + _TAG_BYTES


class SealedBlobs:
    """A BlobStore that seals what is written to another one, and opens what is read from it.

    Sizes, offsets and digests are those of the plaintext. Nothing is yielded that was not found
    authentic; Rejection DISK_DATA_DAMAGED is raised instead, also when the data key is not the one
    that the blob was written with.
    """

    def __init__(self, store: BlobStore, data_key: bytes, runs: Sequence[SealRun] = ()) -> None:
        """Take the store, a data key of 32 bytes, and the blob's runs if it has any beside its first.

        With runs it is a view of that one blob.
        """
        if len(data_key) != DATA_KEY_BYTES:
            raise ValueError(f"A data key has {DATA_KEY_BYTES} bytes.")
        self._store = store
        self._data_key = data_key
        self._runs = tuple(runs)

    def open_writer(self, key: BlobKey, *, hashed: bool = True) -> BlobWriter:
        header = _MAGIC + os.urandom(_SALT_BYTES)
        cipher = _ChunkCipher(self._data_key, header, key)
        writer = self._store.open_writer(key, hashed=False)
        return SealedWriter(writer, cipher, header=header, digest=hashlib.sha256() if hashed else None)

    def size_bytes(self, key: BlobKey) -> int:
        """Return the plaintext's size, worked out from the blob's: not authentic as its bytes are.

        Raises Rejection DISK_DATA_DAMAGED when there is no such blob, or none could have its size.
        """
        return _plaintext_bytes(self._store.size_bytes(key))

    def commit_time(self, key: BlobKey) -> datetime:
        return self._store.commit_time(key)

    def read(
        self, key: BlobKey, *, offset_bytes: int, length_bytes: int, chunk_bytes: int
    ) -> Iterator[bytes]:
        """Yield a part of the plaintext, reading only the chunks that it lies in.

        Even for an empty part one chunk is opened, so that an empty blob is found authentic too.
        """
        blob_bytes = self._store.size_bytes(key)
        size_bytes = _plaintext_bytes(blob_bytes)
        end_bytes = offset_bytes + length_bytes
        if size_bytes < end_bytes:
            raise data_damaged()
        last = _chunk_count(size_bytes) - 1
        first_read = min(offset_bytes // _CHUNK_BYTES, last)
        last_read = max(first_read, (end_bytes - 1) // _CHUNK_BYTES)
        ciphers = self._ciphers(key)
        sealed_chunks = self._store.read(
            key,
            offset_bytes=_place(first_read),
            length_bytes=min(_place(last_read + 1), blob_bytes) - _place(first_read),
            chunk_bytes=_SEALED_CHUNK_BYTES,
        )
        return _part(
            ciphers.open_all(sealed_chunks, first_read, last),
            skip_bytes=offset_bytes - first_read * _CHUNK_BYTES,
            length_bytes=length_bytes,
            chunk_bytes=chunk_bytes,
        )

    def delete(self, key: BlobKey) -> None:
        self._store.delete(key)

    def keys(self) -> Iterator[BlobKey]:
        return self._store.keys()

    def _ciphers(self, key: BlobKey) -> "_Ciphers":
        ciphers = [_ChunkCipher(self._data_key, self._header(key), key)]
        ciphers += (_ChunkCipher(self._data_key, _MAGIC + run.salt, key) for run in self._runs)
        return _Ciphers(firsts=[0, *(run.first_chunk for run in self._runs)], ciphers=ciphers)

    def _header(self, key: BlobKey) -> bytes:
        """Return a blob's header as it stands: it is authentic if the chunks are."""
        return b"".join(
            self._store.read(key, offset_bytes=0, length_bytes=_HEADER_BYTES, chunk_bytes=_HEADER_BYTES)
        )


def kept_bytes(store: ResumableBlobStore, key: BlobKey) -> int:
    """Return how much plaintext there is of a sealed blob that is not committed: whole chunks."""
    return _kept_chunks(store.kept_bytes(key)) * _CHUNK_BYTES


def _kept_chunks(blob_bytes: int) -> int:
    return max(0, blob_bytes - _HEADER_BYTES) // _SEALED_CHUNK_BYTES


def resume_writer(
    store: ResumableBlobStore, key: BlobKey, data_key: bytes, runs: Sequence[SealRun]
) -> "SealedWriter":
    """Go on with a sealed blob whose runs are known, or begin it.

    The writer's `runs` have to be on record before the first byte is written with it.
    """
    writer = store.resume_writer(key, first_bytes=_HEADER_BYTES, step_bytes=_SEALED_CHUNK_BYTES)
    try:
        salt = os.urandom(_SALT_BYTES)
        cipher = _ChunkCipher(data_key, _MAGIC + salt, key)
        if not writer.size_bytes:
            return SealedWriter(writer, cipher, header=_MAGIC + salt)
        chunks = _kept_chunks(writer.size_bytes)
        earlier = tuple(run for run in runs if run.first_chunk < chunks)
        mine = SealRun(first_chunk=chunks, salt=salt)
        return SealedWriter(writer, cipher, runs=(*earlier, mine), chunks_sealed=chunks)
    except BaseException:
        writer.suspend()
        raise


class SealedWriter:
    """A BlobWriter that seals a chunk once it is full and more follows.

    Only then it is known not to be the last.
    """

    def __init__(
        self,
        writer: BlobWriter,
        cipher: "_ChunkCipher",
        *,
        digest: "hashlib._Hash | None" = None,
        header: bytes = b"",
        runs: tuple[SealRun, ...] = (),
        chunks_sealed: int = 0,
    ) -> None:
        self.runs = runs
        """The runs that the blob has by now, beside its first."""
        self._writer = writer
        self._cipher = cipher
        self._header = header
        """What is still to be written before the first chunk."""
        self._held = bytearray(_CHUNK_BYTES)  # made once: growing it anew costs more than sealing
        self._held_bytes = 0
        self._chunks_sealed = chunks_sealed
        self._size_bytes = chunks_sealed * _CHUNK_BYTES
        self._digest = digest

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    @property
    def sha256(self) -> str:
        if self._digest is None:
            raise ValueError("The writer was opened without hashing.")
        return self._digest.hexdigest()

    def write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:
            if self._held_bytes == _CHUNK_BYTES:
                self._seal_held(last=False)
            taken = rest[: _CHUNK_BYTES - self._held_bytes]
            self._held[self._held_bytes : self._held_bytes + len(taken)] = taken
            self._held_bytes += len(taken)
            rest = rest[len(taken) :]
        if self._digest:
            self._digest.update(chunk)
        self._size_bytes += len(chunk)

    def commit(self) -> None:
        self._seal_held(last=True)
        self._writer.commit()

    def discard(self) -> None:
        self._writer.discard()

    def suspend(self) -> None:
        # What is held has to be brought again: whether it is the last is not known yet.
        self._writer.suspend()

    def _seal_held(self, *, last: bool) -> None:
        held = memoryview(self._held)[: self._held_bytes]
        self._writer.write(self._header + self._cipher.seal(self._chunks_sealed, held, last=last))
        self._header = b""
        self._chunks_sealed += 1
        self._held_bytes = 0


class _Ciphers:
    """The ciphers of a blob's runs."""

    def __init__(self, *, firsts: list[int], ciphers: "list[_ChunkCipher]") -> None:
        self._firsts = firsts
        self._ciphers = ciphers

    def of(self, number: int) -> "_ChunkCipher":
        """Return the cipher of a chunk."""
        return self._ciphers[bisect_right(self._firsts, number) - 1]

    def open_all(self, chunks: Iterator[bytes], first: int, last: int) -> Iterator[bytes]:
        """Yield the plaintexts of chunks, the first of which has that number."""
        try:
            for number, chunk in enumerate(chunks, first):
                yield self.of(number).open(number, chunk, last=number == last)
        finally:
            # Nobody reads on in damaged bytes; their file would stay open as long as the error is kept.
            if isinstance(chunks, Generator):
                chunks.close()


class _ChunkCipher:
    """Seals and opens the chunks of one blob."""

    def __init__(self, data_key: bytes, header: bytes, key: BlobKey) -> None:
        salt = header[len(_MAGIC) :]
        self._aes = AESGCM(HKDF(SHA256(), 32, salt, _KEY_USE).derive(data_key))
        self._associated_data = header + key.encode("ascii")

    def seal(self, number: int, chunk: memoryview, *, last: bool) -> bytes:
        return self._aes.encrypt(_nonce(number, last=last), chunk, self._associated_data)

    def open(self, number: int, chunk: bytes, *, last: bool) -> bytes:
        """Return a chunk's plaintext. Raises Rejection DISK_DATA_DAMAGED if it is not authentic."""
        try:
            return self._aes.decrypt(_nonce(number, last=last), chunk, self._associated_data)
        except InvalidTag as error:
            raise data_damaged() from error


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _place(number: int) -> int:
    """Return where in a sealed blob a chunk begins."""
    return _HEADER_BYTES + number * _SEALED_CHUNK_BYTES


def _chunk_count(size_bytes: int) -> int:
    return max(1, -(-size_bytes // _CHUNK_BYTES))


def sealed_bytes(size_bytes: int) -> int:
    """Return how large the sealed blob of a plaintext of that size is."""
    return _HEADER_BYTES + size_bytes + _chunk_count(size_bytes) * _TAG_BYTES


def _plaintext_bytes(found_bytes: int) -> int:
    """Return the size of the plaintext that a sealed blob of that size holds."""
    chunk_count = -(-(found_bytes - _HEADER_BYTES) // _SEALED_CHUNK_BYTES)
    size_bytes = found_bytes - _HEADER_BYTES - chunk_count * _TAG_BYTES
    if size_bytes < 0 or sealed_bytes(size_bytes) != found_bytes:
        raise data_damaged()
    return size_bytes


def _part(
    pieces: Iterable[bytes], *, skip_bytes: int, length_bytes: int, chunk_bytes: int
) -> Iterator[bytes]:
    """Yield a part of the pieces laid end to end, in chunks like those of `BlobStore.read`."""
    pending = bytearray()
    for whole_piece in pieces:
        piece = whole_piece[skip_bytes : skip_bytes + length_bytes]
        skip_bytes = 0
        length_bytes -= len(piece)
        if len(piece) == chunk_bytes and not pending:
            yield piece  # the usual case, which copies nothing
            continue
        pending += piece
        while len(pending) >= chunk_bytes:
            yield bytes(pending[:chunk_bytes])
            del pending[:chunk_bytes]
    if pending:
        yield bytes(pending)
