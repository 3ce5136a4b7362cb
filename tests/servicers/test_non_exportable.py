"""The mark that an image, and what derives from it, is not exported (law 6.4)."""

import pytest

from calling import Tenant
from conftest import As


@pytest.fixture
def owner(as_: As) -> Tenant:
    return as_("owner")


@pytest.fixture
def root(as_: As) -> Tenant:
    return as_("root", "admin")


def is_marked(tenant: Tenant, image_id: str) -> bool:
    return tenant.GetImage(image_id=image_id).image.non_exportable


def test_an_administrator_marks_an_image_with_its_publication(owner: Tenant, root: Tenant):
    marked, free = owner.active("marked"), owner.active("free")

    published = root.PublishImage(image_id=marked.id, non_exportable=True).image
    root.PublishImage(image_id=free.id)

    assert published.non_exportable
    assert is_marked(owner, marked.id)
    assert not is_marked(owner, free.id)


def test_a_public_image_can_be_marked_too(owner: Tenant, root: Tenant):
    image = owner.active("one")
    root.PublishImage(image_id=image.id)

    root.PublishImage(image_id=image.id, non_exportable=True)

    assert is_marked(owner, image.id)
    (marking, _) = root.ListAuditEvents().events
    assert marking.details["fields"] == "non_exportable"


def test_nothing_takes_the_mark_off(owner: Tenant, root: Tenant):
    image = owner.active("one")
    root.PublishImage(image_id=image.id, non_exportable=True)

    root.PublishImage(image_id=image.id)
    root.UnpublishImage(image_id=image.id)
    owner.UpdateImage(image_id=image.id, image={"name": "two"}, update_mask={"paths": ["name"]})
    owner.DeleteImage(image_id=image.id)
    owner.UndeleteImage(image_id=image.id)
    root.PublishImage(image_id=image.id)

    assert is_marked(owner, image.id)


def test_copies_of_copies_bear_it_whoever_made_them(owner: Tenant, root: Tenant, as_: As):
    image = owner.active("one")
    root.PublishImage(image_id=image.id, non_exportable=True)
    copier, recipient = as_("copier"), as_("recipient")

    copy = copier.copied(image.id, "mine")
    copier.ShareImage(image_id=copy.id, recipients=[{"tenant_id": recipient.id}])
    recipient.AcceptShare(image_id=copy.id)
    sealed = recipient.copied(copy.id, "sealed", encryption_key_id="key-1")
    root.UnpublishImage(image_id=image.id)
    plain = recipient.copied(sealed.id, "plain", decrypt=True)

    assert [each.non_exportable for each in (copy, sealed, plain)] == [True, True, True]


def test_a_service_hears_of_it_and_says_so_of_what_it_makes(owner: Tenant, root: Tenant, as_: As):
    image = owner.active("one")
    root.PublishImage(image_id=image.id, non_exportable=True)
    nova = as_("nova", "service")

    resolved = nova.ResolveImage(image_id=image.id, purpose="CREATE_ECS", tenant_id="user")
    made = nova.active(
        "server",
        source={"ecs": {"server_id": "s"}},
        owner_tenant_id="user",
        non_exportable=resolved.non_exportable,
    )

    assert resolved.non_exportable
    assert is_marked(as_("user"), made.id)
