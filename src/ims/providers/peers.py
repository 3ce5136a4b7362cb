"""Peers: the services of other regions, which take copies of images from this one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from ims.domain.image import Disk, Image, ImageId


@dataclass(frozen=True, kw_only=True)
class PeerUpload:
    """The upload of a disk to another region, and how far it has come."""

    id: str
    image_id: ImageId
    """The copy's id there."""
    disk_index: int
    received_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class PeerDisk:
    """A disk as another region has it."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class PeerImage:
    """An image in another region, one disk of which is complete by now."""

    disk: PeerDisk
    rendered: bytes
    """The image there, as its owner gets it from that service."""


class Peer(Protocol):
    """The service of another region, called as what this one is there.

    Every method raises Rejection: PEER_UNREACHABLE, of the category UNAVAILABLE, for what can be gone
    on with, PEER_REFUSED where that service does not take images from this one, and its own reason and
    words for what it declines by its law. What is sent again with the same request id has one effect.
    """

    def create(self, draft: Image, *, vault_id: str, capacity_bytes: int, request_id: str) -> ImageId:
        """Create the copy's record, for the owner that the draft names; return its id there."""

    def stored_disks(self, image_id: ImageId) -> frozenset[int]:
        """Return which disks of a copy that is not complete are there, by their indices."""

    def start_upload(self, image_id: ImageId, disk: Disk) -> PeerUpload:
        """Start the upload of a disk; what has been started for its bytes is returned as it is."""

    def write_upload(
        self, upload: PeerUpload, chunks: Iterator[bytes], *, keep_on: Callable[[], None]
    ) -> None:
        """Send bytes from where an upload has come to. Raises what `chunks` and `keep_on` raise.

        `keep_on` is asked twice a second, also while the other side takes no bytes.
        """

    def finish_upload(
        self, upload: PeerUpload, *, request_id: str, keep_on: Callable[[], None]
    ) -> PeerImage:
        """Have a disk take the bytes of its upload, which are checked there."""

    def discard(self, image_id: ImageId) -> None:
        """Remove a copy that is not complete; succeeds where there is none."""
