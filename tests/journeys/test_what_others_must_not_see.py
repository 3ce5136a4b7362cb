"""What one side of a share, or a service, must not learn of the other, and when an end is an end."""

from calling import declined
from conftest import As, Clock, MakeService
from ims.domain.image import KeyId
from ims.providers.keys import add_key
from ims.v1 import image_pb2
from ims.v1.image_service_pb2 import DownloadImageDataRequest

CBR = {"type": "FULL_ECS", "source": {"cbr_backup": {"backup_id": "b"}}, "owner_tenant_id": "owner"}


def test_a_recipients_vault_is_shown_to_the_recipient_only(make_service: MakeService, as_: As):
    vaults = {"recipient": [{"id": "my-vault", "capacity_gib": 10}]}
    service = make_service(vaults=vaults)
    owner, recipient = as_("owner", of=service), as_("recipient", of=service)
    image = as_("cbr", "service", of=service).active("server", **CBR)
    owner.ShareImage(image_id=image.id, recipients=[{"tenant_id": "recipient"}])

    accepted = recipient.AcceptShare(image_id=image.id, vault_id="my-vault").share

    assert accepted.vault_id == "my-vault"
    assert recipient.GetShare(image_id=image.id).share.vault_id == "my-vault"
    assert [share.vault_id for share in owner.ListShares(image_id=image.id).shares] == [""]
    assert owner.GetShare(image_id=image.id, tenant_id="recipient").share.vault_id == ""
    (ended,) = owner.UnshareImage(image_id=image.id, all_tenants=True).ended_shares
    assert ended.vault_id == ""


def test_a_service_sees_what_it_fills_only_while_it_fills_it(as_: As):
    cbr = as_("cbr", "service")
    image = cbr.create("server", **CBR)
    assert cbr.GetImage(image_id=image.id).image.relation == image_pb2.Relation.KIND_UNSPECIFIED

    cbr.upload(image.id, b"all of it")

    with declined() as hidden:
        cbr.GetImage(image_id=image.id)
    assert hidden.reason == "IMAGE_NOT_FOUND"


def test_an_etag_does_not_tell_how_many_others_have_the_image(as_: As):
    owner, recipient = as_("owner"), as_("recipient")
    image = owner.active("shared")
    owner.ShareImage(image_id=image.id, recipients=[{"tenant_id": "recipient"}])
    before = recipient.GetImage(image_id=image.id).image

    others = [{"tenant_id": f"other-{number}"} for number in range(10)]
    owner.ShareImage(image_id=image.id, recipients=others)
    owner.UnshareImage(image_id=image.id, tenant_ids=["other-1"])

    assert recipient.GetImage(image_id=image.id).image == before


def test_a_deleted_image_past_its_grace_period_is_not_listed_either(as_: As, clock: Clock):
    owner = as_("owner")
    image = owner.active("gone")
    owner.DeleteImage(image_id=image.id)
    assert [each.id for each in owner.ListImages(state="DELETED").images] == [image.id]

    clock.advance(days=8)

    listed = owner.ListImages(state="DELETED", include_total_size=True)
    assert (list(listed.images), listed.total_size) == ([], 0)


def test_a_deleted_image_is_shared_with_nobody_and_can_be_kept_so(as_: As):
    owner, recipient = as_("owner"), as_("recipient")
    image = owner.active("lent")
    owner.ShareImage(image_id=image.id, recipients=[{"tenant_id": "recipient"}])
    deleted = owner.DeleteImage(image_id=image.id)
    assert deleted.ended_share_count == 1
    assert owner.GetImage(image_id=image.id).image == deleted.image

    owner.UnshareImage(image_id=image.id, tenant_ids=["recipient"])

    assert owner.UndeleteImage(image_id=image.id).restored_share_count == 0
    with declined() as lost:
        recipient.GetImage(image_id=image.id)
    assert lost.reason == "IMAGE_NOT_FOUND"


def test_who_is_at_home_elsewhere_cannot_accept(as_: As):
    """The owner named no region; the recipient's own identity knows better."""
    owner, elsewhere = as_("owner"), as_("far-away", region="eu-nl")
    image = owner.active("lent")
    owner.ShareImage(image_id=image.id, recipients=[{"tenant_id": "far-away"}])

    with declined() as refused:
        elsewhere.AcceptShare(image_id=image.id)

    assert refused.reason == "CROSS_REGION_SHARE"
    assert refused.metadata["tenantRegion"] == "eu-nl"


def test_a_disabled_key_ends_a_running_download_at_its_next_chunk(make_service: MakeService, as_: As):
    service = make_service(chunk_bytes=64 * 1024)
    add_key(service.settings.keys, KeyId("mine"))
    owner = as_("owner", of=service)
    content = b"0123456789abcdef" * 65536 * 16
    image = owner.active("secret", content, encryption_key_id="mine")
    stream = owner._stubs["ImageService"].DownloadImageData(
        DownloadImageDataRequest(image_id=image.id), metadata=owner._metadata
    )
    next(stream)
    service.settings.keys.write_text("")

    with declined() as ended:
        received = sum(len(message.chunk) for message in stream)
        assert received < len(content)

    assert ended.reason == "KEY_UNAVAILABLE"


def test_a_key_that_is_given_to_another_tenant_stops_downloads_and_uses_alike(
    make_service: MakeService, as_: As
):
    service = make_service()
    add_key(service.settings.keys, KeyId("mine"))
    owner = as_("owner", of=service)
    image = owner.active("secret", encryption_key_id="mine")
    text = service.settings.keys.read_text()
    service.settings.keys.write_text(text.replace("secret =", 'tenant = "other"\nsecret ='))

    for call in (
        lambda: owner.download(image.id),
        lambda: owner.ResolveImage(image_id=image.id, purpose="CREATE_ECS"),
    ):
        with declined() as refused:
            call()
        assert refused.reason == "KEY_UNAVAILABLE"
