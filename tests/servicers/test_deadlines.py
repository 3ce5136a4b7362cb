"""What a call's deadline is reaches whoever waits for something on its behalf."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from builders import OWNER
from calling import TIMEOUT_SECONDS, request_class
from conftest import As, MakeService
from ims.bootstrap import Service
from ims.repository.database import Database
from ims.v1.image_service_pb2 import UploadImageDataRequest


@pytest.fixture
def deadlines(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The seconds that were left of each call when it was told to the catalogue."""
    seen: list[float | None] = []
    until = Database.until

    @contextmanager
    def spying_until(self: Database, moment: float | None) -> Iterator[None]:
        seen.append(None if moment is None else moment - time.monotonic())
        with until(self, moment):
            yield

    monkeypatch.setattr(Database, "until", spying_until)
    return seen


@pytest.fixture
def service(deadlines: list[float | None], make_service: MakeService) -> Service:
    """A service that is made when the spy is in place."""
    return make_service()


@pytest.mark.parametrize("rpc", ["GetImage", "DownloadImageData", "UploadImageData"])
def test_a_deadline_reaches_the_catalogue_in_calls_of_every_shape(
    service: Service, as_: As, deadlines: list[float | None], rpc: str
):
    owner = as_(OWNER)
    image = owner.active("one")
    deadlines.clear()

    if rpc == "UploadImageData":
        owner.answer(rpc, iter([UploadImageDataRequest(start={"image_id": image.id})]))
    else:
        owner.answer(rpc, request_class(rpc)(image_id=image.id))

    (left,) = of_calls(deadlines)
    assert left is not None
    assert left < TIMEOUT_SECONDS + 1  # on its way a deadline is rounded up


def test_a_call_without_a_deadline_has_none(service: Service, deadlines: list[float | None]):
    deadlines.clear()
    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        list_images = channel.unary_unary("/ims.v1.ImageService/ListImages")
        list_images(b"", metadata=(("ims-tenant", OWNER),))

    assert of_calls(deadlines) == [None]


def of_calls(deadlines: list[float | None]) -> list[float | None]:
    """Leave out those of the health service, which asks the catalogue too: they are short."""
    return [left for left in deadlines if left is None or left > TIMEOUT_SECONDS / 2]
