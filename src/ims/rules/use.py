"""The law of using an image: may this tenant use it for this purpose (law 7)."""

from collections.abc import Iterator
from dataclasses import dataclass

from ims.domain.caller import Caller, Role
from ims.domain.image import Disk, DiskRole, ImageType
from ims.domain.rejection import Category, Reason
from ims.domain.tenant import TenantId
from ims.domain.use import Purpose, Use
from ims.rules.attempt import Attempt
from ims.rules.engine import Breach, Rule, breach, rule
from ims.rules.form import every_field_can_be_read
from ims.rules.image_data import damaged_bytes_are_not_given_out
from ims.rules.keys import the_key_of_an_encrypted_image_is_usable
from ims.rules.sharing import only_accepted_shares_are_used
from ims.rules.states import Verb, state_allows


@dataclass(frozen=True, kw_only=True)
class Representation:
    """A caller wants to act for a tenant."""

    caller: Caller
    tenant_id: TenantId


@rule("7.1", Reason.ROLE_REQUIRED, Category.FORBIDDEN)
def only_services_act_for_other_tenants(attempt: Representation) -> Iterator[Breach]:
    """A consumer (ECS, BMS, EVS) asks for a tenant; everybody else asks for itself."""
    if attempt.tenant_id != attempt.caller.tenant_id and not attempt.caller.has(Role.SERVICE):
        yield breach(
            f"Only a caller with the role '{Role.SERVICE}' acts for another tenant.",
            subject="tenant_id",
            requiredRoles=Role.SERVICE,
        )


ACT_FOR_TENANT: tuple[Rule[Representation], ...] = (only_services_act_for_other_tenants,)


TYPES_FOR = {
    Purpose.CREATE_ECS: (ImageType.SYSTEM_DISK, ImageType.FULL_ECS, ImageType.ISO),
    Purpose.CREATE_BMS: (ImageType.SYSTEM_DISK,),
    Purpose.CREATE_VOLUME: (ImageType.DATA_DISK,),
    Purpose.CHANGE_OS: (ImageType.SYSTEM_DISK, ImageType.FULL_ECS),
}
"""What each purpose takes (law 1: "used for")."""


@dataclass(frozen=True, kw_only=True)
class UseAttempt(Attempt):
    """A tenant, or a consumer for it, wants to use an image; `caller` is the tenant."""

    use: Use
    key_usable: bool
    """Whether the image's bytes can be decrypted now."""

    @property
    def disks(self) -> tuple[Disk, ...]:
        """What is read: of a full-ECS image an OS change uses its system disk only (law 1)."""
        system_disk_only = self.use.purpose is Purpose.CHANGE_OS
        return tuple(
            disk for disk in self.image.disks if disk.role is DiskRole.SYSTEM or not system_disk_only
        )


@rule("7.1", Reason.WRONG_TYPE_FOR_PURPOSE, Category.AGAINST_RULES)
def the_type_serves_the_purpose(attempt: UseAttempt) -> Iterator[Breach]:
    """The type serves the purpose: no data disk for a server, no ISO for an OS change."""
    allowed = TYPES_FOR[attempt.use.purpose]
    if attempt.image.type not in allowed:
        yield breach(
            f"A {attempt.image.type} image does not serve {attempt.use.purpose}; one of "
            f"{', '.join(allowed)} does.",
            subject="purpose",
            type=attempt.image.type,
            purpose=attempt.use.purpose,
        )


@rule("7.1", Reason.NOT_MADE_FOR_BMS, Category.AGAINST_RULES)
def bare_metal_servers_need_an_image_made_for_them(attempt: UseAttempt) -> Iterator[Breach]:
    """A BMS is created from an image that was made for it."""
    if attempt.use.purpose is Purpose.CREATE_BMS and not attempt.image.for_bms:
        yield breach("The image was not made for bare-metal servers.", subject="purpose")


@rule("7.1", Reason.FIRMWARE_DIFFERS, Category.AGAINST_RULES)
def an_os_change_keeps_the_firmware(attempt: UseAttempt) -> Iterator[Breach]:
    """On an OS change the image's firmware is the server's."""
    firmware = attempt.use.firmware
    if attempt.use.purpose is not Purpose.CHANGE_OS or firmware is None:
        return
    if firmware is not attempt.image.firmware:
        yield breach(
            f"The server boots by {firmware}, the image by {attempt.image.firmware}.",
            subject="firmware",
            serverFirmware=firmware,
            imageFirmware=attempt.image.firmware,
        )


@rule("7.1", Reason.DISK_TOO_SMALL, Category.AGAINST_RULES)
def the_disk_holds_the_image(attempt: UseAttempt) -> Iterator[Breach]:
    """The disk is not below the image's minimum."""
    if attempt.use.disk_gib and attempt.use.disk_gib < attempt.image.min_disk_gib:
        yield breach(
            f"The image needs a disk of {attempt.image.min_disk_gib} GiB, not {attempt.use.disk_gib}.",
            subject="disk_gib",
            minDiskGib=attempt.image.min_disk_gib,
            diskGib=attempt.use.disk_gib,
        )


@rule("7.1", Reason.MEMORY_OUT_OF_RANGE, Category.AGAINST_RULES)
def the_memory_is_within_the_images_bounds(attempt: UseAttempt) -> Iterator[Breach]:
    """The memory is not below the image's minimum, nor above its maximum where it has one."""
    ram, least, most = attempt.use.ram_mib, attempt.image.min_ram_mib, attempt.image.max_ram_mib
    if ram and (ram < least or 0 < most < ram):
        yield breach(
            f"The image takes {least} MiB of memory or more"
            f"{f', at most {most}' if most else ''}, not {ram}.",
            subject="ram_mib",
            minRamMib=least,
            maxRamMib=most,
            ramMib=ram,
        )


@rule("7.2", Reason.IMAGE_NOT_IN_REGION, Category.AGAINST_RULES)
def the_image_is_available_in_the_region(attempt: UseAttempt) -> Iterator[Breach]:
    """The image must be available in this region to this tenant."""
    if attempt.use.region != attempt.image.region:
        yield breach(
            f"The image is in region '{attempt.image.region}', to be used in '{attempt.use.region}'; "
            "copy it there first.",
            subject="region",
            imageRegion=attempt.image.region,
            region=attempt.use.region,
        )


RESOLVE_IMAGE: tuple[Rule[UseAttempt], ...] = (
    every_field_can_be_read,
    *state_allows(Verb.USE),
    only_accepted_shares_are_used,
    the_type_serves_the_purpose,
    bare_metal_servers_need_an_image_made_for_them,
    an_os_change_keeps_the_firmware,
    the_disk_holds_the_image,
    the_memory_is_within_the_images_bounds,
    the_image_is_available_in_the_region,
    the_key_of_an_encrypted_image_is_usable,
    damaged_bytes_are_not_given_out,
)
