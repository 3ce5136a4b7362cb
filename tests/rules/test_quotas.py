"""The law of quotas (law 5.2), rule by rule."""

import pytest

from builders import STRANGER, a_caller, a_disk, an_image
from ims.domain.caller import Role
from ims.domain.image import GIB, DiskState, ImageState, ImageType
from ims.domain.quotas import Account, OwnLimits, Quotas, Usage, usage_of
from ims.domain.rejection import Rejection
from ims.rules.creation import CREATE_IMAGE
from ims.rules.engine import enforce
from ims.rules.image_data import START_UPLOAD, Announcement
from ims.rules.quotas import (
    creations_at_once_stay_within_the_quota,
    only_administrators_govern_quotas,
    private_images_stay_within_the_quota,
    stored_bytes_stay_within_the_quota,
)
from rules.facts import (
    a_creation,
    a_draft,
    a_draft_of,
    a_look_at_quotas,
    an_allowance,
    an_undeletion,
    an_upload,
    is_kept,
    the_violation,
)

ALL_BYTES = 50 * 128 * GIB
UNDER_WAY = a_draft_of(ImageType.FULL_ECS, disks=2, state=ImageState.SAVING)


class TestPrivateImagesStayWithinTheQuota:
    @pytest.mark.parametrize("make", [a_creation, an_undeletion])
    def test_the_50th_is_let_in_and_the_51st_is_refused(self, make):
        rule = private_images_stay_within_the_quota

        assert is_kept(rule, make(allowance=an_allowance(private_images=49)))
        assert the_violation(rule, make(allowance=an_allowance(private_images=50))).metadata == {
            "limit": 50,
            "used": 50,
            "asked": 1,
        }

    def test_whoever_is_above_the_limit_gets_no_more(self):
        creation = a_creation(allowance=an_allowance(private_images=60))

        assert not is_kept(private_images_stay_within_the_quota, creation)

    def test_a_limit_of_nothing_lets_nothing_in(self):
        nothing = an_allowance(limits=Quotas(private_images=0))

        assert not is_kept(private_images_stay_within_the_quota, a_creation(allowance=nothing))

    def test_what_is_wrong_with_the_image_is_told_first(self):
        with pytest.raises(Rejection) as told:
            enforce(
                CREATE_IMAGE,
                a_creation(draft=a_draft(name="__a"), allowance=an_allowance(private_images=50)),
            )

        assert told.value.reason == "RESERVED_NAME"


class TestStoredBytesStayWithinTheQuota:
    def test_the_last_byte_is_let_in_and_one_more_is_refused(self):
        rule = stored_bytes_stay_within_the_quota

        assert is_kept(rule, an_upload(allowance=an_allowance(stored_bytes=ALL_BYTES - 1000)))
        one_less = an_upload(allowance=an_allowance(stored_bytes=ALL_BYTES - 999))
        assert the_violation(rule, one_less).metadata == {
            "limit": ALL_BYTES,
            "used": ALL_BYTES - 999,
            "asked": 1000,
        }

    def test_it_is_told_together_with_a_file_that_is_too_large(self):
        with pytest.raises(Rejection) as told:
            enforce(
                START_UPLOAD,
                an_upload(
                    announced=Announcement(size_bytes=128 * GIB + 1),
                    allowance=an_allowance(stored_bytes=ALL_BYTES, creations=40),
                ),
            )

        assert [violation.reason for violation in told.value.violations] == [
            "IMAGE_FILE_TOO_LARGE",
            "STORAGE_QUOTA_EXCEEDED",
            "TOO_MANY_CREATIONS",
        ]


class TestCreationsAtOnceStayWithinTheQuota:
    def test_the_40th_is_let_in_and_the_41st_is_refused(self):
        rule = creations_at_once_stay_within_the_quota

        assert is_kept(rule, an_upload(allowance=an_allowance(creations=39)))
        assert the_violation(rule, an_upload(allowance=an_allowance(creations=40))).metadata == {
            "limit": 40,
            "used": 40,
            "asked": 1,
        }

    def test_another_disk_of_an_image_that_is_being_filled_is_no_creation_more(self):
        another_disk = an_upload(image=UNDER_WAY, allowance=an_allowance(creations=40))

        assert is_kept(creations_at_once_stay_within_the_quota, another_disk)


class TestOnlyAdministratorsGovernQuotas:
    def test_an_administrator_does(self):
        assert is_kept(only_administrators_govern_quotas, a_look_at_quotas())

    @pytest.mark.parametrize("roles", [(), (Role.SERVICE,)])
    def test_nobody_else_does(self, roles):
        look = a_look_at_quotas(caller=a_caller(STRANGER, *roles))

        assert the_violation(only_administrators_govern_quotas, look).metadata == {
            "requiredRoles": "admin"
        }


class TestWhatAnImageTakes:
    @pytest.mark.parametrize(
        ("image", "taken"),
        [
            (an_image(), Usage(private_images=1, stored_bytes=1000)),
            (an_image(public=True), Usage(stored_bytes=1000)),
            (an_image(state=ImageState.DEACTIVATED), Usage(private_images=1, stored_bytes=1000)),
            (an_image(state=ImageState.DELETED), Usage(stored_bytes=1000)),
            (
                an_image(
                    state=ImageState.SAVING,
                    disks=(
                        a_disk(),
                        a_disk(index=1, state=DiskState.SAVING, size_bytes=0, announced_bytes=7),
                    ),
                ),
                Usage(private_images=1, stored_bytes=1007, creations=1),
            ),
        ],
        ids=("active", "public", "deactivated", "deleted", "saving"),
    )
    def test_it_follows_from_its_state_and_its_disks(self, image, taken):
        assert usage_of(image) == taken


class TestLimitsOfATenantsOwn:
    def test_they_stand_over_the_defaults_and_nothing_else_does(self):
        account = Account(own_limits=OwnLimits(private_images=0, creations=41))

        assert account.under(Quotas()).limits == Quotas(private_images=0, creations=41)
