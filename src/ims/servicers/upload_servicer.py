"""UploadService on the wire."""

from collections.abc import Iterator
from functools import partial
from typing import Final

import google_crc32c
import grpc

from ims.domain.rejection import Category, Reason, Rejection, reject
from ims.servicers.current_call import current_caller
from ims.servicers.image_messages import disk_message, image_message
from ims.servicers.image_requests import read_announcement
from ims.servicers.once import once_finished
from ims.servicers.operation_messages import read_source_format
from ims.servicers.reading import RequestReading, image_id_of
from ims.servicers.times import timestamp
from ims.use_cases import part_urls, resumable_uploads
from ims.use_cases.deployment import Deployment
from ims.use_cases.image_data import Finished
from ims.use_cases.resumable_uploads import Received, UploadedFile
from ims.v1 import image_pb2, upload_pb2, upload_service_pb2_grpc
from ims.v1 import upload_service_pb2 as pb

_PARTS: Final = 100
_MOST_PARTS_AT_ONCE: Final = 1_000
_MOST_PARTS: Final = 10_000


class UploadServicer(upload_service_pb2_grpc.UploadServiceServicer):
    """Parses requests, tells the use case, renders its answer."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def StartUpload(
        self, request: pb.StartUploadRequest, context: grpc.ServicerContext
    ) -> pb.StartUploadResponse:
        reading = RequestReading(request)
        image_id = image_id_of(request)
        announced = read_announcement(reading, request)
        source_format = read_source_format(reading, request)
        start = partial(
            resumable_uploads.start_upload,
            self._deployment,
            caller=current_caller(),
            image_id=image_id,
            disk_index=request.disk_index,
            announced=announced,
            file=UploadedFile(format=source_format, ova=request.ova),
            direct=request.direct,
            problems=reading.problems,
        )
        return once_finished(
            self._deployment,
            "StartUpload",
            request,
            lambda finishing: start(finishing=finishing),
            lambda received: pb.StartUploadResponse(upload=_upload_message(received)),
            pb.StartUploadResponse,
        )

    def WriteUpload(
        self, request_iterator: Iterator[pb.WriteUploadRequest], context: grpc.ServicerContext
    ) -> pb.WriteUploadResponse:
        first = next(request_iterator, pb.WriteUploadRequest())
        if first.WhichOneof("part") != "start":
            raise _misplaced("the first message of an upload is `start`.")
        reading = RequestReading(first)
        image_id = image_id_of(first.start)
        offset_bytes = reading.not_negative("start.offset_bytes", first.start.offset_bytes)
        received = resumable_uploads.write_upload(
            self._deployment,
            caller=current_caller(),
            image_id=image_id,
            disk_index=first.start.disk_index,
            upload_id=first.start.upload_id,
            offset_bytes=offset_bytes,
            chunks=_chunks(request_iterator),
            problems=reading.problems,
        )
        return pb.WriteUploadResponse(upload=_upload_message(received))

    def CreatePartUrls(
        self, request: pb.CreatePartUrlsRequest, context: grpc.ServicerContext
    ) -> pb.CreatePartUrlsResponse:
        reading = RequestReading(request)
        made = part_urls.create_part_urls(
            self._deployment,
            caller=current_caller(),
            image_id=image_id_of(request),
            disk_index=request.disk_index,
            upload_id=request.upload_id,
            first_number=reading.counted(
                "first_number", request.first_number, default=1, most=_MOST_PARTS
            ),
            max_parts=reading.counted(
                "max_parts", request.max_parts, default=_PARTS, most=_MOST_PARTS_AT_ONCE
            ),
            valid=reading.url_seconds(request.valid_seconds),
            problems=reading.problems,
        )
        return pb.CreatePartUrlsResponse(
            parts=(
                pb.CreatePartUrlsResponse.Part(
                    number=each.part.number,
                    offset_bytes=each.part.offset_bytes,
                    length_bytes=each.part.length_bytes,
                    url=each.url,
                )
                for each in made.urls
            ),
            expire_time=timestamp(made.expire_time),
        )

    def GetUpload(
        self, request: pb.GetUploadRequest, context: grpc.ServicerContext
    ) -> pb.GetUploadResponse:
        caller, reading = current_caller(), RequestReading(request)
        received = resumable_uploads.get_upload(
            self._deployment,
            caller=caller,
            image_id=image_id_of(request),
            disk_index=request.disk_index,
            upload_id=request.upload_id,
            problems=reading.problems,
        )
        return pb.GetUploadResponse(upload=_upload_message(received))

    def FinishUpload(
        self, request: pb.FinishUploadRequest, context: grpc.ServicerContext
    ) -> pb.FinishUploadResponse:
        reading = RequestReading(request)
        finish = partial(
            resumable_uploads.finish_upload,
            self._deployment,
            caller=current_caller(),
            image_id=image_id_of(request),
            disk_index=request.disk_index,
            upload_id=request.upload_id,
            problems=reading.problems,
        )
        return once_finished(
            self._deployment,
            "FinishUpload",
            request,
            lambda finishing: finish(finishing=finishing),
            _finished,
            pb.FinishUploadResponse,
        )

    def AbortUpload(
        self, request: pb.AbortUploadRequest, context: grpc.ServicerContext
    ) -> pb.AbortUploadResponse:
        reading = RequestReading(request)
        abort = partial(
            resumable_uploads.abort_upload,
            self._deployment,
            caller=current_caller(),
            image_id=image_id_of(request),
            disk_index=request.disk_index,
            upload_id=request.upload_id,
            problems=reading.problems,
        )
        return once_finished(
            self._deployment,
            "AbortUpload",
            request,
            lambda finishing: abort(finishing=finishing),
            lambda view: pb.AbortUploadResponse(image=image_message(view)),
            pb.AbortUploadResponse,
        )


def _upload_message(received: Received) -> upload_pb2.Upload:
    upload = received.upload
    return upload_pb2.Upload(
        id=upload.blob_key,
        image_id=upload.image_id,
        disk_index=upload.disk_index,
        size_bytes=upload.size_bytes,
        sha256=upload.sha256,
        received_bytes=received.received_bytes,
        finished=upload.finished,
        expire_time=timestamp(upload.expire_time),
        source_format=image_pb2.Disk.Format.Value(upload.source_format or "FORMAT_UNSPECIFIED"),
        ova=upload.ova,
        direct=upload.direct,
    )


def _finished(finished: Finished) -> pb.FinishUploadResponse:
    view, disk = finished
    return pb.FinishUploadResponse(image=image_message(view), disk=disk_message(disk))


def _chunks(messages: Iterator[pb.WriteUploadRequest]) -> Iterator[bytes]:
    for message in messages:
        if message.WhichOneof("part") != "chunk":
            raise _misplaced("every message of an upload but the first is `chunk`.")
        chunk = message.chunk
        if chunk.HasField("crc32c"):
            _refuse_damage(chunk.data, chunk.crc32c)
        if chunk.data:
            yield chunk.data


def _refuse_damage(data: bytes, announced: int) -> None:
    found = google_crc32c.value(data)
    if found != announced:
        raise reject(
            Category.MALFORMED,
            Reason.CHUNK_DAMAGED,
            f"A chunk's CRC-32C is {found:08x}, not the announced {announced:08x}; send it again.",
            subject="chunk.crc32c",
            announcedCrc32c=f"{announced:08x}",
            foundCrc32c=f"{found:08x}",
        )


def _misplaced(message: str) -> Rejection:
    return reject(
        Category.MALFORMED, Reason.INVALID_FIELD, f"part: {message}", subject="part", field="part"
    )
