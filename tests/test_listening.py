"""The port is ours alone, though several of our processes listen on it."""

import socket
from collections.abc import Iterator

import grpc
import pytest

from ims.bootstrap import Service
from ims.listening import HeldAddress
from ims.settings import Settings, SettingsError


@pytest.fixture
def held() -> Iterator[HeldAddress]:
    with HeldAddress("127.0.0.1:0") as address:
        yield address


def listener(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
    """Listen as a worker does."""
    made = socket.socket(family)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(address)
    made.listen()
    return made


def test_any_free_port_is_taken_for_port_0_and_named(held: HeldAddress):
    assert held.port > 0
    assert held.listen == f"127.0.0.1:{held.port}"


def test_a_held_address_is_refused_to_others_whether_or_not_anybody_listens(held: HeldAddress):
    with pytest.raises(SettingsError, match=f"cannot listen on {held.listen}"):
        HeldAddress(held.listen)
    worker = listener(socket.AF_INET, ("127.0.0.1", held.port))
    with worker, pytest.raises(SettingsError, match="in use"):
        HeldAddress(held.listen)


def test_a_stranger_on_the_port_is_noticed():
    strangers = [
        socket.create_server(("127.0.0.1", 0)),
        listener(socket.AF_INET, ("127.0.0.1", 0)),
    ]

    for stranger in strangers:
        with stranger, pytest.raises(SettingsError, match="in use"):
            HeldAddress(f"127.0.0.1:{stranger.getsockname()[1]}")


def test_several_services_of_ours_listen_beside_it(held: HeldAddress, tmp_path):
    settings = Settings(listen=held.listen, data=tmp_path, region="local")
    services = [Service(settings, shares_port=True) for _ in range(2)]
    for service in services:
        service.start()

    with grpc.insecure_channel(held.listen) as channel:
        grpc.channel_ready_future(channel).result(30)
    assert {service.port for service in services} == {held.port}
    for service in services:
        service.stop()


def test_nobody_is_served_while_only_the_address_is_held(held: HeldAddress):
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", held.port))


def test_connections_of_an_earlier_service_that_fade_away_are_no_reason_to_wait():
    with socket.create_server(("127.0.0.1", 0)) as earlier:
        port = earlier.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = earlier.accept()
    accepted.close()  # the server's side closes first, and its end of the connection lingers

    HeldAddress(f"127.0.0.1:{port}").close()
    client.close()


def test_a_name_is_held_at_each_of_its_addresses():
    with HeldAddress("localhost:0") as held:
        families = {found[0] for found in socket.getaddrinfo("localhost", None)}
        for family in families:
            address = "127.0.0.1" if family is socket.AF_INET else "::1"
            with socket.socket(family) as stranger, pytest.raises(OSError, match="in use"):
                stranger.bind((address, held.port))


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_all_addresses_are_those_of_both_families(host):
    with HeldAddress(f"{host}:0") as held, socket.socket() as stranger:
        with pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", held.port))
        listener(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET, ("::", held.port)).close()


@pytest.mark.parametrize(
    "listen", ["192.0.2.1:0", "no-such-name.invalid:0", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000"]
)
def test_what_is_no_address_of_this_machine_is_named(listen):
    with pytest.raises(SettingsError, match="no address of this machine"):
        HeldAddress(listen)
