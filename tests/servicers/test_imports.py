"""Files that are fetched for disks (law 5.13, 5.14), from sources of the tests' own."""

import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from builders import OWNER
from calling import Tenant, declined, error_of, image_of, metadata_of
from conftest import As, MakeService, needs
from disk_files.makers import stream_vmdk
from disk_files.test_ova import member, ova
from ims.bootstrap import Service
from ims.domain.image import KeyId
from ims.providers.keys import add_key
from ims.use_cases.checkup import check_up
from ims.use_cases.deployment import Deployment
from ims.v1 import image_pb2, operation_metadata_pb2
from providers.web import HOST, Source, broken_every, file, head, sources

CONTENT = os.urandom(5 * 1024**2 + 77)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
KIND = operation_metadata_pb2.OperationMetadata


@pytest.fixture
def make_source() -> Iterator[Any]:
    with sources() as make:
        yield make


@pytest.fixture
def importing(make_service: MakeService, as_: As) -> Any:
    """Give a tenant of a service that is open for a source, and has a key."""

    def tenant(*opened: Source, **settings: object) -> Tenant:
        hosts = tuple(f"{HOST}:{source.port}" for source in opened)
        service = make_service(import_allowed_hosts=hosts, **settings)
        add_key(service.settings.keys, KeyId("key-1"))
        made = as_(OWNER, of=service)
        made.service = service
        return made

    return tenant


def blobs(tenant: Tenant) -> list[Any]:
    return list(tenant.service.deployment.blobs.keys())


def nothing_is_left(tenant: Tenant, image_id: str) -> bool:
    """Whether an image waits for its disk as if nobody had ever tried to fill it."""
    image = tenant.GetImage(image_id=image_id).image
    quotas = tenant.GetQuotas().quotas
    conversions = tenant.service.settings.data / "conversions"
    return (
        image.state == image_pb2.Image.QUEUED
        and image.disks[0].state == image_pb2.Disk.EMPTY
        and quotas.stored_bytes.used == quotas.creations.used == 0
        and not blobs(tenant)
        and not list(conversions.glob("*/*"))
        and not list(check_up(tenant.service.deployment, settled=timedelta(0)))
    )


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_a_file_becomes_the_disk(encrypted: bool, importing, make_source):
    source = make_source(file(CONTENT))
    owner = importing(source)
    image = owner.create("one", **({"encryption_key_id": "key-1"} if encrypted else {}))

    begun = owner.ImportImage(image_id=image.id, url=f"{source.url}/disk.raw", sha256=SHA256)

    assert metadata_of(begun).kind == KIND.IMPORT_IMAGE
    imported = image_of(owner.ended(begun))
    assert imported.state == image_pb2.Image.ACTIVE
    assert (imported.disks[0].size_bytes, imported.disks[0].sha256) == (len(CONTENT), SHA256)
    assert imported == owner.GetImage(image_id=image.id).image
    assert owner.download(image.id) == CONTENT
    assert owner.GetQuotas().quotas.stored_bytes.used == len(CONTENT)


def test_a_line_that_breaks_again_and_again_is_no_trouble(importing, make_source):
    source = make_source(broken_every(1024**2, file(CONTENT)))
    owner = importing(source)
    image = owner.create("one")

    imported = image_of(owner.ended(owner.ImportImage(image_id=image.id, url=source.url + "/disk.raw")))

    assert imported.disks[0].sha256 == SHA256
    assert source.connections >= 5


def test_a_file_of_another_format_is_converted(importing, make_source, tmp_path: Path):
    needs(shutil.which("qemu-img"), "qemu-img")
    (tmp_path / "disk.raw").write_bytes(CONTENT + bytes(-len(CONTENT) % 512))
    qcow2 = tmp_path / "disk.qcow2"
    subprocess.run(
        ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", tmp_path / "disk.raw", qcow2], check=True
    )
    source = make_source(file(qcow2.read_bytes()))
    owner = importing(source)
    image = owner.create("one")

    operation = owner.ended(
        owner.ImportImage(
            image_id=image.id,
            url=source.url + "/disk.qcow2",
            source_format="QCOW2",
            size_bytes=qcow2.stat().st_size,
            sha256=hashlib.sha256(qcow2.read_bytes()).hexdigest(),
        )
    )

    assert image_of(operation).disks[0].format == image_pb2.Disk.RAW
    assert owner.download(image.id) == (tmp_path / "disk.raw").read_bytes()
    assert metadata_of(operation).done_bytes == qcow2.stat().st_size


def test_the_disk_of_an_ova_is_taken(importing, make_source):
    source = make_source(file(ova(member())))
    owner = importing(source)
    image = owner.create("one", disks=[{"format": "VMDK"}])

    imported = image_of(
        owner.ended(owner.ImportImage(image_id=image.id, url=source.url + "/machine.ova", ova=True))
    )

    assert imported.disks[0].sha256 == hashlib.sha256(stream_vmdk()).hexdigest()


@pytest.mark.parametrize(
    ("answer", "fields", "reason"),
    [
        pytest.param(file(CONTENT), {"sha256": "ab" * 32}, "DIGEST_MISMATCH", id="other bytes"),
        pytest.param(file(CONTENT), {"size_bytes": 10}, "SIZE_MISMATCH", id="another size"),
        pytest.param(lambda _: [head(404, Content_Length=0)], {}, "IMPORT_SOURCE_REFUSED", id="none"),
        pytest.param(file(CONTENT), {"source_format": "QCOW2"}, "FORMAT_MISMATCH", id="another format"),
        pytest.param(file(CONTENT), {"ova": True}, "UNSAFE_IMAGE_FILE", id="no archive"),
        pytest.param(
            lambda _: [head(302, Location="http://169.254.169.254/latest", Content_Length=0)],
            {},
            "IMPORT_SOURCE_FORBIDDEN",
            id="a redirection inward",
        ),
    ],
)
def test_what_cannot_be_taken_ends_the_operation_and_leaves_nothing(
    answer, fields, reason, importing, make_source
):
    source = make_source(answer)
    owner = importing(source)
    image = owner.create("one")

    ended = owner.ended(owner.ImportImage(image_id=image.id, url=source.url + "/disk", **fields))

    assert error_of(ended).reason == reason
    assert nothing_is_left(owner, image.id)
    owner.upload(image.id, b"another way to fill it")


def test_more_than_the_quota_ends_the_operation_and_leaves_nothing(importing, make_source):
    source = make_source(file(CONTENT))
    owner = importing(source, stored_bytes_per_tenant=len(CONTENT) - 1)
    image = owner.create("one")

    ended = owner.ended(owner.ImportImage(image_id=image.id, url=source.url + "/disk"))

    assert error_of(ended).reason == "STORAGE_QUOTA_EXCEEDED"
    assert nothing_is_left(owner, image.id)


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/x", "http://example.org/x", "file:///etc/passwd", "https://[::1]/x"]
)
def test_where_nobody_may_go_is_refused_at_once(url: str, importing):
    owner = importing()
    image = owner.create("one")

    with declined() as seen:
        owner.ImportImage(image_id=image.id, url=url)

    assert (seen.code, seen.reason) == ("FAILED_PRECONDITION", "IMPORT_SOURCE_FORBIDDEN")
    assert nothing_is_left(owner, image.id)


def test_an_ova_is_a_vmdk(importing):
    owner = importing()
    image = owner.create("one")

    with declined() as seen:
        owner.ImportImage(image_id=image.id, url="https://x.org/", ova=True, source_format="RAW")

    assert (seen.reason, seen.metadata["field"]) == ("INVALID_FIELD", "source_format")


def test_while_it_is_fetched_nobody_fills_the_disk_and_cancelling_leaves_nothing(importing, make_source):
    reached = threading.Event()
    source: Source

    def answer(_request):
        yield head(Content_Length=len(CONTENT))
        yield CONTENT[: 2 * 1024**2]
        reached.set()
        yield source.stay_silent

    source = make_source(answer)
    owner = importing(source)
    image = owner.create("one")
    begun = owner.ImportImage(image_id=image.id, url=source.url + "/disk")
    assert reached.wait(30)
    with declined() as busy:
        owner.upload(image.id, b"other bytes")

    owner.CancelOperation(name=begun.name)

    assert busy.reason == "IMAGE_BUSY"
    assert error_of(owner.ended(begun)).reason == "OPERATION_CANCELLED"
    assert nothing_is_left(owner, image.id)


def test_the_url_is_shown_to_nobody(importing, make_source):
    source = make_source(file(CONTENT))
    owner = importing(source)
    image = owner.create("one")
    ended = owner.ended(
        owner.ImportImage(image_id=image.id, url=source.url + "/disk?X-Amz-Signature=a-secret")
    )

    events = owner.ListAuditEvents(filter={"image_id": image.id})

    assert "a-secret" not in str(ended) + str(events)
    assert "ImportImage" in {event.action for event in events.events}


def test_a_service_fills_what_it_declared(importing, make_source, as_: As):
    source = make_source(file(CONTENT))
    compute = as_("compute", "service", of=importing(source).service)
    image = compute.create("server", source={"ecs": {"server_id": "s-1"}}, owner_tenant_id=OWNER)

    imported = image_of(compute.ended(compute.ImportImage(image_id=image.id, url=source.url + "/d")))

    assert imported.owner_tenant_id == OWNER


def test_only_who_may_upload_imports(as_: As, service: Service, deployment: Deployment):
    image = as_(OWNER).create("one")

    with declined() as seen:
        as_(OWNER, "reader").ImportImage(image_id=image.id, url="https://example.org/")

    assert seen.reason == "ROLE_REQUIRED"
