"""All tables on one screen.

Times are microseconds since 1970 (UTC): one exact integer on every database. What an image consists
of (disks, tags, OS, source) is JSON in its row, so that one statement reads an image whole, as it was
at one moment; what is searched for stands again in a column or, the tags, in a table.
"""

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

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_key",
        "fk": "%(table_name)s_%(column_0_name)s_exists",
        "uq": "%(table_name)s_%(column_0_N_name)s_unique",
        "ix": "%(table_name)s_by_%(column_0_N_name)s",
        "ck": "%(table_name)s_%(constraint_name)s",
    }
)

images = Table(
    "images",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("region", String(64), nullable=False),
    Column("name", String(128), nullable=False),
    # The name while the image is live, NULL once it is deleted: NULLs never collide, so the constraint
    # below reads "unique among the tenant's live images". live_backup does the same for backups.
    Column("live_name", String(128)),
    Column("live_backup", String(300)),
    Column("description", String(1024), nullable=False),
    Column("type", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("public", Boolean, nullable=False),
    Column("protected", Boolean, nullable=False),
    Column("for_bms", Boolean, nullable=False),
    Column("os_type", String(16), nullable=False),
    Column("os", Text, nullable=False),
    Column("architecture", String(16), nullable=False),
    Column("firmware", String(8), nullable=False),
    Column("min_disk_gib", BigInteger, nullable=False),
    Column("min_ram_mib", BigInteger, nullable=False),
    Column("max_ram_mib", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("disks", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("declared_by", String(64)),
    Column("encryption_key_id", String(64)),
    Column("version", Integer, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("update_time", BigInteger, nullable=False),
    Column("delete_time", BigInteger),
    Column("purge_time", BigInteger),
    Column("state_before_deletion", String(16)),
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
    metadata,
    Column("image_id", ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(36), primary_key=True),
    Column("value", String(43), nullable=False),
    Index(None, "key", "value", "image_id"),
)

# Blobs that may be there though no disk names them: of running uploads, and of images just purged. Their
# rows go when a disk names them or they are removed; so a crash in between leaves nothing unnoticed, and
# nothing that this catalogue does not know of is ever removed.
pending_blobs = Table("pending_blobs", metadata, Column("blob_key", String(64), primary_key=True))

shares = Table(
    "shares",
    metadata,
    Column("image_id", ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    Column("tenant_id", String(64), primary_key=True),
    Column("region", String(64), nullable=False),
    Column("status", String(8), nullable=False),
    Column("vault_id", String(128), nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("update_time", BigInteger, nullable=False),
    Index(None, "tenant_id", "create_time", "image_id"),
)
