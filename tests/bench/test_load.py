"""A load that was not answered as it should be is no measurement."""

import pytest

from bench.load import CONNECTIONS, WrongAnswers, _rate

ANSWER_BYTES = 95

SAID = """
finished in 2.00s, 500.00 req/s, 50.00KB/s
requests: 1000 total, 1004 started, 1000 done, 1000 succeeded, {failed} failed, 0 errored, 0 timeout
traffic: 110.00KB (112640) total, 10.00KB (10240) headers (space savings 90.00%), 97.66KB ({data}) data
"""


def test_answers_of_the_right_length_count():
    assert _rate(SAID.format(failed=0, data=1000 * 100), ANSWER_BYTES) == 500


def test_calls_that_are_on_their_way_when_time_is_up_do_no_harm():
    assert _rate(SAID.format(failed=0, data=(1000 + CONNECTIONS) * 100), ANSWER_BYTES) == 500


def test_answers_without_a_message_are_noticed():
    with pytest.raises(WrongAnswers):
        _rate(SAID.format(failed=0, data=(1000 - CONNECTIONS - 1) * 100), ANSWER_BYTES)


def test_failures_are_noticed():
    with pytest.raises(WrongAnswers):
        _rate(SAID.format(failed=1, data=1000 * 100), ANSWER_BYTES)


def test_a_load_generator_that_gave_up_is_noticed():
    with pytest.raises(WrongAnswers):
        _rate("could not connect", ANSWER_BYTES)
