"""Server reflection, so that grpcurl and buf curl need no proto at hand.

The library's own serves what Python knows of a proto, and that is without its comments. This one serves
what the compiler knew: a client that describes a method sees what protos/ says of it.
"""

from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from typing import Final

import grpc
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.reflection_pb2 import (
    DESCRIPTOR,
    ErrorResponse,
    ExtensionNumberResponse,
    FileDescriptorResponse,
    ListServiceResponse,
    ServerReflectionRequest,
    ServerReflectionResponse,
    ServiceResponse,
)

V1ALPHA: Final = "grpc.reflection.v1alpha.ServerReflection"
V1: Final = "grpc.reflection.v1.ServerReflection"


def add_reflection(server: grpc.Server, services: Sequence[str]) -> None:
    """Serve reflection v1 and v1alpha: two names of one protocol."""
    reflection = Reflection((*services, V1, V1ALPHA), _all_files())
    handler = grpc.stream_stream_rpc_method_handler(
        reflection.answers,
        request_deserializer=ServerReflectionRequest.FromString,
        response_serializer=ServerReflectionResponse.SerializeToString,
    )
    for name in (V1, V1ALPHA):
        methods = {"ServerReflectionInfo": handler}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))


class Reflection:
    """Answers questions about services and about the files that describe them."""

    def __init__(self, services: Sequence[str], described: Iterable[FileDescriptorProto]) -> None:
        self._services = sorted(services)
        self._files = {file.name: file for file in described}
        self._file_of = {symbol: file for file in self._files.values() for symbol in _symbols(file)}
        self._file_of_extension = {
            (extension.extendee.lstrip("."), extension.number): file
            for file in self._files.values()
            for extension in _extensions(file)
        }

    def answers(
        self, requests: Iterator[ServerReflectionRequest], context: grpc.ServicerContext
    ) -> Iterator[ServerReflectionResponse]:
        """Answer one question after the other; the stream is its client's to end, and holds a thread."""
        for request in requests:
            response = self._answer(request)
            response.valid_host = request.host
            response.original_request.CopyFrom(request)
            yield response

    def _answer(self, request: ServerReflectionRequest) -> ServerReflectionResponse:
        match request.WhichOneof("message_request"):
            case "list_services":
                services = [ServiceResponse(name=name) for name in self._services]
                return ServerReflectionResponse(
                    list_services_response=ListServiceResponse(service=services)
                )
            case "file_by_filename":
                return self._found(self._files.get(request.file_by_filename))
            case "file_containing_symbol":
                return self._found(self._file_of.get(request.file_containing_symbol))
            case "file_containing_extension":
                wanted = request.file_containing_extension
                key = (wanted.containing_type, wanted.extension_number)
                return self._found(self._file_of_extension.get(key))
            case "all_extension_numbers_of_type":
                return self._extension_numbers(request.all_extension_numbers_of_type)
            case _:
                return _error(grpc.StatusCode.INVALID_ARGUMENT, "nothing was asked")

    def _found(self, file: FileDescriptorProto | None) -> ServerReflectionResponse:
        if file is None:
            return _not_found()
        needed: dict[str, FileDescriptorProto] = {}
        self._collect(file, needed)
        serialized = [each.SerializeToString() for each in needed.values()]
        return ServerReflectionResponse(
            file_descriptor_response=FileDescriptorResponse(file_descriptor_proto=serialized)
        )

    def _collect(self, file: FileDescriptorProto, needed: dict[str, FileDescriptorProto]) -> None:
        """Collect a file and all that it imports, the file itself first."""
        if file.name in needed:
            return
        needed[file.name] = file
        for name in file.dependency:
            self._collect(self._files[name], needed)

    def _extension_numbers(self, type_name: str) -> ServerReflectionResponse:
        if type_name not in self._file_of:
            return _not_found()
        numbers = sorted(number for extended, number in self._file_of_extension if extended == type_name)
        return ServerReflectionResponse(
            all_extension_numbers_response=ExtensionNumberResponse(
                base_type_name=type_name, extension_number=numbers
            )
        )


def _not_found() -> ServerReflectionResponse:
    return _error(grpc.StatusCode.NOT_FOUND, "there is no such thing")


def _error(code: grpc.StatusCode, message: str) -> ServerReflectionResponse:
    number: int = code.value[0]
    return ServerReflectionResponse(
        error_response=ErrorResponse(error_code=number, error_message=message)
    )


def _symbols(file: FileDescriptorProto) -> Iterator[str]:
    """Yield the full name of everything that a file defines."""
    prefix = f"{file.package}." if file.package else ""
    for message in file.message_type:
        yield from _symbols_of(message, prefix)
    for enum in file.enum_type:
        yield f"{prefix}{enum.name}"
        yield from (f"{prefix}{value.name}" for value in enum.value)
    for extension in file.extension:
        yield f"{prefix}{extension.name}"
    for service in file.service:
        yield f"{prefix}{service.name}"
        yield from (f"{prefix}{service.name}.{method.name}" for method in service.method)


def _symbols_of(message: DescriptorProto, prefix: str) -> Iterator[str]:
    name = f"{prefix}{message.name}"
    yield name
    yield from (f"{name}.{field.name}" for field in (*message.field, *message.extension))
    yield from (f"{name}.{oneof.name}" for oneof in message.oneof_decl)
    for enum in message.enum_type:
        yield f"{name}.{enum.name}"
        yield from (f"{name}.{value.name}" for value in enum.value)
    for nested in message.nested_type:
        yield from _symbols_of(nested, f"{name}.")


def _extensions(file: FileDescriptorProto) -> Iterator[FieldDescriptorProto]:
    yield from file.extension
    messages = list(file.message_type)
    while messages:
        message = messages.pop()
        yield from message.extension
        messages.extend(message.nested_type)


def _all_files() -> Iterator[FileDescriptorProto]:
    """Yield our protos and google.rpc's with all they import, with comments, and the standard ones."""
    compiled = FileDescriptorSet.FromString(files("ims.v1").joinpath("descriptors.binpb").read_bytes())
    yield from compiled.file
    yield FileDescriptorProto.FromString(health_pb2.DESCRIPTOR.serialized_pb)
    v1alpha = FileDescriptorProto.FromString(DESCRIPTOR.serialized_pb)
    yield v1alpha
    yield _renamed(v1alpha, V1.rpartition(".")[0])


def _renamed(original: FileDescriptorProto, package: str) -> FileDescriptorProto:
    file = FileDescriptorProto()
    file.CopyFrom(original)
    file.name, file.package = f"{package.replace('.', '/')}/reflection.proto", package
    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(original.package, package)
    for method in (method for service in file.service for method in service.method):
        method.input_type = method.input_type.replace(original.package, package)
        method.output_type = method.output_type.replace(original.package, package)
    return file
