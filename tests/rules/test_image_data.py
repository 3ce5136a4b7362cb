"""The law of image bytes (law 2.3, 5.3 to 5.5 and 5.10), rule by rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import OWNER, RECIPIENT, STRANGER, a_caller, a_disk, an_image
from ims.domain.caller import Caller, Role
from ims.domain.image import GIB, DiskFormat, DiskRole, DiskState, ImageState, KeyId
from ims.domain.limits import Limits
from ims.domain.rejection import Category, Reason, Rejection
from ims.domain.tenant import TenantId
from ims.rules.engine import enforce
from ims.rules.image_data import (
    DOWNLOAD_IMAGE_DATA,
    FINISH_UPLOAD,
    RECEIVE_CHUNK,
    START_RESUMABLE_UPLOAD,
    START_UPLOAD,
    Announcement,
    a_download_begins_within_the_file,
    a_stored_disk_is_not_filled_again,
    damaged_bytes_are_not_given_out,
    files_stay_within_the_limit,
    no_more_arrives_than_was_announced,
    one_upload_at_a_time_fills_a_disk,
    only_members_upload_files_of_their_own,
    only_plain_bytes_are_brought_directly_to_a_store_for_it,
    only_plain_bytes_in_a_store_for_it_are_read_directly,
    only_the_declaring_service_uploads_what_it_vouches_for,
    only_the_owner_or_its_service_uploads,
    the_disk_inside_fits_the_largest_disk,
    the_disk_is_one_of_the_image,
    the_file_has_its_announced_digest,
    the_file_has_its_announced_size,
    the_file_is_sound_and_keeps_to_itself,
    the_file_is_what_it_claims_to_be,
)
from ims.rules.images import min_disk_holds_the_disk_inside_the_file
from rules.facts import (
    ANOTHER_SHA256,
    SHA256,
    a_direct_download,
    a_download,
    a_draft,
    a_report,
    an_arrival,
    an_arrived_file,
    an_empty_disk,
    an_upload,
    is_kept,
    the_violation,
)

COMPUTE = TenantId("compute")
DECLARED = a_draft(declared_by=COMPUTE)
"""An image of OWNER's that came from a server, says COMPUTE."""


class TestOnlyMembersUploadFilesOfTheirOwn:
    def test_a_member_does(self):
        assert is_kept(only_members_upload_files_of_their_own, an_upload())

    def test_a_service_that_is_no_member_does_not(self):
        violation = the_violation(
            only_members_upload_files_of_their_own, an_upload(caller=a_caller(OWNER, Role.SERVICE))
        )

        assert violation.reason is Reason.ROLE_REQUIRED
        assert violation.metadata == {"requiredRoles": "member"}

    def test_what_a_service_declared_it_uploads_without_being_a_member(self):
        attempt = an_upload(caller=a_caller(COMPUTE, Role.SERVICE), image=DECLARED)

        assert is_kept(only_members_upload_files_of_their_own, attempt)


class TestOnlyTheOwnerOrItsServiceUploads:
    def test_the_owner_does(self):
        assert is_kept(only_the_owner_or_its_service_uploads, an_upload())

    def test_the_service_that_declared_the_image_does(self):
        attempt = an_upload(caller=a_caller(COMPUTE, Role.SERVICE), image=DECLARED)

        assert is_kept(only_the_owner_or_its_service_uploads, attempt)

    @pytest.mark.parametrize(
        "caller",
        [
            a_caller(STRANGER),
            a_caller(RECIPIENT),
            a_caller(STRANGER, *Role),
            a_caller(COMPUTE),
            a_caller(COMPUTE, Role.ADMIN),
        ],
        ids=["stranger", "recipient", "another service", "without the role", "with another role"],
    )
    def test_nobody_else_does(self, caller: Caller):
        violation = the_violation(
            only_the_owner_or_its_service_uploads, an_upload(caller=caller, image=DECLARED)
        )

        assert violation.reason is Reason.NOT_IMAGE_OWNER
        assert only_the_owner_or_its_service_uploads.category is Category.FORBIDDEN


class TestOnlyTheDeclaringServiceUploadsWhatItVouchesFor:
    def test_the_service_does(self):
        attempt = an_upload(caller=a_caller(COMPUTE, Role.SERVICE), image=DECLARED)

        assert is_kept(only_the_declaring_service_uploads_what_it_vouches_for, attempt)

    def test_its_owner_does_not(self):
        violation = the_violation(
            only_the_declaring_service_uploads_what_it_vouches_for, an_upload(image=DECLARED)
        )

        assert violation.reason is Reason.ROLE_REQUIRED
        assert violation.metadata == {"requiredRoles": "service"}

    def test_another_service_does_not(self):
        attempt = an_upload(caller=a_caller(OWNER, Role.SERVICE), image=DECLARED)

        assert the_violation(only_the_declaring_service_uploads_what_it_vouches_for, attempt)

    def test_a_tenants_own_file_is_nobody_elses(self):
        assert is_kept(only_the_declaring_service_uploads_what_it_vouches_for, an_upload())


TWO_DISKS = (an_empty_disk(), an_empty_disk(index=1, role=DiskRole.DATA))


class TestTheDiskIsOneOfTheImage:
    @pytest.mark.parametrize("index", [0, 1])
    def test_a_disk_of_the_image(self, index: int):
        attempt = an_upload(image=a_draft(disks=TWO_DISKS), disk_index=index)

        assert is_kept(the_disk_is_one_of_the_image, attempt)

    @pytest.mark.parametrize("index", [-1, 2, 2**31 - 1])
    def test_no_disk_of_the_image(self, index: int):
        for attempt in (
            an_upload(image=a_draft(disks=TWO_DISKS), disk_index=index),
            a_download(image=a_draft(disks=TWO_DISKS), disk_index=index),
        ):
            violation = the_violation(the_disk_is_one_of_the_image, attempt)

            assert violation.reason is Reason.DISK_NOT_FOUND
            assert violation.metadata == {"diskIndex": index, "disks": 2}
            assert the_disk_is_one_of_the_image.category is Category.MISSING


class TestOneUploadAtATimeFillsADisk:
    @pytest.mark.parametrize("state", [DiskState.EMPTY, DiskState.STORED])
    def test_nobody_is_uploading(self, state: DiskState):
        attempt = an_upload(image=a_draft(disks=(an_empty_disk(state=state),)))

        assert is_kept(one_upload_at_a_time_fills_a_disk, attempt)

    def test_somebody_is(self):
        image = a_draft(state=ImageState.SAVING, disks=(an_empty_disk(state=DiskState.SAVING),))

        violation = the_violation(one_upload_at_a_time_fills_a_disk, an_upload(image=image))
        assert violation.reason is Reason.IMAGE_BUSY
        assert violation.metadata == {"diskIndex": 0}

    def test_another_disk_of_the_image_may_be_filled_meanwhile(self):
        disks = (an_empty_disk(state=DiskState.SAVING), an_empty_disk(index=1, role=DiskRole.DATA))
        image = a_draft(state=ImageState.SAVING, disks=disks)

        enforce(START_UPLOAD, an_upload(image=image, disk_index=1))


class TestAStoredDiskIsNotFilledAgain:
    @pytest.mark.parametrize("state", [DiskState.EMPTY, DiskState.SAVING])
    def test_one_that_is_not_complete(self, state: DiskState):
        attempt = an_upload(image=a_draft(disks=(an_empty_disk(state=state),)))

        assert is_kept(a_stored_disk_is_not_filled_again, attempt)

    def test_one_that_is_complete_while_others_are_missing(self):
        image = a_draft(disks=(a_disk(), an_empty_disk(index=1, role=DiskRole.DATA)))

        violation = the_violation(a_stored_disk_is_not_filled_again, an_upload(image=image))
        assert violation.reason is Reason.IMAGE_DATA_FINAL
        assert violation.metadata == {"diskIndex": 0}
        assert is_kept(a_stored_disk_is_not_filled_again, an_upload(image=image, disk_index=1))


class TestFilesStayWithinTheLimit:
    @pytest.mark.parametrize("size_bytes", [1, 128 * GIB])
    def test_up_to_128_gib_are_announced(self, size_bytes: int):
        attempt = an_upload(announced=Announcement(size_bytes=size_bytes))

        assert is_kept(files_stay_within_the_limit, attempt)

    def test_a_byte_more_is_refused_before_any_arrives(self):
        attempt = an_upload(announced=Announcement(size_bytes=128 * GIB + 1))

        violation = the_violation(files_stay_within_the_limit, attempt)
        assert violation.reason is Reason.IMAGE_FILE_TOO_LARGE
        assert violation.metadata == {
            "maxImageFileBytes": 137438953472,
            "imageFileBytes": 137438953473,
        }
        assert files_stay_within_the_limit.category is Category.OVER_LIMIT

    @pytest.mark.parametrize(("received_bytes", "kept"), [(1000, True), (1001, False)])
    def test_it_is_judged_again_as_the_file_grows(self, received_bytes: int, kept: bool):
        arrival = an_arrival(max_file_bytes=1000, received_bytes=received_bytes)

        assert is_kept(files_stay_within_the_limit, arrival) is kept
        assert files_stay_within_the_limit in RECEIVE_CHUNK

    def test_the_law_says_128_gib(self):
        assert Limits().image_file_bytes == 128 * 1024**3


class TestNoMoreArrivesThanWasAnnounced:
    @pytest.mark.parametrize("received_bytes", [0, 1, 999, 1000])
    def test_up_to_the_last_announced_byte(self, received_bytes: int):
        assert is_kept(no_more_arrives_than_was_announced, an_arrival(received_bytes=received_bytes))

    def test_one_more(self):
        violation = the_violation(no_more_arrives_than_was_announced, an_arrival(received_bytes=1001))

        assert violation.reason is Reason.SIZE_MISMATCH
        assert violation.metadata == {"announcedBytes": 1000, "receivedBytes": 1001}
        assert "more arrived" in violation.message


class TestTheFileHasItsAnnouncedSize:
    def test_it_has(self):
        assert is_kept(the_file_has_its_announced_size, an_arrived_file())

    @pytest.mark.parametrize(("size_bytes", "word"), [(999, "less"), (1001, "more")])
    def test_it_has_another(self, size_bytes: int, word: str):
        arrived = an_arrived_file(disk=a_disk(size_bytes=size_bytes))

        violation = the_violation(the_file_has_its_announced_size, arrived)
        assert violation.reason is Reason.SIZE_MISMATCH
        assert violation.metadata == {"announcedBytes": 1000, "receivedBytes": size_bytes}
        assert f"{word} arrived" in violation.message

    def test_of_a_file_that_was_cut_short_nobody_asks(self):
        arrived = an_arrived_file(disk=a_disk(size_bytes=999), cut_short=True)

        assert is_kept(the_file_has_its_announced_size, arrived)


class TestTheFileHasItsAnnouncedDigest:
    def test_it_has(self):
        assert is_kept(the_file_has_its_announced_digest, an_arrived_file())

    def test_none_was_announced(self):
        arrived = an_arrived_file(announced=Announcement(size_bytes=1000))

        assert is_kept(the_file_has_its_announced_digest, arrived)

    def test_it_has_another(self):
        arrived = an_arrived_file(announced=Announcement(size_bytes=1000, sha256=ANOTHER_SHA256))

        violation = the_violation(the_file_has_its_announced_digest, arrived)
        assert violation.reason is Reason.DIGEST_MISMATCH
        assert violation.metadata == {"announcedSha256": ANOTHER_SHA256, "receivedSha256": SHA256}

    def test_of_a_file_that_was_cut_short_nobody_asks(self):
        announced = Announcement(size_bytes=1000, sha256=ANOTHER_SHA256)

        assert is_kept(
            the_file_has_its_announced_digest, an_arrived_file(announced=announced, cut_short=True)
        )


class TestTheFileIsWhatItClaimsToBe:
    @pytest.mark.parametrize("declared", DiskFormat)
    @pytest.mark.parametrize("found", [*DiskFormat, None])
    def test_of_all_formats_only_the_declared_one_will_do(
        self, declared: DiskFormat, found: DiskFormat | None
    ):
        arrived = an_arrived_file(
            disk=a_disk(format=declared), report=a_report(format=found, described_as="something")
        )

        if found is declared:
            assert is_kept(the_file_is_what_it_claims_to_be, arrived)
        else:
            violation = the_violation(the_file_is_what_it_claims_to_be, arrived)
            assert violation.reason is Reason.FORMAT_MISMATCH
            assert violation.metadata == {"declaredFormat": declared, "foundFormat": "something"}

    def test_it_names_the_disk(self):
        disk = a_disk(index=3, format=DiskFormat.VMDK)

        violation = the_violation(the_file_is_what_it_claims_to_be, an_arrived_file(disk=disk))
        assert violation.subject == "disks[3].format"


class TestTheFileIsSoundAndKeepsToItself:
    def test_nothing_was_found(self):
        assert is_kept(the_file_is_sound_and_keeps_to_itself, an_arrived_file())

    def test_every_danger_is_named(self):
        dangers = ("it has a backing file", "a table lies outside the file")
        arrived = an_arrived_file(report=a_report(dangers=dangers))

        violations = list(the_file_is_sound_and_keeps_to_itself.violations(arrived))
        assert [each.metadata for each in violations] == [{"danger": each} for each in dangers]
        assert {each.reason for each in violations} == {Reason.UNSAFE_IMAGE_FILE}


class TestTheDiskInsideFitsTheLargestDisk:
    @pytest.mark.parametrize(
        ("role", "most_gib"),
        [(DiskRole.SYSTEM, 1024), (DiskRole.DATA, 2048), (DiskRole.INSTALLATION_MEDIUM, 1024)],
    )
    def test_up_to_the_last_byte(self, role: DiskRole, most_gib: int):
        fits = an_arrived_file(disk=a_disk(role=role, capacity_bytes=most_gib * GIB))
        one_more = an_arrived_file(disk=a_disk(role=role, capacity_bytes=most_gib * GIB + 1))

        assert is_kept(the_disk_inside_fits_the_largest_disk, fits)
        violation = the_violation(the_disk_inside_fits_the_largest_disk, one_more)
        assert violation.reason is Reason.DISK_CAPACITY_TOO_LARGE
        assert violation.metadata == {
            "capacityBytes": most_gib * GIB + 1,
            "maxCapacityGib": most_gib,
        }


class TestADownloadBeginsWithinTheFile:
    @pytest.mark.parametrize("offset_bytes", [0, 1, 999, 1000])
    def test_from_the_first_byte_to_the_end(self, offset_bytes: int):
        assert is_kept(a_download_begins_within_the_file, a_download(offset_bytes=offset_bytes))

    @pytest.mark.parametrize("offset_bytes", [-1, 1001, 2**62])
    def test_nothing_outside(self, offset_bytes: int):
        violation = the_violation(
            a_download_begins_within_the_file, a_download(offset_bytes=offset_bytes)
        )

        assert violation.reason is Reason.OFFSET_OUT_OF_RANGE
        assert violation.metadata == {"offsetBytes": offset_bytes, "sizeBytes": 1000}
        assert a_download_begins_within_the_file.category is Category.OUT_OF_RANGE

    def test_of_a_disk_that_does_not_exist_nothing_is_said(self):
        attempt = a_download(disk_index=1, offset_bytes=1001)

        assert is_kept(a_download_begins_within_the_file, attempt)
        assert the_violation(the_disk_is_one_of_the_image, attempt)

    def test_without_a_file_the_state_decides(self):
        attempt = a_download(image=a_draft(), offset_bytes=1)

        assert is_kept(a_download_begins_within_the_file, attempt)
        with pytest.raises(Rejection) as caught:
            enforce(DOWNLOAD_IMAGE_DATA, attempt)
        assert caught.value.reason is Reason.IMAGE_NOT_ACTIVE

    @given(st.integers(-(2**63), 2**63 - 1))
    def test_any_offset(self, offset_bytes: int):
        kept = is_kept(a_download_begins_within_the_file, a_download(offset_bytes=offset_bytes))

        assert kept is (offset_bytes in range(1001))


class TestTheOrderOfJudgement:
    def test_a_good_upload_is_taken_from_beginning_to_end(self):
        enforce(START_UPLOAD, an_upload())
        enforce(RECEIVE_CHUNK, an_arrival())
        enforce(FINISH_UPLOAD, an_arrived_file())

    def test_a_good_download_is_given(self):
        enforce(DOWNLOAD_IMAGE_DATA, a_download())

    def test_all_that_is_wrong_with_a_file_is_told_at_once(self):
        disk = a_disk(size_bytes=1001, capacity_bytes=1025 * GIB)
        arrived = an_arrived_file(
            disk=disk,
            draft=an_image(disks=(disk,), min_disk_gib=1),
            announced=Announcement(size_bytes=1000, sha256=ANOTHER_SHA256),
            report=a_report(format=None, described_as="several", dangers=("it is malformed",)),
        )

        with pytest.raises(Rejection) as caught:
            enforce(FINISH_UPLOAD, arrived)

        assert [each.reason for each in caught.value.violations] == [
            Reason.SIZE_MISMATCH,
            Reason.DIGEST_MISMATCH,
            Reason.FORMAT_MISMATCH,
            Reason.UNSAFE_IMAGE_FILE,
            Reason.DISK_CAPACITY_TOO_LARGE,
            Reason.MIN_DISK_TOO_SMALL,
        ]
        assert caught.value.category is Category.AGAINST_RULES

    def test_the_smallest_disk_is_compared_when_the_file_is_there(self):
        assert min_disk_holds_the_disk_inside_the_file in FINISH_UPLOAD

    def test_the_limit_is_spoken_of_only_when_all_else_is_right(self):
        attempt = an_upload(image=an_image(), announced=Announcement(size_bytes=128 * GIB + 1))

        with pytest.raises(Rejection) as caught:
            enforce(START_UPLOAD, attempt)

        assert {each.reason for each in caught.value.violations} == {Reason.IMAGE_DATA_FINAL}


class TestOnlyPlainBytesInAStoreForItAreReadDirectly:
    def test_plain_ones_are_where_the_store_lets_them(self):
        assert is_kept(only_plain_bytes_in_a_store_for_it_are_read_directly, a_direct_download())

    def test_no_store_no_url(self):
        violation = the_violation(
            only_plain_bytes_in_a_store_for_it_are_read_directly,
            a_direct_download(store_gives_urls=False),
        )

        assert violation.reason is Reason.DIRECT_TRANSFER_UNAVAILABLE
        assert violation.metadata == {"encrypted": "false"}

    def test_encrypted_ones_would_be_of_no_use(self):
        violation = the_violation(
            only_plain_bytes_in_a_store_for_it_are_read_directly,
            a_direct_download(image=an_image(encryption_key_id=KeyId("a-key"))),
        )

        assert violation.metadata == {"encrypted": "true"}


class TestOnlyPlainBytesAreBroughtDirectlyToAStoreForIt:
    rule = only_plain_bytes_are_brought_directly_to_a_store_for_it

    def test_to_a_store_that_takes_them_they_are(self):
        assert is_kept(self.rule, an_upload(direct=True, store_takes_parts=True))

    def test_what_is_brought_to_the_service_needs_no_such_store(self):
        assert is_kept(self.rule, an_upload())
        assert is_kept(self.rule, an_upload(image=a_draft(encryption_key_id=KeyId("a-key"))))

    @pytest.mark.parametrize(
        ("key", "takes", "encrypted"),
        [(None, False, "false"), (KeyId("a-key"), True, "true"), (KeyId("a-key"), False, "true")],
    )
    def test_otherwise_they_are_not(self, key, takes, encrypted):
        image = a_draft(encryption_key_id=key)
        violation = the_violation(
            self.rule, an_upload(image=image, direct=True, store_takes_parts=takes)
        )

        assert violation.reason is Reason.DIRECT_TRANSFER_UNAVAILABLE
        assert violation.metadata == {"encrypted": encrypted}

    def test_that_is_told_before_what_would_be_too_much(self):
        attempt = an_upload(direct=True, announced=Announcement(size_bytes=2**50))

        with pytest.raises(Rejection) as rejected:
            enforce(START_RESUMABLE_UPLOAD, attempt)

        assert rejected.value.reason is Reason.DIRECT_TRANSFER_UNAVAILABLE


class TestDamagedBytesAreNotGivenOut:
    def test_whole_ones_are(self):
        assert is_kept(damaged_bytes_are_not_given_out, a_download())

    def test_damaged_ones_are_not(self):
        violation = the_violation(
            damaged_bytes_are_not_given_out, a_download(image=an_image(disks=(a_disk(damaged=True),)))
        )

        assert violation.reason is Reason.DISK_DATA_DAMAGED
        assert not violation.metadata

    def test_another_disk_of_the_image_is_still_read(self):
        disks = (a_disk(damaged=True), a_disk(index=1, role=DiskRole.DATA))

        assert is_kept(
            damaged_bytes_are_not_given_out, a_download(image=an_image(disks=disks), disk_index=1)
        )
