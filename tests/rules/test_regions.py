"""The law of copies between regions: both sides of every bound."""

import pytest

from builders import (
    ELSEWHERE,
    HOME,
    OWNER,
    STRANGER,
    a_caller,
    a_full_ecs_image,
    an_image,
)
from ims.domain.caller import Role
from ims.domain.image import (
    GIB,
    BackupService,
    ImageState,
    ImageType,
    KeyId,
    Source,
    SourceKind,
)
from ims.domain.rejection import Reason, Rejection
from ims.domain.vault import VaultType
from ims.rules import regions
from ims.rules.creation import CREATE_IMAGE
from ims.rules.engine import enforce
from ims.rules.regions import COPY_IMAGE_TO_REGION
from rules.facts import (
    a_copying_to_a_region,
    a_creation,
    a_draft,
    a_taking_in,
    a_vault,
    an_allowance,
    an_attempt,
    is_kept,
    the_violation,
)

A_PEER = a_caller("ims.elsewhere", Role.PEER, region=ELSEWHERE)
A_COPY = Source(kind=SourceKind.IMAGE, id="image", region=ELSEWHERE)


def test_the_facts_keep_the_law():
    enforce(COPY_IMAGE_TO_REGION, a_copying_to_a_region())
    enforce(COPY_IMAGE_TO_REGION, a_copying_to_a_region(image=a_full_ecs_image()))
    enforce(CREATE_IMAGE, a_taking_in())
    enforce(CREATE_IMAGE, a_taking_in(full_ecs=True))


def test_five_copies_to_other_regions_go_on_at_once():
    enforce(COPY_IMAGE_TO_REGION, a_copying_to_a_region(allowance=an_allowance(copies=4)))
    with pytest.raises(Rejection) as refused:
        enforce(COPY_IMAGE_TO_REGION, a_copying_to_a_region(allowance=an_allowance(copies=5)))
    assert refused.value.reason is Reason.TOO_MANY_COPIES


class TestOnlyTheOwnerCopiesToAnotherRegion:
    rule = regions.only_the_owner_copies_to_another_region

    def test_the_owner_does(self):
        assert is_kept(self.rule, a_copying_to_a_region())

    @pytest.mark.parametrize("public", [False, True])
    def test_others_do_not_whatever_they_may_read(self, public: bool):
        attempt = a_copying_to_a_region(caller=a_caller(STRANGER), image=an_image(public=public))

        assert the_violation(self.rule, attempt)


class TestTheRegionsDiffer:
    def test_a_region_is_another_or_it_is_not(self):
        rule = regions.the_regions_differ

        assert the_violation(rule, a_copying_to_a_region(region=HOME)).metadata == {"region": HOME}
        assert is_kept(rule, a_copying_to_a_region(region=ELSEWHERE))


class TestTheOtherRegionsServiceIsKnown:
    rule = regions.the_other_regions_service_is_known

    def test_it_is_or_it_is_not(self):
        assert is_kept(self.rule, a_copying_to_a_region())
        violation = the_violation(self.rule, a_copying_to_a_region(peer_known=False))
        assert violation.metadata == {"region": ELSEWHERE}

    def test_of_the_same_region_only_that_is_told(self):
        assert is_kept(self.rule, a_copying_to_a_region(region=HOME, peer_known=False))


class TestEncryptedImagesStayInTheirRegion:
    rule = regions.encrypted_images_stay_in_their_region
    sealed = an_image(encryption_key_id=KeyId("key-1"))

    def test_one_goes_nowhere_and_comes_from_nowhere(self):
        assert the_violation(self.rule, a_copying_to_a_region(image=self.sealed))
        draft = a_draft(encryption_key_id=KeyId("key-1"), source=A_COPY)
        assert the_violation(self.rule, a_taking_in(draft=draft))

    def test_others_do(self):
        assert is_kept(self.rule, a_copying_to_a_region())
        assert is_kept(self.rule, a_taking_in())

    def test_one_is_created_here_all_the_same(self):
        assert is_kept(self.rule, a_creation(draft=a_draft(encryption_key_id=KeyId("key-1"))))


class TestIsoImagesStayInTheirRegion:
    rule = regions.iso_images_stay_in_their_region

    @pytest.mark.parametrize("image_type", ImageType)
    def test_iso_alone_of_all_types(self, image_type: ImageType):
        goes = a_copying_to_a_region(image=an_image(type=image_type))
        comes = a_taking_in(draft=a_draft(type=image_type, source=A_COPY))
        stays = image_type is ImageType.ISO

        assert is_kept(self.rule, goes) is not stays
        assert is_kept(self.rule, comes) is not stays

    def test_one_is_created_here_all_the_same(self):
        assert is_kept(self.rule, a_creation(draft=a_draft(type=ImageType.ISO)))


class TestAPeerBringsImagesOfItsOwnRegion:
    rule = regions.a_peer_brings_images_of_its_own_region

    def test_its_own(self):
        assert is_kept(self.rule, a_taking_in())

    @pytest.mark.parametrize("region", ["another", HOME])
    def test_no_other(self, region: str):
        peer = a_caller("ims.another", Role.PEER, region=region)

        assert the_violation(self.rule, a_taking_in(caller=peer))

    def test_none_that_names_no_region(self):
        draft = a_draft(source=Source(kind=SourceKind.IMAGE, id="image"))

        assert the_violation(self.rule, a_taking_in(draft=draft))


class TestWhatAPeerBringsIsNotFromHere:
    def test_from_elsewhere_it_is_and_from_here_it_is_not(self):
        rule = regions.what_a_peer_brings_is_not_from_here
        from_here = a_draft(source=Source(kind=SourceKind.IMAGE, id="image", region=HOME))
        peer = a_caller("ims.home", Role.PEER, region=HOME)

        assert is_kept(rule, a_taking_in())
        assert the_violation(rule, a_taking_in(caller=peer, draft=from_here))


class TestItIsBroughtForATenantThatIsKnown:
    rule = regions.it_is_brought_for_a_tenant_that_is_known

    def test_it_is_or_it_is_not(self):
        assert is_kept(self.rule, a_taking_in())
        violation = the_violation(self.rule, a_taking_in(owner_unknown=True))
        assert violation.metadata == {"tenantId": OWNER}

    def test_who_creates_for_itself_is_known_by_its_identity(self):
        assert is_kept(self.rule, a_creation(owner_unknown=True))


class TestAFullEcsImageComesWithAServerBackupVault:
    rule = regions.a_full_ecs_image_comes_with_a_server_backup_vault

    def test_with_one_and_without(self):
        assert is_kept(self.rule, a_taking_in(full_ecs=True))
        assert the_violation(self.rule, a_taking_in(full_ecs=True, vault=None))

    def test_one_for_disks_is_none(self):
        vault = a_vault(type=VaultType.DISK_BACKUP)

        assert the_violation(self.rule, a_taking_in(full_ecs=True, vault=vault))

    def test_none_is_needed_without_a_backup_provider_or_of_another_image(self):
        assert is_kept(self.rule, a_taking_in(full_ecs=True, vault=None, backup_provider_exists=False))
        assert is_kept(self.rule, a_taking_in(vault=None))

    def test_none_is_needed_of_a_backup_services_own(self):
        service = a_caller("cbr", Role.SERVICE)
        backup = Source(kind=SourceKind.CBR_BACKUP, id="backup")
        draft = a_draft(type=ImageType.FULL_ECS, source=backup)

        assert is_kept(self.rule, a_taking_in(caller=service, draft=draft, vault=None))


class TestTheVaultThereHoldsAllDisks:
    rule = regions.the_vault_there_holds_all_disks

    def test_to_the_last_gib(self):
        assert is_kept(self.rule, a_taking_in(full_ecs=True, capacity_bytes=4 * GIB))
        violation = the_violation(self.rule, a_taking_in(full_ecs=True, capacity_bytes=4 * GIB + 1))
        assert violation.metadata == {"neededGib": 5, "vaultCapacityGib": 4}

    def test_no_vault_is_told_as_such(self):
        assert is_kept(self.rule, a_taking_in(full_ecs=True, vault=None))


class TestOnlyWhoBringsAnImageDiscardsIt:
    rule = regions.only_who_brings_an_image_discards_it

    @pytest.mark.parametrize("state", ImageState)
    def test_and_only_until_it_is_complete(self, state: ImageState):
        image = an_image(state=state, source=A_COPY, declared_by=A_PEER.tenant_id)
        unfinished = state in {ImageState.QUEUED, ImageState.SAVING}

        assert is_kept(self.rule, an_attempt(caller=A_PEER, image=image)) is unfinished

    @pytest.mark.parametrize(
        "other", [a_caller(), a_caller(A_PEER.tenant_id), a_caller("ims.another", Role.PEER)]
    )
    def test_nobody_else(self, other):
        image = an_image(state=ImageState.QUEUED, source=A_COPY, declared_by=A_PEER.tenant_id)

        assert the_violation(self.rule, an_attempt(caller=other, image=image))


def test_what_stands_behind_an_original_stands_behind_its_copy():
    for kind, own, expected in (
        (SourceKind.CBR_BACKUP, None, BackupService.CBR),
        (SourceKind.CSBS_BACKUP, None, BackupService.CSBS),
        (SourceKind.ECS, BackupService.CBR, BackupService.CBR),
        (SourceKind.IMAGE, BackupService.CSBS, BackupService.CSBS),
        (SourceKind.FILE, None, None),
    ):
        assert Source(kind=kind, id="x", backup_service=own).taken_by is expected
