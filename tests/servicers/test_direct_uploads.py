"""Uploads whose bytes are brought to the store itself, at URLs that the service gives out (law 7.8)."""

import hashlib
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest

from buckets import S3Server, moto
from calling import Tenant, declined
from conftest import As, MakeService, grpcurl_path, needs
from disk_files.makers import TINY_QCOW2
from ims.blob_store.s3_bucket import S3Bucket
from ims.bootstrap import Service
from ims.domain.image import KeyId
from ims.providers.keys import add_key
from ims.use_cases.checkup import check_up
from ims.use_cases.sweeping import sweep

MIB = 1024**2
PART = 5 * MIB
"""The smallest that a part may be."""
CONTENT = bytes(1000) + hashlib.shake_256(b"a disk").digest(2 * PART)
LENGTHS = [PART, PART, 1000]


@pytest.fixture(scope="module")
def bucket_server() -> Iterator[S3Server]:
    with moto() as server:
        yield server


@pytest.fixture(scope="module")
def s3(bucket_server: S3Server) -> dict[str, object]:
    return bucket_server.setting(bucket_server.new_bucket(), part_bytes=PART)


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A place of its own for each test."""
    return hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16] + "/"


@pytest.fixture
def service(make_service: MakeService, s3: dict[str, object], prefix: str) -> Service:
    service = make_service(s3={**s3, "prefix": prefix})
    add_key(service.settings.keys, KeyId("key-1"))
    return service


@pytest.fixture
def owner(as_: As) -> Tenant:
    return as_("owner")


@pytest.fixture
def kept(bucket_server: S3Server, s3: dict[str, object], prefix: str) -> Callable[[], tuple[int, int]]:
    """Tell how many objects and how many unfinished uploads the service has in its bucket."""
    client = bucket_server.client()

    def look() -> tuple[int, int]:
        place = {"Bucket": s3["bucket"], "Prefix": prefix}
        objects = client.list_objects_v2(**place).get("Contents", [])
        return len(objects), len(client.list_multipart_uploads(**place).get("Uploads", []))

    return look


OCTETS = {"content-type": "application/octet-stream"}


def put(url: str, data: bytes) -> int:
    request = urllib.request.Request(url, method="PUT", data=data, headers=OCTETS)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def start(owner: Tenant, content: bytes = CONTENT, *, image: Any = None, **fields: object) -> Any:
    image = image or owner.create("direct")
    return owner.StartUpload(
        **{
            "image_id": image.id,
            "size_bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "direct": True,
            **fields,
        }
    ).upload


def about(upload: Any) -> dict[str, object]:
    return {"image_id": upload.image_id, "disk_index": upload.disk_index, "upload_id": upload.id}


def missing(owner: Tenant, upload: Any, **fields: object) -> Any:
    return owner.CreatePartUrls(**about(upload), **fields)


def bring(part: Any, content: bytes = CONTENT) -> None:
    assert put(part.url, content[part.offset_bytes :][: part.length_bytes]) == 200


def progress(owner: Tenant, upload: Any) -> int:
    received: int = owner.GetUpload(**about(upload)).upload.received_bytes
    return received


class TestTheWholeOfIt:
    def test_parts_in_any_order_become_a_disk(self, owner: Tenant, kept):
        upload = start(owner)
        assert upload.direct
        parts = missing(owner, upload).parts
        assert [part.number for part in parts] == [1, 2, 3]
        assert [part.offset_bytes for part in parts] == [0, PART, 2 * PART]
        assert [part.length_bytes for part in parts] == LENGTHS

        with ThreadPoolExecutor(3) as threads:
            list(threads.map(bring, reversed(parts)))
        assert not missing(owner, upload).parts
        assert progress(owner, upload) == len(CONTENT)
        finished = owner.FinishUpload(**about(upload))

        assert finished.image.state == finished.image.ACTIVE
        assert owner.download(upload.image_id) == CONTENT
        assert kept() == (1, 0)
        again = owner.FinishUpload(**about(upload))
        assert again.disk == finished.disk

    def test_who_goes_on_asks_what_is_missing(self, owner: Tenant):
        upload = start(owner)
        first, second, _ = missing(owner, upload).parts
        bring(second)

        assert start(owner, image=owner.GetImage(image_id=upload.image_id).image).id == upload.id
        assert progress(owner, upload) == PART
        assert [part.number for part in missing(owner, upload).parts] == [1, 3]
        assert [part.number for part in missing(owner, upload, first_number=2).parts] == [3]
        assert [part.number for part in missing(owner, upload, max_parts=1).parts] == [1]
        bring(first)
        assert [part.number for part in missing(owner, upload).parts] == [3]
        assert not missing(owner, upload, first_number=4).parts

    def test_what_is_missing_is_not_finished(self, owner: Tenant):
        upload = start(owner)
        with declined() as none:
            owner.FinishUpload(**about(upload))
        for part in missing(owner, upload).parts[1:]:
            bring(part)

        with declined() as some:
            owner.FinishUpload(**about(upload))

        assert (none.reason, some.reason) == ("UPLOAD_INCOMPLETE", "UPLOAD_INCOMPLETE")
        assert none.metadata["receivedBytes"] == "0"
        assert some.metadata["receivedBytes"] == str(len(CONTENT) - PART)
        for part in missing(owner, upload).parts:
            bring(part)
        owner.FinishUpload(**about(upload))

    def test_two_who_ask_at_once_bring_to_the_same_upload(self, owner: Tenant, kept):
        upload = start(owner)

        with ThreadPoolExecutor(8) as threads:
            made = list(threads.map(lambda _: missing(owner, upload).parts, range(8)))

        for number, parts in enumerate(made[:3]):
            bring(parts[number])
        assert kept() == (0, 1)
        owner.FinishUpload(**about(upload))
        assert owner.download(upload.image_id) == CONTENT


class TestWhatIsBrought:
    def test_other_bytes_than_announced_end_it(self, owner: Tenant, kept):
        upload = start(owner)
        for part in missing(owner, upload).parts:
            bring(part, bytes(len(CONTENT)))

        with declined() as told:
            owner.FinishUpload(**about(upload))

        assert (told.code, told.reason) == ("FAILED_PRECONDITION", "DIGEST_MISMATCH")
        assert kept() == (0, 0)
        image = owner.GetImage(image_id=upload.image_id).image
        assert image.disks[0].state == image.disks[0].EMPTY
        with declined() as gone:
            missing(owner, upload)
        assert gone.reason == "UPLOAD_NOT_FOUND"

    def test_what_is_no_disk_of_the_format_ends_it(self, owner: Tenant, kept):
        content = TINY_QCOW2.read_bytes()
        upload = start(owner, content)
        for part in missing(owner, upload).parts:
            bring(part, content)

        with declined() as told:
            owner.FinishUpload(**about(upload))

        assert told.reason == "FORMAT_MISMATCH"
        assert kept() == (0, 0)

    def test_abort_takes_all_of_it_away(self, owner: Tenant, kept):
        upload = start(owner)
        first, second, _ = missing(owner, upload).parts
        bring(first)

        owner.AbortUpload(**about(upload))

        assert kept() == (0, 0)
        assert put(second.url, CONTENT[PART : 2 * PART]) >= 400

    def test_one_that_nobody_goes_on_with_ends_with_all_that_was_brought(
        self, owner: Tenant, service: Service, clock, kept
    ):
        upload = start(owner)
        patience = service.deployment.upload_patience
        clock.advance(seconds=patience.total_seconds() - 60)
        parts = missing(owner, upload).parts  # whoever asks goes on with it
        clock.advance(seconds=patience.total_seconds() - 60)
        sweep(service.deployment, "one")
        bring(parts[0])
        assert progress(owner, upload) == PART

        clock.advance(minutes=2)
        sweep(service.deployment, "one")

        assert kept() == (0, 0)
        with declined() as gone:
            missing(owner, upload)
        assert gone.reason == "UPLOAD_NOT_FOUND"

    def test_a_part_that_is_too_long_is_missing(self, owner: Tenant):
        """Where a store takes it, as moto does, which believes everybody."""
        upload = start(owner)
        *parts, last = missing(owner, upload).parts
        for part in parts:
            bring(part)
        put(last.url, CONTENT[2 * PART :] + b"more")

        assert [part.number for part in missing(owner, upload).parts] == [last.number]
        with declined() as told:
            owner.FinishUpload(**about(upload))
        assert told.reason == "UPLOAD_INCOMPLETE"

    def test_a_part_beyond_the_end_makes_nothing_larger(self, owner: Tenant, kept):
        content = CONTENT[: 2 * PART]
        upload = start(owner, content)
        first, second = missing(owner, upload).parts
        bring(first)
        bring(second)
        put(second.url.replace("partNumber=2", "partNumber=3"), b"more")

        with declined() as told:
            owner.FinishUpload(**about(upload))

        assert (told.code, told.reason) == ("FAILED_PRECONDITION", "SIZE_MISMATCH")
        assert kept() == (0, 0)


class TestAtTheSameMoment:
    @pytest.fixture
    def upload(self, owner: Tenant) -> Any:
        upload = start(owner)
        for part in missing(owner, upload).parts:
            bring(part)
        return upload

    def meanwhile(
        self, service: Service, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]
    ) -> None:
        """Have something happen just before the next look at which parts have arrived."""
        part_urls = service.deployment.part_urls
        arrived = part_urls.arrived

        def acting_first(*given: object) -> dict[int, int]:
            monkeypatch.setattr(part_urls, "arrived", arrived)
            act()
            return arrived(*given)

        monkeypatch.setattr(part_urls, "arrived", acting_first)

    def test_another_finishes_it(self, owner: Tenant, service: Service, upload: Any, monkeypatch):
        self.meanwhile(service, monkeypatch, lambda: owner.FinishUpload(**about(upload)))

        finished = owner.FinishUpload(**about(upload))

        assert finished.disk.state == finished.disk.STORED
        assert owner.download(upload.image_id) == CONTENT

    def test_another_finishes_it_and_all_of_it_is_there(
        self, owner: Tenant, service: Service, upload: Any, monkeypatch
    ):
        self.meanwhile(service, monkeypatch, lambda: owner.FinishUpload(**about(upload)))

        assert progress(owner, upload) == len(CONTENT)

    def test_another_ends_it(self, owner: Tenant, service: Service, upload: Any, monkeypatch, kept):
        self.meanwhile(service, monkeypatch, lambda: owner.AbortUpload(**about(upload)))

        with declined() as told:
            owner.FinishUpload(**about(upload))

        assert (told.code, told.reason) == ("ABORTED", "UPLOAD_SUPERSEDED")
        assert kept() == (0, 0)

    def test_another_ends_it_while_the_store_is_finishing_it(
        self, owner: Tenant, service: Service, upload: Any, monkeypatch, kept, clock
    ):
        """What comes of it is taken away later, when nothing of it can come any more."""
        finish = S3Bucket.finish_upload

        def ended_meanwhile(*given: Any) -> None:
            with monkeypatch.context() as busy:
                busy.setattr(S3Bucket, "abort_upload", lambda *_: None)
                owner.AbortUpload(**about(upload))
            finish(*given)

        monkeypatch.setattr(S3Bucket, "finish_upload", ended_meanwhile)
        with declined() as told:
            owner.FinishUpload(**about(upload))
        assert (told.code, told.reason) == ("ABORTED", "UPLOAD_SUPERSEDED")

        clock.advance(seconds=service.deployment.longest_part_url.total_seconds())
        sweep(service.deployment, "one")

        assert kept() == (0, 0)
        assert list(check_up(service.deployment, settled=timedelta(0))) == []

    def test_another_ends_it_before_it_has_begun(
        self, owner: Tenant, service: Service, monkeypatch, kept
    ):
        upload = start(owner)
        part_urls = service.deployment.part_urls
        begin = part_urls.begin

        def ended_first(key: str) -> str:
            store_upload_id = begin(key)
            owner.AbortUpload(**about(upload))
            return store_upload_id

        monkeypatch.setattr(part_urls, "begin", ended_first)
        with declined() as told:
            missing(owner, upload)

        assert told.reason == "UPLOAD_SUPERSEDED"
        assert kept() == (0, 0)


def test_what_the_store_has_forgotten_begins_anew(
    owner: Tenant, service: Service, bucket_server: S3Server, s3: dict[str, object], prefix: str
):
    upload = start(owner)
    bring(missing(owner, upload).parts[0])
    client = bucket_server.client()
    (there,) = client.list_multipart_uploads(Bucket=s3["bucket"], Prefix=prefix)["Uploads"]
    client.abort_multipart_upload(Bucket=s3["bucket"], Key=there["Key"], UploadId=there["UploadId"])

    assert progress(owner, upload) == 0
    with declined() as told:
        owner.FinishUpload(**about(upload))
    assert told.reason == "UPLOAD_INCOMPLETE"
    parts = missing(owner, upload).parts
    assert len(parts) == len(LENGTHS)
    for part in parts:
        bring(part)
    owner.FinishUpload(**about(upload))

    assert owner.download(upload.image_id) == CONTENT


class TestOneWayOrTheOther:
    def test_a_direct_upload_is_not_written(self, owner: Tenant):
        upload = start(owner)

        with declined() as told:
            owner.write_upload(upload, CONTENT)

        assert (told.code, told.reason) == ("FAILED_PRECONDITION", "UPLOAD_MODE_MISMATCH")
        assert told.metadata == {"direct": "true"}

    def test_an_upload_that_is_written_has_no_urls(self, owner: Tenant):
        upload = start(owner, direct=False)
        assert not upload.direct

        with declined() as told:
            missing(owner, upload)

        assert (told.code, told.reason) == ("FAILED_PRECONDITION", "UPLOAD_MODE_MISMATCH")
        assert told.metadata == {"direct": "false"}

    @pytest.mark.parametrize("direct", [True, False])
    def test_what_was_started_one_way_is_not_started_the_other(self, owner: Tenant, direct: bool):
        upload = start(owner, direct=direct)

        with declined() as told:
            start(owner, image=owner.GetImage(image_id=upload.image_id).image, direct=not direct)

        assert told.reason == "IMAGE_BUSY"


class TestWhoAndWhere:
    def test_encrypted_bytes_pass_through_the_service(self, owner: Tenant):
        with declined() as told:
            start(owner, image=owner.create("sealed", encryption_key_id="key-1"))

        assert (told.code, told.reason) == ("FAILED_PRECONDITION", "DIRECT_TRANSFER_UNAVAILABLE")
        assert told.metadata == {"encrypted": "true"}

    def test_a_folder_takes_no_parts(self, make_service: MakeService, as_: As):
        owner = as_("owner", of=make_service())

        with declined() as told:
            start(owner)

        assert told.reason == "DIRECT_TRANSFER_UNAVAILABLE"
        assert told.metadata == {"encrypted": "false"}

    def test_a_deployment_may_take_none(
        self, make_service: MakeService, as_: As, s3: dict[str, object], prefix: str
    ):
        open_to_it, closed = (
            make_service(s3={**s3, "prefix": prefix, "upload_url_seconds": seconds})
            for seconds in (60, 0)
        )
        owner = as_("owner", of=open_to_it)

        made = missing(owner, start(owner), valid_seconds=300)
        with declined() as told:
            start(as_("owner", of=closed))

        assert "X-Amz-Expires=60&" in made.parts[0].url + "&"
        assert told.reason == "DIRECT_TRANSFER_UNAVAILABLE"

    @pytest.mark.parametrize(("asked", "given"), [(0, 300), (1, 1), (3600, 3600)])
    def test_a_url_ends_when_it_is_said_to(self, owner: Tenant, clock, asked: int, given: int):
        made = missing(owner, start(owner), valid_seconds=asked)

        assert f"X-Amz-Expires={given}&" in made.parts[0].url + "&"
        lasting = made.expire_time.ToDatetime(UTC) - clock.now()
        assert timedelta(0) <= timedelta(seconds=given) - lasting < timedelta(seconds=1)

    @pytest.mark.parametrize(
        ("field", "most"), [("valid_seconds", 3600), ("max_parts", 1000), ("first_number", 10_000)]
    )
    def test_a_number_out_of_its_range_is_told(self, owner: Tenant, field: str, most: int):
        upload = start(owner)
        missing(owner, upload, **{field: most})

        for value in (-1, most + 1):
            with declined() as told:
                missing(owner, upload, **{field: value})
            assert (told.code, told.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
            assert (told.metadata["field"], told.metadata["value"]) == (field, str(value))

    def test_others_get_no_urls(self, owner: Tenant, as_: As):
        upload = start(owner)

        for caller, reason in (
            (as_("another"), "IMAGE_NOT_FOUND"),
            (as_("owner", "reader"), "ROLE_REQUIRED"),
        ):
            with declined() as told:
                missing(caller, upload)
            assert told.reason == reason

    def test_what_is_to_be_converted_is_brought_likewise(self, owner: Tenant):
        upload = start(owner, source_format="QCOW2")
        for part in missing(owner, upload).parts:
            bring(part)

        with declined() as told:
            owner.FinishUpload(**about(upload))

        assert told.reason == "UPLOAD_NEEDS_CONVERSION"


@pytest.mark.databases("sqlite")
def test_grpcurl_and_curl_bring_a_file_as_the_documentation_says(
    make_service: MakeService, as_: As, radosgw: S3Server, tmp_path: Path
):
    """Word for word, but for where the service is, who calls, and which image and file it is about."""
    for name in ("curl", "jq"):
        needs(shutil.which(name), name)
    grpcurl = Path(needs(grpcurl_path(), "grpcurl"))
    service = make_service(s3=radosgw.setting(radosgw.new_bucket(), part_bytes=PART))
    owner = as_("owner", of=service)
    image = owner.create("by hand")
    (tmp_path / "debian-13.qcow2").write_bytes(CONTENT)
    text = (Path(__file__).parents[2] / "docs/storage.md").read_text()
    (script,) = re.findall(r"^(file=debian-13\.qcow2 image=.*?)^```$", text, re.DOTALL | re.MULTILINE)
    script = re.sub(r"image=…", f"image={image.id}", script)
    script = script.replace("ims-tenant: me", "ims-tenant: owner").replace(
        "localhost:50051", f"127.0.0.1:{service.port}"
    )

    subprocess.run(
        ["bash", "-eu", "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{grpcurl.parent}:{os.environ['PATH']}"},
        check=True,
        capture_output=True,
        timeout=60,
    )

    assert owner.download(image.id) == CONTENT
