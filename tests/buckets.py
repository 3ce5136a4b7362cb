"""Buckets for tests: in a real Ceph, and in moto, an S3 within the tests' own process."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from boto3.session import Session
from moto.s3 import models
from moto.server import ThreadedMotoServer

from ims.blob_store.s3_bucket import BucketAddress, S3Bucket

REGION: Final = "us-east-1"


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """An S3 that serves on this machine, and a user of it."""

    endpoint_url: str
    access_key_id: str
    secret_access_key: str

    def client(self) -> Any:
        """Return the library's own client, to look behind the store's back."""
        return Session().client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=REGION,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
        )

    def new_bucket(self) -> str:
        """Make an empty bucket, and return its name."""
        name = f"ims-{uuid.uuid4()}"
        client = self.client()
        client.create_bucket(Bucket=name)
        client.close()
        return name

    def address(self, bucket: str, **changes: Any) -> BucketAddress:
        values = {
            "name": bucket,
            "endpoint_url": self.endpoint_url,
            "region": REGION,
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
            "path_style": True,
        }
        return BucketAddress(**values | changes)

    def setting(self, bucket: str, **more: Any) -> dict[str, Any]:
        """Return a service's setting `s3` for a bucket."""
        values = {
            "bucket": bucket,
            "prefix": "ims/",
            "endpoint_url": self.endpoint_url,
            "region": REGION,
            "path_style": True,
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
        }
        return values | more

    def bucket(self, name: str, **changes: Any) -> S3Bucket:
        return S3Bucket(self.address(name, **changes))


@contextmanager
def moto() -> Iterator[S3Server]:
    """Serve an S3 that believes everybody."""
    # So that tests of many parts need few bytes; radosgw.py sets the same.
    models.S3_UPLOAD_PART_MIN_SIZE = 64 * 1024
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        yield S3Server(
            endpoint_url=f"http://127.0.0.1:{port}",
            access_key_id="anybody",
            secret_access_key="anything",
        )
    finally:
        server.stop()
