"""Uploads whose bytes are brought to the store itself."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add how large the parts of a direct upload are, and what the store calls it."""
    op.add_column("uploads", sa.Column("part_bytes", sa.Integer, nullable=False, server_default="0"))
    op.add_column("uploads", sa.Column("store_upload_id", sa.Text))
