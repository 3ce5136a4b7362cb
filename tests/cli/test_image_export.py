"""`ims image export`, `ims image publish --non-exportable`, and the same from Python."""

import hashlib
import json

import pytest

from buckets import moto
from cli.conftest import Ims, ImsOf
from disk_files.makers import TINY_QCOW2
from ims.client import Client, Declined, Disk
from serving import Server

DIGEST = hashlib.sha256(TINY_QCOW2.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def store():
    with moto() as made:
        yield made


@pytest.fixture(scope="module")
def bucket(store) -> str:
    return store.new_bucket()


@pytest.fixture(scope="module")
def exporting(store, bucket, tmp_path_factory):
    """A server whose acme may export, with an image of its that is called tiny."""
    opened = {
        "bucket": bucket,
        "tenants": ["acme"],
        "endpoint_url": store.endpoint_url,
        "region": "us-east-1",
        "path_style": True,
        "access_key_id": store.access_key_id,
        "secret_access_key": store.secret_access_key,
    }
    folder = tmp_path_factory.mktemp("exports")
    with Server(folder, IMS_EXPORT_BUCKETS=json.dumps([opened]), IMS_WORKERS="1") as running:
        with Client(running.target, tenant="acme") as client:
            client.create_from_file(TINY_QCOW2, name="tiny", format=Disk.QCOW2)
        yield running


@pytest.fixture
def ims(ims_of: ImsOf, exporting: Server) -> Ims:
    return ims_of(exporting)


def test_an_export_is_waited_for_and_told(ims: Ims, bucket: str, store):
    target = f"s3://{bucket}/a folder/tiny.qcow2"

    exported = ims("image", "export", "tiny", target, tenant="acme")
    again = ims("image", "export", "tiny", target, tenant="acme")

    assert exported.stdout.startswith("Exported ")
    assert exported.stdout.endswith(f" of QCOW2 to {target}, SHA-256 {DIGEST}.\n")
    client = store.client()
    there = client.get_object(Bucket=bucket, Key="a folder/tiny.qcow2")["Body"].read()
    client.close()
    assert there == TINY_QCOW2.read_bytes()
    assert again.code == 1
    assert "EXPORT_TARGET_EXISTS" in again.stderr
    assert "Choose another name" in again.stderr


def test_one_that_is_not_waited_for_is_followed(ims: Ims, bucket: str):
    target = f"s3://{bucket}/tiny.raw"

    begun = ims("image", "export", "tiny", target, "--format", "raw", "--no-wait", tenant="acme")
    name = begun.stdout.split()[-1]
    waited = ims("operation", "wait", name, tenant="acme")

    assert begun.stdout.startswith("It is being exported: ims operation wait operations/")
    assert "EXPORT_IMAGE" in waited.stdout
    assert target in waited.stdout


def test_a_dry_run_does_nothing(ims: Ims, bucket: str):
    dry = ims("image", "export", "tiny", f"s3://{bucket}/dry", "--dry-run", tenant="acme")
    closed = ims("image", "export", "tiny", "s3://another/dry", "--dry-run", tenant="acme")

    assert dry.stdout == "It would be exported. Nothing was done.\n"
    assert "EXPORT_BUCKET_NOT_OPEN" in closed.stderr


@pytest.mark.parametrize("target", ["bucket/object", "s3://bucket", "s3://bucket/", "s3:///object", ""])
def test_what_is_no_target_is_wrong_usage(ims: Ims, target: str):
    assert ims("image", "export", "tiny", target, tenant="acme").code == 2


def test_from_python(exporting: Server, bucket: str):
    with Client(exporting.target, tenant="acme") as client:
        (image,) = client.list_images(name="tiny")
        operation = client.export_image(image.id, bucket, "python.vmdk", format=Disk.VMDK)
        exported = client.exported_object(operation, timeout_seconds=60)
        with pytest.raises(Declined) as taken:
            client.export_image(image.id, bucket, "python.vmdk")

    assert (exported.bucket, exported.object_key) == (bucket, "python.vmdk")
    assert exported.format == Disk.VMDK
    assert taken.value.reason == "EXPORT_TARGET_EXISTS"


def test_a_marked_image_is_said_to_be_exported_never(ims: Ims, bucket: str):
    ims("image", "upload", TINY_QCOW2, "--name", "marked", tenant="vendor")
    shown = ims("image", "show", "marked", tenant="vendor", json=True).json["image"]
    ims("image", "publish", shown["id"], "--non-exportable", tenant="vendor", roles="admin")

    copied = ims("image", "copy", shown["id"], "mine", tenant="acme")
    refused = ims("image", "export", "mine", f"s3://{bucket}/mine", tenant="acme")

    assert copied.code == 0, copied
    assert "exported" in ims("image", "show", "mine", tenant="acme").stdout
    assert "IMAGE_NOT_EXPORTABLE" in refused.stderr
