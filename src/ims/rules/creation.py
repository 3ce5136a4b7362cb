"""The law of creation: who makes an image, from what, of which disks."""

from collections.abc import Iterator
from dataclasses import dataclass

from ims.domain.caller import Caller, Role
from ims.domain.image import DiskFormat, DiskRole, Image, ImageType, SourceKind
from ims.domain.quotas import Allowance, Usage, usage_of
from ims.domain.rejection import Category, FieldProblem, Reason
from ims.domain.vault import Vault
from ims.rules.engine import Breach, Rule, breach, rule
from ims.rules.images import (
    CONTENT,
    Drafted,
    names_are_unique_among_live_images,
    one_backup_makes_one_image,
)
from ims.rules.quotas import private_images_stay_within_the_quota
from ims.rules.regions import TAKE_IN, brings_from_another_region

MAX_DISKS = 64


@dataclass(frozen=True, kw_only=True)
class CreationAttempt:
    """Somebody wants to create an image."""

    caller: Caller
    draft: Image
    """The image as it would be."""
    name_taken: bool
    backup_used: bool
    key_usable: bool
    """Whether the key that the draft names may encrypt something of its owner's now."""
    allowance: Allowance
    """The owner's."""
    capacity_bytes: int = 0
    """How large the disks of a copy from another region are together, as its service says."""
    backup_provider_exists: bool = False
    vault: Vault | None = None
    """The vault that such a copy names, where its owner has such a one."""
    owner_unknown: bool = False
    """Whether the tenant directory is closed and does not name the owner."""
    problems: tuple[FieldProblem, ...] = ()

    @property
    def asked(self) -> Usage:
        return usage_of(self.draft)

    @property
    def crossing(self) -> Image | None:
        """The draft, where it is a copy that comes from another region."""
        return self.draft if self.draft.source.kind is SourceKind.IMAGE else None


SERVICE_SOURCES = frozenset(
    {
        SourceKind.ECS,
        SourceKind.BMS,
        SourceKind.VOLUME,
        SourceKind.CBR_BACKUP,
        SourceKind.CSBS_BACKUP,
    }
)
"""Origins that only a service can vouch for."""

SOURCES_OF = {
    ImageType.SYSTEM_DISK: {SourceKind.ECS, SourceKind.BMS, SourceKind.VOLUME, SourceKind.FILE},
    ImageType.DATA_DISK: {SourceKind.ECS, SourceKind.VOLUME, SourceKind.FILE},
    ImageType.FULL_ECS: {SourceKind.ECS, SourceKind.CBR_BACKUP, SourceKind.CSBS_BACKUP},
    ImageType.ISO: {SourceKind.FILE},
}
"""From what an image of each type can be made. (Copies are of the type of their original.)"""


@rule("5.10", Reason.ROLE_REQUIRED, Category.FORBIDDEN)
def only_services_vouch_for_servers_volumes_and_backups(
    attempt: CreationAttempt,
) -> Iterator[Breach]:
    """That an image came from an ECS, a BMS, a volume or a backup is declared only by a service."""
    if attempt.draft.source.kind in SERVICE_SOURCES and not attempt.caller.has(Role.SERVICE):
        yield breach(
            f"Only a caller with the role '{Role.SERVICE}' declares that an image came from "
            f"{attempt.draft.source.kind}; a tenant creates from a file.",
            requiredRoles=Role.SERVICE,
        )


@rule("5.10", Reason.ROLE_REQUIRED, Category.FORBIDDEN)
def only_services_create_for_other_tenants(attempt: CreationAttempt) -> Iterator[Breach]:
    """A service names the owner tenant; everybody else creates for its own."""
    if attempt.draft.owner == attempt.caller.tenant_id or brings_from_another_region(attempt):
        return
    if not attempt.caller.has(Role.SERVICE):
        yield breach(
            f"Only a caller with the role '{Role.SERVICE}' creates images for another tenant.",
            subject="owner_tenant_id",
            requiredRoles=Role.SERVICE,
        )


@rule("5.10", Reason.ROLE_REQUIRED, Category.FORBIDDEN)
def only_members_create_from_files(attempt: CreationAttempt) -> Iterator[Breach]:
    """A service creates from what it vouches for; from a file a member of the tenant does."""
    if attempt.draft.source.kind in SERVICE_SOURCES or brings_from_another_region(attempt):
        return
    if not attempt.caller.has(Role.MEMBER):
        yield breach(
            f"Only a caller with the role '{Role.MEMBER}' creates from a file.",
            requiredRoles=Role.MEMBER,
        )


@rule("5.10", Reason.SOURCE_NOT_DECLARABLE, Category.MALFORMED)
def files_are_uploaded_by_their_owner_and_copies_made_by_copying(
    attempt: CreationAttempt,
) -> Iterator[Breach]:
    """A tenant creates from a file that it uploads, or by copying."""
    if attempt.draft.source.kind is SourceKind.IMAGE and not attempt.caller.has(Role.PEER):
        yield breach(
            "An image that comes from another is made by copying it, not declared.",
            subject="source.image",
        )
    own = attempt.draft.owner == attempt.caller.tenant_id
    if attempt.draft.source.kind is SourceKind.FILE and not own:
        yield breach(
            "An image from a file is created by its owner; for another tenant a service creates from a "
            "server, a volume or a backup.",
            subject="source.file",
        )


@rule("1", Reason.SOURCE_DOES_NOT_FIT_TYPE, Category.MALFORMED)
def the_source_can_yield_such_an_image(attempt: CreationAttempt) -> Iterator[Breach]:
    """Each type of image comes from certain origins: a full-ECS image from a server or its backup."""
    draft = attempt.draft
    if draft.source.kind is SourceKind.IMAGE or draft.source.kind in SOURCES_OF[draft.type]:
        return
    yield breach(
        f"A {draft.type} image is not made from {draft.source.kind}, but from one of "
        f"{', '.join(sorted(SOURCES_OF[draft.type]))}.",
        subject="source",
        type=draft.type,
        source=draft.source.kind,
    )


@rule("5.10", Reason.BACKUP_SERVICE_REQUIRED, Category.MALFORMED)
def a_full_ecs_image_of_a_server_names_its_backup_service(
    attempt: CreationAttempt,
) -> Iterator[Breach]:
    """A full-ECS image made from an ECS says through which backup service."""
    draft = attempt.draft
    if (
        draft.type is ImageType.FULL_ECS
        and draft.source.kind is SourceKind.ECS
        and draft.source.backup_service is None
    ):
        yield breach(
            "A full-ECS image made from an ECS says through which backup service: CBR or CSBS.",
            subject="source.ecs.backup_service",
        )


@rule("1", Reason.INVALID_DISKS, Category.MALFORMED)
def the_disks_are_those_of_the_type(attempt: CreationAttempt) -> Iterator[Breach]:
    """One disk; a full-ECS image: the system disk first and all data disks; ISO: a medium."""
    draft = attempt.draft
    roles = [disk.role for disk in draft.disks]
    if draft.type is ImageType.FULL_ECS:
        fitting = 1 <= len(roles) <= MAX_DISKS and roles == role_order(draft.type, len(roles))
    else:
        fitting = roles == role_order(draft.type, 1)
    if not fitting:
        yield breach(
            f"A {draft.type} image has {_DISKS_IN_WORDS[draft.type]}; {len(roles)} disks were declared.",
            subject="disks",
            type=draft.type,
            disks=len(roles),
            maxDisks=MAX_DISKS if draft.type is ImageType.FULL_ECS else 1,
        )
    for disk in draft.disks:
        if (disk.format is DiskFormat.ISO) is not (draft.type is ImageType.ISO):
            yield breach(
                f"A disk of a {draft.type} image is not of the format {disk.format}: ISO files make "
                "ISO images, and nothing else does.",
                subject=f"disks[{disk.index}].format",
                type=draft.type,
                format=disk.format,
            )


_DISKS_IN_WORDS = {
    ImageType.SYSTEM_DISK: "one disk, with the role SYSTEM",
    ImageType.DATA_DISK: "one disk, with the role DATA",
    ImageType.FULL_ECS: f"1 to {MAX_DISKS} disks, the first with the role SYSTEM, the others DATA",
    ImageType.ISO: "one disk, with the role INSTALLATION_MEDIUM",
}


def role_order(image_type: ImageType, count: int) -> list[DiskRole]:
    """Return the roles that the disks of an image have, in order."""
    if image_type is ImageType.FULL_ECS:
        return [DiskRole.SYSTEM if index == 0 else DiskRole.DATA for index in range(count)]
    return [_ONLY_ROLE[image_type]] * count


_ONLY_ROLE = {
    ImageType.SYSTEM_DISK: DiskRole.SYSTEM,
    ImageType.DATA_DISK: DiskRole.DATA,
    ImageType.ISO: DiskRole.INSTALLATION_MEDIUM,
}


@rule("1", Reason.BMS_NEEDS_SYSTEM_DISK, Category.MALFORMED)
def only_system_disk_images_are_made_for_bms(attempt: CreationAttempt) -> Iterator[Breach]:
    """A system-disk image serves a BMS if made for it; no other type does."""
    if attempt.draft.for_bms and attempt.draft.type is not ImageType.SYSTEM_DISK:
        yield breach(
            f"Only a SYSTEM_DISK image is made for bare-metal servers, not a {attempt.draft.type} one.",
            subject="for_bms",
            type=attempt.draft.type,
        )


@rule("5.6", Reason.INVALID_FIELD, Category.MALFORMED)
def data_disk_images_are_not_protected(attempt: CreationAttempt) -> Iterator[Breach]:
    """A data-disk image, whose protection could never be taken off, is not protected."""
    if attempt.draft.protected and attempt.draft.type is ImageType.DATA_DISK:
        yield breach(
            "protected: a data-disk image changes its name, description and tags only; its protection "
            "could never be taken off.",
            subject="protected",
            field="protected",
        )


@rule("6.3", Reason.IMAGE_NOT_ENCRYPTABLE, Category.AGAINST_RULES)
def bms_and_iso_images_are_never_encrypted(attempt: Drafted) -> Iterator[Breach]:
    """BMS and ISO images are never encrypted."""
    draft = attempt.draft
    if draft.encrypted and (draft.for_bms or draft.type is ImageType.ISO):
        yield breach("An ISO image or one for bare-metal servers is never encrypted; leave the key out.")


@rule("6.3", Reason.KEY_UNAVAILABLE, Category.AGAINST_RULES)
def an_image_is_encrypted_with_a_usable_key(attempt: CreationAttempt) -> Iterator[Breach]:
    """Nothing is called encrypted that is not: the key that a creation names must be usable."""
    if attempt.draft.encryption_key_id is not None and not attempt.key_usable:
        yield breach(
            f"The key '{attempt.draft.encryption_key_id}' is not known or is disabled.",
            subject="encryption_key_id",
            keyId=attempt.draft.encryption_key_id,
        )


CREATE_IMAGE: tuple[Rule[CreationAttempt], ...] = (
    only_services_vouch_for_servers_volumes_and_backups,
    only_services_create_for_other_tenants,
    only_members_create_from_files,
    *CONTENT,
    files_are_uploaded_by_their_owner_and_copies_made_by_copying,
    the_source_can_yield_such_an_image,
    a_full_ecs_image_of_a_server_names_its_backup_service,
    the_disks_are_those_of_the_type,
    only_system_disk_images_are_made_for_bms,
    data_disk_images_are_not_protected,
    bms_and_iso_images_are_never_encrypted,
    an_image_is_encrypted_with_a_usable_key,
    *TAKE_IN,
    names_are_unique_among_live_images,
    one_backup_makes_one_image,
    private_images_stay_within_the_quota,
)
