"""Keys in a transit engine: against a real OpenBao, and faults against a scripted server."""

import base64
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from structlog.testing import capture_logs

from ims.domain.rejection import Rejection
from ims.providers import key_server as key_servers_room
from ims.providers.key_server import AppRole, KeyServer, KeyServerError, Refused, TokenFile, Unreachable
from ims.providers.transit import TransitKeys
from key_servers import CACHE_SECONDS, OpenBao, ScriptedServer, Stopwatch, http_answer
from providers.contract import ANY_DATA_KEY, BLOB, KeyProviderContract, assert_unavailable

TOKEN = "s.the-token-that-nobody-may-see"


@pytest.fixture
def clock():
    return Stopwatch()


@pytest.fixture
def keys(transit, clock):
    with transit.keys(clock) as keys:
        yield keys


@pytest.fixture
def also_keys(transit, clock):
    with transit.keys(clock) as keys:
        yield keys


class Holder:
    """What the contract asks of whoever holds the keys; it lets the time pass for which answers hold."""

    def __init__(self, transit, clock):
        self._transit, self._clock = transit, clock

    def make_key(self, name, tenant=None):
        key_id = name if tenant is None else f"{tenant}.{name}"
        self._transit.make_key(key_id)
        return key_id

    def disable(self, key_id):
        self._transit.disable(key_id)
        self._clock.advance(CACHE_SECONDS)

    def enable(self, key_id):
        self._transit.enable(key_id)
        self._clock.advance(CACHE_SECONDS)

    def remove(self, key_id):
        self._transit.delete(key_id)
        self._clock.advance(CACHE_SECONDS)


@pytest.fixture
def holder(transit, clock):
    return Holder(transit, clock)


class TestContract(KeyProviderContract):
    def test_no_use_of_an_unknown_key_makes_it(self, transit, clock):
        """Encrypting makes keys, for those who may: here for one who may do everything."""
        transit.token_file.write_text(transit.new_token(policies=["root"]))
        with transit.keys(clock) as keys:
            self.assert_of_no_use(keys, "unknown")

            assert not transit.has_key("unknown")

    def test_of_two_keys_that_differ_in_case_each_is_its_own(self, keys, holder):
        lower, upper = holder.make_key("mine"), holder.make_key("Mine")
        data_key = keys.new_data_key(lower, context=BLOB)

        with pytest.raises(Rejection):
            keys.unwrap(upper, data_key.wrapped, context=BLOB)


class TestKeys:
    @pytest.mark.parametrize("key_type", ["aes128-gcm96", "chacha20-poly1305", "xchacha20-poly1305"])
    def test_a_key_of_any_type_that_authenticates_serves(self, keys, transit, key_type):
        transit.make_key("mine", type=key_type)

        data_key = keys.new_data_key("mine", context=BLOB)

        assert keys.is_usable("mine", "tenant-a")
        assert keys.unwrap("mine", data_key.wrapped, context=BLOB) == data_key.plaintext
        with pytest.raises(Rejection):
            keys.unwrap("mine", data_key.wrapped, context="another")

    @pytest.mark.parametrize(
        ("settings", "why"),
        [
            ({"type": "rsa-2048"}, "it is of a type that authenticates no associated data"),
            ({"type": "ed25519"}, "it is of a type that authenticates no associated data"),
            ({"type": "aes256-gcm96", "derived": True}, "it is one that others are derived from"),
        ],
    )
    def test_a_key_that_binds_no_context_is_of_no_use_and_the_log_says_why(
        self, keys, transit, settings, why
    ):
        transit.make_key("mine", **settings)

        with capture_logs() as logged:
            for _ in range(3):
                assert not keys.is_usable("mine", "tenant-a")

        with pytest.raises(Rejection) as rejected:
            keys.new_data_key("mine", context=BLOB)
        assert_unavailable(rejected.value)
        assert [(line["key_id"], line["why"]) for line in logged] == [("mine", why)]

    def test_what_was_wrapped_before_a_rotation_is_unwrapped_after_it(self, keys, transit):
        transit.make_key("mine")
        before = keys.new_data_key("mine", context=BLOB)
        transit.rotate("mine")
        after = keys.new_data_key("mine", context=BLOB)

        assert before.wrapped.startswith(b"vault:v1:")
        assert after.wrapped.startswith(b"vault:v2:")
        for data_key in (before, after):
            assert keys.unwrap("mine", data_key.wrapped, context=BLOB) == data_key.plaintext

    def test_a_version_that_was_withdrawn_unwraps_nothing_more(self, keys, transit):
        transit.make_key("mine")
        before = keys.new_data_key("mine", context=BLOB)
        transit.rotate("mine")
        after = keys.new_data_key("mine", context=BLOB)
        transit.configure("mine", min_decryption_version=2)

        assert keys.unwrap("mine", after.wrapped, context=BLOB) == after.plaintext
        with pytest.raises(Rejection) as rejected:
            keys.unwrap("mine", before.wrapped, context=BLOB)
        assert_unavailable(rejected.value)

    def test_only_32_bytes_are_a_data_key(self, keys, transit):
        transit.make_key("mine")
        wrapped = keys.wrap("mine", bytes(31), context=BLOB)

        with pytest.raises(Rejection) as rejected:
            keys.unwrap("mine", wrapped, context=BLOB)
        assert_unavailable(rejected.value)

    @pytest.mark.parametrize(
        ("tenant", "key_id", "usable"),
        [
            ("acme", "acme.mine", True),
            ("acme.eu", "acme.eu.mine", True),
            ("acme", "acme.eu.mine", False),
            ("eu", "acme.eu.mine", False),
            ("mine", "acme.mine", False),
            ("Acme", "acme.mine", False),
            ("", "acme.mine", False),
        ],
    )
    def test_what_stands_before_the_last_dot_is_whose_a_key_is(
        self, keys, transit, tenant, key_id, usable
    ):
        transit.make_key(key_id)

        assert keys.is_usable(key_id, tenant) == usable

    def test_of_another_tenant_s_key_the_server_is_not_even_asked(self, scripted, scripted_keys):
        assert not scripted_keys.is_usable("acme.mine", "globex")

        assert scripted.requests == []

    @pytest.mark.parametrize(
        "key_id", [".mine", "mine.", "-mine", "mine-", "a" * 65, "a:b", "ä", "a/../b", "a%2fb", "a\r\nb"]
    )
    def test_what_can_be_no_name_is_never_sent(self, scripted, scripted_keys, key_id):
        assert not scripted_keys.is_usable(key_id, "tenant-a")
        assert not scripted_keys.is_usable(key_id, "")
        for use in (
            lambda: scripted_keys.new_data_key(key_id, context=BLOB),
            lambda: scripted_keys.wrap(key_id, ANY_DATA_KEY, context=BLOB),
            lambda: scripted_keys.unwrap(key_id, b"vault:v1:AAAA", context=BLOB),
        ):
            with pytest.raises(Rejection) as rejected:
                use()
            assert_unavailable(rejected.value, key_id)

        assert scripted.requests == []

    @pytest.mark.parametrize("key_id", ["a", "_", "a" * 64, "A.b_c-d.9"])
    def test_what_can_be_a_name_is(self, keys, transit, key_id):
        transit.make_key(key_id)

        assert keys.is_usable(key_id, key_id.rpartition(".")[0])

    def test_an_engine_in_a_namespace(self, key_server, clock):
        key_server.ask("POST", "sys/namespaces/team")
        transit = key_server.transit(namespace="team")
        transit.make_key("mine")

        with transit.keys(clock) as keys, transit.keys(clock, namespace="") as keys_of_the_root:
            data_key = keys.new_data_key("mine", context=BLOB)
            assert keys.unwrap("mine", data_key.wrapped, context=BLOB) == data_key.plaintext
            assert not keys_of_the_root.is_usable("mine", "tenant-a")


class TestMemory:
    """What a key server says is believed for a while."""

    def test_a_key_found_good_or_not_is_asked_for_once_in_a_while(self, scripted, scripted_keys, clock):
        for passed in (0.0, CACHE_SECONDS - 0.001):
            clock.advance(passed)
            for _ in range(1000):
                assert scripted_keys.is_usable("mine", "tenant-a")
                assert not scripted_keys.is_usable("unknown", "tenant-a")
        assert scripted.requests == ["GET /v1/transit/keys/mine", "GET /v1/transit/keys/unknown"]

        clock.advance(0.001)
        assert scripted_keys.is_usable("mine", "tenant-a")

        assert scripted.requests[2:] == ["GET /v1/transit/keys/mine"]

    def test_a_disabled_key_is_not_usable_after_that_while(self, keys, transit, clock):
        transit.make_key("mine")
        assert keys.is_usable("mine", "tenant-a")
        transit.disable("mine")

        clock.advance(CACHE_SECONDS)

        assert not keys.is_usable("mine", "tenant-a")

    def test_a_disabled_key_wraps_and_unwraps_nothing_from_the_first_moment(self, keys, transit):
        transit.make_key("mine")
        data_key = keys.new_data_key("mine", context=BLOB)
        transit.disable("mine")

        assert keys.is_usable("mine", "tenant-a")  # as far as is known
        with pytest.raises(Rejection):
            keys.unwrap("mine", data_key.wrapped, context=BLOB)
        with pytest.raises(Rejection):
            keys.new_data_key("mine", context=BLOB)

    def test_names_without_end_take_no_memory_without_end(self, scripted_keys, monkeypatch):
        monkeypatch.setattr("ims.providers.transit._MOST_ANSWERS", 10)

        for number in range(25):
            assert not scripted_keys.is_usable(f"unknown-{number}", "tenant-a")

        assert len(scripted_keys._answers) <= 10


# --- Logging in ---------------------------------------------------------------------------------


class TestTokenFile:
    def test_a_token_that_was_replaced_is_used_at_once(self, keys, transit):
        transit.make_key("mine")
        assert keys.is_usable("mine", "tenant-a")
        old, new = transit.token_file.read_text().strip(), transit.new_token()

        transit.token_file.write_text(new)
        transit.revoke(old)

        assert len(keys.new_data_key("mine", context=BLOB).plaintext) == 32

    @pytest.mark.parametrize(
        "content", [None, b"", b" \n", b"two words", b"a\r\nb", b"\xff", "ä".encode()]
    )
    def test_without_a_token_no_key_is_usable_and_the_log_says_so_once(
        self, scripted, scripted_keys, token_file, clock, content
    ):
        token_file.unlink() if content is None else token_file.write_bytes(content)

        with capture_logs() as logged:
            for _ in range(3):
                assert not scripted_keys.is_usable("mine", "tenant-a")
                clock.advance(CACHE_SECONDS)
        assert scripted.requests == []
        assert [line["log_level"] for line in logged] == ["error"]
        assert "token" in logged[0]["why"]

        token_file.write_text(TOKEN)
        assert scripted_keys.is_usable("mine", "tenant-a")

    def test_a_token_that_was_revoked_gives_no_keys(self, keys, transit):
        transit.make_key("mine")
        transit.revoke(transit.token_file.read_text().strip())

        assert not keys.is_usable("mine", "tenant-a")

    def test_a_key_that_the_token_may_not_read_leaves_the_others(self, keys, transit, key_server):
        for name in ("mine", "denied"):
            transit.make_key(name)
        deny = f'path "{transit.mount}/keys/denied" {{ capabilities = ["deny"] }}'
        key_server.ask("PUT", f"sys/policies/acl/{transit.mount}-denied", {"policy": deny})
        transit.token_file.write_text(
            transit.new_token(policies=[transit.mount, f"{transit.mount}-denied"])
        )

        with capture_logs() as logged:
            assert not keys.is_usable("denied", "tenant-a")

        assert keys.is_usable("mine", "tenant-a")
        assert [(line["key_id"], line["why"]) for line in logged] == [
            ("denied", "the key server answers 403")
        ]


class TestAppRole:
    @pytest.fixture
    def make_keys(self, transit, clock):
        """Log in by a role with these settings; the time is the provider's, not the server's."""
        opened = []

        def make(**settings):
            role_id, secret_id_file = transit.role(**settings)
            login = AppRole(mount="approle", role_id=role_id, secret_id_file=secret_id_file, clock=clock)
            lent = transit.keys(clock, login=login)
            opened.append(lent)
            return lent.__enter__(), login, secret_id_file

        yield make
        for lent in opened:
            lent.__exit__(None, None, None)

    def test_one_logs_in_once(self, make_keys, transit):
        transit.make_key("mine")
        keys, login, _ = make_keys(token_ttl="1h")

        data_key = keys.new_data_key("mine", context=BLOB)
        token = login._lease.token

        assert keys.unwrap("mine", data_key.wrapped, context=BLOB) == data_key.plaintext
        assert login._lease.token == token

    def test_a_token_is_renewed_before_it_ends_and_stays_the_same(self, make_keys, transit, clock):
        transit.make_key("mine")
        keys, login, _ = make_keys(token_ttl="1h")
        assert keys.is_usable("mine", "tenant-a")
        first = login._lease

        clock.advance(2399)
        assert keys.is_usable("mine", "tenant-a")
        assert login._lease is first
        clock.advance(CACHE_SECONDS)
        assert keys.is_usable("mine", "tenant-a")

        assert login._lease.token == first.token
        assert login._lease.ends == pytest.approx(clock.seconds + 3600, abs=5)

    def test_who_may_not_renew_for_long_logs_in_anew(self, make_keys, transit, clock):
        """The most time that the role allows for all renewals together is nearly over."""
        transit.make_key("mine")
        keys, login, _ = make_keys(token_ttl="1h", token_max_ttl="1h")
        assert keys.is_usable("mine", "tenant-a")
        first = login._lease
        login._lease = key_servers_room.replace(first, first_seconds=10 * 3600.0)

        clock.advance(2400)
        assert keys.is_usable("mine", "tenant-a")

        assert login._lease.token != first.token

    def test_a_token_that_was_revoked_is_replaced(self, make_keys, transit, clock):
        transit.make_key("mine")
        keys, login, _ = make_keys(token_ttl="1h")
        assert keys.is_usable("mine", "tenant-a")
        first = login._lease.token
        clock.advance(60)

        transit.revoke(first)

        assert len(keys.new_data_key("mine", context=BLOB).plaintext) == 32
        assert login._lease.token != first

    def test_being_denied_a_key_is_no_reason_to_log_in_anew(self, make_keys, key_server, transit, clock):
        transit.make_key("denied")
        deny = f'path "{transit.mount}/keys/denied" {{ capabilities = ["deny"] }}'
        key_server.ask("PUT", f"sys/policies/acl/{transit.mount}-denied", {"policy": deny})
        keys, login, _ = make_keys(token_policies=f"{transit.mount},{transit.mount}-denied")
        assert not keys.is_usable("denied", "tenant-a")
        first = login._lease.token

        clock.advance(60)
        assert not keys.is_usable("denied", "tenant-a")

        assert login._lease.token == first

    def test_who_may_not_even_look_a_token_up_does_not_log_in_all_the_time(
        self, make_keys, transit, clock
    ):
        """A token that is denied everything looks like one that has expired."""
        keys, login, _ = make_keys(token_policies="none", token_no_default_policy=True)
        tokens = set()
        for number in range(5):
            assert not keys.is_usable(f"key-{number}", "tenant-a")
            tokens.add(login._lease.token)
        assert len(tokens) == 1

        clock.advance(30)
        assert not keys.is_usable("another", "tenant-a")

        assert login._lease.token not in tokens

    def test_a_token_that_is_good_outlives_a_secret_that_is_not(self, make_keys, transit, clock):
        transit.make_key("mine")
        keys, login, secret_id_file = make_keys(token_ttl="1h", token_max_ttl="1h")
        assert keys.is_usable("mine", "tenant-a")
        first = login._lease
        login._lease = key_servers_room.replace(first, renewable=False)
        secret_id_file.write_text("no-such-secret")

        clock.advance(2400)
        with capture_logs() as logged:
            assert keys.is_usable("mine", "tenant-a")

        assert login._lease.token == first.token
        assert [line["log_level"] for line in logged if "no new login" in line["event"]] == ["warning"]

    def test_a_wrong_secret_gives_no_keys_and_is_not_tried_all_the_time(self, make_keys, transit, clock):
        transit.make_key("mine")
        keys, login, secret_id_file = make_keys()
        right = secret_id_file.read_text()
        secret_id_file.write_text("no-such-secret")

        with capture_logs() as logged:
            for _ in range(5):
                assert not keys.is_usable("mine", "tenant-a")
        assert [line["why"] for line in logged] == ["it answers the login with 400"]
        assert "no-such-secret" not in repr(logged)

        secret_id_file.write_text(right)
        assert not keys.is_usable("mine", "tenant-a")  # for a moment nobody tries
        clock.advance(CACHE_SECONDS)
        assert keys.is_usable("mine", "tenant-a")
        assert TOKEN not in repr(login._lease)
        assert login._lease.token not in repr(login._lease)

    def test_of_many_at_once_one_logs_in(self, transit, clock):
        transit.make_key("mine")
        role_id, secret_id_file = transit.role(token_ttl="1h")
        logins = []

        class Counting(AppRole):
            def _log_in(self, send):
                logins.append(threading.get_ident())
                return super()._log_in(send)

        login = Counting(mount="approle", role_id=role_id, secret_id_file=secret_id_file, clock=clock)
        with transit.keys(clock, login=login) as keys, ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: keys.is_usable("mine", "tenant-a"), range(32)))

        assert all(answers)
        assert len(logins) == 1


# --- Servers that are away ----------------------------------------------------------------------


class TestAway:
    @pytest.fixture
    def own_server(self, tmp_path):
        server = OpenBao(tmp_path / "openbao")
        yield server
        server.close()

    def test_a_server_that_is_gone_has_no_usable_keys(self, own_server, clock):
        transit = own_server.transit()
        transit.make_key("mine")
        with transit.keys(clock) as keys:
            data_key = keys.new_data_key("mine", context=BLOB)
            own_server.close()

            clock.advance(CACHE_SECONDS)
            assert not keys.is_usable("mine", "tenant-a")
            clock.advance(CACHE_SECONDS)
            with pytest.raises(Rejection) as rejected:
                keys.unwrap("mine", data_key.wrapped, context=BLOB)
            assert_unavailable(rejected.value)

    def test_a_sealed_server_has_no_usable_keys(self, own_server, clock):
        transit = own_server.transit()
        transit.make_key("mine")
        with transit.keys(clock) as keys:
            assert keys.is_usable("mine", "tenant-a")
            own_server.ask("PUT", "sys/seal")

            clock.advance(CACHE_SECONDS)
            with capture_logs() as logged:
                assert not keys.is_usable("mine", "tenant-a")
            assert [line["why"] for line in logged] == ["it answers 503"]

    def test_a_server_that_hangs_is_waited_for_once_and_used_again_when_it_is_back(
        self, own_server, clock
    ):
        transit = own_server.transit()
        transit.make_key("mine")
        with transit.keys(clock, timeout_seconds=2) as keys, capture_logs() as logged:
            data_key = keys.new_data_key("mine", context=BLOB)
            own_server.pause()
            clock.advance(CACHE_SECONDS)
            assert not keys.is_usable("mine", "tenant-a")
            for _ in range(1000):  # would take minutes if any waited
                assert not keys.is_usable("mine", "tenant-a")
                with pytest.raises(Rejection):
                    keys.unwrap("mine", data_key.wrapped, context=BLOB)

            own_server.resume()
            clock.advance(CACHE_SECONDS)
            assert keys.unwrap("mine", data_key.wrapped, context=BLOB) == data_key.plaintext
            assert keys.is_usable("mine", "tenant-a")

        assert [line["event"] for line in logged] == [
            "the key server is away; what is encrypted cannot be used",
            "the key server is back",
        ]

    def test_after_a_while_one_tries_for_all(self, scripted, scripted_keys, clock):
        scripted.say = lambda _: http_answer({}, "503 Service Unavailable")
        assert not scripted_keys.is_usable("mine", "tenant-a")
        tried, release = threading.Event(), threading.Event()

        def slowly(request):
            tried.set()
            release.wait(30)
            return a_key(request)

        scripted.say = slowly
        asked = len(scripted.requests)
        clock.advance(CACHE_SECONDS)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(scripted_keys.is_usable, "mine", "tenant-a")
            tried.wait(30)
            for _ in range(100):
                assert not scripted_keys.is_usable("mine", "tenant-a")
            release.set()
            assert first.result(30)

        assert len(scripted.requests) == asked + 1
        assert scripted_keys.is_usable("other", "tenant-a")


def a_key(request):
    """Answer as a server with two keys, which wraps by putting a text before."""
    if request.endswith(("keys/mine", "keys/other")):
        return http_answer({"data": {"type": "aes256-gcm96"}})
    if "/encrypt/" in request:
        return http_answer({"data": {"ciphertext": "vault:v1:" + "A" * 80}})
    if "/decrypt/" in request:
        return http_answer({"data": {"plaintext": base64.b64encode(ANY_DATA_KEY).decode()}})
    return http_answer({"errors": []}, "404 Not Found")


@pytest.fixture
def scripted():
    server = ScriptedServer(a_key)
    yield server
    server.close()


@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN)
    return file


@pytest.fixture
def scripted_keys(scripted, token_file, clock):
    server = KeyServer(
        scripted.url,
        login=TokenFile(token_file),
        timeout_seconds=5,
        rest_seconds=CACHE_SECONDS,
        clock=clock,
    )
    keys = TransitKeys(server, mount="transit", cache_seconds=CACHE_SECONDS, clock=clock)
    yield keys
    keys.close()


LEAK = "text-of-the-server's"
ALL_IS_WELL = {
    "data": {
        "type": "aes256-gcm96",
        "ciphertext": "vault:v1:" + "A" * 80,
        "plaintext": base64.b64encode(ANY_DATA_KEY).decode(),
    }
}


class TestFaults:
    """What a sound key server never does."""

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(b"", id="nothing"),
            pytest.param(LEAK.encode() + b"\r\n\r\n", id="no HTTP"),
            pytest.param(http_answer(LEAK.encode()), id="no JSON"),
            pytest.param(http_answer(b"[" * 100_000), id="JSON without end"),
            pytest.param(http_answer([LEAK]), id="a list"),
            pytest.param(http_answer({"data": [LEAK]}), id="data no document"),
            pytest.param(http_answer({"data": {"type": LEAK, "ciphertext": LEAK}}), id="other data"),
            pytest.param(
                http_answer({"data": {"ciphertext": "vault:v1:" + LEAK, "plaintext": 3}}),
                id="other types",
            ),
            pytest.param(
                http_answer({"data": {"ciphertext": ["vault:v1:AAAA"], "plaintext": "AAAA"}}),
                id="too short",
            ),
            pytest.param(http_answer({"data": {"plaintext": LEAK * 3}}), id="no base64"),
            pytest.param(http_answer(json.dumps(ALL_IS_WELL).encode() + b" " * 300_000), id="too much"),
            pytest.param(
                http_answer(json.dumps(ALL_IS_WELL).encode() + b" ")[:-1], id="less than announced"
            ),
            pytest.param(
                http_answer({"errors": [LEAK]}, f"500 {LEAK}"),
                id="500",
            ),
            pytest.param(http_answer({"errors": [LEAK]}, f"400 {LEAK}"), id="400"),
            pytest.param(http_answer({"errors": [LEAK]}, f"429 {LEAK}"), id="429"),
            pytest.param(
                http_answer(b"", f"307 {LEAK}", "Location: http://127.0.0.1:1/"), id="redirection"
            ),
        ],
    )
    def test_every_fault_gives_the_same_answer_and_nobody_hears_the_server_s_words(
        self, scripted, scripted_keys, clock, answer
    ):
        assert scripted_keys.is_usable("mine", "tenant-a")

        scripted.say, scripted.ends = lambda _: answer, True
        with capture_logs() as logged:
            for use in (
                lambda: scripted_keys.new_data_key("mine", context=BLOB),
                lambda: scripted_keys.unwrap("mine", b"vault:v1:AAAA", context=BLOB),
            ):
                with pytest.raises(Rejection) as rejected:
                    use()
                assert_unavailable(rejected.value)
                assert_silent(rejected.value)
                clock.advance(CACHE_SECONDS)
            assert not scripted_keys.is_usable("mine", "tenant-a")
        assert LEAK not in repr(logged)
        assert TOKEN not in repr(logged)

    def test_a_server_that_drips_does_not_have_more_time(self, scripted, token_file):
        def drips(_request):
            connection = scripted.open[-1]
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            for _ in range(1000):
                connection.sendall(b" ")
                threading.Event().wait(0.02)
            raise OSError

        scripted.say = drips
        server = KeyServer(
            scripted.url, login=TokenFile(token_file), timeout_seconds=0.2, rest_seconds=5
        )
        begun = time.monotonic()
        with pytest.raises(Unreachable):
            server.ask("GET", "transit/keys/mine")
        server.close()

        assert time.monotonic() - begun < 10  # of 20

    def test_connections_are_kept_and_one_that_was_closed_meanwhile_is_replaced(
        self, scripted, scripted_keys, clock
    ):
        for _ in range(5):
            assert scripted_keys.is_usable("mine", "tenant-a")
            clock.advance(CACHE_SECONDS)
        assert scripted.connections == 1

        scripted.drop_connections()
        assert scripted_keys.is_usable("mine", "tenant-a")

        assert scripted.connections == 2

    def test_no_more_connections_than_calls_at_once(self, scripted, scripted_keys, clock):
        numbers = count()
        with ThreadPoolExecutor(4) as pool:
            list(
                pool.map(lambda _: scripted_keys.is_usable(f"k{next(numbers)}", "tenant-a"), range(100))
            )

        assert len(scripted.requests) == 100
        assert scripted.connections <= 4

    def test_an_address_where_nobody_listens_is_unreachable(self, token_file):
        server = KeyServer(
            "http://127.0.0.1:1", login=TokenFile(token_file), timeout_seconds=5, rest_seconds=5
        )
        with pytest.raises(Unreachable, match="Connection refused"):
            server.ask("GET", "transit/keys/mine")

    def test_what_is_sent_is_the_token_the_data_key_and_its_context(self, transit, clock):
        """Against the real one, as its audit log would see it."""
        transit.make_key("mine")
        sent = []

        class Noting(KeyServer):
            def _answered(self, connection, method, path, body, token):
                sent.append((method, path, body and json.loads(json.dumps(body)), token))
                return super()._answered(connection, method, path, body, token)

        server = Noting(
            transit.server.url, login=TokenFile(transit.token_file), timeout_seconds=5, rest_seconds=5
        )
        keys = TransitKeys(server, mount=transit.mount, cache_seconds=5)
        keys.wrap("mine", ANY_DATA_KEY, context=BLOB)
        keys.close()

        token = transit.token_file.read_text().strip()
        assert sent == [
            ("GET", f"{transit.mount}/keys/mine", None, token),
            (
                "POST",
                f"{transit.mount}/encrypt/mine",
                {
                    "plaintext": base64.b64encode(ANY_DATA_KEY).decode(),
                    "associated_data": base64.b64encode(BLOB.encode()).decode(),
                },
                token,
            ),
        ]


def assert_silent(error):
    """No exception of a chain, shown or not, says a word of the server's, nor a secret."""
    while error is not None:
        assert LEAK not in str(error) + repr(error)
        assert TOKEN not in str(error) + repr(error)
        error = error.__cause__ or error.__context__


@pytest.fixture(scope="module")
def secure_server(tmp_path_factory):
    server = OpenBao(tmp_path_factory.mktemp("secure") / "openbao", tls=True)
    yield server
    server.close()


class TestTls:
    def test_a_server_is_known_by_its_authority(self, secure_server, clock):
        transit = secure_server.transit()
        transit.make_key("mine")

        with transit.keys(clock) as keys:
            data_key = keys.new_data_key("mine", context=BLOB)
            assert keys.unwrap("mine", data_key.wrapped, context=BLOB) == data_key.plaintext

    def test_a_server_of_another_authority_is_told_nothing(self, secure_server, token_file):
        server = KeyServer(
            secure_server.url, login=TokenFile(token_file), timeout_seconds=5, rest_seconds=5
        )
        with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
            server.ask("GET", "transit/keys/mine")

    def test_a_certificate_for_another_name_is_not_taken(self, secure_server, token_file):
        server = KeyServer(
            secure_server.url.replace("127.0.0.1", "127.0.0.2"),
            login=TokenFile(token_file),
            ca_file=secure_server.ca_file,
            timeout_seconds=5,
            rest_seconds=5,
        )
        with pytest.raises(Unreachable):
            server.ask("GET", "transit/keys/mine")

    def test_authorities_that_cannot_be_read_are_told_at_once(self, token_file, tmp_path):
        with pytest.raises(OSError, match="No such file"):
            KeyServer(
                "https://127.0.0.1:1",
                login=TokenFile(token_file),
                ca_file=tmp_path / "none",
                timeout_seconds=5,
                rest_seconds=5,
            )


def test_a_refusal_is_told_from_being_away(scripted, scripted_keys):
    scripted.say = lambda _: http_answer({}, "400 Bad Request")

    with pytest.raises(Refused) as refused:
        scripted_keys._server.ask("GET", "transit/keys/mine")

    assert refused.value.status == 400
    assert isinstance(refused.value, KeyServerError)
