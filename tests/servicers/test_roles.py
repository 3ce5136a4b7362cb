"""Every RPC of the protos, called over the wire with every role alone, and with none."""

import pytest

from builders import OWNER
from calling import ALL_METHODS
from conftest import As
from ims.domain.caller import Role
from ims.rules.roles import SUFFICIENT_ROLES
from ims.use_cases.deployment import Deployment
from servicers.situations import A_NEVER_GIVEN_ID, PRIVATE, an_image_that_is, request_about


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("rpc", ALL_METHODS)
def test_a_role_alone_suffices_or_does_not_as_the_table_says(
    rpc: str, role: Role, as_: As, deployment: Deployment
):
    caller = as_(OWNER, role)
    about_one = caller.answer(rpc, request_about(rpc, an_image_that_is(PRIVATE, deployment), OWNER))
    about_none = caller.answer(rpc, request_about(rpc, A_NEVER_GIVEN_ID, OWNER))

    if role in SUFFICIENT_ROLES[rpc]:
        # A service may call CreateImage, but not for what this request says: that is another rule's.
        assert f"{rpc} needs" not in about_one.message
    else:
        assert (about_one.code, about_one.reason) == ("PERMISSION_DENIED", "ROLE_REQUIRED")
        assert about_one.metadata == {"requiredRoles": ", ".join(sorted(SUFFICIENT_ROLES[rpc]))}
        assert about_one.status_bytes == about_none.status_bytes


@pytest.mark.parametrize("rpc", ALL_METHODS)
def test_bytes_that_are_no_message_are_not_even_read_without_the_role(rpc: str, as_: As):
    for role in set(Role) - SUFFICIENT_ROLES[rpc]:
        assert as_(OWNER, role).answer_raw(rpc, b"\xff").reason == "ROLE_REQUIRED"
