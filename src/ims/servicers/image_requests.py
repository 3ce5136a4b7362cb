"""What requests say of images: drafts, changes, filters, orders, what is uploaded."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

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
from ims.domain.page import ImageFilter, ImageOrder, OrderKey, TagFilter
from ims.domain.tenant import Region, TenantId
from ims.rules.changes import UPDATABLE_FIELDS
from ims.rules.creation import role_order
from ims.rules.image_data import Announcement
from ims.rules.images import MAX_TAGS
from ims.servicers.reading import (
    FOREIGN_ID,
    KEY_ID,
    SHA256,
    RequestReading,
    Word,
)
from ims.v1 import (
    image_pb2,
    image_service_pb2,
)

_NEVER: Final = datetime.fromtimestamp(0, UTC)
"""Stands for a time that the service has still to give."""


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
