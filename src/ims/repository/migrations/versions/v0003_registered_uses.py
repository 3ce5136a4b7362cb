"""Servers and volumes that were made from images."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def _text(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Add the uses."""
    op.create_table(
        "uses",
        sa.Column("image_id", _text(36)),
        sa.Column("tenant_id", _text(64)),
        sa.Column("kind", _text(8)),
        sa.Column("consumer_id", _text(64)),
        sa.Column("registered_by", _text(64), nullable=False),
        sa.Column("relation", _text(16), nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("image_id", "tenant_id", "kind", "consumer_id", name="uses_key"),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name="uses_image_id_exists", ondelete="CASCADE"
        ),
    )
    op.create_index(
        "uses_by_tenant_id_image_id_kind_consumer_id",
        "uses",
        ["tenant_id", "image_id", "kind", "consumer_id"],
    )
