"""Servicers without a server, by grpcio-testing: they parse, tell the use case and render.

It serves plain unary calls. It knows no interceptors and no status of ours, so who calls is set here,
and every rejection is tested on a real server.
"""

from typing import Any

import grpc
import grpc_testing
import pytest
from google.protobuf import message_factory

from builders import OWNER, RECIPIENT, a_caller
from calling import METHODS, SERVICES, request_class
from ims.domain.caller import Caller
from ims.domain.rejection import Rejection
from ims.rules.catalogue import CATALOGUE
from ims.rules.visibility import SEE_IMAGE
from ims.servicers.admin_servicer import AdminServicer
from ims.servicers.audit_servicer import AuditServicer
from ims.servicers.current_call import set_current_caller
from ims.servicers.image_servicer import ImageServicer
from ims.servicers.sharing_servicer import SharingServicer
from ims.servicers.upload_servicer import UploadServicer
from ims.servicers.use_servicer import UseServicer
from ims.use_cases.deployment import Deployment
from ims.v1 import image_pb2
from servicers.situations import A_NEVER_GIVEN_ID, SHARED, an_image_that_is, fields_of

SERVICERS = {
    "ImageService": ImageServicer,
    "SharingService": SharingServicer,
    "AdminService": AdminServicer,
    "UseService": UseServicer,
    "AuditService": AuditServicer,
    "UploadService": UploadServicer,
}


class Calls:
    """Makes the calls of one caller to the servicers of a deployment."""

    def __init__(self, deployment: Deployment, caller: Caller) -> None:
        descriptors = {
            name: module.DESCRIPTOR.services_by_name[name] for name, (module, _) in SERVICES.items()
        }
        servicers = {
            descriptors[name]: _Identified(make(deployment), caller) for name, make in SERVICERS.items()
        }
        self._server = grpc_testing.server_from_dictionary(servicers, grpc_testing.strict_real_time())

    def call(self, rpc: str, **fields: Any) -> Any:
        _, method = METHODS[rpc]
        request = request_class(rpc)(**fields)
        answer, _, code, details = self._server.invoke_unary_unary(
            method, (), request, timeout=30
        ).termination()
        assert code is grpc.StatusCode.OK, details
        if isinstance(answer, bytes):  # as they would go over the wire
            return message_factory.GetMessageClass(method.output_type).FromString(answer)
        return answer


class _Identified:
    """A servicer whose every method is called by one caller: what the interceptor does on a server."""

    def __init__(self, servicer: object, caller: Caller) -> None:
        self._servicer, self._caller = servicer, caller

    def __getattr__(self, rpc: str) -> Any:
        behavior = getattr(self._servicer, rpc)

        def identified(request: Any, context: grpc.ServicerContext) -> Any:
            set_current_caller(self._caller)
            return behavior(request, context)

        return identified


@pytest.fixture
def owner(deployment: Deployment) -> Calls:
    return Calls(deployment, a_caller(OWNER))


def test_an_image_is_created_and_read_again(owner: Calls):
    created = owner.call("CreateImage", **fields_of("CreateImage", "")).image

    assert created.state == image_pb2.Image.State.QUEUED
    assert created.owner_tenant_id == OWNER
    assert owner.call("GetImage", image_id=created.id).image == created
    assert list(owner.call("ListImages").images) == [created]


def test_an_image_is_lent_and_taken(owner: Calls, deployment: Deployment):
    image_id = an_image_that_is(SHARED, deployment)
    lent = owner.call("ShareImage", image_id=image_id, recipients=[{"tenant_id": RECIPIENT}])
    taken = Calls(deployment, a_caller(RECIPIENT)).call("AcceptShare", image_id=image_id)

    assert (lent.share_count, lent.share_limit) == (5, 128)
    assert taken.share.tenant_id == RECIPIENT
    assert taken.share.status == taken.share.ACCEPTED


UNARY = [
    rpc
    for rpc, (_, method) in METHODS.items()
    if not method.client_streaming and not method.server_streaming
]


@pytest.mark.parametrize("rpc", [rpc for rpc in UNARY if SEE_IMAGE[0] in CATALOGUE[rpc]])
def test_a_servicer_names_no_status_and_lets_a_rejection_pass(rpc: str, deployment: Deployment):
    set_current_caller(a_caller(OWNER))
    servicer = SERVICERS[METHODS[rpc][0]](deployment)
    request = request_class(rpc)(**fields_of(rpc, A_NEVER_GIVEN_ID))

    with pytest.raises(Rejection, match="There is no such image"):
        getattr(servicer, rpc)(request, context=None)


def test_every_method_of_the_protos_has_a_servicer_of_ours():
    for rpc, (service, _) in METHODS.items():
        assert rpc in vars(SERVICERS[service])
