"""ImageService on the wire."""

from collections.abc import Iterator
from functools import partial
from typing import Final, cast

import grpc
from google.longrunning import operations_pb2

from ims.domain.image import KeyId
from ims.domain.page import PageRequest
from ims.domain.rejection import Category, Reason, Rejection, reject
from ims.domain.tenant import TenantId
from ims.servicers.current_call import current_caller
from ims.servicers.image_messages import disk_message, draft_message, image_bytes, image_message
from ims.servicers.image_requests import (
    read_announcement,
    read_arrival,
    read_changes,
    read_draft,
    read_image_filter,
    read_image_order,
)
from ims.servicers.once import once, once_finished
from ims.servicers.operation_messages import (
    judged_copy_message,
    judged_export_message,
    operation_message,
    read_copy_order,
    read_export_order,
    read_import_order,
    read_region_copy_order,
    read_upload_to_import,
)
from ims.servicers.page_tokens import Listing
from ims.servicers.reading import RequestReading, image_id_of
from ims.servicers.ready import field
from ims.servicers.share_messages import refusal_messages
from ims.servicers.tenant_messages import quotas_message
from ims.servicers.times import timestamp
from ims.servicers.use_messages import read_use, resolution_message, usage_summary_message
from ims.use_cases import (
    copying,
    downloads,
    exporting,
    image_data,
    images,
    importing,
    quotas,
    region_copying,
    use,
)
from ims.use_cases.deployment import Deployment, ask_for_key, ask_for_key_of
from ims.v1 import image_service_pb2 as pb
from ims.v1 import image_service_pb2_grpc


class ImageServicer(image_service_pb2_grpc.ImageServiceServicer):
    """Parses requests, tells the use case, renders its answer."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def _ask_for_the_key(self, request: pb.CreateImageRequest) -> None:
        owner = TenantId(request.owner_tenant_id) or current_caller().tenant_id
        ask_for_key(self._deployment, KeyId(request.encryption_key_id) or None, owner)

    @once(pb.CreateImageResponse, before=_ask_for_the_key)
    def CreateImage(
        self, request: pb.CreateImageRequest, context: grpc.ServicerContext
    ) -> pb.CreateImageResponse:
        caller, reading = current_caller(), RequestReading(request)
        draft = read_draft(reading, request, owner=caller.tenant_id)
        view = images.create_image(
            self._deployment,
            caller=caller,
            draft=draft,
            arrival=read_arrival(reading, request),
            validate_only=request.validate_only,
            problems=reading.problems,
        )
        render = draft_message if request.validate_only else image_message
        return pb.CreateImageResponse(image=render(view))

    def GetImage(
        self, request: pb.GetImageRequest, context: grpc.ServicerContext
    ) -> pb.GetImageResponse:
        caller = current_caller()
        view = images.get_image(self._deployment, caller=caller, image_id=image_id_of(request))
        return cast("pb.GetImageResponse", field(_GOT, image_bytes(view)))  # the wire's bytes of one

    def ListImages(
        self, request: pb.ListImagesRequest, context: grpc.ServicerContext
    ) -> pb.ListImagesResponse:
        caller, reading = current_caller(), RequestReading(request)
        image_filter = read_image_filter(reading, request)
        order = read_image_order(reading, request.order_by)
        listing = Listing(self._deployment.page_token_key, caller.tenant_id, request)
        wanted = PageRequest(
            size=reading.page_size(request.page_size),
            after=listing.place(reading, request.page_token),
            count=request.include_total_size,
        )
        page = images.list_images(
            self._deployment,
            caller=caller,
            image_filter=image_filter,
            order=order,
            page=wanted,
            problems=reading.problems,
        )
        listed, token = listing.answer(page, lambda view: field(_LISTED, image_bytes(view)))
        rest = pb.ListImagesResponse(next_page_token=token, total_size=page.total_size or 0)
        # The wire's bytes of an answer.
        return cast("pb.ListImagesResponse", b"".join((*listed, rest.SerializeToString())))

    @once(pb.UpdateImageResponse)
    def UpdateImage(
        self, request: pb.UpdateImageRequest, context: grpc.ServicerContext
    ) -> pb.UpdateImageResponse:
        caller, reading = current_caller(), RequestReading(request)
        image_id = image_id_of(request)
        changes = read_changes(reading, request)
        view = images.update_image(
            self._deployment,
            caller=caller,
            image_id=image_id,
            changes=changes,
            expected_etag=request.etag,
            problems=reading.problems,
        )
        return pb.UpdateImageResponse(image=image_message(view))

    @once(pb.DeleteImageResponse)
    def DeleteImage(
        self, request: pb.DeleteImageRequest, context: grpc.ServicerContext
    ) -> pb.DeleteImageResponse:
        caller, reading = current_caller(), RequestReading(request)
        image_id = image_id_of(request)
        if request.validate_only:
            preview = images.preview_deletion(
                self._deployment,
                caller=caller,
                image_id=image_id,
                expected_etag=request.etag,
                require_unused=request.require_unused,
                problems=reading.problems,
            )
            return pb.DeleteImageResponse(
                image=image_message(preview.view),
                ended_share_count=preview.ended,
                refusals=refusal_messages(preview.refusals),
                usage=usage_summary_message(preview.usage),
            )
        view, ended = images.delete_image(
            self._deployment,
            caller=caller,
            image_id=image_id,
            expected_etag=request.etag,
            require_unused=request.require_unused,
            problems=reading.problems,
        )
        return pb.DeleteImageResponse(image=image_message(view), ended_share_count=ended)

    @once(pb.UndeleteImageResponse)
    def UndeleteImage(
        self, request: pb.UndeleteImageRequest, context: grpc.ServicerContext
    ) -> pb.UndeleteImageResponse:
        caller, reading = current_caller(), RequestReading(request)
        view, restored = images.undelete_image(
            self._deployment, caller=caller, image_id=image_id_of(request), problems=reading.problems
        )
        return pb.UndeleteImageResponse(image=image_message(view), restored_share_count=restored)

    @once(pb.DeactivateImageResponse)
    def DeactivateImage(
        self, request: pb.DeactivateImageRequest, context: grpc.ServicerContext
    ) -> pb.DeactivateImageResponse:
        caller, reading = current_caller(), RequestReading(request)
        view = images.deactivate_image(
            self._deployment, caller=caller, image_id=image_id_of(request), problems=reading.problems
        )
        return pb.DeactivateImageResponse(image=image_message(view))

    @once(pb.ReactivateImageResponse)
    def ReactivateImage(
        self, request: pb.ReactivateImageRequest, context: grpc.ServicerContext
    ) -> pb.ReactivateImageResponse:
        caller, reading = current_caller(), RequestReading(request)
        view = images.reactivate_image(
            self._deployment, caller=caller, image_id=image_id_of(request), problems=reading.problems
        )
        return pb.ReactivateImageResponse(image=image_message(view))

    def UploadImageData(
        self, request_iterator: Iterator[pb.UploadImageDataRequest], context: grpc.ServicerContext
    ) -> pb.UploadImageDataResponse:
        first = next(request_iterator, pb.UploadImageDataRequest())
        if first.WhichOneof("part") != "start":
            raise _misplaced("the first message of an upload is `start`.")
        reading = RequestReading(first)
        image_id = image_id_of(first.start)
        announced = read_announcement(reading, first.start, at="start.")
        upload = partial(
            image_data.upload_image_data,
            self._deployment,
            caller=current_caller(),
            image_id=image_id,
            disk_index=first.start.disk_index,
            announced=announced,
            chunks=_chunks(request_iterator),
            problems=reading.problems,
        )
        return once_finished(
            self._deployment,
            "UploadImageData",
            first.start,
            lambda finishing: upload(finishing=finishing),
            _uploaded,
            pb.UploadImageDataResponse,
        )

    def DownloadImageData(
        self, request: pb.DownloadImageDataRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.DownloadImageDataResponse]:
        caller, reading = current_caller(), RequestReading(request)
        image_id = image_id_of(request)
        length_bytes = reading.not_negative("length_bytes", request.length_bytes)
        tenant_id = reading.tenant_id("tenant_id", request.tenant_id)
        download = downloads.download_image_data(
            self._deployment,
            caller=caller,
            image_id=image_id,
            disk_index=request.disk_index,
            offset_bytes=request.offset_bytes,
            length_bytes=length_bytes,
            tenant_id=tenant_id,
            problems=reading.problems,
        )
        yield pb.DownloadImageDataResponse(
            start=pb.DownloadImageDataResponse.Start(
                disk=disk_message(download.disk),
                offset_bytes=download.offset_bytes,
                length_bytes=download.length_bytes,
            )
        )
        for chunk in download.chunks:
            # The wire's bytes of a message, or a megabyte would be copied once more.
            yield cast("pb.DownloadImageDataResponse", field(_CHUNK, chunk))

    def CreateDownloadUrl(
        self, request: pb.CreateDownloadUrlRequest, context: grpc.ServicerContext
    ) -> pb.CreateDownloadUrlResponse:
        caller, reading = current_caller(), RequestReading(request)
        image_id = image_id_of(request)
        valid = reading.url_seconds(request.valid_seconds)
        tenant_id = reading.tenant_id("tenant_id", request.tenant_id)
        made = downloads.create_download_url(
            self._deployment,
            caller=caller,
            image_id=image_id,
            disk_index=request.disk_index,
            valid=valid,
            tenant_id=tenant_id,
            problems=reading.problems,
        )
        return pb.CreateDownloadUrlResponse(
            url=made.url, expire_time=timestamp(made.expire_time), disk=disk_message(made.disk)
        )

    def ResolveImage(
        self, request: pb.ResolveImageRequest, context: grpc.ServicerContext
    ) -> pb.ResolveImageResponse:
        caller, reading = current_caller(), RequestReading(request)
        image_id = image_id_of(request)
        wanted = read_use(reading, request, home=caller.region)
        tenant_id = reading.tenant_id("tenant_id", request.tenant_id)
        resolution = use.resolve_image(
            self._deployment,
            caller=caller,
            image_id=image_id,
            use=wanted,
            tenant_id=tenant_id,
            problems=reading.problems,
        )
        return resolution_message(resolution, tenant_id=request.tenant_id)

    def GetQuotas(
        self, request: pb.GetQuotasRequest, context: grpc.ServicerContext
    ) -> pb.GetQuotasResponse:
        allowance = quotas.get_quotas(self._deployment, caller=current_caller())
        return pb.GetQuotasResponse(quotas=quotas_message(allowance))

    def _ask_for_its_key(self, request: pb.ImportImageRequest) -> None:
        ask_for_key_of(self._deployment, current_caller(), image_id_of(request))

    def ImportImage(
        self, request: pb.ImportImageRequest, context: grpc.ServicerContext
    ) -> operations_pb2.Operation:
        if request.WhichOneof("source") == "upload_id":
            return self._import_upload(request)
        return self._import_from_url(request, context)

    def _import_upload(self, request: pb.ImportImageRequest) -> operations_pb2.Operation:
        reading = RequestReading(request)
        begin = partial(
            importing.import_upload,
            self._deployment,
            caller=current_caller(),
            image_id=image_id_of(request),
            disk_index=request.disk_index,
            upload_id=read_upload_to_import(reading, request),
            problems=reading.problems,
        )
        return once_finished(
            self._deployment,
            "ImportImage",
            request,
            lambda finishing: begin(finishing=finishing),
            operation_message,
            operations_pb2.Operation,
        )

    @once(operations_pb2.Operation, rpc="ImportImage", before=_ask_for_its_key)
    def _import_from_url(
        self, request: pb.ImportImageRequest, context: grpc.ServicerContext
    ) -> operations_pb2.Operation:
        caller, reading = current_caller(), RequestReading(request)
        operation = importing.import_image(
            self._deployment,
            caller=caller,
            image_id=image_id_of(request),
            disk_index=request.disk_index,
            order=read_import_order(reading, request),
            problems=reading.problems,
        )
        return operation_message(operation)

    def _ask_for_both_keys(self, request: pb.CopyImageRequest) -> None:
        caller = current_caller()
        ask_for_key(self._deployment, KeyId(request.encryption_key_id) or None, caller.tenant_id)
        ask_for_key_of(self._deployment, caller, image_id_of(request))

    @once(operations_pb2.Operation, before=_ask_for_both_keys)
    def CopyImage(
        self, request: pb.CopyImageRequest, context: grpc.ServicerContext
    ) -> operations_pb2.Operation:
        caller, reading = current_caller(), RequestReading(request)
        image_id = image_id_of(request)
        order = read_copy_order(reading, request)
        begun = copying.copy_image(
            self._deployment,
            caller=caller,
            image_id=image_id,
            order=order,
            validate_only=request.validate_only,
            problems=reading.problems,
        )
        return _begun_message(begun)

    @once(operations_pb2.Operation)
    def CopyImageToRegion(
        self, request: pb.CopyImageToRegionRequest, context: grpc.ServicerContext
    ) -> operations_pb2.Operation:
        caller, reading = current_caller(), RequestReading(request)
        image_id = image_id_of(request)
        order = read_region_copy_order(reading, request)
        begun = region_copying.copy_image_to_region(
            self._deployment,
            caller=caller,
            image_id=image_id,
            order=order,
            validate_only=request.validate_only,
            problems=reading.problems,
        )
        return _begun_message(begun)

    def DiscardImage(
        self, request: pb.DiscardImageRequest, context: grpc.ServicerContext
    ) -> pb.DiscardImageResponse:
        reading = RequestReading(request)
        discard = partial(
            region_copying.discard_image,
            self._deployment,
            caller=current_caller(),
            image_id=image_id_of(request),
            problems=reading.problems,
        )
        return once_finished(
            self._deployment,
            "DiscardImage",
            request,
            lambda finishing: discard(finishing=finishing),
            lambda _nothing: pb.DiscardImageResponse(),
            pb.DiscardImageResponse,
        )

    def _look_at_its_key_and_target(self, request: pb.ExportImageRequest) -> None:
        caller, image_id = current_caller(), image_id_of(request)
        ask_for_key_of(self._deployment, caller, image_id)
        reading = RequestReading(request)
        order = read_export_order(reading, request)
        if not reading.problems:
            exporting.look_at_target(self._deployment, caller=caller, image_id=image_id, order=order)

    @once(operations_pb2.Operation, before=_look_at_its_key_and_target)
    def ExportImage(
        self, request: pb.ExportImageRequest, context: grpc.ServicerContext
    ) -> operations_pb2.Operation:
        caller, reading = current_caller(), RequestReading(request)
        image_id = image_id_of(request)
        order = read_export_order(reading, request)
        begun = exporting.export_image(
            self._deployment,
            caller=caller,
            image_id=image_id,
            order=order,
            validate_only=request.validate_only,
            problems=reading.problems,
        )
        if begun.operation is None:
            return judged_export_message(begun.exported)
        return operation_message(begun.operation)


def _begun_message(begun: copying.BegunCopy) -> operations_pb2.Operation:
    if begun.operation is None:
        return judged_copy_message(begun.view)
    return operation_message(begun.operation)


def _uploaded(finished: image_data.Finished) -> pb.UploadImageDataResponse:
    view, disk = finished
    return pb.UploadImageDataResponse(image=image_message(view), disk=disk_message(disk))


_GOT: Final = pb.GetImageResponse.IMAGE_FIELD_NUMBER
_LISTED: Final = pb.ListImagesResponse.IMAGES_FIELD_NUMBER
_CHUNK: Final = pb.DownloadImageDataResponse.CHUNK_FIELD_NUMBER


def _chunks(messages: Iterator[pb.UploadImageDataRequest]) -> Iterator[bytes]:
    for message in messages:
        if message.WhichOneof("part") != "chunk":
            raise _misplaced("every message of an upload but the first is `chunk`.")
        if message.chunk:
            yield message.chunk


def _misplaced(message: str) -> Rejection:
    return reject(
        Category.MALFORMED, Reason.INVALID_FIELD, f"part: {message}", subject="part", field="part"
    )
