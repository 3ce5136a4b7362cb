"""A file that is there as a whole or not at all."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(target: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Open a file for writing that gets its name, complete and durable, when the block ends well.

    When the block does not, nothing stays behind. Raises OSError; FileExistsError, before and after
    the block, when the name is taken and not to be overwritten.
    """
    _check_name(target, overwrite=overwrite)
    partial = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with partial.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            partial.replace(target)
        else:
            _name_for_the_first_time(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    _sync_folder(target.parent)


def _check_name(target: Path, *, overwrite: bool) -> None:
    if target.is_dir():
        raise _error(errno.EISDIR, target)
    if os.path.lexists(target) and not overwrite:
        raise _error(errno.EEXIST, target)
    if target.exists() and not target.is_file():
        # A device that is overwritten by renaming is lost to the whole machine.
        raise OSError(errno.EINVAL, "Not a regular file", str(target))


def _name_for_the_first_time(partial: Path, target: Path) -> None:
    try:
        target.hardlink_to(partial)  # unlike a rename, a link never takes the place of another file
    except FileExistsError:
        raise _error(errno.EEXIST, target) from None
    except OSError:  # a file system without links
        _check_name(target, overwrite=False)
        partial.rename(target)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _error(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))
