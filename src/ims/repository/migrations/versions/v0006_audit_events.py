"""Who did what, for every tenant that may know of it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def _text(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Add the audit events."""
    op.create_table(
        "audit_events",
        sa.Column("seen_by", _text(64)),
        sa.Column("time", sa.BigInteger),
        sa.Column("id", _text(36)),
        sa.Column("action", _text(64), nullable=False),
        sa.Column("actor_kind", _text(16), nullable=False),
        sa.Column("actor_tenant", _text(64), nullable=False),
        sa.Column("actor_user", sa.Text, nullable=False),
        sa.Column("acting_for", _text(64), nullable=False),
        sa.Column("image_id", _text(36), nullable=False),
        sa.Column("image_name", _text(128), nullable=False),
        sa.Column("image_owner", _text(64), nullable=False),
        sa.Column("counterpart", _text(64), nullable=False),
        sa.Column("request_id", _text(64), nullable=False),
        sa.Column("call_id", _text(64), nullable=False),
        sa.Column("result", _text(64), nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("seen_by", "time", "id", name="audit_events_key"),
    )
    op.create_index(
        "audit_events_by_seen_by_image_id_time_id",
        "audit_events",
        ["seen_by", "image_id", "time", "id"],
    )
    op.create_index("audit_events_by_time", "audit_events", ["time"])
