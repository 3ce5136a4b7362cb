"""Who did what is on record for everybody who may know it and nobody else (law 9), on a real server."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from builders import OWNER, RECIPIENT, STRANGER, a_caller, a_full_ecs_image, a_share, an_image
from calling import Tenant, declined, request_class
from conftest import As, Clock, MakeService
from databases import POSTGRESQL
from ims.bootstrap import Service
from ims.domain.audit import Action, AuditEvent, AuditFilter
from ims.domain.image import BlobKey, DiskState, ImageId, ImageState, ImageType, KeyId
from ims.domain.rejection import Rejection
from ims.domain.tenant import TenantId
from ims.repository.database import PATIENCE_SECONDS
from ims.repository.statement import Statement
from ims.repository.tables import audit_events
from ims.use_cases import images
from ims.use_cases.deployment import Deployment
from ims.use_cases.image_data import give_up_dead_uploads
from ims.use_cases.refusals import MOST_A_MINUTE, Refusals
from ims.use_cases.sweeping import sweep
from ims.v1 import audit_pb2
from servicers.situations import (
    A_NEVER_GIVEN_ID,
    A_PEER,
    ACCEPTED,
    BLOCKING,
    DELETED,
    PENDING,
    PRIVATE,
    PUBLIC,
    REGISTERED,
    REJECTED,
    SHARED,
    an_image_that_is,
    fields_of,
    request_about,
)
from servicers.test_once import CHANGING, Call

GOVERNOR = "governor"
SOON_SECONDS = 10
_KIND = audit_pb2.AuditEvent.Actor


@pytest.fixture(autouse=True)
def recorded_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have refusals recorded before they are answered, where no test is about when they are."""
    if "recorded_later" in request.fixturenames:
        return
    note = Refusals.note

    def note_and_record(self: Refusals, rejection: Rejection) -> None:
        note(self, rejection)
        self.record()

    monkeypatch.setattr(Refusals, "note", note_and_record)


@pytest.fixture
def recorded_later() -> None:
    """Leave it to the service when it records refusals."""


@pytest.fixture
def service(idle: Service) -> Service:
    """A service in which nothing goes on but what is called for."""
    return idle


def a_user_of(tenant: str, user: str, as_: As, *roles: str) -> Tenant:
    made = as_(tenant, *roles)
    made._metadata.append(("ims-user", user))
    return made


def trail(deployment: Deployment) -> dict[str, list[AuditEvent]]:
    """Return everything on record, the oldest first, by who may read it."""
    with deployment.database.reading() as reading:
        connection = reading.audit_log._connection
        viewers = connection.execute(sa.select(audit_events.c.seen_by).distinct()).scalars().all()
        return {
            viewer: list(
                reading.audit_log.list(
                    TenantId(viewer), AuditFilter(), size=10_000, after=None, descending=False
                ).items
            )
            for viewer in viewers
        }


def in_short(event: AuditEvent) -> str:
    """Return whom an event is about beside the owner, and what it says has changed."""
    details = dict(event.details)
    moves = [
        f"{details.pop(f'{what}From', '')}>{details.pop(f'{what}To', '')}"
        for what in ("state", "status")
        if {f"{what}From", f"{what}To"} & set(details)
    ]
    rest = (f"{name}={value}" for name, value in details.items())
    return " ".join(filter(None, (event.counterpart, *moves, *rest)))


def done(deployment: Deployment, action: str) -> dict[str, list[str]]:
    """Return in short what everybody may read of an action, in any order of shares."""
    return {
        viewer: sorted(in_short(event) for event in events if event.action == action)
        for viewer, events in trail(deployment).items()
        if any(event.action == action for event in events)
    }


# --- Every change -------------------------------------------------------------------------------

_ENDED = ["accepted ACCEPTED>", "pending PENDING>", "rejected REJECTED>"]
_BACK = ["accepted >ACCEPTED", "pending >PENDING", "rejected >REJECTED"]
_RECIPIENTS = (ACCEPTED, PENDING, REJECTED)


def _with_each(shares: list[str], *image: str) -> dict[str, list[str]]:
    """Return what the owner reads, and each recipient of its own.

    One more of the recipients has blocked the owner, and reads nothing.
    """
    each = {who: [share] for who, share in zip(_RECIPIENTS, shares, strict=True)}
    unseen = shares[1].replace(PENDING, BLOCKING)
    return {OWNER: sorted([*shares, unseen, *image]), **each}


def _for_both(other: str, events: list[str]) -> dict[str, list[str]]:
    return {OWNER: events, other: events}


def _for_governor_and(tenant: str, change: str) -> dict[str, list[str]]:
    return {key: [f"{tenant} {change}"] for key in (GOVERNOR, tenant)}


_GIVEN = {
    "RegisterUse": {"consumer_id": "server"},
    "RegisterTenant": {"tenant_id": "newcomer"},
    "ExportImage": {"object_key": "object"},
}
"""What is said in a call besides what it needs, where that becomes a part of its events."""

LEAVES = {
    # rpc: who reads what of it, in the situation of test_once
    "CreateImage": {OWNER: [">QUEUED"]},
    "UpdateImage": {OWNER: ["ACTIVE>ACTIVE fields=name"]},
    "DeleteImage": _with_each(_ENDED, "ACTIVE>DELETED"),
    "UndeleteImage": _with_each(_BACK, "DELETED>ACTIVE"),
    "DeactivateImage": {OWNER: ["ACTIVE>DEACTIVATED"]},
    "ReactivateImage": {OWNER: ["DEACTIVATED>ACTIVE"]},
    "UploadImageData": {
        OWNER: [
            "QUEUED>SAVING disk=0 announcedBytes=4",
            "SAVING>ACTIVE fields=min_disk_gib disk=0 storedBytes=4",
        ]
    },
    "StartUpload": {OWNER: ["QUEUED>SAVING disk=0 announcedBytes=4"]},
    "FinishUpload": {OWNER: ["SAVING>ACTIVE fields=min_disk_gib disk=0 storedBytes=4"]},
    "AbortUpload": {OWNER: ["SAVING>QUEUED"]},
    "ImportImage": {OWNER: ["QUEUED>SAVING disk=0"]},
    "CopyImage": {OWNER: [">ACTIVE sourceImageId=THE_IMAGE"]},
    "ExportImage": {OWNER: ["ACTIVE>ACTIVE bucket=exports objectKey=object format=QCOW2"]},
    "CopyImageToRegion": {OWNER: ["ACTIVE>ACTIVE region=eu-nl"]},
    "DiscardImage": _for_both(A_PEER, ["QUEUED>"]),
    "ShareImage": {OWNER: ["newcomer >PENDING"], "newcomer": ["newcomer >PENDING"]},
    "UnshareImage": _with_each(_ENDED),
    "AcceptShare": _for_both(PENDING, ["pending PENDING>ACCEPTED"]),
    "RejectShare": _for_both(PENDING, ["pending PENDING>REJECTED"]),
    "LeaveShare": _for_both(PENDING, ["pending PENDING>"]),
    "PublishImage": _for_both(GOVERNOR, ["ACTIVE>ACTIVE fields=public"]),
    "UnpublishImage": _for_both(GOVERNOR, ["ACTIVE>ACTIVE fields=public"]),
    "UpdateShare": _for_both(
        ACCEPTED, ["accepted ACCEPTED>ACCEPTED expireTime=2100-01-01T00:00:00+00:00"]
    ),
    "SetTrustRules": {PENDING: ["pending fields=max_pending_shares"]},
    "SetTenantQuotas": _for_both(GOVERNOR, ["owner creations=41"]),
    "DeactivateTenantImage": _for_both(GOVERNOR, ["ACTIVE>DEACTIVATED fields=deactivated_by_admin"]),
    "ReactivateTenantImage": _for_both(GOVERNOR, ["DEACTIVATED>ACTIVE"]),
    "RegisterTenant": _for_governor_and("newcomer", "region=eu-de"),
    "UpdateTenant": _for_governor_and(REGISTERED, "region=elsewhere"),
    "SuspendTenant": _for_governor_and(REGISTERED, "ACTIVE>SUSPENDED"),
    "ResumeTenant": _for_governor_and(REGISTERED, "SUSPENDED>ACTIVE"),
    "SetSharingPolicy": {GOVERNOR: ["governor newSharesBlocked=True"]},
    "RegisterUse": {OWNER: ["owner kind=ECS consumerId=server"]},
    "ReleaseUse": {OWNER: ["owner kind=VOLUME consumerId=the-volume"]},
}


@pytest.mark.parametrize("rpc", CHANGING)
def test_every_rpc_that_changes_something_says_what_it_leaves_on_record(rpc: str):
    assert rpc in set(Action), (
        f"{rpc} changes something, and is no ims.domain.audit.Action: add it there, and end its story "
        "with a line of ims.use_cases.trail (record_image, record_shares or record)"
    )
    assert rpc in LEAVES, (
        f"{rpc} changes something: say in LEAVES who reads what of it, in the situation of test_once"
    )


def test_every_action_is_an_rpc_that_changes_something_or_the_services_own():
    own = {
        *("AbandonUpload", "AbandonCopy", "AbandonImport", "AbandonExport", "CheckImageData"),
        *("ExpireShare", "PurgeImage", "SuppressRefusals"),
    }

    unknown = set(Action) - set(CHANGING) - own

    assert not unknown, (
        f"{unknown} are neither RPCs that take a request_id nor known as the service's own"
    )
    assert not set(LEAVES) - set(CHANGING)


@pytest.mark.parametrize("rpc", CHANGING)
def test_a_change_leaves_exactly_its_events(rpc: str, as_: As, deployment: Deployment):
    call = Call(rpc, as_, deployment)
    call.fields |= _GIVEN.get(rpc, {})

    call.send()

    left = {
        viewer: [event.replace("THE_IMAGE", call.image_id) for event in events]
        for viewer, events in LEAVES.get(rpc, {}).items()
    }
    assert done(deployment, rpc) == left, f"see ims.use_cases.trail for what {rpc} records"
    assert {event.result for events in trail(deployment).values() for event in events} == {"OK"}


@pytest.mark.parametrize("rpc", CHANGING)
def test_a_call_that_is_repeated_leaves_nothing_more(rpc: str, as_: As, deployment: Deployment):
    call = Call(rpc, as_, deployment)
    call.send()
    once = trail(deployment)

    call.send()

    assert trail(deployment) == once


@pytest.mark.parametrize(
    "rpc", [rpc for rpc in CHANGING if "validate_only" in request_class(rpc).DESCRIPTOR.fields_by_name]
)
def test_what_only_validates_leaves_nothing(rpc: str, as_: As, deployment: Deployment):
    call = Call(rpc, as_, deployment)
    stranger = as_(ACCEPTED)

    call.send(validate_only=True)
    stranger.answer(rpc, request_class(rpc)(**call.fields | {"validate_only": True, "request_id": ""}))

    assert trail(deployment) == {}


def test_an_event_says_who_did_what_with_which_call(as_: As, deployment: Deployment, clock: Clock):
    owner = a_user_of(OWNER, "ada", as_)
    image_id = an_image_that_is(PRIVATE, deployment)
    before = clock.now()

    request = request_class("ShareImage")(
        image_id=image_id, recipients=[{"tenant_id": RECIPIENT}], request_id="my-call"
    )
    owner.call("ShareImage", request)

    (event,) = owner.ListAuditEvents().events
    assert event.id
    assert before < event.time.ToDatetime(before.tzinfo) < clock.now()
    assert event.action == "ShareImage"
    assert event.actor == audit_pb2.AuditEvent.Actor(kind="TENANT", tenant_id=OWNER, user_id="ada")
    assert (event.image_id, event.image_owner_tenant_id) == (image_id, OWNER)
    assert event.image_name == owner.GetImage(image_id=image_id).image.name
    assert event.counterpart_tenant_id == RECIPIENT
    assert event.request_id == "my-call"
    assert event.call_id
    assert event.result == "OK"
    assert dict(event.details) == {"statusTo": "PENDING"}


def test_the_calls_id_is_the_one_that_its_answer_names(as_: As, deployment: Deployment):
    recipient = as_(ACCEPTED)
    image_id = an_image_that_is(SHARED, deployment)

    answer = recipient.answer("ListShares", request_about("ListShares", image_id))

    (event,) = recipient.ListAuditEvents().events
    assert event.call_id == answer.headers["ims-request-id"]


def test_what_changes_nothing_leaves_nothing(as_: As, deployment: Deployment):
    owner, governor = as_(OWNER), as_(GOVERNOR, "admin")
    shared, public = an_image_that_is(SHARED, deployment), an_image_that_is(PUBLIC, deployment)

    owner.ShareImage(image_id=shared, recipients=[{"tenant_id": PENDING}])
    owner.UnshareImage(image_id=shared, tenant_ids=[STRANGER])
    owner.ReleaseUse(image_id=shared, kind="ECS", consumer_id="none")
    as_(ACCEPTED).AcceptShare(image_id=shared)
    as_(REJECTED).RejectShare(image_id=shared)
    governor.PublishImage(image_id=public)
    governor.SetTenantQuotas(tenant_id=OWNER, update_mask={"paths": ["creations"]})  # as it is anyway

    assert trail(deployment) == {}


def test_a_change_that_is_undone_leaves_nothing(deployment: Deployment):
    def create_and_break() -> None:
        with deployment.database.transaction():
            images.create_image(deployment, caller=a_caller(), draft=an_image())
            assert done(deployment, "CreateImage") == {OWNER: [">QUEUED"]}
            raise RuntimeError

    with pytest.raises(RuntimeError):
        create_and_break()

    assert trail(deployment) == {}


def test_what_the_service_does_by_itself_is_told_to_the_owner(
    as_: As, deployment: Deployment, clock: Clock
):
    owner = as_(OWNER)
    deleted = an_image_that_is(DELETED, deployment)
    clock.advance(days=8)
    sweep(deployment, "one")
    queued = owner.create("cut short").id
    with declined():
        owner.upload(queued, b"four", size_bytes=5)

    purged, _, _, abandoned, refused = owner.ListAuditEvents(order_by="time").events
    assert (purged.image_id, purged.action) == (deleted, "PurgeImage")
    assert dict(purged.details) == {"stateFrom": "DELETED"}
    assert abandoned.action == "AbandonUpload"
    assert dict(abandoned.details) == {"stateFrom": "SAVING", "stateTo": "QUEUED"}
    assert (refused.action, refused.result) == ("UploadImageData", "SIZE_MISMATCH")
    for event in (purged, abandoned):
        assert event.actor == audit_pb2.AuditEvent.Actor(kind="SYSTEM")
        assert event.call_id == ""
    assert as_(ACCEPTED).ListAuditEvents().events == []


def test_a_share_that_ends_by_itself_is_told_to_both_when_it_is_removed(
    as_: As, deployment: Deployment, clock: Clock
):
    image = an_image(owner=TenantId(OWNER))
    soon = clock.now() + timedelta(minutes=1)
    with deployment.database.transaction() as tx:
        tx.images.add(image)
        tx.shares.add([a_share(image_id=image.id, tenant_id=TenantId(PENDING), expire_time=soon)])
    clock.advance(minutes=2)

    sweep(deployment, "one")

    assert done(deployment, "ExpireShare") == _for_both(PENDING, ["pending PENDING>"])
    (event,) = as_(PENDING).ListAuditEvents().events
    assert event.actor == audit_pb2.AuditEvent.Actor(kind="SYSTEM")


def test_a_recipient_that_was_told_of_a_deletion_is_not_told_that_its_share_ended_again(
    as_: As, deployment: Deployment, clock: Clock
):
    image = as_(OWNER).active("one")
    end = {"seconds": int(clock.now().timestamp()) + 60}
    as_(OWNER).ShareImage(image_id=image.id, recipients=[{"tenant_id": PENDING}], expire_time=end)
    as_(OWNER).DeleteImage(image_id=image.id)
    clock.advance(minutes=2)

    sweep(deployment, "one")

    assert done(deployment, "ExpireShare") == {OWNER: ["pending PENDING>"]}


def test_nor_when_the_image_comes_back_without_it(as_: As, deployment: Deployment, clock: Clock):
    image = as_(OWNER).active("one")
    end = {"seconds": int(clock.now().timestamp()) + 60}
    as_(OWNER).ShareImage(image_id=image.id, recipients=[{"tenant_id": PENDING}], expire_time=end)
    as_(OWNER).DeleteImage(image_id=image.id)
    clock.advance(minutes=2)

    as_(OWNER).UndeleteImage(image_id=image.id)
    sweep(deployment, "one")

    assert done(deployment, "ExpireShare") == {OWNER: ["pending PENDING>"]}


def test_nor_that_a_share_of_what_was_deleted_is_ended_for_good(as_: As, deployment: Deployment):
    image_id = an_image_that_is(SHARED, deployment)
    as_(OWNER).DeleteImage(image_id=image_id)

    as_(OWNER).UnshareImage(image_id=image_id, tenant_ids=[ACCEPTED])

    assert done(deployment, "UnshareImage") == {OWNER: ["accepted ACCEPTED>"]}


def test_who_has_blocked_an_owner_reads_nothing_of_what_it_does_not_see(as_: As, deployment: Deployment):
    owner, blocking = as_(OWNER), as_("blocks")
    image = owner.active("one")
    blocking.SetTrustRules(rules={"blocked": [OWNER]}, update_mask={"paths": ["blocked"]})
    before = blocking.ListAuditEvents()

    owner.ShareImage(image_id=image.id, recipients=[{"tenant_id": "blocks"}])
    owner.UnshareImage(image_id=image.id, tenant_ids=["blocks"])

    assert blocking.ListAuditEvents() == before
    assert done(deployment, "ShareImage") == {OWNER: ["blocks >PENDING"]}
    assert done(deployment, "UnshareImage") == {OWNER: ["blocks PENDING>"]}


def test_an_upload_whose_process_fell_silent_is_told_of(as_: As, deployment: Deployment, clock: Clock):
    queued = ImageId(as_(OWNER).create("cut short").id)
    with deployment.database.transaction() as tx:
        view = tx.images.lock(queued, TenantId(OWNER), now=clock.now)
        saving = replace(
            view.image,
            state=ImageState.SAVING,
            disks=tuple(
                replace(disk, state=DiskState.SAVING, upload_id="dead") for disk in view.image.disks
            ),
        )
        tx.images.save(saving, now=clock.now())
        tx.pending_blobs.add(BlobKey("dead"), queued, until=clock.now())
    clock.advance(seconds=1)

    give_up_dead_uploads(deployment)

    assert done(deployment, "AbandonUpload") == {OWNER: ["SAVING>QUEUED"]}


# --- Who sees what ------------------------------------------------------------------------------


def test_a_recipient_reads_its_half_and_nothing_of_other_recipients(as_: As, deployment: Deployment):
    owner, governor = as_(OWNER), as_(GOVERNOR, "admin")
    image_id = an_image_that_is(SHARED, deployment)
    as_(REJECTED).AcceptShare(image_id=image_id)
    owner.UpdateImage(**fields_of("UpdateImage", image_id))
    owner.DeleteImage(image_id=image_id)
    owner.UndeleteImage(image_id=image_id)
    as_(PENDING).LeaveShare(image_id=image_id)
    governor.PublishImage(image_id=image_id)

    half = as_(ACCEPTED).ListAuditEvents(order_by="time").events

    assert [event.action for event in half] == ["DeleteImage", "UndeleteImage", "PublishImage"]
    assert {event.counterpart_tenant_id for event in half} == {ACCEPTED}
    for other in (PENDING, REJECTED):
        assert other not in str(half)
    # Nor does an administrator, whose act has ended them, learn whose shares they were, nor how many.
    (published,) = as_(GOVERNOR).ListAuditEvents().events
    assert published.counterpart_tenant_id == ""
    assert done(deployment, "PublishImage")[GOVERNOR] == ["ACTIVE>ACTIVE fields=public"]


def test_nobody_reads_what_does_not_concern_it(as_: As, deployment: Deployment):
    image_id = an_image_that_is(SHARED, deployment)
    as_(OWNER).DeleteImage(image_id=image_id)
    as_(OWNER).UndeleteImage(image_id=image_id)

    stranger = as_(STRANGER)

    assert stranger.ListAuditEvents().events == []
    assert stranger.ListAuditEvents(filter={"image_id": image_id}).events == []
    assert stranger.ExportAuditEvents() == []


def test_of_what_others_did_nobody_reads_who_of_them_it_was_nor_with_which_call(
    as_: As, deployment: Deployment
):
    image_id = an_image_that_is(SHARED, deployment)
    pending, owner = a_user_of(PENDING, "bob", as_), a_user_of(OWNER, "ada", as_)
    pending.AcceptShare(image_id=image_id, request_id="bobs-call")
    owner.UnshareImage(image_id=image_id, tenant_ids=[PENDING], request_id="adas-call")

    ended, accepted = owner.ListAuditEvents().events
    their_ended, their_accepted = pending.ListAuditEvents().events

    assert [accepted.id, ended.id] == [their_accepted.id, their_ended.id]
    for own, name in ((ended, "ada"), (their_accepted, "bob")):
        assert (own.actor.user_id, own.request_id) == (name, f"{name}s-call")
        assert own.call_id
    for foreign, tenant in ((accepted, PENDING), (their_ended, OWNER)):
        assert foreign.actor == audit_pb2.AuditEvent.Actor(kind="TENANT", tenant_id=tenant)
        assert (foreign.request_id, foreign.call_id) == ("", "")


def test_an_administrator_is_seen_as_one_and_not_named(as_: As, deployment: Deployment):
    image_id = an_image_that_is(SHARED, deployment)
    governor = a_user_of(GOVERNOR, "root", as_, "admin")
    governor.PublishImage(image_id=image_id)
    governor.SetTenantQuotas(**fields_of("SetTenantQuotas", ""))

    for viewer in (OWNER, ACCEPTED):
        for event in as_(viewer).ListAuditEvents().events:
            assert event.actor == audit_pb2.AuditEvent.Actor(kind="ADMINISTRATOR")
    assert as_(OWNER).ListAuditEvents(filter={"actor_tenant_id": GOVERNOR}).events == []
    for event in governor.ListAuditEvents().events:
        assert (event.actor.tenant_id, event.actor.user_id) == (GOVERNOR, "root")


def test_an_administrator_is_not_named_where_its_own_tenant_is_concerned_too(
    as_: As, deployment: Deployment
):
    image_id = an_image_that_is(SHARED, deployment)
    governor = as_(ACCEPTED, "admin", "member")
    governor.PublishImage(image_id=image_id)
    governor.SetTenantQuotas(**fields_of("SetTenantQuotas", "") | {"tenant_id": ACCEPTED})

    published = as_(OWNER).ListAuditEvents().events
    assert {event.counterpart_tenant_id for event in published} == {
        *("", ACCEPTED, PENDING, REJECTED, BLOCKING)
    }
    for event in published:
        assert event.actor == audit_pb2.AuditEvent.Actor(kind="ADMINISTRATOR")
    assert {event.actor.kind for event in governor.ListAuditEvents().events} == {_KIND.ADMINISTRATOR}


def test_who_may_also_govern_acts_as_a_tenant_on_its_own(as_: As, deployment: Deployment):
    image_id = an_image_that_is(SHARED, deployment)
    as_(OWNER, "admin", "member").UpdateImage(**fields_of("UpdateImage", image_id))
    as_(PENDING, "admin", "member").AcceptShare(image_id=image_id)

    accepted, updated = as_(OWNER).ListAuditEvents().events
    assert (updated.actor.kind, updated.actor.tenant_id) == (_KIND.TENANT, OWNER)
    assert (accepted.actor.kind, accepted.actor.tenant_id) == (_KIND.TENANT, PENDING)


def test_a_service_and_the_tenant_it_acts_for_both_read_it(as_: As, deployment: Deployment):
    nova = a_user_of("nova", "robot", as_, "service")
    image_id = an_image_that_is(SHARED, deployment)
    use = {"image_id": image_id, "kind": "ECS", "consumer_id": "a-server", "tenant_id": ACCEPTED}
    nova.RegisterUse(**use)
    nova.ReleaseUse(**use)

    for viewer, user in (("nova", "robot"), (ACCEPTED, "")):
        events = as_(viewer).ListAuditEvents().events
        assert [event.action for event in events] == ["ReleaseUse", "RegisterUse"]
        for event in events:
            assert event.actor == audit_pb2.AuditEvent.Actor(
                kind="SERVICE", tenant_id="nova", user_id=user, acting_for_tenant_id=ACCEPTED
            )
    # The owner learns how many uses there are, and not which (law 7.5).
    assert as_(OWNER).ListAuditEvents().events == []


def test_a_service_fills_what_it_has_declared_for_the_owner(as_: As, deployment: Deployment):
    nova = as_("nova", "service")
    image = nova.create("from a server", source={"ecs": {"server_id": "server"}}, owner_tenant_id=OWNER)
    nova.upload(image.id, b"four")

    for viewer in ("nova", OWNER):
        events = as_(viewer).ListAuditEvents(order_by="time").events
        assert [event.action for event in events] == ["CreateImage", *["UploadImageData"] * 2]
        assert {event.actor.kind for event in events} == {_KIND.SERVICE}
        assert {event.actor.acting_for_tenant_id for event in events} == {OWNER}


def test_an_administrator_reads_what_any_tenant_reads_by_naming_it(as_: As, deployment: Deployment):
    as_(OWNER).DeleteImage(image_id=an_image_that_is(SHARED, deployment))
    governor = as_(GOVERNOR, "admin")

    for viewer in (OWNER, ACCEPTED):
        own = as_(viewer).ListAuditEvents()
        assert own.events
        assert governor.ListAuditEvents(tenant_id=viewer) == own
        exported = governor.ExportAuditEvents(tenant_id=viewer)
        assert [event for part in exported for event in part.events] == own.events[::-1]
    assert governor.ListAuditEvents().events == []


@pytest.mark.parametrize("rpc", ["ListAuditEvents", "ExportAuditEvents"])
def test_nobody_else_names_another_tenant(rpc: str, as_: As):
    for roles in ([], ["service"]):
        answer = as_(STRANGER, *roles).answer(rpc, request_class(rpc)(tenant_id=OWNER))
        assert (answer.code, answer.reason) == ("PERMISSION_DENIED", "ROLE_REQUIRED")

    assert as_(OWNER).answer(rpc, request_class(rpc)(tenant_id=OWNER)).code == "OK"


SECRET = "nobody-else-may-read-this"


def test_nothing_that_is_stored_or_secret_is_on_record(as_: As, deployment: Deployment):
    owner = as_(OWNER)
    image = owner.create(
        "an image", description=f"{SECRET} description", tags={SECRET: SECRET}, encryption_key_id="key-1"
    )
    owner.UpdateImage(
        image_id=image.id,
        image={"description": f"{SECRET} too"},
        update_mask={"paths": ["description"]},
    )
    owner.upload(image.id, f"{SECRET} bytes".encode())
    with declined():
        owner.ShareImage(image_id=image.id, recipients=[{"tenant_id": RECIPIENT}])
    with deployment.database.reading() as reading:
        view = reading.images.view(image.id, TenantId(OWNER), now=deployment.now())
        rows = str(reading.audit_log._connection.execute(sa.select(audit_events)).all())

    (disk,) = view.image.disks
    assert "description" in rows
    for secret in (SECRET, "key-1", disk.sha256, disk.blob_key, repr(disk.wrapped_data_key)[2:-1]):
        assert secret
        assert secret not in rows


def test_a_recipients_vault_is_not_told_to_the_owner(make_service: MakeService, as_: As):
    service = make_service(vaults={PENDING: [{"id": "the-vault", "capacity_gib": 1000}]})
    image = a_full_ecs_image()
    with service.deployment.database.transaction() as tx:
        tx.images.add(image)
        tx.shares.add([a_share(image_id=image.id, tenant_id=PENDING)])

    as_(PENDING, of=service).AcceptShare(image_id=image.id, vault_id="the-vault")

    both = _for_both(PENDING, ["pending PENDING>ACCEPTED"])
    assert done(service.deployment, "AcceptShare") == both
    assert "the-vault" not in str(trail(service.deployment))


# --- Refusals -----------------------------------------------------------------------------------


def refusals(tenant: Tenant) -> list[tuple[str, str]]:
    events = tenant.ListAuditEvents(order_by="time", page_size=1000).events
    return [(event.action, event.result) for event in events if event.result != "OK"]


def test_a_refusal_is_told_to_who_was_refused_and_to_nobody_else(as_: As, deployment: Deployment):
    recipient = a_user_of(ACCEPTED, "bob", as_)
    image_id = an_image_that_is(SHARED, deployment)
    with declined():
        recipient.ShareImage(image_id=image_id, recipients=[{"tenant_id": STRANGER}], request_id="mine")

    (event,) = recipient.ListAuditEvents().events

    assert (event.action, event.result) == ("ShareImage", "NOT_IMAGE_OWNER")
    assert (event.image_id, event.actor.user_id, event.request_id) == (image_id, "bob", "mine")
    assert set(trail(deployment)) == {ACCEPTED}


def test_what_somebody_may_not_do_is_recorded_when_it_only_reads_too(as_: As, deployment: Deployment):
    recipient = as_(ACCEPTED)
    with declined():
        recipient.ListShares(image_id=an_image_that_is(SHARED, deployment))
    with declined():
        recipient.GetTenantQuotas(tenant_id=OWNER)

    assert refusals(recipient) == [
        ("ListShares", "NOT_IMAGE_OWNER"),
        ("GetTenantQuotas", "ROLE_REQUIRED"),
    ]


def test_a_rule_that_forbids_a_change_is_recorded_and_one_that_forbids_a_look_is_not(
    as_: As, deployment: Deployment
):
    owner = as_(OWNER)
    public, deleted = an_image_that_is(PUBLIC, deployment), an_image_that_is(DELETED, deployment)
    with declined():
        owner.DeleteImage(image_id=public)
    with declined():
        owner.ShareImage(image_id=public, recipients=[{"tenant_id": RECIPIENT}])
    with declined():
        owner.ResolveImage(image_id=deleted, purpose="CREATE_ECS")

    assert refusals(owner) == [
        ("DeleteImage", "PUBLIC_IMAGE_NOT_DELETABLE"),
        ("ShareImage", "PUBLIC_IMAGE_NOT_SHAREABLE"),
    ]


def test_quotas_and_limits_that_are_used_up_are_recorded(make_service: MakeService, as_: As):
    service = make_service(shares_per_image=0, private_images_per_tenant=0)
    owner = as_(OWNER, of=service)
    image_id = an_image_that_is(PRIVATE, service.deployment)
    with declined():
        owner.create("one too many")
    with declined():
        owner.ShareImage(image_id=image_id, recipients=[{"tenant_id": RECIPIENT}])

    assert refusals(owner) == [
        ("CreateImage", "IMAGE_QUOTA_EXCEEDED"),
        ("ShareImage", "SHARE_LIMIT_EXCEEDED"),
    ]


def test_all_rules_that_refused_are_named(as_: As, deployment: Deployment, clock: Clock):
    owner = as_(OWNER)
    whole = an_image(type=ImageType.FULL_ECS, encryption_key_id=KeyId("key-1"))
    with deployment.database.transaction() as tx:
        tx.images.add(whole)
    with declined() as answer:
        owner.ShareImage(image_id=whole.id, recipients=[{"tenant_id": RECIPIENT}])

    (event,) = owner.ListAuditEvents().events
    assert event.result == answer.reason
    assert event.details["broken"].split(",") == list(dict.fromkeys(answer.reasons))


def test_what_is_hidden_malformed_or_nobodys_is_not_recorded(as_: As, deployment: Deployment):
    hidden = an_image_that_is(PRIVATE, deployment)
    stranger = as_(STRANGER)
    for image_id in (hidden, A_NEVER_GIVEN_ID):
        with declined():
            stranger.DeleteImage(image_id=image_id)
    with declined():
        stranger.create("no such name!")
    with declined():
        as_(None).DeleteImage(image_id=hidden)

    assert trail(deployment) == {}


def test_who_claims_to_act_for_a_tenant_leaves_nothing_in_that_tenants_trail(
    as_: As, deployment: Deployment
):
    image_id = an_image_that_is(SHARED, deployment)
    fields = fields_of("RegisterUse", image_id) | {"tenant_id": ACCEPTED}
    with declined():
        as_(STRANGER).RegisterUse(**fields)
    with declined():
        as_("nova", "service").RegisterUse(**fields | {"tenant_id": PENDING})

    assert refusals(as_(ACCEPTED)) == []
    assert refusals(as_(STRANGER)) == [("RegisterUse", "ROLE_REQUIRED")]
    assert refusals(as_("nova")) == refusals(as_(PENDING)) == [("RegisterUse", "SHARE_NOT_ACCEPTED")]


def test_refusals_are_counted_where_there_are_too_many(as_: As, deployment: Deployment, clock: Clock):
    recipient, other = as_(ACCEPTED), as_(PENDING)
    image_id = an_image_that_is(SHARED, deployment)
    for _ in range(MOST_A_MINUTE + 2):
        with declined():
            recipient.ListShares(image_id=image_id)
    with declined():
        other.ListShares(image_id=image_id)

    assert len(refusals(recipient)) == MOST_A_MINUTE
    assert len(refusals(other)) == 1  # it has room of its own

    clock.advance(minutes=1)
    with declined():
        recipient.ListShares(image_id=image_id)

    left_out, last = recipient.ListAuditEvents(page_size=2).events
    assert (last.action, last.result) == ("ListShares", "NOT_IMAGE_OWNER")
    assert (left_out.action, dict(left_out.details)) == ("SuppressRefusals", {"suppressed": "2"})
    assert left_out.actor.kind == _KIND.SYSTEM


def test_how_many_were_left_out_is_told_at_the_end_of_a_process_too(make_service: MakeService, as_: As):
    service = make_service()
    recipient = as_(ACCEPTED, of=service)
    image_id = an_image_that_is(SHARED, service.deployment)
    for _ in range(MOST_A_MINUTE + 1):
        with declined():
            recipient.ListShares(image_id=image_id)

    service._refusals.record(ending=True)

    assert done(service.deployment, "SuppressRefusals") == {ACCEPTED: ["accepted suppressed=1"]}


@pytest.fixture
def busy_catalogue(deployment: Deployment, kind_of_database: str) -> Iterator[threading.Event]:
    """Have somebody write for as long as the test takes, or until it says so."""
    writing, ended = threading.Event(), threading.Event()

    def write() -> None:
        with deployment.database.unhurried(), deployment.database.transaction() as tx:
            if kind_of_database == POSTGRESQL:
                tx.audit_log._connection.execute(sa.text("LOCK TABLE audit_events IN EXCLUSIVE MODE"))
            writing.set()
            ended.wait(60)
        deployment.database.close()

    writer = threading.Thread(target=write)
    writer.start()
    assert writing.wait(30)
    yield ended
    ended.set()
    writer.join()


def test_a_refusal_is_answered_as_ever_while_it_cannot_be_recorded_and_recorded_then(
    recorded_later: None, as_: As, service: Service, busy_catalogue: threading.Event
):
    recipient = as_(ACCEPTED)
    begun = time.monotonic()
    with declined() as answer:
        recipient.GetTenantQuotas(tenant_id=OWNER)

    assert time.monotonic() - begun < PATIENCE_SECONDS / 2
    assert (answer.code, answer.reason) == ("PERMISSION_DENIED", "ROLE_REQUIRED")
    assert refusals(recipient) == []

    busy_catalogue.set()
    wait_until(lambda: refusals(recipient) == [("GetTenantQuotas", "ROLE_REQUIRED")])


def test_what_has_waited_for_longer_than_exports_overlap_is_only_counted(
    recorded_later: None, as_: As, service: Service, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    recipient, record = as_(ACCEPTED), service._refusals.record
    monkeypatch.setattr(service._refusals, "record", lambda **_: None)  # the catalogue is away
    with declined():
        recipient.GetTenantQuotas(tenant_id=OWNER)
    clock.advance(seconds=31)
    with declined():
        recipient.GetTenantQuotas(tenant_id=STRANGER)

    record()

    assert refusals(recipient) == [("GetTenantQuotas", "ROLE_REQUIRED")]
    assert done(service.deployment, "SuppressRefusals") == {ACCEPTED: ["accepted suppressed=1"]}


def test_no_more_refusals_wait_than_there_is_room_for(
    recorded_later: None, as_: As, service: Service, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ims.use_cases.refusals.MOST_WAITING", 2)
    record = service._refusals.record
    monkeypatch.setattr(service._refusals, "record", lambda **_: None)
    for tenant in (ACCEPTED, PENDING, REJECTED):
        with declined():
            as_(tenant).GetTenantQuotas(tenant_id=OWNER)

    record(ending=True)

    assert [len(refusals(as_(tenant))) for tenant in (ACCEPTED, PENDING, REJECTED)] == [1, 1, 0]
    assert done(service.deployment, "SuppressRefusals") == {REJECTED: ["rejected suppressed=1"]}


def test_what_cannot_be_recorded_waits_on(
    recorded_later: None, as_: As, service: Service, monkeypatch: pytest.MonkeyPatch
):
    recipient = as_(ACCEPTED)

    def lost(*_: object) -> None:
        raise sa.exc.OperationalError("BEGIN", {}, Exception("gone"), connection_invalidated=True)

    with monkeypatch.context() as away:
        away.setattr(service.deployment.database._backend, "begin", lost)
        for _ in range(MOST_A_MINUTE + 1):
            with declined():
                recipient.GetTenantQuotas(tenant_id=OWNER)
        with pytest.raises(Rejection):
            service._refusals.record(ending=True)

    service._refusals.record(ending=True)

    assert len(refusals(recipient)) == MOST_A_MINUTE
    assert done(service.deployment, "SuppressRefusals") == {ACCEPTED: ["accepted suppressed=1"]}


def test_a_refusal_is_answered_as_ever_whatever_goes_wrong_with_its_record(
    recorded_later: None, as_: As, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ims.use_cases.refusals.event_of", None)

    with declined() as answer:
        as_(ACCEPTED).GetTenantQuotas(tenant_id=OWNER)

    assert (answer.code, answer.reason) == ("PERMISSION_DENIED", "ROLE_REQUIRED")


def test_a_service_that_ends_records_what_waits(
    recorded_later: None, make_service: MakeService, as_: As, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ims.bootstrap._RECORDING_SECONDS", 3600)
    ending = make_service()
    with declined():
        as_(ACCEPTED, of=ending).GetTenantQuotas(tenant_id=OWNER)
    following = make_service(data=ending.settings.data)
    assert refusals(as_(ACCEPTED, of=following)) == []

    ending.stop()

    assert refusals(as_(ACCEPTED, of=following)) == [("GetTenantQuotas", "ROLE_REQUIRED")]


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON_SECONDS
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


# --- Lists and their end ------------------------------------------------------------------------


@pytest.fixture
def five(as_: As) -> list[str]:
    """The names of five images that OWNER has created, one after the other."""
    names = [f"image-{number}" for number in range(5)]
    for name in names:
        as_(OWNER).create(name)
    return names


@pytest.mark.parametrize(("order_by", "step"), [("", -1), ("time desc", -1), ("time", 1)])
@pytest.mark.parametrize("page_size", [1, 2, 5])
def test_lists_are_paged_in_order_of_time(
    as_: As, five: list[str], order_by: str, step: int, page_size: int
):
    owner, token, listed = as_(OWNER), "", []
    while True:
        page = owner.ListAuditEvents(order_by=order_by, page_size=page_size, page_token=token)
        listed += [event.image_name for event in page.events]
        assert len(page.events) <= page_size
        token = page.next_page_token
        if not token:
            break

    assert listed == five[::step]


def test_a_page_token_is_worthless_to_others_and_for_another_list(as_: As, five: list[str]):
    token = as_(OWNER).ListAuditEvents(page_size=1).next_page_token

    for tenant, fields in (
        (as_(STRANGER), {}),
        (as_(OWNER), {"order_by": "time"}),
        (as_(OWNER), {"filter": {"action": "CreateImage"}}),
        (as_(OWNER, "admin"), {"tenant_id": STRANGER}),
    ):
        with declined() as answer:
            tenant.ListAuditEvents(page_size=1, page_token=token, **fields)
        assert (answer.reason, answer.metadata["field"]) == ("INVALID_FIELD", "page_token")


def test_an_export_goes_over_as_many_messages_as_it_needs(
    as_: As, five: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ims.use_cases.audit._READ_AT_ONCE", 2)

    parts = as_(OWNER).ExportAuditEvents()

    assert [[event.image_name for event in part.events] for part in parts] == [
        five[:2],
        five[2:4],
        five[4:],
    ]


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"action": "no such-action"}, "filter.action"),
        ({"result": "no" * 40}, "filter.result"),
        ({"actor_tenant_id": "a b"}, "filter.actor_tenant_id"),
        ({"counterpart_tenant_id": "\0"}, "filter.counterpart_tenant_id"),
        ({"image_id": "\0"}, "filter.image_id"),
        ({"time_from": {"nanos": -1}}, "filter.time_from"),
        ({"time_from": {"seconds": 1}, "time_before": {"seconds": 1}}, "filter.time_before"),
    ],
)
@pytest.mark.parametrize("rpc", ["ListAuditEvents", "ExportAuditEvents"])
def test_what_cannot_be_asked_for_is_named(as_: As, rpc: str, wanted: dict[str, Any], field: str):
    answer = as_(OWNER).answer(rpc, request_class(rpc)(filter=wanted))

    assert (answer.code, answer.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert answer.metadata["field"] == field


def test_lists_of_any_other_order_are_refused(as_: As):
    with declined() as answer:
        as_(OWNER).ListAuditEvents(order_by="action")

    assert answer.metadata["field"] == "order_by"


def test_events_are_kept_for_as_long_as_the_deployment_says(
    make_service: MakeService, as_: As, clock: Clock
):
    service = make_service(audit_retention_days=2)
    owner = as_(OWNER, of=service)
    owner.create("first")
    clock.advance(days=1)
    owner.create("second")

    clock.advance(days=1)
    swept = sweep(service.deployment, "one")

    assert swept is not None
    assert swept.forgotten_events == 1
    assert [event.image_name for event in owner.ListAuditEvents().events] == ["second"]


def test_events_of_an_image_outlive_it(as_: As, deployment: Deployment, clock: Clock):
    image_id = an_image_that_is(PRIVATE, deployment)
    as_(OWNER).DeleteImage(image_id=image_id)
    clock.advance(days=8)
    sweep(deployment, "one")

    events = as_(OWNER).ListAuditEvents(filter={"image_id": image_id}).events

    assert [event.action for event in events] == ["PurgeImage", "DeleteImage"]


# --- What it costs ------------------------------------------------------------------------------


def test_a_share_and_its_events_cost_one_statement_on_the_way_to_a_server(
    as_: As, deployment: Deployment, kind_of_database: str, monkeypatch: pytest.MonkeyPatch
):
    """ShareImage of one tenant: begin, lock, image, shares, the share with its events, commit."""
    statements: list[str] = []
    made = Statement._execute

    def counting(self: Statement, driver: Any, dialect: Any, parameters: Any) -> Any:
        statements.append(self.sql(dialect))
        return made(self, driver, dialect, parameters)

    monkeypatch.setattr(Statement, "_execute", counting)
    engine = deployment.database._backend._engine
    image_id = an_image_that_is(PRIVATE, deployment)

    def count(_connection, _cursor, statement, *_):
        statements.append(statement)

    sa.event.listen(engine, "before_cursor_execute", count)
    try:
        as_(OWNER).call("ShareImage", request_about("ShareImage", image_id))
    finally:
        sa.event.remove(engine, "before_cursor_execute", count)

    begin_and_commit = 2  # run by the driver itself
    most = 6 if kind_of_database == POSTGRESQL else 7
    assert len(statements) + begin_and_commit == most, statements
