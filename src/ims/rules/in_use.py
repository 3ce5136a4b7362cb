"""The law of what is in use: it may be taken away, unless who does so requires that it is unused."""

from collections.abc import Iterator
from typing import Protocol

from ims.domain.registered_use import UsageTotal
from ims.domain.rejection import Category, Reason
from ims.rules.engine import Breach, breach, rule


class Taking(Protocol):
    """Anything that takes an image away from tenants."""

    @property
    def usage_to_spare(self) -> UsageTotal | None: ...


@rule("7.6", Reason.IMAGE_IN_USE, Category.AGAINST_RULES)
def nothing_in_use_is_taken_where_the_owner_requires_that(attempt: Taking) -> Iterator[Breach]:
    """Where the owner requires it, an image is neither deleted nor unshared while it is in use."""
    usage = attempt.usage_to_spare
    if usage is not None and usage.uses:
        yield breach(
            f"The image is in use. Registered servers and volumes that were made from it: {usage.uses}; "
            f"tenants that have them: {usage.tenants}.",
            subject="require_unused",
            uses=usage.uses,
            tenants=usage.tenants,
        )
