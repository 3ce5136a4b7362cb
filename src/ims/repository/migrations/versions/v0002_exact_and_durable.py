"""Leases on what is being written, duties, quotas, and calls that are remembered."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def _text(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Add what several instances on one catalogue need."""
    op.add_column("pending_blobs", sa.Column("image_id", _text(36)))
    op.add_column(
        "pending_blobs", sa.Column("lease_until", sa.BigInteger, nullable=False, server_default="0")
    )
    op.create_index("pending_blobs_by_lease_until", "pending_blobs", ["lease_until"])
    _say_for_which_image_blobs_are_written()
    op.add_column("images", sa.Column("rendering", sa.LargeBinary))
    op.add_column("images", sa.Column("rendering_version", sa.Integer))
    op.add_column("images", sa.Column("rendering_format", sa.Integer))
    op.create_table(
        "tenants",
        sa.Column("id", _text(64)),
        sa.Column("private_images", sa.BigInteger, nullable=False),
        sa.Column("stored_bytes", sa.BigInteger, nullable=False),
        sa.Column("creations", sa.BigInteger, nullable=False),
        sa.Column("max_private_images", sa.BigInteger),
        sa.Column("max_stored_bytes", sa.BigInteger),
        sa.Column("max_creations", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="tenants_key"),
        sa.CheckConstraint("private_images >= 0", name=op.f("tenants_private_images_not_negative")),
        sa.CheckConstraint("stored_bytes >= 0", name=op.f("tenants_stored_bytes_not_negative")),
        sa.CheckConstraint("creations >= 0", name=op.f("tenants_creations_not_negative")),
    )
    op.create_table(
        "requests",
        sa.Column("tenant_id", _text(64)),
        sa.Column("request_id", _text(64)),
        sa.Column("method", _text(64), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("answer", sa.LargeBinary),
        sa.Column("expire_time", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "request_id", name="requests_key"),
    )
    op.create_index("requests_by_expire_time", "requests", ["expire_time"])
    duties = op.create_table(
        "duties",
        sa.Column("name", _text(64)),
        sa.Column("holder", _text(64), nullable=False),
        sa.Column("lease_until", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="duties_key"),
    )
    op.bulk_insert(duties, [{"name": "sweep", "holder": "", "lease_until": 0}])


def _say_for_which_image_blobs_are_written() -> None:
    """Have the next sweep give up the uploads that were running, and are no more."""
    connection = op.get_bind()
    saving = connection.execute(sa.text("SELECT id, disks FROM images WHERE state = 'SAVING'"))
    update = sa.text("UPDATE pending_blobs SET image_id = :image_id WHERE blob_key = :upload_id")
    for image_id, disks in saving.all():
        for disk in json.loads(disks):
            if disk["upload_id"]:
                connection.execute(update, {"image_id": image_id, "upload_id": disk["upload_id"]})
