"""`ims share …`: lending images, and what one does with what was lent."""

from datetime import datetime
from typing import Annotated

import typer

from ims.cli import lookup, printing
from ims.cli.advice import on_refusals
from ims.cli.choices import choice, moment
from ims.cli.errors import ExitCode
from ims.cli.hits import DryRun, RequireUnused, answer_about_hits
from ims.cli.session import Session, in_session
from ims.client import Recipient, Share
from ims.client.vocabulary import ShareImageResponse, ShareStatus
from ims.v1.sharing_service_pb2 import (
    AcceptShareResponse,
    LeaveShareResponse,
    ListReceivedSharesResponse,
    ListSharesResponse,
    RejectShareResponse,
    UpdateShareResponse,
)

OwnImage = Annotated[
    str, typer.Argument(metavar="IMAGE", help="The image's id or name.", show_default=False)
]
ReceivedImage = Annotated[
    str,
    typer.Argument(
        metavar="IMAGE", help="The id or name of an image shared with you.", show_default=False
    ),
]
Tenants = Annotated[
    list[str],
    typer.Argument(
        metavar="TENANT", help="Their ids; TENANT@REGION says where one is.", show_default=False
    ),
]
TenantRegion = Annotated[
    str, typer.Option(metavar="REGION", help="Where those tenants are that do not say it.")
]
Expires = Annotated[
    datetime | None,
    moment("--expires", help="When the new shares end by themselves, for instance 2026-12-31."),
]
Status = Annotated[
    ShareStatus | None, choice("--status", words=Share.Status, help="Only with this status.")
]

app = typer.Typer(no_args_is_help=True)


@app.command()
@in_session
def add(
    session: Session,
    image: OwnImage,
    tenants: Tenants,
    *,
    tenant_region: TenantRegion = "",
    expires: Expires = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Share with those whom no rule refuses, not all or none.")
    ] = False,
) -> None:
    """Share an image with more tenants, up to 100 at once: with all of them, or none."""
    with session.client() as client:
        response = client.share_image(
            lookup.own_image_id(client, image),
            _recipients(tenants, tenant_region),
            expire_time=expires,
            allow_partial=partial,
        )
    _answer_about_each(session, response)


@app.command()
@in_session
def extend(
    session: Session,
    image: OwnImage,
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Its id.", show_default=False)],
    *,
    until: Annotated[datetime | None, moment("--until", help="When it ends, later or sooner.")] = None,
    forever: Annotated[
        bool, typer.Option("--forever", help="It does not end by itself any more.")
    ] = False,
) -> None:
    """Have a share end at another time. One that has ended is shared anew: `ims share add`."""
    if (until is None) != forever:
        raise typer.BadParameter("Say --until TIME, or --forever.")
    with session.client() as client:
        share = client.update_share(lookup.own_image_id(client, image), tenant, expire_time=until)
    end = f"ends {printing.time(share.expire_time)}" if until else "does not end by itself"
    session.answer(UpdateShareResponse(share=share), f"The share of {tenant} {end}.")


@app.command()
@in_session
def check(
    session: Session,
    image: OwnImage,
    tenants: Tenants,
    *,
    tenant_region: TenantRegion = "",
    expires: Expires = None,
) -> None:
    """Tell what would be refused if an image were shared; share nothing."""
    with session.client() as client:
        response = client.share_image(
            lookup.own_image_id(client, image),
            _recipients(tenants, tenant_region),
            expire_time=expires,
            validate_only=True,
        )
    _answer_about_each(session, response)


@app.command("list")
@in_session
def list_shares(session: Session, image: OwnImage, *, status: Status = None) -> None:
    """List the tenants that an image is shared with."""
    with session.client() as client:
        shares = list(
            client.list_shares(
                lookup.own_image_id(client, image), status=status or Share.STATUS_UNSPECIFIED
            )
        )
    session.answer(ListSharesResponse(shares=shares), printing.share_table(shares))


@app.command()
@in_session
def remove(
    session: Session,
    image: OwnImage,
    tenants: Annotated[
        list[str] | None,
        typer.Argument(metavar="TENANT", help="Their ids.", show_default=False),
    ] = None,
    *,
    everybody: Annotated[bool, typer.Option("--all", help="Stop sharing with everybody.")] = False,
    dry_run: DryRun = False,
    require_unused: RequireUnused = False,
) -> None:
    """Stop sharing an image, with some tenants or with all; they lose it at once."""
    if bool(tenants) == everybody:
        raise typer.BadParameter("Name the tenants, or say --all.")
    with session.client() as client:
        response = client.unshare_image(
            lookup.own_image_id(client, image),
            tenants or (),
            all_tenants=everybody,
            validate_only=dry_run,
            require_unused=require_unused,
        )
    shares = printing.count(len(response.ended_shares), "share")
    lines = [f"{shares} would end. Nothing was changed." if dry_run else f"{shares} ended."]
    if response.not_shared_tenant_ids:
        lines.append(f"It was not shared with {', '.join(response.not_shared_tenant_ids)}.")
    if dry_run:
        answer_about_hits(session, response, " ".join(lines))
    else:
        session.answer(response, " ".join(lines))


@app.command()
@in_session
def received(session: Session, *, status: Status = None) -> None:
    """List what other tenants have shared with you, the newest first."""
    with session.client() as client:
        shares = list(client.list_received_shares(status=status or Share.STATUS_UNSPECIFIED))
    session.answer(ListReceivedSharesResponse(received_shares=shares), printing.received_table(shares))


@app.command()
@in_session
def accept(
    session: Session,
    image: ReceivedImage,
    *,
    vault: Annotated[
        str, typer.Option(metavar="VAULT", help="Your backup vault, for a full-ecs image.")
    ] = "",
) -> None:
    """Accept a share: from then on the image is used like one of your own."""
    with session.client() as client:
        share = client.accept_share(lookup.received_image_id(client, image), vault_id=vault)
    session.answer(AcceptShareResponse(share=share), f"Accepted {share.image_id}.")


@app.command()
@in_session
def reject(session: Session, image: ReceivedImage) -> None:
    """Reject a share; it can be accepted later."""
    with session.client() as client:
        share = client.reject_share(lookup.received_image_id(client, image))
    session.answer(RejectShareResponse(share=share), f"Rejected {share.image_id}.")


@app.command()
@in_session
def leave(session: Session, image: ReceivedImage) -> None:
    """Remove a share from your side; only its owner can bring it back."""
    with session.client() as client:
        image_id = lookup.received_image_id(client, image)
        client.leave_share(image_id)
    session.answer(LeaveShareResponse(), f"Left {image_id}.")


def _recipients(tenants: list[str], region: str) -> list[Recipient]:
    recipients = []
    for tenant in tenants:
        tenant_id, _, own_region = tenant.partition("@")
        recipients.append(Recipient(tenant_id=tenant_id, region=own_region or region))
    return recipients


def _answer_about_each(session: Session, response: ShareImageResponse) -> None:
    """Print how it went for each tenant. Exits with DECLINED when somebody is, or would be, refused."""
    refusals = [
        *response.image_refusals,
        *(refusal for result in response.results for refusal in result.refusals),
    ]
    session.answer(response, printing.share_results(response, advice=on_refusals(refusals)))
    if refusals:
        raise typer.Exit(ExitCode.DECLINED)
