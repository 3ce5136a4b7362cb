"""Images and their disks as messages."""

from functools import cache
from typing import Final

from ims.domain.image import (
    Disk,
    Image,
    ImageClass,
    OperatingSystem,
    Relation,
    Source,
    SourceKind,
)
from ims.domain.view import ReadyView, View
from ims.repository.renderer import Renderer
from ims.servicers.times import timestamp
from ims.v1 import (
    image_pb2,
)


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
