"""A key server with HashiCorp Vault's HTTP API, OpenBao for instance, and how one logs in to it."""

import http.client
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from io import FileIO
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import structlog

FORBIDDEN: Final = 403
NOT_FOUND: Final = 404

_MAX_ANSWER_BYTES: Final = 256 * 1024
_CHUNK_BYTES: Final = 64 * 1024
_SUCCESS: Final = range(200, 300)
_REDIRECTION: Final = range(300, 400)
_AWAY: Final = frozenset({429, 502, 503, 504})
"""Too many requests, or nobody behind who serves: a sealed server, one that only stands by."""
_LEAST_SECONDS: Final = 30
"""How long a token is held on to at least, lest being denied things have us log in all the time."""
_SECRET_TEXT: Final = re.compile(r"[\x21-\x7e]{1,8192}", re.ASCII)
"""What a token and a secret id look like; whatever else would not pass as a header."""

_log = structlog.get_logger("ims.providers")


class KeyServerError(Exception):
    """What a key server was asked for did not come. The words are ours: none are the server's."""


class Unreachable(KeyServerError):
    """The server gives no answer just now, to nobody of us."""


class Refused(KeyServerError):
    """The server has answered, and does not do it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the key server answers {status}")
        self.status = status


Answer = Mapping[str, Any]
"""The document that was answered; empty where there is none."""


class Send(Protocol):
    """Asks a key server for one thing. Raises KeyServerError."""

    def __call__(
        self, method: str, path: str, body: Mapping[str, str] | None = None, *, token: str | None = None
    ) -> Answer: ...


class Login(Protocol):
    """Has the token that a key server wants to see."""

    def token(self, send: Send) -> str:
        """Return a token that is good as far as is known. Raises KeyServerError."""

    def forget(self, token: str) -> bool:
        """Hear that a token is not good any more; tell whether another one can be had."""


class KeyServer:
    """Asks a key server, over connections that are kept, as somebody who has logged in.

    A server that does not answer within `timeout_seconds`, or is busy or sealed, is left alone for
    `rest_seconds`: all that is asked meanwhile fails at once. Then one call tries for all.
    """

    def __init__(
        self,
        url: str,
        *,
        login: Login,
        namespace: str = "",
        ca_file: Path | None = None,
        timeout_seconds: float,
        rest_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect to nobody yet. Raises OSError when the authorities' certificates cannot be had.

        `url` is https://host:port, or http. Without `ca_file` the system's authorities are trusted.
        """
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port
        self._tls = None
        if parts.scheme == "https":
            self._tls = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        self._login = login
        self._namespace = namespace
        self._timeout_seconds = timeout_seconds
        self._rest_seconds = rest_seconds
        self._clock = clock
        self._lock = threading.Lock()  # held for an instant, never while anything is asked
        self._idle: list[http.client.HTTPConnection] = []
        self._away = False
        self._tries: int | None = None
        """The thread that tries for all whether the server is back."""
        self._next_try = float("-inf")

    def ask(self, method: str, path: str, body: Mapping[str, str] | None = None) -> Answer:
        """Return what the server answers; `path` is that behind /v1/. Raises KeyServerError.

        A token that is not good any more is replaced, once, if the login has another.
        """
        token = self._token()
        try:
            return self._send(method, path, body, token=token)
        except Refused as refusal:
            if refusal.status != FORBIDDEN or self._is_good(token) or not self._login.forget(token):
                raise
        return self._send(method, path, body, token=self._token())

    def close(self) -> None:
        """Close the connections that nobody is using."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _token(self) -> str:
        """Return the token. Without one nothing works, and for a while nobody tries again."""
        self._refuse_in_vain()
        try:
            return self._login.token(self._send)
        except Unreachable:
            raise
        except KeyServerError as error:
            self._note(str(error))
            raise

    def _is_good(self, token: str) -> bool:
        """Tell a token that is good for other things from one that has expired or was revoked."""
        try:
            self._send("GET", "auth/token/lookup-self", token=token)
        except Refused as refusal:
            return refusal.status != FORBIDDEN
        return True

    def _send(
        self, method: str, path: str, body: Mapping[str, str] | None = None, *, token: str | None = None
    ) -> Answer:
        self._refuse_in_vain()
        trouble = ""
        try:
            status, content = self._exchange(method, path, body, token)
        except OSError as error:
            trouble = f"it cannot be asked: {error.strerror or type(error).__name__}"
        except http.client.HTTPException as error:
            trouble = f"it answers what is no HTTP: {type(error).__name__}"
        else:
            if status in _AWAY or status in _REDIRECTION:
                trouble = f"it answers {status}"
        # Not in the except clause: what went wrong may quote the server, and would be the context.
        self._note(trouble)
        if trouble:
            raise Unreachable(f"the key server: {trouble}")
        if status not in _SUCCESS:
            raise Refused(status)
        return _document(content)

    def _refuse_in_vain(self) -> None:
        """Raise Unreachable as long as the server is away, except for the one who tries for all."""
        with self._lock:
            if not self._away or self._tries == threading.get_ident():
                return
            now = self._clock()
            if now < self._next_try:
                raise Unreachable("the key server did not answer a moment ago")
            self._tries = threading.get_ident()
            # Should that one be lost, another tries.
            self._next_try = now + self._timeout_seconds + self._rest_seconds

    def _note(self, trouble: str) -> None:
        with self._lock:
            was_away, self._away = self._away, bool(trouble)
            self._tries = None
            if trouble:
                self._next_try = self._clock() + self._rest_seconds
        if trouble and not was_away:
            _log.error("the key server is away; what is encrypted cannot be used", why=trouble)
        elif was_away and not trouble:
            _log.info("the key server is back")

    def _exchange(
        self, method: str, path: str, body: Mapping[str, str] | None, token: str | None
    ) -> tuple[int, bytes]:
        connection, kept = self._connection()
        try:
            try:
                answered = self._answered(connection, method, path, body, token)
            except OSError as error:
                # A server may close a connection that was kept. All that is asked can be asked twice.
                if not kept or isinstance(error, TimeoutError):
                    raise
                connection.close()
                answered = self._answered(connection, method, path, body, token)
        except BaseException:
            connection.close()
            raise
        with self._lock:
            self._idle.append(connection)
        return answered

    def _connection(self) -> tuple[http.client.HTTPConnection, bool]:
        """Return a connection for nobody else, and whether it was used before."""
        with self._lock:
            if self._idle:
                return self._idle.pop(), True
        if self._tls is None:
            plain = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_seconds)
            return plain, False
        secure = http.client.HTTPSConnection(
            self._host, self._port, timeout=self._timeout_seconds, context=self._tls
        )
        return secure, False

    def _answered(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Mapping[str, str] | None,
        token: str | None,
    ) -> tuple[int, bytes]:
        until = time.monotonic() + self._timeout_seconds
        headers = {"X-Vault-Request": "true"}
        if token is not None:
            headers["X-Vault-Token"] = token
        if self._namespace:
            headers["X-Vault-Namespace"] = self._namespace
        content = None if body is None else json.dumps(body).encode()
        connection.request(method, f"/v1/{path}", content, headers)
        response = connection.getresponse()
        read = b""
        # The library's timeout is for each read; a server that drips must not have more.
        while chunk := response.read1(_CHUNK_BYTES):
            read += chunk
            if len(read) > _MAX_ANSWER_BYTES:
                raise OSError(0, "its answer is too large")
            if time.monotonic() > until:
                raise TimeoutError(0, "its answer takes too long")
        if response.length:
            raise OSError(0, "its answer is cut short")
        response.close()  # or the connection would take no other request
        return response.status, read


def _document(content: bytes) -> Answer:
    try:
        document = json.loads(content) if content else {}
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise KeyServerError("the key server answers what is no document")
    return document


class TokenFile:
    """A token that stands in a file, and is read again when that has changed.

    Something else keeps it good: an agent beside the service, for instance.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def token(self, send: Send) -> str:  # noqa: ARG002 - needs nobody
        return _secret_text(self._path, "token")

    def forget(self, token: str) -> bool:  # noqa: ARG002 - another one comes with the file
        return False


class AppRole:
    """Logs in with a role's id and a secret id that stands in a file, and keeps the token good.

    A token is renewed when two thirds of its time are over, and when that gives it less than half of
    the time it had at first, one logs in anew. Whoever asks then waits for it; nobody else does it.
    """

    def __init__(
        self,
        *,
        mount: str,
        role_id: str,
        secret_id_file: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mount = mount
        self._role_id = role_id
        self._secret_id_file = secret_id_file
        self._clock = clock
        self._lock = threading.Lock()
        self._lease: _Lease | None = None

    def token(self, send: Send) -> str:
        with self._lock:
            if self._lease is None:
                self._lease = self._log_in(send)
            elif self._clock() >= self._lease.renew_at:
                self._lease = self._renew(send, self._lease)
            return self._lease.token

    def forget(self, token: str) -> bool:
        with self._lock:
            lease = self._lease
            if lease is None or lease.token != token:
                return True
            # Where the server denies a fresh token things, that is not because the token is old.
            if self._clock() < lease.begins + _LEAST_SECONDS:
                return False
            self._lease = None
            return True

    def _log_in(self, send: Send) -> "_Lease":
        secret_id = _secret_text(self._secret_id_file, "secret id")
        body = {"role_id": self._role_id, "secret_id": secret_id}
        try:
            answer = send("POST", f"auth/{self._mount}/login", body)
        except Refused as refusal:
            raise KeyServerError(f"it answers the login with {refusal.status}") from refusal
        return self._lease_of(answer, first_seconds=None)

    def _renew(self, send: Send, lease: "_Lease") -> "_Lease":
        if lease.renewable:
            with suppress(Refused):
                answer = send("POST", "auth/token/renew-self", {}, token=lease.token)
                renewed = self._lease_of(answer, first_seconds=lease.first_seconds)
                if renewed.seconds * 2 >= lease.first_seconds:
                    return renewed
        try:
            return self._log_in(send)
        except KeyServerError as error:
            now = self._clock()
            if now >= lease.ends:
                raise
            _log.warning("no new login at the key server; the token there is stays", why=str(error))
            return replace(lease, renew_at=now + (lease.ends - now) / 2)

    def _lease_of(self, answer: Answer, *, first_seconds: float | None) -> "_Lease":
        auth = answer.get("auth")
        token = auth.get("client_token") if isinstance(auth, dict) else None
        seconds = auth.get("lease_duration") if isinstance(auth, dict) else None
        if not isinstance(token, str) or not _SECRET_TEXT.fullmatch(token):
            raise KeyServerError("the key server gives no token")
        if not isinstance(seconds, int) or seconds <= 0:
            seconds = float("inf")  # a token that never expires
        now = self._clock()
        return _Lease(
            token=token,
            renewable=bool(auth and auth.get("renewable")),
            seconds=seconds,
            first_seconds=first_seconds or seconds,
            begins=now,
            renew_at=now + seconds * 2 / 3,
            ends=now + seconds,
        )


@dataclass(frozen=True, kw_only=True)
class _Lease:
    """A token and for how long it is good, by the clock of this machine."""

    token: str = field(repr=False)
    renewable: bool
    seconds: float
    first_seconds: float
    begins: float
    renew_at: float
    ends: float


def _secret_text(path: Path, what: str) -> str:
    """Return the one word that stands in a file. Raises KeyServerError."""
    try:
        with FileIO(path) as file:
            text = file.readall().decode().strip()
    except OSError as error:
        raise KeyServerError(f"the file of the {what} cannot be read: {error.strerror}") from error
    except ValueError:
        text = ""
    if not _SECRET_TEXT.fullmatch(text):
        raise KeyServerError(f"there is no {what} in its file")
    return text
