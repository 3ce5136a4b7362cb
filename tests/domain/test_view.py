"""An image as one tenant sees it (law 1)."""

import pytest

from builders import OWNER, RECIPIENT, STRANGER, a_share, a_view, an_image
from ims.domain.image import ImageClass, Relation
from ims.domain.share import ShareStatus
from ims.domain.tenant import NOBODY, TenantId


@pytest.mark.parametrize(
    ("viewer", "public", "relation"),
    [
        (OWNER, False, Relation.OWNED),
        (OWNER, True, Relation.OWNED),
        (STRANGER, True, Relation.PUBLIC),
        (STRANGER, False, None),
        (NOBODY, False, None),
    ],
)
def test_a_viewer_without_a_share_owns_an_image_or_finds_it_public_or_is_a_stranger(
    viewer: TenantId, public: bool, relation: Relation | None
):
    assert a_view(image=an_image(public=public), viewer=viewer).relation is relation


@pytest.mark.parametrize("status", ShareStatus)
def test_whoever_has_a_share_is_a_recipient_whatever_it_has_decided(status: ShareStatus):
    view = a_view(viewer=RECIPIENT, share=a_share(status=status))

    assert view.relation is Relation.SHARED_WITH_ME


@pytest.mark.parametrize("viewer", [OWNER, RECIPIENT, STRANGER])
@pytest.mark.parametrize(
    ("public", "has_shares", "image_class"),
    [
        (False, False, ImageClass.PRIVATE),
        (False, True, ImageClass.SHARED),
        (True, False, ImageClass.PUBLIC),
        (True, True, ImageClass.PUBLIC),
    ],
)
def test_the_class_is_the_same_for_every_viewer(
    viewer: TenantId, public: bool, has_shares: bool, image_class: ImageClass
):
    view = a_view(image=an_image(public=public), viewer=viewer, has_shares=has_shares)

    assert view.image_class is image_class
