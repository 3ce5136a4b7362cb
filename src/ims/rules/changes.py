"""The law of changes: who updates, deletes, restores, deactivates and reactivates an image, and when."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ims.domain.caller import Role
from ims.domain.image import Image, ImageState, ImageType
from ims.domain.quotas import Allowance, Usage, usage_of
from ims.domain.registered_use import UsageTotal
from ims.domain.rejection import Category, Reason
from ims.rules.attempt import Attempt
from ims.rules.engine import Breach, Rule, breach, rule
from ims.rules.form import every_field_can_be_read
from ims.rules.images import (
    CONTENT,
    min_disk_holds_the_disk_inside_the_file,
    names_are_unique_among_live_images,
    one_backup_makes_one_image,
)
from ims.rules.in_use import nothing_in_use_is_taken_where_the_owner_requires_that
from ims.rules.quotas import private_images_stay_within_the_quota
from ims.rules.states import Verb, state_allows


@rule("2.2", Reason.NOT_IMAGE_OWNER, Category.FORBIDDEN)
def only_the_owner_changes_an_image(attempt: Attempt) -> Iterator[Breach]:
    """What the caller sees but may not change: only the owner updates, deletes and restores."""
    if attempt.image.owner != attempt.caller.tenant_id:
        yield breach("Only the image's owner may do this.")


@dataclass(frozen=True, kw_only=True)
class ChangeAttempt(Attempt):
    """Somebody wants to change or delete an image as it was when it was read."""

    expected_etag: str = ""
    """The etag that the caller decided on; empty when it does not mind."""


@rule("5.6", Reason.ETAG_MISMATCH, Category.CONFLICT)
def the_image_is_as_the_caller_read_it(attempt: ChangeAttempt) -> Iterator[Breach]:
    """A stale etag is refused."""
    if attempt.expected_etag and attempt.expected_etag != attempt.image.etag:
        yield breach(
            "The image has changed since it was read; read it again.",
            subject="etag",
            etag=attempt.image.etag,
        )


@dataclass(frozen=True, kw_only=True)
class UpdateAttempt(ChangeAttempt):
    """Somebody wants to update an image."""

    draft: Image
    """The image as it would be."""
    fields: frozenset[str]
    """The fields that the request names; of a nested field, the whole one."""
    name_taken: bool


UPDATABLE_FIELDS = frozenset(
    {
        "name",
        "description",
        "tags",
        "protected",
        "os",
        "architecture",
        "firmware",
        "min_disk_gib",
        "min_ram_mib",
        "max_ram_mib",
    }
)
DATA_DISK_FIELDS = frozenset({"name", "description", "tags"})


@rule("5.6", Reason.FIELD_NOT_UPDATABLE, Category.MALFORMED)
def what_an_image_is_can_never_be_written(attempt: UpdateAttempt) -> Iterator[Breach]:
    """State, owner, region, size, digest, encryption and source can never be written."""
    for field in sorted(attempt.fields - UPDATABLE_FIELDS):
        yield breach(
            f"'{field}' cannot be updated; {', '.join(sorted(UPDATABLE_FIELDS))} can.",
            subject=field,
            field=field,
        )


@rule("5.6", Reason.DATA_DISK_FIELD_NOT_UPDATABLE, Category.AGAINST_RULES)
def a_data_disk_image_changes_name_description_and_tags_only(
    attempt: UpdateAttempt,
) -> Iterator[Breach]:
    """A data-disk image changes name, description and tags only."""
    if attempt.image.type is ImageType.DATA_DISK:
        for field in sorted((attempt.fields & UPDATABLE_FIELDS) - DATA_DISK_FIELDS):
            yield breach(
                f"A data-disk image changes its name, description and tags only, not '{field}'.",
                subject=field,
                field=field,
            )


UPDATE_IMAGE: tuple[Rule[UpdateAttempt], ...] = (
    only_the_owner_changes_an_image,
    *CONTENT,
    min_disk_holds_the_disk_inside_the_file,
    what_an_image_is_can_never_be_written,
    the_image_is_as_the_caller_read_it,
    *state_allows(Verb.UPDATE),
    a_data_disk_image_changes_name_description_and_tags_only,
    names_are_unique_among_live_images,
)


@dataclass(frozen=True, kw_only=True)
class DeletionAttempt(ChangeAttempt):
    """Somebody wants to delete an image."""

    usage_to_spare: UsageTotal | None = None
    """The image's registered uses, where the caller deletes it only if there are none."""


@rule("5.7", Reason.PUBLIC_IMAGE_NOT_DELETABLE, Category.AGAINST_RULES)
def public_images_are_not_deleted(attempt: Attempt) -> Iterator[Breach]:
    """A public image is not deleted."""
    if attempt.image.public:
        yield breach("A public image is not deleted; an administrator must unpublish it first.")


@rule("5.7", Reason.IMAGE_PROTECTED, Category.AGAINST_RULES)
def protected_images_are_not_deleted(attempt: Attempt) -> Iterator[Breach]:
    """A protected image is not deleted."""
    if attempt.image.protected:
        yield breach("The image is protected; take the protection off first.")


ABOUT_THE_CALL_TO_DELETE: tuple[Rule[DeletionAttempt], ...] = (
    only_the_owner_changes_an_image,
    every_field_can_be_read,
)
ABOUT_THE_IMAGE_TO_DELETE: tuple[Rule[DeletionAttempt], ...] = (
    the_image_is_as_the_caller_read_it,
    *state_allows(Verb.DELETE),
    public_images_are_not_deleted,
    protected_images_are_not_deleted,
    nothing_in_use_is_taken_where_the_owner_requires_that,
)
DELETE_IMAGE: tuple[Rule[DeletionAttempt], ...] = (
    *ABOUT_THE_CALL_TO_DELETE,
    *ABOUT_THE_IMAGE_TO_DELETE,
)


@dataclass(frozen=True, kw_only=True)
class UndeletionAttempt(Attempt):
    """Somebody wants a deleted image back."""

    name_taken: bool
    backup_used: bool
    allowance: Allowance
    """The owner's."""

    @property
    def draft(self) -> Image:
        return replace(self.image, state=self.image.state_before_deletion or ImageState.ACTIVE)

    @property
    def asked(self) -> Usage:
        return usage_of(self.draft) - usage_of(self.image)


UNDELETE_IMAGE: tuple[Rule[UndeletionAttempt], ...] = (
    only_the_owner_changes_an_image,
    every_field_can_be_read,
    *state_allows(Verb.UNDELETE),
    names_are_unique_among_live_images,
    one_backup_makes_one_image,
    private_images_stay_within_the_quota,
)


# --- Deactivation ---


@rule("5.8", Reason.ROLE_REQUIRED, Category.FORBIDDEN)
def only_administrators_deactivate_public_images(attempt: Attempt) -> Iterator[Breach]:
    """A public image is everyone's: an administrator takes its bytes away and gives them back."""
    if attempt.image.public and not attempt.caller.has(Role.ADMIN):
        yield breach(
            f"Only a caller with the role '{Role.ADMIN}' deactivates or reactivates a public image.",
            requiredRoles=Role.ADMIN,
        )


@rule("5.8", Reason.NOT_IMAGE_OWNER, Category.FORBIDDEN)
def only_the_owner_deactivates_a_private_image(attempt: Attempt) -> Iterator[Breach]:
    """A private image is deactivated and reactivated by its owner."""
    if not attempt.image.public and attempt.image.owner != attempt.caller.tenant_id:
        yield breach("Only the image's owner may do this.")


@rule("8.4", Reason.DEACTIVATED_BY_ADMINISTRATOR, Category.FORBIDDEN)
def what_an_administrator_deactivated_only_one_reactivates(attempt: Attempt) -> Iterator[Breach]:
    """What an administrator has deactivated its owner does not reactivate."""
    image, caller = attempt.image, attempt.caller
    if image.public or image.owner != caller.tenant_id or caller.has(Role.ADMIN):
        return
    if image.state is ImageState.DEACTIVATED and image.deactivated_by_admin:
        yield breach("An administrator has deactivated the image; only an administrator reactivates it.")


@rule("8.4", Reason.ROLE_REQUIRED, Category.FORBIDDEN)
def only_administrators_deactivate_what_others_own(attempt: Attempt) -> Iterator[Breach]:
    """An administrator deactivates and reactivates any tenant's image."""
    if not attempt.caller.has(Role.ADMIN):
        yield breach(
            f"Only a caller with the role '{Role.ADMIN}' deactivates or reactivates any tenant's image.",
            requiredRoles=Role.ADMIN,
        )


_DEACTIVATION: tuple[Rule[Attempt], ...] = (
    only_administrators_deactivate_public_images,
    only_the_owner_deactivates_a_private_image,
    every_field_can_be_read,
)
DEACTIVATE_IMAGE: tuple[Rule[Attempt], ...] = (*_DEACTIVATION, *state_allows(Verb.DEACTIVATE))
REACTIVATE_IMAGE: tuple[Rule[Attempt], ...] = (
    *_DEACTIVATION,
    what_an_administrator_deactivated_only_one_reactivates,
    *state_allows(Verb.REACTIVATE),
)
_GOVERNING: tuple[Rule[Attempt], ...] = (
    only_administrators_deactivate_what_others_own,
    every_field_can_be_read,
)
DEACTIVATE_TENANT_IMAGE: tuple[Rule[Attempt], ...] = (
    *_GOVERNING,
    *state_allows(Verb.DEACTIVATE_BY_ADMIN),
)
REACTIVATE_TENANT_IMAGE: tuple[Rule[Attempt], ...] = (*_GOVERNING, *state_allows(Verb.REACTIVATE))
