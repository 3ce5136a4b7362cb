"""The tenant directory, suspension, blocks on new shares, and deactivation by administrators."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def _text(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Add what administrators say of tenants and images."""
    op.add_column(
        "images",
        sa.Column("deactivated_by_admin", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    op.add_column("tenants", sa.Column("region", _text(64)))
    op.add_column("tenants", sa.Column("register_time", sa.BigInteger))
    op.add_column("tenants", sa.Column("suspend_time", sa.BigInteger))
    op.add_column(
        "tenants", sa.Column("sharing_blocked", sa.Boolean, nullable=False, server_default=sa.false())
    )
    suspended = sa.text("suspend_time IS NOT NULL")
    op.create_index(
        "tenants_suspended_by_id", "tenants", ["id"], sqlite_where=suspended, postgresql_where=suspended
    )
    op.create_table(
        "policies",
        sa.Column("name", _text(64)),
        sa.Column("in_force", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("name", name="policies_key"),
    )
