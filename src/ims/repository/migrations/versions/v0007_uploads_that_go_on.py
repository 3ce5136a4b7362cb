"""Uploads that can be interrupted and gone on with."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def _text(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Add the uploads."""
    op.create_table(
        "uploads",
        sa.Column("blob_key", _text(64)),
        sa.Column("disk_index", sa.Integer, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", _text(64), nullable=False),
        sa.Column("wrapped_data_key", sa.LargeBinary, nullable=False),
        sa.Column("seal_runs", sa.Text, nullable=False),
        sa.Column("writers", sa.Integer, nullable=False),
        sa.Column("findings", sa.Text),
        sa.PrimaryKeyConstraint("blob_key", name="uploads_key"),
        sa.ForeignKeyConstraint(
            ["blob_key"],
            ["pending_blobs.blob_key"],
            name="uploads_blob_key_exists",
            ondelete="CASCADE",
        ),
    )
