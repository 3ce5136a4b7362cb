"""The one place where objects are made and joined: read it from top to bottom."""

import ipaddress
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import grpc
import structlog
from google.longrunning import operations_pb2, operations_pb2_grpc

from ims.blob_store.exports import ExportBucket, ExportBuckets
from ims.blob_store.filesystem import FilesystemBlobStore
from ims.disk_files.conversion import ConversionLimits, Converter
from ims.domain.caller import Caller, Role
from ims.domain.limits import Limits
from ims.domain.quotas import Quotas
from ims.domain.rejection import Rejection
from ims.domain.tenant import Region, TenantId
from ims.domain.vault import Vault
from ims.identity.certificates import CertificateIdentity
from ims.identity.development import DevelopmentIdentity
from ims.identity.interface import Identity
from ims.providers.backups import ListedVaults
from ims.providers.keys import KeyProvider, LocalKeyFile
from ims.repository.backend import UnusableDatabase
from ims.repository.database import Database
from ims.servicers.admin_servicer import AdminServicer
from ims.servicers.admission import Rooms
from ims.servicers.audit_servicer import AuditServicer
from ims.servicers.health import HEALTH_SERVICE, Health
from ims.servicers.image_messages import RENDERER, image_bytes
from ims.servicers.image_servicer import ImageServicer
from ims.servicers.interceptors import OutermostInterceptor
from ims.servicers.operation_messages import exported_bytes
from ims.servicers.operations_servicer import OperationsServicer
from ims.servicers.page_tokens import KEY_BYTES
from ims.servicers.patience import Patience
from ims.servicers.reflection import add_reflection
from ims.servicers.sharing_servicer import SharingServicer
from ims.servicers.tls import CertificateFiles, Certificates, UnusableCertificate, names_of, no_names
from ims.servicers.upload_servicer import UploadServicer
from ims.servicers.use_servicer import UseServicer
from ims.settings import (
    BucketSetting,
    ClientSetting,
    OidcSetting,
    PeerSetting,
    S3Setting,
    Settings,
    SettingsError,
    TransitSetting,
)
from ims.use_cases.checkup import Finding, check_up
from ims.use_cases.deployment import Deployment
from ims.use_cases.executor import Executor
from ims.use_cases.image_data import keep_uploads_alive
from ims.use_cases.refusals import Refusals
from ims.use_cases.scrubbing import scrub
from ims.use_cases.sweeping import sweep
from ims.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    audit_service_pb2,
    audit_service_pb2_grpc,
    image_service_pb2,
    image_service_pb2_grpc,
    sharing_service_pb2,
    sharing_service_pb2_grpc,
    upload_service_pb2,
    upload_service_pb2_grpc,
    use_service_pb2,
    use_service_pb2_grpc,
)

if TYPE_CHECKING:
    from ims.blob_store.interface import DownloadUrls, PartUrls, ResumableBlobStore
    from ims.blob_store.s3 import S3BlobStore
    from ims.blob_store.s3_bucket import BucketAddress
    from ims.identity.key_set import KeySet
    from ims.providers.fetching import Fetcher
    from ims.providers.peers import Peer
    from ims.providers.transit import TransitKeys

SERVICES: Final = tuple(
    file.DESCRIPTOR.services_by_name[name].full_name
    for file, name in (
        (image_service_pb2, "ImageService"),
        (sharing_service_pb2, "SharingService"),
        (admin_service_pb2, "AdminService"),
        (use_service_pb2, "UseService"),
        (upload_service_pb2, "UploadService"),
        (audit_service_pb2, "AuditService"),
        (operations_pb2, "Operations"),
    )
)

_log = structlog.get_logger("ims")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Service:
    """A running service: serves from `start` to `stop`."""

    def __init__(
        self,
        settings: Settings,
        *,
        now: Callable[[], datetime] = _utc_now,
        shares_port: bool = False,
    ) -> None:
        """Make all that a service needs. Raises SettingsError when it cannot be as it is set up.

        One that shares its port is one of several workers, under a supervisor that holds the port.
        """
        refuse_strangers(settings)
        self.settings = settings
        self._certificates = _certificates(settings)
        self._identity = _identity(settings)
        self._shares_port = shares_port
        self._stack = ExitStack()
        self.deployment = _make_deployment(settings, now=now, closing=self._stack)
        self._refusals = Refusals(self.deployment)
        self._rooms = Rooms(
            threads=settings.threads,
            max_waiting_calls=settings.max_waiting_calls,
            max_transfers=settings.max_transfers,
        )
        self._patience = Patience(settings.idle_seconds)
        self._draining = threading.Event()
        self._health = Health(("", *SERVICES), self.deployment.database.is_reachable)
        self._server = self._make_server()
        self._id = str(uuid.uuid4())
        self._ending = threading.Event()
        self._executor = Executor(self.deployment, self._id)
        self._executing = [
            threading.Thread(target=self._execute, name=f"operation-{number}", daemon=True)
            for number in range(settings.operation_threads)
        ]
        self._chores = [
            threading.Thread(
                target=self._again_and_again, args=chore, name=chore[0].__name__, daemon=True
            )
            for chore in (
                (self._sweep, settings.sweep_seconds),
                (self._keep_uploads_alive, settings.upload_lease_seconds / 3),
                (self._record_refusals, _RECORDING_SECONDS),
                (self._scrub, _SCRUB_SECONDS),
                (self._hold_operations, min(_HOLDING_SECONDS, settings.operation_lease_seconds / 3)),
            )
        ]
        self.port = self._bind()

    def _make_server(self) -> grpc.Server:
        interceptor = OutermostInterceptor(
            self._identity,
            self._rooms,
            self._patience,
            self.deployment.database.until,
            names_of=names_of if _clients(self.settings) else no_names,
            on_refusal=self._refusals.note,
        )
        server = grpc.server(
            self._rooms.calls,
            interceptors=[interceptor],
            # On by default in the library: any program of the same user could share the port unnoticed.
            options=(
                *_OPTIONS,
                ("grpc.so_reuseport", int(self._shares_port)),
                # What the library has taken of a call that dies goes with the call: left to itself, that
                # grows to some megabytes where a client sends faster than the disk writes.
                ("grpc.http2.bdp_probe", 0),
                ("grpc.http2.lookahead_bytes", self.settings.upload_window),
            ),
        )
        image_service_pb2_grpc.add_ImageServiceServicer_to_server(ImageServicer(self.deployment), server)
        sharing_service_pb2_grpc.add_SharingServiceServicer_to_server(
            SharingServicer(self.deployment), server
        )
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server(AdminServicer(self.deployment), server)
        use_service_pb2_grpc.add_UseServiceServicer_to_server(UseServicer(self.deployment), server)
        upload_service_pb2_grpc.add_UploadServiceServicer_to_server(
            UploadServicer(self.deployment), server
        )
        audit_service_pb2_grpc.add_AuditServiceServicer_to_server(AuditServicer(self.deployment), server)
        operations_pb2_grpc.add_OperationsServicer_to_server(
            OperationsServicer(self.deployment, draining=self._draining.is_set), server
        )
        self._health.add_to(server)
        add_reflection(server, (*SERVICES, HEALTH_SERVICE))
        return server

    def _bind(self) -> int:
        try:
            if self._certificates is None:
                port = self._server.add_insecure_port(self.settings.listen)
            else:
                credentials = self._certificates.credentials()
                port = self._server.add_secure_port(self.settings.listen, credentials)
        except RuntimeError as error:
            self._stack.close()
            message = f"cannot listen on {self.settings.listen}: in use, or no address of this machine"
            raise SettingsError(message) from error
        return port

    def start(self) -> None:
        """Mend what an earlier process left, then serve."""
        self._try(self._sweep)
        for chore in (*self._chores, *self._executing):
            chore.start()
        self._patience.start()
        self._health.start()
        self._server.start()

    def stop(self) -> None:
        """Take no new calls, let running ones end within `drain_seconds`, then let everything go."""
        self._health.stop()
        self._draining.set()
        self._executor.end()
        self._server.stop(self.settings.drain_seconds).wait()
        self._rooms.dismiss(patience_seconds=_TIDYING_SECONDS)
        self._patience.stop()
        self._ending.set()
        self.deployment.bell.ring()
        for chore in (*self._chores, *self._executing):
            if chore.is_alive():
                chore.join()
        with self.deployment.database.until(time.monotonic() + _LAST_WORDS_SECONDS):
            self._try(self._record_refusals)
        self._stack.close()

    def _again_and_again(self, chore: Callable[[], None], seconds: float) -> None:
        while not self._ending.wait(seconds):
            self._try(chore)

    @staticmethod
    def _try(chore: Callable[[], None]) -> None:
        try:
            chore()
        except Exception:  # noqa: BLE001 - whatever it was, the next round tries again
            _log.exception("a chore failed; it is tried again", chore=chore.__name__)

    def _sweep(self) -> None:
        # By every worker: what others leave may be on another machine.
        self._try(self.deployment.converter.remove_leftovers)
        swept = sweep(self.deployment, self._id)
        if swept is not None and swept.anything:
            _log.info("swept", **asdict(swept))

    def _record_refusals(self) -> None:
        # Without its catalogue, a service says so elsewhere; what cannot be recorded yet waits on.
        with suppress(Rejection):
            self._refusals.record(ending=self._ending.is_set())

    def _scrub(self) -> None:
        if not self.settings.scrub_bytes_per_second:
            return
        rest = timedelta(seconds=self.settings.scrub_rest_seconds)
        # One after the other, until there is nothing to do for a while.
        while scrubbed := scrub(self.deployment, self._id, self._read_slowly, rest=rest):
            if scrubbed.anything:
                _log.error("scrubbed", **asdict(scrubbed))

    def _read_slowly(self, read_bytes: int) -> bool:
        seconds = read_bytes / self.settings.scrub_bytes_per_second
        return not self._ending.wait(seconds)

    def _keep_uploads_alive(self) -> None:
        keep_uploads_alive(self.deployment)

    def _hold_operations(self) -> None:
        self._executor.hold_all()

    def _execute(self) -> None:
        while not self._ending.is_set():
            if not self._try_next_operation():
                self.deployment.bell.wait(_LOOKING_SECONDS)

    def _try_next_operation(self) -> bool:
        try:
            return self._executor.do_next()
        except Rejection:
            return False  # the catalogue is away, and says so elsewhere
        except Exception:  # noqa: BLE001 - see _try
            _log.exception("operations cannot be taken up; it is tried again")
            return False


_RECORDING_SECONDS: Final = 0.5
"""How often refusals are recorded that have come up meanwhile."""
_SCRUB_SECONDS: Final = 10
"""How often a worker looks whether there are bytes to be read again."""
_HOLDING_SECONDS: Final = 1.0
"""How often the operations that are being done are held, and it is heard whether to cancel them."""
_LOOKING_SECONDS: Final = 1.0
"""How often it is looked for operations that others have begun, or have left."""
_TIDYING_SECONDS: Final = 2
"""How long a service that ends waits for calls that were cancelled to let go of what they held."""
_LAST_WORDS_SECONDS: Final = 1
"""How long a service that ends waits for its catalogue to take the last of them."""

# What is larger than the library's usual 4 MiB is a chunk of 4 MiB and its frame.
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", 4 * 1024**2 + 64 * 1024),
    # Above the longest token, so that it is ours to say what becomes of a longer one: from the first on
    # the library refuses some, from the second on all.
    ("grpc.max_metadata_size", 32 * 1024),
    ("grpc.absolute_max_metadata_size", 64 * 1024),
    # From 1,000 on the library drops a part of a crowd by itself, as CANCELLED and without a reason.
    ("grpc.server.max_pending_requests", 10_000),
    ("grpc.server.max_pending_requests_hard_limit", 10_000),
    # A client that vanished without a word is noticed, and its transfer's slot is free again.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)


def prepare(settings: Settings) -> None:
    """Do what is done once, before the workers start. Raises SettingsError when they could not."""
    refuse_strangers(settings)
    _certificates(settings)
    with ExitStack() as closing:
        _make_deployment(settings, now=_utc_now, closing=closing)


def migrate(settings: Settings) -> tuple[str, ...]:
    """Bring the catalogue's tables up to date; return the revisions that were applied.

    Raises SettingsError when no catalogue can be kept there.
    """
    with ExitStack() as closing:
        database = _database(settings)
        closing.callback(database.close)
        try:
            return database.migrate()
        except (UnusableDatabase, Rejection) as error:
            raise SettingsError(str(error)) from error


def _database(settings: Settings) -> Database:
    try:
        settings.data.mkdir(parents=True, exist_ok=True)
        return Database(
            settings.catalogue_url,
            renderer=RENDERER,
            patience_seconds=settings.database_patience_seconds,
        )
    except (OSError, UnusableDatabase) as error:
        raise SettingsError(str(error)) from error


def _make_deployment(
    settings: Settings, *, now: Callable[[], datetime], closing: ExitStack
) -> Deployment:
    region = Region(settings.region)
    peers = _peers(settings)
    blobs: ResumableBlobStore
    urls: DownloadUrls | None = None
    part_urls: PartUrls | None = None
    longest_url_seconds = longest_part_url_seconds = 0
    if settings.s3 is None:
        blobs = _folder(settings)
    else:
        blobs = bucket = _bucket(settings.s3, closing)
        longest_url_seconds = settings.s3.download_url_seconds
        urls = bucket if longest_url_seconds else None
        longest_part_url_seconds = settings.s3.upload_url_seconds
        part_urls = bucket.part_urls()
    keys = _keys(settings, closing)
    database = _database(settings)
    closing.callback(database.close)
    try:
        database.prepare()
        with database.transaction() as tx:
            page_token_key = tx.secrets.get_or_make("page tokens", size_bytes=KEY_BYTES)
    except (UnusableDatabase, Rejection) as error:
        closing.close()
        raise SettingsError(str(error)) from error
    return Deployment(
        region=region,
        database=database,
        blobs=blobs,
        urls=urls,
        longest_url=timedelta(seconds=longest_url_seconds),
        part_urls=part_urls,
        longest_part_url=timedelta(seconds=longest_part_url_seconds),
        keys=keys,
        fetcher=_fetcher(settings),
        converter=Converter(settings.data / "conversions", limits=_conversion_limits(settings)),
        exports=_exports(settings, closing),
        directory_closed=settings.tenant_directory == "closed",
        backups=_backups(settings),
        peers=peers,
        limits=_limits(settings),
        grace_period=timedelta(seconds=settings.grace_period_seconds),
        request_memory=timedelta(seconds=settings.request_memory_seconds),
        audit_retention=timedelta(days=settings.audit_retention_days),
        upload_lease=timedelta(seconds=settings.upload_lease_seconds),
        upload_patience=timedelta(seconds=settings.upload_patience_seconds),
        operation_lease=timedelta(seconds=settings.operation_lease_seconds),
        operation_memory=timedelta(days=settings.operation_memory_days),
        render_image=image_bytes,
        render_export=exported_bytes,
        page_token_key=page_token_key,
        chunk_bytes=settings.chunk_bytes,
        now=now,
    )


def _keys(settings: Settings, closing: ExitStack) -> KeyProvider:
    """Return who holds the keys for encryption at rest. Raises SettingsError."""
    if settings.transit is None:
        return LocalKeyFile(settings.keys)
    keys = _transit_keys(settings.transit)
    closing.callback(keys.close)
    return keys


def _transit_keys(transit: TransitSetting) -> "TransitKeys":
    # Only where there is a key server: what speaks HTTP and TLS is a megabyte or two of every worker.
    from ims.providers.key_server import AppRole, KeyServer, Login, TokenFile  # noqa: PLC0415 - see above
    from ims.providers.transit import TransitKeys  # noqa: PLC0415 - see above

    login: Login
    if transit.token_file is not None:
        login = TokenFile(transit.token_file)
    else:
        assert transit.secret_id_file is not None  # or the setting would have been refused
        login = AppRole(
            mount=transit.approle_mount,
            role_id=transit.role_id,
            secret_id_file=transit.secret_id_file,
        )
    try:
        # A key server that is away for now is no reason not to start.
        server = KeyServer(
            transit.url,
            login=login,
            namespace=transit.namespace,
            ca_file=transit.ca_file,
            timeout_seconds=transit.timeout_seconds,
            rest_seconds=transit.cache_seconds,
        )
    except OSError as error:
        message = f"setting transit.ca_file: {error.strerror}"
        raise SettingsError(message) from error
    return TransitKeys(server, mount=transit.mount, cache_seconds=transit.cache_seconds)


def _fetcher(settings: Settings) -> "Callable[[], Fetcher]":
    """Return what gives the fetcher of imports, made when it is first asked for."""

    @cache
    def fetcher() -> "Fetcher":
        from ims.providers.addresses import OpenHosts  # noqa: PLC0415 - see Deployment.fetcher
        from ims.providers.fetching import Fetcher, https_context  # noqa: PLC0415 - likewise
        from ims.providers.sources import Patience as SourcePatience  # noqa: PLC0415 - likewise

        return Fetcher(
            open_hosts=OpenHosts.named(settings.import_allowed_hosts),
            tls=https_context(settings.import_ca_file),
            patience=SourcePatience(
                stall_seconds=settings.import_stall_seconds,
                min_bytes_per_second=settings.import_min_bytes_per_second,
                max_seconds=settings.import_max_seconds,
            ),
        )

    return fetcher


def _folder(settings: Settings) -> FilesystemBlobStore:
    try:
        settings.data.mkdir(parents=True, exist_ok=True)
        return FilesystemBlobStore(settings.blob_folder)
    except OSError as error:
        raise SettingsError(str(error)) from error


def _bucket(s3: S3Setting, closing: ExitStack) -> "S3BlobStore":
    # Only where there is a bucket: some megabytes of every worker, and an extra of the package.
    try:
        from ims.blob_store.s3 import S3BlobStore  # noqa: PLC0415 - see above
        from ims.blob_store.s3_bucket import S3Bucket, UnusableBucket  # noqa: PLC0415 - see above
        from ims.blob_store.s3_record import PartSizes  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        message = "setting s3: boto3 is not installed; pip install 'ims[s3]'"
        raise SettingsError(message) from error
    try:
        sizes = PartSizes(part_bytes=s3.part_bytes, keep_every_bytes=s3.keep_every_bytes)
        store = S3BlobStore(S3Bucket(_bucket_address(s3)), prefix=s3.prefix, sizes=sizes)
        closing.callback(store.close)
        store.check()
    except UnusableBucket as error:
        closing.close()
        message = f"setting s3: {error}"
        raise SettingsError(message) from error
    return store


def _bucket_address(setting: BucketSetting) -> "BucketAddress":
    from ims.blob_store.s3_bucket import BucketAddress  # noqa: PLC0415 - see _bucket

    secret = setting.secret_access_key
    return BucketAddress(
        name=setting.bucket,
        endpoint_url=setting.endpoint_url or None,
        region=setting.region or None,
        access_key_id=setting.access_key_id or None,
        secret_access_key=None if secret is None else secret.get_secret_value(),
        secret_access_key_file=setting.secret_access_key_file,
        path_style=setting.path_style,
        ca_file=setting.ca_file,
    )


def _exports(settings: Settings, closing: ExitStack) -> ExportBuckets:
    """Return the buckets to export into. Raises SettingsError where there cannot be any."""
    named = {each.bucket: each for each in settings.export_buckets}
    if named and find_spec("boto3") is None:
        message = "setting export_buckets: boto3 is not installed; pip install 'ims[s3]'"
        raise SettingsError(message)

    def connect(name: str) -> ExportBucket:
        # Only where something is exported: some megabytes of every worker.
        from ims.blob_store.s3_export import S3ExportBucket  # noqa: PLC0415 - see above
        from ims.blob_store.s3_record import PartSizes  # noqa: PLC0415 - see above

        setting = named[name]
        return S3ExportBucket(_bucket_address(setting), PartSizes(part_bytes=setting.part_bytes))

    exports = ExportBuckets(
        {name: frozenset(map(TenantId, each.tenants)) for name, each in named.items()}, connect
    )
    closing.callback(exports.close)
    return exports


@contextmanager
def examined(settings: Settings, *, settled: timedelta) -> Iterator[Iterator[Finding]]:
    """Give the block what a checkup finds. Raises SettingsError when there is nothing to be examined."""
    if settings.s3 is None and not settings.blob_folder.is_dir():
        message = f"no service has ever kept its bytes in {settings.blob_folder}"
        raise SettingsError(message)
    with ExitStack() as closing:
        deployment = _make_deployment(settings, now=_utc_now, closing=closing)
        yield check_up(deployment, settled=settled)


def refuse_strangers(settings: Settings) -> None:
    """Raise SettingsError where others could be believed to be who they are not."""
    if _is_loopback(settings.host):
        return
    if settings.oidc is not None and settings.tls is None:
        _refuse_plaintext(settings)
    believes_anybody = settings.oidc is None and not _clients(settings)
    if not believes_anybody or settings.allow_development_identity_on_network:
        return
    message = (
        f"{settings.listen} can be reached by others, and with the development identity everybody is "
        "whoever they say they are; listen on 127.0.0.1, or set oidc or tls.clients, or "
        "allow_development_identity_on_network if that is what you want"
    )
    raise SettingsError(message)


def _refuse_plaintext(settings: Settings) -> None:
    if settings.allow_plaintext_on_network:
        return
    message = (
        f"{settings.listen} can be reached by others, and without TLS whoever is in between reads the "
        "tokens and is whose they are; listen on 127.0.0.1, or set tls, or allow_plaintext_on_network "
        "if what stands in front of the service ends TLS"
    )
    raise SettingsError(message)


def _identity(settings: Settings) -> Identity:
    """Return who knows the callers. Raises SettingsError."""
    tokens = None if settings.oidc is None else _token_identity(settings, settings.oidc)
    home = Region(settings.region)
    callers = {
        client.name: Caller(
            tenant_id=TenantId(client.tenant),
            user_id=client.user,
            roles=client.roles,
            region=Region(client.region) if client.region else home,
        )
        for client in _clients(settings)
    }
    if callers:
        return CertificateIdentity(callers, tokens)
    return tokens or DevelopmentIdentity(home=home)


def _clients(settings: Settings) -> tuple[ClientSetting, ...]:
    return settings.tls.clients if settings.tls is not None else ()


def _certificates(settings: Settings) -> Certificates | None:
    """Return what connections are secured with, if they are. Raises SettingsError."""
    tls = settings.tls
    if tls is None:
        return None
    files = CertificateFiles(
        certificate=tls.certificate,
        key=tls.key,
        client_authorities=tls.client_ca,
    )
    try:
        return Certificates(files)
    except UnusableCertificate as error:
        message = f"setting tls: {error}"
        raise SettingsError(message) from error


def _token_identity(settings: Settings, oidc: OidcSetting) -> Identity:
    # Only where there are tokens: some megabytes of every worker.
    from ims.identity.oidc import OidcIdentity, Trust  # noqa: PLC0415 - see above

    return OidcIdentity(
        Trust(
            issuer=oidc.issuer,
            audiences=frozenset(oidc.audiences),
            algorithms=frozenset(oidc.algorithms),
            skew_seconds=oidc.clock_skew_seconds,
            home=Region(settings.region),
            tenant_claim=oidc.tenant_claim,
            tenant_pattern=re.compile(oidc.tenant_pattern) if oidc.tenant_pattern else None,
            user_claim=oidc.user_claim,
            roles_claim=oidc.roles_claim,
            region_claim=oidc.region_claim,
            role_names=oidc.role_names or {str(role): role for role in Role},
            default_roles=frozenset(oidc.default_roles),
        ),
        _issuers_keys(oidc),
        remember_seconds=oidc.cache_seconds,
        remember_tokens=oidc.cached_tokens,
    )


def _issuers_keys(oidc: OidcSetting) -> "KeySet":
    from ims.identity.key_set import (  # noqa: PLC0415 - see _token_identity
        KeySet,
        KeysUnavailable,
        from_file,
        from_url,
    )

    try:
        keys = KeySet(
            from_file(oidc.jwks_file, max_bytes=oidc.jwks_max_bytes)
            if oidc.jwks_file
            else from_url(
                oidc.jwks_url,
                timeout_seconds=oidc.jwks_timeout_seconds,
                max_bytes=oidc.jwks_max_bytes,
                ca_file=oidc.jwks_ca_file,
            ),
            refresh_seconds=oidc.jwks_refresh_seconds,
            keep_seconds=oidc.jwks_keep_seconds,
            retry_seconds=oidc.jwks_retry_seconds,
            wait_seconds=oidc.jwks_timeout_seconds,
        )
        if oidc.jwks_file:
            keys.load()
        else:
            # An issuer that is away for now is no reason not to start.
            keys.begin()
    except (KeysUnavailable, OSError) as error:
        message = f"the issuer's keys cannot be had: {error}"
        raise SettingsError(message) from error
    return keys


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _limits(settings: Settings) -> Limits:
    full_ecs = settings.shares_per_full_ecs_image
    return Limits(
        shares_per_image=settings.shares_per_image,
        shares_per_full_ecs_image=settings.shares_per_image if full_ecs is None else full_ecs,
        image_file_bytes=settings.max_image_file_bytes,
        pending_shares_per_tenant=settings.pending_shares_per_tenant,
        uses_per_image_and_tenant=settings.uses_per_image_and_tenant,
        quotas=Quotas(
            private_images=settings.private_images_per_tenant,
            stored_bytes=settings.stored_bytes_per_tenant,
            creations=settings.creations_per_tenant,
            copies=settings.copies_per_tenant,
        ),
    )


def _conversion_limits(settings: Settings) -> ConversionLimits:
    conversion, most = settings.conversion, settings.max_image_file_bytes
    return ConversionLimits(
        memory_bytes=conversion.memory_bytes,
        processor_seconds=conversion.processor_seconds,
        seconds=conversion.max_seconds,
        # Never more than a file may have that is uploaded.
        file_bytes=min(most, conversion.max_file_bytes or most),
        capacity_bytes=conversion.max_capacity_bytes,
    )


def _backups(settings: Settings) -> ListedVaults | None:
    if settings.vaults is None:
        return None
    return ListedVaults(
        {
            TenantId(tenant): tuple(
                Vault(id=each.id, type=each.type, capacity_gib=each.capacity_gib) for each in vaults
            )
            for tenant, vaults in settings.vaults.items()
        }
    )


def _peers(settings: Settings) -> "Mapping[Region, Peer]":
    """Return the services of other regions. Raises SettingsError."""
    home = Region(settings.region)
    return {Region(region): _peer(region, peer, home) for region, peer in settings.peers.items()}


def _peer(region: str, peer: PeerSetting, home: Region) -> "Peer":
    # Only where there are peers: a megabyte or two of every worker. None is called before it is needed.
    from ims.client import (  # noqa: PLC0415 - see above
        CertificateOnly,
        ClientCredentials,
        Credentials,
        DevelopmentIdentity,
        Tls,
        TokenFile,
    )
    from ims.peers.remote import RemotePeer  # noqa: PLC0415 - see above

    def credentials() -> Credentials:
        if peer.token_file is not None:
            return TokenFile(peer.token_file)
        if peer.token_url:
            secret = _client_secret(peer)
            return ClientCredentials(
                peer.token_url, peer.client_id, secret, scope=peer.scope, audience=peer.audience
            )
        if peer.development_tenant:
            return DevelopmentIdentity(peer.development_tenant, roles=[Role.PEER], region=home)
        return CertificateOnly()

    def tls() -> Tls:
        return Tls(ca=peer.ca_file, certificate=peer.certificate, key=peer.key)

    files = (peer.ca_file, peer.certificate, peer.key, peer.client_secret_file)
    missing = [path for path in (*files, peer.token_file) if path is not None and not path.is_file()]
    if missing:
        message = f"setting peers.{region}: there is no file {missing[0]}"
        raise SettingsError(message)
    return RemotePeer(
        Region(region),
        peer.server,
        credentials=credentials,
        tls=tls if peer.encrypted else None,
        files=tuple(path for path in files if path is not None),
    )


def _client_secret(peer: PeerSetting) -> str:
    if peer.client_secret is not None:
        return peer.client_secret.get_secret_value()
    assert peer.client_secret_file is not None  # or the setting would have been refused
    return peer.client_secret_file.read_text().strip()
