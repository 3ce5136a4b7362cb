"""Domain to protobuf and back: one pair of functions for each resource."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final, Protocol

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from ims.domain.audit import AuditEvent, AuditFilter
from ims.domain.copying import Arrival
from ims.domain.image import (
    Architecture,
    BackupService,
    Disk,
    DiskFormat,
    DiskRole,
    Firmware,
    Image,
    ImageClass,
    ImageId,
    ImageState,
    ImageType,
    KeyId,
    OperatingSystem,
    OsType,
    Relation,
    Source,
    SourceKind,
)
from ims.domain.image_changes import ImageChanges
from ims.domain.page import ImageFilter, ImageOrder, OrderKey, ShareFilter, TagFilter, TenantFilter
from ims.domain.quotas import Allowance, Quotas
from ims.domain.registered_use import RegisteredUse, TenantUsage, UsageSummary, UseKind
from ims.domain.rejection import Violation
from ims.domain.share import Share, ShareStatus
from ims.domain.tenant import Region, RegisteredTenant, TenantId, TenantState
from ims.domain.trust import TrustRules
from ims.domain.use import Purpose, Resolution, Use
from ims.domain.view import ReadyView, View
from ims.repository.renderer import Renderer
from ims.rules.changes import UPDATABLE_FIELDS
from ims.rules.creation import role_order
from ims.rules.image_data import Announcement
from ims.rules.images import MAX_TAGS
from ims.rules.trust import MAX_AUTO_ACCEPT_FROM, MAX_BLOCKED
from ims.servicers.reading import (
    CONSUMER_ID,
    FOREIGN_ID,
    KEY_ID,
    SHA256,
    WORD,
    RequestReading,
    Word,
)
from ims.use_cases.sharing import Recipient, Sharing
from ims.use_cases.tenants import TenantChanges
from ims.v1 import (
    admin_service_pb2,
    audit_pb2,
    audit_service_pb2,
    error_reason_pb2,
    image_pb2,
    image_service_pb2,
    quota_pb2,
    share_pb2,
    sharing_service_pb2,
    tenant_pb2,
    trust_pb2,
    use_pb2,
    use_service_pb2,
)

_NEVER: Final = datetime.fromtimestamp(0, UTC)
"""Stands for a time that the service has still to give."""


# --- Images, outward ---


def image_message(view: View) -> image_pb2.Image:
    """Return an image as its viewer gets it."""
    message = _message(view.image)
    message.MergeFrom(_standing_message(view.image_class, view.relation))
    return message


def image_bytes(view: ReadyView | View) -> bytes:
    """Return an image as its viewer gets it, serialised."""
    rendering = view.rendering if isinstance(view, ReadyView) else render(view.image)
    return rendering + _standing_bytes(view.image_class, view.relation)


def render(image: Image) -> bytes:
    """Return an image as every viewer gets it, serialised; class and relation are still to be added."""
    # In one order, or the tags would stand in another in every process.
    return _message(image).SerializeToString(deterministic=True)


RENDERER: Final = Renderer(format=5, render=render)


def _standing_message(image_class: ImageClass, relation: Relation | None) -> image_pb2.Image:
    """Return of an image only what depends on who looks."""
    message = image_pb2.Image()
    # The field is called as the law calls it, which Python cannot write as an argument.
    setattr(message, "class", image_pb2.Image.Class.Value(image_class))
    if relation is not None:
        message.relation = image_pb2.Relation.Kind.Value(relation)
    return message


@cache
def _standing_bytes(image_class: ImageClass, relation: Relation | None) -> bytes:
    return _standing_message(image_class, relation).SerializeToString()


def _message(image: Image) -> image_pb2.Image:
    return image_pb2.Image(
        id=image.id,
        owner_tenant_id=image.owner,
        region=image.region,
        name=image.name,
        description=image.description,
        type=image_pb2.Image.Type.Value(image.type),
        state=image_pb2.Image.State.Value(image.state),
        disks=[disk_message(disk) for disk in image.disks],
        os=os_message(image.os),
        architecture=image_pb2.Image.Architecture.Value(image.architecture),
        firmware=image_pb2.Image.Firmware.Value(image.firmware),
        min_disk_gib=image.min_disk_gib,
        min_ram_mib=image.min_ram_mib,
        max_ram_mib=image.max_ram_mib,
        tags=dict(image.tags),
        source=_source_message(image.source),
        encryption_key_id=image.encryption_key_id or "",
        protected=image.protected,
        for_bms=image.for_bms,
        create_time=timestamp(image.create_time),
        update_time=timestamp(image.update_time),
        delete_time=timestamp(image.delete_time),
        purge_time=timestamp(image.purge_time),
        etag=image.etag,
        size_bytes=image.size_bytes,
        deactivated_by_administrator=image.deactivated_by_admin,
        non_exportable=image.non_exportable,
    )


def draft_message(view: View) -> image_pb2.Image:
    """Return an image that was only checked, not created: it has no id, no times and no etag."""
    message = image_message(view)
    for field in ("id", "create_time", "update_time", "etag"):
        message.ClearField(field)
    return message


def disk_message(disk: Disk) -> image_pb2.Disk:
    """Return a disk; where and how its bytes are kept stays here."""
    return image_pb2.Disk(
        index=disk.index,
        role=image_pb2.Disk.Role.Value(disk.role),
        format=image_pb2.Disk.Format.Value(disk.format),
        state=image_pb2.Disk.State.Value(disk.state),
        capacity_bytes=disk.capacity_bytes,
        size_bytes=disk.size_bytes,
        sha256=disk.sha256,
        damaged=disk.damaged,
    )


def os_message(os: OperatingSystem) -> image_pb2.OperatingSystem:
    """Return an operating system."""
    return image_pb2.OperatingSystem(
        type=image_pb2.OperatingSystem.Type.Value(os.type),
        platform=os.platform,
        version=os.version,
        bits=os.bits,
    )


def _source_message(source: Source) -> image_pb2.Source:
    message = image_pb2.Source()
    match source.kind:
        case SourceKind.ECS:
            message.ecs.server_id = source.id
            if source.backup_service is not None:
                message.ecs.backup_service = image_pb2.Source.BackupService.Value(source.backup_service)
        case SourceKind.BMS:
            message.bms.server_id = source.id
        case SourceKind.VOLUME:
            message.volume.volume_id = source.id
        case SourceKind.CBR_BACKUP:
            message.cbr_backup.backup_id = source.id
            message.cbr_backup.received_by_sharing = source.backup_received_by_sharing
        case SourceKind.CSBS_BACKUP:
            message.csbs_backup.backup_id = source.id
        case SourceKind.FILE:
            message.file.name = source.file_name
        case SourceKind.IMAGE:
            message.image.image_id = source.id
            message.image.region = source.region or ""
            message.image.backup_received_by_sharing = source.backup_received_by_sharing
            if source.backup_service is not None:
                service = image_pb2.Source.BackupService.Value(source.backup_service)
                message.image.backup_service = service
    return message


def timestamp(time: datetime | None) -> Timestamp | None:
    """Return a time, where there is one."""
    if time is None:
        return None
    message = Timestamp()
    message.FromDatetime(time)
    return message


# --- Images, inward ---


def read_draft(
    reading: RequestReading, request: image_service_pb2.CreateImageRequest, *, owner: TenantId
) -> Image:
    """Return the image that a creation asks for; what the service gives it is still to come."""
    wanted = reading.word(request, "type", ImageType)
    image_type = wanted or ImageType.SYSTEM_DISK
    source = _read_source(reading, request.source)
    architecture = reading.word(request, "architecture", Architecture) or Architecture.X86_64
    firmware = Firmware.UEFI if architecture is Architecture.AARCH64 else Firmware.BIOS
    return Image(
        id=ImageId(""),
        owner=reading.tenant_id("owner_tenant_id", request.owner_tenant_id) or owner,
        region=Region(""),
        name=request.name,
        description=request.description,
        type=image_type,
        state=ImageState.QUEUED,
        protected=request.protected,
        for_bms=request.for_bms or source.kind is SourceKind.BMS,
        os=OperatingSystem(**_read_os(reading, "os", request.os, _OS_FIELDS)),
        architecture=architecture,
        firmware=reading.word(request, "firmware", Firmware) or firmware,
        min_disk_gib=request.min_disk_gib,
        min_ram_mib=request.min_ram_mib,
        max_ram_mib=request.max_ram_mib,
        tags=_read_tags(request.tags),
        source=source,
        encryption_key_id=read_key_id(reading, request.encryption_key_id),
        disks=_read_disks(reading, request.disks, image_type),
        non_exportable=request.non_exportable,
        create_time=_NEVER,
        update_time=_NEVER,
    )


def read_changes(reading: RequestReading, request: image_service_pb2.UpdateImageRequest) -> ImageChanges:
    """Return what an update wants to change."""
    paths = list(dict.fromkeys(request.update_mask.paths))
    if "update_mask" not in {problem.path for problem in reading.problems} and not paths:
        reading.problem("update_mask", "it names at least one field.")
    os_fields = [path.removeprefix("os.") for path in paths if path.startswith("os.")]
    if "os" in paths:
        os_fields = list(_OS_FIELDS)
    for field in os_fields:
        if field not in _OS_FIELDS:
            reading.problem("update_mask", f"an OS has no field '{field}', but {', '.join(_OS_FIELDS)}.")
    fields = {"os" if path.startswith("os.") else path for path in paths}
    return ImageChanges(
        fields=frozenset(fields),
        values={
            path: _read_value(reading, path, request.image) for path in paths if path in _PLAIN_FIELDS
        },
        os_values=_read_os(reading, "image.os", request.image.os, os_fields),
    )


_PLAIN_FIELDS: Final = UPDATABLE_FIELDS - {"os"}


def _read_value(reading: RequestReading, field: str, image: image_pb2.Image) -> object:
    match field:
        case "tags":
            return _read_tags(image.tags)
        case "architecture":
            return _said(reading, image, field, Architecture)
        case "firmware":
            return _said(reading, image, field, Firmware)
        case _:
            return getattr(image, field)


def _said(reading: RequestReading, image: image_pb2.Image, field: str, vocabulary: type[Word]) -> Word:
    """Return the word that a field says; a change to nothing in particular is none."""
    problems = len(reading.problems)
    word = reading.word(image, field, vocabulary, at="image.")
    if word is None and len(reading.problems) == problems:
        reading.problem(f"image.{field}", f"it is one of {', '.join(vocabulary)}.")
    return word or next(iter(vocabulary))


def _read_tags(tags: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(tags.items()))


_OS_FIELDS: Final = ("type", "platform", "version", "bits")


def _read_os(
    reading: RequestReading, path: str, os: image_pb2.OperatingSystem, fields: Iterable[str]
) -> dict[str, Any]:
    """Return the attributes of an operating system that the fields name."""
    values: dict[str, Any] = {}
    for field in fields:
        match field:
            case "type":
                said = reading.word(os, "type", OsType, at=f"{path}.")
                values["type"] = said or OsType.OTHER
            case "bits":
                values["bits"] = os.bits or _DEFAULT_BITS
                if values["bits"] not in _BITS:
                    reading.problem(f"{path}.bits", f"it is 32 or 64, not {os.bits}.", value=os.bits)
            case "platform":
                values["platform"] = reading.text(f"{path}.platform", os.platform, longest=64)
            case "version":
                values["version"] = reading.text(f"{path}.version", os.version, longest=128)
    return values


_BITS: Final = (32, 64)
_DEFAULT_BITS: Final = 64


def read_key_id(reading: RequestReading, value: str) -> KeyId | None:
    """Return the key that a request names for encryption; None where it is not said."""
    what = "a key's id: 1 to 64 letters, digits, '-', '.' and '_'"
    return KeyId(reading.matching("encryption_key_id", value, KEY_ID, what)) or None


def read_vault_id(reading: RequestReading, path: str, value: str) -> str:
    """Return the vault that a request names; empty where it names none."""
    return reading.matching(path, value, FOREIGN_ID, "an id: 1 to 128 printable characters, no spaces")


def _read_disks(
    reading: RequestReading,
    declared: Sequence[image_service_pb2.CreateImageRequest.DiskDeclaration],
    image_type: ImageType,
) -> tuple[Disk, ...]:
    return tuple(
        Disk(
            index=index,
            role=reading.word(each, "role", DiskRole, at=f"disks[{index}].") or role,
            # Left out, it is a problem that the reading has noted already.
            format=reading.word(each, "format", DiskFormat, at=f"disks[{index}].") or DiskFormat.RAW,
        )
        for index, (each, role) in enumerate(
            zip(declared, role_order(image_type, len(declared)), strict=True)
        )
    )


def _read_source(reading: RequestReading, source: image_pb2.Source) -> Source:
    origin = source.WhichOneof("origin") or "file"
    copied = origin == "image"
    taken = source.image if copied else source.ecs
    at = "source.image." if copied else "source.ecs."
    return Source(
        kind=SourceKind(origin.upper()),
        id=_source_id(reading, source, origin),
        file_name=reading.text("source.file.name", source.file.name, longest=255),
        region=reading.region("source.image.region", source.image.region),
        backup_service=reading.word(taken, "backup_service", BackupService, at=at),
        backup_received_by_sharing=(
            source.image.backup_received_by_sharing or source.cbr_backup.received_by_sharing
        ),
    )


def read_arrival(
    reading: RequestReading, request: image_service_pb2.CreateImageRequest
) -> Arrival | None:
    """Return what is said of a copy from another region; None of anything else."""
    if not request.HasField("arrival"):
        return None
    if request.source.WhichOneof("origin") != "image":
        reading.problem("arrival", "it is said of a copy from another region only.")
    said = request.arrival
    return Arrival(
        vault_id=read_vault_id(reading, "arrival.vault_id", said.vault_id),
        capacity_bytes=reading.not_negative("arrival.capacity_bytes", said.capacity_bytes),
    )


_SOURCE_IDS: Final = {
    "ecs": "server_id",
    "bms": "server_id",
    "volume": "volume_id",
    "cbr_backup": "backup_id",
    "csbs_backup": "backup_id",
    "image": "image_id",
}


def _source_id(reading: RequestReading, source: image_pb2.Source, origin: str) -> str:
    if origin not in _SOURCE_IDS:
        return ""
    field = _SOURCE_IDS[origin]
    what = "an id: 1 to 128 printable characters, no spaces"
    value: str = getattr(getattr(source, origin), field)
    return reading.matching(f"source.{origin}.{field}", value, FOREIGN_ID, what)


def read_image_filter(
    reading: RequestReading, request: image_service_pb2.ListImagesRequest
) -> ImageFilter:
    """Return what a listing of images lets through."""
    for field in ("tags", "tags_any", "tags_none"):
        items = len(getattr(request, field))
        if items > MAX_TAGS:
            message = f"at most {MAX_TAGS} can be asked for, not {items}."
            reading.problem(field, message, maxItems=MAX_TAGS, items=items)
    min_size_bytes, max_size_bytes = _read_sizes(reading, request)
    return ImageFilter(
        relation=reading.word(request, "relation", Relation),
        image_class=reading.word(request, "class", ImageClass),
        type=reading.word(request, "type", ImageType),
        state=reading.word(request, "state", ImageState),
        name=request.name,
        name_prefix=request.name_prefix,
        os_type=reading.word(request, "os_type", OsType),
        owner=reading.tenant_id("owner_tenant_id", request.owner_tenant_id),
        tags=_read_tags(request.tags),
        tags_any=_read_tag_filters(request.tags_any),
        tags_none=_read_tag_filters(request.tags_none),
        min_size_bytes=min_size_bytes,
        max_size_bytes=max_size_bytes,
        **_read_times(reading, request, "created"),
        **_read_times(reading, request, "updated"),
    )


def _read_tag_filters(
    wanted: Iterable[image_service_pb2.TagFilter],
) -> tuple[TagFilter, ...]:
    return tuple(TagFilter(tag.key, tag.value if tag.HasField("value") else None) for tag in wanted)


def _read_sizes(
    reading: RequestReading, request: image_service_pb2.ListImagesRequest
) -> tuple[int | None, int | None]:
    smallest = reading.not_negative("min_size_bytes", request.min_size_bytes) or None
    if not request.HasField("max_size_bytes"):
        return smallest, None
    largest = reading.not_negative("max_size_bytes", request.max_size_bytes)
    if 0 <= largest < (smallest or 0):
        message = f"it is not below min_size_bytes, {smallest}, as {largest} is."
        reading.problem("max_size_bytes", message, minSizeBytes=smallest or 0, maxSizeBytes=largest)
    return smallest, largest


def _read_times(
    reading: RequestReading, request: image_service_pb2.ListImagesRequest, what: str
) -> dict[str, Any]:
    start, end = reading.time(request, f"{what}_from"), reading.time(request, f"{what}_before")
    if start is not None and end is not None and end <= start:
        reading.problem(f"{what}_before", f"it is later than {what}_from.")
    return {f"{what}_from": start, f"{what}_before": end}


def read_image_order(reading: RequestReading, order_by: str) -> ImageOrder:
    """Return in which order images are listed."""
    if not order_by:
        return ImageOrder()
    word, *rest = order_by.split(" ")
    if word not in set(OrderKey) or rest not in ([], ["desc"]):
        words = ", ".join(OrderKey)
        reading.problem("order_by", f"it is one of {words}, or one of them and ' desc'.")
        return ImageOrder()
    return ImageOrder(OrderKey(word), descending=bool(rest))


# --- Image data ---


class _Announces(Protocol):
    size_bytes: int
    sha256: str


def read_announcement(reading: RequestReading, said: _Announces, *, at: str = "") -> Announcement:
    """Return what an upload says of its file; `at` is the path of the message, with a dot at its end."""
    if said.size_bytes < 0:
        message = f"it is 1 or more, not {said.size_bytes}."
        reading.problem(f"{at}size_bytes", message, value=said.size_bytes)
    what = "a SHA-256: 64 hexadecimal digits"
    sha256 = reading.matching(f"{at}sha256", said.sha256, SHA256, what)
    return Announcement(size_bytes=said.size_bytes, sha256=sha256.lower())


# --- Use ---


def read_use(
    reading: RequestReading, request: image_service_pb2.ResolveImageRequest, *, home: Region
) -> Use:
    """Return what a consumer wants an image for."""
    purpose = reading.word(request, "purpose", Purpose)
    return Use(
        # Left out, it is a problem that the reading has noted already.
        purpose=purpose or Purpose.CREATE_ECS,
        region=reading.region("region", request.region) or home,
        disk_gib=reading.not_negative("disk_gib", request.disk_gib),
        ram_mib=reading.not_negative("ram_mib", request.ram_mib),
        firmware=reading.word(request, "firmware", Firmware),
    )


def resolution_message(
    resolution: Resolution, *, tenant_id: str
) -> image_service_pb2.ResolveImageResponse:
    """Return a consumer's answer, with the requests that read the disks."""
    image = resolution.image
    return image_service_pb2.ResolveImageResponse(
        image_id=image.id,
        etag=image.etag,
        relation=image_pb2.Relation.Kind.Value(resolution.relation),
        disks=[
            image_service_pb2.ResolveImageResponse.ResolvedDisk(
                disk=disk_message(disk),
                read_with=image_service_pb2.DownloadImageDataRequest(
                    image_id=image.id, disk_index=disk.index, tenant_id=tenant_id
                ),
            )
            for disk in resolution.disks
        ],
        os=os_message(image.os),
        architecture=image_pb2.Image.Architecture.Value(image.architecture),
        firmware=image_pb2.Image.Firmware.Value(image.firmware),
        min_disk_gib=image.min_disk_gib,
        min_ram_mib=image.min_ram_mib,
        max_ram_mib=image.max_ram_mib,
        non_exportable=image.non_exportable,
    )


# --- Shares ---


def share_message(share: Share, *, viewer: TenantId) -> share_pb2.Share:
    """Return a share as one of its two sides gets it."""
    return share_pb2.Share(
        image_id=share.image_id,
        tenant_id=share.tenant_id,
        region=share.region,
        status=share_pb2.Share.Status.Value(share.status),
        # A recipient's vault is none of the owner's business.
        vault_id=share.vault_id if viewer == share.tenant_id else "",
        create_time=timestamp(share.create_time),
        update_time=timestamp(share.update_time),
        expire_time=timestamp(share.expire_time),
    )


def sharing_message(sharing: Sharing, *, viewer: TenantId) -> sharing_service_pb2.ShareImageResponse:
    """Return how sharing went."""
    return sharing_service_pb2.ShareImageResponse(
        results=[
            sharing_service_pb2.ShareImageResponse.Result(
                tenant_id=outcome.tenant_id,
                share=None if outcome.share is None else share_message(outcome.share, viewer=viewer),
                refusals=refusal_messages(outcome.refusals),
            )
            for outcome in sharing.outcomes
        ],
        image_refusals=refusal_messages(sharing.image_refusals),
        share_count=sharing.share_count,
        share_limit=sharing.share_limit,
    )


def refusal_messages(violations: Iterable[Violation]) -> list[share_pb2.Refusal]:
    """Return the rules that refuse something, told as data."""
    return [
        share_pb2.Refusal(
            reason=error_reason_pb2.ErrorReason.Value(violation.reason),
            message=violation.message,
            metadata={key: str(value) for key, value in violation.metadata.items()},
        )
        for violation in violations
    ]


def read_share_filter(reading: RequestReading, request: Message) -> ShareFilter:
    """Return what a listing of shares lets through."""
    return ShareFilter(status=reading.word(request, "status", ShareStatus))


def read_share_order(reading: RequestReading, order_by: str) -> bool:
    """Return whether the newest shares are listed first."""
    if order_by not in {"", "create_time", "create_time desc"}:
        reading.problem("order_by", "it is 'create_time' or 'create_time desc'.")
    return order_by != "create_time"


def read_recipients(
    reading: RequestReading, recipients: Sequence[share_pb2.Recipient]
) -> tuple[Recipient, ...]:
    """Return the tenants that a request names, each once, in its order."""
    read: dict[TenantId, Recipient] = {}
    for index, each in enumerate(recipients):
        path = f"recipients[{index}]"
        tenant_id = reading.tenant_id(f"{path}.tenant_id", each.tenant_id)
        region = reading.region(f"{path}.region", each.region)
        if tenant_id is None:
            continue
        if read.setdefault(tenant_id, Recipient(tenant_id=tenant_id, region=region)).region != region:
            reading.problem(f"{path}.region", "the same tenant is named with another region.")
    return tuple(read.values())


def read_tenant_ids(reading: RequestReading, tenant_ids: Sequence[str]) -> tuple[TenantId, ...]:
    """Return the tenants that a request names, each once, in its order."""
    if len(tenant_ids) > MAX_TENANT_IDS:
        message = f"at most {MAX_TENANT_IDS} are named a call, not {len(tenant_ids)}."
        reading.problem("tenant_ids", message, maxItems=MAX_TENANT_IDS, items=len(tenant_ids))
    read = [reading.tenant_id(f"tenant_ids[{index}]", each) for index, each in enumerate(tenant_ids)]
    if None in read:
        reading.problem("tenant_ids", "none is empty.")
    return tuple(dict.fromkeys(each for each in read if each is not None))


MAX_TENANT_IDS: Final = 1000


def read_share_changes(
    reading: RequestReading, request: sharing_service_pb2.UpdateShareRequest
) -> tuple[frozenset[str], datetime | None]:
    """Return the fields of a share that an update names, and when the share shall end."""
    fields = frozenset(request.update_mask.paths)
    if request.HasField("update_mask") and not fields:
        reading.problem("update_mask", "it names at least one field.")
    return fields, reading.time(request.share, "expire_time", at="share.")


# --- Trust ---


def trust_rules_message(rules: TrustRules) -> trust_pb2.TrustRules:
    """Return a tenant's rules as the tenant gets them."""
    return trust_pb2.TrustRules(
        auto_accept_from=rules.auto_accept_from,
        blocked=rules.blocked,
        max_pending_shares=rules.max_pending_shares,
        etag=rules.etag,
    )


def read_trust_changes(
    reading: RequestReading, request: sharing_service_pb2.SetTrustRulesRequest, *, own: TenantId
) -> dict[str, Any]:
    """Return the rules that a request sets, by the names of their fields; None clears the limit."""
    paths = list(dict.fromkeys(request.update_mask.paths))
    if request.HasField("update_mask") and not paths:
        reading.problem("update_mask", "it names at least one rule.")
    given: dict[str, Any] = {
        field: _read_owners(reading, f"rules.{field}", getattr(request.rules, field), most, own)
        for field, most in _MOST_OWNERS.items()
    }
    most_pending = request.rules.max_pending_shares
    given["max_pending_shares"] = (
        reading.not_negative("rules.max_pending_shares", most_pending)
        if request.rules.HasField("max_pending_shares")
        else None
    )
    for path in paths:
        if path not in given:
            reading.problem("update_mask", f"there is no rule '{path}', but {', '.join(given)}.")
    return {field: value for field, value in given.items() if field in paths}


_MOST_OWNERS: Final = {"auto_accept_from": MAX_AUTO_ACCEPT_FROM, "blocked": MAX_BLOCKED}


def _read_owners(
    reading: RequestReading, path: str, tenant_ids: Sequence[str], most: int, own: TenantId
) -> tuple[TenantId, ...]:
    read = []
    if len(tenant_ids) > most:
        message = f"at most {most} tenants are named, not {len(tenant_ids)}."
        reading.problem(path, message, maxItems=most, items=len(tenant_ids))
    for index, each in enumerate(tenant_ids):
        tenant_id = reading.tenant_id(f"{path}[{index}]", each)
        if tenant_id is None:
            reading.problem(f"{path}[{index}]", "it is empty.")
        elif tenant_id == own:
            reading.problem(f"{path}[{index}]", "it is your own tenant.")
        else:
            read.append(tenant_id)
    return tuple(sorted(set(read)))


# --- Registered uses ---


def read_consumer(
    reading: RequestReading,
    request: use_service_pb2.RegisterUseRequest | use_service_pb2.ReleaseUseRequest,
) -> tuple[UseKind, str]:
    """Return what was made from an image, and its id."""
    what = "a server's or a volume's id: 1 to 64 printable ASCII characters without spaces"
    kind = reading.word(request, "kind", UseKind)
    consumer_id = reading.matching("consumer_id", request.consumer_id, CONSUMER_ID, what)
    # Left out, it is a problem that the reading has noted already.
    return kind or UseKind.ECS, consumer_id


def use_message(use: RegisteredUse) -> use_pb2.Use:
    """Return a use as its tenant, or the service that registered it, gets it."""
    return use_pb2.Use(
        image_id=use.key.image_id,
        tenant_id=use.key.tenant_id,
        kind=use_pb2.Use.Kind.Value(use.key.kind),
        consumer_id=use.key.consumer_id,
        create_time=timestamp(use.create_time),
    )


def usage_message(usage: TenantUsage) -> use_pb2.TenantUsage:
    """Return how many uses a tenant has."""
    return use_pb2.TenantUsage(
        tenant_id=usage.tenant_id,
        ecs_count=usage.ecs,
        bms_count=usage.bms,
        volume_count=usage.volumes,
    )


def usage_summary_message(summary: UsageSummary) -> use_pb2.UsageSummary:
    """Return the uses that something would hit."""
    return use_pb2.UsageSummary(
        use_count=summary.total.uses,
        tenant_count=summary.total.tenants,
        usages=[usage_message(usage) for usage in summary.largest],
    )


# --- Audit ---


def read_audit_filter(reading: RequestReading, said: audit_service_pb2.AuditEventFilter) -> AuditFilter:
    """Return which events are wanted."""
    start = reading.time(said, "time_from", at="filter.")
    end = reading.time(said, "time_before", at="filter.")
    if start is not None and end is not None and end <= start:
        reading.problem("filter.time_before", "it is later than time_from.")
    return AuditFilter(
        image_id=ImageId(said.image_id) if said.image_id else None,
        action=reading.matching("filter.action", said.action, WORD, "the name of an action"),
        actor_tenant=reading.tenant_id("filter.actor_tenant_id", said.actor_tenant_id),
        counterpart=reading.tenant_id("filter.counterpart_tenant_id", said.counterpart_tenant_id),
        result=reading.matching("filter.result", said.result, WORD, "OK or the name of a reason"),
        time_from=start,
        time_before=end,
    )


def read_audit_order(reading: RequestReading, order_by: str) -> bool:
    """Return whether the newest events are listed first."""
    if order_by not in {"", "time", "time desc"}:
        reading.problem("order_by", "it is 'time' or 'time desc'.")
    return order_by != "time"


def audit_event_message(event: AuditEvent) -> audit_pb2.AuditEvent:
    """Return an event as it was recorded for whoever reads it."""
    return audit_pb2.AuditEvent(
        id=event.id,
        time=timestamp(event.time),
        actor=audit_pb2.AuditEvent.Actor(
            kind=audit_pb2.AuditEvent.Actor.Kind.Value(event.actor.kind),
            tenant_id=event.actor.tenant_id,
            user_id=event.actor.user_id,
            acting_for_tenant_id=event.actor.acting_for,
        ),
        action=event.action,
        image_id=event.image_id or "",
        image_name=event.image_name,
        image_owner_tenant_id=event.image_owner,
        counterpart_tenant_id=event.counterpart,
        request_id=event.request_id,
        call_id=event.call_id,
        result=event.result,
        details=event.details,
    )


# --- Quotas ---


def quotas_message(allowance: Allowance) -> quota_pb2.TenantQuotas:
    """Return what a tenant has taken, and the most that it can have."""
    return quota_pb2.TenantQuotas(
        **{
            quota: quota_pb2.Quota(
                used=getattr(allowance.used, quota),
                limit=getattr(allowance.limits, quota),
                overridden=getattr(allowance.own_limits, quota) is not None,
            )
            for quota in _QUOTAS
        }
    )


_QUOTAS: Final = tuple(field.name for field in fields(Quotas))


def read_limits(
    reading: RequestReading, request: admin_service_pb2.SetTenantQuotasRequest
) -> dict[str, int | None]:
    """Return the limits that a request sets, by the names of their quotas; None where it clears one."""
    paths = list(dict.fromkeys(request.update_mask.paths))
    if request.HasField("update_mask") and not paths:
        reading.problem("update_mask", "it names at least one quota.")
    for path in paths:
        if path not in _QUOTAS:
            reading.problem("update_mask", f"there is no quota '{path}', but {', '.join(_QUOTAS)}.")
    given = {field.name: value for field, value in request.limits.ListFields()}
    return {
        quota: reading.not_negative(f"limits.{quota}", given[quota]) if quota in given else None
        for quota in _QUOTAS
        if quota in paths
    }


# --- Tenants ---


def tenant_message(tenant: RegisteredTenant) -> tenant_pb2.Tenant:
    """Return a tenant as administrators get it."""
    return tenant_pb2.Tenant(
        id=tenant.id,
        region=tenant.region,
        state=tenant_pb2.Tenant.State.Value(tenant.state),
        sharing_blocked=tenant.sharing_blocked,
        register_time=timestamp(tenant.register_time),
        suspend_time=timestamp(tenant.suspend_time),
    )


_TENANT_FIELDS: Final = ("region", "sharing_blocked")


def read_tenant_changes(
    reading: RequestReading, request: admin_service_pb2.UpdateTenantRequest
) -> TenantChanges:
    """Return what an update of a tenant wants to change."""
    paths = set(request.update_mask.paths)
    if request.HasField("update_mask") and not paths:
        reading.problem("update_mask", "it names at least one field.")
    for path in sorted(paths.difference(_TENANT_FIELDS)):
        fields = " and ".join(_TENANT_FIELDS)
        reading.problem("update_mask", f"'{path}' cannot be updated; {fields} can.")
    region = reading.region("tenant.region", request.tenant.region)
    if "region" in paths and not request.tenant.region:
        reading.problem("tenant.region", "it is required where update_mask names it.")
    return TenantChanges(
        region=region if "region" in paths else None,
        sharing_blocked=request.tenant.sharing_blocked if "sharing_blocked" in paths else None,
    )


def read_tenant_filter(
    reading: RequestReading, request: admin_service_pb2.ListTenantsRequest
) -> TenantFilter:
    """Return what a listing of the directory lets through."""
    return TenantFilter(
        state=reading.word(request, "state", TenantState),
        region=reading.region("region", request.region),
    )
