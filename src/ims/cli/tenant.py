"""`ims tenant …`: who the tenants are, and what they may do, for administrators."""

from typing import Annotated

import typer

from ims.cli import printing
from ims.cli.choices import choice
from ims.cli.quota import TenantArgument
from ims.cli.session import Session, in_session
from ims.client import Tenant
from ims.client.vocabulary import SharingPolicy, TenantState
from ims.v1.admin_service_pb2 import (
    GetSharingPolicyResponse,
    GetTenantResponse,
    ListTenantsResponse,
    RegisterTenantResponse,
    ResumeTenantResponse,
    SetSharingPolicyResponse,
    SuspendTenantResponse,
    UpdateTenantResponse,
)

OneTenant = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's id.", show_default=False)]
Everybody = Annotated[bool, typer.Option("--everybody", help="All tenants together.")]

app = typer.Typer(no_args_is_help=True)


@app.command()
@in_session
def register(
    session: Session,
    tenant: TenantArgument,
    *,
    at_home_in: Annotated[str, typer.Option("--in", metavar="REGION", help="Where it is at home.")],
) -> None:
    """Have the directory name a tenant, and where it is at home."""
    with session.client() as client:
        registered = client.register_tenant(tenant, at_home_in)
    session.answer(RegisterTenantResponse(tenant=registered), printing.tenant_sheet(registered))


@app.command()
@in_session
def move(
    session: Session,
    tenant: TenantArgument,
    region: Annotated[
        str, typer.Argument(metavar="REGION", help="Where it is at home.", show_default=False)
    ],
) -> None:
    """Say where a tenant is at home from now on; its images and shares stay."""
    with session.client() as client:
        moved = client.update_tenant(tenant, region=region)
    session.answer(UpdateTenantResponse(tenant=moved), printing.tenant_sheet(moved))


@app.command()
@in_session
def suspend(session: Session, tenant: TenantArgument) -> None:
    """Suspend a tenant: it can do nothing, and what it shares is served to nobody."""
    with session.client() as client:
        suspended = client.suspend_tenant(tenant)
    session.answer(SuspendTenantResponse(tenant=suspended), f"Suspended {_title(suspended)}.")


@app.command()
@in_session
def resume(session: Session, tenant: TenantArgument) -> None:
    """Resume a suspended tenant: all is as it was before."""
    with session.client() as client:
        resumed = client.resume_tenant(tenant)
    session.answer(ResumeTenantResponse(tenant=resumed), f"Resumed {_title(resumed)}.")


@app.command()
@in_session
def show(session: Session, tenant: TenantArgument) -> None:
    """Show a tenant as the directory has it."""
    with session.client() as client:
        found = client.get_tenant(tenant)
    session.answer(GetTenantResponse(tenant=found), printing.tenant_sheet(found))


@app.command("list")
@in_session
def list_tenants(
    session: Session,
    *,
    state: Annotated[
        TenantState | None, choice("--state", words=Tenant.State, help="Only in this state.")
    ] = None,
    region: Annotated[
        str, typer.Option("--in", metavar="REGION", help="Only those at home there.")
    ] = "",
) -> None:
    """List the tenants that the directory names."""
    with session.client() as client:
        found = list(client.list_tenants(state=state or Tenant.STATE_UNSPECIFIED, region=region))
    session.answer(ListTenantsResponse(tenants=found), printing.tenant_table(found))


@app.command()
@in_session
def block_sharing(session: Session, tenant: OneTenant = "", *, everybody: Everybody = False) -> None:
    """Block new shares, of a tenant or of all; the shares that there are stay."""
    _set_sharing(session, tenant, everybody=everybody, blocked=True)


@app.command()
@in_session
def allow_sharing(session: Session, tenant: OneTenant = "", *, everybody: Everybody = False) -> None:
    """Allow new shares again, of a tenant or of all."""
    _set_sharing(session, tenant, everybody=everybody, blocked=False)


def _set_sharing(session: Session, tenant: str, *, everybody: bool, blocked: bool) -> None:
    if everybody == bool(tenant):
        raise typer.BadParameter("Name a tenant, or say --everybody; one of both, not both.")
    with session.client() as client:
        if everybody:
            policy = client.set_sharing_policy(new_shares_blocked=blocked)
            session.answer(SetSharingPolicyResponse(policy=policy), _policy(policy))
        else:
            changed = client.update_tenant(tenant, sharing_blocked=blocked)
            session.answer(UpdateTenantResponse(tenant=changed), printing.tenant_sheet(changed))


@app.command()
@in_session
def sharing_policy(session: Session) -> None:
    """Show whether new shares are blocked for everybody."""
    with session.client() as client:
        policy = client.get_sharing_policy()
    session.answer(GetSharingPolicyResponse(policy=policy), _policy(policy))


def _policy(policy: SharingPolicy) -> str:
    if policy.new_shares_blocked:
        return "New shares are blocked for everybody."
    return "New shares are allowed, but for tenants that are blocked themselves."


def _title(tenant: Tenant) -> str:
    return printing.plain(f"{tenant.id} ({tenant.region})")
