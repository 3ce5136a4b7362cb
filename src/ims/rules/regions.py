"""The law of copies between regions: what goes, what is taken in, and from whom (law 6.2)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ims.domain.caller import Caller, Role
from ims.domain.image import Disk, Image, ImageType, SourceKind
from ims.domain.quotas import Allowance, Usage
from ims.domain.rejection import Category, Reason
from ims.domain.tenant import Region
from ims.domain.vault import Vault, VaultType
from ims.rules.attempt import Attempt
from ims.rules.engine import Breach, Rule, breach, rule
from ims.rules.form import every_field_can_be_read
from ims.rules.image_data import damaged_bytes_are_not_given_out
from ims.rules.images import CONTENT, whole_gib
from ims.rules.quotas import copies_at_once_stay_within_the_quota
from ims.rules.states import Verb, state_allows
from ims.rules.visibility import declared_it


class Crossing(Protocol):
    """Anything by which an image comes from one region to another."""

    @property
    def crossing(self) -> Image | None:
        """The image that does; None where none does after all."""


@rule("6.2", Reason.ENCRYPTED_IMAGE_NOT_COPYABLE, Category.AGAINST_RULES)
def encrypted_images_stay_in_their_region(attempt: Crossing) -> Iterator[Breach]:
    """An encrypted image is not copied to another region: its key stays where it is."""
    if attempt.crossing is not None and attempt.crossing.encrypted:
        yield breach("An encrypted image stays in its region; copy it unencrypted first, and then that.")


@rule("6.2", Reason.ISO_NOT_COPYABLE, Category.AGAINST_RULES)
def iso_images_stay_in_their_region(attempt: Crossing) -> Iterator[Breach]:
    """An ISO image is not copied to another region."""
    if attempt.crossing is not None and attempt.crossing.type is ImageType.ISO:
        yield breach("An ISO image is not copied; upload the file once more.", subject="image_id")


# --- From here to another region ---


@dataclass(frozen=True, kw_only=True)
class RegionCopyAttempt(Attempt):
    """Somebody wants an image copied to another region; `image` is the source."""

    draft: Image
    """The copy as it would be there."""
    region: Region
    peer_known: bool
    """Whether the deployment knows a service of that region."""
    allowance: Allowance
    """The owner's here, its copies to other regions for those within."""

    @property
    def asked(self) -> Usage:
        return Usage(copies=1)

    @property
    def crossing(self) -> Image:
        return self.image

    @property
    def disks(self) -> Sequence[Disk]:
        """What is read."""
        return self.image.disks


@rule("6.2", Reason.NOT_IMAGE_OWNER, Category.FORBIDDEN)
def only_the_owner_copies_to_another_region(attempt: Attempt) -> Iterator[Breach]:
    """Only the owner copies an image to another region."""
    if attempt.image.owner != attempt.caller.tenant_id:
        yield breach("Only the image's owner may do this; copy it here first, and then the copy.")


@rule("6.2", Reason.SAME_REGION, Category.AGAINST_RULES)
def the_regions_differ(attempt: RegionCopyAttempt) -> Iterator[Breach]:
    """The regions differ."""
    if attempt.region == attempt.image.region:
        yield breach(
            f"The image is in region '{attempt.region}' already; within it, CopyImage copies.",
            subject="region",
            region=attempt.region,
        )


@rule("6.2", Reason.REGION_WITHOUT_PEER, Category.AGAINST_RULES)
def the_other_regions_service_is_known(attempt: RegionCopyAttempt) -> Iterator[Breach]:
    """The other region's service receives it: a deployment copies to the regions that it names."""
    if attempt.region != attempt.image.region and not attempt.peer_known:
        yield breach(
            f"No service of a region '{attempt.region}' is known here.",
            subject="region",
            region=attempt.region,
        )


_AS_IT_IS: tuple[Rule[RegionCopyAttempt], ...] = (
    *state_allows(Verb.COPY),
    damaged_bytes_are_not_given_out,
)
COPY_IMAGE_TO_REGION: tuple[Rule[RegionCopyAttempt], ...] = (
    only_the_owner_copies_to_another_region,
    *CONTENT,
    *_AS_IT_IS,
    the_regions_differ,
    the_other_regions_service_is_known,
    encrypted_images_stay_in_their_region,
    iso_images_stay_in_their_region,
    copies_at_once_stay_within_the_quota,
)
# While bytes go and when all have gone: what can have changed since the copying was begun.
GO_ON_COPYING: tuple[Rule[RegionCopyAttempt], ...] = (*_AS_IT_IS, the_other_regions_service_is_known)


# --- From another region to here ---


class TakingIn(Crossing, Protocol):
    """The service of another region brings an image."""

    @property
    def caller(self) -> Caller: ...
    @property
    def draft(self) -> Image: ...
    @property
    def capacity_bytes(self) -> int: ...
    @property
    def backup_provider_exists(self) -> bool: ...
    @property
    def vault(self) -> Vault | None: ...
    @property
    def owner_unknown(self) -> bool: ...


def brings_from_another_region(attempt: TakingIn) -> bool:
    """Whether it is the service of another region, with the copy of an image."""
    return attempt.draft.source.kind is SourceKind.IMAGE and attempt.caller.has(Role.PEER)


@rule("6.2", Reason.SOURCE_NOT_DECLARABLE, Category.MALFORMED)
def a_peer_brings_images_of_its_own_region(attempt: TakingIn) -> Iterator[Breach]:
    """The service of another region vouches for images of its own region."""
    if brings_from_another_region(attempt) and attempt.draft.source.region != attempt.caller.region:
        yield breach(
            "A peer brings images of the region that its identity names, and of no other.",
            subject="source.image.region",
        )


@rule("6.2", Reason.SAME_REGION, Category.AGAINST_RULES)
def what_a_peer_brings_is_not_from_here(attempt: TakingIn) -> Iterator[Breach]:
    """What the service of another region brings is not an image of this one."""
    region = attempt.draft.source.region
    if brings_from_another_region(attempt) and region is not None and region == attempt.draft.region:
        yield breach(
            f"The image is in region '{region}' already; within it, CopyImage copies.",
            subject="source.image.region",
            region=region,
        )


@rule("6.2", Reason.TENANT_NOT_FOUND, Category.UNKNOWN_TENANT)
def it_is_brought_for_a_tenant_that_is_known(attempt: TakingIn) -> Iterator[Breach]:
    """The owner is a tenant of the other region too, where that knows its tenants."""
    owner = attempt.draft.owner
    if brings_from_another_region(attempt) and attempt.owner_unknown:
        yield breach(f"There is no tenant '{owner}'.", subject=owner, tenantId=owner)


@rule("6.2", Reason.VAULT_REQUIRED, Category.AGAINST_RULES)
def a_full_ecs_image_comes_with_a_server_backup_vault(attempt: TakingIn) -> Iterator[Breach]:
    """A full-ECS image needs a server backup vault there when there is a backup provider."""
    if not _needs_vault(attempt):
        return
    if attempt.vault is None or attempt.vault.type is not VaultType.SERVER_BACKUP:
        yield breach(
            "Copying a full-ECS image to this region needs a server backup vault of its owner's here; "
            "name it as vault_id.",
            subject="arrival.vault_id",
        )


@rule("6.2", Reason.VAULT_TOO_SMALL, Category.AGAINST_RULES)
def the_vault_there_holds_all_disks(attempt: TakingIn) -> Iterator[Breach]:
    """The vault there is large enough for the system disk and all data disks."""
    needed = whole_gib(attempt.capacity_bytes)
    vault = attempt.vault
    if _needs_vault(attempt) and vault is not None and vault.capacity_gib < needed:
        yield breach(
            f"The disks need {needed} GiB; the vault has {vault.capacity_gib} GiB.",
            subject="arrival.vault_id",
            neededGib=needed,
            vaultCapacityGib=vault.capacity_gib,
        )


def _needs_vault(attempt: TakingIn) -> bool:
    full = attempt.draft.type is ImageType.FULL_ECS
    return full and attempt.backup_provider_exists and brings_from_another_region(attempt)


TAKE_IN: Final[tuple[Rule[TakingIn], ...]] = (
    a_peer_brings_images_of_its_own_region,
    what_a_peer_brings_is_not_from_here,
    it_is_brought_for_a_tenant_that_is_known,
    encrypted_images_stay_in_their_region,
    iso_images_stay_in_their_region,
    a_full_ecs_image_comes_with_a_server_backup_vault,
    the_vault_there_holds_all_disks,
)


# --- What does not arrive after all ---


@rule("6.2", Reason.NOT_IMAGE_OWNER, Category.FORBIDDEN)
def only_who_brings_an_image_discards_it(attempt: Attempt) -> Iterator[Breach]:
    """It finishes whole or leaves nothing: who brings it removes what has not become complete."""
    if not declared_it(attempt.caller, attempt.image):
        yield breach("Only the service that brings the image may do this.")


DISCARD_IMAGE: tuple[Rule[Attempt], ...] = (
    only_who_brings_an_image_discards_it,
    every_field_can_be_read,
)
