"""Uploads of files that are converted."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add what the file of an upload is, where that is not what the disk is to be."""
    text = sa.String(16).with_variant(sa.String(16, collation="C"), "postgresql")
    op.add_column("uploads", sa.Column("source_format", text))
    op.add_column("uploads", sa.Column("ova", sa.Boolean, nullable=False, server_default=sa.false()))
