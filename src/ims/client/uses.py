"""The calls of UseService."""

from collections.abc import Iterator

from ims.client.connection import Connection
from ims.client.vocabulary import TenantUsage, Use, UseKind
from ims.v1.use_service_pb2 import (
    GetUsageRequest,
    ListUsesRequest,
    RegisterUseRequest,
    ReleaseUseRequest,
)


class UseCalls(Connection):
    """Knows what was made from images. Every method raises Declined or Unreachable.

    Only a caller with the role `service` names another tenant than its own.
    """

    def register_use(
        self,
        image_id: str,
        kind: UseKind,
        consumer_id: str,
        *,
        tenant_id: str = "",
        request_id: str = "",
    ) -> Use:
        """Register that a server or a volume is made from an image; the same again is the same use."""
        request = RegisterUseRequest(
            image_id=image_id,
            tenant_id=tenant_id,
            kind=kind,
            consumer_id=consumer_id,
            request_id=request_id,
        )
        return self._call(self._uses.RegisterUse, request).use

    def release_use(
        self,
        image_id: str,
        kind: UseKind,
        consumer_id: str,
        *,
        tenant_id: str = "",
        request_id: str = "",
    ) -> bool:
        """Release a use; return whether there was one. Works when the image is out of sight, too."""
        request = ReleaseUseRequest(
            image_id=image_id,
            tenant_id=tenant_id,
            kind=kind,
            consumer_id=consumer_id,
            request_id=request_id,
        )
        return self._call(self._uses.ReleaseUse, request).released

    def list_uses(
        self,
        image_id: str = "",
        *,
        tenant_id: str = "",
        kind: UseKind = Use.KIND_UNSPECIFIED,
        page_size: int = 0,
    ) -> Iterator[Use]:
        """Yield a tenant's uses of an image, or of all. Asks page by page, as far as it is read."""
        request = ListUsesRequest(image_id=image_id, tenant_id=tenant_id, kind=kind, page_size=page_size)
        for page in self._pages(self._uses.ListUses, request):
            yield from page.uses

    def get_usage(self, image_id: str, *, page_size: int = 0) -> Iterator[TenantUsage]:
        """Yield how many uses an image has: of every tenant to its owner, else the caller's own.

        Asks page by page, as far as it is read.
        """
        request = GetUsageRequest(image_id=image_id, page_size=page_size)
        for page in self._pages(self._uses.GetUsage, request):
            yield from page.usages
