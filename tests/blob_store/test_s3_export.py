"""Objects that are put into the buckets of others, on a real Ceph and on moto."""

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pytest

from blob_store.test_s3 import server  # noqa: F401 - a fixture
from ims.blob_store import s3_export
from ims.blob_store.exports import ExportSuperseded, TargetTaken
from ims.blob_store.s3_bucket import S3Bucket
from ims.blob_store.s3_export import S3ExportBucket
from ims.blob_store.s3_record import PartSizes
from ims.domain.rejection import Reason, Rejection

PART = 64 * 1024
CONTENT = os.urandom(5 * PART + 77)
NAME = "a folder/debian 12.qcow2"


@pytest.fixture
def place(server):  # noqa: F811
    """A bucket's name."""
    return server.new_bucket()


@pytest.fixture
def client(server):  # noqa: F811
    made = server.client()
    yield made
    made.close()


@pytest.fixture
def open_bucket(server, place):  # noqa: F811
    """Open the bucket once more, as another instance would."""
    opened = []

    def open_it(**changes):
        sizes = PartSizes(part_bytes=PART, least_bytes=PART)
        opened.append(S3ExportBucket(server.address(place, **changes), sizes))
        return opened[-1]

    yield open_it
    for each in opened:
        each.close()


@pytest.fixture
def bucket(open_bucket):
    return open_bucket()


@pytest.fixture
def there(client, place):
    """Tell all that is in the bucket: the objects, and how many unfinished uploads."""

    def look():
        objects = client.list_objects_v2(Bucket=place).get("Contents", [])
        uploads = client.list_multipart_uploads(Bucket=place).get("Uploads", [])
        return (
            {
                each["Key"]: client.get_object(Bucket=place, Key=each["Key"])["Body"].read()
                for each in objects
            },
            len(uploads),
        )

    return look


def write(bucket, content=CONTENT, *, name=NAME, token="one"):
    writer = bucket.begin(name, token=token)
    for place in range(0, len(content), 100_000):
        writer.write(content[place : place + 100_000])
    return writer


@pytest.mark.parametrize("size_bytes", [1, PART - 1, PART, PART + 1, len(CONTENT)])
def test_an_object_is_there_once_it_is_finished(bucket, there, size_bytes):
    content = CONTENT[:size_bytes]
    writer = write(bucket, content)
    assert there() == ({}, 1)
    assert not bucket.is_taken(NAME)

    writer.finish()
    writer.discard()

    assert there() == ({NAME: content}, 0)
    assert (writer.size_bytes, writer.sha256) == (size_bytes, hashlib.sha256(content).hexdigest())
    assert bucket.is_taken(NAME)
    assert bucket.is_finished(NAME, token="one")
    assert not bucket.is_finished(NAME, token="on")
    assert not bucket.is_finished("another", token="one")


@pytest.mark.parametrize("theirs", [b"of somebody else", b"", CONTENT])
def test_what_is_there_stays_as_it_is(bucket, client, place, there, theirs):
    client.put_object(Bucket=place, Key=NAME, Body=theirs)
    writer = write(bucket)

    with pytest.raises(TargetTaken):
        writer.finish()
    writer.discard()

    assert there() == ({NAME: theirs}, 0)
    assert not bucket.is_finished(NAME, token="one")
    bucket.clear(NAME, token="one")
    assert there() == ({NAME: theirs}, 0)


@pytest.mark.parametrize("server", ["radosgw"], indirect=True, scope="session")  # moto lets both win
def test_of_two_that_finish_at_once_one_wins(open_bucket, there):
    contents = {"one": os.urandom(2 * PART), "two": os.urandom(2 * PART)}
    for number in range(8):
        name, ready = f"object-{number}", threading.Barrier(2)

        def finish(token, name=name, ready=ready):
            bucket = open_bucket()
            writer = write(bucket, contents[token], name=name, token=token)
            ready.wait()
            try:
                writer.finish()
            except (TargetTaken, Rejection):
                return None
            finally:
                writer.discard()
            return token

        with ThreadPoolExecutor(2) as pool:
            winners = [token for token in pool.map(finish, contents) if token]

        assert len(winners) == 1
        objects, uploads = there()
        assert objects[name] == contents[winners[0]]
        assert uploads == 0


def test_nobody_finishes_an_upload_that_was_ended(open_bucket, there):
    late, next_one = open_bucket(), open_bucket()
    writer = write(late, bytes(2 * PART))  # all of it is sent

    next_one.abort(NAME, writer.upload_id)
    assert not next_one.is_finished(NAME, token="one")
    after = write(next_one, CONTENT[:100])
    # S3 says that there is no such upload; both of these say that something is wrong with them.
    with pytest.raises((ExportSuperseded, Rejection)):
        writer.finish()
    writer.discard()
    after.finish()

    assert there() == ({NAME: CONTENT[:100]}, 0)


@pytest.mark.parametrize("server", ["radosgw"], indirect=True, scope="session")  # moto breaks down
def test_who_is_late_with_a_part_hears_of_it(open_bucket):
    writer = write(open_bucket(), b"a few")
    open_bucket().abort(NAME, writer.upload_id)

    with pytest.raises(ExportSuperseded):
        writer.write(bytes(2 * PART))


def test_what_was_finished_is_found_by_who_comes_next(open_bucket, there):
    writer = write(open_bucket())
    writer.finish()
    next_one = open_bucket()

    next_one.abort(NAME, writer.upload_id)

    assert next_one.is_finished(NAME, token="one")
    assert there() == ({NAME: CONTENT}, 0)
    next_one.clear(NAME, token="one")
    assert there() == ({}, 0)


def test_the_claim_of_a_dead_writer_is_taken_over_and_removed(open_bucket, client, place, there):
    client.put_object(Bucket=place, Key=NAME, Body=b"", Metadata={"token": "one.of-a-dead-writer"})
    client.put_object(Bucket=place, Key="second", Body=b"", Metadata={"token": "one.of-a-dead-writer"})
    bucket = open_bucket()
    bucket._keeps_when_finishing = False

    write(bucket).finish()
    bucket.clear("second", token="one")

    assert there() == ({NAME: CONTENT}, 0)


def test_a_claim_goes_with_its_writer(open_bucket, there, monkeypatch):
    bucket = open_bucket()
    bucket._keeps_when_finishing = False
    writer = write(bucket)
    claimed = []

    def fail(*_, **__):
        claimed.append(there()[0])
        raise s3_export.UploadSpoilt

    monkeypatch.setattr(writer._bucket, "finish_upload", fail)
    with pytest.raises(Rejection):
        writer.finish()
    writer.discard()

    assert claimed == [{NAME: b""}]
    assert there() == ({}, 0)


def test_a_lost_answer_is_no_failure(open_bucket, there, monkeypatch):
    """The library asks again, and hears that there is something, or that there is no such upload."""
    writer = write(open_bucket())
    finish = S3Bucket.finish_upload

    def twice(*args, **options):
        finish(writer._bucket, *args, **options)
        raise s3_export.NoSuchUpload

    monkeypatch.setattr(writer._bucket, "finish_upload", twice)
    writer.finish()
    writer.discard()

    assert there() == ({NAME: CONTENT}, 0)


@pytest.mark.parametrize("server", ["radosgw"], indirect=True, scope="session")
def test_ceph_is_found_to_overwrite_when_an_upload_is_finished(open_bucket, there):
    bucket = open_bucket()
    assert bucket._try_out(NAME) is False
    assert there() == ({}, 0)


@pytest.mark.parametrize("server", ["moto"], indirect=True, scope="session")
def test_moto_is_found_to_overwrite_nothing(open_bucket, there):
    bucket = open_bucket()
    assert bucket._try_out("at the root") is True
    assert there() == ({}, 0)


@pytest.mark.parametrize("server", ["radosgw"], indirect=True, scope="session")
def test_a_bucket_with_versions_of_a_ceph_is_refused(client, place, open_bucket):
    client.put_bucket_versioning(Bucket=place, VersioningConfiguration={"Status": "Enabled"})

    with pytest.raises(Rejection) as refused:
        open_bucket().begin(NAME, token="one")

    assert refused.value.reason is Reason.EXPORT_BUCKET_UNUSABLE


@pytest.mark.parametrize("server", ["radosgw"], indirect=True, scope="session")
@pytest.mark.parametrize("wrong", [{"secret_access_key": "x"}, {"name": "there-is-no-such-bucket"}])
def test_a_store_that_refuses_is_told_from_one_that_is_away(open_bucket, wrong):
    with pytest.raises(Rejection) as refused:
        open_bucket(**wrong).begin(NAME, token="one")

    assert refused.value.reason is Reason.EXPORT_BUCKET_UNUSABLE


@pytest.mark.parametrize("server", ["moto"], indirect=True, scope="session")
def test_a_store_that_is_away_may_come_back(open_bucket):
    bucket = open_bucket(endpoint_url="http://127.0.0.1:9", attempts=1)

    for call in (lambda: bucket.begin(NAME, token="one"), lambda: bucket.is_taken(NAME)):
        with pytest.raises(Rejection) as away:
            call()
        assert away.value.reason is Reason.STORAGE_UNAVAILABLE


def test_an_address_that_is_none_is_refused(open_bucket, tmp_path):
    with pytest.raises(Rejection) as refused:
        open_bucket(secret_access_key=None, secret_access_key_file=tmp_path / "missing")

    assert refused.value.reason is Reason.EXPORT_BUCKET_UNUSABLE


def test_an_empty_body_can_be_put(bucket, place, client):
    """What claims are made of, on every store."""
    assert bucket._bucket.put_new(NAME, BytesIO(), token="x")
    assert client.head_object(Bucket=place, Key=NAME)["ContentLength"] == 0
