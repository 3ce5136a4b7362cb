"""The uploads that can be gone on with; they go with the pending blob that they fill."""

import json
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from ims.domain.disk_file import DiskFileReport
from ims.domain.image import BlobKey, DiskFormat, ImageId
from ims.domain.upload import Findings, Upload
from ims.repository.seal_runs import to_documents, to_seal_runs
from ims.repository.statement import Statement
from ims.repository.tables import pending_blobs, uploads
from ims.repository.times import from_microseconds

_WRITERS = Statement(sa.select(uploads.c.writers).where(uploads.c.blob_key == sa.bindparam("key")))


class UploadRepository:
    """Uploads; whoever starts, takes over or ends one holds the lock on its image."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, upload: Upload) -> None:
        """Add an upload whose blob is pending."""
        self._connection.execute(
            uploads.insert().values(
                blob_key=upload.blob_key,
                disk_index=upload.disk_index,
                size_bytes=upload.size_bytes,
                sha256=upload.sha256,
                wrapped_data_key=upload.wrapped_data_key,
                seal_runs=json.dumps(to_documents(upload.seal_runs)),
                writers=upload.writers,
                findings=None,
                source_format=upload.source_format,
                ova=upload.ova,
                part_bytes=upload.part_bytes,
            )
        )

    def find(self, blob_key: BlobKey) -> Upload | None:
        """Return an upload that nobody has given up; None when there is none."""
        query = (
            sa.select(uploads, pending_blobs.c.image_id, pending_blobs.c.lease_until)
            .join(pending_blobs)
            .where(uploads.c.blob_key == blob_key, pending_blobs.c.image_id.is_not(None))
        )
        row = self._connection.execute(query).mappings().first()
        return None if row is None else _to_upload(row)

    def writers(self, blob_key: BlobKey) -> int | None:
        """Return how many writers an upload has had; None when there is no such upload any more."""
        rows = _WRITERS.rows(self._connection, {"key": blob_key})
        return rows[0][0] if rows else None

    def take_over(self, upload: Upload) -> None:
        """Note that an upload has one more writer."""
        self._connection.execute(
            uploads.update()
            .where(uploads.c.blob_key == upload.blob_key)
            .values(writers=uploads.c.writers + 1)
        )

    def note(self, upload: Upload) -> bool:
        """Note the runs and the findings of an upload's last writer; tell whether it still is."""
        findings = upload.findings
        noted = self._connection.execute(
            uploads.update()
            .where(uploads.c.blob_key == upload.blob_key, uploads.c.writers == upload.writers)
            .values(
                seal_runs=json.dumps(to_documents(upload.seal_runs)),
                findings=None if findings is None else json.dumps(asdict(findings)),
            )
        )
        return noted.rowcount == 1

    def note_beginning(self, upload: Upload, store_upload_id: str) -> Upload | None:
        """Note what the store calls a direct upload that has begun, or has begun anew.

        Return the upload as it is then, perhaps begun by another meanwhile; None when it has ended.
        """
        self._connection.execute(
            uploads.update()
            .where(
                uploads.c.blob_key == upload.blob_key,
                uploads.c.store_upload_id.is_not_distinct_from(upload.store_upload_id or None),
            )
            .values(store_upload_id=store_upload_id)
        )
        return self.find(upload.blob_key)


def _to_upload(row: Any) -> Upload:  # noqa: ANN401 - a row's mapping
    return Upload(
        blob_key=BlobKey(row["blob_key"]),
        image_id=ImageId(row["image_id"]),
        disk_index=row["disk_index"],
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
        wrapped_data_key=row["wrapped_data_key"],
        seal_runs=to_seal_runs(json.loads(row["seal_runs"])),
        writers=row["writers"],
        findings=None if row["findings"] is None else _to_findings(json.loads(row["findings"])),
        source_format=row["source_format"] and DiskFormat(row["source_format"]),
        ova=row["ova"],
        part_bytes=row["part_bytes"],
        store_upload_id=row["store_upload_id"] or "",
        expire_time=from_microseconds(row["lease_until"]),
    )


def _to_findings(document: dict[str, Any]) -> Findings:
    report = document["report"]
    return Findings(
        sha256=document["sha256"],
        report=DiskFileReport(
            **{
                **report,
                "format": report["format"] and DiskFormat(report["format"]),
                "dangers": tuple(report["dangers"]),
            }
        ),
    )
