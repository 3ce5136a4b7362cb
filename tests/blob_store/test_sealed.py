import hashlib
import hmac
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM
from hypothesis import given
from hypothesis import strategies as st

from blob_store.contract import (
    BYTES,
    CHUNK,
    END,
    KEY,
    OTHER_KEY,
    BlobStoreContract,
    assert_damaged,
    chunks,
    commit,
    content,
)
from ims.blob_store.filesystem import FilesystemBlobStore
from ims.blob_store.sealed import SealedBlobs, kept_bytes, resume_writer
from ims.domain.rejection import Rejection

DATA_KEY = bytes(range(32))
OPEN_FILES = Path("/proc/self/fd")
HEADER = 40
SEALED_CHUNK = CHUNK + 16
SEALED_END = HEADER + END + 3 * 16


@pytest.fixture
def blobs(store):
    return SealedBlobs(store, DATA_KEY)


@pytest.fixture
def file(blobs, tmp_path):
    """The file of a committed blob of two chunks and a bit."""
    commit(blobs, KEY, BYTES)
    return tmp_path / "store" / "blobs" / KEY[:2] / KEY


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """The view and the open file of a committed blob, for tests that leave it as it was."""
    root = tmp_path_factory.mktemp("committed")
    store = FilesystemBlobStore(root)
    blobs = SealedBlobs(store, DATA_KEY)
    commit(blobs, KEY, BYTES)
    with (root / "blobs" / KEY[:2] / KEY).open("r+b", buffering=0) as file:
        yield blobs, file.fileno()


def sealed_by_the_book(plaintext, *, key, data_key, salt):
    """The format as the module describes it, written down once more without its code."""
    header = bytes.fromhex("49 4d 53 53 45 41 4c 01") + salt
    extracted = hmac.digest(salt, data_key, "sha256")
    chunk_key = hmac.digest(extracted, b"ims sealed blob 1" + b"\x01", "sha256")
    pieces = [plaintext[place : place + CHUNK] for place in range(0, len(plaintext), CHUNK)] or [b""]
    sealed = header
    for number, piece in enumerate(pieces):
        last = b"\x01" if number == len(pieces) - 1 else b"\x00"
        encryptor = Cipher(AES(chunk_key), GCM(bytes(7) + number.to_bytes(4, "big") + last)).encryptor()
        encryptor.authenticate_additional_data(header + key.encode())
        sealed += encryptor.update(piece) + encryptor.finalize() + encryptor.tag
    return sealed


def read_until_refused(blobs):
    got = []
    try:
        got.extend(blobs.read(KEY, offset_bytes=0, length_bytes=END, chunk_bytes=CHUNK))
    except Rejection as rejection:
        return b"".join(got), rejection
    raise AssertionError("nothing was refused")


class TestContract(BlobStoreContract):
    pass


class TestFormat:
    @pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, END])
    def test_a_blob_is_sealed_by_the_book(self, blobs, store, size):
        commit(blobs, KEY, BYTES[:size])

        sealed = content(store, KEY)
        salt = sealed[8:HEADER]
        assert sealed == sealed_by_the_book(BYTES[:size], key=KEY, data_key=DATA_KEY, salt=salt)

    @pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, END])
    def test_a_blob_sealed_by_the_book_is_opened(self, blobs, store, size):
        commit(store, KEY, sealed_by_the_book(BYTES[:size], key=KEY, data_key=DATA_KEY, salt=bytes(32)))

        assert content(blobs, KEY) == BYTES[:size]

    def test_a_blob_of_version_1_is_opened_for_ever(self, blobs, store):
        sealed = bytes.fromhex(
            "494d535345414c01"
            "0000000000000000000000000000000000000000000000000000000000000000"
            "c2bc641a0608e72940ef4377f710434962d62287551114f9"
        )
        commit(store, "v1", sealed)

        assert content(blobs, "v1") == b"for ever"

    @pytest.mark.parametrize(
        ("size", "sha256"),
        [
            (0, "1535eef7a6ee3ab986caf61c517decb94db104b2b32e0baa1178e38514f1ad97"),
            (1, "c00d41b5a40f9dc0fd216332a0915e6d7d701a84e182f48562571d776507c85f"),
            (CHUNK, "cfe98e256d85bd309989ec2a3ccf14b9ab9abf46de1726b88d22c580515f5f92"),
            (CHUNK + 1, "913cea4c4c5e7a02973342f2ac30ecd0c99ebf650de2e2a16a06ffdb2ef5859a"),
            (END, "4ada49a501641b9cbaf95176b8952d6c3a11efe8d66a642370ea78ddf96594e2"),
        ],
    )
    def test_known_bytes_are_sealed_as_they_were_with_the_first_version(
        self, blobs, store, monkeypatch, size, sha256
    ):
        """With a data key, a salt and a blob's key held still; `BYTES` is held by its seed."""
        monkeypatch.setattr("ims.blob_store.sealed.os.urandom", lambda length: bytes(range(length)))
        known = hashlib.sha256(BYTES).hexdigest()
        commit(blobs, KEY, BYTES[:size])

        assert known == "c7526c99fa9782aa2a877590f4f0965ffc0dfab1e27f9f2f515f1cda07893b7e"
        assert hashlib.sha256(content(store, KEY)).hexdigest() == sha256
        assert content(blobs, KEY) == BYTES[:size]

    @pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
    def test_a_data_key_has_32_bytes(self, store, length):
        with pytest.raises(ValueError, match="32 bytes"):
            SealedBlobs(store, bytes(length))


class TestSecrecy:
    def test_no_plaintext_is_on_disk(self, blobs, tmp_path):
        marker = b"a marker that nobody else would write"
        writer = blobs.open_writer(KEY)
        writer.write(marker + BYTES + marker)
        on_disk_meanwhile = (tmp_path / "store" / "unfinished" / KEY).read_bytes()
        writer.commit()
        on_disk = (tmp_path / "store" / "blobs" / KEY[:2] / KEY).read_bytes()

        assert len(on_disk_meanwhile) > CHUNK
        for part in (marker, BYTES[1000:1032], BYTES[CHUNK : CHUNK + 32], DATA_KEY):
            assert part not in on_disk_meanwhile
            assert part not in on_disk
        assert content(blobs, KEY) == marker + BYTES + marker

    def test_equal_bytes_under_one_data_key_look_unlike(self, blobs, store):
        for key in (KEY, OTHER_KEY):
            commit(blobs, key, bytes(2 * CHUNK))

        sealed, also_sealed = content(store, KEY)[HEADER:], content(store, OTHER_KEY)[HEADER:]
        assert sealed[:CHUNK] != also_sealed[:CHUNK]
        assert sealed[:CHUNK] != sealed[SEALED_CHUNK : SEALED_CHUNK + CHUNK]

    def test_a_retry_under_the_same_key_is_sealed_anew(self, blobs, tmp_path):
        begun = []
        for _ in range(2):
            writer = blobs.open_writer(KEY)
            writer.write(bytes(2 * CHUNK))
            begun.append((tmp_path / "store" / "unfinished" / KEY).read_bytes())
            writer.discard()

        assert begun[0][HEADER : HEADER + CHUNK] != begun[1][HEADER : HEADER + CHUNK]

    def test_the_data_key_is_in_no_repr(self, blobs):
        writer = blobs.open_writer(KEY)

        assert repr(DATA_KEY)[2:-1] not in repr(blobs) + repr(writer)
        writer.discard()


class TestTampering:
    # Drawn in pieces, or else the ciphertext would take nearly every example for itself.
    @given(
        place=st.one_of(
            st.integers(0, HEADER - 1),
            st.integers(HEADER, HEADER + CHUNK - 1),
            st.integers(HEADER + CHUNK, HEADER + SEALED_CHUNK - 1),
            st.integers(HEADER + SEALED_CHUNK, SEALED_END - 1),
        ),
        flipped=st.integers(1, 255),
    )
    def test_a_change_of_any_byte_is_noticed_before_it_is_passed_on(self, committed, place, flipped):
        self.assert_noticed(*committed, place, flipped)

    @pytest.mark.parametrize(
        "place",
        [*range(HEADER), HEADER, *range(HEADER + CHUNK, HEADER + SEALED_CHUNK), SEALED_END - 1],
    )
    def test_a_change_of_each_byte_that_is_not_ciphertext_is_noticed(self, committed, place):
        self.assert_noticed(*committed, place, 1)

    def assert_noticed(self, blobs, descriptor, place, flipped):
        [byte] = os.pread(descriptor, 1, place)
        os.pwrite(descriptor, bytes([byte ^ flipped]), place)
        try:
            got, rejection = read_until_refused(blobs)
        finally:
            os.pwrite(descriptor, bytes([byte]), place)

        assert_damaged(rejection)
        # Sound chunks before the damaged one were passed on, and nothing of that one.
        assert got == BYTES[: max(0, place - HEADER) // SEALED_CHUNK * CHUNK]

    def test_a_blob_found_damaged_is_not_kept_open(self, blobs, file):
        file.write_bytes(file.read_bytes()[:-1] + b"?")
        before = len(list(OPEN_FILES.iterdir()))

        _, rejection = read_until_refused(blobs)

        assert rejection.__traceback__ is not None  # which holds on to all that was being done
        assert len(list(OPEN_FILES.iterdir())) == before

    @pytest.mark.parametrize(
        "new_end", [HEADER + SEALED_CHUNK, HEADER + 2 * SEALED_CHUNK, SEALED_END - 1]
    )
    def test_a_blob_cut_short_does_not_hold_its_bytes(self, blobs, file, new_end):
        os.truncate(file, new_end)

        with pytest.raises(Rejection) as rejected:
            chunks(blobs, KEY, 0, END)

        assert_damaged(rejected.value)

    @pytest.mark.parametrize("chunk_count", [1, 2])
    def test_a_blob_that_lost_its_last_chunks_does_not_pass_for_a_shorter_one(
        self, blobs, file, chunk_count
    ):
        os.truncate(file, HEADER + chunk_count * SEALED_CHUNK)

        assert blobs.size_bytes(KEY) == chunk_count * CHUNK
        with pytest.raises(Rejection) as rejected:
            content(blobs, KEY)

        assert_damaged(rejected.value)

    @pytest.mark.parametrize(
        "size",
        [0, 1, HEADER - 1, HEADER, HEADER + 15, HEADER + SEALED_CHUNK + 1, HEADER + SEALED_CHUNK + 16],
    )
    def test_a_blob_of_a_size_that_no_plaintext_gives_is_damaged(self, blobs, file, size):
        os.truncate(file, size)

        with pytest.raises(Rejection) as rejected:
            blobs.size_bytes(KEY)
        assert_damaged(rejected.value)

        with pytest.raises(Rejection) as rejected:
            chunks(blobs, KEY, 0, 0)
        assert_damaged(rejected.value)

    @pytest.mark.parametrize("more", [b"\0", bytes(16), bytes(17), bytes(CHUNK), bytes(SEALED_CHUNK)])
    def test_bytes_added_behind_the_end_are_noticed(self, blobs, file, more):
        with file.open("ab") as sealed:
            sealed.write(more)

        with pytest.raises(Rejection) as rejected:
            chunks(blobs, KEY, 0, END)

        assert_damaged(rejected.value)

    def test_two_chunks_that_changed_places_are_noticed(self, blobs, file):
        sealed = file.read_bytes()
        first, second = (sealed[HEADER + n * SEALED_CHUNK :][:SEALED_CHUNK] for n in (0, 1))
        file.write_bytes(sealed[:HEADER] + second + first + sealed[HEADER + 2 * SEALED_CHUNK :])

        for begin in (0, CHUNK):
            with pytest.raises(Rejection) as rejected:
                chunks(blobs, KEY, begin, begin + 1)
            assert_damaged(rejected.value)

    def test_a_chunk_played_twice_is_noticed(self, blobs, file):
        sealed = file.read_bytes()
        first = sealed[HEADER : HEADER + SEALED_CHUNK]
        file.write_bytes(sealed[:HEADER] + first + first + sealed[HEADER + 2 * SEALED_CHUNK :])

        with pytest.raises(Rejection) as rejected:
            content(blobs, KEY)

        assert_damaged(rejected.value)

    def test_a_chunk_taken_out_of_the_middle_is_noticed(self, blobs, file):
        sealed = file.read_bytes()
        file.write_bytes(sealed[: HEADER + SEALED_CHUNK] + sealed[HEADER + 2 * SEALED_CHUNK :])

        with pytest.raises(Rejection) as rejected:
            content(blobs, KEY)

        assert_damaged(rejected.value)

    def test_a_last_chunk_does_not_pass_for_a_middle_one(self, blobs, store):
        """Full chunks, so that only the mark tells them apart."""
        commit(blobs, KEY, BYTES[:CHUNK])
        commit(store, "k1-longer", content(store, KEY) + bytes(SEALED_CHUNK))

        with pytest.raises(Rejection):
            chunks(blobs, "k1-longer", 0, 1)

    def test_two_blobs_that_changed_files_are_noticed(self, blobs, file):
        commit(blobs, OTHER_KEY, BYTES[::-1])
        other_file = file.parent.parent / OTHER_KEY[:2] / OTHER_KEY
        mine, other = file.read_bytes(), other_file.read_bytes()
        file.write_bytes(other)
        other_file.write_bytes(mine)

        for key in (KEY, OTHER_KEY):
            with pytest.raises(Rejection):
                content(blobs, key)

    def test_a_chunk_of_another_blob_at_the_same_place_is_noticed(self, blobs, file):
        commit(blobs, OTHER_KEY, BYTES)
        other = (file.parent.parent / OTHER_KEY[:2] / OTHER_KEY).read_bytes()
        file.write_bytes(file.read_bytes()[:HEADER] + other[HEADER:])

        with pytest.raises(Rejection) as rejected:
            content(blobs, KEY)

        assert_damaged(rejected.value)

    def test_another_data_key_opens_nothing(self, blobs, store):
        commit(blobs, KEY, BYTES)
        others = SealedBlobs(store, bytes(32))

        with pytest.raises(Rejection) as rejected:
            content(others, KEY)

        assert_damaged(rejected.value)

    def test_a_plain_blob_does_not_pass_for_a_sealed_one(self, blobs, store):
        commit(store, KEY, BYTES)

        with pytest.raises(Rejection) as rejected:
            content(blobs, KEY)

        assert_damaged(rejected.value)


class TestParts:
    @pytest.mark.parametrize(
        ("begin", "end", "needed"),
        [
            (0, 0, {0}),
            (0, 1, {0}),
            (0, CHUNK, {0}),
            (0, CHUNK + 1, {0, 1}),
            (CHUNK - 1, CHUNK, {0}),
            (CHUNK - 1, CHUNK + 1, {0, 1}),
            (CHUNK, CHUNK + 1, {1}),
            (CHUNK, 2 * CHUNK, {1}),
            (CHUNK + 5, END, {1, 2}),
            (2 * CHUNK, END, {2}),
            (END - 1, END, {2}),
            (END, END, {2}),
        ],
    )
    def test_exactly_the_chunks_that_a_part_lies_in_are_read(self, blobs, file, begin, end, needed):
        """Spoiling a chunk shows whether it is read."""
        sealed = file.read_bytes()
        for number in range(3):
            spoilt = bytearray(sealed)
            spoilt[HEADER + number * SEALED_CHUNK] ^= 1
            file.write_bytes(spoilt)

            if number in needed:
                with pytest.raises(Rejection):
                    chunks(blobs, KEY, begin, end)
            else:
                assert b"".join(chunks(blobs, KEY, begin, end)) == BYTES[begin:end]

    @pytest.mark.parametrize("size", [0, CHUNK, 2 * CHUNK])
    def test_an_empty_part_at_the_very_end_does_not_hide_damage(self, blobs, tmp_path, size):
        commit(blobs, KEY, BYTES[:size])
        sealed = tmp_path / "store" / "blobs" / KEY[:2] / KEY
        sealed.write_bytes(sealed.read_bytes()[:-1] + b"?")

        with pytest.raises(Rejection) as rejected:
            chunks(blobs, KEY, size, size)

        assert_damaged(rejected.value)

    @given(
        cuts=st.lists(st.integers(0, END), min_size=2, max_size=2).map(sorted),
        chunk_bytes=st.sampled_from([777, CHUNK // 3, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK]),
    )
    def test_any_part_in_any_chunks_is_that_part_of_the_plaintext(self, committed, cuts, chunk_bytes):
        begin, end = cuts
        blobs, _ = committed

        got = chunks(blobs, KEY, begin, end, chunk_bytes=chunk_bytes)

        assert b"".join(got) == BYTES[begin:end]
        assert all(len(chunk) == chunk_bytes for chunk in got[:-1])


class TestResumption:
    """A sealed blob that several writers have written, one after the other."""

    def written_in_goes(self, store, places):
        """Write BYTES, each writer up to the next place; return the runs."""
        runs = ()
        for end in (*places, END):
            writer = resume_writer(store, KEY, DATA_KEY, runs)
            assert writer.size_bytes == kept_bytes(store, KEY)
            runs = writer.runs
            writer.write(BYTES[writer.size_bytes : end])
            writer.suspend() if end < END else writer.commit()
        return runs

    def test_who_goes_on_begins_a_run_of_its_own(self, store):
        runs = self.written_in_goes(store, [CHUNK + 5, 2 * CHUNK + 1])

        assert [run.first_chunk for run in runs] == [1, 2]
        assert len({run.salt for run in runs}) == 2
        assert content(SealedBlobs(store, DATA_KEY, runs), KEY) == BYTES

    def test_one_go_needs_no_run_on_record(self, store):
        assert self.written_in_goes(store, []) == ()

        assert content(SealedBlobs(store, DATA_KEY), KEY) == BYTES

    @given(places=st.lists(st.integers(0, END - 1), max_size=6).map(sorted))
    def test_wherever_it_is_cut_it_is_read_back(self, tmp_path_factory, places):
        store = FilesystemBlobStore(tmp_path_factory.mktemp("cut"))

        runs = self.written_in_goes(store, places)

        assert content(SealedBlobs(store, DATA_KEY, runs), KEY) == BYTES

    def test_whole_chunks_are_kept_and_the_rest_is_brought_again(self, store):
        writer = resume_writer(store, KEY, DATA_KEY, ())
        writer.write(BYTES[: CHUNK + CHUNK // 2])
        writer.suspend()

        assert kept_bytes(store, KEY) == CHUNK
        assert kept_bytes(store, OTHER_KEY) == 0

    def test_a_chunk_that_was_begun_is_sealed_anew_with_another_salt(self, store, tmp_path):
        writer = resume_writer(store, KEY, DATA_KEY, ())
        writer.write(BYTES[: CHUNK + 1])
        writer.suspend()
        unfinished = tmp_path / "store" / "unfinished" / KEY
        os.truncate(unfinished, HEADER + 1000)

        again = resume_writer(store, KEY, DATA_KEY, ())

        assert again.size_bytes == 0
        assert [run.first_chunk for run in again.runs] == [0]
        again.write(BYTES)
        again.commit()
        assert content(SealedBlobs(store, DATA_KEY, again.runs), KEY) == BYTES

    def test_a_chunk_of_an_earlier_run_is_not_taken_for_one_of_a_later(self, store, tmp_path):
        """Put back, it would be replayed: it has the right place and the right key."""
        writer = resume_writer(store, KEY, DATA_KEY, ())
        writer.write(BYTES)
        writer.suspend()
        unfinished = tmp_path / "store" / "unfinished" / KEY
        earlier = unfinished.read_bytes()[HEADER + SEALED_CHUNK : HEADER + 2 * SEALED_CHUNK]
        os.truncate(unfinished, HEADER + SEALED_CHUNK)
        writer = resume_writer(store, KEY, DATA_KEY, ())
        writer.write(BYTES[CHUNK:])
        writer.commit()
        with (tmp_path / "store" / "blobs" / KEY[:2] / KEY).open("r+b") as file:
            file.seek(HEADER + SEALED_CHUNK)
            file.write(earlier)

        with pytest.raises(Rejection) as damaged:
            content(SealedBlobs(store, DATA_KEY, writer.runs), KEY)
        assert_damaged(damaged.value)

    def test_without_its_runs_a_blob_is_not_read(self, store):
        self.written_in_goes(store, [CHUNK + 1])

        with pytest.raises(Rejection) as damaged:
            content(SealedBlobs(store, DATA_KEY), KEY)
        assert_damaged(damaged.value)

    def test_a_wrong_data_key_leaves_what_there_is(self, store):
        writer = resume_writer(store, KEY, DATA_KEY, ())
        writer.write(BYTES[: CHUNK + 1])
        writer.suspend()

        with pytest.raises(ValueError, match="32 bytes"):
            SealedBlobs(store, b"short")
        assert kept_bytes(store, KEY) == CHUNK
