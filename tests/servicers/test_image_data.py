"""Streams of bytes: what a client does wrong, what happens meanwhile, and what is left behind."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.rpc.error_details_pb2 import RetryInfo

from builders import OWNER, RECIPIENT
from calling import Declined, Tenant, answer_of, declined, request_class
from conftest import As, MakeService, needs
from disk_files.makers import (
    GOOD_FILE_NAMES,
    HOSTILE_FILES,
    GoodFile,
    HostileFile,
    make_good_files,
    missing_tools,
)
from downloads import PATIENCE_SECONDS, hold_after_the_first_chunk, rest_of
from ims.bootstrap import Service
from ims.domain.image import DiskFormat
from ims.v1 import image_pb2
from ims.v1.image_service_pb2 import UploadImageDataRequest as Message

FilesOf = Callable[[Service], list[Path]]
CONTENT = bytes(range(256)) * 16
KIB = 1024


@pytest.fixture
def owner(as_: As) -> Tenant:
    return as_(OWNER)


def state_of(tenant: Tenant, image_id: str) -> str:
    return image_pb2.Image.State.Name(tenant.GetImage(image_id=image_id).image.state)


def disk_states(tenant: Tenant, image_id: str) -> list[str]:
    disks = tenant.GetImage(image_id=image_id).image.disks
    return [image_pb2.Disk.State.Name(disk.state) for disk in disks]


def wait_for(tenant: Tenant, image_id: str, state: str) -> None:
    """Ask until an image is in a state; what it waits for happens in the server, without an event."""
    for _ in range(5000):
        if state_of(tenant, image_id) == state:
            return
    pytest.fail(f"the image is still {state_of(tenant, image_id)}")


def start(image_id: str, content: bytes = CONTENT, **changes: Any) -> Message:
    return Message(start={"image_id": image_id, "size_bytes": len(content), **changes})


def chunk(content: bytes) -> Message:
    return Message(chunk=content)


def upload(tenant: Tenant, *messages: Message) -> Declined:
    return tenant.answer("UploadImageData", iter(messages))


# --- The order of messages --------------------------------------------------------------------


class TestTheOrderOfMessages:
    def test_an_upload_in_many_chunks_small_and_large_and_empty_is_the_bytes_in_order(
        self, owner: Tenant
    ):
        image = owner.create("one")
        parts = [CONTENT[:1], b"", CONTENT[1:5], CONTENT[5:3000], b"", CONTENT[3000:], b""]
        seen = upload(owner, start(image.id), *map(chunk, parts))

        assert seen.code == "OK"
        assert owner.download(image.id) == CONTENT
        assert owner.GetImage(image_id=image.id).image.disks[0].sha256 == sha256(CONTENT)

    def test_no_message_at_all_is_refused(self, owner: Tenant):
        seen = upload(owner)

        assert (seen.code, seen.metadata) == ("INVALID_ARGUMENT", {"field": "part"})
        assert seen.message == "part: the first message of an upload is `start`."

    @pytest.mark.parametrize(
        "first", [chunk(CONTENT), chunk(b""), Message()], ids=["chunk", "empty", "none"]
    )
    def test_a_first_message_that_is_not_start_is_refused(self, first: Message, owner: Tenant):
        image = owner.create("one")
        seen = upload(owner, first, start(image.id), chunk(CONTENT))

        assert (seen.code, seen.metadata) == ("INVALID_ARGUMENT", {"field": "part"})
        assert state_of(owner, image.id) == "QUEUED"

    @pytest.mark.parametrize("again", ["start", "nothing"])
    def test_a_later_message_that_is_no_chunk_is_refused_and_nothing_is_left(
        self, again: str, owner: Tenant, service: Service, files_of: FilesOf
    ):
        image = owner.create("one")
        second = start(image.id) if again == "start" else Message()
        seen = upload(owner, start(image.id), chunk(CONTENT[:9]), second, chunk(CONTENT[9:]))

        assert (seen.code, seen.metadata) == ("INVALID_ARGUMENT", {"field": "part"})
        assert seen.message == "part: every message of an upload but the first is `chunk`."
        assert state_of(owner, image.id) == "QUEUED"
        assert not files_of(service)

    def test_bytes_that_are_no_message_in_the_middle_of_an_upload_are_refused_and_nothing_is_left(
        self, owner: Tenant, service: Service, files_of: FilesOf
    ):
        image = owner.create("one")
        stream = [start(image.id).SerializeToString(), chunk(b"abc").SerializeToString(), b"\xff"]
        seen = owner.answer_raw("UploadImageData", iter(stream))

        assert (seen.code, seen.reason) == ("INVALID_ARGUMENT", "UNREADABLE_REQUEST")
        assert state_of(owner, image.id) == "QUEUED"
        assert not files_of(service)


# --- What was announced -----------------------------------------------------------------------


class TestWhatWasAnnounced:
    @pytest.mark.parametrize(
        ("content", "sizes"),
        [
            (CONTENT[:-1], ("4096", "4095")),
            (CONTENT + b"!", ("4096", "4097")),
            (b"", ("4096", "0")),
        ],
        ids=["one byte less", "one byte more", "none"],
    )
    def test_another_size_is_refused_and_nothing_is_left(
        self,
        content: bytes,
        sizes: tuple[str, str],
        owner: Tenant,
        service: Service,
        files_of: FilesOf,
    ):
        image = owner.create("one")
        seen = upload(owner, start(image.id), chunk(content))

        assert (seen.code, seen.reason) == ("FAILED_PRECONDITION", "SIZE_MISMATCH")
        assert (seen.metadata["announcedBytes"], seen.metadata["receivedBytes"]) == sizes
        assert state_of(owner, image.id) == "QUEUED"
        assert not files_of(service)
        assert upload(owner, start(image.id), chunk(CONTENT)).code == "OK"

    def test_another_digest_is_refused_and_nothing_is_left(
        self, owner: Tenant, service: Service, files_of: FilesOf
    ):
        image = owner.create("one")
        seen = upload(owner, start(image.id, sha256="0" * 64), chunk(CONTENT))

        assert (seen.code, seen.reason) == ("FAILED_PRECONDITION", "DIGEST_MISMATCH")
        assert seen.metadata == {"announcedSha256": "0" * 64, "receivedSha256": sha256(CONTENT)}
        assert state_of(owner, image.id) == "QUEUED"
        assert not files_of(service)

    def test_a_digest_in_capitals_is_the_same_digest(self, owner: Tenant):
        image = owner.create("one")
        seen = upload(owner, start(image.id, sha256=sha256(CONTENT).upper()), chunk(CONTENT))

        assert seen.code == "OK"

    @pytest.mark.parametrize(
        ("announced", "field"),
        [
            ({"size_bytes": 0}, "start.size_bytes"),
            ({"size_bytes": -1}, "start.size_bytes"),
            ({"sha256": "abc"}, "start.sha256"),
            ({"sha256": "g" * 64}, "start.sha256"),
        ],
    )
    def test_what_cannot_be_announced_is_refused_at_once(
        self, announced: dict[str, Any], field: str, owner: Tenant
    ):
        image = owner.create("one")
        seen = upload(owner, start(image.id, **announced), chunk(CONTENT))

        assert (seen.code, seen.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
        assert seen.metadata["field"] == field

    @pytest.mark.parametrize("disk_index", [1, -1, 2**31 - 1, -(2**31)])
    def test_a_disk_that_the_image_does_not_have_is_not_filled_and_not_read(
        self, disk_index: int, owner: Tenant
    ):
        image = owner.create("one")
        seen = upload(owner, start(image.id, disk_index=disk_index), chunk(CONTENT))
        assert (seen.code, seen.reason) == ("NOT_FOUND", "DISK_NOT_FOUND")
        assert seen.metadata == {"diskIndex": str(disk_index), "disks": "1"}

        owner.upload(image.id, CONTENT)
        with declined() as seen:
            owner.download(image.id, disk_index=disk_index)
        assert (seen.code, seen.reason) == ("NOT_FOUND", "DISK_NOT_FOUND")


# --- The limit --------------------------------------------------------------------------------


class TestTheLimit:
    LIMIT = 64 * KIB

    @pytest.fixture
    def service(self, make_service: MakeService) -> Service:
        return make_service(max_image_file_bytes=self.LIMIT)

    def test_the_last_byte_within_the_limit_is_taken_and_one_more_is_not_announced(self, owner: Tenant):
        taken, refused = owner.create("taken"), owner.create("refused")
        assert upload(owner, start(taken.id, bytes(self.LIMIT)), chunk(bytes(self.LIMIT))).code == "OK"

        seen = upload(owner, start(refused.id, size_bytes=self.LIMIT + 1))
        assert (seen.code, seen.reason) == ("RESOURCE_EXHAUSTED", "IMAGE_FILE_TOO_LARGE")
        assert seen.metadata == {"maxImageFileBytes": "65536", "imageFileBytes": "65537"}
        assert state_of(owner, refused.id) == "QUEUED"

    @pytest.mark.parametrize("announced_bytes", [10, LIMIT])
    def test_a_file_that_grows_past_what_was_announced_is_cut_off_and_its_space_freed(
        self, announced_bytes: int, owner: Tenant, service: Service, files_of: FilesOf
    ):
        image = owner.create("one")
        sent = 0

        def endless() -> Iterator[Message]:
            nonlocal sent
            yield start(image.id, size_bytes=announced_bytes)
            while True:
                yield chunk(bytes(16 * KIB))
                sent += 16 * KIB

        seen = owner.answer("UploadImageData", endless())

        assert (seen.code, seen.reason) == ("FAILED_PRECONDITION", "SIZE_MISMATCH")
        assert int(seen.metadata["receivedBytes"]) <= announced_bytes + 16 * KIB
        assert sent < 100 * 1024**2  # the client was told while it sent
        assert state_of(owner, image.id) == "QUEUED"
        assert not files_of(service)


# --- Uploads that meet, end early, or find no room --------------------------------------------


class Held:
    """An upload that has sent half and waits."""

    def __init__(self, tenant: Tenant, image_id: str, content: bytes = CONTENT, disk_index: int = 0):
        self._go_on = threading.Event()
        self._messages = self._send(image_id, content, disk_index)
        self.call = tenant.begin("UploadImageData", self._messages)
        wait_for(tenant, image_id, "SAVING")

    def _send(self, image_id: str, content: bytes, disk_index: int) -> Iterator[Message]:
        half = len(content) // 2
        yield start(image_id, content, disk_index=disk_index)
        yield chunk(content[:half])
        self._go_on.wait(PATIENCE_SECONDS)
        yield chunk(content[half:])

    def finish(self) -> Declined:
        self._go_on.set()
        return answer_of(self.call.result)

    def cancel(self) -> None:
        self.call.cancel()
        self._go_on.set()


class TestUploadsAtOnce:
    def test_the_second_upload_of_a_disk_finds_it_busy_and_the_first_finishes(self, owner: Tenant):
        image = owner.create("one")
        held = Held(owner, image.id)
        second = upload(owner, start(image.id, b"other"), chunk(b"other"))
        deleted = owner.answer("DeleteImage", a_request("DeleteImage", image_id=image.id))
        first = held.finish()

        assert (second.code, second.reason) == ("FAILED_PRECONDITION", "IMAGE_BUSY")
        assert second.metadata == {"diskIndex": "0"}
        assert (deleted.code, deleted.reason) == ("FAILED_PRECONDITION", "IMAGE_BUSY")
        assert first.code == "OK"
        assert owner.download(image.id) == CONTENT

    def test_a_client_that_cancels_in_the_middle_leaves_nothing_and_can_try_again(
        self, owner: Tenant, service: Service, files_of: FilesOf
    ):
        image = owner.create("one")
        held = Held(owner, image.id)
        while not files_of(service):
            pass  # the record says that bytes arrive before the file is there
        held.cancel()
        wait_for(owner, image.id, "QUEUED")

        assert not files_of(service)
        assert upload(owner, start(image.id), chunk(CONTENT)).code == "OK"

    def test_when_every_slot_is_taken_transfers_come_back_later_and_small_calls_are_answered(
        self, make_service: MakeService, as_: As
    ):
        service = make_service(max_transfers=2, threads=2)
        owner = as_(OWNER, of=service)
        third = owner.create("third")
        done = owner.active("done", CONTENT)
        held = [Held(owner, owner.create(name).id) for name in ("first", "second")]

        refused = [
            upload(owner, start(third.id), chunk(CONTENT)),
            owner.answer("DownloadImageData", a_request("DownloadImageData", image_id=done.id)),
        ]
        answered = state_of(owner, third.id)
        finished = [each.finish().code for each in held]

        for seen in refused:
            assert (seen.code, seen.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_TRANSFERS")
            assert seen.metadata == {"maxTransfers": "2"}
            assert [detail.retry_delay.seconds for detail in seen.details if _is_retry(detail)] == [1]
        assert answered == "QUEUED"
        assert finished == ["OK", "OK"]
        assert upload(owner, start(third.id), chunk(CONTENT)).code == "OK"
        assert owner.download(done.id) == CONTENT

    def test_uploads_that_never_begin_do_not_keep_small_calls_waiting(
        self, make_service: MakeService, as_: As
    ):
        """Each held a thread, and none a slot: as many of them as threads silenced the service."""
        service = make_service(max_transfers=2, threads=2)
        owner = as_(OWNER, of=service)
        image = owner.create("one")
        never = threading.Event()

        def nothing() -> Iterator[Message]:
            never.wait(PATIENCE_SECONDS)
            yield from ()

        idle = [owner.begin("UploadImageData", nothing()) for _ in range(10)]
        answered = state_of(owner, image.id)
        never.set()
        ends = sorted(answer_of(each.result).reason for each in idle)

        assert answered == "QUEUED"
        assert ends == ["INVALID_FIELD"] * 2 + ["TOO_MANY_TRANSFERS"] * 8

    def test_a_full_ecs_image_is_active_only_when_its_last_disk_is_complete(
        self, as_: As, owner: Tenant
    ):
        cbr = as_("cbr", "service")
        image = cbr.create(
            "server",
            type="FULL_ECS",
            disks=[{"format": "RAW"}] * 3,
            source={"cbr_backup": {"backup_id": "backup-1"}},
            owner_tenant_id=OWNER,
        )
        contents = [bytes([index]) * 1000 for index in range(3)]

        seen = []
        for index in (2, 0, 1):
            held = Held(cbr, image.id, contents[index], disk_index=index)
            seen.append((state_of(owner, image.id), disk_states(owner, image.id)))
            assert held.finish().code == "OK"
            seen.append((state_of(owner, image.id), disk_states(owner, image.id)))
            again = upload(cbr, start(image.id, disk_index=index), chunk(CONTENT))
            # Once the image is complete, the service that filled it has nothing to see in it any more.
            assert again.reason == ("IMAGE_NOT_FOUND" if index == 1 else "IMAGE_DATA_FINAL")

        assert seen == [
            ("SAVING", ["EMPTY", "EMPTY", "SAVING"]),
            ("QUEUED", ["EMPTY", "EMPTY", "STORED"]),
            ("SAVING", ["SAVING", "EMPTY", "STORED"]),
            ("QUEUED", ["STORED", "EMPTY", "STORED"]),
            ("SAVING", ["STORED", "SAVING", "STORED"]),
            ("ACTIVE", ["STORED", "STORED", "STORED"]),
        ]
        assert [owner.download(image.id, disk_index=index) for index in range(3)] == contents

    def test_two_disks_of_one_image_are_filled_at_the_same_time(self, as_: As, owner: Tenant):
        cbr = as_("cbr", "service")
        image = cbr.create(
            "server",
            type="FULL_ECS",
            disks=[{"format": "RAW"}] * 2,
            source={"cbr_backup": {"backup_id": "backup-1"}},
            owner_tenant_id=OWNER,
        )
        first, second = (Held(cbr, image.id, disk_index=index) for index in range(2))

        assert [first.finish().code, second.finish().code] == ["OK", "OK"]
        assert state_of(owner, image.id) == "ACTIVE"


# --- Encryption -------------------------------------------------------------------------------


class TestEncryption:
    CONTENT = b"a secret of the tenant's that must not be read " * 50_000

    def test_an_encrypted_image_comes_back_as_it_was_and_its_blob_shows_nothing_of_it(
        self, owner: Tenant, service: Service, files_of: FilesOf
    ):
        image = owner.active("one", self.CONTENT, encryption_key_id="key-1")

        (blob,) = files_of(service)
        assert image.encryption_key_id == "key-1"
        assert b"secret" not in blob.read_bytes()
        assert owner.download(image.id) == self.CONTENT
        assert (
            owner.download(image.id, offset_bytes=1024**2 - 1, length_bytes=2)
            == (self.CONTENT[1024**2 - 1 : 1024**2 + 1])
        )

    def test_a_plain_image_is_not_called_encrypted(
        self, owner: Tenant, service: Service, files_of: FilesOf
    ):
        image = owner.active("one", self.CONTENT)

        (blob,) = files_of(service)
        assert image.encryption_key_id == ""
        assert blob.read_bytes() == self.CONTENT

    def test_a_disabled_key_takes_the_bytes_away_and_not_the_metadata(
        self, owner: Tenant, service: Service, files_of: FilesOf
    ):
        image = owner.active("one", self.CONTENT, encryption_key_id="key-1")
        empty = owner.create("two", encryption_key_id="key-1")
        _disable_the_last_key(service)

        with declined() as read:
            owner.download(image.id)
        resolved = owner.answer(
            "ResolveImage", a_request("ResolveImage", image_id=image.id, purpose="CREATE_ECS")
        )
        written = upload(owner, start(empty.id), chunk(CONTENT))
        for seen in (read, resolved, written):
            assert (seen.code, seen.reason) == ("FAILED_PRECONDITION", "KEY_UNAVAILABLE")
            assert seen.metadata == {"keyId": "key-1"}
        assert state_of(owner, image.id) == "ACTIVE"
        assert state_of(owner, empty.id) == "QUEUED"
        assert len(files_of(service)) == 1

    def test_an_unknown_key_encrypts_nothing(self, owner: Tenant):
        with declined() as seen:
            owner.create("one", encryption_key_id="no-such-key")

        assert (seen.code, seen.reason) == ("FAILED_PRECONDITION", "KEY_UNAVAILABLE")


def _disable_the_last_key(service: Service) -> None:
    with service.settings.keys.open("a") as keys:
        keys.write("disabled = true\n")


# --- Ranges -----------------------------------------------------------------------------------


class TestRanges:
    CHUNK = KIB
    SIZE = 3 * KIB + 7
    CONTENT = bytes(index % 251 for index in range(SIZE))

    @pytest.fixture
    def service(self, make_service: MakeService) -> Service:
        return make_service(chunk_bytes=self.CHUNK)

    @pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, SIZE, SIZE + 1, 2**63 - 1])
    @pytest.mark.parametrize(
        "offset", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, SIZE - 1, SIZE], ids=str
    )
    def test_a_part_of_the_file_comes_in_whole_chunks(self, offset: int, length: int, owner: Tenant):
        image = owner.active("one", self.CONTENT)
        first, *rest = owner.DownloadImageData(
            image_id=image.id, offset_bytes=offset, length_bytes=length
        )

        wanted = self.CONTENT[offset : offset + length] if length else self.CONTENT[offset:]
        chunks = [message.chunk for message in rest]
        assert b"".join(chunks) == wanted
        assert (first.start.offset_bytes, first.start.length_bytes) == (offset, len(wanted))
        assert first.start.disk == image.disks[0]
        assert {len(each) for each in chunks[:-1]} <= {self.CHUNK}
        assert all(chunks)

    @pytest.mark.parametrize("offset", [SIZE + 1, 2**63 - 1, -1, -(2**63)])
    def test_an_offset_outside_the_file_is_refused(self, offset: int, owner: Tenant):
        image = owner.active("one", self.CONTENT)
        with declined() as seen:
            owner.download(image.id, offset_bytes=offset)

        assert (seen.code, seen.reason) == ("OUT_OF_RANGE", "OFFSET_OUT_OF_RANGE")
        assert seen.metadata == {"offsetBytes": str(offset), "sizeBytes": str(self.SIZE)}

    def test_a_negative_length_is_refused(self, owner: Tenant):
        image = owner.active("one", self.CONTENT)
        with declined() as seen:
            owner.download(image.id, length_bytes=-1)

        assert (seen.code, seen.metadata) == (
            "INVALID_ARGUMENT",
            {"field": "length_bytes", "value": "-1"},
        )


# --- Damage -----------------------------------------------------------------------------------


def _missing(blob: Path) -> None:
    blob.unlink()


def _shortened(blob: Path) -> None:
    blob.write_bytes(blob.read_bytes()[:-1])


def _changed(blob: Path) -> None:
    content = bytearray(blob.read_bytes())
    content[-100] ^= 1
    blob.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "key_id"),
    [
        (_missing, ""),
        (_shortened, ""),
        (_missing, "key-1"),
        (_shortened, "key-1"),
        # A changed byte of a plain blob is seen by whoever compares the digest that `start` names.
        (_changed, "key-1"),
    ],
)
def test_damaged_bytes_are_told_as_such_and_the_metadata_stays(
    damage: Callable[[Path], None], key_id: str, owner: Tenant, service: Service, files_of: FilesOf
):
    image = owner.active("one", CONTENT, encryption_key_id=key_id)
    (blob,) = files_of(service)
    damage(blob)
    with declined() as seen:
        owner.download(image.id)

    assert (seen.code, seen.reason, seen.metadata) == ("DATA_LOSS", "DISK_DATA_DAMAGED", {})
    assert state_of(owner, image.id) == "ACTIVE"


def test_a_damaged_end_is_told_behind_the_good_beginning(make_service: MakeService, as_: As):
    service = make_service(chunk_bytes=KIB)
    owner = as_(OWNER, of=service)
    image = owner.active("one", bytes(100 * KIB))
    read = service.deployment.blobs.read

    def read_and_lose_the_end(*args: Any, **kwargs: Any) -> Iterator[bytes]:
        chunks = read(*args, **kwargs)
        yield next(chunks)
        (blob,) = service.settings.blob_folder.glob("blobs/??/*")
        with blob.open("r+b") as file:
            file.truncate(50 * KIB)
        yield from chunks

    service.deployment.blobs.read = read_and_lose_the_end
    download = owner.begin("DownloadImageData", a_request("DownloadImageData", image_id=image.id))
    next(download)
    received, seen = rest_of(download)

    assert received == [KIB] * 50
    assert (seen.code, seen.reason) == ("DATA_LOSS", "DISK_DATA_DAMAGED")


# --- What ends a running download -------------------------------------------------------------


def _unshare(owner: Tenant, recipient: Tenant, image_id: str) -> None:
    owner.UnshareImage(image_id=image_id, tenant_ids=[recipient.id])


def _unshare_all(owner: Tenant, _recipient: Tenant, image_id: str) -> None:
    owner.UnshareImage(image_id=image_id, all_tenants=True)


def _delete(owner: Tenant, _recipient: Tenant, image_id: str) -> None:
    owner.DeleteImage(image_id=image_id)


def _deactivate(owner: Tenant, _recipient: Tenant, image_id: str) -> None:
    owner.DeactivateImage(image_id=image_id)


def _reject(_owner: Tenant, recipient: Tenant, image_id: str) -> None:
    recipient.RejectShare(image_id=image_id)


def _leave(_owner: Tenant, recipient: Tenant, image_id: str) -> None:
    recipient.LeaveShare(image_id=image_id)


ENDINGS = [
    (RECIPIENT, _unshare, "NOT_FOUND IMAGE_NOT_FOUND"),
    (RECIPIENT, _unshare_all, "NOT_FOUND IMAGE_NOT_FOUND"),
    (RECIPIENT, _leave, "NOT_FOUND IMAGE_NOT_FOUND"),
    (RECIPIENT, _delete, "NOT_FOUND IMAGE_NOT_FOUND"),
    (RECIPIENT, _reject, "FAILED_PRECONDITION SHARE_NOT_ACCEPTED"),
    (RECIPIENT, _deactivate, "FAILED_PRECONDITION IMAGE_NOT_ACTIVE"),
    (OWNER, _deactivate, "FAILED_PRECONDITION IMAGE_NOT_ACTIVE"),
    (OWNER, _delete, "FAILED_PRECONDITION IMAGE_DELETED"),
]


class TestARunningDownload:
    """A content far larger than what gRPC sends ahead, in chunks far smaller."""

    CONTENT = bytes(range(256)) * 4 * KIB * 16

    @pytest.fixture
    def service(self, make_service: MakeService) -> Service:
        return make_service(chunk_bytes=KIB)

    @pytest.fixture
    def shared(self, owner: Tenant, as_: As) -> Any:
        """An image of 16 MiB that RECIPIENT has accepted."""
        image = owner.active("one", self.CONTENT)
        owner.ShareImage(image_id=image.id, recipients=[{"tenant_id": RECIPIENT}])
        as_(RECIPIENT).AcceptShare(image_id=image.id)
        return image

    @pytest.mark.parametrize(("reader", "end", "answer"), ENDINGS)
    def test_ends_at_the_next_chunk_once_it_may_not_be_read_any_more(
        self,
        reader: str,
        end: Callable[[Tenant, Tenant, str], None],
        answer: str,
        owner: Tenant,
        as_: As,
        shared: Any,
    ):
        recipient = as_(RECIPIENT)
        download = as_(reader).begin(
            "DownloadImageData", a_request("DownloadImageData", image_id=shared.id)
        )
        received = [next(download), next(download)]
        end(owner, recipient, shared.id)
        more, seen = rest_of(download)

        assert f"{seen.code} {seen.reason}" == answer
        assert received[0].start.length_bytes == len(self.CONTENT)
        # What was under way before the end was called arrives; the server sends no more.
        assert sum(more) < len(self.CONTENT) // 2

    @pytest.mark.parametrize(("reader", "end", "answer"), ENDINGS)
    def test_sends_not_one_chunk_after_the_call_that_ended_it_has_returned(
        self,
        reader: str,
        end: Callable[[Tenant, Tenant, str], None],
        answer: str,
        owner: Tenant,
        as_: As,
        shared: Any,
        service: Service,
    ):
        go_on = hold_after_the_first_chunk(service.deployment)
        download = as_(reader).begin(
            "DownloadImageData", a_request("DownloadImageData", image_id=shared.id)
        )
        next(download)
        assert next(download).chunk == self.CONTENT[:KIB]
        end(owner, as_(RECIPIENT), shared.id)
        go_on.set()
        more, seen = rest_of(download)

        assert more == []
        assert f"{seen.code} {seen.reason}" == answer

    def test_of_a_public_image_ends_when_it_is_taken_back(
        self, owner: Tenant, as_: As, service: Service
    ):
        admin = as_("root", "admin")
        image = owner.active("one", self.CONTENT)
        admin.PublishImage(image_id=image.id)
        go_on = hold_after_the_first_chunk(service.deployment)
        request = a_request("DownloadImageData", image_id=image.id)
        download = as_("stranger").begin("DownloadImageData", request)
        next(download)
        next(download)
        admin.UnpublishImage(image_id=image.id)
        go_on.set()
        more, seen = rest_of(download)

        assert more == []
        assert (seen.code, seen.reason) == ("NOT_FOUND", "IMAGE_NOT_FOUND")

    def test_goes_on_when_the_share_is_rejected_and_accepted_again(
        self, as_: As, shared: Any, service: Service
    ):
        recipient = as_(RECIPIENT)
        go_on = hold_after_the_first_chunk(service.deployment)
        request = a_request("DownloadImageData", image_id=shared.id, length_bytes=3 * KIB)
        download = recipient.begin("DownloadImageData", request)
        next(download)
        next(download)
        recipient.RejectShare(image_id=shared.id)
        recipient.AcceptShare(image_id=shared.id)
        go_on.set()

        assert [len(message.chunk) for message in download] == [KIB, KIB]

    def test_gives_its_slot_back_when_the_client_goes_away(self, make_service: MakeService, as_: As):
        service = make_service(chunk_bytes=KIB, max_transfers=1)
        owner = as_(OWNER, of=service)
        image = owner.active("one", self.CONTENT)
        request = a_request("DownloadImageData", image_id=image.id, length_bytes=5)
        for _ in range(3):
            left = owner.begin("DownloadImageData", a_request("DownloadImageData", image_id=image.id))
            next(left)
            left.cancel()
            while (seen := owner.answer("DownloadImageData", request)).code != "OK":
                assert seen.reason == "TOO_MANY_TRANSFERS"


# --- What a file is ---------------------------------------------------------------------------


@pytest.fixture(scope="session")
def good_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, GoodFile]:
    return {file.name: file for file in make_good_files(tmp_path_factory.mktemp("good_files"))}


@pytest.mark.parametrize("name", GOOD_FILE_NAMES)
def test_every_format_is_recognised_and_measured(
    name: str, good_files: dict[str, GoodFile], owner: Tenant
):
    if name not in good_files:
        needs(None, missing_tools()[name])
    file = good_files[name]
    content = file.path.read_bytes()

    image = owner.create("one", **declared_as(file.format))
    uploaded = owner.upload(image.id, content)

    assert image_pb2.Image.State.Name(uploaded.image.state) == "ACTIVE"
    assert uploaded.disk.format == image_pb2.Disk.Format.Value(file.format)
    assert uploaded.disk.capacity_bytes == file.capacity_bytes
    assert (uploaded.disk.size_bytes, uploaded.disk.sha256) == (len(content), sha256(content))
    assert uploaded.image.min_disk_gib == 1
    assert owner.download(image.id) == content


@pytest.mark.parametrize("file", HOSTILE_FILES, ids=lambda file: file.name)
def test_a_hostile_file_is_refused_by_name_and_nothing_of_it_stays(
    file: HostileFile, owner: Tenant, service: Service, files_of: FilesOf
):
    image = owner.create("one", **declared_as(file.declared))
    with declined() as seen:
        owner.upload(image.id, file.content)

    if file.content:
        assert (seen.code, seen.reason) == ("FAILED_PRECONDITION", file.reason)
    else:  # an empty file is refused before anybody looks what it is
        assert (seen.reason, seen.metadata) == ("INVALID_FIELD", {"field": "start.size_bytes"})
    assert "passwd" not in seen.message
    assert state_of(owner, image.id) == "QUEUED"
    assert disk_states(owner, image.id) == ["EMPTY"]
    assert not files_of(service)


def test_a_file_that_is_hopeless_from_the_start_is_not_listened_to_to_its_end(owner: Tenant):
    image = owner.create("one", disks=[{"format": "QCOW2"}])
    sent = 0

    def a_long_text() -> Iterator[Message]:
        nonlocal sent
        yield start(image.id, size_bytes=100 * 1024**3)
        while True:
            yield chunk(b"no disk at all. " * 4 * KIB)
            sent += 64 * KIB

    seen = owner.answer("UploadImageData", a_long_text())

    assert (seen.code, seen.reason) == ("FAILED_PRECONDITION", "FORMAT_MISMATCH")
    assert seen.metadata == {"declaredFormat": "QCOW2", "foundFormat": "RAW"}
    assert sent < 100 * 1024**2


def declared_as(disk_format: DiskFormat) -> dict[str, Any]:
    """Return the fields of a creation that takes a file of the format."""
    image_type = "ISO" if disk_format is DiskFormat.ISO else "SYSTEM_DISK"
    return {"type": image_type, "disks": [{"format": disk_format}]}


# --- Requests and streams ---------------------------------------------------------------------


def a_request(rpc: str, **fields: Any) -> Any:
    return request_class(rpc)(**fields)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_retry(detail: object) -> bool:
    return isinstance(detail, RetryInfo)
