"""Pages of a listing: what it lets through, in which order, and which part of it is wanted."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar

from ims.domain.image import ImageClass, ImageState, ImageType, OsType, Relation
from ims.domain.share import Share, ShareStatus
from ims.domain.tenant import Region, TenantId, TenantState
from ims.domain.view import ReadyView, View

Item = TypeVar("Item")


@dataclass(frozen=True)
class Position:
    """A place in a listing: what the listing is ordered by, and the id that tells equals apart."""

    key: int | str
    """A name, a size in bytes, or a time in microseconds since 1970."""
    id: str


@dataclass(frozen=True, kw_only=True)
class Page(Generic[Item]):
    """A part of a listing."""

    items: tuple[Item, ...]
    places: tuple[Position, ...] = ()
    """Where each item stands."""
    more: bool
    """Whether anything comes after it."""
    total_size: int | None = None
    """How many items all pages hold; only where it was asked for."""


class OrderKey(StrEnum):
    """What a listing of images can be ordered by."""

    CREATE_TIME = "create_time"
    NAME = "name"
    SIZE_BYTES = "size_bytes"


@dataclass(frozen=True)
class ImageOrder:
    """The order of a listing of images; equals come by their ids, in the same direction."""

    key: OrderKey = OrderKey.CREATE_TIME
    descending: bool = True


@dataclass(frozen=True)
class TagFilter:
    """A tag that is looked for."""

    key: str
    value: str | None = None
    """None stands for any."""


@dataclass(frozen=True, kw_only=True)
class ImageFilter:
    """What a listing of images lets through; what is left out lets everything through."""

    relation: Relation | None = None
    image_class: ImageClass | None = None
    type: ImageType | None = None
    state: ImageState | None = None
    name: str = ""
    name_prefix: str = ""
    os_type: OsType | None = None
    owner: TenantId | None = None
    tags: tuple[tuple[str, str], ...] = field(default=())
    """All of these."""
    tags_any: tuple[TagFilter, ...] = ()
    """At least one of these, unless there are none."""
    tags_none: tuple[TagFilter, ...] = ()
    """Not one of these."""
    min_size_bytes: int | None = None
    max_size_bytes: int | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None
    updated_from: datetime | None = None
    updated_before: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class PageRequest:
    """Which part of a listing is wanted."""

    size: int
    after: Position | None = None
    count: bool = False


@dataclass(frozen=True, kw_only=True)
class ShareFilter:
    """What a listing of shares lets through."""

    status: ShareStatus | None = None


@dataclass(frozen=True, kw_only=True)
class TenantFilter:
    """What a listing of the tenant directory lets through."""

    state: TenantState | None = None
    region: Region | None = None


@dataclass(frozen=True)
class Received:
    """A share, and the image that it lends as the recipient sees it."""

    share: Share
    view: ReadyView | View
