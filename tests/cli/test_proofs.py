"""`ims` against a real `ims serve` with TLS and tokens: who proves it is served."""

import json
import subprocess
import time
from pathlib import Path

import jwt
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa

from cli.conftest import IMS, without_settings
from serving import Server

ISSUER, AUDIENCE = "https://issuer.example", "ims"


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, key: rsa.RSAPrivateKey) -> Path:
    """A folder with all that a service in production has, and with what its callers have."""
    folder = tmp_path_factory.mktemp("production")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    made = authority.issue_cert("127.0.0.1")
    made.cert_chain_pems[0].write_to_path(folder / "ims.pem")
    made.private_key_pem.write_to_path(folder / "ims-key.pem")
    public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    (folder / "keys.json").write_text(json.dumps({"keys": [{**public, "kid": "one", "use": "sig"}]}))
    (folder / "ims.toml").write_text(f"""
[tls]
certificate = "{folder}/ims.pem"
key = "{folder}/ims-key.pem"
[oidc]
issuer = "{ISSUER}"
audiences = ["{AUDIENCE}"]
jwks_file = "{folder}/keys.json"
""")
    said = {"iss": ISSUER, "aud": AUDIENCE, "tenant": "acme", "sub": "ada", "roles": ["member"]}
    for name, exp in (("token", 3600), ("expired", -3600)):
        claims = {**said, "exp": int(time.time()) + exp}
        (folder / name).write_text(jwt.encode(claims, key, "RS256", headers={"kid": "one"}))
    return folder


@pytest.fixture(scope="module")
def server(folder: Path):
    with Server(folder / "data", "--config", str(folder / "ims.toml"), "--workers", "1") as running:
        yield running


def ims(server: Server, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**without_settings(), "IMS_SERVER": server.target, **variables}
    return subprocess.run(
        [IMS, *map(str, arguments)],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_token_in_a_file_or_in_the_environment_is_who_calls(server: Server, folder: Path):
    by_file = ims(server, "--ca", folder / "ca.pem", "--token-file", folder / "token", "quota", "--json")
    token = (folder / "token").read_text()
    by_variable = ims(server, "quota", "--json", IMS_CA=str(folder / "ca.pem"), IMS_TOKEN=token)

    assert by_file.returncode == by_variable.returncode == 0, by_file.stderr + by_variable.stderr
    assert json.loads(by_file.stdout) == json.loads(by_variable.stdout)


def test_what_is_claimed_without_proof_or_with_an_old_one_is_declined(server: Server, folder: Path):
    for arguments in (("--tenant", "acme"), ("--token-file", folder / "expired")):
        ended = ims(server, "--ca", folder / "ca.pem", *arguments, "quota")

        assert ended.returncode == 1
        assert "UNAUTHENTICATED" in ended.stderr


def test_a_token_file_that_is_not_there_is_told(server: Server, folder: Path):
    ended = ims(server, "--ca", folder / "ca.pem", "--token-file", folder / "none", "quota")

    assert ended.returncode == 3
    assert str(folder / "none") in "".join(ended.stderr.split())


def test_who_does_not_know_the_authority_reaches_nobody(server: Server, folder: Path):
    ended = ims(server, "--secure", "--token-file", folder / "token", "quota")

    assert ended.returncode == 3


def test_nobody_says_who_calls(server: Server):
    ended = ims(server, "quota")

    assert ended.returncode == 2
    assert "token" in ended.stderr


def test_the_log_says_why_and_never_the_token(server: Server, folder: Path):
    ims(server, "--ca", folder / "ca.pem", "--token-file", folder / "expired", "quota")

    log = server.log()
    assert "expired" in log
    assert (folder / "expired").read_text() not in log


def test_the_greeting_says_how_to_call(server: Server):
    assert "TLS, tokens" in server.greeting
    assert "-cacert" in server.greeting
