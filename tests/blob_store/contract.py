"""What every blob store keeps of `BlobStore`; each implementation runs it with its own `blobs`."""

import hashlib
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from ims.blob_store.interface import BlobDeleted, KeyInUse
from ims.domain.image import BlobKey
from ims.domain.rejection import Category, Reason, Rejection

CHUNK = 1024**2
BYTES = random.Random(1).randbytes(2 * CHUNK + 37)
END = len(BYTES)
BOUNDARIES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, END - 1, END]

KEY = BlobKey("k1-first")
OTHER_KEY = BlobKey("k2-second")


def commit(blobs, key, content):
    writer = blobs.open_writer(key)
    writer.write(content)
    writer.commit()
    return writer


def chunks(blobs, key, offset_bytes, end_bytes, *, chunk_bytes=CHUNK):
    length_bytes = end_bytes - offset_bytes
    return list(
        blobs.read(key, offset_bytes=offset_bytes, length_bytes=length_bytes, chunk_bytes=chunk_bytes)
    )


def content(blobs, key):
    return b"".join(chunks(blobs, key, 0, blobs.size_bytes(key)))


def assert_damaged(rejection):
    assert (rejection.category, rejection.reason) == (
        Category.CORRUPT,
        Reason.DISK_DATA_DAMAGED,
    )
    assert KEY not in str(rejection)
    assert "/" not in str(rejection)


class BlobStoreContract:
    """Subclasses have a fixture `blobs`: an empty store."""

    # writing

    def test_a_blob_tells_since_when_it_is_there(self, blobs):
        before = datetime.now(UTC) - timedelta(seconds=1)
        commit(blobs, KEY, BYTES)

        assert before <= blobs.commit_time(KEY) <= datetime.now(UTC) + timedelta(seconds=1)
        with pytest.raises(Rejection) as missing:
            blobs.commit_time(OTHER_KEY)
        assert_damaged(missing.value)

    def test_what_was_committed_is_read_back(self, blobs):
        commit(blobs, KEY, BYTES)

        assert content(blobs, KEY) == BYTES
        assert blobs.size_bytes(KEY) == END

    @pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
    def test_a_blob_of_any_size_is_read_back(self, blobs, size):
        commit(blobs, KEY, BYTES[:size])

        assert content(blobs, KEY) == BYTES[:size]
        assert blobs.size_bytes(KEY) == size

    @pytest.mark.parametrize("step", [1000, CHUNK - 1, CHUNK, CHUNK + 1, END])
    def test_it_does_not_matter_in_what_pieces_a_blob_is_written(self, blobs, step):
        writer = blobs.open_writer(KEY)
        for begin in range(0, END, step):
            writer.write(BYTES[begin : begin + step])
        writer.commit()

        assert content(blobs, KEY) == BYTES

    def test_an_empty_piece_changes_nothing(self, blobs):
        writer = blobs.open_writer(KEY)
        for piece in (b"", b"one", b"", b"two", b""):
            writer.write(piece)
        writer.commit()

        assert content(blobs, KEY) == b"onetwo"

    def test_a_blob_that_nothing_was_written_to_is_empty(self, blobs):
        writer = blobs.open_writer(KEY)
        writer.commit()

        assert blobs.size_bytes(KEY) == 0
        assert chunks(blobs, KEY, 0, 0) == []

    def test_size_and_digest_are_those_of_the_bytes_so_far(self, blobs):
        writer = blobs.open_writer(KEY)
        begin = (writer.size_bytes, writer.sha256)
        writer.write(BYTES[:100])
        middle = (writer.size_bytes, writer.sha256)
        writer.write(BYTES[100:])
        end = (writer.size_bytes, writer.sha256)
        writer.commit()

        assert begin == (0, hashlib.sha256().hexdigest())
        assert middle == (100, hashlib.sha256(BYTES[:100]).hexdigest())
        assert end == (END, hashlib.sha256(BYTES).hexdigest())
        assert (writer.size_bytes, writer.sha256) == end

    def test_without_hashing_there_is_no_digest_to_be_mistaken_for_one(self, blobs):
        writer = blobs.open_writer(KEY, hashed=False)
        writer.write(BYTES)
        with pytest.raises(ValueError, match="without hashing"):
            _ = writer.sha256
        writer.commit()

        assert writer.size_bytes == END
        assert content(blobs, KEY) == BYTES

    def test_nothing_is_visible_before_commit(self, blobs):
        writer = blobs.open_writer(KEY)
        writer.write(BYTES)

        assert list(blobs.keys()) == []
        with pytest.raises(Rejection):
            blobs.size_bytes(KEY)
        with pytest.raises(Rejection):
            chunks(blobs, KEY, 0, 1)

        writer.discard()

    def test_a_discarded_blob_was_never_there(self, blobs):
        writer = blobs.open_writer(KEY)
        writer.write(BYTES)
        writer.discard()

        assert list(blobs.keys()) == []
        with pytest.raises(Rejection):
            blobs.size_bytes(KEY)

    def test_discarding_again_does_nothing(self, blobs):
        writer = blobs.open_writer(KEY)
        writer.discard()
        writer.discard()

        next_writer = blobs.open_writer(KEY)
        next_writer.write(b"the next one")
        writer.discard()
        next_writer.commit()
        writer.discard()

        assert content(blobs, KEY) == b"the next one"

    def test_discarding_after_commit_leaves_the_blob(self, blobs):
        writer = commit(blobs, KEY, BYTES)
        writer.discard()

        assert content(blobs, KEY) == BYTES

    def test_a_writer_that_has_ended_commits_nothing(self, blobs):
        writer = blobs.open_writer(KEY)
        writer.write(b"some")
        writer.discard()

        with pytest.raises(ValueError, match="closed"):
            writer.commit()
        assert list(blobs.keys()) == []

    def test_a_key_has_one_writer_at_a_time(self, blobs):
        writer = blobs.open_writer(KEY)
        writer.write(b"first")

        with pytest.raises(KeyInUse):
            blobs.open_writer(KEY)

        writer.commit()
        assert content(blobs, KEY) == b"first"

    def test_a_blob_is_never_overwritten(self, blobs):
        commit(blobs, KEY, b"first")

        with pytest.raises(KeyInUse):
            commit(blobs, KEY, b"second")

        assert content(blobs, KEY) == b"first"

    def test_writers_of_two_keys_do_not_meet(self, blobs):
        def write(key, parts):
            writer = blobs.open_writer(key)
            for part in parts:
                writer.write(part)
            writer.commit()
            return writer.sha256

        contents = {BlobKey(f"k{n}"): [bytes([n]) * 70_000] * 30 for n in range(4)}
        with ThreadPoolExecutor(4) as pool:
            digests = list(pool.map(write, contents, contents.values()))

        assert sorted(blobs.keys()) == sorted(contents)
        for digest, (key, parts) in zip(digests, contents.items(), strict=True):
            assert content(blobs, key) == b"".join(parts)
            assert digest == hashlib.sha256(b"".join(parts)).hexdigest()

    # reading

    @pytest.mark.parametrize("begin", BOUNDARIES)
    def test_any_part_is_read_exactly(self, blobs, begin):
        commit(blobs, KEY, BYTES)

        for end in BOUNDARIES:
            if end >= begin:
                assert b"".join(chunks(blobs, KEY, begin, end)) == BYTES[begin:end], end

    @pytest.mark.parametrize("chunk_bytes", [50_000, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
    @pytest.mark.parametrize("begin", [0, 1, CHUNK])
    def test_every_chunk_is_full_but_the_last_and_none_is_empty(self, blobs, chunk_bytes, begin):
        commit(blobs, KEY, BYTES)

        got = chunks(blobs, KEY, begin, END, chunk_bytes=chunk_bytes)

        assert b"".join(got) == BYTES[begin:]
        assert {len(chunk) for chunk in got[:-1]} <= {chunk_bytes}
        assert 0 < len(got[-1]) <= chunk_bytes
        assert all(type(chunk) is bytes for chunk in got)

    def test_a_part_of_whole_chunks_has_no_short_last_one(self, blobs):
        commit(blobs, KEY, BYTES)

        assert [len(chunk) for chunk in chunks(blobs, KEY, 0, 2 * CHUNK)] == [CHUNK, CHUNK]

    def test_parts_read_one_after_the_other_are_the_whole(self, blobs):
        commit(blobs, KEY, BYTES)

        parts = [b"".join(chunks(blobs, KEY, begin, end)) for begin, end in pairwise(BOUNDARIES)]

        assert b"".join(parts) == BYTES

    def test_readers_of_one_blob_do_not_meet(self, blobs):
        commit(blobs, KEY, BYTES)

        with ThreadPoolExecutor(4) as pool:
            contents = list(pool.map(lambda _: content(blobs, KEY), range(8)))

        assert contents == [BYTES] * 8

    def test_a_reader_may_be_left_before_its_first_chunk_or_between_chunks(self, blobs):
        commit(blobs, KEY, BYTES)
        part = {"offset_bytes": 0, "length_bytes": END, "chunk_bytes": CHUNK}

        blobs.read(KEY, **part)
        next(blobs.read(KEY, **part))

    @pytest.mark.parametrize("length_bytes", [0, 1])
    def test_a_missing_blob_is_noticed_by_the_call_itself(self, blobs, length_bytes):
        with pytest.raises(Rejection) as rejected:
            blobs.read(KEY, offset_bytes=0, length_bytes=length_bytes, chunk_bytes=CHUNK)
        assert_damaged(rejected.value)

        with pytest.raises(Rejection) as rejected:
            blobs.size_bytes(KEY)
        assert_damaged(rejected.value)

    @pytest.mark.parametrize("begin", BOUNDARIES)
    def test_a_part_that_goes_one_byte_too_far_is_noticed_by_the_call_itself(self, blobs, begin):
        commit(blobs, KEY, BYTES)

        with pytest.raises(Rejection) as rejected:
            blobs.read(KEY, offset_bytes=begin, length_bytes=END + 1 - begin, chunk_bytes=CHUNK)

        assert_damaged(rejected.value)

    # the rest of a blob's life

    def test_a_deleted_blob_is_gone_and_leaves_the_others(self, blobs):
        commit(blobs, KEY, BYTES)
        commit(blobs, OTHER_KEY, b"other")

        blobs.delete(KEY)

        assert list(blobs.keys()) == [OTHER_KEY]
        assert content(blobs, OTHER_KEY) == b"other"
        with pytest.raises(Rejection) as rejected:
            blobs.read(KEY, offset_bytes=0, length_bytes=1, chunk_bytes=CHUNK)
        assert_damaged(rejected.value)

    def test_deleting_what_is_not_there_does_nothing(self, blobs):
        blobs.delete(KEY)
        commit(blobs, KEY, BYTES)
        blobs.delete(KEY)
        blobs.delete(KEY)

        assert list(blobs.keys()) == []

    def test_keys_are_those_of_the_committed_blobs(self, blobs):
        keys = {BlobKey(f"{shard}-{n}") for shard in ("aa", "ab", "zz", "0-") for n in range(3)}
        for key in keys:
            commit(blobs, key, b"x")
        blobs.open_writer(BlobKey("not-yet")).discard()
        unfinished = blobs.open_writer(BlobKey("unfinished"))

        found = list(blobs.keys())

        assert len(found) == len(keys)
        assert set(found) == keys
        unfinished.discard()

    def test_what_is_deleted_while_it_is_written_is_never_committed(self, blobs):
        """Its writer may be another process, silent for so long that it was taken for dead."""
        commit(blobs, KEY, BYTES)
        writer = blobs.open_writer(BlobKey("late"))
        writer.write(b"half of it")

        blobs.delete(BlobKey("late"))

        with pytest.raises(BlobDeleted):
            writer.commit()
        assert list(blobs.keys()) == [KEY]
        assert content(blobs, KEY) == BYTES
