"""How long a page of a list takes in a large catalogue, divided by how long it takes in a small one."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from bench.catalogue import BEGINNING, BIG, LITTLE, RARE_NAME, RARE_TAG, SPAN
from bench.databases import KINDS
from bench.figures import Figure
from bench.medians import percentile
from bench.session import Session, method, say
from calling import METHODS, SERVICES, request_class
from ims.domain.image import GIB
from serving import Server

PAGE = 100
WALKING_PAGE = 1000
DEEPEST = 50_000
"""How deep a deep page lies at the most; else it lies in the middle of the list."""
SMALL = 1_000
TOLD = 5
"""How many of the worst pages are told as they are measured; the page tells all."""
RECEIVED = "ListReceivedShares"
TARGETS = {10_000: 1.5, 100_000: 1.5, 1_000_000: 2.0}


@dataclass(frozen=True)
class Listing:
    """One way to list."""

    what: str
    fields: dict[str, Any] = field(default_factory=dict)
    tenant: str = BIG
    rpc: str = "ListImages"


def listings() -> Iterator[Listing]:
    """Return each filter in the usual order, each order without a filter, and some of both."""
    for tenant, who in ((BIG, "big tenant"), (LITTLE, "little tenant")):
        yield Listing(f"everything, {who}", tenant=tenant)
        for relation in ("OWNED", "SHARED_WITH_ME", "PUBLIC"):
            yield Listing(f"relation {relation}, {who}", {"relation": relation}, tenant)
    for name in ("PUBLIC", "PRIVATE", "SHARED"):
        yield Listing(f"class {name}", {"class": name})
    for name in ("SYSTEM_DISK", "DATA_DISK", "FULL_ECS"):
        yield Listing(f"type {name}", {"type": name})
    yield Listing("type ISO, rare", {"type": "ISO"})
    yield Listing("state ACTIVE", {"state": "ACTIVE"})
    yield Listing("state DEACTIVATED, rare", {"state": "DEACTIVATED"})
    yield Listing("state DELETED", {"state": "DELETED"})
    yield Listing("OS LINUX", {"os_type": "LINUX"})
    yield Listing("OS OTHER, rare", {"os_type": "OTHER"})
    yield Listing("owner, the caller", {"owner_tenant_id": BIG})
    yield Listing("owner, another", {"owner_tenant_id": LITTLE})
    yield Listing("name, of nothing", {"name": "no-such-image"})
    yield Listing("name prefix", {"name_prefix": "debian"})
    yield Listing("name prefix, rare", {"name_prefix": RARE_NAME})
    yield Listing("tag", {"tags": {"stage": "prod"}})
    yield Listing("two tags", {"tags": {"stage": "prod", "team": "team-7"}})
    yield Listing("tag, rare", {"tags": dict([RARE_TAG])})
    yield Listing("any of two tags", {"tags_any": [_tag("stage", "prod"), _tag("team", "team-7")]})
    yield Listing("any of two tags, rare", {"tags_any": [_tag(*RARE_TAG), _tag("no-such-tag")]})
    yield Listing("none of two tags", {"tags_none": [_tag("stage", "prod"), _tag("cost-centre")]})
    yield Listing("size range", {"min_size_bytes": 2**24, "max_size_bytes": 2**32})
    yield Listing("size range, rare", {"min_size_bytes": 110 * GIB})
    yield Listing("made in a quarter", _quarter("created"))
    yield Listing("changed in a quarter", _quarter("updated"))
    for order in ("create_time", "name", "name desc", "size_bytes", "size_bytes desc"):
        yield Listing(f"by {order}", {"order_by": order})
        yield Listing(f"by {order}, OWNED", {"order_by": order, "relation": "OWNED"})
        yield Listing(f"by {order}, tag, rare", {"order_by": order, "tags": dict([RARE_TAG])})
    yield Listing("by name, little tenant", {"order_by": "name"}, LITTLE)
    yield Listing("by name, OS LINUX", {"order_by": "name", "os_type": "LINUX"})
    yield Listing("by name, tag", {"order_by": "name", "tags": {"stage": "prod"}})
    for tenant, who in ((BIG, "big tenant"), (LITTLE, "little tenant")):
        yield Listing(f"received shares, {who}", tenant=tenant, rpc=RECEIVED)
    for status in ("PENDING", "ACCEPTED", "REJECTED"):
        yield Listing(f"received shares {status}", {"status": status}, rpc=RECEIVED)
    yield Listing("received shares by create_time", {"order_by": "create_time"}, rpc=RECEIVED)


def _tag(key: str, value: str | None = None) -> dict[str, str]:
    return {"key": key} if value is None else {"key": key, "value": value}


def _quarter(done: str) -> dict[str, Any]:
    begin, end = Timestamp(), Timestamp()
    begin.FromDatetime(BEGINNING + SPAN / 4)
    end.FromDatetime(BEGINNING + SPAN / 2)
    return {f"{done}_from": begin, f"{done}_before": end}


def pages_of_lists(session: Session) -> Iterator[Figure]:
    """ListImages and ListReceivedShares, each filter and order, first page and deep page, p99."""
    for kind in KINDS:
        sizes = session.sizes(kind)
        with ExitStack() as stack:
            servers = {
                size: stack.enter_context(session.serving(session.filled(kind, size).url, workers=1))
                for size in sizes
            }
            wanted = list(listings())[:: 30 if session.quick else 1]
            rows = [row for listing in wanted for row in _compare(session, listing, servers)]
        for size in sizes[1:]:
            by_ratio = sorted(rows, key=lambda row: -row["ratios"][size])
            for row in by_ratio[:TOLD]:
                say(f"{size:,} ÷ {SMALL:,}, {kind}, {_told(row, size)}")
            worst = by_ratio[0]
            yield Figure(
                name=f"list of {PAGE}, {size:,} ÷ {SMALL:,} in the catalogue, p99, worst, {kind}",
                value=worst["ratios"][size],
                at_most=TARGETS[size],
                details={"lists": rows, "worst": f"{worst['what']}, {worst['page']}"},
            )
            yield Figure(
                name=f"list of {PAGE}, {size:,} ÷ {SMALL:,} in the catalogue, p99, median, {kind}",
                value=statistics.median(row["ratios"][size] for row in rows),
            )


def _told(row: dict[str, Any], size: int) -> str:
    small, large = row["milliseconds"][SMALL], row["milliseconds"][size]
    p50s, p99s = (f"{small[p]:.1f} → {large[p]:.1f} ms" for p in ("p50", "p99"))
    return f"{row['what']}, {row['page']} page of {row['images']}: p50 {p50s}, p99 {p99s}"


def _compare(session: Session, listing: Listing, servers: dict[int, Server]) -> Iterator[dict[str, Any]]:
    with ExitStack() as stack:
        lists = {size: stack.enter_context(_List(server, listing)) for size, server in servers.items()}
        # A page that one catalogue cannot fill would be compared with a full one.
        fewest = min(each.total() for each in lists.values())
        page_size = min(PAGE, fewest // 2) or 1
        pages = {"first": {size: each.page(page_size) for size, each in lists.items()}}
        if fewest >= 2:
            pages["deep"] = {size: each.page(page_size, deep=True) for size, each in lists.items()}
        for page, calls in pages.items():
            p99s = _p99s(session, calls)
            yield {
                "what": listing.what,
                "page": page,
                "images": page_size if fewest else 0,
                "milliseconds": {size: {"p50": p50, "p99": p99} for size, (p50, p99) in p99s.items()},
                "ratios": {size: p99s[size][1] / p99s[SMALL][1] for size in servers},
            }


def _p99s(session: Session, calls: dict[int, Callable[[], object]]) -> dict[int, tuple[float, float]]:
    """Make calls in turns, one by one; return the median of the rounds' p50s and p99s, in ms."""
    rounds, repeats = 3, 20 if session.quick else 100
    for call in calls.values():
        for _ in range(10):  # until statements are prepared and pages are warm
            call()
    p50s: dict[int, list[float]] = {size: [] for size in calls}
    p99s: dict[int, list[float]] = {size: [] for size in calls}
    for _ in range(rounds):
        seconds: dict[int, list[float]] = {size: [] for size in calls}
        for _ in range(repeats):
            for size, call in calls.items():
                begun = time.perf_counter()
                call()
                seconds[size].append(time.perf_counter() - begun)
        for size, measured in seconds.items():
            p50s[size].append(1000 * statistics.median(measured))
            p99s[size].append(1000 * percentile(measured, 0.99))
    return {size: (statistics.median(p50s[size]), statistics.median(p99s[size])) for size in calls}


class _List:
    """A listing at one server, over a channel of its own."""

    def __init__(self, server: Server, listing: Listing) -> None:
        self._listing = listing
        self._metadata = [("ims-tenant", listing.tenant)]
        self._channel = grpc.insecure_channel(server.target)
        self._call = self._channel.unary_unary(method(listing.rpc))
        module = SERVICES[METHODS[listing.rpc][0]][0]
        self._answer = getattr(module, METHODS[listing.rpc][1].output_type.name)

    def page(self, size: int, *, deep: bool = False) -> Callable[[], object]:
        """Return what asks for a page again and again; its answer is not even parsed."""
        token = self._token_of(min(self.total() // 2, DEEPEST)) if deep else ""
        request = self._request(page_size=size, page_token=token)
        return lambda: self._call(request, metadata=self._metadata)

    def total(self) -> int:
        answer = self._ask(page_size=1, include_total_size=True)
        return int(answer.total_size)

    def _token_of(self, depth: int) -> str:
        """Walk to the page that begins so deep, as any caller would; return its token."""
        token, passed = "", 0
        while passed < depth:
            answer = self._ask(page_size=min(WALKING_PAGE, depth - passed), page_token=token)
            token = answer.next_page_token
            passed += len(answer.images if self._listing.rpc == "ListImages" else answer.received_shares)
        return token

    def _ask(self, **fields: object) -> Any:
        return self._answer.FromString(self._call(self._request(**fields), metadata=self._metadata))

    def _request(self, **fields: object) -> bytes:
        request = request_class(self._listing.rpc)(**self._listing.fields, **fields)
        return bytes(request.SerializeToString())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
