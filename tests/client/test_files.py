"""Transfers from and to files."""

import hashlib
import os
import random

import grpc
import pytest

from disk_files.makers import TINY_QCOW2
from ims.client import (
    DamagedDownload,
    Declined,
    Disk,
    Image,
    OperatingSystem,
    Unreachable,
    sha256_of,
)
from ims.client.files import CHUNK_BYTES
from ims.v1.image_service_pb2 import DownloadImageDataResponse

# The same in every process, since tests are named after parts of it.
MIB = 1024**2
CONTENT = random.Random(1).randbytes(2 * MIB + 5)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def disk_file(tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def image(acme):
    return acme.create_image(name="disk", type=Image.SYSTEM_DISK, formats=[Disk.RAW])


class Steps(list):
    """Remembers what progress was told; at first it is empty, and so false."""

    def __call__(self, done_bytes: int, total_bytes: int) -> None:
        self.append((done_bytes, total_bytes))


def steps_of(chunk_bytes: int) -> list[tuple[int, int]]:
    """Return what is told of the content in chunks of so many bytes."""
    size_bytes = len(CONTENT)
    return [
        (min(place + chunk_bytes, size_bytes), size_bytes) for place in range(0, size_bytes, chunk_bytes)
    ]


class TestUpload:
    def test_a_file_becomes_a_disk(self, acme, image, disk_file):
        steps = Steps()

        disk = acme.upload(image.id, disk_file, progress=steps).disk

        assert (disk.size_bytes, disk.sha256) == (len(CONTENT), SHA256)
        assert steps == steps_of(CHUNK_BYTES)

    def test_a_digest_that_is_known_is_not_computed_again(self, acme, image, disk_file):
        with pytest.raises(Declined) as declined:
            acme.upload(image.id, disk_file, sha256="0" * 64)

        assert declined.value.reason == "DIGEST_MISMATCH"

    def test_a_disk_is_chosen_by_its_index(self, acme, image, disk_file):
        with pytest.raises(Declined) as declined:
            acme.upload(image.id, disk_file, 7)

        assert declined.value.reason == "DISK_NOT_FOUND"

    def test_a_file_that_grows_meanwhile_is_not_taken(self, acme, image, disk_file):
        def grow(*_):
            with disk_file.open("ab") as file:
                file.write(b"more")

        with pytest.raises(Declined) as declined:
            acme.upload(image.id, disk_file, sha256=SHA256, progress=grow)

        assert declined.value.reason == "SIZE_MISMATCH"

    def test_what_progress_raises_ends_the_upload(self, acme, image, disk_file):
        def stop(*_):
            raise StopAsyncIteration

        with pytest.raises(StopAsyncIteration):
            acme.upload(image.id, disk_file, sha256=SHA256, progress=stop)

        assert acme.get_upload(image.id).size_bytes == len(CONTENT)

    def test_a_file_that_is_not_there_is_an_os_error(self, acme, image, tmp_path):
        with pytest.raises(FileNotFoundError):
            acme.upload(image.id, tmp_path / "nothing")


class TestDownload:
    @pytest.fixture
    def stored(self, acme, image, disk_file):
        return acme.upload(image.id, disk_file).image

    def test_a_disk_becomes_a_file(self, acme, stored, tmp_path):
        target, steps = tmp_path / "copy", Steps()

        disk = acme.download(stored.id, target, progress=steps)

        assert target.read_bytes() == CONTENT
        assert disk == stored.disks[0]
        assert steps == steps_of(MIB)

    @pytest.mark.parametrize(
        ("offset", "length", "expected"),
        [
            (10, 0, CONTENT[10:]),
            (0, 10, CONTENT[:10]),
            (10, 10, CONTENT[10:20]),
            (10, 2 * len(CONTENT), CONTENT[10:]),
            (len(CONTENT), 0, b""),
        ],
    )
    def test_a_part_of_a_disk_becomes_a_file(self, acme, stored, tmp_path, offset, length, expected):
        acme.download(stored.id, tmp_path / "part", offset_bytes=offset, length_bytes=length)

        assert (tmp_path / "part").read_bytes() == expected

    def test_a_file_that_is_there_is_overwritten_only_when_told(self, acme, stored, tmp_path):
        target = tmp_path / "copy"
        target.write_bytes(b"old")

        with pytest.raises(FileExistsError):
            acme.download(stored.id, target)
        assert target.read_bytes() == b"old"
        acme.download(stored.id, target, overwrite=True)

        assert target.read_bytes() == CONTENT

    def test_a_rejection_leaves_no_file(self, globex, stored, tmp_path):
        folder = tmp_path / "downloads"
        folder.mkdir()

        with pytest.raises(Declined):
            globex.download(stored.id, folder / "copy")

        assert list(folder.iterdir()) == []

    def test_what_progress_raises_leaves_no_file(self, acme, stored, tmp_path):
        folder = tmp_path / "downloads"
        folder.mkdir()

        def stop(*_):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            acme.download(stored.id, folder / "copy", progress=stop)

        assert list(folder.iterdir()) == []


def download_script(*, size_bytes: int = 8, sha256: str = "", chunks=(b"all of it",), code=None):
    """Return a DownloadImageData that announces one thing and sends what it likes."""

    def method(_, context):
        disk = Disk(size_bytes=size_bytes, sha256=sha256)
        yield DownloadImageDataResponse(
            start=DownloadImageDataResponse.Start(disk=disk, length_bytes=size_bytes)
        )
        for chunk in chunks:
            yield DownloadImageDataResponse(chunk=chunk)
        if code:
            context.abort(code, "going away")

    return method


class TestLyingServers:
    """What a damaged or wicked server sends never gets the name that was asked for."""

    GOOD = hashlib.sha256(b"12345678").hexdigest()

    @pytest.mark.parametrize("overwrite", [False, True])
    @pytest.mark.parametrize(
        ("script", "error"),
        [
            pytest.param({"chunks": [b"1234567"], "sha256": GOOD}, DamagedDownload, id="too few bytes"),
            pytest.param(
                {"chunks": [b"123456789"], "sha256": GOOD}, DamagedDownload, id="too many bytes"
            ),
            pytest.param({"chunks": [b"12345679"], "sha256": GOOD}, DamagedDownload, id="other bytes"),
            pytest.param({"chunks": [b"12345678"], "sha256": ""}, DamagedDownload, id="no digest"),
            pytest.param({"chunks": []}, DamagedDownload, id="no bytes"),
            pytest.param(
                {"chunks": [b"1234"], "code": grpc.StatusCode.UNAVAILABLE}, Unreachable, id="broken off"
            ),
            pytest.param(
                {"chunks": [b"1234"], "code": grpc.StatusCode.DATA_LOSS},
                Declined,
                id="declined half way",
            ),
        ],
    )
    def test_they_leave_things_as_they_were(self, scripted, tmp_path, script, error, overwrite):
        target = tmp_path / "copy"
        if overwrite:
            target.write_bytes(b"old")
        client = scripted(DownloadImageData=download_script(**script))

        with pytest.raises(error):
            client.download("an-id", target, overwrite=overwrite, patience_seconds=0)

        assert [path.read_bytes() for path in tmp_path.iterdir()] == ([b"old"] if overwrite else [])

    def test_an_honest_one_is_believed(self, scripted, tmp_path):
        client = scripted(DownloadImageData=download_script(chunks=[b"1234", b"5678"], sha256=self.GOOD))

        client.download("an-id", tmp_path / "copy")

        assert (tmp_path / "copy").read_bytes() == b"12345678"


class TestCreateFromFile:
    def test_a_file_becomes_an_active_image(self, acme):
        steps = Steps()

        image = acme.create_from_file(
            TINY_QCOW2, name="tiny", os_type=OperatingSystem.LINUX, tags={"a": "b"}, progress=steps
        )

        assert (image.name, image.state, image.type) == ("tiny", Image.ACTIVE, Image.SYSTEM_DISK)
        assert image.disks[0].format == Disk.QCOW2
        assert image.disks[0].sha256 == sha256_of(TINY_QCOW2)
        assert image.source.file.name == TINY_QCOW2.name
        assert (image.os.type, dict(image.tags)) == (OperatingSystem.LINUX, {"a": "b"})
        assert steps[-1] == (TINY_QCOW2.stat().st_size,) * 2

    def test_what_is_said_goes_before_what_is_guessed(self, acme):
        image = acme.create_from_file(TINY_QCOW2, name="tiny", type=Image.DATA_DISK)

        assert image.type == Image.DATA_DISK
        with pytest.raises(Declined) as declined:
            acme.create_from_file(TINY_QCOW2, name="raw", format=Disk.RAW)
        assert declined.value.reason == "FORMAT_MISMATCH"

    def test_an_iso_file_becomes_an_iso_image(self, scripted, tmp_path):
        created = []

        def create(request, context):
            created.append(request)
            context.abort(grpc.StatusCode.INTERNAL, "enough")

        path = tmp_path / "installer"
        path.write_bytes(bytes(0x8001) + b"CD001")
        with pytest.raises(Declined):
            scripted(CreateImage=create).create_from_file(path, name="installer")

        assert created[0].type == Image.ISO
        assert created[0].disks[0].format == Disk.ISO

    def test_a_failed_upload_takes_its_record_along(self, acme, tmp_path):
        path = tmp_path / "text.qcow2"
        path.write_text("not a disk at all")

        with pytest.raises(Declined) as declined:
            acme.create_from_file(path, name="bad")

        assert declined.value.reason == "FORMAT_MISMATCH"
        assert list(acme.list_images()) == []

    def test_a_failed_upload_keeps_its_record_when_told(self, acme, tmp_path):
        path = tmp_path / "text.qcow2"
        path.write_text("not a disk at all")

        with pytest.raises(Declined):
            acme.create_from_file(path, name="bad", keep=True)

        assert [image.state for image in acme.list_images()] == [Image.QUEUED]

    def test_an_unreadable_file_creates_nothing(self, acme, tmp_path):
        with pytest.raises(OSError, match="nothing"):
            acme.create_from_file(tmp_path / "nothing", name="x")

        assert list(acme.list_images()) == []

    def test_a_record_that_cannot_be_deleted_is_named(self, acme, disk_file):
        with pytest.raises(ZeroDivisionError) as caught:
            acme.create_from_file(disk_file, name="x", protected=True, progress=lambda *_: 1 / 0)

        image = next(acme.list_images())
        assert image.id in caught.value.__notes__[0]

    def test_a_broken_off_upload_takes_its_record_along(self, acme, disk_file):
        with pytest.raises(ZeroDivisionError):
            acme.create_from_file(disk_file, name="x", progress=lambda *_: 1 / 0)

        assert list(acme.list_images()) == []

    def test_a_broken_off_upload_that_is_kept_is_gone_on_with(self, acme, disk_file):
        with pytest.raises(ZeroDivisionError):
            acme.create_from_file(disk_file, name="x", keep=True, progress=lambda *_: 1 / 0)
        (image,) = acme.list_images()
        steps = Steps()

        uploaded = acme.upload(image.id, disk_file, progress=steps)

        assert uploaded.disk.sha256 == SHA256
        assert steps[0][0] > CHUNK_BYTES

    def test_a_file_whose_name_is_no_text_can_be_uploaded(self, acme, tmp_path):
        path = tmp_path / os.fsdecode(b"caf\xe9.img")
        path.write_bytes(CONTENT)

        image = acme.create_from_file(path, name="x")

        assert image.source.file.name == "caf\N{REPLACEMENT CHARACTER}.img"


def test_a_digest_tells_its_progress(disk_file):
    steps = Steps()

    assert sha256_of(disk_file, progress=steps) == SHA256
    assert steps == steps_of(CHUNK_BYTES)
