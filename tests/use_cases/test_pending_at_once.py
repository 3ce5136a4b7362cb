"""How many pending shares a recipient has is exact, whoever shares at the same moment."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import sqlalchemy as sa

from builders import HOME, OWNER, RECIPIENT, a_caller, a_share, an_image
from crowd import all_at_once
from databases import POSTGRESQL, SQLITE
from ims.domain.image import ImageId
from ims.domain.share import ShareStatus
from ims.domain.tenant import TenantId
from ims.repository.tables import shares
from ims.repository.tenants import TenantRepository
from ims.use_cases.deployment import Deployment
from ims.use_cases.images import get_image
from ims.use_cases.sharing import Recipient, get_share, share_image
from ims.use_cases.trust import set_trust_rules

CALLERS = 40
LIMIT = 7


def images_of_many(deployment: Deployment) -> dict[TenantId, ImageId]:
    """Put an image of each of many owners into the catalogue: no lock of theirs is another's."""
    owners = [TenantId(f"owner-{number}") for number in range(CALLERS)]
    images = {owner: an_image(owner=owner, region=HOME) for owner in owners}
    with deployment.database.transaction() as tx:
        for image in images.values():
            tx.images.add(image)
    return {owner: image.id for owner, image in images.items()}


def limit(deployment: Deployment, tenant: str, most: int) -> None:
    set_trust_rules(deployment, caller=a_caller(tenant), changes={"max_pending_shares": most})


def share_at_once(deployment: Deployment, *recipients: str):
    return all_at_once(
        [
            lambda owner=owner, image_id=image_id, number=number: share_image(
                deployment,
                caller=a_caller(owner),
                image_id=image_id,
                # Some name them in the other order: nobody waits in a circle.
                recipients=tuple(
                    Recipient(tenant_id=TenantId(each))
                    for each in (recipients if number % 2 else recipients[::-1])
                ),
            )
            for number, (owner, image_id) in enumerate(images_of_many(deployment).items())
        ]
    )


def pending(deployment: Deployment, tenant: str) -> int:
    with deployment.database.reading() as reading:
        query = sa.select(sa.func.count()).where(shares.c.tenant_id == tenant)
        return reading.shares._connection.execute(query).scalar_one()


def test_40_owners_at_once_leave_exactly_as_many_as_are_tolerated(deployment: Deployment):
    limit(deployment, RECIPIENT, LIMIT)

    ended = share_at_once(deployment, RECIPIENT)

    assert ended == {"OK": LIMIT, "RECIPIENT_HAS_TOO_MANY_PENDING": CALLERS - LIMIT}
    assert pending(deployment, RECIPIENT) == LIMIT


def test_of_two_recipients_neither_gets_too_many_and_nobody_waits_in_a_circle(deployment: Deployment):
    limit(deployment, "a", LIMIT)
    limit(deployment, "b", LIMIT + 3)

    ended = share_at_once(deployment, "a", "b")

    assert ended == {"OK": LIMIT, "RECIPIENT_HAS_TOO_MANY_PENDING": CALLERS - LIMIT}
    assert (pending(deployment, "a"), pending(deployment, "b")) == (LIMIT, LIMIT)


@pytest.mark.databases(POSTGRESQL)
def test_without_the_lock_the_limit_does_not_hold(deployment: Deployment, monkeypatch):
    """The first test above is worth something: take the guard out, and it fails.

    SQLite has no such guard to take out: it lets no transaction write over what it has not seen.
    """
    limit(deployment, RECIPIENT, LIMIT)
    monkeypatch.setattr(TenantRepository, "lock", TenantRepository.account)

    ended = share_at_once(deployment, RECIPIENT)

    assert (ended["OK"], pending(deployment, RECIPIENT)) != (LIMIT, LIMIT)


def test_of_20_who_change_rules_that_they_have_read_one_does(deployment: Deployment):
    """The first rules of a tenant, too, are made once."""
    ended = all_at_once(
        [
            lambda number=number: set_trust_rules(
                deployment,
                caller=a_caller(RECIPIENT),
                changes={"blocked": (TenantId(f"owner-{number}"),)},
                expected_etag='"0"',
            )
            for number in range(20)
        ]
    )

    assert ended == {"OK": 1, "ETAG_MISMATCH": 19}


@pytest.mark.databases(POSTGRESQL)
def test_trust_that_is_withdrawn_this_very_moment_accepts_nothing_more(
    deployment: Deployment, monkeypatch
):
    """On SQLite one call comes after the other anyway."""
    recipient = a_caller(RECIPIENT)
    set_trust_rules(deployment, caller=recipient, changes={"auto_accept_from": (OWNER,)})
    image = an_image(region=HOME)
    with deployment.database.transaction() as tx:
        tx.images.add(image)
    lock = TenantRepository.lock

    def too_late(tenants: TenantRepository, tenant_id: TenantId):
        monkeypatch.setattr(TenantRepository, "lock", lock)
        with ThreadPoolExecutor(1) as another:
            withdrawn = {"auto_accept_from": ()}
            another.submit(set_trust_rules, deployment, caller=recipient, changes=withdrawn).result()
        return lock(tenants, tenant_id)

    monkeypatch.setattr(TenantRepository, "lock", too_late)

    (outcome,) = share_image(
        deployment,
        caller=a_caller(),
        image_id=image.id,
        recipients=(Recipient(tenant_id=RECIPIENT),),
    ).outcomes

    assert outcome.share.status is ShareStatus.PENDING


def statements_of(deployment: Deployment, call: Callable[[], object]) -> list[str]:
    """Make a call; return the statements that it took, those of its transaction too."""
    driver = deployment.database._link().connection.connection.dbapi_connection
    statements: list[str] = []
    driver.set_trace_callback(statements.append)
    call()
    driver.set_trace_callback(None)
    return statements


def statements_of_a_sharing(deployment: Deployment) -> list[str]:
    image = an_image(region=HOME)
    with deployment.database.transaction() as tx:
        tx.images.add(image)
    return statements_of(
        deployment,
        lambda: share_image(
            deployment,
            caller=a_caller(),
            image_id=image.id,
            recipients=(Recipient(tenant_id=RECIPIENT),),
        ),
    )


@pytest.mark.databases(SQLITE)
def test_who_limits_nothing_costs_those_who_share_nothing(deployment: Deployment):
    before = statements_of_a_sharing(deployment)
    set_trust_rules(deployment, caller=a_caller(RECIPIENT), changes={"blocked": (OWNER,)})
    with_rules = statements_of_a_sharing(deployment)
    limit(deployment, RECIPIENT, LIMIT)
    limited = statements_of_a_sharing(deployment)

    assert len(before) == len(with_rules)
    # Its lock, its rules again, and what is pending.
    assert len(limited) == len(before) + 3


@pytest.mark.databases(SQLITE)
def test_what_ends_and_who_is_blocked_is_asked_in_the_statement_that_reads_the_image(
    deployment: Deployment,
):
    image = an_image(region=HOME)
    with deployment.database.transaction() as tx:
        tx.images.add(image)
        tx.shares.add([a_share(image_id=image.id)])

    def seen(viewer: TenantId) -> object:
        return get_image(deployment, caller=a_caller(viewer), image_id=image.id)

    def own_share(viewer: TenantId) -> object:
        return get_share(deployment, caller=a_caller(viewer), image_id=image.id)

    for call, viewer in ((seen, OWNER), (seen, RECIPIENT), (own_share, RECIPIENT)):
        call(viewer)  # a connection is made ready when it reads first
        statements = statements_of(deployment, partial(call, viewer))
        assert len([each for each in statements if "SELECT" in each]) == 1
