"""Every setting with its unit, default and meaning; read once, by `ims serve`, and passed on."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from ims.domain.caller import Role
from ims.domain.vault import VaultType
from ims.identity.shapes import MAX_USER_LENGTH, REGION, TENANT_ID
from ims.providers.addresses import BadAddress, OpenHosts

GIB = 1024**3

_PREFIX = "IMS_"
_MOUNT = r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$"
"""A path within a key server."""
_CLIENT_VARIABLES = {
    *("IMS_SERVER", "IMS_TENANT", "IMS_USER", "IMS_ROLES"),
    *("IMS_SECURE", "IMS_CA", "IMS_CERTIFICATE", "IMS_KEY", "IMS_TOKEN", "IMS_TOKEN_FILE"),
    *("IMS_TOKEN_URL", "IMS_CLIENT_ID", "IMS_CLIENT_SECRET", "IMS_CLIENT_SECRET_FILE", "IMS_SCOPE"),
}
"""What the same environment may hold for the `ims` command as a client."""


def _processor_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # macOS has none
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class SettingsError(Exception):
    """The service cannot start as it is set up; the message is one line for the operator."""


class VaultSetting(BaseModel):
    """A backup vault of a tenant."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    type: VaultType = VaultType.SERVER_BACKUP
    capacity_gib: int = Field(ge=1)


class ClientSetting(BaseModel):
    """Whom a client certificate stands for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    """One of the certificate's subject alternative names: a SPIFFE id, spiffe://…, or a DNS name."""
    tenant: str = Field(pattern=rf"^{TENANT_ID.pattern}$")
    user: str = Field("", max_length=MAX_USER_LENGTH)
    roles: frozenset[Role] = Field(min_length=1)
    region: str = Field("", pattern=rf"^({REGION.pattern})?$")
    """Where its tenant is at home; left out, here."""


class TlsSetting(BaseModel):
    """What connections are secured with; all files are PEM, and replacing them needs no restart."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    certificate: Path
    """The service's certificate, and after it those that lead to its authority."""
    key: Path
    """Its private key, without a password."""
    client_ca: Path | None = None
    """The authorities of clients' certificates; then nobody connects without one of theirs. Left out,
    clients need none."""
    clients: tuple[ClientSetting, ...] = ()
    """Who calls with which certificate, if without a token."""

    @model_validator(mode="after")
    def _clients_have_an_authority(self) -> Self:
        if self.client_ca is None and self.clients:
            raise ValueError("client_ca is missing: by whom are clients' certificates to be verified?")
        names = [client.name for client in self.clients]
        if len(names) != len(set(names)):
            raise ValueError("a client's name is there more than once")
        return self


class PeerSetting(BaseModel):
    """The service of another region, and by what it knows this one; docs/regions.md has examples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    server: str = Field(pattern=r"^[^\s/]+:[0-9]{1,5}$")
    """Where it is: HOST:PORT."""
    ca_file: Path | None = None
    """The certificates by which it is trusted; left out, those of the system."""
    certificate: Path | None = None
    """The client certificate by which it knows this service, or that goes with a token."""
    key: Path | None = None
    """Its private key, without a password."""
    token_file: Path | None = None
    """The file with the token to call it with, kept good by others; read again when it has changed."""
    token_url: str = Field("", pattern=r"^($|https?://)")
    """Where an issuer gives tokens to a client, for its id and secret."""
    client_id: str = ""
    """The client's id there."""
    client_secret: SecretStr | None = None
    """Its secret."""
    client_secret_file: Path | None = None
    """The file with the secret, where it is not given here."""
    scope: str = ""
    """What to ask the token for, where the issuer wants to be told."""
    audience: str = ""
    """Whom to ask it for, likewise."""
    plaintext: bool = False
    """Call it without TLS, because something else encrypts on the way."""
    development_tenant: str = Field("", pattern=rf"^({TENANT_ID.pattern})?$")
    """Whom to claim to be, without TLS, where it has the development identity."""

    @model_validator(mode="after")
    def _there_is_one_proof(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a certificate and its key go together")
        secrets = [self.client_secret, self.client_secret_file]
        given = len(secrets) - secrets.count(None)
        by_client = bool(self.token_url)
        if by_client != bool(self.client_id) or given != int(by_client):
            raise ValueError("token_url, client_id and client_secret or client_secret_file go together")
        proofs = [self.token_file is not None, by_client, bool(self.development_tenant)]
        if sum(proofs) > 1 or not (any(proofs) or self.certificate is not None):
            raise ValueError(
                "one says who one is with a certificate, token_file, token_url or development_tenant"
            )
        if self.certificate is not None and not self.encrypted:
            raise ValueError("without TLS nobody sees a certificate")
        parts = urlsplit(self.token_url)
        if parts.scheme == "http" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
            raise ValueError("token_url is https: whoever is in between would read the secret")
        return self

    @property
    def encrypted(self) -> bool:
        """Whether it is called over TLS."""
        return not (self.plaintext or self.development_tenant)


Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
"""How a token can be signed. All have a private and a public key: a service that could make the tokens
that it believes would be no proof of anything."""


class OidcSetting(BaseModel):
    """Whose tokens are believed, and what of them says who calls; docs/identity.md has examples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str = Field(min_length=1)
    """What stands in a token's `iss`, to the letter."""
    audiences: list[str] = Field(min_length=1)
    """One of these stands in a token's `aud`."""
    jwks_url: str = Field("", pattern=r"^($|https?://)")
    """Where the issuer's public keys are fetched: https, or http on this machine."""
    jwks_file: Path | None = None
    """The file with the public keys, where they are not fetched."""
    jwks_ca_file: Path | None = None
    """The certificates by which the URL is trusted; left out, those of the system."""
    jwks_refresh_seconds: float = Field(300, ge=1)
    """How often the keys are fetched again; a key that the issuer takes back is believed as long."""
    jwks_keep_seconds: float = Field(3600, ge=1)
    """How long fetched keys are good while they cannot be fetched again."""
    jwks_retry_seconds: float = Field(10, ge=0.1)
    """How long after one fetch the next may be, however many unknown keys are asked for."""
    jwks_timeout_seconds: float = Field(5, ge=0.1, le=60)
    """How long a fetch may take."""
    jwks_max_bytes: ByteSize = Field(ByteSize(1024**2), ge=1024)
    """How large a key set may be."""
    algorithms: list[Algorithm] = Field(["RS256", "PS256", "ES256", "EdDSA"], min_length=1)
    """How a token may be signed."""
    clock_skew_seconds: float = Field(30, ge=0, le=600)
    """How far the issuer's clock and this one may be apart."""
    tenant_claim: str = Field("tenant", min_length=1)
    """The path of the claim with the tenant's id, with dots between: "project.id"."""
    tenant_pattern: str = ""
    """A regular expression for the whole claim, with one group that is the tenant's id."""
    user_claim: str = Field("sub", min_length=1)
    """The path of the claim with the user's id."""
    roles_claim: str = Field("roles", min_length=1)
    """The path of the claim with the roles: a list, or names with spaces between."""
    region_claim: str = ""
    """The path of the claim with the tenant's region; left out, every tenant is at home here."""
    role_names: dict[str, Role] = {}
    """The issuer's names of roles and ours for each; left out, ours are used as they are."""
    default_roles: list[Role] = []
    """What somebody has whose token gives no role known here; left out, none."""
    cache_seconds: float = Field(300, ge=0)
    """How long a token that was believed is believed without being verified again, if it has not
    expired before."""
    cached_tokens: int = Field(10_000, ge=0)
    """How many believed tokens a worker remembers."""

    @field_validator("tenant_pattern")
    @classmethod
    def _has_one_group(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"it is no regular expression: {error}") from error
        if pattern and groups != 1:
            raise ValueError("it has one group, which is the tenant's id")
        return pattern

    @model_validator(mode="after")
    def _keys_come_from_one_place(self) -> Self:
        if bool(self.jwks_url) == bool(self.jwks_file):
            raise ValueError("the keys come from jwks_url or from jwks_file")
        parts = urlsplit(self.jwks_url)
        if parts.scheme == "http" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
            raise ValueError("jwks_url is https: whoever is in between could give keys of their own")
        return self


class TransitSetting(BaseModel):
    """The key server whose transit engine holds the keys; docs/encryption.md has examples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(pattern=r"^https?://[^/?#@\s]+/?$")
    """Where it is: https, or http on this machine."""
    mount: str = Field("transit", pattern=_MOUNT)
    """The path at which the transit engine is mounted."""
    token_file: Path | None = None
    """The file with the token to use, kept good by others; read again when it has changed."""
    role_id: str = ""
    """The AppRole to log in as, with a secret id, instead of a token."""
    secret_id_file: Path | None = None
    """The file with the AppRole's secret id."""
    approle_mount: str = Field("approle", pattern=_MOUNT)
    """The path at which AppRole logins are mounted."""
    ca_file: Path | None = None
    """The certificates by which the URL is trusted; left out, those of the system."""
    namespace: str = Field("", pattern=rf"^$|{_MOUNT}")
    """The namespace that the mounts are in; left out, the server's root."""
    timeout_seconds: float = Field(3, ge=0.1, le=60)
    """How long an answer may take. A server that takes longer is left alone for `cache_seconds`."""
    cache_seconds: float = Field(5, ge=0.1, le=300)
    """How long it is believed that a key is usable, or is not: a disabled key is used as long."""

    @model_validator(mode="after")
    def _there_is_one_login(self) -> Self:
        by_role = bool(self.role_id) and self.secret_id_file is not None
        half = bool(self.role_id) != (self.secret_id_file is not None)
        if half or by_role == (self.token_file is not None):
            raise ValueError("one logs in with token_file, or with role_id and secret_id_file")
        return self

    @model_validator(mode="after")
    def _others_do_not_listen(self) -> Self:
        try:
            parts = urlsplit(self.url)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError("url is no address") from error
        if parts.scheme == "http" and host not in {"localhost", "127.0.0.1", "::1"}:
            raise ValueError("url is https: whoever is in between would read the token and the keys")
        return self


class BucketSetting(BaseModel):
    """A bucket of any store that speaks S3, and who asks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bucket: str = Field(min_length=1)
    """It has to be there already."""
    endpoint_url: str = Field("", pattern=r"^($|https?://)")
    """Where the store is, for instance "https://s3.example.com"; left out, Amazon's."""
    region: str = ""
    """The store's own name of the bucket's region."""
    access_key_id: str = ""
    """Who asks; left out, this is found where Amazon's own programs look for it."""
    secret_access_key: SecretStr | None = None
    """That one's secret."""
    secret_access_key_file: Path | None = None
    """The file with the secret, where it is not given here."""
    path_style: bool = False
    """Whether URLs name the bucket after the host and not within it, as many stores ask for."""
    ca_file: Path | None = None
    """The certificates by which the store is trusted; left out, those of the library."""
    part_bytes: ByteSize = Field(ByteSize(8 * 1024**2), ge=5 * 1024**2, le=512 * 1024**2)
    """How large the parts are in which a file is uploaded; such of more than 8 MiB wait in a temporary
    file. After 4,000 parts they grow."""

    @model_validator(mode="after")
    def _a_key_has_its_secret(self) -> Self:
        secrets = [self.secret_access_key, self.secret_access_key_file]
        given = len(secrets) - secrets.count(None)
        if given != (1 if self.access_key_id else 0):
            raise ValueError("access_key_id goes with secret_access_key or secret_access_key_file")
        return self


class ConversionSetting(BaseModel):
    """What a conversion of a disk's file may take; one that takes more is ended (law 5.14)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory_bytes: ByteSize = Field(default=ByteSize(GIB), ge=64 * 1024**2, le=1024 * GIB)
    """How much address space the converting process has, for instance "2GiB"."""
    processor_seconds: int = Field(default=6 * 3600, ge=1, le=10**7)
    """How long it may keep processors busy, counted over all of them."""
    max_seconds: float = Field(default=12 * 3600, gt=0, le=10**7)
    """How long it may take by the clock."""
    max_file_bytes: ByteSize | None = Field(default=None, ge=1, le=1024 * GIB)
    """How large the converted file may become; left out, `max_image_file_bytes`."""
    max_capacity_bytes: ByteSize = Field(default=ByteSize(2048 * GIB), ge=1)
    """How large the disk inside the file may be."""


class S3Setting(BucketSetting):
    """A bucket for the images' bytes; docs/storage.md has examples."""

    prefix: str = Field("", pattern=r"^([A-Za-z0-9._-]+/)*$")
    """What all names in it begin with, for instance "ims/": then it can be used for other things too."""
    download_url_seconds: int = Field(3600, ge=0, le=3600)
    """How long a URL of a direct download is good at the most, since nothing takes it back; 0: none
    is given out."""
    upload_url_seconds: int = Field(3600, ge=0, le=3600)
    """How long a URL of a direct upload's part is good at the most; 0: no upload is direct."""
    keep_every_bytes: ByteSize | None = Field(None, ge=256 * 1024, le=8 * 1024**2)
    """After how many bytes what fills a part is kept as an object of its own meanwhile, so that a killed
    worker loses little more; left out, a part is kept when it is full. What WriteUpload brings goes to
    the store twice then, and waits for it each time."""


class ExportBucketSetting(BucketSetting):
    """A bucket that images are exported into (law 6.4); docs/operations.md has an example."""

    tenants: frozenset[str] = Field(min_length=1)
    """Who may export there. Each of them can find out which names are taken in it."""

    @field_validator("tenants")
    @classmethod
    def _are_tenants(cls, tenants: frozenset[str]) -> frozenset[str]:
        if not all(TENANT_ID.fullmatch(each) for each in tenants):
            raise ValueError("a tenant has 1 to 64 letters, digits, '-', '.', '_' and ':'")
        return tenants


class Settings(BaseSettings):
    """What an operator can set: by flags, in the environment (IMS_…), in a TOML file, in this order."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="forbid")

    listen: str = "127.0.0.1:50051"
    """The address and port to serve on; port 0 takes any free one."""
    tls: TlsSetting | None = None
    """What connections are secured with; left out, they are not."""
    allow_development_identity_on_network: bool = False
    """Serve with the development identity on an address that others can reach, though everybody is
    whoever they say they are."""
    allow_plaintext_on_network: bool = False
    """Serve tokens without TLS on an address that others can reach, because what stands in front of the
    service ends TLS."""
    region: str = Field("local", pattern=rf"^{REGION.pattern}$")
    """The region that this deployment serves."""
    data: Path = Path("data")
    """The folder for the catalogue, the blobs and the keys, unless they are put elsewhere."""
    database_url: str = ""
    """Where the catalogue is: postgresql://user:password@host/name for many instances on many machines,
    or sqlite:////path; left out, an SQLite file in the data folder."""
    database_patience_seconds: float = Field(10, ge=0.1, le=600)
    """How long a call waits for the catalogue at most, whatever time its caller gives it."""
    key_file: Path | None = None
    """The file of keys for encryption at rest; left out, keys.toml in the data folder."""
    transit: TransitSetting | None = None
    """The key server that holds the keys for encryption at rest; left out, the key file does."""
    s3: S3Setting | None = None
    """The bucket for the images' bytes; left out, they are in the data folder."""
    export_buckets: tuple[ExportBucketSetting, ...] = ()
    """The buckets that images may be exported into; left out, none are exported."""

    workers: int = Field(default_factory=_processor_cores, ge=1, le=256)
    """How many processes serve on the one port; left out, one a processor core."""
    threads: int = Field(4, ge=1, le=1024)
    """How many calls a worker serves at once, beside its transfers."""
    max_waiting_calls: int = Field(200, ge=0)
    """How many more calls wait for one of these threads; all others are refused at once."""
    max_transfers: int = Field(16, ge=1, le=1024)
    """How many uploads and downloads a worker serves at once; all others are refused at once."""
    idle_seconds: float = Field(60, gt=0)
    """How long a call may wait for its client to send, or to take, the next message."""
    chunk_bytes: int = Field(1024**2, ge=1024, le=4 * 1024**2)
    """How many bytes a message of a download carries."""
    upload_window_bytes: ByteSize | None = Field(None, ge=64 * 1024, le=16 * 1024**2)
    """How much of an upload may be under way, or wait to be written: so much gets through in each round
    trip, and about so much is sent twice when a worker dies. Left out, 512 KiB; 4 MiB with `peers`,
    which are far away."""
    drain_seconds: float = Field(30, ge=0)
    """How long running calls may go on after SIGTERM."""
    sweep_seconds: float = Field(60, gt=0)
    """How often deleted images whose grace period has ended are purged, and dead uploads given up."""
    scrub_bytes_per_second: ByteSize = Field(ByteSize(16 * 1024**2), ge=0)
    """How fast the instances together read stored bytes again, to find damage (law 5.12); 0: never."""
    scrub_rest_seconds: float = Field(24 * 3600, ge=0)
    """How long they rest when all has been read, before they begin anew."""
    upload_lease_seconds: float = Field(20, gt=0)
    """After how long an upload is given up whose process is not heard of any more."""
    upload_patience_seconds: float = Field(24 * 3600, gt=0)
    """How long an interrupted upload that can be gone on with waits for that (law 5.11)."""
    operation_threads: int = Field(1, ge=0, le=64)
    """How many operations (copies whose bytes change) a worker does at once; 0 leaves them to others."""
    operation_lease_seconds: float = Field(20, gt=0)
    """After how long an operation is taken up by another process when its own is heard of no more."""
    operation_memory_days: int = Field(30, ge=1, le=36_500)
    """How long an operation is remembered after its end."""

    shares_per_image: int = Field(128, ge=0, le=100_000)
    """With how many tenants an image can be shared (law 3.5)."""
    shares_per_full_ecs_image: int | None = Field(None, ge=0)
    """The same for full-ECS images, when it is lower; left out, the same."""
    pending_shares_per_tenant: int | None = Field(None, ge=0)
    """How many pending shares a recipient has at most, unless its trust rules say it (law 4.11);
    left out, any number."""
    uses_per_image_and_tenant: int = Field(10_000, ge=0, le=1_000_000)
    """How many servers and volumes made from an image are registered for a tenant at most (law 7.4)."""
    max_image_file_bytes: ByteSize = Field(ByteSize(128 * GIB), ge=1, le=1024 * GIB)
    """How large a disk's file may be (law 5.5), for instance "128GiB"; up to 1 TiB."""
    private_images_per_tenant: int = Field(50, ge=0)
    """How many private images a tenant has at most, unless it has a limit of its own (law 5.2)."""
    stored_bytes_per_tenant: ByteSize = Field(ByteSize(50 * 128 * GIB), ge=0)
    """How many bytes a tenant stores at most, likewise, for instance "10TiB"; those of running uploads
    and of deleted images that are not purged yet included."""
    creations_per_tenant: int = Field(40, ge=0)
    """How many images of a tenant are being filled at once at most, likewise."""
    copies_per_tenant: int = Field(5, ge=0)
    """To how many images of a tenant bytes are being copied at once at most, likewise."""
    grace_period_seconds: int = Field(7 * 24 * 3600, ge=0)
    """How long a deleted image can be restored (law 5.7)."""

    import_allowed_hosts: tuple[str, ...] = ()
    """Hosts that files may be imported from though they are private, and over http too (law 5.13):
    "host" for the usual port, or "host:port". Whoever may import reaches all that they serve."""
    import_ca_file: Path | None = None
    """The certificates by which sources of imports are trusted; left out, those of the system."""
    import_stall_seconds: float = Field(30, ge=1, le=600)
    """How long the source of an import may send nothing before it is asked anew."""
    import_min_bytes_per_second: ByteSize = Field(ByteSize(32 * 1024), ge=1)
    """How much the source of an import has to send on average."""
    import_max_seconds: float = Field(24 * 3600, ge=1)
    """How long the source of an import may be waited for in all."""

    conversion: ConversionSetting = ConversionSetting()
    """What a conversion of a disk's file may take."""

    request_memory_seconds: int = Field(24 * 3600, ge=1)
    """How long a repeated call with a request id gets its first answer again (law 5.9)."""
    audit_retention_days: int = Field(365, ge=1, le=36_500)
    """How long an audit event is kept (law 9.2)."""

    oidc: OidcSetting | None = None
    """Whose tokens say who calls; left out, callers say it themselves, on this machine only."""

    peers: dict[Annotated[str, Field(pattern=rf"^{REGION.pattern}$")], PeerSetting] = {}
    """The services of other regions that take copies from this one, each by its region (law 6.2)."""

    tenant_directory: Literal["open", "closed"] = "open"
    """Whether tenants that no administrator has registered can be shared with (law 3.9)."""
    vaults: dict[str, list[VaultSetting]] | None = None
    """Each tenant's backup vaults; left out, the deployment has no backup provider (law 4.7)."""

    @field_validator("import_allowed_hosts")
    @classmethod
    def _are_hosts(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        try:
            OpenHosts.named(names)
        except BadAddress as error:
            raise ValueError(
                "a host is written host or host:port, an IPv6 address in brackets"
            ) from error
        return names

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - not a source of ours
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - not a source of ours
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the flags, then the environment, then the file that `load` names."""
        file = settings_cls.model_config.get("toml_file")
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, file))

    @model_validator(mode="after")
    def _keys_are_in_one_place(self) -> Self:
        if self.transit is not None and self.key_file is not None:
            raise ValueError("the keys are in the key_file or in transit, not in both")
        return self

    @model_validator(mode="after")
    def _exports_touch_nothing_else(self) -> Self:
        names = [each.bucket for each in self.export_buckets]
        if len(names) != len(set(names)):
            raise ValueError("a bucket is there more than once in export_buckets")
        own = self.s3
        for each in self.export_buckets:
            if own is not None and (each.bucket, each.endpoint_url) == (own.bucket, own.endpoint_url):
                raise ValueError("the bucket of s3, where the images' bytes are, is none to export into")
        return self

    @model_validator(mode="after")
    def _peers_are_elsewhere(self) -> Self:
        if self.region in self.peers:
            raise ValueError(f"{self.region} is this region, and nobody is one's own peer")
        return self

    @property
    def host(self) -> str:
        """The address part of `listen`."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def blob_folder(self) -> Path:
        return self.data / "blobs"

    @property
    def blob_place(self) -> str:
        """Where the images' bytes are, in words for the operator."""
        if self.s3 is None:
            return str(self.blob_folder)
        return f"bucket {self.s3.bucket}" + (f", {self.s3.prefix}" if self.s3.prefix else "")

    @property
    def upload_window(self) -> int:
        """How many bytes of an upload may be under way."""
        if self.upload_window_bytes is not None:
            return self.upload_window_bytes
        return 4 * 1024**2 if self.peers else 512 * 1024

    @property
    def catalogue_url(self) -> str:
        """The database to connect to."""
        return self.database_url or f"sqlite:///{self.data / 'catalogue.sqlite3'}"

    @property
    def keys(self) -> Path:
        """The file of keys to use."""
        return self.key_file or self.data / "keys.toml"


_VARIABLES = {f"{_PREFIX}{name.upper()}" for name in Settings.model_fields} | _CLIENT_VARIABLES


def load(config_file: Path | None, overrides: dict[str, Any]) -> Settings:
    """Return the settings: what the flags say, else the environment, else the file, else the defaults.

    Raises SettingsError naming what is wrong.
    """
    unknown = [name for name in os.environ if name.startswith(_PREFIX) and name not in _VARIABLES]
    if unknown:
        message = f"there is no setting {unknown[0]}"
        raise SettingsError(message)
    if config_file is not None and not config_file.is_file():
        message = f"there is no settings file {config_file}"
        raise SettingsError(message)

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=config_file)

    try:
        return FromFile(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        message = f"setting {path}: {first['msg']}" if path else f"setting {first['msg']}"
        raise SettingsError(message) from error
    except ValueError as error:  # the file is no TOML, or a variable no JSON
        message = f"the settings cannot be read: {error}"
        raise SettingsError(message) from error
