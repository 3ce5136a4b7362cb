"""The `ims` command: its global options, and all its commands together."""

from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated, Final

import typer

from ims.cli import (
    audit,
    doctor,
    image,
    keys,
    migrate,
    operation,
    printing,
    quota,
    serve,
    share,
    trust,
    use,
)
from ims.cli import tenant as tenant_commands
from ims.cli.connecting import Connecting
from ims.cli.errors import TroubleTeller
from ims.cli.session import Json, Session

_PROVING: Final = "Connecting, and proving who you are"

app = typer.Typer(
    cls=TroubleTeller,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(image.app, name="image", help="Keep images: create, upload, list, download, …")
app.add_typer(operation.app, name="operation", help="Follow what takes long, and cancel it.")
app.add_typer(share.app, name="share", help="Lend images to other tenants, and use what they lend.")
app.add_typer(trust.app, name="trust", help="Say whose shares you accept at once, or never see.")
app.add_typer(use.app, name="use", help="Know which servers and volumes were made from images.")
app.add_typer(audit.app, name="audit", help="See who did what.")
app.add_typer(quota.app, name="quota", help="See how much you can have; set it for others.")
app.add_typer(
    tenant_commands.app, name="tenant", help="Govern tenants, as an administrator (--roles admin)."
)
app.command("serve")(serve.serve)
app.command("migrate")(migrate.migrate)
app.command("doctor")(doctor.doctor)
app.add_typer(keys.app, name="key", help="Keep a server's keys for encryption at rest.")


@app.callback()
def main(
    context: typer.Context,
    *,
    server: Annotated[
        str, typer.Option(envvar="IMS_SERVER", metavar="HOST:PORT", help="The service to call.")
    ] = "127.0.0.1:50051",
    tenant: Annotated[
        str, typer.Option(envvar="IMS_TENANT", metavar="TENANT", help="For which tenant you call.")
    ] = "",
    user: Annotated[
        str, typer.Option(envvar="IMS_USER", metavar="USER", help="Which of its users you are.")
    ] = "",
    roles: Annotated[
        str,
        typer.Option(
            envvar="IMS_ROLES",
            metavar="ROLE,...",
            help="Your roles: reader, member, service, admin, peer.",
        ),
    ] = "",
    region: Annotated[
        str,
        typer.Option(envvar="IMS_REGION", metavar="REGION", help="Where you are, if elsewhere."),
    ] = "",
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="IMS_TOKEN_FILE",
            metavar="FILE",
            help="Your token; or the token itself in IMS_TOKEN.",
            rich_help_panel=_PROVING,
        ),
    ] = None,
    token_url: Annotated[
        str,
        typer.Option(
            envvar="IMS_TOKEN_URL",
            metavar="URL",
            help="Where an issuer gives you one, for your id and secret.",
            rich_help_panel=_PROVING,
        ),
    ] = "",
    client_id: Annotated[
        str,
        typer.Option(
            envvar="IMS_CLIENT_ID", metavar="ID", help="Your id there.", rich_help_panel=_PROVING
        ),
    ] = "",
    client_secret_file: Annotated[
        Path | None,
        typer.Option(
            envvar="IMS_CLIENT_SECRET_FILE",
            metavar="FILE",
            help="Your secret there; or the secret itself in IMS_CLIENT_SECRET.",
            rich_help_panel=_PROVING,
        ),
    ] = None,
    scope: Annotated[
        str,
        typer.Option(
            envvar="IMS_SCOPE", metavar="SCOPE", help="What to ask for there.", rich_help_panel=_PROVING
        ),
    ] = "",
    secure: Annotated[
        bool,
        typer.Option(
            "--secure",
            envvar="IMS_SECURE",
            help="Connect by TLS, and believe the system's authorities.",
            rich_help_panel=_PROVING,
        ),
    ] = False,
    ca: Annotated[
        Path | None,
        typer.Option(
            envvar="IMS_CA",
            metavar="FILE",
            help="Connect by TLS, and believe these authorities.",
            rich_help_panel=_PROVING,
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            envvar="IMS_CERTIFICATE",
            metavar="FILE",
            help="Your certificate, where the service asks for one.",
            rich_help_panel=_PROVING,
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key", envvar="IMS_KEY", metavar="FILE", help="Its key.", rich_help_panel=_PROVING
        ),
    ] = None,
    json: Json = False,
    traceback: Annotated[bool, typer.Option("--traceback", hidden=True)] = False,
) -> None:
    """Image Management Service: keep virtual-machine images, and share them with other tenants.

    Exit codes: 0 done, 1 declined, 2 wrong usage, 3 not reached, 4 file trouble.
    """
    context.obj = Session(
        server=server,
        tenant=tenant,
        user=user,
        roles=tuple(role.strip() for role in roles.split(",") if role.strip()),
        region=region,
        connecting=Connecting(
            secure=secure,
            ca=ca,
            certificate=certificate,
            key=key,
            token_file=token_file,
            token_url=token_url,
            client_id=client_id,
            client_secret_file=client_secret_file,
            scope=scope,
        ),
        json=json,
        traceback=traceback,
    )


@app.command()
def version(context: typer.Context, *, json: Json = False) -> None:
    """Print the version of this program."""
    if json or context.obj.json:
        printing.print_json({"version": version_of("ims")})
    else:
        printing.console().print(f"ims {version_of('ims')}")
