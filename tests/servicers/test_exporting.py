"""Exports into buckets (law 6.4), on a real server, with moto's buckets."""

import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from buckets import S3Server, moto
from calling import Tenant, declined, error_of, metadata_of
from conftest import As, Clock, MakeService, needs
from disk_files.makers import TINY_QCOW2, iso
from ims.blob_store.s3_bucket import S3Bucket
from ims.bootstrap import Service
from ims.domain.image import KeyId
from ims.domain.operation import OperationKind
from ims.providers.keys import add_key
from ims.use_cases.checkup import check_up
from ims.use_cases.deployment import Deployment
from ims.use_cases.executor import MOST_ATTEMPTS, Executor
from ims.use_cases.exporting import Exporting
from ims.use_cases.jobs import Job
from ims.v1 import image_service_pb2, operation_metadata_pb2

CONTENT = os.urandom(9 * 1024**2 + 77)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
KEY = "exports/debian 12.raw"
OPERATION = operation_metadata_pb2.OperationMetadata
CBR = {"type": "FULL_ECS", "source": {"cbr_backup": {"backup_id": "b"}}, "owner_tenant_id": "owner"}


@pytest.fixture(scope="module")
def store() -> Iterator[S3Server]:
    with moto() as server:
        yield server


@pytest.fixture
def bucket(store: S3Server) -> str:
    return store.new_bucket()


@pytest.fixture
def s3(store: S3Server) -> Iterator[Any]:
    client = store.client()
    yield client
    client.close()


def setting(store: S3Server, bucket: str, *tenants: str) -> dict[str, Any]:
    return {
        "bucket": bucket,
        "endpoint_url": store.endpoint_url,
        "region": "us-east-1",
        "path_style": True,
        "access_key_id": store.access_key_id,
        "secret_access_key": store.secret_access_key,
        "tenants": tenants,
    }


@pytest.fixture
def open_(store: S3Server, bucket: str) -> dict[str, Any]:
    """The settings of a deployment whose owner may export into the bucket."""
    return {"export_buckets": [setting(store, bucket, "owner", "recipient")]}


@pytest.fixture
def service(make_service: MakeService, open_: dict[str, Any]) -> Service:
    service = make_service(**open_)
    add_key(service.settings.keys, KeyId("key-1"))
    return service


@pytest.fixture
def idle(make_service: MakeService, open_: dict[str, Any]) -> Service:
    """A service that does no operations by itself."""
    service = make_service(operation_threads=0, **open_)
    add_key(service.settings.keys, KeyId("key-1"))
    return service


@pytest.fixture
def owner(service: Service, as_: As) -> Tenant:
    return as_("owner")


Objects = Callable[[], dict[str, bytes]]


@pytest.fixture
def objects(s3: Any, bucket: str) -> Objects:
    """Return what is in the bucket, in which no upload is unfinished."""

    def look() -> dict[str, bytes]:
        assert not s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        listed = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {
            each["Key"]: s3.get_object(Bucket=bucket, Key=each["Key"])["Body"].read() for each in listed
        }

    return look


def exported(operation: Any) -> image_service_pb2.ExportedObject:
    assert operation.WhichOneof("result") == "response", operation
    answer = image_service_pb2.ExportedObject()
    assert operation.response.Unpack(answer)
    return answer


def disable(service: Service, key_id: str) -> None:
    keys = service.settings.keys
    keys.write_text(keys.read_text().replace(f"[keys.{key_id}]", f"[keys.{key_id}]\ndisabled = true"))


class TestWhatIsThereAfterwards:
    @pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
    def test_the_bytes_as_they_were_uploaded(
        self, owner: Tenant, bucket: str, objects: Objects, encrypted: bool
    ):
        fields = {"encryption_key_id": "key-1"} if encrypted else {}
        image = owner.active("one", CONTENT, **fields)

        begun = owner.ExportImage(image_id=image.id, bucket=bucket, object_key=KEY)

        metadata = metadata_of(begun)
        assert metadata.kind == metadata.EXPORT_IMAGE
        assert (metadata.image_id, metadata.source_image_id) == ("", image.id)
        assert (metadata.export_target.bucket, metadata.export_target.object_key) == (bucket, KEY)
        ended = owner.ended(begun)
        assert exported(ended) == image_service_pb2.ExportedObject(
            bucket=bucket, object_key=KEY, format="RAW", size_bytes=len(CONTENT), sha256=SHA256
        )
        assert metadata_of(ended).done_bytes == metadata.total_bytes == len(CONTENT)
        assert objects() == {KEY: CONTENT}
        assert owner.GetImage(image_id=image.id).image == image

    def test_a_repeated_call_gets_the_same_operation(self, owner: Tenant, bucket: str):
        image = owner.active("one")
        call = {"image_id": image.id, "bucket": bucket, "object_key": KEY, "request_id": "once"}

        first = owner.ExportImage(**call)
        owner.ended(first)

        assert owner.ExportImage(**call) == first
        assert len(owner.ListOperations().operations) == 1

    def test_what_is_only_validated_begins_nothing(self, owner: Tenant, bucket: str, objects: Objects):
        image = owner.active("one")

        judged = owner.ExportImage(
            image_id=image.id, bucket=bucket, object_key=KEY, format="VHD", validate_only=True
        )

        assert (judged.name, judged.done) == ("", True)
        assert exported(judged) == image_service_pb2.ExportedObject(
            bucket=bucket, object_key=KEY, format="VHD"
        )
        assert not owner.ListOperations().operations
        assert objects() == {}

    def test_it_is_on_record_where_it_went(self, owner: Tenant, bucket: str):
        image = owner.active("one", CONTENT)
        owner.ended(owner.ExportImage(image_id=image.id, bucket=bucket, object_key=KEY))

        about = {"image_id": image.id, "action": "ExportImage"}
        begun, done = owner.ListAuditEvents(filter=about, order_by="time").events

        said = {"bucket": bucket, "objectKey": KEY, "format": "RAW"}
        states = {"stateFrom": "ACTIVE", "stateTo": "ACTIVE"}
        assert dict(begun.details) == said | states
        assert dict(done.details) == said | states | {"exportedBytes": str(len(CONTENT))}


class TestOtherFormats:
    @pytest.mark.parametrize("target", ["RAW", "QCOW2", "VMDK", "VHD", "VHDX", "VDI", "QED", "QCOW"])
    def test_hold_the_same_disk(
        self, owner: Tenant, bucket: str, objects: Objects, target: str, tmp_path: Path
    ):
        qemu_img = needs(shutil.which("qemu-img"), "qemu-img")
        source = tmp_path / "source.qcow2"
        subprocess.run([qemu_img, "create", "-q", "-f", "qcow2", source, "6M"], check=True)
        write = ["-c", "write -q -P 7 1M 3M", source]
        subprocess.run([needs(shutil.which("qemu-io"), "qemu-io"), "-f", "qcow2", *write], check=True)
        image = owner.active("one", source.read_bytes(), disks=[{"format": "QCOW2"}])

        ended = owner.ended(
            owner.ExportImage(image_id=image.id, bucket=bucket, object_key=KEY, format=target)
        )

        answer, content = exported(ended), objects()[KEY]
        assert (answer.size_bytes, answer.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        made = tmp_path / "made"
        made.write_bytes(content)
        drivers = {"VHD": "vpc"}
        compared = subprocess.run(
            [
                *(qemu_img, "compare", "-f", "qcow2", "-F", drivers.get(target, target.lower())),
                *(source, made),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert compared.stdout == "Images are identical.\n", compared

    def test_the_disks_own_is_not_converted(self, owner: Tenant, bucket: str, objects: Objects):
        image = owner.active("one", TINY_QCOW2.read_bytes(), disks=[{"format": "QCOW2"}])

        owner.ended(owner.ExportImage(image_id=image.id, bucket=bucket, object_key=KEY, format="QCOW2"))

        assert objects()[KEY] == TINY_QCOW2.read_bytes()

    def test_nothing_is_left_in_the_folder_of_conversions(
        self, owner: Tenant, service: Service, bucket: str
    ):
        image = owner.active("one", TINY_QCOW2.read_bytes(), disks=[{"format": "QCOW2"}])

        owner.ended(owner.ExportImage(image_id=image.id, bucket=bucket, object_key=KEY, format="RAW"))

        assert not list((service.settings.data / "conversions").iterdir())


class TestWhatIsRefused:
    @pytest.fixture
    def refused(self, bucket: str, objects: Objects) -> Any:
        def call(tenant: Tenant, image_id: str, **fields: Any) -> str:
            with declined() as said:
                tenant.ExportImage(
                    **{"image_id": image_id, "bucket": bucket, "object_key": KEY, **fields}
                )
            begun = map(metadata_of, tenant.ListOperations().operations)
            assert OPERATION.EXPORT_IMAGE not in {each.kind for each in begun}
            assert objects() == {}
            return f"{said.code} {said.reason}"

        return call

    def test_what_is_not_ones_own(self, owner: Tenant, as_: As, refused):
        image = owner.active("one")
        recipient, stranger = as_("recipient"), as_("stranger")
        owner.ShareImage(image_id=image.id, recipients=[{"tenant_id": "recipient"}])
        recipient.AcceptShare(image_id=image.id)

        assert refused(recipient, image.id) == "PERMISSION_DENIED NOT_IMAGE_OWNER"
        assert refused(stranger, image.id) == "NOT_FOUND IMAGE_NOT_FOUND"
        assert refused(as_("owner", "reader"), image.id) == "PERMISSION_DENIED ROLE_REQUIRED"
        as_("root", "admin").PublishImage(image_id=image.id)
        assert refused(recipient, image.id) == "PERMISSION_DENIED NOT_IMAGE_OWNER"
        assert refused(owner, image.id) == "FAILED_PRECONDITION PUBLIC_IMAGE_NOT_EXPORTABLE"

    def test_types_and_states(self, owner: Tenant, as_: As, refused):
        full = as_("cbr", "service").active("server", **CBR)
        medium = owner.active("iso", iso(), type="ISO", disks=[{"format": "ISO"}])
        queued = owner.create("queued")
        off = owner.active("off")
        owner.DeactivateImage(image_id=off.id)

        assert refused(owner, full.id) == "FAILED_PRECONDITION FULL_ECS_NOT_EXPORTABLE"
        assert refused(owner, medium.id) == "FAILED_PRECONDITION ISO_NOT_EXPORTABLE"
        assert refused(owner, queued.id) == "FAILED_PRECONDITION IMAGE_NOT_ACTIVE"
        assert refused(owner, off.id) == "FAILED_PRECONDITION IMAGE_NOT_ACTIVE"
        assert refused(owner, off.id, format="ISO") == "INVALID_ARGUMENT INVALID_FIELD"

    def test_a_copy_of_a_marked_public_image(self, owner: Tenant, as_: As, refused):
        image = as_("vendor").active("one")
        as_("root", "admin").PublishImage(image_id=image.id, non_exportable=True)
        copy = owner.copied(owner.copied(image.id, "copy").id, "copy of the copy")

        assert refused(owner, copy.id) == "FAILED_PRECONDITION IMAGE_NOT_EXPORTABLE"

    def test_a_copy_of_any_other_public_image_is_exported(
        self, owner: Tenant, as_: As, bucket: str, objects: Objects
    ):
        image = as_("vendor").active("one", CONTENT)
        as_("root", "admin").PublishImage(image_id=image.id)
        copy = owner.copied(image.id, "copy")

        owner.ended(owner.ExportImage(image_id=copy.id, bucket=bucket, object_key=KEY))

        assert objects() == {KEY: CONTENT}

    def test_a_key_that_is_disabled(self, owner: Tenant, service: Service, refused):
        image = owner.active("one", encryption_key_id="key-1")
        disable(service, "key-1")

        assert refused(owner, image.id) == "FAILED_PRECONDITION KEY_UNAVAILABLE"

    def test_a_bucket_that_is_not_open_is_like_none(
        self, make_service: MakeService, as_: As, store: S3Server, bucket: str
    ):
        other = store.new_bucket()
        service = make_service(
            export_buckets=[setting(store, bucket, "owner"), setting(store, other, "another")]
        )
        owner = as_("owner", of=service)
        image = owner.active("one")

        answers = []
        for name in (other, "f" * len(other)):
            with declined() as said:
                owner.ExportImage(image_id=image.id, bucket=name, object_key=KEY)
            assert (said.code, said.reason) == ("FAILED_PRECONDITION", "EXPORT_BUCKET_NOT_OPEN")
            answers.append(said.status_bytes.replace(name.encode(), b""))
        assert answers[0] == answers[1]

    @pytest.mark.parametrize(
        "fields",
        [
            {"object_key": ""},
            {"bucket": ""},
            {"object_key": "a" * 961},
            {"object_key": "ä" * 481},
            {"object_key": "a\nb"},
            {"object_key": "/a"},
            {"object_key": "a//b"},
            {"object_key": "a/"},
            {"object_key": "a/../b"},
            {"object_key": "./b"},
            {"bucket": "b" * 256},
            {"format": 77},
        ],
    )
    def test_what_is_no_name(self, owner: Tenant, refused, fields: dict[str, Any]):
        assert refused(owner, owner.active("one").id, **fields) == "INVALID_ARGUMENT INVALID_FIELD"

    @pytest.mark.parametrize("name", ["a" * 960, "ä" * 480, "..a/b..", "a b+%2f&?.qcow2"])
    def test_what_is_one(self, owner: Tenant, bucket: str, objects: Objects, name: str):
        image = owner.active("one", b"four")

        owner.ended(owner.ExportImage(image_id=image.id, bucket=bucket, object_key=name))

        assert objects() == {name: b"four"}

    def test_a_format_without_qemu_img(self, owner: Tenant, service: Service, refused, monkeypatch):
        monkeypatch.setattr(service.deployment.converter, "_qemu_img", "there-is-no-such-program")

        assert (
            refused(owner, owner.active("one").id, format="VHD")
            == "FAILED_PRECONDITION CONVERSION_UNAVAILABLE"
        )


class TestNothingIsOverwritten:
    def test_what_is_there_declines_the_call(
        self, owner: Tenant, bucket: str, s3: Any, objects: Objects
    ):
        image = owner.active("one")
        s3.put_object(Bucket=bucket, Key=KEY, Body=b"of somebody else")

        for validate_only in (False, True):
            with declined() as taken:
                owner.ExportImage(
                    image_id=image.id, bucket=bucket, object_key=KEY, validate_only=validate_only
                )
            assert (taken.code, taken.reason) == ("ALREADY_EXISTS", "EXPORT_TARGET_EXISTS")
            assert taken.metadata == {"bucket": bucket, "objectKey": KEY}

        assert objects() == {KEY: b"of somebody else"}
        assert not owner.ListOperations().operations

    def test_what_comes_meanwhile_fails_the_operation(
        self, idle: Service, as_: As, bucket: str, s3: Any, objects: Objects
    ):
        owner = as_("owner", of=idle)
        image = owner.active("one", CONTENT)
        operation = owner.ExportImage(image_id=image.id, bucket=bucket, object_key=KEY)
        s3.put_object(Bucket=bucket, Key=KEY, Body=b"of somebody else")

        assert idle._executor.do_next()

        failed = error_of(owner.GetOperation(name=operation.name))
        assert (failed.code, failed.reason) == ("ALREADY_EXISTS", "EXPORT_TARGET_EXISTS")
        assert objects() == {KEY: b"of somebody else"}
        (abandoned,) = owner.ListAuditEvents(filter={"action": "AbandonExport"}).events
        assert abandoned.actor.kind == abandoned.actor.SYSTEM

    def test_of_two_at_once_one_wins(self, make_service: MakeService, as_: As, radosgw: S3Server):
        """On a real store: moto lets both win."""
        bucket, client = radosgw.new_bucket(), radosgw.client()
        named = [setting(radosgw, bucket, "owner")]
        idle = make_service(operation_threads=0, export_buckets=named)
        owner = as_("owner", of=idle)
        contents = [os.urandom(6 * 1024**2) for _ in range(2)]
        begun = [
            owner.ExportImage(
                image_id=owner.active(f"image-{number}", content).id, bucket=bucket, object_key=KEY
            )
            for number, content in enumerate(contents)
        ]
        both = [
            threading.Thread(target=Executor(idle.deployment, f"worker-{number}").do_next)
            for number in range(2)
        ]
        for each in both:
            each.start()
        for each in both:
            each.join()

        ended = [owner.GetOperation(name=each.name) for each in begun]
        (winner,) = [number for number, each in enumerate(ended) if each.HasField("response")]
        assert error_of(ended[1 - winner]).reason == "EXPORT_TARGET_EXISTS"
        assert client.get_object(Bucket=bucket, Key=KEY)["Body"].read() == contents[winner]
        assert len(client.list_objects_v2(Bucket=bucket)["Contents"]) == 1
        assert not client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        client.close()


class TestWhatEndsIt:
    @pytest.mark.parametrize(
        ("happens", "reason"),
        [
            ("deactivated", "IMAGE_NOT_ACTIVE"),
            ("deleted", "IMAGE_DELETED"),
            ("published", "PUBLIC_IMAGE_NOT_EXPORTABLE"),
            ("marked", "IMAGE_NOT_EXPORTABLE"),
            ("suspended", "TENANT_SUSPENDED"),
            ("disabled", "KEY_UNAVAILABLE"),
        ],
    )
    def test_what_a_call_would_be_refused_for(
        self, idle: Service, as_: As, bucket: str, objects: Objects, happens: str, reason: str
    ):
        owner, admin = as_("owner", of=idle), as_("root", "admin", of=idle)
        key = {"encryption_key_id": "key-1"} if happens == "disabled" else {}
        image = owner.active("one", CONTENT, **key)
        admin.RegisterTenant(tenant_id="owner", region="eu-de")
        operation = owner.ExportImage(image_id=image.id, bucket=bucket, object_key=KEY)

        def mark() -> None:
            admin.PublishImage(image_id=image.id, non_exportable=True)
            admin.UnpublishImage(image_id=image.id)

        def just_before_the_end() -> None:
            {
                "deactivated": lambda: owner.DeactivateImage(image_id=image.id),
                "deleted": lambda: owner.DeleteImage(image_id=image.id),
                "published": lambda: admin.PublishImage(image_id=image.id),
                "marked": mark,
                "suspended": lambda: admin.SuspendTenant(tenant_id="owner"),
                "disabled": lambda: disable(idle, "key-1"),
            }[happens]()

        at_the_last_byte(idle, just_before_the_end, size_bytes=len(CONTENT)).do_next()

        if happens == "suspended":
            admin.ResumeTenant(tenant_id="owner")
        assert error_of(owner.GetOperation(name=operation.name)).reason == reason
        assert objects() == {}

    @pytest.mark.parametrize("target", ["RAW", "VHD"])
    def test_cancelled_it_leaves_nothing(
        self, idle: Service, as_: As, bucket: str, s3: Any, objects: Objects, target: str
    ):
        owner = as_("owner", of=idle)
        image = owner.active("one", CONTENT + bytes(-len(CONTENT) % 512))
        operation = owner.ExportImage(image_id=image.id, bucket=bucket, object_key=KEY, format=target)
        executor = at_the_last_byte(
            idle,
            lambda: (owner.CancelOperation(name=operation.name), executor.hold_all()),
            size_bytes=len(CONTENT) // 2,
        )

        executor.do_next()

        assert error_of(owner.GetOperation(name=operation.name)).reason == "OPERATION_CANCELLED"
        assert objects() == {}
        assert not list(idle.settings.data.glob("conversions/*"))
        assert not list(check_up(idle.deployment, settled=timedelta(0)))

    def test_bytes_that_are_not_what_was_stored_are_not_exported(
        self, idle: Service, as_: As, bucket: str, objects: Objects, files_of
    ):
        owner = as_("owner", of=idle)
        image = owner.active("one", CONTENT)
        operation = owner.ExportImage(image_id=image.id, bucket=bucket, object_key=KEY)
        (file,) = files_of(idle)
        file.chmod(0o600)
        file.write_bytes(b"x" + CONTENT[1:])

        assert idle._executor.do_next()

        assert error_of(owner.GetOperation(name=operation.name)).reason == "DISK_DATA_DAMAGED"
        assert objects() == {}


def at_the_last_byte(service: Service, happens: Callable[[], object], *, size_bytes: int) -> Executor:
    """Return an executor of exports during which something happens, once so many bytes were read."""
    happened: list[bool] = []

    class Watching(Exporting):
        def do(self, deployment: Deployment, job: Job) -> None:
            goes_on = job.goes_on

            def watch() -> None:
                if job.done_bytes >= size_bytes and not happened:
                    happened.append(True)
                    happens()
                goes_on()

            job.goes_on = watch  # type: ignore[method-assign]
            super().do(deployment, job)
            assert happened

    return Executor(service.deployment, "watching", {OperationKind.EXPORT_IMAGE: Watching()})


class Killed(BaseException):
    """Ends a worker as a power cut does: nothing of its own is heard of any more."""


class TestTakenOver:
    """What a worker has left is found by the next, wherever it was killed."""

    @pytest.fixture
    def killed_in(self, idle: Service, clock: Clock, monkeypatch) -> Any:
        """Do the next export up to a call of the bucket, before or behind which it is killed."""

        def kill(method: str, *, behind: bool) -> None:
            real = getattr(S3Bucket, method)

            def die(*args: Any, **options: Any) -> None:
                if behind:
                    real(*args, **options)
                raise Killed

            with monkeypatch.context() as patched:
                patched.setattr(S3Bucket, method, die)
                patched.setattr(S3Bucket, "abort_upload", die if method == "abort_upload" else _dead)
                with pytest.raises(Killed):
                    Executor(idle.deployment, "killed").do_next()
            clock.advance(seconds=21)

        def _dead(*_: Any) -> None:
            raise Killed

        return kill

    @pytest.fixture
    def begun(self, idle: Service, as_: As, bucket: str, store: S3Server) -> Any:
        owner = as_("owner", of=idle)
        image = owner.active("one", CONTENT)
        # So that the trial of the store is behind us.
        first = owner.ExportImage(image_id=image.id, bucket=bucket, object_key="first")
        assert idle._executor.do_next()
        assert exported(owner.GetOperation(name=first.name))
        operation = owner.ExportImage(image_id=image.id, bucket=bucket, object_key=KEY)
        return owner, operation

    @pytest.mark.parametrize(
        ("method", "behind"),
        [("put_part", False), ("put_part", True), ("finish_upload", False), ("finish_upload", True)],
    )
    def test_it_is_finished_once(
        self, begun: Any, killed_in: Any, idle: Service, objects: Objects, method: str, behind: bool
    ):
        owner, operation = begun
        killed_in(method, behind=behind)
        assert not owner.GetOperation(name=operation.name).done

        assert Executor(idle.deployment, "next").do_next()

        answer = exported(owner.GetOperation(name=operation.name))
        assert (answer.size_bytes, answer.sha256) == (len(CONTENT), SHA256)
        assert objects() == {"first": CONTENT, KEY: CONTENT}

    @pytest.mark.parametrize(
        ("method", "behind"), [("put_part", True), ("finish_upload", False), ("finish_upload", True)]
    )
    def test_or_cancelled_and_gone(
        self, begun: Any, killed_in: Any, idle: Service, objects: Objects, method: str, behind: bool
    ):
        owner, operation = begun
        killed_in(method, behind=behind)
        owner.CancelOperation(name=operation.name)

        assert Executor(idle.deployment, "next").do_next()

        assert error_of(owner.GetOperation(name=operation.name)).reason == "OPERATION_CANCELLED"
        assert objects() == {"first": CONTENT}

    def test_a_worker_that_was_only_slow_changes_nothing(
        self, begun: Any, idle: Service, clock: Clock, objects: Objects
    ):
        owner, operation = begun

        def overtaken() -> None:
            clock.advance(seconds=21)
            assert Executor(idle.deployment, "faster").do_next()

        at_the_last_byte(idle, overtaken, size_bytes=len(CONTENT)).do_next()

        assert exported(owner.GetOperation(name=operation.name)).sha256 == SHA256
        assert objects() == {"first": CONTENT, KEY: CONTENT}

    def test_a_bucket_that_is_away_is_asked_again_before_it_is_given_up(
        self, begun: Any, killed_in: Any, idle: Service, clock: Clock, objects: Objects, monkeypatch
    ):
        owner, operation = begun
        killed_in("put_part", behind=True)
        owner.CancelOperation(name=operation.name)
        with monkeypatch.context() as away:
            away.setattr(idle.deployment.exports, "bucket", _away)
            Executor(idle.deployment, "next").do_next()
        assert not owner.GetOperation(name=operation.name).done

        clock.advance(seconds=21)
        Executor(idle.deployment, "next").do_next()

        assert owner.GetOperation(name=operation.name).done
        assert objects() == {"first": CONTENT}

    def test_but_not_for_ever(
        self, begun: Any, killed_in: Any, idle: Service, clock: Clock, monkeypatch
    ):
        owner, operation = begun
        killed_in("put_part", behind=True)
        owner.CancelOperation(name=operation.name)
        monkeypatch.setattr(idle.deployment.exports, "bucket", _away)

        for _ in range(MOST_ATTEMPTS):
            Executor(idle.deployment, "next").do_next()
            clock.advance(seconds=21)

        assert error_of(owner.GetOperation(name=operation.name)).reason == "OPERATION_CANCELLED"


def _away(_name: str) -> Any:
    from ims.blob_store.interface import storage_unavailable  # noqa: PLC0415 - only here

    raise storage_unavailable()


def test_a_service_without_buckets_loads_nothing_for_them(make_service: MakeService, as_: As):
    service = make_service()
    owner = as_("owner", of=service)

    with declined() as said:
        owner.ExportImage(image_id=owner.active("one").id, bucket="any", object_key=KEY)

    assert said.reason == "EXPORT_BUCKET_NOT_OPEN"
    assert not service.deployment.exports._connected
