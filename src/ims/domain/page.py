"""Pages of a listing, and what a listing of images or shares lets through."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from ims.domain.image import ImageClass, ImageState, ImageType, OsType, Relation
from ims.domain.share import ShareStatus
from ims.domain.tenant import TenantId

Item = TypeVar("Item")


@dataclass(frozen=True, order=True)
class Position:
    """A place in a listing that is ordered by time and then id, the newest first."""

    time: datetime
    id: str


@dataclass(frozen=True, kw_only=True)
class Page(Generic[Item]):
    """A part of a listing."""

    items: tuple[Item, ...]
    more: bool
    """Whether anything comes after it."""
    total_size: int | None = None
    """How many items all pages hold; only where it was asked for."""


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
