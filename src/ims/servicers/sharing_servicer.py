"""SharingService on the wire."""

from collections.abc import Sequence
from typing import Final, cast

import grpc

from ims.domain.page import PageRequest, Received
from ims.domain.share import Share
from ims.domain.tenant import TenantId
from ims.servicers.current_call import current_caller
from ims.servicers.image_messages import image_bytes
from ims.servicers.once import once
from ims.servicers.page_tokens import Listing
from ims.servicers.reading import FOREIGN_ID, RequestReading, image_id_of
from ims.servicers.ready import field
from ims.servicers.share_messages import (
    read_recipients,
    read_share_changes,
    read_share_filter,
    read_share_order,
    read_tenant_ids,
    read_trust_changes,
    refusal_messages,
    share_message,
    sharing_message,
    trust_rules_message,
)
from ims.servicers.use_messages import usage_summary_message
from ims.use_cases import sharing, trust
from ims.use_cases.deployment import Deployment
from ims.v1 import sharing_service_pb2 as pb
from ims.v1 import sharing_service_pb2_grpc

_RECEIVED: Final = pb.ListReceivedSharesResponse.RECEIVED_SHARES_FIELD_NUMBER
_SHARE: Final = pb.ListReceivedSharesResponse.ReceivedShare.SHARE_FIELD_NUMBER
_IMAGE: Final = pb.ListReceivedSharesResponse.ReceivedShare.IMAGE_FIELD_NUMBER


class SharingServicer(sharing_service_pb2_grpc.SharingServiceServicer):
    """Parses requests, tells the use case, renders its answer."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    @once(pb.ShareImageResponse)
    def ShareImage(
        self, request: pb.ShareImageRequest, context: grpc.ServicerContext
    ) -> pb.ShareImageResponse:
        caller, reading = current_caller(), RequestReading(request)
        image_id = image_id_of(request)
        recipients = read_recipients(reading, request.recipients)
        expire_time = reading.time(request, "expire_time")
        if request.validate_only:
            outcome = sharing.preview_sharing(
                self._deployment,
                caller=caller,
                image_id=image_id,
                recipients=recipients,
                expire_time=expire_time,
                problems=reading.problems,
            )
        else:
            outcome = sharing.share_image(
                self._deployment,
                caller=caller,
                image_id=image_id,
                recipients=recipients,
                expire_time=expire_time,
                allow_partial=request.allow_partial,
                problems=reading.problems,
            )
        return sharing_message(outcome, viewer=caller.tenant_id)

    @once(pb.UnshareImageResponse)
    def UnshareImage(
        self, request: pb.UnshareImageRequest, context: grpc.ServicerContext
    ) -> pb.UnshareImageResponse:
        caller, reading = current_caller(), RequestReading(request)
        image_id = image_id_of(request)
        tenant_ids = read_tenant_ids(reading, request.tenant_ids)
        if request.all_tenants == bool(request.tenant_ids):
            reading.problem("tenant_ids", "name tenants, or set all_tenants; one of both, not both.")
        if request.validate_only:
            preview = sharing.preview_unsharing(
                self._deployment,
                caller=caller,
                image_id=image_id,
                tenant_ids=None if request.all_tenants else tenant_ids,
                require_unused=request.require_unused,
                problems=reading.problems,
            )
            answer = _unsharing_message(preview.ended, tenant_ids, viewer=caller.tenant_id)
            answer.refusals.extend(refusal_messages(preview.refusals))
            answer.usage.CopyFrom(usage_summary_message(preview.usage))
            return answer
        ended = sharing.unshare_image(
            self._deployment,
            caller=caller,
            image_id=image_id,
            tenant_ids=None if request.all_tenants else tenant_ids,
            require_unused=request.require_unused,
            problems=reading.problems,
        )
        return _unsharing_message(ended, tenant_ids, viewer=caller.tenant_id)

    @once(pb.UpdateShareResponse)
    def UpdateShare(
        self, request: pb.UpdateShareRequest, context: grpc.ServicerContext
    ) -> pb.UpdateShareResponse:
        caller, reading = current_caller(), RequestReading(request)
        image_id = image_id_of(request)
        tenant_id = reading.tenant_id("tenant_id", request.tenant_id)
        fields, expire_time = read_share_changes(reading, request)
        share = sharing.update_share(
            self._deployment,
            caller=caller,
            image_id=image_id,
            tenant_id=tenant_id,
            fields=fields,
            expire_time=expire_time,
            problems=reading.problems,
        )
        return pb.UpdateShareResponse(share=share_message(share, viewer=caller.tenant_id))

    def GetShare(
        self, request: pb.GetShareRequest, context: grpc.ServicerContext
    ) -> pb.GetShareResponse:
        caller, reading = current_caller(), RequestReading(request)
        image_id = image_id_of(request)
        tenant_id = reading.tenant_id("tenant_id", request.tenant_id)
        share = sharing.get_share(
            self._deployment,
            caller=caller,
            image_id=image_id,
            tenant_id=tenant_id,
            problems=reading.problems,
        )
        return pb.GetShareResponse(share=share_message(share, viewer=caller.tenant_id))

    def ListShares(
        self, request: pb.ListSharesRequest, context: grpc.ServicerContext
    ) -> pb.ListSharesResponse:
        caller, reading = current_caller(), RequestReading(request)
        image_id = image_id_of(request)
        share_filter = read_share_filter(reading, request)
        listing = Listing(self._deployment.page_token_key, caller.tenant_id, request)
        place = listing.place(reading, request.page_token)
        size = reading.page_size(request.page_size)
        page = sharing.list_shares(
            self._deployment,
            caller=caller,
            image_id=image_id,
            share_filter=share_filter,
            size=size,
            after=place.id if place else "",
            count=request.include_total_size,
            problems=reading.problems,
        )
        return pb.ListSharesResponse(
            shares=[share_message(share, viewer=caller.tenant_id) for share in page.items],
            next_page_token=listing.token(page.places[-1]) if page.more else "",
            total_size=page.total_size or 0,
        )

    def ListReceivedShares(
        self, request: pb.ListReceivedSharesRequest, context: grpc.ServicerContext
    ) -> pb.ListReceivedSharesResponse:
        caller, reading = current_caller(), RequestReading(request)
        share_filter = read_share_filter(reading, request)
        descending = read_share_order(reading, request.order_by)
        listing = Listing(self._deployment.page_token_key, caller.tenant_id, request)
        wanted = PageRequest(
            size=reading.page_size(request.page_size),
            after=listing.place(reading, request.page_token),
            count=request.include_total_size,
        )
        page = sharing.list_received_shares(
            self._deployment,
            caller=caller,
            share_filter=share_filter,
            page=wanted,
            descending=descending,
            problems=reading.problems,
        )

        def write(received: Received) -> bytes:
            share = share_message(received.share, viewer=caller.tenant_id).SerializeToString()
            return field(_RECEIVED, field(_SHARE, share) + field(_IMAGE, image_bytes(received.view)))

        listed, token = listing.answer(page, write)
        rest = pb.ListReceivedSharesResponse(next_page_token=token, total_size=page.total_size or 0)
        # The wire's bytes of an answer.
        return cast("pb.ListReceivedSharesResponse", b"".join((*listed, rest.SerializeToString())))

    @once(pb.AcceptShareResponse)
    def AcceptShare(
        self, request: pb.AcceptShareRequest, context: grpc.ServicerContext
    ) -> pb.AcceptShareResponse:
        caller, reading = current_caller(), RequestReading(request)
        image_id = image_id_of(request)
        what = "a vault's id: 1 to 128 printable characters, no spaces"
        vault_id = reading.matching("vault_id", request.vault_id, FOREIGN_ID, what)
        share = sharing.accept_share(
            self._deployment,
            caller=caller,
            image_id=image_id,
            vault_id=vault_id,
            problems=reading.problems,
        )
        return pb.AcceptShareResponse(share=share_message(share, viewer=caller.tenant_id))

    @once(pb.RejectShareResponse)
    def RejectShare(
        self, request: pb.RejectShareRequest, context: grpc.ServicerContext
    ) -> pb.RejectShareResponse:
        caller, reading = current_caller(), RequestReading(request)
        share = sharing.reject_share(
            self._deployment, caller=caller, image_id=image_id_of(request), problems=reading.problems
        )
        return pb.RejectShareResponse(share=share_message(share, viewer=caller.tenant_id))

    @once(pb.LeaveShareResponse)
    def LeaveShare(
        self, request: pb.LeaveShareRequest, context: grpc.ServicerContext
    ) -> pb.LeaveShareResponse:
        caller, reading = current_caller(), RequestReading(request)
        sharing.leave_share(
            self._deployment, caller=caller, image_id=image_id_of(request), problems=reading.problems
        )
        return pb.LeaveShareResponse()

    def GetTrustRules(
        self, request: pb.GetTrustRulesRequest, context: grpc.ServicerContext
    ) -> pb.GetTrustRulesResponse:
        rules = trust.get_trust_rules(self._deployment, caller=current_caller())
        return pb.GetTrustRulesResponse(rules=trust_rules_message(rules))

    @once(pb.SetTrustRulesResponse)
    def SetTrustRules(
        self, request: pb.SetTrustRulesRequest, context: grpc.ServicerContext
    ) -> pb.SetTrustRulesResponse:
        caller, reading = current_caller(), RequestReading(request)
        changes = read_trust_changes(reading, request, own=caller.tenant_id)
        rules = trust.set_trust_rules(
            self._deployment,
            caller=caller,
            changes=changes,
            expected_etag=request.etag,
            problems=reading.problems,
        )
        return pb.SetTrustRulesResponse(rules=trust_rules_message(rules))


def _unsharing_message(
    ended: Sequence[Share], tenant_ids: Sequence[TenantId], *, viewer: TenantId
) -> pb.UnshareImageResponse:
    had_one = {share.tenant_id for share in ended}
    return pb.UnshareImageResponse(
        ended_shares=[share_message(share, viewer=viewer) for share in ended],
        not_shared_tenant_ids=[each for each in tenant_ids if each not in had_one],
    )
