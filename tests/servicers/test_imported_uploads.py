"""Files that are uploaded to be converted (law 5.11, 5.14), on a real server."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from buckets import S3Server, moto
from builders import OWNER
from calling import MIB, Tenant, declined, error_of, image_of, metadata_of
from conftest import As, Clock, MakeService, needs
from disk_files.makers import TINY_QCOW2, TINY_QCOW2_CAPACITY, stream_vmdk
from disk_files.test_ova import member, ova
from ims.bootstrap import Service
from ims.disk_files.conversion import Converter
from ims.domain.image import BlobKey, KeyId
from ims.providers.keys import add_key
from ims.use_cases.checkup import check_up
from ims.use_cases.image_data import give_up_dead_uploads
from ims.use_cases.jobs import Job
from ims.v1 import image_pb2, upload_pb2

TINY = TINY_QCOW2.read_bytes()
VMDK = image_pb2.Disk.VMDK
A_DAY_SECONDS = 24 * 3600


@pytest.fixture(autouse=True)
def qemu_img() -> str:
    return needs(shutil.which("qemu-img"), "qemu-img")


@pytest.fixture(scope="module")
def believing() -> Iterator[S3Server]:
    with moto() as server:
        yield server


@pytest.fixture
def owner(as_: As) -> Tenant:
    return as_(OWNER)


@pytest.fixture
def idle_owner(idle: Service, as_: As) -> Tenant:
    """The owner, at a service that does no operations by itself."""
    return as_(OWNER, of=idle)


@pytest.fixture
def disk_of(tmp_path: Path, qemu_img: str) -> Callable[[bytes], bytes]:
    """Return what the disk in a QCOW2 file holds."""

    def disk(content: bytes) -> bytes:
        (tmp_path / "source").write_bytes(content)
        command = [qemu_img, "convert", "-f", "qcow2", "-O", "raw", "source", "disk"]
        subprocess.run(command, cwd=tmp_path, check=True)
        return (tmp_path / "disk").read_bytes()

    return disk


@pytest.fixture
def large(tmp_path: Path, qemu_img: str) -> bytes:
    """A QCOW2 file of more than three MiB."""
    (tmp_path / "large").write_bytes(os.urandom(3 * MIB))
    command = [qemu_img, "convert", "-f", "raw", "-O", "qcow2", "large", "large.qcow2"]
    subprocess.run(command, cwd=tmp_path, check=True)
    return (tmp_path / "large.qcow2").read_bytes()


def started(tenant: Tenant, content: bytes = TINY, **fields: Any) -> upload_pb2.Upload:
    """Start the upload of a QCOW2 file for a new image that is RAW."""
    create = {key: fields.pop(key) for key in ("disks", "encryption_key_id") if key in fields}
    image = tenant.create("one", **create)
    return tenant.start_upload(image.id, content, **({"source_format": "QCOW2"} | fields))


def brought(tenant: Tenant, content: bytes = TINY, **fields: Any) -> upload_pb2.Upload:
    """Bring every byte of the same."""
    return tenant.write_upload(started(tenant, content, **fields), content)


def take(tenant: Tenant, upload: upload_pb2.Upload, **fields: Any) -> Any:
    return tenant.ImportImage(image_id=upload.image_id, upload_id=upload.id, **fields)


def nothing_is_left(tenant: Tenant, service: Service, image_id: str) -> None:
    """See that an image waits for its disk as if nobody had ever tried to fill it."""
    image = tenant.GetImage(image_id=image_id).image
    assert (image.state, image.disks[0].state) == (image_pb2.Image.QUEUED, image_pb2.Disk.EMPTY)
    quotas = tenant.GetQuotas().quotas
    assert quotas.stored_bytes.used == quotas.creations.used == 0
    assert not list(service.deployment.blobs.keys())
    assert not list(service.settings.data.glob("conversions/*"))
    assert not list(check_up(service.deployment, settled=timedelta(0)))
    filled = tenant.upload(image_id, stream_vmdk() if image.disks[0].format == VMDK else b"x" * 512)
    assert filled.image.state == image_pb2.Image.ACTIVE


@pytest.mark.parametrize("store", ["folder", "bucket"])
@pytest.mark.parametrize("key", ["", "key-1"], ids=["plain", "encrypted"])
def test_a_file_that_was_uploaded_becomes_the_disk(
    store: str, key: str, make_service: MakeService, as_: As, believing: S3Server, large, disk_of
):
    service = make_service(s3=believing.setting(believing.new_bucket()) if store == "bucket" else None)
    add_key(service.settings.keys, KeyId("key-1"))
    owner = as_(OWNER, of=service)
    upload = brought(owner, large, encryption_key_id=key)

    assert (upload.source_format, upload.ova) == (image_pb2.Disk.QCOW2, False)
    assert owner.GetQuotas().quotas.stored_bytes.used == len(large)
    operation = owner.ended(take(owner, upload))

    image = image_of(operation)
    assert image.state == image.ACTIVE
    assert image == owner.GetImage(image_id=image.id).image
    assert image_pb2.Disk.Format.Name(image.disks[0].format) == "RAW"
    assert owner.download(image.id) == disk_of(large)
    assert metadata_of(operation).done_bytes == metadata_of(operation).total_bytes == len(large)
    quotas = owner.GetQuotas().quotas
    assert (quotas.stored_bytes.used, quotas.creations.used) == (image.size_bytes, 0)
    assert len(list(service.deployment.blobs.keys())) == 1
    assert not list(check_up(service.deployment, settled=timedelta(0)))


@pytest.mark.parametrize("key", ["", "key-1"], ids=["plain", "encrypted"])
def test_what_came_in_several_goes_is_converted_too(owner: Tenant, large: bytes, disk_of, key: str):
    upload = started(owner, large, encryption_key_id=key)
    owner.write_upload(upload, large[: 2 * MIB])
    kept = owner.GetUpload(image_id=upload.image_id).upload.received_bytes
    assert 0 < kept < len(large)
    owner.write_upload(upload, large[kept:], offset_bytes=kept)

    image = image_of(owner.ended(take(owner, upload)))

    assert owner.download(image.id) == disk_of(large)


def test_the_disk_of_an_ova_is_taken(owner: Tenant):
    machine = ova(member())
    upload = brought(owner, machine, disks=[{"format": "VMDK"}], source_format=None, ova=True)

    image = image_of(owner.ended(take(owner, upload)))

    assert image.disks[0].sha256 == hashlib.sha256(stream_vmdk()).hexdigest()


def test_a_file_of_the_disks_own_format_is_finished(owner: Tenant):
    upload = brought(owner, TINY, disks=[{"format": "QCOW2"}])

    assert upload.source_format == image_pb2.Disk.FORMAT_UNSPECIFIED
    finished = owner.FinishUpload(image_id=upload.image_id, upload_id=upload.id)
    assert finished.image.state == image_pb2.Image.ACTIVE


def test_it_may_be_imported_too(owner: Tenant):
    image = image_of(owner.ended(take(owner, brought(owner, TINY, disks=[{"format": "QCOW2"}]))))

    assert owner.download(image.id) == TINY


def test_the_same_again_is_the_same_upload_and_another_is_none(owner: Tenant):
    upload = started(owner)

    again = owner.start_upload(upload.image_id, TINY, source_format="QCOW2")
    with declined() as other_format:
        owner.start_upload(upload.image_id, TINY, source_format="VMDK")
    with declined() as archive:
        owner.start_upload(upload.image_id, TINY, ova=True)

    assert again.id == upload.id
    assert other_format.reason == archive.reason == "IMAGE_BUSY"


class TestWhatIsRefused:
    def test_to_finish_what_is_to_be_converted(self, owner: Tenant):
        upload = brought(owner)

        with declined() as refused:
            owner.FinishUpload(image_id=upload.image_id, upload_id=upload.id)

        assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "UPLOAD_NEEDS_CONVERSION")
        assert owner.ended(take(owner, upload)).HasField("response")

    def test_to_import_what_is_not_all_there(self, owner: Tenant):
        upload = started(owner)
        owner.write_upload(upload, TINY[:1000])

        with declined() as refused:
            take(owner, upload)

        assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "UPLOAD_INCOMPLETE")
        assert refused.metadata == {"receivedBytes": "1000", "announcedBytes": str(len(TINY))}
        owner.write_upload(upload, TINY[1000:], offset_bytes=1000)
        assert owner.ended(take(owner, upload)).HasField("response")

    def test_an_upload_that_is_none(self, owner: Tenant, as_: As):
        upload = brought(owner)
        for unknown in ("", "no-such"):
            with declined() as refused:
                owner.ImportImage(image_id=upload.image_id, upload_id=unknown or "x")
            assert refused.reason == "UPLOAD_NOT_FOUND"
        with declined() as hidden:
            take(as_("stranger"), upload)
        assert hidden.reason == "IMAGE_NOT_FOUND"

    def test_what_was_said_when_it_was_started(self, owner: Tenant):
        upload = brought(owner)

        with declined() as refused:
            take(owner, upload, source_format="QCOW2")

        assert (refused.reason, refused.metadata["field"]) == ("INVALID_FIELD", "source_format")

    def test_a_file_that_is_something_else_as_soon_as_that_is_seen(self, owner: Tenant, service):
        upload = started(owner, b"no QCOW2" * 128 * 1024)

        with declined() as refused:
            owner.write_upload(upload, b"no QCOW2" * 128 * 1024)

        assert (refused.reason, refused.metadata["declaredFormat"]) == ("FORMAT_MISMATCH", "QCOW2")
        nothing_is_left(owner, service, upload.image_id)

    @pytest.mark.parametrize(
        ("qemu_img", "source_format", "reason"),
        [("no-such", "QCOW2", "CONVERSION_UNAVAILABLE"), ("qemu-img", "ISO", "CONVERSION_FAILED")],
    )
    def test_what_cannot_be_converted_before_any_byte_of_it(
        self, idle: Service, idle_owner: Tenant, tmp_path, qemu_img, source_format, reason
    ):
        converter = Converter(tmp_path, limits=idle.deployment.converter.limits, qemu_img=qemu_img)
        object.__setattr__(idle.deployment, "converter", converter)

        with declined() as refused:
            started(idle_owner, source_format=source_format)

        assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", reason)
        (image,) = idle_owner.ListImages().images
        nothing_is_left(idle_owner, idle, image.id)


class TestOnce:
    def test_a_repeated_call_gets_the_same_operation(self, owner: Tenant):
        upload = brought(owner)

        first, again = (take(owner, upload, request_id="once") for _ in range(2))

        assert first.name == again.name

    def test_another_call_finds_the_upload_over(self, idle_owner: Tenant):
        upload = brought(idle_owner)
        take(idle_owner, upload)

        for late in (
            lambda: take(idle_owner, upload),
            lambda: idle_owner.write_upload(upload, b"", offset_bytes=len(TINY)),
            lambda: idle_owner.GetUpload(image_id=upload.image_id, upload_id=upload.id),
            lambda: idle_owner.AbortUpload(image_id=upload.image_id, upload_id=upload.id),
            lambda: idle_owner.AbortUpload(image_id=upload.image_id),
        ):
            with declined() as refused:
                late()
            assert refused.reason == "UPLOAD_NOT_FOUND"
        with declined() as busy:
            idle_owner.start_upload(upload.image_id, TINY, source_format="QCOW2")
        assert busy.reason == "IMAGE_BUSY"


class TestWhatEndsIt:
    """Nothing is left then, of the upload neither."""

    def test_limits(self, make_service: MakeService, as_: As):
        service = make_service(conversion={"max_capacity_bytes": TINY_QCOW2_CAPACITY - 1})
        owner = as_(OWNER, of=service)
        upload = brought(owner)

        assert error_of(owner.ended(take(owner, upload))).reason == "CONVERSION_LIMIT_EXCEEDED"
        nothing_is_left(owner, service, upload.image_id)

    def test_a_quota_that_the_converted_file_is_too_large_for(self, make_service, as_: As):
        service = make_service(stored_bytes_per_tenant=TINY_QCOW2_CAPACITY - 1)
        owner = as_(OWNER, of=service)
        upload = brought(owner)

        assert error_of(owner.ended(take(owner, upload))).reason == "STORAGE_QUOTA_EXCEEDED"
        nothing_is_left(owner, service, upload.image_id)

    def test_an_archive_with_another_digest(self, owner: Tenant, service: Service):
        machine = ova(member())
        announced = {"sha256": "ab" * 32, "ova": True, "source_format": None}
        upload = brought(owner, machine, disks=[{"format": "VMDK"}], **announced)

        assert error_of(owner.ended(take(owner, upload))).reason == "DIGEST_MISMATCH"
        nothing_is_left(owner, service, upload.image_id)

    def test_something_that_is_no_archive(self, owner: Tenant, service: Service):
        upload = brought(owner, TINY, disks=[{"format": "VMDK"}], source_format=None, ova=True)

        assert error_of(owner.ended(take(owner, upload))).reason == "UNSAFE_IMAGE_FILE"
        nothing_is_left(owner, service, upload.image_id)

    def test_cancelling_before_it_is_taken_up(self, idle: Service, idle_owner: Tenant):
        upload = brought(idle_owner)
        operation = take(idle_owner, upload)

        idle_owner.CancelOperation(name=operation.name)

        assert not idle._executor.do_next()
        nothing_is_left(idle_owner, idle, upload.image_id)

    def test_cancelling_while_it_is_converted(
        self, idle: Service, idle_owner: Tenant, monkeypatch: pytest.MonkeyPatch
    ):
        upload = brought(idle_owner)
        operation = take(idle_owner, upload)
        goes_on = Job.goes_on

        def cancelled(job: Job) -> None:
            if list(idle.settings.data.glob("conversions/*/result")):
                idle_owner.CancelOperation(name=operation.name)
                job.hold()
            goes_on(job)

        monkeypatch.setattr(Job, "goes_on", cancelled)

        assert idle._executor.do_next()

        ended = idle_owner.GetOperation(name=operation.name)
        assert error_of(ended).reason == "OPERATION_CANCELLED"
        nothing_is_left(idle_owner, idle, upload.image_id)

    def test_a_key_that_is_disabled(self, idle: Service, idle_owner: Tenant):
        upload = brought(idle_owner, encryption_key_id="key-1")
        operation = take(idle_owner, upload)
        keys = idle.settings.keys
        keys.write_text(keys.read_text().replace("[keys.key-1]", "[keys.key-1]\ndisabled = true"))

        assert idle._executor.do_next()

        ended = idle_owner.GetOperation(name=operation.name)
        assert error_of(ended).reason == "KEY_UNAVAILABLE"
        assert idle_owner.GetQuotas().quotas.stored_bytes.used == 0
        assert not list(idle.deployment.blobs.keys())


class TestHowLongItIsKept:
    def test_what_nobody_imports_ends_like_any_upload(
        self, idle: Service, idle_owner: Tenant, clock: Clock
    ):
        upload = brought(idle_owner)

        clock.advance(seconds=A_DAY_SECONDS)

        assert give_up_dead_uploads(idle.deployment) == 1
        nothing_is_left(idle_owner, idle, upload.image_id)

    def test_a_day_from_when_it_was_imported(self, idle: Service, idle_owner: Tenant, clock: Clock):
        upload = brought(idle_owner)
        clock.advance(seconds=A_DAY_SECONDS - 60)
        operation = take(idle_owner, upload)
        clock.advance(seconds=A_DAY_SECONDS - 60)

        assert give_up_dead_uploads(idle.deployment) == 0
        assert idle._executor.do_next()

        assert idle_owner.GetOperation(name=operation.name).HasField("response")

    def test_and_from_when_whoever_works_on_it_was_last_heard_of(
        self, idle: Service, idle_owner: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ):
        """A worker that dies leaves it to the next one."""
        upload = brought(idle_owner)
        operation = take(idle_owner, upload)
        keeps, seen = Job.keeps, []

        def interrupted(job: Job, blob_key: BlobKey) -> None:
            keeps(job, blob_key)
            if not seen:
                clock.advance(seconds=A_DAY_SECONDS - 60)
                job.hold()
                job.interrupt()
                seen.append(job)

        monkeypatch.setattr(Job, "keeps", interrupted)

        assert idle._executor.do_next()
        assert not idle_owner.GetOperation(name=operation.name).done
        clock.advance(seconds=A_DAY_SECONDS - 60)
        assert give_up_dead_uploads(idle.deployment) == 0
        assert idle._executor.do_next()

        assert idle_owner.GetOperation(name=operation.name).HasField("response")

    def test_an_import_whose_upload_has_ended_gives_everything_back(
        self, idle: Service, idle_owner: Tenant, clock: Clock
    ):
        upload = brought(idle_owner)
        operation = take(idle_owner, upload)

        clock.advance(seconds=A_DAY_SECONDS)
        give_up_dead_uploads(idle.deployment)
        assert idle._executor.do_next()

        ended = idle_owner.GetOperation(name=operation.name)
        assert error_of(ended).reason == "UPLOAD_SUPERSEDED"
        nothing_is_left(idle_owner, idle, upload.image_id)


def test_a_service_converts_what_it_declared(service: Service, as_: As):
    compute = as_("compute", "service")
    image = compute.create("server", source={"ecs": {"server_id": "s-1"}}, owner_tenant_id=OWNER)
    upload = compute.start_upload(image.id, TINY, source_format="QCOW2")
    compute.write_upload(upload, TINY)

    imported = image_of(compute.ended(take(compute, upload)))

    assert imported.owner_tenant_id == OWNER
    assert imported.size_bytes == TINY_QCOW2_CAPACITY
