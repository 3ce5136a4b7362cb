"""Images with their disks and tags: records in, records out."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from ims.domain.image import (
    Architecture,
    BackupService,
    Disk,
    DiskFormat,
    DiskRole,
    DiskState,
    Firmware,
    Image,
    ImageId,
    ImageState,
    ImageType,
    KeyId,
    OperatingSystem,
    OsType,
    Source,
    SourceKind,
)
from ims.domain.page import ImageFilter, ImageOrder, Page, PageRequest, Position, Received, ShareFilter
from ims.domain.quotas import NOTHING, usage_of
from ims.domain.rejection import Category, Reason, reject
from ims.domain.share import Share, ShareStatus
from ims.domain.tenant import Region, TenantId
from ims.domain.view import ReadyView, View
from ims.repository import listing
from ims.repository.renderer import Renderer
from ims.repository.seal_runs import to_documents, to_seal_runs
from ims.repository.share_conditions import is_shown, lasts
from ims.repository.shares import LISTED, SHARE_COLUMNS, to_share
from ims.repository.statement import Rows, Statement
from ims.repository.tables import images, shares, tags
from ims.repository.tenants import TenantRepository, is_suspended
from ims.repository.times import from_microseconds, to_microseconds

Converted = TypeVar("Converted")

_NEWEST_FIRST = ImageOrder()

_viewer = sa.bindparam("viewer", type_=shares.c.tenant_id.type)
_own_share = shares.alias("own_share")
_OWN_SHARE = {f"share_{name}": _own_share.c[name] for name in SHARE_COLUMNS}
# The shares of a deleted image have ended, though they are kept for its undeletion.
_has_shares = sa.exists().where(
    shares.c.image_id == images.c.id, lasts(shares), images.c.state != ImageState.DELETED
)
_READY_ONLY = {"live_name", "live_backup", "rendering", "rendering_version", "rendering_format"}
_RECORD = [column for column in images.c if column.name not in _READY_ONLY]

# Asked with an image that is looked at by its id; lists ask once, and of the owners where they look.
_SUSPENDED = {
    "viewer_suspended": is_suspended(_viewer),
    "owner_suspended": is_suspended(images.c.owner),
}

# Not EXISTS, for which PostgreSQL may prefer to look through all shares once.
_has_own_share = (
    sa.select(shares.c.tenant_id)
    .where(
        shares.c.image_id == images.c.id,
        shares.c.tenant_id == _viewer,
        is_shown(shares, images.c.owner),
    )
    .limit(1)
    .scalar_subquery()
    .is_not(None)
)
# Who may know of an image. The rule says so again of what is read; asked here, what is hidden is no row,
# and so is answered in the time that what never existed takes (law 2.1), and nobody gets its lock.
_may_know_of = sa.or_(
    images.c.owner == _viewer,
    sa.and_(
        images.c.state != ImageState.DELETED,
        sa.or_(
            images.c.public,
            sa.and_(
                sa.or_(images.c.declared_by == _viewer, _has_own_share),
                sa.not_(is_suspended(images.c.owner)),
            ),
        ),
    ),
)

# One statement reads an image with all that a viewer has to do with it, as it was at one moment.
_VIEWS = sa.select(
    *_RECORD,
    _has_shares.label("has_shares"),
    *(each.label(name) for name, each in _OWN_SHARE.items()),
    *(each.label(name) for name, each in _SUSPENDED.items()),
).select_from(
    images.outerjoin(
        _own_share,
        sa.and_(
            _own_share.c.image_id == images.c.id,
            _own_share.c.tenant_id == _viewer,
            is_shown(_own_share, images.c.owner),
        ),
    )
)
_this = images.c.id == sa.bindparam("id")
_ONE = Statement(_VIEWS.where(_this))
_ONE_SEEN = Statement(_VIEWS.where(_this, _may_know_of))
_ONE_NAMES = (*(column.name for column in _RECORD), "has_shares", *_OWN_SHARE, *_SUSPENDED)

# For who only wants to see an image: what its visibility hangs on, and its bytes where they are ready.
_usable = sa.and_(
    images.c.rendering_version == images.c.version,
    images.c.rendering_format == sa.bindparam("format", type_=sa.Integer),
)
_READY: tuple[sa.ColumnElement[Any], ...] = (
    images.c.owner,
    images.c.public,
    images.c.state,
    images.c.declared_by,
    images.c.purge_time,
    _has_own_share,
    _has_shares,
    sa.case((_usable, images.c.rendering)),
)
_ONE_READY = Statement(sa.select(*_READY, *_SUSPENDED.values()).where(_this, _may_know_of))

# The columns of _VIEWS for a statement that finds images in a way of its own.
_its_share = shares.alias("its_share")
_VIEW: tuple[sa.ColumnElement[Any], ...] = (
    *_RECORD,
    _has_shares,
    *(
        sa.select(_its_share.c[name])
        .where(
            _its_share.c.image_id == images.c.id,
            _its_share.c.tenant_id == _viewer,
            is_shown(_its_share, images.c.owner),
        )
        .scalar_subquery()
        for name in SHARE_COLUMNS
    ),
)
_VIEW_NAMES = (*(column.name for column in _RECORD), "has_shares", *_OWN_SHARE)
_LOCK = Statement(
    sa.select(images.c.id)
    .where(_this, sa.or_(sa.bindparam("governing", type_=sa.Boolean), _may_know_of))
    .with_for_update(of=images)
)


class ImageRepository:
    """The images of the catalogue."""

    def __init__(
        self, connection: sa.Connection, tenants: TenantRepository, renderer: Renderer | None
    ) -> None:
        self._connection = connection
        self._tenants = tenants
        self._renderer = renderer
        self._locked: dict[ImageId, Image] = {}
        """The images that this transaction holds the locks of, as they are in it by now."""

    def view(self, image_id: ImageId, viewer: TenantId, *, now: datetime) -> View | None:
        """Return an image, deleted or not, as a tenant sees it; None when there is no such id."""
        return self._view(_ONE, image_id, viewer, now)

    def seen(self, image_id: ImageId, viewer: TenantId, *, now: datetime) -> View | None:
        """Return an image like `view`; None also when the tenant may not know of it."""
        return self._view(_ONE_SEEN, image_id, viewer, now)

    def _view(
        self, statement: Statement, image_id: ImageId, viewer: TenantId, now: datetime
    ) -> View | None:
        parameters = {"id": image_id, "viewer": viewer, "now": to_microseconds(now)}
        rows = statement.rows(self._connection, parameters)
        return _to_view(dict(zip(_ONE_NAMES, rows[0], strict=True)), viewer) if rows else None

    def seen_ready(
        self, image_id: ImageId, viewer: TenantId, *, now: datetime
    ) -> ReadyView | View | None:
        """Return an image like `seen`, as bytes where they are ready."""
        if self._renderer is not None:
            parameters = {
                "id": image_id,
                "viewer": viewer,
                "now": to_microseconds(now),
                "format": self._renderer.format,
            }
            rows = _ONE_READY.rows(self._connection, parameters)
            if not rows:
                return None
            *ready, viewer_suspended, owner_suspended = rows[0]
            if ready[-1] is not None:
                return _to_ready_view(
                    ready,
                    viewer,
                    viewer_suspended=bool(viewer_suspended),
                    owner_suspended=bool(owner_suspended),
                )
        return self.seen(image_id, viewer, now=now)

    def lock(
        self,
        image_id: ImageId,
        viewer: TenantId,
        *,
        now: Callable[[], datetime],
        governing: bool = False,
    ) -> View | None:
        """Return an image like `view`, and keep everybody else from it until the transaction ends.

        Whoever changes an image or its shares takes this lock before reading what is judged. None as
        well when the viewer has nothing to do with the image, unless it governs all.
        """
        # A statement of its own: had the lock to be waited for, the shares that the same statement
        # would read could be older than the image. So could the time.
        parameters = {
            "id": image_id,
            "viewer": viewer,
            "now": to_microseconds(now()),
            "governing": governing,
        }
        if not _LOCK.rows(self._connection, parameters):
            return None
        view = self.view(image_id, viewer, now=now())
        if view is not None:
            self._locked[image_id] = view.image
        return view

    def name_taken(self, owner: TenantId, name: str, *, besides: ImageId | None = None) -> bool:
        """Whether a live image of the tenant, other than `besides`, has the name."""
        if "\0" in name:
            return False  # nothing is called so, and PostgreSQL cannot even be asked
        query = sa.select(images.c.id).where(images.c.owner == owner, images.c.live_name == name)
        return self._connection.execute(query).scalar() not in {None, besides}

    def backup_used(self, source: Source, *, besides: ImageId | None = None) -> bool:
        """Whether a live image other than `besides` was made from the backup that a source names."""
        key = _backup_key(source)
        if key is None:
            return False
        query = sa.select(images.c.id).where(images.c.live_backup == key)
        return self._connection.execute(query).scalar() not in {None, besides}

    def add(self, image: Image) -> None:
        """Add a new image. Raises Rejection when somebody took its name or backup this very moment."""
        with _taken_meanwhile(image):
            self._connection.execute(images.insert().values(self._to_row(image)))
        self._add_tags(image)
        self._tenants.change(image.owner, usage_of(image))

    def save(self, image: Image, *, now: datetime) -> Image:
        """Store a changed image; return it with its new version and time of update.

        That time is never before the image was made: lists rely on it.
        What its owner uses changes with it. Only for an image whose lock this transaction has taken.
        """
        before = self._locked[image.id]
        # Another instance's clock may be behind that of the one which made the image.
        saved = replace(image, version=image.version + 1, update_time=max(now, image.create_time))
        self._write(saved)
        self._tenants.change(saved.owner, usage_of(saved) - usage_of(before))
        self._locked[saved.id] = saved
        return saved

    def _write(self, image: Image) -> None:
        with _taken_meanwhile(image):
            self._connection.execute(
                images.update().where(images.c.id == image.id).values(self._to_row(image))
            )
        self._connection.execute(tags.delete().where(tags.c.image_id == image.id))
        self._add_tags(image)
        self._connection.execute(_COPY_INTO_SHARES, _listed_of(image))

    def _to_row(self, image: Image) -> dict[str, Any]:
        row = _to_row(image)
        if self._renderer is not None:
            row["rendering"] = self._renderer.render(image)
            row["rendering_version"] = image.version
            row["rendering_format"] = self._renderer.format
        return row

    def _add_tags(self, image: Image) -> None:
        if image.tags:
            self._connection.execute(tags.insert(), _tag_rows(image))

    def purge(self, image_id: ImageId) -> None:
        """Remove an image for ever, with its disks, tags and shares.

        Its owner has back what it still took. Only for an image whose lock this transaction has taken.
        """
        before = self._locked.pop(image_id)
        self._connection.execute(images.delete().where(images.c.id == image_id))
        self._tenants.change(before.owner, NOTHING - usage_of(before))

    def due_for_purge(self, now: datetime) -> tuple[ImageId, ...]:
        """Return the deleted images whose grace period has ended."""
        query = sa.select(images.c.id).where(
            images.c.state == ImageState.DELETED, images.c.purge_time <= to_microseconds(now)
        )
        return tuple(ImageId(value) for value in self._connection.execute(query).scalars())

    def incomplete_arrivals(self, *, since: datetime) -> tuple[ImageId, ...]:
        """Return the copies that other regions bring, but have brought nothing of since a time."""
        query = sa.select(images.c.id, images.c.source).where(
            images.c.state == ImageState.QUEUED,
            images.c.declared_by.is_not(None),
            images.c.update_time <= to_microseconds(since),
        )
        # What a service of this region has declared waits for as long as that likes: it is no copy.
        return tuple(
            ImageId(image_id)
            for image_id, source in self._connection.execute(query)
            if _to_source(json.loads(source)).kind is SourceKind.IMAGE
        )

    def batch(
        self,
        *,
        after: str,
        size: int,
        owner: TenantId | None = None,
        state: ImageState | None = None,
    ) -> tuple[Image, ...]:
        """Return so many images, by id from behind `after` on: all, an owner's, those in a state."""
        query = sa.select(images).where(images.c.id > after).order_by(images.c.id).limit(size)
        if owner is not None:
            query = query.where(images.c.owner == owner)
        if state is not None:
            query = query.where(images.c.state == state)
        return tuple(_to_image(row) for row in self._connection.execute(query).mappings())

    def misfiled(self, image_ids: Collection[ImageId]) -> dict[ImageId, tuple[str, ...]]:
        """Return the images, of some, that are not filed as they are, each with what says otherwise.

        That is columns in which something of the image stands again, here and in its shares, and the
        table of tags. A rendering that is of another version or format says nothing: nobody uses it.
        """
        rows = self._connection.execute(sa.select(images).where(images.c.id.in_(image_ids))).mappings()
        filed_tags = self._filed(sa.select(tags).where(tags.c.image_id.in_(image_ids)))
        filed_shares = self._filed(
            sa.select(shares.c.image_id, *(shares.c[name] for name in LISTED)).where(
                shares.c.image_id.in_(image_ids)
            )
        )
        wrong = {}
        for row in rows:
            image = _to_image(row)
            columns = self._misfiled_columns(image, row)
            if _unordered(filed_tags.get(image.id, [])) != _unordered(_tag_rows(image)):
                columns.append("tags")
            listed = _listed_of(image)
            if any(
                each[name] != listed[f"new_{name}"]
                for each in filed_shares.get(image.id, [])
                for name in LISTED
            ):
                columns.append("shares")
            if columns:
                wrong[image.id] = tuple(columns)
        return wrong

    def _filed(self, query: sa.Select[Any]) -> dict[str, list[dict[str, Any]]]:
        filed: dict[str, list[dict[str, Any]]] = {}
        for row in self._connection.execute(query).mappings():
            filed.setdefault(row["image_id"], []).append(dict(row))
        return filed

    def _misfiled_columns(self, image: Image, row: sa.RowMapping) -> list[str]:
        right = self._to_row(image)
        looked_at = right.keys() - _DOCUMENTS
        if any(row[name] != right.get(name) for name in ("rendering_version", "rendering_format")):
            looked_at -= {"rendering", "rendering_version", "rendering_format"}
        return sorted(name for name in looked_at if row[name] != right[name])

    def file(self, image_id: ImageId) -> None:
        """File an image as it is. Only for one whose lock this transaction has taken."""
        self._write(self._locked[image_id])

    def may_be_read(
        self, image_id: ImageId, tenant_id: TenantId, *, caller: TenantId, now: datetime
    ) -> bool:
        """Whether a tenant, or who calls for it, may still read the bytes of an image it once might."""
        parameters = {
            "id": image_id,
            "tenant_id": tenant_id,
            "caller": caller,
            "now": to_microseconds(now),
        }
        return bool(_MAY_BE_READ.rows(self._connection, parameters))

    def list(
        self,
        viewer: TenantId,
        image_filter: ImageFilter,
        page: PageRequest,
        *,
        order: ImageOrder = _NEWEST_FIRST,
        now: datetime,
    ) -> Page[ReadyView | View]:
        """Return a part of the images that a tenant owns, has accepted, or that are public.

        Pending and rejected shares are left out (law 4.1); deleted images are listed to their owner
        alone, until they are to be purged, and only when the filter asks for that state.
        """
        shape = listing.shape_of(viewer, image_filter, order, page)
        if shape is None:
            return Page(items=(), more=False, total_size=0 if page.count else None)
        given = listing.parameters(viewer, image_filter, page, now)
        chosen = tuple(self._best_look_up(shape, walk, given) for walk in shape.walks)
        total = None
        if page.count:
            counting = listing.counted(shape)
            ((total,),) = counting.rows(self._connection, given)

        def find(columns: tuple[sa.ColumnElement[Any], ...]) -> Statement:
            return listing.found(shape, columns, chosen)

        rows = self._ready_rows(find, given)
        if rows is not None:
            views: tuple[ReadyView | View, ...] = tuple(_to_ready_view(row[2:], viewer) for row in rows)
        else:
            rows = find(_VIEW).rows(self._connection, given)
            views = tuple(_to_view(_named(row[2:]), viewer) for row in rows)
        places = tuple(Position(*row[:2]) for row in rows[: page.size])
        return Page(
            items=views[: page.size], places=places, more=len(rows) > page.size, total_size=total
        )

    def _ready_rows(
        self, find: Callable[[tuple[sa.ColumnElement[Any], ...]], Statement], given: dict[str, Any]
    ) -> Rows | None:
        """Return what a statement finds, as ready bytes; None unless all of it is ready."""
        if self._renderer is None:
            return None
        given["format"] = self._renderer.format
        rows = find(_READY).rows(self._connection, given)
        return None if any(row[-1] is None for row in rows) else rows

    def _best_look_up(self, shape: listing.Shape, walk: listing.Walk, given: dict[str, Any]) -> str:
        """Return what finds the fewest images of a walk, if it finds few; else nothing."""
        best, fewest = "", listing.FEW[walk.kind] + 1
        for look_up in listing.look_ups(shape, walk):
            ((count,),) = listing.matches(shape, walk, look_up).rows(self._connection, given)
            if count < fewest:
                best, fewest = look_up, count
        return best

    def received(
        self,
        viewer: TenantId,
        share_filter: ShareFilter,
        page: PageRequest,
        *,
        now: datetime,
        descending: bool = True,
    ) -> Page[Received]:
        """Return a part of what a tenant has received by sharing, by the time of sharing.

        A deleted image's shares have ended; they are left out until it is undeleted.
        """
        given: dict[str, Any] = {
            "viewer": viewer,
            "status": str(share_filter.status),
            "now": to_microseconds(now),
        }
        if page.after is not None:
            given["after_key"], given["after_id"] = page.after.key, page.after.id
        wanted = (share_filter.status is not None, page.after is not None, descending, page.size)

        def find(columns: tuple[sa.ColumnElement[Any], ...]) -> Statement:
            return _received(columns, *wanted)

        rows = self._ready_rows(find, given)
        if rows is not None:
            found = tuple(
                Received(_share_of(row), _to_ready_view(row[_AFTER_SHARE:], viewer)) for row in rows
            )
        else:
            rows = find(_VIEW).rows(self._connection, given)
            found = tuple(
                Received(_share_of(row), _to_view(_named(row[_AFTER_SHARE:]), viewer)) for row in rows
            )
        total = None
        if page.count:
            ((total,),) = _received_count(share_filter.status is not None).rows(self._connection, given)
        places = tuple(
            Position(to_microseconds(each.share.create_time), each.share.image_id)
            for each in found[: page.size]
        )
        return Page(
            items=found[: page.size], places=places, more=len(rows) > page.size, total_size=total
        )


_SHARE_COLUMNS = tuple(_own_share.c[name] for name in SHARE_COLUMNS)
_AFTER_SHARE = len(_SHARE_COLUMNS)
_OF_VIEWER = sa.and_(
    _own_share.c.tenant_id == _viewer,
    # Hidden from SQLite's planner, or it would begin with the images.
    images.c.state.concat(sa.literal_column("''")) != ImageState.DELETED,
    is_shown(_own_share, images.c.owner),
    sa.not_(is_suspended(images.c.owner)),
)
_OF_STATUS = _own_share.c.status == sa.bindparam("status", type_=_own_share.c.status.type)


@lru_cache(maxsize=256)
def _received(
    columns: tuple[sa.ColumnElement[Any], ...],
    by_status: bool,  # noqa: FBT001 - what a statement is kept by
    goes_on: bool,  # noqa: FBT001
    descending: bool,  # noqa: FBT001
    size: int,
) -> Statement:
    direction = sa.desc if descending else sa.asc
    place = (_own_share.c.create_time, _own_share.c.image_id)
    query = (
        sa.select(*_SHARE_COLUMNS, *columns)
        .select_from(_own_share.join(images, images.c.id == _own_share.c.image_id))
        .where(_OF_VIEWER)
        .order_by(*(direction(each) for each in place))
        .limit(sa.literal_column(str(size + 1), sa.Integer))
    )
    if by_status:
        query = query.where(_OF_STATUS)
    if goes_on:
        after = sa.tuple_(
            sa.bindparam("after_key", type_=sa.BigInteger),
            sa.bindparam("after_id", type_=images.c.id.type),
        )
        query = query.where(sa.tuple_(*place) < after if descending else sa.tuple_(*place) > after)
    return Statement(query)


@lru_cache(maxsize=2)
def _received_count(by_status: bool) -> Statement:  # noqa: FBT001 - what a statement is kept by
    query = (
        sa.select(sa.func.count())
        .select_from(_own_share.join(images, images.c.id == _own_share.c.image_id))
        .where(_OF_VIEWER)
    )
    return Statement(query.where(_OF_STATUS) if by_status else query)


def _share_of(row: tuple[Any, ...]) -> Share:
    return to_share(dict(zip(SHARE_COLUMNS, row, strict=False)))


# Only where something is another than before: a row that is written again is a new one.
_COPY_INTO_SHARES = (
    shares.update()
    .where(
        shares.c.image_id == sa.bindparam("id"),
        sa.or_(
            *(
                shares.c[name].is_distinct_from(sa.bindparam(f"new_{name}", type_=shares.c[name].type))
                for name in LISTED
            )
        ),
    )
    .values({name: sa.bindparam(f"new_{name}", type_=shares.c[name].type) for name in LISTED})
)


def _listed_of(image: Image) -> dict[str, Any]:
    """Return what stands in an image's shares for the lists."""
    if image.state is ImageState.DELETED:
        return {"id": image.id, **{f"new_{name}": None for name in LISTED}}
    return {
        "id": image.id,
        "new_image_owner": image.owner,
        "new_image_create_time": to_microseconds(image.create_time),
        "new_image_name": image.name,
        "new_image_size_bytes": image.size_bytes,
    }


_MAY_BE_READ = Statement(
    sa.select(sa.literal(1)).where(
        images.c.id == sa.bindparam("id"),
        images.c.state == ImageState.ACTIVE,
        sa.or_(
            images.c.owner == sa.bindparam("tenant_id"),
            images.c.public,
            sa.exists().where(
                shares.c.image_id == images.c.id,
                shares.c.tenant_id == sa.bindparam("tenant_id"),
                shares.c.status == ShareStatus.ACCEPTED,
                lasts(shares),
                sa.not_(is_suspended(images.c.owner)),
            ),
        ),
        sa.not_(is_suspended(sa.bindparam("tenant_id"))),
        sa.not_(is_suspended(sa.bindparam("caller"))),
    )
)


class _taken_meanwhile:  # noqa: N801 - reads as a clause of the with statement
    """Turns a broken unique constraint into the rejection that the law has for it."""

    def __init__(self, image: Image) -> None:
        self._image = image

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if not isinstance(error, IntegrityError):
            return
        constraint = _violated(error)
        if "live_name" in constraint:
            name = self._image.name
            raise reject(
                Category.EXISTS,
                Reason.IMAGE_NAME_TAKEN,
                f"The tenant has an image called '{name}' already.",
                subject="name",
                name=name,
            ) from error
        if "live_backup" in constraint:
            backup_id = self._image.source.id
            raise reject(
                Category.EXISTS,
                Reason.BACKUP_ALREADY_USED,
                f"An image was made from backup '{backup_id}' already.",
                subject="source",
                backupId=backup_id,
            ) from error


def _violated(error: IntegrityError) -> str:
    """Return the name of a broken constraint, or, from SQLite, a text with the names of its columns."""
    diagnosis = getattr(error.orig, "diag", None)
    return str(error.orig) if diagnosis is None else diagnosis.constraint_name or ""


def _backup_key(source: Source) -> str | None:
    if source.kind in {SourceKind.CBR_BACKUP, SourceKind.CSBS_BACKUP}:
        return f"{source.kind}:{source.id}"
    return None


def _to_row(image: Image) -> dict[str, Any]:
    live = image.state is not ImageState.DELETED
    return {
        "id": image.id,
        "owner": image.owner,
        "region": image.region,
        "name": image.name,
        "live_name": image.name if live else None,
        "live_backup": _backup_key(image.source) if live else None,
        "description": image.description,
        "type": image.type,
        "state": image.state,
        "public": image.public,
        "protected": image.protected,
        "for_bms": image.for_bms,
        "os_type": image.os.type,
        "os": json.dumps(asdict(image.os)),
        "architecture": image.architecture,
        "firmware": image.firmware,
        "min_disk_gib": image.min_disk_gib,
        "min_ram_mib": image.min_ram_mib,
        "max_ram_mib": image.max_ram_mib,
        "source": json.dumps(asdict(image.source)),
        "disks": json.dumps([_to_document(disk) for disk in image.disks]),
        "tags": json.dumps(image.tags),
        "declared_by": image.declared_by,
        "encryption_key_id": image.encryption_key_id,
        "size_bytes": image.size_bytes,
        "version": image.version,
        "create_time": to_microseconds(image.create_time),
        "update_time": to_microseconds(image.update_time),
        "delete_time": _optional(to_microseconds, image.delete_time),
        "purge_time": _optional(to_microseconds, image.purge_time),
        "state_before_deletion": image.state_before_deletion,
        "deactivated_by_admin": image.deactivated_by_admin,
        "non_exportable": image.non_exportable,
    }


def _unordered(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(str(sorted(row.items())) for row in rows)


def _tag_rows(image: Image) -> list[dict[str, Any]]:
    live = image.state is not ImageState.DELETED
    listed = {
        "owner": image.owner if live else None,
        "public": image.public if live else None,
        "create_time": to_microseconds(image.create_time) if live else None,
    }
    return [{"image_id": image.id, "key": key, "value": value, **listed} for key, value in image.tags]


_DOCUMENTS = {"os", "source", "disks", "tags"}
"""Columns of JSON, which two versions of the service may write in different ways."""


def _to_document(disk: Disk) -> dict[str, Any]:
    document = {**asdict(disk), "wrapped_data_key": disk.wrapped_data_key.hex()}
    document["seal_runs"] = to_documents(disk.seal_runs)
    # A version from before there was such a thing knows none of them.
    for name in ("announced_bytes", "seal_runs", "damaged"):
        if not document[name]:
            del document[name]
    return document


def _to_ready_view(
    row: Sequence[Any],
    viewer: TenantId,
    *,
    viewer_suspended: bool = False,
    owner_suspended: bool = False,
) -> ReadyView:
    owner, public, state, declared_by, purge_time, has_own_share, has_shares, rendering = row
    return ReadyView(
        owner=owner,
        public=bool(public),
        state=ImageState(state),
        declared_by=declared_by,
        purge_time=_optional(from_microseconds, purge_time),
        viewer=viewer,
        has_own_share=bool(has_own_share),
        has_shares=bool(has_shares),
        rendering=rendering,
        viewer_suspended=viewer_suspended,
        owner_suspended=owner_suspended,
    )


def _named(row: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(_VIEW_NAMES, row, strict=True))


def _to_view(row: Mapping[Any, Any], viewer: TenantId) -> View:
    own_share = None
    if row["share_tenant_id"] is not None:
        own_share = to_share({column.name: row[name] for name, column in _OWN_SHARE.items()})
    return View(
        image=_to_image(row),
        viewer=viewer,
        share=own_share,
        has_shares=bool(row["has_shares"]),
        viewer_suspended=bool(row.get("viewer_suspended")),
        owner_suspended=bool(row.get("owner_suspended")),
    )


def _to_image(row: Mapping[Any, Any]) -> Image:
    return Image(
        id=ImageId(row["id"]),
        owner=TenantId(row["owner"]),
        region=Region(row["region"]),
        name=row["name"],
        description=row["description"],
        type=ImageType(row["type"]),
        state=ImageState(row["state"]),
        public=bool(row["public"]),
        protected=bool(row["protected"]),
        for_bms=bool(row["for_bms"]),
        os=_to_os(json.loads(row["os"])),
        architecture=Architecture(row["architecture"]),
        firmware=Firmware(row["firmware"]),
        min_disk_gib=row["min_disk_gib"],
        min_ram_mib=row["min_ram_mib"],
        max_ram_mib=row["max_ram_mib"],
        tags=tuple((key, value) for key, value in json.loads(row["tags"])),
        source=_to_source(json.loads(row["source"])),
        declared_by=_optional(TenantId, row["declared_by"]),
        encryption_key_id=_optional(KeyId, row["encryption_key_id"]),
        disks=_to_disks(row["disks"]),
        version=row["version"],
        create_time=from_microseconds(row["create_time"]),
        update_time=from_microseconds(row["update_time"]),
        delete_time=_optional(from_microseconds, row["delete_time"]),
        purge_time=_optional(from_microseconds, row["purge_time"]),
        state_before_deletion=_optional(ImageState, row["state_before_deletion"]),
        deactivated_by_admin=bool(row["deactivated_by_admin"]),
        non_exportable=bool(row["non_exportable"]),
    )


def _to_disks(documents: str) -> tuple[Disk, ...]:
    return tuple(
        Disk(
            **{
                **values,
                "role": DiskRole(values["role"]),
                "format": DiskFormat(values["format"]),
                "state": DiskState(values["state"]),
                "wrapped_data_key": bytes.fromhex(values["wrapped_data_key"]),
                "seal_runs": to_seal_runs(values.get("seal_runs", [])),
            }
        )
        for values in json.loads(documents)
    )


def _to_os(values: dict[str, Any]) -> OperatingSystem:
    return OperatingSystem(**{**values, "type": OsType(values["type"])})


def _to_source(values: dict[str, Any]) -> Source:
    return Source(
        **{
            **values,
            "kind": SourceKind(values["kind"]),
            "region": _optional(Region, values["region"]),
            "backup_service": _optional(BackupService, values["backup_service"]),
        }
    )


def _optional(convert: Callable[[Any], Converted], value: object) -> Converted | None:
    return None if value is None else convert(value)
