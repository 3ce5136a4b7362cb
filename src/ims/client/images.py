"""The calls of ImageService, but for the transfers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict, Unpack

from google.protobuf.field_mask_pb2 import FieldMask

from ims.client.connection import Connection
from ims.client.times import timestamp
from ims.client.vocabulary import (
    Architecture,
    DeleteImageResponse,
    Disk,
    DiskFormat,
    DiskRole,
    Firmware,
    Image,
    ImageClass,
    ImageState,
    ImageType,
    OperatingSystem,
    OsType,
    Purpose,
    Relation,
    RelationKind,
    ResolveImageRequest,
    ResolveImageResponse,
    Source,
    TagFilter,
    TenantQuotas,
    UndeleteImageResponse,
)
from ims.v1.image_service_pb2 import (
    CreateImageRequest,
    DeactivateImageRequest,
    DeleteImageRequest,
    DiscardImageRequest,
    GetImageRequest,
    GetQuotasRequest,
    ListImagesRequest,
    ReactivateImageRequest,
    UndeleteImageRequest,
    UpdateImageRequest,
)


class ImageAttributes(TypedDict, total=False):
    """What describes an image and can be changed later; image.proto says what each may be."""

    description: str
    os_type: OsType
    os_platform: str
    os_version: str
    os_bits: int
    architecture: Architecture
    firmware: Firmware
    min_disk_gib: int
    min_ram_mib: int
    max_ram_mib: int
    tags: Mapping[str, str]
    protected: bool


class ImageChanges(ImageAttributes, total=False):
    """What an update changes: what is left out stays as it is; tags are exchanged as a whole."""

    name: str


class NewImageAttributes(ImageAttributes, total=False):
    """What describes an image from its creation on."""

    encryption_key_id: str
    """The key that its bytes are encrypted with at rest; left out, they are not."""
    for_bms: bool
    owner_tenant_id: str
    """For whom it is created; only the role `service` may name another tenant than its own."""
    non_exportable: bool
    """Never to be exported: it comes from a server or a volume whose own image is not."""


_OS_FIELDS = {"os_type": "type", "os_platform": "platform", "os_version": "version", "os_bits": "bits"}


class ImageCalls(Connection):
    """Keeps records of images. Every method raises Declined or Unreachable."""

    def create_image(
        self,
        *,
        name: str,
        type: ImageType,  # noqa: A002 - the contract's word
        formats: Sequence[DiskFormat],
        roles: Sequence[DiskRole] = (),
        source: Source | None = None,
        validate_only: bool = False,
        request_id: str = "",
        **attributes: Unpack[NewImageAttributes],
    ) -> Image:
        """Create the record of an image, QUEUED until its disks are uploaded.

        `formats` has one for each disk, the system disk first; so has `roles`, unless they are to
        follow from the type. With `validate_only` nothing is stored.
        """
        disks = [CreateImageRequest.DiskDeclaration(format=each) for each in formats]
        for disk, role in zip(disks, roles or [Disk.ROLE_UNSPECIFIED] * len(disks), strict=True):
            disk.role = role
        request = CreateImageRequest(
            name=name,
            type=type,
            disks=disks,
            source=source,
            validate_only=validate_only,
            request_id=request_id,
        )
        _fill(request, attributes)
        return self._call(self._images.CreateImage, request).image

    def get_image(self, image_id: str) -> Image:
        """Get an image: the caller's own, a public one, or one that is shared with the caller."""
        return self._call(self._images.GetImage, GetImageRequest(image_id=image_id)).image

    def list_images(
        self,
        *,
        relation: RelationKind = Relation.KIND_UNSPECIFIED,
        image_class: ImageClass = Image.CLASS_UNSPECIFIED,
        type: ImageType = Image.TYPE_UNSPECIFIED,  # noqa: A002 - the contract's word
        state: ImageState = Image.STATE_UNSPECIFIED,
        name: str = "",
        name_prefix: str = "",
        os_type: OsType = OperatingSystem.TYPE_UNSPECIFIED,
        owner_tenant_id: str = "",
        tags: Mapping[str, str] | None = None,
        tags_any: Iterable[TagFilter] = (),
        tags_none: Iterable[TagFilter] = (),
        min_size_bytes: int = 0,
        max_size_bytes: int | None = None,
        created_from: datetime | None = None,
        created_before: datetime | None = None,
        updated_from: datetime | None = None,
        updated_before: datetime | None = None,
        order_by: str = "",
        page_size: int = 0,
    ) -> Iterator[Image]:
        """Yield the images that the caller owns, has accepted, or that are public.

        They come the newest first, unless `order_by` says otherwise: `create_time`, `name` or
        `size_bytes`, perhaps with ` desc` behind it. Filters that are left out let everything through,
        but deleted images; times have a time zone. Asks page by page, as far as it is read.
        """
        request = ListImagesRequest(
            relation=relation,
            type=type,
            state=state,
            name=name,
            name_prefix=name_prefix,
            os_type=os_type,
            owner_tenant_id=owner_tenant_id,
            tags=tags,
            tags_any=tags_any,
            tags_none=tags_none,
            min_size_bytes=min_size_bytes,
            max_size_bytes=max_size_bytes,
            created_from=timestamp(created_from),
            created_before=timestamp(created_before),
            updated_from=timestamp(updated_from),
            updated_before=timestamp(updated_before),
            order_by=order_by,
            page_size=page_size,
        )
        setattr(request, "class", image_class)  # a word that Python keeps for itself
        for page in self._pages(self._images.ListImages, request):
            yield from page.images

    def update_image(
        self, image_id: str, *, etag: str = "", request_id: str = "", **changes: Unpack[ImageChanges]
    ) -> Image:
        """Change what is given, and nothing else; with an etag, only if the image still bears it."""
        image = Image()
        request = UpdateImageRequest(
            image_id=image_id,
            update_mask=FieldMask(paths=_fill(image, changes)),
            image=image,
            etag=etag,
            request_id=request_id,
        )
        return self._call(self._images.UpdateImage, request).image

    def delete_image(
        self,
        image_id: str,
        *,
        etag: str = "",
        validate_only: bool = False,
        require_unused: bool = False,
        request_id: str = "",
    ) -> DeleteImageResponse:
        """Delete an image and end its shares; it can be undeleted for a while.

        With an etag, only if the image still bears it; with `require_unused`, only if no server or
        volume made from it is registered. With `validate_only` nothing happens, and the answer tells
        what would be hit and everything that would be refused.
        """
        request = DeleteImageRequest(
            image_id=image_id,
            etag=etag,
            validate_only=validate_only,
            require_unused=require_unused,
            request_id=request_id,
        )
        return self._call(self._images.DeleteImage, request)

    def undelete_image(self, image_id: str, *, request_id: str = "") -> UndeleteImageResponse:
        """Restore a deleted image with its shares."""
        return self._call(
            self._images.UndeleteImage, UndeleteImageRequest(image_id=image_id, request_id=request_id)
        )

    def discard_image(self, image_id: str, *, request_id: str = "") -> None:
        """Remove for ever an image that the caller, the service of another region, has not completed."""
        self._call(
            self._images.DiscardImage, DiscardImageRequest(image_id=image_id, request_id=request_id)
        )

    def deactivate_image(self, image_id: str, *, request_id: str = "") -> Image:
        """Refuse an image's bytes to everyone from now on."""
        return self._call(
            self._images.DeactivateImage,
            DeactivateImageRequest(image_id=image_id, request_id=request_id),
        ).image

    def reactivate_image(self, image_id: str, *, request_id: str = "") -> Image:
        """Make a deactivated image ACTIVE again."""
        return self._call(
            self._images.ReactivateImage,
            ReactivateImageRequest(image_id=image_id, request_id=request_id),
        ).image

    def resolve_image(
        self,
        image_id: str,
        purpose: Purpose,
        *,
        tenant_id: str = "",
        region: str = "",
        disk_gib: int = 0,
        ram_mib: int = 0,
        firmware: Firmware = Image.FIRMWARE_UNSPECIFIED,
    ) -> ResolveImageResponse:
        """Get what using an image for a purpose needs, or learn from Declined which rules forbid it.

        Only a caller with the role `service` asks for another tenant than its own.
        """
        request = ResolveImageRequest(
            image_id=image_id,
            purpose=purpose,
            tenant_id=tenant_id,
            region=region,
            disk_gib=disk_gib,
            ram_mib=ram_mib,
            firmware=firmware,
        )
        return self._call(self._images.ResolveImage, request)

    def get_quotas(self) -> TenantQuotas:
        """Return what the caller's tenant has taken of its quotas, and the most that it can have."""
        return self._call(self._images.GetQuotas, GetQuotasRequest()).quotas


def _fill(message: CreateImageRequest | Image, attributes: Mapping[str, Any]) -> list[str]:
    """Write attributes into a message; return the paths of its fields that were written."""
    paths = []
    for name, value in attributes.items():
        os_field = _OS_FIELDS.get(name)
        if os_field:
            setattr(message.os, os_field, value)
        elif name == "tags":
            message.tags.update(value)
        else:
            setattr(message, name, value)
        paths.append(f"os.{os_field}" if os_field else name)
    return paths
