"""A listing read page by page while the catalogue changes."""

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import (
    A_MOMENT,
    OWNER,
    RECIPIENT,
    a_disk,
    a_moment,
    a_share,
    an_image,
)
from ims.domain.image import Image, ImageId, ImageState
from ims.domain.page import ImageFilter, ImageOrder, OrderKey, PageRequest
from ims.domain.share import ShareStatus
from ims.domain.tenant import TenantId
from ims.domain.view import View
from ims.repository.database import Database, Transaction

CHANGES = ("revoke", "share", "reject", "delete", "undelete", "publish", "unpublish", "add", "purge")
_orders = st.builds(ImageOrder, st.sampled_from(OrderKey), st.booleans())
_steps = st.lists(st.tuples(st.sampled_from(CHANGES), st.integers(0, 11)), max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=_orders, size=st.integers(1, 4), between=st.lists(_steps, min_size=1, max_size=6))
def test_what_stays_is_listed_once_and_in_order_and_nothing_else_ever(
    database: Database, order: ImageOrder, size: int, between: list[list[tuple[str, int]]]
):
    """The viewer owns a third of the images, and others may be public or lent to it."""
    with database.transaction() as tx:
        for image_id in known(tx):
            tx.images.lock(image_id, RECIPIENT, now=a_moment, governing=True)
            tx.images.purge(image_id)
    made = [add(database, number) for number in range(12)]
    always = visible(database, made)
    listed: list[str] = []
    keys = []
    after = None
    changes = iter(between)
    while True:
        with database.reading() as reading:
            wanted = PageRequest(size=size, after=after)
            page = reading.images.list(RECIPIENT, ImageFilter(), wanted, order=order, now=A_MOMENT)
        listed += [place.id for place in page.places]
        keys += [(place.key, place.id) for place in page.places]
        assert {place.id for place in page.places} <= visible(database, made)
        assert len(page.items) == size or not page.more
        if not page.more:
            break
        after = page.places[-1]
        for change, number in next(changes, []):
            made = apply(database, change, made, number)
            always &= visible(database, made)

    assert keys == sorted(keys, reverse=order.descending)
    assert len(listed) == len(set(listed))
    assert always <= set(listed)


def known(tx: Transaction) -> list[ImageId]:
    rows = tx.images._connection.exec_driver_sql("SELECT id FROM images")
    return [ImageId(value) for value in rows.scalars()]


def add(database: Database, number: int) -> ImageId:
    """Add an image with a name, a size and a time that some others have too."""
    image = an_image(
        owner=(RECIPIENT, OWNER, TenantId("third"))[number % 3],
        disks=(a_disk(size_bytes=number % 2),),
        create_time=A_MOMENT.replace(second=number % 4),
        public=number % 3 != 0 and number % 4 == 0,
    )
    with database.transaction() as tx:
        tx.images.add(image)
        if image.owner != RECIPIENT and not image.public:
            tx.shares.add([a_share(image_id=image.id, status=list(ShareStatus)[number % 3])])
    return image.id


def apply(database: Database, change: str, made: list[ImageId], number: int) -> list[ImageId]:
    if change == "add":
        return [*made, add(database, number)]
    with database.transaction() as tx:
        view = tx.images.lock(made[number], RECIPIENT, now=a_moment, governing=True)
        if view is not None and change in {"revoke", "share", "reject"}:
            change_share(tx, change, view)
        elif view is not None:
            change_image(tx, change, view.image)
    return made


def change_share(tx: Transaction, change: str, view: View) -> None:
    image, own = view.image, view.image.owner == RECIPIENT
    match change:
        case "revoke":
            tx.shares.remove(image.id, now=A_MOMENT)
        case "share" if view.share is None and not own and not image.public:
            tx.shares.add([a_share(image_id=image.id, status=ShareStatus.ACCEPTED)])
        case "share" | "reject" if view.share is not None:
            status = ShareStatus.ACCEPTED if change == "share" else ShareStatus.REJECTED
            tx.shares.save(replace(view.share, status=status))


def change_image(tx: Transaction, change: str, image: Image) -> None:
    match change:
        case "delete" if image.state is not ImageState.DELETED and not image.public:
            save(tx, image, state=ImageState.DELETED, purge_time=A_MOMENT)
        case "undelete" if image.state is ImageState.DELETED:
            save(tx, image, state=ImageState.ACTIVE, purge_time=None)
        case "publish" if image.state is not ImageState.DELETED:
            tx.shares.remove(image.id, now=A_MOMENT)
            save(tx, image, public=True)
        case "unpublish" if image.public:
            save(tx, image, public=False)
        case "purge":
            tx.images.purge(image.id)


def save(tx: Transaction, image: Image, **changes: object) -> None:
    tx.images.save(replace(image, **changes), now=A_MOMENT)


def visible(database: Database, made: list[ImageId]) -> set[str]:
    """Return what the law lets the viewer's default list show."""
    shown = set()
    with database.reading() as reading:
        for image_id in made:
            view = reading.images.view(image_id, RECIPIENT, now=A_MOMENT)
            if view is None or view.image.state is ImageState.DELETED:
                continue
            accepted = view.share is not None and view.share.status is ShareStatus.ACCEPTED
            if view.image.owner == RECIPIENT or view.image.public or accepted:
                shown.add(view.image.id)
    return shown
