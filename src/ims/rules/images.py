"""The law of images: what they may be called, made of and made from; who changes and deletes them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from ims.domain.caller import Caller, Role
from ims.domain.image import GIB, DiskFormat, DiskRole, Image, ImageType, SourceKind
from ims.domain.rejection import Category, FieldProblem, Reason
from ims.rules.attempt import Attempt
from ims.rules.engine import Breach, Rule, breach, rule
from ims.rules.form import Request, every_field_can_be_read
from ims.rules.states import Verb, state_allows

MAX_NAME_LENGTH = 128
MAX_DESCRIPTION_LENGTH = 1024
MAX_TAGS = 10
MAX_TAG_KEY_LENGTH = 36
MAX_TAG_VALUE_LENGTH = 43
MAX_DISKS = 64
MAX_SYSTEM_DISK_GIB = 1024
MAX_DATA_DISK_GIB = 2048
RESERVED_PREFIX = "__"

_NAME = re.compile(r"[A-Za-z0-9._-]([A-Za-z0-9._ -]*[A-Za-z0-9._-])?", re.ASCII)
_TAG_KEY = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_TAG_KEY_LENGTH}}}", re.ASCII)
_TAG_VALUE = re.compile(rf"[A-Za-z0-9._-]{{0,{MAX_TAG_VALUE_LENGTH}}}", re.ASCII)


# --- What an image may be: judged of the image as it would be, on creation and on every change ---


class Drafted(Protocol):
    """Anything that would leave an image as a draft says."""

    @property
    def draft(self) -> Image: ...


@rule("5.1", Reason.INVALID_NAME, Category.MALFORMED)
def names_are_1_to_128_plain_characters(attempt: Drafted) -> Iterator[Breach]:
    """Name 1 to 128: letters, digits, `-` `.` `_` and space, none leading or trailing."""
    name = attempt.draft.name
    if len(name) > MAX_NAME_LENGTH or not _NAME.fullmatch(name):
        yield breach(
            f"A name has 1 to {MAX_NAME_LENGTH} letters, digits, '-', '.', '_' and spaces, with no "
            f"space at either end; this one has {len(name)} characters.",
            subject="name",
            maxNameLength=MAX_NAME_LENGTH,
            nameLength=len(name),
        )


@rule("5.1", Reason.RESERVED_NAME, Category.MALFORMED)
def names_with_two_underscores_are_reserved(attempt: Drafted) -> Iterator[Breach]:
    """Reserved names begin with `__`."""
    names = [("name", attempt.draft.name), *(("tags", key) for key, _ in attempt.draft.tags)]
    for path, name in names:
        if name.startswith(RESERVED_PREFIX):
            yield breach(
                f"Names that begin with '{RESERVED_PREFIX}' are reserved.",
                subject=path,
                reservedPrefix=RESERVED_PREFIX,
            )


@rule("5.1", Reason.INVALID_DESCRIPTION, Category.MALFORMED)
def descriptions_are_one_plain_line(attempt: Drafted) -> Iterator[Breach]:
    """Description at most 1024 characters, no line breaks, no `<` `>`."""
    text = attempt.draft.description
    if len(text) > MAX_DESCRIPTION_LENGTH or len(f"{text}.".splitlines()) > 1 or set(text) & {*"<>"}:
        yield breach(
            f"A description has at most {MAX_DESCRIPTION_LENGTH} characters, no line breaks and no "
            f"'<' or '>'; this one has {len(text)} characters.",
            subject="description",
            maxDescriptionLength=MAX_DESCRIPTION_LENGTH,
            descriptionLength=len(text),
        )


@rule("5.1", Reason.INVALID_TAG, Category.MALFORMED)
def tags_are_short_and_plain(attempt: Drafted) -> Iterator[Breach]:
    """Tag key 1 to 36, value 0 to 43, of letters, digits, `_` `-` (values also `.`)."""
    for key, value in attempt.draft.tags:
        if not _TAG_KEY.fullmatch(key) or not _TAG_VALUE.fullmatch(value):
            yield breach(
                f"A tag's key has 1 to {MAX_TAG_KEY_LENGTH} letters, digits, '_' and '-', its value at "
                f"most {MAX_TAG_VALUE_LENGTH} of the same and '.'; here the key has {len(key)} "
                f"characters and the value {len(value)}.",
                subject="tags",
                maxKeyLength=MAX_TAG_KEY_LENGTH,
                maxValueLength=MAX_TAG_VALUE_LENGTH,
                keyLength=len(key),
                valueLength=len(value),
            )


@rule("5.1", Reason.TOO_MANY_TAGS, Category.MALFORMED)
def an_image_has_at_most_ten_tags(attempt: Drafted) -> Iterator[Breach]:
    """Ten tags."""
    count = len(attempt.draft.tags)
    if count > MAX_TAGS:
        yield breach(
            f"An image has at most {MAX_TAGS} tags; this one would have {count}.",
            subject="tags",
            maxTags=MAX_TAGS,
            tags=count,
        )


@rule("5.3", Reason.INVALID_MIN_DISK, Category.MALFORMED)
def min_disk_is_within_its_range(attempt: Drafted) -> Iterator[Breach]:
    """min_disk 1 to 1024 GiB for system disks, up to 2048 for data disks."""
    most = max_disk_gib(DiskRole.DATA if attempt.draft.type is ImageType.DATA_DISK else DiskRole.SYSTEM)
    # 0 stands for "the capacity inside the file", known when the first disk is stored.
    if not 0 <= attempt.draft.min_disk_gib <= most:
        yield breach(
            f"min_disk_gib is 1 to {most} for such an image, not {attempt.draft.min_disk_gib}.",
            subject="min_disk_gib",
            maxMinDiskGib=most,
            minDiskGib=attempt.draft.min_disk_gib,
        )


def max_disk_gib(role: DiskRole) -> int:
    """Return the largest disk of a role (law 5.3)."""
    return MAX_DATA_DISK_GIB if role is DiskRole.DATA else MAX_SYSTEM_DISK_GIB


@rule("5.3", Reason.INVALID_RAM, Category.MALFORMED)
def memory_bounds_make_sense(attempt: Drafted) -> Iterator[Breach]:
    """min_ram at least 0 MiB, max_ram at least min_ram."""
    least, most = attempt.draft.min_ram_mib, attempt.draft.max_ram_mib
    if least < 0 or most < 0 or 0 < most < least:
        yield breach(
            f"min_ram_mib is at least 0 and max_ram_mib not below it (0: no bound), not {least} and "
            f"{most}.",
            subject="max_ram_mib" if least >= 0 else "min_ram_mib",
            minRamMib=least,
            maxRamMib=most,
        )


@rule("5.3", Reason.MIN_DISK_TOO_SMALL, Category.AGAINST_RULES)
def min_disk_holds_the_disk_inside_the_file(attempt: Drafted) -> Iterator[Breach]:
    """min_disk never below the capacity inside the file."""
    image = attempt.draft
    capacity = image.disks[0].capacity_bytes if image.disks else 0
    if 0 < image.min_disk_gib < whole_gib(capacity):
        yield breach(
            f"min_disk_gib is {image.min_disk_gib}, but the disk inside the file has {capacity} bytes "
            f"and needs {whole_gib(capacity)} GiB.",
            subject="min_disk_gib",
            minDiskGib=image.min_disk_gib,
            capacityBytes=capacity,
            neededGib=whole_gib(capacity),
        )


def whole_gib(size_bytes: int) -> int:
    """Return how many GiB hold a number of bytes."""
    return -(-size_bytes // GIB)


class Content(Drafted, Request, Protocol):
    """A request to create or change an image, with the image as it would be."""


CONTENT: tuple[Rule[Content], ...] = (
    every_field_can_be_read,
    names_are_1_to_128_plain_characters,
    names_with_two_underscores_are_reserved,
    descriptions_are_one_plain_line,
    tags_are_short_and_plain,
    an_image_has_at_most_ten_tags,
    min_disk_is_within_its_range,
    memory_bounds_make_sense,
)


# --- Names and backups are taken once ---


class Naming(Drafted, Protocol):
    """Anything that gives an image a name among others."""

    @property
    def name_taken(self) -> bool: ...


@rule("5.1", Reason.IMAGE_NAME_TAKEN, Category.EXISTS)
def names_are_unique_among_live_images(attempt: Naming) -> Iterator[Breach]:
    """A name is unique among the tenant's live images."""
    if attempt.name_taken:
        yield breach(
            f"The tenant has an image called '{attempt.draft.name}' already.",
            subject="name",
            name=attempt.draft.name,
        )


class UsingBackup(Drafted, Protocol):
    """Anything that makes a live image of a backup."""

    @property
    def backup_used(self) -> bool: ...


@rule("5.10", Reason.BACKUP_ALREADY_USED, Category.EXISTS)
def one_backup_makes_one_image(attempt: UsingBackup) -> Iterator[Breach]:
    """One backup makes one image."""
    if attempt.backup_used:
        yield breach(
            f"An image was made from backup '{attempt.draft.source.id}' already.",
            subject="source",
            backupId=attempt.draft.source.id,
        )


# --- Creation ---


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
    problems: tuple[FieldProblem, ...] = ()


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
            requiredRole=Role.SERVICE,
        )


@rule("5.10", Reason.ROLE_REQUIRED, Category.FORBIDDEN)
def only_services_create_for_other_tenants(attempt: CreationAttempt) -> Iterator[Breach]:
    """A service names the owner tenant; everybody else creates for its own."""
    if attempt.draft.owner != attempt.caller.tenant_id and not attempt.caller.has(Role.SERVICE):
        yield breach(
            f"Only a caller with the role '{Role.SERVICE}' creates images for another tenant.",
            subject="owner_tenant_id",
            requiredRole=Role.SERVICE,
        )


@rule("5.10", Reason.SOURCE_NOT_DECLARABLE, Category.MALFORMED)
def files_are_uploaded_by_their_owner_and_copies_made_by_copying(
    attempt: CreationAttempt,
) -> Iterator[Breach]:
    """A tenant creates from a file that it uploads, or by copying."""
    if attempt.draft.source.kind is SourceKind.IMAGE:
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


@rule("6.3", Reason.IMAGE_NOT_ENCRYPTABLE, Category.AGAINST_RULES)
def bms_and_iso_images_are_never_encrypted(attempt: CreationAttempt) -> Iterator[Breach]:
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
    *CONTENT,
    files_are_uploaded_by_their_owner_and_copies_made_by_copying,
    the_source_can_yield_such_an_image,
    a_full_ecs_image_of_a_server_names_its_backup_service,
    the_disks_are_those_of_the_type,
    only_system_disk_images_are_made_for_bms,
    bms_and_iso_images_are_never_encrypted,
    an_image_is_encrypted_with_a_usable_key,
    names_are_unique_among_live_images,
    one_backup_makes_one_image,
)


# --- Changes and deletion ---


@rule("2.2", Reason.NOT_IMAGE_OWNER, Category.FORBIDDEN)
def only_the_owner_changes_an_image(attempt: Attempt) -> Iterator[Breach]:
    """What the caller sees but may not change: only the owner updates, deletes and restores."""
    if attempt.image.owner != attempt.caller.tenant_id:
        yield breach("Only the image's owner may do this.")


@dataclass(frozen=True, kw_only=True)
class ChangeAttempt(Attempt):
    """Somebody wants to change or delete an image as it was when it was read."""

    expected_etag: str = ""
    """The etag that the caller decided on; empty when it does not mind."""


@rule("5.6", Reason.ETAG_MISMATCH, Category.CONFLICT)
def the_image_is_as_the_caller_read_it(attempt: ChangeAttempt) -> Iterator[Breach]:
    """A stale etag is refused."""
    if attempt.expected_etag and attempt.expected_etag != attempt.image.etag:
        yield breach(
            "The image has changed since it was read; read it again.",
            subject="etag",
            etag=attempt.image.etag,
        )


@dataclass(frozen=True, kw_only=True)
class UpdateAttempt(ChangeAttempt):
    """Somebody wants to update an image."""

    draft: Image
    """The image as it would be."""
    fields: frozenset[str]
    """The fields that the request names; of a nested field, the whole one."""
    name_taken: bool


UPDATABLE_FIELDS = frozenset(
    {
        "name",
        "description",
        "tags",
        "protected",
        "os",
        "architecture",
        "firmware",
        "min_disk_gib",
        "min_ram_mib",
        "max_ram_mib",
    }
)
DATA_DISK_FIELDS = frozenset({"name", "description", "tags"})


@rule("5.6", Reason.FIELD_NOT_UPDATABLE, Category.MALFORMED)
def what_an_image_is_can_never_be_written(attempt: UpdateAttempt) -> Iterator[Breach]:
    """State, owner, region, size, digest, encryption and source can never be written."""
    for field in sorted(attempt.fields - UPDATABLE_FIELDS):
        yield breach(
            f"'{field}' cannot be updated; {', '.join(sorted(UPDATABLE_FIELDS))} can.",
            subject=field,
            field=field,
        )


@rule("5.6", Reason.DATA_DISK_FIELD_NOT_UPDATABLE, Category.AGAINST_RULES)
def a_data_disk_image_changes_name_description_and_tags_only(
    attempt: UpdateAttempt,
) -> Iterator[Breach]:
    """A data-disk image changes name, description and tags only."""
    if attempt.image.type is ImageType.DATA_DISK:
        for field in sorted((attempt.fields & UPDATABLE_FIELDS) - DATA_DISK_FIELDS):
            yield breach(
                f"A data-disk image changes its name, description and tags only, not '{field}'.",
                subject=field,
                field=field,
            )


UPDATE_IMAGE: tuple[Rule[UpdateAttempt], ...] = (
    only_the_owner_changes_an_image,
    *CONTENT,
    min_disk_holds_the_disk_inside_the_file,
    what_an_image_is_can_never_be_written,
    the_image_is_as_the_caller_read_it,
    *state_allows(Verb.UPDATE),
    a_data_disk_image_changes_name_description_and_tags_only,
    names_are_unique_among_live_images,
)


@rule("5.7", Reason.PUBLIC_IMAGE_NOT_DELETABLE, Category.AGAINST_RULES)
def public_images_are_not_deleted(attempt: Attempt) -> Iterator[Breach]:
    """A public image is not deleted."""
    if attempt.image.public:
        yield breach("A public image is not deleted; an administrator must unpublish it first.")


@rule("5.7", Reason.IMAGE_PROTECTED, Category.AGAINST_RULES)
def protected_images_are_not_deleted(attempt: Attempt) -> Iterator[Breach]:
    """A protected image is not deleted."""
    if attempt.image.protected:
        yield breach("The image is protected; take the protection off first.")


DELETE_IMAGE: tuple[Rule[ChangeAttempt], ...] = (
    only_the_owner_changes_an_image,
    every_field_can_be_read,
    the_image_is_as_the_caller_read_it,
    *state_allows(Verb.DELETE),
    public_images_are_not_deleted,
    protected_images_are_not_deleted,
)


@dataclass(frozen=True, kw_only=True)
class UndeletionAttempt(Attempt):
    """Somebody wants a deleted image back."""

    name_taken: bool
    backup_used: bool

    @property
    def draft(self) -> Image:
        return self.image


UNDELETE_IMAGE: tuple[Rule[UndeletionAttempt], ...] = (
    only_the_owner_changes_an_image,
    *state_allows(Verb.UNDELETE),
    names_are_unique_among_live_images,
    one_backup_makes_one_image,
)


# --- Deactivation ---


@rule("5.8", Reason.ROLE_REQUIRED, Category.FORBIDDEN)
def only_administrators_deactivate_public_images(attempt: Attempt) -> Iterator[Breach]:
    """A public image is everyone's: an administrator takes its bytes away and gives them back."""
    if attempt.image.public and not attempt.caller.has(Role.ADMIN):
        yield breach(
            f"Only a caller with the role '{Role.ADMIN}' deactivates or reactivates a public image.",
            requiredRole=Role.ADMIN,
        )


@rule("5.8", Reason.NOT_IMAGE_OWNER, Category.FORBIDDEN)
def only_the_owner_deactivates_a_private_image(attempt: Attempt) -> Iterator[Breach]:
    """A private image is deactivated and reactivated by its owner."""
    if not attempt.image.public and attempt.image.owner != attempt.caller.tenant_id:
        yield breach("Only the image's owner may do this.")


_DEACTIVATION: tuple[Rule[Attempt], ...] = (
    only_administrators_deactivate_public_images,
    only_the_owner_deactivates_a_private_image,
)
DEACTIVATE_IMAGE: tuple[Rule[Attempt], ...] = (*_DEACTIVATION, *state_allows(Verb.DEACTIVATE))
REACTIVATE_IMAGE: tuple[Rule[Attempt], ...] = (*_DEACTIVATION, *state_allows(Verb.REACTIVATE))


# --- Publication ---


@rule("1", Reason.ROLE_REQUIRED, Category.FORBIDDEN)
def only_administrators_publish(attempt: Attempt) -> Iterator[Breach]:
    """An administrator publishes an image; tenants never can."""
    if not attempt.caller.has(Role.ADMIN):
        yield breach(
            f"Only a caller with the role '{Role.ADMIN}' publishes and unpublishes images.",
            requiredRole=Role.ADMIN,
        )


@rule("1", Reason.ENCRYPTED_IMAGE_NOT_PUBLISHABLE, Category.AGAINST_RULES)
def encrypted_images_are_not_published(attempt: Attempt) -> Iterator[Breach]:
    """An encrypted image, which is shared with nobody, is not shared with everybody either."""
    if attempt.image.encrypted:
        yield breach("An encrypted image is not published; publish an unencrypted copy.")


@rule("1", Reason.IMAGE_TYPE_NOT_PUBLISHABLE, Category.AGAINST_RULES)
def only_system_disk_and_iso_images_are_published(attempt: Attempt) -> Iterator[Breach]:
    """Data-disk and full-ECS images hold one tenant's data and do not become public."""
    if attempt.image.type in {ImageType.DATA_DISK, ImageType.FULL_ECS}:
        yield breach(f"A {attempt.image.type} image does not become public.", type=attempt.image.type)


PUBLISH_IMAGE: tuple[Rule[Attempt], ...] = (
    only_administrators_publish,
    *state_allows(Verb.PUBLISH),
    encrypted_images_are_not_published,
    only_system_disk_and_iso_images_are_published,
)
UNPUBLISH_IMAGE: tuple[Rule[Attempt], ...] = (
    only_administrators_publish,
    *state_allows(Verb.UNPUBLISH),
)
