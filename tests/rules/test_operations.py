"""The law of operations."""

import pytest

from ims.domain.operation import OperationState
from ims.rules import operations
from rules.facts import a_look_at_an_operation, an_operation, is_kept, the_violation


class TestTheOperationIsTheCallersTenants:
    def test_what_is_not_found_is_not_there(self):
        rule = operations.the_operation_is_the_callers_tenants

        assert is_kept(rule, a_look_at_an_operation())
        violation = the_violation(rule, a_look_at_an_operation(found=None))
        assert (violation.message, violation.metadata) == ("There is no such operation.", {})


class TestOnlyWhatHasEndedIsForgotten:
    rule = operations.only_what_has_ended_is_forgotten

    @pytest.mark.parametrize("state", [OperationState.QUEUED, OperationState.RUNNING])
    def test_what_goes_on_is_not(self, state: OperationState):
        attempt = a_look_at_an_operation(found=an_operation(state=state))

        assert the_violation(self.rule, attempt).metadata == {"state": state}

    @pytest.mark.parametrize(
        "state", [OperationState.SUCCEEDED, OperationState.FAILED, OperationState.CANCELLED]
    )
    def test_what_has_ended_is(self, state: OperationState):
        assert is_kept(self.rule, a_look_at_an_operation(found=an_operation(state=state)))
