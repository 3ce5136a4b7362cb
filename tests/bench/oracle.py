"""Whether time tells what is hidden from what never existed (law 2.1)."""

import time
import uuid
from collections.abc import Iterator
from statistics import median
from typing import Any

import grpc

from bench.databases import KINDS
from bench.figures import Figure
from bench.session import Session, method
from calling import METHODS, request_class
from serving import Server

STRANGER = "nobody-of-those"
"""A tenant that sees nothing but public images."""
CALLS, QUICK_CALLS = 10_000, 300
"""How many calls of each kind."""
RPCS: dict[str, dict[str, Any]] = {
    "GetImage": {},
    "DownloadImageData": {},
    "AcceptShare": {},
    "ShareImage": {"recipients": [{"tenant_id": "another"}]},
}


def hidden_from_never_existed(session: Session) -> Iterator[Figure]:
    """How long it takes to be told that there is no such image, hidden ones beside never given ids."""
    for kind in KINDS:
        seeded = session.filled(kind, session.large)
        hidden = session.ids(seeded)
        session.chance.shuffle(hidden)
        with session.serving(seeded.url, workers=1) as server:
            for rpc, fields in list(RPCS.items())[: 1 if session.quick else None]:
                calls = QUICK_CALLS if session.quick else CALLS
                times = _times(server, rpc, fields, hidden, calls)
                of_hidden, of_never = (median(each) for each in times)
                yield Figure(
                    name=f"{rpc} of hidden ÷ never given ids, median of {calls:,} each, {kind}",
                    value=max(of_hidden / of_never, of_never / of_hidden),
                    at_most=1.1,
                    details={"milliseconds": [of_hidden * 1000, of_never * 1000]},
                )


def _times(
    server: Server, rpc: str, fields: dict[str, Any], hidden: list[str], calls: int
) -> tuple[list[float], list[float]]:
    """Return the seconds of calls about hidden and about never given ids, made in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    metadata = (("ims-tenant", STRANGER),)
    with grpc.insecure_channel(server.target) as channel:
        streams = METHODS[rpc][1].server_streaming
        call: Any = (channel.unary_stream if streams else channel.unary_unary)(method(rpc))

        def refuse(image_id: str) -> float:
            request = request_class(rpc)(image_id=image_id, **fields).SerializeToString()
            began = time.perf_counter()
            try:
                answer = call(request, metadata=metadata)
                list(answer) if streams else None
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise
            else:
                raise AssertionError(image_id)
            return time.perf_counter() - began

        for number in range(calls + calls // 10):
            both = refuse(hidden[number % len(hidden)]), refuse(str(uuid.uuid4()))
            if number >= calls // 10:  # those before were to warm everything
                for taken, kept in zip(both, times, strict=True):
                    kept.append(taken)
    return times
