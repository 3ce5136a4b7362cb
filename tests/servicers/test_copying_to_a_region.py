"""Copies to another region (law 6.2), between two real services."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builders import ELSEWHERE, HOME
from calling import Tenant, declined, error_of, image_of, metadata_of
from conftest import As, Clock, MakeService
from disk_files.makers import iso
from ims.bootstrap import Service
from ims.domain.image import KeyId
from ims.domain.operation import OperationKind
from ims.domain.rejection import Category, Reason, reject
from ims.providers.keys import add_key
from ims.providers.peers import Peer, PeerImage, PeerUpload
from ims.use_cases import region_copying
from ims.use_cases.executor import Executor
from ims.use_cases.region_copying import RegionCopying
from ims.use_cases.sweeping import sweep
from ims.v1 import image_pb2

MIB = 1024**2
GIB = 1024**3
CONTENT = b"0123456789abcdef" * 65536 * 3  # three chunks
OTHER = b"fedcba9876543210" * 65536 * 2
A_PEER = "ims.eu-de"
CBR = {"type": "FULL_ECS", "source": {"cbr_backup": {"backup_id": "b"}}, "owner_tenant_id": "owner"}
VAULTS = {"owner": [{"id": "small", "capacity_gib": 1}]}
A_COPY = {
    "owner_tenant_id": "owner",
    "source": {"image": {"image_id": "an-image", "region": HOME}},
}
TWO_DISKS = {**CBR, "disks": [{"format": "RAW"}, {"format": "RAW"}]}

MakeRegions = Callable[..., tuple[Service, Service]]


def peer_at(service: Service) -> dict[str, object]:
    return {"server": f"127.0.0.1:{service.port}", "development_tenant": A_PEER}


@pytest.fixture
def make_regions(make_service: MakeService) -> MakeRegions:
    """Start two services, of which the first, at HOME, copies to the second, ELSEWHERE."""

    def make(*, here: dict | None = None, there: dict | None = None) -> tuple[Service, Service]:
        other = make_service(region=ELSEWHERE, **(there or {}))
        home = make_service(peers={ELSEWHERE: peer_at(other)}, **(here or {}))
        add_key(home.settings.keys, KeyId("key-1"))
        return home, other

    return make


class Regions:
    """Two services, and a tenant that calls both."""

    def __init__(self, services: tuple[Service, Service], as_: As) -> None:
        self.home, self.other = services
        self._as = as_
        self.owner = as_("owner", of=self.home)
        self.there = as_("owner", of=self.other)

    def as_here(self, *who: str) -> Tenant:
        return self._as(*who, of=self.home)

    def as_there(self, *who: str, region: str = "") -> Tenant:
        return self._as(*who, of=self.other, region=region)

    @property
    def peer(self) -> Tenant:
        return self.as_there(A_PEER, "peer", region=HOME)

    def copy(self, image_id: str, **fields):
        return self.owner.CopyImageToRegion(image_id=image_id, region=ELSEWHERE, **fields)

    def copied(self, image_id: str, **fields) -> image_pb2.Image:
        return image_of(self.owner.ended(self.copy(image_id, **fields)))

    def failed(self, image_id: str, **fields):
        return error_of(self.owner.ended(self.copy(image_id, **fields)))

    def nothing_is_there(self) -> None:
        deployment = self.other.deployment
        assert not self.there.ListImages().images
        assert not self.there.ListImages(state="DELETED").images
        sweep(deployment, "one")
        assert not set(deployment.blobs.keys())
        quotas = self.there.GetQuotas().quotas
        assert (quotas.private_images.used, quotas.stored_bytes.used, quotas.copies.used) == (0, 0, 0)


@pytest.fixture
def regions(make_regions: MakeRegions, as_: As) -> Regions:
    return Regions(make_regions(), as_)


@pytest.fixture
def waiting(make_regions: MakeRegions, as_: As) -> Regions:
    """Two services, of which the first does no operations by itself."""
    return Regions(make_regions(here={"operation_threads": 0}), as_)


class TestWhatACopyIs:
    def test_it_is_the_owners_own_there_and_as_its_source(self, regions: Regions):
        source = regions.owner.active(
            "source",
            CONTENT,
            description="as it was",
            tags={"team": "a"},
            protected=True,
            min_ram_mib=64,
            max_ram_mib=128,
            non_exportable=True,
            firmware="UEFI",
            os={"type": "LINUX", "platform": "Debian", "version": "12", "bits": 64},
        )

        operation = regions.owner.ended(regions.copy(source.id))

        copy = image_of(operation)
        assert copy == regions.there.GetImage(image_id=copy.id).image
        assert (copy.owner_tenant_id, copy.region) == ("owner", ELSEWHERE)
        assert copy.name == f"copy_{HOME}_source"
        assert (copy.state, getattr(copy, "class")) == (copy.ACTIVE, copy.PRIVATE)
        assert (copy.source.image.image_id, copy.source.image.region) == (source.id, HOME)
        assert (copy.description, copy.min_ram_mib, copy.max_ram_mib) == ("as it was", 64, 128)
        assert (copy.firmware, copy.os, copy.min_disk_gib) == (source.firmware, source.os, 1)
        assert (dict(copy.tags), copy.protected, copy.non_exportable) == ({}, False, True)
        assert copy.disks == source.disks
        assert regions.there.download(copy.id) == CONTENT
        metadata = metadata_of(operation)
        assert (metadata.kind, metadata.state) == (metadata.COPY_IMAGE_TO_REGION, metadata.SUCCEEDED)
        assert (metadata.image_id, metadata.source_image_id) == (copy.id, source.id)
        assert metadata.done_bytes == metadata.total_bytes == len(CONTENT)

    def test_name_and_description_can_be_said(self, regions: Regions):
        source = regions.owner.active("source", description="as it was")

        copy = regions.copied(source.id, name="mine", description="")

        assert (copy.name, copy.description) == ("mine", "")

    def test_a_name_that_would_be_too_long_is_cut(self, regions: Regions):
        source = regions.owner.active("x" * 128)

        copy = regions.copied(source.id)

        assert copy.name == f"copy_{HOME}_{'x' * 128}"[:128]

    def test_it_outlives_its_source_and_is_shared_used_and_copied_there(self, regions: Regions):
        source = regions.owner.active("source", CONTENT)
        copy = regions.copied(source.id, name="copy")
        regions.owner.DeleteImage(image_id=source.id)
        recipient = regions.as_there("recipient")

        regions.there.ShareImage(image_id=copy.id, recipients=[{"tenant_id": "recipient"}])
        recipient.AcceptShare(image_id=copy.id)

        assert recipient.download(copy.id) == CONTENT
        for user in (regions.there, recipient):
            used = user.ResolveImage(image_id=copy.id, purpose="CHANGE_OS")  # 7.2
            assert used.disks[0].disk.sha256 == hashlib.sha256(CONTENT).hexdigest()
        assert recipient.copied(copy.id, "again").disks == copy.disks

    def test_it_is_used_for_an_os_change_there_and_its_source_is_not(self, regions: Regions):
        source = regions.owner.active("source")
        regions.copied(source.id)

        with declined() as elsewhere:
            regions.owner.ResolveImage(image_id=source.id, purpose="CHANGE_OS", region=ELSEWHERE)
        assert elsewhere.reason == "IMAGE_NOT_IN_REGION"

    def test_what_becomes_of_the_source_meanwhile_changes_nothing_of_it(self, waiting: Regions):
        source = waiting.owner.active("source", CONTENT, description="as it was")
        operation = waiting.copy(source.id)
        waiting.owner.UpdateImage(
            image_id=source.id,
            image={"name": "renamed", "description": "new", "min_ram_mib": 4},
            update_mask={"paths": ["name", "description", "min_ram_mib"]},
        )

        do_next(waiting)

        copy = image_of(waiting.owner.ended(operation))
        assert (copy.name, copy.description) == (f"copy_{HOME}_source", "as it was")
        assert copy.min_ram_mib == 0

    def test_a_repeated_call_gets_the_same_operation(self, regions: Regions):
        source = regions.owner.active("source")
        first = regions.copy(source.id, request_id="once")

        assert regions.copy(source.id, request_id="once") == first
        regions.owner.ended(first)
        assert len(regions.there.ListImages().images) == 1

    def test_what_is_only_validated_leaves_nothing(self, regions: Regions):
        source = regions.owner.active("source")

        judged = regions.copy(source.id, validate_only=True)

        draft = image_of(judged)
        assert (judged.name, judged.done, draft.id, draft.region) == ("", True, "", ELSEWHERE)
        assert draft.source.image.region == HOME
        assert not regions.owner.ListOperations().operations
        assert not regions.there.ListImages().images


def do_next(regions: Regions, holder: str = "one") -> None:
    """Do the operation that is waiting."""
    assert Executor(regions.home.deployment, holder).do_next()


class TestWhatIsNotCopied:
    def test_only_the_owner_copies(self, regions: Regions):
        source = regions.owner.active("source")
        recipient = regions.as_here("recipient")
        regions.owner.ShareImage(image_id=source.id, recipients=[{"tenant_id": "recipient"}])
        recipient.AcceptShare(image_id=source.id)

        with declined() as refused:
            recipient.CopyImageToRegion(image_id=source.id, region=ELSEWHERE)

        assert (refused.code, refused.reason) == ("PERMISSION_DENIED", "NOT_IMAGE_OWNER")

    @pytest.mark.parametrize(
        ("image", "region", "reason"),
        [
            ({}, HOME, "SAME_REGION"),
            ({}, "nowhere", "REGION_WITHOUT_PEER"),
            ({"encryption_key_id": "key-1"}, ELSEWHERE, "ENCRYPTED_IMAGE_NOT_COPYABLE"),
        ],
    )
    def test_refused_by_rule(self, image: dict, region: str, reason: str, regions: Regions):
        source = regions.owner.active("source", **image)

        with declined() as refused:
            regions.owner.CopyImageToRegion(image_id=source.id, region=region)

        assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", reason)
        assert not regions.owner.ListOperations().operations

    def test_an_iso_image(self, regions: Regions):
        source = regions.owner.active("medium", iso(), type="ISO", disks=[{"format": "ISO"}])

        with declined() as refused:
            regions.copy(source.id)

        assert refused.reason == "ISO_NOT_COPYABLE"

    def test_as_many_at_once_as_copies_within_the_region(self, make_regions: MakeRegions, as_: As):
        regions = Regions(make_regions(here={"operation_threads": 0, "copies_per_tenant": 2}), as_)
        source = regions.owner.active("source")
        begun = [regions.copy(source.id, name=f"copy-{number}") for number in range(2)]

        with declined() as refused:
            regions.copy(source.id, name="third")

        assert (refused.code, refused.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_COPIES")
        regions.owner.CancelOperation(name=begun[0].name)
        regions.copy(source.id, name="third")


class TestThePeersOwnLaw:
    """What the other region refuses is the operation's error, in its words."""

    @pytest.fixture
    def source(self, regions: Regions) -> image_pb2.Image:
        return regions.owner.active("source", CONTENT)

    def test_a_name_that_is_taken_there(self, regions: Regions, source: image_pb2.Image):
        regions.there.create("taken")

        error = regions.failed(source.id, name="taken")

        assert (error.code, error.reason) == ("ALREADY_EXISTS", "IMAGE_NAME_TAKEN")
        assert error.message.startswith(f"In region '{ELSEWHERE}': ")
        assert error.metadata["peerRegion"] == ELSEWHERE

    @pytest.mark.parametrize(
        ("limits", "reason"),
        [
            ({"private_images": 0}, "IMAGE_QUOTA_EXCEEDED"),
            ({"stored_bytes": len(CONTENT) - 1}, "STORAGE_QUOTA_EXCEEDED"),
            ({"copies": 0}, "TOO_MANY_COPIES"),
        ],
    )
    def test_a_quota_there(self, limits: dict, reason: str, regions: Regions, source: image_pb2.Image):
        regions.as_there("root", "admin").SetTenantQuotas(
            tenant_id="owner", limits=limits, update_mask={"paths": list(limits)}
        )

        error = regions.failed(source.id)

        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", reason)
        regions.nothing_is_there()

    def test_a_creation_there_is_none_of_the_copies(self, regions: Regions, source: image_pb2.Image):
        regions.as_there("root", "admin").SetTenantQuotas(
            tenant_id="owner",
            limits={"stored_bytes": len(CONTENT), "creations": 0},
            update_mask={"paths": ["stored_bytes", "creations"]},
        )

        assert regions.copied(source.id).state == image_pb2.Image.ACTIVE

    def test_a_tenant_that_is_suspended_there(self, regions: Regions, source: image_pb2.Image):
        root = regions.as_there("root", "admin")
        root.RegisterTenant(tenant_id="owner", region=ELSEWHERE)
        root.SuspendTenant(tenant_id="owner")

        error = regions.failed(source.id)

        assert (error.code, error.reason) == ("PERMISSION_DENIED", "TENANT_SUSPENDED")

    def test_a_tenant_that_a_closed_directory_there_does_not_name(
        self, make_regions: MakeRegions, as_: As
    ):
        regions = Regions(make_regions(there={"tenant_directory": "closed"}), as_)
        source = regions.owner.active("source")

        error = regions.failed(source.id)
        assert (error.code, error.reason) == ("NOT_FOUND", "TENANT_NOT_FOUND")

        regions.as_there("root", "admin").RegisterTenant(tenant_id="owner", region=ELSEWHERE)
        assert regions.copied(source.id).name == f"copy_{HOME}_source"

    def test_a_file_that_is_too_large_there(self, make_regions: MakeRegions, as_: As):
        regions = Regions(make_regions(there={"max_image_file_bytes": len(CONTENT) - 1}), as_)

        error = regions.failed(regions.owner.active("source", CONTENT).id)

        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "IMAGE_FILE_TOO_LARGE")
        regions.nothing_is_there()


class TestFullEcsImages:
    def source(self, regions: Regions, **changes) -> image_pb2.Image:
        fields = TWO_DISKS | changes
        cbr = regions.as_here("cbr", "service")
        image = cbr.create("server", **fields)
        cbr.upload(image.id, CONTENT, 0)
        return cbr.upload(image.id, OTHER, 1).image

    def test_every_disk_arrives(self, regions: Regions):
        source = self.source(regions)

        copy = regions.copied(source.id)

        assert copy.disks == source.disks
        assert regions.there.download(copy.id, disk_index=0) == CONTENT
        assert regions.there.download(copy.id, disk_index=1) == OTHER
        assert copy.source.image.backup_service == image_pb2.Source.CBR

    def test_one_that_cbr_stands_behind_is_shared_there(self, regions: Regions):
        copy = regions.copied(self.source(regions).id)

        regions.there.ShareImage(image_id=copy.id, recipients=[{"tenant_id": "recipient"}])

    @pytest.mark.parametrize(
        ("origin", "reason"),
        [
            ({"csbs_backup": {"backup_id": "b"}}, "FULL_ECS_NOT_FROM_CBR"),
            ({"cbr_backup": {"backup_id": "b", "received_by_sharing": True}}, "BACKUP_IS_SHARED"),
        ],
    )
    def test_what_may_not_be_shared_here_may_not_there(
        self, origin: dict, reason: str, regions: Regions
    ):
        copy = regions.copied(self.source(regions, source=origin).id)

        with declined() as refused:
            regions.there.ShareImage(image_id=copy.id, recipients=[{"tenant_id": "recipient"}])
        assert refused.reason == reason

    def test_it_needs_a_vault_where_there_is_a_backup_provider(self, make_regions: MakeRegions, as_: As):
        regions = Regions(make_regions(there={"vaults": VAULTS}), as_)
        source = self.source(regions)

        for vault_id in ("", "none"):
            error = regions.failed(source.id, vault_id=vault_id)
            assert (error.code, error.reason) == ("FAILED_PRECONDITION", "VAULT_REQUIRED")
        regions.nothing_is_there()

        assert regions.copied(source.id, vault_id="small").state == image_pb2.Image.ACTIVE

    def test_the_vault_holds_what_its_service_says_of_the_disks(
        self, make_regions: MakeRegions, as_: As
    ):
        regions = Regions(make_regions(there={"vaults": VAULTS}), as_)
        fields = A_COPY | {"type": "FULL_ECS"}
        vault = {"vault_id": "small", "capacity_bytes": GIB}

        with declined() as refused:
            arrival = vault | {"capacity_bytes": GIB + 1}
            regions.peer.create("copy", arrival=arrival, **fields)
        assert refused.reason == "VAULT_TOO_SMALL"
        assert refused.metadata == {"neededGib": "2", "vaultCapacityGib": "1"}

        regions.peer.create("copy", arrival=vault, **fields)

    def test_others_need_none(self, make_regions: MakeRegions, as_: As):
        regions = Regions(make_regions(there={"vaults": VAULTS}), as_)

        assert regions.copied(regions.owner.active("source").id).state == image_pb2.Image.ACTIVE


class TestPeers:
    """Whom a region takes images from."""

    def test_nobody_else_declares_an_image_of_another_region(self, regions: Regions):
        for who, reason in {
            ("owner",): "SOURCE_NOT_DECLARABLE",
            ("nova", "service"): "ROLE_REQUIRED",
            ("root", "admin"): "ROLE_REQUIRED",
            ("other",): "ROLE_REQUIRED",
        }.items():
            with declined() as refused:
                regions.as_there(*who).create("copy", **A_COPY)
            assert refused.reason == reason, who

    def test_a_peer_brings_images_of_its_own_region_only(self, regions: Regions):
        for home, region, reason in (
            ("another", HOME, "SOURCE_NOT_DECLARABLE"),
            (HOME, "another", "SOURCE_NOT_DECLARABLE"),
            (HOME, "", "SOURCE_NOT_DECLARABLE"),
            (ELSEWHERE, ELSEWHERE, "SAME_REGION"),
        ):
            peer = regions.as_there(A_PEER, "peer", region=home)
            source = {"image": {"image_id": "an-image", "region": region}}
            with declined() as refused:
                peer.create("copy", **(A_COPY | {"source": source}))
            assert refused.reason == reason, (home, region)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"type": "ISO", "disks": [{"format": "ISO"}]}, "ISO_NOT_COPYABLE"),
            ({"encryption_key_id": "key-1"}, "ENCRYPTED_IMAGE_NOT_COPYABLE"),
            ({"source": {"file": {}}}, "ROLE_REQUIRED"),
            ({"source": {"ecs": {"server_id": "s"}}}, "ROLE_REQUIRED"),
        ],
    )
    def test_it_brings_nothing_else(self, changes: dict, reason: str, regions: Regions):
        add_key(regions.other.settings.keys, KeyId("key-1"))

        with declined() as refused:
            regions.peer.create("copy", **(A_COPY | changes))

        assert refused.reason == reason

    def test_what_is_said_of_an_arrival_is_said_of_nothing_else(self, regions: Regions):
        with declined() as refused:
            regions.there.create("image", arrival={"vault_id": "large"})

        assert (refused.reason, refused.metadata["field"]) == ("INVALID_FIELD", "arrival")

    def test_it_sees_its_image_only_until_it_is_complete(self, regions: Regions):
        peer = regions.peer
        image = peer.create("copy", **A_COPY)
        assert peer.GetImage(image_id=image.id).image.state == image.QUEUED
        upload = peer.start_upload(image.id, CONTENT)
        peer.write_upload(upload, CONTENT)
        peer.FinishUpload(image_id=image.id, upload_id=upload.id)

        for rpc in ("GetImage", "DiscardImage"):
            with declined() as hidden:
                getattr(peer, rpc)(image_id=image.id)
            assert hidden.reason == "IMAGE_NOT_FOUND"

    def test_nobody_else_fills_it_nor_another_peer(self, regions: Regions):
        image = regions.peer.create("copy", **A_COPY)

        with declined() as refused:
            regions.there.upload(image.id, CONTENT)
        assert refused.reason == "ROLE_REQUIRED"
        with declined() as hidden:
            regions.as_there("ims.eu-west", "peer", region="eu-west").upload(image.id, CONTENT)
        assert hidden.reason == "ROLE_REQUIRED"
        with declined() as hidden:
            regions.as_there("ims.eu-west", "peer", region="eu-west").start_upload(image.id, CONTENT)
        assert hidden.reason == "IMAGE_NOT_FOUND"

    def test_it_may_do_nothing_else(self, regions: Regions):
        image = regions.there.active("image")
        peer = regions.peer
        for rpc in ("ListImages", "ListOperations", "GetQuotas", "ListTenants", "ListAuditEvents"):
            with declined() as refused:
                getattr(peer, rpc)()
            assert refused.reason == "ROLE_REQUIRED"
        for rpc in ("DownloadImageData", "ResolveImage", "DeleteImage", "ShareImage", "CopyImage"):
            with declined() as refused:
                getattr(peer, rpc)(image_id=image.id)
            assert refused.reason == "ROLE_REQUIRED"


class TestDiscarding:
    def test_it_leaves_nothing(self, regions: Regions):
        peer = regions.peer
        disks = [{"format": "RAW"}] * 3
        image = peer.create("copy", **(A_COPY | {"type": "FULL_ECS", "disks": disks}))
        done = peer.start_upload(image.id, CONTENT, disk_index=0)
        peer.write_upload(done, CONTENT)
        peer.FinishUpload(image_id=image.id, disk_index=0, upload_id=done.id)
        begun = peer.start_upload(image.id, OTHER, disk_index=1)
        peer.write_upload(begun, OTHER[:MIB])

        peer.DiscardImage(image_id=image.id, request_id="once")
        peer.DiscardImage(image_id=image.id, request_id="once")

        regions.nothing_is_there()
        with declined() as gone:
            regions.there.GetImage(image_id=image.id)
        assert gone.reason == "IMAGE_NOT_FOUND"

    def test_a_peer_discards_nothing_that_it_does_not_bring(self, regions: Regions):
        public = regions.there.active("public")
        regions.as_there("root", "admin").PublishImage(image_id=public.id)

        with declined() as refused:
            regions.peer.DiscardImage(image_id=public.id)
        assert (refused.code, refused.reason) == ("PERMISSION_DENIED", "NOT_IMAGE_OWNER")
        with declined() as refused:
            regions.there.DiscardImage(image_id=public.id)
        assert refused.reason == "ROLE_REQUIRED"

    def test_what_a_peer_does_not_go_on_with_is_discarded_by_itself(
        self, regions: Regions, clock: Clock
    ):
        image = regions.peer.create("copy", **A_COPY)
        upload = regions.peer.start_upload(image.id, CONTENT)
        regions.peer.write_upload(upload, CONTENT[:MIB])
        own = regions.there.create("own")
        service = regions.as_there("nova", "service").create(
            "server", source={"ecs": {"server_id": "s"}}, owner_tenant_id="other"
        )

        clock.advance(hours=24, seconds=1)
        swept = sweep(regions.other.deployment, "one")
        assert swept is not None
        assert (swept.dead_uploads, swept.discarded_arrivals) == (1, 0)
        clock.advance(hours=23)
        assert sweep(regions.other.deployment, "one").discarded_arrivals == 0
        clock.advance(hours=1, seconds=1)
        assert sweep(regions.other.deployment, "one").discarded_arrivals == 1

        assert [each.id for each in regions.there.ListImages().images] == [own.id]
        assert regions.as_there("other").GetImage(image_id=service.id).image.state == own.QUEUED
        assert not set(regions.other.deployment.blobs.keys())


class Spoilt:
    """A peer that fails as a test wants it to."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.before: dict[str, Callable[[], None]] = {}
        self.after: dict[str, Callable[[], None]] = {}

    def __getattr__(self, name: str):
        def called(*args, **kwargs):
            self.before.get(name, lambda: None)()
            answer = getattr(self._peer, name)(*args, **kwargs)
            self.after.get(name, lambda: None)()
            return answer

        return called


def spoilt(regions: Regions) -> Spoilt:
    peers = regions.home.deployment.peers
    peer = Spoilt(peers[ELSEWHERE])
    peers[ELSEWHERE] = peer  # type: ignore[index]
    return peer


def once(happens: Callable[[], object]) -> Callable[[], None]:
    """Return what happens the first time, and never again."""
    left = [happens]
    return lambda: None if not left else [left.pop()(), None][1]


class Killed(BaseException):
    """What ends a worker without a word."""


def killed() -> None:
    raise Killed


def away() -> None:
    raise reject(Category.UNAVAILABLE, Reason.PEER_UNREACHABLE, "Away.", region=ELSEWHERE)


class TestWhoeverTakesItUp:
    """A worker that dies at any step is followed by one that goes on."""

    @pytest.fixture
    def source(self, waiting: Regions) -> image_pb2.Image:
        cbr = waiting.as_here("cbr", "service")
        image = cbr.create("server", **TWO_DISKS)
        cbr.upload(image.id, CONTENT, 0)
        return cbr.upload(image.id, OTHER, 1).image

    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize(
        ("step", "time"),
        [
            ("create", 1),
            *[("start_upload", time) for time in (1, 2, 3, 4)],
            *[("write_upload", time) for time in (1, 2)],
            *[("finish_upload", time) for time in (1, 2)],
        ],
    )
    def test_at_every_step(
        self, step: str, time: int, when: str, waiting: Regions, source: image_pb2.Image, clock: Clock
    ):
        operation = waiting.copy(source.id)
        peer = spoilt(waiting)
        left = [killed, *[lambda: None] * (time - 1)]
        getattr(peer, when)[step] = lambda: left.pop()()  # noqa: PLW0108 - which is the next is known then

        with pytest.raises(Killed):
            do_next(waiting, "first")
        getattr(peer, when).clear()
        clock.advance(seconds=21)
        do_next(waiting, "second")

        copy = image_of(waiting.owner.ended(operation))
        assert copy.disks == source.disks
        assert [each.id for each in waiting.there.ListImages().images] == [copy.id]
        assert waiting.there.download(copy.id, disk_index=1) == OTHER

    def test_it_goes_on_where_the_bytes_are(
        self, waiting: Regions, monkeypatch: pytest.MonkeyPatch, clock: Clock
    ):
        source = waiting.owner.active("source", CONTENT)
        operation = waiting.copy(source.id)
        offsets = read_offsets(monkeypatch, stop_at=2)

        with pytest.raises(Killed):
            do_next(waiting, "first")
        clock.advance(seconds=21)
        do_next(waiting, "second")

        assert waiting.there.download(image_of(waiting.owner.ended(operation)).id) == CONTENT
        assert offsets[0] == 0
        assert MIB <= offsets[1] <= 2 * MIB

    def test_a_late_worker_takes_nothing_away_from_who_has_it(
        self, waiting: Regions, source: image_pb2.Image, clock: Clock
    ):
        operation = waiting.copy(source.id)
        peer = spoilt(waiting)
        late, second = Stopped(waiting, "late"), Stopped(waiting, "second")
        peer.before["finish_upload"] = late.stop
        late.begin()
        clock.advance(seconds=21)
        peer.before["finish_upload"] = second.stop
        second.begin()

        late.go_on(RuntimeError("a mistake, after which the copy is discarded"))
        second.go_on()

        copy = image_of(waiting.owner.ended(operation))
        assert waiting.there.download(copy.id, disk_index=0) == CONTENT


class Stopped:
    """A worker in a thread of its own that stops at a step, and goes on with it or fails."""

    def __init__(self, regions: Regions, holder: str) -> None:
        self._thread = threading.Thread(target=do_next, args=(regions, holder))
        self._reached, self._go_on = threading.Event(), threading.Event()
        self._trouble: Exception | None = None

    def stop(self) -> None:
        if threading.current_thread() is not self._thread or self._reached.is_set():
            return
        self._reached.set()
        assert self._go_on.wait(30)
        if self._trouble is not None:
            raise self._trouble

    def begin(self) -> None:
        self._thread.start()
        assert self._reached.wait(30)

    def go_on(self, trouble: Exception | None = None) -> None:
        self._trouble = trouble
        self._go_on.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


def read_offsets(monkeypatch: pytest.MonkeyPatch, *, stop_at: int) -> list[int]:
    """Return where downloads begin from now on; the first is killed at a chunk."""
    offsets: list[int] = []
    download = region_copying.download_image_data

    def noted(*args, offset_bytes: int = 0, **kwargs):
        offsets.append(offset_bytes)
        made = download(*args, offset_bytes=offset_bytes, **kwargs)
        if len(offsets) > 1:
            return made
        return type(made)(
            disk=made.disk,
            offset_bytes=made.offset_bytes,
            length_bytes=made.length_bytes,
            chunks=_killed_at(made.chunks, stop_at),
        )

    monkeypatch.setattr(region_copying, "download_image_data", noted)
    return offsets


def _killed_at(chunks: Iterator[bytes], stop_at: int) -> Iterator[bytes]:
    for number, chunk in enumerate(chunks):
        if number == stop_at:
            raise Killed
        yield chunk


class TestWhatEndsIt:
    @pytest.fixture
    def source(self, waiting: Regions) -> image_pb2.Image:
        return waiting.owner.active("source", CONTENT)

    @pytest.mark.parametrize("step", ["create", "start_upload", "write_upload"])
    @pytest.mark.parametrize(
        ("happens", "reason"),
        [
            ("deleted", "IMAGE_DELETED"),
            ("deactivated", "IMAGE_NOT_ACTIVE"),
            ("suspended", "TENANT_SUSPENDED"),
        ],
    )
    def test_a_source_that_may_not_be_read_any_more(
        self, happens: str, reason: str, step: str, waiting: Regions, source: image_pb2.Image
    ):
        operation = waiting.copy(source.id)
        root = waiting.as_here("root", "admin")
        happen = {
            "deleted": lambda: waiting.owner.DeleteImage(image_id=source.id),
            "deactivated": lambda: waiting.owner.DeactivateImage(image_id=source.id),
            "suspended": lambda: (
                root.RegisterTenant(tenant_id="owner", region=HOME),
                root.SuspendTenant(tenant_id="owner"),
            ),
        }
        spoilt(waiting).after[step] = once(happen[happens])

        do_next(waiting)

        if happens == "suspended":
            root.ResumeTenant(tenant_id="owner")
        assert error_of(waiting.owner.GetOperation(name=operation.name)).reason == reason
        waiting.nothing_is_there()

    @pytest.mark.parametrize("step", ["create", "start_upload", "write_upload"])
    def test_cancelled_it_leaves_nothing(self, step: str, waiting: Regions, source: image_pb2.Image):
        operation = waiting.copy(source.id)
        spoilt(waiting).after[step] = lambda: waiting.owner.CancelOperation(name=operation.name)

        do_next(waiting)

        ended = waiting.owner.GetOperation(name=operation.name)
        assert error_of(ended).reason == "OPERATION_CANCELLED"
        waiting.nothing_is_there()

    def test_it_has_not_ended_while_something_may_be_left(
        self, waiting: Regions, source: image_pb2.Image, clock: Clock
    ):
        operation = waiting.copy(source.id)
        peer = spoilt(waiting)
        peer.after["write_upload"] = lambda: waiting.owner.CancelOperation(name=operation.name)
        peer.before["discard"] = once(away)

        do_next(waiting)

        assert not waiting.owner.GetOperation(name=operation.name).done
        clock.advance(seconds=21)
        do_next(waiting)
        ended = waiting.owner.GetOperation(name=operation.name)
        assert error_of(ended).reason == "OPERATION_CANCELLED"
        waiting.nothing_is_there()

    def test_what_nobody_has_taken_up_is_cancelled_at_once(
        self, waiting: Regions, source: image_pb2.Image
    ):
        operation = waiting.copy(source.id)

        waiting.owner.CancelOperation(name=operation.name)

        assert waiting.owner.GetOperation(name=operation.name).done
        waiting.nothing_is_there()

    @pytest.mark.parametrize("died", [False, True], ids=["at once", "after a worker's death"])
    def test_once_it_is_settled_a_cancel_comes_too_late(
        self, died: bool, waiting: Regions, source: image_pb2.Image, clock: Clock
    ):
        operation = waiting.copy(source.id)
        peer = spoilt(waiting)

        def cancel() -> None:
            waiting.owner.CancelOperation(name=operation.name)
            if died:
                raise Killed

        peer.after["finish_upload"] = cancel
        if died:
            with pytest.raises(Killed):
                do_next(waiting, "first")
            peer.after.clear()
            clock.advance(seconds=21)
        do_next(waiting, "second")

        copy = image_of(waiting.owner.GetOperation(name=operation.name))
        assert waiting.there.download(copy.id) == CONTENT

    def test_the_image_is_removed_there_by_its_owner(self, waiting: Regions, source: image_pb2.Image):
        operation = waiting.copy(source.id)
        spoilt(waiting).after["create"] = lambda: waiting.there.DeleteImage(
            image_id=waiting.there.ListImages().images[0].id
        )

        do_next(waiting)

        error = error_of(waiting.owner.GetOperation(name=operation.name))
        assert error.reason in {"IMAGE_NOT_FOUND", "IMAGE_DELETED"}
        assert error.metadata["peerRegion"] == ELSEWHERE

    def test_damaged_bytes_are_told_as_such(
        self, waiting: Regions, source: image_pb2.Image, files_of: Callable[[Service], list[Path]]
    ):
        (file,) = files_of(waiting.home)
        file.chmod(0o600)
        file.write_bytes(CONTENT[:-1] + b"?")
        operation = waiting.copy(source.id)

        do_next(waiting)

        error = error_of(waiting.owner.GetOperation(name=operation.name))
        assert (error.code, error.reason) == ("DATA_LOSS", "DISK_DATA_DAMAGED")
        waiting.nothing_is_there()

    def test_bytes_that_are_others_over_there_do_not_succeed(
        self, waiting: Regions, source: image_pb2.Image, monkeypatch: pytest.MonkeyPatch
    ):
        operation = waiting.copy(source.id)
        peer = waiting.home.deployment.peers[ELSEWHERE]
        finish = type(peer).finish_upload

        def lies(self: Peer, upload: PeerUpload, **kwargs) -> PeerImage:
            made = finish(self, upload, **kwargs)
            disk = type(made.disk)(size_bytes=made.disk.size_bytes, sha256="0" * 64)
            return PeerImage(disk=disk, rendered=made.rendered)

        monkeypatch.setattr(type(peer), "finish_upload", lies)

        do_next(waiting)

        error = error_of(waiting.owner.GetOperation(name=operation.name))
        assert error.reason == "DISK_DATA_DAMAGED"


class TestPeersThatFail:
    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(region_copying, "PATIENCE_SECONDS", 0.0)

    def test_one_that_is_away_is_tried_again_and_cancelled_at_once(self, waiting: Regions, clock: Clock):
        operation = waiting.copy(waiting.owner.active("source").id)
        waiting.other.stop()

        do_next(waiting)

        assert not waiting.owner.GetOperation(name=operation.name).done
        assert not Executor(waiting.home.deployment, "one").do_next()
        clock.advance(seconds=3)
        do_next(waiting)
        waiting.owner.CancelOperation(name=operation.name)
        do_next(waiting)
        error = error_of(waiting.owner.GetOperation(name=operation.name))
        assert error.reason == "OPERATION_CANCELLED"

    def test_one_that_stays_away_fails_it_by_name(
        self, waiting: Regions, monkeypatch: pytest.MonkeyPatch, clock: Clock
    ):
        monkeypatch.setattr("ims.use_cases.executor.MOST_ATTEMPTS", 3)
        operation = waiting.copy(waiting.owner.active("source").id)
        waiting.other.stop()

        for _ in range(3):
            do_next(waiting)
            clock.advance(seconds=21)

        error = error_of(waiting.owner.GetOperation(name=operation.name))
        assert (error.code, error.reason) == ("UNAVAILABLE", "PEER_UNREACHABLE")
        assert error.metadata == {"region": ELSEWHERE}

    def test_one_that_does_not_know_this_service_refuses_by_name(
        self, make_service: MakeService, as_: As, tmp_path: Path
    ):
        token = tmp_path / "token"
        token.write_text("not-one")  # beside which the development identity knows nobody
        other = make_service(region=ELSEWHERE)
        peer = {"server": f"127.0.0.1:{other.port}", "token_file": token, "plaintext": True}
        home = make_service(operation_threads=0, peers={ELSEWHERE: peer})
        regions = Regions((home, other), as_)
        operation = regions.copy(regions.owner.active("source").id)

        do_next(regions)

        error = error_of(regions.owner.GetOperation(name=operation.name))
        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "PEER_REFUSED")
        assert error.metadata == {"region": ELSEWHERE, "peerReason": "UNAUTHENTICATED"}

    def test_one_that_is_no_peer_any_more(self, waiting: Regions):
        operation = waiting.copy(waiting.owner.active("source").id)
        waiting.home.deployment.peers.clear()  # type: ignore[attr-defined]

        do_next(waiting)

        error = error_of(waiting.owner.GetOperation(name=operation.name))
        assert error.reason == "REGION_WITHOUT_PEER"

    def test_one_that_has_no_room_for_transfers_is_tried_again(
        self, make_regions: MakeRegions, as_: As, clock: Clock
    ):
        regions = Regions(make_regions(here={"operation_threads": 0}, there={"max_transfers": 1}), as_)
        operation = regions.copy(regions.owner.active("source", CONTENT).id)
        taken = regions.there.start_upload(regions.there.create("own").id, OTHER)
        held = threading.Event()

        def messages() -> Iterator[object]:
            from calling import write_messages  # noqa: PLC0415 - only here

            all_of_them = iter(write_messages(taken, OTHER))
            yield next(all_of_them)
            yield next(all_of_them)
            held.wait(30)

        running = regions.there.begin("WriteUpload", messages())
        until_taken(regions, taken.image_id)
        do_next(regions)
        assert not regions.owner.GetOperation(name=operation.name).done
        held.set()
        running.result()
        clock.advance(seconds=21)
        do_next(regions)

        assert image_of(regions.owner.GetOperation(name=operation.name)).disks[0].size_bytes


def until_taken(regions: Regions, image_id: str) -> None:
    """Wait until the first bytes of an upload have been written."""
    waiting = threading.Event()
    for _ in range(300):
        if regions.there.GetUpload(image_id=image_id).upload.received_bytes:
            return
        waiting.wait(0.05)
    raise AssertionError("nothing has arrived")


def test_both_sides_have_it_on_record(regions: Regions):
    source = regions.owner.active("source", CONTENT)
    copy = regions.copied(source.id)

    here = regions.owner.ListAuditEvents(filter={"image_id": source.id}).events
    there = regions.there.ListAuditEvents(filter={"image_id": copy.id}).events

    begun, ended = [event for event in reversed(here) if event.action == "CopyImageToRegion"]
    assert begun.details["region"] == ended.details["region"] == ELSEWHERE
    assert ended.details["copyImageId"] == copy.id
    assert {event.actor.tenant_id for event in there} == {A_PEER}
    assert {event.actor.acting_for_tenant_id for event in there} == {"owner"}
    assert {event.action for event in there} >= {"CreateImage", "StartUpload", "FinishUpload"}


def test_the_kinds_of_operations_have_their_works():
    from ims.use_cases.works import WORKS  # noqa: PLC0415 - only here

    assert set(WORKS) == set(OperationKind)
    assert isinstance(WORKS[OperationKind.COPY_IMAGE_TO_REGION], RegionCopying)
