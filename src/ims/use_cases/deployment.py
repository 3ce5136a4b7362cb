"""What every use case works with, and how it comes to see an image."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from ims.blob_store.exports import ExportBuckets
from ims.blob_store.interface import DownloadUrls, PartUrls, ResumableBlobStore
from ims.disk_files.conversion import Converter
from ims.domain.caller import Caller
from ims.domain.export import ExportedObject
from ims.domain.image import Image, ImageId, KeyId
from ims.domain.limits import Limits
from ims.domain.rejection import Rejection
from ims.domain.tenant import Region, TenantId
from ims.domain.vault import Vault
from ims.domain.view import ReadyView, View
from ims.providers.backups import BackupProvider
from ims.providers.keys import KeyProvider
from ims.providers.peers import Peer
from ims.repository.database import Database, Reading, Transaction
from ims.rules.engine import enforce
from ims.rules.tenants import CALL_FOR_TENANT, Standing
from ims.rules.use import ACT_FOR_TENANT, Representation
from ims.rules.visibility import SEE_IMAGE, Sight
from ims.use_cases.bell import Bell
from ims.use_cases.current_call import current_call
from ims.use_cases.uploads import Uploads

if TYPE_CHECKING:
    # Some memory of every worker that imports nothing.
    from ims.providers.fetching import Fetcher

Told = TypeVar("Told")
Seen = TypeVar("Seen", bound=ReadyView | View)
Details = ParamSpec("Details")


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """One running service: where it is, what it keeps its things in, whom it asks, what it allows."""

    region: Region
    database: Database
    blobs: ResumableBlobStore
    urls: DownloadUrls | None = None
    """None where bytes are read through the service alone."""
    longest_url: timedelta = timedelta(hours=1)
    """How long a URL is good at the most."""
    part_urls: PartUrls | None = None
    """None where the store takes bytes from the service alone."""
    longest_part_url: timedelta = timedelta(0)
    """How long a URL of a part is good at the most; 0 where none is given out."""
    keys: KeyProvider
    directory_closed: bool = False
    """Whether there are no other tenants than those that the directory names (law 3.9)."""
    fetcher: "Callable[[], Fetcher]"
    """Gives what fetches files for imports, made when it is first asked for."""
    converter: Converter
    exports: ExportBuckets
    backups: BackupProvider | None = None
    """None where the deployment has no backup provider."""
    peers: Mapping[Region, Peer] = field(default_factory=dict)
    """The services of other regions that take copies from this one."""
    uploads: Uploads = field(default_factory=Uploads)
    limits: Limits = field(default_factory=Limits)
    grace_period: timedelta = timedelta(days=7)
    """How long a deleted image can be restored."""
    request_memory: timedelta = timedelta(hours=24)
    """How long the answer to a call with a request id is remembered."""
    audit_retention: timedelta = timedelta(days=365)
    """How long an audit event is kept."""
    upload_lease: timedelta = timedelta(seconds=20)
    """How long an upload is taken to be alive after its process was last heard of."""
    upload_patience: timedelta = timedelta(hours=24)
    """How long an interrupted upload waits for somebody to go on with it."""
    operation_lease: timedelta = timedelta(seconds=20)
    """How long an operation is taken to be done by its process after that was last heard of."""
    operation_memory: timedelta = timedelta(days=30)
    """How long an operation is remembered after its end."""
    bell: Bell = field(default_factory=Bell)
    """Rings when an operation was begun here."""
    render_image: Callable[[View], bytes]
    """Makes what an operation answers of an image, as its viewer gets it."""
    render_export: Callable[[ExportedObject], bytes]
    """Makes what an operation answers of an object that it has put into a bucket."""
    page_token_key: bytes
    """What page tokens are sealed with: 32 bytes, the same for all instances on one catalogue."""
    chunk_bytes: int = 1024**2
    """How many bytes a message of a download carries."""
    now: Callable[[], datetime]
    new_id: Callable[[], str] = lambda: str(uuid.uuid4())


def in_one_transaction(
    story: Callable[Concatenate[Deployment, Transaction, Details], Told],
) -> Callable[Concatenate[Deployment, Details], Told]:
    """Have a story told in a transaction: all of it happens, or nothing.

    It may be told again from its beginning, when the database asks for that.
    """

    @wraps(story)
    def told(deployment: Deployment, /, *args: Details.args, **details: Details.kwargs) -> Told:
        return deployment.database.run(lambda tx: story(deployment, tx, *args, **details))

    return told


def refuse_suspended(reading: Reading, tenant_id: TenantId) -> None:
    """Raise Rejection TENANT_SUSPENDED for a tenant that is suspended at this moment."""
    refuse_if(tenant_id, suspended=reading.tenants.suspended(tenant_id))


def refuse_if(tenant_id: TenantId, *, suspended: bool) -> None:
    """Raise Rejection TENANT_SUSPENDED for a tenant that was found to be suspended."""
    enforce(CALL_FOR_TENANT, Standing(tenant_id=tenant_id, suspended=suspended))


def see(deployment: Deployment, reading: Reading, caller: Caller, image_id: ImageId) -> View:
    """Return an image as the caller sees it.

    Raises Rejection IMAGE_NOT_FOUND when it does not, and TENANT_SUSPENDED for a suspended tenant,
    whatever there is.
    """
    now = deployment.now()
    view = reading.images.seen(image_id, caller.tenant_id, now=now)
    return _seen(reading, view, Sight(caller=caller, view=view, now=now))


def see_ready(
    deployment: Deployment, reading: Reading, caller: Caller, image_id: ImageId
) -> ReadyView | View:
    """Return an image like `see`, as bytes where they are ready."""
    now = deployment.now()
    view = reading.images.seen_ready(image_id, caller.tenant_id, now=now)
    return _seen(reading, view, Sight(caller=caller, view=view, now=now))


def see_locked(
    deployment: Deployment,
    tx: Transaction,
    caller: Caller,
    image_id: ImageId,
    *,
    governing: bool = False,
) -> View:
    """Return an image like `see`, and keep everybody else from it until the transaction ends."""
    view = tx.images.lock(image_id, caller.tenant_id, now=deployment.now, governing=governing)
    return _seen(tx, view, Sight(caller=caller, view=view, now=deployment.now(), governing=governing))


def _seen(reading: Reading, view: Seen | None, sight: Sight) -> Seen:
    tenant_id = sight.caller.tenant_id
    if view is not None:
        refuse_if(tenant_id, suspended=view.viewer_suspended)
    try:
        enforce(SEE_IMAGE, sight)
    except Rejection:
        # Also where the image has told it: what is hidden takes as long as what never existed.
        refuse_suspended(reading, tenant_id)
        raise
    assert view is not None  # or the rule would have been broken
    if isinstance(view, View) and (call := current_call()) is not None:
        call.image = view.image
    return view


def ask_for_key(deployment: Deployment, key_id: KeyId | None, owner: TenantId) -> None:
    """Have a key asked for before the transaction that judges it, in which nobody should wait."""
    if key_id is not None:
        deployment.keys.is_usable(key_id, owner)


def ask_for_key_of(deployment: Deployment, caller: Caller, image_id: ImageId) -> None:
    """Do so with the key of an image, if it has one and the caller sees it. Judges nothing."""
    with deployment.database.reading() as reading:
        view = reading.images.seen(image_id, caller.tenant_id, now=deployment.now())
    if view is not None:
        ask_for_key(deployment, view.image.encryption_key_id, view.image.owner)


def key_is_usable(deployment: Deployment, image: Image) -> bool:
    """Whether an image's bytes can be encrypted and decrypted now; unencrypted ones always."""
    key_id = image.encryption_key_id
    return key_id is None or deployment.keys.is_usable(key_id, image.owner)


def find_vault(deployment: Deployment, tenant_id: TenantId, vault_id: str) -> Vault | None:
    """Return the vault that a request names; None where it names none, or none of the tenant's."""
    if deployment.backups is None or not vault_id:
        return None
    return deployment.backups.find_vault(tenant_id, vault_id)


def representing(reading: Reading, caller: Caller, tenant_id: TenantId | None) -> Caller:
    """Return the caller as the tenant it acts for (None: its own), with no rights but that tenant's.

    Raises Rejection ROLE_REQUIRED when it may not act for that tenant, and TENANT_SUSPENDED when its own
    may do nothing. Whether that tenant may is for those to see who read for it.
    """
    if tenant_id is None or tenant_id == caller.tenant_id:
        return caller
    refuse_suspended(reading, caller.tenant_id)
    enforce(ACT_FOR_TENANT, Representation(caller=caller, tenant_id=tenant_id))
    if (call := current_call()) is not None:
        call.acting_for = tenant_id
    return replace(caller, tenant_id=tenant_id, roles=frozenset())
