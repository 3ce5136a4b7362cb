import base64
import errno
import logging
import os
import resource
import stat
import tomllib
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ims.domain.rejection import Rejection
from ims.providers.keys import KeyFileError, LocalKeyFile, add_key
from providers.contract import BLOB, KeyProviderContract, assert_unavailable

SECRET = bytes(range(100, 132))
OTHER_SECRET = bytes(range(32))
SECRET_TEXT = base64.b64encode(SECRET).decode()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys.toml"


@pytest.fixture
def keys(path):
    return LocalKeyFile(path)


def entry(key_id="mine", secret=SECRET, **more):
    lines = [f"[keys.{key_id}]", f'secret = "{base64.b64encode(secret).decode()}"']
    lines += [f"{name} = {value}" for name, value in more.items()]
    return "\n".join([*lines, ""])


class Holder:
    """What the contract asks of whoever holds the keys."""

    def __init__(self, path):
        self._path = path
        self._entries = {}

    def make_key(self, name, tenant=None):
        named = {} if tenant is None else {"tenant": f'"{tenant}"'}
        self._entries[name] = {"secret": os.urandom(32)} | named
        return self._write(name)

    def disable(self, key_id):
        self._entries[key_id]["disabled"] = "true"
        self._write(key_id)

    def enable(self, key_id):
        del self._entries[key_id]["disabled"]
        self._write(key_id)

    def remove(self, key_id):
        del self._entries[key_id]
        self._write(key_id)

    def _write(self, key_id):
        self._path.write_text("".join(entry(name, **each) for name, each in self._entries.items()))
        return key_id


@pytest.fixture
def holder(path):
    return Holder(path)


@pytest.fixture
def also_keys(path):
    return LocalKeyFile(path)


class TestContract(KeyProviderContract):
    pass


class TestUse:
    def test_every_data_key_is_a_fresh_one(self, keys, path):
        path.write_text(entry())

        made = [keys.new_data_key("mine", context=BLOB) for _ in range(50)]

        assert len({data_key.plaintext for data_key in made}) == 50
        assert len({data_key.wrapped[:12] for data_key in made}) == 50

    def test_a_data_key_is_wrapped_as_described(self, keys, path):
        path.write_text(entry())

        data_key = keys.new_data_key("mine", context="ünïcode")

        nonce, sealed = data_key.wrapped[:12], data_key.wrapped[12:]
        assert len(data_key.wrapped) == 12 + 32 + 16
        assert AESGCM(SECRET).decrypt(nonce, sealed, "ünïcode".encode()) == data_key.plaintext

    def test_a_data_key_that_was_wrapped_long_ago_is_unwrapped(self, keys, path):
        path.write_text(entry())
        wrapped = bytes(12) + AESGCM(SECRET).encrypt(bytes(12), OTHER_SECRET, BLOB.encode())

        assert keys.unwrap("mine", wrapped, context=BLOB) == OTHER_SECRET

    @pytest.mark.parametrize("place", [0, 11, 12, 43, 44, 59])
    def test_a_changed_one_is_not_unwrapped(self, keys, path, place):
        path.write_text(entry())
        wrapped = bytearray(keys.new_data_key("mine", context=BLOB).wrapped)
        wrapped[place] ^= 1

        with pytest.raises(Rejection) as rejected:
            keys.unwrap("mine", bytes(wrapped), context=BLOB)

        assert_unavailable(rejected.value)


class TestWhoMayUseAKey:
    def test_a_key_that_is_not_disabled_is_usable(self, keys, path):
        path.write_text(entry(disabled="false"))

        assert keys.is_usable("mine", "tenant-a")

    def test_a_disabled_key_is_for_nobody(self, keys, path):
        path.write_text(entry(disabled="true") + entry("other"))

        assert not keys.is_usable("mine", "tenant-a")
        assert keys.is_usable("other", "tenant-a")


class TestUnavailable:
    @pytest.mark.parametrize(
        "content",
        [
            pytest.param(None, id="no file"),
            pytest.param("", id="empty file"),
            pytest.param(entry("other"), id="unknown key"),
            pytest.param(entry(disabled="true"), id="disabled key"),
            pytest.param(entry() + "]", id="not TOML"),
            pytest.param(entry() + entry(), id="key named twice"),
            pytest.param("keys = 3", id="keys no table"),
            pytest.param("[keys]\nmine = 3", id="key no table"),
            pytest.param("[keys.mine]", id="no secret"),
            pytest.param("[keys.mine]\nsecret = 3", id="secret no string"),
            pytest.param('[keys.mine]\nsecret = "!"', id="secret not base64"),
            pytest.param('[keys.mine]\nsecret = "ä"', id="secret not ASCII"),
            pytest.param(entry(secret=bytes(31)), id="secret too short"),
            pytest.param(entry(secret=bytes(33)), id="secret too long"),
            pytest.param(entry(disable="true"), id="disabled misspelt"),
            pytest.param(entry(disabled='"true"'), id="disabled no boolean"),
            pytest.param(entry(disabled="0"), id="disabled a number"),
            pytest.param(entry(tenant="3"), id="tenant no string"),
            pytest.param(entry(tenant='""'), id="tenant empty"),
        ],
    )
    def test_every_cause_gives_the_same_answer(self, keys, path, content):
        if content is not None:
            path.write_text(content)

        assert not keys.is_usable("mine", "tenant-a")
        for use in (
            lambda: keys.new_data_key("mine", context=BLOB),
            lambda: keys.unwrap("mine", bytes(60), context=BLOB),
        ):
            with pytest.raises(Rejection) as rejected:
                use()
            assert_unavailable(rejected.value)

    def test_a_file_that_is_not_text_gives_no_key(self, keys, path):
        path.write_bytes(b"\xff\xfe")

        assert not keys.is_usable("mine", "tenant-a")

    def test_a_file_that_cannot_be_read_gives_no_key(self, keys, path):
        path.mkdir()

        assert not keys.is_usable("mine", "tenant-a")
        with pytest.raises(Rejection) as rejected:
            keys.new_data_key("mine", context=BLOB)
        assert_unavailable(rejected.value)

    def test_a_bad_entry_leaves_the_others(self, keys, path):
        path.write_text(entry(disable="true") + entry("other"))

        assert not keys.is_usable("mine", "tenant-a")
        assert keys.is_usable("other", "tenant-a")


class TestChanges:
    def test_disabling_a_key_bites_at_once(self, keys, path):
        path.write_text(entry())
        data_key = keys.new_data_key("mine", context=BLOB)

        path.write_text(entry(disabled="true"))

        assert not keys.is_usable("mine", "tenant-a")
        with pytest.raises(Rejection) as rejected:
            keys.unwrap("mine", data_key.wrapped, context=BLOB)
        assert_unavailable(rejected.value)

    def test_enabling_it_again_brings_it_back(self, keys, path):
        path.write_text(entry())
        data_key = keys.new_data_key("mine", context=BLOB)
        path.write_text(entry(disabled="true"))
        assert not keys.is_usable("mine", "tenant-a")

        path.write_text(entry())

        assert keys.unwrap("mine", data_key.wrapped, context=BLOB) == data_key.plaintext

    def test_a_file_put_in_its_place_counts(self, keys, path, tmp_path):
        path.write_text(entry())
        assert keys.is_usable("mine", "tenant-a")
        replacement = tmp_path / "new"
        replacement.write_text(entry("next"))
        before = path.stat()
        os.utime(replacement, ns=(before.st_atime_ns, before.st_mtime_ns))

        replacement.replace(path)

        assert not keys.is_usable("mine", "tenant-a")
        assert keys.is_usable("next", "tenant-a")

    def test_a_file_that_appears_or_goes_counts(self, keys, path):
        found = [keys.is_usable("mine", "tenant-a")]
        path.write_text(entry())
        found.append(keys.is_usable("mine", "tenant-a"))
        path.unlink()
        found.append(keys.is_usable("mine", "tenant-a"))

        assert found == [False, True, False]

    def test_a_broken_file_does_not_leave_the_old_keys(self, keys, path):
        path.write_text(entry())
        assert keys.is_usable("mine", "tenant-a")

        path.write_text(entry() + "]")

        assert not keys.is_usable("mine", "tenant-a")

    def test_a_file_that_did_not_change_is_not_read_again(self, keys, path, monkeypatch):
        path.write_text(entry())
        assert keys.is_usable("mine", "tenant-a")

        monkeypatch.setattr(tomllib, "loads", None)

        assert keys.is_usable("mine", "tenant-a")


class TestSecrecy:
    def test_no_repr_holds_a_secret(self, keys, path):
        path.write_text(entry())
        data_key = keys.new_data_key("mine", context=BLOB)

        for shown in (repr(data_key), str(data_key), repr(keys), repr(keys._keys())):
            assert repr(SECRET)[2:-1] not in shown
            assert repr(data_key.plaintext)[2:-1] not in shown
            assert SECRET_TEXT not in shown
        assert "wrapped=" in repr(data_key)

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (f'[keys.mine]\nsecret = "{SECRET_TEXT}', "It is not TOML (at "),
            (f"[keys.mine]\nsecret = {SECRET_TEXT}", "It is not TOML (at line 2, column "),
            (
                f'[keys.mine]\n"{SECRET_TEXT}" = 1\n"{SECRET_TEXT}" = 2\n',
                "It is not TOML (at line 3, column ",
            ),
            (entry(secret=SECRET[:31]), "key mine: Its `secret` is not 32 bytes in base64."),
            (entry(disable="true"), "key mine: It is a table of `secret`, `tenant` and `disabled`"),
            (entry(tenant="3"), "key mine: Its `tenant`"),
            (entry(disabled="3"), "key mine: Its `disabled`"),
        ],
    )
    def test_the_log_names_what_is_wrong_once_and_no_secret(self, keys, path, caplog, content, told):
        path.write_text(content)

        for _ in range(3):
            assert not keys.is_usable("mine", "tenant-a")

        [record] = caplog.records
        assert record.levelno == logging.ERROR
        assert told in record.getMessage()
        assert SECRET_TEXT[:8] not in caplog.text

    def test_the_log_tells_of_a_file_that_cannot_be_read(self, keys, path, caplog):
        path.mkdir()

        assert not keys.is_usable("mine", "tenant-a")

        assert "cannot be read" in caplog.text

    def test_no_file_is_nothing_to_tell(self, keys, caplog):
        assert not keys.is_usable("mine", "tenant-a")

        assert caplog.records == []


class TestAddKey:
    def test_a_key_added_is_usable_by_every_tenant(self, keys, path):
        add_key(path, "fresh")

        assert keys.is_usable("fresh", "tenant-a")
        data_key = keys.new_data_key("fresh", context=BLOB)
        assert keys.unwrap("fresh", data_key.wrapped, context=BLOB) == data_key.plaintext

    @pytest.mark.parametrize("tenant", ["tenant-a", 'quote " and \\', "ünï 🗝", "line\nbreak"])
    def test_a_key_added_for_a_tenant_is_for_that_tenant(self, keys, path, tenant):
        add_key(path, "fresh", tenant=tenant)

        assert keys.is_usable("fresh", tenant)
        assert not keys.is_usable("fresh", "tenant-b")

    def test_a_file_made_for_it_is_its_owner_s_only(self, path):
        add_key(path, "fresh")

        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    @pytest.mark.parametrize(
        "before", [entry(), entry().rstrip(), "# ours\n" + entry() + "\n\n", "# nothing yet"]
    )
    def test_what_the_file_said_before_stays(self, keys, path, before):
        path.write_text(before)
        path.chmod(0o640)

        add_key(path, "fresh")

        assert path.read_text().startswith(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert keys.is_usable("fresh", "tenant-a")
        assert keys.is_usable("mine", "tenant-a") == ("keys.mine" in before)

    def test_keys_added_are_all_different(self, path):
        for number in range(5):
            add_key(path, f"key-{number}")

        secrets = {key["secret"] for key in tomllib.loads(path.read_text())["keys"].values()}
        assert len(secrets) == 5
        assert {len(base64.b64decode(secret)) for secret in secrets} == {32}

    @pytest.mark.parametrize("key_id", ["a", "0", "-", "a" * 64, "my-key-2"])
    def test_letters_digits_and_dashes_are_an_id(self, keys, path, key_id):
        add_key(path, key_id)

        assert keys.is_usable(key_id, "tenant-a")

    @pytest.mark.parametrize("key_id", ["", "a" * 65, "A", "ä", "a.b", "a b", "a]", 'a"', "a\n", "../a"])
    def test_anything_else_is_refused(self, path, key_id):
        with pytest.raises(KeyFileError, match="1 to 64"):
            add_key(path, key_id)

        assert not path.exists()

    @pytest.mark.parametrize("existing", [entry(), entry(disabled="true"), "[keys.mine]\n"])
    def test_an_id_that_is_there_is_refused(self, path, existing):
        path.write_text(existing)

        with pytest.raises(KeyFileError, match="already"):
            add_key(path, "mine")

        assert path.read_text() == existing

    @pytest.mark.parametrize("existing", ["]", "keys = 3", "keys = { other = {} }"])
    def test_a_file_that_cannot_take_it_stays_as_it_was(self, path, existing):
        path.write_text(existing)

        with pytest.raises(KeyFileError) as raised:
            add_key(path, "mine")

        assert path.read_text() == existing
        assert "secret" not in str(raised.value)

    def test_a_tenant_must_have_a_name(self, path):
        with pytest.raises(KeyFileError, match="tenant"):
            add_key(path, "mine", tenant="")

    def test_of_two_at_once_with_one_id_one_is_refused(self, path):
        def add(_):
            try:
                add_key(path, "same")
            except KeyFileError:
                return "refused"
            return "added"

        with ThreadPoolExecutor(8) as pool:
            outcomes = sorted(pool.map(add, range(16)))

        assert outcomes == ["added"] + ["refused"] * 15
        assert list(tomllib.loads(path.read_text())["keys"]) == ["same"]

    @pytest.mark.parametrize("failing", [0, 1])
    def test_a_key_that_is_not_durable_was_not_added(self, path, monkeypatch, failing):
        """Whichever fsync fails: of the folder (0), of the file (1)."""
        path.write_text(entry())
        fsync, calls = os.fsync, []

        def failing_once(descriptor):
            calls.append(descriptor)
            if len(calls) == failing + 1:
                raise OSError(errno.EIO, "broken")
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", failing_once)

        with pytest.raises(OSError, match="broken"):
            add_key(path, "fresh")

        assert path.read_text() == entry()

    def test_a_key_that_only_fits_in_part_was_not_added(self, path):
        """A real limit: no file of this process may grow by more than ten bytes."""
        path.write_text(entry())
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
        try:
            with pytest.raises(OSError, match="No space left"):
                add_key(path, "fresh")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

        assert path.read_text() == entry()
