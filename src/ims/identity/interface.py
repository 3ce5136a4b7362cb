"""What an identity promises: it tells from what came with a call who calls."""

from collections.abc import Iterable
from typing import Protocol

from ims.domain.caller import Caller

Metadata = Iterable[tuple[str, str | bytes]]


class Identity(Protocol):
    """Knows who calls."""

    def caller_of(self, metadata: Metadata) -> Caller:
        """Return who sent a call with this metadata. Raises Rejection UNAUTHENTICATED."""
