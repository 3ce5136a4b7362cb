"""`ims image …`: the records of images."""

from datetime import datetime
from typing import Annotated

import typer

from ims.cli import creation, lookup, operation, printing, transfers
from ims.cli.attributes import Options, parse_tag_filters, parse_tags, takes
from ims.cli.choices import choice, moment
from ims.cli.hits import DryRun, RequireUnused, answer_about_hits
from ims.cli.session import Session, in_session
from ims.client import Image, ImageChanges, OperatingSystem, Relation, ResolveImageRequest
from ims.client.vocabulary import (
    Firmware,
    ImageClass,
    ImageState,
    ImageType,
    OsType,
    Purpose,
    RelationKind,
)
from ims.v1.admin_service_pb2 import UnpublishImageResponse
from ims.v1.image_service_pb2 import (
    DeactivateImageResponse,
    GetImageResponse,
    ListImagesResponse,
    ReactivateImageResponse,
    UpdateImageResponse,
)

ImageArgument = Annotated[
    str, typer.Argument(metavar="IMAGE", help="Its id or name.", show_default=False)
]
Etag = Annotated[str, typer.Option(metavar="ETAG", help="Only if the image still bears this etag.")]

app = typer.Typer(no_args_is_help=True)

app.command("create")(creation.create)
app.command("upload")(transfers.upload)
app.command("import")(operation.import_image)
app.command("abort-upload")(transfers.abort_upload)


@app.command("list")
@in_session
def list_images(
    session: Session,
    *,
    relation: Annotated[
        RelationKind | None,
        choice("--relation", words=Relation.Kind, help="Only what you own, have by sharing, …"),
    ] = None,
    image_class: Annotated[
        ImageClass | None, choice("--class", words=Image.Class, help="Only of this class.")
    ] = None,
    image_type: Annotated[
        ImageType | None, choice("--type", words=Image.Type, help="Only of this type.")
    ] = None,
    state: Annotated[
        ImageState | None,
        choice(
            "--state", words=Image.State, help="Only in this state; deleted ones are listed only so."
        ),
    ] = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="Only of this name.")] = "",
    name_prefix: Annotated[str, typer.Option(metavar="TEXT", help="Only whose name begins so.")] = "",
    os_type: Annotated[
        OsType | None,
        choice("--os-type", words=OperatingSystem.Type, help="Only with an OS of this family."),
    ] = None,
    owner: Annotated[str, typer.Option(metavar="TENANT", help="Only of this owner.")] = "",
    tags: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="KEY=VALUE", help="Only with this tag; several: with all."),
    ] = None,
    tags_any: Annotated[
        list[str] | None,
        typer.Option(
            "--any-tag", metavar="KEY[=VALUE]", help="Only with this tag; several: with at least one."
        ),
    ] = None,
    tags_none: Annotated[
        list[str] | None, typer.Option("--no-tag", metavar="KEY[=VALUE]", help="Only without this tag.")
    ] = None,
    min_size: Annotated[int, typer.Option(metavar="BYTES", help="Only of at least this size.")] = 0,
    max_size: Annotated[
        int | None, typer.Option(metavar="BYTES", help="Only of at most this size.")
    ] = None,
    created_from: Annotated[
        datetime | None, moment("--created-from", help="Only made at this time or later.")
    ] = None,
    created_before: Annotated[
        datetime | None, moment("--created-before", help="Only made before this time.")
    ] = None,
    updated_from: Annotated[
        datetime | None, moment("--updated-from", help="Only changed at this time or later.")
    ] = None,
    updated_before: Annotated[
        datetime | None, moment("--updated-before", help="Only changed before this time.")
    ] = None,
    order_by: Annotated[
        str,
        typer.Option(
            metavar="ORDER",
            help="create_time, name or size_bytes, perhaps with ' desc'; else the newest first.",
        ),
    ] = "",
) -> None:
    """List the images that you own, have accepted, or that are public."""
    with session.client() as client:
        images = list(
            client.list_images(
                relation=relation or Relation.KIND_UNSPECIFIED,
                image_class=image_class or Image.CLASS_UNSPECIFIED,
                type=image_type or Image.TYPE_UNSPECIFIED,
                state=state or Image.STATE_UNSPECIFIED,
                name=name,
                name_prefix=name_prefix,
                os_type=os_type or OperatingSystem.TYPE_UNSPECIFIED,
                owner_tenant_id=owner,
                tags=parse_tags(tags or []),
                tags_any=parse_tag_filters(tags_any or []),
                tags_none=parse_tag_filters(tags_none or []),
                min_size_bytes=min_size,
                max_size_bytes=max_size,
                created_from=created_from,
                created_before=created_before,
                updated_from=updated_from,
                updated_before=updated_before,
                order_by=order_by,
            )
        )
    session.answer(ListImagesResponse(images=images), printing.image_table(images))


@app.command()
@in_session
def show(session: Session, image: ImageArgument) -> None:
    """Show everything about an image."""
    with session.client() as client:
        found = client.get_image(lookup.image_id(client, image))
    session.answer(GetImageResponse(image=found), printing.image_sheet(found))


@app.command()
@in_session
@takes(Options)
def update(
    session: Session,
    image: ImageArgument,
    *,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Its new name.")] = None,
    no_tags: Annotated[bool, typer.Option("--no-tags", help="Take all its tags off.")] = False,
    etag: Etag = "",
    attributes: ImageChanges,
) -> None:
    """Change an image; what is not named stays as it is, but the tags are changed as a whole."""
    if name is not None:
        attributes["name"] = name
    if no_tags:
        if "tags" in attributes:
            raise typer.BadParameter("There is a --tag as well.", param_hint="--no-tags")
        attributes["tags"] = {}
    if not attributes:
        raise typer.BadParameter("Say what to change.")
    with session.client() as client:
        changed = client.update_image(lookup.own_image_id(client, image), etag=etag, **attributes)
    session.answer(UpdateImageResponse(image=changed), printing.image_sheet(changed))


@app.command()
@in_session
def delete(
    session: Session,
    image: ImageArgument,
    *,
    etag: Etag = "",
    dry_run: DryRun = False,
    require_unused: RequireUnused = False,
) -> None:
    """Delete an image and end all its shares; `ims image undelete` restores both for a while."""
    with session.client() as client:
        response = client.delete_image(
            lookup.own_image_id(client, image),
            etag=etag,
            validate_only=dry_run,
            require_unused=require_unused,
        )
    shares = printing.count(response.ended_share_count, "share")
    if dry_run:
        answer_about_hits(session, response, f"{shares} would end. Nothing was deleted.")
        return
    session.answer(
        response,
        f"Deleted {printing.image_title(response.image)}; {shares} ended. It can be restored until "
        f"{printing.time(response.image.purge_time)}.",
    )


@app.command()
@in_session
def undelete(session: Session, image: ImageArgument) -> None:
    """Restore a deleted image with its shares."""
    with session.client() as client:
        response = client.undelete_image(lookup.deleted_image_id(client, image))
    session.answer(
        response,
        f"Restored {printing.image_title(response.image)} and "
        f"{printing.count(response.restored_share_count, 'share')}.",
    )


app.command("download")(transfers.download)
app.command("url")(transfers.download_url)
app.command("copy")(operation.copy)
app.command("export")(operation.export)
app.command("copy-to-region")(operation.copy_to_region)


@app.command()
@in_session
def resolve(
    session: Session,
    image: ImageArgument,
    *,
    purpose: Annotated[
        Purpose, choice("--purpose", words=ResolveImageRequest.Purpose, help="What it is used for.")
    ],
    for_tenant: Annotated[
        str, typer.Option(metavar="TENANT", help="Who uses it; only with the role service.")
    ] = "",
    in_region: Annotated[
        str, typer.Option(metavar="REGION", help="Where it is used; without it, in your region.")
    ] = "",
    disk_gib: Annotated[
        int, typer.Option("--disk-gib", help="The size of the server's system disk or the volume.")
    ] = 0,
    ram_mib: Annotated[int, typer.Option("--ram-mib", help="The server's memory.")] = 0,
    firmware: Annotated[
        Firmware | None, choice("--firmware", words=Image.Firmware, help="How the server boots.")
    ] = None,
) -> None:
    """Tell what using an image for a purpose needs, or which rules forbid it."""
    with session.client() as client:
        response = client.resolve_image(
            lookup.image_id(client, image),
            purpose,
            tenant_id=for_tenant,
            region=in_region,
            disk_gib=disk_gib,
            ram_mib=ram_mib,
            firmware=firmware or Image.FIRMWARE_UNSPECIFIED,
        )
    session.answer(response, printing.resolution_sheet(response))


AsAdmin = Annotated[
    bool,
    typer.Option(
        "--as-admin", help="Any tenant's image, by its id; with --roles admin before the command."
    ),
]


@app.command()
@in_session
def deactivate(session: Session, image: ImageArgument, *, as_admin: AsAdmin = False) -> None:
    """Refuse an image's bytes to everyone; metadata and shares are kept."""
    with session.client() as client:
        if as_admin:
            changed = client.deactivate_tenant_image(image)
        else:
            changed = client.deactivate_image(lookup.own_image_id(client, image))
    session.answer(
        DeactivateImageResponse(image=changed), f"Deactivated {printing.image_title(changed)}."
    )


@app.command()
@in_session
def reactivate(session: Session, image: ImageArgument, *, as_admin: AsAdmin = False) -> None:
    """Make a deactivated image active again."""
    with session.client() as client:
        if as_admin:
            changed = client.reactivate_tenant_image(image)
        else:
            changed = client.reactivate_image(lookup.own_image_id(client, image))
    session.answer(
        ReactivateImageResponse(image=changed), f"Reactivated {printing.image_title(changed)}."
    )


@app.command()
@in_session
def publish(
    session: Session,
    image: ImageArgument,
    *,
    non_exportable: Annotated[
        bool,
        typer.Option(
            "--non-exportable", help="Let neither it nor what is copied from it be exported, for good."
        ),
    ] = False,
) -> None:
    """Make a private image public, as an administrator (--roles admin); its shares end."""
    with session.client() as client:
        response = client.publish_image(lookup.image_id(client, image), non_exportable=non_exportable)
    session.answer(
        response,
        f"Published {printing.image_title(response.image)}; "
        f"{printing.count(response.ended_share_count, 'share')} ended.",
    )


@app.command()
@in_session
def unpublish(session: Session, image: ImageArgument) -> None:
    """Make a public image its owner's private one again, as an administrator (--roles admin)."""
    with session.client() as client:
        changed = client.unpublish_image(lookup.image_id(client, image))
    session.answer(
        UnpublishImageResponse(image=changed), f"{printing.image_title(changed)} is private again."
    )
