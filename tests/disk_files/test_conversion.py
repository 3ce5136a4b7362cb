"""What a disk file becomes in another format, and what qemu-img is kept from."""

import itertools
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import cannot_run, needs
from disk_files.makers import (
    GOOD_CAPACITY,
    GOOD_FILE_NAMES,
    HOSTILE_FILES,
    KIB,
    MIB,
    TINY_QCOW2,
    qcow,
    qcow2,
    qcow2_v2,
    qed,
    raw,
    run,
    sound_files,
)
from disk_files.poisoned import POISONED_FILES, PoisonedFile
from ims.disk_files.conversion import (
    CONVERTIBLE_FORMATS,
    Conversion,
    ConversionLimits,
    Converted,
    Converter,
    Exceeded,
)
from ims.disk_files.inspection import Inspection
from ims.domain.image import DiskFormat
from ims.domain.rejection import Category, Reason, Rejection

SMALL_LIMITS = ConversionLimits(
    memory_bytes=512 * MIB, processor_seconds=1, seconds=30, file_bytes=32 * MIB
)
TARGETS = sorted(CONVERTIBLE_FORMATS)
NAMES = [name for name in GOOD_FILE_NAMES if not name.startswith("iso")]
REFUSED = {
    Reason.FORMAT_MISMATCH,
    Reason.UNSAFE_IMAGE_FILE,
    Reason.CONVERSION_FAILED,
    Reason.CONVERSION_LIMIT_EXCEEDED,
}

MakeConverter = Callable[..., Converter]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "conversions"


@pytest.fixture
def make_converter(folder: Path) -> MakeConverter:
    needs(shutil.which("qemu-img"), "qemu-img")
    needs(shutil.which("prlimit"), "prlimit")

    def make(limits: ConversionLimits = SMALL_LIMITS, **more: str) -> Converter:
        return Converter(folder, limits=limits, **more)

    return make


@pytest.fixture
def converter(make_converter: MakeConverter, folder: Path) -> Iterator[Converter]:
    made = make_converter()
    yield made
    assert list(folder.glob("*")) == []
    assert processes_in(folder) == []


def processes_in(folder: Path) -> list[str]:
    """Return the processes that work in a folder or below."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            where = (process / "cwd").readlink()
        except OSError:
            continue  # ended, or not ours
        if where.is_relative_to(folder):
            found.append(process.name)
    return found


def convert(
    converter: Converter, content: bytes, source: DiskFormat, target: DiskFormat
) -> tuple[Converted, bytes]:
    with converter.begin() as conversion:
        for place in range(0, len(content), MIB):
            conversion.write(content[place : place + MIB])
        converted = conversion.convert(source, target)
        return converted, b"".join(conversion.read(chunk_bytes=MIB))


def disk_inside(content: bytes, format_: DiskFormat, folder: Path) -> bytes:
    """Return the disk in a file, as qemu-img alone sees it."""
    file, disk = folder / "file", folder / "disk"
    file.write_bytes(content)
    options = {"VHD": ["--image-opts", f"driver=vpc,force_size_calc=current_size,file.filename={file}"]}
    given = options.get(format_, ["-f", format_.lower(), str(file)])
    run("qemu-img", "convert", *given[:-1], "-O", "raw", given[-1], disk)
    return disk.read_bytes()


def rejection_of(call: Callable[[], object]) -> Rejection | None:
    """Return how a call was declined; None when it was not."""
    try:
        call()
    except Rejection as rejection:
        return rejection
    return None


def exceeded(what: Exceeded, call: Callable[[], object]) -> None:
    with pytest.raises(Rejection) as caught:
        call()
    assert caught.value.reason is Reason.CONVERSION_LIMIT_EXCEEDED
    assert caught.value.category is Category.OVER_LIMIT
    assert caught.value.violations[0].metadata == {"exceeded": what.name}


class TestFormats:
    @pytest.mark.parametrize("target", TARGETS)
    @pytest.mark.parametrize("name", NAMES)
    def test_the_disk_inside_stays_what_it_was(self, converter, good_file, tmp_path, name, target):
        file = good_file(name)
        disk = good_file("raw").path.read_bytes()

        converted, content = convert(converter, file.path.read_bytes(), file.format, target)

        assert converted.size_bytes == len(content)
        assert converted.report.format is target
        assert converted.report.capacity_bytes == GOOD_CAPACITY
        assert disk_inside(content, target, tmp_path) == disk

    @pytest.mark.parametrize("target", TARGETS)
    @pytest.mark.parametrize("size", [1, 512, 513, 3 * MIB - 1])
    def test_a_disk_of_any_size_is_filled_up_to_a_sector(self, converter, tmp_path, size, target):
        disk = random.Random(size).randbytes(size)

        converted, content = convert(converter, disk, DiskFormat.RAW, target)

        rounded = disk.ljust(-(-size // 512) * 512, b"\0")
        assert converted.report.capacity_bytes == len(rounded)
        assert disk_inside(content, target, tmp_path) == rounded

    @pytest.mark.parametrize("file", sound_files(), ids=lambda file: file.name)
    def test_files_of_every_kind_are_read(self, converter, file):
        if file.format is DiskFormat.ISO:
            with pytest.raises(Rejection) as caught:
                convert(converter, file.content, file.format, DiskFormat.RAW)
            assert caught.value.reason is Reason.CONVERSION_FAILED
        else:
            _, content = convert(converter, file.content, file.format, DiskFormat.RAW)
            assert len(content) == file.capacity_bytes

    def test_a_raw_disk_is_never_taken_for_what_stands_in_it(self, converter, tmp_path):
        """It would be another disk, with other files behind it, if the format were guessed."""
        inner = qcow2(
            extensions=bytes(144) + b"/etc/passwd", backing_file_offset=256, backing_file_bytes=11
        )
        disk = bytes(512) + inner.ljust(MIB - 512, b"\0")

        _, content = convert(converter, disk, DiskFormat.RAW, DiskFormat.QCOW2)

        assert disk_inside(content, DiskFormat.QCOW2, tmp_path) == disk

    def test_no_iso_is_converted_nor_anything_into_one(self, converter):
        for source, target in itertools.product((DiskFormat.ISO, DiskFormat.RAW), (DiskFormat.ISO,)):
            with pytest.raises(Rejection) as caught:
                convert(converter, raw(), source, target)
            assert caught.value.reason is Reason.CONVERSION_FAILED


class TestProgress:
    def test_progress_is_told_from_nothing_to_all(self, make_converter):
        told: list[float] = []
        limits = ConversionLimits()
        disk = os.urandom(128 * MIB)
        with make_converter(limits).begin() as conversion:
            conversion.write(disk)
            conversion.convert(DiskFormat.RAW, DiskFormat.QCOW, on_progress=told.append)

        assert told == sorted(told)
        assert told[0] < 0.5
        assert all(0 <= each <= 1 for each in told)
        assert len(set(told)) > 2

    def test_whoever_is_told_can_stop_it_at_once(self, make_converter, folder):
        class Cancelled(Exception):
            pass

        def stop(_done: float) -> None:
            raise Cancelled

        begun = time.monotonic()
        with make_converter(ConversionLimits()).begin() as conversion:
            conversion.write(os.urandom(128 * MIB))
            with pytest.raises(Cancelled):
                conversion.convert(DiskFormat.RAW, DiskFormat.QCOW, on_progress=stop)
            assert processes_in(folder) == []

        assert time.monotonic() - begun < 10
        assert list(folder.glob("*")) == []


class TestLimits:
    SLOW: ClassVar = (DiskFormat.RAW, DiskFormat.QCOW)
    """qemu-img writes the oldest format slowly."""

    def test_one_that_takes_too_long_is_ended(self, make_converter):
        converter = make_converter(ConversionLimits(seconds=0.3))

        exceeded(Exceeded.TIME, lambda: convert(converter, os.urandom(128 * MIB), *self.SLOW))

    def test_one_that_works_too_much_is_ended(self, make_converter):
        converter = make_converter(ConversionLimits(processor_seconds=1))
        bomb = next(each for each in POISONED_FILES if "a bomb of a TiB" in each.name)

        exceeded(
            Exceeded.PROCESSOR_TIME,
            lambda: convert(converter, bomb.content, bomb.format, DiskFormat.QCOW),
        )

    def test_one_that_wants_too_much_memory_is_ended(self, make_converter):
        converter = make_converter(ConversionLimits(memory_bytes=48 * MIB))

        exceeded(
            Exceeded.MEMORY,
            lambda: convert(converter, os.urandom(16 * MIB), DiskFormat.RAW, DiskFormat.QCOW2),
        )

    def test_the_largest_file_is_made_and_no_larger_one(self, make_converter):
        disk = os.urandom(2 * MIB)
        _, content = convert(make_converter(), disk, DiskFormat.RAW, DiskFormat.QED)
        size = len(content)

        enough = make_converter(ConversionLimits(file_bytes=size))
        assert convert(enough, disk, DiskFormat.RAW, DiskFormat.QED)[1] == content
        short = make_converter(ConversionLimits(file_bytes=size - 64 * KIB))
        exceeded(Exceeded.FILE_SIZE, lambda: convert(short, disk, DiskFormat.RAW, DiskFormat.QED))

    def test_a_raw_disk_that_would_be_too_large_is_not_begun(self, make_converter, folder):
        never = make_converter(ConversionLimits(file_bytes=8 * MIB - 1), qemu_img=shutil.which("false"))

        exceeded(
            Exceeded.FILE_SIZE,
            lambda: convert(never, TINY_QCOW2.read_bytes(), DiskFormat.QCOW2, DiskFormat.RAW),
        )

    def test_a_disk_that_is_too_large_is_not_begun(self, make_converter):
        never = make_converter(
            ConversionLimits(capacity_bytes=8 * MIB - 1), qemu_img=shutil.which("false")
        )

        exceeded(
            Exceeded.CAPACITY,
            lambda: convert(never, TINY_QCOW2.read_bytes(), DiskFormat.QCOW2, DiskFormat.VDI),
        )
        enough = make_converter(ConversionLimits(capacity_bytes=8 * MIB))
        convert(enough, TINY_QCOW2.read_bytes(), DiskFormat.QCOW2, DiskFormat.VDI)


class TestHostileFiles:
    @pytest.mark.parametrize(
        "file",
        [each for each in HOSTILE_FILES if each.declared is not DiskFormat.ISO],
        ids=lambda file: file.name,
    )
    def test_what_the_inspection_refuses_no_other_program_looks_at(self, make_converter, file):
        never = make_converter(qemu_img=shutil.which("false"))

        with pytest.raises(Rejection) as caught:
            convert(never, file.content, file.declared, DiskFormat.RAW)

        assert caught.value.reason is file.reason

    @pytest.mark.parametrize("file", POISONED_FILES, ids=lambda file: file.name)
    def test_what_it_lets_through_is_converted_or_refused_within_the_limits(self, converter, file):
        """What comes out is a sound file of a bounded size, or nothing."""
        target = DiskFormat.QCOW2 if file.format is not DiskFormat.QCOW2 else DiskFormat.VHDX
        made: list[tuple[Converted, bytes]] = []
        begun = time.monotonic()

        rejection = rejection_of(
            lambda: made.append(convert(converter, file.content, file.format, target))
        )

        assert time.monotonic() - begun < 60
        if rejection:
            assert rejection.reason in REFUSED
            assert not re.search(r"qemu|source\b|/", str(rejection))
        for converted, content in made:
            assert converted.report.dangers == ()
            assert len(content) <= SMALL_LIMITS.file_bytes

    def test_there_are_enough_of_them(self):
        assert len({each.content for each in LET_THROUGH}) > 50

    @pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
    @pytest.mark.parametrize("name", NAMES)
    def test_a_file_that_was_cut_short_does_no_harm(self, converter, good_file, name, share):
        file = good_file(name)
        content = file.path.read_bytes()
        cut = content[: int(len(content) * share)]

        rejection = rejection_of(lambda: convert(converter, cut, file.format, DiskFormat.QCOW2))

        assert rejection is None or rejection.reason in REFUSED

    @settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        file=st.sampled_from([each for each in sound_files() if each.format is not DiskFormat.ISO]),
        patches=st.lists(
            st.tuples(st.integers(0, 2**22), st.binary(min_size=1, max_size=16)), min_size=1, max_size=8
        ),
    )
    def test_noise_in_a_file_does_no_harm(self, make_converter, file, patches):
        noisy = bytearray(file.content)
        for place, patch in patches:
            at = place % len(noisy)
            noisy[at : at + len(patch)] = patch

        converter = make_converter()
        rejection = rejection_of(lambda: convert(converter, bytes(noisy), file.format, DiskFormat.QCOW2))

        assert rejection is None or rejection.reason in REFUSED


def is_let_through(file: PoisonedFile) -> bool:
    inspection = Inspection(file.format)
    inspection.write(file.content)
    report = inspection.report(len(file.content))
    return (report.format, report.dangers) == (file.format, ())


LET_THROUGH = [each for each in POISONED_FILES if is_let_through(each)]
SYSTEM = re.compile(
    r"/(etc/ld\.so\.(cache|preload)|lib/|lib64/|usr/lib/|proc/|sys/|dev/(null|u?random)$|etc/ssl/|etc/gnutls/|etc/pki/"
    r"|usr/share/locale|usr/local/lib/)"
)
OPENED = re.compile(r'\b(?:open|openat|openat2|creat)\((?:[A-Z_]+, )?"([^"]*)"[^=]*= \d+')
OUTSIDE = {"source", "result"}


class TestForeignFiles:
    """The program itself is watched: it opens the two files that it was given, and no other."""

    SECRET = b"this is not for tenants " * 50

    @pytest.fixture
    def secret(self, tmp_path: Path) -> Path:
        path = tmp_path / "secret"
        path.write_bytes(self.SECRET)
        return path

    @pytest.fixture
    def trace(self, tmp_path: Path) -> Path:
        return tmp_path / "trace"

    @pytest.fixture
    def traced(self, make_converter: MakeConverter, tmp_path: Path, trace: Path) -> Converter:
        strace = needs(shutil.which("strace"), "strace")
        watched = "open,openat,openat2,creat,connect,socket,execve"
        program = tmp_path / "traced"
        program.write_text(
            "#!/bin/sh\n"
            f'exec {strace} -f -qq -o {trace} -e trace={watched} {shutil.which("qemu-img")} "$@"\n'
        )
        program.chmod(0o700)
        return make_converter(qemu_img=str(program))

    def opened(self, trace: Path) -> set[str]:
        text = trace.read_text(errors="replace") if trace.exists() else ""
        if "openat" not in text:
            cannot_run("nothing can be traced here")
        assert "connect(" not in text
        assert text.count("execve(") == 1
        return {path for path in OPENED.findall(text) if not SYSTEM.match(path)}

    @pytest.mark.parametrize("target", TARGETS)
    def test_good_files_are_converted_alone(self, traced, trace, good_file, target):
        file = good_file("vmdk-stream-optimized")
        convert(traced, file.path.read_bytes(), file.format, target)

        assert self.opened(trace) == OUTSIDE

    @pytest.mark.parametrize(
        "file",
        [each for each in LET_THROUGH if "TiB" not in each.name],  # which takes too long to be watched
        ids=lambda file: file.name,
    )
    def test_so_are_poisoned_ones(self, traced, trace, file: PoisonedFile):
        with suppress(Rejection):
            convert(traced, file.content, file.format, DiskFormat.QCOW2)

        assert self.opened(trace) <= OUTSIDE

    @pytest.mark.parametrize("format_", [DiskFormat.QCOW2, DiskFormat.QCOW, DiskFormat.QED])
    def test_a_backing_file_stays_closed_even_if_the_inspection_missed_it(
        self, traced, trace, secret, format_
    ):
        """A second line: what a file says of another behind it is overruled from the start."""
        name = os.fsencode(secret)
        behind = {"backing_file_offset": 512 - len(name), "backing_file_bytes": len(name)}
        made = {DiskFormat.QCOW2: qcow2_v2, DiskFormat.QCOW: qcow, DiskFormat.QED: qed}[format_]
        flag = {"features": 1} if format_ is DiskFormat.QED else {}
        content = bytearray(made(**behind, **flag))
        content[512 - len(name) : 512] = name
        with traced.begin() as conversion:
            conversion.write(content)
            conversion._writing.close()
            conversion._run(format_, DiskFormat.RAW, lambda _: None)
            result = b"".join(conversion.read(chunk_bytes=MIB))

        assert self.SECRET[:24] not in result
        assert str(secret) not in trace.read_text(errors="replace")
        assert self.opened(trace) == OUTSIDE

    def test_a_program_that_does_open_another_file_would_be_noticed(
        self, traced, trace, secret, tmp_path
    ):
        """Or else the tests above would say nothing."""
        name = os.fsencode(secret)
        content = bytearray(qcow2_v2(backing_file_offset=512 - len(name), backing_file_bytes=len(name)))
        content[512 - len(name) : 512] = name
        (tmp_path / "bad").write_bytes(content)
        subprocess.run(
            [traced._qemu_img, "info", "--backing-chain", "-f", "qcow2", tmp_path / "bad"], check=False
        )

        assert str(secret) in self.opened(trace)


class TestTheProgram:
    """How qemu-img is started, shown by programs that stand in its place."""

    @pytest.fixture
    def instead(self, make_converter: MakeConverter, tmp_path: Path) -> Callable[..., Converter]:
        def make(script: str, limits: ConversionLimits = SMALL_LIMITS) -> Converter:
            program = tmp_path / "instead"
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o700)
            return make_converter(limits, qemu_img=str(program))

        return make

    def failed(self, converter: Converter) -> Rejection:
        with pytest.raises(Rejection) as caught:
            convert(converter, raw(), DiskFormat.RAW, DiskFormat.QCOW2)
        return caught.value

    def test_it_is_told_everything_and_has_nothing(self, instead, tmp_path, monkeypatch):
        monkeypatch.setenv("IMS_SECRET", "secret")
        out = tmp_path / "out"
        told = self.failed(
            instead(
                f'for each in "$@"; do echo "$each"; done > {out}.arguments; env > {out}.environment;'
                f"cat > {out}.input; cat /proc/$$/limits > {out}.limits; ls /proc/$$/fd > {out}.files;"
                f"ls -A > {out}.folder; pwd > {out}.where; stat -c %a . source > {out}.modes;"
                f"cat /proc/$$/status > {out}.status; exit 1"
            )
        )

        def said(what: str) -> str:
            return Path(f"{out}.{what}").read_text()

        assert told.reason is Reason.CONVERSION_FAILED
        assert said("arguments").splitlines() == [
            *("convert", "-p", "-f", "raw", "-O", "qcow2", "-o", "compat=1.1"),
            'json:{"driver": "raw", "file": {"driver": "file", "filename": "source"}}',
            "result",
        ]
        environment = {line.partition("=")[0] for line in said("environment").splitlines()}
        assert environment <= {"LC_ALL", "MALLOC_ARENA_MAX", "PWD", "SHLVL", "_", "OLDPWD"}
        assert said("input") == ""
        limits = {line[:26].strip(): line[26:].split()[:2] for line in said("limits").splitlines()}
        assert limits["Max address space"] == [str(SMALL_LIMITS.memory_bytes)] * 2
        assert limits["Max cpu time"] == ["1", "6"]
        assert limits["Max file size"] == [str(SMALL_LIMITS.file_bytes)] * 2
        assert limits["Max open files"] == ["64", "64"]
        assert limits["Max core file size"] == ["0", "0"]
        assert set(said("files").split()) <= {"0", "1", "2", "10", "11"}  # the last are the shell's own
        assert said("folder").split() == ["source"]
        assert said("modes").split() == ["700", "600"]
        assert re.search(r"NoNewPrivs:\s1", said("status"))
        assert not Path(said("where").strip()).exists()

    def test_nothing_that_it_says_is_told(self, instead, caplog):
        """It may quote the file, or the service's folders; the log has it."""
        rejection = self.failed(instead("echo 'qemu-img: /srv/secret: bad magic' >&2; exit 1"))

        assert str(rejection) == (
            "The file cannot be converted from RAW to QCOW2: it is damaged, or of a kind that is not "
            "converted."
        )
        assert rejection.category is Category.AGAINST_RULES
        assert dict(rejection.violations[0].metadata) == {"sourceFormat": "RAW", "targetFormat": "QCOW2"}
        assert "/srv/secret" in caplog.text

    @pytest.mark.parametrize(
        ("script", "reason"),
        [
            ("echo 'qemu-img: No space left on device' >&2; exit 1", Reason.STORAGE_FULL),
            ("echo 'qemu-img: Disk quota exceeded' >&2; exit 1", Reason.STORAGE_FULL),
            ("echo 'qemu-img: File too large' >&2; exit 1", Reason.CONVERSION_LIMIT_EXCEEDED),
            ("echo 'qemu-img: Cannot allocate memory' >&2; exit 1", Reason.CONVERSION_LIMIT_EXCEEDED),
            ("kill -XCPU $$", Reason.CONVERSION_LIMIT_EXCEEDED),
            ("kill -XFSZ $$", Reason.CONVERSION_LIMIT_EXCEEDED),
            ("kill -KILL $$", Reason.CONVERSION_LIMIT_EXCEEDED),
            ("kill -SEGV $$", Reason.CONVERSION_FAILED),
            ("exit 1", Reason.CONVERSION_FAILED),
            ("echo nothing > result", Reason.CONVERSION_FAILED),
            ("exit 0", Reason.STORAGE_UNAVAILABLE),
        ],
    )
    def test_however_it_ends_has_a_name(self, instead, script, reason):
        assert self.failed(instead(script)).reason is reason

    def test_what_it_makes_is_inspected(self, instead, tmp_path):
        """Here it made a file that needs another one."""
        (tmp_path / "bad").write_bytes(qcow2_v2(backing_file_offset=256, backing_file_bytes=11))

        assert self.failed(instead(f"cp {tmp_path}/bad result")).reason is Reason.CONVERSION_FAILED

    def test_what_it_makes_has_the_size_of_what_it_was_given(self, instead, tmp_path):
        (tmp_path / "other").write_bytes(qcow2(capacity_bytes=128 * KIB))

        assert self.failed(instead(f"cp {tmp_path}/other result")).reason is Reason.CONVERSION_FAILED

    def test_it_may_talk_without_end(self, instead):
        talk = (
            "yes '(1.00/100%)' | head -c 20000000; yes talk 2>/dev/null | head -c 20000000 >&2; exit 1"
        )

        assert self.failed(instead(talk)).reason is Reason.CONVERSION_FAILED

    @pytest.mark.parametrize(
        "script",
        ["sleep 600", "exec sleep 600", "trap '' TERM INT HUP; sleep 600; sleep 600"],
    )
    def test_all_of_it_is_ended(self, instead, folder, script):
        converter = instead(script, ConversionLimits(seconds=0.2))

        exceeded(Exceeded.TIME, lambda: convert(converter, raw(), DiskFormat.RAW, DiskFormat.QCOW2))
        wait_until(lambda: processes_in(folder) == [])

    def test_it_is_ended_also_when_it_says_nothing_more(self, instead):
        converter = instead("exec sleep 600 >&- 2>&-", ConversionLimits(seconds=0.2))

        exceeded(Exceeded.TIME, lambda: convert(converter, raw(), DiskFormat.RAW, DiskFormat.QCOW2))

    @pytest.mark.parametrize("missing", ["no-such-program", "/no/such/program"])
    def test_without_it_there_are_no_conversions(self, make_converter, folder, missing):
        without = make_converter(qemu_img=missing)

        assert not without.available
        with pytest.raises(Rejection) as caught:
            without.begin()
        assert caught.value.reason is Reason.CONVERSION_UNAVAILABLE
        assert not folder.exists()

    def test_the_path_of_the_environment_is_not_asked(self, make_converter, tmp_path, monkeypatch):
        (tmp_path / "qemu-img").write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "qemu-img").chmod(0o700)
        monkeypatch.setenv("PATH", str(tmp_path))

        assert make_converter().available
        assert convert(make_converter(), raw(), DiskFormat.RAW, DiskFormat.QCOW2)


CRASHING = """
import sys
from pathlib import Path
from ims.disk_files.conversion import ConversionLimits, Converter
from ims.domain.image import DiskFormat

converter = Converter(Path(sys.argv[1]), limits=ConversionLimits(), qemu_img=sys.argv[2])
conversion = converter.begin()
conversion.write(b"disk")
conversion.convert(DiskFormat.RAW, DiskFormat.QCOW2, on_progress=lambda _: print("at work", flush=True))
"""


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


class TestFolders:
    def test_a_folder_is_private_and_gone_afterwards(self, converter, folder):
        with converter.begin() as conversion:
            (inside,) = folder.iterdir()
            conversion.write(raw())
            modes = [stat.S_IMODE(path.stat().st_mode) for path in (inside, inside / "source")]

        assert modes == [0o700, 0o600]
        assert list(folder.iterdir()) == []

    def test_a_program_dies_with_its_service_and_what_it_leaves_is_removed(
        self, make_converter, folder, tmp_path
    ):
        program = tmp_path / "instead"
        program.write_text("#!/bin/sh\nexec sleep 600\n")
        program.chmod(0o700)
        service = subprocess.Popen(
            [sys.executable, "-c", CRASHING, folder, program], stdout=subprocess.PIPE
        )
        with service:
            service.stdout.readline()
            others = make_converter()
            others.remove_leftovers()
            held = list(folder.iterdir())
            alive = processes_in(folder)
            service.send_signal(signal.SIGKILL)

        wait_until(lambda: processes_in(folder) == [])
        others.remove_leftovers()
        assert (len(held), len(alive)) == (1, 1)
        assert list(folder.iterdir()) == []

    def test_what_is_not_ours_stays(self, make_converter, folder):
        converter = make_converter()
        folder.mkdir()
        (folder / "other").mkdir()
        (folder / "conversion-file").write_text("")
        (folder / "conversion-gone").symlink_to("nowhere")

        converter.remove_leftovers()

        assert {path.name for path in folder.iterdir()} == {
            "other",
            "conversion-file",
            "conversion-gone",
        }

    def test_without_a_folder_nothing_is_left_over(self, make_converter):
        make_converter().remove_leftovers()

    def test_a_full_disk_is_told_while_the_file_is_written(self, make_converter, tmp_path):
        unshare = ["unshare", "--mount", "--map-root-user"]
        if subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", tmp_path], check=False).returncode:
            cannot_run("no file system can be mounted here")
        script = (
            "import sys; from pathlib import Path\n"
            "from ims.disk_files.conversion import *\n"
            "converter = Converter(Path(sys.argv[1]), limits=ConversionLimits())\n"
            "with converter.begin() as conversion:\n"
            "    try:\n"
            "        for _ in range(4): conversion.write(bytes(2**20))\n"
            "    except Rejection as rejection: print(rejection.reason)\n"
            "with converter.begin() as conversion:\n"
            "    conversion.write(b'1' * 2**19 + b'2' * 2**18)\n"
            "    try: conversion.convert(DiskFormat.RAW, DiskFormat.QCOW2)\n"
            "    except Rejection as rejection: print(rejection.reason)\n"
            "print(len(list(Path(sys.argv[1]).iterdir())))\n"
        )
        mounting = f'mount -t tmpfs -o size=1m none {tmp_path} && exec "$@"'
        done = subprocess.run(
            [*unshare, "sh", "-c", mounting, "sh", sys.executable, "-c", script, tmp_path],
            capture_output=True,
            text=True,
            check=True,
        )

        assert done.stdout.split() == ["STORAGE_FULL", "STORAGE_FULL", "0"]

    def test_a_folder_that_cannot_be_made_is_told(self, tmp_path):
        (tmp_path / "file").write_text("")
        converter = Converter(tmp_path / "file" / "folder", limits=SMALL_LIMITS)
        if not converter.available:
            cannot_run("qemu-img is not installed")

        with pytest.raises(Rejection) as caught:
            converter.begin()

        assert caught.value.reason is Reason.STORAGE_UNAVAILABLE

    def test_a_conversion_can_be_closed_twice(self, converter):
        conversion: Conversion = converter.begin()
        conversion.close()
        conversion.close()
