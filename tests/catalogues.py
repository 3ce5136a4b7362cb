"""Large catalogues, written fast."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa

from builders import A_MOMENT, a_disk, an_image
from ims.domain.image import Image, ImageState, ImageType, OperatingSystem, OsType
from ims.domain.share import Share, ShareStatus
from ims.domain.tenant import TenantId
from ims.repository.database import Database
from ims.repository.tables import images, shares, tags

BIG: Final = TenantId("big")
"""Owns nine of ten images."""
_FIRST: Final = 1000


def fill(database: Database, count: int) -> None:
    """Put so many thousands of images into an empty catalogue, and shares to and of BIG.

    The first thousand are written by the repository; the others are copies of their rows.
    """
    made = [_image(number) for number in range(_FIRST)]
    with database.transaction() as tx:
        for image in made:
            tx.images.add(image)
        tx.shares.add(share for image in made for share in _shares(image))
        connection = tx.images._connection
        for table, changes in _CHANGES.items():
            _copy_rows(connection, table, changes, copies=count // _FIRST - 1)
    with database.reading() as reading:
        reading.images._connection.exec_driver_sql("ANALYZE")


_CHANGES: Final = {
    images: {
        "id": "copies.prefix || substr(id, 9)",
        "name": "name || '-' || copies.prefix",
        "live_name": "live_name || '-' || copies.prefix",
        "create_time": "create_time + copies.number",
        "update_time": "update_time + copies.number",
        "size_bytes": "size_bytes + copies.number",
    },
    tags: {
        "image_id": "copies.prefix || substr(image_id, 9)",
        "create_time": "create_time + copies.number",
    },
    shares: {
        "image_id": "copies.prefix || substr(image_id, 9)",
        "create_time": "create_time + copies.number",
        "image_create_time": "image_create_time + copies.number",
        "image_name": "image_name || '-' || copies.prefix",
        "image_size_bytes": "image_size_bytes + copies.number",
    },
}


def _copy_rows(
    connection: sa.Connection, table: sa.Table, changes: dict[str, str], *, copies: int
) -> None:
    if not copies:
        return
    numbers = ", ".join(f"({number}, '{number:08}')" for number in range(1, copies + 1))
    names = [f'"{column.name}"' for column in table.c]
    values = [changes.get(column.name, f'"{column.name}"') for column in table.c]
    connection.exec_driver_sql(
        f"WITH copies(number, prefix) AS (VALUES {numbers}), rows AS (SELECT * FROM {table.name})"
        f" INSERT INTO {table.name} ({', '.join(names)})"
        f" SELECT {', '.join(values)} FROM rows CROSS JOIN copies"
    )


def _image(number: int) -> Image:
    """Return the image of a number, which says everything about it."""
    return an_image(
        owner=BIG if number % 10 else TenantId(f"tenant-{number % 1000}"),
        name=f"{'rare' if number == 1 else 'image'}-{number * 7919 % 1_000_003:07}",
        state=_every(
            number, 10_000, ImageState.FAILED, _every(number, 50, ImageState.QUEUED, ImageState.ACTIVE)
        ),
        type=_every(
            number, 9999, ImageType.ISO, _every(number, 3, ImageType.DATA_DISK, ImageType.SYSTEM_DISK)
        ),
        os=OperatingSystem(
            type=_every(number, 10_001, OsType.OTHER, _every(number, 3, OsType.WINDOWS, OsType.LINUX))
        ),
        public=number % 100 == 10,
        tags=tuple(_tags(number)),
        disks=(a_disk(size_bytes=number * 104_729 % 1_000_003),),
        create_time=A_MOMENT + timedelta(seconds=number * 31 % 1_000_003),
        update_time=A_MOMENT + timedelta(seconds=number * 31 % 1_000_003 + number * 37 % 100_003),
    )


def _every(number: int, nth: int, then: Any, otherwise: Any) -> Any:
    return then if number % nth == 1 else otherwise


def _tags(number: int) -> Iterator[tuple[str, str]]:
    if number % 10 < 6:
        yield "env", "prod"
    elif number % 10 < 7:
        yield "env", "test"
    if number % 10_007 == 1:
        yield "rare", "yes"
    if number % 100 == 7:
        yield "team", "a"


def _shares(image: Image) -> Iterator[Share]:
    if image.public or image.state is not ImageState.ACTIVE:
        return
    number = int(image.id[-12:])
    if image.owner != BIG:
        statuses = (ShareStatus.ACCEPTED, ShareStatus.PENDING, ShareStatus.REJECTED)
        yield _share(image, BIG, statuses[number // 10 % 3])
    elif number % 50 == 1:
        yield _share(image, TenantId("friend"), ShareStatus.ACCEPTED)


def _share(image: Image, tenant_id: TenantId, status: ShareStatus) -> Share:
    return Share(
        image_id=image.id,
        tenant_id=tenant_id,
        region=image.region,
        status=status,
        create_time=image.create_time,
        update_time=image.create_time,
    )
