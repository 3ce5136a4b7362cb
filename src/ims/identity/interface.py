"""What an identity promises: it tells from what came with a call who calls."""

from collections.abc import Iterable
from typing import Final, Protocol

from ims.domain.caller import Caller
from ims.domain.rejection import Category, Reason, Rejection, reject

Metadata = Iterable[tuple[str, str | bytes]]
Names = tuple[str, ...]
"""What a verified client certificate names its owner: SPIFFE ids and DNS names; none without one."""

AUTHORIZATION: Final = "authorization"
"""Where a call carries its token."""


class Identity(Protocol):
    """Knows who calls."""

    def caller_of(self, metadata: Metadata, names: Names = ()) -> Caller:
        """Return who sent a call with this metadata, with a certificate of these names.

        Raises Rejection UNAUTHENTICATED.
        """


def unauthenticated() -> Rejection:
    """Return what all are told who prove nothing, or not enough: it tells nobody what to try next."""
    return reject(
        Category.UNAUTHENTICATED,
        Reason.UNAUTHENTICATED,
        "The call proves to this service by no token and no client certificate who makes it.",
    )
