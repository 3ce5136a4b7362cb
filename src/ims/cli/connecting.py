"""How the command connects, and how it proves who calls: by a token, or a certificate."""

import os
from dataclasses import dataclass
from pathlib import Path

import typer

from ims.client import CertificateOnly, ClientCredentials, Credentials, Tls, Token, TokenFile

TOKEN, SECRET = "IMS_TOKEN", "IMS_CLIENT_SECRET"
"""Secrets in the environment; no option has them, since everybody can read what a command was given."""


@dataclass(frozen=True, kw_only=True)
class Connecting:
    """What was said of it, by options or in the environment."""

    secure: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token_file: Path | None = None
    token_url: str = ""
    client_id: str = ""
    client_secret_file: Path | None = None
    scope: str = ""

    def tls(self) -> Tls | None:
        """Return how the connection is secured; None for one that is not."""
        if not (self.secure or self.ca or self.certificate or self.key):
            return None
        try:
            return Tls(ca=self.ca, certificate=self.certificate, key=self.key)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--certificate") from error

    def credentials(self) -> Credentials | None:
        """Return what proves who calls; None where nothing does."""
        try:
            if self.token_file is not None:
                return TokenFile(self.token_file)
            if self.token_url:
                return ClientCredentials(
                    self.token_url, self.client_id, self._client_secret(), scope=self.scope
                )
            if token := os.environ.get(TOKEN):
                return Token(token)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        return CertificateOnly() if self.certificate is not None else None

    def _client_secret(self) -> str:
        if self.client_secret_file is None:
            return os.environ.get(SECRET, "")
        try:
            return self.client_secret_file.read_text().strip()
        except OSError as error:
            message = f"{self.client_secret_file} cannot be read: {error.strerror}"
            raise typer.BadParameter(message, param_hint="--client-secret-file") from error
