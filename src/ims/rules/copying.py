"""The law of copying within the region: who copies what, and how the copy's bytes are kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ims.domain.image import GIB, Disk, Image, ImageType
from ims.domain.quotas import NOTHING, Allowance, Usage, usage_of
from ims.domain.rejection import Category, Reason
from ims.rules.attempt import Attempt
from ims.rules.creation import bms_and_iso_images_are_never_encrypted
from ims.rules.engine import Breach, Rule, breach, rule
from ims.rules.image_data import damaged_bytes_are_not_given_out
from ims.rules.images import CONTENT, names_are_unique_among_live_images
from ims.rules.keys import the_key_of_an_encrypted_image_is_usable
from ims.rules.quotas import (
    copies_at_once_stay_within_the_quota,
    private_images_stay_within_the_quota,
    stored_bytes_stay_within_the_quota,
)
from ims.rules.sharing import only_accepted_shares_are_used
from ims.rules.states import Verb, state_allows

MAX_COPY_BYTES: Final = 128 * GIB


@dataclass(frozen=True, kw_only=True)
class CopyAttempt(Attempt):
    """Somebody wants to copy an image; `image` is the source."""

    draft: Image
    """The copy as it would be."""
    key_asked: bool = False
    """Whether the request says with which key the copy is to be encrypted."""
    name_taken: bool
    key_usable: bool
    """Whether the key of an encrypted source can be used now."""
    new_key_usable: bool
    """Whether the key of a copy that is to be encrypted may encrypt something of the caller's now."""
    allowance: Allowance
    """That of the copy's owner."""
    taken: Usage = NOTHING
    """What the copy takes of it already."""

    @property
    def asked(self) -> Usage:
        return usage_of(self.draft) - self.taken

    @property
    def disks(self) -> Sequence[Disk]:
        """What is read, or named once more."""
        return self.image.disks


@rule("6.1", Reason.FULL_ECS_NOT_COPYABLE, Category.AGAINST_RULES)
def full_ecs_images_are_not_copied(attempt: CopyAttempt) -> Iterator[Breach]:
    """A full-ECS image is not copied within the region."""
    if attempt.image.type is ImageType.FULL_ECS:
        yield breach("A full-ECS image is not copied.", subject="image_id")


@rule("6.1", Reason.ISO_NOT_COPYABLE, Category.AGAINST_RULES)
def iso_images_are_not_copied(attempt: CopyAttempt) -> Iterator[Breach]:
    """An ISO image is not copied."""
    if attempt.image.type is ImageType.ISO:
        yield breach("An ISO image is not copied; upload the file once more.", subject="image_id")


@rule("6.1", Reason.SAME_KEY, Category.AGAINST_RULES)
def a_key_is_changed_for_another(attempt: CopyAttempt) -> Iterator[Breach]:
    """A copy may be encrypted, re-keyed with another key, or decrypted."""
    key_id = attempt.draft.encryption_key_id
    if attempt.key_asked and key_id is not None and key_id == attempt.image.encryption_key_id:
        yield breach(
            f"The image is encrypted with the key '{key_id}' already; leave it out to keep it.",
            subject="encryption_key_id",
            keyId=key_id,
        )


@rule("6.3", Reason.KEY_UNAVAILABLE, Category.AGAINST_RULES)
def a_copy_is_encrypted_with_a_usable_key(attempt: CopyAttempt) -> Iterator[Breach]:
    """A copy's new key must be usable by who copies."""
    key_id = attempt.draft.encryption_key_id
    changed = key_id != attempt.image.encryption_key_id
    if key_id is not None and changed and not attempt.new_key_usable:
        yield breach(
            f"The key '{key_id}' is not known or is disabled.",
            subject="encryption_key_id",
            keyId=key_id,
        )


@rule("6.1", Reason.IMAGE_FILE_TOO_LARGE_TO_COPY, Category.OVER_LIMIT)
def copies_have_at_most_128_gib(attempt: CopyAttempt) -> Iterator[Breach]:
    """An image of at most 128 GiB is copied."""
    if attempt.image.size_bytes > MAX_COPY_BYTES:
        yield breach(
            f"The image has {attempt.image.size_bytes} bytes; at most {MAX_COPY_BYTES} are copied.",
            subject="image_id",
            maxCopyBytes=MAX_COPY_BYTES,
            imageBytes=attempt.image.size_bytes,
        )


COPY_IMAGE: tuple[Rule[CopyAttempt], ...] = (
    *CONTENT,
    *state_allows(Verb.COPY),
    only_accepted_shares_are_used,
    full_ecs_images_are_not_copied,
    iso_images_are_not_copied,
    a_key_is_changed_for_another,
    bms_and_iso_images_are_never_encrypted,
    the_key_of_an_encrypted_image_is_usable,
    a_copy_is_encrypted_with_a_usable_key,
    names_are_unique_among_live_images,
    copies_have_at_most_128_gib,
    private_images_stay_within_the_quota,
    stored_bytes_stay_within_the_quota,
    copies_at_once_stay_within_the_quota,
    damaged_bytes_are_not_given_out,
)
# When all bytes are there: what can have changed since the copy was begun.
FINISH_COPY: tuple[Rule[CopyAttempt], ...] = (
    *state_allows(Verb.COPY),
    only_accepted_shares_are_used,
    the_key_of_an_encrypted_image_is_usable,
    a_copy_is_encrypted_with_a_usable_key,
    stored_bytes_stay_within_the_quota,
)
