"""The parts of direct uploads: what others bring to the store itself."""

from ims.blob_store.interface import BlobDeleted, PartUrls
from ims.domain.image import Image
from ims.domain.upload import Upload
from ims.rules.engine import enforce
from ims.rules.uploads import BRING_DIRECTLY, DirectUploadAttempt
from ims.use_cases.deployment import Deployment


def part_urls_for(deployment: Deployment, image: Image) -> PartUrls:
    """Return what an image's bytes are brought to the store with.

    Raises Rejection DIRECT_TRANSFER_UNAVAILABLE.
    """
    gives_urls = deployment.part_urls is not None and bool(deployment.longest_part_url)
    enforce(BRING_DIRECTLY, DirectUploadAttempt(image=image, store_gives_urls=gives_urls))
    assert deployment.part_urls is not None  # or the rule would have been broken
    return deployment.part_urls


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
