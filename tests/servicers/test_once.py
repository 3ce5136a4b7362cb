"""A call with a request id is done once, however often it is sent (law 5.9), on a real server."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
import sqlalchemy as sa

from builders import ELSEWHERE, OWNER, STRANGER
from calling import METHODS, Declined, Tenant, answer_of, declined, request_class, upload_messages
from conftest import As, Clock, MakeService
from ims.bootstrap import Service
from ims.domain.image import ImageId
from ims.domain.tenant import NOBODY
from ims.repository.requests import Requests
from ims.repository.tables import metadata, requests
from ims.use_cases.deployment import Deployment
from servicers.situations import (
    A_NEVER_GIVEN_ID,
    A_PEER,
    DEACTIVATED,
    DELETED,
    NEVER_EXISTED,
    PENDING,
    PRIVATE,
    PUBLIC,
    SHARED,
    an_image_that_is,
    fields_of,
    put_into_the_directory,
    register_the_owners_use,
)

AN_ID = "6b1d3c9e-6a0e-4f2f-9b60-0d2a8f6a3f11"
CALLERS = 20

SUCCEEDS = {
    # rpc: who succeeds with it, on an image that is
    "CreateImage": (OWNER, NEVER_EXISTED),
    "UpdateImage": (OWNER, PRIVATE),
    "DeleteImage": (OWNER, SHARED),
    "UndeleteImage": (OWNER, DELETED),
    "DeactivateImage": (OWNER, PRIVATE),
    "ReactivateImage": (OWNER, DEACTIVATED),
    "UploadImageData": (OWNER, "queued"),
    "StartUpload": (OWNER, "queued"),
    "FinishUpload": (OWNER, "brought"),
    "AbortUpload": (OWNER, "started"),
    "ImportImage": (OWNER, "queued"),
    "CopyImage": (OWNER, PRIVATE),
    "ExportImage": (OWNER, PRIVATE),
    "CopyImageToRegion": (OWNER, PRIVATE),
    "DiscardImage": (A_PEER, "arriving"),
    "ShareImage": (OWNER, PRIVATE),
    "UnshareImage": (OWNER, SHARED),
    "UpdateShare": (OWNER, SHARED),
    "AcceptShare": (PENDING, SHARED),
    "RejectShare": (PENDING, SHARED),
    "LeaveShare": (PENDING, SHARED),
    "SetTrustRules": (PENDING, NEVER_EXISTED),
    "PublishImage": ("governor", PRIVATE),
    "UnpublishImage": ("governor", PUBLIC),
    "SetTenantQuotas": ("governor", NEVER_EXISTED),
    "RegisterTenant": ("governor", NEVER_EXISTED),
    "UpdateTenant": ("governor", "registered"),
    "SuspendTenant": ("governor", "registered"),
    "ResumeTenant": ("governor", "suspended"),
    "SetSharingPolicy": ("governor", NEVER_EXISTED),
    "DeactivateTenantImage": ("governor", PRIVATE),
    "ReactivateTenantImage": ("governor", DEACTIVATED),
    "RegisterUse": (OWNER, PRIVATE),
    "ReleaseUse": (OWNER, "in use"),
}
ABOUT_TENANTS = {
    *("SetTenantQuotas", "RegisterTenant", "UpdateTenant", "SuspendTenant", "ResumeTenant"),
}
ABOUT_NO_IMAGE = {"CreateImage", "SetSharingPolicy", "SetTrustRules", "ReleaseUse"} | ABOUT_TENANTS


def takes_a_request_id(rpc: str) -> bool:
    request = request_class(rpc)()
    start = getattr(request, "start", request)
    return "request_id" in start.DESCRIPTOR.fields_by_name


CHANGING = [rpc for rpc in METHODS if takes_a_request_id(rpc)]


ARRIVING = {
    "owner_tenant_id": OWNER,
    "source": {"image": {"image_id": "an-image", "region": ELSEWHERE}},
}
"""What a peer says of an image that it brings."""


class Call:
    """A call that succeeds, to be sent as often as one likes."""

    def __init__(self, rpc: str, as_: As, deployment: Deployment, request_id: str = AN_ID) -> None:
        self.rpc = rpc
        who, situation = SUCCEEDS[rpc]
        roles = {"governor": ["admin", "member"], A_PEER: ["peer"]}.get(who, [])
        self.tenant: Tenant = as_(who, *roles, region=ELSEWHERE if who == A_PEER else "")
        if situation == "arriving":
            self.image_id = self.tenant.create("to be filled", **ARRIVING).id
        elif situation == "queued":
            self.image_id = self.tenant.create("to be filled").id
        elif situation in {"started", "brought"}:
            self.image_id = self.tenant.create("to be filled").id
            upload = self.tenant.start_upload(self.image_id, b"four")
            if situation == "brought":
                self.tenant.write_upload(upload, b"four")
        elif situation == "in use":
            self.image_id = an_image_that_is(PRIVATE, deployment)
            register_the_owners_use(deployment, self.image_id)
        elif situation in {"registered", "suspended"}:
            self.image_id = A_NEVER_GIVEN_ID
            since = deployment.now() if situation == "suspended" else None
            put_into_the_directory(deployment, suspend_time=since)
        else:
            self.image_id = an_image_that_is(situation, deployment)
        self.fields = with_request_id(fields_of(rpc, self.image_id), request_id)
        if situation in {"started", "brought"}:
            self.fields["upload_id"] = upload.id
        if rpc == "SetSharingPolicy":
            self.fields["policy"] = {"new_shares_blocked": True}  # or it would change nothing

    def send(self, tenant: Tenant | None = None, **changes: Any) -> bytes:
        """Send it, maybe as somebody else or a little changed; return the answer's bytes."""
        fields = self.fields | changes
        request: Any = request_class(self.rpc)(**fields)
        if METHODS[self.rpc][1].client_streaming:
            request = upload_messages(fields["start"], b"four")
        answer = (tenant or self.tenant).call(self.rpc, request)
        return answer.SerializeToString(deterministic=True)

    def another_body(self) -> dict[str, Any]:
        """Return changes that make it another call."""
        if self.rpc == "CreateImage":
            return {"description": "another one"}
        if self.rpc == "UploadImageData":
            return {"start": self.fields["start"] | {"disk_index": 1}}
        if self.rpc in ABOUT_TENANTS:
            return {"tenant_id": STRANGER}
        if self.rpc == "SetTrustRules":
            return {"rules": {"max_pending_shares": 1}}
        if self.rpc == "SetSharingPolicy":
            return {"policy": {"new_shares_blocked": False}}
        return {"image_id": A_NEVER_GIVEN_ID}


def with_request_id(fields: dict[str, Any], request_id: str) -> dict[str, Any]:
    if "start" in fields:
        return {"start": fields["start"] | {"request_id": request_id}}
    return fields | {"request_id": request_id}


@pytest.fixture
def service(idle: Service) -> Service:
    """A service in which nothing goes on but what is called for."""
    return idle


@pytest.fixture
def catalogue(service: Service) -> Iterator[sa.Connection]:
    engine = sa.create_engine(
        service.settings.catalogue_url.replace("postgresql://", "postgresql+psycopg://"),
        isolation_level="AUTOCOMMIT",
    )
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def records(catalogue: sa.Connection) -> dict[str, list[Any]]:
    """Return everything that the catalogue holds of images and shares."""
    tables = [table for table in metadata.sorted_tables if table.name not in {"duties", "requests"}]
    return {table.name: sorted(map(str, catalogue.execute(sa.select(table)).all())) for table in tables}


def remembered(catalogue: sa.Connection) -> int:
    return catalogue.execute(sa.select(sa.func.count()).select_from(requests)).scalar_one()


def purge(deployment: Deployment, image_id: str) -> None:
    with deployment.database.transaction() as tx:
        if tx.images.lock(ImageId(image_id), NOBODY, now=deployment.now, governing=True) is not None:
            tx.images.purge(ImageId(image_id))


def all_at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """Run the calls in as many threads, all released at one moment; return what they return."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


# --- The same again ---------------------------------------------------------------------------


def test_every_rpc_that_takes_a_request_id_is_tested_here():
    assert set(SUCCEEDS) == set(CHANGING)


@pytest.mark.parametrize("rpc", CHANGING)
def test_a_repetition_gets_the_first_answer_and_has_no_effect(
    rpc: str, as_: As, deployment: Deployment, catalogue: sa.Connection
):
    call = Call(rpc, as_, deployment)
    before = records(catalogue)
    first = call.send()
    after = records(catalogue)

    again = [call.send() for _ in range(3)]

    assert before != after
    assert again == [first] * 3
    assert records(catalogue) == after


@pytest.mark.parametrize("rpc", CHANGING)
def test_a_repetition_gets_the_first_answer_whatever_has_happened_since(
    rpc: str, as_: As, deployment: Deployment, catalogue: sa.Connection
):
    call = Call(rpc, as_, deployment)
    first = call.send()
    for image in as_(OWNER).ListImages().images:
        purge(deployment, image.id)
    purge(deployment, call.image_id)
    nothing = records(catalogue)

    assert call.send() == first
    assert records(catalogue) == nothing


@pytest.mark.parametrize("rpc", CHANGING)
def test_without_an_id_every_call_is_a_call_of_its_own(
    rpc: str, as_: As, deployment: Deployment, catalogue: sa.Connection
):
    call = Call(rpc, as_, deployment, request_id="")

    call.send()

    assert remembered(catalogue) == 0
    purge(deployment, call.image_id)
    if rpc not in ABOUT_NO_IMAGE:
        with declined() as seen:
            call.send()
        assert seen.reason == "IMAGE_NOT_FOUND"


def test_an_upload_is_repeated_without_its_bytes(as_: As, deployment: Deployment):
    call = Call("UploadImageData", as_, deployment)
    first = call.send()

    start = request_class("UploadImageData")(**call.fields)
    again = call.tenant.call("UploadImageData", iter([start]))

    assert again.SerializeToString(deterministic=True) == first


def test_an_upload_that_is_repeated_with_all_its_bytes_is_answered_before_they_have_arrived(
    as_: As, deployment: Deployment
):
    call = Call("UploadImageData", as_, deployment)
    first = call.send()

    again = call.tenant.call(
        "UploadImageData", upload_messages(call.fields["start"], bytes(32 * 1024 * 1024))
    )

    assert again.SerializeToString(deterministic=True) == first


def test_another_service_on_the_same_catalogue_knows_the_answer(
    as_: As, service: Service, make_service: MakeService
):
    another = make_service(database_url=service.settings.catalogue_url)
    call = Call("CreateImage", as_, service.deployment)
    first = call.send()

    assert call.send(as_(OWNER, of=another)) == first


# --- Another call -----------------------------------------------------------------------------


@pytest.mark.parametrize("rpc", CHANGING)
def test_another_body_is_refused_and_has_no_effect(
    rpc: str, as_: As, deployment: Deployment, catalogue: sa.Connection
):
    call = Call(rpc, as_, deployment)
    first = call.send()
    after = records(catalogue)

    with declined() as seen:
        call.send(**call.another_body())

    assert (seen.code, seen.reason) == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")
    assert seen.metadata == {"earlierMethod": rpc}
    assert records(catalogue) == after
    assert call.send() == first


@pytest.mark.parametrize("rpc", CHANGING)
def test_another_method_is_refused(rpc: str, as_: As, deployment: Deployment):
    tenant = Call(rpc, as_, deployment).tenant
    image_id = an_image_that_is(PRIVATE, deployment)
    creation = fields_of("CreateImage", "") | (ARRIVING if tenant.id == A_PEER else {})
    tenant.CreateImage(**with_request_id(creation, AN_ID))
    fields = with_request_id(fields_of(rpc, image_id), AN_ID)
    request: Any = request_class(rpc)(**fields)

    with declined() as seen:
        tenant.call(rpc, upload_messages(fields["start"], b"four") if "start" in fields else request)

    assert (seen.code, seen.reason) == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")
    assert seen.metadata == {"earlierMethod": "CreateImage"}


def test_what_a_caller_with_other_roles_was_told_is_not_told_again(as_: As, deployment: Deployment):
    call = Call("PublishImage", as_, deployment)
    call.send()
    as_("governor", "admin", "member").UnpublishImage(image_id=call.image_id)

    with declined() as seen:
        call.send(as_("governor", "admin"))
    assert seen.reason == "REQUEST_ID_REUSED"
    assert call.send(as_("governor", "admin", "member")) == call.send()


def test_another_tenants_id_is_another_id(as_: As, deployment: Deployment):
    call = Call("CreateImage", as_, deployment)
    of_owner = call.send()
    of_stranger = call.send(as_(STRANGER))

    assert of_stranger != of_owner
    assert call.send() == of_owner
    assert call.send(as_(STRANGER)) == of_stranger


# --- What is remembered -----------------------------------------------------------------------


def test_what_was_declined_is_not_remembered(as_: As, deployment: Deployment, catalogue: sa.Connection):
    owner = as_(OWNER)
    image = owner.create("empty")
    fields = {"image_id": image.id, "recipients": [{"tenant_id": STRANGER}], "request_id": AN_ID}
    with declined() as seen:
        owner.ShareImage(**fields)
    assert seen.reason == "IMAGE_NOT_ACTIVE"
    assert remembered(catalogue) == 0
    owner.upload(image.id, b"bytes")

    assert owner.ShareImage(**fields).share_count == 1


def test_an_upload_that_failed_is_not_remembered(
    as_: As, deployment: Deployment, catalogue: sa.Connection
):
    call = Call("UploadImageData", as_, deployment)
    start = request_class("UploadImageData")(**call.fields)
    with declined() as seen:
        call.tenant.call("UploadImageData", iter([start]))
    assert seen.reason == "SIZE_MISMATCH"
    assert remembered(catalogue) == 0

    first = call.send()

    assert call.send() == first


def test_an_upload_whose_id_was_given_away_meanwhile_fails_and_leaves_nothing(
    as_: As, service: Service, files_of: Callable[[Service], list[Any]]
):
    call = Call("UploadImageData", as_, service.deployment)

    def messages() -> Iterator[Any]:
        start, *chunks = upload_messages(call.fields["start"], b"four")
        yield start
        while call.tenant.GetImage(image_id=call.image_id).image.state != 2:  # SAVING
            pass
        call.tenant.CreateImage(**with_request_id(fields_of("CreateImage", ""), AN_ID))
        yield from chunks

    with declined() as seen:
        call.tenant.call("UploadImageData", messages())

    assert seen.reason == "REQUEST_ID_REUSED"
    assert call.tenant.GetImage(image_id=call.image_id).image.state == 1  # QUEUED
    assert not files_of(service)


def test_a_question_is_not_remembered(as_: As, deployment: Deployment, catalogue: sa.Connection):
    owner = as_(OWNER)
    fields = fields_of("CreateImage", "") | {"request_id": AN_ID}

    owner.CreateImage(**fields, validate_only=True)

    assert remembered(catalogue) == 0
    assert owner.CreateImage(**fields).image.id


def test_a_call_is_remembered_for_24_hours(as_: As, deployment: Deployment, clock: Clock):
    """To the microsecond in tests/use_cases/test_requests.py."""
    call = Call("CreateImage", as_, deployment)
    first = call.send()
    clock.advance(hours=23, minutes=59)
    assert call.send() == first
    clock.advance(minutes=2)

    with declined() as seen:
        call.send()

    assert seen.reason == "IMAGE_NAME_TAKEN"


def test_the_most_tenants_of_a_call_fit_into_what_is_remembered(as_: As, deployment: Deployment):
    image_id = an_image_that_is(PRIVATE, deployment)
    recipients = [{"tenant_id": f"{number:064}"} for number in range(100)]
    fields = {"image_id": image_id, "recipients": recipients, "request_id": AN_ID}
    first = as_(OWNER).ShareImage(**fields)

    assert len(first.results) == 100
    assert as_(OWNER).ShareImage(**fields) == first


# --- All at once ------------------------------------------------------------------------------


def test_of_20_creations_at_once_with_one_id_there_is_one_and_all_get_its_answer(
    as_: As, deployment: Deployment
):
    call = Call("CreateImage", as_, deployment)
    tenants = [as_(OWNER) for _ in range(CALLERS)]

    answers = all_at_once([lambda tenant=tenant: call.send(tenant) for tenant in tenants])

    assert len(set(answers)) == 1
    assert len(as_(OWNER).ListImages().images) == 1


@pytest.mark.parametrize("rpc", ["ShareImage", "DeleteImage", "LeaveShare"])
def test_of_20_calls_at_once_with_one_id_all_get_the_answer_of_the_first(
    rpc: str, as_: As, service: Service, make_service: MakeService
):
    another = make_service(database_url=service.settings.catalogue_url)
    call = Call(rpc, as_, service.deployment)
    tenants = [as_(SUCCEEDS[rpc][0], of=each) for each in (service, another) * (CALLERS // 2)]

    answers = all_at_once([lambda tenant=tenant: call.send(tenant) for tenant in tenants])

    assert len(set(answers)) == 1


def test_of_uploads_at_once_with_one_id_one_fills_the_disk(as_: As, deployment: Deployment):
    call = Call("UploadImageData", as_, deployment)
    tenants = [as_(OWNER) for _ in range(10)]

    def send(tenant: Tenant) -> bytes | str:
        answers: list[bytes] = []
        seen: Declined = answer_of(lambda: answers.append(call.send(tenant)))
        return answers[0] if answers else seen.reason

    answers = Counter(all_at_once([lambda tenant=tenant: send(tenant) for tenant in tenants]))

    first = call.send()
    assert set(answers) <= {first, "IMAGE_BUSY"}
    assert answers[first] >= 1


def test_without_the_claim_they_are_not_one(
    as_: As, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
):
    """The tests above are worth something: take the guard out, and they fail."""
    monkeypatch.setattr(Requests, "claim", lambda *_, **__: True)
    call = Call("CreateImage", as_, deployment)
    tenants = [as_(OWNER) for _ in range(CALLERS)]

    with pytest.raises(grpc.RpcError):
        all_at_once([lambda tenant=tenant: call.send(tenant) for tenant in tenants])


# --- What it costs, and what an id may be -----------------------------------------------------


def test_an_id_costs_two_statements(as_: As, deployment: Deployment):
    statements: list[str] = []
    engine = deployment.database._backend._engine

    def count(_connection, _cursor, statement, *_):
        statements.append(statement)

    def cost(request_id: str) -> int:
        call = Call("ShareImage", as_, deployment, request_id=request_id)
        statements.clear()
        call.send()
        return len(statements)

    sa.event.listen(engine, "before_cursor_execute", count)
    try:
        assert cost(AN_ID) == cost("") + 2
    finally:
        sa.event.remove(engine, "before_cursor_execute", count)


@pytest.mark.parametrize("rpc", CHANGING)
@pytest.mark.parametrize(
    "request_id", ["x" * 65, "two words", "é", "\x7f", "\n", " "], ids=["long", *"ab", "del", "nl", "sp"]
)
def test_what_cannot_be_an_id_is_a_field_that_cannot_be_read(
    rpc: str, request_id: str, as_: As, deployment: Deployment, catalogue: sa.Connection
):
    call = Call(rpc, as_, deployment, request_id=request_id)
    before = records(catalogue)

    with declined() as seen:
        call.send()

    path = "start.request_id" if rpc == "UploadImageData" else "request_id"
    assert (seen.code, seen.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert seen.metadata == {"field": path}
    assert records(catalogue) == before


@pytest.mark.parametrize("request_id", ["x", "x" * 64, "~!@#", "%", "'"])
def test_what_can_be_an_id_is_one(request_id: str, as_: As, deployment: Deployment):
    call = Call("CreateImage", as_, deployment, request_id=request_id)

    assert call.send() == call.send()
