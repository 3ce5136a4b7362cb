"""`ims migrate`: brings a catalogue's tables up to date."""

from pathlib import Path
from typing import Annotated

import typer

from ims.cli import printing
from ims.cli.errors import ExitCode
from ims.cli.session import Json


def migrate(
    context: typer.Context,
    *,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="See `ims serve`.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="See `ims serve`.")] = None,
    database_url: Annotated[str | None, typer.Option(metavar="URL", help="See `ims serve`.")] = None,
    json: Json = False,
) -> None:
    """Bring a catalogue's tables up to date, all or nothing; services on it may go on meanwhile.

    A catalogue in an SQLite file is brought up to date by `ims serve` itself.
    """
    flags = {"data": data, "database_url": database_url}
    overrides = {name: value for name, value in flags.items() if value is not None}
    # The server's rooms are imported where they are used: the client starts in a third of the time.
    from ims import bootstrap, settings  # noqa: PLC0415 - see above

    try:
        applied = bootstrap.migrate(settings.load(config, overrides))
    except settings.SettingsError as error:
        printing.console(stderr=True).print(
            f"ims cannot migrate: {str(error).rstrip('.')}.", soft_wrap=True
        )
        raise typer.Exit(ExitCode.WRONG_USAGE) from error
    if json or context.obj.json:
        printing.print_json({"applied": list(applied)})
    elif applied:
        printing.console().print(f"Applied {', '.join(applied)}.")
    else:
        printing.console().print("The catalogue is up to date.")
