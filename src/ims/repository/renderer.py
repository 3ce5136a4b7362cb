"""Bytes that are kept ready beside a record, so that reading one need not make them."""

from collections.abc import Callable
from dataclasses import dataclass

from ims.domain.image import Image


@dataclass(frozen=True)
class Renderer:
    """Makes an image into the bytes in which every viewer gets it."""

    format: int
    """Raised whenever the same image would be other bytes: those of another format are not used."""
    render: Callable[[Image], bytes]
