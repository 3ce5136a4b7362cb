"""The law of sharing (law 3 and 4), rule by rule."""

from datetime import timedelta

import pytest

from builders import (
    A_MOMENT,
    ELSEWHERE,
    HOME,
    OWNER,
    RECIPIENT,
    STRANGER,
    a_caller,
    a_disk,
    a_full_ecs_image,
    a_share,
    a_tenant,
    an_accepted_share,
    an_image,
)
from ims.domain.caller import Role
from ims.domain.image import (
    GIB,
    BackupService,
    DiskRole,
    ImageState,
    ImageType,
    KeyId,
    Source,
    SourceKind,
)
from ims.domain.limits import Limits
from ims.domain.rejection import Category, Reason, Rejection
from ims.domain.share import ShareStatus
from ims.domain.tenant import Tenant, TenantId
from ims.domain.vault import VaultType
from ims.rules.engine import enforce
from ims.rules.sharing import (
    SHARE_IMAGE,
    a_call_names_at_most_100_tenants,
    a_recipient_is_at_home_in_the_region,
    a_share_is_seen_by_its_two_sides,
    accepting_a_full_ecs_image_names_a_server_backup_vault,
    encrypted_images_are_not_shared,
    full_ecs_images_are_shared_only_when_created_using_cbr,
    full_ecs_images_of_borrowed_backups_are_not_shared,
    nobody_shares_with_oneself,
    nothing_new_is_shared_while_sharing_is_blocked,
    of_a_share_only_its_end_is_updated,
    only_a_recipient_has_something_to_decide,
    only_accepted_shares_are_used,
    only_private_images_are_shared,
    only_the_owner_shares,
    only_the_recipient_decides,
    recipients_are_known_where_the_directory_is_closed,
    recipients_have_room_for_a_pending_share,
    shares_end_in_the_future,
    shares_stay_within_the_limit,
    shares_stay_within_the_region,
    the_owner_never_sets_a_status,
    the_vault_holds_all_disks,
)
from rules.facts import (
    a_look_at_a_share,
    a_recipients_attempt,
    a_share_update,
    a_sharing,
    a_vault,
    an_acceptance,
    an_attempt,
    an_attempt_on,
    is_kept,
    the_violation,
)

NOT_ACCEPTED = [ShareStatus.PENDING, ShareStatus.REJECTED]


def tenants(count: int) -> tuple[Tenant, ...]:
    return tuple(a_tenant(f"tenant-{number}") for number in range(count))


def a_full_ecs_attempt(kind: SourceKind, **source):
    return an_attempt(image=a_full_ecs_image(source=Source(kind=kind, id="origin", **source)))


class TestOnlyTheOwnerShares:
    def test_the_owner_shares(self):
        assert is_kept(only_the_owner_shares, an_attempt())

    @pytest.mark.parametrize("tenant", [RECIPIENT, STRANGER])
    def test_nobody_else_does(self, tenant: TenantId):
        violation = the_violation(only_the_owner_shares, an_attempt(caller=a_caller(tenant)))

        assert violation.reason is Reason.NOT_IMAGE_OWNER
        assert only_the_owner_shares.category is Category.FORBIDDEN

    def test_a_recipient_who_has_accepted_does_not_share_on(self):
        assert the_violation(only_the_owner_shares, a_recipients_attempt())

    def test_no_role_stands_in_for_ownership(self):
        assert the_violation(only_the_owner_shares, an_attempt(caller=a_caller(STRANGER, *Role)))


class TestACallNamesAtMost100Tenants:
    @pytest.mark.parametrize("count", [1, 99, 100])
    def test_up_to_100_are_taken(self, count: int):
        assert is_kept(a_call_names_at_most_100_tenants, a_sharing(recipients=tenants(count)))

    def test_the_101st_is_refused(self):
        violation = the_violation(a_call_names_at_most_100_tenants, a_sharing(recipients=tenants(101)))

        assert violation.reason is Reason.TOO_MANY_RECIPIENTS
        assert violation.metadata == {"maxRecipients": 100, "recipients": 101}
        assert a_call_names_at_most_100_tenants.category is Category.MALFORMED


class TestOnlyPrivateImagesAreShared:
    def test_a_private_one_is(self):
        assert is_kept(only_private_images_are_shared, an_attempt_on(public=False))

    def test_a_public_one_is_not(self):
        violation = the_violation(only_private_images_are_shared, an_attempt_on(public=True))

        assert violation.reason is Reason.PUBLIC_IMAGE_NOT_SHAREABLE
        assert violation.metadata == {}


class TestEncryptedImagesAreNotShared:
    def test_an_unencrypted_one_is(self):
        assert is_kept(encrypted_images_are_not_shared, an_attempt_on(encryption_key_id=None))

    def test_an_encrypted_one_is_not_and_the_way_out_is_named(self):
        violation = the_violation(
            encrypted_images_are_not_shared, an_attempt_on(encryption_key_id=KeyId("key-1"))
        )

        assert violation.reason is Reason.ENCRYPTED_IMAGE_NOT_SHAREABLE
        assert "unencrypted copy" in violation.message
        assert "key-1" not in violation.message


class TestFullEcsImagesAreSharedOnlyWhenCreatedUsingCbr:
    @pytest.mark.parametrize("image_type", sorted(set(ImageType) - {ImageType.FULL_ECS}))
    def test_it_is_about_full_ecs_images_alone(self, image_type: ImageType):
        assert is_kept(
            full_ecs_images_are_shared_only_when_created_using_cbr, an_attempt_on(type=image_type)
        )

    @pytest.mark.parametrize(
        "attempt",
        [
            a_full_ecs_attempt(SourceKind.CBR_BACKUP),
            a_full_ecs_attempt(SourceKind.ECS, backup_service=BackupService.CBR),
        ],
        ids=["from a CBR backup", "from an ECS through CBR"],
    )
    def test_cbr_stands_behind_it(self, attempt):
        assert is_kept(full_ecs_images_are_shared_only_when_created_using_cbr, attempt)

    @pytest.mark.parametrize(
        "attempt",
        [
            a_full_ecs_attempt(SourceKind.CSBS_BACKUP),
            a_full_ecs_attempt(SourceKind.ECS, backup_service=BackupService.CSBS),
        ],
        ids=["from a CSBS backup", "from an ECS through CSBS"],
    )
    def test_csbs_stands_behind_it(self, attempt):
        violation = the_violation(full_ecs_images_are_shared_only_when_created_using_cbr, attempt)

        assert violation.reason is Reason.FULL_ECS_NOT_FROM_CBR
        assert violation.metadata == {}


class TestFullEcsImagesOfBorrowedBackupsAreNotShared:
    def test_a_backup_of_ones_own(self):
        attempt = a_full_ecs_attempt(SourceKind.CBR_BACKUP, backup_received_by_sharing=False)

        assert is_kept(full_ecs_images_of_borrowed_backups_are_not_shared, attempt)

    def test_a_backup_that_was_itself_received_by_sharing(self):
        attempt = a_full_ecs_attempt(SourceKind.CBR_BACKUP, backup_received_by_sharing=True)

        violation = the_violation(full_ecs_images_of_borrowed_backups_are_not_shared, attempt)
        assert violation.reason is Reason.BACKUP_IS_SHARED
        assert is_kept(full_ecs_images_are_shared_only_when_created_using_cbr, attempt)


class TestNobodySharesWithOneself:
    def test_others_are_shared_with(self):
        assert is_kept(nobody_shares_with_oneself, a_sharing(recipients=tenants(3)))

    def test_the_owner_is_not(self):
        violation = the_violation(
            nobody_shares_with_oneself, a_sharing(recipients=(a_tenant(), a_tenant(OWNER)))
        )

        assert violation.reason is Reason.SHARE_WITH_OWNER
        assert violation.metadata == {"tenantId": OWNER}
        assert nobody_shares_with_oneself.category is Category.MALFORMED


class TestRecipientsAreKnownWhereTheDirectoryIsClosed:
    def test_all_are_known(self):
        assert is_kept(recipients_are_known_where_the_directory_is_closed, a_sharing())

    def test_each_unknown_one_is_named_in_the_order_of_the_request(self):
        attempt = a_sharing(
            recipients=tenants(4),
            unknown_tenants=frozenset({TenantId("tenant-3"), TenantId("tenant-1")}),
        )

        violations = list(recipients_are_known_where_the_directory_is_closed.violations(attempt))
        assert [each.metadata for each in violations] == [
            {"tenantId": "tenant-1"},
            {"tenantId": "tenant-3"},
        ]
        assert {each.reason for each in violations} == {Reason.TENANT_NOT_FOUND}
        assert recipients_are_known_where_the_directory_is_closed.category is Category.UNKNOWN_TENANT

    def test_who_has_a_share_keeps_it_though_the_directory_forgot_it(self):
        """Sharing again leaves a share as it is and succeeds (law 3.10)."""
        attempt = a_sharing(
            sharing_with=frozenset({RECIPIENT}), share_count=1, unknown_tenants=frozenset({RECIPIENT})
        )

        assert is_kept(recipients_are_known_where_the_directory_is_closed, attempt)


class TestSharesStayWithinTheRegion:
    def test_a_recipient_of_the_images_region(self):
        assert is_kept(shares_stay_within_the_region, a_sharing(recipients=(a_tenant(region=HOME),)))

    def test_each_recipient_of_another_is_named_with_both_regions_and_the_way_across(self):
        attempt = a_sharing(
            recipients=(a_tenant("near"), a_tenant("far", ELSEWHERE), a_tenant("farther", "ap-1"))
        )

        violations = list(shares_stay_within_the_region.violations(attempt))
        assert [each.metadata for each in violations] == [
            {"tenantId": "far", "tenantRegion": ELSEWHERE, "imageRegion": HOME},
            {"tenantId": "farther", "tenantRegion": "ap-1", "imageRegion": HOME},
        ]
        assert {each.reason for each in violations} == {Reason.CROSS_REGION_SHARE}
        assert all("Copy the image to that region" in each.message for each in violations)

    def test_what_counts_is_the_images_region_and_not_the_callers(self):
        attempt = a_sharing(
            caller=a_caller(region=ELSEWHERE),
            image=an_image(region=ELSEWHERE),
            recipients=(a_tenant(region=HOME),),
        )

        assert the_violation(shares_stay_within_the_region, attempt)

    def test_who_has_a_share_keeps_it_though_it_moved(self):
        attempt = a_sharing(
            recipients=(a_tenant(region=ELSEWHERE),), sharing_with=frozenset({RECIPIENT}), share_count=1
        )

        assert is_kept(shares_stay_within_the_region, attempt)


class TestNothingNewIsSharedWhileSharingIsBlocked:
    def test_without_a_block_it_is(self):
        assert is_kept(nothing_new_is_shared_while_sharing_is_blocked, a_sharing())

    @pytest.mark.parametrize(
        ("block", "whose"),
        [
            ({"owner_blocked": True}, "OWNER"),
            ({"all_blocked": True}, "ALL_TENANTS"),
            ({"owner_blocked": True, "all_blocked": True}, "ALL_TENANTS"),
        ],
    )
    def test_a_block_is_told_and_whose_it_is(self, block, whose):
        attempt = a_sharing(recipients=tenants(2), **block)

        violation = the_violation(nothing_new_is_shared_while_sharing_is_blocked, attempt)
        assert violation.metadata == {"blockedFor": whose}

    def test_who_has_a_share_already_keeps_it(self):
        attempt = a_sharing(sharing_with=frozenset({RECIPIENT}), owner_blocked=True, all_blocked=True)

        assert is_kept(nothing_new_is_shared_while_sharing_is_blocked, attempt)


class TestSharesStayWithinTheLimit:
    def test_the_128th_tenant_is_let_in(self):
        assert is_kept(shares_stay_within_the_limit, a_sharing(share_count=127))

    def test_the_129th_tenant_is_refused(self):
        violation = the_violation(shares_stay_within_the_limit, a_sharing(share_count=128))

        assert violation.reason is Reason.SHARE_LIMIT_EXCEEDED
        assert violation.metadata == {"limit": 128, "used": 128, "asked": 1}
        assert shares_stay_within_the_limit.category is Category.OVER_LIMIT

    @pytest.mark.parametrize(("count", "kept"), [(28, True), (29, False)])
    def test_a_batch_fits_as_a_whole_or_not(self, count: int, kept: bool):
        attempt = a_sharing(recipients=tenants(count), share_count=100)

        assert is_kept(shares_stay_within_the_limit, attempt) is kept

    def test_who_has_a_share_already_is_not_counted_twice(self):
        attempt = a_sharing(sharing_with=frozenset({RECIPIENT}), share_count=128)

        assert is_kept(shares_stay_within_the_limit, attempt)

    def test_who_has_a_share_already_keeps_it_though_the_limit_was_lowered(self):
        attempt = a_sharing(sharing_with=frozenset({RECIPIENT}), share_count=128, share_limit=10)

        assert is_kept(shares_stay_within_the_limit, attempt)

    @pytest.mark.parametrize(("limit", "kept"), [(0, False), (1, True)])
    def test_the_limit_is_a_setting(self, limit: int, kept: bool):
        assert is_kept(shares_stay_within_the_limit, a_sharing(share_limit=limit)) is kept

    def test_the_law_says_128(self):
        assert Limits().shares_of(an_image()) == Limits().shares_of(a_full_ecs_image()) == 128

    def test_a_lower_cap_for_full_ecs_images_goes_for_them_alone(self):
        limits = Limits(shares_per_full_ecs_image=10)

        assert limits.shares_of(a_full_ecs_image()) == 10
        assert limits.shares_of(an_image()) == 128

    def test_a_cap_for_full_ecs_images_is_never_a_higher_one(self):
        assert Limits(shares_per_full_ecs_image=200).shares_of(a_full_ecs_image()) == 128


class TestAShareIsSeenByItsTwoSides:
    @pytest.mark.parametrize("tenant", [OWNER, RECIPIENT])
    def test_the_owner_and_its_recipient_see_it(self, tenant: TenantId):
        assert is_kept(a_share_is_seen_by_its_two_sides, a_look_at_a_share(caller=a_caller(tenant)))

    def test_another_recipient_does_not_and_cannot_tell_that_it_exists(self):
        other = a_caller(STRANGER)

        hidden = the_violation(a_share_is_seen_by_its_two_sides, a_look_at_a_share(caller=other))
        missing = the_violation(
            a_share_is_seen_by_its_two_sides, a_look_at_a_share(caller=other, found=None)
        )
        assert hidden == missing
        assert hidden.reason is Reason.SHARE_NOT_FOUND
        assert a_share_is_seen_by_its_two_sides.category is Category.MISSING

    def test_no_role_lets_anybody_else_see_it(self):
        attempt = a_look_at_a_share(caller=a_caller(STRANGER, *Role))

        assert the_violation(a_share_is_seen_by_its_two_sides, attempt)

    def test_the_owner_is_told_that_there_is_none(self):
        assert the_violation(a_share_is_seen_by_its_two_sides, a_look_at_a_share(found=None))


class TestOnlyARecipientHasSomethingToDecide:
    @pytest.mark.parametrize("status", ShareStatus)
    def test_a_recipient_has_whatever_it_decided_before(self, status: ShareStatus):
        attempt = a_recipients_attempt(share=a_share(status=status))

        assert is_kept(only_a_recipient_has_something_to_decide, attempt)

    def test_who_sees_a_public_image_has_not(self):
        attempt = an_attempt(caller=a_caller(STRANGER), image=an_image(public=True))

        violation = the_violation(only_a_recipient_has_something_to_decide, attempt)
        assert violation.reason is Reason.SHARE_NOT_FOUND
        assert only_a_recipient_has_something_to_decide.category is Category.MISSING

    def test_the_owner_is_told_something_else(self):
        assert is_kept(only_a_recipient_has_something_to_decide, an_attempt())


class TestOnlyTheRecipientDecides:
    def test_a_recipient_does(self):
        assert is_kept(only_the_recipient_decides, a_recipients_attempt())

    def test_the_owner_does_not(self):
        violation = the_violation(only_the_recipient_decides, an_attempt())

        assert violation.reason is Reason.ONLY_RECIPIENT_DECIDES
        assert only_the_recipient_decides.category is Category.FORBIDDEN


class TestARecipientIsAtHomeInTheRegion:
    def test_it_is(self):
        assert is_kept(a_recipient_is_at_home_in_the_region, an_acceptance())

    def test_its_identity_says_that_it_is_not(self):
        attempt = an_acceptance(caller=a_caller(RECIPIENT, region=ELSEWHERE))

        violation = the_violation(a_recipient_is_at_home_in_the_region, attempt)
        assert violation.reason is Reason.CROSS_REGION_SHARE
        assert violation.metadata == {
            "tenantId": RECIPIENT,
            "tenantRegion": ELSEWHERE,
            "imageRegion": HOME,
        }
        assert a_recipient_is_at_home_in_the_region.category is Category.AGAINST_RULES


class TestAcceptingAFullEcsImageNamesAServerBackupVault:
    def test_a_server_backup_vault_is_named(self):
        assert is_kept(accepting_a_full_ecs_image_names_a_server_backup_vault, an_acceptance())

    @pytest.mark.parametrize(
        "vault", [None, a_vault(type=VaultType.DISK_BACKUP)], ids=["none", "a vault for disks"]
    )
    def test_no_such_vault_is_named(self, vault):
        violation = the_violation(
            accepting_a_full_ecs_image_names_a_server_backup_vault, an_acceptance(vault=vault)
        )

        assert violation.reason is Reason.VAULT_REQUIRED
        assert violation.subject == "vault_id"

    def test_none_is_needed_without_a_backup_provider(self):
        attempt = an_acceptance(vault=None, backup_provider_exists=False)

        assert is_kept(accepting_a_full_ecs_image_names_a_server_backup_vault, attempt)

    @pytest.mark.parametrize("image_type", sorted(set(ImageType) - {ImageType.FULL_ECS}))
    def test_none_is_needed_for_another_image(self, image_type: ImageType):
        attempt = an_acceptance(image=an_image(type=image_type), vault=None)

        assert is_kept(accepting_a_full_ecs_image_names_a_server_backup_vault, attempt)


class TestTheVaultHoldsAllDisks:
    def test_a_vault_as_large_as_all_disks_together(self):
        assert is_kept(the_vault_holds_all_disks, an_acceptance(vault=a_vault(capacity_gib=4)))

    def test_a_vault_that_is_a_gib_smaller(self):
        violation = the_violation(
            the_vault_holds_all_disks, an_acceptance(vault=a_vault(capacity_gib=3))
        )

        assert violation.reason is Reason.VAULT_TOO_SMALL
        assert violation.metadata == {"neededGib": 4, "vaultCapacityGib": 3}

    @pytest.mark.parametrize(("capacity_gib", "kept"), [(5, True), (4, False)])
    def test_a_byte_more_needs_another_gib(self, capacity_gib: int, kept: bool):
        disks = (a_disk(), a_disk(index=1, role=DiskRole.DATA, capacity_bytes=2 * GIB + 1))
        attempt = an_acceptance(
            image=a_full_ecs_image(disks=disks), vault=a_vault(capacity_gib=capacity_gib)
        )

        assert is_kept(the_vault_holds_all_disks, attempt) is kept

    def test_its_size_does_not_matter_where_none_is_needed(self):
        small = a_vault(capacity_gib=1)

        assert is_kept(
            the_vault_holds_all_disks, an_acceptance(vault=small, backup_provider_exists=False)
        )
        assert is_kept(the_vault_holds_all_disks, an_acceptance(image=an_image(), vault=small))


class TestOnlyAcceptedSharesAreUsed:
    def test_a_recipient_who_has_accepted_uses_it(self):
        assert is_kept(only_accepted_shares_are_used, a_recipients_attempt(share=an_accepted_share()))

    @pytest.mark.parametrize("status", NOT_ACCEPTED)
    def test_a_recipient_who_has_not_does_not(self, status: ShareStatus):
        violation = the_violation(
            only_accepted_shares_are_used, a_recipients_attempt(share=a_share(status=status))
        )

        assert violation.reason is Reason.SHARE_NOT_ACCEPTED
        assert violation.metadata == {"shareStatus": status}

    def test_who_has_no_share_does_not(self):
        violation = the_violation(only_accepted_shares_are_used, a_recipients_attempt(share=None))

        assert violation.metadata == {"shareStatus": "missing"}

    def test_the_owner_needs_no_share(self):
        assert is_kept(only_accepted_shares_are_used, an_attempt())

    @pytest.mark.parametrize("status", [None, *NOT_ACCEPTED])
    def test_nobody_needs_one_for_a_public_image(self, status: ShareStatus | None):
        share = None if status is None else a_share(status=status)
        attempt = a_recipients_attempt(image=an_image(public=True), share=share)

        assert is_kept(only_accepted_shares_are_used, attempt)


class TestShareImage:
    def test_it_succeeds_when_nothing_is_broken(self):
        enforce(SHARE_IMAGE, a_sharing())

    def test_all_that_is_wrong_with_image_and_recipients_is_told_at_once(self):
        source = Source(kind=SourceKind.CSBS_BACKUP, id="backup-1")
        attempt = a_sharing(
            image=a_full_ecs_image(source=source, encryption_key_id=KeyId("key-1"), public=True),
            recipients=(a_tenant("unknown"), a_tenant("far", ELSEWHERE)),
            unknown_tenants=frozenset({TenantId("unknown")}),
        )

        with pytest.raises(Rejection) as caught:
            enforce(SHARE_IMAGE, attempt)

        assert [each.reason for each in caught.value.violations] == [
            Reason.PUBLIC_IMAGE_NOT_SHAREABLE,
            Reason.ENCRYPTED_IMAGE_NOT_SHAREABLE,
            Reason.FULL_ECS_NOT_FROM_CBR,
            Reason.TENANT_NOT_FOUND,
            Reason.CROSS_REGION_SHARE,
        ]
        assert caught.value.category is Category.AGAINST_RULES

    def test_the_limit_is_spoken_of_only_when_all_else_is_right(self):
        full = {"share_count": 128}

        with pytest.raises(Rejection) as wrong_state:
            enforce(SHARE_IMAGE, a_sharing(image=an_image(state=ImageState.QUEUED), **full))
        with pytest.raises(Rejection) as over_limit:
            enforce(SHARE_IMAGE, a_sharing(**full))

        assert wrong_state.value.reason is Reason.IMAGE_NOT_ACTIVE
        assert over_limit.value.reason is Reason.SHARE_LIMIT_EXCEEDED


class TestSharesEndInTheFuture:
    @pytest.mark.parametrize("end", [None, A_MOMENT + timedelta(microseconds=1)])
    def test_without_an_end_or_with_one_that_is_still_to_come_it_is_shared(self, end):
        assert is_kept(shares_end_in_the_future, a_sharing(expire_time=end))
        assert is_kept(shares_end_in_the_future, a_share_update(expire_time=end))

    @pytest.mark.parametrize("end", [A_MOMENT, A_MOMENT - timedelta(days=1)])
    def test_what_would_have_ended_already_does_not_begin(self, end):
        for attempt in (a_sharing(expire_time=end), a_share_update(expire_time=end)):
            violation = the_violation(shares_end_in_the_future, attempt)

            assert violation.reason is Reason.EXPIRE_TIME_PASSED
            assert violation.subject == "expire_time"
        assert shares_end_in_the_future.category is Category.AGAINST_RULES


class TestRecipientsHaveRoomForAPendingShare:
    def test_who_has_room_gets_one(self):
        assert is_kept(recipients_have_room_for_a_pending_share, a_sharing())

    def test_who_has_none_is_named_and_nothing_else_is_told(self):
        full = a_sharing(recipients=(a_tenant("a"), a_tenant("b")), full=frozenset({TenantId("b")}))
        violation = the_violation(recipients_have_room_for_a_pending_share, full)

        assert violation.reason is Reason.RECIPIENT_HAS_TOO_MANY_PENDING
        assert violation.metadata == {"tenantId": "b"}
        assert recipients_have_room_for_a_pending_share.category is Category.OVER_LIMIT

    def test_who_has_a_share_already_needs_no_room(self):
        full = frozenset({RECIPIENT})

        assert is_kept(recipients_have_room_for_a_pending_share, a_sharing(full=full, sharing_with=full))


class TestTheOwnerNeverSetsAStatus:
    def test_the_owner_moves_the_end(self):
        assert is_kept(the_owner_never_sets_a_status, a_share_update())

    def test_the_status_is_the_recipients(self):
        both = a_share_update(fields=frozenset({"expire_time", "status"}))
        violation = the_violation(the_owner_never_sets_a_status, both)

        assert violation.reason is Reason.ONLY_RECIPIENT_DECIDES
        assert the_owner_never_sets_a_status.category is Category.FORBIDDEN

    def test_others_are_told_that_they_do_not_own_the_image(self):
        theirs = a_share_update(caller=a_caller(RECIPIENT), fields=frozenset({"status"}))

        assert is_kept(the_owner_never_sets_a_status, theirs)


class TestOfAShareOnlyItsEndIsUpdated:
    def test_its_end_is(self):
        assert is_kept(of_a_share_only_its_end_is_updated, a_share_update())

    @pytest.mark.parametrize("field", ["region", "tenant_id", "vault_id", "no_such_field"])
    def test_everything_else_stays_as_it_is(self, field: str):
        attempt = a_share_update(fields=frozenset({"expire_time", field}))
        violation = the_violation(of_a_share_only_its_end_is_updated, attempt)

        assert violation.reason is Reason.FIELD_NOT_UPDATABLE
        assert violation.metadata == {"field": field}
        assert of_a_share_only_its_end_is_updated.category is Category.MALFORMED
