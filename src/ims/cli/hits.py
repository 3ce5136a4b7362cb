"""Asking beforehand what taking an image away would hit."""

from typing import Annotated

import typer

from ims.cli import printing
from ims.cli.advice import on_refusals
from ims.cli.errors import ExitCode
from ims.cli.session import Session
from ims.client.vocabulary import DeleteImageResponse, UnshareImageResponse

DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", "--validate-only", help="Change nothing; tell what would be hit, and refused."
    ),
]
RequireUnused = Annotated[
    bool,
    typer.Option("--require-unused", help="Only if no server or volume made from it is registered."),
]


def answer_about_hits(
    session: Session, response: DeleteImageResponse | UnshareImageResponse, outcome: str
) -> None:
    """Print what would be hit. Exits with DECLINED when it would be refused."""
    advice = on_refusals(response.refusals)
    told = printing.hits(response.usage, response.refusals, outcome=outcome, advice=advice)
    session.answer(response, told)
    if response.refusals:
        raise typer.Exit(ExitCode.DECLINED)
