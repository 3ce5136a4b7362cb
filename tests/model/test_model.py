"""Whatever eight clients do, the service does what the model of the law does.

A play raises Difference as soon as it does not; test_planted_bugs.py shows that it finds what is wrong.
"""

import pytest

from conftest import Clock
from ims.use_cases.deployment import Deployment
from model.play import Play
from model.test_trail import replay_and_compare


def test_one_after_the_other(deployment: Deployment, clock: Clock):
    play = Play(deployment, clock, seed=1)

    play.one_after_the_other(600)

    assert play.made >= 600


def test_eight_at_once(deployment: Deployment, clock: Clock):
    play = Play(deployment, clock, seed=2)

    play.eight_at_once(600)

    assert play.made >= 600


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_thousand_calls_one_after_the_other(deployment: Deployment, clock: Clock):
    play = Play(deployment, clock, seed=3)

    play.one_after_the_other(10_000)

    assert play.made >= 10_000


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_thousand_calls_eight_at_once(deployment: Deployment, clock: Clock):
    play = Play(deployment, clock, seed=4)

    play.eight_at_once(10_000)

    assert play.made >= 10_000
    replay_and_compare(deployment, play)
