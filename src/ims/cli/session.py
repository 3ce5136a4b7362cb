"""What holds for a whole run of the command: who calls whom, and how answers are printed."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, cast

import typer
from google.protobuf.message import Message
from rich.console import RenderableType

from ims.cli import printing
from ims.cli.connecting import Connecting
from ims.client import Client

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, for scripts.")]


@dataclass
class Session:
    """One run of the command."""

    server: str
    tenant: str
    user: str
    roles: tuple[str, ...]
    region: str
    connecting: Connecting
    json: bool
    """Whether a program reads what is printed."""
    traceback: bool
    """Whether a mistake of ours is shown with all its calls."""
    command: str = "ims"
    """Which command runs, for instance `ims share add`."""

    def client(self) -> Client:
        """Return a client for the caller, not yet connected."""
        proven = self.connecting.credentials()
        if not self.tenant and proven is None:
            raise typer.BadParameter(
                "Say who calls, here or in IMS_TENANT; or prove it, with a token or a certificate.",
                param_hint="--tenant",
            )
        try:
            return Client(
                self.server,
                tenant=self.tenant,
                user=self.user,
                roles=self.roles,
                region=self.region,
                credentials=proven,
                tls=self.connecting.tls(),
            )
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

    def answer(self, message: Message, for_people: RenderableType) -> None:
        """Print an answer: the message itself for programs, or what people read."""
        if self.json:
            printing.print_json(printing.as_json(message))
        else:
            printing.print_for_people(for_people)


def in_session(command: Callable[..., None]) -> Callable[..., None]:
    """Make a typer command of a function: it gets the session, and the option `--json`."""

    @wraps(command)
    def run(context: typer.Context, *args: object, json: bool, **options: object) -> None:
        session: Session = context.obj
        session.json |= json
        session.command = context.command_path
        command(session, *args, **options)

    _, *parameters = inspect.signature(command).parameters.values()
    keyword_only = inspect.Parameter.KEYWORD_ONLY
    cast("Any", run).__signature__ = inspect.Signature(
        [
            inspect.Parameter(
                "context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
            ),
            *parameters,
            inspect.Parameter("json", keyword_only, annotation=Json, default=False),
        ]
    )
    return run
