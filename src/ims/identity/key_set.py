"""The public keys of an issuer: fetched, kept, and fetched again when they have changed."""

import json
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

MIN_RSA_BITS: Final = 2048
_CHUNK_BYTES: Final = 64 * 1024
_MOST_WHO_WAIT: Final = 2
"""How many calls wait for keys at once: fewer than a worker has threads, so that others are served."""

_CURVE_OF: Final = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
_FAMILY_OF: Final[dict[str, Any]] = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}

_log = structlog.get_logger("ims.identity")


class KeysUnavailable(Exception):
    """The keys cannot be had, or are no keys; the message is for the operator."""


Fetch = Callable[[], bytes]


@dataclass(frozen=True)
class _Key:
    key_id: str | None
    algorithm: str | None
    public: PublicKey

    def serves(self, algorithm: str) -> bool:
        """Whether it is a key for this algorithm: no key of one kind is ever tried as another."""
        if self.algorithm not in {None, algorithm}:
            return False
        if algorithm in _CURVE_OF:
            return (
                isinstance(self.public, ec.EllipticCurvePublicKey)
                and self.public.curve.name == _CURVE_OF[algorithm]
            )
        if algorithm == "EdDSA":
            return isinstance(self.public, ed25519.Ed25519PublicKey)
        return algorithm[:2] in {"RS", "PS"} and isinstance(self.public, rsa.RSAPublicKey)


@dataclass(frozen=True)
class _Kept:
    keys: tuple[_Key, ...]
    fetched: float


class KeySet:
    """The keys of an issuer, as of not too long ago.

    Whoever asks for a key that is there never waits, however slow the issuer is. A key that is not there
    has the keys fetched, once in `retry_seconds` however many ask; then a few of those who ask wait.
    """

    def __init__(
        self,
        fetch: Fetch,
        *,
        refresh_seconds: float,
        keep_seconds: float,
        retry_seconds: float,
        wait_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep what `fetch` gives; it raises KeysUnavailable, and is called by one thread at a time.

        Keys are fetched again after `refresh_seconds`. As long as that does not work, the old ones are
        good for `keep_seconds` after they came.
        """
        self._fetch = fetch
        self._refresh_seconds = refresh_seconds
        self._keep_seconds = keep_seconds
        self._retry_seconds = retry_seconds
        self._wait_seconds = wait_seconds
        self._clock = clock
        self._kept = _Kept((), float("-inf"))
        self._lock = threading.Lock()  # held for an instant, never while anything is fetched
        self._tried = float("-inf")
        self._fetching: threading.Event | None = None
        self._waiting = threading.Semaphore(_MOST_WHO_WAIT)

    def load(self) -> None:
        """Fetch now. Raises KeysUnavailable."""
        self._kept = _Kept(_read(self._fetch()), self._clock())
        self._tried = self._clock()

    def begin(self) -> None:
        """Have the keys fetched, and wait for nothing."""
        self._have_fetched()

    def find(self, key_id: str | None, algorithm: str) -> PublicKey | None:
        """Return the key with this id that serves an algorithm.

        Without an id, the only key that there is.
        """
        if self._age() > self._refresh_seconds:
            self._have_fetched()
        found = self._look(key_id, algorithm)
        if found is None and self._wait_for_new_ones():
            found = self._look(key_id, algorithm)
        return found

    def _look(self, key_id: str | None, algorithm: str) -> PublicKey | None:
        kept = self._kept
        if self._clock() - kept.fetched > self._keep_seconds:
            return None
        if key_id is None and len(kept.keys) > 1:
            return None
        fitting = [
            key.public
            for key in kept.keys
            if (key_id is None or key.key_id == key_id) and key.serves(algorithm)
        ]
        return fitting[0] if len(fitting) == 1 else None

    def _age(self) -> float:
        return self._clock() - self._kept.fetched

    def _wait_for_new_ones(self) -> bool:
        fetching = self._have_fetched()
        if fetching is None or not self._waiting.acquire(blocking=False):
            return False
        try:
            return fetching.wait(self._wait_seconds)
        finally:
            self._waiting.release()

    def _have_fetched(self) -> threading.Event | None:
        """Return what is set when the keys have been fetched; None when it is too soon to ask again."""
        with self._lock:
            if self._fetching is not None:
                return self._fetching
            if self._clock() - self._tried < self._retry_seconds:
                return None
            self._tried = self._clock()
            self._fetching = ended = threading.Event()
        threading.Thread(target=self._try, args=(ended,), name="keys", daemon=True).start()
        return ended

    def _try(self, ended: threading.Event) -> None:
        try:
            keys = _read(self._fetch())
            self._kept = _Kept(keys, self._clock())
        except KeysUnavailable as error:
            _log.warning("the issuer's keys cannot be had; those there are stay", why=str(error))
        except Exception:  # noqa: BLE001 - whatever it was, the next try is another
            _log.exception("the issuer's keys cannot be had; those there are stay")
        finally:
            with self._lock:
                self._fetching = None
            ended.set()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows nobody elsewhere: the address of the keys is the operator's word."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


def from_url(url: str, *, timeout_seconds: float, max_bytes: int, ca_file: Path | None = None) -> Fetch:
    """Return what fetches the keys that stand at a URL."""
    context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NoRedirects())

    def fetch() -> bytes:
        until = time.monotonic() + timeout_seconds
        content = b""
        try:
            with opener.open(url, timeout=timeout_seconds) as response:
                # The library's timeout is for each read; a server that drips must not have more.
                while chunk := response.read1(_CHUNK_BYTES):
                    content += chunk
                    if len(content) > max_bytes:
                        raise KeysUnavailable(f"{url} sends more than {max_bytes} bytes")
                    if time.monotonic() > until:
                        raise KeysUnavailable(f"{url} takes longer than {timeout_seconds} seconds")
        except (OSError, ValueError) as error:
            raise KeysUnavailable(f"{url}: {error}") from error
        return content

    return fetch


def from_file(path: Path, *, max_bytes: int) -> Fetch:
    """Return what reads the keys that stand in a file."""

    def fetch() -> bytes:
        try:
            with path.open("rb") as file:
                content = file.read(max_bytes + 1)
        except OSError as error:
            raise KeysUnavailable(f"{path}: {error.strerror}") from error
        if len(content) > max_bytes:
            raise KeysUnavailable(f"{path} has more than {max_bytes} bytes")
        return content

    return fetch


def _read(content: bytes) -> tuple[_Key, ...]:
    """Return the public keys of a JWK set; what is no key for signatures is passed over."""
    try:
        listed = json.loads(content)["keys"]
        keys = tuple(key for each in listed if (key := _key(each)) is not None)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise KeysUnavailable("what came is no JWK set") from error
    if not keys:
        raise KeysUnavailable("there is no key for signatures in the JWK set")
    return keys


def _key(jwk: dict[str, Any]) -> _Key | None:
    family = _FAMILY_OF.get(jwk.get("kty", ""))
    # Whose private half is published can be anybody's.
    if family is None or jwk.get("use", "sig") != "sig" or "d" in jwk:
        return None
    try:
        public = family.from_jwk(jwk)
    except (InvalidKeyError, ValueError, TypeError, KeyError):
        return None
    if isinstance(public, rsa.RSAPublicKey) and public.key_size < MIN_RSA_BITS:
        return None
    if not isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        return None
    return _Key(jwk.get("kid"), jwk.get("alg"), public)
