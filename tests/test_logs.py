"""What the log tells, and what it keeps to itself."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from calling import Tenant, request_class
from conftest import As
from ims import logs
from ims.servicers.current_call import set_current_request_id

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJ0ZW5hbnQiOiJhY21lIn0.c2lnbmF0dXJl"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch):
    """Log as the service does; give what has been logged, line by line."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    before = structlog.get_config()
    logs.log_as_json()
    structlog.configure(cache_logger_on_first_use=False)

    def read() -> list[dict[str, object]]:
        return [json.loads(line) for line in written.getvalue().splitlines()]

    yield read
    structlog.configure(**before)


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        (f"Bearer {TOKEN}", TOKEN),
        (f"bearer {TOKEN} and more", TOKEN),
        (f"cannot parse {TOKEN[:40]}", TOKEN[:40]),
        ("postgresql://ims:pa55word@db.example/ims is away", "pa55word"),
        ("https://nova:s3cret@issuer.example/token gives none", "s3cret"),
    ],
)
def test_secrets_in_a_text_are_taken_out(lines, told: str, kept: str):
    structlog.get_logger().info("trouble", why=told)

    (line,) = lines()
    assert kept not in json.dumps(line)
    assert "[redacted]" in line["why"]


@pytest.mark.parametrize("name", ["authorization", "token", "password", "secret", "client_secret"])
def test_what_is_called_a_secret_is_not_told(lines, name: str):
    structlog.get_logger().info("trouble", **{name: "abc"})

    assert lines()[0][name] == "[redacted]"


@pytest.mark.parametrize("told", ["https://issuer.example/keys", "spiffe://cloud/nova", "a@b: c"])
def test_what_is_no_secret_stays(lines, told: str):
    structlog.get_logger().info("trouble", why=told)

    assert lines()[0]["why"] == told


def test_a_traceback_has_lines_and_no_variables(lines):
    def connect(password: str) -> None:
        raise RuntimeError("no")

    try:
        connect("pa55word")
    except RuntimeError:
        structlog.get_logger().exception("bug")

    (line,) = lines()
    assert "RuntimeError: no" in line["exception"]
    assert line["exception"].count("pa55word") == 1, "where the test itself says it"


def test_every_line_of_a_call_has_its_request_id(lines):
    set_current_request_id("r-1")

    structlog.get_logger("ims.anywhere").warning("something else")

    assert lines()[0]["request_id"] == "r-1"


def test_a_call_logs_the_id_that_its_caller_is_told(lines, as_: As):
    seen = as_("acme").answer("GetImage", request_class("GetImage")())

    (line,) = [each for each in lines() if each.get("event") == "call"]
    assert line["request_id"] == seen.headers["ims-request-id"]


def test_a_log_that_takes_nothing_fails_no_call(tmp_path):
    """Its disk is full, or whoever read it has gone."""
    with Path("/dev/full").open("w") as full:
        process = subprocess.Popen(
            [
                Path(sys.executable).parent / "ims",
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--data",
                tmp_path,
            ],
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
        )
    try:
        target = None
        while target is None:
            target = re.search(r"listens on (\S+),", process.stdout.readline())
        tenant = Tenant(target[1], "acme")

        image = tenant.active("one")

        assert tenant.GetImage(image_id=image.id).image == image
        tenant.close()
    finally:
        process.terminate()
        process.communicate()
    assert process.returncode == 0
