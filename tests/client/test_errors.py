"""What comes back over the wire when a call is declined, and what becomes of it."""

import socket
import threading

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import (
    BadRequest,
    ErrorInfo,
    PreconditionFailure,
    QuotaFailure,
    RetryInfo,
)
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from ims.client import Client, Declined, ErrorReason, Unreachable, Violation

BAD_DETAILS = (("grpc-status-details-bin", b"\xff\xff no message at all"),)


def declining(code: grpc.StatusCode, message: str, *details, request_id: str = ""):
    """Return a method that declines with these details."""
    status = Status(code=code.value[0], message=message)
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)

    wire = rpc_status.to_status(status)
    trailing = (*wire.trailing_metadata, ("ims-request-id", request_id))
    return lambda _, context: context.abort_with_status(wire._replace(trailing_metadata=trailing))


def failing(code: grpc.StatusCode, message: str, metadata=()):
    """Return a method that fails without a word of ours."""

    def method(_, context):
        context.set_trailing_metadata(metadata)
        context.abort(code, message)

    return method


def declined_by(client: Client) -> Declined:
    with pytest.raises(Declined) as caught:
        client.get_image("an-id")
    return caught.value


def an_info(reason: str, **metadata: str) -> ErrorInfo:
    return ErrorInfo(reason=reason, domain="ims", metadata=metadata)


class TestDeclined:
    def test_a_rejection_by_rules_of_sharing_names_every_broken_rule(self, scripted):
        violations = [
            PreconditionFailure.Violation(
                type="CROSS_REGION_SHARE", subject="a", description="Tenant a is in eu-nl."
            ),
            PreconditionFailure.Violation(type="BACKUP_IS_SHARED", description="It is borrowed."),
        ]
        client = scripted(
            GetImage=declining(
                grpc.StatusCode.FAILED_PRECONDITION,
                "Tenant a is in eu-nl.",
                an_info("CROSS_REGION_SHARE", tenantId="a"),
                PreconditionFailure(violations=violations),
                request_id="the-id",
            )
        )

        declined = declined_by(client)

        assert declined.code == "FAILED_PRECONDITION"
        assert declined.reason == "CROSS_REGION_SHARE"
        assert declined.is_for(ErrorReason.CROSS_REGION_SHARE)
        assert not declined.is_for(ErrorReason.BACKUP_IS_SHARED)
        assert declined.message == str(declined) == "Tenant a is in eu-nl."
        assert declined.metadata == {"tenantId": "a"}
        assert declined.request_id == "the-id"
        assert declined.violations == [
            Violation("CROSS_REGION_SHARE", "a", "Tenant a is in eu-nl."),
            Violation("BACKUP_IS_SHARED", "", "It is borrowed."),
        ]

    def test_a_malformed_request_names_every_field(self, scripted):
        fields = [
            BadRequest.FieldViolation(field="name", description="Too long.", reason="INVALID_NAME"),
            BadRequest.FieldViolation(field="tags", description="Too many.", reason="TOO_MANY_TAGS"),
        ]
        client = scripted(
            GetImage=declining(
                grpc.StatusCode.INVALID_ARGUMENT,
                "Too long.",
                an_info("INVALID_NAME"),
                BadRequest(field_violations=fields),
            )
        )

        assert declined_by(client).violations == [
            Violation("INVALID_NAME", "name", "Too long."),
            Violation("TOO_MANY_TAGS", "tags", "Too many."),
        ]

    def test_an_exceeded_quota_has_the_reason_of_the_rejection(self, scripted):
        quota = QuotaFailure(violations=[QuotaFailure.Violation(subject="acme", description="Full.")])
        client = scripted(
            GetImage=declining(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "Full.",
                an_info("SHARE_LIMIT_EXCEEDED", limit="128"),
                quota,
                RetryInfo(),
            )
        )

        assert declined_by(client).violations == [Violation("SHARE_LIMIT_EXCEEDED", "acme", "Full.")]

    def test_without_a_list_the_deciding_rule_is_the_only_one(self, scripted):
        client = scripted(
            GetImage=declining(grpc.StatusCode.NOT_FOUND, "None.", an_info("IMAGE_NOT_FOUND"))
        )

        declined = declined_by(client)

        assert declined.code == "NOT_FOUND"
        assert declined.violations == [Violation("IMAGE_NOT_FOUND", "", "None.")]

    def test_an_unavailable_catalogue_is_an_answer_of_the_service(self, scripted):
        client = scripted(
            GetImage=declining(
                grpc.StatusCode.UNAVAILABLE, "Try again.", an_info("CATALOGUE_UNAVAILABLE")
            )
        )

        assert declined_by(client).reason == "CATALOGUE_UNAVAILABLE"

    def test_what_others_say_about_errors_is_no_reason_of_ours(self, scripted):
        theirs = ErrorInfo(reason="QUOTA", domain="proxy.example")
        client = scripted(GetImage=declining(grpc.StatusCode.PERMISSION_DENIED, "No.", theirs))

        declined = declined_by(client)

        assert (declined.code, declined.reason, declined.violations) == ("PERMISSION_DENIED", "", [])
        assert declined.message == "No."

    @pytest.mark.parametrize("metadata", [(), BAD_DETAILS])
    def test_an_answer_without_readable_details_keeps_its_code_and_message(self, scripted, metadata):
        client = scripted(GetImage=failing(grpc.StatusCode.PERMISSION_DENIED, "No.", metadata))

        declined = declined_by(client)

        assert (declined.code, declined.message, declined.request_id) == ("PERMISSION_DENIED", "No.", "")

    def test_a_method_that_a_server_does_not_have_is_declined(self, scripted):
        assert declined_by(scripted()).code == "UNIMPLEMENTED"

    def test_the_real_service_is_understood(self, acme):
        declined = declined_by(acme)

        assert (declined.code, declined.reason) == ("NOT_FOUND", "IMAGE_NOT_FOUND")
        assert declined.request_id
        assert declined.violations


class TestUnreachable:
    def test_nobody_listens(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound, but nothing listens
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            with Client(address, tenant="acme") as client, pytest.raises(Unreachable, match=address):
                client.get_image("an-id")

    @pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
    def test_what_is_broken_off_without_a_reason_was_not_answered(self, scripted, code):
        client = scripted(GetImage=failing(code, "going away"))

        with pytest.raises(Unreachable, match="going away"):
            client.get_image("an-id")

    def test_a_server_that_says_nothing_is_not_waited_for(self, scripted):
        ended = threading.Event()
        client = scripted({"timeout_seconds": 0.1}, GetImage=lambda *_: ended.wait())

        with pytest.raises(Unreachable, match="in time"):
            client.get_image("an-id")
        ended.set()

    def test_a_client_that_is_closed_reaches_nothing(self, acme):
        acme.close()

        with pytest.raises(ValueError, match="closed"):
            acme.get_image("an-id")
