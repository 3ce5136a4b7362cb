"""`ims image create`: the record of an image, without its bytes."""

from typing import Annotated

import typer

from ims.cli import printing
from ims.cli.attributes import NewImageOptions, takes
from ims.cli.choices import choice
from ims.cli.session import Session, in_session
from ims.client import Disk, Image, NewImageAttributes, Source
from ims.client.vocabulary import BackupService, DiskFormat, ImageType
from ims.v1.image_service_pb2 import CreateImageResponse

Name = Annotated[str, typer.Option(metavar="NAME", help="What it is called; unique in your tenant.")]
Type = Annotated[
    ImageType | None,
    choice("--type", words=Image.Type, help="What it contains; without it, a system disk or an ISO."),
]


@in_session
@takes(NewImageOptions)
def create(
    session: Session,
    *,
    name: Name,
    formats: Annotated[
        list[DiskFormat],
        choice(
            "--format",
            words=Disk.Format,
            help="The format of its disk's file; for full-ecs once for each disk, system disk first.",
        ),
    ],
    image_type: Type = None,
    from_ecs: Annotated[
        str | None, typer.Option(metavar="SERVER", help="Made from an elastic cloud server.")
    ] = None,
    backup_service: Annotated[
        BackupService | None,
        choice("--backup-service", words=Source.BackupService, help="With --from-ecs: through which."),
    ] = None,
    from_bms: Annotated[
        str | None, typer.Option(metavar="SERVER", help="Made from a bare-metal server.")
    ] = None,
    from_volume: Annotated[
        str | None, typer.Option(metavar="VOLUME", help="Made from an EVS volume.")
    ] = None,
    from_cbr_backup: Annotated[
        str | None, typer.Option(metavar="BACKUP", help="Made from a CBR backup.")
    ] = None,
    received_by_sharing: Annotated[
        bool,
        typer.Option("--received-by-sharing", help="With --from-cbr-backup: itself lent to the owner."),
    ] = False,
    from_csbs_backup: Annotated[
        str | None, typer.Option(metavar="BACKUP", help="Made from a CSBS backup.")
    ] = None,
    validate_only: Annotated[
        bool, typer.Option("--validate-only", help="Check everything, store nothing.")
    ] = False,
    attributes: NewImageAttributes,
) -> None:
    """Create the record of an image; `ims image upload FILE --image ID` fills its disks.

    Only callers with the role service say that it was made from something else than a file.
    """
    source = _source(
        from_ecs=from_ecs,
        backup_service=backup_service,
        from_bms=from_bms,
        from_volume=from_volume,
        from_cbr_backup=from_cbr_backup,
        received_by_sharing=received_by_sharing,
        from_csbs_backup=from_csbs_backup,
    )
    if image_type is None:
        image_type = Image.ISO if formats == [Disk.ISO] else Image.SYSTEM_DISK
    with session.client() as client:
        image = client.create_image(
            name=name,
            type=image_type,
            formats=formats,
            source=source,
            validate_only=validate_only,
            **attributes,
        )
    session.answer(
        CreateImageResponse(image=image),
        "Nothing refuses it; nothing was stored."
        if validate_only
        else f"Created {printing.image_title(image)}; it waits for {_disks(image)}.",
    )


def _source(
    *,
    from_ecs: str | None,
    backup_service: BackupService | None,
    from_bms: str | None,
    from_volume: str | None,
    from_cbr_backup: str | None,
    received_by_sharing: bool,
    from_csbs_backup: str | None,
) -> Source | None:
    """Return the source that was said, if any. Raises BadParameter for more than one."""
    sources = []
    if from_ecs is not None:
        sources.append(
            Source(
                ecs=Source.Ecs(
                    server_id=from_ecs,
                    backup_service=backup_service or Source.BACKUP_SERVICE_UNSPECIFIED,
                )
            )
        )
    elif backup_service is not None:
        raise typer.BadParameter("It goes with --from-ecs.", param_hint="--backup-service")
    if from_bms is not None:
        sources.append(Source(bms=Source.Bms(server_id=from_bms)))
    if from_volume is not None:
        sources.append(Source(volume=Source.Volume(volume_id=from_volume)))
    if from_cbr_backup is not None:
        backup = Source.CbrBackup(backup_id=from_cbr_backup, received_by_sharing=received_by_sharing)
        sources.append(Source(cbr_backup=backup))
    elif received_by_sharing:
        raise typer.BadParameter("It goes with --from-cbr-backup.", param_hint="--received-by-sharing")
    if from_csbs_backup is not None:
        sources.append(Source(csbs_backup=Source.CsbsBackup(backup_id=from_csbs_backup)))
    if len(sources) > 1:
        raise typer.BadParameter("An image comes from one thing.", param_hint="--from-…")
    return sources[0] if sources else None


def _disks(image: Image) -> str:
    return "its disk" if len(image.disks) == 1 else f"its {len(image.disks)} disks"
