"""What images are used for, and registered uses: as messages, and as requests say it."""

from ims.domain.image import (
    Firmware,
)
from ims.domain.registered_use import RegisteredUse, TenantUsage, UsageSummary, UseKind
from ims.domain.tenant import Region
from ims.domain.use import Purpose, Resolution, Use
from ims.servicers.image_messages import disk_message, os_message
from ims.servicers.reading import (
    CONSUMER_ID,
    RequestReading,
)
from ims.servicers.times import timestamp
from ims.v1 import (
    image_pb2,
    image_service_pb2,
    use_pb2,
    use_service_pb2,
)


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
