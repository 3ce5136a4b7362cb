"""Key servers: a real OpenBao, and one that says whatever a test has it say."""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conftest import needs
from ims.providers.key_server import KeyServer, Login, TokenFile
from ims.providers.transit import TransitKeys

START_SECONDS = 60
ROOT = "the-root-token"
CACHE_SECONDS = 5.0

POLICY = """
path "{mount}/keys/+"    {{ capabilities = ["read"] }}
path "{mount}/encrypt/+" {{ capabilities = ["update"] }}
path "{mount}/decrypt/+" {{ capabilities = ["update"] }}
"""
"""What the service needs to be allowed: docs/encryption.md."""


class Stopwatch:
    """A monotonic clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


class OpenBao:
    """An OpenBao on a free port of this machine, unsealed, keeping everything in memory."""

    def __init__(self, folder: Path, *, tls: bool = False) -> None:
        program = needs(
            shutil.which("bao", path=str(Path(sys.executable).parent)) or shutil.which("bao"), "bao"
        )
        self.folder = folder
        folder.mkdir()
        port = _free_port()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        self.ca_file = folder / "vault-ca.pem" if tls else None
        flags = ["-dev-tls", f"-dev-tls-cert-dir={folder}"] if tls else []
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(program, "server", "-dev", *flags, f"-dev-listen-address=127.0.0.1:{port}"),
                    *(f"-dev-root-token-id={ROOT}", "-dev-no-store-token"),
                ],
                stdout=log,
                stderr=log,
                env={"HOME": str(folder), "PATH": ""},
            )
        self._wait()
        self._mounts = 0

    def _wait(self) -> None:
        until = time.monotonic() + START_SECONDS
        waiting = threading.Event()
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < until, "OpenBao does not start"
            waiting.wait(0.02)

    def _answers(self) -> bool:
        try:
            return self.ask("GET", "sys/health")["sealed"] is False
        except (OSError, ssl.SSLError):
            return False

    def ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, namespace: str = ""
    ) -> dict[str, Any]:
        """Ask it as its administrator."""
        tls = None if self.ca_file is None else ssl.create_default_context(cafile=self.ca_file)
        request = urllib.request.Request(
            f"{self.url}/v1/{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"X-Vault-Token": ROOT} | ({"X-Vault-Namespace": namespace} if namespace else {}),
        )
        with urllib.request.urlopen(request, timeout=START_SECONDS, context=tls) as answer:
            content = answer.read()
        return json.loads(content) if content else {}

    def transit(self, *, namespace: str = "") -> "Transit":
        """Mount one more transit engine, with a token that may do there what the service needs to."""
        self._mounts += 1
        return Transit(self, f"transit-{self._mounts}", namespace=namespace)

    def pause(self) -> None:
        """Have it answer nothing more, though connections to it are still made."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)  # all its threads

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(START_SECONDS)


class Transit:
    """A transit engine, seen by its administrator."""

    def __init__(self, server: OpenBao, mount: str, *, namespace: str = "") -> None:
        self.server, self.mount, self._namespace = server, mount, namespace
        self._ask("POST", f"sys/mounts/{mount}", {"type": "transit"})
        self._ask("PUT", f"sys/policies/acl/{mount}", {"policy": POLICY.format(mount=mount)})
        self.token_file = server.folder / f"{namespace}{mount}-token"
        self.token_file.write_text(self.new_token() + "\n")

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return self.server.ask(method, path, body, namespace=self._namespace)

    def new_token(self, **more: Any) -> str:
        created = self._ask("POST", "auth/token/create", {"policies": [self.mount], **more})
        return created["auth"]["client_token"]

    def revoke(self, token: str) -> None:
        self._ask("POST", "auth/token/revoke", {"token": token})

    def role(self, **settings: Any) -> tuple[str, Path]:
        """Make an AppRole that may do what the service needs; return its id and its secret's file."""
        if "approle/" not in self._ask("GET", "sys/auth"):
            self._ask("POST", "sys/auth/approle", {"type": "approle"})
        role = f"auth/approle/role/{self.mount}"
        self._ask("POST", role, {"token_policies": self.mount, **settings})
        secret_id_file = self.server.folder / f"{self.mount}-secret-id"
        secret_id_file.write_text(self._ask("POST", f"{role}/secret-id")["data"]["secret_id"])
        return self._ask("GET", f"{role}/role-id")["data"]["role_id"], secret_id_file

    def make_key(self, name: str, **settings: Any) -> None:
        self._ask("POST", f"{self.mount}/keys/{name}", settings)

    def has_key(self, name: str) -> bool:
        try:
            self._ask("GET", f"{self.mount}/keys/{name}")
        except urllib.error.HTTPError:
            return False
        return True

    def rotate(self, name: str) -> None:
        self._ask("POST", f"{self.mount}/keys/{name}/rotate")

    def configure(self, name: str, **settings: Any) -> None:
        self._ask("POST", f"{self.mount}/keys/{name}/config", settings)

    def disable(self, name: str) -> None:
        self._ask("DELETE", f"{self.mount}/keys/{name}/soft-delete")

    def enable(self, name: str) -> None:
        self._ask("POST", f"{self.mount}/keys/{name}/soft-delete-restore")

    def delete(self, name: str) -> None:
        self.configure(name, deletion_allowed=True)
        self._ask("DELETE", f"{self.mount}/keys/{name}")

    def settings(self, **more: Any) -> dict[str, Any]:
        """Return the setting `transit` of a service that uses this engine."""
        named = {"url": self.server.url, "mount": self.mount, "token_file": self.token_file}
        return named | ({"ca_file": self.server.ca_file} if self.server.ca_file else {}) | more

    @contextmanager
    def keys(
        self, clock: Callable[[], float] = time.monotonic, *, login: Login | None = None, **settings: Any
    ) -> Iterator[TransitKeys]:
        """Lend a provider of the keys of this engine."""
        named = {"timeout_seconds": 10.0, "rest_seconds": CACHE_SECONDS, "namespace": self._namespace}
        server = KeyServer(
            self.server.url,
            login=login or TokenFile(self.token_file),
            ca_file=self.server.ca_file,
            clock=clock,
            **named | settings,
        )
        keys = TransitKeys(server, mount=self.mount, cache_seconds=CACHE_SECONDS, clock=clock)
        try:
            yield keys
        finally:
            keys.close()


class ScriptedServer:
    """Answers every request with the bytes that `say` gives for it, and counts connections.

    `say` is called with the request's first line. With `ends` a connection ends after its first answer.
    """

    def __init__(self, say: Callable[[str], bytes]) -> None:
        self.say = say
        self.ends = False
        self.requests: list[str] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._listen, daemon=True)]
        self._threads[0].start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self.open.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=[connection], daemon=True))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as received:
            try:
                while line := received.readline():
                    length = 0
                    while (header := received.readline().strip().lower()) != b"":
                        if header.startswith(b"content-length:"):
                            length = int(header.partition(b":")[2])
                    received.read(length)
                    self.requests.append(line.decode().rpartition(" ")[0])
                    connection.sendall(self.say(self.requests[-1]))
                    if self.ends:
                        connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                return

    def drop_connections(self) -> None:
        """Close those that are open, as servers do with those that nobody has used for long."""
        for connection in self.open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_connections()
        for thread in self._threads:
            thread.join(START_SECONDS)


def http_answer(content: bytes | dict[str, Any], status: str = "200 OK", *headers: str) -> bytes:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""])
    return head.encode() + body


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
