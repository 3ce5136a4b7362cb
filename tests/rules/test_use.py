"""The law of using an image (law 7), rule by rule."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import (
    ELSEWHERE,
    HOME,
    OWNER,
    RECIPIENT,
    STRANGER,
    a_caller,
    a_full_ecs_image,
    a_share,
    an_image,
)
from ims.domain.caller import Role
from ims.domain.image import Firmware, ImageState, ImageType, KeyId
from ims.domain.rejection import Category, Reason, Rejection
from ims.domain.use import Purpose
from ims.rules.engine import enforce
from ims.rules.use import (
    RESOLVE_IMAGE,
    an_os_change_keeps_the_firmware,
    bare_metal_servers_need_an_image_made_for_them,
    only_services_act_for_other_tenants,
    the_disk_holds_the_image,
    the_image_is_available_in_the_region,
    the_memory_is_within_the_images_bounds,
    the_type_serves_the_purpose,
)
from rules.facts import a_representation, a_use, is_kept, the_violation


class TestOnlyServicesActForOtherTenants:
    @pytest.mark.parametrize("roles", [(), tuple(Role)])
    def test_everybody_acts_for_itself(self, roles: tuple[Role, ...]):
        attempt = a_representation(caller=a_caller(OWNER, *roles))

        assert is_kept(only_services_act_for_other_tenants, attempt)

    def test_a_service_acts_for_another(self):
        attempt = a_representation(caller=a_caller("compute", Role.SERVICE))

        assert is_kept(only_services_act_for_other_tenants, attempt)

    @pytest.mark.parametrize("roles", [(), (Role.ADMIN,)])
    def test_nobody_else_does(self, roles: tuple[Role, ...]):
        violation = the_violation(
            only_services_act_for_other_tenants,
            a_representation(caller=a_caller(STRANGER, *roles)),
        )

        assert violation.reason is Reason.ROLE_REQUIRED
        assert violation.metadata == {"requiredRoles": "service"}
        assert only_services_act_for_other_tenants.category is Category.FORBIDDEN


# What each type is used for, written down again from law 1.
USED_FOR = {
    ImageType.SYSTEM_DISK: {"CREATE_ECS", "CHANGE_OS", "CREATE_BMS"},
    ImageType.DATA_DISK: {"CREATE_VOLUME"},
    ImageType.FULL_ECS: {"CREATE_ECS", "CHANGE_OS"},
    ImageType.ISO: {"CREATE_ECS"},
}


class TestTheTypeServesThePurpose:
    @pytest.mark.parametrize("purpose", Purpose)
    @pytest.mark.parametrize("image_type", ImageType)
    def test_each_type_serves_what_the_law_says(self, image_type: ImageType, purpose: Purpose):
        attempt = a_use(purpose, image=an_image(type=image_type))

        if purpose in USED_FOR[image_type]:
            assert is_kept(the_type_serves_the_purpose, attempt)
        else:
            violation = the_violation(the_type_serves_the_purpose, attempt)
            assert violation.reason is Reason.WRONG_TYPE_FOR_PURPOSE
            assert violation.metadata == {"type": image_type, "purpose": purpose}


class TestBareMetalServersNeedAnImageMadeForThem:
    def test_an_image_made_for_them(self):
        attempt = a_use(Purpose.CREATE_BMS, image=an_image(for_bms=True))

        assert is_kept(bare_metal_servers_need_an_image_made_for_them, attempt)

    def test_an_image_made_for_something_else(self):
        violation = the_violation(
            bare_metal_servers_need_an_image_made_for_them, a_use(Purpose.CREATE_BMS)
        )

        assert violation.reason is Reason.NOT_MADE_FOR_BMS
        assert violation.metadata == {}

    @pytest.mark.parametrize("purpose", [each for each in Purpose if each is not Purpose.CREATE_BMS])
    @pytest.mark.parametrize("for_bms", [True, False])
    def test_no_other_purpose_asks(self, purpose: Purpose, for_bms: bool):
        attempt = a_use(purpose, image=an_image(for_bms=for_bms))

        assert is_kept(bare_metal_servers_need_an_image_made_for_them, attempt)


class TestAnOsChangeKeepsTheFirmware:
    @pytest.mark.parametrize("firmware", Firmware)
    def test_the_same_firmware(self, firmware: Firmware):
        attempt = a_use(Purpose.CHANGE_OS, image=an_image(firmware=firmware), firmware=firmware)

        assert is_kept(an_os_change_keeps_the_firmware, attempt)

    @pytest.mark.parametrize(
        ("server", "image"), [(Firmware.BIOS, Firmware.UEFI), (Firmware.UEFI, Firmware.BIOS)]
    )
    def test_another(self, server: Firmware, image: Firmware):
        violation = the_violation(
            an_os_change_keeps_the_firmware,
            a_use(Purpose.CHANGE_OS, image=an_image(firmware=image), firmware=server),
        )

        assert violation.reason is Reason.FIRMWARE_DIFFERS
        assert violation.metadata == {"serverFirmware": server, "imageFirmware": image}

    def test_one_that_was_not_said(self):
        attempt = a_use(Purpose.CHANGE_OS, image=an_image(firmware=Firmware.UEFI), firmware=None)

        assert is_kept(an_os_change_keeps_the_firmware, attempt)

    @pytest.mark.parametrize("purpose", [each for each in Purpose if each is not Purpose.CHANGE_OS])
    def test_no_other_purpose_asks(self, purpose: Purpose):
        attempt = a_use(purpose, image=an_image(firmware=Firmware.UEFI), firmware=Firmware.BIOS)

        assert is_kept(an_os_change_keeps_the_firmware, attempt)


class TestTheDiskHoldsTheImage:
    @pytest.mark.parametrize("disk_gib", [40, 41])
    def test_a_disk_of_the_least_size_or_more(self, disk_gib: int):
        assert is_kept(
            the_disk_holds_the_image, a_use(image=an_image(min_disk_gib=40), disk_gib=disk_gib)
        )

    @pytest.mark.parametrize("disk_gib", [1, 39])
    def test_a_smaller_one(self, disk_gib: int):
        violation = the_violation(
            the_disk_holds_the_image, a_use(image=an_image(min_disk_gib=40), disk_gib=disk_gib)
        )

        assert violation.reason is Reason.DISK_TOO_SMALL
        assert violation.metadata == {"minDiskGib": 40, "diskGib": disk_gib}

    def test_one_whose_size_was_not_said(self):
        assert is_kept(the_disk_holds_the_image, a_use(image=an_image(min_disk_gib=40), disk_gib=0))


class TestTheMemoryIsWithinTheImagesBounds:
    @pytest.mark.parametrize(
        ("least", "most", "ram"),
        [
            (0, 0, 1),
            (1024, 0, 1024),
            (1024, 2048, 1024),
            (1024, 2048, 2048),
            (0, 2048, 1),
            (1024, 2048, 0),
        ],
    )
    def test_enough_and_not_too_much(self, least: int, most: int, ram: int):
        image = an_image(min_ram_mib=least, max_ram_mib=most)

        assert is_kept(the_memory_is_within_the_images_bounds, a_use(image=image, ram_mib=ram))

    @pytest.mark.parametrize(
        ("least", "most", "ram"),
        [(1024, 0, 1023), (1024, 2048, 1023), (1024, 2048, 2049), (0, 2048, 2049)],
    )
    def test_too_little_or_too_much(self, least: int, most: int, ram: int):
        image = an_image(min_ram_mib=least, max_ram_mib=most)

        violation = the_violation(
            the_memory_is_within_the_images_bounds, a_use(image=image, ram_mib=ram)
        )
        assert violation.reason is Reason.MEMORY_OUT_OF_RANGE
        assert violation.metadata == {"minRamMib": least, "maxRamMib": most, "ramMib": ram}

    @given(least=st.integers(0, 5), most=st.integers(0, 5), ram=st.integers(1, 6))
    def test_any_memory_and_any_bounds(self, least: int, most: int, ram: int):
        image = an_image(min_ram_mib=least, max_ram_mib=most)

        kept = is_kept(the_memory_is_within_the_images_bounds, a_use(image=image, ram_mib=ram))
        assert kept is (least <= ram and (most == 0 or ram <= most))


class TestTheImageIsAvailableInTheRegion:
    def test_the_same_region(self):
        assert is_kept(the_image_is_available_in_the_region, a_use(region=HOME))

    def test_another(self):
        violation = the_violation(the_image_is_available_in_the_region, a_use(region=ELSEWHERE))

        assert violation.reason is Reason.IMAGE_NOT_IN_REGION
        assert violation.metadata == {"imageRegion": HOME, "region": ELSEWHERE}


class TestTheOrderOfJudgement:
    @pytest.mark.parametrize("purpose", [Purpose.CREATE_ECS, Purpose.CHANGE_OS])
    def test_a_good_use_is_allowed(self, purpose: Purpose):
        enforce(RESOLVE_IMAGE, a_use(purpose))
        enforce(RESOLVE_IMAGE, a_use(purpose, image=a_full_ecs_image()))

    def test_all_that_forbids_a_use_is_told_at_once(self):
        image = an_image(
            type=ImageType.ISO,
            firmware=Firmware.UEFI,
            min_disk_gib=40,
            min_ram_mib=1024,
            encryption_key_id=KeyId("key-1"),
        )
        attempt = a_use(
            Purpose.CHANGE_OS,
            image=image,
            disk_gib=20,
            ram_mib=512,
            firmware=Firmware.BIOS,
            region=ELSEWHERE,
        )

        with pytest.raises(Rejection) as caught:
            enforce(RESOLVE_IMAGE, attempt)

        assert [each.reason for each in caught.value.violations] == [
            Reason.WRONG_TYPE_FOR_PURPOSE,
            Reason.FIRMWARE_DIFFERS,
            Reason.DISK_TOO_SMALL,
            Reason.MEMORY_OUT_OF_RANGE,
            Reason.IMAGE_NOT_IN_REGION,
            Reason.KEY_UNAVAILABLE,
        ]

    def test_the_state_is_spoken_of_first(self):
        attempt = a_use(Purpose.CREATE_VOLUME, image=an_image(state=ImageState.DEACTIVATED))

        with pytest.raises(Rejection) as caught:
            enforce(RESOLVE_IMAGE, attempt)

        assert [each.reason for each in caught.value.violations] == [Reason.IMAGE_NOT_ACTIVE]

    def test_a_pending_share_does_not_allow_a_use(self):
        waiting = replace(a_use(), caller=a_caller(RECIPIENT), share=a_share())

        with pytest.raises(Rejection) as caught:
            enforce(RESOLVE_IMAGE, waiting)

        assert caught.value.reason is Reason.SHARE_NOT_ACCEPTED
