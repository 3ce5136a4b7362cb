"""Copies within the region (law 6.1), on a real server."""


from calling import image_of
from conftest import As
from ims.bootstrap import Service
from ims.domain.image import KeyId
from ims.providers.keys import add_key

CONTENT = b"0123456789abcdef" * 65536 * 3  # three chunks


def test_smoke(service: Service, as_: As):
    add_key(service.settings.keys, KeyId("key-2"))
    owner = as_("owner")
    image = owner.active("source", CONTENT)
    op = owner.copy(image.id, "copy")
    print(op)
    copy = image_of(op)
    assert owner.download(copy.id) == CONTENT
    enc = owner.copied(image.id, "enc", encryption_key_id="key-1")
    assert owner.download(enc.id) == CONTENT
    rek = owner.copied(enc.id, "rek", encryption_key_id="key-2")
    assert owner.download(rek.id) == CONTENT
    dec = owner.copy(rek.id, "dec", decrypt=True)
    print(dec, owner.GetQuotas())
    assert owner.download(image_of(dec).id) == CONTENT
    print(owner.ListOperations())
