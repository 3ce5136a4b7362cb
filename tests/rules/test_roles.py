"""The law of roles, rule by rule; tests/servicers/test_roles.py calls every RPC with every role."""

import pytest

from builders import OWNER, a_caller
from ims.domain.caller import Caller, Role
from ims.domain.rejection import Reason
from ims.domain.tenant import Region, TenantId
from ims.rules.roles import SUFFICIENT_ROLES, Call, an_rpc_is_called_with_a_role_that_suffices
from rules.facts import is_kept, the_violation

NO_ROLE = Caller(tenant_id=TenantId(OWNER), region=Region("home"))


class TestAnRpcIsCalledWithARoleThatSuffices:
    @pytest.mark.parametrize("role", Role)
    @pytest.mark.parametrize("rpc", SUFFICIENT_ROLES)
    def test_one_role_of_those_in_the_table_suffices(self, rpc: str, role: Role):
        kept = is_kept(
            an_rpc_is_called_with_a_role_that_suffices, Call(caller=a_caller(OWNER, role), rpc=rpc)
        )

        assert kept is (role in SUFFICIENT_ROLES[rpc])

    def test_a_role_more_takes_nothing_away(self):
        call = Call(caller=a_caller(OWNER, Role.READER, Role.MEMBER), rpc="ShareImage")

        assert is_kept(an_rpc_is_called_with_a_role_that_suffices, call)

    def test_the_roles_that_would_do_are_told(self):
        call = Call(caller=a_caller(OWNER, Role.READER), rpc="DeactivateImage")

        violation = the_violation(an_rpc_is_called_with_a_role_that_suffices, call)
        assert violation.reason is Reason.ROLE_REQUIRED
        assert violation.metadata == {"requiredRoles": "admin, member"}

    @pytest.mark.parametrize("rpc", SUFFICIENT_ROLES)
    def test_who_has_no_role_calls_nothing(self, rpc: str):
        call = Call(caller=NO_ROLE, rpc=rpc)

        assert the_violation(an_rpc_is_called_with_a_role_that_suffices, call)

    @pytest.mark.parametrize("role", Role)
    def test_an_rpc_that_is_not_in_the_table_is_called_by_nobody(self, role: Role):
        call = Call(caller=a_caller(OWNER, role), rpc="Forgotten")

        assert the_violation(an_rpc_is_called_with_a_role_that_suffices, call)
