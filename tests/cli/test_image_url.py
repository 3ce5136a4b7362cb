"""`ims image url`."""

import json
import urllib.request

import pytest

from buckets import moto
from cli.conftest import Ims, ImsOf
from disk_files.makers import TINY_QCOW2
from ims.client import Client
from serving import Server


@pytest.fixture(scope="module")
def on_a_bucket(tmp_path_factory):
    """A server with its bytes in a bucket."""
    with moto() as store:
        s3 = {
            "bucket": store.new_bucket(),
            "endpoint_url": store.endpoint_url,
            "region": "us-east-1",
            "path_style": True,
            "access_key_id": store.access_key_id,
            "secret_access_key": store.secret_access_key,
        }
        with Server(tmp_path_factory.mktemp("bucket"), IMS_S3=json.dumps(s3)) as running:
            yield running


def test_the_url_is_all_that_is_printed(ims_of: ImsOf, on_a_bucket: Server, owner: str):
    ims = ims_of(on_a_bucket)
    ims("image", "upload", TINY_QCOW2, "--name", "tiny", tenant=owner)

    printed = ims("image", "url", "tiny", "--valid", "60", tenant=owner)

    assert printed.code == 0, printed
    with urllib.request.urlopen(printed.stdout.strip(), timeout=10) as answer:
        assert answer.read() == TINY_QCOW2.read_bytes()


def test_a_program_asks_likewise(on_a_bucket: Server, ims_of: ImsOf, owner: str):
    uploaded = ims_of(on_a_bucket)(
        "image", "upload", TINY_QCOW2, "--name", "mine", tenant=owner, json=True
    )
    image_id = uploaded.json["image"]["id"]
    with Client(on_a_bucket.target, tenant=owner) as client:
        made = client.create_download_url(image_id, valid_seconds=7)

    assert "X-Amz-Expires=7" in made.url
    assert made.disk.sha256 == uploaded.json["image"]["disks"][0]["sha256"]


def test_a_folder_has_none(ims: Ims, tiny: str, owner: str):
    refused = ims("image", "url", tiny, tenant=owner)

    assert refused.code == 1
    assert "DIRECT_TRANSFER_UNAVAILABLE" in refused.stderr


@pytest.mark.parametrize("seconds", [0, 3601])
def test_a_time_that_no_url_has_is_wrong_usage(ims: Ims, owner: str, seconds: int):
    refused = ims("image", "url", "tiny", "--valid", seconds, tenant=owner)

    assert refused.code == 2
    assert "--valid" in refused.usage_error
