"""Whoever is out is out: what one process has acknowledged, no other answers as if it were not so."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import grpc
import pytest

from calling import Tenant
from conftest import MakeCatalogue
from serving import Server

READS = 10_000
ROUNDS = 20
READERS = 4
PATIENCE_SECONDS = 60
OWNER, RECIPIENT = "acme", "globex"
# The last one while a share is pending.
_REFUSED = (
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
)


@dataclass
class Stage:
    """One catalogue behind two processes: changes are made through one, reads through the other."""

    owner: Tenant
    recipient: Tenant
    """Calls the process through which changes are made."""
    administrator: Tenant
    reading: Tenant
    """The recipient, who calls the other process."""
    image_id: str

    def lend(self) -> None:
        self.owner.ShareImage(image_id=self.image_id, recipients=[{"tenant_id": RECIPIENT}])
        self.recipient.AcceptShare(image_id=self.image_id)


@dataclass(frozen=True)
class Change:
    """What puts a recipient out, and what lets it in again."""

    out: Callable[[Stage], object]
    back: Callable[[Stage], object]


def end_by_itself(stage: Stage) -> None:
    """Have the share end soon, and wait until it has."""
    end = datetime.now(UTC) + timedelta(seconds=0.3)
    stage.owner.UpdateShare(
        image_id=stage.image_id,
        tenant_id=RECIPIENT,
        share={"expire_time": end},
        update_mask={"paths": ["expire_time"]},
    )
    while datetime.now(UTC) <= end:
        time.sleep(0.001)


CHANGES = (
    Change(
        out=lambda at: at.owner.UnshareImage(image_id=at.image_id, tenant_ids=[RECIPIENT]),
        back=lambda at: at.lend(),
    ),
    Change(out=end_by_itself, back=lambda at: at.lend()),
    Change(out=lambda at: at.recipient.LeaveShare(image_id=at.image_id), back=lambda at: at.lend()),
    Change(
        out=lambda at: at.owner.DeleteImage(image_id=at.image_id),
        back=lambda at: at.owner.UndeleteImage(image_id=at.image_id),
    ),
    Change(
        out=lambda at: at.administrator.SuspendTenant(tenant_id=OWNER),
        back=lambda at: at.administrator.ResumeTenant(tenant_id=OWNER),
    ),
    Change(
        out=lambda at: at.administrator.SuspendTenant(tenant_id=RECIPIENT),
        back=lambda at: at.administrator.ResumeTenant(tenant_id=RECIPIENT),
    ),
)


class Readers:
    """Some who read in every way there is, one read after the other, and keep book."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._reads = (self._get, self._list, self._list_received, self._resolve, self._download)
        self._ended = threading.Event()
        self._reading: list[Future[None]] = []
        self.book: deque[tuple[float, str, bool]] = deque()
        """Of each read when it began, what it was and whether it was served."""

    @contextmanager
    def at_work(self) -> Iterator[None]:
        with ThreadPoolExecutor(READERS) as pool:
            self._reading = [pool.submit(self._read_on, first) for first in range(READERS)]
            try:
                yield
            finally:
                self._ended.set()

    def _read_on(self, first: int) -> None:
        for number in count(first):
            if self._ended.is_set():
                return
            read = self._reads[number % len(self._reads)]
            began = time.monotonic()
            self.book.append((began, read.__name__, read()))

    def wait_for(self, reads: int, *, since: float) -> list[tuple[str, bool]]:
        """Return what became of the reads that began after a moment, when there are enough of them."""
        until = time.monotonic() + PATIENCE_SECONDS
        while len(found := [(name, ok) for began, name, ok in list(self.book) if began > since]) < reads:
            assert time.monotonic() < until, "reads take too long"
            for each in self._reading:
                if each.done():
                    each.result()
            time.sleep(0.01)
        self.book.clear()
        return found

    def _get(self) -> bool:
        return self._served("GetImage", image_id=self._stage.image_id)

    def _list(self) -> bool:
        return self._served("ListImages", "images")

    def _list_received(self) -> bool:
        return self._served("ListReceivedShares", "received_shares")

    def _resolve(self) -> bool:
        return self._served("ResolveImage", image_id=self._stage.image_id, purpose="CREATE_ECS")

    def _download(self) -> bool:
        return self._served("DownloadImageData", image_id=self._stage.image_id)

    def _served(self, rpc: str, listed: str = "", **fields: object) -> bool:
        try:
            answer = getattr(self._stage.reading, rpc)(**fields)
        except grpc.RpcError as error:
            if error.code() not in _REFUSED:
                raise
            return False
        return not listed or len(getattr(answer, listed)) > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_of_ten_thousand_reads_through_another_process_none_is_stale(
    tmp_path: Path, make_catalogue: MakeCatalogue
):
    """Law 3.12, 3.13, 3.16, 4.5 and 8.2."""
    flags = ("--database-url", make_catalogue(), "--workers", "1")
    with Server(tmp_path, *flags) as here, Server(tmp_path, *flags) as there:
        administrator = Tenant(here.target, "operator", "admin")
        for tenant in (OWNER, RECIPIENT):
            administrator.RegisterTenant(tenant_id=tenant, region="local")
        owner = Tenant(here.target, OWNER)
        stage = Stage(
            owner=owner,
            recipient=Tenant(here.target, RECIPIENT),
            administrator=administrator,
            reading=Tenant(there.target, RECIPIENT),
            image_id=owner.active("one").id,
        )
        stage.lend()
        readers = Readers(stage)
        with readers.at_work():
            for number in range(ROUNDS):
                change = CHANGES[number % len(CHANGES)]
                let_in = readers.wait_for(READERS * 5, since=time.monotonic())
                assert all(served for _, served in let_in), let_in

                change.out(stage)
                acknowledged = time.monotonic()
                after = readers.wait_for(READS // ROUNDS, since=acknowledged)

                assert [name for name, served in after if served] == []
                change.back(stage)
