"""Images with their disks and tags: records in, records out."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from datetime import datetime
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
    ImageClass,
    ImageId,
    ImageState,
    ImageType,
    KeyId,
    OperatingSystem,
    OsType,
    Relation,
    Source,
    SourceKind,
)
from ims.domain.page import ImageFilter, Page, PageRequest, ShareFilter
from ims.domain.rejection import Category, Reason, reject
from ims.domain.share import ShareStatus
from ims.domain.tenant import Region, TenantId
from ims.domain.view import ReadyView, View
from ims.repository.renderer import Renderer
from ims.repository.shares import to_share
from ims.repository.statement import Statement
from ims.repository.tables import images, shares, tags
from ims.repository.times import from_microseconds, to_microseconds

Converted = TypeVar("Converted")

_own_share = shares.alias("own_share")
_OWN_SHARE = {f"share_{column.name}": column for column in _own_share.c}
# The shares of a deleted image have ended, though they are kept for its undeletion.
_has_shares = sa.exists().where(shares.c.image_id == images.c.id, images.c.state != ImageState.DELETED)

# One statement reads an image with all that a viewer has to do with it, as it was at one moment.
_VIEWS = sa.select(
    images, _has_shares.label("has_shares"), *(column.label(name) for name, column in _OWN_SHARE.items())
).select_from(
    images.outerjoin(
        _own_share,
        sa.and_(_own_share.c.image_id == images.c.id, _own_share.c.tenant_id == sa.bindparam("viewer")),
    )
)
_ONE = _VIEWS.where(images.c.id == sa.bindparam("id"))
_usable = sa.and_(
    images.c.rendering_version == images.c.version,
    images.c.rendering_format == sa.bindparam("format", type_=sa.Integer),
)
# For who only wants to see an image: what its visibility hangs on, and its bytes where they are ready.
_READY = Statement(
    sa.select(
        images.c.owner,
        images.c.public,
        images.c.state,
        images.c.declared_by,
        images.c.purge_time,
        sa.exists().where(
            shares.c.image_id == images.c.id, shares.c.tenant_id == sa.bindparam("viewer")
        ),
        _has_shares,
        sa.case((_usable, images.c.rendering)),
    ).where(images.c.id == sa.bindparam("id"))
)
# Who may not see an image has no business with its lock either.
_LOCK = (
    sa.select(images.c.id)
    .where(
        images.c.id == sa.bindparam("id"),
        sa.or_(
            sa.bindparam("governing", type_=sa.Boolean),
            images.c.owner == sa.bindparam("viewer"),
            images.c.declared_by == sa.bindparam("viewer"),
            images.c.public,
            sa.exists().where(
                shares.c.image_id == images.c.id, shares.c.tenant_id == sa.bindparam("viewer")
            ),
        ),
    )
    .with_for_update(of=images)
)


class ImageRepository:
    """The images of the catalogue."""

    def __init__(self, connection: sa.Connection, renderer: Renderer | None) -> None:
        self._connection = connection
        self._renderer = renderer

    def view(self, image_id: ImageId, viewer: TenantId) -> View | None:
        """Return an image, deleted or not, as a tenant sees it; None when there is no such id."""
        row = self._connection.execute(_ONE, {"id": image_id, "viewer": viewer}).mappings().first()
        return None if row is None else _to_view(row, viewer)

    def ready_view(self, image_id: ImageId, viewer: TenantId) -> ReadyView | View | None:
        """Return an image like `view`, as bytes where they are ready."""
        if self._renderer is not None:
            parameters = {"id": image_id, "viewer": viewer, "format": self._renderer.format}
            rows = _READY.rows(self._connection, parameters)
            if not rows:
                return None
            if rows[0][-1] is not None:
                return _to_ready_view(rows[0], viewer)
        return self.view(image_id, viewer)

    def lock(self, image_id: ImageId, viewer: TenantId, *, governing: bool = False) -> View | None:
        """Return an image like `view`, and keep everybody else from it until the transaction ends.

        Whoever changes an image or its shares takes this lock before reading what is judged. None as
        well when the viewer has nothing to do with the image, unless it governs all.
        """
        # A statement of its own: had the lock to be waited for, the shares that the same statement
        # would read could be older than the image.
        parameters = {"id": image_id, "viewer": viewer, "governing": governing}
        if self._connection.execute(_LOCK, parameters).first() is None:
            return None
        return self.view(image_id, viewer)

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

    def save(self, image: Image, *, now: datetime) -> Image:
        """Store a changed image; return it with its new version and time of update."""
        saved = replace(image, version=image.version + 1, update_time=now)
        with _taken_meanwhile(saved):
            self._connection.execute(
                images.update().where(images.c.id == saved.id).values(self._to_row(saved))
            )
        self._connection.execute(tags.delete().where(tags.c.image_id == saved.id))
        self._add_tags(saved)
        return saved

    def _to_row(self, image: Image) -> dict[str, Any]:
        row = _to_row(image)
        if self._renderer is not None:
            row["rendering"] = self._renderer.render(image)
            row["rendering_version"] = image.version
            row["rendering_format"] = self._renderer.format
        return row

    def _add_tags(self, image: Image) -> None:
        if image.tags:
            self._connection.execute(
                tags.insert(),
                [{"image_id": image.id, "key": key, "value": value} for key, value in image.tags],
            )

    def purge(self, image_id: ImageId) -> None:
        """Remove an image for ever, with its disks, tags and shares."""
        self._connection.execute(images.delete().where(images.c.id == image_id))

    def due_for_purge(self, now: datetime) -> tuple[ImageId, ...]:
        """Return the deleted images whose grace period has ended."""
        query = sa.select(images.c.id).where(
            images.c.state == ImageState.DELETED, images.c.purge_time <= to_microseconds(now)
        )
        return tuple(ImageId(value) for value in self._connection.execute(query).scalars())

    def may_be_read(self, image_id: ImageId, tenant_id: TenantId) -> bool:
        """Whether a tenant may still read the bytes of an image that it once might."""
        return (
            self._connection.execute(_MAY_BE_READ, {"id": image_id, "tenant_id": tenant_id}).scalar()
            is not None
        )

    def list(
        self, viewer: TenantId, image_filter: ImageFilter, page: PageRequest, *, now: datetime
    ) -> Page[View]:
        """Return a part of the images that a tenant owns, has accepted, or that are public.

        The newest come first. Pending and rejected shares are left out (law 4.1); deleted images are
        listed to their owner alone, until they are to be purged, and only when the filter asks for that
        state.
        """
        query = _VIEWS.where(*_listed_to(viewer, image_filter, now), *_let_through(image_filter))
        return self._page(query, (images.c.create_time, images.c.id), viewer, page)

    def received(self, viewer: TenantId, share_filter: ShareFilter, page: PageRequest) -> Page[View]:
        """Return a part of what a tenant has received by sharing, the newest share first.

        A deleted image's shares have ended; they are left out until it is undeleted.
        """
        query = _VIEWS.where(_own_share.c.tenant_id == viewer, images.c.state != ImageState.DELETED)
        if share_filter.status is not None:
            query = query.where(_own_share.c.status == share_filter.status)
        return self._page(query, (_own_share.c.create_time, _own_share.c.image_id), viewer, page)

    def _page(
        self,
        query: sa.Select[Any],
        order: tuple[sa.ColumnElement[int], sa.ColumnElement[str]],
        viewer: TenantId,
        page: PageRequest,
    ) -> Page[View]:
        time, tie = order
        part = query
        if page.after is not None:
            # Spelt out, not as a row comparison: every database can use an index for this form.
            after_time, after_id = to_microseconds(page.after.time), page.after.id
            part = query.where(time <= after_time, sa.or_(time < after_time, tie < after_id))
        part = part.order_by(time.desc(), tie.desc()).limit(page.size + 1)
        rows = self._connection.execute(part, {"viewer": viewer}).mappings().all()
        total = None
        if page.count:
            counting = sa.select(sa.func.count()).select_from(query.subquery())
            total = self._connection.execute(counting, {"viewer": viewer}).scalar_one()
        return Page(
            items=tuple(_to_view(row, viewer) for row in rows[: page.size]),
            more=len(rows) > page.size,
            total_size=total,
        )


_MAY_BE_READ = sa.select(sa.literal(1)).where(
    images.c.id == sa.bindparam("id"),
    images.c.state == ImageState.ACTIVE,
    sa.or_(
        images.c.owner == sa.bindparam("tenant_id"),
        images.c.public,
        sa.exists().where(
            shares.c.image_id == images.c.id,
            shares.c.tenant_id == sa.bindparam("tenant_id"),
            shares.c.status == ShareStatus.ACCEPTED,
        ),
    ),
)


def _listed_to(
    viewer: TenantId, image_filter: ImageFilter, now: datetime
) -> Iterable[sa.ColumnElement[bool]]:
    accepted = _own_share.c.status == ShareStatus.ACCEPTED
    owned, public = images.c.owner == viewer, images.c.public
    match image_filter.relation:
        case Relation.OWNED:
            yield owned
        case Relation.PUBLIC:
            yield public
        case Relation.SHARED_WITH_ME:
            yield accepted
        case None:
            yield sa.or_(owned, public, accepted)
    if image_filter.state is ImageState.DELETED:
        yield owned
        yield images.c.purge_time > to_microseconds(now)
    else:
        yield images.c.state != ImageState.DELETED


def _let_through(image_filter: ImageFilter) -> Iterable[sa.ColumnElement[bool]]:
    if image_filter.image_class is not None:
        yield {
            ImageClass.PUBLIC: images.c.public,
            ImageClass.SHARED: sa.and_(sa.not_(images.c.public), _has_shares),
            ImageClass.PRIVATE: sa.and_(sa.not_(images.c.public), sa.not_(_has_shares)),
        }[image_filter.image_class]
    for column, wanted in (
        (images.c.type, image_filter.type),
        (images.c.state, image_filter.state),
        (images.c.name, image_filter.name),
        (images.c.os_type, image_filter.os_type),
        (images.c.owner, image_filter.owner),
    ):
        if wanted:
            yield column == wanted
    if image_filter.name_prefix:
        # Not LIKE: SQLite's knows no upper and lower case.
        prefix = image_filter.name_prefix
        yield sa.func.substr(images.c.name, 1, len(prefix)) == prefix
    for key, value in image_filter.tags:
        yield sa.exists().where(tags.c.image_id == images.c.id, tags.c.key == key, tags.c.value == value)


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
        "version": image.version,
        "create_time": to_microseconds(image.create_time),
        "update_time": to_microseconds(image.update_time),
        "delete_time": _optional(to_microseconds, image.delete_time),
        "purge_time": _optional(to_microseconds, image.purge_time),
        "state_before_deletion": image.state_before_deletion,
    }


def _to_document(disk: Disk) -> dict[str, Any]:
    return {**asdict(disk), "wrapped_data_key": disk.wrapped_data_key.hex()}


def _to_ready_view(row: tuple[Any, ...], viewer: TenantId) -> ReadyView:
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
    )


def _to_view(row: sa.RowMapping, viewer: TenantId) -> View:
    own_share = None
    if row["share_tenant_id"] is not None:
        own_share = to_share({column.name: row[name] for name, column in _OWN_SHARE.items()})
    return View(image=_to_image(row), viewer=viewer, share=own_share, has_shares=bool(row["has_shares"]))


def _to_image(row: sa.RowMapping) -> Image:
    return Image(
        id=ImageId(row["id"]),
        owner=TenantId(row["owner"]),
        region=Region(row["region"]),
        name=row["name"],
        description=row["description"],
        type=ImageType(row["type"]),
        state=ImageState(row["state"]),
        public=row["public"],
        protected=row["protected"],
        for_bms=row["for_bms"],
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
