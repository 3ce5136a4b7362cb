"""Makes calls on the real servicers, on a real catalogue and real files."""

from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from google.rpc.code_pb2 import Code

from calling import request_class, response_class, upload_messages
from conftest import Clock
from ims.domain.caller import Caller, Role
from ims.domain.rejection import Rejection
from ims.domain.tenant import Region, TenantId
from ims.repository import share_conditions, tables
from ims.repository.times import to_microseconds
from ims.servicers.admin_servicer import AdminServicer
from ims.servicers.current_call import set_current_caller
from ims.servicers.errors import CODES
from ims.servicers.image_servicer import ImageServicer
from ims.servicers.sharing_servicer import SharingServicer
from ims.use_cases.deployment import Deployment
from ims.use_cases.sweeping import sweep
from ims.v1 import image_pb2, share_pb2
from model.imagination import TENANTS
from model.law import FOR_EVER, Answer, Call

ADMINISTRATOR = "governor"
PAGE_SIZE = 2

_A_MINUTE = timedelta(minutes=1)
_CONTENT = b"four"
_IMAGE = image_pb2.Image


class Stage:
    """A deployment on which calls are made, and what the clients have learned from their answers."""

    def __init__(self, deployment: Deployment, clock: Clock) -> None:
        self._deployment = deployment
        self._clock = clock
        self._servicers = (
            ImageServicer(deployment),
            SharingServicer(deployment),
            AdminServicer(deployment),
        )
        self._tokens: dict[Any, str] = {}
        self._ends = [clock.now() + _A_MINUTE]
        """Of each minute that was played, its end."""

    def answer(self, call: Call) -> Answer:
        """Make a call; return its answer, as far as the law says it."""
        roles = frozenset({Role.MEMBER, *([Role.ADMIN] if call.who == ADMINISTRATOR else [])})
        region = Region(self._deployment.region)
        set_current_caller(Caller(tenant_id=TenantId(call.who), roles=roles, region=region))
        try:
            return Answer(told=getattr(self, f"_{call.verb}")(call))
        except Rejection as rejection:
            return Answer(str(rejection.reason), Code.Name(CODES[rejection.category]))
        except Exception as bug:  # noqa: BLE001 - no call at all is answered so by the law
            return Answer("INTERNAL_ERROR", "INTERNAL", repr(bug))

    def records(self) -> dict[str, Any]:
        """Return what the catalogue holds of every image, and how many private ones of every tenant."""
        with self._deployment.database.reading() as reading:
            connection = reading.images._connection
            images = connection.execute(sa.select(tables.images)).mappings().all()
            lasts = share_conditions.lasts(tables.shares)
            lasting = sa.select(tables.shares).where(lasts)
            now = to_microseconds(self._clock.now())
            shares = connection.execute(lasting, {"now": now}).mappings().all()
            private_images = {
                tenant: reading.tenants.account(TenantId(tenant)).used.private_images
                for tenant in TENANTS
            }
        return private_images | {
            image["id"]: (
                *(image["owner"], image["name"], image["state"]),
                *(bool(image["public"]), bool(image["protected"]), image["version"]),
                tuple(
                    sorted(
                        (share["tenant_id"], share["status"], self._minute(share["expire_time"]))
                        for share in shares
                        if share["image_id"] == image["id"]
                    )
                ),
            )
            for image in images
        }

    def _send(self, rpc: str, call: Call, **fields: Any) -> Any:
        request: Any = request_class(rpc)(**fields)
        if call.request_id:
            request.request_id = call.request_id
        servicer = next(each for each in self._servicers if rpc in vars(type(each)))
        answer = getattr(servicer, rpc)(request, None)
        # What is kept ready as bytes is not taken apart before it is sent.
        return response_class(rpc).FromString(answer) if isinstance(answer, bytes) else answer

    def _create(self, call: Call) -> Any:
        fields = {"type": "SYSTEM_DISK", "disks": [{"format": "RAW"}]}
        image = self._send("CreateImage", call, name=call.about, **fields).image
        return image.id, image.create_time.ToMicroseconds()

    def _upload(self, call: Call) -> None:
        messages = upload_messages({"image_id": call.about, "size_bytes": len(_CONTENT)}, _CONTENT)
        self._servicers[0].UploadImageData(messages, None)

    def _get(self, call: Call) -> Any:
        return _seen(self._send("GetImage", call, image_id=call.about).image)

    def _use(self, call: Call) -> None:
        self._send("ResolveImage", call, image_id=call.about, purpose="CREATE_ECS")

    def _update(self, call: Call) -> Any:
        etag, changes = call.details
        fields = {"image": dict(changes), "update_mask": {"paths": [name for name, _ in changes]}}
        return _seen(self._send("UpdateImage", call, image_id=call.about, etag=etag, **fields).image)

    def _delete(self, call: Call) -> int:
        (etag,) = call.details
        return self._send("DeleteImage", call, image_id=call.about, etag=etag).ended_share_count

    def _undelete(self, call: Call) -> int:
        return self._send("UndeleteImage", call, image_id=call.about).restored_share_count

    def _deactivate(self, call: Call) -> None:
        self._send("DeactivateImage", call, image_id=call.about)

    def _reactivate(self, call: Call) -> None:
        self._send("ReactivateImage", call, image_id=call.about)

    def _publish(self, call: Call) -> int:
        return self._send("PublishImage", call, image_id=call.about).ended_share_count

    def _unpublish(self, call: Call) -> None:
        self._send("UnpublishImage", call, image_id=call.about)

    def _minute(self, end: int | None) -> int:
        return FOR_EVER if end is None else [to_microseconds(each) for each in self._ends].index(end)

    def _end(self, minute: int) -> dict[str, Any]:
        return {} if minute == FOR_EVER else {"expire_time": self._ends[minute]}

    def _purge(self, _call: Call) -> None:
        self._clock.advance(days=8)
        sweep(self._deployment, "a-process")
        self._ends.append(self._clock.now() + _A_MINUTE)

    def _wait(self, _call: Call) -> None:
        self._clock.advance(minutes=1)
        self._ends.append(self._clock.now() + _A_MINUTE)

    def _share(self, call: Call) -> Any:
        recipients, partial, end = call.details
        answer = self._send(
            "ShareImage",
            call,
            image_id=call.about,
            recipients=[{"tenant_id": each} for each in recipients],
            allow_partial=partial,
            **self._end(end),
        )
        statuses = tuple(
            (each.tenant_id, _status(each.share) if each.HasField("share") else None)
            for each in answer.results
        )
        return statuses, answer.share_count

    def _unshare(self, call: Call) -> Any:
        (tenants,) = call.details
        whom = {"all_tenants": True} if tenants is None else {"tenant_ids": tenants}
        ended = self._send("UnshareImage", call, image_id=call.about, **whom).ended_shares
        return tuple(share.tenant_id for share in ended)

    def _prolong(self, call: Call) -> str:
        tenant, end = call.details
        fields = {"share": self._end(end), "update_mask": {"paths": ["expire_time"]}}
        share = self._send("UpdateShare", call, image_id=call.about, tenant_id=tenant, **fields).share
        return _status(share)

    def _accept(self, call: Call) -> str:
        return _status(self._send("AcceptShare", call, image_id=call.about).share)

    def _reject(self, call: Call) -> str:
        return _status(self._send("RejectShare", call, image_id=call.about).share)

    def _leave(self, call: Call) -> None:
        self._send("LeaveShare", call, image_id=call.about)

    def _list_images(self, call: Call) -> Any:
        return self._page(call, "")

    def _next_page(self, call: Call) -> Any:
        return self._page(call, self._tokens[call.about])

    def _page(self, call: Call, token: str) -> Any:
        answer = self._send("ListImages", call, page_size=PAGE_SIZE, page_token=token)
        places = [(image.create_time.ToMicroseconds(), image.id) for image in answer.images]
        if answer.next_page_token:
            self._tokens[call.who, places[-1]] = answer.next_page_token
        more = bool(answer.next_page_token)
        return tuple(image.id for image in answer.images), (places[-1] if more else None)

    def _list_received(self, call: Call) -> Any:
        received = self._send("ListReceivedShares", call, page_size=1000).received_shares
        return frozenset((each.image.id, _status(each.share)) for each in received)


def _seen(image: image_pb2.Image) -> Any:
    return (
        image.name,
        _IMAGE.State.Name(image.state),
        image.protected,
        image.etag,
        _IMAGE.Class.Name(getattr(image, "class")),
        image_pb2.Relation.Kind.Name(image.relation),
    )


def _status(share: share_pb2.Share) -> str:
    return share_pb2.Share.Status.Name(share.status)
