"""A file is fetched whole or refused by name, and nobody is asked who must not be."""

import hashlib
import ipaddress
import itertools
import os
import socket
import ssl
import threading
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
import trustme

from ims.domain.rejection import Category, Reason, Rejection
from ims.providers.addresses import OpenHosts
from ims.providers.fetching import CHUNK_BYTES, MAX_REDIRECTS, PROGRESS_BYTES, Fetcher, https_context
from ims.providers.sources import MAX_HEAD_BYTES, Patience, Problem
from providers.test_addresses import NOT_PUBLIC
from providers.web import HOST, RESET, Request, Source, broken_every, file, head, redirect, sources

MIB = 1024**2
CONTENT = os.urandom(3 * MIB + 12345)
PUBLIC = "93.184.216.34"
"""An address that is public and that no test connects to."""

MakeSource = Callable[..., Source]
MakeFetcher = Callable[..., Fetcher]


@pytest.fixture
def source() -> Iterator[MakeSource]:
    with sources() as make:
        yield make


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST, "files.example").configure_cert(context)
    return context


@pytest.fixture
def client_tls(authority: trustme.CA, tmp_path) -> ssl.SSLContext:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return https_context(path)


class Dialled:
    """Connects as usual, but never leaves this machine, and knows to whom."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.public_is_here = False
        """Whether PUBLIC leads to the sources of the tests."""

    def __call__(self, address: str, port: int, timeout_seconds: float) -> socket.socket:
        self.addresses.append(address)
        if address == PUBLIC and self.public_is_here:
            address = HOST
        if ipaddress.ip_address(address).is_global:
            raise ConnectionRefusedError
        return socket.create_connection((address, port), timeout_seconds)


@pytest.fixture
def dialled() -> Dialled:
    return Dialled()


@pytest.fixture
def fetcher(dialled: Dialled, client_tls: ssl.SSLContext) -> MakeFetcher:
    def make(*opened: str, patience: Patience | None = None, **more) -> Fetcher:
        given = {
            "open_hosts": OpenHosts.named(opened),
            "tls": client_tls,
            "patience": patience or Patience(stall_seconds=20),
            "dial": dialled,
            "pause": lambda _seconds: None,
        } | more
        return Fetcher(**given)

    return make


@pytest.fixture
def fetch(fetcher: MakeFetcher) -> Callable[..., bytes]:
    """Fetch a whole file from a source that is open."""

    def fetch(source: Source, *, path: str = "/file", more: dict | None = None, **limits) -> bytes:
        given = {"max_bytes": 1024 * MIB} | limits
        opened = fetcher(f"{HOST}:{source.port}", **(more or {}))
        with opened.fetch(source.url + path, **given) as fetched:
            return b"".join(fetched)

    return fetch


def declined(
    reason: Reason, category: Category, call: Callable[[], object], **metadata: object
) -> Rejection:
    with pytest.raises(Rejection) as caught:
        call()
    rejection = caught.value
    assert (rejection.reason, rejection.category) == (reason, category)
    assert rejection.violations[0].metadata == metadata
    return rejection


def forbidden(call: Callable[[], object]) -> str:
    return str(declined(Reason.IMPORT_SOURCE_FORBIDDEN, Category.AGAINST_RULES, call))


def unusable(problem: Problem, call: Callable[[], object]) -> None:
    declined(Reason.IMPORT_SOURCE_UNUSABLE, Category.AGAINST_RULES, call, problem=problem.name)


# --- where nobody goes ---


class Trap:
    """Listens on every address of this machine, and counts who comes."""

    def __init__(self) -> None:
        self._listeners = [socket.create_server(("0.0.0.0", 0))]
        self.port = self._listeners[0].getsockname()[1]
        if socket.has_ipv6:
            self._listeners.append(
                socket.create_server(("::", self.port), family=socket.AF_INET6, dualstack_ipv6=False)
            )

    @property
    def connections(self) -> int:
        count = 0
        for listener in self._listeners:
            listener.setblocking(False)
            while True:
                try:
                    line, _ = listener.accept()
                except BlockingIOError:
                    break
                line.close()
                count += 1
        return count

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()


@pytest.fixture
def trap() -> Iterator[Trap]:
    made = Trap()
    yield made
    made.close()


SPELLINGS = (
    # plainly
    *("https://127.0.0.1:{port}/", "https://127.1.2.3:{port}/", "https://0.0.0.0:{port}/"),
    *("https://localhost:{port}/", "https://LOCALHOST:{port}/", "https://localhost.localdomain:{port}/"),
    *("https://10.0.0.1:{port}/", "https://172.16.0.1:{port}/", "https://192.168.0.1:{port}/"),
    *("https://100.64.0.1:{port}/", "https://224.0.0.1:{port}/", "https://255.255.255.255:{port}/"),
    *("https://169.254.169.254/latest/meta-data/", "https://169.254.170.2:{port}/"),
    *("https://100.100.100.200/", "https://168.63.129.16/", "https://192.0.0.192/opc/v2/"),
    *("https://[fd00:ec2::254]/latest/", "https://[fe80::1]:{port}/", "https://[fc00::1]:{port}/"),
    *("https://[::1]:{port}/", "https://[::]:{port}/", "https://[ff02::1]:{port}/"),
    # without TLS
    *("http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://[::1]:{port}/"),
    "http://93.184.216.34:{port}/",
    # in fewer or other numbers
    *(
        "https://127.1:{port}/",
        "https://127.0.1:{port}/",
        "https://0:{port}/",
        "https://2130706433:{port}/",
    ),
    *("https://0x7f000001:{port}/", "https://0x7f.1:{port}/", "https://0x7f.0x0.0x0.0x1:{port}/"),
    *("https://017700000001:{port}/", "https://0177.0.0.1:{port}/", "https://0177.0.0x0.1:{port}/"),
    *("https://127.0.0.01:{port}/", "https://0127.0.0.1:{port}/", "https://127.000.000.001:{port}/"),
    *("https://2852039166/", "https://0xa9fea9fe/", "https://0251.0376.0251.0376/"),
    *("https://169.254.43518/", "https://425.510.425.510/", "https://4294967297:{port}/"),
    # with dots and spaces about it
    *("https://127.0.0.1.:{port}/", "https://localhost.:{port}/", "https://.127.0.0.1:{port}/"),
    *("https://127.0.0.1%20:{port}/", "https:// 127.0.0.1:{port}/", "https://127.0.0.1\t:{port}/"),
    *("https://127.0\n.0.1:{port}/", "https://127.0.0.1\0:{port}/", "\thttps://127.0.0.1:{port}/"),
    # as IPv6
    *("https://[0:0:0:0:0:0:0:1]:{port}/", "https://[0000::0001]:{port}/", "https://[::1%25lo]:{port}/"),
    *("https://[::1%lo]:{port}/", "https://[fe80::1%25lo]:{port}/", "https://::1:{port}/"),
    *("https://[::ffff:127.0.0.1]:{port}/", "https://[::ffff:7f00:1]:{port}/"),
    *("https://[0:0:0:0:0:ffff:127.0.0.1]:{port}/", "https://[::ffff:a9fe:a9fe]/"),
    *(
        "https://[::127.0.0.1]:{port}/",
        "https://[::7f00:1]:{port}/",
        "https://[::ffff:0:127.0.0.1]:{port}/",
    ),
    *("https://[64:ff9b::127.0.0.1]:{port}/", "https://[64:ff9b::a9fe:a9fe]/"),
    *("https://[64:ff9b:1::7f00:1]:{port}/", "https://[2002:7f00:1::]:{port}/"),
    *("https://[2002:a9fe:a9fe::]/", "https://[2001:0:7f00:1::]:{port}/"),
    *("https://[2606:2800::5efe:127.0.0.1]:{port}/", "https://[127.0.0.1]:{port}/"),
    # in letters and digits that look like others, or like nothing
    *("https://①②⑦.⓪.⓪.①:{port}/", "https://１２７.０.０.１:{port}/", "https://127。0。0。1:{port}/"),  # noqa: RUF001
    *("https://127．0．0．1:{port}/", "https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:{port}/", "https://١٢٧.0.0.1:{port}/"),  # noqa: RUF001
    *(
        "https://loca\u00adlhost:{port}/",
        "https://%6cocalhost:{port}/",
        "https://%31%32%37.0.0.1:{port}/",
    ),
    "https://127%2e0%2e0%2e1:{port}/",
    # for two readers
    *("https://example.com@127.0.0.1:{port}/", "https://example.com:443@127.0.0.1:{port}/"),
    *("https://127.0.0.1:{port}@example.com/", "https://127.0.0.1:{port}\\@example.com/"),
    *(
        "https://example.com\\@127.0.0.1:{port}/",
        "https:\\\\127.0.0.1:{port}\\",
        "https:/\\127.0.0.1:{port}/",
    ),
    *("https://127.0.0.1:{port}#@example.com/", "https://example.com#@127.0.0.1:{port}/"),
    *("https://example.com&@127.0.0.1:{port}/", "https:127.0.0.1:{port}/", "https:///127.0.0.1:{port}/"),
    *("https://127.0.0.1:{port}:443/", "https://127.0.0.1:0{port}/", "https://127.0.0.1:+{port}/"),
    *(
        "https://127.0.0.1 :{port}/",
        "https://127.0.0.1:{port} /",
        "https://127.0.0.1:{port}\r\nHost: a/",
    ),
    *(
        "https://127.0.0.1:0/",
        "https://127.0.0.1:65536/",
        "https://127.0.0.1:-1/",
        "https://127.0.0.1:/",
    ),
    # by other means
    *("file:///etc/passwd", "ftp://127.0.0.1:{port}/", "gopher://127.0.0.1:{port}/_GET", "unix:/run/a"),
    *(
        "dict://127.0.0.1:{port}/",
        "ldap://127.0.0.1:{port}/",
        "data:,x",
        "jar:https://127.0.0.1:{port}/!/",
    ),
    *("//127.0.0.1:{port}/", "127.0.0.1:{port}/", "s3://bucket/key", "", "https://", "https://:{port}/"),
)


def test_there_are_enough_spellings():
    assert len(set(SPELLINGS)) == len(SPELLINGS) >= 100


class TestForbidden:
    @pytest.mark.parametrize("spelling", SPELLINGS)
    def test_a_forbidden_url_is_asked_by_nobody(self, fetcher, dialled, trap, spelling):
        """With the real resolver, so that whatever it would make of a spelling is judged too."""
        forbidden(lambda: fetcher().fetch(spelling.format(port=trap.port), max_bytes=MIB))

        assert (dialled.addresses, trap.connections) == ([], 0)

    @pytest.mark.parametrize(
        "spelling", [each for each in SPELLINGS if each and not set(each) & set("\r\n\0")]
    )
    def test_nobody_is_redirected_there(self, fetcher, dialled, trap, source, spelling):
        def answer(_: Request):
            location = spelling.format(port=trap.port)
            return [head(302, Content_Length=0)[:-2], f"Location: {location}\r\n\r\n".encode()]

        start = source(answer)
        opened = fetcher(f"{HOST}:{start.port}")
        # These three are references that lead back to the source itself, where there is nothing.
        if spelling in {"https:127.0.0.1:{port}/", "127.0.0.1:{port}/", "https://"}:
            with pytest.raises(Rejection):
                opened.fetch(start.url, max_bytes=MIB)
        else:
            forbidden(lambda: opened.fetch(start.url, max_bytes=MIB))

        assert set(dialled.addresses) == {HOST}
        assert trap.connections == 0

    @pytest.mark.parametrize("address", NOT_PUBLIC)
    def test_no_name_leads_there(self, fetcher, dialled, trap, address):
        resolving = fetcher(resolve=lambda _: [address])

        forbidden(lambda: resolving.fetch(f"https://files.example:{trap.port}/", max_bytes=MIB))

        assert (dialled.addresses, trap.connections) == ([], 0)

    @pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1", "fd00:ec2::254"])
    @pytest.mark.parametrize("first", [True, False])
    def test_a_name_with_one_forbidden_address_is_forbidden(self, fetcher, dialled, address, first):
        both = [address, PUBLIC] if first else [PUBLIC, address]

        forbidden(lambda: fetcher(resolve=lambda _: both).fetch("https://files.example/", max_bytes=MIB))

        assert dialled.addresses == []

    def test_every_connection_is_made_to_the_address_that_was_judged(self, fetcher, dialled, trap):
        """A name that means another address whenever it is asked gains nothing."""
        answers = itertools.cycle([[PUBLIC], ["127.0.0.1"]])
        asked = []

        def resolve(host: str) -> list[str]:
            asked.append(host)
            return next(answers)

        forbidden(
            lambda: fetcher(resolve=resolve).fetch(f"https://files.example:{trap.port}/", max_bytes=MIB)
        )

        assert asked == ["files.example"] * 2
        assert (dialled.addresses, trap.connections) == ([PUBLIC], 0)

    @pytest.mark.parametrize("address", NOT_PUBLIC)
    def test_a_name_is_judged_anew_when_a_fetch_is_resumed(
        self, fetcher, dialled, source, server_tls, address
    ):
        """The line breaks, and meanwhile the name has come to mean something else."""
        dialled.public_is_here = True
        start = source(broken_every(MIB, file(CONTENT)), server_tls)
        answers = iter([[PUBLIC], [address]])
        resolving = fetcher(resolve=lambda _: next(answers))

        with resolving.fetch(f"https://files.example:{start.port}/", max_bytes=100 * MIB) as fetched:
            forbidden(lambda: list(fetched))

        assert dialled.addresses == [PUBLIC]

    def test_a_public_source_redirects_to_no_other_place(
        self, fetcher, dialled, source, server_tls, trap
    ):
        dialled.public_is_here = True
        start = source(redirect(f"https://inside.example:{trap.port}/"), server_tls)
        hosts = {"files.example": [PUBLIC], "inside.example": [HOST]}

        forbidden(
            lambda: fetcher(resolve=hosts.__getitem__).fetch(
                f"https://files.example:{start.port}/", max_bytes=MIB
            )
        )

        assert (dialled.addresses, trap.connections) == ([PUBLIC], 0)

    def test_a_host_that_does_not_exist_is_answered_like_one_that_must_not_be_asked(self, fetcher):
        """Else a caller could find out which internal names there are."""

        def refusal_of(addresses: list[str]) -> str:
            resolving = fetcher(resolve=lambda _: addresses)
            return forbidden(lambda: resolving.fetch("https://db.internal/", max_bytes=MIB))

        assert refusal_of([]) == refusal_of(["10.0.0.1"]) == refusal_of(["fd00::1"])

    def test_all_that_is_forbidden_is_refused_with_the_same_words(self, fetcher, trap):
        told = {
            forbidden(lambda url=each: fetcher().fetch(url.format(port=trap.port), max_bytes=MIB))
            for each in SPELLINGS
        }

        assert len(told) == 1
        assert str(trap.port) not in told.pop()

    @pytest.mark.parametrize(
        "spelling", [each for each in SPELLINGS if not each.lower().startswith("https://localhost")]
    )
    def test_all_but_names_is_known_before_an_import_is_ordered(self, fetcher, spelling):
        forbidden(lambda: fetcher().check(spelling.format(port=443)))

    def test_public_and_opened_urls_are_let_through_before_an_import_is_ordered(self, fetcher):
        fetcher().check("https://files.example/a?b")
        fetcher("10.0.0.1:8080").check("http://10.0.0.1:8080/")

    def test_an_opened_host_opens_no_other_port(self, fetcher, dialled, trap, source):
        start = source(redirect(f"http://{HOST}:{trap.port}/"))

        forbidden(lambda: fetcher(f"{HOST}:{start.port}").fetch(start.url, max_bytes=MIB))

        assert trap.connections == 0

    def test_proxies_of_the_environment_are_not_asked(self, fetch, source, trap, monkeypatch):
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://{HOST}:{trap.port}")

        assert fetch(source(file(CONTENT))) == CONTENT
        assert trap.connections == 0

    def test_a_url_never_reaches_the_log(self, fetcher, caplog):
        caplog.set_level("DEBUG")
        forbidden(lambda: fetcher().fetch("https://10.0.0.1/a?signature=secret", max_bytes=MIB))

        assert "10.0.0.1" in caplog.text
        assert "secret" not in caplog.text


# --- what comes ---


class TestFetching:
    @pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 12345])
    def test_a_file_comes_in_chunks_of_a_mib(self, fetcher, source, size):
        start = source(file(CONTENT[:size]))

        with fetcher(f"{HOST}:{start.port}").fetch(start.url, max_bytes=size) as fetched:
            assert fetched.size_bytes == size
            chunks = list(fetched)

        assert b"".join(chunks) == CONTENT[:size]
        assert {len(each) for each in chunks[:-1]} <= {CHUNK_BYTES}
        assert all(chunks)

    def test_a_file_comes_over_https_from_the_host_that_the_certificate_names(
        self, fetcher, source, server_tls, dialled
    ):
        start = source(file(CONTENT), server_tls)
        opened = fetcher(f"files.example:{start.port}", resolve=lambda _: [HOST])

        with opened.fetch(f"https://files.example:{start.port}/a?b", max_bytes=10 * MIB) as fetched:
            assert b"".join(fetched) == CONTENT

        assert dialled.addresses == [HOST]
        (request,) = start.requests
        assert request.target == "/a?b"
        assert request.headers["host"] == f"files.example:{start.port}"
        assert request.headers["accept-encoding"] == "identity"

    def test_a_certificate_of_another_host_is_not_trusted(self, fetcher, source, server_tls):
        host = "other.example"
        start = source(file(CONTENT), server_tls)
        opened = fetcher(f"{host}:{start.port}", resolve=lambda _: [HOST])

        unusable(
            Problem.CERTIFICATE_NOT_TRUSTED,
            lambda: opened.fetch(f"https://{host}:{start.port}/", max_bytes=MIB),
        )
        assert start.requests == []

    def test_a_certificate_of_an_unknown_authority_is_not_trusted(self, fetcher, source, server_tls):
        start = source(file(CONTENT), server_tls)
        opened = fetcher(f"{HOST}:{start.port}", tls=https_context())

        unusable(
            Problem.CERTIFICATE_NOT_TRUSTED,
            lambda: opened.fetch(start.url, max_bytes=MIB),
        )

    def test_the_next_address_of_a_host_is_tried(self, fetcher, source):
        start = source(file(CONTENT))
        opened = fetcher(f"files.example:{start.port}", resolve=lambda _: [PUBLIC, HOST])

        with opened.fetch(f"http://files.example:{start.port}/", max_bytes=10 * MIB) as fetched:
            assert b"".join(fetched) == CONTENT

    def test_a_file_in_pieces_of_unknown_number_comes_whole(self, fetcher, source):
        pieces = [CONTENT[place : place + 100_000] for place in range(0, len(CONTENT), 100_000)]
        chunked = [f"{len(each):x};extension\r\n".encode() + each + b"\r\n" for each in [*pieces, b""]]
        start = source(lambda _: [head(Transfer_Encoding="chunked"), *chunked])

        with fetcher(f"{HOST}:{start.port}").fetch(start.url, max_bytes=10 * MIB) as fetched:
            assert fetched.size_bytes is None
            assert b"".join(fetched) == CONTENT

    def test_a_file_that_ends_with_its_connection_comes_whole(self, fetch, source):
        assert fetch(source(lambda _: [head(), CONTENT])) == CONTENT

    def test_memory_does_not_grow_with_the_file(self, fetcher, source):
        size = 64 * MIB
        start = source(lambda _: [head(Content_Length=size), *[bytes(MIB)] * 64])

        with fetcher(f"{HOST}:{start.port}").fetch(start.url, max_bytes=size) as fetched:
            tracemalloc.start()
            received = sum(map(len, fetched))
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()

        assert received == size
        assert most < 8 * MIB

    def test_a_fetch_that_is_left_ends_its_connection(self, fetcher, source):
        hung_up = threading.Event()

        def answer(_: Request):
            yield head(Content_Length=1024 * MIB)
            try:
                for _ in range(1024):
                    yield bytes(MIB)
            finally:
                hung_up.set()

        start = source(answer)
        with fetcher(f"{HOST}:{start.port}").fetch(start.url, max_bytes=1024 * MIB) as fetched:
            next(iter(fetched))

        assert hung_up.wait(30)

    @pytest.mark.parametrize("silent_from", ["the head", "the body"])
    def test_somebody_can_stop_it_while_the_source_is_silent(self, fetcher, source, silent_from):
        class Cancelled(Exception):
            pass

        def answer(_: Request):
            if silent_from == "the body":
                yield head(Content_Length=10)
            yield start.stay_silent

        asked = itertools.count()

        def keep_on() -> None:
            if next(asked) > 3:
                raise Cancelled

        start = source(answer)
        opened = fetcher(f"{HOST}:{start.port}")
        with pytest.raises(Cancelled):
            list(opened.fetch(start.url, max_bytes=MIB, keep_on=keep_on))

    def test_it_is_not_asked_at_every_byte_whether_to_go_on(self, fetcher, source):
        asked: list[None] = []
        start = source(file(CONTENT))
        opened = fetcher(f"{HOST}:{start.port}", clock=lambda: 1.0)

        list(opened.fetch(start.url, max_bytes=10 * MIB, keep_on=lambda: asked.append(None)))

        assert len(asked) == 1


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_is_followed(self, fetch, source, status):
        def answer(request: Request):
            good = file(CONTENT)
            return (good if request.target == "/there?a" else redirect("/there?a#b", status))(request)

        assert fetch(source(answer)) == CONTENT

    @pytest.mark.parametrize(
        ("redirects", "enough"), [(MAX_REDIRECTS, True), (MAX_REDIRECTS + 1, False)]
    )
    def test_so_many_redirects_are_followed_and_no_more(self, fetch, source, redirects, enough):
        def answer(request: Request):
            number = int(request.target[1:])
            return (redirect(f"/{number + 1}") if number < redirects else file(CONTENT))(request)

        start = source(answer)
        if enough:
            assert fetch(start, path="/0") == CONTENT
        else:
            unusable(Problem.TOO_MANY_REDIRECTS, lambda: fetch(start, path="/0"))
        assert start.connections == MAX_REDIRECTS + 1

    def test_a_circle_of_redirects_ends(self, fetch, source):
        start = source(lambda request: redirect("/b" if request.target == "/a" else "/a")(request))

        unusable(Problem.TOO_MANY_REDIRECTS, lambda: fetch(start))

    def test_a_redirect_to_nowhere_is_forbidden(self, fetch, source):
        forbidden(lambda: fetch(source(lambda _: [head(302, Content_Length=0)])))

    def test_a_fetch_that_is_resumed_begins_where_it_began_and_is_redirected_again(self, fetch, source):
        """What it was redirected to first may be good for one time only."""
        good = broken_every(MIB, file(CONTENT))
        start = source(lambda each: (good if each.target == "/there" else redirect("/there"))(each))

        assert fetch(start) == CONTENT
        assert [each.target for each in start.requests] == ["/file", "/there"] * 4


class TestSizes:
    LIMIT = 2 * MIB

    def too_large(self, size: int, call: Callable[[], object]) -> None:
        declined(
            Reason.IMAGE_FILE_TOO_LARGE,
            Category.OVER_LIMIT,
            call,
            maxImageFileBytes=self.LIMIT,
            imageFileBytes=size,
        )

    def mismatch(self, announced: int, received: int, call: Callable[[], object]) -> None:
        declined(
            Reason.SIZE_MISMATCH,
            Category.AGAINST_RULES,
            call,
            announcedBytes=announced,
            receivedBytes=received,
        )

    def test_the_largest_file_comes_and_one_byte_more_is_refused_before_its_body(self, fetch, source):
        assert len(fetch(source(file(bytes(self.LIMIT))), max_bytes=self.LIMIT)) == self.LIMIT

        start = source(lambda _: [head(Content_Length=self.LIMIT + 1), start.stay_silent])
        self.too_large(self.LIMIT + 1, lambda: fetch(start, max_bytes=self.LIMIT))

    def test_a_size_beyond_all_numbers_is_no_size(self, fetch, source):
        for size in (10**30, -1, "1_0", "0x10", "+5", "5, 6"):
            start = source(lambda _, size=size: [head(Content_Length=size), b"12345"])
            unusable(Problem.NOT_HTTP, lambda start=start: fetch(start))

    def test_two_sizes_are_none(self, fetch, source):
        two = head(Content_Length=5)[:-2] + b"Content-Length: 6\r\n\r\n"

        unusable(Problem.AMBIGUOUS_HEADERS, lambda: fetch(source(lambda _: [two, b"123456"])))

    @pytest.mark.parametrize("announced", [len(CONTENT) - 1, len(CONTENT) + 1])
    def test_another_size_than_was_announced_is_refused_before_the_body(self, fetch, source, announced):
        start = source(lambda _: [head(Content_Length=len(CONTENT)), start.stay_silent])

        self.mismatch(announced, len(CONTENT), lambda: fetch(start, announced_bytes=announced))

    def test_a_file_without_end_is_cut_off(self, fetch, source):
        def answer(_: Request):
            yield head()
            while True:
                yield bytes(100_000)

        with pytest.raises(Rejection) as caught:
            fetch(source(answer), max_bytes=self.LIMIT)

        assert caught.value.reason is Reason.IMAGE_FILE_TOO_LARGE
        more = caught.value.violations[0].metadata["imageFileBytes"]
        assert self.LIMIT < more <= self.LIMIT + CHUNK_BYTES

    def test_a_file_that_outgrows_what_was_announced_is_cut_off(self, fetch, source):
        start = source(lambda _: [head(), bytes(1001), start.stay_silent])

        self.mismatch(1000, 1001, lambda: fetch(start, announced_bytes=1000))

    def test_a_file_of_unknown_size_that_ends_before_what_was_announced_is_refused(self, fetch, source):
        start = source(lambda _: [head(), bytes(999)])

        self.mismatch(1000, 999, lambda: fetch(start, announced_bytes=1000))

    def test_what_follows_the_announced_end_is_not_read(self, fetch, source):
        start = source(lambda _: [head(Content_Length=5), b"12345678"])

        assert fetch(start) == b"12345"

    def test_a_file_that_stays_too_short_is_called_so(self, fetch, source):
        short = broken_every(len(CONTENT) - 1, file(CONTENT))
        start = source(lambda request: (short if not request.offset else lies)(request))

        def lies(request: Request):
            range_ = f"bytes {request.offset}-{len(CONTENT) - 1}/{len(CONTENT)}"
            return [head(206, Content_Range=range_, ETag='"one"')]

        self.mismatch(len(CONTENT), len(CONTENT) - 1, lambda: fetch(start))
        assert start.connections == Patience().tries


class TestInterruptions:
    STEP = 256 * 1024

    def test_the_connection_may_break_off_however_often_if_it_gets_further(self, fetch, source):
        start = source(broken_every(self.STEP, file(CONTENT)))

        assert fetch(start) == CONTENT
        assert [each.offset for each in start.requests] == list(range(0, len(CONTENT), self.STEP))
        assert {each.headers["if-range"] for each in start.requests[1:]} == {'"one"'}

    def test_it_may_be_reset(self, fetch, source):
        start = source(broken_every(self.STEP * 2, file(CONTENT), ending=RESET))

        assert fetch(start) == CONTENT
        assert start.connections > 1

    def test_it_may_be_cut_within_tls(self, fetch, source, server_tls):
        start = source(broken_every(self.STEP, file(CONTENT), ending=RESET), server_tls)

        assert fetch(start) == CONTENT
        assert start.connections > 1

    def test_a_file_of_unknown_size_that_is_cut_within_tls_is_not_taken_for_whole(
        self, fetch, source, server_tls
    ):
        def answer(request: Request):
            yield head(ETag='"one"')
            yield CONTENT
            if start.connections < 3:
                yield RESET

        start = source(answer, server_tls)

        assert fetch(start) == CONTENT
        assert start.connections == 3

    def test_pieces_of_unknown_number_that_break_off_are_not_taken_for_all(self, fetch, source):
        start = source(lambda _: [head(Transfer_Encoding="chunked"), b"5\r\n12345\r\n"])

        declined(
            Reason.IMPORT_SOURCE_UNREACHABLE,
            Category.UNAVAILABLE,
            lambda: fetch(start),
            receivedBytes=5,
        )

    def test_a_source_without_ranges_is_read_again_from_the_beginning(self, fetch, source):
        lengths = iter([MIB, 100, 2 * MIB, len(CONTENT)])
        start = source(
            lambda _: [head(Content_Length=len(CONTENT)), CONTENT[: next(lengths)]],
        )

        assert fetch(start) == CONTENT
        assert all("range" not in each.headers for each in start.requests)

    def test_what_is_read_again_must_be_what_it_was(self, fetch, source):
        other = bytearray(CONTENT)
        other[MIB // 2] ^= 1
        contents = iter([CONTENT[:MIB], bytes(other)])
        start = source(lambda _: [head(Content_Length=len(CONTENT)), next(contents)])

        declined(Reason.IMPORT_SOURCE_CHANGED, Category.CONFLICT, lambda: fetch(start))

    def test_what_is_read_again_must_not_be_shorter(self, fetch, source):
        cut = [b"100000\r\n" + CONTENT[:MIB] + b"\r\n", b"5\r\n" + CONTENT[:5] + b"\r\n0\r\n\r\n"]
        answers = iter(cut)
        start = source(lambda _: [head(Transfer_Encoding="chunked"), next(answers)])

        declined(Reason.IMPORT_SOURCE_CHANGED, Category.CONFLICT, lambda: fetch(start))

    @pytest.mark.parametrize(
        ("status", "headers"),
        [
            (200, {"ETag": '"two"', "Content_Length": len(CONTENT)}),
            (200, {"ETag": '"one"', "Content_Length": len(CONTENT) + 1}),
            (206, {"ETag": '"two"', "Content_Range": "bytes 262144-{last}/{size}"}),
            (206, {"Content_Range": "bytes 262144-{size}/{size_and_1}"}),
            (416, {"Content_Length": 0}),
        ],
    )
    def test_another_file_than_before_is_noticed(self, fetch, source, status, headers):
        size = len(CONTENT)
        said = {
            name: str(value).format(last=size - 1, size=size, size_and_1=size + 1)
            for name, value in headers.items()
        }
        first = broken_every(self.STEP, file(CONTENT))
        start = source(
            lambda request: first(request) if not request.offset else [head(status, **said), CONTENT]
        )

        declined(Reason.IMPORT_SOURCE_CHANGED, Category.CONFLICT, lambda: fetch(start))
        assert start.connections == 2

    def test_a_source_that_knows_only_a_date_is_resumed_by_it(self, fetch, source):
        date = "Wed, 21 Oct 2026 07:28:00 GMT"

        def answer(request: Request):
            if request.offset:
                assert request.headers["if-range"] == date
                range_ = f"bytes {request.offset}-{len(CONTENT) - 1}/{len(CONTENT)}"
                return [
                    head(206, Content_Range=range_, Last_Modified=date),
                    CONTENT[request.offset :],
                ]
            size = len(CONTENT)
            return [head(Content_Length=size, Last_Modified=date, ETag='W/"weak"'), CONTENT[:MIB]]

        start = source(answer)

        assert fetch(start) == CONTENT
        assert start.connections == 2

    @pytest.mark.parametrize(
        "range_",
        [
            "bytes 0-{last}/{size}",
            "bytes 262143-{last}/{size}",
            "bytes 262145-{last}/{size}",
            "bytes 262144-{size}/{size}",
            "bytes 262144-262143/{size}",
            "bytes 262144-{last}/*",
            "bytes */{size}",
            "items 262144-{last}/{size}",
            "bytes=262144-{last}/{size}",
            "",
        ],
    )
    def test_another_part_than_was_asked_for_is_refused(self, fetch, source, range_):
        said = range_.format(last=len(CONTENT) - 1, size=len(CONTENT))
        first = broken_every(self.STEP, file(CONTENT))
        start = source(
            lambda request: (
                first(request)
                if not request.offset
                else [head(206, Content_Range=said, ETag='"one"'), CONTENT]
            )
        )

        unusable(Problem.WRONG_CONTENT_RANGE, lambda: fetch(start))

    def test_a_part_that_nobody_asked_for_is_refused(self, fetch, source):
        start = source(lambda _: [head(206, Content_Range="bytes 0-4/10", Content_Length=5), b"12345"])

        unusable(Problem.WRONG_CONTENT_RANGE, lambda: fetch(start))

    def test_a_source_may_give_less_than_the_rest_at_a_time(self, fetch, source):
        def answer(request: Request):
            if not request.offset:
                return broken_every(MIB, file(CONTENT))(request)
            last = min(request.offset + MIB, len(CONTENT)) - 1
            range_ = f"bytes {request.offset}-{last}/{len(CONTENT)}"
            return [head(206, Content_Range=range_, ETag='"one"'), CONTENT[request.offset : last + 1]]

        assert fetch(source(answer)) == CONTENT

    def test_a_source_that_gets_no_further_is_given_up(self, fetch, source):
        start = source(broken_every(PROGRESS_BYTES // 8, file(CONTENT)))

        with pytest.raises(Rejection) as caught:
            fetch(start)

        assert caught.value.reason is Reason.SIZE_MISMATCH
        assert start.connections == Patience().tries

    def test_a_source_that_nobody_serves_is_given_up(self, fetcher, dialled):
        with socket.create_server((HOST, 0)) as listener:
            port = listener.getsockname()[1]

        declined(
            Reason.IMPORT_SOURCE_UNREACHABLE,
            Category.UNAVAILABLE,
            lambda: fetcher(f"{HOST}:{port}").fetch(f"http://{HOST}:{port}/", max_bytes=MIB),
            receivedBytes=0,
        )
        assert dialled.addresses == [HOST] * Patience().tries

    def test_a_resolver_that_is_away_is_not_forbidden(self, fetcher):
        def away(_: str) -> list[str]:
            raise socket.gaierror(socket.EAI_AGAIN, "away")

        declined(
            Reason.IMPORT_SOURCE_UNREACHABLE,
            Category.UNAVAILABLE,
            lambda: fetcher(resolve=away).fetch("https://files.example/", max_bytes=MIB),
            receivedBytes=0,
        )

    def test_pauses_grow_while_nothing_gets_further(self, fetch, source):
        pauses: list[float] = []

        with pytest.raises(Rejection):
            fetch(source(lambda _: []), more={"pause": pauses.append})

        assert pauses == [0.25, 0.5, 1]


class TestAnswers:
    @pytest.mark.parametrize("status", [204, 300, 304, 400, 401, 403, 404, 410, 418])
    def test_an_answer_without_the_file_is_told_by_its_status(self, fetch, source, status):
        start = source(lambda _: [head(status, Content_Length=0)])

        declined(
            Reason.IMPORT_SOURCE_REFUSED, Category.AGAINST_RULES, lambda: fetch(start), httpStatus=status
        )
        assert start.connections == 1

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_an_answer_that_may_change_is_asked_for_again(self, fetch, source, status):
        start = source(lambda _: [head(status, Content_Length=0)])

        declined(
            Reason.IMPORT_SOURCE_REFUSED, Category.AGAINST_RULES, lambda: fetch(start), httpStatus=status
        )
        assert start.connections == Patience().tries

    def test_a_source_that_is_away_for_a_moment_does_no_harm(self, fetch, source):
        good = broken_every(MIB, file(CONTENT))
        start = source(
            lambda request: good(request) if start.connections % 2 else [head(503, Content_Length=0)]
        )

        assert fetch(start) == CONTENT

    @pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "x-whatever", "identity, gzip"])
    @pytest.mark.parametrize("header", ["Content_Encoding", "Transfer_Encoding"])
    def test_a_compressed_file_is_refused(self, fetch, source, header, coding):
        start = source(lambda _: [head(**{header: coding}), b"\x1f\x8b"])

        unusable(Problem.CONTENT_ENCODED, lambda: fetch(start))

    @pytest.mark.parametrize(
        "answer",
        [
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"\x15\x03\x01\x00\x02\x02\x46" * 3 + b"\r\n",
            b"HTTP/1.1 abc Whatever\r\n\r\n",
            b"HTTP/1.1 99999 Whatever\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 101 + b"\r\n",
            b"A" * 1000 + b"\r\n",
        ],
    )
    def test_what_is_no_http_is_refused(self, fetch, source, answer):
        unusable(Problem.NOT_HTTP, lambda: fetch(source(lambda _: [answer])))

    @pytest.mark.parametrize(
        "piece",
        [b"A: " + b"b" * 60_000 + b"\r\n", b"\r\nHTTP/1.1 100 Continue\r\nA: " + b"b" * 1000 + b"\r\n"],
    )
    def test_headers_without_end_are_cut_off(self, fetch, source, piece):
        first = b"HTTP/1.1 100 Continue\r\n" if b"100" in piece else b"HTTP/1.1 200 OK\r\n"
        sent = []

        def answer(_: Request):
            yield first
            while len(sent) * len(piece) < 100 * MAX_HEAD_BYTES:
                sent.append(piece)
                yield piece

        unusable(Problem.HEADERS_TOO_LONG, lambda: fetch(source(answer)))

    def test_headers_of_the_largest_size_are_read(self, fetch, source):
        large = {f"A{number}": "b" * 600 for number in range(90)}

        assert fetch(source(lambda _: [head(Content_Length=2, **large), b"ok"])) == b"ok"


class TestSlowness:
    def too_slow(self, received: int, call: Callable[[], object]) -> None:
        declined(Reason.IMPORT_SOURCE_TOO_SLOW, Category.UNAVAILABLE, call, receivedBytes=received)

    @pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 O", head(Content_Length=10)])
    def test_a_source_that_falls_silent_is_asked_again_and_given_up(self, fetch, source, said):
        start = source(lambda _: [said, start.stay_silent])

        self.too_slow(0, lambda: fetch(start, more={"patience": Patience(stall_seconds=0.1, tries=3)}))
        assert start.connections == 3

    def test_a_source_that_falls_silent_once_is_resumed(self, fetch, source):
        def answer(request: Request):
            yield from broken_every(MIB, file(CONTENT))(request)
            yield start.stay_silent

        start = source(answer)

        assert fetch(start, more={"patience": Patience(stall_seconds=0.3)}) == CONTENT

    def test_a_handshake_that_never_ends_is_given_up(self, fetcher, source):
        silent = socket.create_server((HOST, 0))
        with silent:
            port = silent.getsockname()[1]
            opened = fetcher(f"{HOST}:{port}", patience=Patience(connect_seconds=0.1, tries=2))

            declined(
                Reason.IMPORT_SOURCE_UNREACHABLE,
                Category.UNAVAILABLE,
                lambda: opened.fetch(f"https://{HOST}:{port}/", max_bytes=MIB),
                receivedBytes=0,
            )

    def test_a_source_that_drips_is_given_up(self, fetch, source):
        """Each byte comes in time, and all of them never would. A second passes at every look."""
        seconds = itertools.count()

        def answer(_: Request):
            yield head(Content_Length=1000)
            for _ in range(999):
                yield b"x"
                dripped.wait(0.001)
            yield start.stay_silent

        dripped = threading.Event()
        start = source(answer)
        patience = Patience(min_bytes_per_second=1000, grace_seconds=60, stall_seconds=1e9)

        with pytest.raises(Rejection) as caught:
            fetch(start, more={"patience": patience, "clock": lambda: float(next(seconds))})

        assert caught.value.reason is Reason.IMPORT_SOURCE_TOO_SLOW
        assert start.connections == 1

    def test_extensions_and_trailers_without_end_are_no_bytes_of_the_file(self, fetch, source):
        def answer(_: Request):
            yield head(Transfer_Encoding="chunked")
            yield b"0\r\n"
            while not start.done.wait(0.001):
                yield b"A: b\r\n"

        start = source(answer)

        self.too_slow(0, lambda: fetch(start, more={"patience": Patience(stall_seconds=0.2, tries=2)}))

    def test_all_of_it_takes_a_bounded_time(self, fetch, source):
        seconds = itertools.count()
        patience = Patience(max_seconds=10, min_bytes_per_second=1, grace_seconds=1e9, stall_seconds=1e9)
        start = source(file(CONTENT))

        with pytest.raises(Rejection) as caught:
            fetch(start, more={"patience": patience, "clock": lambda: float(next(seconds))})

        assert caught.value.reason is Reason.IMPORT_SOURCE_TOO_SLOW

    def test_the_time_that_we_take_ourselves_does_not_count(self, fetcher, source):
        now = [0.0]
        patience = Patience(stall_seconds=60, grace_seconds=60, min_bytes_per_second=MIB)
        start = source(file(CONTENT))
        opened = fetcher(f"{HOST}:{start.port}", patience=patience, clock=lambda: now[0])

        received = b""
        with opened.fetch(start.url, max_bytes=10 * MIB) as fetched:
            for chunk in fetched:
                received += chunk
                now[0] += 10_000

        assert received == CONTENT


def test_the_digest_of_what_came_in_many_parts_is_that_of_the_file(fetch, source):
    """The acceptance at once: every part over TLS-free lines that drop in different ways."""
    endings = itertools.cycle([b"", RESET])

    def answer(request: Request):
        return broken_every(PROGRESS_BYTES * 4, file(CONTENT), ending=next(endings))(request)

    start = source(answer)

    assert hashlib.sha256(fetch(start)).digest() == hashlib.sha256(CONTENT).digest()
