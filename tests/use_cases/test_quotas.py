"""When a share of a quota is taken, and when it is given back (law 5.2)."""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import event

from builders import OWNER, RECIPIENT, STRANGER, a_caller
from calling import request_class
from conftest import As, Clock, MakeService
from ims.domain.caller import Role
from ims.domain.image import (
    Disk,
    DiskFormat,
    DiskRole,
    ImageId,
    ImageType,
    Source,
    SourceKind,
)
from ims.domain.quotas import Usage
from ims.domain.rejection import Rejection
from ims.domain.tenant import TenantId
from ims.rules.image_data import Announcement
from ims.use_cases import image_data
from ims.use_cases.deployment import Deployment
from ims.use_cases.image_data import give_up_dead_uploads, upload_image_data
from ims.use_cases.images import (
    create_image,
    deactivate_image,
    delete_image,
    publish_image,
    purge_images,
    undelete_image,
    unpublish_image,
)
from ims.use_cases.sharing import (
    Recipient,
    accept_share,
    leave_share,
    reject_share,
    share_image,
    unshare_image,
)
from use_cases.quota_stories import (
    CONTENT,
    SIZE,
    a_draft,
    an_active_image,
    create,
    held_upload,
    limit,
    recount,
    upload,
    used,
)

ONE_IMAGE = Usage(private_images=1)
ONE_STORED = Usage(private_images=1, stored_bytes=SIZE)
ADMIN = a_caller("admin", Role.ADMIN)


def refused(call, *arguments, **details) -> str:
    """Return why a call is refused."""
    with pytest.raises(Rejection) as told:
        call(*arguments, **details)
    return told.value.reason


# --- Creation and upload ---


def test_a_creation_takes_an_image_and_its_upload_the_bytes(deployment: Deployment):
    image_id = create(deployment)
    assert used(deployment) == ONE_IMAGE

    with held_upload(deployment, image_id):
        assert used(deployment) == Usage(private_images=1, stored_bytes=SIZE, creations=1)

    assert used(deployment) == ONE_STORED


def test_a_validated_creation_is_judged_by_the_quota_and_takes_nothing(deployment: Deployment):
    """Law 3.15."""
    create(deployment, validate_only=True)
    assert used(deployment) == Usage()
    limit(deployment, private_images=1)
    create(deployment)

    reason = refused(create, deployment, validate_only=True)

    assert reason == "IMAGE_QUOTA_EXCEEDED"
    assert used(deployment) == ONE_IMAGE


def test_a_refused_creation_takes_nothing(deployment: Deployment):
    limit(deployment, private_images=0)

    assert refused(create, deployment) == "IMAGE_QUOTA_EXCEEDED"
    assert used(deployment) == Usage()


def test_an_upload_that_fails_gives_its_share_back(deployment: Deployment):
    image_id = create(deployment)

    assert refused(upload, deployment, image_id, iter([CONTENT[1:]])) == "SIZE_MISMATCH"
    assert used(deployment) == ONE_IMAGE


def test_an_upload_that_its_client_aborts_gives_its_share_back(deployment: Deployment):
    image_id = create(deployment)

    def chunks():
        yield CONTENT[:10]
        assert used(deployment).stored_bytes == SIZE
        raise GeneratorExit

    with pytest.raises(GeneratorExit):
        upload(deployment, image_id, chunks())

    assert used(deployment) == ONE_IMAGE


def test_an_upload_whose_process_died_gives_its_share_back_when_it_is_given_up(
    deployment: Deployment, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    image_id = create(deployment)

    def crash(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(image_data, "name_bytes", crash)
    monkeypatch.setattr(image_data, "give_up_now_or_later", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        upload(deployment, image_id)
    assert used(deployment) == Usage(private_images=1, stored_bytes=SIZE, creations=1)
    clock.advance(seconds=20)

    assert give_up_dead_uploads(deployment) == 1

    assert used(deployment) == ONE_IMAGE


def test_a_superseded_upload_gives_back_nothing_of_its_successor(deployment: Deployment, clock: Clock):
    image_id = create(deployment)

    def chunks():
        yield CONTENT[:10]
        clock.advance(seconds=20)
        assert give_up_dead_uploads(deployment) == 1
        upload(deployment, image_id)
        yield CONTENT[10:]

    refused(upload, deployment, image_id, chunks())

    assert used(deployment) == ONE_STORED


def test_an_image_of_several_disks_is_one_creation(deployment: Deployment):
    disks = tuple(
        Disk(index=i, role=DiskRole.DATA if i else DiskRole.SYSTEM, format=DiskFormat.RAW)
        for i in range(2)
    )
    backup = Source(kind=SourceKind.CBR_BACKUP, id="backup")
    draft = a_draft(type=ImageType.FULL_ECS, disks=disks, source=backup)
    cbr = a_caller("cbr", Role.SERVICE)
    image_id = create_image(deployment, caller=cbr, draft=draft).image.id
    limit(deployment, creations=1)

    def second_while_the_first_is_under_way():
        yield CONTENT
        fill(1, iter([CONTENT]))
        assert used(deployment) == Usage(private_images=1, stored_bytes=2 * SIZE, creations=1)

    def fill(index, chunks):
        announced = Announcement(size_bytes=SIZE)
        upload_image_data(
            deployment,
            caller=cbr,
            image_id=image_id,
            disk_index=index,
            announced=announced,
            chunks=chunks,
        )

    fill(0, second_while_the_first_is_under_way())

    assert used(deployment) == Usage(private_images=1, stored_bytes=2 * SIZE)
    assert used(deployment, TenantId("cbr")) == Usage()


def test_what_a_service_declares_counts_for_the_owner_it_names(deployment: Deployment):
    limit(deployment, private_images=0)
    draft = a_draft(source=Source(kind=SourceKind.VOLUME, id="volume"))

    reason = refused(create_image, deployment, caller=a_caller("nova", Role.SERVICE), draft=draft)

    assert reason == "IMAGE_QUOTA_EXCEEDED"


def test_an_upload_beyond_the_bytes_is_refused_before_the_first_and_takes_nothing(
    deployment: Deployment,
):
    limit(deployment, stored_bytes=SIZE)
    image_id = create(deployment)
    another = create(deployment)
    upload(deployment, image_id)

    def chunks():
        raise AssertionError("nobody asks for them")
        yield b""

    assert refused(upload, deployment, another, chunks()) == "STORAGE_QUOTA_EXCEEDED"
    assert used(deployment) == Usage(private_images=2, stored_bytes=SIZE)


# --- What comes after ---


def test_a_deleted_image_gives_its_place_back_at_once_and_its_bytes_when_it_is_purged(
    deployment: Deployment, clock: Clock
):
    image_id = an_active_image(deployment)

    delete_image(deployment, caller=a_caller(), image_id=image_id)
    assert used(deployment) == Usage(stored_bytes=SIZE)
    clock.advance(days=7)
    purge_images(deployment)

    assert used(deployment) == Usage()


def test_an_undeleted_image_takes_its_place_again_and_may_find_none(deployment: Deployment):
    limit(deployment, private_images=1)
    image_id = an_active_image(deployment)
    delete_image(deployment, caller=a_caller(), image_id=image_id)
    newer = create(deployment)
    undelete = {"caller": a_caller(), "image_id": image_id}
    assert refused(undelete_image, deployment, **undelete) == "IMAGE_QUOTA_EXCEEDED"
    delete_image(deployment, caller=a_caller(), image_id=newer)

    undelete_image(deployment, **undelete)

    assert used(deployment) == ONE_STORED


def test_a_public_image_takes_no_place_but_its_bytes(deployment: Deployment):
    limit(deployment, private_images=1)
    image_id = an_active_image(deployment)

    publish_image(deployment, caller=ADMIN, image_id=image_id)
    publish_image(deployment, caller=ADMIN, image_id=image_id)

    assert used(deployment) == Usage(stored_bytes=SIZE)
    assert used(deployment, TenantId("admin")) == Usage()


def test_no_quota_keeps_an_administrator_from_giving_an_image_back(deployment: Deployment):
    limit(deployment, private_images=1)
    image_id = an_active_image(deployment)
    publish_image(deployment, caller=ADMIN, image_id=image_id)
    create(deployment)

    unpublish_image(deployment, caller=ADMIN, image_id=image_id)

    assert used(deployment) == Usage(private_images=2, stored_bytes=SIZE)
    assert refused(create, deployment) == "IMAGE_QUOTA_EXCEEDED"


def test_whoever_is_above_a_limit_goes_on_with_what_it_has(deployment: Deployment):
    image_id, saving = an_active_image(deployment), create(deployment)
    limit(deployment, private_images=0, stored_bytes=2 * SIZE)

    upload(deployment, saving)
    deactivate_image(deployment, caller=a_caller(), image_id=image_id)
    delete_image(deployment, caller=a_caller(), image_id=image_id)

    assert used(deployment) == Usage(private_images=1, stored_bytes=2 * SIZE)


def test_what_is_shared_costs_its_recipient_nothing(deployment: Deployment):
    """Law 4.6."""
    limit(deployment, RECIPIENT, private_images=0, stored_bytes=0, creations=0)
    image_id = an_active_image(deployment)

    share_image(
        deployment,
        caller=a_caller(),
        image_id=image_id,
        recipients=(Recipient(tenant_id=RECIPIENT),),
    )
    for decide in (accept_share, reject_share, accept_share, leave_share):
        decide(deployment, caller=a_caller(RECIPIENT), image_id=image_id)
        assert used(deployment, RECIPIENT) == Usage()
        assert used(deployment) == ONE_STORED


def test_stopping_to_share_costs_nobody_anything(deployment: Deployment):
    image_id = an_active_image(deployment)
    recipients = (Recipient(tenant_id=RECIPIENT), Recipient(tenant_id=STRANGER))
    share_image(deployment, caller=a_caller(), image_id=image_id, recipients=recipients)

    unshare_image(deployment, caller=a_caller(), image_id=image_id, tenant_ids=None)

    assert used(deployment) == ONE_STORED
    assert used(deployment, RECIPIENT) == used(deployment, STRANGER) == Usage()


def test_a_change_that_takes_nothing_asks_nothing_of_the_tenants(deployment: Deployment):
    image_id = an_active_image(deployment)
    statements: list[str] = []
    with deployment.database.transaction() as tx:
        image = tx.images.lock(image_id, OWNER, now=deployment.now).image

        @event.listens_for(tx.images._connection, "before_cursor_execute")
        def note(_connection, _cursor, statement, *_):
            statements.append(statement)

        tx.images.save(replace(image, name="renamed"), now=deployment.now())

    assert statements
    assert not [statement for statement in statements if "tenants" in statement]


def test_an_image_is_saved_only_by_whoever_holds_its_lock(deployment: Deployment):
    """Or what its owner uses could be reckoned from what it was before somebody's change."""
    image_id = an_active_image(deployment)
    with deployment.database.transaction() as tx:
        image = tx.images.lock(image_id, OWNER, now=deployment.now).image

    with deployment.database.transaction() as tx, pytest.raises(KeyError):
        tx.images.save(image, now=deployment.now())
    with deployment.database.transaction() as tx, pytest.raises(KeyError):
        tx.images.purge(image_id)


def test_what_a_version_without_quotas_left_uncounted_stands_in_nobodys_way(
    deployment: Deployment,
):
    image_id = an_active_image(deployment)
    with deployment.database.transaction() as tx:
        tx.tenants.lock(OWNER)
        tx.tenants.recounted(OWNER, Usage())

    delete_image(deployment, caller=a_caller(), image_id=image_id)

    assert used(deployment) == Usage()


# --- At random ---

THINGS = st.integers(0, 5)


class Walk(RuleBasedStateMachine):
    """A tenant that does whatever comes to its mind, within narrow limits."""

    deployment: Deployment
    clock: Clock
    walks = 0

    def __init__(self) -> None:
        super().__init__()
        Walk.walks += 1
        self.owner = TenantId(f"walker-{Walk.walks}")
        self.images: list[ImageId] = []
        limit(self.deployment, self.owner, private_images=3, stored_bytes=4 * SIZE, creations=1)

    @rule()
    def create(self):
        self.attempt(lambda: self.images.append(create(self.deployment, self.owner)))

    @rule(number=THINGS, size_bytes=st.sampled_from([SIZE, SIZE, SIZE + 1, 3 * SIZE]))
    def upload(self, number, size_bytes):
        self.about(
            number,
            lambda image_id: upload(self.deployment, image_id, owner=self.owner, size_bytes=size_bytes),
        )

    @rule(number=THINGS, another=THINGS)
    def upload_while_another_runs(self, number, another):
        def chunks():
            self.upload(another, SIZE)
            self.counters_equal_a_recount()
            yield CONTENT

        self.about(
            number, lambda image_id: upload(self.deployment, image_id, chunks(), owner=self.owner)
        )

    @rule(number=THINGS)
    def die_while_uploading(self, number):
        def chunks():
            self.clock.advance(seconds=20)
            give_up_dead_uploads(self.deployment)
            self.counters_equal_a_recount()
            yield CONTENT

        self.about(
            number, lambda image_id: upload(self.deployment, image_id, chunks(), owner=self.owner)
        )

    @rule(number=THINGS, call=st.sampled_from([delete_image, undelete_image, deactivate_image]))
    def change(self, number, call):
        caller = a_caller(self.owner)
        self.about(number, lambda image_id: call(self.deployment, caller=caller, image_id=image_id))

    @rule(number=THINGS, call=st.sampled_from([publish_image, unpublish_image]))
    def govern(self, number, call):
        self.about(number, lambda image_id: call(self.deployment, caller=ADMIN, image_id=image_id))

    @rule(days=st.sampled_from([1, 7]))
    def wait(self, days):
        self.clock.advance(days=days)
        purge_images(self.deployment)

    @invariant()
    def counters_equal_a_recount(self):
        assert used(self.deployment, self.owner) == recount(self.deployment, self.owner)

    def about(self, number, call):
        if number < len(self.images):
            self.attempt(lambda: call(self.images[number]))

    def attempt(self, call):
        try:
            call()
        except Rejection:
            self.counters_equal_a_recount()


def test_after_anything_at_all_the_counters_equal_a_recount(deployment: Deployment, clock: Clock):
    class Here(Walk):
        pass

    Here.deployment, Here.clock = deployment, clock
    run_state_machine_as_test(
        Here, settings=settings(max_examples=25, stateful_step_count=30, deadline=None)
    )


# --- On the wire ---


class TestAdministration:
    def test_a_tenant_sees_what_it_has_and_how_much_it_can_have(self, deployment, as_: As):
        an_active_image(deployment)

        quotas = as_(OWNER).GetQuotas().quotas

        assert (quotas.private_images.used, quotas.private_images.limit) == (1, 50)
        assert (quotas.stored_bytes.used, quotas.stored_bytes.limit) == (SIZE, 50 * 128 * 1024**3)
        assert (quotas.creations.used, quotas.creations.limit) == (0, 40)
        assert not quotas.private_images.overridden

    def test_defaults_are_settings(self, make_service: MakeService, as_: As):
        service = make_service(
            private_images_per_tenant=1, stored_bytes_per_tenant="10TiB", creations_per_tenant=2
        )

        quotas = as_("anybody", of=service).GetQuotas().quotas

        limits = (quotas.private_images.limit, quotas.stored_bytes.limit, quotas.creations.limit)
        assert limits == (1, 10 * 1024**4, 2)

    def test_an_administrator_sets_limits_before_a_tenant_has_ever_called(self, as_: As):
        admin = as_("operator", "admin")

        admin.SetTenantQuotas(
            tenant_id="newcomer",
            limits={"private_images": 1},
            update_mask={"paths": ["private_images"]},
        )

        newcomer = as_("newcomer")
        newcomer.create("one")
        refusal = newcomer.answer("CreateImage", creation("two"))
        assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "IMAGE_QUOTA_EXCEEDED")
        assert refusal.metadata == {"limit": "1", "used": "1", "asked": "1"}
        quotas = newcomer.GetQuotas().quotas
        assert quotas == admin.GetTenantQuotas(tenant_id="newcomer").quotas
        assert quotas.private_images.overridden
        assert not quotas.creations.overridden

    def test_what_the_mask_does_not_name_stays_and_what_is_left_out_is_the_default_again(self, as_: As):
        admin = as_("operator", "admin")

        def set_limits(paths, **limits):
            answer = admin.SetTenantQuotas(tenant_id="acme", limits=limits, update_mask={"paths": paths})
            return answer.quotas.private_images.limit, answer.quotas.creations.limit

        assert set_limits(["private_images", "creations"], private_images=7, creations=0) == (7, 0)
        assert set_limits(["creations"], creations=9, private_images=1) == (7, 9)
        assert set_limits(["private_images"]) == (50, 9)

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"tenant_id": ""}, "tenant_id"),
            ({"tenant_id": "a b"}, "tenant_id"),
            ({"update_mask": {}}, "update_mask"),
            ({"update_mask": {"paths": ["images"]}}, "update_mask"),
            ({"limits": {"creations": -1}}, "limits.creations"),
        ],
    )
    def test_what_cannot_be_read_is_refused(self, fields, field, as_: As):
        admin = as_("operator", "admin")
        request = {
            "tenant_id": "acme",
            "limits": {"creations": 1},
            "update_mask": {"paths": ["creations"]},
        } | fields

        refusal = admin.answer("SetTenantQuotas", request_class("SetTenantQuotas")(**request))

        assert (refusal.reason, refusal.metadata["field"]) == ("INVALID_FIELD", field)

    @pytest.mark.parametrize("roles", [(), ("service",)])
    def test_nobody_but_an_administrator_sees_or_sets_the_quotas_of_others(self, roles, as_: As):
        nosy = as_("nosy", *roles)

        for rpc in ("GetTenantQuotas", "SetTenantQuotas"):
            refusal = nosy.answer(rpc, request_class(rpc)(tenant_id="acme"))
            assert (refusal.code, refusal.reason) == ("PERMISSION_DENIED", "ROLE_REQUIRED")


def creation(name: str) -> object:
    return request_class("CreateImage")(name=name, type="SYSTEM_DISK", disks=[{"format": "RAW"}])
