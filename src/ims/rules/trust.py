"""The law of trust: what a recipient says, once, of what others may share with it."""

from collections.abc import Iterator
from dataclasses import dataclass

from ims.domain.image import Image, ImageType
from ims.domain.rejection import Category, Problems, Reason
from ims.domain.share import ShareStatus
from ims.domain.trust import Attitude, Trust, TrustRules
from ims.rules.engine import Breach, Rule, breach, rule
from ims.rules.form import every_field_can_be_read

MAX_AUTO_ACCEPT_FROM = 100
MAX_BLOCKED = 1000


def needs_vault(image: Image, *, backup_provider_exists: bool) -> bool:
    """Return whether accepting a share of an image names a vault (law 4.7)."""
    return backup_provider_exists and image.type is ImageType.FULL_ECS


def status_of_new_share(image: Image, trust: Trust, *, backup_provider_exists: bool) -> ShareStatus:
    """Return the status that a share begins with: ACCEPTED where its recipient has said so (law 4.9).

    Not where it would have to name a vault, nor where it is at home in another region than the image.
    """
    trusted = trust.attitude is Attitude.AUTO_ACCEPT and trust.home == image.region
    if trusted and not needs_vault(image, backup_provider_exists=backup_provider_exists):
        return ShareStatus.ACCEPTED
    return ShareStatus.PENDING


@dataclass(frozen=True, kw_only=True)
class TrustAttempt:
    """A tenant wants other trust rules."""

    rules: TrustRules
    """Those that it has."""
    draft: TrustRules
    """Those that it would have."""
    expected_etag: str = ""
    """The etag of the rules that the caller decided on; empty when it does not mind."""
    problems: Problems = ()


@rule("4.10", Reason.INVALID_FIELD, Category.MALFORMED)
def an_owner_is_trusted_or_blocked(attempt: TrustAttempt) -> Iterator[Breach]:
    """Of one owner the rules say one thing."""
    both = set(attempt.draft.auto_accept_from) & set(attempt.draft.blocked)
    for owner in sorted(both):
        yield breach(
            f"rules.blocked: tenant '{owner}' is one to accept from, too; name it once.",
            subject="rules.blocked",
            field="rules.blocked",
            tenantId=owner,
        )


@rule("4.9", Reason.ETAG_MISMATCH, Category.CONFLICT)
def the_rules_are_as_the_caller_read_them(attempt: TrustAttempt) -> Iterator[Breach]:
    """Trust rules that were changed since they were read are not overwritten, where the caller minds."""
    if attempt.expected_etag and attempt.expected_etag != attempt.rules.etag:
        yield breach(
            "The trust rules have changed since they were read; read them again.",
            subject="etag",
            etag=attempt.rules.etag,
        )


SET_TRUST_RULES: tuple[Rule[TrustAttempt], ...] = (
    every_field_can_be_read,
    an_owner_is_trusted_or_blocked,
    the_rules_are_as_the_caller_read_them,
)
