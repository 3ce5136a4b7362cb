"""Page tokens: opaque, and worthless to all but the caller they were given to, for that listing."""

import base64
import binascii
import json
from collections.abc import Callable
from typing import Final, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from google.protobuf.message import Message

from ims.domain.page import Page, Position
from ims.domain.tenant import TenantId
from ims.servicers.reading import RequestReading

KEY_BYTES: Final = 32
MAX_PAGE_BYTES: Final = 3 * 1024**2
"""How large the items of a page are together at the most, unless one alone is larger. Clients take
messages of 4 MiB unless told otherwise."""

_INVALID: Final = (
    "it is no token of this listing: ask with the same filters and order, as the same tenant."
)

Item = TypeVar("Item")


class Listing:
    """One listing: the method, the caller, the filters and the order that its tokens are bound to.

    A token holds only the place behind which to go on, sealed with a key that all instances have and no
    caller; what is visible there is judged anew each time.
    """

    def __init__(self, key: bytes, tenant_id: TenantId, request: Message) -> None:
        """Take a request for a page: all of it but which page is what the listing is."""
        listing = type(request)()
        listing.CopyFrom(request)
        for field in ("page_token", "page_size", "include_total_size"):
            if field in listing.DESCRIPTOR.fields_by_name:  # not every list is counted
                listing.ClearField(field)
        self._bound_to = [
            listing.DESCRIPTOR.full_name.encode(),
            tenant_id.encode(),
            listing.SerializeToString(deterministic=True),
        ]
        self._seal = AESSIV(key)

    def token(self, place: Position) -> str:
        """Return the token that goes on behind a place."""
        body = json.dumps([place.key, place.id]).encode()
        return base64.urlsafe_b64encode(self._seal.encrypt(body, self._bound_to)).decode().rstrip("=")

    def place(self, reading: RequestReading, token: str) -> Position | None:
        """Return the place that a token names; None for the first page."""
        if not token:
            return None
        try:
            sealed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
            # Strictly as it was given: the decoder passes over what is no letter of its alphabet.
            if base64.urlsafe_b64encode(sealed).decode().rstrip("=") == token:
                key, image_id = json.loads(self._seal.decrypt(sealed, self._bound_to))
                return Position(key, image_id)
        except (ValueError, binascii.Error, InvalidTag):
            pass
        reading.problem("page_token", _INVALID)
        return None

    def answer(self, page: Page[Item], write: Callable[[Item], bytes]) -> tuple[list[bytes], str]:
        """Return as many items of a page as go into an answer, and the token to go on with."""
        written: list[bytes] = []
        room = MAX_PAGE_BYTES
        for item in page.items:
            each = write(item)
            room -= len(each)
            if room < 0 and written:
                return written, self.token(page.places[len(written) - 1])
            written.append(each)
        return written, self.token(page.places[len(written) - 1]) if page.more else ""
