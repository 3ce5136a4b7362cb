"""The tables of a catalogue: made and brought up to date the same way on every database."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from builders import (
    A_MOMENT,
    OWNER,
    an_image,
)
from databases import POSTGRESQL, Postgres
from ims.domain.image import DiskState, ImageState
from ims.domain.quotas import Usage
from ims.repository import schema
from ims.repository.backend import UnusableDatabase
from ims.repository.database import Database
from ims.repository.migrations.versions import v0001_first, v0002_exact_and_durable
from ims.repository.schema import HEAD
from ims.repository.tables import metadata

THE_FIRST = "0001"


@pytest.fixture
def empty_database(
    kind_of_database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Database]:
    """A database without any table."""
    if kind_of_database == POSTGRESQL:
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.new_database()
    else:
        url = f"sqlite:///{tmp_path / 'empty.sqlite3'}"
    database = Database(url)
    yield database
    database.close()


def connection_of(database: Database) -> sa.Connection:
    return database._link().connection


def make_the_first(database: Database) -> None:
    """Make a catalogue as the first version of the service did, which knew of no revisions."""
    v0001_first._metadata.create_all(connection_of(database))


def test_the_revisions_end_where_this_version_begins():
    assert schema._known()[0] == THE_FIRST
    assert schema._known()[-1] == HEAD
    assert len(ScriptDirectory.from_config(schema._config()).get_heads()) == 1


def test_the_tables_are_what_the_migrations_make(empty_database):
    empty_database.migrate()

    context = MigrationContext.configure(
        connection_of(empty_database), opts={"compare_type": True, "compare_server_default": True}
    )
    assert compare_metadata(context, metadata) == []
    assert checks(connection_of(empty_database)) == {
        (table.name, constraint.name)
        for table in metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, sa.CheckConstraint)
    }


def checks(connection: sa.Connection) -> set[tuple[str, str | None]]:
    inspector = sa.inspect(connection)
    return {
        (table, check["name"])
        for table in inspector.get_table_names()
        for check in inspector.get_check_constraints(table)
    }


def test_migrating_again_changes_nothing(empty_database):
    assert empty_database.migrate() == schema._known()
    assert empty_database.migrate() == ()


def test_an_embedded_catalogue_migrates_itself_and_a_servers_is_refused(
    kind_of_database, empty_database
):
    if kind_of_database == POSTGRESQL:
        with pytest.raises(UnusableDatabase, match=rf"has no tables.*needs {HEAD}.*`ims migrate`"):
            empty_database.prepare()
        make_the_first(empty_database)
        connection_of(empty_database).exec_driver_sql("CREATE TABLE alembic_version (version_num text)")
        connection_of(empty_database).exec_driver_sql("INSERT INTO alembic_version VALUES ('0001')")
        with pytest.raises(UnusableDatabase, match=rf"is at revision {THE_FIRST}"):
            empty_database.prepare()
        empty_database.migrate()

    empty_database.prepare()

    assert schema.revision_of(connection_of(empty_database)) == HEAD


def test_a_catalogue_of_a_newer_version_is_used_as_it_is(empty_database):
    empty_database.migrate()
    connection_of(empty_database).exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

    assert empty_database.migrate() == ()
    empty_database.prepare()

    assert schema.revision_of(connection_of(empty_database)) == "9999"


def test_a_failed_migration_leaves_nothing(empty_database, monkeypatch):
    connection_of(empty_database).exec_driver_sql("CREATE TABLE duties (name text)")

    with pytest.raises(sa.exc.DBAPIError):
        empty_database.migrate()

    assert set(sa.inspect(connection_of(empty_database)).get_table_names()) == {"duties"}


def test_the_uploads_that_the_first_version_left_are_given_up(empty_database, clock, make_service):
    """Its record said SAVING, and its pending blob not yet for which image."""
    make_the_first(empty_database)
    image = an_image(state=ImageState.SAVING)
    connection = connection_of(empty_database)
    connection.execute(v0001_first.images.insert().values(a_first_row(image.id, SAVING_DISK)))
    connection.execute(v0001_first.pending_blobs.insert().values(blob_key="upload"))
    empty_database.migrate()

    make_service(database_url=connection.engine.url.render_as_string(hide_password=False))

    with empty_database.reading() as reading:
        view = reading.images.view(image.id, OWNER, now=A_MOMENT)
    assert view is not None
    assert view.image.state is ImageState.QUEUED
    assert view.image.disks[0].state is DiskState.EMPTY


def test_what_tenants_use_is_counted_from_the_images_that_are_there(empty_database, monkeypatch):
    make_the_first(empty_database)
    connection = connection_of(empty_database)
    stored = SAVING_DISK.replace('"size_bytes": 0', '"size_bytes": 1000')
    images = [
        a_first_row(str(number), stored) | {"live_name": str(number)} | changes
        for number, changes in enumerate(
            (
                {"state": "ACTIVE"},
                {"state": "ACTIVE"},
                {"state": "ACTIVE", "public": True},
                {"state": "DELETED", "live_name": None, "purge_time": 1},
                {"state": "SAVING", "disks": SAVING_DISK},
                {"state": "QUEUED", "disks": "[]", "owner": "another"},
            )
        )
    ]
    for image in images:
        connection.execute(v0001_first.images.insert().values(image))
    monkeypatch.setattr(v0002_exact_and_durable, "BATCH", 4)

    empty_database.migrate()

    with empty_database.reading() as reading:
        assert reading.tenants.batch(after="", size=10) == {
            OWNER: Usage(private_images=3, stored_bytes=4000, creations=1),
            "another": Usage(private_images=1),
        }


SAVING_DISK = """[{"index": 0, "role": "SYSTEM", "format": "RAW", "state": "SAVING",
"upload_id": "upload", "capacity_bytes": 0, "size_bytes": 0, "sha256": "", "blob_key": "",
"wrapped_data_key": ""}]"""


def a_first_row(image_id: str, disks: str) -> dict[str, object]:
    return {
        "id": image_id,
        "owner": OWNER,
        "region": "eu-de",
        "name": "debian",
        "live_name": "debian",
        "description": "",
        "type": "SYSTEM_DISK",
        "state": "SAVING",
        "public": False,
        "protected": False,
        "for_bms": False,
        "os_type": "OTHER",
        "os": '{"type": "OTHER", "platform": "", "version": "", "bits": 64}',
        "architecture": "X86_64",
        "firmware": "BIOS",
        "min_disk_gib": 0,
        "min_ram_mib": 0,
        "max_ram_mib": 0,
        "source": '{"kind": "FILE", "id": "", "file_name": "", "region": null, "backup_service": null,'
        ' "backup_received_by_sharing": false}',
        "disks": disks,
        "tags": "[]",
        "version": 1,
        "create_time": 0,
        "update_time": 0,
    }


def test_the_first_version_can_go_on_beside_the_newest_tables(empty_database):
    """Expand, then contract: what a revision adds, a server that does not know it leaves out."""
    empty_database.migrate()
    connection = connection_of(empty_database)

    connection.execute(v0001_first.images.insert().values(a_first_row("an-id", "[]")))
    connection.execute(v0001_first.pending_blobs.insert().values(blob_key="upload"))
    connection.execute(
        v0001_first.shares.insert().values(
            image_id="an-id",
            tenant_id="recipient",
            region="eu-de",
            status="PENDING",
            vault_id="",
            create_time=0,
            update_time=0,
        )
    )
    connection.execute(v0001_first.tags.insert().values(image_id="an-id", key="k", value="v"))

    for table in v0001_first._metadata.tables.values():
        assert len(connection.execute(sa.select(table)).all()) == 1


def test_two_services_that_start_at_once_on_one_file_migrate_it_once(tmp_path):
    databases = [Database(f"sqlite:///{tmp_path / 'catalogue.sqlite3'}") for _ in range(8)]

    with ThreadPoolExecutor(len(databases)) as pool:
        applied = list(pool.map(Database.migrate, databases))
    for database in databases:
        database.close()

    assert sorted(applied) == [()] * 7 + [schema._known()]
    with sqlite3.connect(tmp_path / "catalogue.sqlite3") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
    connection.close()
