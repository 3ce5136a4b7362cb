import json
from pathlib import Path

import pytest

from ims.settings import Settings, SettingsError, load


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    for name in ("IMS_LISTEN", "IMS_DATA", "IMS_REGION"):
        monkeypatch.delenv(name, raising=False)


def file_with(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "ims.toml"
    path.write_text(text)
    return path


def test_the_defaults_are_the_laws(monkeypatch):
    settings = load(None, {})

    assert settings.shares_per_image == 128
    assert settings.max_image_file_bytes == 128 * 1024**3
    assert settings.listen == "127.0.0.1:50051"
    assert settings.data == Path("data")


def test_flags_outweigh_the_environment_and_that_the_file(tmp_path, monkeypatch):
    path = file_with(tmp_path, 'region = "file"\nlisten = "127.0.0.1:1"\nthreads = 40')
    monkeypatch.setenv("IMS_REGION", "environment")
    monkeypatch.setenv("IMS_LISTEN", "127.0.0.1:2")

    settings = load(path, {"listen": "127.0.0.1:3"})

    assert (settings.listen, settings.region, settings.threads) == ("127.0.0.1:3", "environment", 40)


def test_sizes_may_have_units(tmp_path):
    settings = load(file_with(tmp_path, 'max_image_file_bytes = "10GiB"'), {})

    assert settings.max_image_file_bytes == 10 * 1024**3


def test_hosts_that_imports_may_come_from_are_named(tmp_path, monkeypatch):
    named = 'import_allowed_hosts = ["files.example", "10.0.0.1:8080", "[fd00::1]:8080"]'

    assert len(load(file_with(tmp_path, named), {}).import_allowed_hosts) == 3
    monkeypatch.setenv("IMS_IMPORT_ALLOWED_HOSTS", '["files.example"]')
    assert load(None, {}).import_allowed_hosts == ("files.example",)


def test_an_image_file_may_have_up_to_1_tib(tmp_path):
    assert Settings(max_image_file_bytes=1024**4).max_image_file_bytes == 1024**4
    with pytest.raises(SettingsError, match="max_image_file_bytes"):
        load(file_with(tmp_path, f"max_image_file_bytes = {1024**4 + 1}"), {})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("shares_per_imag = 1", "shares_per_imag"),
        ("threads = 0", "threads"),
        ("workers = 0", "workers"),
        ('region = "no spaces here"', "region"),
        ("max_transfers = 0", "max_transfers"),
        ("threads = ", "cannot be read"),
        ('import_allowed_hosts = ["https://files.example"]', "import_allowed_hosts"),
        ("import_stall_seconds = 0", "import_stall_seconds"),
        ('[[vaults.acme]]\nid = "v"\ncapacity_gib = 0', "vaults.acme"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path, text, named):
    with pytest.raises(SettingsError, match=named):
        load(file_with(tmp_path, text), {})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"no-such\.toml"):
        load(tmp_path / "no-such.toml", {})


def test_a_misspelt_variable_is_named(monkeypatch):
    monkeypatch.setenv("IMS_SHARE_PER_IMAGE", "5")

    with pytest.raises(SettingsError, match="IMS_SHARE_PER_IMAGE"):
        load(None, {})


def test_a_clients_variables_are_none_of_a_servers_business(monkeypatch):
    monkeypatch.setenv("IMS_TENANT", "acme")

    load(None, {})


TOKEN_LOGIN = 'token_file = "/run/token"'
ROLE_LOGIN = 'role_id = "r"\nsecret_id_file = "/run/secret"'


@pytest.mark.parametrize("login", [TOKEN_LOGIN, ROLE_LOGIN])
@pytest.mark.parametrize(
    "url",
    [
        "https://keys.example:8200",
        "https://keys.example/",
        "https://[2001:db8::1]:8200",
        "http://127.0.0.1:8200",
        "http://[::1]:8200",
        "http://localhost:8200",
    ],
)
def test_a_key_server_has_an_address_and_a_login(tmp_path, url, login):
    transit = load(file_with(tmp_path, f'[transit]\nurl = "{url}"\n{login}'), {}).transit

    assert transit is not None
    assert (transit.url, transit.mount, transit.namespace) == (url, "transit", "")


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("http://keys.example:8200", "https"),
        ("http://127.0.0.1.example", "https"),
        ("http://localhost@keys.example", "url"),
        ("https://user:password@keys.example", "url"),
        ("https://keys.example/path", "url"),
        ("https://keys.example?x", "url"),
        ("https://keys.example:99999", "no address"),
        ("https://[keys.example", "no address"),
        ("ftp://keys.example", "url"),
        ("keys.example", "url"),
        ("", "url"),
    ],
)
def test_an_address_that_others_could_listen_at_or_that_is_none_is_refused(tmp_path, url, named):
    with pytest.raises(SettingsError, match=named):
        load(file_with(tmp_path, f'[transit]\nurl = "{url}"\n{TOKEN_LOGIN}'), {})


@pytest.mark.parametrize(
    "settings",
    [
        "",
        f"{TOKEN_LOGIN}\n{ROLE_LOGIN}",
        'role_id = "r"',
        'secret_id_file = "/run/secret"',
        f'{TOKEN_LOGIN}\nrole_id = "r"',
        f'{TOKEN_LOGIN}\nmount = "/transit"',
        f'{TOKEN_LOGIN}\nmount = "a/../b"',
        f'{TOKEN_LOGIN}\nmount = ""',
        f'{TOKEN_LOGIN}\nnamespace = "a b"',
        f"{TOKEN_LOGIN}\ntimeout_seconds = 0",
        f"{TOKEN_LOGIN}\ncache_seconds = 301",
        f'{TOKEN_LOGIN}\ntoken = "s.secret"',
    ],
)
def test_a_key_server_has_one_login_and_paths_that_are_paths(tmp_path, settings):
    with pytest.raises(SettingsError, match="transit"):
        load(file_with(tmp_path, f'[transit]\nurl = "https://keys.example"\n{settings}'), {})


def test_keys_are_in_a_file_or_in_a_key_server(tmp_path):
    text = f'key_file = "keys.toml"\n[transit]\nurl = "https://keys.example"\n{TOKEN_LOGIN}'

    with pytest.raises(SettingsError, match="not in both"):
        load(file_with(tmp_path, text), {})


def test_a_key_server_can_stand_in_the_environment(monkeypatch):
    monkeypatch.setenv("IMS_TRANSIT", '{"url": "https://keys.example", "token_file": "/run/token"}')

    transit = load(None, {}).transit

    assert transit is not None
    assert (transit.timeout_seconds, transit.cache_seconds) == (3, 5)


BUCKET = '[s3]\nbucket = "images"\n'


def test_a_bucket_is_all_that_has_to_be_said_of_a_store(tmp_path):
    s3 = load(file_with(tmp_path, BUCKET), {}).s3

    assert s3 is not None
    assert (s3.bucket, s3.prefix, s3.part_bytes) == ("images", "", 8 * 1024**2)


def test_a_secret_is_not_shown(tmp_path):
    settings = load(file_with(tmp_path, BUCKET + 'access_key_id = "me"\nsecret_access_key = "hush"'), {})

    assert settings.s3.secret_access_key.get_secret_value() == "hush"
    assert "hush" not in repr(settings) + str(settings)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('access_key_id = "me"', "goes with"),
        ('secret_access_key = "hush"', "goes with"),
        ('access_key_id = "me"\nsecret_access_key = "hush"\nsecret_access_key_file = "f"', "goes with"),
        ('prefix = "no-slash"', "s3.prefix"),
        ('prefix = "/slash/"', "s3.prefix"),
        ('endpoint_url = "s3.example.com"', "s3.endpoint_url"),
        ('part_bytes = "4.9MiB"', "s3.part_bytes"),
        ('part_bytes = "513MiB"', "s3.part_bytes"),
        ("buket = 1", "s3.buket"),
    ],
)
def test_what_is_wrong_with_a_bucket_is_named_and_its_secret_is_not(tmp_path, text, named):
    with pytest.raises(SettingsError, match=named) as wrong:
        load(file_with(tmp_path, BUCKET + text), {})

    assert "hush" not in str(wrong.value)


def test_parts_of_5_mib_are_the_smallest(tmp_path):
    s3 = load(file_with(tmp_path, BUCKET + 'part_bytes = "5MiB"'), {}).s3

    assert s3.part_bytes == 5 * 1024**2


EXPORTS = '[[export_buckets]]\nbucket = "images-of-acme"\ntenants = ["acme"]\n'


def test_buckets_are_opened_for_exports_of_tenants(tmp_path):
    more = '[[export_buckets]]\nbucket = "shared"\ntenants = ["acme", "globex"]\n'
    both = load(file_with(tmp_path, EXPORTS + more), {}).export_buckets

    assert [(each.bucket, each.tenants) for each in both] == [
        ("images-of-acme", {"acme"}),
        ("shared", {"acme", "globex"}),
    ]
    assert load(None, {}).export_buckets == ()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (EXPORTS + EXPORTS, "more than once"),
        ('[[export_buckets]]\nbucket = "b"\n', "tenants"),
        ('[[export_buckets]]\nbucket = "b"\ntenants = []\n', "tenants"),
        ('[[export_buckets]]\nbucket = "b"\ntenants = ["a b"]\n', "a tenant has"),
        (EXPORTS + 'prefix = "p/"\n', "prefix"),
        (EXPORTS + 'access_key_id = "me"\n', "goes with"),
        (EXPORTS + '[s3]\nbucket = "images-of-acme"\n', "none to export into"),
    ],
)
def test_what_is_wrong_with_a_bucket_for_exports_is_named(tmp_path, text, named):
    with pytest.raises(SettingsError, match=named):
        load(file_with(tmp_path, text), {})


def test_the_same_name_in_another_store_is_another_bucket(tmp_path):
    own = '[s3]\nbucket = "images-of-acme"\nendpoint_url = "https://s3.example.com"\n'

    assert load(file_with(tmp_path, EXPORTS + own), {}).export_buckets


@pytest.mark.parametrize(
    "peer",
    [
        {"certificate": "peer.pem", "key": "peer-key.pem", "ca_file": "ca.pem"},
        {"certificate": "peer.pem", "key": "peer-key.pem", "token_file": "token"},
        {"token_file": "token", "plaintext": True},
        {"token_url": "https://login.example/token", "client_id": "ims", "client_secret": "s"},
        {"token_url": "https://login.example/token", "client_id": "ims", "client_secret_file": "s"},
        {"development_tenant": "ims.eu-de"},
    ],
)
def test_a_peer_is_a_region_an_address_and_one_proof(tmp_path, peer):
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in peer.items())
    text = f'[peers.eu-west]\nserver = "ims.eu-west.example:443"\n{lines}'

    settings = load(file_with(tmp_path, text), {})

    assert settings.peers["eu-west"].server == "ims.eu-west.example:443"
    assert settings.peers["eu-west"].encrypted is not bool(
        {"plaintext", "development_tenant"} & set(peer)
    )


@pytest.mark.parametrize(
    ("peer", "named"),
    [
        ('server = "no-port"\ntoken_file = "t"', "server"),
        ('server = "h:1"', "one says who one is"),
        ('server = "h:1"\ntoken_file = "t"\ndevelopment_tenant = "ims"', "one says who one is"),
        ('server = "h:1"\ncertificate = "c"', "go together"),
        ('server = "h:1"\ncertificate = "c"\nkey = "k"\nplaintext = true', "without TLS"),
        ('server = "h:1"\ntoken_url = "https://l"\nclient_id = "i"', "go together"),
        (
            'server = "h:1"\ntoken_url = "http://l"\nclient_id = "i"\nclient_secret = "geheim"',
            "token_url is https",
        ),
        ('server = "h:1"\ntoken_file = "t"\nunknown = 1', "unknown"),
    ],
)
def test_what_is_wrong_with_a_peer_is_named_and_its_secret_is_not(tmp_path, peer, named):
    with pytest.raises(SettingsError, match=named) as refused:
        load(file_with(tmp_path, f"[peers.eu-west]\n{peer}"), {})
    assert "geheim" not in str(refused.value)


def test_nobody_is_ones_own_peer(tmp_path):
    text = 'region = "eu-west"\n[peers.eu-west]\nserver = "h:1"\ntoken_file = "t"'

    with pytest.raises(SettingsError, match="eu-west is this region"):
        load(file_with(tmp_path, text), {})


def test_a_peers_secret_is_not_shown(tmp_path):
    text = (
        '[peers.eu-west]\nserver = "h:1"\ntoken_url = "https://l"\nclient_id = "i"\n'
        'client_secret = "geheim"'
    )

    assert "geheim" not in repr(load(file_with(tmp_path, text), {}))


def test_more_of_an_upload_is_under_way_where_peers_are(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('[peers.far]\nserver = "far.example.com:443"\ntoken_file = "token"\n')
    assert load(None, {}).upload_window == 512 * 1024
    assert load(None, {"upload_window_bytes": "1MiB"}).upload_window == 1024**2
    assert load(file, {}).upload_window == 4 * 1024**2
    assert load(file, {"upload_window_bytes": "1MiB"}).upload_window == 1024**2
