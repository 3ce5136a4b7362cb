"""What holds for all commands: options, exit codes, how trouble is told."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import pytest

from cli.conftest import IMS, Ims, without_settings
from disk_files.makers import TINY_QCOW2
from ims.cli.errors import ExitCode
from ims.client import Client, Image
from serving import Server


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    """Run the real program."""
    return subprocess.run(
        [IMS, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        env=without_settings() | environment,
    )


def peak_memory_mib(process: subprocess.Popen) -> float:
    """Watch a program until it ends; return the most memory that it had resident.

    What the system counts for a program that has ended includes its parent's memory at its birth.
    """
    peak_mib = 0.0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        peak_mib = max(peak_mib, int(found[1]) / 1024 if found else 0)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.05)
    return peak_mib


@pytest.fixture
def nobody():
    """Give an address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


class TestOptions:
    def test_they_stand_before_the_command_or_in_the_environment(self, server: Server, owner, tiny):
        flags = run("--server", server.target, "--tenant", owner, "image", "show", tiny)
        environment = run("image", "show", tiny, IMS_SERVER=server.target, IMS_TENANT=owner)
        both = run(
            "--tenant", owner, "image", "show", tiny, IMS_SERVER=server.target, IMS_TENANT="other"
        )

        assert flags.stdout == environment.stdout == both.stdout
        assert tiny in flags.stdout

    def test_json_stands_before_or_after_the_command(self, server: Server, owner, tiny):
        identity = ("--server", server.target, "--tenant", owner)

        before = run(*identity, "--json", "image", "list")
        after = run(*identity, "image", "list", "--json")

        assert before.stdout == after.stdout
        assert [image["id"] for image in json.loads(after.stdout)["images"]] == [tiny]

    def test_roles_are_parted_by_commas(self, server: Server, tiny):
        admin = ("--server", server.target, "--tenant", "op", "--roles", "service, admin")

        assert run(*admin, "image", "publish", tiny).returncode == 0
        assert run(*admin, "image", "unpublish", tiny).returncode == 0

    def test_the_callers_region_is_said(self, server: Server, owner, tiny):
        elsewhere = ("--server", server.target, "--tenant", owner, "--region", "eu-nl")

        refused = run(*elsewhere, "image", "resolve", tiny, "--purpose", "create-ecs")

        assert "IMAGE_NOT_IN_REGION" in refused.stderr

    def test_the_version_is_told(self):
        assert run("version").stdout == f"ims {version('ims')}\n"
        assert json.loads(run("version", "--json").stdout) == {"version": version("ims")}
        assert json.loads(run("--json", "version").stdout) == {"version": version("ims")}

    def test_every_command_explains_itself(self, ims: Ims):
        commands = {
            "image": "create upload import abort-upload list show update delete undelete download copy "
            "resolve deactivate reactivate publish unpublish",
            "share": "add list remove received accept reject leave check",
            "operation": "get list wait cancel delete",
            "key": "new",
        }
        for group, names in commands.items():
            for name in names.split():
                assert f"Usage: ims {group} {name}" in ims(group, name, "--help").stdout
        assert "Usage: ims serve" in ims("serve", "--help").stdout

    def test_the_client_side_does_not_import_the_server(self):
        program = (
            "import sys, ims.cli.main; print(*(name for name in sys.modules if name.startswith('ims.')))"
        )

        ended = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True
        )

        rooms = {name.split(".")[1] for name in ended.stdout.split()}
        assert rooms == {"cli", "client", "v1"}


class TestExitCodes:
    def test_0_done(self, ims: Ims, owner):
        assert ims("image", "list", tenant=owner).code == ExitCode.OK

    def test_1_declined(self, ims: Ims, owner):
        assert ims("image", "delete", "ghost", tenant=owner).code == ExitCode.DECLINED

    @pytest.mark.parametrize(
        "arguments", [["image", "lst"], ["image", "show"], ["image", "list", "--nonsense"], ["share"]]
    )
    def test_2_wrong_usage(self, ims: Ims, owner, arguments):
        assert ims(*arguments, tenant=owner).code == ExitCode.WRONG_USAGE

    @pytest.mark.parametrize("tenant", ["", "ämter"])
    def test_2_nobody_calls(self, ims: Ims, tenant):
        ended = ims("image", "list", tenant=tenant)

        assert ended.code == ExitCode.WRONG_USAGE
        assert ended.stdout == ""

    def test_3_not_reached(self, nobody, tmp_path):
        ended = run("--server", nobody, "--tenant", "a", "image", "download", "x", "-o", tmp_path / "f")

        assert ended.returncode == ExitCode.UNREACHABLE
        assert nobody in ended.stderr
        assert "--server" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert list(tmp_path.iterdir()) == []

    def test_4_file_trouble(self, ims: Ims, owner, tmp_path):
        missing = ims("image", "upload", tmp_path / "nothing", "--name", "x", tenant=owner)
        folder = ims("image", "upload", tmp_path, "--name", "x", tenant=owner)

        assert (missing.code, folder.code) == (ExitCode.FILE_TROUBLE, ExitCode.FILE_TROUBLE)
        assert f"{tmp_path / 'nothing'}: No such file or directory" in missing.stderr

    def test_4_no_folder_to_download_to(self, ims: Ims, owner, tiny, tmp_path):
        ended = ims("image", "download", tiny, "-o", tmp_path / "nowhere" / "copy", tenant=owner)

        assert ended.code == ExitCode.FILE_TROUBLE

    def test_a_reader_that_has_seen_enough_ends_it_quietly(self, server: Server, owner, tiny):
        command = f"{IMS} --server {server.target} --tenant {owner} image show {tiny} --json | true"

        ended = subprocess.run(
            ["sh", "-c", command], check=True, capture_output=True, text=True, env=without_settings()
        )

        assert ended.stderr == ""


class TestTrouble:
    def test_a_rejection_is_a_document_for_programs(self, ims: Ims, owner, tiny):
        refused = ims("share", "add", "tiny", "a@eu-nl", "b@eu-fr", tenant=owner, json=True)

        error = refused.json["error"]
        assert refused.code == 1
        assert refused.stderr == ""
        assert (error["code"], error["reason"]) == ("FAILED_PRECONDITION", "CROSS_REGION_SHARE")
        assert error["metadata"]["tenantId"] == "a"
        assert [each["subject"] for each in error["violations"]] == ["a", "b"]
        assert error["request_id"]
        assert error["advice"]

    def test_other_trouble_is_a_document_too(self, ims: Ims, nobody, owner, tmp_path):
        unreachable = run("--json", "--server", nobody, "--tenant", "a", "image", "list")
        missing = ims("image", "upload", tmp_path / "nothing", "--name", "x", tenant=owner, json=True)

        assert json.loads(unreachable.stdout)["error"]["code"] == "UNREACHABLE"
        assert unreachable.returncode == 3
        assert missing.json["error"]["code"] == "FILE_TROUBLE"

    def test_a_mistake_of_ours_is_told_without_a_traceback(self, ims: Ims, owner, monkeypatch):
        monkeypatch.setattr(Client, "list_images", lambda *_, **__: 1 / 0)

        ended = ims("image", "list", tenant=owner)

        assert ended.code == ExitCode.MISTAKE
        assert "ZeroDivisionError" in ended.stderr
        assert "ims --traceback" in ended.stderr

    def test_those_who_mend_it_see_the_traceback(self, server, monkeypatch):
        monkeypatch.setattr(Client, "list_images", lambda *_, **__: 1 / 0)
        from ims.cli.main import app  # noqa: PLC0415 - run without the fixture that forbids it

        with pytest.raises(ZeroDivisionError):
            app(["--traceback", "--tenant", "a", "--server", server.target, "image", "list"])


class TestTransfers:
    def test_a_terminal_shows_progress_and_nothing_else_does(self, server: Server, owner, tmp_path):
        upload = [IMS, "--server", server.target, "--tenant", owner]
        upload += ["image", "upload", TINY_QCOW2, "--json", "--name"]

        piped = run(*upload[1:], "piped")
        outer, inner = pty.openpty()
        environment = without_settings() | {"TERM": "xterm"}
        shown = subprocess.run(
            [*upload, "shown"], check=True, stdout=subprocess.PIPE, stderr=inner, env=environment
        )
        os.close(inner)
        seen = os.read(outer, 65536).decode()
        os.close(outer)

        assert piped.stderr == ""
        assert json.loads(shown.stdout)["image"]["state"] == "ACTIVE"
        assert "Uploading" in seen
        assert "100%" in seen

    def test_an_interrupted_upload_takes_its_record_along(self, server: Server, owner, tmp_path):
        """The image is there while its bytes arrive, and gone when the person has had enough."""
        path = tmp_path / "large"
        with path.open("wb") as file:
            file.truncate(4 * 1024**3)  # more than arrives before the signal does
        program = (
            "import signal, sys, ims.cli.main, ims.cli.transfers; "
            # What a shell runs in the background has this one ignored, and so would we.
            "signal.signal(signal.SIGINT, signal.default_int_handler); "
            "ims.cli.transfers.sha256_of = lambda *_, **__: '0' * 64; "
            "ims.cli.main.app(sys.argv[1:])"
        )
        command = [sys.executable, "-c", program, "--server", server.target, "--tenant", owner]

        process = subprocess.Popen(
            [*command, "image", "upload", path, "--name", "large"],
            stderr=subprocess.PIPE,
            text=True,
            env=without_settings(),
        )
        with Client(server.target, tenant=owner) as client:
            while not (saving := list(client.list_images(state=Image.SAVING))):
                assert process.poll() is None
            while not client.get_upload(saving[0].id).received_bytes:
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate()

            assert (process.returncode, stderr) == (130, "")
            assert list(client.list_images()) == []

    @pytest.mark.slow
    def test_memory_stays_flat(self, server: Server, owner, tmp_path):
        path, target = tmp_path / "large", tmp_path / "copy"
        with path.open("wb") as file:
            file.truncate(512 * 1024 * 1024)

        for arguments in (("upload", path, "--name", "large"), ("download", "large", "-o", target)):
            process = subprocess.Popen(
                [IMS, "--server", server.target, "--tenant", owner, "image", *arguments],
                env=without_settings(),
            )
            peak_mib = peak_memory_mib(process)

            assert process.returncode == 0
            assert 0 < peak_mib < 150
