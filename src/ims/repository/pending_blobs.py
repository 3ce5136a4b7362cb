"""The blobs that may be there though no disk names them, so that whatever happens they are removed."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from ims.domain.image import BlobKey, ImageId
from ims.repository.tables import pending_blobs
from ims.repository.times import to_microseconds


@dataclass(frozen=True)
class Abandoned:
    """A blob that nobody holds any more."""

    blob_key: BlobKey
    image_id: ImageId | None
    """The image whose disk it was to fill; None when no disk of any image is waiting for it."""


class PendingBlobs:
    """Keys of blobs that are about to be named by a disk, or to be removed."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, blob_key: BlobKey, image_id: ImageId, *, until: datetime) -> None:
        """Note a blob that is being written for an image, and held until a time."""
        values = {"blob_key": blob_key, "image_id": image_id, "lease_until": to_microseconds(until)}
        self._connection.execute(pending_blobs.insert().values(values))

    def doom(self, blob_keys: Iterable[BlobKey], *, until: datetime | None = None) -> None:
        """Note blobs that no disk names any more, to be removed.

        By a sweep not before `until`, for what comes back once it was removed.
        """
        lease_until = 0 if until is None else to_microseconds(until)
        rows = [{"blob_key": key, "image_id": None, "lease_until": lease_until} for key in blob_keys]
        if rows:
            self._connection.execute(pending_blobs.insert(), rows)

    def hold(self, blob_keys: Collection[BlobKey], *, until: datetime) -> None:
        """Hold blobs that are being written for longer; those given up meanwhile stay so.

        One that is held for longer already is left as it is.
        """
        self._connection.execute(
            pending_blobs.update()
            .where(
                pending_blobs.c.blob_key.in_(blob_keys),
                pending_blobs.c.image_id.is_not(None),
                pending_blobs.c.lease_until < to_microseconds(until),
            )
            .values(lease_until=to_microseconds(until))
        )

    def give_up(self, blob_key: BlobKey, *, now: datetime) -> bool:
        """Let go of a blob whose holder has not been heard of in time; tell whether it was so.

        Its writer may still be at work: from now on it cannot be named by a disk.
        """
        given_up = self._connection.execute(
            pending_blobs.update()
            .where(
                pending_blobs.c.blob_key == blob_key,
                pending_blobs.c.lease_until <= to_microseconds(now),
            )
            .values(image_id=None, lease_until=0)
        )
        return given_up.rowcount == 1

    def abandoned(self, *, now: datetime) -> tuple[Abandoned, ...]:
        """Return the blobs that nobody holds at a time."""
        query = sa.select(pending_blobs.c.blob_key, pending_blobs.c.image_id).where(
            pending_blobs.c.lease_until <= to_microseconds(now)
        )
        rows = self._connection.execute(query)
        return tuple(Abandoned(BlobKey(key), image_id and ImageId(image_id)) for key, image_id in rows)

    def among(self, blob_keys: Collection[BlobKey]) -> frozenset[BlobKey]:
        """Return those of some blobs that are pending."""
        query = sa.select(pending_blobs.c.blob_key).where(pending_blobs.c.blob_key.in_(blob_keys))
        return frozenset(BlobKey(key) for key in self._connection.execute(query).scalars())

    def settle(self, blob_key: BlobKey) -> bool:
        """Forget a blob that a disk names from now on; tell whether it was still held for that."""
        settled = self._connection.execute(
            pending_blobs.delete().where(
                pending_blobs.c.blob_key == blob_key, pending_blobs.c.image_id.is_not(None)
            )
        )
        return settled.rowcount == 1

    def remove(self, blob_key: BlobKey) -> bool:
        """Forget a blob: a disk names it now, or it is gone. Tell whether it was still pending."""
        removed = self._connection.execute(
            pending_blobs.delete().where(pending_blobs.c.blob_key == blob_key)
        )
        return removed.rowcount == 1
