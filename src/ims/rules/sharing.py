"""The law of sharing: the owner's side and the recipient's side."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ims.domain.image import Image, ImageType
from ims.domain.registered_use import UsageTotal
from ims.domain.rejection import Category, Reason
from ims.domain.share import Share, ShareStatus
from ims.domain.tenant import Region, Tenant, TenantId
from ims.domain.vault import Vault, VaultType
from ims.rules.attempt import Attempt
from ims.rules.engine import Breach, Rule, breach, rule
from ims.rules.form import every_field_can_be_read
from ims.rules.images import whole_gib
from ims.rules.in_use import nothing_in_use_is_taken_where_the_owner_requires_that
from ims.rules.states import Verb, state_allows
from ims.rules.trust import needs_vault

MAX_RECIPIENTS_PER_CALL = 100


# --- The owner's side ---


@rule("3.1", Reason.NOT_IMAGE_OWNER, Category.FORBIDDEN)
def only_the_owner_shares(attempt: Attempt) -> Iterator[Breach]:
    """Only the owner shares, stops sharing and sees the shares; a recipient cannot share on."""
    if attempt.image.owner != attempt.caller.tenant_id:
        yield breach("Only the image's owner may do this.")


@dataclass(frozen=True, kw_only=True)
class ShareAttempt(Attempt):
    """The owner wants to share an image with more tenants."""

    recipients: tuple[Tenant, ...]
    """Each tenant once, in the order of the request."""
    sharing_with: frozenset[TenantId]
    """The tenants among the recipients that have a share already."""
    share_count: int
    """How many shares the image has, in every status."""
    share_limit: int
    unknown_tenants: frozenset[TenantId] = frozenset()
    """The recipients that a closed tenant directory does not name."""
    full: frozenset[TenantId] = frozenset()
    """The newcomers that tolerate no further pending share, and would get one."""
    expire_time: datetime | None = None
    now: datetime
    owner_blocked: bool = False
    """Whether the owner may not share with anybody new."""
    all_blocked: bool = False
    """Whether nobody may."""

    @property
    def newcomers(self) -> tuple[Tenant, ...]:
        """The recipients that have no share yet: sharing again leaves a share as it is (law 3.10)."""
        return tuple(tenant for tenant in self.recipients if tenant.id not in self.sharing_with)


@rule("3.11", Reason.TOO_MANY_RECIPIENTS, Category.MALFORMED)
def a_call_names_at_most_100_tenants(attempt: ShareAttempt) -> Iterator[Breach]:
    """A batch has up to 100 tenants a call."""
    if len(attempt.recipients) > MAX_RECIPIENTS_PER_CALL:
        yield breach(
            f"A call shares with at most {MAX_RECIPIENTS_PER_CALL} tenants; this one names "
            f"{len(attempt.recipients)}.",
            subject="recipients",
            maxRecipients=MAX_RECIPIENTS_PER_CALL,
            recipients=len(attempt.recipients),
        )


@rule("3.2", Reason.PUBLIC_IMAGE_NOT_SHAREABLE, Category.AGAINST_RULES)
def only_private_images_are_shared(attempt: Attempt) -> Iterator[Breach]:
    """Only private images are shared."""
    if attempt.image.public:
        yield breach("The image is public: every tenant has it already.")


class Ending(Protocol):
    """Anything that says when shares end by themselves."""

    @property
    def expire_time(self) -> datetime | None: ...
    @property
    def now(self) -> datetime: ...


@rule("3.16", Reason.EXPIRE_TIME_PASSED, Category.AGAINST_RULES)
def shares_end_in_the_future(attempt: Ending) -> Iterator[Breach]:
    """A share ends by itself at its expire_time, which is still to come when it is set."""
    if attempt.expire_time is not None and attempt.expire_time <= attempt.now:
        yield breach(
            "The share would have ended already; to end one now, stop sharing.", subject="expire_time"
        )


@rule("3.6", Reason.ENCRYPTED_IMAGE_NOT_SHAREABLE, Category.AGAINST_RULES)
def encrypted_images_are_not_shared(attempt: Attempt) -> Iterator[Breach]:
    """Encrypted images are not shared."""
    if attempt.image.encrypted:
        yield breach("An encrypted image is not shared; make an unencrypted copy and share that.")


@rule("3.7", Reason.FULL_ECS_NOT_FROM_CBR, Category.AGAINST_RULES)
def full_ecs_images_are_shared_only_when_created_using_cbr(attempt: Attempt) -> Iterator[Breach]:
    """Full-ECS images are not shared, except those created using CBR."""
    image = attempt.image
    if image.type is ImageType.FULL_ECS and not image.source.created_using_cbr:
        yield breach(
            "A full-ECS image is shared only if it was created using CBR: from a CBR backup, or from "
            "an ECS through CBR."
        )


@rule("3.8", Reason.BACKUP_IS_SHARED, Category.AGAINST_RULES)
def full_ecs_images_of_borrowed_backups_are_not_shared(attempt: Attempt) -> Iterator[Breach]:
    """A full-ECS image is not shared when its CBR backup was itself received by sharing."""
    image = attempt.image
    if image.type is ImageType.FULL_ECS and image.source.backup_received_by_sharing:
        yield breach("The CBR backup behind the image was itself received by sharing.")


@rule("3.9", Reason.SHARE_WITH_OWNER, Category.MALFORMED)
def nobody_shares_with_oneself(attempt: ShareAttempt) -> Iterator[Breach]:
    """Not with oneself."""
    for tenant in attempt.recipients:
        if tenant.id == attempt.image.owner:
            yield breach(f"Tenant '{tenant.id}' owns the image.", subject=tenant.id, tenantId=tenant.id)


@rule("3.9", Reason.TENANT_NOT_FOUND, Category.UNKNOWN_TENANT)
def recipients_are_known_where_the_directory_is_closed(attempt: ShareAttempt) -> Iterator[Breach]:
    """An unknown tenant is refused when the tenant directory is closed."""
    for tenant in attempt.newcomers:
        if tenant.id in attempt.unknown_tenants:
            yield breach(f"There is no tenant '{tenant.id}'.", subject=tenant.id, tenantId=tenant.id)


@rule("3.4", Reason.CROSS_REGION_SHARE, Category.AGAINST_RULES)
def shares_stay_within_the_region(attempt: ShareAttempt) -> Iterator[Breach]:
    """Within one region: a recipient's region is the image's."""
    for tenant in attempt.newcomers:
        if tenant.region != attempt.image.region:
            yield _cross_region(attempt.image, tenant)


def _cross_region(image: Image, tenant: Tenant) -> Breach:
    return breach(
        f"Tenant '{tenant.id}' is in region '{tenant.region}', the image in '{image.region}'. Copy the "
        "image to that region, then share the copy there.",
        subject=tenant.id,
        tenantId=tenant.id,
        tenantRegion=tenant.region,
        imageRegion=image.region,
    )


@rule("3.5", Reason.SHARE_LIMIT_EXCEEDED, Category.OVER_LIMIT)
def shares_stay_within_the_limit(attempt: ShareAttempt) -> Iterator[Breach]:
    """At most 128 tenants an image (a setting), in every status."""
    asked = len(attempt.newcomers)
    if asked and attempt.share_count + asked > attempt.share_limit:
        yield breach(
            f"The image can be shared with {attempt.share_limit} tenants; it is shared with "
            f"{attempt.share_count}, and {asked} more were asked for.",
            limit=attempt.share_limit,
            used=attempt.share_count,
            asked=asked,
        )


@rule("4.11", Reason.RECIPIENT_HAS_TOO_MANY_PENDING, Category.OVER_LIMIT)
def recipients_have_room_for_a_pending_share(attempt: ShareAttempt) -> Iterator[Breach]:
    """A recipient tolerates so many pending shares, as its trust rules or a setting say."""
    for tenant in attempt.newcomers:
        if tenant.id in attempt.full:
            # Not how many: that is nobody's business but the recipient's.
            yield breach(
                f"Tenant '{tenant.id}' takes no more pending shares now; ask it to decide on those that "
                "it has, or to accept yours at once.",
                subject=tenant.id,
                tenantId=tenant.id,
            )


@rule("8.3", Reason.SHARING_BLOCKED, Category.AGAINST_RULES)
def nothing_new_is_shared_while_sharing_is_blocked(attempt: ShareAttempt) -> Iterator[Breach]:
    """While an administrator blocks new shares, of a tenant or of all, no share is added."""
    if attempt.newcomers and (attempt.owner_blocked or attempt.all_blocked):
        whose = "all tenants" if attempt.all_blocked else f"tenant '{attempt.image.owner}'"
        yield breach(
            f"An administrator has blocked new shares of {whose}.",
            blockedFor="ALL_TENANTS" if attempt.all_blocked else "OWNER",
        )


ABOUT_THE_CALL: tuple[Rule[ShareAttempt], ...] = (
    only_the_owner_shares,
    every_field_can_be_read,
    a_call_names_at_most_100_tenants,
)
ABOUT_THE_IMAGE: tuple[Rule[ShareAttempt], ...] = (
    *state_allows(Verb.SHARE),
    shares_end_in_the_future,
    only_private_images_are_shared,
    encrypted_images_are_not_shared,
    full_ecs_images_are_shared_only_when_created_using_cbr,
    full_ecs_images_of_borrowed_backups_are_not_shared,
)
ABOUT_EACH_RECIPIENT: tuple[Rule[ShareAttempt], ...] = (
    nobody_shares_with_oneself,
    recipients_are_known_where_the_directory_is_closed,
    shares_stay_within_the_region,
    nothing_new_is_shared_while_sharing_is_blocked,
    shares_stay_within_the_limit,
    recipients_have_room_for_a_pending_share,
)
SHARE_IMAGE: tuple[Rule[ShareAttempt], ...] = (
    *ABOUT_THE_CALL,
    *ABOUT_THE_IMAGE,
    *ABOUT_EACH_RECIPIENT,
)


@dataclass(frozen=True, kw_only=True)
class UnshareAttempt(Attempt):
    """The owner wants to stop sharing an image."""

    usage_to_spare: UsageTotal | None = None
    """The uses of those whose shares would end, where shares end only if there are none."""


ABOUT_THE_CALL_TO_UNSHARE: tuple[Rule[UnshareAttempt], ...] = (
    only_the_owner_shares,
    every_field_can_be_read,
)
# At any time: also once the image is deleted, so that an undeletion does not bring a share back.
ABOUT_THE_SHARES_TO_END: tuple[Rule[UnshareAttempt], ...] = (
    *state_allows(Verb.UNSHARE),
    nothing_in_use_is_taken_where_the_owner_requires_that,
)
UNSHARE_IMAGE: tuple[Rule[UnshareAttempt], ...] = (
    *ABOUT_THE_CALL_TO_UNSHARE,
    *ABOUT_THE_SHARES_TO_END,
)

LIST_SHARES: tuple[Rule[Attempt], ...] = (
    only_the_owner_shares,
    every_field_can_be_read,
    *state_allows(Verb.READ_SHARES),
)


# --- One share ---


@dataclass(frozen=True, kw_only=True)
class OneShareAttempt(Attempt):
    """Somebody asks for the share of one tenant."""

    tenant_id: TenantId
    found: Share | None


@rule("4.6", Reason.SHARE_NOT_FOUND, Category.MISSING)
def a_share_is_seen_by_its_two_sides(attempt: OneShareAttempt) -> Iterator[Breach]:
    """Only the owner sees all shares; a recipient never sees other recipients."""
    own = attempt.caller.tenant_id in {attempt.image.owner, attempt.tenant_id}
    if attempt.found is None or not own:
        yield breach("There is no such share.")


GET_SHARE: tuple[Rule[OneShareAttempt], ...] = (
    a_share_is_seen_by_its_two_sides,
    every_field_can_be_read,
    *state_allows(Verb.READ_SHARES),
)


@dataclass(frozen=True, kw_only=True)
class ShareUpdateAttempt(OneShareAttempt):
    """The owner wants a share to end at another time."""

    fields: frozenset[str]
    """The fields that the request names."""
    expire_time: datetime | None = None
    now: datetime


UPDATABLE_SHARE_FIELDS = frozenset({"expire_time"})
_DECIDED_BY_RECIPIENT = "status"


@rule("3.14", Reason.ONLY_RECIPIENT_DECIDES, Category.FORBIDDEN)
def the_owner_never_sets_a_status(attempt: ShareUpdateAttempt) -> Iterator[Breach]:
    """The owner can read a status, never set it."""
    if _DECIDED_BY_RECIPIENT in attempt.fields and attempt.image.owner == attempt.caller.tenant_id:
        yield breach("Only the recipient decides on a share; the owner can stop sharing.")


@rule("3.17", Reason.FIELD_NOT_UPDATABLE, Category.MALFORMED)
def of_a_share_only_its_end_is_updated(attempt: ShareUpdateAttempt) -> Iterator[Breach]:
    """Of a share only its expire_time is updated: set, moved or cleared."""
    for field in sorted(attempt.fields - UPDATABLE_SHARE_FIELDS - {_DECIDED_BY_RECIPIENT}):
        yield breach(
            f"'{field}' of a share cannot be updated; {', '.join(sorted(UPDATABLE_SHARE_FIELDS))} can.",
            subject=field,
            field=field,
        )


ABOUT_THE_CALL_TO_UPDATE_A_SHARE: tuple[Rule[ShareUpdateAttempt], ...] = (
    only_the_owner_shares,
    the_owner_never_sets_a_status,
    every_field_can_be_read,
    of_a_share_only_its_end_is_updated,
)
UPDATE_SHARE: tuple[Rule[ShareUpdateAttempt], ...] = (
    *ABOUT_THE_CALL_TO_UPDATE_A_SHARE,
    a_share_is_seen_by_its_two_sides,
    *state_allows(Verb.UPDATE_SHARE),
    shares_end_in_the_future,
)


# --- The recipient's side ---


@rule("4.2", Reason.SHARE_NOT_FOUND, Category.MISSING)
def only_a_recipient_has_something_to_decide(attempt: Attempt) -> Iterator[Breach]:
    """A share is decided on while it exists."""
    if attempt.share is None and attempt.image.owner != attempt.caller.tenant_id:
        yield breach("There is no such share.")


@rule("3.14", Reason.ONLY_RECIPIENT_DECIDES, Category.FORBIDDEN)
def only_the_recipient_decides(attempt: Attempt) -> Iterator[Breach]:
    """The owner can read a status, never set it."""
    if attempt.image.owner == attempt.caller.tenant_id:
        yield breach(
            "Only the recipient accepts, rejects or leaves a share; the owner can stop sharing."
        )


DECIDE_ON_SHARE: tuple[Rule[Attempt], ...] = (
    only_a_recipient_has_something_to_decide,
    only_the_recipient_decides,
)


@dataclass(frozen=True, kw_only=True)
class AcceptAttempt(Attempt):
    """A recipient wants to accept a share."""

    backup_provider_exists: bool
    vault: Vault | None
    """The vault that the request names, where the recipient has such a one."""
    known_region: Region | None = None
    """Where the directory has the recipient at home; None for one that it does not name."""

    @property
    def home(self) -> Region:
        return self.known_region or self.caller.region

    @property
    def needs_vault(self) -> bool:
        return needs_vault(self.image, backup_provider_exists=self.backup_provider_exists)


@rule("3.4", Reason.CROSS_REGION_SHARE, Category.AGAINST_RULES)
def a_recipient_is_at_home_in_the_region(attempt: AcceptAttempt) -> Iterator[Breach]:
    """Within one region: who accepts a share is at home in the image's region, as is known of it."""
    if attempt.home != attempt.image.region:
        yield _cross_region(attempt.image, Tenant(attempt.caller.tenant_id, attempt.home))


@rule("4.7", Reason.VAULT_REQUIRED, Category.AGAINST_RULES)
def accepting_a_full_ecs_image_names_a_server_backup_vault(
    attempt: AcceptAttempt,
) -> Iterator[Breach]:
    """Accepting a full-ECS image names a server backup vault when there is a backup provider."""
    if not attempt.needs_vault:
        return
    if attempt.vault is None or attempt.vault.type is not VaultType.SERVER_BACKUP:
        yield breach(
            "Accepting a full-ECS image needs a server backup vault of yours; name it as vault_id.",
            subject="vault_id",
        )


@rule("4.7", Reason.VAULT_TOO_SMALL, Category.AGAINST_RULES)
def the_vault_holds_all_disks(attempt: AcceptAttempt) -> Iterator[Breach]:
    """The vault is large enough for the system disk and all data disks."""
    if not attempt.needs_vault or attempt.vault is None:
        return
    needed = whole_gib(sum(disk.capacity_bytes for disk in attempt.image.disks))
    if attempt.vault.capacity_gib < needed:
        yield breach(
            f"The disks need {needed} GiB; the vault has {attempt.vault.capacity_gib} GiB.",
            subject="vault_id",
            neededGib=needed,
            vaultCapacityGib=attempt.vault.capacity_gib,
        )


ACCEPT_SHARE: tuple[Rule[AcceptAttempt], ...] = (
    *DECIDE_ON_SHARE,
    every_field_can_be_read,
    a_recipient_is_at_home_in_the_region,
    accepting_a_full_ecs_image_names_a_server_backup_vault,
    the_vault_holds_all_disks,
)
REJECT_SHARE: tuple[Rule[Attempt], ...] = (*DECIDE_ON_SHARE, every_field_can_be_read)
LEAVE_SHARE = REJECT_SHARE


@rule("4.3", Reason.SHARE_NOT_ACCEPTED, Category.AGAINST_RULES)
def only_accepted_shares_are_used(attempt: Attempt) -> Iterator[Breach]:
    """A pending or rejected image: its bytes, copies and uses need acceptance."""
    image, share = attempt.image, attempt.share
    if image.public or image.owner == attempt.caller.tenant_id:
        return
    if share is None or share.status is not ShareStatus.ACCEPTED:
        status = share.status if share is not None else "missing"
        yield breach(
            f"The image's share is {status}; accept it first.",
            subject="image_id",
            shareStatus=status,
        )
