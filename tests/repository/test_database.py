"""Transactions, deadlines, and a database that is slow, busy, away or frozen."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
import sqlalchemy as sa

from builders import (
    A_MOMENT,
    OWNER,
    a_moment,
    an_image,
)
from conftest import MakeCatalogue
from databases import POSTGRESQL, Postgres
from ims.domain.image import Image
from ims.domain.rejection import Rejection
from ims.repository.database import Database, Transaction
from ims.repository.tables import tenants
from ims.repository.watchdog import Watchdog

AWAY = "CATALOGUE_UNAVAILABLE"
PATIENCE_SECONDS = 2.0


def put(database: Database, *images: Image) -> None:
    with database.transaction() as tx:
        for image in images:
            tx.images.add(image)


def is_there(database: Database, image: Image) -> bool:
    with database.reading() as reading:
        return reading.images.view(image.id, OWNER, now=A_MOMENT) is not None


@contextmanager
def told_away() -> Iterator[None]:
    with pytest.raises(Rejection) as away:
        yield
    assert away.value.reason == AWAY


# --- Transactions -----------------------------------------------------------------------------


def test_a_transaction_within_a_transaction_is_a_part_of_it(database):
    first, second = an_image(), an_image()

    def put_both_and_fail() -> None:
        with database.transaction():
            put(database, first)
            assert is_there(database, first)  # a reading in between sees it
            put(database, second)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        put_both_and_fail()

    assert not is_there(database, first)
    assert not is_there(database, second)


def test_after_a_failed_transaction_comes_a_good_one(database):
    image = an_image()
    with pytest.raises(Rejection, match="already"):
        put(database, image, an_image(name=image.name))

    put(database, image)

    assert is_there(database, image)


def test_what_another_has_not_committed_is_not_seen(database):
    image, written, seen = an_image(), threading.Event(), threading.Event()

    def write() -> None:
        with database.transaction() as tx:
            tx.images.add(image)
            written.set()
            seen.wait()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        written.wait()
        assert not is_there(database, image)
        seen.set()
        writing.result()
    assert is_there(database, image)


# --- Tried again where the database asks for it -----------------------------------------------


@pytest.mark.databases(POSTGRESQL)  # in SQLite one writes after the other
def test_two_transactions_that_lock_each_other_out_both_succeed_in_the_end(database):
    one, other = an_image(), an_image()
    put(database, one, other)
    both_hold_one = threading.Barrier(2)
    told = []

    def lock(first: Image, second: Image) -> None:
        waited = False

        def story(tx: Transaction) -> None:
            nonlocal waited
            told.append(first.id)
            tx.images.lock(first.id, OWNER, now=a_moment)
            if not waited:
                waited = True
                both_hold_one.wait()
            tx.images.lock(second.id, OWNER, now=a_moment)

        database.run(story)

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(lock, one, other), pool.submit(lock, other, one)]
        for each in running:
            each.result()

    assert len(told) == 3, "one was told twice: PostgreSQL ended it for the other's sake"


@pytest.mark.databases(POSTGRESQL)  # SQLite never asks for it
@pytest.mark.parametrize("times", [2, 3])
def test_a_story_is_told_three_times_at_the_most(database, times: int):
    attempts = []

    def story(tx: Transaction) -> str:
        attempts.append(tx)
        if len(attempts) <= times:
            tx.images._connection.exec_driver_sql(RAISE_SERIALIZATION_FAILURE)
        return "told"

    if times == 3:
        with told_away():
            database.run(story)
    else:
        assert database.run(story) == "told"

    assert len(attempts) == min(times + 1, 3)


RAISE_SERIALIZATION_FAILURE = "DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"


# --- Deadlines --------------------------------------------------------------------------------


@contextmanager
def everything_locked(database: Database, kind: str) -> Iterator[None]:
    """Keep every writer waiting, as another instance would that has stopped in a transaction."""
    url = database._backend._engine.url
    if kind == POSTGRESQL:
        connection = psycopg.connect(
            url.set(drivername="postgresql").render_as_string(hide_password=False)
        )
        connection.execute("LOCK TABLE images IN EXCLUSIVE MODE")
        try:
            yield
        finally:
            connection.close()
    else:
        other = Database(url.render_as_string())
        with other.transaction():
            yield
        other.close()


def test_a_call_that_expires_leaves_no_transaction_and_no_lock(database, kind_of_database):
    image = an_image()
    put(database, image)
    begun = time.monotonic()
    # In a thread of its own, since a thread is in one transaction at a time.
    with everything_locked(database, kind_of_database), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(rename_by, database, image, time.monotonic() + PATIENCE_SECONDS)
        with told_away():
            waiting.result()
    assert time.monotonic() - begun < PATIENCE_SECONDS + 1

    if kind_of_database == POSTGRESQL:
        for _ in range(500):
            with database.reading() as reading:
                states = reading.images._connection.scalars(sa.text(OTHERS_IN_TRANSACTION)).all()
            if not states:
                break
            time.sleep(0.02)  # a server notices that a client has gone when it next looks
        assert states == []
    rename_by(database, image, time.monotonic() + PATIENCE_SECONDS)


OTHERS_IN_TRANSACTION = """
SELECT state FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'
"""


def rename_by(database: Database, image: Image, moment: float) -> None:
    with database.until(moment), database.transaction() as tx:
        view = tx.images.lock(image.id, OWNER, now=a_moment)
        assert view is not None
        tx.images.save(view.image, now=image.update_time)


def test_a_call_without_time_is_told_at_once(database):
    with told_away(), database.until(time.monotonic()), database.reading():
        pass


def test_without_a_deadline_patience_ends_the_wait(make_catalogue: MakeCatalogue, kind_of_database):
    database = Database(make_catalogue(), patience_seconds=0.5)
    database.prepare()
    image = an_image()
    put(database, image)
    begun = time.monotonic()

    def rename() -> None:
        with database.transaction() as tx:
            view = tx.images.lock(image.id, OWNER, now=a_moment)
            assert view is not None
            tx.images.save(view.image, now=image.update_time)

    with everything_locked(database, kind_of_database), ThreadPoolExecutor(1) as pool, told_away():
        pool.submit(rename).result()

    assert time.monotonic() - begun < 2
    database.close()


def test_a_query_that_takes_too_long_is_ended(database, kind_of_database):
    begun = time.monotonic()
    with told_away(), database.until(begun + 0.5), database.reading() as reading:
        reading.images._connection.execute(sa.text(ENDLESS[kind_of_database]))

    assert time.monotonic() - begun < 5
    assert not is_there(database, an_image())  # and the next one is answered


ENDLESS = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
    "postgresql": "SELECT pg_sleep(60)",
}


# --- A server that goes away, and one that freezes --------------------------------------------


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def database_of_own(own_postgres: Postgres) -> Iterator[Database]:
    database = Database(own_postgres.new_database(), patience_seconds=PATIENCE_SECONDS)
    database.migrate()
    yield database
    database.close()


def test_a_server_that_goes_and_comes_back_is_used_again(own_postgres, database_of_own):
    image = an_image()
    put(database_of_own, image)
    assert database_of_own.is_reachable()

    own_postgres.stop()
    for _ in range(3):
        with told_away():
            is_there(database_of_own, image)
        with told_away():
            put(database_of_own, an_image())
    assert database_of_own.is_reachable()  # an answer may be late; not two in a row
    assert not database_of_own.is_reachable()
    own_postgres.start()

    assert database_of_own.is_reachable()
    assert is_there(database_of_own, image)
    put(database_of_own, an_image())


def test_once_one_thread_has_seen_that_a_server_was_gone_no_thread_uses_an_old_connection(
    own_postgres, database_of_own
):
    image = an_image()
    put(database_of_own, image)
    with ThreadPoolExecutor(1) as another:
        assert another.submit(is_there, database_of_own, image).result()
        own_postgres.stop()
        own_postgres.start()
        with told_away():
            is_there(database_of_own, image)

        assert another.submit(is_there, database_of_own, image).result()


def test_a_server_that_goes_in_the_middle_of_a_transaction_undoes_it(own_postgres, database_of_own):
    image = an_image()
    with told_away(), database_of_own.transaction() as tx:
        tx.images.add(image)
        own_postgres.stop()
        tx.images.view(image.id, OWNER, now=A_MOMENT)
    own_postgres.start()

    assert not is_there(database_of_own, image)


def test_a_frozen_server_is_told_in_time_and_forgotten_when_it_thaws(own_postgres, database_of_own):
    image = an_image()
    put(database_of_own, image)
    own_postgres.freeze()
    try:
        begun = time.monotonic()
        with told_away(), database_of_own.until(begun + 1):
            is_there(database_of_own, image)
        assert time.monotonic() - begun < 1.5
        with told_away(), database_of_own.until(time.monotonic() + 3):
            put(database_of_own, an_image())
        assert database_of_own.is_reachable()
        assert not database_of_own.is_reachable()
        begun = time.monotonic()
        with told_away():
            is_there(database_of_own, image)
        assert time.monotonic() - begun < 0.5, "what is known to be away is not waited for"
    finally:
        own_postgres.thaw()

    assert database_of_own.is_reachable()
    assert is_there(database_of_own, image)


# --- Counters ---------------------------------------------------------------------------------


def test_a_counter_never_falls_below_nothing(database):
    row = {"id": OWNER, "private_images": -1, "stored_bytes": 0, "creations": 0}
    with pytest.raises(sa.exc.IntegrityError), database.transaction() as tx:
        tx.images._connection.execute(tenants.insert().values(row))


# --- What holds even when something goes wrong with it ----------------------------------------


def test_a_cut_that_fails_does_not_end_the_watch():
    watchdog, cut = Watchdog(), threading.Event()

    def broken() -> None:
        raise RuntimeError("broken")

    with watchdog.watching(0, broken), watchdog.watching(0.2, cut.set):
        assert cut.wait(5)


def test_what_an_operator_does_takes_its_time(make_catalogue: MakeCatalogue, kind_of_database):
    database = Database(make_catalogue(), patience_seconds=0.3)
    database.prepare()

    with database.unhurried(), database.transaction() as tx:
        if kind_of_database == POSTGRESQL:
            tx.images._connection.execute(sa.text("SELECT pg_sleep(0.6)"))
        else:
            time.sleep(0.6)
        tx.images.add(an_image())

    database.close()


def test_a_call_that_was_cut_off_costs_others_no_connection(database_of_own):
    with (
        told_away(),
        database_of_own.until(time.monotonic() + 0.3),
        database_of_own.reading() as reading,
    ):
        reading.images._connection.execute(sa.text("SELECT pg_sleep(60)"))

    assert database_of_own._generation == 0
