"""Client certificates: whom they stand for, and what a token beside them does."""

import pytest

from builders import HOME, a_caller
from ims.domain.caller import Role
from ims.domain.rejection import Reason, Rejection
from ims.identity.certificates import CertificateIdentity
from ims.identity.development import DevelopmentIdentity
from issuers import a_token, an_identity

NOVA = a_caller("nova", Role.SERVICE)
CINDER = a_caller("cinder", Role.SERVICE)
CALLERS = {"spiffe://cloud/nova": NOVA, "cinder.cloud": CINDER}
TOKEN = (("authorization", f"Bearer {a_token(tenant='acme', sub='', roles=['reader'])}"),)


def refused(identity: CertificateIdentity, *names: str, metadata=()) -> bool:
    with pytest.raises(Rejection) as seen:
        identity.caller_of(metadata, names)
    return seen.value.reason is Reason.UNAUTHENTICATED


def test_a_known_name_is_who_it_stands_for_among_unknown_ones():
    identity = CertificateIdentity(CALLERS, None)

    assert identity.caller_of((), ("spiffe://cloud/nova",)) == NOVA
    assert identity.caller_of((), ("other", "cinder.cloud")) == CINDER


@pytest.mark.parametrize(
    "names", [(), ("nova",), ("spiffe://cloud/nova/",), ("SPIFFE://cloud/nova",), tuple(CALLERS)]
)
def test_no_name_an_unknown_one_and_two_known_ones_are_nobody(names: tuple[str, ...]):
    assert refused(CertificateIdentity(CALLERS, None), *names)


def test_a_token_decides_whatever_the_certificate_is_of():
    identity = CertificateIdentity(CALLERS, an_identity())

    assert identity.caller_of(TOKEN, ("spiffe://cloud/nova",)) == a_caller("acme", Role.READER)
    assert identity.caller_of((), ("spiffe://cloud/nova",)) == NOVA


def test_a_bad_token_and_none_are_told_the_same():
    """Or whoever has one half of a proof could search for the other."""
    identity = CertificateIdentity(CALLERS, an_identity())
    told = set()
    for metadata in ((), (("authorization", "Bearer x.y.z"),), (("authorization", "Basic x"),)):
        with pytest.raises(Rejection) as seen:
            identity.caller_of(metadata, ("unknown",))
        told.add(str(seen.value))

    assert len(told) == 1


def test_a_token_that_nobody_verifies_is_not_passed_over():
    assert refused(CertificateIdentity(CALLERS, None), "spiffe://cloud/nova", metadata=TOKEN)


def test_what_the_development_identity_claims_is_nothing_beside_certificates():
    metadata = (("ims-tenant", "acme"), ("ims-roles", "admin"))

    assert refused(CertificateIdentity(CALLERS, None), metadata=metadata)
    assert DevelopmentIdentity(home=HOME).caller_of(metadata).has(Role.ADMIN)
