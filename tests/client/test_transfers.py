"""The two calls that carry bytes."""

import hashlib
import threading

import pytest

from ims.client import DamagedDownload, Declined, Disk, Image
from ims.v1.image_service_pb2 import DownloadImageDataResponse

CONTENT = b"bytes of a disk " * 1024
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def image(acme):
    return acme.create_image(name="disk", type=Image.SYSTEM_DISK, formats=[Disk.RAW])


class TestUpload:
    def test_chunks_become_a_disk(self, acme, image):
        answer = acme.upload_image_data(
            image.id,
            (CONTENT[start : start + 1000] for start in range(0, len(CONTENT), 1000)),
            size_bytes=len(CONTENT),
            sha256=SHA256,
        )

        assert answer.image.state == Image.ACTIVE
        assert (answer.disk.size_bytes, answer.disk.sha256) == (len(CONTENT), SHA256)

    def test_what_the_chunks_raise_reaches_the_caller_and_nothing_is_stored(self, acme, image):
        def chunks():
            yield CONTENT[:1000]
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            acme.upload_image_data(image.id, chunks(), size_bytes=len(CONTENT))

        assert acme.get_image(image.id).disks[0].state == Disk.EMPTY

    def test_what_the_chunks_raise_after_the_last_byte_reaches_the_caller(self, acme, image):
        def chunks():
            yield CONTENT
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            acme.upload_image_data(image.id, chunks(), size_bytes=len(CONTENT))

    def test_a_declined_upload_asks_for_no_more_chunks(self, acme):
        asked = []

        def chunks():
            while True:
                asked.append(1)
                yield CONTENT

        with pytest.raises(Declined) as declined:
            acme.upload_image_data("no-such-image", chunks(), size_bytes=10**12)

        assert declined.value.reason == "IMAGE_NOT_FOUND"
        assert len(asked) < 10_000

    def test_an_interrupted_upload_is_broken_off(self, acme, image, monkeypatch):
        begun, go_on = threading.Event(), threading.Event()

        def chunks():
            yield CONTENT[:1000]
            begun.set()
            go_on.wait()
            yield CONTENT[1000:]

        stub = acme._images.UploadImageData

        class Interrupted:
            @staticmethod
            def future(*args, **kwargs):
                call = stub.future(*args, **kwargs)

                def result():
                    begun.wait()
                    raise KeyboardInterrupt

                monkeypatch.setattr(call, "result", result)
                return call

        monkeypatch.setattr(acme._images, "UploadImageData", Interrupted)

        with pytest.raises(KeyboardInterrupt):
            acme.upload_image_data(image.id, chunks(), size_bytes=len(CONTENT))
        go_on.set()

        monkeypatch.undo()
        while acme.get_image(image.id).state != Image.QUEUED:
            pass


class TestDownload:
    @pytest.fixture
    def stored(self, acme, image):
        return acme.upload_image_data(image.id, [CONTENT], size_bytes=len(CONTENT)).image

    def test_what_is_announced_comes_before_the_bytes(self, acme, stored):
        with acme.download_image_data(stored.id) as (start, chunks):
            assert start.disk == stored.disks[0]
            assert start.length_bytes == len(CONTENT)
            assert b"".join(chunks) == CONTENT

    def test_a_part_is_enough(self, acme, stored):
        with acme.download_image_data(stored.id, offset_bytes=10, length_bytes=20) as (start, chunks):
            assert (start.offset_bytes, start.length_bytes) == (10, 20)
            assert b"".join(chunks) == CONTENT[10:30]

    def test_a_service_downloads_for_a_tenant(self, client_of, stored):
        with client_of("nova", "service").download_image_data(stored.id, tenant_id="acme") as (
            _,
            chunks,
        ):
            assert b"".join(chunks) == CONTENT

    def test_nobody_has_to_read_to_the_end(self, scripted):
        ended = threading.Event()

        def endless(_, context):
            context.add_callback(ended.set)
            yield DownloadImageDataResponse(start=DownloadImageDataResponse.Start())
            while context.is_active():
                yield DownloadImageDataResponse(chunk=CONTENT)

        with scripted(DownloadImageData=endless).download_image_data("an-id") as (_, chunks):
            assert next(chunks) == CONTENT

        assert ended.wait(timeout=10)

    def test_a_rejection_comes_at_once(self, acme):
        with (
            pytest.raises(Declined, match="no such image"),
            acme.download_image_data("no-such-image"),
        ):
            pytest.fail("the block was entered")

    @pytest.mark.parametrize("messages", [[], [DownloadImageDataResponse(chunk=b"bytes")]])
    def test_bytes_that_nobody_announced_are_refused(self, scripted, messages):
        client = scripted(DownloadImageData=lambda *_: iter(messages))

        with pytest.raises(DamagedDownload), client.download_image_data("an-id"):
            pytest.fail("the block was entered")
