"""`ims operation …`, and the commands of `ims image` that begin one."""

from typing import Annotated

import typer
from google.longrunning.operations_pb2 import ListOperationsResponse

from ims.cli import lookup, printing
from ims.cli.choices import choice
from ims.cli.progress import progress_bar
from ims.cli.session import Session, in_session
from ims.client import Client, Disk, ExportedObject, Image, Operation, metadata_of
from ims.client.vocabulary import DiskFormat

_COLLECTION = "operations/"
_S3 = "s3://"

OperationArgument = Annotated[
    str,
    typer.Argument(metavar="OPERATION", help="Its name, with or without 'operations/'."),
]

app = typer.Typer(no_args_is_help=True)


@in_session
def copy(
    session: Session,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Its id or name.", show_default=False)],
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The name of the copy.", show_default=False)
    ],
    *,
    description: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Its description; without it, the source's.")
    ] = None,
    key: Annotated[
        str, typer.Option(metavar="KEY", help="Encrypt it with this key; without it, as the source is.")
    ] = "",
    decrypt: Annotated[bool, typer.Option("--decrypt", help="Do not encrypt it.")] = False,
    disk_format: Annotated[
        DiskFormat | None,
        choice("--format", words=Disk.Format, help="Convert it to this; without it, as the source is."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Whether to wait until it is complete.")
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell whether it would be refused.")
    ] = False,
) -> None:
    """Copy an image that you own, have accepted, or that is public; the copy is your own."""
    if key and decrypt:
        raise typer.BadParameter("There is a --key as well.", param_hint="--decrypt")
    with session.client() as client:
        operation = client.copy_image(
            lookup.image_id(client, image),
            name=name,
            description=description,
            encryption_key_id=key,
            decrypt=decrypt,
            format=disk_format or Disk.FORMAT_UNSPECIFIED,
            validate_only=dry_run,
        )
        if dry_run:
            session.answer(operation, "It would be copied. Nothing was done.")
            return
        if wait:
            operation = _finish(client, operation)
    copied = Image()
    if operation.response.Unpack(copied):
        session.answer(operation, f"Copied to {printing.image_title(copied)}.")
    else:
        session.answer(operation, f"It is being copied: ims operation wait {operation.name}")


@in_session
def copy_to_region(
    session: Session,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Its id or name.", show_default=False)],
    region: Annotated[
        str, typer.Argument(metavar="REGION", help="Where to copy it.", show_default=False)
    ],
    *,
    name: Annotated[
        str, typer.Option(metavar="NAME", help="The copy's name; else after this region and the image.")
    ] = "",
    description: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Its description; without it, the source's.")
    ] = None,
    vault: Annotated[
        str, typer.Option(metavar="VAULT", help="Your backup vault there, for a full-ecs image.")
    ] = "",
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Whether to wait until it is complete.")
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell whether it would be refused here.")
    ] = False,
) -> None:
    """Copy an image of your own to another region; the copy is your own there."""
    with session.client() as client:
        operation = client.copy_image_to_region(
            lookup.own_image_id(client, image),
            region,
            name=name,
            description=description,
            vault_id=vault,
            validate_only=dry_run,
        )
        if dry_run:
            session.answer(operation, "It would be copied, as far as this region can tell.")
            return
        if wait:
            operation = _finish(client, operation)
    copied = Image()
    if operation.response.Unpack(copied):
        title = printing.image_title(copied)
        session.answer(operation, f"Copied to {title} in {printing.plain(copied.region)}.")
    else:
        session.answer(operation, f"It is being copied: ims operation wait {operation.name}")


@in_session
def import_image(
    session: Session,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Its id or name.", show_default=False)],
    url: Annotated[str, typer.Argument(metavar="URL", help="An https URL.", show_default=False)],
    *,
    disk: Annotated[int, typer.Option(min=0, help="Which of its disks.")] = 0,
    sha256: Annotated[
        str, typer.Option("--sha256", metavar="DIGEST", help="What the file's SHA-256 has to be.")
    ] = "",
    source_format: Annotated[
        DiskFormat | None,
        choice("--from", words=Disk.Format, help="What the file is, where it is to be converted."),
    ] = None,
    ova: Annotated[bool, typer.Option("--ova", help="Take the disk out of an OVA.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Whether to wait until it is complete.")
    ] = True,
) -> None:
    """Fill a disk of an image that was created (`ims image create`) with a file from a URL."""
    with session.client() as client:
        operation = client.import_image(
            lookup.own_image_id(client, image),
            url,
            disk_index=disk,
            sha256=sha256,
            source_format=source_format or Disk.FORMAT_UNSPECIFIED,
            ova=ova,
        )
        if wait:
            operation = _finish(client, operation)
    imported = Image()
    if operation.response.Unpack(imported):
        session.answer(operation, f"Imported into {printing.image_title(imported)}.")
    else:
        session.answer(operation, f"It is being fetched: ims operation wait {operation.name}")


@in_session
def export(
    session: Session,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Its id or name.", show_default=False)],
    target: Annotated[
        str, typer.Argument(metavar="s3://BUCKET/OBJECT", help="Where to.", show_default=False)
    ],
    *,
    target_format: Annotated[
        DiskFormat | None,
        choice(
            "--format", words=Disk.Format, help="What the file is to be; without it, as the disk is."
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Whether to wait until it is complete.")
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell whether it would be refused.")
    ] = False,
) -> None:
    """Put the file of your image's disk into a bucket that the operator has opened for your tenant."""
    bucket, slash, object_key = target.removeprefix(_S3).partition("/")
    if not (target.startswith(_S3) and bucket and slash and object_key):
        raise typer.BadParameter(f"{target!r} is not like s3://bucket/object.", param_hint="target")
    with session.client() as client:
        operation = client.export_image(
            lookup.own_image_id(client, image),
            bucket,
            object_key,
            format=target_format or Disk.FORMAT_UNSPECIFIED,
            validate_only=dry_run,
        )
        if dry_run:
            session.answer(operation, "It would be exported. Nothing was done.")
            return
        if wait:
            operation = _finish(client, operation)
    exported = ExportedObject()
    if operation.response.Unpack(exported):
        session.answer(
            operation,
            f"Exported {printing.size(exported.size_bytes)} of {Disk.Format.Name(exported.format)} to "
            f"{printing.plain(target)}, SHA-256 {exported.sha256}.",
        )
    else:
        session.answer(operation, f"It is being exported: ims operation wait {operation.name}")


def _finish(client: Client, operation: Operation) -> Operation:
    """Wait for an operation's end, and show meanwhile how far it is."""
    with progress_bar("Working") as show:
        while not operation.done:
            operation = client.wait_operation(operation.name, timeout_seconds=1)
            metadata = metadata_of(operation)
            show(metadata.done_bytes, metadata.total_bytes)
    return client.finish(operation)


@app.command()
@in_session
def get(session: Session, operation: OperationArgument) -> None:
    """Show how far an operation is."""
    with session.client() as client:
        found = client.get_operation(_name(operation))
    session.answer(found, printing.operation_sheet(found))


@app.command("list")
@in_session
def list_operations(
    session: Session,
    *,
    done: Annotated[
        bool | None, typer.Option("--done/--not-done", help="Only those that have, or have not, ended.")
    ] = None,
) -> None:
    """List your tenant's operations, the newest first."""
    with session.client() as client:
        found = list(client.list_operations(done=done))
    session.answer(ListOperationsResponse(operations=found), printing.operation_table(found))


@app.command()
@in_session
def wait(session: Session, operation: OperationArgument) -> None:
    """Wait until an operation has ended; where it has not ended well, tell why."""
    with session.client() as client:
        ended = _finish(client, client.get_operation(_name(operation)))
    session.answer(ended, printing.operation_sheet(ended))


@app.command()
@in_session
def cancel(session: Session, operation: OperationArgument) -> None:
    """Stop an operation; nothing of it is left. One that has ended stays as it is."""
    with session.client() as client:
        client.cancel_operation(_name(operation))
        found = client.get_operation(_name(operation))
    session.answer(found, printing.operation_sheet(found))


@app.command()
@in_session
def delete(session: Session, operation: OperationArgument) -> None:
    """Forget an operation that has ended; what has come of it stays."""
    with session.client() as client:
        found = client.get_operation(_name(operation))
        client.delete_operation(_name(operation))
    session.answer(found, f"Forgot {printing.plain(found.name)}.")


def _name(operation: str) -> str:
    return operation if operation.startswith(_COLLECTION) else _COLLECTION + operation
