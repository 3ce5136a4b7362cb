"""The facts that every decision about an existing image looks at."""

from dataclasses import dataclass

from ims.domain.caller import Caller
from ims.domain.image import Image
from ims.domain.rejection import FieldProblem
from ims.domain.share import Share


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """Somebody wants something of an image that it may know of."""

    caller: Caller
    image: Image
    share: Share | None = None
    """The caller's own share of the image, in whatever status."""
    problems: tuple[FieldProblem, ...] = ()
    """What could not be read of the request."""
