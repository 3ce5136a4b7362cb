"""An image as one tenant sees it."""

from dataclasses import dataclass
from datetime import datetime

from ims.domain.image import Image, ImageClass, ImageState, Relation
from ims.domain.share import Share
from ims.domain.tenant import TenantId


@dataclass(frozen=True, kw_only=True)
class View:
    """An image together with what a viewer's tenant has to do with it."""

    image: Image
    viewer: TenantId
    share: Share | None = None
    """The viewer's own share of the image, in whatever status."""
    has_shares: bool = False
    """Whether the image is shared with anybody; not how many, nor with whom."""
    viewer_suspended: bool = False
    owner_suspended: bool = False

    @property
    def relation(self) -> Relation | None:
        """How the viewer stands to the image; None for a stranger."""
        image = self.image
        return _relation(image.owner, self.viewer, public=image.public, shared=self.share is not None)

    @property
    def image_class(self) -> ImageClass:
        """Who sees the image (law 1)."""
        return _image_class(public=self.image.public, has_shares=self.has_shares)

    @property
    def state(self) -> ImageState:
        return self.image.state

    @property
    def purge_time(self) -> datetime | None:
        return self.image.purge_time

    @property
    def declared_by(self) -> TenantId | None:
        return self.image.declared_by


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadyView:
    """An image as a tenant sees it, as bytes that are ready to be sent.

    What its visibility hangs on stands beside them.
    """

    owner: TenantId
    public: bool
    state: ImageState
    declared_by: TenantId | None
    purge_time: datetime | None
    viewer: TenantId
    has_own_share: bool
    has_shares: bool
    rendering: bytes
    """The image as every viewer gets it, without class and relation."""
    viewer_suspended: bool = False
    owner_suspended: bool = False

    @property
    def relation(self) -> Relation | None:
        """How the viewer stands to the image; None for a stranger."""
        return _relation(self.owner, self.viewer, public=self.public, shared=self.has_own_share)

    @property
    def image_class(self) -> ImageClass:
        """Who sees the image (law 1)."""
        return _image_class(public=self.public, has_shares=self.has_shares)


def _relation(owner: TenantId, viewer: TenantId, *, public: bool, shared: bool) -> Relation | None:
    if owner == viewer:
        return Relation.OWNED
    if public:
        return Relation.PUBLIC
    return Relation.SHARED_WITH_ME if shared else None


def _image_class(*, public: bool, has_shares: bool) -> ImageClass:
    if public:
        return ImageClass.PUBLIC
    return ImageClass.SHARED if has_shares else ImageClass.PRIVATE
