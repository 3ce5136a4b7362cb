"""The law of publication (law 1), rule by rule."""

import pytest

from builders import (
    OWNER,
    STRANGER,
    a_caller,
)
from ims.domain.caller import Role
from ims.domain.image import (
    ImageType,
    KeyId,
)
from ims.domain.rejection import Reason
from ims.rules.publication import (
    PUBLISH_IMAGE,
    UNPUBLISH_IMAGE,
    encrypted_images_are_not_published,
    only_administrators_publish,
    only_system_disk_and_iso_images_are_published,
)
from rules.facts import (
    an_attempt,
    an_attempt_on,
    is_kept,
    the_violation,
)

KEY = KeyId("key-1")


class TestOnlyAdministratorsPublish:
    def test_an_administrator_does(self):
        attempt = an_attempt(caller=a_caller(STRANGER, Role.ADMIN))

        assert is_kept(only_administrators_publish, attempt)

    @pytest.mark.parametrize("roles", [(), (Role.SERVICE,)])
    def test_a_tenant_never_does_its_own_image_included(self, roles: tuple[Role, ...]):
        violation = the_violation(
            only_administrators_publish, an_attempt(caller=a_caller(OWNER, *roles))
        )

        assert violation.reason is Reason.ROLE_REQUIRED
        assert violation.metadata == {"requiredRoles": "admin"}

    @pytest.mark.parametrize("rules", [PUBLISH_IMAGE, UNPUBLISH_IMAGE])
    def test_it_goes_for_both_ways(self, rules: tuple):
        assert only_administrators_publish in rules


class TestEncryptedImagesAreNotPublished:
    def test_an_unencrypted_one_is(self):
        assert is_kept(encrypted_images_are_not_published, an_attempt())

    def test_an_encrypted_one_is_not(self):
        violation = the_violation(
            encrypted_images_are_not_published, an_attempt_on(encryption_key_id=KEY)
        )

        assert violation.reason is Reason.ENCRYPTED_IMAGE_NOT_PUBLISHABLE


class TestOnlySystemDiskAndIsoImagesArePublished:
    @pytest.mark.parametrize("image_type", [ImageType.SYSTEM_DISK, ImageType.ISO])
    def test_these_are(self, image_type: ImageType):
        assert is_kept(only_system_disk_and_iso_images_are_published, an_attempt_on(type=image_type))

    @pytest.mark.parametrize("image_type", [ImageType.DATA_DISK, ImageType.FULL_ECS])
    def test_what_holds_a_tenants_data_is_not(self, image_type: ImageType):
        violation = the_violation(
            only_system_disk_and_iso_images_are_published, an_attempt_on(type=image_type)
        )

        assert violation.reason is Reason.IMAGE_TYPE_NOT_PUBLISHABLE
        assert violation.metadata == {"type": image_type}
