"""Bytes that are read from the store itself, at a URL that the service gives out (law 7.7)."""

import hashlib
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from buckets import S3Server, moto
from calling import Tenant, declined, request_class
from conftest import As, MakeService, needs
from disk_files.makers import TINY_QCOW2, TINY_QCOW2_CAPACITY
from ims.bootstrap import Service
from ims.domain.image import KeyId
from ims.providers.keys import add_key

CONTENT = TINY_QCOW2.read_bytes()


@pytest.fixture(scope="module")
def believing() -> Iterator[S3Server]:
    with moto() as server:
        yield server


@pytest.fixture
def service(make_service: MakeService, believing: S3Server) -> Service:
    service = make_service(s3=believing.setting(believing.new_bucket()))
    add_key(service.settings.keys, KeyId("key-1"))
    return service


@pytest.fixture
def owner(as_: As) -> Tenant:
    return as_("owner")


Active = Callable[..., str]


@pytest.fixture
def active(owner: Tenant) -> Active:
    """Fill an image with a disk file, and return its id."""

    def make(**fields: object) -> str:
        return owner.active("a disk", CONTENT, disks=[{"format": "QCOW2"}], **fields).id

    return make


def test_who_may_download_a_disk_is_given_a_url_of_it(owner: Tenant, active: Active):
    made = owner.CreateDownloadUrl(image_id=active())

    with urllib.request.urlopen(made.url, timeout=10) as answer:
        assert answer.read() == CONTENT
        assert answer.headers["Content-Disposition"].endswith("a%20disk-0.qcow2")
    assert made.disk.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert made.disk.size_bytes == len(CONTENT)


@pytest.mark.parametrize(("asked", "given"), [(0, 300), (1, 1), (300, 300), (3600, 3600)])
def test_a_url_ends_when_it_is_said_to(owner: Tenant, active: Active, clock, asked: int, given: int):
    made = owner.CreateDownloadUrl(image_id=active(), valid_seconds=asked)

    assert f"X-Amz-Expires={given}&" in made.url + "&"
    lasting = made.expire_time.ToDatetime(UTC) - clock.now()
    assert timedelta(0) <= timedelta(seconds=given) - lasting < timedelta(seconds=1)


@pytest.mark.parametrize("asked", [-1, 3601, 2**31 - 1, -(2**31)])
def test_a_time_that_no_url_has_is_told(owner: Tenant, active: Active, asked: int):
    with declined() as told:
        owner.CreateDownloadUrl(image_id=active(), valid_seconds=asked)

    assert (told.code, told.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert told.metadata["value"] == str(asked)


def test_who_may_not_download_gets_no_url(owner: Tenant, active: Active, as_: As):
    image_id, recipient = active(), as_("recipient")

    def refusal(caller: Tenant, **fields: object) -> str:
        return caller.answer(
            "CreateDownloadUrl", request_class("CreateDownloadUrl")(image_id=image_id, **fields)
        ).reason

    assert refusal(recipient) == "IMAGE_NOT_FOUND"
    assert refusal(as_("nova", "service"), tenant_id="recipient") == "IMAGE_NOT_FOUND"
    assert refusal(owner, disk_index=1) == "DISK_NOT_FOUND"
    owner.ShareImage(image_id=image_id, recipients=[{"tenant_id": "recipient"}])
    assert refusal(recipient) == "SHARE_NOT_ACCEPTED"
    recipient.AcceptShare(image_id=image_id)
    assert refusal(recipient) == ""
    assert refusal(as_("nova", "service"), tenant_id="recipient") == ""
    assert refusal(as_("nova"), tenant_id="recipient") == "ROLE_REQUIRED"
    owner.DeactivateImage(image_id=image_id)
    assert refusal(recipient) == refusal(owner) == "IMAGE_NOT_ACTIVE"


def test_encrypted_bytes_are_given_out_by_the_service_alone(owner: Tenant, active: Active):
    with declined() as told:
        owner.CreateDownloadUrl(image_id=active(encryption_key_id="key-1"))

    assert (told.code, told.reason) == ("FAILED_PRECONDITION", "DIRECT_TRANSFER_UNAVAILABLE")
    assert told.metadata == {"encrypted": "true"}


def test_a_folder_gives_out_no_urls(make_service: MakeService, as_: As):
    owner = as_("owner", of=make_service())
    image = owner.active("disk")

    with declined() as told:
        owner.CreateDownloadUrl(image_id=image.id)

    assert (told.code, told.reason) == ("FAILED_PRECONDITION", "DIRECT_TRANSFER_UNAVAILABLE")
    assert told.metadata == {"encrypted": "false"}


@pytest.mark.parametrize(("most", "given"), [(60, 60), (0, None)])
def test_a_deployment_gives_urls_out_for_less_or_not_at_all(
    make_service: MakeService, believing: S3Server, as_: As, most: int, given: int | None
):
    service = make_service(s3=believing.setting(believing.new_bucket(), download_url_seconds=most))
    owner = as_("owner", of=service)
    image = owner.active("disk")

    if given is None:
        with declined() as told:
            owner.CreateDownloadUrl(image_id=image.id)
        assert told.reason == "DIRECT_TRANSFER_UNAVAILABLE"
    else:
        assert f"X-Amz-Expires={given}&" in owner.CreateDownloadUrl(image_id=image.id).url


@pytest.mark.databases("sqlite")
class TestOnARealStore:
    @pytest.fixture
    def service(self, make_service: MakeService, radosgw: S3Server) -> Service:
        return make_service(s3=radosgw.setting(radosgw.new_bucket()))

    def test_curl_reads_all_of_it_and_any_part(self, owner: Tenant, active: Active, tmp_path):
        url = owner.CreateDownloadUrl(image_id=active()).url
        curl = [needs(shutil.which("curl"), "curl"), "--silent", "--show-error", "--fail"]

        subprocess.run([*curl, "--output", tmp_path / "all", url], check=True, timeout=30)
        subprocess.run(
            [*curl, "--range", "4-7", "--output", tmp_path / "part", url], check=True, timeout=30
        )

        assert (tmp_path / "all").read_bytes() == CONTENT
        assert (tmp_path / "part").read_bytes() == CONTENT[4:8]

    def test_qemu_img_takes_what_curl_has_read(self, owner: Tenant, active: Active, tmp_path):
        """It does not read by itself: it asks for the size with HEAD, for which the URL is not good."""
        url = owner.CreateDownloadUrl(image_id=active()).url
        curl, qemu_img = (needs(shutil.which(name), name) for name in ("curl", "qemu-img"))
        file, raw = tmp_path / "disk.qcow2", tmp_path / "disk.raw"

        subprocess.run([curl, "--silent", "--fail", "--output", file, url], check=True, timeout=30)
        convert = [qemu_img, "convert", "-f", "qcow2", "-O", "raw", file, raw]
        subprocess.run(convert, check=True, timeout=60)

        assert raw.stat().st_size == TINY_QCOW2_CAPACITY

    @pytest.mark.parametrize("reader", ["info", "convert"])
    def test_qemu_img_reads_through_nbdkit_as_the_documentation_says(
        self, owner: Tenant, active: Active, tmp_path, reader: str
    ):
        """Word for word, but for what is asked for and where it goes."""
        for name in ("nbdkit", "curl", "qemu-img"):
            needs(shutil.which(name), name)
        text = (Path(__file__).parents[2] / "docs/storage.md").read_text()
        (command,) = re.findall(r"^nbdkit .*?^  --run 'qemu-img .*?'$", text, re.DOTALL | re.MULTILINE)
        if reader == "info":
            command = re.sub(r"'qemu-img .*'$", """'qemu-img info -f qcow2 "$uri"'""", command)
        url = owner.CreateDownloadUrl(image_id=active()).url

        made = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=tmp_path,
            env=os.environ | {"url": url},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

        assert made.returncode == 0, made.stderr
        if reader == "info":
            assert f"({TINY_QCOW2_CAPACITY} bytes)" in made.stdout
        else:
            (raw,) = tmp_path.glob("*.raw")
            compare = ["qemu-img", "compare", "-f", "qcow2", "-F", "raw", TINY_QCOW2, raw]
            subprocess.run(compare, check=True)

    def test_a_url_is_good_for_no_other_disk_and_for_no_longer(self, owner: Tenant, active: Active):
        made = owner.CreateDownloadUrl(image_id=active(), valid_seconds=60)
        key = made.url.split("?")[0].rpartition("/")[2]

        for url in (made.url.replace("Expires=60", "Expires=3600"), made.url.replace(key, "another")):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(url, timeout=10)
            assert refused.value.code == 403
            refused.value.close()
