"""Issuers of tokens: a real one, and one whose tokens can be wrong in every way."""

import base64
import fcntl
import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from builders import HOME
from conftest import cannot_run, needs
from ims.domain.caller import Role
from ims.identity.key_set import KeySet
from ims.identity.oidc import OidcIdentity, Trust

HERE = Path(__file__).parent / "issuer"
INSTALLED = Path(__file__).parent.parent / "build" / "issuer"
AUDIENCE = "urn:ims"
A_DAY = 24 * 3600
"""How long tokens are good, in seconds: longer than any run of the tests, which are made before it."""


class RealIssuer:
    """oidc-provider on a free port of this machine, for as long as it is open."""

    def __init__(self, claims: dict[str, dict[str, object]]) -> None:
        """Start it with clients, each with what its tokens say beside the usual."""
        node = needs(shutil.which("node"), "node")
        self._process = subprocess.Popen(
            [node, str(_installed() / "issuer.js"), json.dumps(claims)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.url = self._line("ready").removeprefix("ready ")
        self.jwks_url = f"{self.url}/jwks"

    def token(self, client: str) -> str:
        """Have a token made for a client, by its credentials."""
        credentials = base64.b64encode(
            f"{client}:{urllib.parse.quote_plus(f'secret of {client}')}".encode()
        )
        request = urllib.request.Request(
            f"{self.url}/token",
            data=b"grant_type=client_credentials",
            headers={"authorization": f"Basic {credentials.decode()}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["access_token"]

    def rotate(self) -> None:
        """Forget the key that tokens were signed with, and take another."""
        assert self._process.stdin is not None
        self._process.stdin.write("rotate\n")
        self._process.stdin.flush()
        self._line("rotated")

    def _line(self, wanted: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(wanted):
                return line.strip()
        message = f"the issuer ended with {self._process.wait()}"
        raise AssertionError(message)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _installed() -> Path:
    """Return where the issuer is installed, as its lock file has it."""
    wanted = (HERE / "package-lock.json").read_text()
    done = INSTALLED / "installed"
    INSTALLED.mkdir(parents=True, exist_ok=True)
    # Tests run in several processes at once; one installs, and the others wait for it.
    with (INSTALLED / "installing").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        return _install(done, wanted)


def _install(done: Path, wanted: str) -> Path:
    for name in ("package.json", "package-lock.json", ".npmrc", "issuer.js"):
        shutil.copy(HERE / name, INSTALLED / name)
    if not done.exists() or done.read_text() != wanted:
        npm = needs(shutil.which("npm"), "npm")
        ended = subprocess.run(
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=INSTALLED,
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode != 0:
            cannot_run(f"the issuer cannot be installed: {ended.stderr[-500:]}")
        done.write_text(wanted)
    return INSTALLED


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ANOTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
ISSUER = "https://issuer.example"


def jwk(key: Any, kid: str | None = None, **more: str) -> dict[str, Any]:
    """Return the public half of a key, as an issuer publishes it."""
    public = key.public_key()
    family: Any = OKPAlgorithm
    if isinstance(key, rsa.RSAPrivateKey):
        family = RSAAlgorithm
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        family = ECAlgorithm
    told = dict(family.to_jwk(public, as_dict=True))
    return told | ({} if kid is None else {"kid": kid}) | more


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


KEYS = key_set(jwk(RSA, "rsa"), jwk(P256, "p256"), jwk(ED25519, "ed"), jwk(P384, "p384"))


def claims(**changes: object) -> dict[str, Any]:
    """What a good token says; a change to None takes a claim away."""
    now = int(time.time())
    usual = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ada",
        "iat": now,
        "exp": now + A_DAY,
        "tenant": "acme",
        "roles": ["member"],
    }
    return {name: value for name, value in (usual | changes).items() if value is not None}


def a_token(
    key: Any = RSA,
    alg: str = "RS256",
    kid: str | None = "rsa",
    header: dict | None = None,
    **changes: object,
) -> str:
    """Return a token that is good, but for what is changed."""
    headers = ({} if kid is None else {"kid": kid}) | (header or {})
    return jwt.encode(claims(**changes), key, algorithm=alg, headers=headers)


def signed(header: str | bytes, body: str | bytes, key: Any = RSA) -> str:
    """Return a token of any two texts, signed with RS256 whatever the header says."""
    parts = [part.encode() if isinstance(part, str) else part for part in (header, body)]
    what = b".".join(encoded(part) for part in parts)
    signature = RSAAlgorithm(RSAAlgorithm.SHA256).sign(what, key)
    return (what + b"." + encoded(signature)).decode()


def encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def an_identity(
    keys: Callable[[], bytes] = lambda: KEYS, *, now: Callable[[], float] = time.time, **changes: Any
) -> OidcIdentity:
    """Return a service's identity that trusts ISSUER, but for what is changed."""
    remember = {
        "remember_seconds": changes.pop("remember_seconds", 300),
        "remember_tokens": changes.pop("remember_tokens", 100),
    }
    usual = {
        "issuer": ISSUER,
        "audiences": frozenset({AUDIENCE}),
        "algorithms": frozenset({"RS256", "PS256", "ES256", "EdDSA"}),
        "skew_seconds": 30,
        "home": HOME,
        "tenant_claim": "tenant",
        "tenant_pattern": None,
        "user_claim": "sub",
        "roles_claim": "roles",
        "region_claim": "region",
        "role_names": {str(role): role for role in Role},
        "default_roles": frozenset(),
    }
    ring = KeySet(keys, refresh_seconds=300, keep_seconds=3600, retry_seconds=0.01, wait_seconds=30)
    ring.load()
    return OidcIdentity(Trust(**usual | changes), ring, now=now, **remember)
