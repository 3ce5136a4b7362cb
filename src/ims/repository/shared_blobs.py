"""Blobs that more than one disk names, and by how many: exact, so that the last one's end is known."""

from collections.abc import Collection

import sqlalchemy as sa

from ims.domain.image import BlobKey
from ims.repository.tables import shared_blobs
from ims.repository.upsert import upsert_into

_this = shared_blobs.c.blob_key == sa.bindparam("key")
_RELEASE = (
    shared_blobs.update()
    .where(_this)
    .values(reference_count=shared_blobs.c.reference_count - 1)
    .returning(shared_blobs.c.reference_count)
)
_FORGET = shared_blobs.delete().where(_this)


class SharedBlobs:
    """The blobs that more than one disk names.

    Of a blob that is not on record the one disk that names it is known by its image, whose lock is held
    by whoever changes anything here, behind that of the tenant: always in this order.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def share(self, blob_key: BlobKey) -> None:
        """Count one more disk that names a blob which a disk of a locked image names."""
        # Added in the database: the image's lock keeps out who copies the same image, and not who copies
        # or purges another that names the blob.
        self._connection.execute(
            upsert_into(shared_blobs, self._connection.dialect.name)
            .values(blob_key=blob_key, reference_count=2)
            .on_conflict_do_update(
                index_elements=["blob_key"],
                set_={"reference_count": shared_blobs.c.reference_count + 1},
            )
        )

    def release(self, blob_key: BlobKey) -> bool:
        """Count one disk less; tell whether it was the last one that named the blob."""
        left = self._connection.execute(_RELEASE, {"key": blob_key}).scalar()
        if left == 1:
            self._connection.execute(_FORGET, {"key": blob_key})
        return left is None

    def counts(self, blob_keys: Collection[BlobKey]) -> dict[BlobKey, int]:
        """Return how many disks name each of some blobs; those that are not shared are left out."""
        query = sa.select(shared_blobs).where(shared_blobs.c.blob_key.in_(blob_keys))
        return {BlobKey(key): count for key, count in self._connection.execute(query)}

    def batch(self, *, after: str, size: int) -> dict[BlobKey, int]:
        """Return so many of the counts, by key from behind `after` on."""
        query = (
            sa.select(shared_blobs)
            .where(shared_blobs.c.blob_key > after)
            .order_by(shared_blobs.c.blob_key)
            .limit(size)
        )
        return {BlobKey(key): count for key, count in self._connection.execute(query)}

    def recounted(self, blob_key: BlobKey, count: int) -> None:
        """Store what a recount has found. The locks of all images that name the blob are held."""
        self._connection.execute(_FORGET, {"key": blob_key})
        if count > 1:
            self._connection.execute(
                shared_blobs.insert().values(blob_key=blob_key, reference_count=count)
            )
