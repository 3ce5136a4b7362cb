"""Operations from Python."""

import pytest

from client.conftest import ClientOf
from ims.bootstrap import Service
from ims.client import Client, Declined, Image, metadata_of


@pytest.fixture
def image(acme: Client, tmp_path) -> Image:
    path = tmp_path / "disk.raw"
    path.write_bytes(b"bytes of a disk " * 64)
    return acme.create_from_file(path, name="source")


def test_a_copy_is_waited_for(acme: Client, image: Image):
    at_once = acme.copy_image(image.id, name="copy", description="mine")
    later = acme.copy_image(image.id, name="sealed", encryption_key_id="key-1")

    assert at_once.done
    assert acme.made_image(at_once).description == "mine"
    sealed = acme.made_image(later, timeout_seconds=30)
    assert sealed == acme.get_image(sealed.id)
    assert acme.made_image(acme.copy_image(sealed.id, name="plain", decrypt=True)).disks == image.disks
    assert [each.name for each in acme.list_operations(done=True, page_size=1)][1:] == [
        later.name,
        at_once.name,
    ]


def test_what_has_failed_raises_what_its_call_would_have(
    service: Service, acme: Client, image: Image, monkeypatch
):
    monkeypatch.setattr(service._executor, "do_next", lambda: False)
    operation = acme.copy_image(image.id, name="sealed", encryption_key_id="key-1")
    with pytest.raises(TimeoutError):
        acme.finish(operation, timeout_seconds=0.1)

    acme.cancel_operation(operation.name)

    with pytest.raises(Declined, match="cancelled") as cancelled:
        acme.made_image(operation)
    assert (cancelled.value.code, cancelled.value.reason) == ("CANCELLED", "OPERATION_CANCELLED")
    ended = acme.get_operation(operation.name)
    assert metadata_of(ended).state == metadata_of(ended).CANCELLED
    acme.delete_operation(operation.name)
    assert not list(acme.list_operations())


def test_a_copy_is_either_encrypted_or_not(client_of: ClientOf):
    with pytest.raises(ValueError, match="either"):
        client_of("acme").copy_image("x", name="y", encryption_key_id="key-1", decrypt=True)
