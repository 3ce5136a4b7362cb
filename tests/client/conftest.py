"""Clients of a real service, and of servers that answer what a test tells them."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import pytest

from ims.bootstrap import Service
from ims.client import Client
from ims.v1.image_service_pb2_grpc import ImageServiceServicer, add_ImageServiceServicer_to_server

ClientOf = Callable[..., Client]
Scripted = Callable[..., Client]


@pytest.fixture
def client_of(service: Service) -> Iterator[ClientOf]:
    """Give a client of the real service, for a tenant with roles."""
    with ExitStack() as stack:

        def client(tenant: str, *roles: str, **options: object) -> Client:
            server = f"127.0.0.1:{service.port}"
            return stack.enter_context(Client(server, tenant=tenant, roles=roles, **options))

        yield client


@pytest.fixture
def acme(client_of: ClientOf) -> Client:
    return client_of("acme")


@pytest.fixture
def globex(client_of: ClientOf) -> Client:
    return client_of("globex")


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    """Give a client of a server whose methods are functions (request, context) of the test's own."""
    with ExitStack() as stack:

        def client(options: dict[str, object] | None = None, **methods: Callable) -> Client:
            server = grpc.server(ThreadPoolExecutor(2))
            stack.callback(lambda: server.stop(None).wait())
            plain = {name: staticmethod(method) for name, method in methods.items()}
            servicer = type("Scripted", (ImageServiceServicer,), plain)()
            add_ImageServiceServicer_to_server(servicer, server)
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            given = {"tenant": "acme"} | (options or {})
            return stack.enter_context(Client(f"127.0.0.1:{port}", **given))

        yield client
