"""Buckets that images are exported into: which are open to whom, and what is done in one."""

import threading
from collections.abc import Callable, Mapping
from typing import Protocol

from ims.domain.tenant import TenantId


class TargetTaken(Exception):
    """There is an object already where one was to be put."""


class ExportSuperseded(Exception):
    """Somebody has ended the upload: another goes on with the export, or nobody does."""


class ObjectWriter(Protocol):
    """Takes an object's bytes; nothing is to be seen of them before `finish`.

    Belongs to one thread. What its store cannot do just now is Rejection STORAGE_UNAVAILABLE or
    STORAGE_FULL, from every method but `discard`.
    """

    @property
    def upload_id(self) -> str:
        """What `abort` ends it by, also in another process."""

    @property
    def size_bytes(self) -> int: ...

    @property
    def sha256(self) -> str:
        """64 lower-case hexadecimal digits, of the bytes written so far."""

    def write(self, chunk: bytes) -> None:
        """Append a chunk of any size. Raises ExportSuperseded."""

    def finish(self) -> None:
        """Have the object there, if nothing is there by now. Raises TargetTaken and ExportSuperseded.

        To be called when at least a byte has been written.
        """

    def discard(self) -> None:
        """Leave nothing; what is finished stays. May be called at any time, more than once."""


class ExportBucket(Protocol):
    """A bucket of somebody's, in which nothing is ever overwritten.

    An export has a token that no other has: by it, what it has put there is told from what others have.
    """

    def is_taken(self, name: str) -> bool:
        """Whether there is an object of this name; asks once, and not for long."""

    def begin(self, name: str, *, token: str) -> ObjectWriter:
        """Begin an object. Raises Rejection EXPORT_BUCKET_UNUSABLE where none can be finished."""

    def is_finished(self, name: str, *, token: str) -> bool:
        """Whether the object is there that this export was to put there."""

    def abort(self, name: str, upload_id: str) -> None:
        """End an upload, so that it is never finished; one that is finished stays as it is."""

    def clear(self, name: str, *, token: str) -> None:
        """Remove the object if it is this export's, finished or not."""

    def close(self) -> None:
        """Let the connections go."""


class ExportBuckets:
    """The buckets that the deployment's settings name; each is connected to when it is first used."""

    def __init__(
        self,
        tenants: Mapping[str, frozenset[TenantId]],
        connect: Callable[[str], ExportBucket],
    ) -> None:
        """Take which tenants may export into which bucket."""
        self._tenants = tenants
        self._connect = connect
        self._connected: dict[str, ExportBucket] = {}
        self._lock = threading.Lock()

    def is_named(self, bucket: str) -> bool:
        """Whether there is such a bucket, for anybody."""
        return bucket in self._tenants

    def is_open(self, bucket: str, tenant_id: TenantId) -> bool:
        """Whether a tenant may export into a bucket."""
        return tenant_id in self._tenants.get(bucket, frozenset())

    def bucket(self, name: str) -> ExportBucket:
        """Return a bucket that is named. Raises Rejection EXPORT_BUCKET_UNUSABLE."""
        with self._lock:
            if name not in self._connected:
                self._connected[name] = self._connect(name)
            return self._connected[name]

    def close(self) -> None:
        """Let all connections go."""
        with self._lock:
            while self._connected:
                self._connected.popitem()[1].close()
