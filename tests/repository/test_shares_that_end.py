"""When exactly a share ends: it lasts until a microsecond before, on every way to it."""

from datetime import timedelta

import pytest

from builders import A_MOMENT, OWNER, RECIPIENT, an_accepted_share, an_image
from ims.domain.page import ImageFilter, PageRequest, ShareFilter
from ims.repository.database import Database

END = A_MOMENT + timedelta(days=1)
ONE = PageRequest(size=1)


@pytest.mark.parametrize(
    ("now", "lasts"), [(END - timedelta(microseconds=1), True), (END, False)], ids=["before", "then"]
)
def test_a_share_lasts_until_a_microsecond_before_its_end(database: Database, now, lasts):
    image = an_image()
    with database.transaction() as tx:
        tx.images.add(image)
        tx.shares.add([an_accepted_share(image_id=image.id, expire_time=END)])

    with database.reading() as reading:
        of_recipient = reading.images.view(image.id, RECIPIENT, now=now)
        of_owner = reading.images.view(image.id, OWNER, now=now)
        ways = {
            "view": of_recipient is not None and of_recipient.share is not None,
            "class": of_owner is not None and of_owner.has_shares,
            "find": reading.shares.find(image.id, RECIPIENT, now=now) is not None,
            "count": reading.shares.count(image.id, now=now) == 1,
            "bytes": reading.images.may_be_read(image.id, RECIPIENT, caller=RECIPIENT, now=now),
            "kept": not reading.shares.ended(now=now),
            "received": reading.images.received(RECIPIENT, ShareFilter(), ONE, now=now).items != (),
            "list": reading.images.list(RECIPIENT, ImageFilter(), ONE, now=now).items != (),
        }

    assert ways == dict.fromkeys(ways, lasts)
