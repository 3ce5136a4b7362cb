"""Shares that end by themselves, and whom recipients trust."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def _text(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Add when shares end, and the rules of recipients."""
    op.add_column("shares", sa.Column("expire_time", sa.BigInteger))
    only = sa.text("expire_time IS NOT NULL")
    op.create_index(
        "shares_ending_by_expire_time",
        "shares",
        ["expire_time"],
        sqlite_where=only,
        postgresql_where=only,
    )
    op.create_table(
        "trust_rules",
        sa.Column("tenant_id", _text(64)),
        sa.Column("region", _text(64), nullable=False),
        sa.Column("max_pending_shares", sa.BigInteger),
        sa.Column("version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name="trust_rules_key"),
    )
    op.create_table(
        "trust_in_owners",
        sa.Column("tenant_id", _text(64)),
        sa.Column("owner", _text(64)),
        sa.Column("attitude", _text(16), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "owner", name="trust_in_owners_key"),
    )
