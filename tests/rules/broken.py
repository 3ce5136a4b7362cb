"""Facts that break each rule of the law: what is sent when one is broken can be read off them."""

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
    an_image,
)
from ims.domain.caller import Role
from ims.domain.image import (
    GIB,
    DiskFormat,
    DiskRole,
    DiskState,
    Firmware,
    ImageState,
    ImageType,
    KeyId,
    Source,
    SourceKind,
)
from ims.domain.registered_use import UsageTotal
from ims.domain.rejection import Reason
from ims.domain.share import ShareStatus
from ims.domain.tenant import TenantId
from ims.domain.trust import TrustRules
from ims.domain.use import Purpose
from ims.rules import (
    audit,
    changes,
    copying,
    creation,
    exporting,
    form,
    image_data,
    images,
    in_use,
    keys,
    operations,
    publication,
    quotas,
    regions,
    registered_uses,
    repetition,
    roles,
    sharing,
    tenants,
    trust,
    uploads,
    use,
    visibility,
)
from ims.rules.engine import Rule
from ims.rules.image_data import Announcement
from ims.rules.states import TRANSITIONS, Verb, state_allows
from ims.rules.tenants import Standing
from rules.facts import (
    A_PROBLEM,
    ANOTHER_SHA256,
    a_change,
    a_change_of_trust,
    a_copying,
    a_copying_to_a_region,
    a_creation,
    a_creation_of,
    a_deletion,
    a_direct_download,
    a_download,
    a_draft,
    a_draft_of,
    a_found_upload,
    a_governance,
    a_look_at_a_share,
    a_look_at_a_tenant,
    a_look_at_an_operation,
    a_look_at_quotas,
    a_progress,
    a_query,
    a_recipients_attempt,
    a_registered_tenant,
    a_registration,
    a_registration_of_a_tenant,
    a_repetition,
    a_report,
    a_representation,
    a_share_update,
    a_sharing,
    a_sight,
    a_started_upload,
    a_taking_in,
    a_use,
    a_vault,
    an_acceptance,
    an_allowance,
    an_arrival,
    an_arrived_file,
    an_attempt,
    an_attempt_on,
    an_audit_query,
    an_empty_disk,
    an_exporting,
    an_undeletion,
    an_update,
    an_upload,
)

KEY = KeyId("key-1")
A_SERVER = Source(kind=SourceKind.ECS, id="server")
A_CSBS_BACKUP = Source(kind=SourceKind.CSBS_BACKUP, id="backup")
A_BORROWED_BACKUP = Source(kind=SourceKind.CBR_BACKUP, id="backup", backup_received_by_sharing=True)
PUBLIC = an_image(public=True)
LARGE = Announcement(size_bytes=128 * GIB + 1)
ANOTHER_FILE = Announcement(size_bytes=1000, sha256=ANOTHER_SHA256)

_ABOUT_IMAGES: tuple[tuple[Rule, object], ...] = (
    (
        creation.data_disk_images_are_not_protected,
        a_creation_of(type=ImageType.DATA_DISK, protected=True),
    ),
    (images.names_are_1_to_128_plain_characters, a_creation_of(name="x" * 129)),
    (images.names_with_two_underscores_are_reserved, a_creation_of(name="__a")),
    (images.descriptions_are_one_plain_line, a_creation_of(description="x" * 1025)),
    (images.tags_are_short_and_plain, a_creation_of(tags=(("k" * 37, ""),))),
    (
        images.an_image_has_at_most_ten_tags,
        a_creation_of(tags=tuple((f"key-{number}", "") for number in range(11))),
    ),
    (images.min_disk_is_within_its_range, a_creation_of(min_disk_gib=1025)),
    (images.memory_bounds_make_sense, a_creation_of(min_ram_mib=2048, max_ram_mib=1024)),
    (images.min_disk_holds_the_disk_inside_the_file, an_update(draft=an_image(min_disk_gib=1))),
    (images.names_are_unique_among_live_images, a_creation(name_taken=True)),
    (images.one_backup_makes_one_image, an_undeletion(backup_used=True)),
    (creation.only_services_vouch_for_servers_volumes_and_backups, a_creation_of(source=A_SERVER)),
    (creation.only_services_create_for_other_tenants, a_creation(caller=a_caller(STRANGER))),
    (creation.only_members_create_from_files, a_creation(caller=a_caller(OWNER, Role.SERVICE))),
    (
        creation.files_are_uploaded_by_their_owner_and_copies_made_by_copying,
        a_creation_of(source=Source(kind=SourceKind.IMAGE, id="image")),
    ),
    (creation.the_source_can_yield_such_an_image, a_creation_of(type=ImageType.FULL_ECS)),
    (
        creation.a_full_ecs_image_of_a_server_names_its_backup_service,
        a_creation_of(type=ImageType.FULL_ECS, source=A_SERVER),
    ),
    (
        creation.the_disks_are_those_of_the_type,
        a_creation(draft=a_draft_of(ImageType.SYSTEM_DISK, disks=2)),
    ),
    (
        creation.the_disks_are_those_of_the_type,
        a_creation_of(disks=(an_empty_disk(format=DiskFormat.ISO),)),
    ),
    (
        creation.only_system_disk_images_are_made_for_bms,
        a_creation_of(type=ImageType.DATA_DISK, for_bms=True),
    ),
    (
        creation.bms_and_iso_images_are_never_encrypted,
        a_creation_of(for_bms=True, encryption_key_id=KEY),
    ),
    (creation.an_image_is_encrypted_with_a_usable_key, a_creation_of(encryption_key_id=KEY)),
    (changes.only_the_owner_changes_an_image, a_recipients_attempt()),
    (changes.the_image_is_as_the_caller_read_it, a_change(expected_etag='"0"')),
    (changes.what_an_image_is_can_never_be_written, an_update(fields=frozenset({"state"}))),
    (
        changes.a_data_disk_image_changes_name_description_and_tags_only,
        an_update(image=an_image(type=ImageType.DATA_DISK), fields=frozenset({"min_ram_mib"})),
    ),
    (changes.public_images_are_not_deleted, a_change(image=PUBLIC)),
    (changes.protected_images_are_not_deleted, a_change(image=an_image(protected=True))),
    (changes.only_administrators_deactivate_public_images, an_attempt(image=PUBLIC)),
    (changes.only_the_owner_deactivates_a_private_image, a_recipients_attempt()),
    (
        changes.what_an_administrator_deactivated_only_one_reactivates,
        an_attempt_on(state=ImageState.DEACTIVATED, deactivated_by_admin=True),
    ),
    (changes.only_administrators_deactivate_what_others_own, an_attempt()),
    (publication.only_administrators_publish, an_attempt()),
    (publication.encrypted_images_are_not_published, an_attempt_on(encryption_key_id=KEY)),
    (
        publication.only_system_disk_and_iso_images_are_published,
        an_attempt_on(type=ImageType.DATA_DISK),
    ),
)

_LARGE_IMAGE = an_image(disks=(a_disk(size_bytes=128 * GIB + 1),))
_SEALED = an_image(encryption_key_id=KEY)
_ABOUT_COPIES: tuple[tuple[Rule, object], ...] = (
    (copying.full_ecs_images_are_not_copied, a_copying(image=a_full_ecs_image())),
    (copying.iso_images_are_not_copied, a_copying(image=an_image(type=ImageType.ISO))),
    (
        copying.a_key_is_changed_for_another,
        a_copying(image=_SEALED, draft=_SEALED, key_asked=True),
    ),
    (copying.a_copy_is_encrypted_with_a_usable_key, a_copying(draft=_SEALED)),
    (copying.copies_have_at_most_128_gib, a_copying(image=_LARGE_IMAGE)),
)

_ABOUT_EXPORTS: tuple[tuple[Rule, object], ...] = (
    (exporting.only_the_owner_exports, an_exporting(caller=a_caller(STRANGER))),
    (exporting.public_images_are_not_exported, an_exporting(image=PUBLIC)),
    (exporting.full_ecs_images_are_not_exported, an_exporting(image=a_full_ecs_image())),
    (exporting.iso_images_are_not_exported, an_exporting(image=an_image(type=ImageType.ISO))),
    (
        exporting.what_derives_from_a_marked_image_is_not_exported,
        an_exporting(image=an_image(non_exportable=True)),
    ),
    (exporting.exports_go_to_buckets_that_are_open_to_the_tenant, an_exporting(bucket_open=False)),
    (exporting.the_target_does_not_exist, an_exporting(target_taken=True)),
)

_ANOTHERS = a_caller("ims.another", Role.PEER, region="another")
_OUR_OWN = a_caller("ims.home", Role.PEER, region=HOME)
_FROM_HERE = a_draft(source=Source(kind=SourceKind.IMAGE, id="image", region=HOME))
_ABOUT_REGIONS: tuple[tuple[Rule, object], ...] = (
    (
        regions.only_the_owner_copies_to_another_region,
        a_copying_to_a_region(caller=a_caller(STRANGER)),
    ),
    (regions.the_regions_differ, a_copying_to_a_region(region=HOME)),
    (regions.the_other_regions_service_is_known, a_copying_to_a_region(peer_known=False)),
    (regions.encrypted_images_stay_in_their_region, a_copying_to_a_region(image=_SEALED)),
    (
        regions.iso_images_stay_in_their_region,
        a_copying_to_a_region(image=an_image(type=ImageType.ISO)),
    ),
    (regions.a_peer_brings_images_of_its_own_region, a_taking_in(caller=_ANOTHERS)),
    (
        regions.what_a_peer_brings_is_not_from_here,
        a_taking_in(caller=_OUR_OWN, draft=_FROM_HERE),
    ),
    (regions.it_is_brought_for_a_tenant_that_is_known, a_taking_in(owner_unknown=True)),
    (
        regions.a_full_ecs_image_comes_with_a_server_backup_vault,
        a_taking_in(full_ecs=True, vault=None),
    ),
    (
        regions.the_vault_there_holds_all_disks,
        a_taking_in(full_ecs=True, vault=a_vault(capacity_gib=3)),
    ),
    (regions.only_who_brings_an_image_discards_it, an_attempt()),
)

_ABOUT_OPERATIONS: tuple[tuple[Rule, object], ...] = (
    (operations.the_operation_is_the_callers_tenants, a_look_at_an_operation(found=None)),
    (operations.only_what_has_ended_is_forgotten, a_look_at_an_operation()),
)

_ABOUT_IMAGE_DATA: tuple[tuple[Rule, object], ...] = (
    (image_data.only_the_owner_or_its_service_uploads, an_upload(caller=a_caller(STRANGER))),
    (
        image_data.only_the_declaring_service_uploads_what_it_vouches_for,
        an_upload(image=a_draft(declared_by=TenantId("compute"))),
    ),
    (
        image_data.only_members_upload_files_of_their_own,
        an_upload(caller=a_caller(OWNER, Role.SERVICE)),
    ),
    (image_data.the_disk_is_one_of_the_image, an_upload(disk_index=3)),
    (
        image_data.one_upload_at_a_time_fills_a_disk,
        an_upload(image=a_draft(disks=(an_empty_disk(state=DiskState.SAVING),))),
    ),
    (image_data.a_stored_disk_is_not_filled_again, an_upload(image=an_image())),
    (image_data.files_stay_within_the_limit, an_upload(announced=LARGE)),
    (image_data.no_more_arrives_than_was_announced, an_arrival(received_bytes=1001)),
    (image_data.the_file_has_its_announced_size, an_arrived_file(disk=a_disk(size_bytes=999))),
    (image_data.the_file_has_its_announced_digest, an_arrived_file(announced=ANOTHER_FILE)),
    (
        image_data.the_file_is_what_it_claims_to_be,
        an_arrived_file(report=a_report(format=DiskFormat.RAW, described_as="RAW")),
    ),
    (
        image_data.the_file_is_sound_and_keeps_to_itself,
        an_arrived_file(report=a_report(dangers=("it has a backing file",))),
    ),
    (
        image_data.the_disk_inside_fits_the_largest_disk,
        an_arrived_file(disk=a_disk(role=DiskRole.SYSTEM, capacity_bytes=1025 * GIB)),
    ),
    (
        image_data.damaged_bytes_are_not_given_out,
        a_download(image=an_image(disks=(a_disk(damaged=True),))),
    ),
    (
        image_data.only_plain_bytes_in_a_store_for_it_are_read_directly,
        a_direct_download(store_gives_urls=False),
    ),
    (image_data.a_download_begins_within_the_file, a_download(offset_bytes=1001)),
    (uploads.the_upload_is_one_of_the_disk, a_found_upload(upload=None)),
    (uploads.a_writer_goes_on_where_the_upload_has_come_to, a_progress(offset_bytes=499)),
    (
        uploads.what_is_to_be_converted_is_imported,
        a_found_upload(upload=a_started_upload(source_format=DiskFormat.QCOW2)),
    ),
    (uploads.only_a_whole_upload_is_finished, a_progress(received_bytes=999)),
    (
        uploads.a_direct_upload_is_not_written_to_the_service,
        a_found_upload(upload=a_started_upload(part_bytes=100)),
    ),
    (uploads.only_a_direct_upload_is_brought_to_the_store, a_found_upload()),
    (
        image_data.only_plain_bytes_are_brought_directly_to_a_store_for_it,
        a_found_upload(upload=a_started_upload(part_bytes=100)),
    ),
)

_ABOUT_SHARING: tuple[tuple[Rule, object], ...] = (
    (sharing.only_the_owner_shares, a_recipients_attempt()),
    (
        sharing.a_call_names_at_most_100_tenants,
        a_sharing(recipients=tuple(a_tenant(f"tenant-{number}") for number in range(101))),
    ),
    (sharing.only_private_images_are_shared, a_sharing(image=PUBLIC)),
    (sharing.encrypted_images_are_not_shared, a_sharing(image=an_image(encryption_key_id=KEY))),
    (
        sharing.full_ecs_images_are_shared_only_when_created_using_cbr,
        a_sharing(image=a_full_ecs_image(source=A_CSBS_BACKUP)),
    ),
    (
        sharing.full_ecs_images_of_borrowed_backups_are_not_shared,
        a_sharing(image=a_full_ecs_image(source=A_BORROWED_BACKUP)),
    ),
    (sharing.nobody_shares_with_oneself, a_sharing(recipients=(a_tenant(OWNER),))),
    (
        sharing.recipients_are_known_where_the_directory_is_closed,
        a_sharing(unknown_tenants=frozenset({RECIPIENT})),
    ),
    (
        sharing.shares_stay_within_the_region,
        a_sharing(recipients=(a_tenant(region=ELSEWHERE),)),
    ),
    (sharing.nothing_new_is_shared_while_sharing_is_blocked, a_sharing(owner_blocked=True)),
    (sharing.nothing_new_is_shared_while_sharing_is_blocked, a_sharing(all_blocked=True)),
    (sharing.shares_stay_within_the_limit, a_sharing(share_count=128)),
    (sharing.shares_end_in_the_future, a_sharing(expire_time=A_MOMENT)),
    (
        sharing.recipients_have_room_for_a_pending_share,
        a_sharing(full=frozenset({RECIPIENT})),
    ),
    (sharing.the_owner_never_sets_a_status, a_share_update(fields=frozenset({"status"}))),
    (sharing.of_a_share_only_its_end_is_updated, a_share_update(fields=frozenset({"region"}))),
    (sharing.a_share_is_seen_by_its_two_sides, a_look_at_a_share(found=None)),
    (sharing.only_a_recipient_has_something_to_decide, a_recipients_attempt(share=None)),
    (sharing.only_the_recipient_decides, an_attempt()),
    (
        sharing.a_recipient_is_at_home_in_the_region,
        an_acceptance(caller=a_caller(RECIPIENT, region=ELSEWHERE)),
    ),
    (
        sharing.accepting_a_full_ecs_image_names_a_server_backup_vault,
        an_acceptance(vault=None),
    ),
    (sharing.the_vault_holds_all_disks, an_acceptance(vault=a_vault(capacity_gib=3))),
    (
        sharing.only_accepted_shares_are_used,
        a_recipients_attempt(share=a_share(status=ShareStatus.PENDING)),
    ),
)

_TRUSTED_AND_BLOCKED = TrustRules(auto_accept_from=(OWNER,), blocked=(OWNER,))
_ABOUT_TRUST: tuple[tuple[Rule, object], ...] = (
    (trust.an_owner_is_trusted_or_blocked, a_change_of_trust(draft=_TRUSTED_AND_BLOCKED)),
    (trust.the_rules_are_as_the_caller_read_them, a_change_of_trust(expected_etag='"7"')),
)

_ABOUT_USE: tuple[tuple[Rule, object], ...] = (
    (use.only_services_act_for_other_tenants, a_representation(caller=a_caller(STRANGER))),
    (use.the_type_serves_the_purpose, a_use(image=an_image(type=ImageType.DATA_DISK))),
    (use.bare_metal_servers_need_an_image_made_for_them, a_use(Purpose.CREATE_BMS)),
    (use.an_os_change_keeps_the_firmware, a_use(Purpose.CHANGE_OS, firmware=Firmware.UEFI)),
    (use.the_disk_holds_the_image, a_use(disk_gib=1)),
    (
        use.the_memory_is_within_the_images_bounds,
        a_use(image=an_image(min_ram_mib=2048, max_ram_mib=4096), ram_mib=1024),
    ),
    (use.the_image_is_available_in_the_region, a_use(region=ELSEWHERE)),
    (
        keys.the_key_of_an_encrypted_image_is_usable,
        a_use(image=an_image(encryption_key_id=KEY)),
    ),
    (registered_uses.registered_uses_stay_within_the_limit, a_registration(use_count=10_000)),
    (
        in_use.nothing_in_use_is_taken_where_the_owner_requires_that,
        a_deletion(usage_to_spare=UsageTotal(uses=3, tenants=2)),
    ),
)

_ABOUT_QUOTAS: tuple[tuple[Rule, object], ...] = (
    (
        quotas.private_images_stay_within_the_quota,
        a_creation(allowance=an_allowance(private_images=50)),
    ),
    (
        quotas.stored_bytes_stay_within_the_quota,
        an_upload(allowance=an_allowance(stored_bytes=50 * 128 * GIB)),
    ),
    (quotas.creations_at_once_stay_within_the_quota, an_upload(allowance=an_allowance(creations=40))),
    (
        quotas.copies_at_once_stay_within_the_quota,
        a_copying(
            draft=an_image(state=ImageState.SAVING, source=Source(kind=SourceKind.IMAGE, id="source")),
            allowance=an_allowance(copies=5),
        ),
    ),
    (quotas.only_administrators_govern_quotas, a_look_at_quotas(caller=a_caller())),
)

_ABOUT_TENANTS: tuple[tuple[Rule, object], ...] = (
    (
        tenants.nobody_suspends_the_tenant_that_it_calls_for,
        a_look_at_a_tenant(caller=a_caller(RECIPIENT, Role.ADMIN)),
    ),
    (tenants.a_suspended_tenant_does_nothing, Standing(tenant_id=OWNER, suspended=True)),
    (tenants.only_administrators_govern_tenants, a_governance(caller=a_caller())),
    (tenants.only_registered_tenants_are_governed, a_look_at_a_tenant(found=None)),
    (
        tenants.a_tenant_is_registered_in_one_region,
        a_registration_of_a_tenant(found=a_registered_tenant(region=ELSEWHERE)),
    ),
)

_ABOUT_STATES: tuple[tuple[Rule, object], ...] = tuple(
    (rule, an_attempt(image=an_image(state=state, purge_time=A_MOMENT)))
    for verb in Verb
    for rule in state_allows(verb)
    for state in ImageState
    if TRANSITIONS[verb][state] is rule.reason
)

BROKEN: tuple[tuple[Rule, object], ...] = (
    (visibility.the_image_is_visible_to_the_caller, a_sight(view=None)),
    (
        roles.an_rpc_is_called_with_a_role_that_suffices,
        roles.Call(caller=a_caller(OWNER, Role.READER), rpc="ShareImage"),
    ),
    (form.every_field_can_be_read, a_query(A_PROBLEM)),
    (repetition.a_request_id_stands_for_one_call, a_repetition(method="DeleteImage")),
    (audit.only_administrators_read_the_trail_of_others, an_audit_query(tenant_id=STRANGER)),
    *_ABOUT_IMAGES,
    *_ABOUT_COPIES,
    *_ABOUT_EXPORTS,
    *_ABOUT_REGIONS,
    *_ABOUT_OPERATIONS,
    *_ABOUT_IMAGE_DATA,
    *_ABOUT_SHARING,
    *_ABOUT_TRUST,
    *_ABOUT_USE,
    *_ABOUT_QUOTAS,
    *_ABOUT_TENANTS,
    *_ABOUT_STATES,
)
"""Each rule with facts that break it once; twice where it is broken in two ways."""


def metadata_keys_sent() -> dict[Reason, set[frozenset[str]]]:
    """Return for each reason the sets of metadata keys with which its rules are broken."""
    keys: dict[Reason, set[frozenset[str]]] = {}
    for rule, facts in BROKEN:
        for violation in rule.violations(facts):
            keys.setdefault(violation.reason, set()).add(frozenset(violation.metadata))
    return keys
