"""Is the state right: one table of what every state of an image allows (law 1)."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Protocol

from ims.domain.image import Disk, DiskState, Image, ImageState
from ims.domain.rejection import Category, Reason
from ims.rules.engine import Breach, Rule, breach, rule


class Verb(StrEnum):
    """What is done to an image, as far as its state is concerned."""

    UPDATE = "updated"
    DELETE = "deleted"
    UNDELETE = "undeleted"
    DEACTIVATE = "deactivated"
    REACTIVATE = "reactivated"
    DEACTIVATE_BY_ADMIN = "deactivated by an administrator"
    UPLOAD = "filled with bytes"
    READ_DATA = "downloaded"
    USE = "used"
    COPY = "copied"
    EXPORT = "exported"
    SHARE = "shared"
    UNSHARE = "kept to its owner"
    READ_SHARES = "asked for its shares"
    UPDATE_SHARE = "shared for another time"
    PUBLISH = "published"
    UNPUBLISH = "unpublished"


_QUEUED, _SAVING, _ACTIVE = ImageState.QUEUED, ImageState.SAVING, ImageState.ACTIVE
_DEACTIVATED, _FAILED, _DELETED = ImageState.DEACTIVATED, ImageState.FAILED, ImageState.DELETED
_INACTIVE, _BUSY, _GONE = Reason.IMAGE_NOT_ACTIVE, Reason.IMAGE_BUSY, Reason.IMAGE_DELETED
_FINAL, _LIVE, _IN_USE = (
    Reason.IMAGE_DATA_FINAL,
    Reason.IMAGE_NOT_DELETED,
    Reason.IMAGE_NOT_DEACTIVATED,
)

# Each cell is the state that follows, or the reason why the verb is refused. An upload's own end
# (SAVING to ACTIVE or back to QUEUED) follows from the disks: state_of_filling.
# fmt: off
_Cell = ImageState | Reason
_COLUMNS = (        _QUEUED,   _SAVING,   _ACTIVE,      _DEACTIVATED, _FAILED,   _DELETED)
_ROWS: dict[Verb, tuple[_Cell, _Cell, _Cell, _Cell, _Cell, _Cell]] = {
    Verb.UPDATE:        (_QUEUED,   _BUSY,     _ACTIVE,      _INACTIVE,    _INACTIVE, _GONE),
    Verb.DELETE:        (_DELETED,  _BUSY,     _DELETED,     _DELETED,     _DELETED,  _GONE),
    Verb.UNDELETE:      (_LIVE,     _LIVE,     _LIVE,        _LIVE,        _LIVE,     _ACTIVE),
    Verb.DEACTIVATE:    (_INACTIVE, _BUSY,     _DEACTIVATED, _INACTIVE,    _INACTIVE, _GONE),
    Verb.REACTIVATE:    (_IN_USE,   _IN_USE,   _IN_USE,      _ACTIVE,      _IN_USE,   _GONE),
    # Also what its owner has deactivated, who then can no longer reactivate it.
    Verb.DEACTIVATE_BY_ADMIN: (_INACTIVE, _BUSY, _DEACTIVATED, _DEACTIVATED, _INACTIVE, _GONE),
    Verb.UPLOAD:        (_SAVING,   _SAVING,   _FINAL,       _FINAL,       _FINAL,    _GONE),
    Verb.READ_DATA:     (_INACTIVE, _INACTIVE, _ACTIVE,      _INACTIVE,    _INACTIVE, _GONE),
    Verb.USE:           (_INACTIVE, _INACTIVE, _ACTIVE,      _INACTIVE,    _INACTIVE, _GONE),
    Verb.COPY:          (_INACTIVE, _INACTIVE, _ACTIVE,      _INACTIVE,    _INACTIVE, _GONE),
    Verb.EXPORT:        (_INACTIVE, _INACTIVE, _ACTIVE,      _INACTIVE,    _INACTIVE, _GONE),
    Verb.SHARE:         (_INACTIVE, _INACTIVE, _ACTIVE,      _INACTIVE,    _INACTIVE, _INACTIVE),
    Verb.UNSHARE:       (_QUEUED,   _SAVING,   _ACTIVE,      _DEACTIVATED, _FAILED,   _DELETED),
    Verb.READ_SHARES:   (_QUEUED,   _SAVING,   _ACTIVE,      _DEACTIVATED, _FAILED,   _GONE),
    Verb.UPDATE_SHARE:  (_QUEUED,   _SAVING,   _ACTIVE,      _DEACTIVATED, _FAILED,   _GONE),
    Verb.PUBLISH:       (_INACTIVE, _INACTIVE, _ACTIVE,      _INACTIVE,    _INACTIVE, _INACTIVE),
    Verb.UNPUBLISH:     (_QUEUED,   _SAVING,   _ACTIVE,      _DEACTIVATED, _FAILED,   _GONE),
}
# fmt: on
TRANSITIONS = {verb: dict(zip(_COLUMNS, row, strict=True)) for verb, row in _ROWS.items()}
"""What every verb does in every state."""


def state_after(verb: Verb, image: Image) -> ImageState:
    """Return the state that follows when an image's state allows a verb.

    Undeletion returns to the state before deletion. Raises ValueError where the table refuses.
    """
    following = TRANSITIONS[verb][image.state]
    if isinstance(following, Reason):
        message = f"an image that is {image.state} is not {verb}: {following}"
        raise ValueError(message)  # noqa: TRY004 - the verb is refused, no argument is of a wrong type
    if verb is Verb.UNDELETE and image.state_before_deletion is not None:
        return image.state_before_deletion
    return following


def state_of_filling(disks: Sequence[Disk]) -> ImageState:
    """Return the state of an image whose disks are being uploaded."""
    if all(disk.state is DiskState.STORED for disk in disks):
        return ImageState.ACTIVE
    if any(disk.state is DiskState.SAVING for disk in disks):
        return ImageState.SAVING
    return ImageState.QUEUED


class OnState(Protocol):
    """Anything that is decided about an image in its state."""

    @property
    def image(self) -> Image: ...


def state_allows(verb: Verb) -> tuple[Rule[OnState], ...]:
    """Return the rules that refuse a verb where the table says so: one for each reason in its row."""
    reasons = dict.fromkeys(cell for cell in TRANSITIONS[verb].values() if isinstance(cell, Reason))
    return tuple(_state_rule(verb, reason) for reason in reasons)


_SENTENCES = {
    Reason.IMAGE_NOT_ACTIVE: (
        "3.3",
        "only_active_images",
        "Only an ACTIVE image is shared, used, downloaded, copied, exported, published or deactivated.",
    ),
    Reason.IMAGE_BUSY: (
        "5.7",
        "not_while_saving",
        "An image whose bytes are arriving is left alone until they have arrived or failed.",
    ),
    Reason.IMAGE_DELETED: (
        "5.7",
        "not_once_deleted",
        "A deleted image can be undeleted within the grace period, and nothing else.",
    ),
    Reason.IMAGE_NOT_DELETED: (
        "5.7",
        "only_deleted_images_are_undeleted",
        "Only a deleted image is undeleted.",
    ),
    Reason.IMAGE_NOT_DEACTIVATED: (
        "5.8",
        "only_deactivated_images_are_reactivated",
        "Only a deactivated image is reactivated.",
    ),
    Reason.IMAGE_DATA_FINAL: (
        "5.4",
        "bytes_never_change_once_active",
        "Bytes never change once an image has been ACTIVE.",
    ),
}


def _state_rule(verb: Verb, reason: Reason) -> Rule[OnState]:
    law, name, sentence = _SENTENCES[reason]

    def check(attempt: OnState) -> Iterator[Breach]:
        if TRANSITIONS[verb][attempt.image.state] is reason:
            yield breach(
                f"The image is {attempt.image.state}; it cannot be {verb}. {_ADVICE[reason]}",
                state=attempt.image.state,
            )

    check.__name__, check.__doc__ = name, sentence
    return rule(law, reason, Category.WRONG_STATE)(check)


_ADVICE = {
    Reason.IMAGE_NOT_ACTIVE: "It must be ACTIVE.",
    Reason.IMAGE_BUSY: "Wait until its upload has ended.",
    Reason.IMAGE_DELETED: "Undelete it first.",
    Reason.IMAGE_NOT_DELETED: "Only a deleted image can.",
    Reason.IMAGE_NOT_DEACTIVATED: "Only a deactivated image can.",
    Reason.IMAGE_DATA_FINAL: "Create another image for other bytes.",
}
