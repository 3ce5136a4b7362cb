"""ShareImage ÷ no-op on PostgreSQL, and how many statements one call sends there."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.databases import engine_of
from bench.figures import Figure
from bench.load import WrongAnswers
from bench.medians import in_turns
from bench.session import Session, method
from calling import Tenant
from ims.domain.image import ImageState, ImageType
from ims.repository.tables import images
from serving import Server

CONNECTIONS = 32
CALLS_A_SECOND = 1_000
"""About how many calls a run makes for each second that it is to last."""


def require_ghz() -> str:
    """Return where ghz is; end the program, saying how to install it, when it is not there."""
    found = shutil.which("ghz", path=f"{os.environ['PATH']}:{Path.home() / 'go/bin'}")
    if found is None:
        sys.exit(
            "make bench needs ghz, the gRPC load generator that can send another message each time:\n"
            "  go install github.com/bojand/ghz/cmd/ghz@v0.120.0"
        )
    return found


def sharing_an_image(session: Session) -> Iterator[Figure]:
    """ShareImage of one tenant ÷ no-op, each call with another image; statements of one call."""
    seeded = session.filled("PostgreSQL", session.large)
    shareable = session.ids(
        seeded, images.c.state == ImageState.ACTIVE, images.c.type != ImageType.FULL_ECS
    )
    session.chance.shuffle(shareable)
    calls = int(CALLS_A_SECOND * session.seconds)
    recipients = iter(f"recipient-{number}" for number in range(1000))
    with session.serving(seeded.url) as server, session.bare() as bare:
        cost = session.cost("PostgreSQL", server.workers)
        _share_many(server, shareable[:100], next(recipients))
        turns = in_turns(
            {
                "no-op": lambda: session.no_op(bare),
                "ShareImage": cost.metered(
                    lambda: _share_many(server, shareable[:calls], next(recipients)), calls=calls
                ),
            },
            rounds=session.rounds,
        )
    yield Figure(
        name="ShareImage of one tenant ÷ no-op, PostgreSQL",
        value=turns.ratio("ShareImage", "no-op"),
        at_least=0.15,
        details={"bars": turns.measured, "spread": turns.ratios("ShareImage", "no-op")},
    )
    yield Figure(name="ShareImage, PostgreSQL", value=turns.median("ShareImage"), unit="calls a second")
    yield from cost.figures("ShareImage, PostgreSQL")
    messages = _messages(session)
    statements = [statement for message in messages for statement in message.split("; ")]
    yield Figure(
        name="ShareImage of one tenant, statements a call, PostgreSQL",
        value=len(statements),
        unit="statements",
        at_most=6,
        details={"statements": statements},
    )
    yield Figure(
        name="ShareImage of one tenant, messages to PostgreSQL a call",
        value=len(messages),
        unit="messages",
    )


def _share_many(server: Server, image_ids: list[str], recipient: str) -> float:
    """Share each image with the recipient; return how many calls a second were answered with OK."""
    messages = [
        {"image_id": image_id, "recipients": [{"tenant_id": recipient}]} for image_id in image_ids
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(messages, file)
        file.flush()
        said = subprocess.run(
            [
                *(require_ghz(), "--insecure", "--format=json", "--cpus=1"),
                *(f"--total={len(messages)}", f"--concurrency={CONNECTIONS}"),
                *(f"--connections={CONNECTIONS}", f"--data-file={file.name}"),
                *('--metadata={"ims-tenant": "bench"}', f"--call={method('ShareImage').lstrip('/')}"),
                server.target,
            ],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    report = json.loads(said)
    if report["statusCodeDistribution"] != {"OK": len(messages)}:
        raise WrongAnswers(report["errorDistribution"])
    return float(report["rps"])


def _messages(session: Session) -> list[str]:
    """Return what one ShareImage sent to PostgreSQL, by its own log: BEGIN and COMMIT too."""
    seeded = session.filled("PostgreSQL", 1_000)
    engine = engine_of(seeded.url).execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        # For this database only; sessions that begin from now on are logged.
        connection.exec_driver_sql(
            f"ALTER DATABASE \"{connection.engine.url.database}\" SET log_statement = 'all'"
        )
    shareable = session.ids(
        seeded, images.c.state == ImageState.ACTIVE, images.c.type != ImageType.FULL_ECS
    )
    log = session.databases.postgresql_log
    with session.serving(seeded.url, workers=1) as server:
        tenant = Tenant(server.target, "bench")
        # Some first, until connections are made and statements are prepared.
        for number, image_id in enumerate(shareable[:20]):
            recipients = [{"tenant_id": f"counted-{number}"}]
            before = log.stat().st_size
            tenant.ShareImage(image_id=image_id, recipients=recipients)
        with log.open("rb") as file:
            file.seek(before)
            text = file.read().decode()
        tenant.close()
    with engine.connect() as connection:
        connection.exec_driver_sql(
            f'ALTER DATABASE "{connection.engine.url.database}" RESET log_statement'
        )
    engine.dispose()
    return re.findall(r"LOG:\s+(?:statement|execute [^:]*): (.*(?:\n\t.*)*)", text)
