"""Stored bytes are read again, and what is damaged is marked and refused (law 5.12)."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from builders import ELSEWHERE, OWNER, RECIPIENT
from calling import Tenant, declined
from conftest import As, Clock
from ims.bootstrap import Service
from ims.domain.image import KeyId
from ims.providers.keys import add_key
from ims.use_cases.deployment import Deployment
from ims.use_cases.scrubbing import SCRUB, Scrubbed, scrub
from ims.v1 import image_pb2

FilesOf = Callable[[Service], list[Path]]
CONTENT = b"bytes of a disk " * 100_000
A_DAY = timedelta(days=1)


@pytest.fixture
def owner(as_: As) -> Tenant:
    return as_(OWNER)


@pytest.fixture
def image(owner: Tenant) -> image_pb2.Image:
    return owner.active("one", CONTENT)


def at_full_speed(_read_bytes: int) -> bool:
    return True


def scrub_all(deployment: Deployment, holder: str = "one") -> list[Scrubbed]:
    """Go on until there is nothing to do; return what was found."""
    found = []
    while scrubbed := scrub(deployment, holder, at_full_speed, rest=A_DAY):
        found.append(scrubbed)
    return found


def damage(service: Service, files_of: FilesOf) -> bytes:
    """Change a byte in the middle of the only blob; return what there was before."""
    (file,) = files_of(service)
    before = file.read_bytes()
    file.write_bytes(before[:1000] + bytes([before[1000] ^ 1]) + before[1001:])
    return before


def test_whole_bytes_are_left_alone(deployment: Deployment, owner: Tenant, image: image_pb2.Image):
    assert scrub_all(deployment) == [Scrubbed(image_id=image.id)]

    assert owner.GetImage(image_id=image.id).image.etag == image.etag


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_a_disk_whose_bytes_have_changed_is_marked_and_refused(
    encrypted: bool, deployment: Deployment, owner: Tenant, service: Service, files_of: FilesOf
):
    add_key(service.settings.keys, KeyId("a-key"))
    image = owner.active("one", CONTENT, **({"encryption_key_id": "a-key"} if encrypted else {}))
    damage(service, files_of)

    assert scrub_all(deployment) == [Scrubbed(image_id=image.id, damaged=(0,))]

    seen = owner.GetImage(image_id=image.id).image
    assert (seen.state, seen.disks[0].damaged) == (image_pb2.Image.ACTIVE, True)
    assert seen.etag != image.etag
    refusing = {
        "DownloadImageData": {},
        "ResolveImage": {"purpose": "CREATE_ECS"},
        "CopyImage": {"name": "copy"},
    }
    if not encrypted:
        refusing["CopyImageToRegion"] = {"region": ELSEWHERE}
    for rpc, fields in refusing.items():
        with declined() as refused:
            getattr(owner, rpc)(image_id=image.id, **fields)
        assert (refused.code, refused.reason) == ("DATA_LOSS", "DISK_DATA_DAMAGED")


def test_a_disk_whose_bytes_are_gone_is_marked(
    deployment: Deployment, owner: Tenant, image: image_pb2.Image, service: Service, files_of: FilesOf
):
    for file in files_of(service):
        file.unlink()

    assert scrub_all(deployment) == [Scrubbed(image_id=image.id, damaged=(0,))]


def test_what_is_right_again_loses_its_mark(
    deployment: Deployment,
    owner: Tenant,
    image: image_pb2.Image,
    service: Service,
    files_of: FilesOf,
    clock: Clock,
):
    before = damage(service, files_of)
    scrub_all(deployment)
    (file,) = files_of(service)
    file.write_bytes(before)
    clock.advance(days=2)

    assert scrub_all(deployment) == [Scrubbed(image_id=image.id, mended=(0,))]

    assert owner.download(image.id) == CONTENT


def test_shares_are_kept_and_recipients_see_it(
    deployment: Deployment,
    owner: Tenant,
    as_: As,
    image: image_pb2.Image,
    service: Service,
    files_of: FilesOf,
):
    owner.ShareImage(image_id=image.id, recipients=[{"tenant_id": RECIPIENT}])
    as_(RECIPIENT).AcceptShare(image_id=image.id)
    damage(service, files_of)
    scrub_all(deployment)

    assert as_(RECIPIENT).GetImage(image_id=image.id).image.disks[0].damaged


def test_without_its_key_nothing_is_said_of_an_encrypted_disk(
    deployment: Deployment, owner: Tenant, service: Service
):
    add_key(service.settings.keys, KeyId("a-key"))
    image = owner.active("one", CONTENT, encryption_key_id="a-key")
    service.settings.keys.unlink()

    assert scrub_all(deployment) == [Scrubbed(image_id=image.id)]


def test_one_scrubs_at_a_time_and_another_goes_on_where_it_stopped(
    deployment: Deployment, owner: Tenant, clock: Clock
):
    ids = sorted(owner.active(f"image-{number}").id for number in range(3))
    first = scrub(deployment, "one", at_full_speed, rest=A_DAY)
    assert scrub(deployment, "another", at_full_speed, rest=A_DAY) is None

    clock.advance(seconds=60)  # one has died

    assert first == Scrubbed(image_id=ids[0])
    assert [each.image_id for each in scrub_all(deployment, "another")] == ids[1:]


def test_after_a_round_all_rest(deployment: Deployment, image: image_pb2.Image, clock: Clock):
    assert scrub_all(deployment)
    assert scrub_all(deployment) == scrub_all(deployment, "another") == []

    clock.advance(days=1, seconds=1)

    assert scrub_all(deployment, "another") == [Scrubbed(image_id=image.id)]


def test_who_is_told_to_stop_stops_and_the_image_is_read_again(
    deployment: Deployment, image: image_pb2.Image
):
    told: list[int] = []

    def stop(read_bytes: int) -> bool:
        told.append(read_bytes)
        return False

    assert scrub(deployment, "one", stop, rest=A_DAY) is None
    assert told == [1024**2]
    assert scrub_all(deployment) == [Scrubbed(image_id=image.id)]


def test_who_is_told_to_stop_within_an_image_reads_it_again(
    deployment: Deployment, image: image_pb2.Image
):
    answers = iter([True, True, False])

    assert scrub(deployment, "one", lambda _read_bytes: next(answers), rest=A_DAY) is None
    assert scrub_all(deployment) == [Scrubbed(image_id=image.id)]


def test_images_whose_bytes_are_gone_take_their_time_too(
    deployment: Deployment, owner: Tenant, service: Service, files_of: FilesOf
):
    """Or a catalogue beside an empty store would be marked at full speed, and none could stop it."""
    ids = sorted(owner.active(f"image-{number}").id for number in range(3))
    for file in files_of(service):
        file.unlink()
    told: list[int] = []

    def go_on_once(read_bytes: int) -> bool:
        told.append(read_bytes)
        return len(told) == 1

    assert scrub(deployment, "one", go_on_once, rest=A_DAY) == Scrubbed(image_id=ids[0], damaged=(0,))
    assert scrub(deployment, "one", go_on_once, rest=A_DAY) is None
    assert told == [1024**2] * 2


def test_who_loses_the_duty_while_reading_says_nothing_of_the_image(
    deployment: Deployment, image: image_pb2.Image, clock: Clock
):
    def be_slow(_read_bytes: int) -> bool:
        clock.advance(seconds=60)
        with deployment.database.transaction() as tx:
            assert tx.duties.claim(
                SCRUB, "another", now=clock.now(), until=clock.now() + timedelta(seconds=1)
            )
        return True

    assert scrub(deployment, "one", be_slow, rest=A_DAY) is None

    clock.advance(seconds=2)
    assert scrub_all(deployment, "another") == [Scrubbed(image_id=image.id)]


def test_a_service_scrubs_by_itself(
    make_service, as_: As, files_of: FilesOf, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ims.bootstrap._SCRUB_SECONDS", 0.05)
    service = make_service(scrub_bytes_per_second=1024**3, scrub_rest_seconds=0)
    owner = as_(OWNER, of=service)
    image = owner.active("one", CONTENT)
    damage(service, files_of)

    while not owner.GetImage(image_id=image.id).image.disks[0].damaged:
        pass
