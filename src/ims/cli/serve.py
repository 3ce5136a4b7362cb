"""`ims serve`: starts the service."""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ims.cli import printing
from ims.cli.errors import ExitCode

if TYPE_CHECKING:
    from ims.bootstrap import Service
    from ims.settings import Settings


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
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", help="How many processes serve. [one a processor core]"),
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
        "workers": workers,
        "allow_development_identity_on_network": allow_development_identity_on_network or None,
    }
    overrides = {name: value for name, value in flags.items() if value is not None}
    raise typer.Exit(_run(config, overrides))


def _run(config: Path | None, overrides: dict[str, Any]) -> int:
    # The server's rooms are imported where they are used: the client starts in a third of the time.
    from ims.settings import SettingsError, load  # noqa: PLC0415 - see above
    from ims.supervisor import WorkersKeepDying  # noqa: PLC0415 - see above

    try:
        _serve(load(config, overrides))
    except SettingsError as error:
        return _say(f"cannot start: {error}", ExitCode.WRONG_USAGE)
    except WorkersKeepDying as error:
        return _say(f"has ended: {error}", ExitCode.MISTAKE)
    return ExitCode.OK


def _serve(settings: "Settings") -> None:
    from ims import logs  # noqa: PLC0415 - see above
    from ims.listening import HeldAddress  # noqa: PLC0415 - see above
    from ims.supervisor import Supervisor  # noqa: PLC0415 - see above

    logs.log_as_json()
    with HeldAddress(settings.listen) as address:
        settings = settings.model_copy(update={"listen": address.listen})

        def prepare() -> None:
            from ims.bootstrap import prepare  # noqa: PLC0415 - only in a process that ends

            prepare(settings)

        def make_service() -> "Service":
            from ims.bootstrap import Service  # noqa: PLC0415 - only in a worker

            address.close()
            return Service(settings, shares_port=True)

        supervisor = Supervisor(
            make_service, workers=settings.workers, drain_seconds=settings.drain_seconds
        )
        supervisor.run(prepare, lambda: _greet(settings))


def _greet(settings: "Settings") -> None:
    where = (settings.database_url and "a database") or settings.catalogue_url.removeprefix("sqlite:///")
    processes = "1 worker" if settings.workers == 1 else f"{settings.workers} workers"
    print(  # noqa: T201 - what the command is for
        f"ims {version('ims')} listens on {settings.listen}, region {settings.region}, {processes}, "
        f"{_identities(settings)}\n"
        f"  catalogue  {where}\n"
        f"  blobs      {settings.blob_place}\n"
        f"  try        grpcurl {_how(settings)} {settings.listen} "
        "ims.v1.ImageService/ListImages",
        flush=True,
    )


def _identities(settings: "Settings") -> str:
    """Return how connections are secured and by what callers are known."""
    proofs = [
        *(["tokens"] if settings.oidc else []),
        *(["client certificates"] if settings.tls and settings.tls.clients else []),
    ]
    known_by = " and ".join(proofs) or "development identity"
    return f"TLS, {known_by}" if settings.tls else known_by


def _how(settings: "Settings") -> str:
    """Return the options to call it with from this machine."""
    secured = "-plaintext" if settings.tls is None else "-cacert CA.pem"
    if settings.tls and settings.tls.clients:
        secured += " -cert CLIENT.pem -key CLIENT-KEY.pem"
        if not settings.oidc:
            return secured
    return f"{secured} -H '{'authorization: Bearer TOKEN' if settings.oidc else 'ims-tenant: acme'}'"


def _say(sentence: str, code: ExitCode) -> ExitCode:
    printing.console(stderr=True).print(f"ims {sentence.rstrip('.')}.", soft_wrap=True)
    return code
