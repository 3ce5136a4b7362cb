"""`ims trust …`: what your tenant says, once, of what others may share with it."""

from typing import Annotated, Any, Final

import typer

from ims.cli import printing
from ims.cli.session import Session, in_session
from ims.client import TrustRules
from ims.v1.sharing_service_pb2 import GetTrustRulesResponse, SetTrustRulesResponse

Owners = Annotated[list[str], typer.Argument(metavar="TENANT", help="Their ids.", show_default=False)]

_DEFAULT: Final = "default"
_TO_DEFAULT: Final = -1

app = typer.Typer(no_args_is_help=True)


@app.command()
@in_session
def show(session: Session) -> None:
    """Show whose shares are accepted at once, whose are not seen, and how many may be pending."""
    with session.client() as client:
        rules = client.get_trust_rules()
    session.answer(GetTrustRulesResponse(rules=rules), printing.trust_table(rules))


def _number(text: str) -> int:
    if text == _DEFAULT:
        return _TO_DEFAULT
    if not text.isdecimal():
        raise typer.BadParameter(f"{text!r} is no number, nor '{_DEFAULT}'.")
    return int(text)


@app.command("set")
@in_session
def set_rules(
    session: Session,
    *,
    accept_from: Annotated[
        list[str] | None,
        typer.Option(
            "--accept-from",
            metavar="TENANT",
            help="Accept at once what this one shares; said again for each, in place of those before.",
            show_default=False,
        ),
    ] = None,
    accept_from_nobody: Annotated[
        bool, typer.Option("--accept-from-nobody", help="Accept nothing at once.")
    ] = False,
    max_pending: Annotated[
        int | None,
        typer.Option(
            parser=_number,
            metavar="N|default",
            help="How many shares may be pending; 0 tolerates none.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Set whose shares are accepted at once, and how many may be pending."""
    if accept_from and accept_from_nobody:
        raise typer.BadParameter("Say --accept-from or --accept-from-nobody, not both.")
    rules: dict[str, Any] = {}
    if accept_from or accept_from_nobody:
        rules["auto_accept_from"] = accept_from or []
    if max_pending is not None:
        rules["max_pending_shares"] = None if max_pending == _TO_DEFAULT else max_pending
    if not rules:
        raise typer.BadParameter("Say --accept-from, --accept-from-nobody or --max-pending.")
    with session.client() as client:
        _answer(session, client.set_trust_rules(**rules))


@app.command()
@in_session
def block(session: Session, owners: Owners) -> None:
    """See nothing more of what some tenants share, but what you have accepted. They are not told."""
    with session.client() as client:
        _answer(session, client.block_owners(owners))


@app.command()
@in_session
def unblock(session: Session, owners: Owners) -> None:
    """See again what some tenants share, also what they have shared meanwhile."""
    with session.client() as client:
        _answer(session, client.unblock_owners(owners))


def _answer(session: Session, rules: TrustRules) -> None:
    session.answer(SetTrustRulesResponse(rules=rules), printing.trust_table(rules))
