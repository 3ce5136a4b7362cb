"""Leases on what is being written, duties, quotas, and calls that are remembered."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

BATCH = 1000


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
    _prepare_listings()
    tenants = op.create_table(
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
    op.bulk_insert(tenants, _what_tenants_use())
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
    op.create_table(
        "secrets",
        sa.Column("name", _text(64)),
        sa.Column("value", sa.LargeBinary(64), nullable=False),
        sa.PrimaryKeyConstraint("name", name="secrets_key"),
    )
    duties = op.create_table(
        "duties",
        sa.Column("name", _text(64)),
        sa.Column("holder", _text(64), nullable=False),
        sa.Column("lease_until", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="duties_key"),
    )
    op.bulk_insert(duties, [{"name": "sweep", "holder": "", "lease_until": 0}])


def _prepare_listings() -> None:
    """Have everything stand where a page of a listing is walked in its order."""
    op.add_column("images", sa.Column("rendering", sa.LargeBinary))
    op.add_column("images", sa.Column("rendering_version", sa.Integer))
    op.add_column("images", sa.Column("rendering_format", sa.Integer))
    op.add_column("images", sa.Column("size_bytes", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("tags", sa.Column("owner", _text(64)))
    op.add_column("tags", sa.Column("public", sa.Boolean))
    op.add_column("tags", sa.Column("create_time", sa.BigInteger))
    op.add_column("shares", sa.Column("image_owner", _text(64)))
    op.add_column("shares", sa.Column("image_create_time", sa.BigInteger))
    op.add_column("shares", sa.Column("image_name", _text(128)))
    op.add_column("shares", sa.Column("image_size_bytes", sa.BigInteger))
    _sum_up_sizes()
    # Lists rely on it; a clock may once have been set back.
    op.execute("UPDATE images SET update_time = create_time WHERE update_time < create_time")
    _copy_into("tags", owner="owner", public="public", create_time="create_time")
    _copy_into(
        "shares",
        image_owner="owner",
        image_create_time="create_time",
        image_name="name",
        image_size_bytes="size_bytes",
    )
    op.drop_index("images_by_owner_create_time_id", "images")
    op.drop_index("images_by_public_create_time_id", "images")
    _index("images", "owner", "state", "create_time", "id")
    live = sa.text("state != 'DELETED'")
    _index("images", "owner", "create_time", "id", live=live)
    _index("images", "owner", "size_bytes", "id", live=live)
    _index("images", "owner", "type", "create_time", "id", live=live)
    _index("images", "owner", "os_type", "create_time", "id", live=live)
    _index("images", "owner", "update_time", live=live)
    public = sa.text("public")
    _index("images", "create_time", "id", public=public)
    _index("images", "name", "id", public=public)
    _index("images", "size_bytes", "id", public=public)
    _index("images", "owner", "create_time", "id", public=public)
    _index("images", "state", "create_time", "id", public=public)
    _index("images", "type", "create_time", "id", public=public)
    _index("images", "os_type", "create_time", "id", public=public)
    _index("images", "update_time", public=public)
    _index("images", "type")
    _index("images", "os_type")
    _index("tags", "owner", "key", "value", "create_time", "image_id")
    _index("tags", "key", "value", "create_time", "image_id", public=public)
    _index("shares", "tenant_id", "status", "create_time", "image_id")
    _index("shares", "tenant_id", "status", "image_create_time", "image_id")
    _index("shares", "tenant_id", "status", "image_name", "image_id")
    _index("shares", "tenant_id", "status", "image_size_bytes", "image_id")
    _index("shares", "image_owner", "image_create_time", "image_id")


def _index(table: str, *columns: str, **only: sa.TextClause) -> None:
    """Add an index, of some rows only where a word says which."""
    names = "_".join(columns)
    which = "".join(f"_{name}" for name in only)
    rows = next(iter(only.values()), None)
    op.create_index(
        f"{table}{which}_by_{names}", table, list(columns), sqlite_where=rows, postgresql_where=rows
    )


def _sum_up_sizes() -> None:
    connection = op.get_bind()
    update = sa.text("UPDATE images SET size_bytes = :size_bytes WHERE id = :id")
    for image_id, disks in connection.execute(sa.text("SELECT id, disks FROM images")).all():
        size_bytes = sum(disk["size_bytes"] for disk in json.loads(disks))
        if size_bytes:
            connection.execute(update, {"id": image_id, "size_bytes": size_bytes})


def _copy_into(table: str, **columns: str) -> None:
    """Copy columns of each image that is not deleted into what belongs to it."""
    image = f"FROM images WHERE images.id = {table}.image_id AND images.state <> 'DELETED'"
    copies = ", ".join(f"{copy} = (SELECT images.{column} {image})" for copy, column in columns.items())
    op.execute(f"UPDATE {table} SET {copies}")  # noqa: S608 - all of it is written here


def _say_for_which_image_blobs_are_written() -> None:
    """Have the next sweep give up the uploads that were running, and are no more."""
    connection = op.get_bind()
    saving = connection.execute(sa.text("SELECT id, disks FROM images WHERE state = 'SAVING'"))
    update = sa.text("UPDATE pending_blobs SET image_id = :image_id WHERE blob_key = :upload_id")
    for image_id, disks in saving.all():
        for disk in json.loads(disks):
            if disk["upload_id"]:
                connection.execute(update, {"image_id": image_id, "upload_id": disk["upload_id"]})


def _what_tenants_use() -> list[dict[str, str | int]]:
    """Count what every tenant's images take; how much their running uploads bring, nobody has noted."""
    connection = op.get_bind()
    batch = sa.text(
        "SELECT id, owner, state, public, disks FROM images WHERE id > :after ORDER BY id LIMIT :size"
    )
    used: dict[str, list[int]] = {}
    after = ""
    while rows := connection.execute(batch, {"after": after, "size": BATCH}).all():
        for image_id, owner, state, public, disks in rows:
            after = image_id
            of_tenant = used.setdefault(owner, [0, 0, 0])
            of_tenant[0] += state != "DELETED" and not public
            of_tenant[1] += sum(disk["size_bytes"] for disk in json.loads(disks))
            of_tenant[2] += state == "SAVING"
    return [
        {"id": owner, "private_images": images, "stored_bytes": stored, "creations": creations}
        for owner, (images, stored, creations) in used.items()
    ]
