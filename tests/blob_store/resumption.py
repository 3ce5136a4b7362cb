"""What a store keeps of `ResumableBlobStore`; each implementation runs it with its own `blobs`."""

import pytest

from blob_store.contract import BYTES, CHUNK, END, KEY, OTHER_KEY, commit, content
from ims.blob_store.interface import BlobDeleted, KeyInUse


class ResumptionContract:
    """Subclasses have the fixtures `blobs`, an empty store, and `elsewhere`, the same store again."""

    def test_a_blob_that_nobody_began_is_begun(self, blobs):
        writer = blobs.resume_writer(KEY)

        assert writer.size_bytes == 0
        writer.write(BYTES)
        writer.commit()
        assert content(blobs, KEY) == BYTES

    def test_a_suspended_blob_is_gone_on_with_elsewhere(self, blobs, elsewhere):
        writer = blobs.resume_writer(KEY)
        writer.write(BYTES[:CHUNK])
        writer.suspend()

        kept = elsewhere.kept_bytes(KEY)
        another = elsewhere.resume_writer(KEY)
        assert another.size_bytes == kept == CHUNK
        another.write(BYTES[kept:])
        another.commit()
        assert content(blobs, KEY) == BYTES
        assert blobs.kept_bytes(KEY) == 0

    def test_a_blob_is_written_by_as_many_writers_as_need_be(self, blobs):
        for place in range(0, END, 300_000):
            writer = blobs.resume_writer(KEY)
            assert writer.size_bytes == place
            writer.write(BYTES[place : place + 300_000])
            writer.suspend()

        blobs.resume_writer(KEY).commit()

        assert content(blobs, KEY) == BYTES

    def test_nothing_of_a_suspended_blob_is_visible(self, blobs):
        writer = blobs.resume_writer(KEY)
        writer.write(BYTES)
        writer.suspend()

        assert list(blobs.keys()) == []

    @pytest.mark.parametrize("end", ["suspend", "discard"])
    def test_a_writer_that_was_suspended_does_nothing_any_more(self, blobs, end):
        writer = blobs.resume_writer(KEY)
        writer.write(BYTES)
        writer.suspend()

        getattr(writer, end)()

        assert blobs.kept_bytes(KEY) == END

    def test_where_nothing_was_begun_nothing_is_kept(self, blobs):
        assert blobs.kept_bytes(KEY) == 0

    def test_a_committed_blob_is_not_gone_on_with(self, blobs):
        commit(blobs, KEY, BYTES)

        with pytest.raises(KeyInUse):
            blobs.resume_writer(KEY)
        assert content(blobs, KEY) == BYTES

    def test_what_was_written_goes_on_only_from_where_the_caller_can(self, blobs):
        step = 6 * CHUNK
        writer = blobs.resume_writer(KEY, first_bytes=40, step_bytes=step)
        writer.write(BYTES[:40] + bytes(step))
        writer.write(bytes(step))
        writer.suspend()

        writer = blobs.resume_writer(KEY, first_bytes=40, step_bytes=step)

        assert writer.size_bytes == 40 + 2 * step
        writer.discard()

    def test_a_half_step_is_forgotten(self, blobs):
        writer = blobs.resume_writer(KEY)
        writer.write(BYTES[:1000])
        writer.suspend()

        writer = blobs.resume_writer(KEY, first_bytes=40, step_bytes=700)

        assert writer.size_bytes in {0, 40, 740}
        writer.discard()
        assert blobs.kept_bytes(KEY) == 0

    def test_deleting_a_suspended_blob_leaves_nothing(self, blobs):
        writer = blobs.resume_writer(KEY)
        writer.write(BYTES)
        writer.suspend()

        blobs.delete(KEY)

        assert blobs.kept_bytes(KEY) == 0
        writer = blobs.resume_writer(KEY)
        assert writer.size_bytes == 0
        writer.discard()

    def test_a_writer_whose_blob_was_deleted_is_told_when_it_commits(self, blobs):
        writer = blobs.resume_writer(KEY)
        writer.write(BYTES)

        blobs.delete(KEY)

        with pytest.raises(BlobDeleted):
            writer.commit()
        assert list(blobs.keys()) == []

    def test_other_blobs_are_left_alone(self, blobs):
        writer = blobs.resume_writer(KEY)
        writer.write(BYTES[:CHUNK])
        writer.suspend()
        commit(blobs, OTHER_KEY, BYTES)

        assert blobs.kept_bytes(KEY) == CHUNK
        assert content(blobs, OTHER_KEY) == BYTES
