"""What a tenant may take of the service, and what it has taken (law 5.2)."""

from dataclasses import dataclass

from ims.domain.image import GIB, DiskState, Image, ImageState, SourceKind


@dataclass(frozen=True, kw_only=True)
class Usage:
    """How much there is of what is limited; as a change, how much more or (negative) less."""

    private_images: int = 0
    stored_bytes: int = 0
    creations: int = 0
    copies: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            private_images=self.private_images + other.private_images,
            stored_bytes=self.stored_bytes + other.stored_bytes,
            creations=self.creations + other.creations,
            copies=self.copies + other.copies,
        )

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(
            private_images=self.private_images - other.private_images,
            stored_bytes=self.stored_bytes - other.stored_bytes,
            creations=self.creations - other.creations,
            copies=self.copies - other.copies,
        )


NOTHING = Usage()


def usage_of(image: Image) -> Usage:
    """Return what an image takes of its owner's quotas; nothing else says what counts, and when.

    Private images count while they are live. Bytes count from the moment an upload announces them until
    the image is purged: a deleted image's are still there. A creation, or a copy, goes on while the
    image is SAVING. A copy's bytes count like any other's, whether they are stored once more or not.
    """
    live = image.state is not ImageState.DELETED
    saving = image.state is ImageState.SAVING
    copied = image.source.kind is SourceKind.IMAGE
    return Usage(
        private_images=int(live and not image.public),
        stored_bytes=sum(
            disk.announced_bytes if disk.state is DiskState.SAVING else disk.size_bytes
            for disk in image.disks
        ),
        creations=int(saving and not copied),
        copies=int(saving and copied),
    )


@dataclass(frozen=True, kw_only=True)
class Quotas:
    """The most of each thing that a tenant can have, with the law's defaults."""

    private_images: int = 50
    stored_bytes: int = 50 * 128 * GIB
    """By default as much as so many images of one disk of the largest size take."""
    creations: int = 40
    copies: int = 5


@dataclass(frozen=True, kw_only=True)
class OwnLimits:
    """Where a tenant's quotas are not the deployment's; None where they are."""

    private_images: int | None = None
    stored_bytes: int | None = None
    creations: int | None = None
    copies: int | None = None

    def over(self, defaults: Quotas) -> Quotas:
        """Return the quotas of the tenant, in a deployment with such defaults."""
        return Quotas(
            private_images=_first(self.private_images, defaults.private_images),
            stored_bytes=_first(self.stored_bytes, defaults.stored_bytes),
            creations=_first(self.creations, defaults.creations),
            copies=_first(self.copies, defaults.copies),
        )


def _first(own: int | None, default: int) -> int:
    return default if own is None else own


@dataclass(frozen=True, kw_only=True)
class Account:
    """What is on record of a tenant."""

    used: Usage = NOTHING
    own_limits: OwnLimits = OwnLimits()
    suspended: bool = False
    """Whether the tenant may do nothing at all (law 8.2)."""

    def under(self, defaults: Quotas) -> "Allowance":
        """Return what the tenant may take, in a deployment with such defaults."""
        return Allowance(
            used=self.used, limits=self.own_limits.over(defaults), own_limits=self.own_limits
        )


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """What a tenant has taken, and the most that it may have."""

    used: Usage
    limits: Quotas
    own_limits: OwnLimits = OwnLimits()
