"""The law of registered uses: which may be registered, and who asks for them (law 7.4, 7.5)."""

from collections.abc import Iterator
from dataclasses import dataclass

from ims.domain.rejection import Category, Reason
from ims.rules.attempt import Attempt
from ims.rules.engine import Breach, Rule, breach, rule
from ims.rules.form import Query, Request, every_field_can_be_read
from ims.rules.sharing import only_accepted_shares_are_used
from ims.rules.states import Verb, state_allows


@dataclass(frozen=True, kw_only=True)
class RegistrationAttempt(Attempt):
    """A tenant, or a service for it, makes something from an image; `caller` is the tenant."""

    known: bool
    """Whether this very use is registered already."""
    use_count: int
    """How many uses of the image the tenant has registered."""
    use_limit: int


@rule("7.4", Reason.USE_LIMIT_EXCEEDED, Category.OVER_LIMIT)
def registered_uses_stay_within_the_limit(attempt: RegistrationAttempt) -> Iterator[Breach]:
    """At most 10,000 uses an image and tenant (a setting) are registered."""
    if not attempt.known and attempt.use_count >= attempt.use_limit:
        yield breach(
            f"The tenant can have {attempt.use_limit} registered uses of the image and has "
            f"{attempt.use_count}; release those whose servers and volumes are gone.",
            limit=attempt.use_limit,
            used=attempt.use_count,
            asked=1,
        )


# What the image is made for is not asked again: a server may be there by now, and is to be counted.
REGISTER_USE: tuple[Rule[RegistrationAttempt], ...] = (
    every_field_can_be_read,
    *state_allows(Verb.USE),
    only_accepted_shares_are_used,
    registered_uses_stay_within_the_limit,
)

# The image itself is not looked at: what was used is released when the image is out of sight, too.
RELEASE_USE: tuple[Rule[Query], ...] = (every_field_can_be_read,)
LIST_USES: tuple[Rule[Query], ...] = (every_field_can_be_read,)

GET_USAGE: tuple[Rule[Request], ...] = (every_field_can_be_read,)
