"""Who calls, as the server hears it."""

import pytest

from ims.client import Client, DevelopmentIdentity
from ims.v1.image_service_pb2 import GetImageResponse, ListImagesResponse


@pytest.fixture
def heard():
    return []


@pytest.fixture
def methods(heard):
    def hear(answer):
        def method(_, context):
            heard.append({key: value for key, value in context.invocation_metadata() if "ims-" in key})
            return answer

        return method

    return {"GetImage": hear(GetImageResponse()), "ListImages": hear(ListImagesResponse())}


def test_every_call_carries_the_whole_identity(scripted, heard, methods):
    identity = {"tenant": "acme", "user": "ann", "roles": ["service", "admin"], "region": "eu-de"}
    client = scripted(identity, **methods)

    client.get_image("an-id")
    list(client.list_images())

    everything = {
        "ims-tenant": "acme",
        "ims-user": "ann",
        "ims-roles": "service,admin",
        "ims-region": "eu-de",
    }
    assert heard == [everything, everything]


def test_what_is_not_said_is_not_sent(scripted, heard, methods):
    scripted({"tenant": "acme"}, **methods).get_image("an-id")

    assert heard == [{"ims-tenant": "acme"}]


def test_other_credentials_are_asked_anew_for_each_call(scripted, heard, methods):
    class Tokens:
        secret = True
        count = 0

        def metadata(self):
            self.count += 1
            return (("ims-token", str(self.count)),)

    client = scripted({"credentials": Tokens()}, **methods)

    client.get_image("an-id")
    client.get_image("an-id")

    assert heard == [{"ims-token": "1"}, {"ims-token": "2"}]


@pytest.mark.parametrize("tenant", ["ämter", "two\nlines", "nul\0"])
def test_what_the_wire_cannot_carry_is_refused_at_once(tenant):
    with pytest.raises(ValueError, match="printable ASCII"):
        DevelopmentIdentity(tenant)
    with pytest.raises(ValueError, match="printable ASCII"):
        Client("127.0.0.1:1", tenant=tenant)
