"""`ims key …`: the key file of a server."""

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
    file: Annotated[Path, typer.Option(metavar="PATH", help="The key file; made if there is none.")],
    tenant: Annotated[
        str | None, typer.Option(metavar="TENANT", help="The only tenant that may use it.")
    ] = None,
) -> None:
    """Add a fresh key to a server's key file. A running server knows it at once."""
    # The server's rooms are imported where they are used: the client starts in a third of the time.
    from ims.providers.keys import KeyFileError, add_key  # noqa: PLC0415 - see above

    try:
        add_key(file, key_id, tenant=tenant)  # type: ignore[arg-type]  # ids have no type on this side
    except KeyFileError as error:
        printing.console(stderr=True).print(f"{file}: {error}", soft_wrap=True)
        raise typer.Exit(ExitCode.FILE_TROUBLE) from error
    printing.console().print(f"Added {key_id} to {file}.")
