"""`ims quota …`: what a tenant has taken of its quotas, and how much it can have."""

import re
from typing import Annotated, Any, Final

import typer

from ims.cli import printing
from ims.cli.session import Json, Session, in_session
from ims.v1.admin_service_pb2 import GetTenantQuotasResponse, SetTenantQuotasResponse
from ims.v1.image_service_pb2 import GetQuotasResponse

TenantArgument = Annotated[
    str, typer.Argument(metavar="TENANT", help="The tenant's id.", show_default=False)
]

_DEFAULT: Final = "default"
_TO_DEFAULT: Final = -1
_SIZE: Final = re.compile(r"(\d+) ?(?:([KMGTP])iB|B)?", re.ASCII | re.IGNORECASE)
_UNITS: Final[dict[str, int]] = {
    unit: 1024**power for power, unit in enumerate(("", "K", "M", "G", "T", "P"))
}

app = typer.Typer(invoke_without_command=True)


@app.callback()
def own(context: typer.Context, *, json: Json = False) -> None:
    """Show your tenant's quotas: what it has, and how much it can have."""
    if context.invoked_subcommand is None:
        session: Session = context.obj
        session.json |= json
        session.command = context.command_path
        with session.client() as client:
            quotas = client.get_quotas()
        session.answer(GetQuotasResponse(quotas=quotas), printing.quota_table(quotas))


@app.command()
@in_session
def show(session: Session, tenant: TenantArgument) -> None:
    """Show any tenant's quotas, as an administrator (--roles admin)."""
    with session.client() as client:
        quotas = client.get_tenant_quotas(tenant)
    session.answer(GetTenantQuotasResponse(quotas=quotas), printing.quota_table(quotas))


def _number(text: str) -> int:
    if text == _DEFAULT:
        return _TO_DEFAULT
    if not text.isdecimal():
        raise typer.BadParameter(f"{text!r} is no number, nor '{_DEFAULT}'.")
    return int(text)


def _size(text: str) -> int:
    """Return how many bytes `10TiB` or `1000` are."""
    if text == _DEFAULT:
        return _TO_DEFAULT
    found = _SIZE.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is no size such as 10TiB, nor '{_DEFAULT}'.")
    number, unit = found.groups(default="")
    return int(number) * _UNITS[unit.upper()]


@app.command("set")
@in_session
def set_quotas(
    session: Session,
    tenant: TenantArgument,
    *,
    images: Annotated[
        int | None,
        typer.Option(parser=_number, metavar="N|default", help="Private images.", show_default=False),
    ] = None,
    stored_bytes: Annotated[
        int | None,
        typer.Option(
            "--bytes",
            parser=_size,
            metavar="SIZE|default",
            help="Bytes stored, for instance 10TiB.",
            show_default=False,
        ),
    ] = None,
    creations: Annotated[
        int | None,
        typer.Option(
            parser=_number,
            metavar="N|default",
            help="Images being filled at once.",
            show_default=False,
        ),
    ] = None,
    copies: Annotated[
        int | None,
        typer.Option(
            parser=_number,
            metavar="N|default",
            help="Copies at once whose bytes change.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Give a tenant limits of its own, or the default ones back, as an administrator (--roles admin)."""
    given = {
        "private_images": images,
        "stored_bytes": stored_bytes,
        "creations": creations,
        "copies": copies,
    }
    limits: Any = {
        quota: None if limit == _TO_DEFAULT else limit
        for quota, limit in given.items()
        if limit is not None
    }
    if not limits:
        raise typer.BadParameter("Say at least one limit: --images, --bytes, --creations or --copies.")
    with session.client() as client:
        quotas = client.set_tenant_quotas(tenant, **limits)
    session.answer(SetTenantQuotasResponse(quotas=quotas), printing.quota_table(quotas))
