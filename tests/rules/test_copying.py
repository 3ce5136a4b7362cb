"""The law of copying: both sides of every bound."""

import pytest

from builders import a_disk, a_full_ecs_image, an_image
from ims.domain.image import GIB, ImageState, ImageType, KeyId, Source, SourceKind
from ims.domain.quotas import Usage, usage_of
from ims.rules import copying, quotas
from rules.facts import a_copying, an_allowance, is_kept, the_violation

OLD, NEW = KeyId("old"), KeyId("new")
A_COPY = Source(kind=SourceKind.IMAGE, id="source")


class TestFullEcsImagesAreNotCopied:
    def test_one_is_not(self):
        rule = copying.full_ecs_images_are_not_copied

        assert the_violation(rule, a_copying(image=a_full_ecs_image()))

    @pytest.mark.parametrize("other", [ImageType.SYSTEM_DISK, ImageType.DATA_DISK])
    def test_others_are(self, other: ImageType):
        rule = copying.full_ecs_images_are_not_copied

        assert is_kept(rule, a_copying(image=an_image(type=other)))


class TestIsoImagesAreNotCopied:
    def test_one_is_not_and_others_are(self):
        rule = copying.iso_images_are_not_copied

        assert the_violation(rule, a_copying(image=an_image(type=ImageType.ISO)))
        assert is_kept(rule, a_copying())


class TestAKeyIsChangedForAnother:
    rule = copying.a_key_is_changed_for_another

    def attempt(self, old: KeyId | None, new: KeyId | None, *, asked: bool = True):
        return a_copying(
            image=an_image(encryption_key_id=old),
            draft=an_image(encryption_key_id=new),
            key_asked=asked,
        )

    def test_the_same_is_no_other(self):
        violation = the_violation(self.rule, self.attempt(OLD, OLD))

        assert violation.metadata == {"keyId": OLD}

    @pytest.mark.parametrize(("old", "new"), [(OLD, NEW), (None, NEW), (OLD, None), (None, None)])
    def test_every_change_is_one(self, old, new):
        assert is_kept(self.rule, self.attempt(old, new))

    def test_a_key_that_nobody_named_is_kept(self):
        assert is_kept(self.rule, self.attempt(OLD, OLD, asked=False))


class TestACopyIsEncryptedWithAUsableKey:
    rule = copying.a_copy_is_encrypted_with_a_usable_key

    @pytest.mark.parametrize("old", [None, OLD])
    def test_a_new_key_is_usable(self, old):
        given = {
            "image": an_image(encryption_key_id=old),
            "draft": an_image(encryption_key_id=NEW),
        }

        assert the_violation(self.rule, a_copying(**given)).metadata == {"keyId": NEW}
        assert is_kept(self.rule, a_copying(**given, new_key_usable=True))

    def test_a_key_that_is_kept_is_another_rules(self):
        sealed = an_image(encryption_key_id=OLD)

        assert is_kept(self.rule, a_copying(image=sealed, draft=sealed))

    def test_no_key_needs_none(self):
        assert is_kept(self.rule, a_copying(image=an_image(encryption_key_id=OLD)))


class TestCopiesHaveAtMost128Gib:
    def test_the_last_byte_and_one_more(self):
        rule = copying.copies_have_at_most_128_gib

        def attempt(size_bytes: int):
            return a_copying(image=an_image(disks=(a_disk(size_bytes=size_bytes),)))

        assert is_kept(rule, attempt(128 * GIB))
        violation = the_violation(rule, attempt(128 * GIB + 1))
        assert violation.metadata == {"maxCopyBytes": 128 * GIB, "imageBytes": 128 * GIB + 1}


class TestCopiesAtOnceStayWithinTheQuota:
    rule = quotas.copies_at_once_stay_within_the_quota

    def attempt(self, used: int, state: ImageState = ImageState.SAVING):
        draft = an_image(state=state, source=A_COPY)
        return a_copying(draft=draft, allowance=an_allowance(copies=used))

    def test_the_fifth_and_the_sixth(self):
        assert is_kept(self.rule, self.attempt(4))
        violation = the_violation(self.rule, self.attempt(5))
        assert violation.metadata == {"limit": 5, "used": 5, "asked": 1}

    def test_a_copy_that_takes_a_moment_takes_none(self):
        assert is_kept(self.rule, self.attempt(5, ImageState.ACTIVE))

    def test_a_copy_at_once_is_no_creation_and_the_other_way_round(self):
        copied = usage_of(an_image(state=ImageState.SAVING, source=A_COPY))
        created = usage_of(an_image(state=ImageState.SAVING))

        assert (copied.copies, copied.creations) == (1, 0)
        assert (created.copies, created.creations) == (0, 1)
        assert copied - created == Usage(copies=1, creations=-1)
