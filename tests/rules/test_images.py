"""The law of images (law 1, 5 and 6.3), rule by rule."""

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from builders import (
    HOME,
    OWNER,
    RECIPIENT,
    STRANGER,
    a_caller,
    a_disk,
    a_full_ecs_image,
    an_image,
)
from ims.domain.caller import Role
from ims.domain.image import (
    GIB,
    BackupService,
    DiskFormat,
    DiskRole,
    Image,
    ImageState,
    ImageType,
    KeyId,
    OperatingSystem,
    Source,
    SourceKind,
)
from ims.domain.image_changes import ImageChanges
from ims.domain.rejection import Category, Reason, Rejection
from ims.domain.tenant import TenantId
from ims.rules.engine import enforce
from ims.rules.images import (
    CREATE_IMAGE,
    DATA_DISK_FIELDS,
    DEACTIVATE_IMAGE,
    DELETE_IMAGE,
    PUBLISH_IMAGE,
    REACTIVATE_IMAGE,
    UNDELETE_IMAGE,
    UNPUBLISH_IMAGE,
    UPDATABLE_FIELDS,
    UPDATE_IMAGE,
    a_data_disk_image_changes_name_description_and_tags_only,
    a_full_ecs_image_of_a_server_names_its_backup_service,
    an_image_has_at_most_ten_tags,
    an_image_is_encrypted_with_a_usable_key,
    bms_and_iso_images_are_never_encrypted,
    descriptions_are_one_plain_line,
    encrypted_images_are_not_published,
    files_are_uploaded_by_their_owner_and_copies_made_by_copying,
    max_disk_gib,
    memory_bounds_make_sense,
    min_disk_holds_the_disk_inside_the_file,
    min_disk_is_within_its_range,
    names_are_1_to_128_plain_characters,
    names_are_unique_among_live_images,
    names_with_two_underscores_are_reserved,
    one_backup_makes_one_image,
    only_administrators_deactivate_public_images,
    only_administrators_publish,
    only_services_create_for_other_tenants,
    only_services_vouch_for_servers_volumes_and_backups,
    only_system_disk_and_iso_images_are_published,
    only_system_disk_images_are_made_for_bms,
    only_the_owner_changes_an_image,
    only_the_owner_deactivates_a_private_image,
    protected_images_are_not_deleted,
    public_images_are_not_deleted,
    tags_are_short_and_plain,
    the_disks_are_those_of_the_type,
    the_image_is_as_the_caller_read_it,
    the_source_can_yield_such_an_image,
    what_an_image_is_can_never_be_written,
    whole_gib,
)
from rules.facts import (
    a_change,
    a_creation,
    a_creation_of,
    a_draft,
    a_draft_of,
    a_recipients_attempt,
    an_attempt,
    an_attempt_on,
    an_empty_disk,
    an_undeletion,
    an_update,
    is_kept,
    the_violation,
)

LETTERS_AND_DIGITS = string.ascii_letters + string.digits
A_SERVICE = a_caller("compute", Role.SERVICE)
KEY = KeyId("key-1")


def other_types(*types: ImageType) -> list[ImageType]:
    return [each for each in ImageType if each not in types]


class TestNamesAre1To128PlainCharacters:
    @pytest.mark.parametrize(
        "name", ["a", "Z", "0", "-", ".", "_", "a b", "Debian 12.5_x86-64", "x" * 128]
    )
    def test_plain_names_are_taken(self, name: str):
        assert is_kept(names_are_1_to_128_plain_characters, a_creation_of(name=name))

    @pytest.mark.parametrize(
        "name",
        [
            "",
            " ",
            " a",
            "a ",
            "a\n",
            "\ta",
            "a\u00a0b",
            "größe",
            "a/b",
            "a:b",
            "<b>",
            "名",
            "٣",
            "x" * 129,
        ],
    )
    def test_others_are_refused(self, name: str):
        violation = the_violation(names_are_1_to_128_plain_characters, a_creation_of(name=name))

        assert violation.reason is Reason.INVALID_NAME
        assert violation.subject == "name"
        assert violation.metadata == {"maxNameLength": 128, "nameLength": len(name)}

    @pytest.mark.parametrize("character", string.printable)
    def test_of_printable_characters_those_of_the_law_are_taken(self, character: str):
        kept = is_kept(names_are_1_to_128_plain_characters, a_creation_of(name=f"a{character}b"))

        assert kept is (character in f"{LETTERS_AND_DIGITS}-._ ")

    @given(st.text(st.sampled_from(f"{LETTERS_AND_DIGITS}-._ "), max_size=130) | st.text(max_size=130))
    def test_of_any_text_those_are_names_that_the_law_describes(self, name: str):
        lawful = (
            1 <= len(name) <= 128
            and set(name) <= set(f"{LETTERS_AND_DIGITS}-._ ")
            and name[0] != " "
            and name[-1] != " "
        )

        assert is_kept(names_are_1_to_128_plain_characters, a_creation_of(name=name)) is lawful


class TestNamesWithTwoUnderscoresAreReserved:
    @pytest.mark.parametrize("name", ["_", "_a", "a__", "a__b", "-__a", "_-_"])
    def test_others_are_free(self, name: str):
        attempt = a_creation_of(name=name, tags=((name, ""),))

        assert is_kept(names_with_two_underscores_are_reserved, attempt)

    @pytest.mark.parametrize("name", ["__", "__a", "___"])
    def test_an_images_name(self, name: str):
        violation = the_violation(names_with_two_underscores_are_reserved, a_creation_of(name=name))

        assert violation.reason is Reason.RESERVED_NAME
        assert violation.subject == "name"
        assert violation.metadata == {"reservedPrefix": "__"}

    def test_a_tags_key_but_not_its_value(self):
        attempt = a_creation_of(tags=(("__system", "a"), ("plain", "__a")))

        assert the_violation(names_with_two_underscores_are_reserved, attempt).subject == "tags"

    def test_every_reserved_name_is_told(self):
        attempt = a_creation_of(name="__a", tags=(("__b", ""), ("__c", "")))

        violations = list(names_with_two_underscores_are_reserved.violations(attempt))
        assert [each.subject for each in violations] == ["name", "tags", "tags"]


LINE_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


class TestDescriptionsAreOnePlainLine:
    @pytest.mark.parametrize(
        "text", ["", " ", "Web server, with größe & 名 / a\tb.", "x" * 1024, "名" * 1024]
    )
    def test_a_plain_line_is_taken(self, text: str):
        assert is_kept(descriptions_are_one_plain_line, a_creation_of(description=text))

    @pytest.mark.parametrize("text", ["x" * 1025, "a\nb", "a\r\nb", "<", ">", "a < b", "\n"])
    def test_others_are_refused(self, text: str):
        violation = the_violation(descriptions_are_one_plain_line, a_creation_of(description=text))

        assert violation.reason is Reason.INVALID_DESCRIPTION
        assert violation.subject == "description"
        assert violation.metadata == {"maxDescriptionLength": 1024, "descriptionLength": len(text)}

    @pytest.mark.parametrize("character", LINE_BREAKS)
    @pytest.mark.parametrize("text", ["{}", "a{}", "{}b", "a{}b"])
    def test_every_kind_of_line_break_is_one_wherever_it_is(self, text: str, character: str):
        attempt = a_creation_of(description=text.format(character))

        assert the_violation(descriptions_are_one_plain_line, attempt)

    @given(st.text(max_size=1026))
    def test_of_any_text_those_are_descriptions_that_the_law_describes(self, text: str):
        lawful = len(text) <= 1024 and not set(text) & set(f"{LINE_BREAKS}<>")

        assert is_kept(descriptions_are_one_plain_line, a_creation_of(description=text)) is lawful


class TestTagsAreShortAndPlain:
    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("a", ""),
            ("k" * 36, "v" * 43),
            ("Az09_-", "Az09_-."),
            ("-", "-"),
            ("_", "."),
        ],
    )
    def test_plain_tags_are_taken(self, key: str, value: str):
        assert is_kept(tags_are_short_and_plain, a_creation_of(tags=((key, value),)))

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("", "v"),
            ("k" * 37, "v"),
            ("k", "v" * 44),
            ("a.b", "v"),
            ("a b", "v"),
            ("k", "a b"),
            ("größe", "v"),
            ("k", "größe"),
            ("k\n", "v"),
            ("k", "v\n"),
            ("k", "a=b"),
        ],
    )
    def test_others_are_refused(self, key: str, value: str):
        violation = the_violation(tags_are_short_and_plain, a_creation_of(tags=((key, value),)))

        assert violation.reason is Reason.INVALID_TAG
        assert violation.subject == "tags"
        assert violation.metadata == {
            "maxKeyLength": 36,
            "maxValueLength": 43,
            "keyLength": len(key),
            "valueLength": len(value),
        }

    @pytest.mark.parametrize("character", string.printable)
    def test_of_printable_characters_those_of_the_law_are_taken(self, character: str):
        key = a_creation_of(tags=((character, "v"),))
        value = a_creation_of(tags=(("k", character),))

        assert is_kept(tags_are_short_and_plain, key) is (character in f"{LETTERS_AND_DIGITS}_-")
        assert is_kept(tags_are_short_and_plain, value) is (character in f"{LETTERS_AND_DIGITS}_-.")

    @given(
        st.text(st.sampled_from("aZ9_-") | st.characters(), max_size=38),
        st.text(st.sampled_from("aZ9_-.") | st.characters(), max_size=45),
    )
    @example("k" * 36, "v" * 43)
    def test_of_any_texts_those_are_tags_that_the_law_describes(self, key: str, value: str):
        lawful = (
            1 <= len(key) <= 36
            and set(key) <= set(f"{LETTERS_AND_DIGITS}_-")
            and len(value) <= 43
            and set(value) <= set(f"{LETTERS_AND_DIGITS}_-.")
        )

        assert is_kept(tags_are_short_and_plain, a_creation_of(tags=((key, value),))) is lawful

    def test_every_bad_tag_is_told(self):
        attempt = a_creation_of(tags=(("a.b", ""), ("good", ""), ("c.de", "")))

        violations = list(tags_are_short_and_plain.violations(attempt))
        assert [each.metadata["keyLength"] for each in violations] == [3, 4]


class TestAnImageHasAtMostTenTags:
    @pytest.mark.parametrize("count", [0, 1, 10])
    def test_up_to_ten_are_taken(self, count: int):
        tags = tuple((f"key-{number}", "") for number in range(count))

        assert is_kept(an_image_has_at_most_ten_tags, a_creation_of(tags=tags))

    def test_the_eleventh_is_refused(self):
        tags = tuple((f"key-{number}", "") for number in range(11))

        violation = the_violation(an_image_has_at_most_ten_tags, a_creation_of(tags=tags))
        assert violation.reason is Reason.TOO_MANY_TAGS
        assert violation.metadata == {"maxTags": 10, "tags": 11}


MOST_GIB = {
    ImageType.SYSTEM_DISK: 1024,
    ImageType.DATA_DISK: 2048,
    ImageType.FULL_ECS: 1024,
    ImageType.ISO: 1024,
}


class TestMinDiskIsWithinItsRange:
    @pytest.mark.parametrize("image_type", ImageType)
    def test_from_1_to_the_largest_such_disk(self, image_type: ImageType):
        for gib in (1, MOST_GIB[image_type]):
            attempt = a_creation_of(type=image_type, min_disk_gib=gib)

            assert is_kept(min_disk_is_within_its_range, attempt)

    def test_0_leaves_it_to_the_file(self):
        assert is_kept(min_disk_is_within_its_range, a_creation_of(min_disk_gib=0))

    @pytest.mark.parametrize("image_type", ImageType)
    def test_nothing_below_or_above(self, image_type: ImageType):
        for gib in (-1, MOST_GIB[image_type] + 1):
            violation = the_violation(
                min_disk_is_within_its_range, a_creation_of(type=image_type, min_disk_gib=gib)
            )

            assert violation.reason is Reason.INVALID_MIN_DISK
            assert violation.metadata == {"maxMinDiskGib": MOST_GIB[image_type], "minDiskGib": gib}

    @pytest.mark.parametrize(
        ("role", "gib"),
        [(DiskRole.SYSTEM, 1024), (DiskRole.DATA, 2048), (DiskRole.INSTALLATION_MEDIUM, 1024)],
    )
    def test_the_largest_disk_depends_on_its_role(self, role: DiskRole, gib: int):
        assert max_disk_gib(role) == gib


class TestMemoryBoundsMakeSense:
    @pytest.mark.parametrize(("least", "most"), [(0, 0), (1, 0), (0, 1), (1024, 1024), (1024, 1025)])
    def test_bounds_that_leave_something_between(self, least: int, most: int):
        assert is_kept(memory_bounds_make_sense, a_creation_of(min_ram_mib=least, max_ram_mib=most))

    @pytest.mark.parametrize(
        ("least", "most", "subject"),
        [
            (-1, 0, "min_ram_mib"),
            (0, -1, "max_ram_mib"),
            (1025, 1024, "max_ram_mib"),
            (2, 1, "max_ram_mib"),
        ],
    )
    def test_bounds_that_do_not(self, least: int, most: int, subject: str):
        violation = the_violation(
            memory_bounds_make_sense, a_creation_of(min_ram_mib=least, max_ram_mib=most)
        )

        assert violation.reason is Reason.INVALID_RAM
        assert violation.subject == subject
        assert violation.metadata == {"minRamMib": least, "maxRamMib": most}

    @given(st.integers(-3, 3), st.integers(-3, 3))
    def test_of_any_bounds_those_make_sense_that_the_law_describes(self, least: int, most: int):
        lawful = least >= 0 and (most == 0 or most >= least)

        attempt = a_creation_of(min_ram_mib=least, max_ram_mib=most)
        assert is_kept(memory_bounds_make_sense, attempt) is lawful


class TestMinDiskHoldsTheDiskInsideTheFile:
    @pytest.mark.parametrize(
        ("min_disk_gib", "capacity_bytes"),
        [(2, 2 * GIB), (2, 2 * GIB - 1), (3, 2 * GIB + 1), (0, 2 * GIB), (1, 1), (1, 0)],
    )
    def test_the_disk_fits(self, min_disk_gib: int, capacity_bytes: int):
        draft = an_image(min_disk_gib=min_disk_gib, disks=(a_disk(capacity_bytes=capacity_bytes),))

        assert is_kept(min_disk_holds_the_disk_inside_the_file, an_update(draft=draft))

    @pytest.mark.parametrize(("min_disk_gib", "capacity_bytes"), [(1, 2 * GIB), (2, 2 * GIB + 1)])
    def test_the_disk_does_not_fit(self, min_disk_gib: int, capacity_bytes: int):
        draft = an_image(min_disk_gib=min_disk_gib, disks=(a_disk(capacity_bytes=capacity_bytes),))

        violation = the_violation(min_disk_holds_the_disk_inside_the_file, an_update(draft=draft))
        assert violation.reason is Reason.MIN_DISK_TOO_SMALL
        assert violation.metadata == {
            "minDiskGib": min_disk_gib,
            "capacityBytes": capacity_bytes,
            "neededGib": min_disk_gib + 1,
        }

    def test_of_a_full_ecs_image_the_system_disk_counts(self):
        data = a_disk(index=1, role=DiskRole.DATA, capacity_bytes=100 * GIB)
        draft = a_full_ecs_image(min_disk_gib=2, disks=(a_disk(), data))

        assert is_kept(min_disk_holds_the_disk_inside_the_file, an_update(draft=draft))

    def test_it_is_no_matter_of_creation_when_no_file_is_there_yet(self):
        assert min_disk_holds_the_disk_inside_the_file not in CREATE_IMAGE
        assert min_disk_holds_the_disk_inside_the_file in UPDATE_IMAGE

    @given(st.integers(0, 2**62))
    def test_whole_gib_hold_the_bytes_and_no_gib_too_many(self, size_bytes: int):
        gib = whole_gib(size_bytes)

        assert (gib - 1) * GIB < size_bytes <= gib * GIB


class TestNamesAreUniqueAmongLiveImages:
    def test_a_free_name(self):
        assert is_kept(names_are_unique_among_live_images, a_creation(name_taken=False))

    @pytest.mark.parametrize(
        "attempt",
        [
            a_creation(draft=a_draft(name="debian"), name_taken=True),
            an_update(draft=an_image(name="debian"), name_taken=True),
            an_undeletion(image=an_image(name="debian"), name_taken=True),
        ],
        ids=["creation", "update", "undeletion"],
    )
    def test_a_name_that_another_live_image_has(self, attempt):
        violation = the_violation(names_are_unique_among_live_images, attempt)

        assert violation.reason is Reason.IMAGE_NAME_TAKEN
        assert violation.metadata == {"name": "debian"}
        assert names_are_unique_among_live_images.category is Category.EXISTS


class TestOneBackupMakesOneImage:
    def test_an_unused_backup(self):
        assert is_kept(one_backup_makes_one_image, a_creation(backup_used=False))

    def test_a_backup_that_made_an_image_already(self):
        source = Source(kind=SourceKind.CBR_BACKUP, id="backup-1")

        for attempt in (
            a_creation(draft=a_draft(source=source), backup_used=True),
            an_undeletion(image=an_image(source=source), backup_used=True),
        ):
            violation = the_violation(one_backup_makes_one_image, attempt)
            assert violation.reason is Reason.BACKUP_ALREADY_USED
            assert violation.metadata == {"backupId": "backup-1"}


DECLARED = [each for each in SourceKind if each not in {SourceKind.FILE, SourceKind.IMAGE}]


class TestOnlyServicesVouchForServersVolumesAndBackups:
    @pytest.mark.parametrize("kind", [SourceKind.FILE, SourceKind.IMAGE])
    def test_a_tenant_needs_no_role_for_what_nobody_vouches_for(self, kind: SourceKind):
        attempt = a_creation_of(source=Source(kind=kind))

        assert is_kept(only_services_vouch_for_servers_volumes_and_backups, attempt)

    @pytest.mark.parametrize("kind", DECLARED)
    def test_a_tenant_declares_no_origin(self, kind: SourceKind):
        attempt = a_creation_of(source=Source(kind=kind, id="origin"))

        violation = the_violation(only_services_vouch_for_servers_volumes_and_backups, attempt)
        assert violation.reason is Reason.ROLE_REQUIRED
        assert violation.metadata == {"requiredRole": "service"}
        assert only_services_vouch_for_servers_volumes_and_backups.category is Category.FORBIDDEN

    @pytest.mark.parametrize("kind", DECLARED)
    def test_a_service_does(self, kind: SourceKind):
        attempt = a_creation(caller=A_SERVICE, draft=a_draft(source=Source(kind=kind, id="origin")))

        assert is_kept(only_services_vouch_for_servers_volumes_and_backups, attempt)

    def test_an_administrator_does_not(self):
        draft = a_draft(source=Source(kind=SourceKind.ECS, id="server"))
        attempt = a_creation(caller=a_caller(OWNER, Role.ADMIN), draft=draft)

        assert the_violation(only_services_vouch_for_servers_volumes_and_backups, attempt)


class TestOnlyServicesCreateForOtherTenants:
    def test_a_tenant_creates_for_itself(self):
        assert is_kept(only_services_create_for_other_tenants, a_creation())

    @pytest.mark.parametrize("roles", [(), (Role.ADMIN,)])
    def test_and_for_nobody_else(self, roles: tuple[Role, ...]):
        attempt = a_creation(caller=a_caller(STRANGER, *roles))

        violation = the_violation(only_services_create_for_other_tenants, attempt)
        assert violation.reason is Reason.ROLE_REQUIRED
        assert violation.subject == "owner_tenant_id"

    def test_a_service_creates_for_whom_it_names(self):
        assert is_kept(only_services_create_for_other_tenants, a_creation(caller=A_SERVICE))


class TestFilesAreUploadedByTheirOwnerAndCopiesMadeByCopying:
    def test_a_tenants_own_file(self):
        assert is_kept(files_are_uploaded_by_their_owner_and_copies_made_by_copying, a_creation())

    @pytest.mark.parametrize("kind", DECLARED)
    def test_what_a_service_declares_for_another(self, kind: SourceKind):
        attempt = a_creation(caller=A_SERVICE, draft=a_draft(source=Source(kind=kind, id="origin")))

        assert is_kept(files_are_uploaded_by_their_owner_and_copies_made_by_copying, attempt)

    def test_a_copy_is_not_declared(self):
        attempt = a_creation_of(source=Source(kind=SourceKind.IMAGE, id="image"))

        violation = the_violation(files_are_uploaded_by_their_owner_and_copies_made_by_copying, attempt)
        assert violation.reason is Reason.SOURCE_NOT_DECLARABLE
        assert violation.subject == "source.image"

    def test_a_file_is_not_declared_for_another(self):
        violation = the_violation(
            files_are_uploaded_by_their_owner_and_copies_made_by_copying, a_creation(caller=A_SERVICE)
        )

        assert violation.reason is Reason.SOURCE_NOT_DECLARABLE
        assert violation.subject == "source.file"


# Of what each type is made, written down again from law 1 and 5.10.
ORIGINS = {
    ImageType.SYSTEM_DISK: {"ECS", "BMS", "VOLUME", "FILE", "IMAGE"},
    ImageType.DATA_DISK: {"ECS", "VOLUME", "FILE", "IMAGE"},
    ImageType.FULL_ECS: {"ECS", "CBR_BACKUP", "CSBS_BACKUP", "IMAGE"},
    ImageType.ISO: {"FILE", "IMAGE"},
}


class TestTheSourceCanYieldSuchAnImage:
    @pytest.mark.parametrize("kind", SourceKind)
    @pytest.mark.parametrize("image_type", ImageType)
    def test_each_type_comes_from_certain_origins(self, image_type: ImageType, kind: SourceKind):
        attempt = a_creation_of(type=image_type, source=Source(kind=kind, id="origin"))

        kept = is_kept(the_source_can_yield_such_an_image, attempt)
        assert kept is (kind in ORIGINS[image_type])

    def test_what_does_not_fit_is_named(self):
        violation = the_violation(
            the_source_can_yield_such_an_image, a_creation_of(type=ImageType.FULL_ECS)
        )

        assert violation.reason is Reason.SOURCE_DOES_NOT_FIT_TYPE
        assert violation.metadata == {"type": "FULL_ECS", "source": "FILE"}
        assert "CBR_BACKUP, CSBS_BACKUP, ECS" in violation.message


class TestAFullEcsImageOfAServerNamesItsBackupService:
    @pytest.mark.parametrize("service", BackupService)
    def test_it_names_one(self, service: BackupService):
        source = Source(kind=SourceKind.ECS, id="server", backup_service=service)
        attempt = a_creation_of(type=ImageType.FULL_ECS, source=source)

        assert is_kept(a_full_ecs_image_of_a_server_names_its_backup_service, attempt)

    def test_it_names_none(self):
        attempt = a_creation_of(type=ImageType.FULL_ECS, source=Source(kind=SourceKind.ECS, id="server"))

        violation = the_violation(a_full_ecs_image_of_a_server_names_its_backup_service, attempt)
        assert violation.reason is Reason.BACKUP_SERVICE_REQUIRED
        assert violation.subject == "source.ecs.backup_service"

    @pytest.mark.parametrize(
        ("image_type", "kind"),
        [(ImageType.SYSTEM_DISK, SourceKind.ECS), (ImageType.FULL_ECS, SourceKind.CBR_BACKUP)],
    )
    def test_it_is_asked_of_no_other_image(self, image_type: ImageType, kind: SourceKind):
        attempt = a_creation_of(type=image_type, source=Source(kind=kind, id="origin"))

        assert is_kept(a_full_ecs_image_of_a_server_names_its_backup_service, attempt)


class TestTheDisksAreThoseOfTheType:
    @pytest.mark.parametrize("image_type", ImageType)
    def test_one_disk_of_the_right_role(self, image_type: ImageType):
        assert is_kept(the_disks_are_those_of_the_type, a_creation(draft=a_draft_of(image_type)))

    @pytest.mark.parametrize("count", [2, 64])
    def test_a_full_ecs_image_has_up_to_64(self, count: int):
        draft = a_draft_of(ImageType.FULL_ECS, disks=count)

        assert is_kept(the_disks_are_those_of_the_type, a_creation(draft=draft))

    @pytest.mark.parametrize(
        ("image_type", "count", "most"),
        [
            *((image_type, 2, 1) for image_type in other_types(ImageType.FULL_ECS)),
            *((image_type, 0, 1) for image_type in other_types(ImageType.FULL_ECS)),
            (ImageType.FULL_ECS, 0, 64),
            (ImageType.FULL_ECS, 65, 64),
        ],
    )
    def test_too_many_or_none(self, image_type: ImageType, count: int, most: int):
        draft = a_draft_of(image_type, disks=count)

        violation = the_violation(the_disks_are_those_of_the_type, a_creation(draft=draft))
        assert violation.reason is Reason.INVALID_DISKS
        assert violation.subject == "disks"
        assert violation.metadata == {"type": image_type, "disks": count, "maxDisks": most}

    @pytest.mark.parametrize(
        ("image_type", "roles"),
        [
            (ImageType.SYSTEM_DISK, "DATA"),
            (ImageType.DATA_DISK, "SYSTEM"),
            (ImageType.ISO, "SYSTEM"),
            (ImageType.FULL_ECS, "DATA"),
            (ImageType.FULL_ECS, "DATA SYSTEM"),
            (ImageType.FULL_ECS, "SYSTEM SYSTEM"),
            (ImageType.FULL_ECS, "SYSTEM INSTALLATION_MEDIUM"),
        ],
    )
    def test_disks_of_other_roles(self, image_type: ImageType, roles: str):
        file_format = DiskFormat.ISO if image_type is ImageType.ISO else DiskFormat.RAW
        disks = tuple(
            an_empty_disk(index=index, role=DiskRole(role), format=file_format)
            for index, role in enumerate(roles.split())
        )

        assert the_violation(
            the_disks_are_those_of_the_type, a_creation_of(type=image_type, disks=disks)
        )

    @pytest.mark.parametrize("file_format", DiskFormat)
    @pytest.mark.parametrize("image_type", ImageType)
    def test_iso_files_make_iso_images_and_nothing_else_does(
        self, image_type: ImageType, file_format: DiskFormat
    ):
        (disk,) = a_draft_of(image_type).disks
        disks = (an_empty_disk(role=disk.role, format=file_format),)
        attempt = a_creation_of(type=image_type, disks=disks)

        if (file_format is DiskFormat.ISO) is (image_type is ImageType.ISO):
            assert is_kept(the_disks_are_those_of_the_type, attempt)
        else:
            violation = the_violation(the_disks_are_those_of_the_type, attempt)
            assert violation.subject == "disks[0].format"
            assert violation.metadata == {"type": image_type, "format": file_format}


class TestOnlySystemDiskImagesAreMadeForBms:
    def test_a_system_disk_image_may_be(self):
        assert is_kept(only_system_disk_images_are_made_for_bms, a_creation_of(for_bms=True))

    @pytest.mark.parametrize("image_type", other_types(ImageType.SYSTEM_DISK))
    def test_no_other_is(self, image_type: ImageType):
        violation = the_violation(
            only_system_disk_images_are_made_for_bms, a_creation_of(type=image_type, for_bms=True)
        )

        assert violation.reason is Reason.BMS_NEEDS_SYSTEM_DISK
        assert violation.metadata == {"type": image_type}

    @pytest.mark.parametrize("image_type", ImageType)
    def test_any_may_be_made_for_something_else(self, image_type: ImageType):
        attempt = a_creation_of(type=image_type, for_bms=False)

        assert is_kept(only_system_disk_images_are_made_for_bms, attempt)


class TestBmsAndIsoImagesAreNeverEncrypted:
    @pytest.mark.parametrize("image_type", other_types(ImageType.ISO))
    def test_others_may_be(self, image_type: ImageType):
        attempt = a_creation_of(type=image_type, encryption_key_id=KEY)

        assert is_kept(bms_and_iso_images_are_never_encrypted, attempt)

    @pytest.mark.parametrize("what", [{"type": ImageType.ISO}, {"for_bms": True}], ids=["ISO", "BMS"])
    def test_these_are_not(self, what: dict[str, object]):
        violation = the_violation(
            bms_and_iso_images_are_never_encrypted, a_creation_of(encryption_key_id=KEY, **what)
        )

        assert violation.reason is Reason.IMAGE_NOT_ENCRYPTABLE
        assert is_kept(bms_and_iso_images_are_never_encrypted, a_creation_of(**what))


class TestAnImageIsEncryptedWithAUsableKey:
    def test_no_key_is_asked_for(self):
        assert is_kept(an_image_is_encrypted_with_a_usable_key, a_creation(key_usable=False))

    @pytest.mark.parametrize("usable", [True, False])
    def test_the_key_that_is_named_can_be_used(self, usable: bool):
        attempt = a_creation(draft=a_draft(encryption_key_id=KEY), key_usable=usable)

        assert is_kept(an_image_is_encrypted_with_a_usable_key, attempt) is usable

    def test_one_that_cannot_is_named(self):
        violation = the_violation(
            an_image_is_encrypted_with_a_usable_key, a_creation_of(encryption_key_id=KEY)
        )

        assert violation.reason is Reason.KEY_UNAVAILABLE
        assert violation.metadata == {"keyId": KEY}


class TestOnlyTheOwnerChangesAnImage:
    def test_the_owner_does(self):
        assert is_kept(only_the_owner_changes_an_image, an_attempt())

    @pytest.mark.parametrize("tenant", [RECIPIENT, STRANGER])
    def test_nobody_else_does_whatever_its_roles(self, tenant: TenantId):
        violation = the_violation(
            only_the_owner_changes_an_image, an_attempt(caller=a_caller(tenant, *Role))
        )

        assert violation.reason is Reason.NOT_IMAGE_OWNER
        assert only_the_owner_changes_an_image.category is Category.FORBIDDEN

    def test_a_recipient_who_has_accepted_does_not(self):
        assert the_violation(only_the_owner_changes_an_image, a_recipients_attempt())

    @pytest.mark.parametrize("rules", [UPDATE_IMAGE, DELETE_IMAGE, UNDELETE_IMAGE])
    def test_it_goes_for_every_change(self, rules: tuple):
        assert only_the_owner_changes_an_image in rules


class TestTheImageIsAsTheCallerReadIt:
    def test_the_caller_does_not_mind(self):
        assert is_kept(the_image_is_as_the_caller_read_it, a_change(expected_etag=""))

    def test_the_caller_has_the_present_etag(self):
        image = an_image(version=4)

        assert is_kept(
            the_image_is_as_the_caller_read_it, a_change(image=image, expected_etag=image.etag)
        )

    @pytest.mark.parametrize("etag", ['"3"', '"5"', "4", "*"])
    def test_the_caller_has_another(self, etag: str):
        attempt = a_change(image=an_image(version=4), expected_etag=etag)

        violation = the_violation(the_image_is_as_the_caller_read_it, attempt)
        assert violation.reason is Reason.ETAG_MISMATCH
        assert violation.metadata == {"etag": '"4"'}
        assert the_image_is_as_the_caller_read_it.category is Category.CONFLICT


NEVER_WRITTEN = [
    "id",
    "owner_tenant_id",
    "region",
    "class",
    "type",
    "state",
    "relation",
    "disks",
    "source",
    "encryption_key_id",
    "for_bms",
    "create_time",
    "etag",
    "no_such_field",
]


class TestWhatAnImageIsCanNeverBeWritten:
    def test_the_fields_that_can_be_updated(self):
        assert is_kept(what_an_image_is_can_never_be_written, an_update(fields=UPDATABLE_FIELDS))

    @pytest.mark.parametrize("field", NEVER_WRITTEN)
    def test_a_field_that_cannot(self, field: str):
        violation = the_violation(
            what_an_image_is_can_never_be_written, an_update(fields=frozenset({"name", field}))
        )

        assert violation.reason is Reason.FIELD_NOT_UPDATABLE
        assert violation.metadata == {"field": field}
        assert what_an_image_is_can_never_be_written.category is Category.MALFORMED

    def test_every_such_field_is_named(self):
        attempt = an_update(fields=frozenset(NEVER_WRITTEN))

        violations = list(what_an_image_is_can_never_be_written.violations(attempt))
        assert [each.subject for each in violations] == sorted(NEVER_WRITTEN)

    def test_changes_reach_the_operating_system_through_its_fields(self):
        image = an_image(os=OperatingSystem(platform="Debian", version="11"))
        changes = ImageChanges(fields=frozenset({"os"}), os_values={"version": "12"})

        assert changes.applied_to(image).os == OperatingSystem(platform="Debian", version="12")


class TestADataDiskImageChangesNameDescriptionAndTagsOnly:
    DATA_DISK = an_image(type=ImageType.DATA_DISK)

    def test_these_three(self):
        assert {"name", "description", "tags"} == DATA_DISK_FIELDS
        assert is_kept(
            a_data_disk_image_changes_name_description_and_tags_only,
            an_update(image=self.DATA_DISK, fields=DATA_DISK_FIELDS),
        )

    @pytest.mark.parametrize("field", sorted(UPDATABLE_FIELDS - {"name", "description", "tags"}))
    def test_nothing_else(self, field: str):
        attempt = an_update(image=self.DATA_DISK, fields=frozenset({field, "name"}))

        violation = the_violation(a_data_disk_image_changes_name_description_and_tags_only, attempt)
        assert violation.reason is Reason.DATA_DISK_FIELD_NOT_UPDATABLE
        assert violation.metadata == {"field": field}
        assert (
            a_data_disk_image_changes_name_description_and_tags_only.category is Category.AGAINST_RULES
        )

    @pytest.mark.parametrize("image_type", other_types(ImageType.DATA_DISK))
    def test_other_images_change_more(self, image_type: ImageType):
        attempt = an_update(image=an_image(type=image_type), fields=UPDATABLE_FIELDS)

        assert is_kept(a_data_disk_image_changes_name_description_and_tags_only, attempt)


class TestPublicImagesAreNotDeleted:
    @pytest.mark.parametrize("public", [True, False])
    def test_private_ones_are(self, public: bool):
        assert is_kept(public_images_are_not_deleted, an_attempt_on(public=public)) is not public

    def test_the_reason(self):
        violation = the_violation(public_images_are_not_deleted, an_attempt_on(public=True))

        assert violation.reason is Reason.PUBLIC_IMAGE_NOT_DELETABLE


class TestProtectedImagesAreNotDeleted:
    @pytest.mark.parametrize("protected", [True, False])
    def test_unprotected_ones_are(self, protected: bool):
        attempt = an_attempt_on(protected=protected)

        assert is_kept(protected_images_are_not_deleted, attempt) is not protected

    def test_the_reason(self):
        violation = the_violation(protected_images_are_not_deleted, an_attempt_on(protected=True))

        assert violation.reason is Reason.IMAGE_PROTECTED

    def test_public_and_protected_are_told_at_once(self):
        with pytest.raises(Rejection) as caught:
            enforce(DELETE_IMAGE, a_change(image=an_image(public=True, protected=True)))

        assert [each.reason for each in caught.value.violations] == [
            Reason.PUBLIC_IMAGE_NOT_DELETABLE,
            Reason.IMAGE_PROTECTED,
        ]


def deactivating(image: Image, tenant: TenantId, *roles: Role):
    return an_attempt(image=image, caller=a_caller(tenant, *roles))


class TestOnlyAdministratorsDeactivatePublicImages:
    PUBLIC = an_image(public=True)

    def test_an_administrator_does(self):
        attempt = deactivating(self.PUBLIC, STRANGER, Role.ADMIN)

        assert is_kept(only_administrators_deactivate_public_images, attempt)

    @pytest.mark.parametrize("tenant", [OWNER, STRANGER])
    def test_nobody_else_does_not_even_its_owner(self, tenant: TenantId):
        violation = the_violation(
            only_administrators_deactivate_public_images,
            deactivating(self.PUBLIC, tenant, Role.SERVICE),
        )

        assert violation.reason is Reason.ROLE_REQUIRED
        assert violation.metadata == {"requiredRole": "admin"}

    def test_it_is_about_public_images_alone(self):
        assert is_kept(only_administrators_deactivate_public_images, an_attempt())

    @pytest.mark.parametrize("rules", [DEACTIVATE_IMAGE, REACTIVATE_IMAGE])
    def test_it_goes_for_both_ways(self, rules: tuple):
        assert only_administrators_deactivate_public_images in rules


class TestOnlyTheOwnerDeactivatesAPrivateImage:
    def test_the_owner_does(self):
        assert is_kept(only_the_owner_deactivates_a_private_image, an_attempt())

    def test_nobody_else_does_not_even_an_administrator(self):
        violation = the_violation(
            only_the_owner_deactivates_a_private_image, deactivating(an_image(), STRANGER, *Role)
        )

        assert violation.reason is Reason.NOT_IMAGE_OWNER

    def test_it_is_about_private_images_alone(self):
        attempt = deactivating(an_image(public=True), STRANGER)

        assert is_kept(only_the_owner_deactivates_a_private_image, attempt)

    @pytest.mark.parametrize("rules", [DEACTIVATE_IMAGE, REACTIVATE_IMAGE])
    def test_it_goes_for_both_ways(self, rules: tuple):
        assert only_the_owner_deactivates_a_private_image in rules


class TestOnlyAdministratorsPublish:
    def test_an_administrator_does(self):
        attempt = an_attempt(caller=a_caller(STRANGER, Role.ADMIN))

        assert is_kept(only_administrators_publish, attempt)

    @pytest.mark.parametrize("roles", [(), (Role.SERVICE,)])
    def test_a_tenant_never_does_its_own_image_included(self, roles: tuple[Role, ...]):
        violation = the_violation(
            only_administrators_publish, an_attempt(caller=a_caller(OWNER, *roles))
        )

        assert violation.reason is Reason.ROLE_REQUIRED
        assert violation.metadata == {"requiredRole": "admin"}

    @pytest.mark.parametrize("rules", [PUBLISH_IMAGE, UNPUBLISH_IMAGE])
    def test_it_goes_for_both_ways(self, rules: tuple):
        assert only_administrators_publish in rules


class TestEncryptedImagesAreNotPublished:
    def test_an_unencrypted_one_is(self):
        assert is_kept(encrypted_images_are_not_published, an_attempt())

    def test_an_encrypted_one_is_not(self):
        violation = the_violation(
            encrypted_images_are_not_published, an_attempt_on(encryption_key_id=KEY)
        )

        assert violation.reason is Reason.ENCRYPTED_IMAGE_NOT_PUBLISHABLE


class TestOnlySystemDiskAndIsoImagesArePublished:
    @pytest.mark.parametrize("image_type", [ImageType.SYSTEM_DISK, ImageType.ISO])
    def test_these_are(self, image_type: ImageType):
        assert is_kept(only_system_disk_and_iso_images_are_published, an_attempt_on(type=image_type))

    @pytest.mark.parametrize("image_type", [ImageType.DATA_DISK, ImageType.FULL_ECS])
    def test_what_holds_a_tenants_data_is_not(self, image_type: ImageType):
        violation = the_violation(
            only_system_disk_and_iso_images_are_published, an_attempt_on(type=image_type)
        )

        assert violation.reason is Reason.IMAGE_TYPE_NOT_PUBLISHABLE
        assert violation.metadata == {"type": image_type}


class TestTheOrderOfJudgement:
    def test_a_good_creation_is_taken(self):
        for image_type in ImageType:
            enforce(
                CREATE_IMAGE,
                a_creation(caller=a_caller(OWNER, Role.SERVICE), draft=a_draft_of(image_type)),
            )

    def test_whoever_may_not_is_not_told_what_else_is_wrong(self):
        draft = a_draft(name="", source=Source(kind=SourceKind.ECS, id="server"), region=HOME)

        with pytest.raises(Rejection) as caught:
            enforce(CREATE_IMAGE, a_creation(draft=draft, name_taken=True))

        assert [each.reason for each in caught.value.violations] == [Reason.ROLE_REQUIRED]

    def test_everything_that_is_malformed_is_told_at_once(self):
        draft = a_draft(
            name="__" + "x" * 127, description="<", tags=(("a.b", ""),), min_disk_gib=-1, min_ram_mib=-1
        )

        with pytest.raises(Rejection) as caught:
            enforce(CREATE_IMAGE, a_creation(draft=draft, name_taken=True))

        assert [each.reason for each in caught.value.violations] == [
            Reason.INVALID_NAME,
            Reason.RESERVED_NAME,
            Reason.INVALID_DESCRIPTION,
            Reason.INVALID_TAG,
            Reason.INVALID_MIN_DISK,
            Reason.INVALID_RAM,
        ]

    def test_a_stale_update_and_the_wrong_state_are_told_together(self):
        image = an_image(state=ImageState.SAVING, version=2)

        with pytest.raises(Rejection) as caught:
            enforce(UPDATE_IMAGE, an_update(image=image, expected_etag='"1"'))

        assert [each.reason for each in caught.value.violations] == [
            Reason.ETAG_MISMATCH,
            Reason.IMAGE_BUSY,
        ]
        assert caught.value.category is Category.CONFLICT
