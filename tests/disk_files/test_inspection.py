"""What a file is, how large the disk inside is and why it is refused, from its bytes alone."""

import json
import os
import random
import time
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_files.makers import (
    CAPACITY,
    GOOD_FILE_NAMES,
    HOSTILE_FILES,
    KIB,
    MIB,
    TINY_QCOW2,
    TINY_QCOW2_CAPACITY,
    boot_record,
    dynamic_vhd,
    fixed_vhd,
    iso,
    luks,
    qcow2,
    raw,
    run,
    sound_files,
    vhd_footer,
    vhdx,
    vmdk,
    vmdk_descriptor,
)
from ims.disk_files.examiner import NOT_UNDERSTOOD
from ims.disk_files.inspection import Inspection, inspect_file
from ims.disk_files.qcow import Qcow2Examiner
from ims.domain.disk_file import DiskFileReport
from ims.domain.image import DiskFormat
from ims.domain.rejection import Reason

SOUND_FILES = sound_files()
STRUCTURES = (0, 32, 64, 512, 1536, 64 * KIB, 192 * KIB, 2 * MIB, 2 * MIB + 64 * KIB)
"""Where headers and tables begin in the files of the makers."""
NUMBERS = [bytes(8), b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\x80" + bytes(7), b"\0\0\0\1", b"\1"]
SMALL = [
    *((file.name, file.format, file.content) for file in SOUND_FILES),
    *((file.name, file.declared, file.content) for file in HOSTILE_FILES),
]


def inspected(
    content: bytes, declared: DiskFormat = DiskFormat.RAW, *, chunk_bytes: int = 1 * MIB
) -> DiskFileReport:
    inspection = Inspection(declared)
    for start in range(0, len(content), chunk_bytes):
        inspection.write(content[start : start + chunk_bytes])
    return inspection.report(len(content))


class TestGoodFiles:
    @pytest.mark.parametrize("name", GOOD_FILE_NAMES)
    def test_is_recognised_with_its_exact_capacity(self, good_file, name):
        file = good_file(name)

        report = inspected(file.path.read_bytes(), file.format)

        assert report == DiskFileReport(
            format=file.format,
            described_as=file.format.value,
            capacity_bytes=file.capacity_bytes,
        )

    @pytest.mark.parametrize("name", GOOD_FILE_NAMES)
    def test_is_never_hopeless_as_what_it_is(self, good_file, name):
        file = good_file(name)
        inspection = Inspection(file.format)
        inspection.write(file.path.read_bytes())

        assert not inspection.hopeless

    @pytest.mark.parametrize("name", GOOD_FILE_NAMES)
    def test_is_nothing_else_whatever_it_is_called(self, good_file, name):
        file = good_file(name)
        content = file.path.read_bytes()

        assert {inspected(content, declared).format for declared in DiskFormat} == {file.format}

    @pytest.mark.parametrize("name", GOOD_FILE_NAMES)
    @pytest.mark.parametrize("chunk_bytes", [512, 4099, 64 * KIB, 64 * MIB])
    def test_arrives_in_any_chunks(self, good_file, name, chunk_bytes):
        file = good_file(name)

        report = inspected(file.path.read_bytes(), file.format, chunk_bytes=chunk_bytes)

        assert report.format is file.format
        assert report.capacity_bytes == file.capacity_bytes
        assert report.dangers == ()

    @pytest.mark.parametrize(
        "name", [name for name in GOOD_FILE_NAMES if not name.startswith(("iso", "raw"))]
    )
    def test_qemu_sees_the_same_capacity(self, good_file, name):
        file = good_file(name)
        format_ = {"VHD": "vpc"}.get(file.format, file.format.lower())

        info = json.loads(run("qemu-img", "info", "-f", format_, "--output=json", file.path))

        assert info["virtual-size"] == file.capacity_bytes

    def test_the_tiny_file_of_other_tests_is_good(self):
        content = TINY_QCOW2.read_bytes()

        assert len(content) < 300 * KIB
        assert inspected(content, DiskFormat.QCOW2) == DiskFileReport(
            format=DiskFormat.QCOW2, described_as="QCOW2", capacity_bytes=TINY_QCOW2_CAPACITY
        )


class TestSoundFiles:
    """They are what hostile files are made of: only what was changed is wrong with those."""

    @pytest.mark.parametrize("file", SOUND_FILES, ids=lambda file: file.name)
    def test_nothing_is_wrong_with_them(self, file):
        report = inspected(file.content, file.format)

        assert report == DiskFileReport(
            format=file.format,
            described_as=file.format.value,
            capacity_bytes=file.capacity_bytes,
        )

    @pytest.mark.parametrize(
        "file",
        [file for file in SOUND_FILES if file.format not in (DiskFormat.ISO, DiskFormat.RAW)],
        ids=lambda file: file.name,
    )
    def test_qemu_reads_them(self, file, good_file, tmp_path):
        good_file("qcow2-v3")  # skips where qemu-img is missing
        path = tmp_path / "file"
        path.write_bytes(file.content)
        format_ = {"VHD": "vpc"}.get(file.format, file.format.lower())

        info = json.loads(run("qemu-img", "info", "-f", format_, "--output=json", path))

        assert info["virtual-size"] == file.capacity_bytes


class TestHostileFiles:
    def test_there_are_many_under_names_of_their_own(self):
        assert len(HOSTILE_FILES) >= 24
        assert len({file.name for file in HOSTILE_FILES}) == len(HOSTILE_FILES)
        assert max(len(file.content) for file in HOSTILE_FILES) < 1 * MIB

    @pytest.mark.parametrize("file", HOSTILE_FILES, ids=lambda file: file.name)
    def test_is_refused_for_its_reason_alone(self, file):
        report = inspected(file.content, file.declared)

        if file.reason is Reason.FORMAT_MISMATCH:
            assert report.format is not file.declared
            assert not report.dangers
        else:
            assert report.format is file.declared
            assert report.dangers

    @pytest.mark.parametrize("file", HOSTILE_FILES, ids=lambda file: file.name)
    def test_an_upload_cut_when_hopeless_is_refused_as_well(self, file):
        inspection = Inspection(file.declared)
        written = 0
        for start in range(0, len(file.content), 4096):
            inspection.write(file.content[start : start + 4096])
            written = start + 4096
            if inspection.hopeless:
                break
        size_bytes = written if inspection.hopeless else len(file.content)

        report = inspection.report(size_bytes)

        assert report.format is not file.declared or report.dangers

    @pytest.mark.parametrize("file", HOSTILE_FILES, ids=lambda file: file.name)
    def test_the_sentences_are_short_and_quote_nothing(self, file):
        for sentence in inspected(file.content, file.declared).dangers:
            assert len(sentence) < 100
            assert sentence.isascii()
            assert "passwd" not in sentence


class TestDangers:
    @pytest.mark.parametrize(
        ("declared", "content", "sentence"),
        [
            (DiskFormat.QCOW2, qcow2(backing_file_offset=256), "the file needs a backing file"),
            (DiskFormat.VHDX, vhdx(has_parent=True), "the file needs a backing file"),
            (DiskFormat.VHDX, vhdx(capacity_bytes=0), "the disk inside has no size"),
            (
                DiskFormat.VHDX,
                vhdx(capacity_bytes=2**63),
                "the disk inside claims to be larger than 64 TiB",
            ),
            (
                DiskFormat.VHDX,
                vhdx(capacity_bytes=2**40),
                "the block allocation table is too small for the disk inside",
            ),
            (DiskFormat.VHDX, vhdx(metadata_offset=1 * MIB), "the header is malformed"),
            (
                DiskFormat.VHDX,
                vhdx(metadata_offset=2**50),
                "the metadata lies beyond the end of the file",
            ),
            (DiskFormat.QCOW2, qcow2()[:80], "the header is truncated"),
            (
                DiskFormat.QCOW2,
                qcow2(l1_offset=2**40),
                "the L1 table lies beyond the end of the file",
            ),
            (
                DiskFormat.QCOW2,
                qcow2(encryption_method=1),
                "the file is encrypted by its own means",
            ),
            (
                DiskFormat.VMDK,
                vmdk(descriptor=vmdk_descriptor(kind="vmfs")),
                "the disk lies in other files, of which this is the description",
            ),
        ],
    )
    def test_are_told_in_these_words(self, declared, content, sentence):
        assert sentence in inspected(content, declared).dangers

    def test_are_told_once_each(self):
        content = qcow2(backing_file_offset=256, incompatible_features=1 << 2)

        assert inspected(content, DiskFormat.QCOW2).dangers == (
            "the file needs a backing file",
            "the file keeps its data in another file",
        )

    def test_64_tib_is_not_absurd_but_one_sector_more_is(self):
        limit = 64 * 1024**4
        largest = {"cluster_bits": 21, "l1_entries": 128, "header_bytes": 112}

        at_limit = inspected(qcow2(capacity_bytes=limit, **largest), DiskFormat.QCOW2)
        above = inspected(qcow2(capacity_bytes=limit + 512, **largest), DiskFormat.QCOW2)

        absurd = "the disk inside claims to be larger than 64 TiB"
        assert absurd not in at_limit.dangers
        assert at_limit.capacity_bytes == limit
        assert absurd in above.dangers
        assert above.capacity_bytes == 0

    def test_the_last_byte_that_a_table_needs_decides(self):
        whole = qcow2()[: 3 * 512 + 32 * 8]

        assert inspected(whole, DiskFormat.QCOW2).dangers == ()
        assert inspected(whole[:-1], DiskFormat.QCOW2).dangers == (
            "the L1 table lies beyond the end of the file",
        )

    def test_an_older_header_of_a_vhdx_may_still_name_a_log(self):
        content = bytearray(vhdx())
        content[64 * KIB : 68 * KIB] = vhdx(log_id=b"l" * 16)[64 * KIB : 68 * KIB]

        assert inspected(bytes(content), DiskFormat.VHDX).dangers == ()


class TestKinds:
    def test_luks_is_no_format_of_ours(self):
        report = inspected(luks())

        assert report == DiskFileReport(format=None, described_as="LUKS", capacity_bytes=0)

    def test_several_formats_at_once_are_named(self):
        report = inspected(iso(system_area=qcow2()), DiskFormat.VDI)

        assert report.format is None
        assert report.described_as == "several formats at once (ISO, QCOW2)"
        assert report.dangers == ("the file is several formats at once (ISO, QCOW2)",)

    def test_a_dangerous_file_under_another_name_is_both(self):
        report = inspected(vmdk_descriptor(kind="monolithicFlat"), DiskFormat.RAW)

        assert report.format is DiskFormat.VMDK
        assert report.dangers

    def test_an_empty_file_is_a_raw_disk_that_nobody_can_use(self):
        report = inspected(b"", DiskFormat.QCOW2)

        assert report.format is DiskFormat.RAW
        assert report.dangers == ("the file is empty",)

    def test_a_boot_record_makes_no_other_format_of_iso_raw_and_fixed_vhd(self):
        assert inspected(boot_record() + bytes(512)).format is DiskFormat.RAW
        assert inspected(iso(system_area=boot_record())).format is DiskFormat.ISO
        assert fixed_vhd().startswith(boot_record())
        assert inspected(fixed_vhd()).format is DiskFormat.VHD

    def test_a_resized_vhd_is_as_large_as_it_became(self):
        content = dynamic_vhd(original_bytes=CAPACITY // 2)

        assert inspected(content, DiskFormat.VHD).capacity_bytes == CAPACITY

    def test_a_foreign_footer_at_the_end_of_a_qcow2_is_data(self):
        # A VHD file stored on the disk may happen to lie in the last cluster.
        content = qcow2() + vhd_footer()

        assert inspected(content, DiskFormat.QCOW2).dangers == ()

    @pytest.mark.parametrize("size_bytes", [1, 511, 513, 64 * KIB, 64 * KIB + 1])
    def test_any_bytes_are_a_raw_disk_of_their_size(self, size_bytes):
        report = inspected(b"x" * size_bytes)

        assert report == DiskFileReport(
            format=DiskFormat.RAW, described_as="RAW", capacity_bytes=size_bytes
        )


class TestHopelessness:
    def test_is_known_as_soon_as_the_first_64_kib_are_there(self):
        content = qcow2(backing_file_offset=256).ljust(64 * KIB, b"\0")
        inspection = Inspection(DiskFormat.QCOW2)

        inspection.write(content[:-1])
        before = inspection.hopeless
        inspection.write(content[-1:])

        assert not before
        assert inspection.hopeless

    def test_a_raw_file_may_be_a_vhd_until_its_end(self):
        hopeless = {}
        for declared in DiskFormat:
            inspection = Inspection(declared)
            inspection.write(raw())
            hopeless[declared] = inspection.hopeless

        assert {d for d, is_hopeless in hopeless.items() if not is_hopeless} == {
            DiskFormat.RAW,
            DiskFormat.VHD,
        }

    def test_a_vhdx_with_a_parent_is_hopeless_at_its_metadata(self):
        inspection = Inspection(DiskFormat.VHDX)
        content = vhdx(has_parent=True)

        inspection.write(content[: 2 * MIB])
        before = inspection.hopeless
        inspection.write(content[2 * MIB : 3 * MIB])

        assert not before
        assert inspection.hopeless

    def test_a_cut_upload_is_not_called_truncated(self):
        content = qcow2(l1_offset=2**40, backing_file_offset=256).ljust(MIB, b"\0")
        inspection = Inspection(DiskFormat.QCOW2)
        inspection.write(content[: 64 * KIB])

        assert inspection.report(64 * KIB).dangers == ("the file needs a backing file",)

    def test_a_report_is_the_same_when_asked_again(self):
        for _, declared, content in SMALL:
            inspection = Inspection(declared)
            inspection.write(content)

            assert inspection.report(len(content)) == inspection.report(len(content))


class TestChunks:
    @pytest.mark.parametrize(
        ("declared", "content"),
        [pytest.param(declared, content, id=name) for name, declared, content in SMALL],
    )
    def test_make_no_difference(self, declared, content):
        whole = inspected(content, declared, chunk_bytes=len(content) or 1)
        sizes = [7, 512, 64 * KIB] if len(content) < MIB else [512, 64 * KIB]
        if len(content) <= 64 * KIB:
            sizes.append(1)

        for size in sizes:
            assert inspected(content, declared, chunk_bytes=size) == whole

    @settings(deadline=None)
    @given(file=st.sampled_from(SMALL), data=st.data())
    def test_of_random_sizes_make_no_difference(self, file, data):
        _, declared, content = file
        cuts = data.draw(st.lists(st.integers(0, len(content)), max_size=20))
        inspection = Inspection(declared)
        for start, end in pairwise([0, *sorted(cuts), len(content)]):
            inspection.write(content[start:end])

        assert inspection.report(len(content)) == inspected(content, declared)


class TestAnyBytes:
    @settings(deadline=None)
    @given(content=st.binary(max_size=4096), declared=st.sampled_from(DiskFormat))
    def test_get_a_report(self, content, declared):
        report = inspected(content, declared)

        assert report.capacity_bytes >= 0
        assert report.described_as
        assert NOT_UNDERSTOOD not in report.dangers

    @settings(deadline=None, max_examples=500)
    @given(
        file=st.sampled_from(SMALL),
        changes=st.lists(
            st.tuples(st.integers(0, 2**16), st.sampled_from(NUMBERS) | st.binary(max_size=8)),
            max_size=6,
        ),
        cut=st.none() | st.integers(0, 2**20),
    )
    def test_of_a_damaged_file_get_a_report(self, file, changes, cut):
        _, declared, content = file
        damaged = bytearray(content)
        starts = [start for start in STRUCTURES if start < len(damaged)]
        starts.append(max(len(damaged) - 1536, 0))
        for place, value in changes:
            start = starts[place % len(starts)] + place // len(starts) % 600
            damaged[start : start + len(value)] = value
        if cut is not None:
            del damaged[cut % (len(damaged) + 1) :]

        report = inspected(bytes(damaged), declared)

        assert 0 <= report.capacity_bytes <= max(64 * 1024**4, len(damaged))
        assert NOT_UNDERSTOOD not in report.dangers

    @pytest.mark.parametrize("line", [b"\n", b" ", b" \n", b"rw ", b"a=b\n", b"# \n", b"parentcid "])
    def test_of_the_slowest_descriptor_get_a_report_soon(self, line):
        descriptor = (line * MIB)[:MIB]
        content = vmdk(descriptor=descriptor, descriptor_sectors=2047)
        start = time.process_time()

        assert inspected(content, DiskFormat.VMDK).dangers
        assert inspected(descriptor, DiskFormat.VMDK).described_as
        assert time.process_time() - start < 5

    def test_behind_every_magic_get_a_report(self):
        magics = (b"QFI\xfb", b"QED\0", b"KDMV", b"COWD", b"conectix", b"vhdxfile", b"LUKS\xba\xbe")
        noise = random.Random(7)
        for magic in magics:
            for size in (0, 60, 600, 70_000, 300_000):
                content = magic + noise.randbytes(size)

                assert NOT_UNDERSTOOD not in inspected(content, DiskFormat.QCOW2).dangers


class TestAFailureOfOurs:
    @pytest.mark.parametrize("method", ["__init__", "dangers", "dangers_at_end"])
    def test_refuses_the_file_and_raises_nothing(self, monkeypatch, method):
        def fail(*_, **__):
            raise ZeroDivisionError

        monkeypatch.setattr(Qcow2Examiner, method, fail)

        report = inspected(qcow2(), DiskFormat.QCOW2)

        assert report.format is DiskFormat.QCOW2
        assert report.dangers == (NOT_UNDERSTOOD,)


class TestMemory:
    @pytest.mark.parametrize(
        ("declared", "start"),
        [
            pytest.param(DiskFormat.RAW, b"", id="raw"),
            pytest.param(DiskFormat.QCOW2, qcow2(), id="qcow2"),
            pytest.param(
                DiskFormat.VMDK, vmdk(descriptor_sectors=2**40), id="vmdk without end of descriptor"
            ),
            pytest.param(DiskFormat.VHDX, vhdx(metadata_offset=2**50), id="vhdx without end of search"),
        ],
    )
    def test_stays_flat(self, declared, start):
        chunk = os.urandom(256 * KIB)
        inspection = Inspection(declared)
        tracemalloc.start()
        try:
            inspection.write(start)
            for _ in range(64 * MIB // len(chunk)):
                inspection.write(chunk)
            inspection.report(len(start) + 64 * MIB)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert peak_bytes < 6 * MIB


class TestFilesOnDisk:
    """Of a file that lies there only the beginning and the end are read, and as much is found."""

    @pytest.mark.parametrize(("name", "declared", "content"), SMALL, ids=[name for name, *_ in SMALL])
    def test_as_much_is_found_as_when_it_arrives(self, tmp_path, name, declared, content):
        path = tmp_path / "file"
        path.write_bytes(content)

        assert inspect_file(path, declared) == inspected(content, declared)

    @pytest.mark.parametrize("name", GOOD_FILE_NAMES)
    def test_good_files_are_good(self, good_file, name):
        file = good_file(name)

        assert inspect_file(file.path, file.format) == inspected(file.path.read_bytes(), file.format)

    def test_a_large_file_is_not_read_whole(self, tmp_path):
        path = tmp_path / "file"
        with path.open("wb") as file:
            file.write(qcow2())
            file.truncate(2**40)

        begun = time.monotonic()
        report = inspect_file(path, DiskFormat.QCOW2)

        assert time.monotonic() - begun < 10
        assert (report.format, report.dangers) == (DiskFormat.QCOW2, ())
