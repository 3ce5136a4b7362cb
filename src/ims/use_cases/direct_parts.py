"""The parts of direct uploads: what others bring to the store itself."""

from ims.blob_store.interface import BlobDeleted
from ims.domain.upload import Upload
from ims.use_cases.deployment import Deployment


def takes_parts(deployment: Deployment) -> bool:
    """Whether bytes can be brought to the store itself."""
    return deployment.part_urls is not None and bool(deployment.longest_part_url)


def arrived_parts(deployment: Deployment, upload: Upload) -> frozenset[int]:
    """Return the numbers of the parts of a direct upload that have arrived.

    Raises BlobDeleted where the store has no such upload: it was finished, or has ended, or never begun.
    """
    if deployment.part_urls is None or not upload.store_upload_id:
        raise BlobDeleted("Nothing of the upload has begun in the store.")
    arrived = deployment.part_urls.arrived(upload.blob_key, upload.store_upload_id)
    return frozenset(
        part.number for part in upload.parts() if arrived.get(part.number) == part.length_bytes
    )


def brought_bytes(deployment: Deployment, upload: Upload) -> int:
    """Return how many bytes the parts of a direct upload have that have arrived. Raises BlobDeleted."""
    arrived = arrived_parts(deployment, upload)
    return sum(part.length_bytes for part in upload.parts() if part.number in arrived)
