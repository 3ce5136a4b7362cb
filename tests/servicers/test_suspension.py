"""A suspended tenant does nothing, and what it shares is served to nobody (law 8.2): on every RPC."""

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest

from builders import HOME, OWNER, RECIPIENT, STRANGER, a_caller, an_accepted_share, an_image
from calling import METHODS, Declined, Tenant, declined, request_class, upload_messages
from conftest import As, MakeService
from databases import SQLITE
from downloads import hold_after_the_first_chunk, rest_of
from ims.bootstrap import Service
from ims.domain.image import ImageId, ImageType
from ims.domain.rejection import Rejection
from ims.domain.tenant import TenantId
from ims.repository import listing
from ims.use_cases import images, sharing
from ims.use_cases.deployment import Deployment
from servicers.situations import (
    A_NEVER_GIVEN_ID,
    ACCEPTED,
    DEACTIVATED,
    PENDING,
    PUBLIC,
    REJECTED,
    SHARED,
    SITUATIONS,
    an_image_that_is,
    fields_of,
    request_about,
    store_the_bytes_of_every_image,
)
from servicers.test_visibility import (
    ABOUT_AN_IMAGE,
    ABOUT_TENANTS,
    FOR_OTHERS,
    malformed,
    whole,
)

KIB = 1024


class Governor:
    """An administrator who suspends tenants and resumes them."""

    def __init__(self, admin: Tenant) -> None:
        self._admin = admin

    def suspend(self, tenant_id: str) -> None:
        self._admin.RegisterTenant(tenant_id=tenant_id, region=HOME)
        self._admin.SuspendTenant(tenant_id=tenant_id)

    def resume(self, tenant_id: str) -> None:
        self._admin.ResumeTenant(tenant_id=tenant_id)


@pytest.fixture
def governor(as_: As) -> Governor:
    return Governor(as_("operator", "admin"))


def is_refused(answer: Declined, tenant_id: str) -> bool:
    said = (answer.code, answer.reason, answer.metadata)
    return said == ("PERMISSION_DENIED", "TENANT_SUSPENDED", {"tenantId": tenant_id})


# --- It does nothing --------------------------------------------------------------------------


@pytest.mark.parametrize("viewer", [OWNER, ACCEPTED, STRANGER])
def test_a_suspended_tenant_gets_the_same_answer_of_every_rpc_whatever_there_is(
    viewer: str, deployment: Deployment, as_: As, governor: Governor
):
    store_the_bytes_of_every_image(deployment)
    image_ids = {each: an_image_that_is(each, deployment) for each in SITUATIONS}
    governor.suspend(viewer)
    tenant, governing = as_(viewer), as_(viewer, "admin", "peer")
    answers = {}

    for rpc in METHODS:
        caller = governing if rpc in ABOUT_TENANTS | FOR_OTHERS else tenant
        for situation, image_id in image_ids.items():
            answers[rpc, situation] = whole(caller, rpc, request_about(rpc, image_id, viewer))

    first = next(iter(answers.values()))
    assert is_refused(first, viewer)
    assert [place for place, answer in answers.items() if answer != first] == []


@pytest.mark.parametrize("rpc", METHODS)
def test_nor_does_it_learn_what_is_wrong_with_a_request(
    rpc: str, deployment: Deployment, as_: As, governor: Governor
):
    governor.suspend(OWNER)
    roles = ["admin", "peer"] if rpc in ABOUT_TENANTS | FOR_OTHERS else []
    caller = as_(OWNER, *roles)

    for request in malformed(rpc, an_image_that_is(SHARED, deployment)):
        answer = caller.answer(rpc, request)
        # That a service acts for others, or that a role is needed for it, hangs on no tenant.
        assert is_refused(answer, OWNER), request


ON_BEHALF = [
    rpc
    for rpc in METHODS
    if METHODS[rpc][0] != "AdminService"
    and "tenant_id" in request_class(rpc).DESCRIPTOR.fields_by_name
    and rpc not in {"GetShare", "UpdateShare"}  # name a recipient
    and METHODS[rpc][0] != "AuditService"  # for administrators
]


def test_services_act_for_tenants_with_these_rpcs():
    assert set(ON_BEHALF) == {
        *(
            "DownloadImageData",
            "CreateDownloadUrl",
            "ResolveImage",
            "RegisterUse",
            "ReleaseUse",
            "ListUses",
        ),
    }


@pytest.mark.parametrize("rpc", ON_BEHALF)
def test_a_service_does_nothing_for_a_suspended_tenant(
    rpc: str, deployment: Deployment, as_: As, governor: Governor
):
    store_the_bytes_of_every_image(deployment)
    image_id = an_image_that_is(SHARED, deployment)
    nova = as_("nova", "service")
    governor.suspend(ACCEPTED)

    def answer(image_id: str) -> Declined:
        return nova.answer(rpc, request_class(rpc)(**fields_of(rpc, image_id), tenant_id=ACCEPTED))

    assert is_refused(answer(image_id), ACCEPTED)
    assert is_refused(answer(A_NEVER_GIVEN_ID), ACCEPTED)
    governor.resume(ACCEPTED)
    # That a folder gives out no URL is told to whom it may be told.
    assert answer(image_id).reason == (
        "DIRECT_TRANSFER_UNAVAILABLE" if rpc == "CreateDownloadUrl" else ""
    )


@pytest.mark.parametrize("rpc", ON_BEHALF)
def test_a_service_of_a_suspended_tenant_does_nothing_for_others(
    rpc: str, deployment: Deployment, as_: As, governor: Governor
):
    store_the_bytes_of_every_image(deployment)
    image_id = an_image_that_is(SHARED, deployment)
    governor.suspend("nova")
    request = request_class(rpc)(**fields_of(rpc, image_id), tenant_id=ACCEPTED)

    assert is_refused(as_("nova", "service").answer(rpc, request), "nova")
    # Nor is whoever may not act for others told who is suspended.
    governor.suspend(ACCEPTED)
    assert as_(STRANGER).answer(rpc, request).reason == "ROLE_REQUIRED"


def test_a_service_creates_nothing_for_a_suspended_tenant(as_: As, governor: Governor):
    nova = as_("nova", "service")

    def create(tenant: Tenant) -> Declined:
        request = request_class("CreateImage")(
            name="from a server",
            type="SYSTEM_DISK",
            owner_tenant_id=OWNER,
            source={"ecs": {"server_id": "server"}},
            disks=[{"format": "RAW"}],
        )
        return tenant.answer("CreateImage", request)

    governor.suspend(OWNER)
    assert is_refused(create(nova), OWNER)
    assert create(as_(STRANGER)).reason == "ROLE_REQUIRED"
    governor.suspend("nova")
    assert is_refused(create(nova), "nova")
    governor.resume(OWNER)
    assert is_refused(create(nova), "nova")
    governor.resume("nova")
    assert create(nova).code == "OK"


def test_a_service_fills_nothing_that_it_declared_for_a_suspended_tenant(as_: As, governor: Governor):
    nova = as_("nova", "service")
    image = nova.create("one", owner_tenant_id=OWNER, source={"ecs": {"server_id": "server"}})
    governor.suspend(OWNER)
    with declined() as refused:
        nova.upload(image.id, b"four")
    governor.resume(OWNER)

    assert refused.reason == "IMAGE_NOT_FOUND"
    assert nova.upload(image.id, b"four").image.state == image.ACTIVE


def test_a_remembered_answer_is_not_given_to_a_suspended_tenant(as_: As, governor: Governor):
    owner = as_(OWNER)
    created = owner.create("one", request_id="an-id")
    governor.suspend(OWNER)
    with declined() as refused:
        owner.create("one", request_id="an-id")
    with declined() as reused:
        owner.create("another", request_id="an-id")
    governor.resume(OWNER)

    assert is_refused(refused, OWNER)
    assert is_refused(reused, OWNER)
    assert owner.create("one", request_id="an-id") == created


# --- What it shares is served to nobody -------------------------------------------------------


@pytest.mark.parametrize("viewer", [ACCEPTED, PENDING, REJECTED])
@pytest.mark.parametrize("situation", [SHARED, DEACTIVATED])
def test_what_a_suspended_tenant_shares_is_hidden_like_what_never_existed(
    viewer: str, situation: str, deployment: Deployment, as_: As, governor: Governor
):
    store_the_bytes_of_every_image(deployment)
    image_id = an_image_that_is(situation, deployment)
    tenant = as_(viewer)
    governor.suspend(OWNER)

    for rpc in set(ABOUT_AN_IMAGE) - FOR_OTHERS:
        hidden = whole(tenant, rpc, request_about(rpc, image_id))
        assert hidden == whole(tenant, rpc, request_about(rpc, A_NEVER_GIVEN_ID)), rpc
        assert hidden.reason == "IMAGE_NOT_FOUND", rpc


def test_an_administrator_goes_on_governing_what_it_owns(
    deployment: Deployment, as_: As, governor: Governor
):
    admin = as_("operator", "admin")
    governor.suspend(OWNER)

    for rpc in ("PublishImage", "DeactivateTenantImage"):
        image_id = an_image_that_is(SHARED, deployment)
        assert admin.answer(rpc, request_about(rpc, image_id)).code == "OK"


def test_public_images_of_a_suspended_tenant_are_everyones_and_stay(
    deployment: Deployment, as_: As, governor: Governor
):
    store_the_bytes_of_every_image(deployment)
    image_id = an_image_that_is(PUBLIC, deployment)
    governor.suspend(OWNER)
    stranger = as_(STRANGER)

    assert stranger.GetImage(image_id=image_id).image.id == image_id
    assert [image.id for image in stranger.ListImages().images] == [image_id]
    assert len(stranger.download(image_id)) == 1000
    assert stranger.ResolveImage(image_id=image_id, purpose="CREATE_ECS").image_id == image_id


LISTS: list[dict[str, Any]] = [
    {},
    {"order_by": "name"},
    {"order_by": "size_bytes desc"},
    {"relation": "SHARED_WITH_ME"},
    {"type": "ISO"},
    {"name_prefix": "image"},
    {"owner_tenant_id": OWNER},
    {"tags": {"colour": "red"}},
    {"tags_any": [{"key": "colour"}]},
]


@pytest.mark.parametrize("look_up", ["walked", "looked up"])
@pytest.mark.parametrize("filters", LISTS, ids=str)
def test_lists_hold_nothing_that_a_suspended_tenant_shares(
    filters: dict[str, Any],
    look_up: str,
    deployment: Deployment,
    as_: As,
    governor: Governor,
    monkeypatch: pytest.MonkeyPatch,
):
    """By whatever way the catalogue finds them; pages and counts alike."""
    few = dict.fromkeys(listing.FEW, 1000 if look_up == "looked up" else -1)
    monkeypatch.setattr(listing, "FEW", few)
    listing.matches.cache_clear()
    _lend(deployment, OWNER, 3)
    others = _lend(deployment, "another", 2)
    recipient = as_(RECIPIENT)
    asked = {"include_total_size": True, **filters}
    before = recipient.ListImages(**asked)
    governor.suspend(OWNER)
    after = recipient.ListImages(**asked)
    governor.resume(OWNER)

    of_others = [image.id for image in before.images if image.id in others]
    assert before.total_size > len(of_others)
    assert [image.id for image in after.images] == of_others
    assert after.total_size == len(of_others)
    assert recipient.ListImages(**asked) == before
    listing.matches.cache_clear()


def _lend(deployment: Deployment, owner: str, number: int) -> set[str]:
    """Have RECIPIENT accept so many images of a tenant's."""
    ids = set()
    with deployment.database.transaction() as tx:
        for _ in range(number):
            image = an_image(owner=TenantId(owner), type=ImageType.ISO, tags=(("colour", "red"),))
            image = replace(image, name=f"image-{image.id}")  # in the order in which they are made
            tx.images.add(image)
            tx.shares.add([an_accepted_share(image_id=image.id)])
            ids.add(image.id)
    return ids


def test_pages_go_on_where_they_were_while_owners_are_suspended_and_resumed(
    deployment: Deployment, as_: As, governor: Governor
):
    _lend(deployment, OWNER, 5)
    others = _lend(deployment, "another", 5)
    recipient = as_(RECIPIENT)
    everything = [image.id for image in recipient.ListImages(order_by="name").images]
    first = recipient.ListImages(order_by="name", page_size=3)
    governor.suspend(OWNER)
    second = recipient.ListImages(order_by="name", page_size=3, page_token=first.next_page_token)
    governor.resume(OWNER)
    third = recipient.ListImages(order_by="name", page_size=9, page_token=second.next_page_token)

    seen = [image.id for page in (first, second, third) for image in page.images]
    assert {image.id for image in second.images} <= others
    assert seen == sorted(set(seen), key=everything.index)
    assert others <= set(seen)


@pytest.mark.parametrize("status", ["STATUS_UNSPECIFIED", "ACCEPTED"])
def test_what_is_received_leaves_out_what_a_suspended_tenant_shares(
    status: str, deployment: Deployment, as_: As, governor: Governor
):
    _lend(deployment, OWNER, 3)
    others = _lend(deployment, "another", 2)
    recipient = as_(RECIPIENT)
    before = recipient.ListReceivedShares(status=status, include_total_size=True)
    governor.suspend(OWNER)
    after = recipient.ListReceivedShares(status=status, include_total_size=True)
    governor.resume(OWNER)

    assert (before.total_size, after.total_size) == (5, 2)
    assert {each.image.id for each in after.received_shares} == others
    assert recipient.ListReceivedShares(status=status, include_total_size=True) == before


# --- What waits, and what is as before --------------------------------------------------------


def test_what_is_shared_with_a_suspended_tenant_waits_for_it(as_: As, governor: Governor):
    owner, recipient = as_(OWNER), as_(RECIPIENT)
    image = owner.active("one")
    governor.suspend(RECIPIENT)
    (result,) = owner.ShareImage(image_id=image.id, recipients=[{"tenant_id": RECIPIENT}]).results
    governor.resume(RECIPIENT)

    assert result.share.status == result.share.PENDING
    (received,) = recipient.ListReceivedShares().received_shares
    assert received.image.id == image.id
    recipient.AcceptShare(image_id=image.id)
    assert recipient.download(image.id)


def test_resumed_all_is_as_it_was_before(deployment: Deployment, as_: As, governor: Governor):
    store_the_bytes_of_every_image(deployment)
    image_ids = [an_image_that_is(situation, deployment) for situation in SITUATIONS]
    callers = [as_(each) for each in (OWNER, ACCEPTED, PENDING, REJECTED, STRANGER)]
    reading = ("GetImage", "GetShare", "ListShares", "DownloadImageData", "GetUsage")

    def everything() -> list[Any]:
        seen: list[Any] = []
        for caller in callers:
            seen += [caller.ListImages(), caller.ListReceivedShares(), caller.GetQuotas()]
            seen += [
                _told(caller, rpc, request_about(rpc, image_id))
                for rpc in reading
                for image_id in image_ids
            ]
        return seen

    before = everything()
    governor.suspend(OWNER)
    governor.suspend(ACCEPTED)
    governor.resume(OWNER)
    governor.resume(ACCEPTED)

    assert everything() == before


def _told(caller: Tenant, rpc: str, request: Any) -> Any:
    """Return what a call is answered, whichever way."""
    try:
        return caller.call(rpc, request)
    except grpc.RpcError:
        return whole(caller, rpc, request)


# --- From the moment it is acknowledged -------------------------------------------------------


def test_of_thousands_of_reads_through_another_service_none_is_stale(make_service: MakeService, as_: As):
    here = make_service()
    there = make_service(data=here.settings.data)
    owner, recipient = as_(OWNER, of=there), as_(RECIPIENT, of=there)
    governor = Governor(as_("operator", "admin", of=here))
    image = owner.active("one")
    owner.ShareImage(image_id=image.id, recipients=[{"tenant_id": RECIPIENT}])
    recipient.AcceptShare(image_id=image.id)
    reads: list[Callable[[], str]] = [
        lambda: recipient.answer("GetImage", request_about("GetImage", image.id)).reason,
        lambda: str(len(recipient.ListImages().images)),
        lambda: str(len(recipient.ListReceivedShares().received_shares)),
        lambda: owner.answer("GetImage", request_about("GetImage", image.id)).reason,
        lambda: owner.answer("ListImages", request_about("ListImages", "")).reason,
    ]
    suspended = ["IMAGE_NOT_FOUND", "0", "0", "TENANT_SUSPENDED", "TENANT_SUSPENDED"]
    served = ["", "1", "1", "", ""]

    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            governor.suspend(OWNER)
            answers = list(pool.map(lambda number: reads[number % 5](), range(200)))
            assert answers == suspended * 40
            governor.resume(OWNER)
            assert list(pool.map(lambda number: reads[number % 5](), range(5))) == served


@pytest.mark.parametrize(
    ("reader", "suspended", "answer"),
    [
        (RECIPIENT, OWNER, "NOT_FOUND IMAGE_NOT_FOUND"),
        (RECIPIENT, RECIPIENT, "PERMISSION_DENIED TENANT_SUSPENDED"),
        (OWNER, OWNER, "PERMISSION_DENIED TENANT_SUSPENDED"),
        ("nova", OWNER, "NOT_FOUND IMAGE_NOT_FOUND"),
        ("nova", RECIPIENT, "PERMISSION_DENIED TENANT_SUSPENDED"),
        ("nova", "nova", "PERMISSION_DENIED TENANT_SUSPENDED"),
    ],
)
def test_not_one_more_chunk_of_a_running_download_is_sent(
    reader: str, suspended: str, answer: str, make_service: MakeService, as_: As
):
    """`nova` is a service that reads for RECIPIENT."""
    service: Service = make_service(chunk_bytes=KIB)
    owner = as_(OWNER, of=service)
    governor = Governor(as_("operator", "admin", of=service))
    image = owner.active("one", bytes(64 * KIB))
    owner.ShareImage(image_id=image.id, recipients=[{"tenant_id": RECIPIENT}])
    as_(RECIPIENT, of=service).AcceptShare(image_id=image.id)
    go_on = hold_after_the_first_chunk(service.deployment)
    is_service = reader == "nova"
    caller = as_(reader, *(["service"] if is_service else []), of=service)
    request = request_class("DownloadImageData")(
        image_id=image.id, tenant_id=RECIPIENT if is_service else ""
    )
    download = caller.begin("DownloadImageData", request)
    next(download)
    assert next(download).chunk
    governor.suspend(suspended)
    go_on.set()
    more, seen = rest_of(download)

    assert more == []
    assert f"{seen.code} {seen.reason}" == answer


def test_a_running_download_of_a_public_image_goes_on_when_its_owner_is_suspended(
    make_service: MakeService, as_: As
):
    service: Service = make_service(chunk_bytes=KIB)
    owner, admin = as_(OWNER, of=service), as_("operator", "admin", of=service)
    image = owner.active("one", bytes(4 * KIB))
    admin.PublishImage(image_id=image.id)
    go_on = hold_after_the_first_chunk(service.deployment)
    request = request_class("DownloadImageData")(image_id=image.id)
    download = as_(STRANGER, of=service).begin("DownloadImageData", request)
    next(download)
    next(download)
    Governor(admin).suspend(OWNER)
    go_on.set()
    more, seen = rest_of(download)

    assert (more, seen.code) == ([KIB] * 3, "OK")


def test_an_upload_that_its_owners_suspension_overtakes_does_not_end_well(
    as_: As, governor: Governor, service: Service, files_of: Callable[[Service], list[Any]]
):
    owner = as_(OWNER)
    image = owner.create("one")

    def messages() -> Iterator[Any]:
        start, *chunks = upload_messages({"image_id": image.id, "size_bytes": 4}, b"four")
        yield start
        while owner.GetImage(image_id=image.id).image.state != image.SAVING:
            pass
        governor.suspend(OWNER)
        yield from chunks

    refused = owner.answer("UploadImageData", messages())
    files = files_of(service)
    governor.resume(OWNER)

    assert is_refused(refused, OWNER)
    assert files == []
    assert owner.GetImage(image_id=image.id).image.state == image.QUEUED
    assert owner.upload(image.id, b"four").image.state == image.ACTIVE


# --- What it costs ----------------------------------------------------------------------------


@contextmanager
def statements_of(deployment: Deployment) -> Iterator[list[str]]:
    """Note every statement that this thread's connection to an SQLite file executes."""
    with deployment.database.reading() as reading:
        driver = reading.images._connection.connection.dbapi_connection
    assert isinstance(driver, sqlite3.Connection)
    said: list[str] = []
    driver.set_trace_callback(said.append)
    try:
        yield said
    finally:
        driver.set_trace_callback(None)


@pytest.mark.databases(SQLITE)
def test_an_image_is_got_with_one_statement_as_ever(deployment: Deployment):
    image_id = ImageId(an_image_that_is(SHARED, deployment))
    images.get_image(deployment, caller=a_caller(ACCEPTED), image_id=image_id)

    with statements_of(deployment) as said:
        images.get_image(deployment, caller=a_caller(ACCEPTED), image_id=image_id)

    assert len(said) == 1


@pytest.mark.databases(SQLITE)
def test_an_image_is_shared_with_as_many_statements_as_ever(deployment: Deployment):
    image_id = ImageId(an_image_that_is(SHARED, deployment))

    with statements_of(deployment) as said:
        sharing.share_image(
            deployment,
            caller=a_caller(OWNER),
            image_id=image_id,
            recipients=(sharing.Recipient(tenant_id=RECIPIENT),),
        )

    assert [each.split()[0] for each in said] == [
        *("BEGIN", "SELECT", "SELECT", "SELECT", "INSERT", "INSERT", "COMMIT"),
    ]


@pytest.mark.databases(SQLITE)
def test_what_is_hidden_is_asked_for_with_as_many_statements_as_what_never_existed(
    deployment: Deployment, governor: Governor
):
    of_suspended = ImageId(an_image_that_is(SHARED, deployment))
    with deployment.database.transaction() as tx:
        hidden = an_image(owner=TenantId("another"))
        tx.images.add(hidden)
    governor.suspend(OWNER)

    def asked(image_id: ImageId) -> int:
        with statements_of(deployment) as said, pytest.raises(Rejection):
            images.get_image(deployment, caller=a_caller(ACCEPTED), image_id=image_id)
        return len(said)

    assert asked(of_suspended) == asked(hidden.id) == asked(ImageId(A_NEVER_GIVEN_ID)) == 2
