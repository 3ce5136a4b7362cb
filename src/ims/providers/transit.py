"""Keys that stay in a key server: its transit engine wraps and unwraps the data keys."""

import base64
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from ims.domain.image import KeyId
from ims.domain.tenant import TenantId
from ims.providers.key_server import NOT_FOUND, KeyServer, KeyServerError, Refused
from ims.providers.keys import DATA_KEY_BYTES, DataKey, unavailable

_KEY_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,62}[A-Za-z0-9_])?", re.ASCII)
"""What the transit engine takes for a name: nothing in it has a meaning in a path."""
_WRAPPED: Final = re.compile(rb"vault:v[1-9][0-9]{0,8}:[A-Za-z0-9+/]{1,512}={0,2}")
_AUTHENTICATED_TYPES: Final = frozenset(
    {"aes128-gcm96", "aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305"}
)
"""The types of keys that seal a context with what they encrypt."""
_MOST_ANSWERS: Final = 10_000
"""How many answers are kept: callers may name what keys they like."""

_log = structlog.get_logger("ims.providers")


class TransitKeys:
    """A KeyProvider whose keys are those of a transit engine, under their names there.

    A key called TENANT.NAME is for that tenant only, and one without a dot for each: what stands
    before the last dot is the tenant's id. It is usable as long as the server shows it to us and it is
    not soft-deleted. What the server says is believed for `cache_seconds`; a server that cannot be
    asked has no usable keys.

    A wrapped data key is the engine's text, `vault:v3:…`, which says by which version of the key it was
    wrapped. It was sealed with the context in UTF-8 as associated data.
    """

    def __init__(
        self,
        server: KeyServer,
        *,
        mount: str,
        cache_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._mount = mount
        self._cache_seconds = cache_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: dict[KeyId, _Answer] = {}

    def is_usable(self, key_id: KeyId, tenant_id: TenantId) -> bool:
        return _owner(key_id) in {"", tenant_id} and self._works(key_id)

    def new_data_key(self, key_id: KeyId, *, context: str) -> DataKey:
        plaintext = os.urandom(DATA_KEY_BYTES)
        return DataKey(plaintext=plaintext, wrapped=self.wrap(key_id, plaintext, context=context))

    def unwrap(self, key_id: KeyId, wrapped: bytes, *, context: str) -> bytes:
        if not _KEY_NAME.fullmatch(key_id) or not _WRAPPED.fullmatch(wrapped):
            raise unavailable(key_id)
        data = self._do(
            key_id, "decrypt", {"ciphertext": wrapped.decode(), "associated_data": _base64(context)}
        )
        plaintext = _from_base64(data.get("plaintext"))
        if len(plaintext) != DATA_KEY_BYTES:
            raise unavailable(key_id)
        return plaintext

    def wrap(self, key_id: KeyId, data_key: bytes, *, context: str) -> bytes:
        # Encrypting with a key that is not there would make it, if our token may do that.
        if not self._works(key_id):
            raise unavailable(key_id)
        plaintext = base64.b64encode(data_key).decode()
        data = self._do(key_id, "encrypt", {"plaintext": plaintext, "associated_data": _base64(context)})
        ciphertext = data.get("ciphertext")
        wrapped = ciphertext.encode() if isinstance(ciphertext, str) else b""
        if not _WRAPPED.fullmatch(wrapped):
            raise unavailable(key_id)
        return wrapped

    def close(self) -> None:
        """Let go of the connections to the server."""
        self._server.close()

    def _works(self, key_id: KeyId) -> bool:
        """Whether a key is there to be used, whoever's it is."""
        answer = self._answers.get(key_id)
        now = self._clock()
        if answer is not None and now < answer.until:
            return not answer.trouble
        if not _KEY_NAME.fullmatch(key_id):
            return False
        try:
            trouble = _trouble(self._ask("GET", f"keys/{key_id}"))
        except Refused as refusal:
            trouble = _UNKNOWN if refusal.status == NOT_FOUND else str(refusal)
        except KeyServerError:
            return False  # and not remembered: the server knows when to be asked again
        if trouble not in {"", _UNKNOWN} and (answer is None or answer.trouble != trouble):
            _log.warning("a key cannot be used", key_id=key_id, why=trouble)
        self._remember(key_id, _Answer(trouble=trouble, until=now + self._cache_seconds))
        return not trouble

    def _remember(self, key_id: KeyId, answer: "_Answer") -> None:
        with self._lock:
            if len(self._answers) >= _MOST_ANSWERS:
                self._answers.clear()
            self._answers[key_id] = answer

    def _do(self, key_id: KeyId, verb: str, body: Mapping[str, str]) -> Mapping[str, Any]:
        """Have something encrypted or decrypted. Raises Rejection KEY_UNAVAILABLE."""
        try:
            return self._ask("POST", f"{verb}/{key_id}", body)
        except KeyServerError as error:
            raise unavailable(key_id) from error

    def _ask(self, method: str, path: str, body: Mapping[str, str] | None = None) -> Mapping[str, Any]:
        data = self._server.ask(method, f"{self._mount}/{path}", body).get("data")
        return data if isinstance(data, dict) else {}


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """What a key server has said of a key."""

    trouble: str
    """Why it cannot be used; empty if it can."""
    until: float
    """How long that is believed."""


_UNKNOWN: Final = "it is not known"


def _trouble(key: Mapping[str, Any]) -> str:
    """Return why a key cannot be used to wrap data keys, or nothing."""
    if key.get("type") not in _AUTHENTICATED_TYPES:
        return "it is of a type that authenticates no associated data"
    if key.get("derived"):
        return "it is one that others are derived from"
    if key.get("soft_deleted"):
        return "it is soft-deleted"
    return ""


def _owner(key_id: KeyId) -> str:
    return key_id.rpartition(".")[0]


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _from_base64(text: object) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        return b""
