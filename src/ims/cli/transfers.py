"""`ims image upload` and `ims image download`: bytes from and to files, with progress bars."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Unpack

import typer

from ims.cli import lookup, printing
from ims.cli.attributes import NewImageOptions, takes
from ims.cli.choices import choice
from ims.cli.creation import Type
from ims.cli.progress import progress_bar
from ims.cli.session import Session, in_session
from ims.client import Disk, Image, NewImageAttributes, sha256_of
from ims.client.vocabulary import DiskFormat, FinishUploadResponse, ImageType
from ims.v1.image_service_pb2 import DownloadImageDataResponse
from ims.v1.upload_service_pb2 import AbortUploadResponse


@in_session
@takes(NewImageOptions)
def upload(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The disk file.", show_default=False)],
    *,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Create an image of this name from the file.")
    ] = None,
    image: Annotated[
        str | None,
        typer.Option("--image", metavar="IMAGE", help="Fill a disk of an image that is there already."),
    ] = None,
    disk: Annotated[int, typer.Option(min=0, help="With --image: which of its disks.")] = 0,
    image_type: Type = None,
    disk_format: Annotated[
        DiskFormat | None,
        choice("--format", words=Disk.Format, help="What the file is; without it, what it looks like."),
    ] = None,
    source_format: Annotated[
        DiskFormat | None,
        choice("--from", words=Disk.Format, help="What the file is, where it is to be converted."),
    ] = None,
    ova: Annotated[bool, typer.Option("--ova", help="Take the disk out of an OVA.")] = False,
    direct: Annotated[
        bool, typer.Option("--direct", help="Bring the bytes to the service's bucket, not through it.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the image's record when the upload fails.")
    ] = False,
    attributes: NewImageAttributes,
) -> None:
    """Create an image from a file (--name), or fill a disk of one (--image).

    With --from the service converts the file to what the image is to be, and this waits for it.
    """
    if (name is None) == (image is None):
        raise typer.BadParameter("Say --name for a new image, or --image for one that is there.")
    brought = _Brought(file, source_format or Disk.FORMAT_UNSPECIFIED, ova=ova, direct=direct)
    if name is not None:
        if disk:
            raise typer.BadParameter("It goes with --image.", param_hint="--disk")
        if source_format is not None and disk_format is None and not ova:
            raise typer.BadParameter("Say --format: what the file is to become.", param_hint="--from")
        response = _upload_new(session, brought, name, image_type, disk_format, keep=keep, **attributes)
    else:
        if image_type is not None or disk_format is not None or keep or attributes:
            raise typer.BadParameter("With --image nothing is said about it any more but --disk.")
        response = _upload_disk(session, brought, str(image), disk)
    session.answer(response, _uploaded(response))


@dataclass(frozen=True)
class _Brought:
    """The file that is uploaded, and what it is."""

    file: Path
    source_format: DiskFormat
    ova: bool
    direct: bool


def _upload_new(
    session: Session,
    brought: _Brought,
    name: str,
    image_type: ImageType | None,
    disk_format: DiskFormat | None,
    *,
    keep: bool,
    **attributes: Unpack[NewImageAttributes],
) -> FinishUploadResponse:
    with session.client() as client:
        sha256 = _digest(brought.file)
        with progress_bar("Uploading") as progress:
            image = client.create_from_file(
                brought.file,
                name=name,
                type=image_type,
                format=disk_format,
                sha256=sha256,
                source_format=brought.source_format,
                ova=brought.ova,
                direct=brought.direct,
                keep=keep,
                progress=progress,
                **attributes,
            )
    return FinishUploadResponse(image=image, disk=image.disks[0])


def _upload_disk(session: Session, brought: _Brought, image: str, disk: int) -> FinishUploadResponse:
    with session.client() as client:
        image_id = lookup.own_image_id(client, image)
        sha256 = _digest(brought.file)
        with progress_bar("Uploading") as progress:
            return client.upload(
                image_id,
                brought.file,
                disk,
                sha256=sha256,
                source_format=brought.source_format,
                ova=brought.ova,
                direct=brought.direct,
                progress=progress,
            )


def _digest(file: Path) -> str:
    with progress_bar("Reading") as progress:
        return sha256_of(file, progress=progress)


def _uploaded(response: FinishUploadResponse) -> str:
    image, disk = response.image, response.disk
    missing = sum(each.state != Disk.STORED for each in image.disks)
    return (
        f"Uploaded {printing.size(disk.size_bytes)} of {Disk.Format.Name(disk.format)} into disk "
        f"{disk.index} of {printing.image_title(image)}. The image is {Image.State.Name(image.state)}"
        + (f"; {missing} of its disks are missing." if missing else ".")
    )


@in_session
def abort_upload(
    session: Session,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Its id or name.", show_default=False)],
    *,
    disk: Annotated[int, typer.Option(min=0, help="Which of its disks.")] = 0,
) -> None:
    """End an upload that waits to be gone on with; the disk can be uploaded again."""
    with session.client() as client:
        emptied = client.abort_upload(lookup.own_image_id(client, image), disk_index=disk)
    session.answer(
        AbortUploadResponse(image=emptied),
        f"Ended the upload of disk {disk} of {printing.image_title(emptied)}.",
    )


@in_session
def download(
    session: Session,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Its id or name.", show_default=False)],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to.")],
    disk: Annotated[int, typer.Option(min=0, help="Which of its disks.")] = 0,
    offset_bytes: Annotated[
        int, typer.Option("--offset", min=0, metavar="BYTES", help="Where to begin.")
    ] = 0,
    length_bytes: Annotated[
        int, typer.Option("--length", min=0, metavar="BYTES", help="How much; 0: all.")
    ] = 0,
    for_tenant: Annotated[
        str, typer.Option(metavar="TENANT", help="On whose behalf; only with the role service.")
    ] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Take the place of the file.")] = False,
    parallel: Annotated[
        int, typer.Option(min=1, max=16, help="How many parts are downloaded at the same time.")
    ] = 1,
) -> None:
    """Download a disk of an image, or a part of it, into a file.

    The file is there when all of it is, and found to be what the service has announced.
    """
    with session.client() as client:
        image_id = lookup.image_id(client, image)
        with progress_bar("Downloading") as progress:
            downloaded = client.download(
                image_id,
                output,
                disk,
                offset_bytes=offset_bytes,
                length_bytes=length_bytes,
                tenant_id=for_tenant,
                overwrite=overwrite,
                parallel=parallel,
                progress=progress,
            )
    written_bytes = output.stat().st_size
    session.answer(
        DownloadImageDataResponse.Start(
            disk=downloaded, offset_bytes=offset_bytes, length_bytes=written_bytes
        ),
        f"Downloaded {printing.size(written_bytes)} of {Disk.Format.Name(downloaded.format)} "
        f"to {output}.",
    )


@in_session
def download_url(
    session: Session,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Its id or name.", show_default=False)],
    *,
    disk: Annotated[int, typer.Option(min=0, help="Which of its disks.")] = 0,
    valid_seconds: Annotated[
        int, typer.Option("--valid", min=1, max=3600, metavar="SECONDS", help="For how long.")
    ] = 300,
    for_tenant: Annotated[
        str, typer.Option(metavar="TENANT", help="On whose behalf; only with the role service.")
    ] = "",
) -> None:
    """Print a URL at which anybody reads a disk's bytes from the store itself, until it ends.

    For curl and its like: `curl -o disk.raw "$(ims image url IMAGE)"`.
    """
    with session.client() as client:
        image_id = lookup.image_id(client, image)
        response = client.create_download_url(
            image_id, disk_index=disk, valid_seconds=valid_seconds, tenant_id=for_tenant
        )
    session.answer(response, response.url)
