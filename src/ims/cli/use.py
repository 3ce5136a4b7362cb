"""`ims use …`: servers and volumes that were made from images."""

from typing import Annotated

import typer

from ims.cli import lookup, printing
from ims.cli.choices import choice
from ims.cli.session import Session, in_session
from ims.client import Use
from ims.client.vocabulary import UseKind
from ims.v1.use_service_pb2 import (
    GetUsageResponse,
    ListUsesResponse,
    RegisterUseResponse,
    ReleaseUseResponse,
)

ImageArgument = Annotated[
    str, typer.Argument(metavar="IMAGE", help="Its id or name.", show_default=False)
]
Consumer = Annotated[
    str,
    typer.Argument(metavar="ID", help="The id of the server or the volume.", show_default=False),
]
Kind = Annotated[UseKind, choice("--kind", words=Use.Kind, help="What is made from the image.")]
ForTenant = Annotated[
    str, typer.Option(metavar="TENANT", help="Whose it is; only with the role service.")
]

app = typer.Typer(no_args_is_help=True)


@app.command()
@in_session
def register(
    session: Session, image: ImageArgument, consumer: Consumer, *, kind: Kind, for_tenant: ForTenant = ""
) -> None:
    """Register that a server or a volume is made from an image."""
    with session.client() as client:
        use = client.register_use(lookup.image_id(client, image), kind, consumer, tenant_id=for_tenant)
    session.answer(RegisterUseResponse(use=use), f"Registered {_title(use)}.")


@app.command()
@in_session
def release(
    session: Session, image: ImageArgument, consumer: Consumer, *, kind: Kind, for_tenant: ForTenant = ""
) -> None:
    """Release a use: the server or the volume is gone. A lost image is named by its id."""
    with session.client() as client:
        image_id = lookup.image_id(client, image)
        released = client.release_use(image_id, kind, consumer, tenant_id=for_tenant)
    title = _title(Use(image_id=image_id, kind=kind, consumer_id=consumer))
    session.answer(
        ReleaseUseResponse(released=released),
        f"Released {title}." if released else f"There was nothing to release: {title}.",
    )


@app.command("list")
@in_session
def list_uses(
    session: Session,
    image: Annotated[
        str,
        typer.Argument(metavar="IMAGE", help="Only of this image: its id or name.", show_default=False),
    ] = "",
    *,
    kind: Annotated[UseKind | None, choice("--kind", words=Use.Kind, help="Only of this kind.")] = None,
    for_tenant: ForTenant = "",
) -> None:
    """List your servers and volumes that were made from images, also from such as you have lost."""
    with session.client() as client:
        uses = list(
            client.list_uses(
                lookup.image_id(client, image) if image else "",
                tenant_id=for_tenant,
                kind=kind or Use.KIND_UNSPECIFIED,
            )
        )
    session.answer(ListUsesResponse(uses=uses), printing.use_table(uses))


@app.command()
@in_session
def count(session: Session, image: ImageArgument) -> None:
    """Count the uses of an image: by tenant if you own it, else your own."""
    with session.client() as client:
        usages = list(client.get_usage(lookup.image_id(client, image)))
    session.answer(GetUsageResponse(usages=usages), printing.usage_table(usages))


def _title(use: Use) -> str:
    return printing.plain(f"{Use.Kind.Name(use.kind)} {use.consumer_id} of image {use.image_id}")
