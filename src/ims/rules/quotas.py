"""The law of quotas: how much of the service a tenant takes, and who says how much it may."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from ims.domain.caller import Caller, Role
from ims.domain.quotas import Allowance, Usage
from ims.domain.rejection import Category, FieldProblem, Reason
from ims.rules.engine import Breach, Rule, breach, rule
from ims.rules.form import every_field_can_be_read

# A tenant can be above a limit: it was lowered, or an administrator gave it back a public image. Then it
# takes no more of that, and whatever takes none goes on.


class Taking(Protocol):
    """Anything that takes something of a tenant's quotas."""

    @property
    def allowance(self) -> Allowance: ...
    @property
    def asked(self) -> Usage: ...


@rule("5.2", Reason.IMAGE_QUOTA_EXCEEDED, Category.OVER_LIMIT)
def private_images_stay_within_the_quota(attempt: Taking) -> Iterator[Breach]:
    """A tenant has 50 private images a region (a default, a setting and overridable per tenant)."""
    limit, used = attempt.allowance.limits.private_images, attempt.allowance.used.private_images
    asked = attempt.asked.private_images
    if asked > 0 and used + asked > limit:
        yield breach(
            f"The tenant has {used} private images of at most {limit}; delete one first.",
            limit=limit,
            used=used,
            asked=asked,
        )


@rule("5.2", Reason.STORAGE_QUOTA_EXCEEDED, Category.OVER_LIMIT)
def stored_bytes_stay_within_the_quota(attempt: Taking) -> Iterator[Breach]:
    """A tenant stores so many bytes (a setting, overridable), of uploads and deleted images too."""
    limit, used = attempt.allowance.limits.stored_bytes, attempt.allowance.used.stored_bytes
    asked = attempt.asked.stored_bytes
    if asked > 0 and used + asked > limit:
        yield breach(
            f"The tenant stores {used} bytes of at most {limit}; {asked} more are too many. What is "
            "deleted gives its bytes back when it is purged.",
            subject="size_bytes",
            limit=limit,
            used=used,
            asked=asked,
        )


@rule("5.2", Reason.TOO_MANY_CREATIONS, Category.OVER_LIMIT)
def creations_at_once_stay_within_the_quota(attempt: Taking) -> Iterator[Breach]:
    """A tenant has 40 creations at once (a default, a setting and overridable per tenant)."""
    limit, used = attempt.allowance.limits.creations, attempt.allowance.used.creations
    asked = attempt.asked.creations
    if asked > 0 and used + asked > limit:
        yield breach(
            f"The tenant has {used} images that are being filled, of at most {limit}; try again when "
            "one is done.",
            limit=limit,
            used=used,
            asked=asked,
        )


@rule("5.2", Reason.TOO_MANY_COPIES, Category.OVER_LIMIT)
def copies_at_once_stay_within_the_quota(attempt: Taking) -> Iterator[Breach]:
    """A tenant has 5 copies at once (a default, a setting and overridable per tenant)."""
    limit, used = attempt.allowance.limits.copies, attempt.allowance.used.copies
    asked = attempt.asked.copies
    if asked > 0 and used + asked > limit:
        yield breach(
            f"The tenant has {used} images to which bytes are being copied, of at most {limit}; try "
            "again when one is done.",
            limit=limit,
            used=used,
            asked=asked,
        )


QUOTAS: tuple[Rule[Taking], ...] = (
    private_images_stay_within_the_quota,
    stored_bytes_stay_within_the_quota,
    creations_at_once_stay_within_the_quota,
    copies_at_once_stay_within_the_quota,
)


# --- Their administration ---


@dataclass(frozen=True, kw_only=True)
class QuotaAttempt:
    """Somebody wants to see or set the quotas of a tenant that it names."""

    caller: Caller
    problems: tuple[FieldProblem, ...] = ()


@rule("5.2", Reason.ROLE_REQUIRED, Category.FORBIDDEN)
def only_administrators_govern_quotas(attempt: QuotaAttempt) -> Iterator[Breach]:
    """An administrator sees and overrides a tenant's quotas; a tenant sees its own."""
    if not attempt.caller.has(Role.ADMIN):
        yield breach(
            f"Only a caller with the role '{Role.ADMIN}' sees and sets the quotas of tenants.",
            requiredRoles=Role.ADMIN,
        )


GET_TENANT_QUOTAS: tuple[Rule[QuotaAttempt], ...] = (
    only_administrators_govern_quotas,
    every_field_can_be_read,
)
SET_TENANT_QUOTAS: tuple[Rule[QuotaAttempt], ...] = GET_TENANT_QUOTAS
