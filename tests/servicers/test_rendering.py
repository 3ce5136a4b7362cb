"""Images kept as bytes: the same as made from the record, and never out of date."""

from datetime import UTC, datetime

import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from builders import (
    A_MOMENT,
    OWNER,
    RECIPIENT,
    STRANGER,
    a_share,
    an_image,
)
from conftest import As
from ims.domain.image import Disk, Image, OperatingSystem, Source
from ims.domain.share import Share
from ims.domain.view import ReadyView, View
from ims.servicers.image_messages import image_bytes, image_message, render
from ims.use_cases.deployment import Deployment
from ims.v1 import image_pb2

_texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=300)
_numbers = st.integers(0, 2**50)
_times = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
_disks = st.builds(
    Disk,
    index=st.integers(0, 63),
    capacity_bytes=_numbers,
    size_bytes=_numbers,
    sha256=st.text("0123456789abcdef", max_size=64),
)
_images = st.builds(
    Image,
    id=_texts,
    owner=st.sampled_from([OWNER, STRANGER]),
    region=_texts,
    name=_texts,
    description=_texts,
    os=st.builds(OperatingSystem, platform=_texts, version=_texts, bits=st.sampled_from([32, 64])),
    min_disk_gib=_numbers,
    min_ram_mib=_numbers,
    max_ram_mib=_numbers,
    tags=st.dictionaries(_texts, _texts, max_size=10).map(lambda tags: tuple(sorted(tags.items()))),
    source=st.builds(Source, id=_texts, file_name=_texts, region=st.none() | _texts),
    encryption_key_id=st.none() | _texts,
    disks=st.lists(_disks, max_size=64).map(tuple),
    version=st.integers(1, 2**31 - 1),
    create_time=_times,
    update_time=_times,
    delete_time=st.none() | _times,
    purge_time=st.none() | _times,
)
_shares = st.builds(
    Share, tenant_id=st.just(OWNER), region=_texts, create_time=_times, update_time=_times
)
_views = st.builds(View, image=_images, viewer=st.just(OWNER), share=st.none() | _shares)


@given(_views)
def test_an_image_from_ready_bytes_is_the_one_made_from_the_record(view: View):
    image = view.image
    ready = ReadyView(
        owner=image.owner,
        public=image.public,
        state=image.state,
        declared_by=image.declared_by,
        purge_time=image.purge_time,
        viewer=view.viewer,
        has_own_share=view.share is not None,
        has_shares=view.has_shares,
        rendering=render(image),
    )
    told = image_message(view)

    assert image_pb2.Image.FromString(image_bytes(ready)) == told
    assert image_pb2.Image.FromString(image_bytes(view)) == told
    assert {field.name for field, _ in told.ListFields()} >= {"class", "type", "state", "etag"}


class TestRenderings:
    """Renderings in the catalogue."""

    def put(self, deployment: Deployment, **changes: object) -> Image:
        image = an_image(**changes)
        with deployment.database.transaction() as tx:
            tx.images.add(image)
            tx.shares.add([a_share(image_id=image.id)])
        return image

    def change(self, deployment: Deployment, sql: str, **parameters: object) -> None:
        """Change the catalogue like a server that knows nothing of renderings."""
        with deployment.database.transaction() as tx:
            tx.images._connection.execute(sa.text(sql), parameters)

    def test_are_what_is_read(self, deployment: Deployment, as_: As):
        """Or all that follows would prove nothing."""
        image = self.put(deployment)
        other = render(an_image(name="the one in the bytes"))
        self.change(deployment, "UPDATE images SET rendering = :other", other=other)

        assert as_(OWNER).GetImage(image_id=image.id).image.name == "the one in the bytes"

    def test_of_another_version_are_not_used(self, deployment: Deployment, as_: As):
        self.put(deployment)
        self.change(deployment, "UPDATE images SET name = 'new', version = version + 1")

        self.all_see(as_, "new")

    def test_in_another_format_are_not_used(self, deployment: Deployment, as_: As):
        self.put(deployment)
        self.change(
            deployment, "UPDATE images SET name = 'new', rendering_format = rendering_format - 1"
        )

        self.all_see(as_, "new")

    def test_that_are_not_there_are_not_missed(self, deployment: Deployment, as_: As):
        self.put(deployment, name="plain")
        sql = "UPDATE images SET rendering = NULL, rendering_version = NULL, rendering_format = NULL"
        self.change(deployment, sql)

        self.all_see(as_, "plain")

    def test_are_made_anew_by_every_change(self, deployment: Deployment, as_: As):
        image = self.put(deployment)
        as_(OWNER).UpdateImage(
            image_id=image.id, image={"name": "changed"}, update_mask={"paths": ["name"]}
        )

        self.all_see(as_, "changed")
        with deployment.database.reading() as reading:
            ready = reading.images.seen_ready(image.id, OWNER, now=A_MOMENT)
            view = reading.images.view(image.id, OWNER, now=A_MOMENT)
        assert isinstance(ready, ReadyView)
        assert view is not None
        assert image_bytes(ready) == image_bytes(view)

    def test_hold_nothing_of_who_looks(self, deployment: Deployment, as_: As):
        image = self.put(deployment)
        seen = [as_(viewer).GetImage(image_id=image.id).image for viewer in (OWNER, RECIPIENT)]

        kinds = [image_pb2.Relation.Kind.Name(each.relation) for each in seen]
        assert kinds == ["OWNED", "SHARED_WITH_ME"]

    def all_see(self, as_: As, name: str) -> None:
        owner, recipient = as_(OWNER), as_(RECIPIENT)
        (listed,) = owner.ListImages().images
        (received,) = recipient.ListReceivedShares().received_shares
        seen = [
            listed,
            received.image,
            owner.GetImage(image_id=listed.id).image,
            recipient.GetImage(image_id=listed.id).image,
        ]

        assert [image.name for image in seen] == [name] * 4
