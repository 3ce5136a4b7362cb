"""May you know of it (law 2.1)."""

from dataclasses import replace
from datetime import timedelta

import pytest

from builders import (
    A_MOMENT,
    OWNER,
    RECIPIENT,
    STRANGER,
    a_caller,
    a_share,
    a_view,
    an_image,
)
from ims.domain.caller import Role
from ims.domain.image import Image, ImageState
from ims.domain.rejection import Category, Reason
from ims.domain.share import ShareStatus
from ims.domain.tenant import TenantId
from ims.domain.view import View
from ims.rules.visibility import (
    SEE_IMAGE,
    Sight,
    declared_it,
    the_image_is_visible_to_the_caller,
)
from rules.facts import a_sight, is_kept, the_violation

COMPUTE = TenantId("compute")


def looking(
    tenant: TenantId, image: Image, *roles: Role, status: ShareStatus | None = None, **more
) -> Sight:
    """A tenant looks for an image of which it has a share with a status, or none."""
    share = None if status is None else a_share(tenant_id=tenant, status=status)
    view = a_view(image=image, viewer=tenant, share=share)
    return a_sight(caller=a_caller(tenant, *roles), view=view, **more)


def sees(sight: Sight) -> bool:
    return is_kept(the_image_is_visible_to_the_caller, sight)


def a_deleted_image(**changes) -> Image:
    """An image whose grace period ends an hour after A_MOMENT."""
    given = {"state": ImageState.DELETED, "purge_time": A_MOMENT + timedelta(hours=1), **changes}
    return an_image(**given)


UNFINISHED = {ImageState.QUEUED, ImageState.SAVING}
LIVE = [state for state in ImageState if state is not ImageState.DELETED]


class TestTheImageIsVisibleToTheCaller:
    def test_an_id_that_never_existed_is_not_found(self):
        violation = the_violation(the_image_is_visible_to_the_caller, a_sight(view=None))

        assert violation.reason is Reason.IMAGE_NOT_FOUND
        assert violation.metadata == {}

    def test_a_hidden_image_is_answered_like_one_that_never_existed(self):
        hidden = the_violation(the_image_is_visible_to_the_caller, looking(STRANGER, an_image()))

        assert hidden == the_violation(the_image_is_visible_to_the_caller, a_sight(view=None))

    def test_it_is_the_only_rule_of_seeing_and_says_missing(self):
        assert (the_image_is_visible_to_the_caller,) == SEE_IMAGE
        assert the_image_is_visible_to_the_caller.category is Category.MISSING

    @pytest.mark.parametrize("state", LIVE)
    def test_the_owner_sees_it_in_every_state(self, state: ImageState):
        assert sees(looking(OWNER, an_image(state=state)))

    @pytest.mark.parametrize("state", LIVE)
    @pytest.mark.parametrize("status", ShareStatus)
    def test_a_recipient_sees_it_whatever_it_has_decided(self, state: ImageState, status: ShareStatus):
        assert sees(looking(RECIPIENT, an_image(state=state), status=status))

    @pytest.mark.parametrize("state", LIVE)
    def test_everybody_sees_a_public_one(self, state: ImageState):
        assert sees(looking(STRANGER, an_image(state=state, public=True)))

    @pytest.mark.parametrize("state", ImageState)
    def test_a_stranger_sees_no_private_one(self, state: ImageState):
        assert not sees(looking(STRANGER, an_image(state=state)))

    def test_no_role_alone_lets_a_stranger_see(self):
        assert not sees(looking(STRANGER, an_image(), *Role))

    @pytest.mark.parametrize("state", LIVE)
    def test_the_service_that_declared_it_sees_it_until_its_disks_are_complete(self, state: ImageState):
        sight = looking(COMPUTE, an_image(state=state, declared_by=COMPUTE), Role.SERVICE)

        assert sees(sight) is (state in UNFINISHED)

    def test_another_service_does_not(self):
        image = an_image(state=ImageState.QUEUED, declared_by=COMPUTE)

        assert not sees(looking(STRANGER, image, Role.SERVICE))

    def test_the_tenant_of_that_service_does_not_without_the_role(self):
        image = an_image(state=ImageState.QUEUED, declared_by=COMPUTE)

        assert not sees(looking(COMPUTE, image))

    def test_an_administrator_who_governs_sees_it(self):
        assert sees(looking(STRANGER, an_image(), Role.ADMIN, governing=True))
        assert sees(looking(STRANGER, a_deleted_image(), Role.ADMIN, governing=True))

    def test_an_administrator_who_does_not_govern_sees_no_more_than_others(self):
        assert not sees(looking(STRANGER, an_image(), Role.ADMIN))

    def test_who_is_no_administrator_sees_no_more_by_governing(self):
        assert not sees(looking(STRANGER, an_image(), Role.SERVICE, governing=True))

    def test_the_owner_sees_a_deleted_one(self):
        assert sees(looking(OWNER, a_deleted_image()))

    @pytest.mark.parametrize("status", ShareStatus)
    def test_a_recipient_sees_no_deleted_one(self, status: ShareStatus):
        assert not sees(looking(RECIPIENT, a_deleted_image(), status=status))

    def test_the_service_that_declared_it_sees_no_deleted_one(self):
        image = a_deleted_image(declared_by=COMPUTE)

        assert not sees(looking(COMPUTE, image, Role.SERVICE))

    @pytest.mark.parametrize(
        ("before_the_end", "seen"),
        [(timedelta(microseconds=1), True), (timedelta(0), False), (timedelta(days=-1), False)],
    )
    def test_from_the_end_of_the_grace_period_on_it_is_gone_for_its_owner_too(
        self, before_the_end: timedelta, seen: bool
    ):
        image = a_deleted_image(purge_time=A_MOMENT)

        assert sees(looking(OWNER, image, now=A_MOMENT - before_the_end)) is seen

    def test_from_then_on_it_is_gone_for_administrators_too(self):
        image = a_deleted_image(purge_time=A_MOMENT)

        assert not sees(looking(STRANGER, image, Role.ADMIN, governing=True))


class TestWhatASuspendedTenantOwns:
    def looking(self, tenant: TenantId, *roles: Role, image: Image | None = None, **more) -> Sight:
        sight = looking(tenant, image or an_image(), *roles, **more)
        assert isinstance(sight.view, View)
        return replace(sight, view=replace(sight.view, owner_suspended=True))

    @pytest.mark.parametrize("status", ShareStatus)
    def test_no_recipient_sees_it(self, status: ShareStatus):
        assert not sees(self.looking(RECIPIENT, status=status))

    def test_the_service_that_declared_it_does_not(self):
        image = an_image(state=ImageState.QUEUED, declared_by=COMPUTE)

        assert sees(looking(COMPUTE, image, Role.SERVICE))
        assert not sees(self.looking(COMPUTE, Role.SERVICE, image=image))

    def test_everybody_sees_a_public_one(self):
        assert sees(self.looking(STRANGER, image=an_image(public=True)))

    def test_an_administrator_who_governs_does(self):
        assert sees(self.looking(STRANGER, Role.ADMIN, governing=True))
        assert not sees(self.looking(STRANGER, Role.ADMIN))


class TestDeclaredIt:
    @pytest.mark.parametrize(
        ("tenant", "roles", "declared"),
        [
            (COMPUTE, [Role.SERVICE], True),
            (COMPUTE, [], False),
            (COMPUTE, [Role.ADMIN], False),
            (STRANGER, [Role.SERVICE], False),
        ],
    )
    def test_only_the_declaring_tenant_with_the_role(
        self, tenant: TenantId, roles: list[Role], declared: bool
    ):
        image = an_image(state=ImageState.QUEUED, declared_by=COMPUTE)

        assert declared_it(a_caller(tenant, *roles), image) is declared

    @pytest.mark.parametrize("state", ImageState)
    def test_only_as_long_as_it_is_still_to_fill_it(self, state: ImageState):
        image = an_image(state=state, declared_by=COMPUTE)

        assert declared_it(a_caller(COMPUTE, Role.SERVICE), image) is (state in UNFINISHED)

    def test_nobody_declared_a_tenants_own_file(self):
        image = an_image(state=ImageState.QUEUED, declared_by=None)

        assert not declared_it(a_caller(OWNER, Role.SERVICE), image)
