"""The calls of SharingService."""

from collections.abc import Iterable, Iterator

from ims.client.connection import Connection
from ims.client.vocabulary import (
    ReceivedShare,
    Recipient,
    Share,
    ShareImageResponse,
    ShareStatus,
    UnshareImageResponse,
)
from ims.v1.sharing_service_pb2 import (
    AcceptShareRequest,
    GetShareRequest,
    LeaveShareRequest,
    ListReceivedSharesRequest,
    ListSharesRequest,
    RejectShareRequest,
    ShareImageRequest,
    UnshareImageRequest,
)


class SharingCalls(Connection):
    """Lends private images to other tenants. Every method raises Declined or Unreachable."""

    def share_image(
        self,
        image_id: str,
        recipients: Iterable[str | Recipient],
        *,
        allow_partial: bool = False,
        validate_only: bool = False,
        request_id: str = "",
    ) -> ShareImageResponse:
        """Share an image with up to 100 more tenants: all of them, or none.

        A recipient is a tenant's id, or a Recipient when its region is to be said. With
        `allow_partial` those get it whom no rule refuses; with `validate_only` nobody does, and the
        answer tells everything that would be refused.
        """
        request = ShareImageRequest(
            image_id=image_id,
            recipients=[
                Recipient(tenant_id=each) if isinstance(each, str) else each for each in recipients
            ],
            allow_partial=allow_partial,
            validate_only=validate_only,
            request_id=request_id,
        )
        return self._call(self._sharing.ShareImage, request)

    def unshare_image(
        self,
        image_id: str,
        tenant_ids: Iterable[str] = (),
        *,
        all_tenants: bool = False,
        validate_only: bool = False,
        require_unused: bool = False,
        request_id: str = "",
    ) -> UnshareImageResponse:
        """Stop sharing an image with some tenants, or with all. Nothing serves them any more.

        With `require_unused`, only if none of them has a registered use of the image. With
        `validate_only` no share ends, and the answer tells what would be hit and what would be refused.
        """
        request = UnshareImageRequest(
            image_id=image_id,
            tenant_ids=tenant_ids,
            all_tenants=all_tenants,
            validate_only=validate_only,
            require_unused=require_unused,
            request_id=request_id,
        )
        return self._call(self._sharing.UnshareImage, request)

    def get_share(self, image_id: str, tenant_id: str = "") -> Share:
        """Get one share: the caller's own, or as the owner that of any tenant."""
        request = GetShareRequest(image_id=image_id, tenant_id=tenant_id)
        return self._call(self._sharing.GetShare, request).share

    def list_shares(
        self, image_id: str, *, status: ShareStatus = Share.STATUS_UNSPECIFIED, page_size: int = 0
    ) -> Iterator[Share]:
        """Yield the shares of an own image, by tenant. Asks page by page, as far as it is read."""
        request = ListSharesRequest(image_id=image_id, status=status, page_size=page_size)
        for page in self._pages(self._sharing.ListShares, request):
            yield from page.shares

    def list_received_shares(
        self,
        *,
        status: ShareStatus = Share.STATUS_UNSPECIFIED,
        order_by: str = "",
        page_size: int = 0,
    ) -> Iterator[ReceivedShare]:
        """Yield what others share with the caller, with the images, the newest share first.

        With `order_by="create_time"` the oldest comes first. Asks page by page, as far as it is read.
        """
        request = ListReceivedSharesRequest(status=status, order_by=order_by, page_size=page_size)
        for page in self._pages(self._sharing.ListReceivedShares, request):
            yield from page.received_shares

    def accept_share(self, image_id: str, *, vault_id: str = "", request_id: str = "") -> Share:
        """Accept a share; that of a full-ECS image may need a backup vault."""
        request = AcceptShareRequest(image_id=image_id, vault_id=vault_id, request_id=request_id)
        return self._call(self._sharing.AcceptShare, request).share

    def reject_share(self, image_id: str, *, request_id: str = "") -> Share:
        """Reject a share; it can be accepted later."""
        return self._call(
            self._sharing.RejectShare, RejectShareRequest(image_id=image_id, request_id=request_id)
        ).share

    def leave_share(self, image_id: str, *, request_id: str = "") -> None:
        """Remove a share from the recipient's side."""
        self._call(self._sharing.LeaveShare, LeaveShareRequest(image_id=image_id, request_id=request_id))
