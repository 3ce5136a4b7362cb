"""The store in a bucket, on a real Ceph and on moto."""

import hashlib
import http.client
import json
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blob_store.contract import (
    BYTES,
    CHUNK,
    END,
    KEY,
    OTHER_KEY,
    BlobStoreContract,
    assert_damaged,
    commit,
    content,
)
from blob_store.resumption import ResumptionContract
from buckets import moto
from ims.blob_store import s3_bucket
from ims.blob_store.interface import BlobBusy, BlobDeleted, KeyInUse, storage_unavailable
from ims.blob_store.s3 import S3BlobStore
from ims.blob_store.s3_bucket import S3Bucket, UnusableBucket
from ims.blob_store.s3_record import MIB, PartSizes, Places, Record
from ims.blob_store.s3_writer import S3Writer
from ims.blob_store.sealed import SealedBlobs, kept_bytes, resume_writer
from ims.domain.rejection import Category, Reason, Rejection

SMALL_PART = 300_000
LEAST_PART = 64 * 1024
"""What the servers of tests are content with."""
MIN_PART_BYTES = PartSizes().least_bytes
PIECE = 100_000
"""How much of a part is kept by itself where pieces are."""


@dataclass(frozen=True)
class Go:
    """How one of the writers of a blob writes, and ends."""

    sizes: list[int]
    part_bytes: int
    keep_every_bytes: int | None
    dies: bool


GOES = st.lists(
    st.builds(
        Go,
        sizes=st.lists(st.integers(0, 2 * SMALL_PART), max_size=4),
        part_bytes=st.sampled_from([LEAST_PART, SMALL_PART, 500_000]),
        keep_every_bytes=st.sampled_from([None, 1, LEAST_PART, PIECE]),
        dies=st.booleans(),
    ),
    min_size=1,
    max_size=6,
)
# What differs between stores is found out by all the other tests.
ON_CEPH = pytest.mark.parametrize("server", ["radosgw"], indirect=True, scope="session")
ON_MOTO = pytest.mark.parametrize("server", ["moto"], indirect=True, scope="session")
PREFIX = "region-1/"


@pytest.fixture(scope="session", params=["moto", "radosgw"])
def server(request):
    if request.param == "radosgw":
        yield request.getfixturevalue("radosgw")
    else:
        with moto() as made:
            yield made


@pytest.fixture(scope="session")
def session_bucket(server):
    return server.new_bucket()


@pytest.fixture(scope="session")
def connection(server, session_bucket):
    """What most tests reach the bucket with: making it takes longer than they do."""
    bucket = server.bucket(session_bucket)
    yield bucket
    bucket.close()


@pytest.fixture
def prefix():
    """A place of its own for each test."""
    return f"{random.Random(os.urandom(8)).getrandbits(64):x}/"


@pytest.fixture
def open_store(server, session_bucket, connection, prefix):
    """Open the test's store once more, as another instance would."""
    opened = []

    def open_it(*, part_bytes=SMALL_PART, least_bytes=LEAST_PART, keep_every_bytes=None, **changes):
        bucket = connection
        if changes:
            bucket = server.bucket(session_bucket, **changes)
            opened.append(bucket)
        sizes = PartSizes(
            part_bytes=part_bytes, least_bytes=least_bytes, keep_every_bytes=keep_every_bytes
        )
        return S3BlobStore(bucket, prefix=prefix, sizes=sizes)

    yield open_it
    for bucket in opened:
        bucket.close()


@pytest.fixture
def blobs(open_store):
    return open_store()


@pytest.fixture
def elsewhere(open_store):
    return open_store()


@pytest.fixture(scope="session")
def client(server):
    made = server.client()
    yield made
    made.close()


@pytest.fixture
def there(client, session_bucket, prefix):
    """Tell all that is in the test's store: objects, and how many unfinished uploads."""

    def look():
        objects = client.list_objects_v2(Bucket=session_bucket, Prefix=prefix).get("Contents", [])
        uploads = client.list_multipart_uploads(Bucket=session_bucket, Prefix=prefix).get("Uploads", [])
        return {each["Key"].removeprefix(prefix) for each in objects}, len(uploads)

    return look


@pytest.fixture
def broken_part(monkeypatch):
    """Have no part of an upload arrive for a while."""

    @contextmanager
    def break_it(writer):
        def lost(*_):
            raise storage_unavailable()

        with monkeypatch.context() as patch:
            patch.setattr(writer._bucket, "put_part", lost)
            yield

    return break_it


def die(writer):
    """Have a writer end as a power cut would end it, with what was on its way arrived."""
    writer._settle()
    writer._end()


def assert_unavailable(rejection):
    assert (rejection.category, rejection.reason) == (Category.UNAVAILABLE, Reason.STORAGE_UNAVAILABLE)
    assert "/" not in str(rejection)


class TestContract(BlobStoreContract):
    pass


@ON_MOTO
class TestContractInOnePiece(BlobStoreContract):
    @pytest.fixture
    def blobs(self, open_store):
        return open_store(part_bytes=8 * MIB)


@ON_MOTO
class TestContractSealed(BlobStoreContract):
    @pytest.fixture
    def blobs(self, open_store):
        return SealedBlobs(open_store(), bytes(32))


class TestResumption(ResumptionContract):
    pass


@ON_MOTO
class TestResumptionInOnePiece(ResumptionContract):
    @pytest.fixture
    def blobs(self, open_store):
        return open_store(part_bytes=8 * MIB)


class TestResumptionInPieces(ResumptionContract):
    @pytest.fixture
    def blobs(self, open_store):
        return open_store(keep_every_bytes=PIECE)

    @pytest.fixture
    def elsewhere(self, open_store):
        return open_store(keep_every_bytes=PIECE)


class TestPieces:
    """What fills a part is kept meanwhile, where that is asked for."""

    @pytest.fixture
    def blobs(self, open_store):
        return open_store(keep_every_bytes=PIECE)

    @pytest.fixture
    def elsewhere(self, open_store):
        """Whoever goes on finds them, whether it makes such itself or not."""
        return open_store()

    def test_a_crash_leaves_all_but_what_is_less_than_a_piece(self, blobs, elsewhere, there):
        writer = blobs.resume_writer(KEY)
        for place in range(0, 2 * SMALL_PART, 50_000):
            writer.write(BYTES[place : place + 50_000])
        writer.write(BYTES[2 * SMALL_PART : 2 * SMALL_PART + 2 * PIECE - 1])
        writer.write(BYTES[2 * SMALL_PART + 2 * PIECE - 1 : 2 * SMALL_PART + 3 * PIECE - 2])
        die(writer)

        assert blobs.kept_bytes(KEY) == 2 * SMALL_PART + 2 * PIECE - 1
        another = elsewhere.resume_writer(KEY)
        assert another.size_bytes == 2 * SMALL_PART + 2 * PIECE - 1
        another.write(BYTES[another.size_bytes :])
        another.commit()
        assert content(blobs, KEY) == BYTES
        assert there() == ({f"blobs/{KEY}"}, 0)

    def test_what_a_part_has_that_does_not_arrive_is_kept_too(self, blobs, elsewhere, broken_part):
        writer = blobs.resume_writer(KEY)
        with broken_part(writer):
            writer.write(BYTES[: SMALL_PART + PIECE])
            die(writer)

        another = elsewhere.resume_writer(KEY)

        assert another.size_bytes == SMALL_PART + PIECE
        another.write(BYTES[another.size_bytes :])
        another.commit()
        assert content(blobs, KEY) == BYTES

    def test_what_has_arrived_in_a_part_is_not_kept_beside_it(self, blobs, there):
        writer = blobs.resume_writer(KEY)
        writer.write(BYTES[:SMALL_PART])
        writer._settle()
        writer.write(BYTES[SMALL_PART : SMALL_PART + PIECE])

        assert there()[0] == {
            f"unfinished/{KEY}.000001",
            f"unfinished/{KEY}.000001.tail.{SMALL_PART}",
        }
        writer.discard()
        assert there() == (set(), 0)

    def test_crash_after_crash_leaves_no_less(self, blobs, there):
        written = 0
        for count in (PIECE, PIECE + 7, SMALL_PART, 2 * PIECE, SMALL_PART + PIECE, PIECE):
            writer = blobs.resume_writer(KEY)
            assert 0 <= written - writer.size_bytes < PIECE
            written = writer.size_bytes + count
            writer.write(BYTES[writer.size_bytes : written])
            die(writer)

        assert there()[1] == 1
        writer = blobs.resume_writer(KEY)
        assert 0 <= written - writer.size_bytes < PIECE
        writer.write(BYTES[writer.size_bytes :])
        writer.commit()
        assert content(blobs, KEY) == BYTES
        assert there() == ({f"blobs/{KEY}"}, 0)

    def test_a_writer_that_is_taken_for_dead_takes_nothing_away_that_the_next_one_reads(
        self, blobs, monkeypatch
    ):
        first = blobs.resume_writer(KEY)
        first.write(BYTES[: SMALL_PART - 1])
        seconds = []
        put_part = S3Bucket.put_part

        def put_late(*arguments):
            if not seconds:
                seconds.append(blobs.resume_writer(KEY))
            return put_part(*arguments)

        monkeypatch.setattr(S3Bucket, "put_part", put_late)
        first.write(BYTES[SMALL_PART - 1 : SMALL_PART])
        first._settle()
        (second,) = seconds
        assert second.size_bytes == SMALL_PART
        second.write(BYTES[SMALL_PART : SMALL_PART + PIECE])
        die(second)

        third = blobs.resume_writer(KEY)
        assert third.size_bytes == SMALL_PART + PIECE
        third.write(BYTES[SMALL_PART + PIECE :])
        third.commit()
        assert content(blobs, KEY) == BYTES

    def test_pieces_of_a_deleted_blob_are_taken_away_by_who_learns_of_it(self, blobs, there):
        writer = blobs.resume_writer(KEY)
        writer.write(BYTES[:PIECE])
        blobs.delete(KEY)

        with pytest.raises(BlobDeleted):
            writer.write(BYTES[PIECE : 2 * PIECE])

        assert there() == (set(), 0)

    def test_a_place_where_the_next_one_cannot_go_on_is_not_gone_on_from(self, blobs):
        """And its own pieces follow where it went on, not where the earlier ones end."""
        writer = blobs.resume_writer(KEY)
        writer.write(BYTES[: 2 * PIECE + 5])
        die(writer)
        places = {"first_bytes": 7, "step_bytes": PIECE}
        writer = blobs.resume_writer(KEY, **places)
        assert writer.size_bytes == PIECE + 7
        writer.write(b"2" * PIECE)
        die(writer)

        writer = blobs.resume_writer(KEY, **places)

        assert writer.size_bytes == 2 * PIECE + 7
        writer.commit()
        assert content(blobs, KEY) == BYTES[: PIECE + 7] + b"2" * PIECE

    def test_who_is_no_longer_next_takes_nothing_away_from_who_is(self, blobs, monkeypatch):
        """The second stalls once it has its turn; the third goes on, and then a part arrives."""
        first = blobs.resume_writer(KEY)
        put_part, arriving = S3Bucket.put_part, threading.Event()

        def put_late(*arguments):
            arriving.wait(30)
            return put_part(*arguments)

        monkeypatch.setattr(S3Bucket, "put_part", put_late)
        first.write(BYTES[: SMALL_PART + PIECE])
        kept_of, turns = Record._kept, []

        def stalled(record, mark):
            if mark.number == 2:
                monkeypatch.setattr(Record, "_kept", kept_of)
                turns.append(record.succeed(Places()))
                arriving.set()
                first._settle()
            return kept_of(record, mark)

        monkeypatch.setattr(Record, "_kept", stalled)
        with pytest.raises(BlobBusy):
            blobs.resume_writer(KEY)
        ((mark, kept),) = turns
        third = S3Writer(blobs._record(KEY), mark, kept=kept)

        assert third.size_bytes == SMALL_PART + PIECE
        third.write(BYTES[third.size_bytes :])
        third.commit()
        assert content(blobs, KEY) == BYTES

    def test_what_half_a_deletion_left_is_not_gone_on_with(self, blobs, monkeypatch, there):
        writer = blobs.resume_writer(KEY)
        writer.write(b"1" * (SMALL_PART + PIECE))
        writer.write(b"1" * PIECE)

        def unreachable(*_):
            raise storage_unavailable()

        with monkeypatch.context() as broken:
            broken.setattr(S3Bucket, "abort_upload", unreachable)
            remove = S3Bucket.remove
            broken.setattr(
                S3Bucket, "remove", lambda *of: unreachable() if ".tail." in of[1] else remove(*of)
            )
            writer.discard()
        assert there()[1] == 1

        writer = blobs.resume_writer(KEY)
        assert writer.size_bytes == 0
        writer.write(b"2" * PIECE)
        die(writer)

        assert blobs.kept_bytes(KEY) == PIECE
        writer = blobs.resume_writer(KEY)
        writer.commit()
        assert content(blobs, KEY) == b"2" * PIECE
        assert there() == ({f"blobs/{KEY}"}, 0)

    def test_a_part_that_is_there_counts_for_more_than_the_pieces_it_is_of(
        self, open_store, monkeypatch
    ):
        """They may be removed at any moment, also where they reach beyond its end."""
        writer = open_store(part_bytes=500_000, keep_every_bytes=PIECE).resume_writer(KEY)
        for place in range(0, 4 * PIECE, PIECE):
            writer.write(BYTES[place : place + PIECE])
        die(writer)
        smaller_parts = open_store(part_bytes=250_000, keep_every_bytes=PIECE)
        remove_tail, turns = Record.remove_tail, []

        def next_one_first(record, pieces):
            if not turns:
                turns.append(record.succeed(Places()))
            remove_tail(record, pieces)

        monkeypatch.setattr(Record, "remove_tail", next_one_first)
        # Of what comes after the part nothing is anew in pieces yet.
        monkeypatch.setattr(S3Writer, "_keep_what_waits", lambda _: None)
        second = smaller_parts.resume_writer(KEY)
        second._settle()
        ((mark, kept),) = turns

        third = S3Writer(smaller_parts._record(KEY), mark, kept=kept)

        assert third.size_bytes == 250_000
        third.write(BYTES[third.size_bytes :])
        third.commit()
        assert content(smaller_parts, KEY) == BYTES

    def test_marks_are_read_by_earlier_versions_and_theirs_are(self, blobs, prefix):
        """Servers of two versions may be at work on the same uploads."""
        bucket = blobs._bucket
        first, second = (f"{prefix}unfinished/{KEY}.00000{number}" for number in (1, 2))
        writer = blobs.resume_writer(KEY)
        _, *said = json.loads(bucket.content(first))
        assert said == ["", 0]
        writer.write(BYTES[:1000])
        writer.suspend()
        die(blobs.resume_writer(KEY))
        token, *said = json.loads(bucket.content(second))
        assert said == [f"{first}.tail.0", 1000]

        for said in (["", 0], [f"{first}.tail.0", 700]):
            bucket.put(second, BytesIO(json.dumps([token, *said]).encode()))
            assert blobs.kept_bytes(KEY) == said[1]

    @ON_MOTO
    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(goes=GOES)
    def test_however_often_it_is_gone_on_with_the_bytes_are_right(self, goes, open_store):
        """Whoever is next may write other bytes, and may make other parts, or no pieces."""
        expected = b""
        store = open_store()
        store.delete(KEY)
        for byte, go in enumerate(goes, 1):
            store = open_store(part_bytes=go.part_bytes, keep_every_bytes=go.keep_every_bytes)
            writer = store.resume_writer(KEY)
            assert writer.size_bytes <= len(expected)
            expected = expected[: writer.size_bytes]
            for size in go.sizes:
                writer.write(bytes([byte]) * size)
                expected += bytes([byte]) * size
            if go.dies:
                die(writer)
            else:
                writer.suspend()
            if go.keep_every_bytes or not go.dies:
                assert len(expected) - store.kept_bytes(KEY) < (go.keep_every_bytes or 1)
        writer = store.resume_writer(KEY)
        expected = expected[: writer.size_bytes]
        writer.commit()
        assert content(store, KEY) == expected


class TestLayout:
    @pytest.fixture
    def short_pages(self, open_store):
        """A store that is told no more than two things at a time."""
        store = open_store(region="us-east-1")
        for operation, most in (
            ("ListObjectsV2", "MaxKeys"),
            ("ListParts", "MaxParts"),
            ("ListMultipartUploads", "MaxUploads"),
        ):
            store._bucket._client.meta.events.register(
                f"provide-client-params.s3.{operation}",
                lambda params, most=most, **_: {**params, most: 2},
            )
        return store

    @pytest.mark.parametrize("size", [END, 1000])
    def test_a_blob_is_one_object_and_nothing_else_is_left_of_its_writing(self, blobs, there, size):
        commit(blobs, KEY, BYTES[:size])

        assert there() == ({f"blobs/{KEY}"}, 0)

    @pytest.mark.parametrize("size", [END, 1000])
    def test_a_discarded_blob_leaves_nothing(self, blobs, there, size):
        writer = blobs.open_writer(KEY)
        writer.write(BYTES[:size])
        writer.discard()

        assert there() == (set(), 0)

    @pytest.mark.parametrize("size", [END, 1000])
    def test_a_blob_that_is_deleted_while_it_waits_leaves_nothing(self, blobs, there, size):
        writer = blobs.resume_writer(KEY)
        writer.write(BYTES[:size])
        writer.suspend()
        assert there() != (set(), 0)

        blobs.delete(KEY)

        assert there() == (set(), 0)

    def test_a_blob_of_many_writers_leaves_nothing_but_itself(self, blobs, elsewhere, there):
        for store in (blobs, elsewhere) * 3:
            writer = store.resume_writer(KEY)
            writer.write(BYTES[writer.size_bytes : writer.size_bytes + 333_333])
            writer.suspend()
        writer = blobs.resume_writer(KEY)
        assert writer.size_bytes == 6 * 333_333
        writer.write(BYTES[writer.size_bytes :])
        writer.commit()

        assert content(blobs, KEY) == BYTES
        assert there() == ({f"blobs/{KEY}"}, 0)

    def test_uploads_that_nobody_goes_on_with_end_with_the_commit(
        self, blobs, there, client, session_bucket, prefix
    ):
        writer = blobs.open_writer(KEY)
        client.create_multipart_upload(Bucket=session_bucket, Key=f"{prefix}blobs/{KEY}")
        writer.write(BYTES)
        writer.commit()

        assert there() == ({f"blobs/{KEY}"}, 0)

    def test_what_belongs_to_a_key_that_begins_alike_is_left_alone(self, blobs, there):
        longer = KEY + "-and-more"
        writer = blobs.resume_writer(longer)
        writer.write(BYTES)
        writer.suspend()

        commit(blobs, KEY, BYTES)
        blobs.delete(KEY)

        assert blobs.kept_bytes(longer) == END
        blobs.delete(longer)
        assert there() == (set(), 0)

    def test_objects_that_are_no_blobs_are_no_keys(self, blobs, client, session_bucket, prefix):
        commit(blobs, KEY, BYTES)
        for name in ("blobs/Upper", "blobs/a/b", "notes.txt"):
            client.put_object(Bucket=session_bucket, Key=prefix + name, Body=b"")

        assert list(blobs.keys()) == [KEY]

    def test_lists_of_many_pages_are_read_to_their_end(self, short_pages, there):
        keys = {f"k{number}" for number in range(5)}
        for key in keys:
            commit(short_pages, key, b"x")
        writer = short_pages.resume_writer(KEY)
        writer.write(BYTES)
        writer.suspend()

        assert set(short_pages.keys()) == keys
        assert short_pages.kept_bytes(KEY) == END
        for key in (*keys, KEY):
            short_pages.delete(key)
        assert there() == (set(), 0)

    @pytest.mark.parametrize("key", ["", "a", "..", "a/b", "AA", "-a", "a" * 129, "a.b"])
    def test_a_key_that_could_be_another_object_is_refused(self, blobs, there, key):
        for use in (blobs.open_writer, blobs.resume_writer, blobs.size_bytes, blobs.delete):
            with pytest.raises(ValueError, match="A blob's key is"):
                use(key)
        assert there() == (set(), 0)


class TestParts:
    def test_all_parts_are_as_large_as_stores_ask_for(self, open_store, client, session_bucket, prefix):
        blobs = open_store(part_bytes=MIN_PART_BYTES, least_bytes=MIN_PART_BYTES)
        data = random.Random(2).randbytes(2 * MIN_PART_BYTES + 1)
        writer = blobs.open_writer(KEY)
        for place in range(0, len(data), CHUNK):
            writer.write(data[place : place + CHUNK])
        writer._settle()
        name = f"{prefix}blobs/{KEY}"
        uploads = client.list_multipart_uploads(Bucket=session_bucket, Prefix=name)["Uploads"]
        parts = client.list_parts(Bucket=session_bucket, Key=name, UploadId=uploads[0]["UploadId"])
        writer.commit()

        assert [part["Size"] for part in parts["Parts"]] == [MIN_PART_BYTES] * 2
        assert content(blobs, KEY) == data
        assert writer.sha256 == hashlib.sha256(data).hexdigest()

    def test_a_tib_and_what_sealing_adds_fits_into_the_parts_there_are(self):
        for part_bytes in (MIN_PART_BYTES, 8 * MIB, 64 * MIB):
            sizes = PartSizes(part_bytes=part_bytes)
            total = sum(sizes.of(number) for number in range(1, 10_001))

            assert total > 1024**4 * 1.05
        assert PartSizes().of(4_000) == 8 * MIB
        assert PartSizes().of(10_000) <= 5 * 1024**3
        with pytest.raises(Rejection) as full:
            PartSizes().of(10_001)
        assert full.value.reason is Reason.STORAGE_FULL

    @pytest.mark.parametrize(
        ("first_bytes", "step_bytes"), [(0, 1), (40, CHUNK + 16), (40, 7), (40, 6 * MIB), (0, 9 * MIB)]
    )
    @pytest.mark.parametrize("part_bytes", [MIN_PART_BYTES, 8 * MIB])
    def test_a_part_ends_where_a_writer_could_go_on(self, first_bytes, step_bytes, part_bytes):
        places = Places(first_bytes=first_bytes, step_bytes=step_bytes)
        begin, sizes = 0, PartSizes(part_bytes=part_bytes)
        for number in (*range(1, 30), 5_000, 8_000):
            end = places.part_end(number, begin, sizes)

            assert end - begin >= MIN_PART_BYTES
            assert end == 0 or (end - first_bytes) % step_bytes == 0
            assert end - begin <= max(sizes.of(number), MIN_PART_BYTES + step_bytes + 40)
            begin = end


class TestResuming:
    def test_what_a_dead_writer_had_sent_is_kept(self, blobs, elsewhere):
        writer = blobs.resume_writer(KEY)
        writer.write(BYTES)
        die(writer)

        another = elsewhere.resume_writer(KEY)

        assert another.size_bytes == END // SMALL_PART * SMALL_PART
        another.write(BYTES[another.size_bytes :])
        another.commit()
        assert content(blobs, KEY) == BYTES

    def test_what_a_killed_process_had_sent_is_kept(self, server, session_bucket, prefix, blobs):
        script = """
            import os, signal, sys
            from ims.blob_store.s3 import S3BlobStore
            from ims.blob_store.s3_bucket import BucketAddress, S3Bucket
            from ims.blob_store.s3_record import PartSizes
            def store(bucket, size):
                sizes = PartSizes(part_bytes=size, least_bytes=size)
                return S3BlobStore(bucket, prefix=prefix, sizes=sizes)
            name, prefix, url, key_id, secret, key, part_bytes = sys.argv[1:]
            bucket = S3Bucket(BucketAddress(name=name, endpoint_url=url, region="us-east-1",
                access_key_id=key_id, secret_access_key=secret, path_style=True))
            writer = store(bucket, int(part_bytes)).resume_writer(key)
            for _ in range(20):
                writer.write(b"x" * 100_000)
            os.kill(os.getpid(), signal.SIGKILL)
        """
        arguments = [session_bucket, prefix, server.endpoint_url, server.access_key_id]
        arguments += [server.secret_access_key, KEY, str(SMALL_PART)]
        killed = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), *arguments], check=False, timeout=60
        )
        assert killed.returncode == -9

        writer = blobs.resume_writer(KEY)

        # All but the part that was on its way and the one that was filling.
        assert writer.size_bytes % SMALL_PART == 0
        assert writer.size_bytes >= 2_000_000 // SMALL_PART * SMALL_PART - SMALL_PART
        writer.write(b"y" * 10)
        writer.commit()
        assert content(blobs, KEY) == b"x" * (writer.size_bytes - 10) + b"y" * 10

    def test_a_suspended_writer_keeps_all_but_a_dead_one_after_it_no_less(self, blobs, elsewhere):
        writer = blobs.resume_writer(KEY)
        writer.write(BYTES[:700_000])
        writer.suspend()
        writer = elsewhere.resume_writer(KEY)
        writer.write(BYTES[700_000:710_000])
        die(writer)

        assert blobs.kept_bytes(KEY) == 700_000
        writer = blobs.resume_writer(KEY)
        writer.write(BYTES[700_000:])
        writer.commit()
        assert content(blobs, KEY) == BYTES

    def test_a_blob_is_finished_whose_last_part_had_come_before_a_crash(self, blobs, elsewhere):
        writer = blobs.resume_writer(KEY)
        writer.write(BYTES)
        writer._wait_until_sent()
        writer._send(writer._next_number, writer._part)
        die(writer)

        writer = elsewhere.resume_writer(KEY)

        # Where the last part is too small for others to follow, it has to be brought again.
        assert writer.size_bytes in {END // SMALL_PART * SMALL_PART, END}
        writer.write(BYTES[writer.size_bytes :])
        writer.commit()
        assert content(blobs, KEY) == BYTES

    def test_parts_of_another_size_than_one_would_make_are_gone_on_with(self, blobs, open_store):
        writer = blobs.resume_writer(KEY)
        writer.write(BYTES[:CHUNK])
        writer.suspend()

        writer = open_store(part_bytes=500_000).resume_writer(KEY)

        assert writer.size_bytes == CHUNK
        writer.write(BYTES[CHUNK:])
        writer.commit()
        assert content(blobs, KEY) == BYTES

    def test_what_was_opened_as_new_can_be_gone_on_with(self, blobs, elsewhere):
        writer = blobs.open_writer(KEY)
        writer.write(BYTES[:CHUNK])
        writer.suspend()
        with pytest.raises(KeyInUse):
            blobs.open_writer(KEY)

        writer = elsewhere.resume_writer(KEY)

        assert writer.size_bytes == CHUNK
        with pytest.raises(KeyInUse):
            blobs.open_writer(KEY)
        with pytest.raises(ValueError, match="without hashing"):
            _ = writer.sha256
        writer.discard()

    @pytest.mark.parametrize("size", [1000, CHUNK])
    def test_a_writer_is_told_that_another_has_gone_on(self, blobs, elsewhere, size):
        first = blobs.resume_writer(KEY)
        first.write(BYTES[:size])
        first._settle()
        second = elsewhere.resume_writer(KEY)
        second.write(BYTES[second.size_bytes :])

        with pytest.raises(BlobDeleted):
            first.commit()
        first.discard()

        second.commit()
        assert content(blobs, KEY) == BYTES

    def test_a_store_that_fails_at_a_part_of_a_deleted_blob_is_not_the_trouble(
        self, blobs, elsewhere, monkeypatch
    ):
        """As moto does when the upload ends while the part arrives: it answers 500."""

        def deleted_meanwhile(*_):
            elsewhere.delete(KEY)
            raise storage_unavailable()

        monkeypatch.setattr(S3Bucket, "put_part", deleted_meanwhile)
        writer = blobs.resume_writer(KEY)
        writer.write(BYTES[:SMALL_PART])

        with pytest.raises(BlobDeleted):
            writer.commit()

    @pytest.mark.parametrize("ending", ["discard", "suspend"])
    def test_a_writer_that_another_has_followed_leaves_that_ones_bytes_alone(
        self, blobs, elsewhere, ending
    ):
        first = blobs.resume_writer(KEY)
        first.write(BYTES[:CHUNK])
        first._settle()
        second = elsewhere.resume_writer(KEY)
        second.write(BYTES[second.size_bytes : 2 * CHUNK])

        getattr(first, ending)()

        second.suspend()
        third = blobs.resume_writer(KEY)
        assert third.size_bytes == 2 * CHUNK
        third.write(BYTES[2 * CHUNK :])
        third.commit()
        assert content(blobs, KEY) == BYTES

    def test_a_part_that_takes_the_place_of_another_writers_is_never_committed(self, blobs, elsewhere):
        """Its bytes may be others: each writer of a sealed blob seals them anew."""
        first = blobs.resume_writer(KEY)
        first.write(b"1" * SMALL_PART)
        first._settle()
        first.write(b"1" * (SMALL_PART - 1))
        second = elsewhere.resume_writer(KEY)
        second.write(b"2" * (SMALL_PART + 1))
        second._settle()
        late = first._part.rewound()
        first._bucket.put_part(first._record.blob, first._upload_id, first._next_number, late)
        die(first)

        with pytest.raises(Rejection) as spoilt:
            second.commit()

        assert_unavailable(spoilt.value)
        assert list(blobs.keys()) == []
        assert blobs.kept_bytes(KEY) == 0

    @pytest.mark.parametrize("dies", [False, True])
    def test_parts_that_arrive_while_another_goes_on_do_not_mislead_it(
        self, blobs, elsewhere, monkeypatch, dies
    ):
        """Nor whoever comes after it, should it die in between."""
        first = blobs.resume_writer(KEY)
        first.write(b"1" * SMALL_PART)
        first._settle()
        claim = Record._claim

        def claim_late(record, mark):
            monkeypatch.setattr(Record, "_claim", claim)
            first.write(b"1" * 3 * SMALL_PART)
            die(first)
            if dies:
                claim(record, mark)
                raise KeyboardInterrupt
            return claim(record, mark)

        monkeypatch.setattr(Record, "_claim", claim_late)
        try:
            second = elsewhere.resume_writer(KEY)
        except KeyboardInterrupt:
            second = elsewhere.resume_writer(KEY)

        begun = second.size_bytes
        assert begun == 4 * SMALL_PART
        second.write(b"2" * 5 * SMALL_PART)
        second.commit()
        assert content(blobs, KEY) == b"1" * begun + b"2" * 5 * SMALL_PART

    def test_of_two_that_go_on_at_the_same_moment_one_does(self, blobs, elsewhere, monkeypatch):
        claim = Record._claim
        meeting = threading.Barrier(2, timeout=30)

        def claim_together(record, mark):
            if mark.number == 2:
                meeting.wait()
            return claim(record, mark)

        blobs.resume_writer(KEY).suspend()
        monkeypatch.setattr(Record, "_claim", claim_together)
        busy, writers = [], []

        def go_on(store):
            try:
                writers.append(store.resume_writer(KEY))
            except BlobBusy:
                busy.append(store)

        threads = [threading.Thread(target=go_on, args=(store,)) for store in (blobs, elsewhere)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert (len(writers), len(busy)) == (1, 1)
        writers[0].write(BYTES)
        writers[0].commit()
        assert content(blobs, KEY) == BYTES

    def test_a_sealed_blob_goes_on_elsewhere_after_a_crash(self, open_store):
        here, there = (open_store(part_bytes=MIN_PART_BYTES, least_bytes=MIN_PART_BYTES) for _ in "ab")
        data, key = random.Random(3).randbytes(17 * MIB + 5), bytes(range(32))
        writer = resume_writer(here, KEY, key, ())
        for place in range(0, 12 * MIB, MIB):
            writer.write(data[place : place + MIB])
        die(writer._writer)

        kept = kept_bytes(there, KEY)
        writer = resume_writer(there, KEY, key, writer.runs)
        assert writer.size_bytes == kept >= 5 * MIB
        writer.write(data[writer.size_bytes : 14 * MIB])
        writer.suspend()
        kept = kept_bytes(here, KEY)
        writer = resume_writer(here, KEY, key, writer.runs)
        assert writer.size_bytes == kept >= 13 * MIB
        writer.write(data[writer.size_bytes :])
        writer.commit()

        assert content(SealedBlobs(there, key, writer.runs), KEY) == data


class TestTrouble:
    @pytest.fixture
    def blobs(self, open_store):
        """A store that nobody else is broken with."""
        return open_store(region="us-east-1")

    @pytest.fixture
    def broken(self, blobs, monkeypatch):
        """Have calls of the library fail from now on, or answer an error."""

        def break_it(code, status, *operations):
            def answer(*, model, **_):
                if not operations or model.name in operations:
                    response = type("Response", (), {"status_code": status})
                    parsed = {
                        "Error": {"Code": code, "Message": f"at /secret/{KEY}"},
                        "ResponseMetadata": {"HTTPStatusCode": status},
                    }
                    return response, parsed
                return None

            blobs._bucket._client.meta.events.register("before-call.s3", answer)

        return break_it

    @pytest.mark.parametrize(
        ("code", "status", "reason"),
        [
            ("QuotaExceeded", 403, Reason.STORAGE_FULL),
            ("InsufficientStorage", 507, Reason.STORAGE_FULL),
            ("SlowDown", 503, Reason.STORAGE_UNAVAILABLE),
            ("AccessDenied", 403, Reason.STORAGE_UNAVAILABLE),
            ("NoSuchBucket", 404, Reason.STORAGE_UNAVAILABLE),
            ("Whatever", 400, Reason.STORAGE_UNAVAILABLE),
        ],
    )
    def test_what_the_store_answers_becomes_a_rejection_that_tells_nothing_else(
        self, blobs, broken, caplog, code, status, reason
    ):
        commit(blobs, KEY, BYTES)
        writer = blobs.open_writer(OTHER_KEY)
        broken(code, status)

        for use in (
            lambda: blobs.open_writer(OTHER_KEY),
            lambda: blobs.resume_writer(OTHER_KEY),
            lambda: blobs.kept_bytes(OTHER_KEY),
            lambda: blobs.size_bytes(KEY),
            lambda: blobs.commit_time(KEY),
            lambda: content(blobs, KEY),
            lambda: blobs.delete(KEY),
            lambda: list(blobs.keys()),
            writer.commit,
        ):
            with pytest.raises(Rejection) as rejected:
                use()
            assert rejected.value.reason is reason
            assert "/" not in str(rejected.value)
        said = "".join(line.getMessage() for line in caplog.records if line.name.startswith("ims"))
        assert code in said
        assert "/secret/" not in said
        assert KEY not in said

    def test_a_store_that_is_full_is_said_to_be_and_has_its_room_back(self, blobs, broken, there):
        writer = blobs.open_writer(KEY)
        writer.write(BYTES[:SMALL_PART])
        writer._settle()
        broken("QuotaExceeded", 403, "UploadPart")

        with pytest.raises(Rejection) as full:
            writer.write(BYTES)

        assert full.value.reason is Reason.STORAGE_FULL
        assert there() == (set(), 0)
        with pytest.raises(ValueError, match="closed"):
            writer.write(b"more")

    def test_what_was_sent_before_a_store_went_away_is_kept_for_who_goes_on(
        self, blobs, elsewhere, broken
    ):
        writer = blobs.resume_writer(KEY)
        writer.write(BYTES[:SMALL_PART])
        writer._settle()
        broken("ServiceUnavailable", 503, "UploadPart")

        with pytest.raises(Rejection) as away:
            writer.write(BYTES)

        assert_unavailable(away.value)
        assert elsewhere.kept_bytes(KEY) == SMALL_PART

    def test_a_store_that_cannot_be_reached_is_unavailable(self, open_store, monkeypatch):
        monkeypatch.setattr(s3_bucket, "_ATTEMPTS", 1)
        blobs = open_store(endpoint_url="http://127.0.0.1:1")

        with pytest.raises(Rejection) as away:
            blobs.size_bytes(KEY)

        assert_unavailable(away.value)

    @ON_CEPH  # moto believes everybody and everything
    def test_a_part_that_is_changed_on_its_way_is_not_kept(self, blobs, monkeypatch):
        monkeypatch.setattr(s3_bucket, "_md5", lambda body: bytes(16))
        with pytest.raises(Rejection) as changed:
            commit(blobs, KEY, BYTES)

        assert_unavailable(changed.value)
        assert list(blobs.keys()) == []


class TestReadingOn:
    @pytest.fixture
    def breaking(self, monkeypatch):
        """Have every so-manieth read of a download break off."""

        def break_every(count):
            reads = [0]
            read = s3_bucket.Incoming.read

            def breaking_read(incoming, size_bytes):
                reads[0] += 1
                if reads[0] % count == 0:
                    incoming.close()
                    raise ConnectionError
                return read(incoming, min(size_bytes, 50_000))

            monkeypatch.setattr(s3_bucket.Incoming, "read", breaking_read)

        return break_every

    @pytest.mark.parametrize("count", [2, 3, 17])
    def test_a_download_that_breaks_off_goes_on_from_there(self, blobs, breaking, count):
        commit(blobs, KEY, BYTES)
        breaking(count)

        assert content(blobs, KEY) == BYTES

    def test_a_download_that_only_breaks_off_ends(self, blobs, breaking):
        commit(blobs, KEY, BYTES)
        breaking(1)

        with pytest.raises(Rejection) as away:
            content(blobs, KEY)

        assert_unavailable(away.value)

    def test_a_blob_that_is_gone_when_a_download_breaks_off_is_damaged(self, blobs, breaking):
        commit(blobs, KEY, BYTES)
        chunks = blobs.read(KEY, offset_bytes=0, length_bytes=END, chunk_bytes=1000)
        blobs.delete(KEY)
        breaking(1)

        with pytest.raises(Rejection) as gone:
            list(chunks)

        assert_damaged(gone.value)

    def test_connections_are_used_again(self, blobs, monkeypatch):
        commit(blobs, KEY, BYTES)
        content(blobs, KEY)
        pools = blobs._bucket._client._endpoint.http_session._manager.pools
        made = [pools[key].num_connections for key in pools.keys()]  # noqa: SIM118 - no dictionary

        for _ in range(5):
            content(blobs, KEY)

        assert [pools[key].num_connections for key in pools.keys()] == made  # noqa: SIM118


class TestDownloadUrl:
    def test_whoever_has_the_url_reads_the_blob_and_any_part_of_it(self, blobs):
        commit(blobs, KEY, BYTES)
        url = blobs.download_url(KEY, valid_seconds=60, file_name="a disk ü.qcow2")

        with urllib.request.urlopen(url, timeout=10) as whole:
            assert whole.read() == BYTES
            assert whole.headers["Content-Disposition"] == (
                "attachment; filename*=UTF-8''a%20disk%20%C3%BC.qcow2"
            )
        part = urllib.request.Request(url, headers={"Range": "bytes=1000-1999"})
        with urllib.request.urlopen(part, timeout=10) as some:
            assert some.read() == BYTES[1000:2000]

    @ON_CEPH  # moto believes everybody and everything
    def test_the_url_is_good_for_nothing_else(self, blobs):
        commit(blobs, KEY, BYTES)
        commit(blobs, OTHER_KEY, BYTES)
        url = blobs.download_url(KEY, valid_seconds=60)

        tries = [
            urllib.request.Request(url.replace(KEY, OTHER_KEY)),
            urllib.request.Request(url.replace("Expires=60", "Expires=6000")),
            urllib.request.Request(url, method="DELETE"),
            urllib.request.Request(url, method="PUT", data=b"other"),
        ]
        for each in tries:
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(each, timeout=10)
            assert refused.value.code == 403
            refused.value.close()
        assert content(blobs, KEY) == BYTES


def put(url, data):
    """Bring a part, as whoever has the URL would; return the store's answer, 200 for a good one."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.netloc, timeout=10)
    with closing(connection):
        with suppress(BrokenPipeError):  # a store that refuses may not wait for the end
            connection.request("PUT", f"{address.path}?{address.query}", body=data)
        return connection.getresponse().status


PARTS = {1: BYTES[:MIB], 2: BYTES[MIB : 2 * MIB], 3: BYTES[2 * MIB :]}


class TestPartUrls:
    @pytest.fixture
    def parts(self, blobs):
        return blobs.part_urls()

    @pytest.fixture
    def upload_id(self, parts):
        return parts.begin(KEY)

    @pytest.fixture
    def url_of(self, parts, upload_id):
        def make(number, *, length_bytes=None, valid_seconds=60):
            length_bytes = len(PARTS[number]) if length_bytes is None else length_bytes
            return parts.part_url(
                KEY, upload_id, number, length_bytes=length_bytes, valid_seconds=valid_seconds
            )

        return make

    def test_parts_in_any_order_become_a_blob(self, blobs, parts, upload_id, url_of, there):
        assert parts.arrived(KEY, upload_id) == {}
        for number in (3, 1, 2):
            assert put(url_of(number), PARTS[number]) == 200
        assert parts.arrived(KEY, upload_id) == {n: len(part) for n, part in PARTS.items()}
        parts.finish(KEY, upload_id)

        assert content(blobs, KEY) == BYTES
        assert there() == ({f"blobs/{KEY}"}, 0)
        parts.finish(KEY, upload_id)  # the first answer was lost

    def test_once_it_is_finished_a_url_is_good_for_nothing(self, blobs, parts, upload_id, url_of):
        for number, part in PARTS.items():
            put(url_of(number), part)
        parts.finish(KEY, upload_id)

        assert put(url_of(1), bytes(MIB)) >= 400  # moto says 500
        assert content(blobs, KEY) == BYTES
        with pytest.raises(BlobDeleted):
            parts.arrived(KEY, upload_id)

    def test_a_part_takes_the_place_of_the_one_before(self, blobs, parts, upload_id, url_of):
        put(url_of(1), bytes(MIB))
        for number, part in PARTS.items():
            put(url_of(number), part)
        parts.finish(KEY, upload_id)

        assert content(blobs, KEY) == BYTES

    @pytest.mark.parametrize("end", ["deleted", "abandoned"])
    def test_what_has_ended_takes_nothing_and_leaves_nothing(
        self, blobs, parts, upload_id, url_of, there, end
    ):
        put(url_of(1), PARTS[1])
        if end == "deleted":
            blobs.delete(KEY)
        else:
            parts.abandon(KEY, upload_id)
            parts.abandon(KEY, upload_id)

        assert put(url_of(2), PARTS[2]) >= 400
        assert there() == (set(), 0)
        with pytest.raises(BlobDeleted):
            parts.finish(KEY, upload_id)
        with pytest.raises(BlobDeleted):
            parts.arrived(KEY, upload_id)

    @ON_CEPH  # moto believes everybody and everything
    def test_a_url_is_good_for_its_part_and_its_length_alone(self, blobs, parts, upload_id, url_of):
        url = url_of(1)
        other = parts.begin(OTHER_KEY)

        assert put(url, BYTES[: MIB - 1]) == 403
        assert put(url, BYTES[: MIB + 1]) == 403
        assert put(url.replace("partNumber=1", "partNumber=2"), PARTS[2]) == 403
        assert put(url.replace("Expires=60", "Expires=6000"), PARTS[1]) == 403
        assert put(url.replace(KEY, OTHER_KEY).replace(upload_id, other), PARTS[1]) == 403
        assert put(url.split("?")[0], PARTS[1]) == 403
        assert parts.arrived(KEY, upload_id) == {}
        parts.abandon(OTHER_KEY, other)

    @ON_CEPH
    def test_a_url_ends(self, url_of):
        url = url_of(3, valid_seconds=1)
        time.sleep(2.1)

        assert put(url, PARTS[3]) == 403

    def test_a_part_that_is_changed_while_it_is_finished_is_noticed(
        self, blobs, parts, upload_id, url_of, monkeypatch, connection
    ):
        for number, part in PARTS.items():
            put(url_of(number), part)
        finish_upload = connection.finish_upload

        def bringing_one_again(*given, **options):
            put(url_of(1), bytes(MIB))
            finish_upload(*given, **options)

        monkeypatch.setattr(connection, "finish_upload", bringing_one_again)
        with pytest.raises(BlobBusy):
            parts.finish(KEY, upload_id)
        monkeypatch.undo()

        put(url_of(1), PARTS[1])
        parts.finish(KEY, upload_id)
        assert content(blobs, KEY) == BYTES

    @pytest.mark.parametrize(
        ("size_bytes", "part_bytes"),
        [
            *((1, MIB), (10_000 * MIB, MIB), (10_000 * MIB + 1, 2 * MIB)),
            *((1024 * 1024 * MIB, 105 * MIB),),
        ],
    )
    def test_parts_are_as_small_as_their_number_allows(self, parts, size_bytes, part_bytes):
        assert parts.part_bytes(size_bytes) == part_bytes

    def test_parts_are_as_large_as_the_operator_wants(self, open_store):
        assert open_store(part_bytes=8 * MIB).part_urls().part_bytes(1) == 8 * MIB


class TestCheck:
    def test_a_bucket_that_can_be_used_is_left_as_it_was(self, blobs, there):
        blobs.check()

        assert there() == (set(), 0)

    def test_a_bucket_that_is_not_there_is_named(self, server):
        store = S3BlobStore(server.bucket("no-such-bucket"))

        with pytest.raises(UnusableBucket, match=r"no-such-bucket.*NoSuchBucket"):
            store.check()
        store.close()

    @ON_CEPH  # moto believes everybody and everything
    def test_a_wrong_secret_is_said_to_be_so_and_not_repeated(self, open_store):
        store = open_store(secret_access_key="quite-another")

        with pytest.raises(UnusableBucket, match="SignatureDoesNotMatch") as unusable:
            store.check()

        assert "quite-another" not in str(unusable.value)

    def test_a_store_that_is_away_is_said_to_be_so(self, open_store, monkeypatch):
        monkeypatch.setattr(s3_bucket, "_ATTEMPTS", 1)

        with pytest.raises(UnusableBucket, match="cannot be used"):
            open_store(endpoint_url="http://127.0.0.1:1").check()

    def test_an_address_that_is_none_is_said_to_be_so(self, server, session_bucket):
        with pytest.raises(UnusableBucket, match="nonsense"):
            server.bucket(session_bucket, endpoint_url="nonsense")

    def test_a_store_that_would_overwrite_is_refused(self, blobs, monkeypatch, there):
        monkeypatch.setattr(s3_bucket.S3Bucket, "put_new", lambda *_: True)

        with pytest.raises(UnusableBucket, match="If-None-Match"):
            blobs.check()
