"""Encrypted images whose keys are in a key server: a real OpenBao, from upload to the key's end."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from builders import OWNER, RECIPIENT
from calling import Declined, Tenant, answer_of, request_class
from conftest import As, MakeService
from databases import SQLITE
from downloads import rest_of
from ims.bootstrap import Service
from ims.v1 import image_pb2
from key_servers import CACHE_SECONDS, OpenBao, Stopwatch, Transit

pytestmark = pytest.mark.databases(SQLITE)

CONTENT = b"a secret of the tenant's that must not be read " * 50_000
MINE = f"{OWNER}.mine"


@pytest.fixture
def clock_of_keys() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[OpenBao]:
    server = OpenBao(tmp_path / "openbao")
    yield server
    server.close()


MakeWithKeys = Callable[[Transit], Service]


@pytest.fixture
def make_with_keys(make_service: MakeService, clock_of_keys: Stopwatch) -> MakeWithKeys:
    """Start a service that takes its keys from an engine, and believes answers by a held clock."""

    def make(transit: Transit, **more: Any) -> Service:
        service = make_service(transit=transit.settings(timeout_seconds=2), **more)
        keys: Any = service.deployment.keys
        keys._clock = keys._server._clock = clock_of_keys
        return service

    return make


@pytest.fixture
def service(make_with_keys: MakeWithKeys, transit: Transit) -> Service:
    transit.make_key(MINE)
    return make_with_keys(transit)


@pytest.fixture
def owner(as_: As) -> Tenant:
    return as_(OWNER)


def tries(owner: Tenant, image_id: str, empty_id: str) -> list[Declined]:
    """Use the key in every way: read, resolve, write, create."""
    resolve = request_class("ResolveImage")(image_id=image_id, purpose="CREATE_ECS")
    return [
        answer_of(lambda: owner.download(image_id)),
        answer_of(lambda: owner.call("ResolveImage", resolve)),
        answer_of(lambda: owner.upload(empty_id, CONTENT)),
        answer_of(lambda: owner.create("another", encryption_key_id=MINE)),
    ]


def assert_the_key_is_unavailable(owner: Tenant, image_id: str, empty_id: str) -> None:
    for seen in tries(owner, image_id, empty_id):
        assert (seen.code, seen.reason) == ("FAILED_PRECONDITION", "KEY_UNAVAILABLE")
        assert seen.metadata == {"keyId": MINE}
        assert seen.message.endswith(f"The key '{MINE}' is not known or is disabled.")
    # The metadata stays (law 6.3), and can be changed.
    image = owner.GetImage(image_id=image_id).image
    assert image.state == image_pb2.Image.State.ACTIVE
    assert image.encryption_key_id == MINE
    assert owner.GetImage(image_id=empty_id).image.state == image_pb2.Image.State.QUEUED
    update = {"image": {"description": "still mine"}, "update_mask": {"paths": ["description"]}}
    assert owner.UpdateImage(image_id=image_id, **update).image.description == "still mine"


def test_an_encrypted_image_comes_back_as_it_was_and_its_blob_shows_nothing_of_it(
    owner: Tenant, service: Service, files_of: Callable[[Service], list[Path]]
):
    image = owner.active("one", CONTENT, encryption_key_id=MINE)

    (blob,) = files_of(service)
    assert b"secret" not in blob.read_bytes()
    assert owner.download(image.id) == CONTENT
    assert (
        owner.download(image.id, offset_bytes=1024**2 - 1, length_bytes=2)
        == (CONTENT[1024**2 - 1 : 1024**2 + 1])
    )


def test_another_tenant_s_key_encrypts_nothing(as_: As, transit: Transit):
    seen = answer_of(lambda: as_(RECIPIENT).create("one", encryption_key_id=MINE))

    assert (seen.code, seen.reason) == ("FAILED_PRECONDITION", "KEY_UNAVAILABLE")


def test_a_key_without_a_tenant_is_everybody_s(as_: As, transit: Transit):
    transit.make_key("ours")

    for tenant in (as_(OWNER), as_(RECIPIENT)):
        image = tenant.active("one", CONTENT, encryption_key_id="ours")
        assert tenant.download(image.id) == CONTENT


def test_a_disabled_key_takes_the_bytes_away_until_it_is_enabled(
    owner: Tenant, service: Service, transit: Transit, clock_of_keys: Stopwatch
):
    image = owner.active("one", CONTENT, encryption_key_id=MINE)
    empty = owner.create("two", encryption_key_id=MINE)
    transit.disable(MINE)
    clock_of_keys.advance(CACHE_SECONDS)

    assert_the_key_is_unavailable(owner, image.id, empty.id)

    transit.enable(MINE)
    clock_of_keys.advance(CACHE_SECONDS)
    assert owner.download(image.id) == CONTENT
    assert owner.upload(empty.id, CONTENT).image.state == image_pb2.Image.State.ACTIVE


def test_with_the_key_the_bytes_are_gone_for_ever(
    owner: Tenant, service: Service, transit: Transit, clock_of_keys: Stopwatch
):
    image = owner.active("one", CONTENT, encryption_key_id=MINE)
    empty = owner.create("two", encryption_key_id=MINE)
    transit.delete(MINE)
    clock_of_keys.advance(CACHE_SECONDS)
    assert_the_key_is_unavailable(owner, image.id, empty.id)

    transit.make_key(MINE)  # of the same name, and another one
    clock_of_keys.advance(CACHE_SECONDS)
    seen = answer_of(lambda: owner.download(image.id))

    assert (seen.code, seen.reason) == ("FAILED_PRECONDITION", "KEY_UNAVAILABLE")


def test_a_key_server_that_hangs_takes_the_bytes_away_until_it_is_back(
    own_server: OpenBao, make_with_keys: MakeWithKeys, as_: As, clock_of_keys: Stopwatch
):
    transit = own_server.transit()
    transit.make_key(MINE)
    owner = as_(OWNER, of=make_with_keys(transit))
    image = owner.active("one", CONTENT, encryption_key_id=MINE)
    empty = owner.create("two", encryption_key_id=MINE)
    own_server.pause()
    clock_of_keys.advance(CACHE_SECONDS)

    assert_the_key_is_unavailable(owner, image.id, empty.id)

    own_server.resume()
    clock_of_keys.advance(CACHE_SECONDS)
    assert owner.download(image.id) == CONTENT


def test_a_key_server_that_is_gone_takes_the_bytes_away(
    own_server: OpenBao, make_with_keys: MakeWithKeys, as_: As, clock_of_keys: Stopwatch
):
    transit = own_server.transit()
    transit.make_key(MINE)
    service = make_with_keys(transit)
    owner = as_(OWNER, of=service)
    image = owner.active("one", CONTENT, encryption_key_id=MINE)
    empty = owner.create("two", encryption_key_id=MINE)
    plain = owner.active("plain", CONTENT)
    own_server.close()
    clock_of_keys.advance(CACHE_SECONDS)

    assert_the_key_is_unavailable(owner, image.id, empty.id)
    assert owner.download(plain.id) == CONTENT


def test_a_service_starts_without_its_key_server(make_service: MakeService, as_: As, tmp_path: Path):
    (tmp_path / "token").write_text("a-token")
    service = make_service(transit={"url": "http://127.0.0.1:1", "token_file": tmp_path / "token"})
    owner = as_(OWNER, of=service)

    assert owner.download(owner.active("plain", CONTENT).id) == CONTENT
    seen = answer_of(lambda: owner.create("one", encryption_key_id=MINE))
    assert (seen.code, seen.reason) == ("FAILED_PRECONDITION", "KEY_UNAVAILABLE")


def test_a_running_download_ends_with_its_key(
    make_with_keys: MakeWithKeys, as_: As, transit: Transit, clock_of_keys: Stopwatch
):
    transit.make_key(MINE)
    service = make_with_keys(transit, chunk_bytes=1024)
    owner = as_(OWNER, of=service)
    image = owner.active("one", CONTENT * 10, encryption_key_id=MINE)
    download = owner.begin("DownloadImageData", request_class("DownloadImageData")(image_id=image.id))
    next(download)

    transit.disable(MINE)
    clock_of_keys.advance(CACHE_SECONDS)
    received, seen = rest_of(download)

    assert sum(received) < len(CONTENT) * 10
    assert (seen.code, seen.reason) == ("FAILED_PRECONDITION", "KEY_UNAVAILABLE")


def test_images_from_before_a_rotation_are_read_after_it(
    owner: Tenant, service: Service, transit: Transit
):
    before = owner.active("before", CONTENT, encryption_key_id=MINE)
    transit.rotate(MINE)
    after = owner.active("after", CONTENT, encryption_key_id=MINE)

    for image in (before, after):
        assert owner.download(image.id) == CONTENT


def test_a_copy_under_another_key_outlives_the_first(
    owner: Tenant, service: Service, transit: Transit, clock_of_keys: Stopwatch
):
    transit.make_key("another")
    image = owner.active("one", CONTENT, encryption_key_id=MINE)
    answer = owner.CopyImage(image_id=image.id, name="copy", encryption_key_id="another")
    copy = image_pb2.Image()
    answer.response.Unpack(copy)
    transit.delete(MINE)
    clock_of_keys.advance(CACHE_SECONDS)

    assert owner.download(copy.id) == CONTENT
    seen = answer_of(lambda: owner.download(image.id))
    assert (seen.code, seen.reason) == ("FAILED_PRECONDITION", "KEY_UNAVAILABLE")


def test_another_instance_on_the_same_records_reads_what_one_has_written(
    owner: Tenant, service: Service, make_service: MakeService, as_: As, transit: Transit
):
    image = owner.active("one", CONTENT, encryption_key_id=MINE)
    role_id, secret_id_file = transit.role()
    login = {"token_file": None, "role_id": role_id, "secret_id_file": secret_id_file}

    other = make_service(data=service.settings.data, transit=transit.settings(**login))

    assert as_(OWNER, of=other).download(image.id) == CONTENT


def test_no_transaction_is_the_first_to_ask_for_a_key(owner: Tenant, service: Service, transit: Transit):
    """What a transaction wants to know of a key was asked before it began."""
    keys: Any = service.deployment.keys
    server = keys._server
    asked_within: list[str] = []
    answered = server._answered

    def noting(connection: Any, method: str, path: str, *rest: Any) -> Any:
        if service.deployment.database._session.transaction is not None:
            asked_within.append(path)
        return answered(connection, method, path, *rest)

    server._answered = noting
    image = owner.create("one", encryption_key_id=MINE, request_id="first")
    assert asked_within == []

    keys._answers.clear()
    owner.upload(image.id, CONTENT, request_id="second")
    assert asked_within == []

    # Only wrapping is left to them: what a data key is wrapped for is not known before.
    keys._answers.clear()
    other = owner.create("other", encryption_key_id=MINE)
    owner.StartUpload(image_id=other.id, size_bytes=1, sha256="0" * 64, request_id="third")
    assert asked_within == [f"{transit.mount}/encrypt/{MINE}"]

    asked_within.clear()
    keys._answers.clear()
    transit.make_key("another")
    owner.CopyImage(image_id=image.id, name="copy", encryption_key_id="another", request_id="fourth")
    assert asked_within == [f"{transit.mount}/decrypt/{MINE}", f"{transit.mount}/encrypt/another"]
