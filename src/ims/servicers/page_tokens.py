"""Page tokens: opaque, and worthless to all but the caller they were given to, for that listing."""

import base64
import binascii
import hashlib
import json
from datetime import UTC, datetime
from typing import Final

from ims.domain.page import Position
from ims.domain.tenant import TenantId
from ims.servicers.reading import RequestReading

_INVALID: Final = "it is no page token of this listing: ask with the same filters, as the same tenant."
_DIGEST_BYTES: Final = 16


class Listing:
    """One listing: the method, the caller and the filters that its tokens are bound to.

    A token holds only the place behind which to go on; what is visible there is judged anew each time.
    """

    def __init__(self, method: str, tenant_id: TenantId, *filters: object) -> None:
        self._bound_to = repr((method, tenant_id, filters)).encode()

    def token(self, *place: str) -> str:
        """Return the token that goes on behind a place."""
        body = json.dumps([self._digest(place), *place]).encode()
        return base64.urlsafe_b64encode(body).decode().rstrip("=")

    def place(self, reading: RequestReading, token: str, *, parts: int) -> tuple[str, ...] | None:
        """Return the place that a token names; None for the first page."""
        if not token:
            return None
        try:
            body = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        except (ValueError, binascii.Error, RecursionError):
            body = None
        if (
            isinstance(body, list)
            and len(body) == parts + 1
            and all(isinstance(each, str) and each.isascii() and each.isprintable() for each in body)
        ):
            digest, *place = body
            if digest == self._digest(tuple(place)):
                return tuple(place)
        reading.problem("page_token", _INVALID)
        return None

    def position_token(self, position: Position) -> str:
        """Return the token that goes on behind a time and an id."""
        return self.token(position.time.isoformat(), position.id)

    def position(self, reading: RequestReading, token: str) -> Position | None:
        """Return the time and the id that a token names; None for the first page."""
        place = self.place(reading, token, parts=2)
        if place is None:
            return None
        try:
            time = datetime.fromisoformat(place[0]).astimezone(UTC)
        except (ValueError, OverflowError):  # a forged one
            reading.problem("page_token", _INVALID)
            return None
        return Position(time, place[1])

    def _digest(self, place: tuple[str, ...]) -> str:
        # The place is in the digest as well, so that a token cannot be edited by chance; nobody gains
        # anything by forging one.
        digest = hashlib.blake2b(self._bound_to + repr(place).encode(), digest_size=_DIGEST_BYTES)
        return digest.hexdigest()
