"""Copies whose disk is of another format than their source's (law 5.14, 6.1), on a real server."""

import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from calling import Tenant, declined, error_of, image_of, metadata_of
from conftest import As, MakeService, needs
from disk_files.makers import TINY_QCOW2, TINY_QCOW2_CAPACITY
from ims.bootstrap import Service
from ims.disk_files.conversion import Converter
from ims.domain.image import DiskFormat, KeyId
from ims.providers.keys import add_key
from ims.use_cases.checkup import check_up
from ims.use_cases.jobs import Job
from ims.v1 import image_pb2

TINY = TINY_QCOW2.read_bytes()
KIB = 1024
CAPACITY_BYTES = 3 * 1024 * KIB
_DRIVERS = {"VHD": "vpc"}


@pytest.fixture(autouse=True)
def qemu_img() -> str:
    return needs(shutil.which("qemu-img"), "qemu-img")


@pytest.fixture
def owner(service: Service, as_: As) -> Tenant:
    add_key(service.settings.keys, KeyId("key-2"))
    return as_("owner")


@pytest.fixture
def disk(tmp_path: Path) -> bytes:
    """The bytes of a disk: some that are nothing, and some of every sort."""
    return os.urandom(64 * KIB) + bytes(CAPACITY_BYTES - 128 * KIB) + os.urandom(64 * KIB)


Same = Callable[..., None]


@pytest.fixture
def same(tmp_path: Path, qemu_img: str) -> Same:
    """See that two files hold the same disk."""

    def compare(one: bytes, one_format: str, other: bytes, other_format: str) -> None:
        for name, content in (("one", one), ("other", other)):
            (tmp_path / name).write_bytes(content)
        names = [_DRIVERS.get(each, each.lower()) for each in (one_format, other_format)]
        command = [qemu_img, "compare", "-f", names[0], "-F", names[1], "one", "other"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    return compare


def nothing_is_left_of(operation: object, owner: Tenant, service: Service) -> None:
    """See that of a copy nothing is left but its source, nor in the folder of conversions."""
    with declined() as gone:
        owner.GetImage(image_id=metadata_of(operation).image_id)
    assert gone.reason == "IMAGE_NOT_FOUND"
    (source,) = owner.ListImages(relation=image_pb2.Relation.OWNED).images
    quotas = owner.GetQuotas().quotas
    assert (quotas.copies.used, quotas.private_images.used) == (0, 1)
    assert quotas.stored_bytes.used == source.size_bytes
    assert len(list(service.deployment.blobs.keys())) == 1
    assert not list(service.settings.data.glob("conversions/*"))
    assert not list(check_up(service.deployment, settled=timedelta(0)))


@pytest.mark.parametrize("target", [each for each in DiskFormat if each is not DiskFormat.ISO])
def test_the_copy_holds_the_same_disk(owner: Tenant, disk: bytes, same: Same, target: DiskFormat):
    source = owner.active("source", disk)

    operation = owner.copy(source.id, "copy", format=target)

    copy = image_of(operation)
    (made,) = copy.disks
    assert image_pb2.Disk.Format.Name(made.format) == target
    assert made.capacity_bytes == source.disks[0].capacity_bytes == CAPACITY_BYTES
    content = owner.download(copy.id)
    assert made.size_bytes == len(content)
    same(disk, "RAW", content, target)
    assert copy.state == copy.ACTIVE
    assert copy == owner.GetImage(image_id=copy.id).image
    assert owner.GetQuotas().quotas.stored_bytes.used == len(disk) + len(content)
    converted = target is not DiskFormat.RAW
    assert metadata_of(operation).done_bytes == (len(disk) if converted else 0)


@pytest.mark.parametrize(
    ("kept", "asked", "key"),
    [
        ("", {"encryption_key_id": "key-1"}, "key-1"),
        ("key-1", {"encryption_key_id": "key-2"}, "key-2"),
        ("key-1", {}, "key-1"),
        ("key-1", {"decrypt": True}, ""),
    ],
    ids=["encrypted", "with another key", "with the key it has", "decrypted"],
)
def test_it_is_converted_and_kept_otherwise_at_once(
    owner: Tenant, same: Same, files_of, service: Service, kept: str, asked: dict, key: str
):
    source = owner.active("source", TINY, disks=[{"format": "QCOW2"}], encryption_key_id=kept)

    copy = owner.copied(source.id, "copy", format="RAW", **asked)

    assert copy.encryption_key_id == key
    content = owner.download(copy.id)
    assert len(content) == TINY_QCOW2_CAPACITY
    same(TINY, "QCOW2", content, "RAW")
    stored = {path.read_bytes() for path in files_of(service)}
    assert (content in stored) is (key == "")


def test_the_format_that_it_has_is_no_conversion(owner: Tenant, service: Service):
    source = owner.active("source", TINY, disks=[{"format": "QCOW2"}])

    operation = owner.CopyImage(image_id=source.id, name="copy", format="QCOW2")

    assert operation.done
    assert image_of(operation).disks == source.disks
    assert len(list(service.deployment.blobs.keys())) == 1


def test_a_recipient_has_the_format_that_it_wants(owner: Tenant, as_: As, same: Same):
    source = owner.active("source", TINY, disks=[{"format": "QCOW2"}])
    recipient = as_("recipient")
    owner.ShareImage(image_id=source.id, recipients=[{"tenant_id": "recipient"}])
    recipient.AcceptShare(image_id=source.id)

    copy = recipient.copied(source.id, "mine", format="VMDK")

    owner.UnshareImage(image_id=source.id, all_tenants=True)
    same(TINY, "QCOW2", recipient.download(copy.id), "VMDK")
    assert copy.disks[0].capacity_bytes == TINY_QCOW2_CAPACITY


class TestWhatItTakesOfTheQuota:
    """A RAW file's size is known beforehand; of others it is known when they are there."""

    def usage(self, owner: Tenant) -> int:
        return owner.GetQuotas().quotas.stored_bytes.used

    def test_a_raw_copy_is_reserved_in_full(self, idle: Service, as_: As):
        owner = as_("owner", of=idle)
        source = owner.active("source", TINY, disks=[{"format": "QCOW2"}])
        owner.CopyImage(image_id=source.id, name="copy", format="RAW")

        assert self.usage(owner) == len(TINY) + TINY_QCOW2_CAPACITY
        assert idle._executor.do_next()
        assert self.usage(owner) == len(TINY) + TINY_QCOW2_CAPACITY

    def test_a_raw_copy_that_is_too_large_is_refused_at_once(self, make_service: MakeService, as_: As):
        most = len(TINY) + TINY_QCOW2_CAPACITY
        for limit, reason in ((most, ""), (most - 1, "STORAGE_QUOTA_EXCEEDED")):
            owner = as_("owner", of=make_service(stored_bytes_per_tenant=limit))
            source = owner.active("source", TINY, disks=[{"format": "QCOW2"}])
            if not reason:
                owner.copied(source.id, "copy", format="RAW")
                continue
            with declined() as refused:
                owner.CopyImage(image_id=source.id, name="copy", format="RAW")
            assert refused.reason == reason

    def test_another_is_settled_when_its_size_is_known(self, idle: Service, as_: As):
        owner = as_("owner", of=idle)
        source = owner.active("source", bytes(CAPACITY_BYTES))
        begun = owner.CopyImage(image_id=source.id, name="copy", format="QCOW2")

        assert self.usage(owner) == 2 * CAPACITY_BYTES
        assert idle._executor.do_next()
        (made,) = image_of(owner.ended(begun)).disks
        assert made.size_bytes < CAPACITY_BYTES
        assert self.usage(owner) == CAPACITY_BYTES + made.size_bytes

    def test_one_that_becomes_larger_than_there_is_room_for_fails_and_leaves_nothing(
        self, make_service: MakeService, as_: As, disk: bytes
    ):
        # A full disk takes more as QCOW2 than as RAW.
        content = os.urandom(1024 * KIB)
        service = make_service(stored_bytes_per_tenant=2 * len(content))
        owner = as_("owner", of=service)
        source = owner.active("source", content)

        ended = owner.copy(source.id, "copy", format="QCOW2")

        assert error_of(ended).reason == "STORAGE_QUOTA_EXCEEDED"
        nothing_is_left_of(ended, owner, service)


class TestWhatIsRefused:
    def test_an_iso_is_nothing_to_convert_to(self, owner: Tenant):
        with declined() as refused:
            owner.CopyImage(image_id=owner.active("source").id, name="copy", format="ISO")

        assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
        assert refused.metadata["field"] == "format"

    @pytest.mark.parametrize("validate_only", [False, True])
    def test_without_qemu_img_only_the_format_that_it_has(
        self, idle: Service, as_: As, tmp_path: Path, validate_only: bool
    ):
        owner = as_("owner", of=idle)
        source = owner.active("source")
        without = Converter(tmp_path, limits=idle.deployment.converter.limits, qemu_img="no-such")
        object.__setattr__(idle.deployment, "converter", without)

        with declined() as refused:
            owner.CopyImage(image_id=source.id, name="copy", format="QCOW2", validate_only=validate_only)

        assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "CONVERSION_UNAVAILABLE")
        assert len(owner.ListImages().images) == 1
        assert owner.copied(source.id, "copy", format="RAW")

    def test_one_that_takes_too_much_fails_and_leaves_nothing(self, make_service: MakeService, as_: As):
        service = make_service(conversion={"max_seconds": 0.001})
        owner = as_("owner", of=service)
        source = owner.active("source", TINY, disks=[{"format": "QCOW2"}])

        ended = owner.copy(source.id, "copy", format="VHDX")

        assert error_of(ended).reason == "CONVERSION_LIMIT_EXCEEDED"
        nothing_is_left_of(ended, owner, service)


class TestWhatEndsIt:
    def begun(self, service: Service, owner: Tenant) -> object:
        source = owner.active("source", TINY, disks=[{"format": "QCOW2"}])
        return owner.CopyImage(image_id=source.id, name="copy", format="VMDK")

    @pytest.fixture
    def during(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
        """Have something happen while qemu-img is at work."""

        def happens(event: Callable[[], None]) -> None:
            goes_on, done = Job.goes_on, []

            def asked(job: Job) -> None:
                folder = job._deployment.converter._folder
                if not done and list(folder.glob("*/result")):
                    done.append(event())
                    job.hold()
                goes_on(job)

            monkeypatch.setattr(Job, "goes_on", asked)

        return happens

    def test_cancelling_leaves_nothing(self, idle: Service, as_: As, during):
        owner = as_("owner", of=idle)
        begun = self.begun(idle, owner)
        during(lambda: owner.CancelOperation(name=begun.name))

        assert idle._executor.do_next()

        ended = owner.GetOperation(name=begun.name)
        assert error_of(ended).reason == "OPERATION_CANCELLED"
        nothing_is_left_of(ended, owner, idle)

    def test_what_ends_the_access_to_the_source_ends_it_too(self, idle: Service, as_: As, during):
        owner = as_("owner", of=idle)
        begun = self.begun(idle, owner)
        during(lambda: owner.DeactivateImage(image_id=metadata_of(begun).source_image_id))

        assert idle._executor.do_next()

        ended = owner.GetOperation(name=begun.name)
        assert error_of(ended).reason == "IMAGE_NOT_ACTIVE"
        nothing_is_left_of(ended, owner, idle)

    def test_bytes_that_are_not_what_was_stored_are_not_converted(
        self, idle: Service, as_: As, files_of
    ):
        owner = as_("owner", of=idle)
        begun = self.begun(idle, owner)
        (file,) = files_of(idle)
        file.chmod(0o600)
        file.write_bytes(TINY[:-1] + b"x")

        assert idle._executor.do_next()

        ended = owner.GetOperation(name=begun.name)
        assert error_of(ended).reason == "DISK_DATA_DAMAGED"
        nothing_is_left_of(ended, owner, idle)
