"""Finds the image that a person means by an id or a name."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import typer

from ims.cli import printing
from ims.client import Client, Declined, ErrorReason, Image, Relation

Listed = TypeVar("Listed")


def image_id(client: Client, wanted: str) -> str:
    """Return the id of an image that the caller sees, be it only a share to be decided on.

    What nothing is called is returned as it is: then the service says that there is no such image,
    or finds for this very call what it did not show to the lookup.
    """
    if _is_id(client, wanted):
        return wanted
    listed = _of_whom_may_list(lambda: client.list_images(name=wanted))
    return _only_one(wanted, listed) if listed else received_image_id(client, wanted)


def own_image_id(client: Client, wanted: str) -> str:
    """Return the id of an image for its owner to change; what others call so as well is not meant."""
    if _is_id(client, wanted):
        return wanted
    owned = _of_whom_may_list(lambda: client.list_images(name=wanted, relation=Relation.OWNED))
    return _only_one(wanted, owned) if owned else image_id(client, wanted)


def deleted_image_id(client: Client, wanted: str) -> str:
    """Return the id of a deleted image of the caller's; an unknown name as it is."""
    return _only_one(wanted, client.list_images(name=wanted, state=Image.DELETED))


def received_image_id(client: Client, wanted: str) -> str:
    """Return the id of an image that is shared with the caller; an unknown name as it is."""
    received = [each.image for each in _of_whom_may_list(client.list_received_shares)]
    if any(image.id == wanted for image in received):
        return wanted
    return _only_one(wanted, (image for image in received if image.name == wanted))


def _is_id(client: Client, wanted: str) -> bool:
    try:
        client.get_image(wanted)
    except Declined as declined:
        if not declined.is_for(ErrorReason.IMAGE_NOT_FOUND):
            raise
        return False
    return True


def _of_whom_may_list(ask: Callable[[], Iterable[Listed]]) -> list[Listed]:
    """Return what is listed; nothing to a service, which names what it wants by its id."""
    try:
        return list(ask())
    except Declined as declined:
        if not declined.is_for(ErrorReason.ROLE_REQUIRED):
            raise
        return []


def _only_one(wanted: str, images: Iterable[Image]) -> str:
    found = list(images)
    if len(found) > 1:
        candidates = ", ".join(
            f"{image.id} (owner {image.owner_tenant_id}, {printing.time(image.create_time)})"
            for image in found
        )
        raise typer.BadParameter(
            f"{len(found)} images are called {wanted!r}; say which by its id: {candidates}.",
            param_hint="IMAGE",
        )
    return found[0].id if found else wanted
