"""TLS and mutual TLS, over real connections: who is served, who is known, and what is replaced."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import grpc
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from calling import answer_of, request_class, response_class
from conftest import MakeService
from ims.bootstrap import Service
from ims.client import Client, DevelopmentIdentity, Tls, Token
from ims.settings import ClientSetting, SettingsError, TlsSetting

SPIFFE = "spiffe://cloud.example/compute"
DNS = "volumes.cloud.example"


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def strange_authority() -> trustme.CA:
    return trustme.CA()


class Folder:
    """A folder with PEM files."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def ca(self, authority: trustme.CA, name: str = "ca.pem") -> Path:
        authority.cert_pem.write_to_path(self.path / name)
        return self.path / name

    def certificate(
        self, authority: trustme.CA, *names: str, file: str = "server", **more: Any
    ) -> tuple[Path, Path]:
        """Make a certificate for some names; return where it and its key are."""
        if any(name.startswith("spiffe:") for name in names):
            return self._written(file, *with_ids(authority, *names))
        made = authority.issue_cert(*names, **more)
        chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
        return self._written(file, chain, made.private_key_pem.bytes())

    def _written(self, file: str, chain: bytes, key: bytes) -> tuple[Path, Path]:
        paths = self.path / f"{file}.pem", self.path / f"{file}-key.pem"
        for path, content in zip(paths, (chain, key), strict=True):
            path.write_bytes(content)
        return paths


def with_ids(authority: trustme.CA, *names: str) -> tuple[bytes, bytes]:
    """Return a certificate that names SPIFFE ids too, and its key: trustme knows hosts only."""
    ca = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    ca_key = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives = [
        x509.UniformResourceIdentifier(name) if "://" in name else x509.DNSName(name) for name in names
    ]
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "a client")]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


Secured = Callable[..., Service]


@pytest.fixture
def secured(make_service: MakeService, folder: Folder, authority: trustme.CA) -> Secured:
    """Start a service with a certificate for this machine, and TLS settings of one's own."""

    def make(**settings: Any) -> Service:
        certificate, key = folder.certificate(authority, "127.0.0.1", "localhost")
        if {"client_ca", "clients"} & settings.keys():
            settings = {"client_ca": folder.ca(authority), **settings}
        return make_service(tls={"certificate": certificate, "key": key, **settings})

    return make


@pytest.fixture
def ca(folder: Folder, authority: trustme.CA) -> Path:
    return folder.ca(authority)


@contextmanager
def client(service: Service, tls: Tls | None, credentials: Any = None) -> Iterator[Client]:
    who = credentials or DevelopmentIdentity("acme")
    with Client(f"127.0.0.1:{service.port}", credentials=who, tls=tls, timeout_seconds=5) as made:
        yield made


def names(made: Client) -> list[str]:
    return [image.name for image in made.list_images()]


def not_reached(service: Service, tls: Tls | None, credentials: Any = None) -> bool:
    """Whether no call comes through at all."""
    with grpc_channel(service, tls) as channel:
        call = channel.unary_unary("/ims.v1.ImageService/ListImages")
        seen = answer_of(lambda: call(b"", metadata=[("ims-tenant", "acme")], timeout=3))
    return seen.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}


def grpc_channel(service: Service, tls: Tls | None) -> grpc.Channel:
    target = f"127.0.0.1:{service.port}"
    return (
        grpc.insecure_channel(target) if tls is None else grpc.secure_channel(target, tls.credentials())
    )


class TestTls:
    def test_who_trusts_the_authority_is_served(self, secured: Secured, ca: Path):
        with client(secured(), Tls(ca=ca)) as acme:
            assert names(acme) == []

    def test_whoever_trusts_another_authority_or_speaks_without_tls_is_not(
        self, secured: Secured, folder: Folder, strange_authority: trustme.CA
    ):
        service = secured()

        assert not_reached(service, Tls(ca=folder.ca(strange_authority, "strange.pem")))
        assert not_reached(service, None)

    def test_a_service_without_tls_does_not_answer_who_asks_for_it(
        self, make_service: MakeService, ca: Path
    ):
        assert not_reached(make_service(), Tls(ca=ca))


class TestMutualTls:
    CLIENTS = (
        {"name": SPIFFE, "tenant": "nova", "roles": ["service"]},
        {"name": DNS, "tenant": "cinder", "user": "cinder-1", "roles": ["member"]},
    )

    @pytest.fixture
    def service(self, secured: Secured) -> Service:
        return secured(clients=self.CLIENTS)

    def tls(self, folder: Folder, authority: trustme.CA, *names: str, ca: Path) -> Tls:
        certificate, key = folder.certificate(authority, *names, file="client")
        return Tls(ca=ca, certificate=certificate, key=key)

    @pytest.mark.parametrize(("name", "tenant"), [(SPIFFE, "nova"), (DNS, "cinder")])
    def test_a_certificate_says_who_calls_whatever_else_is_claimed(
        self, service, folder: Folder, authority, ca: Path, name: str, tenant: str
    ):
        tls = self.tls(folder, authority, name, ca=ca)
        create = request_class("CreateImage")(
            name="debian",
            type="SYSTEM_DISK",
            disks=[{"format": "RAW"}],
            # Services create for a tenant they name; members for their own.
            **(
                {"owner_tenant_id": "acme", "source": {"ecs": {"server_id": "server-1"}}}
                if tenant == "nova"
                else {}
            ),
        )
        with grpc_channel(service, tls) as channel:
            forged = [("ims-tenant", "globex"), ("ims-roles", "admin")]
            answer = channel.unary_unary("/ims.v1.ImageService/CreateImage")(
                create.SerializeToString(), metadata=forged, timeout=5
            )
            publish = channel.unary_unary("/ims.v1.AdminService/PublishImage")
            seen = answer_of(lambda: publish(b"", metadata=forged, timeout=5))

        image = response_class("CreateImage").FromString(answer).image
        assert image.owner_tenant_id == ("acme" if tenant == "nova" else tenant)
        assert seen.code != "OK"

    @pytest.mark.parametrize("name", ["spiffe://cloud.example/compute/2", "x.volumes.cloud.example"])
    def test_an_unknown_name_is_nobody(self, service, folder, authority, ca, name: str):
        assert self.answer(service, self.tls(folder, authority, name, ca=ca)) == "UNAUTHENTICATED"

    def test_two_known_names_are_nobody(self, service, folder, authority, ca):
        assert self.answer(service, self.tls(folder, authority, SPIFFE, DNS, ca=ca)) == "UNAUTHENTICATED"

    def test_without_a_certificate_nobody_connects(self, service, ca):
        assert not_reached(service, Tls(ca=ca))

    def test_a_token_that_nobody_can_verify_is_not_outdone_by_a_certificate(
        self, service, folder, authority, ca
    ):
        tls = self.tls(folder, authority, SPIFFE, ca=ca)

        assert self.answer(service, tls, ("authorization", "Bearer x.y.z")) == "UNAUTHENTICATED"

    def test_a_certificate_of_another_authority_does_not_connect(
        self, service, folder, strange_authority, ca
    ):
        assert not_reached(service, self.tls(folder, strange_authority, SPIFFE, ca=ca))

    def test_a_certificate_may_be_asked_for_and_say_nothing_of_who_calls(
        self, secured: Secured, folder, authority, ca
    ):
        service = secured(client_ca=ca)

        assert not_reached(service, Tls(ca=ca))
        assert self.answer(service, self.tls(folder, authority, "anybody", ca=ca), TENANT) == "OK"

    @staticmethod
    def answer(service: Service, tls: Tls, *metadata: tuple[str, str]) -> str:
        with grpc_channel(service, tls) as channel:
            call = channel.unary_unary("/ims.v1.ImageService/ListImages")
            return answer_of(lambda: call(b"", metadata=metadata, timeout=5)).code


TENANT = ("ims-tenant", "acme")


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 20
    while not condition() and time.monotonic() < until:
        threading.Event().wait(0.01)


class TestReplacement:
    def test_a_new_certificate_is_served_and_no_call_is_dropped(
        self, secured: Secured, folder: Folder, authority: trustme.CA, strange_authority, ca: Path
    ):
        """The old connection goes on with its calls while new ones meet the new certificate."""
        service = secured()
        ended, outcomes = threading.Event(), []

        def keep_calling() -> None:
            with client(service, Tls(ca=ca)) as acme:
                while not ended.is_set():
                    outcomes.append(names(acme))

        caller = threading.Thread(target=keep_calling)
        caller.start()
        try:
            wait_for(lambda: outcomes)
            folder.certificate(strange_authority, "127.0.0.1")
            new = Tls(ca=folder.ca(strange_authority, "new.pem"))
            assert not not_reached(service, new)
            assert not_reached(service, Tls(ca=ca))
            before = len(outcomes)
            wait_for(lambda: len(outcomes) >= before + 5)
        finally:
            ended.set()
            caller.join()

        assert len(outcomes) >= before + 5
        assert all(outcome == [] for outcome in outcomes)

    def test_half_a_replacement_changes_nothing_until_the_other_half_is_there(
        self, secured: Secured, folder: Folder, authority: trustme.CA, ca: Path
    ):
        service = secured()
        certificate, key = folder.certificate(authority, "127.0.0.1", file="next")
        (folder.path / "server.pem").write_bytes(certificate.read_bytes())

        assert not not_reached(service, Tls(ca=ca))
        (folder.path / "server-key.pem").write_bytes(b"-----BEGIN PRIV")
        assert not not_reached(service, Tls(ca=ca))
        (folder.path / "server-key.pem").unlink()
        assert not not_reached(service, Tls(ca=ca))
        (folder.path / "server-key.pem").write_bytes(key.read_bytes())
        assert not not_reached(service, Tls(ca=ca))


class TestUnusable:
    """A service that cannot be secured as it is set up does not start, and says why."""

    def refused(self, make_service: MakeService, **tls: Any) -> str:
        with pytest.raises(SettingsError) as seen:
            make_service(tls=tls)
        return str(seen.value)

    def test_without_its_files(self, make_service, folder: Folder, authority):
        certificate, key = folder.certificate(authority, "localhost")

        for missing in ("certificate", "key"):
            files = {"certificate": certificate, "key": key, missing: folder.path / "none.pem"}
            assert "none.pem" in self.refused(make_service, **files)

    def test_with_a_key_of_another_certificate(self, make_service, folder: Folder, authority):
        certificate, _ = folder.certificate(authority, "localhost")
        _, key = folder.certificate(authority, "localhost", file="other")

        said = self.refused(make_service, certificate=certificate, key=key)
        assert said == "setting tls: the key is not that of the certificate"

    def test_with_what_is_no_certificate_or_no_key(self, make_service, folder: Folder, authority):
        certificate, key = folder.certificate(authority, "localhost")

        assert "no PEM certificate" in self.refused(make_service, certificate=key, key=key)
        assert "no PEM private key" in self.refused(
            make_service, certificate=certificate, key=certificate
        )

    def test_with_an_expired_certificate(self, make_service, folder: Folder, authority):
        yesterday = datetime(2026, 1, 1, tzinfo=UTC)
        certificate, key = folder.certificate(authority, "localhost", not_after=yesterday)

        assert "has expired" in self.refused(make_service, certificate=certificate, key=key)


class TestSettings:
    FILES: ClassVar = {"certificate": Path("c"), "key": Path("k")}
    CLIENT = ClientSetting(name="a", tenant="acme", roles=["member"])

    def test_clients_need_an_authority_that_vouches_for_them(self):
        with pytest.raises(ValueError, match="client_ca"):
            TlsSetting(**self.FILES, clients=(self.CLIENT,))
        TlsSetting(**self.FILES, clients=(self.CLIENT,), client_ca=Path("ca"))

    def test_a_name_stands_for_one_client(self):
        with pytest.raises(ValueError, match="more than once"):
            TlsSetting(**self.FILES, client_ca=Path("ca"), clients=(self.CLIENT, self.CLIENT))


class TestStrangers:
    """Others may reach a service that knows its clients by their certificates, and no other."""

    def test_with_clients_of_its_own_a_service_listens_everywhere(
        self, make_service, folder: Folder, authority, ca
    ):
        certificate, key = folder.certificate(authority, "127.0.0.1")
        tls = {"certificate": certificate, "key": key, "client_ca": ca}

        with pytest.raises(SettingsError, match="whoever they say they are"):
            make_service(listen="0.0.0.0:0", tls=tls)
        clients = ({"name": DNS, "tenant": "cinder", "roles": ["member"]},)
        make_service(listen="0.0.0.0:0", tls={**tls, "clients": clients})


def test_a_token_goes_to_no_other_machine_without_tls(ca: Path):
    with pytest.raises(ValueError, match="TLS"):
        Client("ims.example:443", credentials=Token("x.y.z"))
    Client("ims.example:443", credentials=Token("x.y.z"), tls=Tls(ca=ca)).close()
    Client("ims.example:443", credentials=Token("x.y.z"), plaintext=True).close()
    for here in ("127.0.0.1:1", "[::1]:1", "localhost:1", "unix:/tmp/x"):
        Client(here, credentials=Token("x.y.z")).close()
