"""How a page of a listing is found in the catalogue, however large that is.

What a tenant is shown is its own images, the public ones, and those it has accepted. Each of these is
walked by itself, in the order asked for, through an index that stands in that order, and no further than
the page; the walks are put together in one statement, so that all see the catalogue at one moment.

A filter that lets little through would walk far; what it looks at is then looked up in another index,
for each walk in one of its own. The choice is made here, by counting, for every database alike: SQLite's
planner does not know how frequent things are, and PostgreSQL's guesses. What a filter looks at is hidden
from them unless it is to be looked up.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from ims.domain.image import ImageClass, ImageState, Relation
from ims.domain.page import ImageFilter, ImageOrder, OrderKey, PageRequest, TagFilter
from ims.domain.share import ShareStatus
from ims.domain.tenant import TenantId
from ims.repository.share_conditions import lasts
from ims.repository.statement import Statement
from ims.repository.tables import images, shares, tags
from ims.repository.tenants import is_suspended
from ims.repository.times import to_microseconds

FEW: Final[Mapping[str, int]] = {"own": 3000, "public": 500, "accepted": 500, "deleted": 0}
"""So many images, of each kind of walk, are put in order faster than many more are walked for them.

Fewer of those that others own: what all have accepted is looked up for one who has.
"""
_BEHIND_ALL_NAMES: Final = "\U0010ffff"

_live = images.c.state != sa.literal_column("'DELETED'")
# As the partial indexes say it, or SQLite would not know them again; a Boolean would be compared to 1.
_public: sa.ColumnElement[Any] = sa.literal_column("images.public")
_public_tag: sa.ColumnElement[Any] = sa.literal_column("tags.public")
# The same where no index is to be used for it.
_is_public: sa.ColumnElement[Any] = sa.func.coalesce(images.c.public, sa.false())
_has_shares = (
    sa.select(shares.c.image_id)
    .where(shares.c.image_id == images.c.id, lasts(shares))
    .limit(1)
    .scalar_subquery()
    .is_not(None)
)
_viewer = sa.bindparam("viewer", type_=images.c.owner.type)
_accepted_status = shares.c.status == sa.literal_column(f"'{ShareStatus.ACCEPTED}'")
_has_accepted = (
    sa.select(shares.c.image_id)
    .where(
        shares.c.image_id == images.c.id,
        shares.c.tenant_id == _viewer,
        _accepted_status,
        lasts(shares),
    )
    .limit(1)
    .scalar_subquery()
    .is_not(None)
)

# What a suspended tenant shares is served to nobody (law 8.2); no planner begins with so few owners.
_is_served = sa.not_(is_suspended(images.c.owner))

_OF_IMAGES: Final[Mapping[OrderKey, sa.ColumnElement[Any]]] = {
    OrderKey.CREATE_TIME: images.c.create_time,
    OrderKey.NAME: images.c.name,
    OrderKey.SIZE_BYTES: images.c.size_bytes,
}
_OF_OWN_IMAGES: Final = {**_OF_IMAGES, OrderKey.NAME: images.c.live_name}
_OF_SHARES: Final[Mapping[OrderKey, sa.ColumnElement[Any]]] = {
    OrderKey.CREATE_TIME: shares.c.image_create_time,
    OrderKey.NAME: shares.c.image_name,
    OrderKey.SIZE_BYTES: shares.c.image_size_bytes,
}


@dataclass(frozen=True)
class Shape:
    """What the statement of a listing depends on, and its parameters do not."""

    walks: tuple["Walk", ...]
    filters: tuple[str, ...]
    tags: int
    tags_any: tuple[bool, ...]
    """For each, whether its value is said."""
    tags_none: tuple[bool, ...]
    order: ImageOrder
    goes_on: bool
    size: int

    @property
    def by_time(self) -> bool:
        return self.order.key is OrderKey.CREATE_TIME


@dataclass(frozen=True)
class Walk:
    """One of the sets that a listing is put together from."""

    kind: str
    """`own`, `deleted`, `public` (foreign ones, or all), `accepted`."""
    conditions: tuple[str, ...] = ()


def walks(viewer: TenantId, image_filter: ImageFilter) -> Iterator[Walk]:
    """Yield the sets that hold what a listing shows; no image is in two of them."""
    relation, image_class, owner = image_filter.relation, image_filter.image_class, image_filter.owner
    own, foreign = owner in {None, viewer}, owner != viewer
    if image_filter.state is ImageState.DELETED:
        if own and relation in {None, Relation.OWNED} and image_class in {None, ImageClass.PRIVATE}:
            yield Walk("deleted")
        return
    by_owner = ("owner",) if owner is not None else ()
    if image_class is ImageClass.PUBLIC or relation is Relation.PUBLIC:
        if image_class in {None, ImageClass.PUBLIC}:
            if relation in {None, Relation.PUBLIC}:
                yield Walk("public", by_owner)
            elif relation is Relation.OWNED and own:
                yield Walk("public", ("own",))
        return
    if own and relation in {None, Relation.OWNED}:
        yield Walk("own", _CLASSES[image_class])
    if foreign and relation is None and image_class is None:
        yield Walk("public", ("foreign", *by_owner))
    if foreign and relation in {None, Relation.SHARED_WITH_ME} and image_class is not ImageClass.PRIVATE:
        yield Walk("accepted", by_owner)


_CLASSES: Final[Mapping[ImageClass | None, tuple[str, ...]]] = {
    None: (),
    ImageClass.SHARED: ("shared",),
    ImageClass.PRIVATE: ("private",),
}


def shape_of(
    viewer: TenantId, image_filter: ImageFilter, order: ImageOrder, page: PageRequest
) -> Shape | None:
    """Return what to look for; None when nothing can be found."""
    sets = tuple(walks(viewer, image_filter))
    if not sets:
        return None
    wanted = image_filter
    return Shape(
        walks=sets,
        filters=tuple(name for name in _FILTERS if _is_set(wanted, name)),
        tags=len(wanted.tags),
        tags_any=tuple(tag.value is not None for tag in wanted.tags_any),
        tags_none=tuple(tag.value is not None for tag in wanted.tags_none),
        order=order,
        goes_on=page.after is not None,
        size=page.size,
    )


def parameters(
    viewer: TenantId, image_filter: ImageFilter, page: PageRequest, now: datetime
) -> dict[str, Any]:
    """Return the parameters of the statements of a listing."""
    given: dict[str, Any] = {"viewer": viewer, "now": to_microseconds(now)}
    for name in _FILTERS:
        value = getattr(image_filter, name)
        given[name] = to_microseconds(value) if isinstance(value, datetime) else value and _plain(value)
    given["owner"] = image_filter.owner
    given["behind_prefix"] = image_filter.name_prefix + _BEHIND_ALL_NAMES
    groups: tuple[tuple[str, Iterable[TagFilter]], ...] = (
        ("tags", (TagFilter(key, value) for key, value in image_filter.tags)),
        ("tags_any", image_filter.tags_any),
        ("tags_none", image_filter.tags_none),
    )
    for group, wanted in groups:
        for number, tag in enumerate(wanted):
            given[f"{group}_key_{number}"] = tag.key
            given[f"{group}_value_{number}"] = tag.value
    if page.after is not None:
        given["after_key"], given["after_id"] = page.after.key, page.after.id
    return given


def _plain(value: object) -> object:
    return str(value) if isinstance(value, str) else value


def _is_set(image_filter: ImageFilter, name: str) -> bool:
    value = getattr(image_filter, name)
    return value not in {None, "", ImageState.DELETED}


# --- What is hidden from a planner, and what is shown to it ---

Sight = Callable[[sa.ColumnElement[Any]], sa.ColumnElement[Any]]


def _shown(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return column


def _hidden(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return the same value in a form for which no index is used."""
    if isinstance(column.type, sa.String):
        return column.concat(sa.literal_column("''"))
    return column + sa.literal_column("0")


# --- Filters ---


class _Columns(NamedTuple):
    """Where a walk finds what is looked at."""

    name: sa.ColumnElement[Any] = images.c.name
    size_bytes: sa.ColumnElement[Any] = images.c.size_bytes
    create_time: sa.ColumnElement[Any] = images.c.create_time


_OF_SHARE: Final = _Columns(shares.c.image_name, shares.c.image_size_bytes, shares.c.image_create_time)


def _bound(name: str, column: sa.ColumnElement[Any]) -> sa.BindParameter[Any]:
    return sa.bindparam(name, type_=column.type)


_Condition = Callable[[_Columns, Sight], Iterable[sa.ColumnElement[bool]]]


def _is(column: sa.Column[Any]) -> _Condition:
    return lambda _columns, sight: [sight(column) == _bound(column.name, column)]


def _name_begins(columns: _Columns, sight: Sight) -> Iterator[sa.ColumnElement[bool]]:
    # Not LIKE: SQLite's knows no upper and lower case.
    name = sight(columns.name)
    yield name >= _bound("name_prefix", columns.name)
    yield name < _bound("behind_prefix", columns.name)


_FILTERS: Final[Mapping[str, _Condition]] = {
    "name": lambda columns, sight: [sight(columns.name) == _bound("name", columns.name)],
    "state": _is(images.c.state),
    "type": _is(images.c.type),
    "os_type": _is(images.c.os_type),
    "name_prefix": _name_begins,
    "min_size_bytes": lambda c, s: [s(c.size_bytes) >= _bound("min_size_bytes", c.size_bytes)],
    "max_size_bytes": lambda c, s: [s(c.size_bytes) <= _bound("max_size_bytes", c.size_bytes)],
    "created_from": lambda c, s: [s(c.create_time) >= _bound("created_from", c.create_time)],
    "created_before": lambda c, s: [s(c.create_time) < _bound("created_before", c.create_time)],
    "updated_from": lambda _, s: [
        s(images.c.update_time) >= _bound("updated_from", images.c.update_time)
    ],
    "updated_before": lambda _, s: [
        s(images.c.update_time) < _bound("updated_before", images.c.update_time)
    ],
}
_LOOK_UPS: Final[Mapping[str, tuple[str, ...]]] = {
    "name": ("name",),
    "state": ("state",),
    "type": ("type",),
    "os_type": ("os_type",),
    "name_prefix": ("name_prefix",),
    "size_bytes": ("min_size_bytes", "max_size_bytes"),
    "create_time": ("created_from", "created_before"),
    "update_time": ("updated_from", "updated_before"),
}
"""What an image can be looked up by in an index of columns, and the filters that say it."""
_OF_ALL_IMAGES: Final = ("state", "type", "os_type")
"""What an accepted image is looked up by among all images, and not among the shares with the viewer."""
_IN_ORDER_OF: Final = {
    OrderKey.CREATE_TIME: "create_time",
    OrderKey.NAME: "name_prefix",
    OrderKey.SIZE_BYTES: "size_bytes",
}
_IN_ORDER_OF_TIME: Final = ("state", "type", "os_type")
"""What has an index that is in order of time, for each of its values."""


def _tag(group: str, number: int, *, valued: bool, of: Any = tags) -> sa.ColumnElement[bool]:  # noqa: ANN401
    condition: sa.ColumnElement[bool] = of.c.key == _bound(f"{group}_key_{number}", of.c.key)
    if valued:
        condition &= of.c.value == _bound(f"{group}_value_{number}", of.c.value)
    return condition


def _bears(*wanted: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    # Not EXISTS, which PostgreSQL may turn into a join that begins with the tags.
    found = sa.select(_inner.c.image_id).where(_inner.c.image_id == images.c.id, sa.or_(*wanted))
    return found.limit(1).scalar_subquery().is_not(None)


_inner = tags.alias("inner_tags")


def _any_tag(shape: Shape, of: Any) -> sa.ColumnElement[bool]:  # noqa: ANN401
    return sa.or_(
        *(_tag("tags_any", number, valued=valued, of=of) for number, valued in enumerate(shape.tags_any))
    )


# --- Walks ---


@dataclass(frozen=True)
class _Part:
    """A walk as SQL."""

    source: sa.FromClause
    where: tuple[sa.ColumnElement[bool], ...]
    key: sa.ColumnElement[Any]
    id: sa.ColumnElement[str]
    grouped: bool = False
    """Whether an image can come several times."""


class _Writer:
    """Writes a walk of a shape as SQL.

    A planner is shown only what it shall look up.
    """

    def __init__(self, shape: Shape, look_up: str = "") -> None:
        self._shape = shape
        self._look_up = look_up

    def parts(self, walk: Walk) -> Iterator[_Part]:
        match walk.kind:
            case "accepted" if self._by_id or self._look_up in _OF_ALL_IMAGES:
                yield self._looked_up_accepted(walk)
            case "accepted":
                yield self._accepted(walk)
            case "deleted":
                yield self._deleted()
            case kind:
                yield from self._tagged(walk) or [self._untagged(walk, own=kind == "own")]

    @property
    def _by_id(self) -> bool:
        """Whether images are looked up by the ids that another table has for them."""
        return bool(self._look_up) and self._look_up not in _LOOK_UPS

    # Own images, and public ones

    def _untagged(self, walk: Walk, *, own: bool) -> _Part:
        columns = _Columns(name=images.c.live_name) if own else _Columns()
        shared = own and "shared" in walk.conditions
        if shared and self._shape.by_time and not self._look_up and not self._shape.filters:
            return self._shared(walk)
        base = [images.c.owner == _viewer, _live] if own else [_public, self._is_live()]
        if self._by_id:
            mine = _hidden(images.c.owner) == _viewer if own else _is_public
            base = [mine, self._is_live(), images.c.id.in_(self._looked_up_ids(walk))]
        key = (_OF_OWN_IMAGES if own else _OF_IMAGES)[self._shape.order.key]
        look_up = self._look_up or ("name" if "name" in self._shape.filters else "")
        return _Part(
            source=images,
            where=(
                *base,
                *self._standing(walk),
                *self._let_through(columns, shown=self._shown_filters(look_up)),
                *self._tags(),
            ),
            key=_hidden(key) if look_up else key,
            id=images.c.id,
        )

    def _shown_filters(self, look_up: str) -> tuple[str, ...]:
        if look_up:
            return _LOOK_UPS.get(look_up, ())
        in_order = _LOOK_UPS[_IN_ORDER_OF[self._shape.order.key]]
        if self._shape.by_time:
            walked = [name for name in _IN_ORDER_OF_TIME if name in self._shape.filters]
            return (*in_order, *walked[:1])
        return in_order

    def _tagged(self, walk: Walk) -> list[_Part]:
        """Return the walk through the images that bear a tag, where they are in the order asked for."""
        shape = self._shape
        if not shape.by_time or self._look_up or "name" in shape.filters:
            return []
        if shape.tags:
            return [self._bearing(walk, _tag("tags", 0, valued=True), self._tags(but=1))]
        if not shape.tags_any or not all(shape.tags_any):
            return []
        wanted = [_tag("tags_any", number, valued=True) for number in range(len(shape.tags_any))]
        earlier = [
            _tag("tags_any", number, valued=True, of=_inner) for number in range(len(shape.tags_any))
        ]
        return [
            self._bearing(
                walk,
                each,
                [*([sa.not_(_bears(*earlier[:number]))] if number else ()), *self._no_tags()],
            )
            for number, each in enumerate(wanted)
        ]

    def _bearing(
        self, walk: Walk, tag: sa.ColumnElement[bool], others: Iterable[sa.ColumnElement[bool]]
    ) -> _Part:
        own = walk.kind == "own"
        columns = _Columns(create_time=tags.c.create_time)
        return _Part(
            source=tags.join(images, images.c.id == tags.c.image_id),
            where=(
                tags.c.owner == _viewer if own else _public_tag,
                tag,
                self._is_live(),
                *([] if own else [_public]),
                *self._standing(walk),
                *self._let_through(columns, shown=_LOOK_UPS["create_time"]),
                *others,
            ),
            key=tags.c.create_time,
            id=tags.c.image_id,
        )

    def _shared(self, walk: Walk) -> _Part:
        standing = [sa.not_(_public), *self._standing(Walk(walk.kind))]
        return _Part(
            source=shares.join(images, images.c.id == shares.c.image_id),
            where=(
                shares.c.image_owner == _viewer,
                shares.c.image_create_time.is_not(None),
                lasts(shares),
                self._is_live(),
                *standing,
                *self._tags(),
            ),
            key=shares.c.image_create_time,
            id=shares.c.image_id,
            grouped=True,
        )

    def _standing(self, walk: Walk) -> Iterator[sa.ColumnElement[bool]]:
        """Yield what is asked of how the viewer and others stand to an image."""
        owner = images.c.owner
        for condition in walk.conditions:
            match condition:
                case "foreign":
                    yield _hidden(owner) != _viewer
                case "own":
                    yield owner == _viewer
                case "owner":
                    shown = self._shape.by_time and walk.kind == "public" and not self._look_up
                    column = owner if shown else _hidden(owner)
                    yield column == _bound("owner", owner)
                case "private":
                    yield sa.not_(_public)
                    yield sa.not_(_has_shares)
                case "shared":
                    yield sa.not_(_public)
                    yield _has_shares

    # The others

    def _accepted(self, walk: Walk) -> _Part:
        key = _OF_SHARES[self._shape.order.key]
        look_up = self._look_up or ("name" if "name" in self._shape.filters else "")
        shown = _LOOK_UPS[look_up or _IN_ORDER_OF[self._shape.order.key]]
        return _Part(
            source=shares.join(images, images.c.id == shares.c.image_id),
            where=(
                shares.c.tenant_id == _viewer,
                _accepted_status,
                key.is_not(None),
                lasts(shares),
                self._is_live(),
                sa.not_(_public),
                _is_served,
                *self._standing(Walk(walk.kind, ("foreign", *walk.conditions))),
                *self._let_through(_OF_SHARE, shown=shown),
                *self._tags(),
            ),
            key=_hidden(key) if look_up else key,
            id=shares.c.image_id,
        )

    def _looked_up_accepted(self, walk: Walk) -> _Part:
        """Return the accepted ones among the images that are looked up, whoever has to do with them."""
        found = [images.c.id.in_(self._looked_up_ids(walk))] if self._by_id else []
        return _Part(
            source=images,
            where=(
                *found,
                _has_accepted,
                self._is_live(),
                sa.not_(_is_public),
                _is_served,
                *self._standing(Walk(walk.kind, ("foreign", *walk.conditions))),
                *self._let_through(_Columns(), shown=_LOOK_UPS.get(self._look_up, ())),
                *self._tags(),
            ),
            key=_hidden(_OF_IMAGES[self._shape.order.key]),
            id=images.c.id,
        )

    def _deleted(self) -> _Part:
        """Return the walk through own deleted images, until they are to be purged."""
        key = _OF_IMAGES[self._shape.order.key]
        shown = _LOOK_UPS["create_time"] if self._shape.by_time else ()
        return _Part(
            source=images,
            where=(
                images.c.owner == _viewer,
                images.c.state == sa.literal_column(f"'{ImageState.DELETED}'"),
                _hidden(images.c.purge_time) > _bound("now", images.c.purge_time),
                sa.not_(_public),
                *self._let_through(_Columns(), shown=shown),
                *self._tags(),
            ),
            key=key if self._shape.by_time else _hidden(key),
            id=images.c.id,
        )

    def _is_live(self) -> sa.ColumnElement[bool]:
        return _hidden(images.c.state) != sa.literal_column("'DELETED'")

    # Filters

    def _let_through(
        self, columns: _Columns, *, shown: tuple[str, ...]
    ) -> Iterator[sa.ColumnElement[bool]]:
        for name in self._shape.filters:
            yield from _FILTERS[name](columns, _shown if name in shown else _hidden)
        if "updated_before" in self._shape.filters and "created_before" in shown:
            # What is walked in order of creation begins there: nothing changes before it is made.
            yield columns.create_time < _bound("updated_before", columns.create_time)

    def _tags(self, but: int = 0) -> list[sa.ColumnElement[bool]]:
        """Return what is asked of the tags, but for the first of those that must all be there."""
        shape = self._shape
        wanted = [
            _bears(_tag("tags", number, valued=True, of=_inner)) for number in range(but, shape.tags)
        ]
        if shape.tags_any:
            wanted.append(_bears(_any_tag(shape, _inner)))
        return [*wanted, *self._no_tags()]

    def _no_tags(self) -> list[sa.ColumnElement[bool]]:
        return [
            sa.not_(_bears(_tag("tags_none", number, valued=valued, of=_inner)))
            for number, valued in enumerate(self._shape.tags_none)
        ]

    def _looked_up_ids(self, walk: Walk) -> sa.Select[Any]:
        return _ids_of(self._shape, walk, self._look_up)


_TAGS_OF: Final[Mapping[str, tuple[sa.ColumnElement[bool], ...]]] = {
    "own": (tags.c.owner == _viewer,),
    "public": (_public_tag,),
    "accepted": (),
}


def _ids_of(shape: Shape, walk: Walk, look_up: str) -> sa.Select[Any]:
    if look_up == "shared":
        return sa.select(shares.c.image_id).where(shares.c.image_owner == _viewer)
    if look_up == "tags_any":
        wanted = [
            _tag("tags_any", number, valued=valued) for number, valued in enumerate(shape.tags_any)
        ]
    else:
        wanted = [_tag("tags", int(look_up.removeprefix("tags ")), valued=True)]
    # One after the other: for an OR the tags of all images would be looked through.
    queries = [sa.select(tags.c.image_id).where(*_TAGS_OF[walk.kind], tag) for tag in wanted]
    return sa.select(sa.union_all(*queries).subquery().c.image_id) if len(queries) > 1 else queries[0]


# --- Statements ---


@lru_cache(maxsize=1024)
def found(
    shape: Shape, columns: tuple[sa.ColumnElement[Any], ...], chosen: tuple[str, ...]
) -> Statement:
    """Return the statement that finds a page; its rows begin with the place, then the columns.

    `chosen` says for each walk what its images are looked up by, or nothing.
    """
    direction = sa.desc if shape.order.descending else sa.asc
    limit = _number(shape.size + 1)
    parts = [
        _walked(part, shape, direction, limit)
        for walk, look_up in zip(shape.walks, chosen, strict=True)
        for part in _Writer(shape, look_up).parts(walk)
    ]
    if len(parts) > 1:
        together = sa.union_all(*(sa.select(part.c.key, part.c.id) for part in parts)).subquery()
        page = (
            sa.select(together.c.key, together.c.id)
            .order_by(direction(together.c.key), direction(together.c.id))
            .limit(limit)
            .subquery("page")
        )
    else:
        (page,) = parts
    query = (
        sa.select(page.c.key, page.c.id, *columns)
        .select_from(page.join(images, images.c.id == page.c.id))
        .order_by(direction(page.c.key), direction(page.c.id))
    )
    return Statement(query)


def _walked(part: _Part, shape: Shape, direction: Any, limit: Any) -> sa.Subquery:  # noqa: ANN401
    query = sa.select(part.key.label("key"), part.id.label("id")).select_from(part.source)
    query = query.where(*part.where)
    if shape.goes_on:
        place = sa.tuple_(part.key, part.id)
        after = sa.tuple_(_bound("after_key", part.key), _bound("after_id", part.id))
        query = query.where(place < after if shape.order.descending else place > after)
    if part.grouped:
        query = query.group_by(part.key, part.id)
    return query.order_by(direction(part.key), direction(part.id)).limit(limit).subquery()


def _number(number: int) -> sa.ColumnElement[int]:
    """Return a number that is a part of the statement, so that it is planned for."""
    return sa.literal_column(str(number), sa.Integer)


@lru_cache(maxsize=256)
def counted(shape: Shape) -> Statement:
    """Return the statement that counts all that a listing shows."""
    queries = []
    for part in (part for walk in shape.walks for part in _Writer(shape).parts(walk)):
        query = sa.select(part.id.label("id")).select_from(part.source).where(*part.where)
        queries.append(query.distinct() if part.grouped else query)
    everything = sa.union_all(*queries).subquery() if len(queries) > 1 else queries[0].subquery()
    return Statement(sa.select(sa.func.count()).select_from(everything))


@lru_cache(maxsize=256)
def look_ups(shape: Shape, walk: Walk) -> tuple[str, ...]:
    """Return what the images of a walk could be looked up by, instead of being walked in order."""
    if walk.kind == "deleted" or "name" in shape.filters:
        return ()
    possible = [name for name, filters in _LOOK_UPS.items() if set(filters) & set(shape.filters)]
    possible += [f"tags {number}" for number in range(shape.tags)]
    possible += ["tags_any"] if shape.tags_any else []
    possible += ["shared"] if "shared" in walk.conditions else []
    if walk.kind == "accepted" and "update_time" in possible:
        possible.remove("update_time")  # the shares do not say it again
    if possible == [_IN_ORDER_OF[shape.order.key]]:
        return ()
    if shape.by_time and len(possible) == 1 and possible[0] in _in_order_of_time(shape, walk):
        return ()
    return tuple(possible)


def _in_order_of_time(shape: Shape, walk: Walk) -> set[str]:
    """Return what of a walk has an index that is in order of time."""
    if walk.kind == "accepted":
        return set()
    any_tag = {"tags_any"} if all(shape.tags_any) else set()
    return {*_IN_ORDER_OF_TIME, "tags 0", "shared", *any_tag}


@lru_cache(maxsize=1024)
def matches(shape: Shape, walk: Walk, look_up: str) -> Statement:
    """Return the statement that counts how many images a look-up finds, as far as FEW and one."""
    query: sa.Select[Any]
    if look_up in _LOOK_UPS:
        columns, base = _looked_through(walk, look_up)
        filters = [name for name in _LOOK_UPS[look_up] if name in shape.filters]
        conditions = (each for name in filters for each in _FILTERS[name](columns, _shown))
        query = sa.select(sa.literal_column("1")).where(*base, *conditions)
    else:
        query = _ids_of(shape, walk, look_up)
    limit = _number(FEW[walk.kind] + 1)
    return Statement(sa.select(sa.func.count()).select_from(query.limit(limit).subquery()))


def _looked_through(walk: Walk, look_up: str) -> tuple[_Columns, tuple[sa.ColumnElement[bool], ...]]:
    """Return where a look-up finds what it looks at, and among what."""
    match walk.kind:
        case "own":
            return _Columns(name=images.c.live_name), (images.c.owner == _viewer, _live)
        case "public":
            return _Columns(), (_public,)
        case _ if look_up in _OF_ALL_IMAGES:
            return _Columns(), ()
        case _:
            return _OF_SHARE, (shares.c.tenant_id == _viewer, _accepted_status)
