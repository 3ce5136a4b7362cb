"""The law of creation (law 1, 5.10 and 6.3), rule by rule."""

import pytest

from builders import (
    HOME,
    OWNER,
    STRANGER,
    a_caller,
)
from ims.domain.caller import Role
from ims.domain.image import (
    BackupService,
    DiskFormat,
    DiskRole,
    ImageType,
    KeyId,
    Source,
    SourceKind,
)
from ims.domain.rejection import Category, Reason, Rejection
from ims.rules.creation import (
    CREATE_IMAGE,
    a_full_ecs_image_of_a_server_names_its_backup_service,
    an_image_is_encrypted_with_a_usable_key,
    bms_and_iso_images_are_never_encrypted,
    data_disk_images_are_not_protected,
    files_are_uploaded_by_their_owner_and_copies_made_by_copying,
    only_members_create_from_files,
    only_services_create_for_other_tenants,
    only_services_vouch_for_servers_volumes_and_backups,
    only_system_disk_images_are_made_for_bms,
    the_disks_are_those_of_the_type,
    the_source_can_yield_such_an_image,
)
from ims.rules.engine import enforce
from rules.facts import (
    a_creation,
    a_creation_of,
    a_draft,
    a_draft_of,
    an_empty_disk,
    is_kept,
    the_violation,
)

A_SERVICE = a_caller("compute", Role.SERVICE)
KEY = KeyId("key-1")


def other_types(*types: ImageType) -> list[ImageType]:
    return [each for each in ImageType if each not in types]


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
        assert violation.metadata == {"requiredRoles": "service"}
        assert only_services_vouch_for_servers_volumes_and_backups.category is Category.FORBIDDEN

    @pytest.mark.parametrize("kind", DECLARED)
    def test_a_service_does(self, kind: SourceKind):
        attempt = a_creation(caller=A_SERVICE, draft=a_draft(source=Source(kind=kind, id="origin")))

        assert is_kept(only_services_vouch_for_servers_volumes_and_backups, attempt)

    def test_an_administrator_does_not(self):
        draft = a_draft(source=Source(kind=SourceKind.ECS, id="server"))
        attempt = a_creation(caller=a_caller(OWNER, Role.ADMIN), draft=draft)

        assert the_violation(only_services_vouch_for_servers_volumes_and_backups, attempt)


class TestOnlyMembersCreateFromFiles:
    def test_a_member_does(self):
        assert is_kept(only_members_create_from_files, a_creation(caller=a_caller(OWNER, Role.MEMBER)))

    def test_a_service_that_is_no_member_does_not(self):
        attempt = a_creation(caller=a_caller(OWNER, Role.SERVICE))

        violation = the_violation(only_members_create_from_files, attempt)
        assert violation.reason is Reason.ROLE_REQUIRED
        assert violation.metadata == {"requiredRoles": "member"}

    @pytest.mark.parametrize("kind", DECLARED)
    def test_a_service_needs_no_other_role_for_what_it_vouches_for(self, kind: SourceKind):
        attempt = a_creation(caller=A_SERVICE, draft=a_draft(source=Source(kind=kind, id="origin")))

        assert is_kept(only_members_create_from_files, attempt)


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


class TestDataDiskImagesAreNotProtected:
    """Law 5.6 lets nobody take the protection off again, and law 5.7 nobody delete what is protected."""

    def test_a_protected_data_disk_image_is_refused(self):
        attempt = a_creation(draft=a_draft_of(ImageType.DATA_DISK, protected=True))

        violation = the_violation(data_disk_images_are_not_protected, attempt)

        assert violation.reason is Reason.INVALID_FIELD
        assert violation.metadata == {"field": "protected"}

    def test_an_unprotected_one_is_not(self):
        attempt = a_creation(draft=a_draft_of(ImageType.DATA_DISK))

        assert is_kept(data_disk_images_are_not_protected, attempt)

    @pytest.mark.parametrize("image_type", other_types(ImageType.DATA_DISK))
    def test_images_of_other_types_may_be_protected(self, image_type: ImageType):
        attempt = a_creation(draft=a_draft_of(image_type, protected=True))

        assert is_kept(data_disk_images_are_not_protected, attempt)


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


class TestTheOrderOfJudgement:
    def test_a_good_creation_is_taken(self):
        for image_type in ImageType:
            enforce(
                CREATE_IMAGE,
                a_creation(
                    caller=a_caller(OWNER, Role.SERVICE, Role.MEMBER), draft=a_draft_of(image_type)
                ),
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
