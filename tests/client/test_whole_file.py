"""A file that is there as a whole or not at all."""

import os
from pathlib import Path

import pytest

from ims.client.whole_file import whole_file


def write(target: Path, content: bytes, *, overwrite: bool = False) -> None:
    with whole_file(target, overwrite=overwrite) as file:
        file.write(content)


def test_it_has_its_name_when_it_is_complete(tmp_path):
    target = tmp_path / "disk"

    with whole_file(target, overwrite=False) as file:
        file.write(b"half")
        file.flush()
        assert not target.exists()
        file.write(b" and half")

    assert target.read_bytes() == b"half and half"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_stays_behind_when_the_block_fails(tmp_path, overwrite):
    target = tmp_path / "disk"

    with pytest.raises(ZeroDivisionError), whole_file(target, overwrite=overwrite) as file:
        file.write(b"half" * (1 // 0))

    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_refused_before_anything_happens(tmp_path):
    target = tmp_path / "disk"
    target.write_bytes(b"old")

    with pytest.raises(FileExistsError), whole_file(target, overwrite=False):
        pytest.fail("the block was entered")

    assert target.read_bytes() == b"old"


def test_a_file_that_came_into_being_meanwhile_is_not_overwritten(tmp_path):
    target = tmp_path / "disk"

    with pytest.raises(FileExistsError, match="disk"), whole_file(target, overwrite=False):
        target.write_bytes(b"somebody else's")

    assert target.read_bytes() == b"somebody else's"
    assert list(tmp_path.iterdir()) == [target]


def test_overwriting_exchanges_the_whole_file(tmp_path):
    target = tmp_path / "disk"
    target.write_bytes(b"an old and longer content")

    write(target, b"new", overwrite=True)

    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_the_old_file_stays_when_its_successor_fails(tmp_path):
    target = tmp_path / "disk"
    target.write_bytes(b"old")

    with pytest.raises(ZeroDivisionError), whole_file(target, overwrite=True) as file:
        file.write(b"new" * (1 // 0))

    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_dangling_link_is_a_taken_name(tmp_path):
    target = tmp_path / "disk"
    target.symlink_to(tmp_path / "nowhere")

    with pytest.raises(FileExistsError):
        write(target, b"new")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_never_becomes_a_file(tmp_path, overwrite):
    with pytest.raises(IsADirectoryError):
        write(tmp_path, b"new", overwrite=overwrite)


def test_a_device_is_never_overwritten(tmp_path):
    target = tmp_path / "pipe"
    os.mkfifo(target)

    with pytest.raises(OSError, match="Not a regular file"):
        write(target, b"new", overwrite=True)

    assert target.is_fifo()


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "nowhere" / "disk", b"new")


def test_the_file_has_the_mode_that_any_new_file_gets(tmp_path):
    target = tmp_path / "disk"
    (tmp_path / "plain").touch()

    write(target, b"new")

    assert target.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("taken_meanwhile", [False, True])
def test_a_file_system_without_links_does_as_well(tmp_path, monkeypatch, taken_meanwhile):
    target = tmp_path / "disk"

    def no_links(*_):
        raise PermissionError

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    if taken_meanwhile:
        with pytest.raises(FileExistsError), whole_file(target, overwrite=False):
            target.write_bytes(b"somebody else's")
    else:
        write(target, b"new")

    assert target.read_bytes() == (b"somebody else's" if taken_meanwhile else b"new")
    assert list(tmp_path.iterdir()) == [target]
