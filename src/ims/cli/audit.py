"""`ims audit …`: who did what."""

import json
from datetime import datetime
from itertools import islice
from typing import Annotated

import typer

from ims.cli import lookup, printing
from ims.cli.choices import moment
from ims.cli.session import Session, in_session
from ims.client import Client
from ims.client.audit import AuditFilter
from ims.v1.audit_service_pb2 import ListAuditEventsResponse

ImageArgument = Annotated[
    str,
    typer.Argument(
        metavar="[IMAGE]",
        help="Only of this image: its id or name; of a lost one its id.",
        show_default=False,
    ),
]
Action = Annotated[
    str, typer.Option(metavar="ACTION", help="Only this, for instance ShareImage.", show_default=False)
]
ActorTenant = Annotated[
    str, typer.Option("--actor", metavar="TENANT", help="Only what it did.", show_default=False)
]
Counterpart = Annotated[
    str,
    typer.Option(metavar="TENANT", help="Only what is about it beside the owner.", show_default=False),
]
Result = Annotated[
    str, typer.Option(metavar="RESULT", help="Only this: OK, or a reason.", show_default=False)
]
TimeFrom = Annotated[datetime | None, moment("--from", help="Only from this time on.")]
TimeBefore = Annotated[datetime | None, moment("--before", help="Only before this time.")]
ForTenant = Annotated[
    str,
    typer.Option(
        metavar="TENANT", help="What this tenant sees; only with the role admin.", show_default=False
    ),
]

app = typer.Typer(no_args_is_help=True)


@app.command("list")
@in_session
def list_events(
    session: Session,
    image: ImageArgument = "",
    *,
    action: Action = "",
    actor: ActorTenant = "",
    counterpart: Counterpart = "",
    result: Result = "",
    time_from: TimeFrom = None,
    time_before: TimeBefore = None,
    for_tenant: ForTenant = "",
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="The oldest first.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100,
) -> None:
    """List what was done to your images and what concerns you, the newest first."""
    with session.client() as client:
        wanted = _wanted(client, image, action, actor, counterpart, result, time_from, time_before)
        found = client.list_audit_events(
            tenant_id=for_tenant, oldest_first=oldest_first, page_size=limit, **wanted
        )
        events = list(islice(found, limit))
    session.answer(ListAuditEventsResponse(events=events), printing.audit_table(events))


@app.command()
@in_session
def export(
    session: Session,
    image: ImageArgument = "",
    *,
    action: Action = "",
    actor: ActorTenant = "",
    counterpart: Counterpart = "",
    result: Result = "",
    time_from: TimeFrom = None,
    time_before: TimeBefore = None,
    for_tenant: ForTenant = "",
) -> None:
    """Print everything as JSON lines, the oldest first: one event a line."""
    with session.client() as client:
        wanted = _wanted(client, image, action, actor, counterpart, result, time_from, time_before)
        for event in client.export_audit_events(tenant_id=for_tenant, **wanted):
            typer.echo(json.dumps(printing.as_json(event), sort_keys=True))


def _wanted(
    client: Client,
    image: str,
    action: str,
    actor: str,
    counterpart: str,
    result: str,
    time_from: datetime | None,
    time_before: datetime | None,
) -> AuditFilter:
    return {
        "image_id": lookup.image_id(client, image) if image else "",
        "action": action,
        "actor_tenant_id": actor,
        "counterpart_tenant_id": counterpart,
        "result": result,
        "time_from": time_from,
        "time_before": time_before,
    }
