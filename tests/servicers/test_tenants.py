"""Administrators govern tenants (law 8), on a real server and every database."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from builders import ELSEWHERE, HOME, OWNER, RECIPIENT, STRANGER
from calling import Tenant, declined, request_class
from conftest import As, MakeService
from downloads import hold_after_the_first_chunk, rest_of
from ims.use_cases.deployment import Deployment
from ims.v1 import image_pb2, share_pb2, tenant_pb2

KIB = 1024


@pytest.fixture
def admin(as_: As) -> Tenant:
    return as_("operator", "admin")


@pytest.fixture
def owner(as_: As) -> Tenant:
    return as_(OWNER)


def state_of(tenant: tenant_pb2.Tenant) -> str:
    return tenant_pb2.Tenant.State.Name(tenant.state)


def share(owner: Tenant, image: image_pb2.Image, *recipients: str | dict[str, str], **more: Any) -> Any:
    named = [{"tenant_id": each} if isinstance(each, str) else each for each in recipients]
    return owner.ShareImage(image_id=image.id, recipients=named, **more)


# --- The directory ----------------------------------------------------------------------------


def test_a_tenant_is_registered_shown_moved_and_listed(admin: Tenant):
    registered = admin.RegisterTenant(tenant_id="acme", region=HOME).tenant
    moved = admin.UpdateTenant(
        tenant_id="acme", tenant={"region": ELSEWHERE}, update_mask={"paths": ["region"]}
    ).tenant

    assert (registered.id, registered.region, state_of(registered)) == ("acme", HOME, "ACTIVE")
    assert registered.HasField("register_time")
    assert not registered.HasField("suspend_time")
    assert moved.region == ELSEWHERE
    assert moved.register_time == registered.register_time
    assert admin.GetTenant(tenant_id="acme").tenant == moved
    assert list(admin.ListTenants().tenants) == [moved]


def test_the_same_again_changes_nothing_and_another_region_is_refused(admin: Tenant):
    first = admin.RegisterTenant(tenant_id="acme", region=HOME).tenant
    admin.SuspendTenant(tenant_id="acme")
    again = admin.RegisterTenant(tenant_id="acme", region=HOME).tenant
    with declined() as refused:
        admin.RegisterTenant(tenant_id="acme", region=ELSEWHERE)

    assert again.register_time == first.register_time
    assert state_of(again) == "SUSPENDED"
    assert (refused.code, refused.reason) == ("ALREADY_EXISTS", "TENANT_ALREADY_REGISTERED")
    assert refused.metadata == {"tenantId": "acme", "tenantRegion": HOME}


def test_whoever_registers_at_once_registers_one(as_: As):
    admins = [as_("operator", "admin") for _ in range(8)]
    barrier = threading.Barrier(len(admins))

    def register(number: int) -> str:
        barrier.wait()
        region = HOME if number % 2 else ELSEWHERE
        return admins[number].answer("RegisterTenant", a_request(region)).reason

    def a_request(region: str) -> Any:
        return request_class("RegisterTenant")(tenant_id="acme", region=region)

    with ThreadPoolExecutor(len(admins)) as pool:
        reasons = list(pool.map(register, range(len(admins))))

    assert sorted(reasons) == [""] * 4 + ["TENANT_ALREADY_REGISTERED"] * 4
    assert len(admins[0].ListTenants().tenants) == 1


def test_suspending_and_resuming_again_changes_nothing(admin: Tenant):
    admin.RegisterTenant(tenant_id="acme", region=HOME)
    suspended = admin.SuspendTenant(tenant_id="acme").tenant

    assert state_of(suspended) == "SUSPENDED"
    assert suspended.HasField("suspend_time")
    assert admin.SuspendTenant(tenant_id="acme").tenant == suspended
    resumed = admin.ResumeTenant(tenant_id="acme").tenant
    assert state_of(resumed) == "ACTIVE"
    assert not resumed.HasField("suspend_time")
    assert admin.ResumeTenant(tenant_id="acme").tenant == resumed


@pytest.mark.parametrize("rpc", ["GetTenant", "UpdateTenant", "SuspendTenant", "ResumeTenant"])
def test_whom_nobody_has_registered_is_not_governed(rpc: str, admin: Tenant, owner: Tenant):
    owner.active("one")  # has an account of what it uses, and is in no directory all the same
    fields: dict[str, Any] = {"tenant_id": OWNER}
    if rpc == "UpdateTenant":
        fields |= {"tenant": {"region": HOME}, "update_mask": {"paths": ["region"]}}

    with declined() as refused:
        admin.call(rpc, request_class(rpc)(**fields))

    assert (refused.code, refused.reason) == ("NOT_FOUND", "TENANT_NOT_FOUND")
    assert refused.metadata == {"tenantId": OWNER}
    assert not admin.ListTenants().tenants


def test_registering_leaves_what_a_tenant_uses_and_may_use(admin: Tenant, owner: Tenant):
    owner.active("one")
    admin.SetTenantQuotas(tenant_id=OWNER, limits={"creations": 7}, update_mask={"paths": ["creations"]})
    before = owner.GetQuotas()
    admin.RegisterTenant(tenant_id=OWNER, region=HOME)
    admin.SuspendTenant(tenant_id=OWNER)
    admin.ResumeTenant(tenant_id=OWNER)

    assert owner.GetQuotas() == before


def test_nobody_suspends_the_tenant_that_it_calls_for(admin: Tenant):
    admin.RegisterTenant(tenant_id="operator", region=HOME)
    with declined() as refused:
        admin.SuspendTenant(tenant_id="operator")

    assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert refused.metadata == {"field": "tenant_id"}
    assert state_of(admin.GetTenant(tenant_id="operator").tenant) == "ACTIVE"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"update_mask": {"paths": []}}, "update_mask"),
        ({"update_mask": {"paths": ["state"]}}, "update_mask"),
        ({"update_mask": {"paths": ["region"]}}, "tenant.region"),
        ({"update_mask": {"paths": ["region"]}, "tenant": {"region": "not a region"}}, "tenant.region"),
        ({}, "update_mask"),
    ],
)
def test_what_cannot_be_updated_is_told(changes: dict[str, Any], field: str, admin: Tenant):
    admin.RegisterTenant(tenant_id="acme", region=HOME)
    with declined() as refused:
        admin.UpdateTenant(tenant_id="acme", **changes)

    assert (refused.reason, refused.metadata["field"]) == ("INVALID_FIELD", field)


def test_the_directory_is_listed_by_id_page_by_page_by_state_and_region(admin: Tenant, owner: Tenant):
    owner.create("one")  # in the same table, and in no directory
    for number in range(7):
        admin.RegisterTenant(tenant_id=f"tenant-{number}", region=HOME if number % 2 else ELSEWHERE)
    for number in (1, 2, 5):
        admin.SuspendTenant(tenant_id=f"tenant-{number}")

    def listed(**filters: Any) -> list[str]:
        ids: list[str] = []
        token = ""
        while True:
            page = admin.ListTenants(page_size=2, page_token=token, **filters)
            assert len(page.tenants) <= 2
            ids += [each.id.removeprefix("tenant-") for each in page.tenants]
            token = page.next_page_token
            if not token:
                return ids

    assert listed() == list("0123456")
    assert listed(state="SUSPENDED") == list("125")
    assert listed(state="ACTIVE") == list("0346")
    assert listed(region=HOME) == list("135")
    assert listed(region=HOME, state="SUSPENDED") == list("15")
    assert listed(region="mars") == []


def test_a_page_token_of_the_directory_is_worth_nothing_elsewhere(admin: Tenant, as_: As):
    for name in "abc":
        admin.RegisterTenant(tenant_id=name, region=HOME)
    token = admin.ListTenants(page_size=1).next_page_token

    for other, filters in ((as_("another", "admin"), {}), (admin, {"region": HOME})):
        with declined() as refused:
            other.ListTenants(page_token=token, **filters)
        assert refused.metadata == {"field": "page_token"}


# --- Law 3.4 and 3.9 with it ------------------------------------------------------------------


@pytest.mark.parametrize("others", [(), ("third", "fourth")], ids=["alone", "with others"])
def test_a_registered_recipient_is_at_home_where_the_directory_says(
    others: tuple[str, ...], admin: Tenant, owner: Tenant
):
    """Whatever the request claims; alone and in a batch, which are looked up by two statements."""
    admin.RegisterTenant(tenant_id="far", region=ELSEWHERE)
    admin.RegisterTenant(tenant_id="near", region=HOME)
    image = owner.active("one")

    with declined() as refused:
        share(owner, image, {"tenant_id": "far", "region": HOME}, *others)
    near = share(owner, image, {"tenant_id": "near", "region": ELSEWHERE}, *others)

    assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "CROSS_REGION_SHARE")
    assert refused.metadata == {"tenantId": "far", "tenantRegion": ELSEWHERE, "imageRegion": HOME}
    assert [each.share.region for each in near.results] == [HOME] * (1 + len(others))


def test_who_accepts_is_at_home_where_the_directory_says(admin: Tenant, owner: Tenant, as_: As):
    image = owner.active("one")
    share(owner, image, RECIPIENT)
    admin.RegisterTenant(tenant_id=RECIPIENT, region=ELSEWHERE)
    with declined() as refused:
        as_(RECIPIENT).AcceptShare(image_id=image.id)
    admin.UpdateTenant(tenant_id=RECIPIENT, tenant={"region": HOME}, update_mask={"paths": ["region"]})

    assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "CROSS_REGION_SHARE")
    assert refused.metadata == {
        "tenantId": RECIPIENT,
        "tenantRegion": ELSEWHERE,
        "imageRegion": HOME,
    }
    accepted = as_(RECIPIENT, region=ELSEWHERE).AcceptShare(image_id=image.id).share
    assert accepted.status == share_pb2.Share.ACCEPTED


def test_an_open_directory_takes_others_at_their_word(owner: Tenant):
    image = owner.active("one")
    with declined() as refused:
        share(owner, image, {"tenant_id": "far", "region": ELSEWHERE})
    silent = share(owner, image, "silent")

    assert refused.reason == "CROSS_REGION_SHARE"
    assert silent.results[0].share.region == HOME


def test_a_closed_directory_knows_whom_it_names_from_that_moment_on(make_service: MakeService, as_: As):
    closed = make_service(tenant_directory="closed")
    owner, admin = as_(OWNER, of=closed), as_("operator", "admin", of=closed)
    as_("unknown", of=closed).create("its own")  # has an account, and is not registered
    image = owner.active("one")
    admin.RegisterTenant(tenant_id="known", region=HOME)

    for recipients in (("unknown",), ("unknown", "known"), ("known", "unknown", "unheard-of")):
        with declined() as refused:
            share(owner, image, *recipients)
        assert (refused.code, refused.reason) == ("NOT_FOUND", "TENANT_NOT_FOUND")
        assert refused.metadata == {"tenantId": "unknown"}
    assert not owner.ListShares(image_id=image.id).shares
    admin.RegisterTenant(tenant_id="unknown", region=HOME)
    assert share(owner, image, "unknown", "known").share_count == 2


def test_who_has_a_share_in_a_directory_that_was_closed_later_keeps_it(
    make_service: MakeService, as_: As
):
    opened = make_service()
    image = as_(OWNER, of=opened).active("one")
    share(as_(OWNER, of=opened), image, "old")
    closed = make_service(data=opened.settings.data, tenant_directory="closed")
    owner = as_(OWNER, of=closed)

    assert share(owner, image, "old").share_count == 1
    as_("old", of=closed).AcceptShare(image_id=image.id)
    with declined() as refused:
        share(owner, image, "new")
    assert refused.reason == "TENANT_NOT_FOUND"


# --- Blocks on new shares ---------------------------------------------------------------------


def _block_the_owner(admin: Tenant, *, blocked: bool) -> None:
    admin.RegisterTenant(tenant_id=OWNER, region=HOME)
    admin.UpdateTenant(
        tenant_id=OWNER,
        tenant={"sharing_blocked": blocked},
        update_mask={"paths": ["sharing_blocked"]},
    )


def _block_everybody(admin: Tenant, *, blocked: bool) -> None:
    admin.SetSharingPolicy(policy={"new_shares_blocked": blocked})
    assert admin.GetSharingPolicy().policy.new_shares_blocked is blocked


BLOCKS = [(_block_the_owner, "OWNER"), (_block_everybody, "ALL_TENANTS")]


@pytest.mark.parametrize(("block", "whose"), BLOCKS)
def test_blocked_new_shares_leave_those_that_there_are(
    block: Callable[..., None], whose: str, admin: Tenant, owner: Tenant, as_: As
):
    image = owner.active("one")
    share(owner, image, RECIPIENT)
    block(admin, blocked=True)

    for newcomers in (("new",), ("new", "newer")):
        with declined() as refused:
            share(owner, image, *newcomers)
        assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "SHARING_BLOCKED")
        assert refused.metadata == {"blockedFor": whose}
    assert share(owner, image, RECIPIENT).share_count == 1
    as_(RECIPIENT).AcceptShare(image_id=image.id)
    assert as_(RECIPIENT).download(image.id)
    block(admin, blocked=False)
    assert share(owner, image, "new").share_count == 2


@pytest.mark.parametrize(("block", "whose"), BLOCKS)
def test_a_block_is_told_beforehand_and_of_each_newcomer_where_that_is_allowed(
    block: Callable[..., None], whose: str, admin: Tenant, owner: Tenant
):
    image = owner.active("one")
    share(owner, image, RECIPIENT)
    block(admin, blocked=True)

    preview = share(owner, image, RECIPIENT, "new", validate_only=True)
    partial = share(owner, image, RECIPIENT, "new", allow_partial=True)

    for answer in (preview, partial):
        assert not answer.image_refusals
        assert [[dict(each.metadata) for each in result.refusals] for result in answer.results] == [
            [],
            [{"blockedFor": whose}],
        ]
        assert answer.share_count == 1


def test_a_block_of_one_tenant_is_nobody_elses(admin: Tenant, as_: As):
    _block_the_owner(admin, blocked=True)
    stranger = as_(STRANGER)

    assert share(stranger, stranger.active("one"), OWNER).share_count == 1


# --- Any tenant's images ----------------------------------------------------------------------


def test_an_administrator_takes_the_bytes_of_any_tenants_image_away(
    admin: Tenant, owner: Tenant, as_: As
):
    image = owner.active("one")
    share(owner, image, RECIPIENT)
    recipient = as_(RECIPIENT)
    recipient.AcceptShare(image_id=image.id)
    admin.DeactivateTenantImage(image_id=image.id)

    for tenant in (owner, recipient):
        with declined() as refused:
            tenant.download(image.id)
        assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "IMAGE_NOT_ACTIVE")
        assert tenant.GetImage(image_id=image.id).image.deactivated_by_administrator
    with declined() as refused:
        owner.ReactivateImage(image_id=image.id)
    assert (refused.code, refused.reason) == ("PERMISSION_DENIED", "DEACTIVATED_BY_ADMINISTRATOR")
    with declined() as refused:
        recipient.ReactivateImage(image_id=image.id)
    assert refused.reason == "NOT_IMAGE_OWNER"

    back = admin.ReactivateTenantImage(image_id=image.id).image
    assert (back.state, back.deactivated_by_administrator) == (image_pb2.Image.ACTIVE, False)
    assert recipient.download(image.id)


def test_what_its_owner_deactivates_is_its_own_to_reactivate(owner: Tenant):
    image = owner.active("one")
    deactivated = owner.DeactivateImage(image_id=image.id).image

    assert not deactivated.deactivated_by_administrator
    assert owner.ReactivateImage(image_id=image.id).image.state == image_pb2.Image.ACTIVE


def test_an_administrator_takes_over_what_the_owner_has_deactivated(admin: Tenant, owner: Tenant):
    image = owner.active("one")
    owner.DeactivateImage(image_id=image.id)
    admin.DeactivateTenantImage(image_id=image.id)

    with declined() as refused:
        owner.ReactivateImage(image_id=image.id)
    assert refused.reason == "DEACTIVATED_BY_ADMINISTRATOR"


def test_it_outlives_a_deletion_and_an_unpublication(admin: Tenant, owner: Tenant):
    deleted = owner.active("one")
    admin.DeactivateTenantImage(image_id=deleted.id)
    owner.DeleteImage(image_id=deleted.id)
    owner.UndeleteImage(image_id=deleted.id)
    published = owner.active("two")
    admin.PublishImage(image_id=published.id)
    admin.DeactivateImage(image_id=published.id)
    admin.UnpublishImage(image_id=published.id)

    for image in (deleted, published):
        with declined() as refused:
            owner.ReactivateImage(image_id=image.id)
        assert refused.reason == "DEACTIVATED_BY_ADMINISTRATOR"


def test_a_running_download_of_what_an_administrator_deactivates_ends(
    make_service: MakeService, as_: As
):
    service = make_service(chunk_bytes=KIB)
    owner, admin = as_(OWNER, of=service), as_("operator", "admin", of=service)
    image = owner.active("one", bytes(64 * KIB))
    go_on = hold_after_the_first_chunk(service.deployment)
    download = owner.begin("DownloadImageData", request_class("DownloadImageData")(image_id=image.id))
    next(download)
    next(download)
    admin.DeactivateTenantImage(image_id=image.id)
    go_on.set()
    more, seen = rest_of(download)

    assert more == []
    assert (seen.code, seen.reason) == ("FAILED_PRECONDITION", "IMAGE_NOT_ACTIVE")


def test_an_administrator_of_a_suspended_tenant_governs_nothing(
    admin: Tenant, as_: As, deployment: Deployment
):
    admin.RegisterTenant(tenant_id="rogue", region=HOME)
    admin.SuspendTenant(tenant_id="rogue")
    rogue = as_("rogue", "admin")

    with declined() as refused:
        rogue.ResumeTenant(tenant_id="rogue")
    assert refused.reason == "TENANT_SUSPENDED"
