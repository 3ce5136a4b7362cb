"""Work that outlives its call, copies at once, and blobs that more than one disk names."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def _text(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Add the operations, the quota of copies, and the counts of shared blobs."""
    op.create_table(
        "operations",
        sa.Column("id", _text(36)),
        sa.Column("tenant_id", _text(64), nullable=False),
        sa.Column("kind", _text(32), nullable=False),
        sa.Column("state", _text(16), nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("image_id", _text(36), nullable=False),
        sa.Column("source_image_id", _text(36), nullable=False),
        sa.Column("done_bytes", sa.BigInteger, nullable=False),
        sa.Column("total_bytes", sa.BigInteger, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("update_time", sa.BigInteger, nullable=False),
        sa.Column("end_time", sa.BigInteger),
        sa.Column("expire_time", sa.BigInteger),
        sa.Column("lease_holder", _text(64), nullable=False),
        sa.Column("lease_until", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="operations_key"),
        sa.CheckConstraint(
            "(end_time IS NOT NULL) = (state IN ('SUCCEEDED', 'FAILED', 'CANCELLED'))",
            name=op.f("operations_end_time_when_ended"),
        ),
    )
    op.create_index(
        "operations_by_tenant_id_create_time_id", "operations", ["tenant_id", "create_time", "id"]
    )
    _add_partial_index("unfinished", "end_time IS NULL", "create_time", "id")
    _add_partial_index("ended", "expire_time IS NOT NULL", "expire_time")
    op.create_table(
        "shared_blobs",
        sa.Column("blob_key", _text(64)),
        sa.Column("reference_count", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("blob_key", name="shared_blobs_key"),
        sa.CheckConstraint("reference_count >= 1", name=op.f("shared_blobs_reference_count_positive")),
    )
    op.add_column("tenants", sa.Column("copies", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("tenants", sa.Column("max_copies", sa.BigInteger))


def _add_partial_index(name: str, only: str, *columns: str) -> None:
    op.create_index(
        f"operations_{name}_by_{'_'.join(columns)}",
        "operations",
        list(columns),
        sqlite_where=sa.text(only),
        postgresql_where=sa.text(only),
    )
