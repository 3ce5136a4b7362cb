"""Lists stay fast however large the catalogue is: how the database goes about each."""

import itertools
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa

from builders import A_MOMENT
from catalogues import BIG, fill
from conftest import MakeCatalogue
from ims.domain.image import ImageClass, ImageState, ImageType, OsType, Relation
from ims.domain.page import ImageFilter, ImageOrder, OrderKey, PageRequest, ShareFilter, TagFilter
from ims.domain.share import ShareStatus
from ims.domain.tenant import TenantId
from ims.repository.database import Database
from ims.repository.statement import Statement
from ims.servicers.image_messages import RENDERER

pytestmark = pytest.mark.slow

COUNT: Final = 100_000
PAGE: Final = 100
NOW: Final = datetime(2030, 1, 1, tzinfo=UTC)


def at(seconds: int) -> datetime:
    return A_MOMENT + timedelta(seconds=seconds)


FILTERS: Final = [
    ImageFilter(),
    *(ImageFilter(relation=relation) for relation in Relation),
    *(ImageFilter(image_class=image_class) for image_class in ImageClass),
    *(ImageFilter(type=image_type) for image_type in (ImageType.ISO, ImageType.DATA_DISK)),
    *(ImageFilter(state=state) for state in ImageState),
    *(ImageFilter(os_type=os_type) for os_type in OsType),
    *(ImageFilter(owner=TenantId(owner)) for owner in (BIG, "tenant-10", "nobody")),
    *(ImageFilter(name=name) for name in ("image-0007919", "none")),
    *(ImageFilter(name_prefix=prefix) for prefix in ("rare", "image", "image-00", "none")),
    *(
        ImageFilter(tags=tags)
        for tags in (
            (("env", "prod"),),
            (("rare", "yes"),),
            (("no", "such"),),
            (("env", "prod"), ("rare", "yes")),
        )
    ),
    ImageFilter(tags_any=(TagFilter("env", "test"), TagFilter("rare", "yes"))),
    ImageFilter(tags_any=(TagFilter("rare"), TagFilter("team"))),
    ImageFilter(tags_none=(TagFilter("env", "test"), TagFilter("rare"))),
    *(ImageFilter(min_size_bytes=size) for size in (500_000, 990_000, 10**12)),
    *(ImageFilter(max_size_bytes=size) for size in (500_000, 200, 0)),
    *(ImageFilter(created_from=at(seconds)) for seconds in (10_000, 31_000, 10**6)),
    *(ImageFilter(created_before=at(seconds)) for seconds in (10_000, 100, 0)),
    *(ImageFilter(updated_from=at(seconds)) for seconds in (10_000, 37_000, 10**6)),
    *(ImageFilter(updated_before=at(seconds)) for seconds in (10_000, 100, 0)),
]
ORDERS: Final = [ImageOrder(*each) for each in itertools.product(OrderKey, (True, False))]


def large(url: str) -> Database:
    """Return a catalogue of a hundred thousand images."""
    database = Database(url, renderer=RENDERER, patience_seconds=300)
    database.migrate()
    fill(database, COUNT)
    return database


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The plan of each statement, as its database makes it."""
    made: list[str] = []
    run = Statement.rows

    def explained(self: Statement, connection: sa.Connection, parameters: dict[str, Any]) -> Any:
        prefix = "EXPLAIN" if connection.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
        sql, order, constants = self._made.get(connection.dialect.name) or self._make(connection.dialect)
        values: Any = constants | parameters
        if order is not None:
            values = [values[name] for name in order]
        driver: Any = connection.connection.dbapi_connection
        rows = driver.execute(f"{prefix} {sql}", values).fetchall()
        made.append("\n".join(row[-1] for row in rows))
        return run(self, connection, parameters)

    monkeypatch.setattr(Statement, "rows", explained)
    return made


# An index of the public images only is small, and is walked from one end to the other.
_LOOKS_AT_EVERYTHING: Final = re.compile(
    r"SCAN (images|tags|shares|\w*_tags|\w*_share)\b(?! USING (COVERING )?INDEX images_public_)"
    r"|Seq Scan on (images|tags|shares)\b"
)


def test_the_plans_of_lists_use_indexes(make_catalogue: MakeCatalogue, plans: list[str]):
    database = large(make_catalogue())
    for ask in questions(database):
        plans.clear()
        ask()
        for plan in plans:
            assert not _LOOKS_AT_EVERYTHING.search(plan), f"{ask}\n{plan}"
    database.close()


def questions(database: Database) -> Iterator[Callable[[], object]]:
    """Yield every list in every order, the first page and a deep one."""
    for image_filter, order in itertools.product(FILTERS, ORDERS):
        yield Pages(database, image_filter, order)
    for status, descending in itertools.product((None, *ShareStatus), (True, False)):
        yield ReceivedPages(database, ShareFilter(status=status), descending)


class Pages:
    def __init__(self, database: Database, image_filter: ImageFilter, order: ImageOrder) -> None:
        self._database, self._filter, self._order = database, image_filter, order

    def __call__(self) -> None:
        after = None
        for _ in range(3):
            with self._database.reading() as reading:
                wanted = PageRequest(size=PAGE, after=after)
                page = reading.images.list(BIG, self._filter, wanted, order=self._order, now=NOW)
            if not page.more:
                return
            after = page.places[-1]

    def __repr__(self) -> str:
        said = {name: value for name, value in vars(self._filter).items() if value not in (None, "", ())}
        return f"{said} by {self._order}"


class ReceivedPages:
    def __init__(self, database: Database, share_filter: ShareFilter, descending: bool) -> None:
        self._database, self._filter, self._descending = database, share_filter, descending

    def __call__(self) -> None:
        after = None
        for _ in range(2):
            with self._database.reading() as reading:
                wanted = PageRequest(size=PAGE, after=after)
                page = reading.images.received(
                    BIG, self._filter, wanted, now=NOW, descending=self._descending
                )
            after = page.places[-1]

    def __repr__(self) -> str:
        return f"received {self._filter} {self._descending}"


MAX_STEPS: Final = 400_000
"""What SQLite does for a page, in steps of its machine. One that nothing is filtered from takes 30,000;
looking at each of 100,000 images takes more than a million."""


def test_a_page_takes_a_bounded_number_of_steps(tmp_path: Path):
    database = large(f"sqlite:///{tmp_path / 'catalogue.sqlite3'}")
    steps = itertools.count()
    with database.reading() as reading:
        driver: Any = reading.images._connection.connection.dbapi_connection
    driver.set_progress_handler(lambda: next(steps) and None, 100)
    for image_filter, order in itertools.product(FILTERS, ORDERS):
        before = next(steps)
        Pages(database, image_filter, order)()
        assert (next(steps) - before) * 100 < 3 * MAX_STEPS, Pages(database, image_filter, order)
    database.close()
