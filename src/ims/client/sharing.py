"""The calls of SharingService."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Final, TypedDict, Unpack

from google.protobuf.field_mask_pb2 import FieldMask

from ims.client.connection import Connection
from ims.client.errors import Declined
from ims.client.times import timestamp
from ims.client.vocabulary import (
    ReceivedShare,
    Recipient,
    Share,
    ShareImageResponse,
    ShareStatus,
    TrustRules,
    UnshareImageResponse,
)
from ims.v1.sharing_service_pb2 import (
    AcceptShareRequest,
    GetShareRequest,
    GetTrustRulesRequest,
    LeaveShareRequest,
    ListReceivedSharesRequest,
    ListSharesRequest,
    RejectShareRequest,
    SetTrustRulesRequest,
    ShareImageRequest,
    UnshareImageRequest,
    UpdateShareRequest,
)

_TRIES: Final = 10
"""How often a block is tried while somebody else changes the same rules."""


class TrustChanges(TypedDict, total=False):
    """The trust rules that a call sets; a limit of None is the deployment's again."""

    auto_accept_from: Iterable[str]
    blocked: Iterable[str]
    max_pending_shares: int | None


class SharingCalls(Connection):
    """Lends private images to other tenants. Every method raises Declined or Unreachable."""

    def share_image(
        self,
        image_id: str,
        recipients: Iterable[str | Recipient],
        *,
        expire_time: datetime | None = None,
        allow_partial: bool = False,
        validate_only: bool = False,
        request_id: str = "",
    ) -> ShareImageResponse:
        """Share an image with up to 100 more tenants: all of them, or none.

        A recipient is a tenant's id, or a Recipient when its region is to be said. Who has no share yet
        gets one until `expire_time` (aware), or one that does not end by itself. With
        `allow_partial` those get it whom no rule refuses; with `validate_only` nobody does, and the
        answer tells everything that would be refused.
        """
        request = ShareImageRequest(
            image_id=image_id,
            recipients=[
                Recipient(tenant_id=each) if isinstance(each, str) else each for each in recipients
            ],
            expire_time=timestamp(expire_time),
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

    def update_share(
        self, image_id: str, tenant_id: str, *, expire_time: datetime | None, request_id: str = ""
    ) -> Share:
        """Have the share of a tenant end at another time (aware), or not by itself (None)."""
        request = UpdateShareRequest(
            image_id=image_id,
            tenant_id=tenant_id,
            share=Share(expire_time=timestamp(expire_time)),
            update_mask=FieldMask(paths=["expire_time"]),
            request_id=request_id,
        )
        return self._call(self._sharing.UpdateShare, request).share

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

    def get_trust_rules(self) -> TrustRules:
        """Get what the caller's tenant says, once, of what others may share with it."""
        return self._call(self._sharing.GetTrustRules, GetTrustRulesRequest()).rules

    def set_trust_rules(
        self, *, etag: str = "", request_id: str = "", **rules: Unpack[TrustChanges]
    ) -> TrustRules:
        """Change the trust rules of the caller's tenant; those that are not named stay as they are.

        With an etag, only if the rules are still those that were read with it.
        """
        request = SetTrustRulesRequest(
            rules=TrustRules(**rules),
            update_mask=FieldMask(paths=list(rules)),
            etag=etag,
            request_id=request_id,
        )
        return self._call(self._sharing.SetTrustRules, request).rules

    def block_owners(self, tenant_ids: Iterable[str]) -> TrustRules:
        """Block tenants, beside those that are: what they share is not seen. Nobody is told."""
        blocked = set(tenant_ids)
        return self._change_trust(
            lambda rules: {
                "blocked": sorted({*rules.blocked, *blocked}),
                "auto_accept_from": sorted({*rules.auto_accept_from} - blocked),
            }
        )

    def unblock_owners(self, tenant_ids: Iterable[str]) -> TrustRules:
        """Block tenants no longer: what they share is seen again, also what they have shared before."""
        unblocked = set(tenant_ids)
        return self._change_trust(lambda rules: {"blocked": sorted({*rules.blocked} - unblocked)})

    def _change_trust(self, change: Callable[[TrustRules], TrustChanges]) -> TrustRules:
        """Change the rules that there are, and again when somebody else has changed them meanwhile."""
        for _ in range(_TRIES):
            rules = self.get_trust_rules()
            try:
                return self.set_trust_rules(etag=rules.etag, **change(rules))
            except Declined as declined:
                if declined.reason != "ETAG_MISMATCH":
                    raise
        rules = self.get_trust_rules()
        return self.set_trust_rules(etag=rules.etag, **change(rules))
