"""Is the state right (law 1): every verb in every state, against a table of the test's own."""

from itertools import product

import pytest

from builders import a_disk, an_image
from ims.domain.image import DiskState, ImageState
from ims.domain.rejection import Category, Reason, Rejection
from ims.rules.engine import Rule, enforce
from ims.rules.states import TRANSITIONS, Verb, state_after, state_allows, state_of_filling
from rules.facts import an_attempt_on, an_empty_disk, is_kept, the_violation

# What the law says, written down again from docs/law.md and not from the code. A cell is the state
# that follows, or the reason for refusing.
#
# UPDATE 5.6 · DELETE, UNDELETE 5.7 · DEACTIVATE, REACTIVATE 5.8 · DEACTIVATE_BY_ADMIN 8.4 ·
# UPLOAD 1 and 5.4 · READ_DATA 5.8 and 4.3 · USE 7.1 · COPY 6.1 and 5.8 · EXPORT 6.4 · SHARE 3.3 ·
# UNSHARE 3.12 · READ_SHARES 3.14 ·
# UPDATE_SHARE 3.17 · PUBLISH, UNPUBLISH 1
THE_LAW = """
               QUEUED                SAVING                ACTIVE                DEACTIVATED           FAILED                DELETED
UPDATE         QUEUED                IMAGE_BUSY            ACTIVE                IMAGE_NOT_ACTIVE      IMAGE_NOT_ACTIVE      IMAGE_DELETED
DELETE         DELETED               IMAGE_BUSY            DELETED               DELETED               DELETED               IMAGE_DELETED
UNDELETE       IMAGE_NOT_DELETED     IMAGE_NOT_DELETED     IMAGE_NOT_DELETED     IMAGE_NOT_DELETED     IMAGE_NOT_DELETED     ACTIVE
DEACTIVATE     IMAGE_NOT_ACTIVE      IMAGE_BUSY            DEACTIVATED           IMAGE_NOT_ACTIVE      IMAGE_NOT_ACTIVE      IMAGE_DELETED
REACTIVATE     IMAGE_NOT_DEACTIVATED IMAGE_NOT_DEACTIVATED IMAGE_NOT_DEACTIVATED ACTIVE                IMAGE_NOT_DEACTIVATED IMAGE_DELETED
DEACTIVATE_BY_ADMIN IMAGE_NOT_ACTIVE IMAGE_BUSY          DEACTIVATED           DEACTIVATED           IMAGE_NOT_ACTIVE      IMAGE_DELETED
UPLOAD         SAVING                SAVING                IMAGE_DATA_FINAL      IMAGE_DATA_FINAL      IMAGE_DATA_FINAL      IMAGE_DELETED
READ_DATA      IMAGE_NOT_ACTIVE      IMAGE_NOT_ACTIVE      ACTIVE                IMAGE_NOT_ACTIVE      IMAGE_NOT_ACTIVE      IMAGE_DELETED
USE            IMAGE_NOT_ACTIVE      IMAGE_NOT_ACTIVE      ACTIVE                IMAGE_NOT_ACTIVE      IMAGE_NOT_ACTIVE      IMAGE_DELETED
COPY           IMAGE_NOT_ACTIVE      IMAGE_NOT_ACTIVE      ACTIVE                IMAGE_NOT_ACTIVE      IMAGE_NOT_ACTIVE      IMAGE_DELETED
EXPORT         IMAGE_NOT_ACTIVE      IMAGE_NOT_ACTIVE      ACTIVE                IMAGE_NOT_ACTIVE      IMAGE_NOT_ACTIVE      IMAGE_DELETED
SHARE          IMAGE_NOT_ACTIVE      IMAGE_NOT_ACTIVE      ACTIVE                IMAGE_NOT_ACTIVE      IMAGE_NOT_ACTIVE      IMAGE_NOT_ACTIVE
UNSHARE        QUEUED                SAVING                ACTIVE                DEACTIVATED           FAILED                DELETED
READ_SHARES    QUEUED                SAVING                ACTIVE                DEACTIVATED           FAILED                IMAGE_DELETED
UPDATE_SHARE   QUEUED                SAVING                ACTIVE                DEACTIVATED           FAILED                IMAGE_DELETED
PUBLISH        IMAGE_NOT_ACTIVE      IMAGE_NOT_ACTIVE      ACTIVE                IMAGE_NOT_ACTIVE      IMAGE_NOT_ACTIVE      IMAGE_NOT_ACTIVE
UNPUBLISH      QUEUED                SAVING                ACTIVE                DEACTIVATED           FAILED                IMAGE_DELETED
"""  # noqa: E501 - a table is read across


def _cells() -> dict[tuple[Verb, ImageState], str]:
    heading, *rows = (line.split() for line in THE_LAW.strip().splitlines())
    states = [ImageState(name) for name in heading]
    return {
        (Verb[verb], state): cell
        for verb, *cells in rows
        for state, cell in zip(states, cells, strict=True)
    }


CELLS = _cells()
ALLOWED = [(verb, state) for (verb, state), cell in CELLS.items() if cell in ImageState.__members__]
REFUSED = [(verb, state) for (verb, state), cell in CELLS.items() if cell in Reason.__members__]


def test_every_verb_in_every_state_is_in_the_table():
    assert set(CELLS) == set(product(Verb, ImageState))
    assert {(verb, state) for verb, row in TRANSITIONS.items() for state in row} == set(CELLS)
    assert len(ALLOWED) + len(REFUSED) == len(CELLS) == 17 * 6


@pytest.mark.parametrize(("verb", "state"), ALLOWED)
def test_what_the_state_allows_is_not_refused(verb: Verb, state: ImageState):
    enforce(state_allows(verb), an_attempt_on(state=state))


@pytest.mark.parametrize(("verb", "state"), ALLOWED)
def test_what_the_state_allows_leads_to_the_next_state(verb: Verb, state: ImageState):
    assert state_after(verb, an_image(state=state)) is ImageState(CELLS[verb, state])


@pytest.mark.parametrize(("verb", "state"), REFUSED)
def test_what_the_state_forbids_is_refused_with_its_one_reason(verb: Verb, state: ImageState):
    with pytest.raises(Rejection) as caught:
        enforce(state_allows(verb), an_attempt_on(state=state))

    assert caught.value.category is Category.WRONG_STATE
    assert [each.reason for each in caught.value.violations] == [Reason(CELLS[verb, state])]
    assert caught.value.violations[0].metadata == {"state": state}


@pytest.mark.parametrize(("verb", "state"), REFUSED)
def test_nothing_follows_from_what_the_state_forbids(verb: Verb, state: ImageState):
    with pytest.raises(ValueError, match=CELLS[verb, state]):
        state_after(verb, an_image(state=state))


def test_an_image_moves_only_along_the_arrows_of_the_law():
    arrows = {
        ("QUEUED", "SAVING"),
        ("ACTIVE", "DEACTIVATED"),
        ("DEACTIVATED", "ACTIVE"),
        *((state, "DELETED") for state in ImageState if state not in {"SAVING", "DELETED"}),
        ("DELETED", "ACTIVE"),  # or wherever it was: undeletion
    }

    moves = {
        (state, following)
        for row in TRANSITIONS.values()
        for state, following in row.items()
        if isinstance(following, ImageState) and following is not state
    }
    assert moves == arrows


def state_rule(verb: Verb, reason: Reason) -> Rule:
    """Return the rule that refuses a verb for a reason."""
    return next(each for each in state_allows(verb) if each.reason is reason)


class TestOnlyActiveImages:
    def test_an_active_image_is_shared(self):
        rule = state_rule(Verb.SHARE, Reason.IMAGE_NOT_ACTIVE)

        assert is_kept(rule, an_attempt_on(state=ImageState.ACTIVE))

    @pytest.mark.parametrize("state", sorted(set(ImageState) - {ImageState.ACTIVE}))
    def test_no_other_is(self, state: ImageState):
        rule = state_rule(Verb.SHARE, Reason.IMAGE_NOT_ACTIVE)

        violation = the_violation(rule, an_attempt_on(state=state))
        assert violation.message == f"The image is {state}; it cannot be shared. It must be ACTIVE."


class TestNotWhileSaving:
    @pytest.mark.parametrize("verb", [Verb.UPDATE, Verb.DELETE, Verb.DEACTIVATE])
    def test_an_image_whose_bytes_are_arriving_is_left_alone(self, verb: Verb):
        rule = state_rule(verb, Reason.IMAGE_BUSY)

        violation = the_violation(rule, an_attempt_on(state=ImageState.SAVING))
        assert violation.message.endswith("Wait until its upload has ended.")


class TestNotOnceDeleted:
    def test_a_deleted_image_is_not_deleted_again(self):
        rule = state_rule(Verb.DELETE, Reason.IMAGE_DELETED)

        assert the_violation(rule, an_attempt_on(state=ImageState.DELETED))

    def test_it_is_undeleted(self):
        reasons = {rule.reason for rule in state_allows(Verb.UNDELETE)}

        assert Reason.IMAGE_DELETED not in reasons


class TestOnlyDeletedImagesAreUndeleted:
    def test_a_live_image_is_not(self):
        rule = state_rule(Verb.UNDELETE, Reason.IMAGE_NOT_DELETED)

        assert the_violation(rule, an_attempt_on(state=ImageState.ACTIVE))

    @pytest.mark.parametrize("before", sorted(set(ImageState) - {ImageState.DELETED, ImageState.SAVING}))
    def test_a_deleted_one_returns_to_what_it_was(self, before: ImageState):
        image = an_image(state=ImageState.DELETED, state_before_deletion=before)

        assert state_after(Verb.UNDELETE, image) is before


class TestOnlyDeactivatedImagesAreReactivated:
    def test_an_active_image_is_not(self):
        rule = state_rule(Verb.REACTIVATE, Reason.IMAGE_NOT_DEACTIVATED)

        assert the_violation(rule, an_attempt_on(state=ImageState.ACTIVE))
        assert is_kept(rule, an_attempt_on(state=ImageState.DEACTIVATED))


class TestBytesNeverChangeOnceActive:
    @pytest.mark.parametrize("state", [ImageState.ACTIVE, ImageState.DEACTIVATED])
    def test_a_complete_image_takes_no_bytes(self, state: ImageState):
        rule = state_rule(Verb.UPLOAD, Reason.IMAGE_DATA_FINAL)

        assert the_violation(rule, an_attempt_on(state=state))

    def test_an_incomplete_one_does(self):
        rule = state_rule(Verb.UPLOAD, Reason.IMAGE_DATA_FINAL)

        assert is_kept(rule, an_attempt_on(state=ImageState.QUEUED))


class TestStateOfFilling:
    @pytest.mark.parametrize(
        ("disks", "state"),
        [
            (["EMPTY"], "QUEUED"),
            (["SAVING"], "SAVING"),
            (["STORED"], "ACTIVE"),
            (["STORED", "EMPTY"], "QUEUED"),
            (["STORED", "SAVING"], "SAVING"),
            (["EMPTY", "SAVING"], "SAVING"),
            (["STORED", "STORED"], "ACTIVE"),
        ],
    )
    def test_an_image_is_what_its_disks_are(self, disks: list[str], state: str):
        states = [DiskState(name) for name in disks]
        filled = [
            a_disk(state=each) if each is DiskState.STORED else an_empty_disk(state=each)
            for each in states
        ]

        assert state_of_filling(filled) is ImageState(state)
