"""Uploads that are interrupted and gone on with (law 5.11), on a real server."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from builders import OWNER, RECIPIENT
from calling import MIB, Tenant, declined, write_messages
from conftest import As, Clock, MakeService
from ims.blob_store.interface import storage_unavailable
from ims.bootstrap import Service
from ims.disk_files.inspection import Inspection
from ims.domain.image import KeyId
from ims.domain.quotas import NOTHING
from ims.providers.keys import add_key
from ims.use_cases.deployment import Deployment
from ims.use_cases.image_data import give_up_dead_uploads, keep_uploads_alive
from ims.v1 import image_pb2, upload_pb2
from ims.v1.image_service_pb2 import UploadImageDataRequest
from ims.v1.upload_service_pb2 import FinishUploadRequest
from ims.v1.upload_service_pb2 import WriteUploadRequest as Message

FilesOf = Callable[[Service], list[Path]]

CONTENT = os.urandom(3 * MIB + 1000)
A_DAY_SECONDS = 24 * 3600
DATA_KEY = KeyId("a-key")


@pytest.fixture
def owner(as_: As) -> Tenant:
    return as_(OWNER)


@pytest.fixture
def image(owner: Tenant) -> image_pb2.Image:
    return owner.create("one")


@pytest.fixture
def upload(owner: Tenant, image: image_pb2.Image) -> upload_pb2.Upload:
    """An upload of CONTENT, of which nothing has arrived."""
    return owner.start_upload(image.id, CONTENT)


@pytest.fixture
def half(owner: Tenant, upload: upload_pb2.Upload) -> upload_pb2.Upload:
    """The same when the first MiB has arrived."""
    return owner.write_upload(upload, CONTENT[:MIB])


def finish(tenant: Tenant, upload: upload_pb2.Upload, **fields: Any) -> Any:
    return tenant.FinishUpload(image_id=upload.image_id, upload_id=upload.id, **fields)


def get(tenant: Tenant, upload: upload_pb2.Upload) -> upload_pb2.Upload:
    return tenant.GetUpload(image_id=upload.image_id, upload_id=upload.id).upload


def state_of(tenant: Tenant, image: image_pb2.Image) -> str:
    return image_pb2.Image.State.Name(tenant.GetImage(image_id=image.id).image.state)


def used(deployment: Deployment) -> Any:
    with deployment.database.reading() as reading:
        return reading.tenants.account(OWNER).used


# --- The way that it goes ---------------------------------------------------------------------


def test_an_upload_in_one_piece_becomes_the_disk(
    owner: Tenant, image: image_pb2.Image, upload: upload_pb2.Upload
):
    assert (upload.received_bytes, upload.finished) == (0, False)
    written = owner.write_upload(upload, CONTENT)
    assert (written.received_bytes, written.finished) == (len(CONTENT), False)
    assert state_of(owner, image) == "SAVING"

    answer = finish(owner, upload)

    assert answer.image.state == image_pb2.Image.ACTIVE
    assert answer.disk.sha256 == upload.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert owner.download(image.id) == CONTENT


@pytest.mark.parametrize("cuts", [[1], [MIB], [MIB, MIB], [1, 2, 3, MIB + 1, 3 * MIB], [len(CONTENT)]])
def test_an_upload_in_many_pieces_becomes_the_disk(
    cuts: list[int], owner: Tenant, image: image_pb2.Image, upload: upload_pb2.Upload
):
    place = 0
    for end in (*cuts, len(CONTENT)):
        upload = owner.write_upload(upload, CONTENT[place:end], offset_bytes=place)
        place = upload.received_bytes
        assert place == end == get(owner, upload).received_bytes

    assert finish(owner, upload).image.state == image_pb2.Image.ACTIVE
    assert owner.download(image.id) == CONTENT


def test_what_arrived_in_one_piece_is_not_read_again(
    owner: Tenant, upload: upload_pb2.Upload, monkeypatch: pytest.MonkeyPatch
):
    owner.write_upload(upload, CONTENT)
    monkeypatch.setattr(Inspection, "write", None)

    assert finish(owner, upload).image.state == image_pb2.Image.ACTIVE


def test_another_service_goes_on_and_finishes(
    as_: As,
    service: Service,
    make_service: MakeService,
    image: image_pb2.Image,
    half: upload_pb2.Upload,
):
    another = as_(
        OWNER,
        of=make_service(database_url=service.settings.catalogue_url, data=service.settings.data),
    )
    assert get(another, half).received_bytes == MIB

    another.write_upload(half, CONTENT[MIB:], offset_bytes=MIB)

    assert finish(another, half).image.state == image_pb2.Image.ACTIVE
    assert as_(OWNER).download(image.id) == CONTENT


def test_every_disk_of_an_image_has_an_upload_of_its_own(owner: Tenant):
    image = owner.create("two", type="DATA_DISK", disks=[{"format": "RAW"}])
    upload = owner.start_upload(image.id, CONTENT, disk_index=0)
    with declined() as seen:
        owner.start_upload(image.id, CONTENT, disk_index=1)
    assert seen.reason == "DISK_NOT_FOUND"

    with declined() as seen:
        owner.GetUpload(image_id=image.id, disk_index=1, upload_id=upload.id)

    assert seen.reason == "DISK_NOT_FOUND"


def test_an_image_of_many_disks_is_active_with_the_last_of_them(as_: As, service: Service):
    compute = as_("compute", "service")
    image = compute.create(
        "server",
        type="FULL_ECS",
        disks=[{"format": "RAW"}] * 3,
        source={"ecs": {"server_id": "s-1", "backup_service": "CBR"}},
        owner_tenant_id=OWNER,
    )
    uploads = [
        compute.start_upload(image.id, CONTENT[number:], disk_index=number) for number in range(3)
    ]
    states = []
    for number in (2, 0, 1):
        compute.write_upload(uploads[number], CONTENT[number:])
        answer = compute.FinishUpload(image_id=image.id, disk_index=number, upload_id=uploads[number].id)
        states.append(image_pb2.Image.State.Name(answer.image.state))

    assert states == ["SAVING", "SAVING", "ACTIVE"]
    assert [as_(OWNER).download(image.id, disk_index=n) for n in range(3)] == [
        CONTENT,
        CONTENT[1:],
        CONTENT[2:],
    ]


# --- To start and to finish again -------------------------------------------------------------


def test_to_start_again_is_the_same_upload(
    owner: Tenant, image: image_pb2.Image, half: upload_pb2.Upload
):
    again = owner.start_upload(image.id, CONTENT)

    assert (again.id, again.received_bytes) == (half.id, MIB)


def test_nobody_waits_while_a_store_is_asked_how_far_an_upload_has_come(
    owner: Tenant,
    image: image_pb2.Image,
    half: upload_pb2.Upload,
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
):
    """A call with a request id is remembered in the transaction that does what it asks for."""
    kept_bytes = service.deployment.blobs.kept_bytes
    created = []

    def slow(key: str) -> int:
        created.append(owner.create("meanwhile"))
        return kept_bytes(key)

    monkeypatch.setattr(service.deployment.blobs, "kept_bytes", slow)
    first, again = (owner.start_upload(image.id, CONTENT, request_id="once") for _ in range(2))

    assert [(each.id, each.received_bytes) for each in (first, again)] == [(half.id, MIB)] * 2
    assert len(created) == 1


def test_a_store_that_is_away_hides_nothing_that_is_wrong_with_the_call(
    owner: Tenant,
    image: image_pb2.Image,
    half: upload_pb2.Upload,
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
):
    def away(_: str) -> int:
        raise storage_unavailable()

    monkeypatch.setattr(service.deployment.blobs, "kept_bytes", away)
    with declined() as wrong:
        owner.start_upload(image.id, CONTENT, size_bytes=-1)
    with declined() as busy:
        owner.start_upload(image.id, CONTENT[1:])
    with declined() as right:
        owner.start_upload(image.id, CONTENT)

    assert [wrong.reason, busy.reason] == ["INVALID_FIELD", "IMAGE_BUSY"]
    assert (right.code, right.reason) == ("UNAVAILABLE", "STORAGE_UNAVAILABLE")


def test_other_bytes_are_not_the_same_upload(
    owner: Tenant, image: image_pb2.Image, half: upload_pb2.Upload
):
    with declined() as seen:
        owner.start_upload(image.id, CONTENT[1:])

    assert (seen.code, seen.reason) == ("FAILED_PRECONDITION", "IMAGE_BUSY")
    assert get(owner, half).received_bytes == MIB


def test_an_upload_in_one_call_is_not_gone_on_with(owner: Tenant, image: image_pb2.Image):
    """Its bytes are nobody else's, and it has no id that anybody knows."""
    release = threading.Event()

    def messages() -> Iterator[Any]:
        yield UploadImageDataRequest(start={"image_id": image.id, "size_bytes": len(CONTENT)})
        release.wait(60)

    call = owner.begin("UploadImageData", messages())
    try:
        while state_of(owner, image) != "SAVING":
            pass
        with declined() as started:
            owner.start_upload(image.id, CONTENT)
        with declined() as found:
            owner.GetUpload(image_id=image.id)
    finally:
        release.set()
        call.cancel()

    assert started.reason == "IMAGE_BUSY"
    assert found.reason == "UPLOAD_NOT_FOUND"


def test_to_finish_again_is_answered_the_same(owner: Tenant, upload: upload_pb2.Upload):
    owner.write_upload(upload, CONTENT)
    first = finish(owner, upload)

    assert finish(owner, upload) == first
    assert get(owner, upload).finished


def test_what_is_finished_takes_no_more_bytes_and_is_not_aborted(
    owner: Tenant, upload: upload_pb2.Upload
):
    owner.write_upload(upload, CONTENT)
    finish(owner, upload)

    with declined() as written:
        owner.write_upload(upload, b"more", offset_bytes=len(CONTENT))
    with declined() as aborted:
        owner.AbortUpload(image_id=upload.image_id, upload_id=upload.id)

    assert written.reason == aborted.reason == "IMAGE_DATA_FINAL"


def test_two_who_finish_at_once_have_one_effect(owner: Tenant, upload: upload_pb2.Upload):
    owner.write_upload(upload, CONTENT)
    request = FinishUploadRequest(image_id=upload.image_id, upload_id=upload.id)
    calls = [owner.begin("FinishUpload", request) for _ in range(8)]

    answers = [call.result() for call in calls]

    assert {answer.image.etag for answer in answers} == {answers[0].image.etag}


# --- What is not as it should be --------------------------------------------------------------


@pytest.mark.parametrize("offset_bytes", [0, MIB - 1, MIB + 1, 2**62])
def test_a_wrong_offset_is_told_the_right_one(offset_bytes: int, owner: Tenant, half: upload_pb2.Upload):
    with declined() as seen:
        owner.write_upload(half, CONTENT[MIB:], offset_bytes=offset_bytes)

    assert (seen.code, seen.reason) == ("OUT_OF_RANGE", "UPLOAD_OFFSET_MISMATCH")
    assert seen.metadata["expectedOffsetBytes"] == str(MIB)
    assert get(owner, half).received_bytes == MIB


def test_a_damaged_chunk_is_told_and_what_came_before_is_kept(
    owner: Tenant, image: image_pb2.Image, upload: upload_pb2.Upload
):
    begun, first, second, *_ = write_messages(upload, CONTENT)
    second.chunk.crc32c ^= 1

    seen = owner.answer("WriteUpload", iter([begun, first, second]))

    assert (seen.code, seen.reason) == ("INVALID_ARGUMENT", "CHUNK_DAMAGED")
    assert get(owner, upload).received_bytes == MIB
    owner.write_upload(upload, CONTENT[MIB:], offset_bytes=MIB)
    finish(owner, upload)
    assert owner.download(image.id) == CONTENT


def test_without_a_checksum_nothing_is_compared(owner: Tenant, upload: upload_pb2.Upload):
    begun, *chunks = write_messages(upload, CONTENT)
    for message in chunks:
        message.chunk.ClearField("crc32c")

    seen = owner.answer("WriteUpload", iter([begun, *chunks]))

    assert seen.code == "OK"


@pytest.mark.parametrize("messages", [[], [Message()], [Message(chunk={"data": b"x"})]])
def test_the_first_message_is_start(messages: list[Any], owner: Tenant):
    seen = owner.answer("WriteUpload", iter(messages))

    assert (seen.reason, seen.metadata) == ("INVALID_FIELD", {"field": "part"})


def test_a_later_message_is_a_chunk_and_what_came_before_is_kept(
    owner: Tenant, upload: upload_pb2.Upload
):
    begun, first, *_ = write_messages(upload, CONTENT)

    seen = owner.answer("WriteUpload", iter([begun, first, begun]))

    assert (seen.reason, seen.metadata) == ("INVALID_FIELD", {"field": "part"})
    assert get(owner, upload).received_bytes == MIB


def test_what_misses_bytes_is_not_finished_and_waits_for_them(
    owner: Tenant, image: image_pb2.Image, half: upload_pb2.Upload
):
    with declined() as seen:
        finish(owner, half)

    assert (seen.code, seen.reason) == ("FAILED_PRECONDITION", "UPLOAD_INCOMPLETE")
    assert seen.metadata == {"receivedBytes": str(MIB), "announcedBytes": str(len(CONTENT))}
    assert get(owner, half).received_bytes == MIB


@pytest.mark.parametrize("pieces", [1, 2])
def test_more_than_was_announced_ends_the_upload(
    pieces: int, owner: Tenant, image: image_pb2.Image, service: Service, files_of: FilesOf
):
    upload = owner.start_upload(image.id, CONTENT)
    if pieces == 2:
        owner.write_upload(upload, CONTENT[:MIB])
    place = upload.received_bytes if pieces == 1 else MIB

    with declined() as seen:
        owner.write_upload(upload, CONTENT[place:] + b"x", offset_bytes=place)

    assert seen.reason == "SIZE_MISMATCH"
    assert state_of(owner, image) == "QUEUED"
    assert not files_of(service)


@pytest.mark.parametrize("pieces", [1, 2])
def test_other_bytes_than_announced_end_the_upload(
    pieces: int,
    owner: Tenant,
    image: image_pb2.Image,
    service: Service,
    deployment: Deployment,
    files_of: FilesOf,
):
    upload = owner.start_upload(image.id, CONTENT, sha256="ab" * 32)

    with declined() as seen:
        if pieces == 2:
            owner.write_upload(upload, CONTENT[:MIB])
            owner.write_upload(upload, CONTENT[MIB:], offset_bytes=MIB)
            finish(owner, upload)
        else:
            owner.write_upload(upload, CONTENT)

    assert seen.reason == "DIGEST_MISMATCH"
    assert state_of(owner, image) == "QUEUED"
    assert not files_of(service)
    assert used(deployment).stored_bytes == used(deployment).creations == 0
    with declined() as gone:
        get(owner, upload)
    assert gone.reason == "UPLOAD_NOT_FOUND"


@pytest.mark.parametrize("pieces", [1, 2])
def test_what_is_no_file_of_the_format_ends_the_upload(
    pieces: int, owner: Tenant, service: Service, files_of: FilesOf
):
    image = owner.create("qcow2", disks=[{"format": "QCOW2"}])
    upload = owner.start_upload(image.id, CONTENT)

    with declined() as seen:
        if pieces == 2:
            owner.write_upload(upload, CONTENT[:100])
            owner.write_upload(upload, CONTENT[100:], offset_bytes=100)
            finish(owner, upload)
        else:
            owner.write_upload(upload, CONTENT)

    assert seen.reason == "FORMAT_MISMATCH"
    assert not files_of(service)


def test_bytes_that_are_changed_between_two_goes_are_found(
    owner: Tenant, half: upload_pb2.Upload, service: Service, files_of: FilesOf
):
    owner.write_upload(half, CONTENT[MIB:-1], offset_bytes=MIB)
    (file,) = files_of(service)
    with file.open("r+b") as opened:
        opened.write(b"changed")
    owner.write_upload(half, CONTENT[-1:], offset_bytes=len(CONTENT) - 1)

    with declined() as seen:
        finish(owner, half)

    assert seen.reason == "DIGEST_MISMATCH"
    assert not files_of(service)


def test_what_was_not_announced_with_a_digest_is_not_started(owner: Tenant, image: image_pb2.Image):
    with declined() as seen:
        owner.StartUpload(image_id=image.id, size_bytes=10)

    assert (seen.reason, seen.metadata["field"]) == ("INVALID_FIELD", "sha256")


# --- One writer at a time ---------------------------------------------------------------------


class HeldWrite:
    """A write that has brought the first MiB and waits before it goes on."""

    def __init__(self, tenant: Tenant, upload: upload_pb2.Upload) -> None:
        self._release = threading.Event()
        self._messages = write_messages(upload, CONTENT)
        self.call = tenant.begin("WriteUpload", self._sent())
        while get(tenant, upload).received_bytes < MIB:
            pass

    def _sent(self) -> Iterator[Any]:
        yield next(self._messages)
        yield next(self._messages)
        self._release.wait(60)
        yield from self._messages

    def go_on(self) -> None:
        self._release.set()


def test_while_an_earlier_writer_is_at_work_a_later_one_comes_back(
    owner: Tenant, image: image_pb2.Image, upload: upload_pb2.Upload
):
    held = HeldWrite(owner, upload)

    with declined() as seen:
        owner.write_upload(upload, CONTENT[MIB:], offset_bytes=MIB)

    assert (seen.code, seen.reason) == ("UNAVAILABLE", "UPLOAD_BUSY")
    held.call.cancel()
    held.go_on()


def test_an_earlier_writer_is_declined_at_its_next_chunk(
    owner: Tenant, image: image_pb2.Image, upload: upload_pb2.Upload
):
    held = HeldWrite(owner, upload)
    with declined():
        owner.write_upload(upload, CONTENT[MIB:], offset_bytes=MIB)

    held.go_on()

    with declined() as seen:
        held.call.result()
    assert (seen.code, seen.reason) == ("ABORTED", "UPLOAD_SUPERSEDED")
    assert get(owner, upload).received_bytes == MIB
    owner.write_upload(upload, CONTENT[MIB:], offset_bytes=MIB)
    finish(owner, upload)
    assert owner.download(image.id) == CONTENT


def test_a_writer_whose_upload_is_aborted_is_declined_at_its_next_chunk(
    owner: Tenant, image: image_pb2.Image, upload: upload_pb2.Upload, service: Service, files_of: FilesOf
):
    held = HeldWrite(owner, upload)
    owner.AbortUpload(image_id=image.id)

    held.go_on()

    with declined() as seen:
        held.call.result()
    assert seen.reason == "UPLOAD_SUPERSEDED"
    assert not files_of(service)
    assert state_of(owner, image) == "QUEUED"


def test_a_writer_that_goes_away_leaves_what_it_brought(owner: Tenant, upload: upload_pb2.Upload):
    held = HeldWrite(owner, upload)
    held.call.cancel()
    held.go_on()

    answer = None
    while answer is None or answer.reason == "UPLOAD_BUSY":
        answer = owner.answer("WriteUpload", write_messages(upload, CONTENT[MIB:], MIB))

    assert answer.code == "OK"


# --- How it ends by itself, or on request ------------------------------------------------------


def test_an_aborted_upload_leaves_nothing(
    owner: Tenant,
    image: image_pb2.Image,
    half: upload_pb2.Upload,
    service: Service,
    deployment: Deployment,
    files_of: FilesOf,
):
    answer = owner.AbortUpload(image_id=image.id, upload_id=half.id)

    assert answer.image.state == image_pb2.Image.QUEUED
    assert not files_of(service)
    assert used(deployment).stored_bytes == 0
    assert owner.start_upload(image.id, CONTENT).id != half.id


def test_what_nobody_goes_on_with_ends_and_gives_its_quota_back(
    owner: Tenant,
    image: image_pb2.Image,
    half: upload_pb2.Upload,
    service: Service,
    deployment: Deployment,
    clock: Clock,
    files_of: FilesOf,
):
    clock.advance(seconds=A_DAY_SECONDS - 60)
    assert give_up_dead_uploads(deployment) == 0
    assert get(owner, half).received_bytes == MIB

    clock.advance(seconds=120)

    assert give_up_dead_uploads(deployment) == 1
    assert state_of(owner, image) == "QUEUED"
    assert not files_of(service)
    taken = used(deployment)
    assert (taken.stored_bytes, taken.creations) == (NOTHING.stored_bytes, NOTHING.creations)


def test_whoever_brings_bytes_has_another_day(
    owner: Tenant, half: upload_pb2.Upload, deployment: Deployment, clock: Clock
):
    clock.advance(seconds=A_DAY_SECONDS - 60)
    before = get(owner, half).expire_time.ToDatetime()
    owner.write_upload(half, CONTENT[MIB : 2 * MIB], offset_bytes=MIB)
    after = get(owner, half).expire_time.ToDatetime()

    clock.advance(seconds=120)

    assert give_up_dead_uploads(deployment) == 0
    assert (after - before).total_seconds() == pytest.approx(A_DAY_SECONDS - 60, abs=1)


def test_the_lease_of_a_process_does_not_shorten_the_life_of_an_upload(
    owner: Tenant, upload: upload_pb2.Upload, deployment: Deployment
):
    before = get(owner, upload).expire_time
    with deployment.uploads.alive(upload.id):
        keep_uploads_alive(deployment)

    assert get(owner, upload).expire_time == before


# --- Who may ----------------------------------------------------------------------------------


def test_only_who_may_upload_goes_on(as_: As, image: image_pb2.Image, half: upload_pb2.Upload):
    reader = as_(OWNER, "reader")
    stranger = as_(RECIPIENT)

    with declined() as without_role:
        reader.write_upload(half, CONTENT[MIB:], offset_bytes=MIB)
    with declined() as hidden:
        stranger.write_upload(half, CONTENT[MIB:], offset_bytes=MIB)

    assert without_role.reason == "ROLE_REQUIRED"
    assert hidden.reason == "IMAGE_NOT_FOUND"


def test_another_users_of_the_tenant_goes_on(as_: As, half: upload_pb2.Upload):
    assert as_(OWNER).write_upload(half, CONTENT[MIB:], offset_bytes=MIB).received_bytes == len(CONTENT)


# --- Encrypted --------------------------------------------------------------------------------


@pytest.fixture
def key_file(service: Service) -> Path:
    add_key(service.settings.keys, DATA_KEY)
    return service.settings.keys


@pytest.mark.parametrize("cuts", [[], [1], [MIB + 1], [MIB + 1, 2 * MIB + 5, 3 * MIB + 1]])
def test_an_encrypted_image_is_gone_on_with_at_its_last_whole_mebibyte(
    cuts: list[int], owner: Tenant, key_file: Path, service: Service, files_of: FilesOf
):
    image = owner.create("secret", encryption_key_id=DATA_KEY)
    upload = owner.start_upload(image.id, CONTENT)
    place = 0
    for end in (*cuts, len(CONTENT)):
        written = owner.write_upload(upload, CONTENT[place:end], offset_bytes=place)
        place = get(owner, upload).received_bytes
        assert place == len(CONTENT) if end == len(CONTENT) else place == end // MIB * MIB
        assert written.received_bytes >= place

    finish(owner, upload)

    assert owner.download(image.id) == CONTENT
    (file,) = files_of(service)
    assert CONTENT[1000:1100] not in file.read_bytes()


def test_without_its_key_an_upload_waits(owner: Tenant, key_file: Path, service: Service):
    image = owner.create("secret", encryption_key_id=DATA_KEY)
    upload = owner.start_upload(image.id, CONTENT)
    owner.write_upload(upload, CONTENT[: 2 * MIB + 1])
    key_file.unlink()

    with declined() as seen:
        owner.write_upload(upload, CONTENT[2 * MIB :], offset_bytes=2 * MIB)

    assert seen.reason == "KEY_UNAVAILABLE"
    assert get(owner, upload).received_bytes == 2 * MIB
