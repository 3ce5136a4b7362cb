"""The law of exporting (law 6.4), rule by rule."""

from dataclasses import replace

import pytest

from builders import OWNER, RECIPIENT, a_caller, a_disk, a_full_ecs_image, an_accepted_share, an_image
from ims.domain.caller import Role
from ims.domain.image import ImageState, ImageType, KeyId
from ims.domain.rejection import Reason, Rejection
from ims.rules import exporting
from ims.rules.engine import enforce, judge
from rules.facts import A_PROBLEM, an_exporting, is_kept, the_violation


def test_an_image_of_ones_own_is_exported():
    assert judge(exporting.EXPORT_IMAGE, an_exporting()) == ()
    assert judge(exporting.FINISH_EXPORT, an_exporting()) == ()


class TestOnlyTheOwnerExports:
    rule = exporting.only_the_owner_exports

    def test_a_recipient_does_not(self):
        attempt = an_exporting(caller=a_caller(RECIPIENT), share=an_accepted_share())

        assert the_violation(self.rule, attempt).reason is Reason.NOT_IMAGE_OWNER

    def test_nor_an_administrator_of_what_is_anothers(self):
        assert the_violation(self.rule, an_exporting(caller=a_caller(RECIPIENT, Role.ADMIN)))

    def test_every_user_of_the_owner_does(self):
        assert is_kept(self.rule, an_exporting(caller=replace(a_caller(OWNER), user_id="another")))


class TestPublicImagesAreNotExported:
    rule = exporting.public_images_are_not_exported

    def test_a_public_and_a_private_one(self):
        assert the_violation(self.rule, an_exporting(image=an_image(public=True)))
        assert is_kept(self.rule, an_exporting())


class TestFullEcsImagesAreNotExported:
    rule = exporting.full_ecs_images_are_not_exported

    def test_one_is_not(self):
        assert the_violation(self.rule, an_exporting(image=a_full_ecs_image()))

    @pytest.mark.parametrize("other", [ImageType.SYSTEM_DISK, ImageType.DATA_DISK])
    def test_others_are(self, other: ImageType):
        assert is_kept(self.rule, an_exporting(image=an_image(type=other)))


class TestIsoImagesAreNotExported:
    rule = exporting.iso_images_are_not_exported

    def test_one_is_not_and_others_are(self):
        assert the_violation(self.rule, an_exporting(image=an_image(type=ImageType.ISO)))
        assert is_kept(self.rule, an_exporting())


class TestWhatDerivesFromAMarkedImageIsNotExported:
    rule = exporting.what_derives_from_a_marked_image_is_not_exported

    def test_the_mark_and_none(self):
        assert the_violation(self.rule, an_exporting(image=an_image(non_exportable=True)))
        assert is_kept(self.rule, an_exporting())


class TestExportsGoToBucketsThatAreOpenToTheTenant:
    rule = exporting.exports_go_to_buckets_that_are_open_to_the_tenant

    def test_open_and_not(self):
        violation = the_violation(self.rule, an_exporting(bucket_open=False))

        assert violation.metadata == {"bucket": "exports"}
        assert is_kept(self.rule, an_exporting())


class TestTheTargetDoesNotExist:
    rule = exporting.the_target_does_not_exist

    def test_taken_and_free(self):
        violation = the_violation(self.rule, an_exporting(target_taken=True))

        assert violation.metadata == {"bucket": "exports", "objectKey": "debian.qcow2"}
        assert is_kept(self.rule, an_exporting())

    def test_of_a_bucket_that_is_not_open_nothing_is_told(self):
        assert is_kept(self.rule, an_exporting(bucket_open=False, target_taken=True))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image": an_image(state=ImageState.DEACTIVATED)}, Reason.IMAGE_NOT_ACTIVE),
        ({"image": an_image(encryption_key_id=KeyId("key-1"))}, Reason.KEY_UNAVAILABLE),
        ({"image": an_image(disks=(a_disk(damaged=True),))}, Reason.DISK_DATA_DAMAGED),
        ({"problems": (A_PROBLEM,)}, Reason.INVALID_FIELD),
    ],
)
def test_what_holds_of_others_holds_of_exports(changes, reason):
    with pytest.raises(Rejection) as refused:
        enforce(exporting.EXPORT_IMAGE, an_exporting(**changes))

    assert refused.value.reason is reason


def test_what_can_change_is_judged_at_the_end_again():
    late = (
        an_exporting(image=an_image(public=True)),
        an_exporting(image=an_image(non_exportable=True)),
        an_exporting(image=an_image(state=ImageState.DEACTIVATED)),
        an_exporting(bucket_open=False),
        an_exporting(target_taken=True),
        an_exporting(image=an_image(encryption_key_id=KeyId("key-1"))),
    )

    assert all(judge(exporting.FINISH_EXPORT, each) for each in late)
