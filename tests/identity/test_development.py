"""The development identity: callers are who they say they are, if they say it in an orderly way."""

import ipaddress
import socket
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import given
from hypothesis import strategies as st

from builders import ELSEWHERE, HOME, OWNER, RECIPIENT, a_caller
from calling import METHODS, declined, request_class
from conftest import As, MakeService, cannot_run
from ims.bootstrap import Service
from ims.domain.caller import Caller, Role
from ims.domain.rejection import Category, Reason, Rejection
from ims.identity.development import DevelopmentIdentity
from ims.servicers.reflection import V1, V1ALPHA
from ims.settings import SettingsError

IDENTITY = DevelopmentIdentity(home=HOME)


def caller_of(*claims: tuple[str, str | bytes]) -> Caller:
    return IDENTITY.caller_of(claims)


def refused(*claims: tuple[str, str | bytes]) -> str:
    """Return what a caller with such claims is told."""
    with pytest.raises(Rejection) as seen:
        caller_of(*claims)
    assert (seen.value.category, seen.value.reason) == (Category.UNAUTHENTICATED, Reason.UNAUTHENTICATED)
    return str(seen.value)


class TestClaims:
    def test_a_tenant_alone_is_a_member_at_home(self):
        assert caller_of(("ims-tenant", OWNER)) == a_caller(OWNER)

    def test_user_roles_and_region_are_believed_and_other_metadata_is_not_looked_at(self):
        caller = caller_of(
            ("user-agent", "x"),
            ("ims-tenant", OWNER),
            ("ims-user", "ada"),
            ("ims-roles", "admin"),
            ("ims-region", ELSEWHERE),
            ("ims-tenant-2", RECIPIENT),
        )

        assert caller == Caller(
            tenant_id=OWNER, user_id="ada", roles=frozenset({Role.ADMIN}), region=ELSEWHERE
        )

    @pytest.mark.parametrize("tenant", ["a", "A-z.0_9:x", "x" * 64])
    def test_a_tenant_has_1_to_64_plain_characters(self, tenant: str):
        assert caller_of(("ims-tenant", tenant)).tenant_id == tenant

    @pytest.mark.parametrize("tenant", ["", " ", "a b", "a/b", "ä", "a\n", "\0", "x" * 65, "*", "a,b"])
    def test_anything_else_is_no_tenant(self, tenant: str):
        assert "ims-tenant" in refused(("ims-tenant", tenant))

    def test_without_a_tenant_nobody_is_there(self):
        assert "ims-tenant" in refused()
        assert "ims-tenant" in refused(("ims-user", "ada"), ("ims-roles", "admin"))

    @pytest.mark.parametrize(
        ("names", "roles"),
        [
            ("", {Role.MEMBER}),
            (",", {Role.MEMBER}),
            ("reader", {Role.READER}),
            ("admin", {Role.ADMIN}),
            ("service,admin", {Role.SERVICE, Role.ADMIN}),
            (" service , admin ,", {Role.SERVICE, Role.ADMIN}),
            ("admin,admin", {Role.ADMIN}),
        ],
    )
    def test_roles_stand_between_commas(self, names: str, roles: set[Role]):
        assert caller_of(("ims-tenant", OWNER), ("ims-roles", names)).roles == roles

    @pytest.mark.parametrize("names", ["root", "Admin", "admin;service", "admin,root", "\0"])
    def test_an_unknown_role_is_refused_rather_than_left_out(self, names: str):
        assert "service, admin" in refused(("ims-tenant", OWNER), ("ims-roles", names))

    @pytest.mark.parametrize("region", ["", "eu de", "x" * 65, "eu\n", "ü"])
    def test_a_region_that_is_none_is_refused(self, region: str):
        assert "ims-region" in refused(("ims-tenant", OWNER), ("ims-region", region))

    def test_a_user_has_at_most_128_characters(self):
        assert caller_of(("ims-tenant", OWNER), ("ims-user", "x" * 128)).user_id == "x" * 128
        assert "ims-user" in refused(("ims-tenant", OWNER), ("ims-user", "x" * 129))

    @pytest.mark.parametrize("key", ["ims-tenant", "ims-user", "ims-roles", "ims-region"])
    def test_a_claim_that_is_there_twice_is_refused_even_when_both_say_the_same(self, key: str):
        claims = {"ims-tenant": OWNER, "ims-user": "ada", "ims-roles": "admin", "ims-region": HOME}
        assert f"'{key}'" in refused(*claims.items(), (key, claims[key]))

    def test_bytes_are_read_as_text(self):
        assert caller_of(("ims-tenant", b"owner")).tenant_id == OWNER
        refused(("ims-tenant", b"\xff"))

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["ims-tenant", "ims-user", "ims-roles", "ims-region", "other"]),
                st.one_of(st.text(max_size=70), st.binary(max_size=70), st.sampled_from(["admin", "a"])),
            ),
            max_size=6,
        )
    )
    def test_any_metadata_at_all_is_a_caller_or_is_refused(self, metadata: list[tuple[str, Any]]):
        categories = []
        try:
            assert caller_of(*metadata).tenant_id
        except Rejection as rejection:
            categories.append(rejection.category)
        assert categories in ([], [Category.UNAUTHENTICATED])


# --- On the wire ------------------------------------------------------------------------------


@pytest.mark.parametrize("rpc", METHODS)
def test_no_rpc_of_ours_works_without_an_identity(rpc: str, as_: As):
    nobody = as_(None)
    sensible = request_class(rpc)()
    answers = [nobody.answer(rpc, sensible), nobody.answer_raw(rpc, b"\xff")]

    for seen in answers:
        assert (seen.code, seen.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
    assert answers[0].status_bytes == answers[1].status_bytes


@pytest.mark.parametrize(
    ("tenant", "role", "region"),
    [("a b", "admin", HOME), (OWNER, "root", HOME), (OWNER, "admin", "eu de")],
)
def test_an_identity_that_cannot_be_believed_is_none(tenant: str, role: str, region: str, as_: As):
    with declined() as seen:
        as_(tenant, role, region=region).ListImages()

    assert (seen.code, seen.reason, seen.metadata) == ("UNAUTHENTICATED", "UNAUTHENTICATED", {})


def test_health_and_reflection_need_no_identity(service: Service):
    request = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        health = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=30)
        for name in (V1, V1ALPHA):
            reflect = channel.stream_stream(f"/{name}/ServerReflectionInfo")
            assert len(list(reflect(iter([request]), timeout=30))) == 1

    status = health_pb2.HealthCheckResponse.FromString(health).status
    assert status == health_pb2.HealthCheckResponse.SERVING


def test_nothing_in_a_request_makes_somebody_another_tenant(as_: As):
    image = as_(OWNER).create("one")
    with declined() as seen:
        as_(RECIPIENT).create("two", owner_tenant_id=OWNER)
    assert seen.reason == "ROLE_REQUIRED"

    for rpc, fields in (("DownloadImageData", {}), ("ResolveImage", {"purpose": "CREATE_ECS"})):
        request = request_class(rpc)(image_id=image.id, tenant_id=OWNER, **fields)
        answer = as_(RECIPIENT).answer(rpc, request)
        assert (answer.code, answer.reason) == ("PERMISSION_DENIED", "ROLE_REQUIRED")


# --- Where it may be used ---------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "[::1]"])
def test_it_is_served_on_this_machines_own_addresses(host: str, make_service: MakeService):
    if host == "[::1]" and not _has_ipv6():
        cannot_run("this machine has no IPv6")

    assert make_service(listen=f"{host}:0").port


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "[::]", "192.0.2.1", "ims.example", "", "*", "127.0.0.1.evil"]
)
def test_it_is_not_served_where_others_can_reach_it(host: str, make_service: MakeService):
    with pytest.raises(SettingsError) as seen:
        make_service(listen=f"{host}:0")

    assert "allow_development_identity_on_network" in str(seen.value)


def test_it_is_served_to_others_when_that_is_asked_for_in_so_many_words(make_service: MakeService):
    service = make_service(listen="0.0.0.0:0", allow_development_identity_on_network=True)

    assert ipaddress.ip_address(service.settings.host).is_unspecified
    assert service.port


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
