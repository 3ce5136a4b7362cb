"""The law of publication: who makes an image everyone's, and which."""

from collections.abc import Iterator

from ims.domain.caller import Role
from ims.domain.image import ImageType
from ims.domain.rejection import Category, Reason
from ims.rules.attempt import Attempt
from ims.rules.engine import Breach, Rule, breach, rule
from ims.rules.form import every_field_can_be_read
from ims.rules.states import Verb, state_allows


@rule("1", Reason.ROLE_REQUIRED, Category.FORBIDDEN)
def only_administrators_publish(attempt: Attempt) -> Iterator[Breach]:
    """An administrator publishes an image; tenants never can."""
    if not attempt.caller.has(Role.ADMIN):
        yield breach(
            f"Only a caller with the role '{Role.ADMIN}' publishes and unpublishes images.",
            requiredRoles=Role.ADMIN,
        )


@rule("1", Reason.ENCRYPTED_IMAGE_NOT_PUBLISHABLE, Category.AGAINST_RULES)
def encrypted_images_are_not_published(attempt: Attempt) -> Iterator[Breach]:
    """An encrypted image, which is shared with nobody, is not shared with everybody either."""
    if attempt.image.encrypted:
        yield breach("An encrypted image is not published; publish an unencrypted copy.")


@rule("1", Reason.IMAGE_TYPE_NOT_PUBLISHABLE, Category.AGAINST_RULES)
def only_system_disk_and_iso_images_are_published(attempt: Attempt) -> Iterator[Breach]:
    """Data-disk and full-ECS images hold one tenant's data and do not become public."""
    if attempt.image.type in {ImageType.DATA_DISK, ImageType.FULL_ECS}:
        yield breach(f"A {attempt.image.type} image does not become public.", type=attempt.image.type)


PUBLISH_IMAGE: tuple[Rule[Attempt], ...] = (
    only_administrators_publish,
    every_field_can_be_read,
    *state_allows(Verb.PUBLISH),
    encrypted_images_are_not_published,
    only_system_disk_and_iso_images_are_published,
)
UNPUBLISH_IMAGE: tuple[Rule[Attempt], ...] = (
    only_administrators_publish,
    every_field_can_be_read,
    *state_allows(Verb.UNPUBLISH),
)
