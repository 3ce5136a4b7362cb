"""What is remembered of a call, and for how long."""

from dataclasses import replace
from datetime import timedelta

import pytest

from builders import A_MOMENT, a_caller, an_image
from ims.domain.rejection import Category, Reason, Rejection, reject
from ims.use_cases.deployment import Deployment
from ims.use_cases.images import create_image
from ims.use_cases.requests import first_answer, forget_requests, once, once_finished, remember
from ims.use_cases.sweeping import sweep
from rules.facts import a_repeatable_call

CALL = a_repeatable_call()
DAY = timedelta(hours=24)
MICROSECOND = timedelta(microseconds=1)


class Story:
    """Something that is told, and has another end each time."""

    def __init__(self) -> None:
        self.told = 0

    def __call__(self) -> bytes:
        self.told += 1
        return b"answer %d" % self.told


def at(deployment: Deployment, moment) -> Deployment:
    return replace(deployment, now=lambda: moment)


@pytest.mark.parametrize(
    ("later", "told", "answer"),
    [(DAY - MICROSECOND, 1, b"answer 1"), (DAY, 2, b"answer 2"), (DAY + MICROSECOND, 2, b"answer 2")],
)
def test_an_answer_is_remembered_for_24_hours(deployment, later, told, answer):
    story = Story()
    once(at(deployment, A_MOMENT), CALL, story)

    assert once(at(deployment, A_MOMENT + later), CALL, story) == answer
    assert story.told == told


def test_it_is_remembered_for_as_long_as_the_deployment_wants(deployment):
    story = Story()
    briefly = replace(deployment, request_memory=timedelta(seconds=1))
    once(at(briefly, A_MOMENT), CALL, story)
    once(at(briefly, A_MOMENT + timedelta(seconds=1)), CALL, story)

    assert story.told == 2


def test_an_id_that_was_forgotten_can_stand_for_another_call(deployment):
    once(at(deployment, A_MOMENT), CALL, Story())
    another = replace(CALL, digest=b"another")
    later = at(deployment, A_MOMENT + DAY)

    assert once(later, another, lambda: b"other") == b"other"
    assert first_answer(later, another) == b"other"
    with pytest.raises(Rejection) as seen:
        first_answer(later, CALL)
    assert seen.value.reason == "REQUEST_ID_REUSED"


def test_an_answer_of_no_bytes_is_an_answer(deployment):
    once(deployment, CALL, lambda: b"")

    assert first_answer(deployment, CALL) == b""
    assert once(deployment, CALL, Story()) == b""


def test_a_story_that_breaks_off_leaves_nothing_of_itself(deployment):
    def create_and_break() -> bytes:
        create_image(deployment, caller=a_caller(), draft=an_image(name="one"))
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        once(deployment, CALL, create_and_break)

    assert first_answer(deployment, CALL) is None
    with deployment.database.reading() as reading:
        assert not reading.images.name_taken(a_caller().tenant_id, "one")
    assert once(deployment, CALL, Story()) == b"answer 1"


def test_the_end_of_a_story_is_told_even_if_the_same_call_was_answered_meanwhile(deployment):
    """It is for the end to see that its time is over."""
    once(deployment, CALL, Story())

    def superseded() -> bytes:
        raise RuntimeError("superseded")

    with pytest.raises(RuntimeError):
        remember(deployment, CALL, superseded, bytes)

    assert first_answer(deployment, CALL) == b"answer 1"


def test_a_long_story_that_is_declined_because_the_same_was_told_ahead_of_it_has_its_answer(deployment):
    def overtaken() -> bytes:
        once(deployment, CALL, Story())
        raise reject(Category.WRONG_STATE, Reason.IMAGE_DATA_FINAL, "The disk is filled.")

    assert once_finished(deployment, CALL, overtaken) == b"answer 1"


def test_a_long_story_that_is_declined_for_itself_is_declined(deployment):
    def declined() -> bytes:
        raise reject(Category.WRONG_STATE, Reason.IMAGE_BUSY, "The disk is being filled.")

    with pytest.raises(Rejection, match="being filled"):
        once_finished(deployment, CALL, declined)


def test_what_is_remembered_no_longer_is_removed(deployment, monkeypatch):
    monkeypatch.setattr("ims.use_cases.requests._FORGET_AT_ONCE", 2)
    calls = [replace(CALL, request_id=f"request-{number}") for number in range(5)]
    for call in calls:
        once(at(deployment, A_MOMENT), call, Story())
    once(at(deployment, A_MOMENT + MICROSECOND), replace(CALL, request_id="young"), Story())

    assert forget_requests(at(deployment, A_MOMENT + DAY - MICROSECOND)) == 0
    assert forget_requests(at(deployment, A_MOMENT + DAY)) == 5
    assert forget_requests(at(deployment, A_MOMENT + DAY)) == 0
    assert first_answer(at(deployment, A_MOMENT), replace(CALL, request_id="young")) == b"answer 1"


def test_a_sweep_removes_it(deployment):
    once(at(deployment, A_MOMENT), CALL, Story())

    swept = sweep(at(deployment, A_MOMENT + DAY), "a-process")

    assert swept is not None
    assert swept.forgotten_requests == 1
