"""A catalogue to be measured is one that the service itself could have written."""

import sqlalchemy as sa

from bench.catalogue import BIG, Kind, images_of, kinds, seed
from bench.databases import engine_of
from ims.domain.image import ImageState
from ims.repository.database import Database
from ims.repository.tables import metadata
from ims.servicers.image_messages import RENDERER


def everything_in(url):
    engine = engine_of(url)
    with engine.connect() as connection:
        tables = {
            table.name: sorted(map(repr, connection.execute(sa.select(table)).all()))
            for table in metadata.sorted_tables
        }
    engine.dispose()
    return tables


def an_empty_database(tmp_path, name):
    url = f"sqlite:///{tmp_path / name}"
    database = Database(url)
    database.migrate()
    database.close()
    return url


def test_rows_that_went_in_by_bulk_are_those_that_the_repository_writes(tmp_path):
    in_bulk = an_empty_database(tmp_path, "in-bulk")
    one_by_one = an_empty_database(tmp_path, "one-by-one")

    seed("SQLite", in_bulk, 1000)
    database = Database(one_by_one, renderer=RENDERER)
    with database.transaction() as tx:
        for image, shares in images_of(1000, 0, 1000):
            tx.images.add(image)
            tx.shares.add(shares)
    database.close()

    assert everything_in(in_bulk) == everything_in(one_by_one)


def test_a_catalogue_has_as_many_images_of_each_kind_as_it_should():
    for size in (1_000, 100_000, 1_000_000):
        assert sum(kinds(size).values()) == size
        assert min(kinds(size).values()) > 0

    owners = [image.owner for image, _ in images_of(1_000, 0, 1_000)]

    bigs = sum(kinds(1_000)[kind] for kind in (Kind.BIGS, Kind.BIGS_RARE, Kind.BIGS_LENT))
    assert owners.count(BIG) == bigs


def test_only_what_the_law_lets_be_shared_is_shared():
    for image, shares in images_of(1_000, 0, 1_000):
        if shares:
            assert image.state is ImageState.ACTIVE
            assert not image.public
            assert image.owner not in {share.tenant_id for share in shares}
