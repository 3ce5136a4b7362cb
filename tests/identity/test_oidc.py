"""Tokens: who calls is who the issuer says, and whatever is wrong with a token, the answer is one."""

import base64
import hashlib
import hmac
import json
import re
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from builders import ELSEWHERE, HOME
from calling import METHODS, Declined, answer_of, request_class
from conftest import MakeService
from ims.bootstrap import Service
from ims.domain.caller import Caller, Role
from ims.domain.rejection import Rejection
from ims.identity.oidc import MAX_TOKEN_BYTES, OidcIdentity
from ims.settings import Settings, SettingsError
from ims.v1 import image_service_pb2 as pb
from ims.v1.image_service_pb2_grpc import ImageServiceStub
from issuers import (
    A_DAY,
    ANOTHER_RSA,
    AUDIENCE,
    ED25519,
    ISSUER,
    KEYS,
    P256,
    P384,
    RSA,
    RealIssuer,
    a_token,
    an_identity,
    claims,
    encoded,
    jwk,
    key_set,
    signed,
)

# --- In the room ------------------------------------------------------------------------------


class Now:
    def __init__(self) -> None:
        self.seconds = time.time()

    def __call__(self) -> float:
        return self.seconds


IDENTITY = an_identity()


def caller_of(token: str, identity: OidcIdentity = IDENTITY) -> Caller:
    return identity.caller_of([("authorization", f"Bearer {token}")])


def is_believed(token: str, identity: OidcIdentity = IDENTITY) -> bool:
    try:
        caller_of(token, identity)
    except Rejection:
        return False
    return True


class TestWhoCalls:
    def test_it_is_whom_the_claims_name(self):
        caller = caller_of(a_token(region=ELSEWHERE, roles=["member", "admin"]))

        assert caller == Caller(
            tenant_id="acme",
            user_id="ada",
            roles=frozenset({Role.MEMBER, Role.ADMIN}),
            region=ELSEWHERE,
        )

    def test_a_tenant_is_at_home_here_unless_said(self):
        assert caller_of(a_token()).region == HOME

    @pytest.mark.parametrize(
        ("key", "alg", "kid"),
        [
            (RSA, "RS256", "rsa"),
            (RSA, "PS256", "rsa"),
            (P256, "ES256", "p256"),
            (ED25519, "EdDSA", "ed"),
        ],
    )
    def test_each_algorithm_is_believed(self, key, alg, kid):
        assert caller_of(a_token(key, alg, kid)).tenant_id == "acme"

    @pytest.mark.parametrize(
        ("roles", "known"),
        [
            (["reader"], {Role.READER}),
            ("reader service", {Role.READER, Role.SERVICE}),
            (["reader", "offline_access"], {Role.READER}),
            ("Reader", set()),
            ([], set()),
            (None, set()),
        ],
    )
    def test_roles_are_a_list_or_words_and_unknown_ones_give_nothing(self, roles, known):
        assert caller_of(a_token(roles=roles)).roles == known

    def test_who_has_no_known_role_has_the_default(self):
        identity = an_identity(default_roles=frozenset({Role.READER}))

        assert caller_of(a_token(roles=["other"]), identity).roles == {Role.READER}
        assert caller_of(a_token(roles=["member"]), identity).roles == {Role.MEMBER}

    def test_where_names_are_mapped_ours_give_nothing(self):
        identity = an_identity(role_names={"image-operator": Role.ADMIN, "user": Role.MEMBER})

        assert caller_of(a_token(roles=["user", "admin"]), identity).roles == {Role.MEMBER}
        assert caller_of(a_token(roles="image-operator"), identity).roles == {Role.ADMIN}

    def test_a_claim_is_found_by_its_path_or_by_its_whole_name(self):
        identity = an_identity(tenant_claim="project.id", roles_claim="https://x.example/roles")

        caller = caller_of(
            a_token(project={"id": "p1"}, **{"https://x.example/roles": "reader"}), identity
        )
        assert (caller.tenant_id, caller.roles) == ("p1", {Role.READER})

    def test_a_pattern_finds_the_tenant_in_a_claim(self):
        identity = an_identity(
            tenant_claim="sub", tenant_pattern=re.compile("spiffe://cloud/tenant/([^/]+)/.*")
        )

        assert caller_of(a_token(sub="spiffe://cloud/tenant/t1/x"), identity).tenant_id == "t1"
        assert not is_believed(a_token(sub="spiffe://other/tenant/t1/x"), identity)

    @pytest.mark.parametrize("aud", [AUDIENCE, [AUDIENCE], ["other", AUDIENCE]])
    def test_one_audience_of_several_suffices(self, aud):
        assert is_believed(a_token(aud=aud))

    @pytest.mark.parametrize("word", ["Bearer", "bearer", "BEARER"])
    def test_the_scheme_has_no_case(self, word: str):
        assert IDENTITY.caller_of([("authorization", f"{word} {a_token()}")]).tenant_id == "acme"

    def test_a_key_without_an_id_serves_where_it_is_the_only_one(self):
        assert is_believed(a_token(kid=None), an_identity(lambda: key_set(jwk(RSA))))
        assert not is_believed(a_token(kid=None))

    @pytest.mark.parametrize("tenant", ["a", "x" * 64, "A-z.0_9:x"])
    def test_a_tenant_has_1_to_64_plain_characters(self, tenant: str):
        assert caller_of(a_token(tenant=tenant)).tenant_id == tenant

    def test_a_user_has_128_characters_at_most(self):
        assert is_believed(a_token(sub="x" * 128))
        assert not is_believed(a_token(sub="x" * 129))


class TestTime:
    @pytest.mark.parametrize(("late", "believed"), [(29, True), (31, False)])
    def test_it_ends_when_it_says_give_or_take_the_skew(self, late: int, believed: bool):
        now = Now()
        token = a_token(exp=int(now.seconds))
        now.seconds = int(now.seconds) + late

        assert is_believed(token, an_identity(now=now)) is believed

    @pytest.mark.parametrize("claim", ["nbf", "iat"])
    @pytest.mark.parametrize(("early", "believed"), [(29, True), (31, False)])
    def test_it_begins_when_it_says_give_or_take_the_skew(self, claim, early, believed):
        now = Now()

        assert is_believed(a_token(**{claim: now.seconds + early}), an_identity(now=now)) is believed

    def test_a_token_that_was_believed_ends_with_its_time(self):
        now = Now()
        identity = an_identity(now=now, skew_seconds=0, remember_seconds=1000)
        token = a_token(exp=now.seconds + 100)

        seen = [is_believed(token, identity)]
        for step in (99, 2):
            now.seconds += step
            seen.append(is_believed(token, identity))

        assert seen == [True, True, False]

    def test_a_token_is_verified_anew_after_a_while(self):
        now = Now()
        keys = [KEYS]
        identity = an_identity(lambda: keys[0], now=now, remember_seconds=60)
        token = a_token()
        assert is_believed(token, identity)

        keys[0] = key_set(jwk(ANOTHER_RSA, "rsa"))
        identity._keys.load()
        now.seconds += 59
        still = is_believed(token, identity)
        now.seconds += 2

        assert (still, is_believed(token, identity)) == (True, False)

    def test_no_more_tokens_are_remembered_than_is_set(self):
        identity = an_identity(remember_tokens=10)

        for number in range(30):
            assert is_believed(a_token(sub=f"user-{number}"), identity)

        assert len(identity._known) == 10


# --- Bad tokens, over the wire ----------------------------------------------------------------

GOOD_HEAD = '{"alg":"RS256","kid":"rsa"}'
PUBLIC_PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def hs256(secret: bytes, head: str = '{"alg":"HS256","kid":"rsa"}') -> str:
    what = encoded(head.encode()) + b"." + encoded(json.dumps(claims()).encode())
    return (what + b"." + encoded(hmac.digest(secret, what, hashlib.sha256))).decode()


def unsigned(alg: str) -> str:
    head = json.dumps({"alg": alg, "kid": "rsa"}).encode()
    return (encoded(head) + b"." + encoded(json.dumps(claims()).encode()) + b".").decode()


def changed(**changes: object) -> str:
    """A good token whose claims were changed after it was signed."""
    head, _, signature = a_token().split(".")
    return f"{head}.{encoded(json.dumps(claims(**changes)).encode()).decode()}.{signature}"


def long_token(length: int) -> str:
    """A good token that makes an authorization of at least this length."""
    text = "x" * ((length - 1000) * 3 // 4)
    while len(f"Bearer {(token := a_token(more=text))}") < length:
        text += "x"
    return token


def body(**changes: object) -> str:
    return json.dumps(claims(**changes))


def twice(name: str, value: object) -> str:
    return body()[:-1] + f", {json.dumps(name)}: {json.dumps(value)}}}"


GOOD = a_token()
HEAD, BODY, SIGNATURE = GOOD.split(".")
ORDINARY_BASE64 = base64.b64encode(b"\xff" * 256).decode()

TOKENS = {
    "no signature, alg none": unsigned("none"),
    "alg None": unsigned("None"),
    "alg nOnE with a signature": f"{unsigned('nOnE')}{SIGNATURE}",
    "no alg": signed('{"kid":"rsa"}', body()),
    "alg that is a list": signed('{"alg":["RS256"],"kid":"rsa"}', body()),
    "alg null": signed('{"alg":null,"kid":"rsa"}', body()),
    "HS256 with the public key as the secret": hs256(PUBLIC_PEM),
    "HS256 with the key set as the secret": hs256(KEYS),
    "HS256 with an empty secret": hs256(b""),
    "HS256 with its own jwk": hs256(
        b"s", json.dumps({"alg": "HS256", "jwk": {"kty": "oct", "k": encoded(b"s").decode()}})
    ),
    "an algorithm that is not allowed, with a known key": a_token(RSA, "RS512"),
    "ES384, which is not allowed": a_token(P384, "ES384", "p384"),
    "ES256 with the id of an RSA key": a_token(P256, "ES256", "rsa"),
    "RS256 with the id of an EC key": a_token(RSA, "RS256", "p256"),
    "another key under the same id": a_token(ANOTHER_RSA),
    "an unknown key id": a_token(kid="unknown"),
    "no key id": a_token(kid=None),
    "an empty key id": signed('{"alg":"RS256","kid":""}', body()),
    "a key id that is a path": signed('{"alg":"RS256","kid":"../../etc/passwd"}', body()),
    "a key id that is SQL": signed('{"alg":"RS256","kid":"\' OR 1=1 --"}', body()),
    "a key id that is a number": signed('{"alg":"RS256","kid":1}', body()),
    "a key id that is a list": signed('{"alg":"RS256","kid":["rsa"]}', body()),
    "a key id with a null": signed('{"alg":"RS256","kid":"rsa\\u0000"}', body()),
    "an embedded jwk": a_token(ANOTHER_RSA, header={"jwk": jwk(ANOTHER_RSA, "rsa")}),
    "an embedded jwk of the right key": a_token(header={"jwk": jwk(RSA, "rsa")}),
    "a jku": a_token(header={"jku": "https://evil.example/keys"}),
    "an x5u": a_token(header={"x5u": "https://evil.example/cert"}),
    "an x5c": a_token(header={"x5c": ["MIIB"]}),
    "crit": signed('{"alg":"RS256","kid":"rsa","crit":["exp"]}', body()),
    "empty crit": signed('{"alg":"RS256","kid":"rsa","crit":[]}', body()),
    "b64 false": signed('{"alg":"RS256","kid":"rsa","b64":false}', body()),
    "of another type": a_token(header={"typ": "logout+jwt"}),
    "a type that is a number": signed('{"alg":"RS256","kid":"rsa","typ":1}', body()),
    "another issuer": a_token(iss="https://evil.example"),
    "the issuer with a slash more": a_token(iss=f"{ISSUER}/"),
    "the issuer in capitals": a_token(iss=ISSUER.upper()),
    "the issuer in a list": signed(GOOD_HEAD, body(iss=[ISSUER])),
    "no issuer": a_token(iss=None),
    "another audience": a_token(aud="urn:other"),
    "a part of the audience": a_token(aud="urn:im"),
    "no audience": a_token(aud=None),
    "no audience in the list": a_token(aud=[]),
    "an audience that is an object": a_token(aud={AUDIENCE: True}),
    "an audience among numbers": a_token(aud=[1, AUDIENCE]),
    "expired": a_token(exp=int(time.time()) - 60),
    "no expiry": a_token(exp=None),
    "an expiry that is a text": signed(GOOD_HEAD, body(exp=str(int(time.time()) + A_DAY))),
    "an expiry that is true": signed(GOOD_HEAD, body(exp=True)),
    "an expiry that is infinite": signed(GOOD_HEAD, body(exp="N").replace('"N"', "Infinity")),
    "an expiry beyond numbers": signed(GOOD_HEAD, body(exp="N").replace('"N"', "1" + "0" * 400)),
    "an expiry with too many digits": signed(GOOD_HEAD, body(exp="N").replace('"N"', "9" * 5000)),
    "an expiry as 1e999": signed(GOOD_HEAD, body(exp="N").replace('"N"', "1e999")),
    "not valid yet": a_token(nbf=int(time.time()) + A_DAY),
    "a beginning that is a text": signed(GOOD_HEAD, body(nbf="now")),
    "issued in the future": a_token(iat=int(time.time()) + A_DAY),
    "no tenant": a_token(tenant=None),
    "an empty tenant": a_token(tenant=""),
    "a tenant with a space": a_token(tenant="acme "),
    "a tenant with a line break": a_token(tenant="acme\n"),
    "a tenant with a null": a_token(tenant="acme\0"),
    "a tenant of look-alikes": a_token(tenant="аcme"),  # noqa: RUF001 - the first letter is Cyrillic
    "a tenant in wide letters": a_token(tenant="\uff41cme"),
    "a tenant of 65 characters": a_token(tenant="x" * 65),
    "a tenant that is a list": a_token(tenant=["acme"]),
    "a tenant that is a number": a_token(tenant=1),
    "a tenant with SQL": a_token(tenant="' OR 1=1 --"),
    "a user that is an object": signed(GOOD_HEAD, body(sub={"a": 1})),
    "a user with a line break": signed(GOOD_HEAD, body(sub="a\nb")),
    "roles that are an object": a_token(roles={"admin": True}),
    "roles among numbers": a_token(roles=["admin", 1]),
    "a tenant twice": signed(GOOD_HEAD, twice("tenant", "other")),
    "an expiry twice": signed(GOOD_HEAD, twice("exp", int(time.time()) + A_DAY)),
    "an algorithm twice": signed('{"alg":"none","alg":"RS256","kid":"rsa"}', body()),
    "a key twice, deep inside": signed(GOOD_HEAD, body()[:-1] + ', "deep": {"a": 1, "a": 2}}'),
    "a body that is a list": signed(GOOD_HEAD, f"[{body()}]"),
    "a body that is no JSON": signed(GOOD_HEAD, "tenant=acme"),
    "a body that is not UTF-8": signed(GOOD_HEAD, b'{"tenant": "\xff"}'),
    "a body in UTF-16": signed(GOOD_HEAD, body().encode("utf-16")),
    "a body that is very deep": signed(GOOD_HEAD, "[" * 4000),
    "a header that is no JSON": signed("RS256", body()),
    "an empty header": signed("", body()),
    "a header that is a text": signed('"RS256"', body()),
    "changed after it was signed": changed(tenant="globex"),
    "another's signature": f"{HEAD}.{BODY}.{a_token(ANOTHER_RSA).split('.')[2]}",
    "truncated": GOOD[:-10],
    "without its signature": f"{HEAD}.{BODY}.",
    "of two parts": f"{HEAD}.{BODY}",
    "of four parts": f"{GOOD}.{SIGNATURE}",
    "of five, as if encrypted": f"{GOOD}.{SIGNATURE}.{SIGNATURE}",
    "padded": f"{GOOD}==",
    "with a character more": f"{GOOD}A",
    "with a space inside": f"{HEAD} .{BODY}.{SIGNATURE}",
    "in ordinary base64": f"{HEAD}.{BODY}.{ORDINARY_BASE64}",
    "longer than it may be": long_token(MAX_TOKEN_BYTES + 1),
    "much longer than it may be": long_token(MAX_TOKEN_BYTES + 8 * 1024),
}

NO_BEARER = {
    "nothing": [],
    "an empty one": [("authorization", "")],
    "the scheme alone": [("authorization", "Bearer")],
    "the scheme and a space": [("authorization", "Bearer ")],
    "the token alone": [("authorization", GOOD)],
    "basic": [("authorization", "Basic YWNtZTpzZWNyZXQ=")],
    "a good token under another scheme": [("authorization", f"DPoP {GOOD}")],
    "two spaces": [("authorization", f"Bearer  {GOOD}")],
    "two tokens in one": [("authorization", f"Bearer {GOOD}, Bearer {GOOD}")],
    "the same twice": [("authorization", f"Bearer {GOOD}")] * 2,
    "a bad one and a good one": [("authorization", "Bearer x"), ("authorization", f"Bearer {GOOD}")],
    "in another header": [("x-authorization", f"Bearer {GOOD}")],
    "in bytes": [("authorization-bin", f"Bearer {GOOD}".encode())],
    "as the development identity": [("ims-tenant", "acme"), ("ims-roles", "admin")],
}

BAD = NO_BEARER | {name: [("authorization", f"Bearer {token}")] for name, token in TOKENS.items()}


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.write_bytes(KEYS)
    return path


@pytest.fixture
def guarded(make_service: MakeService, keys_file: Path) -> Service:
    return make_service(oidc={"issuer": ISSUER, "audiences": [AUDIENCE], "jwks_file": str(keys_file)})


@pytest.fixture
def ask(guarded: Service) -> Iterator[Callable[..., Declined]]:
    with grpc.insecure_channel(f"127.0.0.1:{guarded.port}") as channel:
        stub = ImageServiceStub(channel)
        yield lambda metadata: answer_of(
            lambda: stub.ListImages(pb.ListImagesRequest(), metadata=metadata, timeout=30)
        )


def bearer(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


@pytest.mark.databases("sqlite")
def test_whatever_is_wrong_with_a_token_the_answer_is_the_same_to_the_byte(ask):
    usual = ask([])
    assert (usual.code, usual.reason, usual.metadata) == ("UNAUTHENTICATED", "UNAUTHENTICATED", {})
    assert usual.headers.pop("ims-request-id")

    wrong = {}
    for name, metadata in BAD.items():
        seen = ask(metadata)
        seen.headers.pop("ims-request-id", None)
        if seen != usual:
            wrong[name] = seen

    assert len(BAD) > 100
    assert wrong == {}
    assert ask(bearer(GOOD)).code == "OK"


@pytest.mark.databases("sqlite")
def test_every_rpc_asks_for_a_token(guarded: Service):
    with grpc.insecure_channel(f"127.0.0.1:{guarded.port}") as channel:
        for rpc, (service, method) in METHODS.items():
            arity = ["unary", "stream"]
            shape = f"{arity[method.client_streaming]}_{arity[method.server_streaming]}"
            call = getattr(channel, shape)(f"/ims.v1.{service}/{rpc}")
            data = request_class(rpc)().SerializeToString()

            def send(call=call, data=data, method=method):
                answer = call(
                    iter([data]) if method.client_streaming else data,
                    metadata=[("ims-tenant", "acme")],
                    timeout=30,
                )
                return list(answer) if method.server_streaming else answer

            assert answer_of(send).code == "UNAUTHENTICATED", rpc


@pytest.mark.databases("sqlite")
def test_forged_metadata_beside_a_token_changes_nothing(guarded: Service):
    forged = [("ims-tenant", "globex"), ("ims-roles", "admin"), ("ims-tenant", "again")]
    with grpc.insecure_channel(f"127.0.0.1:{guarded.port}") as channel:
        stub = ImageServiceStub(channel)
        listed = answer_of(
            lambda: stub.GetQuotas(pb.GetQuotasRequest(), metadata=[*bearer(GOOD), *forged], timeout=30)
        )
        made = stub.CreateImage(
            request_class("CreateImage")(name="one", type="SYSTEM_DISK", disks=[{"format": "RAW"}]),
            metadata=[*bearer(GOOD), *forged],
            timeout=30,
        )

    assert listed.code == "OK"
    assert made.image.owner_tenant_id == "acme"


@pytest.mark.databases("sqlite")
def test_a_token_without_a_role_calls_nothing(ask):
    answer = ask(bearer(a_token(roles=["offline_access"])))

    assert (answer.code, answer.reason) == ("PERMISSION_DENIED", "ROLE_REQUIRED")


# --- A real issuer ----------------------------------------------------------------------------

CLIENTS = {
    "acme-app": {"tenant": "acme", "roles": ["member"]},
    "looker": {"tenant": "acme", "roles": ["reader"]},
    "stray": {"roles": ["admin"]},
}


@pytest.mark.databases("sqlite")
def test_a_real_issuers_tokens_are_believed_and_its_keys_may_change(make_service: MakeService):
    with RealIssuer(CLIENTS) as issuer:
        service = make_service(
            oidc={
                "issuer": issuer.url,
                "audiences": [AUDIENCE],
                "jwks_url": issuer.jwks_url,
                "jwks_retry_seconds": 0.1,
            }
        )
        with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
            stub = ImageServiceStub(channel)

            def create(client: str, name: str) -> Declined:
                request = request_class("CreateImage")(
                    name=name, type="SYSTEM_DISK", disks=[{"format": "RAW"}]
                )
                metadata = bearer(issuer.token(client))
                return answer_of(lambda: stub.CreateImage(request, metadata=metadata, timeout=30))

            before = [create("acme-app", "a").code, create("looker", "b").reason]
            stray = create("stray", "c").code
            old = issuer.token("acme-app")
            issuer.rotate()
            after = [create("acme-app", "d").code, create("looker", "e").reason]
            outlived = answer_of(
                lambda: stub.ListImages(pb.ListImagesRequest(), metadata=bearer(old), timeout=30)
            )

    assert before == after == ["OK", "ROLE_REQUIRED"]
    assert stray == "UNAUTHENTICATED"
    # The issuer has taken its old key back, and nobody here had seen this token before.
    assert outlived.code == "UNAUTHENTICATED"


# --- How it is set up -------------------------------------------------------------------------


def oidc(**changes: object) -> dict[str, object]:
    usual = {"issuer": ISSUER, "audiences": [AUDIENCE], "jwks_url": "https://issuer.example/keys"}
    return {name: value for name, value in (usual | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"jwks_url": None}, "jwks_url or from jwks_file"),
        ({"jwks_file": "keys.json"}, "jwks_url or from jwks_file"),
        ({"jwks_url": "http://issuer.example/keys"}, "https"),
        ({"jwks_url": "file:///etc/passwd"}, "jwks_url"),
        ({"algorithms": ["HS256"]}, "algorithms"),
        ({"algorithms": ["none"]}, "algorithms"),
        ({"algorithms": []}, "algorithms"),
        ({"audiences": []}, "audiences"),
        ({"issuer": ""}, "issuer"),
        ({"role_names": {"x": "root"}}, "role_names"),
        ({"tenant_pattern": "("}, "no regular expression"),
        ({"tenant_pattern": "no group"}, "one group"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(changes, said):
    with pytest.raises(ValueError, match=said):
        Settings(oidc=oidc(**changes))


DOCUMENT = (Path(__file__).parents[2] / "docs/identity.md").read_text()


@pytest.mark.parametrize(
    "example", re.findall(r"^```toml\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)
)
def test_the_examples_of_the_document_are_settings(example: str):
    assert Settings(**tomllib.loads(example)).oidc is not None


def test_the_document_has_an_example_of_each_style():
    patterns = re.findall(r'^tenant_pattern = (".*")$', DOCUMENT, re.MULTILINE)

    assert len(re.findall(r"^```toml", DOCUMENT, re.MULTILINE)) == 3
    assert re.fullmatch(json.loads(patterns[0]), "spiffe://example.org/cloud/nova")[1] == "nova"


def test_keys_may_be_fetched_from_this_machine_without_tls():
    assert Settings(oidc=oidc(jwks_url="http://127.0.0.1:8080/keys")).oidc is not None


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"keys": []}', b"x" * (1024**2 + 1)])
def test_a_file_without_keys_is_a_reason_not_to_start(tmp_path: Path, content: bytes | None):
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(SettingsError, match=r"the issuer's keys cannot be had"):
        Service(Settings(listen="127.0.0.1:0", data=tmp_path, oidc=oidc(jwks_url=None, jwks_file=path)))


def test_tokens_do_not_travel_in_the_clear_on_a_network_unless_wanted(tmp_path: Path, keys_file: Path):
    given = {"listen": "0.0.0.0:0", "data": tmp_path, "oidc": oidc(jwks_url=None, jwks_file=keys_file)}
    with pytest.raises(SettingsError, match="allow_plaintext_on_network"):
        Service(Settings(**given))
    with pytest.raises(SettingsError, match="allow_plaintext_on_network"):
        Service(Settings(**given, allow_development_identity_on_network=True))

    service = Service(Settings(**given, allow_plaintext_on_network=True))
    service.start()
    service.stop()


def test_the_library_itself_would_not_have_signed_none():
    """The bad tokens are what they say: a good one made by the same means is believed."""
    assert jwt.get_unverified_header(GOOD)["alg"] == "RS256"
    assert is_believed(signed(GOOD_HEAD, body()))
    assert is_believed(long_token(MAX_TOKEN_BYTES - 4))
