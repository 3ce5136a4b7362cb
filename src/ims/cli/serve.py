"""`ims serve`: starts the service."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ims.cli import printing
from ims.cli.errors import ExitCode


def serve(
    context: typer.Context,
    *,
    listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Where to serve; port 0 takes any. [127.0.0.1:50051]"),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder for catalogue and blobs. [./data]")
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="A TOML file of settings.")] = None,
    region: Annotated[
        str | None, typer.Option(metavar="REGION", help="The region that is served. [local]")
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where the catalogue is, if not in the data folder."),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The keys for encryption. [DIR/keys.toml]")
    ] = None,
    allow_development_identity_on_network: Annotated[
        bool,
        typer.Option(
            "--allow-development-identity-on-network",
            help="Serve where others can reach it, though everybody is whoever they say they are.",
        ),
    ] = False,
) -> None:
    """Start the service, and serve until SIGTERM.

    Flags go before IMS_… in the environment, and that before the settings file.
    """
    flags = {
        "listen": listen,
        "data": data,
        # Before the command, --region says where a caller is: on this machine, that is here.
        "region": region or context.obj.region or None,
        "database_url": database_url,
        "key_file": key_file,
        "allow_development_identity_on_network": allow_development_identity_on_network or None,
    }
    overrides = {name: value for name, value in flags.items() if value is not None}
    raise typer.Exit(_run(config, overrides))


def _run(config: Path | None, overrides: dict[str, Any]) -> int:
    # The server's rooms are imported where they are used: the client starts in a third of the time.
    from ims import bootstrap, settings  # noqa: PLC0415 - see above

    try:
        return bootstrap.run(settings.load(config, overrides))
    except settings.SettingsError as error:
        printing.console(stderr=True).print(
            f"ims cannot start: {str(error).rstrip('.')}.", soft_wrap=True
        )
        return ExitCode.WRONG_USAGE
