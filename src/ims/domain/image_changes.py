"""What an update wants to change of an image."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ims.domain.image import Image


@dataclass(frozen=True, kw_only=True)
class ImageChanges:
    """New values for some fields of an image."""

    fields: frozenset[str]
    """The fields that the request names, also those that can never be written; of `os.type`, `os`."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Attributes of Image with their new values; only updatable ones."""
    os_values: Mapping[str, Any] = field(default_factory=dict)
    """Attributes of OperatingSystem with their new values."""

    def applied_to(self, image: Image) -> Image:
        """Return the image as it would be."""
        return replace(image, **self.values, os=replace(image.os, **self.os_values))
