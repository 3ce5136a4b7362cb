"""What a client proves who it is with: a token, a file, an issuer that gives it one."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from ims.client import ClientCredentials, NoToken, Token, TokenFile
from ims.client import credentials as room

Answer = Callable[[int], tuple[int, object]]


class Issuer:
    """A real HTTP server that gives out tokens: what it answers, the test says."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                issuer.asked.append((self.headers["authorization"], parse_qs(body)))
                status, document = answer(len(issuer.asked))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(
                    document if isinstance(document, bytes) else json.dumps(document).encode()
                )

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/token"
        self._thread = threading.Thread(target=self._server.serve_forever)

    @contextmanager
    def serving(self) -> Iterator["Issuer"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()


def tokens(number: int) -> tuple[int, object]:
    return 200, {"access_token": f"token-{number}", "expires_in": 100}


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock that stands still; its one item is the time."""
    now = [1000.0]
    monkeypatch.setattr(room.time, "monotonic", lambda: now[0])
    return now


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


class TestToken:
    def test_goes_along_with_every_call(self):
        assert Token(" x.y.z\n").metadata() == bearer("x.y.z")

    @pytest.mark.parametrize("token", ["", " ", "a b", "a\nb", "ä"])
    def test_what_is_none_is_refused_and_not_told(self, token: str):
        with pytest.raises(ValueError, match="The token is empty, or has characters") as seen:
            Token(token)
        assert not token.strip() or token not in str(seen.value)


class TestTokenFile:
    def test_is_read_again_when_it_has_changed(self, tmp_path: Path):
        path = tmp_path / "token"
        path.write_text("one\n")
        credentials = TokenFile(path)

        assert credentials.metadata() == credentials.metadata() == bearer("one")
        path.write_text("another\n")
        assert credentials.metadata() == bearer("another")

    def test_that_is_not_there_or_empty_is_told(self, tmp_path: Path):
        path = tmp_path / "token"
        credentials = TokenFile(path)

        with pytest.raises(NoToken, match=str(path)):
            credentials.metadata()
        path.write_text("")
        with pytest.raises(NoToken, match=str(path)):
            credentials.metadata()
        path.write_text("x")
        assert credentials.metadata() == bearer("x")


class TestClientCredentials:
    def test_an_issuer_gives_a_token_for_id_and_secret(self):
        with Issuer(tokens).serving() as issuer:
            credentials = ClientCredentials(issuer.url, "nova", "s:e/c", scope="ims", audience="images")

            assert credentials.metadata() == bearer("token-1")
            assert issuer.asked == [
                (
                    "Basic bm92YTpzJTNBZSUyRmM=",
                    {"grant_type": ["client_credentials"], "scope": ["ims"], "audience": ["images"]},
                )
            ]

    def test_one_token_serves_until_shortly_before_its_end(self, watch: list[float]):
        with Issuer(tokens).serving() as issuer:
            credentials = ClientCredentials(issuer.url, "nova", "secret")

            assert credentials.metadata() == bearer("token-1")
            watch[0] += 89.9
            assert credentials.metadata() == bearer("token-1")
            watch[0] += 0.2
            assert credentials.metadata() == bearer("token-2")

    def test_many_threads_fetch_one(self):
        with Issuer(tokens).serving() as issuer, ThreadPoolExecutor(16) as pool:
            credentials = ClientCredentials(issuer.url, "nova", "secret")
            all_at_once = threading.Barrier(16)

            def ask(_: int) -> object:
                all_at_once.wait()
                return credentials.metadata()

            assert set(pool.map(ask, range(16))) == {bearer("token-1")}
            assert len(issuer.asked) == 1

    def test_while_the_issuer_fails_the_token_at_hand_serves_to_its_end(self, watch: list[float]):
        def answer(number: int) -> tuple[int, object]:
            return tokens(number) if number == 1 else (503, {})

        with Issuer(answer).serving() as issuer:
            credentials = ClientCredentials(issuer.url, "nova", "secret")
            assert credentials.metadata() == bearer("token-1")
            watch[0] += 99
            assert credentials.metadata() == bearer("token-1")
            watch[0] += 1
            with pytest.raises(NoToken):
                credentials.metadata()

    @pytest.mark.parametrize(
        "answer",
        [
            (401, {"error": "invalid_client"}),
            (200, {}),
            (200, []),
            (200, b"no JSON"),
            (200, {"access_token": ""}),
            (200, {"access_token": 7}),
            (200, {"access_token": "x", "expires_in": "soon"}),
        ],
    )
    def test_what_is_no_token_is_told_without_the_secret(self, answer: tuple[int, object]):
        with Issuer(lambda _: answer).serving() as issuer:
            with pytest.raises(NoToken, match="gives no token") as seen:
                ClientCredentials(issuer.url, "nova", "very-secret").metadata()
            assert "very-secret" not in str(seen.value)

    def test_the_secret_goes_to_no_other_machine_without_tls(self):
        with pytest.raises(ValueError, match="use https"):
            ClientCredentials("http://issuer.example/token", "nova", "secret")
        ClientCredentials("https://issuer.example/token", "nova", "secret")
