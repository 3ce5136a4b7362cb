"""Exports outlive the server that does them: another finishes what a power cut has interrupted."""

import hashlib
import json
import random
from pathlib import Path

import pytest

from buckets import S3Server
from calling import Tenant, metadata_of
from conftest import MakeCatalogue
from ims.v1.image_service_pb2 import ExportedObject
from journeys.test_operations_survive import SETTINGS, taken_up, until
from serving import Server

CONTENT = random.Random(6).randbytes(96 * 1024**2)


@pytest.mark.slow
def test_a_killed_servers_export_is_finished_by_another(
    make_catalogue: MakeCatalogue, tmp_path: Path, radosgw: S3Server
):
    bucket, s3 = radosgw.new_bucket(), radosgw.client()
    opened = {
        "bucket": bucket,
        "tenants": ["owner"],
        "endpoint_url": radosgw.endpoint_url,
        "region": "us-east-1",
        "path_style": True,
        "access_key_id": radosgw.access_key_id,
        "secret_access_key": radosgw.secret_access_key,
    }
    settings = SETTINGS | {
        "IMS_DATABASE_URL": make_catalogue(),
        "IMS_EXPORT_BUCKETS": json.dumps([opened]),
        "IMS_CHUNK_BYTES": "4096",  # so that it takes long
    }
    with Server(tmp_path / "data", **settings) as first:
        caller = Tenant(first.target, "owner")
        image = caller.active("one", CONTENT)
        begun = caller.ExportImage(image_id=image.id, bucket=bucket, object_key="one.raw")
        until(lambda: metadata_of(caller.GetOperation(name=begun.name)).done_bytes > 16 * 1024**2)
        # Before another is there: that takes longer to start than the rest of the work.
        first.kill()
        caller.close()
        assert len(s3.list_multipart_uploads(Bucket=bucket)["Uploads"]) == 1
        with Server(tmp_path / "data", **settings) as second:
            caller = Tenant(second.target, "owner")

            ended = caller.ended(begun)

            exported = ExportedObject()
            assert ended.response.Unpack(exported), ended
            assert exported.sha256 == hashlib.sha256(CONTENT).hexdigest()
            assert taken_up(settings["IMS_DATABASE_URL"], begun.name) == 2
            assert [each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["one.raw"]
            assert not s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
            assert s3.get_object(Bucket=bucket, Key="one.raw")["Body"].read() == CONTENT
            caller.close()
    s3.close()
