"""Who governs tenants, and what becomes of one that is suspended (law 8)."""

import pytest

from builders import ELSEWHERE, HOME, OWNER, RECIPIENT, STRANGER, a_caller
from ims.domain.caller import Role
from ims.domain.rejection import Category, Step
from ims.rules.tenants import (
    Standing,
    a_suspended_tenant_does_nothing,
    a_tenant_is_registered_in_one_region,
    nobody_suspends_the_tenant_that_it_calls_for,
    only_administrators_govern_tenants,
    only_registered_tenants_are_governed,
)
from rules.facts import (
    a_governance,
    a_look_at_a_tenant,
    a_registered_tenant,
    a_registration_of_a_tenant,
    is_kept,
    the_violation,
)


class TestASuspendedTenantDoesNothing:
    def test_any_other_may(self):
        assert is_kept(a_suspended_tenant_does_nothing, Standing(tenant_id=OWNER, suspended=False))

    def test_a_suspended_one_is_named(self):
        standing = Standing(tenant_id=OWNER, suspended=True)

        assert the_violation(a_suspended_tenant_does_nothing, standing).metadata == {"tenantId": OWNER}

    def test_it_is_judged_before_anything_that_a_call_could_be_told(self):
        assert a_suspended_tenant_does_nothing.category is Category.SUSPENDED
        assert Category.SUSPENDED.step == min(Step)


class TestOnlyAdministratorsGovernTenants:
    def test_an_administrator_does(self):
        assert is_kept(only_administrators_govern_tenants, a_governance())

    @pytest.mark.parametrize("roles", [(), (Role.SERVICE,)])
    def test_nobody_else_does(self, roles):
        governance = a_governance(caller=a_caller(STRANGER, *roles))

        assert the_violation(only_administrators_govern_tenants, governance).metadata == {
            "requiredRoles": "admin"
        }


class TestOnlyRegisteredTenantsAreGoverned:
    def test_one_that_the_directory_names_is(self):
        assert is_kept(only_registered_tenants_are_governed, a_look_at_a_tenant())

    def test_another_is_not_found_and_named(self):
        violation = the_violation(only_registered_tenants_are_governed, a_look_at_a_tenant(found=None))

        assert violation.metadata == {"tenantId": RECIPIENT}


class TestNobodySuspendsTheTenantThatItCallsFor:
    def test_another_one_it_does(self):
        assert is_kept(nobody_suspends_the_tenant_that_it_calls_for, a_look_at_a_tenant())

    def test_its_own_is_a_field_that_cannot_be(self):
        own = a_look_at_a_tenant(caller=a_caller(RECIPIENT, Role.ADMIN))

        assert the_violation(nobody_suspends_the_tenant_that_it_calls_for, own).metadata == {
            "field": "tenant_id"
        }


class TestATenantIsRegisteredInOneRegion:
    def test_a_new_one_is(self):
        assert is_kept(a_tenant_is_registered_in_one_region, a_registration_of_a_tenant())

    def test_the_same_again_is_no_harm(self):
        again = a_registration_of_a_tenant(found=a_registered_tenant(region=HOME))

        assert is_kept(a_tenant_is_registered_in_one_region, again)

    def test_another_region_is_told_which_there_is(self):
        moved = a_registration_of_a_tenant(found=a_registered_tenant(region=ELSEWHERE))

        assert the_violation(a_tenant_is_registered_in_one_region, moved).metadata == {
            "tenantId": RECIPIENT,
            "tenantRegion": ELSEWHERE,
        }
