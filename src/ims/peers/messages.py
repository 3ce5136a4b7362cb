"""What is told to the service of another region, and what it tells, in the words of the wire."""

from ims.domain.image import Image
from ims.providers.peers import PeerDisk, PeerImage
from ims.v1 import image_pb2
from ims.v1.image_service_pb2 import CreateImageRequest
from ims.v1.upload_service_pb2 import FinishUploadResponse


def creation_request(
    draft: Image, *, vault_id: str, capacity_bytes: int, request_id: str
) -> CreateImageRequest:
    """Return what creates the copy of an image."""
    source = draft.source
    copied = image_pb2.Source.Copy(
        image_id=source.id,
        region=source.region or "",
        backup_received_by_sharing=source.backup_received_by_sharing,
    )
    if source.backup_service is not None:
        copied.backup_service = image_pb2.Source.BackupService.Value(source.backup_service)
    return CreateImageRequest(
        name=draft.name,
        type=image_pb2.Image.Type.Value(draft.type),
        disks=[
            CreateImageRequest.DiskDeclaration(
                format=image_pb2.Disk.Format.Value(disk.format),
                role=image_pb2.Disk.Role.Value(disk.role),
            )
            for disk in draft.disks
        ],
        source=image_pb2.Source(image=copied),
        description=draft.description,
        os=image_pb2.OperatingSystem(
            type=image_pb2.OperatingSystem.Type.Value(draft.os.type),
            platform=draft.os.platform,
            version=draft.os.version,
            bits=draft.os.bits,
        ),
        architecture=image_pb2.Image.Architecture.Value(draft.architecture),
        firmware=image_pb2.Image.Firmware.Value(draft.firmware),
        min_disk_gib=draft.min_disk_gib,
        min_ram_mib=draft.min_ram_mib,
        max_ram_mib=draft.max_ram_mib,
        for_bms=draft.for_bms,
        non_exportable=draft.non_exportable,
        owner_tenant_id=draft.owner,
        request_id=request_id,
        arrival=CreateImageRequest.Arrival(vault_id=vault_id, capacity_bytes=capacity_bytes),
    )


def finished_image(response: FinishUploadResponse) -> PeerImage:
    """Return the image that an upload was finished of, as its owner sees it there."""
    image = response.image
    # The answer is to who brings it, who has no relation to it.
    image.relation = image_pb2.Relation.OWNED
    return PeerImage(
        disk=PeerDisk(size_bytes=response.disk.size_bytes, sha256=response.disk.sha256),
        rendered=image.SerializeToString(deterministic=True),
    )
