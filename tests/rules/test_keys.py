"""The law of keys (law 6.3)."""

from collections.abc import Callable

import pytest

from builders import an_image
from ims.domain.image import KeyId
from ims.domain.rejection import Category, Reason
from ims.rules.image_data import DOWNLOAD_IMAGE_DATA, START_UPLOAD
from ims.rules.keys import the_key_of_an_encrypted_image_is_usable
from ims.rules.use import RESOLVE_IMAGE
from rules.facts import a_download, a_use, an_upload, is_kept, the_violation

ENCRYPTED = an_image(encryption_key_id=KeyId("key-1"))

needing = pytest.mark.parametrize("attempt", [a_use, an_upload, a_download])


class TestTheKeyOfAnEncryptedImageIsUsable:
    @needing
    @pytest.mark.parametrize("usable", [True, False])
    def test_an_unencrypted_image_needs_none(self, attempt: Callable, usable: bool):
        assert is_kept(the_key_of_an_encrypted_image_is_usable, attempt(key_usable=usable))

    @needing
    def test_a_usable_key(self, attempt: Callable):
        facts = attempt(image=ENCRYPTED, key_usable=True)

        assert is_kept(the_key_of_an_encrypted_image_is_usable, facts)

    @needing
    def test_a_disabled_or_unknown_key(self, attempt: Callable):
        facts = attempt(image=ENCRYPTED, key_usable=False)

        violation = the_violation(the_key_of_an_encrypted_image_is_usable, facts)
        assert violation.reason is Reason.KEY_UNAVAILABLE
        assert violation.metadata == {"keyId": "key-1"}
        assert the_key_of_an_encrypted_image_is_usable.category is Category.AGAINST_RULES

    @pytest.mark.parametrize("rules", [START_UPLOAD, DOWNLOAD_IMAGE_DATA, RESOLVE_IMAGE])
    def test_it_goes_for_whatever_reads_or_writes_bytes(self, rules: tuple):
        assert the_key_of_an_encrypted_image_is_usable in rules
