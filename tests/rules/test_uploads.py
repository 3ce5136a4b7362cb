"""The law of uploads that can be interrupted (law 2.3 and 5.11), rule by rule."""

import pytest

from builders import RECIPIENT, STRANGER, a_caller, an_image
from ims.domain.caller import Role
from ims.domain.image import DiskFormat, DiskState
from ims.domain.rejection import Category, Reason, Rejection
from ims.rules.engine import enforce
from ims.rules.image_data import a_stored_disk_is_not_filled_again
from ims.rules.uploads import (
    ABORT_UPLOAD,
    COMPLETE_UPLOAD,
    CREATE_PART_URLS,
    GET_UPLOAD,
    IMPORT_UPLOAD,
    RESUME_UPLOAD,
    WRITE_UPLOAD,
    a_direct_upload_is_not_written_to_the_service,
    a_writer_goes_on_where_the_upload_has_come_to,
    only_a_direct_upload_is_brought_to_the_store,
    only_a_whole_upload_is_finished,
    the_upload_is_one_of_the_disk,
    what_is_to_be_converted_is_imported,
)
from rules.facts import (
    a_draft,
    a_found_upload,
    a_progress,
    a_started_upload,
    an_empty_disk,
    is_kept,
    the_violation,
)

SAVING = a_draft(disks=(an_empty_disk(state=DiskState.SAVING),))


class TestTheUploadIsOneOfTheDisk:
    def test_one_that_is_there_is(self):
        assert is_kept(the_upload_is_one_of_the_disk, a_found_upload())

    def test_one_that_is_not_there_is_not(self):
        violation = the_violation(the_upload_is_one_of_the_disk, a_found_upload(upload=None))

        assert violation.reason is Reason.UPLOAD_NOT_FOUND
        assert not violation.metadata

    def test_of_a_disk_that_is_not_there_the_disk_is_told(self):
        with pytest.raises(Rejection) as rejected:
            enforce(GET_UPLOAD, a_found_upload(upload=None, disk_index=3))

        assert [each.reason for each in rejected.value.violations] == [Reason.DISK_NOT_FOUND]


class TestWhoGoesOnWithAnUpload:
    @pytest.mark.parametrize("rules", [GET_UPLOAD, WRITE_UPLOAD, COMPLETE_UPLOAD, ABORT_UPLOAD])
    def test_a_member_of_the_owner_does(self, rules):
        enforce(rules, a_found_upload(image=SAVING))

    @pytest.mark.parametrize("rules", [GET_UPLOAD, WRITE_UPLOAD, COMPLETE_UPLOAD, ABORT_UPLOAD])
    @pytest.mark.parametrize("tenant", [RECIPIENT, STRANGER])
    def test_nobody_else_does(self, rules, tenant):
        with pytest.raises(Rejection) as rejected:
            enforce(rules, a_found_upload(image=SAVING, caller=a_caller(tenant)))

        assert rejected.value.reason is Reason.NOT_IMAGE_OWNER

    @pytest.mark.parametrize("rules", [GET_UPLOAD, WRITE_UPLOAD, COMPLETE_UPLOAD, ABORT_UPLOAD])
    def test_a_reader_does_not(self, rules):
        caller = a_caller(SAVING.owner, Role.READER)

        with pytest.raises(Rejection) as rejected:
            enforce(rules, a_found_upload(image=SAVING, caller=caller))

        assert rejected.value.reason is Reason.ROLE_REQUIRED

    @pytest.mark.parametrize("rules", [WRITE_UPLOAD, ABORT_UPLOAD])
    def test_a_disk_that_is_complete_stays_as_it_is(self, rules):
        with pytest.raises(Rejection) as rejected:
            enforce(rules, a_found_upload(image=an_image()))

        assert rejected.value.reason is Reason.IMAGE_DATA_FINAL
        assert not is_kept(a_stored_disk_is_not_filled_again, a_found_upload(image=an_image()))

    @pytest.mark.parametrize("rules", [GET_UPLOAD, COMPLETE_UPLOAD])
    def test_to_finish_again_is_no_error(self, rules):
        enforce(rules, a_found_upload(image=an_image()))


class TestAWriterGoesOnWhereTheUploadHasComeTo:
    @pytest.mark.parametrize("offset_bytes", [0, 500, 1000])
    def test_a_writer_goes_on_just_there(self, offset_bytes):
        progress = a_progress(received_bytes=offset_bytes, offset_bytes=offset_bytes)

        assert is_kept(a_writer_goes_on_where_the_upload_has_come_to, progress)

    @pytest.mark.parametrize("offset_bytes", [0, 499, 501, 2**62])
    def test_a_writer_does_not_go_on_anywhere_else(self, offset_bytes):
        violation = the_violation(
            a_writer_goes_on_where_the_upload_has_come_to, a_progress(offset_bytes=offset_bytes)
        )

        assert violation.reason is Reason.UPLOAD_OFFSET_MISMATCH
        assert violation.metadata == {"expectedOffsetBytes": 500, "offsetBytes": offset_bytes}


class TestOnlyAWholeUploadIsFinished:
    def test_what_is_whole_is_finished(self):
        assert is_kept(only_a_whole_upload_is_finished, a_progress(received_bytes=1000))

    def test_what_misses_a_byte_is_not(self):
        violation = the_violation(only_a_whole_upload_is_finished, a_progress(received_bytes=999))

        assert violation.metadata == {"receivedBytes": 999, "announcedBytes": 1000}
        with pytest.raises(Rejection) as rejected:
            enforce((only_a_whole_upload_is_finished,), a_progress(received_bytes=999))
        assert rejected.value.category is Category.AGAINST_RULES


class TestWhatIsToBeConvertedIsImported:
    rule = what_is_to_be_converted_is_imported

    @pytest.mark.parametrize("said", [{"source_format": DiskFormat.QCOW2}, {"ova": True}])
    def test_it_is_not_finished_and_can_be_gone_on_with_and_ended(self, said):
        found = a_found_upload(image=SAVING, upload=a_started_upload(**said))

        assert the_violation(self.rule, found).reason is Reason.UPLOAD_NEEDS_CONVERSION
        with pytest.raises(Rejection):
            enforce(COMPLETE_UPLOAD, found)
        for rules in (GET_UPLOAD, WRITE_UPLOAD, IMPORT_UPLOAD, ABORT_UPLOAD):
            enforce(rules, found)

    def test_what_is_the_disks_already_is(self):
        assert is_kept(self.rule, a_found_upload())
        assert is_kept(self.rule, a_found_upload(upload=None))


DIRECT = a_found_upload(image=SAVING, upload=a_started_upload(part_bytes=100), store_takes_parts=True)
WRITTEN = a_found_upload(image=SAVING)


class TestADirectUploadIsNotWrittenToTheService:
    rule = a_direct_upload_is_not_written_to_the_service

    def test_its_parts_are_brought_to_the_store(self):
        violation = the_violation(self.rule, DIRECT)

        assert violation.reason is Reason.UPLOAD_MODE_MISMATCH
        assert violation.metadata == {"direct": "true"}
        enforce(CREATE_PART_URLS, DIRECT)
        with pytest.raises(Rejection):
            enforce(WRITE_UPLOAD, DIRECT)

    def test_it_is_started_again_finished_imported_and_ended_like_any_other(self):
        for rules in (RESUME_UPLOAD, COMPLETE_UPLOAD, IMPORT_UPLOAD, ABORT_UPLOAD, GET_UPLOAD):
            enforce(rules, DIRECT)

    def test_any_other_is_written(self):
        assert is_kept(self.rule, WRITTEN)
        assert is_kept(self.rule, a_found_upload(upload=None))


class TestOnlyADirectUploadIsBroughtToTheStore:
    rule = only_a_direct_upload_is_brought_to_the_store

    def test_any_other_is_written_to_the_service(self):
        violation = the_violation(self.rule, WRITTEN)

        assert violation.reason is Reason.UPLOAD_MODE_MISMATCH
        assert violation.metadata == {"direct": "false"}
        enforce(WRITE_UPLOAD, WRITTEN)
        with pytest.raises(Rejection):
            enforce(CREATE_PART_URLS, WRITTEN)

    def test_a_direct_one_is(self):
        assert is_kept(self.rule, DIRECT)
        assert is_kept(self.rule, a_found_upload(upload=None))
