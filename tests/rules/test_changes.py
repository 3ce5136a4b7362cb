"""The law of changes (law 2.2 and 5.6 to 5.8), rule by rule."""

from dataclasses import replace

import pytest

from builders import (
    OWNER,
    RECIPIENT,
    STRANGER,
    a_caller,
    an_image,
)
from ims.domain.caller import Role
from ims.domain.image import (
    Image,
    ImageState,
    ImageType,
    OperatingSystem,
)
from ims.domain.image_changes import ImageChanges
from ims.domain.rejection import Category, Reason, Rejection
from ims.domain.tenant import TenantId
from ims.rules.changes import (
    DATA_DISK_FIELDS,
    DEACTIVATE_IMAGE,
    DELETE_IMAGE,
    REACTIVATE_IMAGE,
    UNDELETE_IMAGE,
    UPDATABLE_FIELDS,
    UPDATE_IMAGE,
    a_data_disk_image_changes_name_description_and_tags_only,
    only_administrators_deactivate_public_images,
    only_administrators_deactivate_what_others_own,
    only_the_owner_changes_an_image,
    only_the_owner_deactivates_a_private_image,
    protected_images_are_not_deleted,
    public_images_are_not_deleted,
    the_image_is_as_the_caller_read_it,
    what_an_administrator_deactivated_only_one_reactivates,
    what_an_image_is_can_never_be_written,
)
from ims.rules.engine import enforce
from rules.facts import (
    a_change,
    a_deletion,
    a_recipients_attempt,
    an_attempt,
    an_attempt_on,
    an_update,
    is_kept,
    the_violation,
)


def other_types(*types: ImageType) -> list[ImageType]:
    return [each for each in ImageType if each not in types]


class TestOnlyTheOwnerChangesAnImage:
    def test_the_owner_does(self):
        assert is_kept(only_the_owner_changes_an_image, an_attempt())

    @pytest.mark.parametrize("tenant", [RECIPIENT, STRANGER])
    def test_nobody_else_does_whatever_its_roles(self, tenant: TenantId):
        violation = the_violation(
            only_the_owner_changes_an_image, an_attempt(caller=a_caller(tenant, *Role))
        )

        assert violation.reason is Reason.NOT_IMAGE_OWNER
        assert only_the_owner_changes_an_image.category is Category.FORBIDDEN

    def test_a_recipient_who_has_accepted_does_not(self):
        assert the_violation(only_the_owner_changes_an_image, a_recipients_attempt())

    @pytest.mark.parametrize("rules", [UPDATE_IMAGE, DELETE_IMAGE, UNDELETE_IMAGE])
    def test_it_goes_for_every_change(self, rules: tuple):
        assert only_the_owner_changes_an_image in rules


class TestTheImageIsAsTheCallerReadIt:
    def test_the_caller_does_not_mind(self):
        assert is_kept(the_image_is_as_the_caller_read_it, a_change(expected_etag=""))

    def test_the_caller_has_the_present_etag(self):
        image = an_image(version=4)

        assert is_kept(
            the_image_is_as_the_caller_read_it, a_change(image=image, expected_etag=image.etag)
        )

    @pytest.mark.parametrize("etag", ['"3"', '"5"', "4", "*"])
    def test_the_caller_has_another(self, etag: str):
        attempt = a_change(image=an_image(version=4), expected_etag=etag)

        violation = the_violation(the_image_is_as_the_caller_read_it, attempt)
        assert violation.reason is Reason.ETAG_MISMATCH
        assert violation.metadata == {"etag": '"4"'}
        assert the_image_is_as_the_caller_read_it.category is Category.CONFLICT


NEVER_WRITTEN = [
    "id",
    "owner_tenant_id",
    "region",
    "class",
    "type",
    "state",
    "relation",
    "disks",
    "source",
    "encryption_key_id",
    "for_bms",
    "create_time",
    "etag",
    "no_such_field",
]


class TestWhatAnImageIsCanNeverBeWritten:
    def test_the_fields_that_can_be_updated(self):
        names = "name description tags protected os architecture firmware"
        numbers = "min_disk_gib min_ram_mib max_ram_mib"

        assert {*names.split(), *numbers.split()} == UPDATABLE_FIELDS
        assert is_kept(what_an_image_is_can_never_be_written, an_update(fields=UPDATABLE_FIELDS))

    @pytest.mark.parametrize("field", NEVER_WRITTEN)
    def test_a_field_that_cannot(self, field: str):
        violation = the_violation(
            what_an_image_is_can_never_be_written, an_update(fields=frozenset({"name", field}))
        )

        assert violation.reason is Reason.FIELD_NOT_UPDATABLE
        assert violation.metadata == {"field": field}
        assert what_an_image_is_can_never_be_written.category is Category.MALFORMED

    def test_every_such_field_is_named(self):
        attempt = an_update(fields=frozenset(NEVER_WRITTEN))

        violations = list(what_an_image_is_can_never_be_written.violations(attempt))
        assert [each.subject for each in violations] == sorted(NEVER_WRITTEN)

    def test_changes_reach_the_operating_system_through_its_fields(self):
        image = an_image(os=OperatingSystem(platform="Debian", version="11"))
        changes = ImageChanges(fields=frozenset({"os"}), os_values={"version": "12"})

        assert changes.applied_to(image).os == OperatingSystem(platform="Debian", version="12")


class TestADataDiskImageChangesNameDescriptionAndTagsOnly:
    DATA_DISK = an_image(type=ImageType.DATA_DISK)

    def test_these_three(self):
        assert {"name", "description", "tags"} == DATA_DISK_FIELDS
        assert is_kept(
            a_data_disk_image_changes_name_description_and_tags_only,
            an_update(image=self.DATA_DISK, fields=DATA_DISK_FIELDS),
        )

    @pytest.mark.parametrize("field", sorted(UPDATABLE_FIELDS - {"name", "description", "tags"}))
    def test_nothing_else(self, field: str):
        attempt = an_update(image=self.DATA_DISK, fields=frozenset({field, "name"}))

        violation = the_violation(a_data_disk_image_changes_name_description_and_tags_only, attempt)
        assert violation.reason is Reason.DATA_DISK_FIELD_NOT_UPDATABLE
        assert violation.metadata == {"field": field}
        assert (
            a_data_disk_image_changes_name_description_and_tags_only.category is Category.AGAINST_RULES
        )

    @pytest.mark.parametrize("image_type", other_types(ImageType.DATA_DISK))
    def test_other_images_change_more(self, image_type: ImageType):
        attempt = an_update(image=an_image(type=image_type), fields=UPDATABLE_FIELDS)

        assert is_kept(a_data_disk_image_changes_name_description_and_tags_only, attempt)


class TestPublicImagesAreNotDeleted:
    @pytest.mark.parametrize("public", [True, False])
    def test_private_ones_are(self, public: bool):
        assert is_kept(public_images_are_not_deleted, an_attempt_on(public=public)) is not public

    def test_the_reason(self):
        violation = the_violation(public_images_are_not_deleted, an_attempt_on(public=True))

        assert violation.reason is Reason.PUBLIC_IMAGE_NOT_DELETABLE


class TestProtectedImagesAreNotDeleted:
    @pytest.mark.parametrize("protected", [True, False])
    def test_unprotected_ones_are(self, protected: bool):
        attempt = an_attempt_on(protected=protected)

        assert is_kept(protected_images_are_not_deleted, attempt) is not protected

    def test_the_reason(self):
        violation = the_violation(protected_images_are_not_deleted, an_attempt_on(protected=True))

        assert violation.reason is Reason.IMAGE_PROTECTED

    def test_public_and_protected_are_told_at_once(self):
        with pytest.raises(Rejection) as caught:
            enforce(DELETE_IMAGE, a_deletion(image=an_image(public=True, protected=True)))

        assert [each.reason for each in caught.value.violations] == [
            Reason.PUBLIC_IMAGE_NOT_DELETABLE,
            Reason.IMAGE_PROTECTED,
        ]


def deactivating(image: Image, tenant: TenantId, *roles: Role):
    return an_attempt(image=image, caller=a_caller(tenant, *roles))


class TestOnlyAdministratorsDeactivatePublicImages:
    PUBLIC = an_image(public=True)

    def test_an_administrator_does(self):
        attempt = deactivating(self.PUBLIC, STRANGER, Role.ADMIN)

        assert is_kept(only_administrators_deactivate_public_images, attempt)

    @pytest.mark.parametrize("tenant", [OWNER, STRANGER])
    def test_nobody_else_does_not_even_its_owner(self, tenant: TenantId):
        violation = the_violation(
            only_administrators_deactivate_public_images,
            deactivating(self.PUBLIC, tenant, Role.SERVICE),
        )

        assert violation.reason is Reason.ROLE_REQUIRED
        assert violation.metadata == {"requiredRoles": "admin"}

    def test_it_is_about_public_images_alone(self):
        assert is_kept(only_administrators_deactivate_public_images, an_attempt())

    @pytest.mark.parametrize("rules", [DEACTIVATE_IMAGE, REACTIVATE_IMAGE])
    def test_it_goes_for_both_ways(self, rules: tuple):
        assert only_administrators_deactivate_public_images in rules


class TestOnlyTheOwnerDeactivatesAPrivateImage:
    def test_the_owner_does(self):
        assert is_kept(only_the_owner_deactivates_a_private_image, an_attempt())

    def test_nobody_else_does_not_even_an_administrator(self):
        violation = the_violation(
            only_the_owner_deactivates_a_private_image, deactivating(an_image(), STRANGER, *Role)
        )

        assert violation.reason is Reason.NOT_IMAGE_OWNER

    def test_it_is_about_private_images_alone(self):
        attempt = deactivating(an_image(public=True), STRANGER)

        assert is_kept(only_the_owner_deactivates_a_private_image, attempt)

    @pytest.mark.parametrize("rules", [DEACTIVATE_IMAGE, REACTIVATE_IMAGE])
    def test_it_goes_for_both_ways(self, rules: tuple):
        assert only_the_owner_deactivates_a_private_image in rules


class TestTheOrderOfJudgement:
    def test_a_stale_update_and_the_wrong_state_are_told_together(self):
        image = an_image(state=ImageState.SAVING, version=2)

        with pytest.raises(Rejection) as caught:
            enforce(UPDATE_IMAGE, an_update(image=image, expected_etag='"1"'))

        assert [each.reason for each in caught.value.violations] == [
            Reason.ETAG_MISMATCH,
            Reason.IMAGE_BUSY,
        ]
        assert caught.value.category is Category.CONFLICT


class TestWhatAnAdministratorDeactivatedOnlyOneReactivates:
    rule = what_an_administrator_deactivated_only_one_reactivates
    locked = an_image(state=ImageState.DEACTIVATED, deactivated_by_admin=True)

    def test_its_owner_does_not(self):
        violation = the_violation(self.rule, deactivating(self.locked, OWNER))

        assert violation.reason is Reason.DEACTIVATED_BY_ADMINISTRATOR

    def test_an_administrator_does(self):
        assert is_kept(self.rule, deactivating(self.locked, OWNER, Role.ADMIN))

    def test_what_its_owner_has_deactivated_it_reactivates(self):
        own = replace(self.locked, deactivated_by_admin=False)

        assert is_kept(self.rule, deactivating(own, OWNER))

    def test_who_is_not_its_owner_is_told_nothing_more(self):
        assert is_kept(self.rule, deactivating(self.locked, STRANGER))
        assert is_kept(self.rule, deactivating(replace(self.locked, public=True), OWNER))


class TestOnlyAdministratorsDeactivateWhatOthersOwn:
    def test_an_administrator_does(self):
        attempt = deactivating(an_image(), STRANGER, Role.ADMIN)

        assert is_kept(only_administrators_deactivate_what_others_own, attempt)

    def test_nobody_else_does_not_even_the_owner(self):
        violation = the_violation(
            only_administrators_deactivate_what_others_own, deactivating(an_image(), OWNER, Role.SERVICE)
        )

        assert violation.metadata == {"requiredRoles": "admin"}
