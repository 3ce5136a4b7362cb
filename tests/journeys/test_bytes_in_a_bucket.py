"""The service with its bytes in a real S3: the main job, and uploads that another instance takes up."""

import hashlib
import json
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from calling import Tenant
from databases import Postgres
from disk_files.makers import TINY_QCOW2
from ims.blob_store.s3 import S3BlobStore
from ims.domain.image import BlobKey, KeyId
from ims.providers.keys import add_key
from serving import Server

MIB = 1024**2
CONTENT = random.Random(5).randbytes(23 * MIB + 7)
IMS = Path(sys.executable).parent / "ims"


@pytest.fixture
def bucket(radosgw):
    return radosgw.new_bucket()


@pytest.fixture
def variables(radosgw, bucket) -> dict[str, str]:
    s3 = json.dumps(radosgw.setting(bucket))
    return {"IMS_S3": s3, "IMS_SWEEP_SECONDS": "0.2", "IMS_GRACE_PERIOD_SECONDS": "0"}


@pytest.fixture
def there(radosgw, bucket):
    """Tell the objects and the unfinished uploads that are in the bucket."""
    client = radosgw.client()

    def look() -> tuple[list[str], int]:
        objects = client.list_objects_v2(Bucket=bucket).get("Contents", [])
        return (
            sorted(each["Key"] for each in objects),
            len(client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])),
        )

    yield look
    client.close()


@pytest.fixture
def tenant_of():
    tenants = []

    def of(server: Server, name: str = "owner") -> Tenant:
        tenants.append(Tenant(server.target, name))
        return tenants[-1]

    yield of
    for tenant in tenants:
        tenant.close()


def wait_until(true: Any) -> None:
    waiting = threading.Event()
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        waiting.wait(0.1)


def test_a_disk_file_is_kept_shared_deleted_and_purged(tmp_path, variables, there, tenant_of):
    with Server(tmp_path / "data", **variables) as server:
        owner, recipient = tenant_of(server), tenant_of(server, "recipient")
        image = owner.create("debian", disks=[{"format": "QCOW2"}])
        owner.upload(image.id, TINY_QCOW2.read_bytes())
        large = owner.active("large", CONTENT)

        owner.ShareImage(image_id=large.id, recipients=[{"tenant_id": "recipient"}])
        recipient.AcceptShare(image_id=large.id)
        assert recipient.download(large.id) == CONTENT
        part = recipient.download(large.id, offset_bytes=8 * MIB - 1, length_bytes=2)
        assert part == CONTENT[8 * MIB - 1 : 8 * MIB + 1]
        assert owner.download(image.id) == TINY_QCOW2.read_bytes()
        objects, uploads = there()
        assert [name.startswith("ims/blobs/") for name in objects] == [True, True]
        assert uploads == 0

        for each in (image, large):
            owner.DeleteImage(image_id=each.id)
        wait_until(lambda: there() == ([], 0))
        assert "bucket" in server.greeting
        secret = json.loads(variables["IMS_S3"])["secret_access_key"]
        assert secret not in server.log() + server.greeting
    assert not list((tmp_path / "data").rglob("blobs/*"))


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
@pytest.mark.parametrize("ending", ["suspended", "killed"])
def test_another_instance_goes_on_with_an_upload(
    tmp_path, variables, there, tenant_of, postgres: Postgres, encrypted, ending
):
    key_file = tmp_path / "keys.toml"
    add_key(key_file, KeyId("a-key"))
    with postgres.catalogue() as url:
        flags = ("--database-url", url, "--key-file", str(key_file), "--workers", "1")
        with (
            Server(tmp_path / "one", *flags, **variables) as one,
            Server(tmp_path / "two", *flags, **variables) as two,
        ):
            here, elsewhere = tenant_of(one), tenant_of(two)
            key = {"encryption_key_id": "a-key"} if encrypted else {}
            image = here.create("disk", **key)
            upload = here.start_upload(image.id, CONTENT)
            if ending == "suspended":
                received = here.write_upload(upload, CONTENT[: 11 * MIB]).received_bytes
                assert received >= 10 * MIB
            else:
                here.write_upload(upload, CONTENT[: 17 * MIB])
                one.kill()

            place = elsewhere.GetUpload(
                image_id=image.id, disk_index=0, upload_id=upload.id
            ).upload.received_bytes
            assert place >= (10 * MIB if ending == "suspended" else 15 * MIB)
            elsewhere.write_upload(upload, CONTENT[place:], offset_bytes=place)
            done = elsewhere.FinishUpload(image_id=image.id, disk_index=0, upload_id=upload.id)

            assert done.disk.sha256 == hashlib.sha256(CONTENT).hexdigest()
            assert elsewhere.download(image.id) == CONTENT
            objects, uploads = there()
            assert (len(objects), uploads) == (1, 0)


def test_an_upload_that_is_aborted_leaves_nothing(tmp_path, variables, there, tenant_of):
    with Server(tmp_path / "data", **variables) as server:
        owner = tenant_of(server)
        image = owner.create("disk")
        upload = owner.start_upload(image.id, CONTENT)
        owner.write_upload(upload, CONTENT[: 11 * MIB])
        assert there() != ([], 0)

        owner.AbortUpload(image_id=image.id, disk_index=0, upload_id=upload.id)

        wait_until(lambda: there() == ([], 0))


def test_a_checkup_looks_into_the_bucket(tmp_path, variables, radosgw, bucket, tenant_of):
    with Server(tmp_path / "data", **variables) as server:
        owner = tenant_of(server)
        kept = owner.active("kept")
        connection = radosgw.bucket(bucket)
        writer = S3BlobStore(connection, prefix="ims/").open_writer(BlobKey("stray"))
        writer.commit()
        connection.close()
        doctor = [IMS, "doctor", "--data", tmp_path / "data", "--settled-minutes", "0", "--repair"]
        mended = subprocess.run(
            doctor, check=False, capture_output=True, text=True, env=variables, timeout=60
        )

        assert "stray" in mended.stdout, mended.stderr
        assert owner.download(kept.id)


def test_a_bucket_that_cannot_be_used_is_said_to_be_so(tmp_path, variables):
    wrong = json.loads(variables["IMS_S3"]) | {"secret_access_key": "hush"}
    ended = subprocess.run(
        [IMS, "serve", "--listen", "127.0.0.1:0", "--data", tmp_path / "data"],
        check=False,
        capture_output=True,
        text=True,
        env={"IMS_S3": json.dumps(wrong)},
        timeout=60,
    )

    assert ended.returncode == 2
    assert "cannot start: setting s3: bucket" in ended.stderr
    assert "SignatureDoesNotMatch" in ended.stderr
    assert "hush" not in ended.stderr + ended.stdout
