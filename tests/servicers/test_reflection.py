"""A client with no proto at hand asks the server what it can do, and sees what protos/ says of it."""

import base64
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.reflection_pb2 import (
    ServerReflectionRequest as Request,
)
from grpc_reflection.v1alpha.reflection_pb2 import (
    ServerReflectionResponse as Response,
)

from builders import OWNER, RECIPIENT
from calling import METHODS, SERVICES, answer_of, declined
from conftest import As, MakeService, grpcurl_path, needs
from ims.bootstrap import Service
from ims.servicers.admission import MAX_REFLECTION_STREAMS as MAX_STREAMS
from ims.servicers.reflection import V1, V1ALPHA

SERVED = [
    "google.longrunning.Operations",
    "grpc.health.v1.Health",
    V1,
    V1ALPHA,
    "ims.v1.AdminService",
    "ims.v1.AuditService",
    "ims.v1.ImageService",
    "ims.v1.SharingService",
    "ims.v1.UploadService",
    "ims.v1.UseService",
]
PROTOS = Path(__file__).parents[2] / "protos"
OUR_FILES = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))

Ask = Callable[..., Response]


@pytest.fixture(params=[V1, V1ALPHA], ids=["v1", "v1alpha"])
def ask(request: pytest.FixtureRequest, service: Service) -> Iterator[Ask]:
    """Ask one question: `ask(list_services="")`; nobody needs an identity for it."""
    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        call = channel.stream_stream(
            f"/{request.param}/ServerReflectionInfo",
            request_serializer=Request.SerializeToString,
            response_deserializer=Response.FromString,
        )

        def asking(**question: Any) -> Response:
            (answer,) = call(iter([Request(**question)]), timeout=30)
            return answer

        yield asking


def files_in(answer: Response) -> list[FileDescriptorProto]:
    serialized = answer.file_descriptor_response.file_descriptor_proto
    return [FileDescriptorProto.FromString(each) for each in serialized]


def pool_of(answer: Response) -> DescriptorPool:
    """Return what a client knows once it has an answer: a file and all that it imports."""
    files = {file.name: file for file in files_in(answer)}
    pool, added = DescriptorPool(), set()

    def add(name: str) -> None:
        if name not in added:
            added.add(name)
            for imported in files[name].dependency:
                add(imported)
            pool.Add(files[name])

    for name in files:
        add(name)
    return pool


class TestReflection:
    def test_lists_every_service_that_is_served(self, ask: Ask):
        listed = ask(list_services="").list_services_response.service

        assert [each.name for each in listed] == SERVED

    @pytest.mark.parametrize("name", SERVED)
    def test_describes_every_service_so_that_it_can_be_called(self, name: str, ask: Ask):
        described = pool_of(ask(file_containing_symbol=name)).FindServiceByName(name)

        assert described.methods
        ours = {method for method, (service, _) in METHODS.items() if name == f"ims.v1.{service}"}
        assert not ours or set(described.methods_by_name) == ours

    @pytest.mark.parametrize("rpc", METHODS)
    def test_knows_every_method_by_its_full_name(self, rpc: str, ask: Ask):
        service, method = METHODS[rpc]
        pool = pool_of(ask(file_containing_symbol=f"ims.v1.{service}.{rpc}"))

        described = pool.FindServiceByName(f"ims.v1.{service}").methods_by_name[rpc]
        assert described.input_type.full_name == method.input_type.full_name
        assert described.output_type.full_name == method.output_type.full_name

    @pytest.mark.parametrize("name", OUR_FILES)
    def test_every_thing_of_ours_comes_with_its_comment(self, name: str, ask: Ask):
        file = files_in(ask(file_by_filename=name))[0]
        comments = {tuple(each.path): each.leading_comments for each in file.source_code_info.location}

        bare = [path for path in _places(file) if not comments.get(path, "").strip()]
        assert file.name == name
        assert bare == []

    @pytest.mark.parametrize(
        "name",
        [f"google.rpc.{each}" for each in error_details_pb2.DESCRIPTOR.message_types_by_name]
        + ["google.rpc.Status", "google.protobuf.Any"],
    )
    def test_the_types_of_error_details_can_be_resolved(self, name: str, ask: Ask):
        assert pool_of(ask(file_containing_symbol=name)).FindMessageTypeByName(name)

    @pytest.mark.parametrize(
        "symbol",
        [
            "ims.v1.Image",
            "ims.v1.Image.State",
            "ims.v1.Image.ACTIVE",
            "ims.v1.Image.owner_tenant_id",
            "ims.v1.Source.origin",
            "ims.v1.UploadImageDataRequest.Start.sha256",
            "ims.v1.IMAGE_NOT_FOUND",
            "google.api.field_behavior",
            "grpc.health.v1.HealthCheckResponse.ServingStatus",
        ],
    )
    def test_a_symbol_of_any_kind_is_found(self, symbol: str, ask: Ask):
        assert files_in(ask(file_containing_symbol=symbol))

    def test_an_extension_is_found_by_its_number(self, ask: Ask):
        options = "google.protobuf.FieldOptions"
        wanted = {"containing_type": options, "extension_number": 1052}

        assert ask(file_containing_extension=wanted).HasField("file_descriptor_response")
        answer = ask(all_extension_numbers_of_type=options).all_extension_numbers_response
        assert (answer.base_type_name, 1052 in answer.extension_number) == (options, True)

    @pytest.mark.parametrize(
        "question",
        [
            {"file_containing_symbol": "ims.v1.NoSuchThing"},
            {"file_containing_symbol": ""},
            {"file_by_filename": "/etc/passwd"},
            {"all_extension_numbers_of_type": "ims.v1.NoSuchThing"},
            {"file_containing_extension": {"containing_type": "ims.v1.Image", "extension_number": 1}},
        ],
        ids=str,
    )
    def test_what_is_unknown_is_answered_and_not_failed(self, question: dict[str, Any], ask: Ask):
        answer = ask(host="here", **question)

        assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
        assert answer.error_response.error_message
        assert (answer.valid_host, answer.original_request) == ("here", Request(host="here", **question))

    def test_an_empty_question_is_answered_as_invalid(self, ask: Ask):
        assert ask().error_response.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


def test_streams_that_are_never_closed_do_not_keep_others_waiting(make_service: MakeService, as_: As):
    """Each holds a thread, and needs no identity: as many of them as threads silenced the service."""
    service = make_service(threads=2, max_transfers=1)
    never = threading.Event()

    def nothing() -> Iterator[bytes]:
        never.wait(30)
        yield from ()

    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        reflect = channel.stream_stream(f"/{V1}/ServerReflectionInfo")
        idle = [reflect(nothing(), timeout=60) for _ in range(20)]
        answered = as_(OWNER, of=service).ListImages().images
        while sum(stream.done() for stream in idle) < 20 - MAX_STREAMS:
            pass
        never.set()
        ends = [answer_of(lambda stream=stream: list(stream)) for stream in idle]

    assert list(answered) == []
    refused = [seen for seen in ends if seen.code != "OK"]
    assert len(refused) == 20 - MAX_STREAMS
    assert {(seen.code, seen.reason) for seen in refused} == {("RESOURCE_EXHAUSTED", "TOO_MANY_STREAMS")}
    assert refused[0].metadata == {"maxStreams": str(MAX_STREAMS)}


def _places(file: FileDescriptorProto) -> Iterator[tuple[int, ...]]:
    """Yield the path of everything in a file that the house wants a comment on."""
    for index, service in enumerate(file.service):
        yield (6, index)
        yield from ((6, index, 2, number) for number in range(len(service.method)))
    for index, message in enumerate(file.message_type):
        yield from _places_in_message(message, (4, index))
    for index, enum in enumerate(file.enum_type):
        yield from _places_in_enum(enum, (5, index))


def _places_in_message(message: Any, path: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    if message.options.map_entry:
        return
    yield path
    yield from ((*path, 2, number) for number in range(len(message.field)))
    # What is optional is a oneof to the compiler, and to nobody else.
    optional = {field.oneof_index for field in message.field if field.proto3_optional}
    oneofs = (number for number in range(len(message.oneof_decl)) if number not in optional)
    yield from ((*path, 8, number) for number in oneofs)
    for index, nested in enumerate(message.nested_type):
        yield from _places_in_message(nested, (*path, 3, index))
    for index, enum in enumerate(message.enum_type):
        yield from _places_in_enum(enum, (*path, 4, index))


def _places_in_enum(enum: Any, path: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    yield path
    yield from ((*path, 2, number) for number in range(len(enum.value)))


# --- Real clients -----------------------------------------------------------------------------


def _buf() -> str | None:
    return shutil.which("buf", path=Path(sys.executable).parent) or shutil.which("buf")


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Grpcurl:
    """Runs grpcurl against a server that nothing but its address is known of."""

    def __init__(self, service: Service) -> None:
        self._path = needs(grpcurl_path(), "grpcurl")
        self._address = f"127.0.0.1:{service.port}"

    def ask(self, *words: str) -> str:
        return _output(self._path, "-plaintext", self._address, *words)

    def call(self, tenant: str, rpc: str, **fields: Any) -> tuple[int, dict[str, Any]]:
        """Return the exit code and what came back as JSON, an error too."""
        options = [
            "-plaintext",
            "-format-error",
            "-H",
            f"ims-tenant: {tenant}",
            "-d",
            json.dumps(fields),
        ]
        service, _ = METHODS[rpc]
        done = subprocess.run(
            [self._path, *options, self._address, f"ims.v1.{service}/{rpc}"],
            check=False,
            capture_output=True,
            text=True,
        )
        return done.returncode, json.loads(done.stdout or done.stderr)


class TestGrpcurl:
    @pytest.fixture
    def grpcurl(self, service: Service) -> Grpcurl:
        return Grpcurl(service)

    def test_lists_services_and_methods(self, grpcurl: Grpcurl):
        assert grpcurl.ask("list").split() == SERVED
        for service in SERVICES:
            methods = {f"ims.v1.{service}.{rpc}" for rpc, (of, _) in METHODS.items() if of == service}
            assert set(grpcurl.ask("list", f"ims.v1.{service}").split()) == methods

    def test_describes_every_method_with_its_comment(self, grpcurl: Grpcurl):
        for rpc, (service, _) in METHODS.items():
            described = grpcurl.ask("describe", f"ims.v1.{service}.{rpc}")
            comment, _, signature = described.partition(f"rpc {rpc} (")
            assert "\n// " in comment, described
            answer = METHODS[rpc][1].output_type.full_name
            assert f".{answer}" in signature, described

    def test_creates_shares_accepts_and_is_told_why_not(self, grpcurl: Grpcurl, as_: As):
        disk = {"format": "RAW"}
        fields = {"name": "one", "type": "SYSTEM_DISK", "disks": [disk]}
        code, created = grpcurl.call(OWNER, "CreateImage", **fields)
        image_id = created["image"]["id"]
        assert (code, created["image"]["state"]) == (0, "QUEUED")

        recipients = [{"tenant_id": RECIPIENT}]
        code, early = grpcurl.call(OWNER, "ShareImage", image_id=image_id, recipients=recipients)
        assert code == 64 + grpc.StatusCode.FAILED_PRECONDITION.value[0]
        assert _details(early)["ErrorInfo"]["reason"] == "IMAGE_NOT_ACTIVE"
        assert _details(early)["ErrorInfo"]["metadata"] == {"state": "QUEUED"}

        as_(OWNER).upload(image_id, b"bytes")
        code, shared = grpcurl.call(OWNER, "ShareImage", image_id=image_id, recipients=recipients)
        assert (code, shared["results"][0]["share"]["status"]) == (0, "PENDING")
        code, accepted = grpcurl.call(RECIPIENT, "AcceptShare", image_id=image_id)
        assert (code, accepted["share"]["status"]) == (0, "ACCEPTED")

        far = [{"tenant_id": tenant, "region": "mars"} for tenant in ("a", "b")]
        code, refused = grpcurl.call(OWNER, "ShareImage", image_id=image_id, recipients=far)
        assert code == 64 + grpc.StatusCode.FAILED_PRECONDITION.value[0]
        assert _details(refused)["ErrorInfo"]["reason"] == "CROSS_REGION_SHARE"
        violations = _details(refused)["PreconditionFailure"]["violations"]
        assert [(each["type"], each["subject"]) for each in violations] == [
            ("CROSS_REGION_SHARE", "a"),
            ("CROSS_REGION_SHARE", "b"),
        ]


def _details(error: dict[str, Any]) -> dict[str, Any]:
    return {detail["@type"].rpartition(".")[2]: detail for detail in error["details"]}


class Buf:
    """Runs `buf curl` against a server that nothing but its address is known of."""

    def __init__(self, service: Service, reflection: str) -> None:
        self._options = [
            "--protocol",
            "grpc",
            "--http2-prior-knowledge",
            "--reflect-protocol",
            reflection,
        ]
        self._path = needs(_buf(), "buf")
        self._url = f"http://127.0.0.1:{service.port}"

    def ask(self, question: str) -> list[str]:
        return _output(self._path, "curl", *self._options, question, self._url).split()

    def call(self, tenant: str, rpc: str, **fields: Any) -> dict[str, Any]:
        header = ["-H", f"ims-tenant: {tenant}", "-d", json.dumps(fields)]
        url = f"{self._url}/ims.v1.{METHODS[rpc][0]}/{rpc}"
        done = subprocess.run(
            [self._path, "curl", *self._options, *header, url],
            check=False,
            capture_output=True,
            text=True,
        )
        return json.loads(done.stdout or done.stderr)


class TestBufCurl:
    @pytest.fixture(params=["grpc-v1", "grpc-v1alpha"])
    def buf(self, request: pytest.FixtureRequest, service: Service) -> Buf:
        return Buf(service, request.param)

    def test_lists_services_and_methods(self, buf: Buf):
        assert set(buf.ask("--list-services")) == set(SERVED)
        ours = {f"ims.v1.{service}/{rpc}" for rpc, (service, _) in METHODS.items()}
        assert ours <= set(buf.ask("--list-methods"))

    def test_creates_shares_accepts_and_is_told_why_not(self, buf: Buf, as_: As):
        created = buf.call(
            OWNER, "CreateImage", name="one", type="SYSTEM_DISK", disks=[{"format": "RAW"}]
        )
        image_id = created["image"]["id"]
        as_(OWNER).upload(image_id, b"bytes")
        shared = buf.call(OWNER, "ShareImage", image_id=image_id, recipients=[{"tenant_id": RECIPIENT}])
        accepted = buf.call(RECIPIENT, "AcceptShare", image_id=image_id)
        refused = buf.call(RECIPIENT, "DeleteImage", image_id=image_id)
        malformed = buf.call(OWNER, "CreateImage", name="", type="SYSTEM_DISK", description="<")

        assert shared["results"][0]["share"]["status"] == "PENDING"
        assert accepted["share"]["status"] == "ACCEPTED"
        assert refused["code"] == "permission_denied"
        assert self._unpacked(refused)["ErrorInfo"].reason == "NOT_IMAGE_OWNER"
        assert malformed["code"] == "invalid_argument"
        fields = {each.field for each in self._unpacked(malformed)["BadRequest"].field_violations}
        assert fields == {"name", "description", "disks"}

    def _unpacked(self, error: dict[str, Any]) -> dict[str, Any]:
        """Return the details, which buf shows packed."""
        found = {}
        for detail in error["details"]:
            name = detail["type"].rpartition(".")[2]
            value = base64.b64decode(detail["value"] + "==")
            found[name] = getattr(error_details_pb2, name).FromString(value)
        return found


def test_idle_streams_leave_threads_for_everybody_else(service: Service, as_: Callable[..., Any]):
    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        open_stream = channel.stream_stream(
            f"/{V1}/ServerReflectionInfo",
            request_serializer=Request.SerializeToString,
            response_deserializer=Response.FromString,
        )
        done = threading.Event()

        def one_question_and_no_end() -> Iterator[Request]:
            yield Request(list_services="")
            done.wait()

        idle = [open_stream(one_question_and_no_end(), timeout=30) for _ in range(MAX_STREAMS)]
        for stream in idle:
            next(stream)

        with declined() as one_too_many:
            next(open_stream(iter([Request(list_services="")]), timeout=30))
        assert (one_too_many.code, one_too_many.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_STREAMS")
        assert not as_(OWNER).ListImages().images
        done.set()
        for stream in idle:
            assert not list(stream)
