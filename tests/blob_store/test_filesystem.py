import errno
import os
import resource
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blob_store.contract import (
    BYTES,
    CHUNK,
    END,
    KEY,
    BlobStoreContract,
    assert_damaged,
    commit,
    content,
)
from blob_store.resumption import ResumptionContract
from conftest import cannot_run
from ims.blob_store import filesystem
from ims.blob_store.filesystem import FilesystemBlobStore
from ims.blob_store.interface import BlobBusy, KeyInUse
from ims.domain.rejection import Category, Reason, Rejection


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def blobs(store):
    return store


def files(root):
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def in_another_process(script, *arguments):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def assert_full(rejection):
    assert (rejection.category, rejection.reason) == (Category.OVER_LIMIT, Reason.STORAGE_FULL)
    assert isinstance(rejection.__cause__, OSError)
    assert "/" not in str(rejection)


class TestContract(BlobStoreContract):
    pass


class TestResumption(ResumptionContract):
    @pytest.fixture
    def elsewhere(self, root):
        return FilesystemBlobStore(root)

    def test_only_one_writer_at_a_time_goes_on_with_a_blob(self, blobs, elsewhere):
        writer = blobs.resume_writer(KEY)
        writer.write(BYTES)

        with pytest.raises(BlobBusy):
            elsewhere.resume_writer(KEY)

        writer.suspend()
        elsewhere.resume_writer(KEY).discard()

    def test_what_a_dead_process_wrote_is_kept_and_its_lock_is_not(self, blobs, root):
        in_another_process(
            """
            import os, sys
            from pathlib import Path
            from ims.blob_store.filesystem import FilesystemBlobStore
            writer = FilesystemBlobStore(Path(sys.argv[1])).resume_writer(sys.argv[2])
            writer.write(b"x" * 1000)
            os._exit(0)
            """,
            root,
            KEY,
        )

        writer = blobs.resume_writer(KEY)

        assert writer.size_bytes == 1000
        writer.discard()

    def test_a_file_whose_writer_commits_meanwhile_is_not_taken_for_unfinished(self, blobs, monkeypatch):
        first = blobs.resume_writer(KEY)
        first.write(BYTES)
        lock = filesystem.fcntl.flock

        def commit_in_between(descriptor, operation):
            monkeypatch.setattr(filesystem.fcntl, "flock", lock)
            first.commit()
            lock(descriptor, operation)

        monkeypatch.setattr(filesystem.fcntl, "flock", commit_in_between)

        with pytest.raises(KeyInUse):
            blobs.resume_writer(KEY)

        assert content(blobs, KEY) == BYTES


class TestLayout:
    def test_a_blob_is_one_file_in_the_folder_of_its_first_two_characters(self, blobs, root):
        commit(blobs, KEY, BYTES)

        assert files(root) == {f"blobs/k1/{KEY}"}
        assert (root / "blobs" / "k1" / KEY).read_bytes() == BYTES

    def test_an_unfinished_blob_is_one_file_in_unfinished(self, blobs, root):
        writer = blobs.open_writer(KEY)

        assert files(root) == {f"unfinished/{KEY}"}

        writer.discard()
        assert files(root) == set()

    def test_only_the_service_may_look_inside(self, blobs, root):
        commit(blobs, KEY, BYTES)

        modes = {stat.S_IMODE(path.stat().st_mode) for path in [root, *root.rglob("*")] if path.is_dir()}
        assert modes == {0o700}
        assert stat.S_IMODE((root / "blobs" / "k1" / KEY).stat().st_mode) == 0o600

    def test_programs_that_the_service_runs_inherit_no_blob(self, blobs, root):
        writer = blobs.open_writer(KEY)

        inherited = subprocess.run(
            ["ls", "-l", "/proc/self/fd"], close_fds=False, capture_output=True, text=True, check=True
        ).stdout

        assert str(root) not in inherited
        writer.discard()

    def test_files_that_are_no_blobs_are_no_keys(self, blobs, root):
        commit(blobs, KEY, BYTES)
        (root / "blobs" / "k1" / "Upper").touch()
        (root / "blobs" / "k1" / "xx-elsewhere").touch()
        (root / "blobs" / "notes.txt").touch()
        (root / "blobs" / "lost+found").mkdir()

        assert list(blobs.keys()) == [KEY]


class TestKeys:
    @pytest.mark.parametrize(
        "key",
        [
            "",
            "a",
            ".",
            "..",
            "a/b",
            "../../etc/passwd",
            "/etc/passwd",
            "a\0b",
            "aa\n",
            "AA",
            "ää",
            "-a",
            "a" * 129,
        ],
    )
    def test_a_key_that_could_leave_the_folder_is_refused(self, blobs, root, key):
        for use in (
            blobs.open_writer,
            blobs.size_bytes,
            blobs.delete,
            lambda key: blobs.read(key, offset_bytes=0, length_bytes=0, chunk_bytes=CHUNK),
        ):
            with pytest.raises(ValueError, match="A blob's key is"):
                use(key)
        assert files(root) == set()

    @pytest.mark.parametrize("key", ["ab", "0-", "a" * 128, "6f9619ff-8b86-d011-b42d-00c04fc964ff"])
    def test_letters_digits_and_dashes_are_a_key(self, blobs, key):
        commit(blobs, key, b"x")

        assert list(blobs.keys()) == [key]

    @given(key=st.text(max_size=6))
    def test_no_key_leads_out_of_the_folder(self, tmp_path_factory, key):
        root = tmp_path_factory.mktemp("keys")
        store = FilesystemBlobStore(root / "store")
        try:
            commit(store, key, b"x")
        except ValueError:
            assert files(root) == set()
        else:
            assert files(root) == {f"store/blobs/{key[:2]}/{key}"}


class TestDurability:
    @pytest.fixture
    def steps(self, monkeypatch, root):
        """What reaches the disk, in order: each fsync by what it is of, and the blob's appearance."""
        steps = []
        fsync, link = os.fsync, os.link

        def spying_fsync(descriptor):
            name = os.path.relpath(Path(f"/proc/self/fd/{descriptor}").readlink(), root)
            steps.append(f"fsync {name}")
            fsync(descriptor)

        def spying_link(source, target, **options):
            steps.append("visible")
            link(source, target, **options)

        monkeypatch.setattr(os, "fsync", spying_fsync)
        monkeypatch.setattr(os, "link", spying_link)
        return steps

    def test_bytes_are_durable_before_the_blob_is_visible_and_its_name_before_commit_returns(
        self, blobs, steps
    ):
        commit(blobs, KEY, BYTES)

        assert steps == [f"fsync unfinished/{KEY}", "fsync blobs", "visible", "fsync blobs/k1"]

    def test_a_folder_known_to_be_durable_is_not_made_so_again(self, blobs, steps):
        commit(blobs, KEY, BYTES)
        steps.clear()

        commit(blobs, "k1-next", BYTES)

        assert steps == ["fsync unfinished/k1-next", "visible", "fsync blobs/k1"]

    def test_a_folder_found_at_start_is_made_durable_before_it_is_relied_upon(self, root, steps):
        for key in ("k1-a", "k1-b"):
            store = FilesystemBlobStore(root)
            steps.clear()
            commit(store, key, BYTES)

            assert steps == [f"fsync unfinished/{key}", "fsync blobs", "visible", "fsync blobs/k1"]

    def test_the_folders_of_a_new_store_are_durable_once_it_is_open(self, tmp_path, root, steps):
        FilesystemBlobStore(tmp_path / "new" / "store")

        assert steps == ["fsync ..", "fsync ../new", "fsync ../new/store"]

    def test_a_crash_between_the_links_leaves_the_blob_and_a_link_that_goes_with_it(self, blobs, root):
        commit(blobs, KEY, BYTES)
        os.link(root / "blobs" / "k1" / KEY, root / "unfinished" / KEY)

        assert content(blobs, KEY) == BYTES
        blobs.delete(KEY)
        assert not (root / "unfinished" / KEY).exists()

    def test_a_folder_that_cannot_be_made_durable_takes_the_blob_back(self, blobs, root, monkeypatch):
        commit(blobs, "k1-other", b"x")
        fsync = os.fsync

        def failing_on_folders(descriptor):
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(errno.EIO, "broken")
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", failing_on_folders)

        with pytest.raises(Rejection) as declined:
            commit(blobs, KEY, BYTES)

        assert declined.value.reason is Reason.STORAGE_UNAVAILABLE

        assert files(root) == {"blobs/k1/k1-other"}


class TestWriteBack:
    def test_a_long_blob_is_written_out_and_let_go_of_piece_by_piece(self, blobs, monkeypatch):
        begun = []
        advise = os.posix_fadvise

        def spying_advise(descriptor, offset, length, advice):
            begun.append((offset, length, advice))
            advise(descriptor, offset, length, advice)

        piece = CHUNK // 2
        monkeypatch.setattr(filesystem, "_WRITE_BACK_BYTES", piece)
        monkeypatch.setattr(os, "posix_fadvise", spying_advise)
        writer = blobs.open_writer(KEY)
        for step in range(0, END, piece):
            writer.write(BYTES[step : step + piece])
        writer.commit()

        assert begun == [
            (max(0, end - 2 * piece), 0, os.POSIX_FADV_DONTNEED) for end in range(piece, END + 1, piece)
        ]
        assert content(blobs, KEY) == BYTES


class TestFullDisk:
    @pytest.fixture
    def small_files_only(self):
        """A real limit: no file of this process grows beyond a chunk."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (CHUNK, hard))
        yield
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    @pytest.fixture
    def sticky_names(self, monkeypatch):
        """Have the disk take no name away; `undo` mends it."""

        def failing(*_arguments, **_details):
            raise OSError(errno.EIO, "broken")

        monkeypatch.setattr(os, "unlink", failing)
        return monkeypatch

    def test_a_file_that_may_not_grow_is_storage_full(self, blobs, root, small_files_only):
        writer = blobs.open_writer(KEY)
        writer.write(BYTES[:CHUNK])

        with pytest.raises(Rejection) as rejected:
            writer.write(b"x")

        assert_full(rejected.value)
        assert rejected.value.__cause__.errno == errno.EFBIG
        assert files(root) == set()

    def test_a_full_disk_leaves_nothing_of_what_was_kept(self, blobs, root, small_files_only):
        writer = blobs.resume_writer(KEY)
        writer.write(BYTES[:CHUNK])
        writer.suspend()
        writer = blobs.resume_writer(KEY)

        with pytest.raises(Rejection) as full:
            writer.write(BYTES[CHUNK:])

        assert_full(full.value)
        assert files(root) == set()

    def test_a_file_that_just_fits_is_stored(self, blobs, small_files_only):
        commit(blobs, KEY, BYTES[:CHUNK])

        assert blobs.size_bytes(KEY) == CHUNK

    def test_a_full_disk_is_storage_full_and_has_its_room_back(self, tmp_path):
        """On a real file system of 1 MiB, in a process of its own, with which the mount ends."""
        unshare = (
            ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
        )
        script = """
            import os, sys
            from pathlib import Path
            from ims.blob_store.filesystem import FilesystemBlobStore
            from ims.domain.rejection import Rejection
            root = Path(sys.argv[1])
            store = FilesystemBlobStore(root)
            free = os.statvfs(root).f_bfree
            writer = store.open_writer("k1")
            try:
                for _ in range(40):
                    writer.write(bytes(100_000))
            except Rejection as rejection:
                print(rejection.reason, type(rejection.__cause__).__name__, rejection.__cause__.errno)
            print(os.statvfs(root).f_bfree == free, sum(path.is_file() for path in root.rglob("*")))
        """
        mounting = f'mount -t tmpfs -o size=1m none {tmp_path} && exec "$@"'
        command = [*unshare, "sh", "-c", mounting, "sh", sys.executable, "-c", textwrap.dedent(script)]
        if subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", tmp_path], check=False).returncode:
            cannot_run("mounting a small file system needs `unshare` and its rights")

        done = subprocess.run(
            [*command, tmp_path], check=True, capture_output=True, text=True, timeout=60
        )

        assert done.stdout.splitlines() == [f"STORAGE_FULL OSError {errno.ENOSPC}", "True 0"]

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
    @pytest.mark.parametrize("call", ["fsync", "link", "mkdir"])
    def test_room_that_runs_out_during_commit_is_storage_full(
        self, blobs, root, monkeypatch, call, code
    ):
        def failing(*_arguments, **_options):
            raise OSError(code, "no room")

        writer = blobs.open_writer(KEY)
        writer.write(BYTES)
        monkeypatch.setattr(os, call, failing)

        with pytest.raises(Rejection) as rejected:
            writer.commit()

        assert_full(rejected.value)
        assert files(root) == set()

    def test_room_that_runs_out_at_the_beginning_is_storage_full(self, blobs, root, monkeypatch):
        def failing(*_arguments, **_options):
            raise OSError(errno.ENOSPC, "no room")

        monkeypatch.setattr(os, "open", failing)

        with pytest.raises(Rejection) as rejected:
            blobs.open_writer(KEY)

        assert_full(rejected.value)

    def test_other_trouble_is_not_taken_for_a_full_disk(self, blobs, root, monkeypatch):
        def failing(_descriptor):
            raise OSError(errno.EIO, "broken")

        writer = blobs.open_writer(KEY)
        monkeypatch.setattr(os, "fsync", failing)

        with pytest.raises(Rejection) as declined:
            writer.commit()

        assert declined.value.reason is Reason.STORAGE_UNAVAILABLE
        assert files(root) == set()

    def test_a_name_that_cannot_be_taken_away_hinders_no_commit(self, blobs, root, sticky_names):
        commit(blobs, KEY, BYTES)

        assert content(blobs, KEY) == BYTES
        assert files(root) == {f"blobs/k1/{KEY}", f"unfinished/{KEY}"}
        sticky_names.undo()
        blobs.delete(KEY)
        assert files(root) == set()

    def test_nobody_goes_on_with_bytes_that_could_be_neither_kept_nor_taken_away(
        self, blobs, sticky_names
    ):
        def failing(_descriptor):
            raise OSError(errno.EIO, "broken")

        writer = blobs.resume_writer(KEY)
        writer.write(BYTES)
        sticky_names.setattr(os, "fsync", failing)

        with pytest.raises(Rejection) as declined:
            writer.suspend()

        assert declined.value.reason is Reason.STORAGE_UNAVAILABLE
        assert blobs.kept_bytes(KEY) == 0

    def test_whoever_discards_a_blob_takes_it_from_nobody_who_begins_it_anew(
        self, blobs, root, monkeypatch
    ):
        writer = blobs.resume_writer(KEY)
        begun = []
        unlink = os.unlink

        def begin_in_between(path, *arguments, **details):
            with pytest.raises(BlobBusy):
                blobs.resume_writer(KEY)
            unlink(path, *arguments, **details)
            begun.append(blobs.resume_writer(KEY))

        monkeypatch.setattr(os, "unlink", begin_in_between)
        writer.discard()
        monkeypatch.undo()

        begun[0].write(BYTES)
        begun[0].commit()
        assert content(blobs, KEY) == BYTES

    def test_a_writer_that_was_refused_has_ended(self, blobs, small_files_only):
        writer = blobs.open_writer(KEY)
        with pytest.raises(Rejection):
            writer.write(BYTES)

        with pytest.raises(ValueError, match="closed"):
            writer.write(b"more")
        with pytest.raises(ValueError, match="closed"):
            writer.commit()
        writer.discard()

        assert list(blobs.keys()) == []


class TestDamage:
    def test_a_blob_cut_short_on_disk_is_noticed_by_the_call_itself(self, blobs, root):
        commit(blobs, KEY, BYTES)
        os.truncate(root / "blobs" / "k1" / KEY, END - 1)

        with pytest.raises(Rejection) as rejected:
            blobs.read(KEY, offset_bytes=0, length_bytes=END, chunk_bytes=CHUNK)

        assert_damaged(rejected.value)

    def test_a_blob_cut_short_while_it_is_read_is_noticed_where_it_ends(self, blobs, root):
        commit(blobs, KEY, BYTES)
        chunks = blobs.read(KEY, offset_bytes=0, length_bytes=END, chunk_bytes=CHUNK)
        first = next(chunks)
        os.truncate(root / "blobs" / "k1" / KEY, CHUNK + 5)

        with pytest.raises(Rejection) as rejected:
            next(chunks)

        assert first == BYTES[:CHUNK]
        assert_damaged(rejected.value)

    @pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EUCLEAN, errno.EBADMSG])
    def test_what_the_disk_reports_as_lost_is_damage(self, blobs, monkeypatch, code):
        def failing(*_arguments):
            raise OSError(code, "lost")

        commit(blobs, KEY, BYTES)
        chunks = blobs.read(KEY, offset_bytes=0, length_bytes=END, chunk_bytes=CHUNK)
        monkeypatch.setattr(os, "pread", failing)

        with pytest.raises(Rejection) as rejected:
            next(chunks)

        assert_damaged(rejected.value)
        assert rejected.value.__cause__.errno == code

    def test_too_many_open_files_are_no_damage(self, blobs, monkeypatch):
        def failing(*_arguments, **_options):
            raise OSError(errno.EMFILE, "too many")

        commit(blobs, KEY, BYTES)
        monkeypatch.setattr("io.open", failing)

        with pytest.raises(Rejection) as declined:
            blobs.read(KEY, offset_bytes=0, length_bytes=END, chunk_bytes=CHUNK)

        assert declined.value.reason is Reason.STORAGE_UNAVAILABLE

    def test_bytes_that_come_in_pieces_are_put_together(self, blobs, monkeypatch):
        pread = os.pread
        commit(blobs, KEY, BYTES)
        monkeypatch.setattr(
            os, "pread", lambda file, length, place: pread(file, min(length, 300_000), place)
        )

        assert content(blobs, KEY) == BYTES

    def test_a_reader_that_has_begun_outlives_the_blob(self, blobs):
        commit(blobs, KEY, BYTES)
        chunks = blobs.read(KEY, offset_bytes=0, length_bytes=END, chunk_bytes=CHUNK)
        blobs.delete(KEY)

        assert b"".join(chunks) == BYTES


class TestReaders:
    def test_no_file_stays_open_once_a_reader_is_let_go(self, blobs):
        commit(blobs, KEY, BYTES)
        before = open_files()
        part = {"offset_bytes": 0, "length_bytes": END, "chunk_bytes": CHUNK}

        unused, begun, ended = (blobs.read(KEY, **part) for _ in range(3))
        next(begun)
        list(ended)
        during = open_files()
        del unused, begun, ended

        assert during == before + 2
        assert open_files() == before


class TestManyStoresAFolder:
    def test_each_sees_at_once_what_the_others_hold(self, store, root):
        other = FilesystemBlobStore(root)

        commit(other, KEY, BYTES)

        assert content(store, KEY) == BYTES
        assert list(store.keys()) == [KEY]
        store.delete(KEY)
        with pytest.raises(Rejection) as rejected:
            content(other, KEY)
        assert_damaged(rejected.value)

    def test_a_key_that_one_writes_is_refused_to_the_others(self, store, root):
        other = FilesystemBlobStore(root)
        writer = store.open_writer(KEY)

        with pytest.raises(KeyInUse):
            other.open_writer(KEY)
        writer.write(BYTES)
        writer.commit()
        late = other.open_writer(KEY)
        late.write(b"other bytes")
        with pytest.raises(KeyInUse):
            late.commit()

        assert content(other, KEY) == BYTES

    def test_what_a_dead_process_left_unfinished_can_be_discarded(self, root):
        in_another_process(
            """
            import os, sys
            from pathlib import Path
            from ims.blob_store.filesystem import FilesystemBlobStore
            store = FilesystemBlobStore(Path(sys.argv[1]))
            store.open_writer("half").write(b"x")
            sys.stdout.flush()
            os._exit(0)
            """,
            root,
        )

        FilesystemBlobStore(root).delete("half")

        assert not files(root)
