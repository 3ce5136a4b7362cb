"""`ims doctor`: what in a catalogue and its blobs does not fit together, and its repair."""

from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from ims.cli import printing
from ims.cli.errors import ExitCode
from ims.cli.session import Json


def doctor(
    context: typer.Context,
    *,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="See `ims serve`.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="See `ims serve`.")] = None,
    database_url: Annotated[str | None, typer.Option(metavar="URL", help="See `ims serve`.")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what can be mended; else only tell.")
    ] = False,
    settled_minutes: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Leave alone what came up in the last N minutes; 0 with no service."
        ),
    ] = 60,
    json: Json = False,
) -> None:
    """Recount every counter, and look for records without bytes, bytes without records and leftovers.

    Services on the same catalogue may go on meanwhile. Missing bytes cannot be mended, only told. Exit
    codes: 0 when nothing is wrong any more, 1 when something is.
    """
    flags = {"data": data, "database_url": database_url}
    overrides = {name: value for name, value in flags.items() if value is not None}
    # The server's rooms are imported where they are used: the client starts in a third of the time.
    from ims import bootstrap, settings  # noqa: PLC0415 - see above
    from ims.domain.rejection import Rejection  # noqa: PLC0415 - see above

    as_json = json or context.obj.json
    told, left = [], 0
    with ExitStack() as stack:
        try:
            findings = stack.enter_context(
                bootstrap.examined(
                    settings.load(config, overrides), settled=timedelta(minutes=settled_minutes)
                )
            )
            for finding in findings:
                mended = repair and finding.mend is not None
                if mended and finding.mend is not None:
                    finding.mend()
                left += not mended
                told.append(
                    {
                        "check": finding.check,
                        "subject": finding.subject,
                        "message": finding.message,
                        "mendable": finding.mend is not None,
                        "mended": mended,
                    }
                )
                if not as_json:
                    end = " Mended." if mended else "" if finding.mend else " Cannot be mended."
                    printing.print_for_people(f"{finding.subject}: {finding.message}{end}")
        except (settings.SettingsError, Rejection) as error:
            printing.console(stderr=True).print(
                f"ims cannot look: {str(error).rstrip('.')}.", soft_wrap=True
            )
            raise typer.Exit(ExitCode.WRONG_USAGE) from error
    if as_json:
        printing.print_json({"findings": told, "left": left})
    else:
        printing.print_for_people(_summary(len(told), left, repair=repair))
    raise typer.Exit(ExitCode.DECLINED if left else ExitCode.OK)


def _summary(found: int, left: int, *, repair: bool) -> str:
    if not found:
        return "Nothing is wrong."
    if repair:
        return f"{printing.count(found, 'finding')}, {found - left} of them mended."
    return f"{printing.count(found, 'finding')}. `--repair` mends what can be mended."
