"""Fills a catalogue with images, tags and shares, as many as are wanted, the same ones every time.

Rows come from the repository's own functions and go in by bulk, which is all that is special about them.
The distribution is told in `docs/benchmarks.md`.
"""

import math
import random
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache
from multiprocessing import get_context
from typing import Any

import sqlalchemy as sa

from bench.databases import engine_of
from ims.domain.image import (
    GIB,
    BlobKey,
    Disk,
    DiskFormat,
    DiskRole,
    DiskState,
    Image,
    ImageId,
    ImageState,
    ImageType,
    OperatingSystem,
    OsType,
    Source,
    SourceKind,
)
from ims.domain.quotas import NOTHING, Usage, usage_of
from ims.domain.share import Share, ShareStatus
from ims.domain.tenant import Region, TenantId
from ims.repository import images as image_repository
from ims.repository import shares as share_repository
from ims.repository import tables
from ims.repository.tenants import TenantRepository
from ims.servicers.image_messages import RENDERER

BIG, LITTLE = TenantId("bench"), TenantId("little")
"""The tenants that call: one owns much of every catalogue, one the same few images in each."""
HOME = Region("local")
RARE_TAG, RARE_NAME = ("rare", "yes"), "rare-"
RARE, FEW = 200, 225
BEGINNING, SPAN = datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=300)
_DELETED = datetime.now(UTC)  # or its grace period would be over
_BATCH = 5_000
_DECADES_OF_SIZES = math.log(100 * GIB / 2**20)


class Kind(Enum):
    """Whose an image is, and who else sees it."""

    PUBLIC = "public, of a tenant `publisher`"
    BIGS = "the big tenant's"
    BIGS_RARE = "the big tenant's, and rare in all that is filtered by"
    BIGS_LENT = "the big tenant's, accepted by the little one"
    LITTLES = "the little tenant's, accepted by the big one"
    ACCEPTED = "another tenant's, accepted by the big one"
    PENDING = "another tenant's, offered to the big one"
    REJECTED = "another tenant's, rejected by the big one"
    FOREIGN = "another tenant's, three in ten of them shared with one to five others"


def kinds(size: int) -> dict[Kind, int]:
    """Return how many images of each kind a catalogue of a size has."""
    counts = {
        Kind.PUBLIC: max(250, size // 20),
        Kind.BIGS: size * 3 // 10 - RARE - FEW // 3,
        Kind.BIGS_RARE: RARE,
        Kind.BIGS_LENT: FEW // 3,
        Kind.LITTLES: FEW,
        Kind.ACCEPTED: max(25, size // 50),
        Kind.PENDING: max(100, size // 100),
        Kind.REJECTED: max(75, size // 200),
    }
    return {**counts, Kind.FOREIGN: size - sum(counts.values())}


@dataclass(frozen=True, kw_only=True)
class Seeded:
    """A catalogue that was filled."""

    kind: str
    """The database it is in."""
    size: int
    url: str


def seed(database: str, url: str, size: int) -> Seeded:
    """Fill an empty database with a catalogue."""
    engine = engine_of(url)
    postgresql = engine.dialect.name == "postgresql"
    indexes = [index for table in tables.metadata.sorted_tables for index in table.indexes]
    with engine.begin() as connection:
        for index in indexes:
            index.drop(connection)
    parts = [(url, size, begin, min(begin + _BATCH, size)) for begin in range(0, size, _BATCH)]
    if postgresql:
        # Its tables take rows from several processes at once, and making the rows is most of the work.
        # They are no forks of this one, in which gRPC may be at work.
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
            used_in_parts = list(processes.map(_fill, parts))
    else:
        used_in_parts = [_fill(part) for part in parts]
    with engine.begin() as connection:
        tenants = TenantRepository(connection)
        for tenant_id in {tenant_id for used in used_in_parts for tenant_id in used}:
            tenants.change(tenant_id, sum((used[tenant_id] for used in used_in_parts), NOTHING))
        for index in indexes:
            index.create(connection)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM (ANALYZE)" if postgresql else "ANALYZE")
        if postgresql:
            connection.exec_driver_sql("CHECKPOINT")  # or it would come while calls are timed
    engine.dispose()
    return Seeded(kind=database, size=size, url=url)


def _fill(part: tuple[str, int, int, int]) -> dict[TenantId, Usage]:
    """Write a part of a catalogue; return what it uses of its owners' quotas."""
    url, size, begin, end = part
    engine = engine_of(url)
    with engine.begin() as connection:
        rows: dict[sa.Table, list[dict[str, Any]]] = defaultdict(list)
        used: dict[TenantId, Usage] = defaultdict(Usage)
        repository = image_repository.ImageRepository(connection, TenantRepository(connection), RENDERER)
        for image, shares in images_of(size, begin, end):
            used[image.owner] += usage_of(image)
            rows[tables.images].append(repository._to_row(image))
            rows[tables.tags] += image_repository._tag_rows(image)
            listed = image_repository._listed_of(image)
            stands_again = {name: listed[f"new_{name}"] for name in image_repository.LISTED}
            rows[tables.shares] += [
                {**share_repository._to_row(share), **stands_again} for share in shares
            ]
        for table, of_table in rows.items():
            if engine.dialect.name == "postgresql":
                _copy(connection, table, of_table)
            elif of_table:
                connection.execute(table.insert(), of_table)
    engine.dispose()
    return used


def _copy(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    columns = [column.name for column in table.columns]
    cursor: Any = connection.connection.cursor()
    with cursor.copy(f"COPY {table.name} ({', '.join(columns)}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row([row.get(name) for name in columns])


@cache
def _kind_of_each(size: int) -> list[Kind]:
    """Return the kind of every image of a catalogue, from the oldest on: all kinds well mixed."""
    mixed = [kind for kind, count in kinds(size).items() for _ in range(count)]
    random.Random(size).shuffle(mixed)
    return mixed


def images_of(size: int, begin: int, end: int) -> Iterator[tuple[Image, list[Share]]]:
    """Return a part of a catalogue's images, each with its shares, from the oldest on."""
    mixed = _kind_of_each(size)
    for number in range(begin, end):
        # A generator of its own for each image: a part of the catalogue is the same in any process.
        chance = random.Random(f"{size}:{number}")
        image = _image(chance, number, size, mixed[number])
        yield image, list(_shares(chance, image, mixed[number], size))


def _image(chance: random.Random, number: int, size: int, kind: Kind) -> Image:
    created = BEGINNING + SPAN * number / size
    rare = kind is Kind.BIGS_RARE
    image_type = ImageType.ISO if rare else _one_of(chance, _TYPES)
    state = _state(chance, kind)
    os_type = OsType.OTHER if rare else _one_of(chance, _OS_TYPES)
    family = _one_of(chance, _FAMILIES[os_type])
    deleted = state is ImageState.DELETED
    return Image(
        id=ImageId(str(uuid.UUID(int=chance.getrandbits(128), version=4))),
        owner=_owner(chance, kind, size),
        region=HOME,
        name=f"{RARE_NAME if rare else ''}{family}-{number:07}",
        description="Hardened, with the agents that every server here runs." * chance.randrange(2),
        type=image_type,
        state=state,
        public=kind is Kind.PUBLIC,
        os=OperatingSystem(type=os_type, platform=family, version=str(chance.randrange(8, 25))),
        min_disk_gib=chance.choice((10, 20, 40, 100)),
        min_ram_mib=chance.choice((0, 512, 2048)),
        tags=tuple(sorted((RARE_TAG,) * rare + _tags(chance))),
        # The law shares full-ECS images only when they were made through CBR.
        source=Source(kind=SourceKind.CBR_BACKUP, id=f"backup-{number}")
        if image_type is ImageType.FULL_ECS
        else Source(kind=SourceKind.FILE, file_name=f"{family}.qcow2"),
        disks=tuple(_disks(chance, image_type, state, rare=rare)),
        version=1 + chance.randrange(4),
        create_time=created,
        update_time=created + timedelta(seconds=chance.randrange(30 * 24 * 3600)),
        delete_time=_DELETED if deleted else None,
        purge_time=_DELETED + timedelta(days=7) if deleted else None,
        state_before_deletion=ImageState.ACTIVE if deleted else None,
    )


_TYPES = {ImageType.SYSTEM_DISK: 75, ImageType.DATA_DISK: 15, ImageType.FULL_ECS: 10}
_STATES = {ImageState.ACTIVE: 93, ImageState.QUEUED: 4, ImageState.DELETED: 2, ImageState.FAILED: 1}
_OS_TYPES = {OsType.LINUX: 80, OsType.WINDOWS: 20}
_FAMILIES = {
    OsType.LINUX: {"debian": 40, "ubuntu": 40, "rocky": 15, "alpine": 5},
    OsType.WINDOWS: {"windows-server": 90, "windows": 10},
    OsType.OTHER: {"freebsd": 1},
}
_STAGES = {"prod": 20, "test": 50, "dev": 30}


def _one_of(chance: random.Random, weights: dict[Any, int]) -> Any:
    return chance.choices(list(weights), list(weights.values()))[0]


def _state(chance: random.Random, kind: Kind) -> ImageState:
    if kind is Kind.BIGS_RARE:
        return ImageState.DEACTIVATED
    # Only an active image is shared or published.
    return _one_of(chance, _STATES) if kind in {Kind.BIGS, Kind.FOREIGN} else ImageState.ACTIVE


def _owner(chance: random.Random, kind: Kind, size: int) -> TenantId:
    match kind:
        case Kind.PUBLIC:
            return TenantId("publisher")
        case Kind.BIGS | Kind.BIGS_RARE | Kind.BIGS_LENT:
            return BIG
        case Kind.LITTLES:
            return LITTLE
        case _:
            return _another(chance, size)


def _another(chance: random.Random, size: int) -> TenantId:
    return TenantId(f"tenant-{chance.randrange(max(20, size // 100)):05}")


def _tags(chance: random.Random) -> tuple[tuple[str, str], ...]:
    tags = [("stage", _one_of(chance, _STAGES))]
    if chance.random() < 0.5:
        tags.append(("team", f"team-{chance.randrange(50)}"))
    if chance.random() < 0.2:
        tags.append(("cost-centre", f"{chance.randrange(1000):04}"))
    return tuple(tags)


def _disks(
    chance: random.Random, image_type: ImageType, state: ImageState, *, rare: bool
) -> Iterator[Disk]:
    roles = {
        ImageType.SYSTEM_DISK: [DiskRole.SYSTEM],
        ImageType.DATA_DISK: [DiskRole.DATA],
        ImageType.FULL_ECS: [DiskRole.SYSTEM] + [DiskRole.DATA] * chance.randrange(1, 4),
        ImageType.ISO: [DiskRole.INSTALLATION_MEDIUM],
    }[image_type]
    empty = state in {ImageState.QUEUED, ImageState.FAILED}
    for index, role in enumerate(roles):
        disk_format = DiskFormat.ISO if role is DiskRole.INSTALLATION_MEDIUM else DiskFormat.QCOW2
        if empty:
            yield Disk(index=index, role=role, format=disk_format)
            continue
        spread = 2**20 * math.exp(chance.random() * _DECADES_OF_SIZES) / len(roles)
        size_bytes = chance.randrange(120 * GIB, 128 * GIB) if rare else int(spread)
        yield Disk(
            index=index,
            role=role,
            format=disk_format,
            state=DiskState.STORED,
            capacity_bytes=size_bytes * 2,
            size_bytes=size_bytes,
            sha256=f"{chance.getrandbits(256):064x}",
            blob_key=BlobKey(f"{chance.getrandbits(128):032x}"),
        )


def _shares(chance: random.Random, image: Image, kind: Kind, size: int) -> Iterable[Share]:
    def share(tenant_id: TenantId, status: ShareStatus) -> Share:
        time = image.create_time + timedelta(hours=1)
        return Share(
            image_id=image.id,
            tenant_id=tenant_id,
            region=HOME,
            status=status,
            create_time=time,
            update_time=time,
        )

    match kind:
        case Kind.BIGS_LENT:
            yield share(LITTLE, ShareStatus.ACCEPTED)
        case Kind.LITTLES | Kind.ACCEPTED:
            yield share(BIG, ShareStatus.ACCEPTED)
        case Kind.PENDING:
            yield share(BIG, ShareStatus.PENDING)
        case Kind.REJECTED:
            yield share(BIG, ShareStatus.REJECTED)
        case Kind.FOREIGN if image.state is ImageState.ACTIVE and chance.random() < 0.3:
            recipients = {_another(chance, size) for _ in range(chance.randrange(1, 6))}
            for recipient in sorted(recipients - {image.owner}):
                yield share(recipient, chance.choice(list(ShareStatus)))
        case _:
            pass
