"""What the client does by itself when an answer does not come: the same again, with one effect."""

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo

from calling import METHODS, request_class
from client.test_errors import declining, failing
from ims.client import Declined, Disk, Image, Unreachable, repetition
from ims.client.repetition import PAUSES_SECONDS, Patience, give_request_id
from ims.v1.image_service_pb2 import CreateImageResponse, GetImageResponse

AN_ID = "6b1d3c9e-6a0e-4f2f-9b60-0d2a8f6a3f11"
CONTENT = bytes(range(256)) * 64
NOBODY = failing(grpc.StatusCode.UNAVAILABLE, "going away")


class Lost(grpc.RpcError):
    """What a call ends with whose answer never came."""

    def code(self):
        return grpc.StatusCode.UNAVAILABLE

    def details(self):
        return "Connection reset by peer"

    def trailing_metadata(self):
        return ()


class LosesAnswers:
    """A method that does what it is asked, and whose first answers are lost on their way back."""

    def __init__(self, method, times=1):
        self._method, self._times = method, times

    def __call__(self, *args, **kwargs):
        return self._lose(self._method(*args, **kwargs))

    def future(self, *args, **kwargs):
        call = self._method.future(*args, **kwargs)
        result = call.result
        call.result = lambda: self._lose(result())
        return call

    def _lose(self, answer):
        if self._times:
            self._times -= 1
            raise Lost
        return answer


@pytest.fixture
def pauses(monkeypatch):
    """Wait for nothing; remember for how long it would have been."""
    waited = []
    monkeypatch.setattr("ims.client.connection.sleep", waited.append)
    return waited


class Scripts:
    """Answers of a server, one after the other; the last one for good. Remembers what it was asked."""

    def __init__(self, *answers):
        self.asked = []
        self._answers = list(answers)

    def __call__(self, request, context):
        self.asked.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return answer(request, context)


class TestLostAnswers:
    def test_a_creation_whose_answer_was_lost_has_one_effect(self, acme, monkeypatch):
        monkeypatch.setattr(acme._images, "CreateImage", LosesAnswers(acme._images.CreateImage, 3))

        image = acme.create_image(name="one", type=Image.SYSTEM_DISK, formats=[Disk.RAW])

        assert list(acme.list_images()) == [image]

    def test_a_share_that_was_left_is_left_once(self, acme, globex, monkeypatch):
        image = acme.create_image(name="one", type=Image.SYSTEM_DISK, formats=[Disk.RAW])
        acme.upload_image_data(image.id, [CONTENT], size_bytes=len(CONTENT))
        acme.share_image(image.id, ["globex"])
        monkeypatch.setattr(globex._sharing, "LeaveShare", LosesAnswers(globex._sharing.LeaveShare))

        globex.leave_share(image.id)

        assert list(acme.list_shares(image.id)) == []

    def test_an_uploaded_file_whose_answer_was_lost_is_not_uploaded_again(
        self, acme, tmp_path, monkeypatch
    ):
        path = tmp_path / "disk.img"
        path.write_bytes(CONTENT)
        image = acme.create_image(name="one", type=Image.SYSTEM_DISK, formats=[Disk.RAW])
        monkeypatch.setattr(acme._uploads, "WriteUpload", LosesAnswers(acme._uploads.WriteUpload, 1))
        finish = LosesAnswers(acme._uploads.FinishUpload, 2)
        monkeypatch.setattr(acme._uploads, "FinishUpload", finish)
        steps = []

        answer = acme.upload(image.id, path, progress=lambda *step: steps.append(step))

        assert answer.image.state == Image.ACTIVE
        assert acme.get_image(image.id) == answer.image
        assert steps == [(len(CONTENT), len(CONTENT))]

    def test_of_an_upload_from_elsewhere_the_caller_decides(self, acme, monkeypatch):
        """Its chunks are gone when they have been sent."""
        image = acme.create_image(name="one", type=Image.SYSTEM_DISK, formats=[Disk.RAW])
        upload = LosesAnswers(acme._images.UploadImageData)
        monkeypatch.setattr(acme._images, "UploadImageData", upload)
        with pytest.raises(Unreachable):
            acme.upload_image_data(image.id, [b"four"], size_bytes=4, request_id=AN_ID)

        answer = acme.upload_image_data(image.id, [b"four"], size_bytes=4, request_id=AN_ID)

        assert answer.image.state == Image.ACTIVE

    def test_a_program_that_chooses_its_ids_can_begin_anew(self, client_of):
        """It had written the id down before it ended."""
        wanted = {"name": "one", "type": Image.SYSTEM_DISK, "formats": [Disk.RAW], "request_id": AN_ID}

        assert client_of("acme").create_image(**wanted) == client_of("acme").create_image(**wanted)


class TestWhatIsRepeated:
    def test_a_call_is_made_again_with_the_same_id_until_it_is_answered(self, scripted, pauses):
        server = Scripts(NOBODY, NOBODY, lambda *_: CreateImageResponse())
        client = scripted(CreateImage=server)

        client.create_image(name="one", type=Image.SYSTEM_DISK, formats=[Disk.RAW])

        first, *others = server.asked
        assert first.request_id
        assert others == [first, first]
        assert pauses == list(PAUSES_SECONDS[:2])

    def test_reading_is_repeated_too(self, scripted, pauses):
        server = Scripts(NOBODY, lambda *_: GetImageResponse())

        scripted(GetImage=server).get_image("an-id")

        assert len(server.asked) == 2

    def test_in_the_end_it_is_given_up(self, scripted, pauses):
        server = Scripts(NOBODY)

        with pytest.raises(Unreachable):
            scripted(GetImage=server).get_image("an-id")

        assert len(server.asked) == 1 + len(PAUSES_SECONDS)
        assert pauses == list(PAUSES_SECONDS)

    def test_a_service_that_asks_for_time_is_given_it(self, scripted, pauses):
        info, retry = ErrorInfo(reason="CATALOGUE_UNAVAILABLE", domain="ims"), RetryInfo()
        retry.retry_delay.FromMilliseconds(700)
        away = declining(grpc.StatusCode.UNAVAILABLE, "Try again.", info, retry)

        with pytest.raises(Declined) as declined:
            scripted(GetImage=away).get_image("an-id")

        assert declined.value.reason == "CATALOGUE_UNAVAILABLE"
        assert pauses == [0.7, 0.7, 1.0]

    def test_a_service_that_has_no_room_just_now_is_called_again(self, scripted, pauses):
        info, retry = ErrorInfo(reason="TOO_MANY_CALLS", domain="ims"), RetryInfo()
        retry.retry_delay.FromSeconds(1)
        crowded = declining(grpc.StatusCode.RESOURCE_EXHAUSTED, "Try again.", info, retry)

        scripted(GetImage=Scripts(crowded, lambda *_: GetImageResponse())).get_image("an-id")

        assert pauses == [1.0]

    def test_a_call_takes_no_longer_than_it_may(self, scripted, pauses):
        server = Scripts(NOBODY)

        with pytest.raises(Unreachable):
            scripted({"timeout_seconds": 0.25}, GetImage=server).get_image("an-id")

        assert len(server.asked) <= 2

    @pytest.mark.parametrize(
        "code",
        [
            grpc.StatusCode.FAILED_PRECONDITION,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.INTERNAL,
            grpc.StatusCode.CANCELLED,
        ],
    )
    def test_an_answer_is_an_answer(self, scripted, pauses, code):
        server = Scripts(failing(code, "No."))

        with pytest.raises((Declined, Unreachable)):
            scripted(GetImage=server).get_image("an-id")

        assert len(server.asked) == 1


class TestIds:
    @pytest.mark.parametrize("rpc", METHODS)
    def test_what_changes_something_is_given_an_id_of_its_own(self, rpc):
        one, other = request_class(rpc)(), request_class(rpc)()
        give_request_id(one)
        give_request_id(other)

        if "request_id" in one.DESCRIPTOR.fields_by_name:
            assert len({one.request_id, other.request_id, ""}) == 3
        else:
            assert one == request_class(rpc)()

    def test_an_id_that_is_there_is_kept(self):
        request = request_class("DeleteImage")(request_id=AN_ID)
        give_request_id(request)

        assert request.request_id == AN_ID


class TestPatience:
    """Whoever has it waits for so long in all, until bytes arrive again."""

    @pytest.fixture
    def waited(self, monkeypatch):
        waited = []
        monkeypatch.setattr(repetition, "sleep", waited.append)
        return waited

    def test_it_ends_when_so_long_was_waited(self, waited):
        patience = Patience(60)

        def wait_on_and_on():
            for _ in range(1000):
                patience.wait(Unreachable("away"))

        with pytest.raises(Unreachable, match="away"):
            wait_on_and_on()

        assert 55 <= sum(waited) <= 60
        assert max(waited) == 5

    def test_what_moves_has_it_begin_anew(self, waited):
        patience = Patience(0.35)
        patience.wait(Unreachable("away"))
        patience.wait(Unreachable("away"))
        patience.has_moved()

        patience.wait(Unreachable("away again"))

        assert waited == [0.1, 0.2, 0.1]
