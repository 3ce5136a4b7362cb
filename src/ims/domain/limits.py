"""The numbers of the law that an operator may change."""

from dataclasses import dataclass, field

from ims.domain.image import GIB, Image, ImageType
from ims.domain.quotas import Quotas


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a deployment, with the law's defaults."""

    shares_per_image: int = 128
    shares_per_full_ecs_image: int = 128
    image_file_bytes: int = 128 * GIB
    uses_per_image_and_tenant: int = 10_000
    pending_shares_per_tenant: int | None = None
    """Of a recipient that does not say itself how many it tolerates; None: any number."""
    quotas: Quotas = field(default_factory=Quotas)
    """Of a tenant that has no limits of its own."""

    def shares_of(self, image: Image) -> int:
        """Return with how many tenants an image can be shared (law 3.5)."""
        if image.type is ImageType.FULL_ECS:
            return min(self.shares_per_full_ecs_image, self.shares_per_image)
        return self.shares_per_image
