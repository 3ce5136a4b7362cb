"""The law of registered uses (law 7.4), rule by rule."""

import pytest

from builders import RECIPIENT, STRANGER, a_caller, a_share, an_accepted_share, an_image
from ims.domain.image import ImageState, ImageType, KeyId
from ims.domain.rejection import Rejection
from ims.rules.engine import enforce
from ims.rules.registered_uses import REGISTER_USE, registered_uses_stay_within_the_limit
from rules.facts import a_registration, is_kept, the_violation


class TestRegisteredUsesStayWithinTheLimit:
    def test_the_10000th_is_let_in_and_the_10001st_is_refused(self):
        rule = registered_uses_stay_within_the_limit

        assert is_kept(rule, a_registration(use_count=9_999))
        assert the_violation(rule, a_registration(use_count=10_000)).metadata == {
            "limit": 10_000,
            "used": 10_000,
            "asked": 1,
        }

    def test_what_is_registered_already_is_let_in_again(self):
        full = a_registration(known=True, use_count=10_000)

        assert is_kept(registered_uses_stay_within_the_limit, full)

    def test_a_limit_that_was_lowered_lets_nothing_in(self):
        above = a_registration(use_count=5, use_limit=3)

        assert not is_kept(registered_uses_stay_within_the_limit, above)


def refused(**changes) -> str:
    with pytest.raises(Rejection) as rejection:
        enforce(REGISTER_USE, a_registration(**changes))
    return rejection.value.reason


class TestWhatMayBeUsed:
    def test_what_the_tenant_has_accepted(self):
        enforce(REGISTER_USE, a_registration(caller=a_caller(RECIPIENT), share=an_accepted_share()))
        assert refused(caller=a_caller(RECIPIENT), share=a_share()) == "SHARE_NOT_ACCEPTED"

    def test_what_everybody_has(self):
        enforce(REGISTER_USE, a_registration(caller=a_caller(STRANGER), image=an_image(public=True)))

    @pytest.mark.parametrize("state", sorted(set(ImageState) - {ImageState.ACTIVE}))
    def test_only_active_images(self, state):
        gone = state is ImageState.DELETED

        assert refused(image=an_image(state=state)) == ("IMAGE_DELETED" if gone else "IMAGE_NOT_ACTIVE")

    @pytest.mark.parametrize(
        "image", [an_image(type=ImageType.DATA_DISK), an_image(encryption_key_id=KeyId("away"))]
    )
    def test_what_it_was_made_for_is_not_asked_again(self, image):
        enforce(REGISTER_USE, a_registration(image=image))
