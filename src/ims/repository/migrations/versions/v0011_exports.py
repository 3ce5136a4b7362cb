"""Images that are never exported, and how far an operation has come."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the mark of non-exportable images, and a place for what an operation leaves to be taken up."""
    op.add_column(
        "images", sa.Column("non_exportable", sa.Boolean, nullable=False, server_default=sa.false())
    )
    op.add_column("operations", sa.Column("place", sa.Text))
