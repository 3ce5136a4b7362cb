"""No input at all yields INTERNAL or UNKNOWN (law 2.4): random bytes, broken messages, odd messages."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import HOME, OWNER, RECIPIENT, STRANGER
from calling import ALL_METHODS, Tenant, request_class
from ims.bootstrap import Service
from ims.domain.image import KeyId
from ims.domain.page import Position
from ims.domain.tenant import TenantId
from ims.providers.keys import add_key
from ims.servicers.page_tokens import KEY_BYTES, Listing
from ims.servicers.reflection import V1, V1ALPHA
from ims.settings import Settings
from servicers.random_messages import BROKEN_BYTES, NONSENSE_TOKENS, Nonsense, mutated
from servicers.situations import (
    A_NEVER_GIVEN_ID,
    ACCEPTED,
    PENDING,
    SITUATIONS,
    an_image_that_is,
    fields_of,
    store_the_bytes_of_every_image,
)

# A message that fails is shown in full, however long it is.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

NEVER = {"INTERNAL", "UNKNOWN", "DATA_LOSS", "UNIMPLEMENTED"}
"""What no input may yield. (Too large a message is RESOURCE_EXHAUSTED, from the library itself.)"""
DEAD = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}
"""What a server answers that has crashed, hangs, or has lost its catalogue."""


@dataclass(frozen=True)
class Rpc:
    """One RPC of the server, ours or a standard one."""

    path: str
    request: type[Message]
    takes_stream: bool = False
    gives_stream: bool = False
    endless: bool = False
    """Whether it goes on answering until the client leaves."""


def _ours() -> Iterator[Rpc]:
    for name, (_, method) in ALL_METHODS.items():
        path = f"/{method.containing_service.full_name}/{name}"
        yield Rpc(path, request_class(name), method.client_streaming, method.server_streaming)


_ASKED = reflection_pb2.ServerReflectionRequest
RPCS = {
    **{rpc.path: rpc for rpc in _ours()},
    "health": Rpc("/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest),
    "watch": Rpc(
        "/grpc.health.v1.Health/Watch", health_pb2.HealthCheckRequest, gives_stream=True, endless=True
    ),
    "reflection v1": Rpc(f"/{V1}/ServerReflectionInfo", _ASKED, takes_stream=True, gives_stream=True),
    "reflection v1alpha": Rpc(
        f"/{V1ALPHA}/ServerReflectionInfo", _ASKED, takes_stream=True, gives_stream=True
    ),
}
every_rpc = pytest.mark.parametrize("rpc", RPCS.values(), ids=lambda rpc: rpc.path.rpartition(".")[2])


def some(examples: int) -> settings:
    return settings(max_examples=examples, suppress_health_check=list(HealthCheck))


_numbers = count(1)
_TIMES = ("2026-01-01T00:00:00+00:00", "2026-01-01", "0001-01-01T00:00:00+23:59", "x", "\ud800")


class World:
    """A server with images in every situation, and callers who know of some and guess at others."""

    def __init__(self, folder: Path) -> None:
        settings = {"listen": "127.0.0.1:0", "region": HOME, "drain_seconds": 0}
        # Nobody clears away what is created here.
        self.service = Service(Settings(data=folder, private_images_per_tenant=10**6, **settings))
        self.service.start()
        add_key(self.service.settings.keys, KeyId("key-1"))
        store_the_bytes_of_every_image(self.service.deployment)
        target = f"127.0.0.1:{self.service.port}"
        self._channel = grpc.insecure_channel(target)
        self._owner = Tenant(target, OWNER)
        self._survivor = Tenant(target, "survivor")
        self._survivor.create("survivor")
        self.image_ids: list[str] = []

    def close(self) -> None:
        self._channel.close()
        self._owner.close()
        self._survivor.close()
        self.service.stop()

    def refill(self) -> None:
        """Make images anew, for those before have been deleted, published and worse."""
        deployment, number = self.service.deployment, next(_numbers)
        self.image_ids = [an_image_that_is(situation, deployment) for situation in SITUATIONS]
        self.image_ids += [
            self._owner.create(f"queued-{number}").id,
            self._owner.create(f"data-{number}", type="DATA_DISK").id,
            self._owner.active(f"encrypted-{number}", encryption_key_id="key-1").id,
        ]

    def lives(self) -> bool:
        return [image.name for image in self._survivor.ListImages(relation="OWNED").images] == [
            "survivor"
        ]

    def send(self, rpc: Rpc, messages: list[bytes], metadata: list[tuple[str, str]]) -> None:
        """Send bytes and fail for an answer that no input may yield."""
        shape = f"{_arity(rpc.takes_stream)}_{_arity(rpc.gives_stream)}"
        call = getattr(self._channel, shape)(rpc.path)
        given_ = iter(messages) if rpc.takes_stream else messages[0]
        code = "OK"
        try:
            answer = call(given_, metadata=metadata, timeout=30)
            if rpc.gives_stream:
                self._read(answer, endless=rpc.endless)
        except grpc.RpcError as error:
            code = error.code().name
        assert code not in NEVER | DEAD, (rpc.path, messages, metadata)

    def _read(self, answers: Any, *, endless: bool) -> None:
        for _ in answers:
            if endless:
                answers.cancel()
                return

    @property
    def nonsense(self) -> Nonsense:
        tenants = [OWNER, RECIPIENT, STRANGER, ACCEPTED, PENDING, "newcomer", "*", ""]
        odd_ids = [A_NEVER_GIVEN_ID, "", "\0", "x" * 100]
        names = ["queued", "data", "fresh", "fresh-2", " x", ""]
        ids = [*self.image_ids, *self.image_ids, *odd_ids]
        return Nonsense(
            {
                "image_id": ids,
                "tenant_id": tenants,
                "tenant_ids": tenants,
                "owner_tenant_id": tenants,
                "region": [HOME, HOME, "mars", ""],
                "etag": ["", "", '"1"', '"2"', "1"],
                "name": names,
                "encryption_key_id": ["", "", "key-1", "key-2"],
                "sha256": ["", "", "0" * 64, "z" * 64],
                "page_token": [*self._tokens(), *NONSENSE_TOKENS, ""],
                "paths": [
                    *request_class("UpdateImage")().image.DESCRIPTOR.fields_by_name,
                    "os.type",
                    "*",
                ],
                "vault_id": ["", "vault-1"],
            }
        )

    def _tokens(self) -> Iterator[str]:
        """Yield tokens that were given to somebody, and tokens that somebody who read our code made."""
        for tenant in (TenantId(OWNER), TenantId(STRANGER)):
            requests = [
                request_class("ListImages")(),
                request_class("ListReceivedShares")(),
                *(request_class("ListShares")(image_id=image_id) for image_id in self.image_ids),
            ]
            for request in requests:
                listing = Listing(bytes(KEY_BYTES), tenant, request)
                for key in (0, -1, 2**70, "", "a", "\ud800", "\0"):
                    yield from (listing.token(Position(key, each)) for each in ("id", "\ud800", ""))


@pytest.fixture(scope="module")
def lasting_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("fuzz") / "data")
    yield made
    made.close()


@pytest.fixture
def world(lasting_world: World) -> Iterator[World]:
    """A world that has seen everything that was sent before, and still works afterwards."""
    lasting_world.refill()
    yield lasting_world
    assert lasting_world.lives()


callers = st.tuples(
    st.sampled_from([*[OWNER] * 6, RECIPIENT, ACCEPTED, PENDING, STRANGER]),
    st.sampled_from(["", "", "service", "admin", "service,admin"]),
).map(lambda caller: [("ims-tenant", caller[0]), ("ims-roles", caller[1])])


@every_rpc
def test_random_bytes_are_no_mistake_of_ours(rpc: Rpc, world: World):
    @some(20)
    @given(messages=st.lists(st.binary(max_size=100), min_size=1, max_size=3), caller=callers)
    def check(messages: list[bytes], caller: list[tuple[str, str]]) -> None:
        world.send(rpc, messages, caller)

    check()
    for data in (b"", bytes(3_000_000), bytes(5_000_000), *BROKEN_BYTES):
        world.send(rpc, [data], [("ims-tenant", OWNER)])


@every_rpc
def test_valid_messages_with_a_few_bytes_changed_are_no_mistake_of_ours(rpc: Rpc, world: World):
    valid = [message.SerializeToString() for message in _valid_requests(rpc, world)]

    @some(40)
    @given(data=st.sampled_from(valid).flatmap(mutated), caller=callers)
    def check(data: bytes, caller: list[tuple[str, str]]) -> None:
        world.send(rpc, [data, data] if rpc.takes_stream else [data], caller)

    check()


@every_rpc
def test_messages_of_odd_values_are_no_mistake_of_ours(rpc: Rpc, world: World):
    nonsense = world.nonsense
    messages = st.one_of(
        nonsense.messages(rpc.request.DESCRIPTOR),
        *[st.sampled_from(_valid_requests(rpc, world)).flatmap(nonsense.spoilt)] * 3,
    )
    most = 3 if rpc.takes_stream else 1

    @some(60)
    @given(messages=st.lists(messages, min_size=1, max_size=most), caller=callers)
    def check(messages: list[Message], caller: list[tuple[str, str]]) -> None:
        world.send(rpc, [message.SerializeToString() for message in messages], caller)

    check()


def test_page_tokens_of_every_kind_are_no_mistake_of_ours(world: World):
    for name in ("ListImages", "ListShares", "ListReceivedShares"):
        rpc = next(rpc for rpc in RPCS.values() if rpc.path.endswith(f"/{name}"))
        for token in world.nonsense.words["page_token"]:
            request = rpc.request(page_token=token)
            if name == "ListShares":
                request.image_id = world.image_ids[0]
            world.send(rpc, [request.SerializeToString()], [("ims-tenant", OWNER)])


def _valid_requests(rpc: Rpc, world: World) -> list[Message]:
    name = rpc.path.rpartition("/")[2]
    if name in ALL_METHODS:
        return [rpc.request(**fields_of(name, image_id)) for image_id in world.image_ids] + [
            rpc.request(**_RICH[name]) for name in {name} & _RICH.keys()
        ]
    if rpc.request is health_pb2.HealthCheckRequest:
        return [rpc.request(service="ims.v1.ImageService")]
    return [
        _ASKED(file_containing_symbol="ims.v1.ImageService"),
        _ASKED(file_by_filename="ims/v1/image.proto"),
        _ASKED(list_services=""),
        _ASKED(all_extension_numbers_of_type="google.protobuf.FieldOptions"),
        _ASKED(
            file_containing_extension={
                "containing_type": "google.protobuf.FieldOptions",
                "extension_number": 1052,
            }
        ),
    ]


_RICH: dict[str, dict[str, Any]] = {
    "CreateImage": {
        "name": "rich",
        "type": "FULL_ECS",
        "disks": [{"format": "RAW", "role": "SYSTEM"}, {"format": "QCOW2", "role": "DATA"}],
        "source": {"cbr_backup": {"backup_id": "b", "received_by_sharing": True}},
        "description": "of everything",
        "os": {"type": "LINUX", "platform": "Debian", "version": "12", "bits": 64},
        "architecture": "AARCH64",
        "firmware": "UEFI",
        "min_disk_gib": 3,
        "min_ram_mib": 4,
        "max_ram_mib": 5,
        "tags": {"a": "b", "c": ""},
        "encryption_key_id": "key-1",
        "protected": True,
        "owner_tenant_id": OWNER,
    },
    "ListImages": {
        "relation": "OWNED",
        "type": "SYSTEM_DISK",
        "state": "ACTIVE",
        "name_prefix": "image",
        "os_type": "OTHER",
        "owner_tenant_id": OWNER,
        "tags": {"a": "b"},
        "page_size": 1,
        "include_total_size": True,
    },
}


def _arity(streaming: bool) -> str:
    return "stream" if streaming else "unary"
