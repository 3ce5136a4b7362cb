"""How a rejection looks on the wire, and what a mistake of ours looks like there."""

import base64
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import grpc
import psycopg
import pytest
import structlog
from google.rpc.error_details_pb2 import (
    BadRequest,
    ErrorInfo,
    PreconditionFailure,
    QuotaFailure,
    RetryInfo,
)
from sqlalchemy.exc import OperationalError

from builders import OWNER
from calling import METHODS, REQUEST_ID, Declined, Tenant, declined
from conftest import As, MakeService
from ims.bootstrap import Service
from ims.domain.caller import Role
from ims.domain.rejection import Category
from ims.repository import sqlite
from ims.repository.database import Database
from ims.servicers.errors import CODES, INTERNAL
from ims.use_cases import downloads, image_data
from servicers.situations import (
    A_NEVER_GIVEN_ID,
    PRIVATE,
    an_image_that_is,
    put_into_the_directory,
    request_about,
)

# --- Every category ---------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """What a rejection is provoked with."""

    service: Service
    as_: As
    monkeypatch: pytest.MonkeyPatch

    @property
    def owner(self) -> Tenant:
        return self.as_(OWNER)


def _nobody(world: World) -> None:
    world.as_(None).ListImages()


def _no_image(world: World) -> None:
    world.owner.GetImage(image_id=A_NEVER_GIVEN_ID)


def _no_role(world: World) -> None:
    world.owner.PublishImage(image_id=world.owner.create("one").id)


def _suspended(world: World) -> None:
    put_into_the_directory(world.service.deployment, OWNER, suspend_time=world.service.deployment.now())
    world.owner.ListImages()


def _two_bad_fields(world: World) -> None:
    world.owner.create("", description="<b>")


def _past_the_end(world: World) -> None:
    world.owner.download(world.owner.active("one", b"12345").id, offset_bytes=6)


def _stale_etag(world: World) -> None:
    world.owner.DeleteImage(image_id=world.owner.create("one").id, etag='"99"')


def _no_bytes_yet(world: World) -> None:
    world.owner.download(world.owner.create("one").id)


def _two_recipients_elsewhere(world: World) -> None:
    elsewhere = [{"tenant_id": tenant, "region": "mars"} for tenant in ("a", "b")]
    world.owner.ShareImage(image_id=world.owner.active("one").id, recipients=elsewhere)


def _two_unknown_tenants(world: World) -> None:
    recipients = [{"tenant_id": "a"}, {"tenant_id": "b"}]
    world.owner.ShareImage(image_id=world.owner.active("one").id, recipients=recipients)


def _same_name(world: World) -> None:
    world.owner.create("one")
    world.owner.create("one")


def _third_share(world: World) -> None:
    recipients = [{"tenant_id": "home-1"}, {"tenant_id": "home-2"}, {"tenant_id": "home-3"}]
    world.owner.ShareImage(image_id=world.owner.active("one").id, recipients=recipients)


def _lost_blob(world: World) -> None:
    image = world.owner.active("one")
    for path in world.service.settings.blob_folder.glob("blobs/??/*"):
        path.unlink()
    world.owner.download(image.id)


def _no_catalogue(world: World) -> None:
    world.monkeypatch.setattr(Database, "_link", _cannot_connect)
    world.owner.ListImages()


def _cannot_connect(*_: object) -> Any:
    raise OperationalError("SELECT secrets", {}, Exception("unable to open /var/lib/ims.sqlite3"))


@dataclass(frozen=True)
class Case:
    category: Category
    provoke: Callable[[World], None]
    code: str
    reason: str
    metadata: dict[str, str]
    violations: tuple[tuple[str, str], ...] = ()
    """(reason, subject) of each; a quota's has no reason."""
    details: tuple[type, ...] = (ErrorInfo,)


CASES = (
    Case(Category.UNAUTHENTICATED, _nobody, "UNAUTHENTICATED", "UNAUTHENTICATED", {}),
    Case(
        Category.SUSPENDED,
        _suspended,
        "PERMISSION_DENIED",
        "TENANT_SUSPENDED",
        {"tenantId": OWNER},
    ),
    Case(Category.MISSING, _no_image, "NOT_FOUND", "IMAGE_NOT_FOUND", {}),
    Case(Category.FORBIDDEN, _no_role, "PERMISSION_DENIED", "ROLE_REQUIRED", {"requiredRoles": "admin"}),
    Case(
        Category.MALFORMED,
        _two_bad_fields,
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        {"field": "name"},
        (("INVALID_FIELD", "name"), ("INVALID_NAME", "name"), ("INVALID_DESCRIPTION", "description")),
        (ErrorInfo, BadRequest),
    ),
    Case(
        Category.OUT_OF_RANGE,
        _past_the_end,
        "OUT_OF_RANGE",
        "OFFSET_OUT_OF_RANGE",
        {"offsetBytes": "6", "sizeBytes": "5"},
        (("OFFSET_OUT_OF_RANGE", "offset_bytes"),),
        (ErrorInfo, BadRequest),
    ),
    Case(
        Category.CONFLICT,
        _stale_etag,
        "ABORTED",
        "ETAG_MISMATCH",
        {"etag": '"1"'},
        (("ETAG_MISMATCH", "etag"),),
        (ErrorInfo, PreconditionFailure),
    ),
    Case(
        Category.WRONG_STATE,
        _no_bytes_yet,
        "FAILED_PRECONDITION",
        "IMAGE_NOT_ACTIVE",
        {"state": "QUEUED"},
        (("IMAGE_NOT_ACTIVE", ""),),
        (ErrorInfo, PreconditionFailure),
    ),
    Case(
        Category.AGAINST_RULES,
        _two_recipients_elsewhere,
        "FAILED_PRECONDITION",
        "CROSS_REGION_SHARE",
        {"tenantId": "a", "tenantRegion": "mars", "imageRegion": "eu-de"},
        (("CROSS_REGION_SHARE", "a"), ("CROSS_REGION_SHARE", "b")),
        (ErrorInfo, PreconditionFailure),
    ),
    Case(
        Category.UNKNOWN_TENANT,
        _two_unknown_tenants,
        "NOT_FOUND",
        "TENANT_NOT_FOUND",
        {"tenantId": "a"},
        (("TENANT_NOT_FOUND", "a"), ("TENANT_NOT_FOUND", "b")),
        (ErrorInfo, PreconditionFailure),
    ),
    Case(
        Category.EXISTS,
        _same_name,
        "ALREADY_EXISTS",
        "IMAGE_NAME_TAKEN",
        {"name": "one"},
        (("IMAGE_NAME_TAKEN", "name"),),
        (ErrorInfo, PreconditionFailure),
    ),
    Case(
        Category.OVER_LIMIT,
        _third_share,
        "RESOURCE_EXHAUSTED",
        "SHARE_LIMIT_EXCEEDED",
        {"limit": "2", "used": "0", "asked": "3"},
        (("", ""),),
        (ErrorInfo, QuotaFailure),
    ),
    Case(Category.CORRUPT, _lost_blob, "DATA_LOSS", "DISK_DATA_DAMAGED", {}),
    Case(
        Category.UNAVAILABLE,
        _no_catalogue,
        "UNAVAILABLE",
        "CATALOGUE_UNAVAILABLE",
        {},
        (),
        (ErrorInfo, RetryInfo),
    ),
)
SETTINGS_OF = {
    Category.UNKNOWN_TENANT: {"tenant_directory": "closed"},
    Category.OVER_LIMIT: {"shares_per_image": 2},
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.category.name)
def test_a_rejection_arrives_with_its_status_its_reason_and_every_rule_that_was_broken(
    case: Case, make_service: MakeService, as_: As, monkeypatch: pytest.MonkeyPatch
):
    service = make_service(**SETTINGS_OF.get(case.category, {}))
    world = World(service, lambda name: as_(name, of=service), monkeypatch)

    with declined() as seen:
        case.provoke(world)

    assert (seen.code, seen.reason, seen.metadata) == (case.code, case.reason, case.metadata)
    assert tuple((reason, subject) for reason, subject, _ in seen.violations) == case.violations
    assert tuple(type(detail) for detail in seen.details) == case.details
    assert seen.details[0].domain == "ims"
    assert not seen.violations or seen.violations[0][2] == seen.message


def test_every_category_has_a_status_and_is_provoked_here():
    # How an operation ends that was cancelled; no call is declined so.
    of_calls = set(Category) - {Category.CANCELLED}

    assert set(CODES) == set(Category)
    assert {case.category: case.code for case in CASES} == {
        category: grpc.StatusCode[_name(CODES[category])].name for category in of_calls
    }


def _name(code: int) -> str:
    return next(each.name for each in grpc.StatusCode if each.value[0] == code)


def test_retry_info_says_when_to_come_back(service: Service, as_: As, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Database, "_link", _cannot_connect)
    with declined() as seen:
        as_(OWNER).ListImages()

    assert seen.details[-1].retry_delay.seconds == 1
    assert "SELECT" not in seen.message
    assert "/var" not in seen.message


def test_rules_of_the_same_step_are_told_together_and_later_steps_are_not(service: Service, as_: As):
    with declined() as seen:
        as_(OWNER).create(
            "__a\0", description="a\nb", min_ram_mib=2, max_ram_mib=1, encryption_key_id="no-such-key"
        )

    assert (seen.code, seen.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert seen.reasons == [
        "INVALID_FIELD",
        "INVALID_NAME",
        "RESERVED_NAME",
        "INVALID_DESCRIPTION",
        "INVALID_RAM",
    ]


# --- It must fit into the headers -------------------------------------------------------------

HEADER_BYTES = 8 * 1024


def trailing_bytes(seen: Declined) -> int:
    """Return how much a peer counts at the most: name, value (binary as base64) and 32 each."""
    headers = {
        "grpc-status": "10",
        "grpc-message": quote(seen.message, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"),
        "grpc-status-details-bin": base64.b64encode(seen.status_bytes).decode(),
        **seen.headers,
    }
    return sum(len(key) + len(value) + 32 for key, value in headers.items())


def offended(owner: Tenant, offenders: list[str]) -> Declined:
    with declined() as seen:
        owner.ShareImage(
            image_id=owner.active("one").id,
            recipients=[{"tenant_id": tenant, "region": "mars"} for tenant in offenders],
        )
    assert (seen.code, seen.reason) == ("FAILED_PRECONDITION", "CROSS_REGION_SHARE")
    assert seen.metadata["tenantId"] == offenders[0]
    assert trailing_bytes(seen) < HEADER_BYTES
    return seen


def test_a_few_offenders_have_a_violation_each(as_: As):
    offenders = [f"tenant-{number}" for number in range(10)]
    seen = offended(as_(OWNER), offenders)

    assert [subject for _, subject, _ in seen.violations] == offenders
    assert all(subject in sentence for _, subject, sentence in seen.violations)


def test_a_hundred_offenders_are_all_named(as_: As):
    offenders = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(100)]
    seen = offended(as_(OWNER), offenders)

    ((_, subjects, sentence),) = seen.violations
    assert subjects.split() == offenders
    assert sentence == f"100 times, first: {seen.message}"


def test_a_hundred_offenders_with_the_longest_ids_still_fit_and_the_rest_is_counted(as_: As):
    offenders = [f"{number:03}-{'x' * 60}" for number in range(100)]
    seen = offended(as_(OWNER), offenders)

    ((_, subjects, sentence),) = seen.violations
    named = subjects.split()
    assert named == offenders[: len(named)]
    assert len(named) >= 50
    assert f"{100 - len(named)} of them are not named: ask for fewer at once." in sentence


@pytest.mark.parametrize("letter", ["x", "\n", "\x7f", "é", "€", "😀", "%"], ids=ascii)
@pytest.mark.parametrize(("count", "length"), [(1, 350), (1, 3000), (2, 350), (300, 100), (300, 3000)])
def test_a_callers_own_words_never_make_an_answer_too_long_to_arrive(
    letter: str, count: int, length: int, as_: As
):
    owner = as_(OWNER)
    image_id = owner.create("one").id
    long = letter * length
    for prefix in ("", "os."):
        with declined() as seen:
            paths = [f"{prefix}{number}{long}" for number in range(count)]
            owner.UpdateImage(image_id=image_id, image={"name": "two"}, update_mask={"paths": paths})

        assert seen.code == "INVALID_ARGUMENT"
        assert seen.reason == ("INVALID_FIELD" if prefix else "FIELD_NOT_UPDATABLE")
        assert seen.violations
        assert trailing_bytes(seen) < HEADER_BYTES


@pytest.mark.parametrize("times", [1, 100])
def test_everything_wrong_at_once_still_fits(times: int, as_: As):
    owner = as_(OWNER)
    image_id = owner.create("one").id
    long = "\U0010ffff" * 1000
    paths = [f"{prefix}{number}{long}" for number in range(times) for prefix in ("os.", "")]
    fields = ["name", "description", "tags", "min_disk_gib", "min_ram_mib", "max_ram_mib", "os"]
    with declined() as seen:
        owner.UpdateImage(
            image_id=image_id,
            image={
                "name": f"__{long}",
                "description": long * 2,
                "tags": {f"__{long}{number}": long for number in range(max(times, 11))},
                "min_disk_gib": 2**63 - 1,
                "min_ram_mib": -(2**63),
                "max_ram_mib": -(2**63),
                "os": {"type": 99, "platform": long, "version": long, "bits": -(2**31)},
            },
            update_mask={"paths": [*paths, *fields]},
        )

    assert (seen.code, seen.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert set(seen.reasons) == {
        "INVALID_FIELD",
        "INVALID_NAME",
        "RESERVED_NAME",
        "INVALID_DESCRIPTION",
        "INVALID_TAG",
        "TOO_MANY_TAGS",
        "INVALID_MIN_DISK",
        "INVALID_RAM",
        "FIELD_NOT_UPDATABLE",
    }
    assert trailing_bytes(seen) < HEADER_BYTES


@pytest.mark.parametrize(
    ("rpc", "before", "item", "field"),
    [
        ("ShareImage", b"\n\x01i", b"\x12\x00", "recipients"),
        ("UnshareImage", b"\n\x01i", b"\x12\x00", "tenant_ids"),
        ("CreateImage", b"\n\x01n\x10\x01", b"\x1a\x02\x08\x09", "disks"),
        ("UpdateImage", b"\n\x01i", b"\x12\x02\x52\x00", "image.disks"),
        ("UpdateImage", b"\n\x01i\x12\x00", b"\x1a\x02\n\x00", "update_mask.paths"),
    ],
    ids=["recipients", "tenants", "disks", "disks of an image", "paths"],
)
def test_a_million_empty_items_are_refused_without_a_word_on_each(
    rpc: str, before: bytes, item: bytes, field: str, as_: As
):
    """4 MiB of them took 20 seconds and 1.5 GiB of memory, to say what was wrong with each."""
    seen = as_(OWNER).answer_raw(rpc, before + item * 1_000_000)

    numbers = {"maxItems": "10000", "items": "1000000"}
    assert (seen.code, seen.metadata) == ("INVALID_ARGUMENT", {"field": field} | numbers)
    assert seen.message == f"{field}: it has at most 10000 items, not 1000000."
    assert seen.reasons == ["INVALID_FIELD"]


@pytest.mark.parametrize("rpc", METHODS)
def test_bytes_that_are_no_message_are_the_callers_mistake(rpc: str, as_: As):
    seen = as_(OWNER, *Role).answer_raw(rpc, b"\xff\xff\xff")

    assert (seen.code, seen.reason, seen.metadata) == ("INVALID_ARGUMENT", "UNREADABLE_REQUEST", {})
    assert seen.reasons == ["UNREADABLE_REQUEST"]


def test_whoever_has_no_identity_does_not_learn_that_its_bytes_are_no_message(as_: As):
    assert as_(None).answer_raw("GetImage", b"\xff").reason == "UNAUTHENTICATED"


# --- A mistake of ours ------------------------------------------------------------------------

SECRET = "secret path /etc, SELECT * FROM images"


def _break(*_: object, **__: object) -> Any:
    raise RuntimeError(SECRET)


@pytest.mark.parametrize("rpc", METHODS)
def test_an_unexpected_exception_tells_nothing_of_itself(
    rpc: str, service: Service, as_: As, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Database, "reading", _break)
    monkeypatch.setattr(Database, "transaction", _break)
    with structlog.testing.capture_logs() as log:
        seen = as_(OWNER, *Role).answer(rpc, request_about(rpc, A_NEVER_GIVEN_ID))

    assert (seen.code, seen.message) == ("INTERNAL", INTERNAL)
    assert (seen.reason, seen.metadata, len(seen.details)) == ("INTERNAL_ERROR", {}, 1)
    assert b"secret" not in seen.status_bytes
    bug = next(line for line in log if line["event"] == "bug")
    assert bug["exc_info"]
    assert bug["request_id"] == seen.headers[REQUEST_ID]


def test_an_exception_in_the_middle_of_a_download_tells_nothing_of_itself(
    service: Service, as_: As, monkeypatch: pytest.MonkeyPatch
):
    owner = as_(OWNER)
    image = owner.active("one")
    monkeypatch.setattr(downloads, "_judge_again", _break)

    seen = owner.answer("DownloadImageData", request_about("DownloadImageData", image.id))

    assert (seen.code, seen.reason, seen.message) == ("INTERNAL", "INTERNAL_ERROR", INTERNAL)


def test_an_exception_in_the_middle_of_an_upload_leaves_an_image_to_try_again_with(
    service: Service, as_: As, monkeypatch: pytest.MonkeyPatch
):
    owner = as_(OWNER)
    image = owner.create("one")
    with monkeypatch.context() as broken, declined() as seen:
        broken.setattr(image_data, "enforce", _break_at_a_chunk(image_data.enforce))
        owner.upload(image.id, b"bytes")

    assert (seen.code, seen.reason) == ("INTERNAL", "INTERNAL_ERROR")
    assert owner.upload(image.id, b"bytes").disk.size_bytes == 5


def _break_at_a_chunk(enforce: Callable[..., None]) -> Callable[..., None]:
    def enforce_or_break(rules: object, facts: object) -> None:
        if rules is image_data.RECEIVE_CHUNK:
            _break()
        enforce(rules, facts)

    return enforce_or_break


# --- The catalogue is away --------------------------------------------------------------------


@pytest.mark.parametrize("rpc", METHODS)
def test_an_unreachable_catalogue_is_told_as_such_by_every_rpc(
    rpc: str, service: Service, as_: As, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Database, "_link", _cannot_connect)
    seen = as_(OWNER, *Role).answer(rpc, request_about(rpc, A_NEVER_GIVEN_ID))

    assert (seen.code, seen.reason) == ("UNAVAILABLE", "CATALOGUE_UNAVAILABLE")
    assert [type(detail) for detail in seen.details] == [ErrorInfo, RetryInfo]
    monkeypatch.undo()


def test_while_another_program_locks_the_catalogue_reads_are_served_and_writes_told_to_wait(
    make_service: MakeService, as_: As, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sqlite, "_BUSY_TIMEOUT_MILLISECONDS", 0)
    service = make_service(database_patience_seconds=3)
    owner = as_(OWNER, of=service)
    image_id = an_image_that_is(PRIVATE, service.deployment)
    with _locked(service.settings.database_url, image_id):
        locked = owner.answer("DeleteImage", request_about("DeleteImage", image_id))
        read = owner.answer("GetImage", request_about("GetImage", image_id))

    assert (locked.code, locked.reason) == ("UNAVAILABLE", "CATALOGUE_UNAVAILABLE")
    assert read.code == "OK"
    assert owner.answer("DeleteImage", request_about("DeleteImage", image_id)).code == "OK"


@contextmanager
def _locked(url: str, image_id: str) -> Iterator[None]:
    """Keep an image, or in SQLite everything, from whoever writes."""
    if url.startswith("sqlite"):
        connection: Any = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
    else:
        connection = psycopg.connect(url)
        connection.execute("SELECT id FROM images WHERE id = %s FOR UPDATE", (image_id,))
    try:
        yield
    finally:
        connection.close()


# --- Every call has an id ---------------------------------------------------------------------


@pytest.mark.parametrize("rpc", ["GetImage", "DownloadImageData", "UploadImageData"])
def test_every_answer_bears_a_request_id_of_its_own_that_the_log_has_too(
    rpc: str, service: Service, as_: As
):
    owner = as_(OWNER)
    image = owner.create("one") if rpc == "UploadImageData" else owner.active("one")
    with structlog.testing.capture_logs() as log:
        call = owner.begin(rpc, request_about(rpc, image.id))
        ids = [dict(_ended(rpc, call).trailing_metadata())[REQUEST_ID]]
        ids += [
            owner.answer(rpc, request_about(rpc, A_NEVER_GIVEN_ID)).headers[REQUEST_ID],
            as_(None).answer(rpc, request_about(rpc, image.id)).headers[REQUEST_ID],
        ]

    assert len(set(ids)) == 3
    lines = {line["request_id"]: line for line in log if line["event"] == "call"}
    assert [lines[each]["code"] for each in ids] == ["OK", "NOT_FOUND", "UNAUTHENTICATED"]
    assert [lines[each].get("reason") for each in ids] == [None, "IMAGE_NOT_FOUND", "UNAUTHENTICATED"]
    assert all(lines[each]["method"].endswith(f"/{rpc}") for each in ids)


def _ended(rpc: str, call: Any) -> Any:
    if METHODS[rpc][1].server_streaming:
        list(call)
    assert call.code() is grpc.StatusCode.OK, call.details()
    return call


@pytest.mark.parametrize(
    ("rpc", "fields", "metadata"),
    [
        ("ListImages", {"page_size": -1}, {"field": "page_size", "value": "-1"}),
        (
            "ListImages",
            {"tags": {f"k{number}": "" for number in range(11)}},
            {"field": "tags", "maxItems": "10", "items": "11"},
        ),
        (
            "CreateImage",
            {
                "name": "one",
                "type": "SYSTEM_DISK",
                "disks": [{"format": "RAW"}],
                "os": {"platform": "x" * 65},
            },
            {"field": "os.platform", "maxLength": "64", "length": "65"},
        ),
    ],
)
def test_the_numbers_of_an_unreadable_field_are_in_the_metadata(as_: As, rpc, fields, metadata):
    with declined() as refused:
        getattr(as_(OWNER), rpc)(**fields)

    assert refused.reason == "INVALID_FIELD"
    assert refused.metadata == metadata
