"""Callers prove who they are with the client certificate of their connection."""

from collections.abc import Mapping

from ims.domain.caller import Caller
from ims.identity.interface import AUTHORIZATION, Identity, Metadata, Names, unauthenticated


class CertificateIdentity:
    """Knows callers by a name in their certificate, a SPIFFE id or a DNS name.

    Whoever sends a token is another's to know, certificate or not: that of a mesh or a proxy, over whose
    connection a user's calls come, must not give the user the rights of the mesh.
    """

    def __init__(self, callers: Mapping[str, Caller], otherwise: Identity | None) -> None:
        """Take who is called what; without another identity, there are certificates only."""
        self._callers = callers
        self._otherwise = otherwise

    def caller_of(self, metadata: Metadata, names: Names = ()) -> Caller:
        """Return whom the certificate names, unless there is a token."""
        metadata = tuple(metadata)
        if any(key == AUTHORIZATION for key, _ in metadata):
            if self._otherwise is None:
                raise unauthenticated()
            return self._otherwise.caller_of(metadata, names)
        known = [self._callers[name] for name in names if name in self._callers]
        # Of a certificate with two known names nobody can say who it is.
        if len(known) == 1:
            return known[0]
        raise unauthenticated()
