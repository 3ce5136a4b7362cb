"""Writes that all want the same counter: a thousand at once against the same thousand one by one."""

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

from bench.databases import KINDS
from bench.figures import Figure
from bench.medians import in_turns
from bench.session import Session, method
from calling import Tenant, request_class
from serving import Server

THREADS = 64
CHANNELS = 8


def one_tenants_counter(session: Session) -> Iterator[Figure]:
    """CreateImage of one tenant, in parallel ÷ one after the other, and every image counted once."""
    writes = 200 if session.quick else 1_000
    for kind in KINDS:
        names = (f"counting-{number}" for number in itertools.count())
        url = session.databases.url(kind, "writes")
        with session.serving(url) as server:

            def create(threads: int, server=server, names=names) -> float:
                return _seconds_of_creating(server, next(names), writes=writes, threads=threads)

            turns = in_turns(
                {"in parallel": lambda: create(THREADS), "one by one": lambda: create(1)},
                rounds=1 if session.quick else 3,
                warm_up=False,  # by the first calls of each run
            )
        yield Figure(
            name=f"{writes:,} CreateImage of one tenant, {THREADS} at once ÷ one by one, {kind}",
            value=turns.ratio("in parallel", "one by one"),
            at_most=1.5,
            details={"spread": turns.ratios("in parallel", "one by one")},
        )
        yield Figure(
            name=f"CreateImage, {THREADS} at once, {kind}",
            value=writes / turns.median("in parallel"),
            unit="calls a second",
        )


def _seconds_of_creating(server: Server, tenant: str, *, writes: int, threads: int) -> float:
    """Create images of a new tenant; return how long it took. Nothing is lost, nothing is over."""
    owner, operator = Tenant(server.target, tenant), Tenant(server.target, "operator", "admin")
    operator.SetTenantQuotas(
        tenant_id=tenant,
        limits={"private_images": writes},
        update_mask={"paths": ["private_images"]},
    )
    options = [("grpc.use_local_subchannel_pool", 1)]  # or all channels would share one connection
    channels = [grpc.insecure_channel(server.target, options) for _ in range(min(CHANNELS, threads))]
    calls = [channel.unary_unary(method("CreateImage")) for channel in channels]
    request = request_class("CreateImage")
    messages = [
        request(
            name=f"image-{number}", type="SYSTEM_DISK", disks=[{"format": "RAW"}]
        ).SerializeToString()
        for number in range(writes)
    ]

    def create(number: int) -> None:
        call: Callable[..., bytes] = calls[number % len(calls)]
        call(messages[number], metadata=[("ims-tenant", tenant)], timeout=300)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(create, range(len(calls))))  # connections are made
        begun = time.monotonic()
        list(pool.map(create, range(len(calls), writes)))
        seconds = time.monotonic() - begun
    assert owner.GetQuotas().quotas.private_images.used == writes
    one_more = request(name="one-more", type="SYSTEM_DISK", disks=[{"format": "RAW"}])
    assert owner.answer("CreateImage", one_more).reason == "IMAGE_QUOTA_EXCEEDED"
    assert owner.ListImages(include_total_size=True, relation="OWNED").total_size == writes
    owner.close()
    operator.close()
    for channel in channels:
        channel.close()
    return seconds * writes / (writes - len(calls))
