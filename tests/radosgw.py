"""A real S3 for tests: a Ceph radosgw with its monitor and a store in memory, started for them.

All processes of a test run share one. It lives as long as any of them: each holds a shared lock on a
file, and the process that has started Ceph ends it once it gets that lock for itself alone, however the
others have ended.
"""

import fcntl
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Final

PROGRAMS: Final = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "ceph")
START_SECONDS: Final = 90
_TRIES: Final = 3

_CONFIGURATION: Final = """
[global]
fsid = {fsid}
mon host = 127.0.0.1:{mon_port}
mon initial members = a
public addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
# The gateway's own default is "secure", which is impossible without authentication.
ms mon client mode = crc
ms client mode = crc
ms bind ipv6 = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
mon allow pool size one = true
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 4294967296
osd data = {folder}/osd
mon data = {folder}/mon
keyring = {folder}/keyring
run dir = {folder}/run
admin socket = {folder}/run/$name.asok
pid file = {folder}/run/$name.pid
log file = {folder}/run/$name.log
# So that tests of many parts need few bytes; what stores really ask for is tested on the parts' sizes.
rgw multipart min part size = 65536
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw dns name = localhost
"""


class SharedRadosgw:
    """The gateway of all who name the same folder; `told` says where, and `close` lets go of it."""

    def __init__(self, shared: Path) -> None:
        shared.mkdir(parents=True, exist_ok=True)
        told = shared / "radosgw.json"
        self._use = (shared / "radosgw.users").open("w")
        fcntl.flock(self._use, fcntl.LOCK_SH)
        with (shared / "radosgw.start").open("w") as start:
            fcntl.flock(start, fcntl.LOCK_EX)
            if not told.exists():
                _start_keeper(shared, told)
        self.told: dict[str, str] = json.loads(told.read_text())

    def close(self) -> None:
        self._use.close()


def _start_keeper(shared: Path, told: Path) -> None:
    log = (shared / "radosgw.log").open("w")
    with log:
        keeper = subprocess.Popen(
            [sys.executable, __file__, str(shared), str(told)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    until = time.monotonic() + _TRIES * START_SECONDS
    while not told.exists():
        if keeper.poll() is not None or time.monotonic() > until:
            message = f"radosgw did not start: {(shared / 'radosgw.log').read_text()}"
            raise AssertionError(message)
        time.sleep(0.1)
    keeper.returncode = 0  # it outlives this process, which is not to be warned of it


def _keep(shared: Path, told: Path) -> None:
    """Start Ceph, tell where it is, and end it when nobody uses it any more."""
    folder = Path(tempfile.mkdtemp(prefix="ims-ceph-"))
    running: list[subprocess.Popen[bytes]] = []
    try:
        gateway = _start_at_last(folder, running)
        written = told.with_suffix(".new")
        written.write_text(json.dumps(gateway))
        written.rename(told)
        with (shared / "radosgw.users").open("w") as users:
            fcntl.flock(users, fcntl.LOCK_EX)
            told.unlink()
    finally:
        _end(running)
        shutil.rmtree(folder, ignore_errors=True)


def _start_at_last(folder: Path, running: list[subprocess.Popen[bytes]]) -> dict[str, str]:
    """Start Ceph, again if somebody has taken a port that was free a moment ago."""
    for number in range(_TRIES - 1):
        try:
            return _start(folder / str(number), running)
        except (AssertionError, subprocess.SubprocessError) as error:
            sys.stderr.write(f"Ceph did not start: {error}\n")
            _end(running)
    return _start(folder / "last", running)


def _end(running: list[subprocess.Popen[bytes]]) -> None:
    while running:
        process = running.pop()
        process.kill()
        process.wait()


def _start(folder: Path, running: list[subprocess.Popen[bytes]]) -> dict[str, str]:
    for name in ("mon", "osd", "run"):
        (folder / name).mkdir(parents=True)
    (folder / "keyring").touch()
    fsid, port, mon_port = str(uuid.uuid4()), _free_port(), _free_port()
    configuration = folder / "ceph.conf"
    configuration.write_text(
        _CONFIGURATION.format(fsid=fsid, folder=folder, port=port, mon_port=mon_port)
    )
    c = ("-c", str(configuration))
    user = ("--setuser", "root", "--setgroup", "root") if os.geteuid() == 0 else ()
    monmap = str(folder / "monmap")
    _run(
        "monmaptool",
        "--create",
        "--clobber",
        "--add",
        "a",
        f"127.0.0.1:{mon_port}",
        "--fsid",
        fsid,
        monmap,
    )
    _run("ceph-mon", *user, *c, "--mkfs", "-i", "a", "--monmap", monmap)
    running.append(_serve("ceph-mon", "-f", *user, *c, "-i", "a"))
    osd_id = str(uuid.uuid4())
    _run("ceph", *c, "osd", "new", osd_id)
    _run("ceph-osd", *user, *c, "-i", "0", "--mkfs", "--osd-uuid", osd_id)
    running.append(_serve("ceph-osd", "-f", *user, *c, "-i", "0"))
    running.append(_serve("radosgw", "-f", *user, *c, "-n", "client.rgw"))
    access_key_id, secret_access_key = uuid.uuid4().hex, uuid.uuid4().hex
    endpoint_url = f"http://localhost:{port}"
    _wait_until_it_answers(endpoint_url, running[-1])
    _run(
        *("radosgw-admin", *c, "-n", "client.rgw", "user", "create", "--uid", "test"),
        *("--display-name", "test", "--access-key", access_key_id),
        *("--secret-key", secret_access_key),
    )
    return {
        "endpoint_url": endpoint_url,
        "access_key_id": access_key_id,
        "secret_access_key": secret_access_key,
    }


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=START_SECONDS)


def _serve(*command: str) -> subprocess.Popen[bytes]:
    # It goes with this process, however this one ends.
    return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL)


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_SECONDS / 3
    while process.poll() is None and time.monotonic() < until:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError as error:
            error.close()
            return
        except (OSError, HTTPException):
            time.sleep(0.2)
        else:
            return
    message = "radosgw does not answer"
    raise AssertionError(message)


def _free_port() -> int:
    """Return a port that is free, and that the system gives nobody who asks for any."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port


if __name__ == "__main__":
    _keep(Path(sys.argv[1]), Path(sys.argv[2]))
