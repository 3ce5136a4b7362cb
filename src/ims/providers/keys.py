"""The keys that tenants encrypt images with: they wrap the data keys that seal the blobs."""

import base64
import errno
import fcntl
import json
import logging
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ims.domain.image import KeyId
from ims.domain.rejection import Category, Reason, Rejection, reject
from ims.domain.tenant import TenantId

_log = logging.getLogger(__name__)

DATA_KEY_BYTES: Final = 32

_KEY_ID = re.compile(r"[a-z0-9-]{1,64}")
_SECRET_BYTES = 32
_NONCE_BYTES = 12


@dataclass(frozen=True, kw_only=True)
class DataKey:
    """A fresh key for one blob."""

    plaintext: bytes = field(repr=False)
    """32 bytes, to be used now and never stored."""
    wrapped: bytes
    """The same, encrypted, to be stored."""


class KeyProvider(Protocol):
    """Holds keys and gives none away: it wraps and unwraps data keys with them."""

    def is_usable(self, key_id: KeyId, tenant_id: TenantId) -> bool:
        """Say whether a key is known, not disabled, and for this tenant to use.

        May have to ask elsewhere and then remembers the answer: no transaction should be the first
        to want to know.
        """

    def new_data_key(self, key_id: KeyId, *, context: str) -> DataKey:
        """Make a data key that only this key unwraps, and only in the same context.

        Raises Rejection KEY_UNAVAILABLE. Does not ask whose the key is: `is_usable` does.
        """

    def unwrap(self, key_id: KeyId, wrapped: bytes, *, context: str) -> bytes:
        """Return the plaintext of a data key.

        Raises Rejection KEY_UNAVAILABLE, also when it was wrapped by another key or in another context.
        """

    def wrap(self, key_id: KeyId, data_key: bytes, *, context: str) -> bytes:
        """Wrap a data key that another key had wrapped, or the same in another context.

        `data_key` is its plaintext, 32 bytes. Raises Rejection KEY_UNAVAILABLE, and like `new_data_key`
        does not ask whose the key is.
        """


class LocalKeyFile:
    """A KeyProvider whose keys stand in a TOML file.

        [keys.KEY_ID]
        secret = "..."    # 32 bytes in base64
        tenant = "..."    # the only tenant that may use it; without it, each may
        disabled = true   # without it, false

    What the file says holds at once: it is read again when it has changed. No file means no keys.
    An entry that says anything else gives no key, lest a misspelt `disabled` go unheard, and a file
    that cannot be read gives none at all; either is named in the log.

    A wrapped data key is a random nonce of 12 bytes and, sealed with AES-256-GCM, the 32 bytes of
    the data key with a tag of 16; the associated data is the context in UTF-8.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: tuple[_Version, Mapping[str, _Key]] | None = None

    def is_usable(self, key_id: KeyId, tenant_id: TenantId) -> bool:
        key = self._keys().get(key_id)
        return key is not None and not key.disabled and key.tenant in {None, tenant_id}

    def new_data_key(self, key_id: KeyId, *, context: str) -> DataKey:
        plaintext = os.urandom(DATA_KEY_BYTES)
        return DataKey(plaintext=plaintext, wrapped=self.wrap(key_id, plaintext, context=context))

    def unwrap(self, key_id: KeyId, wrapped: bytes, *, context: str) -> bytes:
        nonce, sealed = wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:]
        try:
            return self._cipher(key_id).decrypt(nonce, sealed, context.encode())
        except (InvalidTag, ValueError) as error:  # ValueError: too short to hold a nonce
            raise unavailable(key_id) from error

    def wrap(self, key_id: KeyId, data_key: bytes, *, context: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher(key_id).encrypt(nonce, data_key, context.encode())

    def _cipher(self, key_id: KeyId) -> AESGCM:
        key = self._keys().get(key_id)
        if key is None or key.disabled:
            raise unavailable(key_id)
        return AESGCM(key.secret)

    def _keys(self) -> Mapping[str, "_Key"]:
        try:
            with FileIO(self._path) as file:
                version, read = _version(file), self._read
                if read is None or read[0] != version:
                    read = self._read = version, _usable(file.readall())
                return read[1]
        except FileNotFoundError:
            return {}
        except OSError as error:
            _log.error("The key file cannot be read and gives no key: %s", error)
            return {}


class KeyFileError(Exception):
    """What is wrong with a key file, or with a key to be added to it; for the operator to read."""


def add_key(path: Path, key_id: KeyId, *, tenant: TenantId | None = None) -> None:
    """Add a fresh key to a key file; make the file, for its owner's eyes only, when there is none.

    Raises KeyFileError, and leaves the file as it was, when it has the key or cannot take it.
    """
    if not _KEY_ID.fullmatch(key_id):
        raise KeyFileError("A key's id is 1 to 64 of a-z, 0-9 and '-'.")
    with FileIO(path, "ab+", opener=_open_private) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # or two at once could both find the id free
        file.seek(0)
        before = file.readall()
        if key_id in _entries(before):
            raise KeyFileError(f"There is a key {key_id} already.")
        addition = _new_entry(key_id, tenant)
        _key(_entries(before + addition)[key_id])
        _sync_folder(path.parent)  # before the key is there to be used: what a lost key sealed is lost
        _append(file, addition)


@dataclass(frozen=True, kw_only=True)
class _Key:
    secret: bytes = field(repr=False)
    tenant: str | None = None
    disabled: bool = False


_Version = tuple[int, int, int, int]


def _version(file: FileIO) -> _Version:
    """Return what changes whenever a file is edited or another takes its place."""
    status = os.fstat(file.fileno())
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _usable(content: bytes) -> Mapping[str, _Key]:
    """Return the keys of a file that can be used; the log says why others cannot."""
    try:
        entries = _entries(content)
    except KeyFileError as error:
        _log.error("The key file gives no key: %s", error)
        return {}
    keys = {}
    for key_id, entry in entries.items():
        try:
            keys[key_id] = _key(entry)
        except KeyFileError as error:
            _log.error("The key file does not give the key %s: %s", key_id, error)
    return keys


def _entries(content: bytes) -> Mapping[str, object]:
    try:
        keys = tomllib.loads(content.decode()).get("keys", {})
    except ValueError as error:
        # Only the place: the rest of the message may quote the file.
        place = re.search(r"at [^()]*(?=\)$)", str(error))
        raise KeyFileError(f"It is not TOML ({place[0] if place else 'not even text'}).") from None
    if not isinstance(keys, dict):
        raise KeyFileError("Its `keys` is no table.")
    return keys


def _key(entry: object) -> _Key:
    if not isinstance(entry, dict) or not entry.keys() <= {"secret", "tenant", "disabled"}:
        raise KeyFileError("It is a table of `secret`, `tenant` and `disabled`, and nothing else.")
    secret = _secret(entry.get("secret"))
    tenant, disabled = entry.get("tenant"), entry.get("disabled", False)
    if tenant is not None and not (isinstance(tenant, str) and tenant):
        raise KeyFileError("Its `tenant` is not a tenant's id.")
    if not isinstance(disabled, bool):
        raise KeyFileError("Its `disabled` is neither true nor false.")
    return _Key(secret=secret, tenant=tenant, disabled=disabled)


def _secret(value: object) -> bytes:
    try:
        secret = base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except ValueError:
        secret = b""
    if len(secret) != _SECRET_BYTES:
        raise KeyFileError(f"Its `secret` is not {_SECRET_BYTES} bytes in base64.")
    return secret


def _new_entry(key_id: KeyId, tenant: TenantId | None) -> bytes:
    lines = [
        "",  # ends a last line that has no end
        f"[keys.{key_id}]",
        f'secret = "{base64.b64encode(os.urandom(_SECRET_BYTES)).decode()}"',
    ]
    if tenant is not None:
        lines.append(f"tenant = {json.dumps(tenant, ensure_ascii=False)}")
    return "\n".join([*lines, ""]).encode()


def _append(file: FileIO, addition: bytes) -> None:
    """Write durably to a file's end, all or nothing.

    In place, so that the file keeps its owner and mode, and at one stroke, so that no reader meets
    a half of it.
    """
    size_bytes = os.fstat(file.fileno()).st_size
    try:
        written_bytes = file.write(addition)
        os.fsync(file.fileno())
    except BaseException:
        file.truncate(size_bytes)
        raise
    if written_bytes < len(addition):
        file.truncate(size_bytes)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def unavailable(key_id: KeyId) -> Rejection:
    """Return the one answer about a key that cannot be used, whoever holds it and whatever the cause."""
    return reject(
        Category.AGAINST_RULES,
        Reason.KEY_UNAVAILABLE,
        f"The key {key_id} is not known or is disabled.",
        keyId=key_id,
    )


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
