"""How an operation reads a disk, and writes a file as a disk's blob, converted where that is wanted."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from ims.blob_store.interface import BlobDeleted, data_damaged
from ims.disk_files.inspection import Inspection
from ims.domain.disk_file import DiskFileReport
from ims.domain.image import BlobKey, Disk, DiskFormat, Image
from ims.rules.image_data import Announcement
from ims.use_cases.deployment import Deployment
from ims.use_cases.downloads import Download
from ims.use_cases.image_data import blobs_for_writing, judged
from ims.use_cases.jobs import Interrupted, Job

_CHUNK_BYTES: Final = 1024**2


def read_whole(job: Job, download: Download) -> Iterator[bytes]:
    """Yield a disk's bytes, and tell the job how many were taken.

    Raises Rejection DISK_DATA_DAMAGED at their end when they are not those that were stored.
    """
    digest, read_bytes = hashlib.sha256(), 0
    for chunk in download.chunks:
        job.goes_on()
        digest.update(chunk)
        read_bytes += len(chunk)
        yield chunk
        job.done_bytes = read_bytes
    if (read_bytes, digest.hexdigest()) != (download.disk.size_bytes, download.disk.sha256):
        raise data_damaged()


def store_file(
    deployment: Deployment,
    job: Job,
    image: Image,
    disk: Disk,
    blob_key: BlobKey,
    chunks: Iterator[bytes],
    source_format: DiskFormat,
) -> Disk:
    """Write a file as a blob, converted where the disk is of another format; return the disk.

    Of chunks that raise, at their end too, nothing is made. Raises Rejection when the file cannot be
    converted or stored, or be such a disk.
    """
    if source_format is disk.format:
        return _write(deployment, job, image, disk, blob_key, chunks)
    with deployment.converter.begin() as conversion:
        for chunk in chunks:
            conversion.write(chunk)
        converted = conversion.convert(
            source_format, disk.format, on_progress=lambda _done: job.goes_on()
        )
        made = conversion.read(chunk_bytes=_CHUNK_BYTES)
        return _write(deployment, job, image, disk, blob_key, made, report=converted.report)


def _write(
    deployment: Deployment,
    job: Job,
    image: Image,
    disk: Disk,
    blob_key: BlobKey,
    chunks: Iterator[bytes],
    *,
    report: DiskFileReport | None = None,
) -> Disk:
    """Write a file as a blob, looking at it on the way, unless somebody has; return the disk.

    Raises Rejection when it cannot be one.
    """
    blobs, wrapped_data_key = blobs_for_writing(deployment, image, blob_key)
    inspection = Inspection(disk.format)
    writer = blobs.open_writer(blob_key)
    try:
        for chunk in chunks:
            job.goes_on()
            if report is None:
                inspection.write(chunk)
            if inspection.hopeless:
                break
            writer.write(chunk)
        filled = replace(disk, size_bytes=writer.size_bytes, sha256=writer.sha256)
        found = report or inspection.report(writer.size_bytes)
        announced = Announcement(size_bytes=writer.size_bytes)
        stored = judged(image, filled, announced, found, cut_short=inspection.hopeless)
        job.goes_on()
        writer.commit()
    except BlobDeleted as error:
        raise Interrupted from error
    finally:
        writer.discard()
    return replace(stored, blob_key=blob_key, wrapped_data_key=wrapped_data_key)
