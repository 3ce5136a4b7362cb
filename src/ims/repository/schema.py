"""The tables of a catalogue as they are there: how far they are, and how they are brought up to date."""

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from ims.repository.backend import UnusableDatabase

if TYPE_CHECKING:
    from alembic.config import Config

HEAD: Final = "0012"
"""The revision that this version of the service works with."""


def revision_of(connection: sa.Connection) -> str | None:
    """Return the revision of a catalogue; None when it has none, nor perhaps any table."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return revision


def bring_up_to_date(connection: sa.Connection) -> tuple[str, ...]:
    """Apply the revisions that a catalogue lacks, all or none; return them.

    The connection is in a transaction. A catalogue that a newer version of the service has migrated is
    left as it is: what a revision adds, the version before can work beside.
    """
    before = revision_of(connection)
    if before == HEAD or (before is not None and before not in _known()):
        return ()
    from alembic import command  # noqa: PLC0415 - a fifth of a second, for a service that starts up to date

    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return tuple(revision for revision in _known() if before is None or revision > before)


def refuse_outdated(connection: sa.Connection) -> None:
    """Raise UnusableDatabase for a catalogue that is behind this version of the service."""
    revision = revision_of(connection)
    if revision == HEAD or (revision is not None and revision not in _known()):
        return
    has = f"is at revision {revision}" if revision else "has no tables"
    message = (
        f"the catalogue {has} and this version needs {HEAD}; run `ims migrate` with the same settings"
    )
    raise UnusableDatabase(message)


@cache
def _known() -> tuple[str, ...]:
    """Return the revisions that this version knows, the oldest first."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - see bring_up_to_date

    script = ScriptDirectory.from_config(_config())
    return tuple(reversed([each.revision for each in script.walk_revisions()]))


def _config() -> "Config":
    from alembic.config import Config  # noqa: PLC0415 - see bring_up_to_date

    config = Config()
    config.set_main_option("script_location", str(files("ims.repository").joinpath("migrations")))
    config.set_main_option("path_separator", "os")
    return config
