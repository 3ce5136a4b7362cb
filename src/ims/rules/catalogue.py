"""Every RPC and the rules it is judged by; what the documentation and its tests read.

An RPC on an image is first judged by SEE_IMAGE, and one that acts for a tenant by ACT_FOR_TENANT
before that. Receiving and finishing are the later moments of an upload.
"""

from typing import Any

from ims.rules.changes import (
    DEACTIVATE_IMAGE,
    DELETE_IMAGE,
    REACTIVATE_IMAGE,
    UNDELETE_IMAGE,
    UPDATE_IMAGE,
)
from ims.rules.creation import CREATE_IMAGE
from ims.rules.engine import Rule
from ims.rules.form import READ_QUERY
from ims.rules.image_data import (
    DOWNLOAD_IMAGE_DATA,
    FINISH_UPLOAD,
    RECEIVE_CHUNK,
    START_UPLOAD,
)
from ims.rules.publication import PUBLISH_IMAGE, UNPUBLISH_IMAGE
from ims.rules.sharing import (
    ACCEPT_SHARE,
    GET_SHARE,
    LEAVE_SHARE,
    LIST_SHARES,
    REJECT_SHARE,
    SHARE_IMAGE,
    UNSHARE_IMAGE,
)
from ims.rules.use import ACT_FOR_TENANT, RESOLVE_IMAGE
from ims.rules.visibility import SEE_IMAGE

CATALOGUE: dict[str, tuple[Rule[Any], ...]] = {
    "CreateImage": CREATE_IMAGE,
    "GetImage": SEE_IMAGE,
    "ListImages": READ_QUERY,
    "UpdateImage": (*SEE_IMAGE, *UPDATE_IMAGE),
    "DeleteImage": (*SEE_IMAGE, *DELETE_IMAGE),
    "UndeleteImage": (*SEE_IMAGE, *UNDELETE_IMAGE),
    "DeactivateImage": (*SEE_IMAGE, *DEACTIVATE_IMAGE),
    "ReactivateImage": (*SEE_IMAGE, *REACTIVATE_IMAGE),
    "UploadImageData": (*SEE_IMAGE, *START_UPLOAD, *RECEIVE_CHUNK, *FINISH_UPLOAD),
    "DownloadImageData": (*ACT_FOR_TENANT, *SEE_IMAGE, *DOWNLOAD_IMAGE_DATA),
    "ResolveImage": (*ACT_FOR_TENANT, *SEE_IMAGE, *RESOLVE_IMAGE),
    "ShareImage": (*SEE_IMAGE, *SHARE_IMAGE),
    "UnshareImage": (*SEE_IMAGE, *UNSHARE_IMAGE),
    "GetShare": (*SEE_IMAGE, *GET_SHARE),
    "ListShares": (*SEE_IMAGE, *LIST_SHARES),
    "ListReceivedShares": READ_QUERY,
    "AcceptShare": (*SEE_IMAGE, *ACCEPT_SHARE),
    "RejectShare": (*SEE_IMAGE, *REJECT_SHARE),
    "LeaveShare": (*SEE_IMAGE, *LEAVE_SHARE),
    "PublishImage": (*SEE_IMAGE, *PUBLISH_IMAGE),
    "UnpublishImage": (*SEE_IMAGE, *UNPUBLISH_IMAGE),
}


def all_rules() -> tuple[Rule[Any], ...]:
    """Return every rule of the catalogue once."""
    return tuple(dict.fromkeys(rule for rules in CATALOGUE.values() for rule in rules))
