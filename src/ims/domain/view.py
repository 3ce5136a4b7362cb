"""An image as one tenant sees it."""

from dataclasses import dataclass

from ims.domain.image import Image, ImageClass, Relation
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

    @property
    def relation(self) -> Relation | None:
        """How the viewer stands to the image; None for a stranger."""
        if self.image.owner == self.viewer:
            return Relation.OWNED
        if self.image.public:
            return Relation.PUBLIC
        if self.share is not None:
            return Relation.SHARED_WITH_ME
        return None

    @property
    def image_class(self) -> ImageClass:
        """Who sees the image (law 1)."""
        if self.image.public:
            return ImageClass.PUBLIC
        return ImageClass.SHARED if self.has_shares else ImageClass.PRIVATE
