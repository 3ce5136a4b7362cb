"""An issuer's keys: kept while it is away, fetched when they change, and nobody waits for nothing."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ims.identity.key_set import KeySet, KeysUnavailable, from_file, from_url
from issuers import ANOTHER_RSA, ED25519, KEYS, P256, RSA, jwk, key_set


class Issuer:
    """What an issuer publishes, and how often it was asked; away, or slow, when told so."""

    def __init__(self) -> None:
        self.content = KEYS
        self.asked = 0
        self.away = False
        self.open = threading.Event()
        self.open.set()

    def __call__(self) -> bytes:
        self.asked += 1
        self.open.wait(30)
        if self.away:
            raise KeysUnavailable("away")
        return self.content


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.open.set()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(issuer: Issuer, clock: Clock) -> KeySet:
    made = KeySet(
        issuer, refresh_seconds=300, keep_seconds=3600, retry_seconds=10, wait_seconds=5, clock=clock
    )
    made.load()
    return made


def same(found, key) -> bool:
    def pem(public) -> bytes:
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    return found is not None and pem(found) == pem(key.public_key())


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until
        threading.Event().wait(0.01)


def test_an_unknown_id_has_the_keys_fetched_and_is_answered(keys: KeySet, issuer: Issuer, clock: Clock):
    issuer.content = key_set(jwk(ANOTHER_RSA, "new"))
    clock.seconds = 10

    assert same(keys.find("new", "RS256"), ANOTHER_RSA)
    assert keys.find("rsa", "RS256") is None


def test_many_unknown_ids_have_them_fetched_once_in_a_while(keys: KeySet, issuer: Issuer, clock: Clock):
    for number in range(100):
        assert keys.find(f"unknown-{number}", "RS256") is None
    within = issuer.asked
    clock.seconds = 10
    for number in range(100):
        assert keys.find(f"unknown-{number}", "RS256") is None

    assert (within, issuer.asked) == (1, 2)


def test_keys_are_fetched_again_after_a_while_without_anybody_waiting(
    keys: KeySet, issuer: Issuer, clock: Clock
):
    issuer.content = key_set(jwk(ANOTHER_RSA, "rsa"))
    issuer.open.clear()
    clock.seconds = 301

    begun = time.monotonic()
    assert same(keys.find("rsa", "RS256"), RSA)
    assert time.monotonic() - begun < 2
    issuer.open.set()
    wait_until(lambda: same(keys.find("rsa", "RS256"), ANOTHER_RSA))


def test_a_known_key_is_found_while_others_wait_for_unknown_ones(
    keys: KeySet, issuer: Issuer, clock: Clock
):
    clock.seconds = 10
    issuer.open.clear()
    with ThreadPoolExecutor(20) as pool:
        unknown = [pool.submit(keys.find, f"unknown-{number}", "RS256") for number in range(20)]
        # All but a few are told at once: they would take every thread there is.
        wait_until(lambda: sum(each.done() for each in unknown) == 18)
        assert same(keys.find("rsa", "RS256"), RSA)
        issuer.open.set()

    assert [each.result() for each in unknown] == [None] * 20
    assert issuer.asked == 2


@pytest.mark.parametrize(("seconds", "good"), [(3600, True), (3601, False)])
def test_while_the_issuer_is_away_its_keys_are_good_for_a_while(
    keys: KeySet, issuer: Issuer, clock: Clock, seconds: float, good: bool
):
    issuer.away = True
    clock.seconds = seconds

    assert (keys.find("rsa", "RS256") is not None) is good


def test_an_issuer_that_sends_nonsense_is_away(keys: KeySet, issuer: Issuer, clock: Clock):
    for nonsense in (b"", b"[]", b"{}", b'{"keys": [1]}', b'{"keys": []}', b"\xff", b"[" * 100_000):
        issuer.content = nonsense
        clock.seconds += 10
        assert keys.find("unknown", "RS256") is None

    assert same(keys.find("rsa", "RS256"), RSA)


def test_an_issuer_that_comes_back_is_asked_again(keys: KeySet, issuer: Issuer, clock: Clock):
    issuer.away, clock.seconds = True, 3700
    assert keys.find("rsa", "RS256") is None
    issuer.away, clock.seconds = False, 3710

    assert same(keys.find("rsa", "RS256"), RSA)


@pytest.mark.parametrize(
    "unfit",
    [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "x"},
        jwk(RSA, "x", use="enc"),
        jwk(RSA, "x", alg="RS512"),
        jwk(RSA, "x") | {"d": "AQAB"},
        jwk(rsa.generate_private_key(public_exponent=65537, key_size=1024), "x"),
        {"kty": "RSA", "n": "", "e": "", "kid": "x"},
        {"kty": "RSA", "kid": "x"},
        {"kty": 1, "kid": "x"},
        jwk(P256, "x"),
        jwk(ED25519, "x"),
    ],
)
def test_what_is_no_key_for_the_algorithm_is_passed_over(issuer: Issuer, unfit):
    issuer.content = key_set(unfit, jwk(RSA, "rsa"))
    keys = KeySet(issuer, refresh_seconds=300, keep_seconds=300, retry_seconds=300, wait_seconds=1)
    keys.load()

    assert keys.find("x", "RS256") is None
    assert same(keys.find("rsa", "RS256"), RSA)


def test_two_keys_under_one_id_are_none(issuer: Issuer):
    issuer.content = key_set(jwk(RSA, "x"), jwk(ANOTHER_RSA, "x"), jwk(P256, "x"))
    keys = KeySet(issuer, refresh_seconds=300, keep_seconds=300, retry_seconds=300, wait_seconds=1)
    keys.load()

    assert keys.find("x", "RS256") is None
    assert same(keys.find("x", "ES256"), P256)


# --- Where they come from ---------------------------------------------------------------------


class _Web(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        match self.path:
            case "/keys":
                self._send(200, KEYS)
            case "/large":
                self._send(200, b"x" * 5000)
            case "/elsewhere":
                self.send_response(302)
                self.send_header("location", "/keys")
                self.end_headers()
            case "/slow":
                self.send_response(200)
                self.end_headers()
                for _ in range(100):
                    self.wfile.write(b" ")
                    self.wfile.flush()
                    time.sleep(0.05)
            case _:
                self._send(404, b"")

    def _send(self, code: int, content: bytes) -> None:
        self.send_response(code)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Web)
    server.handle_error = lambda *_: None  # whoever asked for what is slow has gone
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_keys_are_fetched(web: str):
    assert from_url(f"{web}/keys", timeout_seconds=10, max_bytes=len(KEYS))() == KEYS


@pytest.mark.parametrize(
    ("path", "said"),
    [("large", "more than 4999 bytes"), ("elsewhere", "302"), ("slow", "longer than"), ("no", "404")],
)
def test_what_cannot_be_fetched_is_said(web: str, path: str, said: str):
    with pytest.raises(KeysUnavailable, match=said):
        from_url(f"{web}/{path}", timeout_seconds=1, max_bytes=4999)()


def test_an_issuer_that_does_not_listen_is_away():
    with pytest.raises(KeysUnavailable):
        from_url("http://127.0.0.1:1/keys", timeout_seconds=1, max_bytes=100)()


def test_a_file_has_its_bounds_too(tmp_path):
    path = tmp_path / "keys.json"
    path.write_bytes(KEYS)

    assert from_file(path, max_bytes=len(KEYS))() == KEYS
    with pytest.raises(KeysUnavailable, match="more than"):
        from_file(path, max_bytes=len(KEYS) - 1)()
    with pytest.raises(KeysUnavailable, match="No such file"):
        from_file(tmp_path / "none", max_bytes=1)()
