"""The real things that tests work with: a service on a local port, in a folder of its own."""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, NoReturn

import pytest
from hypothesis import settings as hypothesis_settings

from builders import ELSEWHERE, HOME, OWNER
from calling import Tenant
from databases import POSTGRESQL, SQLITE, Postgres
from ims.bootstrap import Service
from ims.domain.image import KeyId
from ims.providers.keys import add_key
from ims.repository.database import Database
from ims.settings import Settings
from ims.use_cases.deployment import Deployment
from radosgw import PROGRAMS, SharedRadosgw

if TYPE_CHECKING:
    from buckets import S3Server

# The time a single example takes says nothing on a shared machine.
hypothesis_settings.register_profile("ims", deadline=None, print_blob=True)
hypothesis_settings.load_profile("ims")

if TYPE_CHECKING:
    from key_servers import OpenBao, Transit

IN_CI = bool(os.environ.get("CI"))


def needs(tool: str | None, name: str) -> str:
    """Return a tool's path; without it skip the test, but not in CI."""
    if not tool:
        cannot_run(f"{name} is not installed")
    return tool


def grpcurl_path() -> str | None:
    """Return where grpcurl is, if it is anywhere: also where Go installs it."""
    found, go = shutil.which("grpcurl"), shutil.which("go")
    if found is None and go is not None:
        asked = subprocess.run([go, "env", "GOPATH"], check=True, capture_output=True, text=True)
        found = shutil.which("grpcurl", path=Path(asked.stdout.strip()) / "bin")
    return found


def cannot_run(reason: str) -> NoReturn:
    """Skip the test, saying why; in CI, where nothing is skipped, fail it."""
    if IN_CI:
        pytest.fail(f"nothing is skipped in CI, but {reason}")
    pytest.skip(reason)


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self._now = datetime(2026, 1, 1, tzinfo=UTC)
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """Return the time; every look is a microsecond later, so that times tell what came first."""
        with self._lock:
            self._now += timedelta(microseconds=1)
            return self._now

    def advance(self, **delta: float) -> None:
        with self._lock:
            self._now += timedelta(**delta)


@pytest.fixture
def clock() -> Clock:
    return Clock()


# What is told to a caller does not depend on what the catalogue is kept in; these tests ask one only.
_ONE_DATABASE_WILL_DO = {"cli", "client", "test_reflection", "test_fuzz", "test_health"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that needs a catalogue on each database, or on those that its marker names."""
    if "kind_of_database" in metafunc.fixturenames:
        place = {*metafunc.definition.path.parts, metafunc.definition.path.stem}
        named = metafunc.definition.get_closest_marker("databases")
        kinds = list(named.args) if named else [SQLITE, POSTGRESQL]
        kinds = [SQLITE] if place & _ONE_DATABASE_WILL_DO else kinds
        metafunc.parametrize("kind_of_database", kinds, scope="session")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server, the same for all tests of this process."""
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(scope="session")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty catalogue, to be copied: making its tables takes longer than most tests."""
    path = tmp_path_factory.mktemp("sqlite") / "catalogue.sqlite3"
    database = Database(f"sqlite:///{path}")
    database.prepare()
    database.close()
    return path


@pytest.fixture(scope="session")
def key_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["OpenBao"]:
    """A real key server, the same for all tests of this process; each has an engine of its own."""
    from key_servers import OpenBao  # noqa: PLC0415 - it needs what stands here

    server = OpenBao(tmp_path_factory.mktemp("key-server") / "openbao")
    yield server
    server.close()


@pytest.fixture
def transit(key_server: "OpenBao") -> "Transit":
    """An empty transit engine of a real key server."""
    return key_server.transit()


@pytest.fixture(scope="session")
def radosgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator["S3Server"]:
    """A real S3 server, the same for all processes of a test run."""
    from buckets import S3Server  # noqa: PLC0415 - the libraries of S3 take a second to import

    for program in PROGRAMS:
        needs(shutil.which(program), program)
    folder = tmp_path_factory.getbasetemp()
    shared = SharedRadosgw(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder)
    yield S3Server(**shared.told)
    shared.close()


MakeCatalogue = Callable[[], str]


@pytest.fixture
def make_catalogue(
    kind_of_database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[MakeCatalogue]:
    """Make empty catalogues of the kind that the test is run for, and return their URLs."""
    with ExitStack() as lent:

        def make() -> str:
            if kind_of_database == POSTGRESQL:
                postgres: Postgres = request.getfixturevalue("postgres")
                return lent.enter_context(postgres.catalogue())
            path = Path(mkdtemp(dir=tmp_path)) / "catalogue.sqlite3"
            shutil.copyfile(request.getfixturevalue("sqlite_file"), path)
            return f"sqlite:///{path}"

        yield make


@pytest.fixture
def database(make_catalogue: MakeCatalogue) -> Iterator[Database]:
    """An empty catalogue, without a service."""
    database = Database(make_catalogue())
    database.prepare()
    yield database
    database.close()


MakeService = Callable[..., Service]
AWAY = {ELSEWHERE: {"server": "127.0.0.1:9", "development_tenant": "ims"}}


@pytest.fixture
def make_service(tmp_path: Path, clock: Clock, make_catalogue: MakeCatalogue) -> Iterator[MakeService]:
    """Start services with settings of one's own.

    Each has a folder and a catalogue of its own, unless `data` is given: then that of the one there.
    """
    running: list[Service] = []

    def make(**settings: object) -> Service:
        folder = settings.get("data", tmp_path / f"data-{len(running)}")
        urls = [each.settings.database_url for each in running if each.settings.data == folder]
        given = {
            "listen": "127.0.0.1:0",
            "data": folder,
            "database_url": urls[0] if urls else make_catalogue(),
            "region": HOME,
            "drain_seconds": 1,
            "scrub_bytes_per_second": 0,  # what a test damages it finds itself
        } | settings
        service = Service(Settings(**given), now=clock.now)
        running.append(service)
        service.start()
        return service

    yield make
    for service in running:
        service.stop()


@pytest.fixture
def service(make_service: MakeService) -> Service:
    """A service with the law's defaults, a key called `key-1`, and a peer that is away."""
    service = make_service(peers=AWAY)
    add_key(service.settings.keys, KeyId("key-1"))
    return service


@pytest.fixture
def idle(make_service: MakeService) -> Service:
    """A service that does no operations by itself, with the same key and peer.

    OWNER may export into a bucket, of which nobody answers.
    """
    away = {"bucket": "exports", "tenants": [OWNER], "endpoint_url": "http://127.0.0.1:9"}
    somebody = {"access_key_id": "somebody", "secret_access_key": "something", "region": "here"}
    service = make_service(operation_threads=0, peers=AWAY, export_buckets=[away | somebody])
    add_key(service.settings.keys, KeyId("key-1"))
    return service


@pytest.fixture
def deployment(service: Service) -> Deployment:
    return service.deployment


As = Callable[..., Tenant]


@pytest.fixture
def as_(service: Service) -> Iterator[As]:
    """Call the service: `as_("acme").GetImage(…)`, `as_("nova", "service")`, `as_(None)` for nobody."""
    tenants: list[Tenant] = []

    def tenant(name: str | None, *roles: str, region: str = "", of: Service = service) -> Tenant:
        made = Tenant(f"127.0.0.1:{of.port}", name, *roles, region=region)
        tenants.append(made)
        return made

    yield tenant
    for made in tenants:
        made.close()


@pytest.fixture
def files_of() -> Callable[[Service], list[Path]]:
    """Tell which files hold bytes of images, finished or not."""

    def files(service: Service) -> list[Path]:
        folder = service.settings.blob_folder
        return [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]

    return files
