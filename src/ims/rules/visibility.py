"""May you know of it: the one place that decides who sees an image."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ims.domain.caller import Caller, Role
from ims.domain.image import ImageState, Relation
from ims.domain.rejection import Category, Reason
from ims.domain.tenant import TenantId
from ims.rules.engine import Breach, Rule, breach, rule


class Declared(Protocol):
    """An image for whose source a service may vouch."""

    @property
    def state(self) -> ImageState: ...
    @property
    def declared_by(self) -> TenantId | None: ...


class Outlook(Declared, Protocol):
    """An image as a tenant would see it, whole or as bytes."""

    @property
    def relation(self) -> Relation | None: ...
    @property
    def purge_time(self) -> datetime | None: ...
    @property
    def owner_suspended(self) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class Sight:
    """Somebody looks for an image by its id."""

    caller: Caller
    view: Outlook | None
    """What the caller's tenant has to do with the image; None when there is no such id."""
    now: datetime
    governing: bool = False
    """Whether the call came through the service for administrators."""


@rule("2.1", Reason.IMAGE_NOT_FOUND, Category.MISSING)
def the_image_is_visible_to_the_caller(sight: Sight) -> Iterator[Breach]:
    """What the caller may not see is answered exactly like an id that never existed."""
    if sight.view is None or not _is_visible(sight, sight.view):
        # No id, no number, no hint: the answer for a hidden image and for none is one constant.
        yield breach("There is no such image.")


def _is_visible(sight: Sight, view: Outlook) -> bool:
    if view.purge_time is not None and view.purge_time <= sight.now:
        return False
    governs = sight.governing and sight.caller.has(Role.ADMIN)
    if view.owner_suspended and view.relation is not Relation.PUBLIC:
        # Public images belong to everyone and stay; nothing else of its owner is served (law 8.2).
        return governs
    if view.state is ImageState.DELETED:
        return view.relation is Relation.OWNED or governs
    return view.relation is not None or declared_it(sight.caller, view) or governs


def declared_it(caller: Caller, image: Declared) -> bool:
    """Whether the caller is the service that vouches for the image's source and is still to fill it."""
    unfinished = image.state in {ImageState.QUEUED, ImageState.SAVING}
    vouches = caller.has(Role.SERVICE) or caller.has(Role.PEER)
    return unfinished and vouches and image.declared_by == caller.tenant_id


SEE_IMAGE: tuple[Rule[Sight], ...] = (the_image_is_visible_to_the_caller,)
