"""The catalogue as it was first: images, their tags and shares, and blobs that no disk names."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

revision = "0001"
down_revision = None

_metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_key",
        "fk": "%(table_name)s_%(column_0_name)s_exists",
        "uq": "%(table_name)s_%(column_0_N_name)s_unique",
        "ix": "%(table_name)s_by_%(column_0_N_name)s",
        "ck": "%(table_name)s_%(constraint_name)s",
    }
)


def _text(length: int) -> String:
    return String(length).with_variant(String(length, collation="C"), "postgresql")


images = Table(
    "images",
    _metadata,
    Column("id", _text(36), primary_key=True),
    Column("owner", _text(64), nullable=False),
    Column("region", _text(64), nullable=False),
    Column("name", _text(128), nullable=False),
    Column("live_name", _text(128)),
    Column("live_backup", _text(300)),
    Column("description", _text(1024), nullable=False),
    Column("type", _text(16), nullable=False),
    Column("state", _text(16), nullable=False),
    Column("public", Boolean, nullable=False),
    Column("protected", Boolean, nullable=False),
    Column("for_bms", Boolean, nullable=False),
    Column("os_type", _text(16), nullable=False),
    Column("os", Text, nullable=False),
    Column("architecture", _text(16), nullable=False),
    Column("firmware", _text(8), nullable=False),
    Column("min_disk_gib", BigInteger, nullable=False),
    Column("min_ram_mib", BigInteger, nullable=False),
    Column("max_ram_mib", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("disks", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("declared_by", _text(64)),
    Column("encryption_key_id", _text(64)),
    Column("version", Integer, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("update_time", BigInteger, nullable=False),
    Column("delete_time", BigInteger),
    Column("purge_time", BigInteger),
    Column("state_before_deletion", _text(16)),
    UniqueConstraint("owner", "live_name"),
    UniqueConstraint("live_backup"),
    CheckConstraint("(state = 'DELETED') = (purge_time IS NOT NULL)", name="purge_time_when_deleted"),
    CheckConstraint("(state = 'DELETED') = (live_name IS NULL)", name="live_name_unless_deleted"),
)
Index(None, images.c.owner, images.c.create_time, images.c.id)
Index(None, images.c.public, images.c.create_time, images.c.id)
Index(None, images.c.state, images.c.purge_time)

tags = Table(
    "tags",
    _metadata,
    Column("image_id", ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    Column("key", _text(36), primary_key=True),
    Column("value", _text(43), nullable=False),
    Index(None, "key", "value", "image_id"),
)

pending_blobs = Table("pending_blobs", _metadata, Column("blob_key", _text(64), primary_key=True))

shares = Table(
    "shares",
    _metadata,
    Column("image_id", ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    Column("tenant_id", _text(64), primary_key=True),
    Column("region", _text(64), nullable=False),
    Column("status", _text(8), nullable=False),
    Column("vault_id", _text(128), nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("update_time", BigInteger, nullable=False),
    Index(None, "tenant_id", "create_time", "image_id"),
)


def upgrade() -> None:
    """Make the tables."""
    _metadata.create_all(op.get_bind())
