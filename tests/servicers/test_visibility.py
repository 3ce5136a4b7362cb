"""Who sees what: every viewer, every RPC, every situation of an image (law 2 to 5)."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from builders import OWNER, STRANGER
from calling import METHODS, REQUEST_ID, Declined, Tenant, request_class, response_class
from conftest import As, Clock
from ims.use_cases.deployment import Deployment
from servicers.situations import (
    A_NEVER_GIVEN_ID,
    ACCEPTED,
    BLOCKING,
    DEACTIVATED,
    DELETED,
    EXPIRED,
    PENDING,
    PRIVATE,
    PUBLIC,
    REJECTED,
    SHARED,
    SITUATIONS,
    an_image_that_is,
    fields_of,
    messages_of,
    register_the_owners_use,
    request_about,
    store_the_bytes_of_every_image,
)

NOBODY = None
VIEWERS = (OWNER, ACCEPTED, PENDING, REJECTED, EXPIRED, BLOCKING, STRANGER, NOBODY)

# --- What the law expects ---------------------------------------------------------------------

OK = "OK"
_HIDDEN = "IMAGE_NOT_FOUND"
_NOT_YOURS, _ROLE = "NOT_IMAGE_OWNER", "ROLE_REQUIRED"
_INACTIVE, _GONE, _FINAL = "IMAGE_NOT_ACTIVE", "IMAGE_DELETED", "IMAGE_DATA_FINAL"
_LIVE, _IN_USE = "IMAGE_NOT_DELETED", "IMAGE_NOT_DEACTIVATED"
_NO_UPLOAD, _NO_URL = "UPLOAD_NOT_FOUND", "DIRECT_TRANSFER_UNAVAILABLE"
_NO_SHARE, _THEIRS, _NOT_YET = "SHARE_NOT_FOUND", "ONLY_RECIPIENT_DECIDES", "SHARE_NOT_ACCEPTED"
_NO_BUCKET, _NOT_EXPORTED = "EXPORT_BUCKET_NOT_OPEN", "PUBLIC_IMAGE_NOT_EXPORTABLE"
_NOT_SHAREABLE, _NOT_DELETABLE = "PUBLIC_IMAGE_NOT_SHAREABLE", "PUBLIC_IMAGE_NOT_DELETABLE"

ABOUT_TENANTS = {
    *("GetTenantQuotas", "SetTenantQuotas", "RegisterTenant", "UpdateTenant", "SuspendTenant"),
    *("ResumeTenant", "GetTenant", "ListTenants", "GetSharingPolicy", "SetSharingPolicy"),
}
"""What administrators alone may call."""
ABOUT_OWN_USES = {"ReleaseUse", "ListUses"}
"""What names an image and does not look at it, but at the caller's own uses: they outlive its sight."""
ABOUT_THE_TRAIL = {"ListAuditEvents", "ExportAuditEvents"}
"""What may name an image and does not look at it, but at what the caller's tenant may know was done."""
ABOUT_NO_IMAGE = (
    {"CreateImage", "ListImages", "ListReceivedShares", "GetQuotas", "GetTrustRules", "SetTrustRules"}
    | ABOUT_OWN_USES
    | ABOUT_TENANTS
    | ABOUT_THE_TRAIL
)
"""What anybody with an identity may call; what it lists is judged below."""
ABOUT_AN_IMAGE = [rpc for rpc in METHODS if rpc not in ABOUT_NO_IMAGE]
FOR_OTHERS = {
    *("PublishImage", "UnpublishImage", "DeactivateTenantImage", "ReactivateTenantImage"),
    "DiscardImage",
}
"""What nobody in this matrix may call: told by the role, whatever there is."""

# fmt: off
THE_OWNER_GETS = {
    #                     private     shared      public          deactivated  deleted
    "GetImage":          (OK,         OK,         OK,             OK,          OK),          # 1, 5.7
    "UpdateImage":       (OK,         OK,         OK,             _INACTIVE,   _GONE),       # 5.6
    "DeleteImage":       (OK,         OK,         _NOT_DELETABLE, OK,          _GONE),       # 5.7
    "UndeleteImage":     (_LIVE,      _LIVE,      _LIVE,          _LIVE,       OK),          # 5.7
    "DeactivateImage":   (OK,         OK,         _ROLE,          _INACTIVE,   _GONE),       # 5.8
    "ReactivateImage":   (_IN_USE,    _IN_USE,    _ROLE,          OK,          _GONE),       # 5.8
    "UploadImageData":   (_FINAL,     _FINAL,     _FINAL,         _FINAL,      _GONE),       # 5.4
    "DownloadImageData": (OK,         OK,         OK,             _INACTIVE,   _GONE),       # 5.8
    "CreateDownloadUrl": (_NO_URL,    _NO_URL,    _NO_URL,        _INACTIVE,   _GONE),       # 7.7
    "ResolveImage":      (OK,         OK,         OK,             _INACTIVE,   _GONE),       # 7.1
    "ShareImage":        (OK,         OK,         _NOT_SHAREABLE, _INACTIVE,   _INACTIVE),   # 3.2, 3.3
    "UnshareImage":      (OK,         OK,         OK,             OK,          OK),          # 3.12
    "UpdateShare":       (_NO_SHARE,  OK,         _NO_SHARE,      OK,          _GONE),       # 3.17
    "GetShare":          (_NO_SHARE,  OK,         _NO_SHARE,      OK,          _GONE),       # 3.14
    "ListShares":        (OK,         OK,         OK,             OK,          _GONE),       # 3.14
    "AcceptShare":       (_THEIRS,    _THEIRS,    _THEIRS,        _THEIRS,     _THEIRS),     # 3.14
    "RejectShare":       (_THEIRS,    _THEIRS,    _THEIRS,        _THEIRS,     _THEIRS),     # 3.14
    "LeaveShare":        (_THEIRS,    _THEIRS,    _THEIRS,        _THEIRS,     _THEIRS),     # 3.14
    "PublishImage":      (_ROLE,      _ROLE,      _ROLE,          _ROLE,       _ROLE),       # 1
    "UnpublishImage":    (_ROLE,      _ROLE,      _ROLE,          _ROLE,       _ROLE),       # 1
    "DeactivateTenantImage": (_ROLE,  _ROLE,      _ROLE,          _ROLE,       _ROLE),       # 8.4
    "ReactivateTenantImage": (_ROLE,  _ROLE,      _ROLE,          _ROLE,       _ROLE),       # 8.4
    "RegisterUse":       (OK,         OK,         OK,             _INACTIVE,   _GONE),       # 7.4
    "GetUsage":          (OK,         OK,         OK,             OK,          OK),          # 7.5
    "StartUpload":       (_FINAL,     _FINAL,     _FINAL,         _FINAL,      _GONE),       # 5.4
    "WriteUpload":       (_NO_UPLOAD, _NO_UPLOAD, _NO_UPLOAD,     _NO_UPLOAD,  _NO_UPLOAD),  # 2.3
    "CreatePartUrls":    (_NO_UPLOAD, _NO_UPLOAD, _NO_UPLOAD,     _NO_UPLOAD,  _NO_UPLOAD),  # 2.3
    "GetUpload":         (_NO_UPLOAD, _NO_UPLOAD, _NO_UPLOAD,     _NO_UPLOAD,  _NO_UPLOAD),  # 2.3
    "FinishUpload":      (_NO_UPLOAD, _NO_UPLOAD, _NO_UPLOAD,     _NO_UPLOAD,  _NO_UPLOAD),  # 2.3
    "AbortUpload":       (_NO_UPLOAD, _NO_UPLOAD, _NO_UPLOAD,     _NO_UPLOAD,  _NO_UPLOAD),  # 2.3
    "ImportImage":       (_FINAL,     _FINAL,     _FINAL,         _FINAL,      _GONE),       # 5.4
    "CopyImage":         (OK,         OK,         OK,             _INACTIVE,   _GONE),       # 6.1
    "ExportImage":       (_NO_BUCKET, _NO_BUCKET, _NOT_EXPORTED,  _INACTIVE,   _GONE),       # 6.4
    "CopyImageToRegion": (OK,         OK,         OK,             _INACTIVE,   _GONE),       # 6.2
    "DiscardImage":      (_ROLE,      _ROLE,      _ROLE,          _ROLE,       _ROLE),       # 6.2
}
OTHERS_GET = {
    #                     accepted:               pending or rejected:    anybody:
    #                     shared      deactivated shared      deactivated public
    "GetImage":          (OK,         OK,         OK,         OK,         OK),          # 4.3
    "UpdateImage":       (_NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NOT_YOURS),  # 4.5
    "DeleteImage":       (_NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NOT_YOURS),  # 4.5
    "UndeleteImage":     (_NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NOT_YOURS),  # 4.5
    "DeactivateImage":   (_NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _ROLE),       # 5.8
    "ReactivateImage":   (_NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _ROLE),       # 5.8
    "UploadImageData":   (_NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NOT_YOURS),  # 4.5
    "DownloadImageData": (OK,         _INACTIVE,  _NOT_YET,   _INACTIVE,  OK),          # 4.3
    "CreateDownloadUrl": (_NO_URL,    _INACTIVE,  _NOT_YET,   _INACTIVE,  _NO_URL),     # 7.7
    "ResolveImage":      (OK,         _INACTIVE,  _NOT_YET,   _INACTIVE,  OK),          # 4.3
    "ShareImage":        (_NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NOT_YOURS),  # 3.1
    "UnshareImage":      (_NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NOT_YOURS),  # 3.12
    "UpdateShare":       (_NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NO_SHARE),   # 3.17
    "GetShare":          (OK,         OK,         OK,         OK,         _NO_SHARE),   # 4.1
    "ListShares":        (_NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NOT_YOURS),  # 4.6
    "AcceptShare":       (OK,         OK,         OK,         OK,         _NO_SHARE),   # 4.2
    "RejectShare":       (OK,         OK,         OK,         OK,         _NO_SHARE),   # 4.2
    "LeaveShare":        (OK,         OK,         OK,         OK,         _NO_SHARE),   # 4.5
    "PublishImage":      (_ROLE,      _ROLE,      _ROLE,      _ROLE,      _ROLE),       # 1
    "UnpublishImage":    (_ROLE,      _ROLE,      _ROLE,      _ROLE,      _ROLE),       # 1
    "DeactivateTenantImage": (_ROLE,  _ROLE,      _ROLE,      _ROLE,      _ROLE),       # 8.4
    "ReactivateTenantImage": (_ROLE,  _ROLE,      _ROLE,      _ROLE,      _ROLE),       # 8.4
    "RegisterUse":       (OK,         _INACTIVE,  _NOT_YET,   _INACTIVE,  OK),          # 7.4
    "GetUsage":          (OK,         OK,         OK,         OK,         OK),          # 7.5
    "StartUpload":       (_NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NOT_YOURS),  # 4.5
    "WriteUpload":       (_NO_UPLOAD, _NO_UPLOAD, _NO_UPLOAD, _NO_UPLOAD, _NO_UPLOAD),  # 2.3
    "CreatePartUrls":    (_NO_UPLOAD, _NO_UPLOAD, _NO_UPLOAD, _NO_UPLOAD, _NO_UPLOAD),  # 2.3
    "GetUpload":         (_NO_UPLOAD, _NO_UPLOAD, _NO_UPLOAD, _NO_UPLOAD, _NO_UPLOAD),  # 2.3
    "FinishUpload":      (_NO_UPLOAD, _NO_UPLOAD, _NO_UPLOAD, _NO_UPLOAD, _NO_UPLOAD),  # 2.3
    "AbortUpload":       (_NO_UPLOAD, _NO_UPLOAD, _NO_UPLOAD, _NO_UPLOAD, _NO_UPLOAD),  # 2.3
    "ImportImage":       (_NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NOT_YOURS),  # 4.5
    "CopyImage":         (OK,         _INACTIVE,  _NOT_YET,   _INACTIVE,  OK),          # 6.1
    "ExportImage":       (_NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NOT_YOURS),  # 4.5
    "CopyImageToRegion": (_NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NOT_YOURS, _NOT_YOURS),  # 6.2
    "DiscardImage":      (_ROLE,      _ROLE,      _ROLE,      _ROLE,      _ROLE),       # 6.2
}
# fmt: on

STATUS_OF = {
    OK: "OK",
    "UNAUTHENTICATED": "UNAUTHENTICATED",
    _HIDDEN: "NOT_FOUND",
    _NO_SHARE: "NOT_FOUND",
    _NO_UPLOAD: "NOT_FOUND",
    _NOT_YOURS: "PERMISSION_DENIED",
    _ROLE: "PERMISSION_DENIED",
    _THEIRS: "PERMISSION_DENIED",
}
"""The law's arrows; every other reason in this file is a FAILED_PRECONDITION."""


COLUMN_OF = {
    **{(OWNER, situation): column for column, situation in enumerate(SITUATIONS[:-1])},
    (ACCEPTED, SHARED): 0,
    (ACCEPTED, DEACTIVATED): 1,
    **{(invited, SHARED): 2 for invited in (PENDING, REJECTED)},
    **{(invited, DEACTIVATED): 3 for invited in (PENDING, REJECTED)},
    **{(anybody, PUBLIC): 4 for anybody in VIEWERS[1:-1]},
}
"""Who sees an image in which situation, and the column of what it gets; all others see nothing."""


def expected(viewer: str | None, rpc: str, situation: str) -> str:
    """Return the reason that the law gives, or OK."""
    if viewer is NOBODY:
        return "UNAUTHENTICATED"
    if rpc in ABOUT_NO_IMAGE:
        return _ROLE if rpc in ABOUT_TENANTS else OK
    if rpc in FOR_OTHERS:
        return _ROLE
    column = COLUMN_OF.get((viewer, situation))
    if column is None:
        return _HIDDEN
    return (THE_OWNER_GETS if viewer == OWNER else OTHERS_GET)[rpc][column]


def in_words(answer: Declined) -> str:
    return f"{answer.code} {answer.reason or answer.code}"


# --- Every cell -------------------------------------------------------------------------------


def test_the_law_of_this_file_has_a_line_for_every_rpc():
    assert set(THE_OWNER_GETS) | ABOUT_NO_IMAGE == set(METHODS)
    assert set(OTHERS_GET) | ABOUT_NO_IMAGE == set(METHODS)


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("viewer", VIEWERS, ids=str)
def test_every_viewer_gets_what_the_law_says_of_every_rpc(
    viewer: str | None, situation: str, deployment: Deployment, as_: As
):
    store_the_bytes_of_every_image(deployment)
    tenant = as_(viewer)

    answers = {}
    for rpc in METHODS:
        image_id = an_image_that_is(situation, deployment)
        answers[rpc] = in_words(tenant.answer(rpc, request_about(rpc, image_id, viewer)))

    reasons = {rpc: expected(viewer, rpc, situation) for rpc in METHODS}
    assert answers == {
        rpc: f"{STATUS_OF.get(reason, 'FAILED_PRECONDITION')} {reason}"
        for rpc, reason in reasons.items()
    }


@pytest.mark.parametrize("viewer", VIEWERS[:-1])
def test_lists_hold_what_the_law_says_and_nothing_else(viewer: str, deployment: Deployment, as_: As):
    images = {situation: an_image_that_is(situation, deployment) for situation in SITUATIONS[:-1]}
    names = {image_id: situation for situation, image_id in images.items()}
    tenant = as_(viewer)

    listed = {names[image.id] for image in tenant.ListImages().images}
    deleted = {names[image.id] for image in tenant.ListImages(state="DELETED").images}
    received = {names[each.image.id] for each in tenant.ListReceivedShares().received_shares}

    own = {PRIVATE, SHARED, PUBLIC, DEACTIVATED}
    lent = {SHARED, DEACTIVATED}
    assert listed == {OWNER: own, ACCEPTED: lent | {PUBLIC}}.get(viewer, {PUBLIC})  # 4.1
    assert deleted == ({DELETED} if viewer == OWNER else set())
    assert received == (lent if viewer in {ACCEPTED, PENDING, REJECTED} else set())


# --- Not yours equals never existed -----------------------------------------------------------

HIDDEN = [
    (viewer, situation)
    for viewer in VIEWERS
    for situation in SITUATIONS[:-1]
    if expected(viewer, "GetImage", situation) == _HIDDEN
]


def test_what_is_hidden_from_somebody_is_hidden_on_every_rpc():
    for viewer, situation in HIDDEN:
        reasons = {expected(viewer, rpc, situation) for rpc in ABOUT_AN_IMAGE}
        assert reasons == {_HIDDEN, _ROLE}, (viewer, situation)


@pytest.mark.parametrize(("viewer", "situation"), HIDDEN)
def test_what_is_hidden_is_answered_to_the_byte_like_what_never_existed(
    viewer: str, situation: str, deployment: Deployment, as_: As
):
    tenant = as_(viewer)
    image_id = an_image_that_is(situation, deployment)

    for rpc in ABOUT_AN_IMAGE:
        hidden = whole(tenant, rpc, request_about(rpc, image_id))
        never = whole(tenant, rpc, request_about(rpc, A_NEVER_GIVEN_ID))

        assert hidden == never, rpc
        assert hidden.reason == (_ROLE if rpc in FOR_OTHERS else _HIDDEN), rpc
        assert hidden.status_bytes, rpc


@pytest.mark.parametrize(("viewer", "situation"), HIDDEN)
def test_asking_for_own_uses_tells_nothing_of_an_image_that_is_hidden(
    viewer: str, situation: str, deployment: Deployment, as_: As
):
    tenant = as_(viewer)
    image_id = an_image_that_is(situation, deployment)
    register_the_owners_use(deployment, image_id)

    for rpc in ABOUT_OWN_USES:
        hidden, never = (fields_of(rpc, each) for each in (image_id, A_NEVER_GIVEN_ID))
        assert tenant.call(rpc, request_class(rpc)(**hidden)) == response_class(rpc)()
        assert tenant.call(rpc, request_class(rpc)(**never)) == response_class(rpc)()
        wrong = zip(malformed(rpc, image_id), malformed(rpc, A_NEVER_GIVEN_ID), strict=True)
        for about_hidden, about_none in wrong:
            assert whole(tenant, rpc, about_hidden) == whole(tenant, rpc, about_none), about_hidden


@pytest.mark.parametrize(("viewer", "situation"), HIDDEN)
def test_the_order_of_judgement_gives_nothing_hidden_away(
    viewer: str, situation: str, deployment: Deployment, as_: As
):
    tenant = as_(viewer)
    image_id = an_image_that_is(situation, deployment)

    for rpc in ABOUT_AN_IMAGE:
        wrong = zip(malformed(rpc, image_id), malformed(rpc, A_NEVER_GIVEN_ID), strict=True)
        for about_hidden, about_none in wrong:
            hidden = whole(tenant, rpc, messages_of(rpc, about_hidden))
            never = whole(tenant, rpc, messages_of(rpc, about_none))

            assert hidden == never, about_hidden
            assert hidden.code in {"NOT_FOUND", "PERMISSION_DENIED"}, about_hidden


@pytest.mark.parametrize("rpc", ABOUT_AN_IMAGE)
def test_an_id_that_is_not_quite_the_images_is_one_that_never_existed(
    rpc: str, deployment: Deployment, as_: As
):
    owner = as_(OWNER)
    image_id = an_image_that_is(PRIVATE, deployment)
    never = whole(owner, rpc, request_about(rpc, A_NEVER_GIVEN_ID))

    for almost in (f"{image_id}\0", f" {image_id}", image_id[:-1], f"{image_id}%", "%", "é" * 36, "\0"):
        assert whole(owner, rpc, request_about(rpc, almost)) == never, almost


@pytest.mark.parametrize("rpc", ABOUT_AN_IMAGE)
def test_a_purged_image_is_one_that_never_existed_to_its_owner_too(
    rpc: str, deployment: Deployment, as_: As, clock: Clock
):
    owner = as_(OWNER)
    image_id = an_image_that_is(DELETED, deployment)
    clock.advance(days=7)

    assert whole(owner, rpc, request_about(rpc, image_id)) == whole(
        owner, rpc, request_about(rpc, A_NEVER_GIVEN_ID)
    )


# --- Roles ------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["admin", "service"])
def test_a_role_shows_nobodys_images_outside_its_own_service(role: str, deployment: Deployment, as_: As):
    stranger = as_(STRANGER, role)
    governed = FOR_OTHERS if role == "admin" else set()

    for rpc in set(ABOUT_AN_IMAGE) - governed:
        hidden = whole(stranger, rpc, request_about(rpc, an_image_that_is(SHARED, deployment)))
        assert hidden == whole(stranger, rpc, request_about(rpc, A_NEVER_GIVEN_ID)), rpc


def test_an_administrator_governs_what_it_does_not_own(deployment: Deployment, as_: As):
    admin = as_(STRANGER, "admin")

    def answers(rpc: str) -> list[str]:
        return [
            in_words(admin.answer(rpc, request_about(rpc, an_image_that_is(situation, deployment))))
            for situation in SITUATIONS
        ]

    inactive, gone = "FAILED_PRECONDITION IMAGE_NOT_ACTIVE", "FAILED_PRECONDITION IMAGE_DELETED"
    hidden = "NOT_FOUND IMAGE_NOT_FOUND"
    assert answers("PublishImage") == ["OK OK"] * 3 + [inactive, inactive, hidden]
    assert answers("UnpublishImage") == ["OK OK"] * 4 + [gone, hidden]
    assert answers("DeactivateTenantImage") == ["OK OK"] * 4 + [gone, hidden]
    awake = "FAILED_PRECONDITION IMAGE_NOT_DEACTIVATED"
    assert answers("ReactivateTenantImage") == [awake] * 3 + ["OK OK", gone, hidden]


def test_a_service_sees_for_a_tenant_what_that_tenant_sees(deployment: Deployment, as_: As):
    store_the_bytes_of_every_image(deployment)
    image_id = an_image_that_is(SHARED, deployment)
    nova = as_("nova", "service")

    for rpc in ("ResolveImage", "DownloadImageData", "RegisterUse"):
        for tenant_id in (OWNER, ACCEPTED, PENDING, REJECTED, STRANGER):
            fields = fields_of(rpc, image_id) | {"tenant_id": tenant_id}
            represented = nova.answer(rpc, request_class(rpc)(**fields))
            itself = as_(tenant_id).answer(rpc, request_about(rpc, image_id))
            assert in_words(represented) == in_words(itself), (rpc, tenant_id)


# --- Whole answers, and requests with something wrong in them ---------------------------------


def whole(tenant: Tenant, rpc: str, request: Any) -> Declined:
    """Return everything that a caller can tell two answers apart by; every request has its own id."""
    answer = tenant.answer(rpc, request)
    assert answer.headers.pop(REQUEST_ID)
    return answer


def malformed(rpc: str, image_id: str) -> Iterator[Message]:
    """Yield requests with nonsense in one field each, and at last in all of them."""
    everything = request_class(rpc)(**fields_of(rpc, image_id))
    for path, field in _fields_besides_the_id(everything):
        request = request_class(rpc)(**fields_of(rpc, image_id))
        _spoil(_at(request, path), field)
        yield request
        _spoil(_at(everything, path), field)
    yield everything


def _fields_besides_the_id(request: Message) -> list[tuple[str, FieldDescriptor]]:
    path = "start" if "start" in request.DESCRIPTOR.fields_by_name else ""
    fields = _at(request, path).DESCRIPTOR.fields
    return [(path, field) for field in fields if field.name != "image_id"]


def _at(request: Message, path: str) -> Message:
    return getattr(request, path) if path else request


def _spoil(message: Message, field: FieldDescriptor) -> None:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        value["\0"] = "\0"
    elif field.message_type is not None:
        part = value.add() if field.is_repeated else value
        for inner in field.message_type.fields:
            _spoil(part, inner)
    elif field.is_repeated:
        value.append("\0")
    else:
        setattr(message, field.name, _NONSENSE[field.cpp_type])


_NONSENSE = {
    FieldDescriptor.CPPTYPE_STRING: "\0 nonsense",
    FieldDescriptor.CPPTYPE_INT32: -1,
    FieldDescriptor.CPPTYPE_INT64: -(2**63),
    FieldDescriptor.CPPTYPE_ENUM: 99,
    FieldDescriptor.CPPTYPE_BOOL: True,
}
