"""The blobs that may be there though no disk names them, so that whatever happens they are removed."""

from collections.abc import Iterable

import sqlalchemy as sa

from ims.domain.image import BlobKey
from ims.repository.tables import pending_blobs


class PendingBlobs:
    """Keys of blobs that are about to be named by a disk, or to be removed."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def all(self) -> frozenset[BlobKey]:
        """Return every key there is."""
        rows = self._connection.execute(sa.select(pending_blobs.c.blob_key))
        return frozenset(BlobKey(key) for key in rows.scalars())

    def holds(self, key: BlobKey) -> bool:
        """Whether a blob is still named by no disk."""
        query = sa.select(pending_blobs.c.blob_key).where(pending_blobs.c.blob_key == key)
        return self._connection.execute(query).first() is not None

    def add(self, keys: Iterable[BlobKey]) -> None:
        """Note blobs that no disk names, yet or any more."""
        rows = [{"blob_key": key} for key in keys]
        if rows:
            self._connection.execute(pending_blobs.insert(), rows)

    def remove(self, key: BlobKey) -> None:
        """Forget a blob: a disk names it now, or it is gone."""
        self._connection.execute(pending_blobs.delete().where(pending_blobs.c.blob_key == key))
