"""What connections are secured with: the server's certificate, read again whenever it was replaced."""

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import grpc
import structlog

from ims.identity.interface import Names

if TYPE_CHECKING:
    from cryptography import x509

_ALTERNATIVE_NAMES: Final = "x509_subject_alternative_name"

_log = structlog.get_logger("ims.tls")


class UnusableCertificate(Exception):
    """No connection can be secured with these files; the message says why."""


@dataclass(frozen=True, kw_only=True)
class CertificateFiles:
    """Where the server's certificate with its chain is, its key, and whose clients are verified; PEM."""

    certificate: Path
    key: Path
    client_authorities: Path | None
    """None where clients need no certificate. The library cannot ask for one and do without."""


@dataclass(frozen=True)
class _Pem:
    certificate: bytes
    key: bytes
    client_authorities: bytes | None


class Certificates:
    """The certificate as it is in its files now.

    They are looked at for every connection, which is seldom enough. Of what is half written, or replaced
    in one file and not yet in the other, the log tells once, and the one before stays.
    """

    def __init__(self, files: CertificateFiles) -> None:
        """Read the files. Raises UnusableCertificate."""
        self._files = files
        self._seen = self._used = _read(files)
        _judge(self._used)
        self._lock = threading.Lock()

    def credentials(self) -> grpc.ServerCredentials:
        """Return what a port is opened with."""
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._used),
            cast("Any", self._replaced),  # the library takes None for "as before", its types do not
            require_client_authentication=self._files.client_authorities is not None,
        )

    def _replaced(self) -> "grpc.ServerCertificateConfiguration | None":
        with self._lock:
            try:
                there = _read(self._files)
                if there == self._seen:
                    return None
                self._seen = there
                _judge(there)
            except UnusableCertificate as error:
                _log.error("the new certificate cannot be used; the one before stays", why=str(error))
                return None
            self._used = there
            _log.info("the certificate has been replaced")
            return _configuration(there)


def names_of(context: grpc.ServicerContext) -> Names:
    """Return what a connection's verified client certificate names: SPIFFE ids and DNS names."""
    found = cast("dict[str, list[bytes]]", context.auth_context())
    return tuple(name.decode("ascii", "replace") for name in found.get(_ALTERNATIVE_NAMES, ()))


def no_names(_context: grpc.ServicerContext) -> Names:
    """Return nothing, where certificates say nothing of who calls: asking for them takes its time."""
    return ()


def _read(files: CertificateFiles) -> _Pem:
    def contents(path: Path, what: str) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise UnusableCertificate(f"{what} cannot be read from {path}: {error.strerror}") from error

    authorities = files.client_authorities
    return _Pem(
        certificate=contents(files.certificate, "the certificate"),
        key=contents(files.key, "the key"),
        client_authorities=(
            None if authorities is None else contents(authorities, "the clients' authorities")
        ),
    )


def _judge(pem: _Pem) -> None:
    """Raise UnusableCertificate for what no connection can be secured with."""
    # Only where there is a certificate: some megabytes of every worker.
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - see above
        Encoding,
        PublicFormat,
        load_pem_private_key,
    )

    certificate = _first(pem.certificate, "certificate")
    try:
        key = load_pem_private_key(pem.key, password=None)
    except (ValueError, TypeError) as error:
        raise UnusableCertificate("the key is no PEM private key without a password") from error
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if certificate.public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
        raise UnusableCertificate("the key is not that of the certificate")
    if certificate.not_valid_after_utc <= datetime.now(UTC):
        raise UnusableCertificate(f"the certificate has expired, {certificate.not_valid_after_utc}")
    if pem.client_authorities is not None:
        _first(pem.client_authorities, "file of the clients' authorities")


def _first(pem: bytes, what: str) -> "x509.Certificate":
    from cryptography import x509  # noqa: PLC0415 - see _judge

    try:
        return x509.load_pem_x509_certificates(pem)[0]
    except ValueError as error:
        raise UnusableCertificate(f"the {what} holds no PEM certificate") from error


def _configuration(pem: _Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(pem.key, pem.certificate)], root_certificates=pem.client_authorities
    )
