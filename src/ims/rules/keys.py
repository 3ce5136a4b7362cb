"""The law of keys: encrypted bytes are as usable as their key."""

from collections.abc import Iterator
from typing import Protocol

from ims.domain.image import Image
from ims.domain.rejection import Category, Reason
from ims.rules.engine import Breach, breach, rule


class NeedingKey(Protocol):
    """Anything that reads or writes the bytes of an image."""

    @property
    def image(self) -> Image: ...
    @property
    def key_usable(self) -> bool: ...


@rule("6.3", Reason.KEY_UNAVAILABLE, Category.AGAINST_RULES)
def the_key_of_an_encrypted_image_is_usable(attempt: NeedingKey) -> Iterator[Breach]:
    """A disabled or unreachable key makes the bytes unusable, not the metadata."""
    if attempt.image.encryption_key_id is not None and not attempt.key_usable:
        yield breach(
            f"The key '{attempt.image.encryption_key_id}' is not known or is disabled.",
            subject="image_id",
            keyId=attempt.image.encryption_key_id,
        )
