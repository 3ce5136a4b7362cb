"""The story of URLs at which the parts of an upload are brought to the store itself (law 7.8)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from ims.blob_store.interface import BlobDeleted, PartUrls
from ims.domain.caller import Caller
from ims.domain.image import ImageId
from ims.domain.rejection import Problems
from ims.domain.upload import PartOfUpload, Upload
from ims.rules.uploads import CREATE_PART_URLS
from ims.use_cases.deployment import Deployment, see
from ims.use_cases.direct_parts import arrived_parts
from ims.use_cases.image_data import superseded
from ims.use_cases.resumable_uploads import Go, find_upload, is_whole, wait_for_more


@dataclass(frozen=True, kw_only=True)
class PartUrl:
    """Where a part is brought."""

    part: PartOfUpload
    url: str


@dataclass(frozen=True, kw_only=True)
class MadePartUrls:
    """Where the parts that have not arrived are brought, and until when."""

    urls: tuple[PartUrl, ...]
    expire_time: datetime


def create_part_urls(
    deployment: Deployment,
    *,
    caller: Caller,
    image_id: ImageId,
    disk_index: int,
    upload_id: str,
    first_number: int = 1,
    max_parts: int,
    valid: timedelta,
    problems: Problems = (),
) -> MadePartUrls:
    """Return URLs of the parts of an upload that have not arrived, from a number on.

    They are good for so long, or for as long as the deployment allows. The upload waits anew.
    """
    with deployment.database.reading() as reading:
        image = see(deployment, reading, caller, image_id).image
        go = find_upload(
            deployment, reading, caller, image, disk_index, upload_id, problems, CREATE_PART_URLS
        )
    part_urls = deployment.part_urls
    assert part_urls is not None  # or a rule would have been broken
    lasting = min(valid, deployment.longest_part_url)
    expire_time = deployment.now() + lasting
    wait_for_more(deployment, go.upload, at_least=lasting)
    if is_whole(deployment, go.upload):
        return MadePartUrls(urls=(), expire_time=expire_time)
    upload, arrived = _begun(deployment, part_urls, go)
    missing = (
        part for part in upload.parts() if part.number >= first_number and part.number not in arrived
    )
    return MadePartUrls(
        urls=tuple(
            PartUrl(
                part=part,
                url=part_urls.part_url(
                    upload.blob_key,
                    upload.store_upload_id,
                    part.number,
                    length_bytes=part.length_bytes,
                    valid_seconds=int(lasting.total_seconds()),
                ),
            )
            for part in islice(missing, max_parts)
        ),
        expire_time=expire_time,
    )


def _begun(deployment: Deployment, part_urls: PartUrls, go: Go) -> tuple[Upload, frozenset[int]]:
    """Return an upload that has begun in the store, and which of its parts have arrived.

    It begins anew where the store has forgotten it. Raises Rejection UPLOAD_SUPERSEDED.
    """
    try:
        return go.upload, arrived_parts(deployment, go.upload)
    except BlobDeleted:
        if is_whole(deployment, go.upload):  # finished at this very moment
            return go.upload, frozenset(part.number for part in go.upload.parts())
    store_upload_id = part_urls.begin(go.upload.blob_key)
    with deployment.database.transaction() as tx:
        noted = tx.uploads.note_beginning(go.upload, store_upload_id)
    if noted is None or noted.store_upload_id != store_upload_id:
        part_urls.abandon(go.upload.blob_key, store_upload_id)
    if noted is None:
        raise superseded(go.disk.index)
    return noted, frozenset()
