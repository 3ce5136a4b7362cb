"""`ims key …`: the key file of a server, where it has one and no key server."""

from pathlib import Path
from typing import Annotated

import typer

from ims.cli import printing
from ims.cli.errors import ExitCode

app = typer.Typer(no_args_is_help=True)


@app.callback()
def key() -> None:
    """Keep a server's keys."""


@app.command()
def new(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="1 to 64 of a-z, 0-9 and '-'.")],
    *,
    file: Annotated[
        Path | None, typer.Option(metavar="PATH", help="The key file; made if there is none.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Or the server's settings, which say where its keys are."),
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(metavar="TENANT", help="The only tenant that may use it.")
    ] = None,
) -> None:
    """Add a fresh key to a server's key file. A running server knows it at once.

    The keys of a server that takes them from a key server (setting `transit`) are made there.
    """
    if (file is None) == (config is None):
        raise typer.BadParameter("say where the key goes: --file PATH or --config FILE")
    file = file or _key_file(config, key_id, tenant)
    # The server's rooms are imported where they are used: the client starts in a third of the time.
    from ims.providers.keys import KeyFileError, add_key  # noqa: PLC0415 - see above

    try:
        add_key(file, key_id, tenant=tenant)  # type: ignore[arg-type]  # ids have no type on this side
    except KeyFileError as error:
        printing.console(stderr=True).print(f"{file}: {error}", soft_wrap=True)
        raise typer.Exit(ExitCode.FILE_TROUBLE) from error
    printing.console().print(f"Added {key_id} to {file}.")


def _key_file(config: Path | None, key_id: str, tenant: str | None) -> Path:
    """Return the key file that settings name; end the command where they name a key server."""
    from ims.settings import SettingsError, load  # noqa: PLC0415 - see above

    try:
        settings = load(config, {})
    except SettingsError as error:
        printing.console(stderr=True).print(f"cannot tell where keys are: {error}", soft_wrap=True)
        raise typer.Exit(ExitCode.WRONG_USAGE) from error
    transit = settings.transit
    if transit is None:
        return settings.keys
    name = key_id if tenant is None else f"{tenant}.{key_id}"
    printing.console(stderr=True).print(
        f"This server takes its keys from the key server at {transit.url}, and looks into no file. "
        f"Make the key there, for instance: bao write -f {transit.mount}/keys/{name}",
        soft_wrap=True,
    )
    raise typer.Exit(ExitCode.WRONG_USAGE)
