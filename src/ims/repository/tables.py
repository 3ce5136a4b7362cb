"""All tables on one screen.

Times are microseconds since 1970 (UTC): one exact integer on every database. What an image consists
of (disks, tags, OS, source) is JSON in its row, so that one statement reads an image whole, as it was
at one moment; what is searched for stands again in a column or, the tags, in a table.

A change here comes with a migration (migrations/versions); a test holds the two together.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    literal_column,
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


def _text(length: int) -> String:
    """Return the type of a short text, which every database orders by its bytes, as SQLite does."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


def _partial_index(name: str, only: ColumnElement[bool], *columns: Column[Any]) -> None:
    """Add an index of some rows only; `name` says which."""
    names = "_".join(column.name for column in columns)
    Index(
        f"{columns[0].table.name}_{name}_by_{names}", *columns, sqlite_where=only, postgresql_where=only
    )


images = Table(
    "images",
    metadata,
    Column("id", _text(36), primary_key=True),
    Column("owner", _text(64), nullable=False),
    Column("region", _text(64), nullable=False),
    Column("name", _text(128), nullable=False),
    # The name while the image is live, NULL once it is deleted: NULLs never collide, so the constraint
    # below reads "unique among the tenant's live images". live_backup does the same for backups.
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
    Column("size_bytes", BigInteger, nullable=False, server_default="0"),
    Column("version", Integer, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("update_time", BigInteger, nullable=False),
    Column("delete_time", BigInteger),
    Column("purge_time", BigInteger),
    Column("state_before_deletion", _text(16)),
    Column("deactivated_by_admin", Boolean, nullable=False, server_default=false()),
    Column("non_exportable", Boolean, nullable=False, server_default=false()),
    # The image as bytes, ready to be sent: of the version and in the format that stand beside them. A
    # server that knows nothing of them may change the image; then they are out of date, and not used.
    Column("rendering", LargeBinary),
    Column("rendering_version", Integer),
    Column("rendering_format", Integer),
    UniqueConstraint("owner", "live_name"),
    UniqueConstraint("live_backup"),
    CheckConstraint("(state = 'DELETED') = (purge_time IS NOT NULL)", name="purge_time_when_deleted"),
    CheckConstraint("(state = 'DELETED') = (live_name IS NULL)", name="live_name_unless_deleted"),
)
_LIVE = images.c.state != literal_column("'DELETED'")
Index(None, images.c.state, images.c.purge_time)
# A page of a listing walks one of these in its order for each relation (listing.py): the viewer's own
# images, and the public ones. By name, a tenant's own stand in the order of the constraint above.
for _walk in (
    (images.c.create_time, images.c.id),
    (images.c.size_bytes, images.c.id),
    (images.c.type, images.c.create_time, images.c.id),
    (images.c.os_type, images.c.create_time, images.c.id),
    (images.c.update_time,),
):
    _partial_index("live", _LIVE, images.c.owner, *_walk)
Index(None, images.c.owner, images.c.state, images.c.create_time, images.c.id)
for _walk in (
    (images.c.create_time, images.c.id),
    (images.c.name, images.c.id),
    (images.c.size_bytes, images.c.id),
    (images.c.owner, images.c.create_time, images.c.id),
    (images.c.state, images.c.create_time, images.c.id),
    (images.c.type, images.c.create_time, images.c.id),
    (images.c.os_type, images.c.create_time, images.c.id),
    (images.c.update_time,),
):
    _partial_index("public", images.c.public, *_walk)
# What is rare among all images is looked up for those who have accepted some of it.
Index(None, images.c.type)
Index(None, images.c.os_type)

tags = Table(
    "tags",
    metadata,
    Column("image_id", ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    Column("key", _text(36), primary_key=True),
    Column("value", _text(43), nullable=False),
    # What listings look at in the image stands here again, so that the images that bear a tag are walked
    # in order of time. NULL while the image is deleted.
    Column("owner", _text(64)),
    Column("public", Boolean),
    Column("create_time", BigInteger),
    Index(None, "owner", "key", "value", "create_time", "image_id"),
    Index(None, "key", "value", "image_id"),
)
_partial_index("public", tags.c.public, tags.c.key, tags.c.value, tags.c.create_time, tags.c.image_id)

# Blobs that may be there though no disk names them: of running uploads, and of images just purged. Their
# rows go when a disk names them or they are removed; so a crash in between leaves nothing unnoticed, and
# nothing that this catalogue does not know of is ever removed.
pending_blobs = Table(
    "pending_blobs",
    metadata,
    Column("blob_key", _text(64), primary_key=True),
    # The image whose disk is being filled, until when the process that fills it holds it without another
    # word, and NULL and 0 once nobody does: the blob is to be removed.
    Column("image_id", _text(36)),
    Column("lease_until", BigInteger, nullable=False, server_default="0"),
    Index(None, "lease_until"),
)

# Uploads that can be interrupted and gone on with: what is known of a pending blob that takes its bytes
# from any number of writers. They go with its row.
uploads = Table(
    "uploads",
    metadata,
    Column("blob_key", ForeignKey("pending_blobs.blob_key", ondelete="CASCADE"), primary_key=True),
    Column("disk_index", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", _text(64), nullable=False),
    Column("wrapped_data_key", LargeBinary, nullable=False),
    Column("seal_runs", Text, nullable=False),
    # Who is not the last of its writers finds itself superseded.
    Column("writers", Integer, nullable=False),
    # What was found of the file, where its only writer brought all of it.
    Column("findings", Text),
    # What the file is, where the disk is to be something else; NULL where it is what the disk is.
    Column("source_format", _text(16)),
    Column("ova", Boolean, nullable=False, server_default=false()),
    # How large the parts are that are brought to the store itself, 0 where none are, and what the store
    # calls the upload that they are of.
    Column("part_bytes", Integer, nullable=False, server_default="0"),
    Column("store_upload_id", Text),
)

# Blobs that more than one disk names, and by how many. One that is not here is named by one at the most.
# Whoever has a disk name a blob, or not any more, holds the lock on an image that names it.
shared_blobs = Table(
    "shared_blobs",
    metadata,
    Column("blob_key", _text(64), primary_key=True),
    Column("reference_count", Integer, nullable=False),
    # 1 only within the transaction that then removes the row.
    CheckConstraint("reference_count >= 1", name="reference_count_positive"),
)

shares = Table(
    "shares",
    metadata,
    Column("image_id", ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    Column("tenant_id", _text(64), primary_key=True),
    Column("region", _text(64), nullable=False),
    Column("status", _text(8), nullable=False),
    Column("vault_id", _text(128), nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("update_time", BigInteger, nullable=False),
    # NULL where it does not end by itself. From then on the row is as good as none.
    Column("expire_time", BigInteger),
    # What listings are ordered by stands here again, so that a page of what a tenant has accepted is
    # walked in its order. NULL while the image is deleted.
    Column("image_owner", _text(64)),
    Column("image_create_time", BigInteger),
    Column("image_name", _text(128)),
    Column("image_size_bytes", BigInteger),
    Index(None, "tenant_id", "create_time", "image_id"),
    Index(None, "tenant_id", "status", "create_time", "image_id"),
    Index(None, "tenant_id", "status", "image_create_time", "image_id"),
    Index(None, "tenant_id", "status", "image_name", "image_id"),
    Index(None, "tenant_id", "status", "image_size_bytes", "image_id"),
    Index(None, "image_owner", "image_create_time", "image_id"),
)
_partial_index("ending", shares.c.expire_time.is_not(None), shares.c.expire_time)

# What tenants say, once, of what others may share with them. Whoever changes it holds the lock on the
# tenant's row in `tenants`.
trust_rules = Table(
    "trust_rules",
    metadata,
    Column("tenant_id", _text(64), primary_key=True),
    # Where the tenant was at home when it made them, as its identity said.
    Column("region", _text(64), nullable=False),
    Column("max_pending_shares", BigInteger),
    Column("version", Integer, nullable=False),
)

# The owners of whom a tenant's rules say something; of each one thing.
trust_in_owners = Table(
    "trust_in_owners",
    metadata,
    Column("tenant_id", _text(64), primary_key=True),
    Column("owner", _text(64), primary_key=True),
    Column("attitude", _text(16), nullable=False),
)

# Servers and volumes that were made from an image (law 7.4). They stay when the image is unshared or
# deleted, until it is purged.
uses = Table(
    "uses",
    metadata,
    Column("image_id", ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    Column("tenant_id", _text(64), primary_key=True),
    Column("kind", _text(8), primary_key=True),
    Column("consumer_id", _text(64), primary_key=True),
    # The service that registered it last, or the tenant itself.
    Column("registered_by", _text(64), nullable=False),
    # How the tenant stood to the image: one that used a public image is not named to its owner.
    Column("relation", _text(16), nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Index(None, "tenant_id", "image_id", "kind", "consumer_id"),
)

# What a tenant uses of its quotas, and where its limits are not the deployment's (law 5.2); and what the
# tenant directory says of it (law 8). A row is made when its tenant is registered or first uses
# something; whoever changes it holds its lock.
tenants = Table(
    "tenants",
    metadata,
    Column("id", _text(64), primary_key=True),
    Column("private_images", BigInteger, nullable=False),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("creations", BigInteger, nullable=False),
    Column("max_private_images", BigInteger),
    Column("max_stored_bytes", BigInteger),
    Column("max_creations", BigInteger),
    Column("copies", BigInteger, nullable=False, server_default="0"),
    Column("max_copies", BigInteger),
    # Both are NULL for a tenant that the directory does not name.
    Column("region", _text(64)),
    Column("register_time", BigInteger),
    # NULL unless the tenant is suspended.
    Column("suspend_time", BigInteger),
    Column("sharing_blocked", Boolean, nullable=False, server_default=false()),
    CheckConstraint("private_images >= 0", name="private_images_not_negative"),
    CheckConstraint("stored_bytes >= 0", name="stored_bytes_not_negative"),
    CheckConstraint("creations >= 0", name="creations_not_negative"),
)
# Suspended tenants are few, and a list of them does not walk through all others.
_partial_index("suspended", tenants.c.suspend_time.is_not(None), tenants.c.id)

# What administrators have put in force for all tenants; what has no row is not.
policies = Table(
    "policies",
    metadata,
    Column("name", _text(64), primary_key=True),
    Column("in_force", Boolean, nullable=False),
)

# Calls that were accepted, each with its answer, so that a repeated one gets the first answer (law 5.9).
requests = Table(
    "requests",
    metadata,
    Column("tenant_id", _text(64), primary_key=True),
    Column("request_id", _text(64), primary_key=True),
    Column("method", _text(64), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    # NULL only within the transaction that is still to give the answer.
    Column("answer", LargeBinary),
    Column("expire_time", BigInteger, nullable=False),
    Index(None, "expire_time"),
)

# Work that outlives its call. What is QUEUED, and what is RUNNING though nobody has been heard of it
# in time, is claimed by a process, which raises the epoch; every later write is for that epoch only, so
# that whoever has lost it changes nothing.
operations = Table(
    "operations",
    metadata,
    Column("id", _text(36), primary_key=True),
    Column("tenant_id", _text(64), nullable=False),
    Column("kind", _text(32), nullable=False),
    Column("state", _text(16), nullable=False),
    Column("request", Text, nullable=False),
    Column("image_id", _text(36), nullable=False),
    Column("source_image_id", _text(36), nullable=False),
    Column("done_bytes", BigInteger, nullable=False),
    Column("total_bytes", BigInteger, nullable=False),
    # A Rejection's content, as JSON.
    Column("error", Text),
    Column("answer", LargeBinary, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("update_time", BigInteger, nullable=False),
    Column("end_time", BigInteger),
    Column("expire_time", BigInteger),
    Column("lease_holder", _text(64), nullable=False),
    Column("lease_until", BigInteger, nullable=False),
    Column("epoch", Integer, nullable=False),
    # What whoever takes it up next has to know, as JSON; its kind says what that is.
    Column("place", Text),
    CheckConstraint(
        "(end_time IS NOT NULL) = (state IN ('SUCCEEDED', 'FAILED', 'CANCELLED'))",
        name="end_time_when_ended",
    ),
    Index(None, "tenant_id", "create_time", "id"),
)
# What is still to be done is little, among all that is remembered.
_partial_index("unfinished", operations.c.end_time.is_(None), operations.c.create_time, operations.c.id)
_partial_index("ended", operations.c.expire_time.is_not(None), operations.c.expire_time)

# Who did what: a row for each tenant that may know of an event, with what that tenant may know of it. So
# nobody's list is filtered by what is hidden from it, and each is walked in its order. Rows are added,
# and removed when they are old; none is ever changed. They outlive the images that they name.
audit_events = Table(
    "audit_events",
    metadata,
    Column("seen_by", _text(64), primary_key=True),
    Column("time", BigInteger, primary_key=True),
    # The same in all rows of an event; it tells nothing, not even how many there were.
    Column("id", _text(36), primary_key=True),
    Column("action", _text(64), nullable=False),
    Column("actor_kind", _text(16), nullable=False),
    Column("actor_tenant", _text(64), nullable=False),
    Column("actor_user", Text, nullable=False),
    Column("acting_for", _text(64), nullable=False),
    Column("image_id", _text(36), nullable=False),
    Column("image_name", _text(128), nullable=False),
    Column("image_owner", _text(64), nullable=False),
    Column("counterpart", _text(64), nullable=False),
    Column("request_id", _text(64), nullable=False),
    Column("call_id", _text(64), nullable=False),
    Column("result", _text(64), nullable=False),
    Column("details", Text, nullable=False),
    Index(None, "seen_by", "image_id", "time", "id"),
    Index(None, "time"),
)

# What all instances know and no caller does.
secrets = Table(
    "secrets",
    metadata,
    Column("name", _text(64), primary_key=True),
    Column("value", LargeBinary(64), nullable=False),
)

# Work that every instance may do and one does: who does it, and until when without another word.
duties = Table(
    "duties",
    metadata,
    Column("name", _text(64), primary_key=True),
    Column("holder", _text(64), nullable=False),
    Column("lease_until", BigInteger, nullable=False),
    # How far it has come, where it is done bit by bit.
    Column("place", Text),
)
