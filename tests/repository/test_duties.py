"""What every instance may do, one does: claims on a duty, and what happens to them."""

from datetime import datetime, timedelta

import pytest

from builders import A_MOMENT
from ims.repository.database import Database

A_MINUTE = timedelta(minutes=1)
SWEEP = "sweep"


@pytest.fixture
def claim(database: Database):
    def claim(holder: str, at: datetime) -> bool:
        with database.transaction() as tx:
            return tx.duties.claim(SWEEP, holder, now=at, until=at + A_MINUTE)

    return claim


def test_a_duty_is_held_by_one(claim):
    assert claim("one", A_MOMENT)
    assert not claim("another", A_MOMENT + A_MINUTE - timedelta(microseconds=1))


def test_a_holder_holds_on(claim):
    assert claim("one", A_MOMENT)
    assert claim("one", A_MOMENT + A_MINUTE / 2)
    assert not claim("another", A_MOMENT + A_MINUTE)


def test_a_silent_holder_is_followed_by_another(claim):
    assert claim("one", A_MOMENT)
    assert claim("another", A_MOMENT + A_MINUTE)
    assert not claim("one", A_MOMENT + A_MINUTE)


def test_what_is_released_is_free_at_once_and_only_by_its_holder(claim, database):
    claim("one", A_MOMENT)
    with database.transaction() as tx:
        tx.duties.release(SWEEP, "another")
    assert not claim("another", A_MOMENT)
    with database.transaction() as tx:
        tx.duties.release(SWEEP, "one")

    assert claim("another", A_MOMENT)


def test_a_duty_that_nobody_knows_is_nobodys(database):
    with database.transaction() as tx:
        assert not tx.duties.claim("unknown", "one", now=A_MOMENT, until=A_MOMENT + A_MINUTE)
