"""Converts disk files from one format to another with qemu-img, which is trusted with nothing.

It is started on two files of fixed names in a folder of its own, always told the formats, with no
environment, no input and no more memory, time and room than it needs. What it makes is inspected like
any other file. What it says is for the log: it may quote the file.
"""

import errno
import fcntl
import json
import logging
import os
import re
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from io import FileIO
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Any, Final, NoReturn, Self

from ims.disk_files.examiner import SECTOR_BYTES, divide_up
from ims.disk_files.inspection import inspect_file
from ims.domain.disk_file import DiskFileReport
from ims.domain.image import GIB, DiskFormat
from ims.domain.rejection import Category, Reason, Rejection, reject

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Driver:
    """How qemu-img is told of a format."""

    name: str
    reading: Mapping[str, Any]
    """What is said of a file that is read: that there is no other behind it, whatever it says itself."""
    writing: tuple[str, ...] = ()


_NO_BACKING: Final = {"backing": None}
_DRIVERS: Final[Mapping[DiskFormat, _Driver]] = {
    DiskFormat.RAW: _Driver(name="raw", reading={}),
    DiskFormat.QCOW2: _Driver(name="qcow2", reading=_NO_BACKING, writing=("compat=1.1",)),
    DiskFormat.QCOW: _Driver(name="qcow", reading=_NO_BACKING),
    DiskFormat.QED: _Driver(name="qed", reading=_NO_BACKING),
    DiskFormat.VDI: _Driver(name="vdi", reading={}),
    DiskFormat.VMDK: _Driver(name="vmdk", reading=_NO_BACKING, writing=("subformat=monolithicSparse",)),
    # Without these a disk may get the size that its cylinders, heads and sectors come to.
    DiskFormat.VHD: _Driver(
        name="vpc",
        reading={"force_size_calc": "current_size"},
        writing=("subformat=dynamic", "force_size=on"),
    ),
    DiskFormat.VHDX: _Driver(name="vhdx", reading={}, writing=("subformat=dynamic",)),
}

CONVERTIBLE_FORMATS: Final = frozenset(_DRIVERS)
"""All but ISO, which is a medium and no disk."""

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for, whatever the environment says."""
_SOURCE: Final = "source"
_RESULT: Final = "result"
_FOLDER_PREFIX: Final = "conversion-"
# One arena, or each of its threads would claim address space that is counted as memory.
_ENVIRONMENT: Final = {"LC_ALL": "C", "MALLOC_ARENA_MAX": "1"}
_OPEN_FILES: Final = 64
_LOOK_SECONDS: Final = 0.2
"""How often progress is told, and the time looked at."""
_MAX_COMPLAINT_BYTES: Final = 4096
_PROGRESS: Final = re.compile(rb"\((\d{1,3}\.\d\d)/100%\)")

OnProgress = Callable[[float], None]
"""Is told, several times a second, how much is done, from 0 to 1; stops the conversion by raising."""


@dataclass(frozen=True, kw_only=True)
class ConversionLimits:
    """What one conversion may take; a file that needs more is refused."""

    memory_bytes: int = GIB
    """Of address space."""
    processor_seconds: int = 6 * 3600
    seconds: float = 12 * 3600
    file_bytes: int = 128 * GIB
    """How large the converted file may become."""
    capacity_bytes: int = 2048 * GIB
    """How large the disk inside may be."""


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A file that was made by a conversion."""

    size_bytes: int
    report: DiskFileReport


class Converter:
    """Makes room for conversions, each in a private folder inside of one, and starts them."""

    def __init__(self, folder: Path, *, limits: ConversionLimits, qemu_img: str = "qemu-img") -> None:
        """Convert in a folder on a disk with room for both files; `qemu_img` is a name or a path."""
        self.limits = limits
        self._folder = folder
        self._qemu_img = qemu_img

    @property
    def available(self) -> bool:
        """Whether all is installed that a conversion needs: qemu-img, and util-linux to limit it."""
        return self._programs() is not None

    def require(self, source: DiskFormat, target: DiskFormat) -> None:
        """See to it beforehand that a file of the first format may become one of the second.

        Raises Rejection CONVERSION_UNAVAILABLE unless there is all that a conversion needs, and
        CONVERSION_FAILED where there is none between them.
        """
        self._installed()
        if not {source, target} <= CONVERTIBLE_FORMATS:
            raise _failed(source, target)

    def begin(self) -> "Conversion":
        """Return a new conversion, with a folder that is gone when it is closed.

        Raises Rejection CONVERSION_UNAVAILABLE, STORAGE_FULL or STORAGE_UNAVAILABLE.
        """
        programs = self._installed()
        with _loss_is_a_rejection():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return Conversion(_PrivateFolder.made_in(self._folder), programs, self.limits)

    def _installed(self) -> "_Programs":
        programs = self._programs()
        if programs is None:
            _log.error("nothing can be converted without qemu-img, setpriv and prlimit")
            raise reject(
                Category.AGAINST_RULES,
                Reason.CONVERSION_UNAVAILABLE,
                "This deployment does not convert disk files.",
            )
        return programs

    def remove_leftovers(self) -> None:
        """Remove the folders of conversions whose process has died, and no others."""
        for path in self._folder.glob(f"{_FOLDER_PREFIX}*"):
            # Gone meanwhile, or somebody's, or nothing of ours.
            with suppress(FileNotFoundError, BlockingIOError, NotADirectoryError):
                _PrivateFolder(path).close()

    def _programs(self) -> "_Programs | None":
        found = [shutil.which(each, path=_PATH) for each in ("setpriv", "prlimit", self._qemu_img)]
        setpriv, prlimit, qemu_img = found
        if setpriv is None or prlimit is None or qemu_img is None:
            return None
        return _Programs(setpriv=setpriv, prlimit=prlimit, qemu_img=qemu_img)


@dataclass(frozen=True, kw_only=True)
class _Programs:
    setpriv: str
    prlimit: str
    qemu_img: str

    def limited(self, limits: ConversionLimits, arguments: Sequence[str]) -> list[str]:
        """Return a command line of qemu-img with limits that hold before its first instruction.

        setpriv has it die with the thread that waits for it, and prlimit limits it; both become it.
        """
        # The second number ends it for good, should it not heed the first.
        processor = f"{limits.processor_seconds}:{limits.processor_seconds + 5}"
        return [
            *(self.setpriv, "--no-new-privs", "--pdeathsig", "KILL"),
            *(self.prlimit, f"--as={limits.memory_bytes}", f"--cpu={processor}"),
            *(f"--fsize={limits.file_bytes}", f"--nofile={_OPEN_FILES}", "--core=0", "--"),
            *(self.qemu_img, *arguments),
        ]


class Conversion:
    """One file to be converted: written, then converted once, then read. Closing ends all of it."""

    def __init__(
        self,
        folder: "_PrivateFolder",
        programs: _Programs,
        limits: ConversionLimits,
    ) -> None:
        self._folder = folder
        self._programs = programs
        self._limits = limits
        self._source = folder.path / _SOURCE
        self._result = folder.path / _RESULT
        self._writing = FileIO(self._source, "xb", opener=_open_private)

    def write(self, chunk: bytes) -> None:
        """Take the bytes that follow of the file to be converted.

        Raises Rejection STORAGE_FULL or STORAGE_UNAVAILABLE.
        """
        rest = memoryview(chunk)
        with _loss_is_a_rejection():
            while rest:
                rest = rest[self._writing.write(rest) :]

    def convert(
        self, source: DiskFormat, target: DiskFormat, *, on_progress: OnProgress = lambda _done: None
    ) -> Converted:
        """Convert what was written, a file of the first format, to the second.

        Raises Rejection: FORMAT_MISMATCH or UNSAFE_IMAGE_FILE when the inspection refuses the file,
        before anything else looks at it; CONVERSION_LIMIT_EXCEEDED; CONVERSION_FAILED when it cannot be
        read after all; STORAGE_FULL and STORAGE_UNAVAILABLE; and whatever `on_progress` raises.
        """
        if not {source, target} <= CONVERTIBLE_FORMATS:
            raise _failed(source, target)
        with _loss_is_a_rejection():
            self._writing.close()
            before = inspect_file(self._source, source)
        _judge_source(before, source)
        self._judge_capacity(before.capacity_bytes, target)
        self._run(source, target, on_progress)
        with _loss_is_a_rejection():
            self._source.unlink()
            size_bytes = self._result.stat().st_size
            after = inspect_file(self._result, target)
        capacity_bytes = divide_up(before.capacity_bytes, SECTOR_BYTES) * SECTOR_BYTES
        if (after.format, after.capacity_bytes, after.dangers) != (target, capacity_bytes, ()):
            _log.error("qemu-img has made something else of a %s: %s", source, after)
            raise _failed(source, target)
        if size_bytes > self._limits.file_bytes:
            raise _too_much(Exceeded.FILE_SIZE)
        return Converted(size_bytes=size_bytes, report=after)

    def read(self, *, chunk_bytes: int) -> Iterator[bytes]:
        """Yield the converted file in chunks; the last may be shorter. Raises STORAGE_UNAVAILABLE."""
        with _loss_is_a_rejection(), self._result.open("rb", buffering=0) as file:
            while chunk := file.read(chunk_bytes):
                yield chunk

    def close(self) -> None:
        self._writing.close()
        self._folder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _judge_capacity(self, capacity_bytes: int, target: DiskFormat) -> None:
        if capacity_bytes > self._limits.capacity_bytes:
            raise _too_much(Exceeded.CAPACITY)
        # What is told beforehand costs nobody any time.
        if target is DiskFormat.RAW and capacity_bytes > self._limits.file_bytes:
            raise _too_much(Exceeded.FILE_SIZE)

    def _run(self, source: DiskFormat, target: DiskFormat, on_progress: OnProgress) -> None:
        """Have qemu-img convert the file, however the file was judged."""
        reading, writing = _DRIVERS[source], _DRIVERS[target]
        file = {"driver": "file", "filename": _SOURCE}
        read = json.dumps({"driver": reading.name, "file": file, **reading.reading})
        options = ["-o", ",".join(writing.writing)] if writing.writing else []
        arguments = ["convert", "-p", "-f", reading.name, "-O", writing.name, *options]
        run = _Run(
            self._programs.limited(self._limits, [*arguments, f"json:{read}", _RESULT]),
            folder=self._folder.path,
            until=time.monotonic() + self._limits.seconds,
            on_progress=on_progress,
        )
        run.follow()
        if run.status:
            _raise_what_went_wrong(run, source, target)


class _Run:
    """A program at work."""

    def __init__(
        self, command: Sequence[str], *, folder: Path, until: float, on_progress: OnProgress
    ) -> None:
        self._command = command
        self._folder = folder
        self._until = until
        self._on_progress = on_progress
        self._done = 0.0
        self.complaint = b""
        """The beginning of what it printed on its standard error."""
        self.status = 0
        """What it ended with; the negative number of a signal that ended it."""

    def follow(self) -> None:
        """Start it and wait for its end; whatever is raised meanwhile ends it at once."""
        with self._started() as process:
            try:
                self._listen(process)
                while process.poll() is None:
                    self._look()
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(_LOOK_SECONDS)
                self.status = process.returncode
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)

    def _started(self) -> subprocess.Popen[bytes]:
        with _loss_is_a_rejection():
            return subprocess.Popen(  # noqa: S603 - the command is ours to the last word
                self._command,
                cwd=self._folder,
                env=_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        with selectors.DefaultSelector() as selector:
            for stream, hear in ((process.stdout, self._hear), (process.stderr, self._hear_complaint)):
                if stream is not None:
                    selector.register(stream, selectors.EVENT_READ, hear)
            next_look = 0.0
            while selector.get_map():
                for key, _ in selector.select(_LOOK_SECONDS):
                    if heard := os.read(key.fd, 65536):
                        key.data(heard)
                    else:
                        selector.unregister(key.fileobj)
                if time.monotonic() >= next_look:
                    next_look = time.monotonic() + _LOOK_SECONDS
                    self._look()

    def _look(self) -> None:
        self._on_progress(self._done)
        if time.monotonic() >= self._until:
            raise _too_much(Exceeded.TIME)

    def _hear(self, said: bytes) -> None:
        found = _PROGRESS.findall(said)
        if found:
            self._done = min(float(found[-1]) / 100, 1.0)

    def _hear_complaint(self, said: bytes) -> None:
        self.complaint += said[: _MAX_COMPLAINT_BYTES - len(self.complaint)]


class _PrivateFolder:
    """A folder that one process has, as long as it lives."""

    def __init__(self, path: Path) -> None:
        """Take a folder that nobody has. Raises BlockingIOError, or FileNotFoundError."""
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.stat()  # whoever had it may have removed it just now
        except BaseException:
            os.close(self._descriptor)
            raise

    @classmethod
    def made_in(cls, parent: Path) -> Self:
        while True:
            # Whoever removes leftovers may be faster than we are with our lock.
            with suppress(FileNotFoundError, BlockingIOError):
                return cls(Path(mkdtemp(prefix=_FOLDER_PREFIX, dir=parent)))

    def close(self) -> None:
        """Remove it with all that is in it."""
        if self._descriptor >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._descriptor)
            self._descriptor = -1


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


# --- what goes wrong ---


class Exceeded(Enum):
    """What a conversion would take too much of, and the same for a person."""

    MEMORY = "Converting the file takes more memory than is allowed."
    PROCESSOR_TIME = "Converting the file takes more processor time than is allowed."
    TIME = "Converting the file takes longer than is allowed."
    FILE_SIZE = "The converted file would be larger than is allowed."
    CAPACITY = "The disk inside the file is larger than is allowed."


# By signals first, for they cannot be feigned by what stands in a file.
_SIGNALS: Final = {
    -signal.SIGXCPU: Exceeded.PROCESSOR_TIME,
    -signal.SIGKILL: Exceeded.MEMORY,
    -signal.SIGXFSZ: Exceeded.FILE_SIZE,
}
_COMPLAINTS: Final = (
    (b"File too large", Exceeded.FILE_SIZE),
    (b"allocate", Exceeded.MEMORY),
    (b"Resource temporarily unavailable", Exceeded.MEMORY),
)
_NO_ROOM: Final = (b"No space left on device", b"Disk quota exceeded")


def _raise_what_went_wrong(run: _Run, source: DiskFormat, target: DiskFormat) -> NoReturn:
    _log.warning(
        "qemu-img ended with %s converting %s to %s: %r", run.status, source, target, run.complaint
    )
    if run.status in _SIGNALS:
        raise _too_much(_SIGNALS[run.status])
    if any(words in run.complaint for words in _NO_ROOM):
        raise _storage_full()
    for words, exceeded in _COMPLAINTS:
        if words in run.complaint:
            raise _too_much(exceeded)
    raise _failed(source, target)


def _judge_source(report: DiskFileReport, declared: DiskFormat) -> None:
    if report.format is not declared:
        raise reject(
            Category.AGAINST_RULES,
            Reason.FORMAT_MISMATCH,
            f"The disk was declared as {declared}, but the file is {report.described_as}.",
            declaredFormat=declared,
            foundFormat=report.described_as,
        )
    for danger in report.dangers:
        raise reject(
            Category.AGAINST_RULES,
            Reason.UNSAFE_IMAGE_FILE,
            f"The file is not safe to use: {danger}",
            danger=danger,
        )


def _failed(source: DiskFormat, target: DiskFormat) -> Rejection:
    return reject(
        Category.AGAINST_RULES,
        Reason.CONVERSION_FAILED,
        f"The file cannot be converted from {source} to {target}: it is damaged, or of a kind that is "
        "not converted.",
        sourceFormat=source,
        targetFormat=target,
    )


def _too_much(exceeded: Exceeded) -> Rejection:
    return reject(
        Category.OVER_LIMIT,
        Reason.CONVERSION_LIMIT_EXCEEDED,
        exceeded.value,
        exceeded=exceeded.name,
    )


def _storage_full() -> Rejection:
    return reject(Category.OVER_LIMIT, Reason.STORAGE_FULL, "There is no room to convert the file.")


@contextmanager
def _loss_is_a_rejection() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise _storage_full() from error
        _log.exception("files cannot be converted")
        raise reject(
            Category.UNAVAILABLE,
            Reason.STORAGE_UNAVAILABLE,
            "The folder for conversions cannot be used just now.",
        ) from error
