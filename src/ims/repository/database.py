"""The two ways to talk to the catalogue, reading and writing, and what both do when it is away."""

import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from ims.domain.rejection import Category, Reason, Rejection, reject
from ims.repository.audit_log import AuditLog
from ims.repository.backend import Backend, UnusableDatabase
from ims.repository.duties import Duties
from ims.repository.images import ImageRepository
from ims.repository.operations import Operations
from ims.repository.pending_blobs import PendingBlobs
from ims.repository.policies import Policies
from ims.repository.postgresql import PostgresqlBackend
from ims.repository.registered_uses import UseRepository
from ims.repository.renderer import Renderer
from ims.repository.requests import Requests
from ims.repository.schema import bring_up_to_date, refuse_outdated, revision_of
from ims.repository.secrets import Secrets
from ims.repository.shared_blobs import SharedBlobs
from ims.repository.shares import ShareRepository
from ims.repository.sqlite import SqliteBackend
from ims.repository.statement import run_sql
from ims.repository.tenants import TenantRepository
from ims.repository.trust import TrustRepository
from ims.repository.uploads import UploadRepository
from ims.repository.watchdog import Watch, Watchdog

Told = TypeVar("Told")

PATIENCE_SECONDS: Final = 10.0
_RETRIES: Final = 2
_RETRYABLE: Final = {"40001", "40P01"}
"""SQLSTATEs of a transaction that the database itself asks to be tried again."""
_READ_ONLY: Final = "25006"
"""The SQLSTATE of a server that has just become a standby."""
_LEAST_PAUSE_SECONDS: Final = 0.01
_MOST_PAUSE_SECONDS: Final = 0.1
_MARGIN: Final = 0.2
_MOST_MARGIN_SECONDS: Final = 0.2
"""How much of a call's time is left for telling the caller that the catalogue took too long."""
_GRACE_SECONDS: Final = 0.1
_PROBE_SECONDS: Final = 1.0
_UNANSWERED_WHEN_AWAY: Final = 2
_A_DAY_SECONDS: Final = 24 * 3600.0


class Reading:
    """Reads records; each statement sees what is committed when it runs."""

    def __init__(self, connection: sa.Connection, renderer: Renderer | None) -> None:
        self.tenants = TenantRepository(connection)
        self.images = ImageRepository(connection, self.tenants, renderer)
        self.audit_log = AuditLog(connection)
        self.shares = ShareRepository(connection, self.audit_log)
        self.trust = TrustRepository(connection)
        self.uses = UseRepository(connection)
        self.policies = Policies(connection)
        self.pending_blobs = PendingBlobs(connection)
        self.requests = Requests(connection)
        self.uploads = UploadRepository(connection)
        self.operations = Operations(connection)
        self.shared_blobs = SharedBlobs(connection)


class Transaction(Reading):
    """Reads records that nobody else can change meanwhile, and is the one in which they are written.

    `images.lock` takes the lock on the image whose disks or shares are judged, and then `tenants.lock`
    that on the tenant whose quotas are; `operations.find_locked` and `operations.end` come before both,
    and `shared_blobs` after both.
    """

    def __init__(self, connection: sa.Connection, renderer: Renderer | None) -> None:
        super().__init__(connection, renderer)
        self.duties = Duties(connection)
        self.secrets = Secrets(connection)
        self._afterwards: list[Callable[[], object]] = []

    def once_committed(self, act: Callable[[], object]) -> None:
        """Have something done when all of this is so for everybody; nothing, should it be undone."""
        self._afterwards.append(act)

    def tell_afterwards(self) -> None:
        """Do what was to be done once this was committed."""
        for act in self._afterwards:
            act()


class Database:
    """The catalogue of images, at the URL of an SQLite file or a PostgreSQL server.

    Every thread has one connection, which it keeps. Whoever waits for the catalogue waits no longer than
    `patience_seconds`, nor than its call may take (`until`): then it is told CATALOGUE_UNAVAILABLE.
    With a renderer, images are kept as bytes too. Raises UnusableDatabase when nothing can be kept at
    such an address.
    """

    def __init__(
        self,
        url: str,
        *,
        renderer: Renderer | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._backend = _backend(url, patience_seconds)
        self._renderer = renderer
        self._patience_seconds = patience_seconds
        self._session = _Session()
        self._away = False
        self._unanswered = 0
        self._back_since = -math.inf
        self._generation = 0
        """Rises when connections that were opened before are not to be trusted any more."""

    def prepare(self) -> None:
        """Bring an embedded catalogue up to date; see to it that a server's is.

        Raises UnusableDatabase when it is behind, and Rejection CATALOGUE_UNAVAILABLE.
        """
        if self._backend.embedded:
            self.migrate()
        else:
            with self._connected() as link:
                refuse_outdated(link.connection)

    def migrate(self) -> tuple[str, ...]:
        """Bring the catalogue's tables up to date; return the revisions that were applied."""
        with self.unhurried(), self.transaction():
            return bring_up_to_date(self._link().connection)

    @contextmanager
    def unhurried(self) -> Iterator[None]:
        """Let the catalogue take its time in the block: it is an operator's work, and nobody's call."""
        session = self._session
        before, session.patience_seconds = session.patience_seconds, _A_DAY_SECONDS
        try:
            yield
        finally:
            session.patience_seconds = before

    @contextmanager
    def until(self, moment: float | None) -> Iterator[None]:
        """Let nothing in the block wait for the catalogue beyond a moment of the monotonic clock."""
        session = self._session
        before, session.until = session.until, moment
        try:
            yield
        finally:
            session.until = before

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """Read, each statement by itself, or within the transaction that is open in this thread."""
        if self._session.transaction is not None:
            yield self._session.transaction
            return
        with self._connected() as link:
            yield link.reading

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Commit what the block did when it ends well; undo it when it does not.

        Within the transaction that is open in this thread the block is a part of that one.
        """
        session = self._session
        if session.transaction is not None:
            yield session.transaction
            return
        with self._turn_to_write(), self._connected() as link:
            self._backend.begin(link.connection, self._seconds())
            try:
                tx = session.transaction = Transaction(link.connection, self._renderer)
                yield tx
                run_sql(link.connection, "COMMIT")
            except BaseException:
                self._roll_back(link)
                raise
            finally:
                session.transaction = None
        tx.tell_afterwards()

    def run(self, story: Callable[[Transaction], Told]) -> Told:
        """Tell a story in a transaction, and again from its beginning when the database asks for it."""
        for _ in range(_RETRIES):
            try:
                return self._run_once(story)
            except _TryAgain:
                if self._session.transaction is not None:
                    raise  # it is only a part of the transaction that must be told again
                # Not at once, or the two that came into each other's way do so again.
                time.sleep(random.uniform(_LEAST_PAUSE_SECONDS, _MOST_PAUSE_SECONDS))  # noqa: S311
        return self._run_once(story)

    def is_reachable(self) -> bool:
        """Ask whether the database answers; when it has not twice, everybody is declined until it does.

        Not at the first time: on a busy machine an answer may be late, and calls may wait for longer.
        """
        try:
            with (
                self.until(time.monotonic() + _PROBE_SECONDS),
                self._connected(probing=True) as link,
            ):
                # A row, and not just an answer: SQLite would not even open its file for that.
                revision_of(link.connection)
        except Rejection:
            self._unanswered += 1
            self._away = self._unanswered >= _UNANSWERED_WHEN_AWAY
        else:
            self._unanswered = 0
            if self._away:
                self._generation += 1
                self._back_since = time.monotonic()
            self._away = False
        return not self._away

    @property
    def steady_seconds(self) -> float:
        """For how long the catalogue has been there as far as is known, since it was last away."""
        return 0 if self._away else time.monotonic() - self._back_since

    def close(self) -> None:
        """Let go of this thread's connection; those of other threads go with their threads."""
        self._forget()
        self._backend.close()

    def _run_once(self, story: Callable[[Transaction], Told]) -> Told:
        with self.transaction() as tx:
            return story(tx)

    @contextmanager
    def _turn_to_write(self) -> Iterator[None]:
        with ExitStack() as turn:
            try:
                turn.enter_context(self._backend.queue(self._seconds()))
            except OSError as error:  # TimeoutError is one
                raise _unavailable() from error
            yield

    @contextmanager
    def _connected(self, *, probing: bool = False) -> Iterator["_Link"]:
        """Give this thread's connection to the block, and take it from it when it waits too long."""
        if self._away and not probing:
            raise _unavailable()
        watch: Watch | None = None
        try:
            # A little later than the database's own timeout, which leaves a connection that can be used.
            seconds = self._seconds() + _GRACE_SECONDS
            link = self._link()
            with _WATCHDOG.watching(seconds, lambda: self._backend.cut(link.connection)) as watch:
                yield link
        except DBAPIError as error:
            if error.connection_invalidated and not (watch and watch.has_cut):
                # What has cut one connection has cut those of others too: no old one is used again.
                self._generation += 1
            if error.connection_invalidated or _is_unavailable(error):
                self._forget()
                raise _unavailable() from error
            if _sqlstate(error) in _RETRYABLE:
                raise _TryAgain from error
            raise

    def _link(self) -> "_Link":
        session = self._session
        if session.link is None or session.link.generation != self._generation:
            session.link = None  # closed before another is opened
            connection = self._backend.connect(self._seconds())
            session.link = _Link(connection, self._generation, self._renderer)
        return session.link

    def _roll_back(self, link: "_Link") -> None:
        try:
            run_sql(link.connection, "ROLLBACK")
        except SQLAlchemyError:
            # It is gone, and its transaction with it; or it goes now.
            self._forget()

    def _forget(self) -> None:
        self._session.link = None

    def _seconds(self) -> float:
        """Return how long the catalogue may take. Raises Rejection when there is no time left."""
        patience = self._session.patience_seconds or self._patience_seconds
        if self._session.until is None:
            return patience
        left = self._session.until - time.monotonic()
        seconds = min(patience, left - min(_MOST_MARGIN_SECONDS, _MARGIN * left))
        if seconds <= 0:
            raise _unavailable()
        return seconds


class _Session(threading.local):
    """What a thread has to do with the catalogue."""

    link: "_Link | None" = None
    transaction: Transaction | None = None
    until: float | None = None
    patience_seconds: float | None = None
    """How long it waits where that is not what all do."""


class _Link:
    """A thread's connection, closed as soon as the thread or the database lets go of it."""

    def __init__(self, connection: sa.Connection, generation: int, renderer: Renderer | None) -> None:
        self.connection = connection
        self.generation = generation
        self.reading = Reading(connection, renderer)

    def __del__(self) -> None:
        # Not left to the garbage collector: a server has only so many connections to give.
        self.connection.invalidate()
        self.connection.close()


class _TryAgain(Rejection):
    """A transaction that came into the way of another one, told as the catalogue's absence."""

    def __init__(self) -> None:
        super().__init__(Category.UNAVAILABLE, _unavailable().violations)


_WATCHDOG: Final = Watchdog()


def _backend(url: str, patience_seconds: float) -> Backend:
    try:
        address = sa.make_url(url)
    except ArgumentError as error:
        raise UnusableDatabase("the address of the database is not understood") from error
    match address.get_backend_name():
        case "sqlite":
            return SqliteBackend(address)
        case "postgresql":
            return PostgresqlBackend(address, patience_seconds=patience_seconds)
        case other:
            message = f"the catalogue is kept in SQLite or PostgreSQL, not in {other}"
            raise UnusableDatabase(message)


def _is_unavailable(error: DBAPIError) -> bool:
    if isinstance(error, InterfaceError):
        return True
    if isinstance(error, OperationalError):
        # SQLite's driver calls a mistake in SQL operational too.
        mistaken = getattr(error.orig, "sqlite_errorname", "") == "SQLITE_ERROR"
        return not mistaken and _sqlstate(error) not in _RETRYABLE
    return _sqlstate(error) == _READ_ONLY


def _sqlstate(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def _unavailable() -> Rejection:
    return reject(
        Category.UNAVAILABLE,
        Reason.CATALOGUE_UNAVAILABLE,
        "The catalogue cannot be reached just now; try again.",
    )
