"""The law of exporting: who exports which images, and where to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ims.domain.export import ExportOrder
from ims.domain.image import Disk, ImageType
from ims.domain.rejection import Category, Reason
from ims.rules.attempt import Attempt
from ims.rules.engine import Breach, Rule, breach, rule
from ims.rules.form import every_field_can_be_read
from ims.rules.image_data import damaged_bytes_are_not_given_out
from ims.rules.keys import the_key_of_an_encrypted_image_is_usable
from ims.rules.states import Verb, state_allows


@dataclass(frozen=True, kw_only=True)
class ExportAttempt(Attempt):
    """Somebody wants to put the file of an image's disk into a bucket."""

    order: ExportOrder
    key_usable: bool
    """Whether the key of an encrypted image can be used now."""
    bucket_open: bool
    """Whether the deployment lets the caller's tenant export into the bucket."""
    target_taken: bool = False
    """Whether something of that name was found there."""

    @property
    def disks(self) -> Sequence[Disk]:
        """What is read."""
        return self.image.disks


@rule("6.4", Reason.NOT_IMAGE_OWNER, Category.FORBIDDEN)
def only_the_owner_exports(attempt: ExportAttempt) -> Iterator[Breach]:
    """Export: owner only; who has an image by sharing copies it first."""
    if attempt.image.owner != attempt.caller.tenant_id:
        yield breach("Only the image's owner may do this.")


@rule("6.4", Reason.PUBLIC_IMAGE_NOT_EXPORTABLE, Category.AGAINST_RULES)
def public_images_are_not_exported(attempt: ExportAttempt) -> Iterator[Breach]:
    """A public image is not exported, not by its owner either."""
    if attempt.image.public:
        yield breach("A public image is not exported.", subject="image_id")


@rule("6.4", Reason.FULL_ECS_NOT_EXPORTABLE, Category.AGAINST_RULES)
def full_ecs_images_are_not_exported(attempt: ExportAttempt) -> Iterator[Breach]:
    """A full-ECS image is not exported."""
    if attempt.image.type is ImageType.FULL_ECS:
        yield breach("A full-ECS image is not exported.", subject="image_id")


@rule("6.4", Reason.ISO_NOT_EXPORTABLE, Category.AGAINST_RULES)
def iso_images_are_not_exported(attempt: ExportAttempt) -> Iterator[Breach]:
    """An ISO image is not exported."""
    if attempt.image.type is ImageType.ISO:
        yield breach("An ISO image is not exported.", subject="image_id")


@rule("6.4", Reason.IMAGE_NOT_EXPORTABLE, Category.AGAINST_RULES)
def what_derives_from_a_marked_image_is_not_exported(attempt: ExportAttempt) -> Iterator[Breach]:
    """What is, or derives from, a public image marked non-exportable is not exported, for good."""
    if attempt.image.non_exportable:
        yield breach(
            "The image is, or derives from, a public image that an administrator has marked "
            "non-exportable; it is not exported, nor is a copy of it.",
            subject="image_id",
        )


@rule("6.4", Reason.EXPORT_BUCKET_NOT_OPEN, Category.AGAINST_RULES)
def exports_go_to_buckets_that_are_open_to_the_tenant(attempt: ExportAttempt) -> Iterator[Breach]:
    """Exports go to buckets that the operator has opened for the tenant."""
    if not attempt.bucket_open:
        # The same words for another tenant's bucket and for none.
        yield breach(
            f"Your tenant exports nothing to a bucket '{attempt.order.bucket}'.",
            subject="bucket",
            bucket=attempt.order.bucket,
        )


@rule("6.4", Reason.EXPORT_TARGET_EXISTS, Category.EXISTS)
def the_target_does_not_exist(attempt: ExportAttempt) -> Iterator[Breach]:
    """The target must not exist: nothing is overwritten."""
    if attempt.bucket_open and attempt.target_taken:
        yield breach(
            f"There is an object '{attempt.order.object_key}' in the bucket '{attempt.order.bucket}' "
            "already; choose another name.",
            subject="object_key",
            bucket=attempt.order.bucket,
            objectKey=attempt.order.object_key,
        )


# What can have changed once all bytes have been sent.
FINISH_EXPORT: tuple[Rule[ExportAttempt], ...] = (
    only_the_owner_exports,
    *state_allows(Verb.EXPORT),
    public_images_are_not_exported,
    what_derives_from_a_marked_image_is_not_exported,
    exports_go_to_buckets_that_are_open_to_the_tenant,
    the_key_of_an_encrypted_image_is_usable,
    the_target_does_not_exist,
)
EXPORT_IMAGE: tuple[Rule[ExportAttempt], ...] = (
    every_field_can_be_read,
    full_ecs_images_are_not_exported,
    iso_images_are_not_exported,
    *FINISH_EXPORT,
    damaged_bytes_are_not_given_out,
)
