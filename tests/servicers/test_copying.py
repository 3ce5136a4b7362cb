"""Copies within the region (law 6.1, 6.3), on a real server."""

import threading
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from calling import Declined, Tenant, declined, error_of, image_of, metadata_of
from conftest import As, Clock
from ims.bootstrap import Service
from ims.domain.image import BlobKey, ImageId, KeyId
from ims.providers.keys import add_key
from ims.use_cases.deployment import Deployment
from ims.use_cases.image_data import give_up_dead_uploads
from ims.use_cases.images import purge_image, purge_images
from ims.v1 import image_pb2

CONTENT = b"0123456789abcdef" * 65536 * 3  # three chunks
CBR = {"type": "FULL_ECS", "source": {"cbr_backup": {"backup_id": "b"}}, "owner_tenant_id": "owner"}


@pytest.fixture
def owner(service: Service, as_: As) -> Tenant:
    add_key(service.settings.keys, KeyId("key-2"))
    return as_("owner")


_STATES = ("stateFrom", "stateTo")


def blobs(deployment: Deployment) -> set[BlobKey]:
    return set(deployment.blobs.keys())


def references(deployment: Deployment) -> dict[BlobKey, int]:
    with deployment.database.reading() as reading:
        return reading.shared_blobs.batch(after="", size=1000)


def lend(owner: Tenant, recipient: Tenant, image_id: str) -> None:
    owner.ShareImage(image_id=image_id, recipients=[{"tenant_id": recipient.id}])
    recipient.AcceptShare(image_id=image_id)


def purge(deployment: Deployment, clock: Clock, owner: Tenant, image_id: str) -> None:
    owner.DeleteImage(image_id=image_id)
    clock.advance(days=8)
    assert purge_images(deployment) == 1


class TestWhatACopyIs:
    def test_it_is_the_callers_own_private_and_new(self, owner: Tenant, as_: As):
        source = owner.active(
            "source",
            CONTENT,
            description="as it was",
            tags={"team": "a"},
            protected=True,
            min_ram_mib=64,
        )
        recipient = as_("recipient")
        lend(owner, recipient, source.id)

        copy = recipient.copied(source.id, "mine")

        assert copy.id != source.id
        assert (copy.owner_tenant_id, copy.name, copy.state) == ("recipient", "mine", copy.ACTIVE)
        assert getattr(copy, "class") == copy.PRIVATE
        assert (copy.source.image.image_id, copy.source.image.region) == (source.id, "eu-de")
        assert (copy.description, copy.min_ram_mib, copy.min_disk_gib) == ("as it was", 64, 1)
        assert (dict(copy.tags), copy.protected) == ({}, False)
        assert copy.disks == source.disks
        assert recipient.GetImage(image_id=copy.id).image == copy
        assert recipient.download(copy.id) == CONTENT

    def test_its_description_can_be_said_and_be_none(self, owner: Tenant):
        source = owner.active("source", description="as it was")

        assert owner.copied(source.id, "one", description="new").description == "new"
        assert owner.copied(source.id, "two", description="").description == ""

    def test_a_public_image_is_copied_by_anybody(self, owner: Tenant, as_: As):
        source = owner.active("source", CONTENT)
        as_("root", "admin").PublishImage(image_id=source.id)

        copy = as_("stranger").copied(source.id, "mine")

        assert getattr(copy, "class") == copy.PRIVATE
        assert as_("stranger").download(copy.id) == CONTENT

    def test_it_is_changed_shared_and_deleted_like_any_other(self, owner: Tenant, as_: As):
        copy = owner.copied(owner.active("source", CONTENT).id, "copy")
        recipient = as_("recipient")
        lend(owner, recipient, copy.id)

        again = recipient.copied(copy.id, "copy of a copy")

        assert again.source.image.image_id == copy.id
        assert recipient.download(again.id) == CONTENT
        assert owner.DeleteImage(image_id=copy.id).ended_share_count == 1

    def test_a_repeated_call_gets_the_same_operation(self, owner: Tenant):
        source = owner.active("source")
        first = owner.CopyImage(image_id=source.id, name="copy", request_id="once")
        again = owner.CopyImage(image_id=source.id, name="copy", request_id="once")

        assert again == first
        assert len(owner.ListImages().images) == 2

    def test_what_is_only_validated_leaves_nothing(self, owner: Tenant, deployment: Deployment):
        source = owner.active("source")

        judged = owner.CopyImage(image_id=source.id, name="copy", decrypt=True, validate_only=True)

        assert (judged.name, judged.done, image_of(judged).id) == ("", True, "")
        assert len(owner.ListImages().images) == 1
        assert not owner.ListOperations().operations
        assert not references(deployment)


class TestBytesThatStay:
    """The copy takes a moment and no space."""

    def test_they_are_stored_once(self, owner: Tenant, deployment: Deployment):
        source = owner.active("source", CONTENT)
        (blob_key,) = blobs(deployment)

        operation = owner.CopyImage(image_id=source.id, name="copy")

        assert operation.done
        assert metadata_of(operation).total_bytes == 0
        assert blobs(deployment) == {blob_key}
        assert references(deployment) == {blob_key: 2}
        owner.copied(source.id, "another")
        assert references(deployment) == {blob_key: 3}

    def test_the_copy_outlives_unsharing_deletion_and_purge_of_its_source(
        self, owner: Tenant, as_: As, deployment: Deployment, clock: Clock
    ):
        source = owner.active("source", CONTENT)
        recipient = as_("recipient")
        lend(owner, recipient, source.id)
        copy = recipient.copied(source.id, "mine")

        owner.UnshareImage(image_id=source.id, all_tenants=True)
        assert recipient.download(copy.id) == CONTENT
        purge(deployment, clock, owner, source.id)
        assert recipient.download(copy.id) == CONTENT
        assert not references(deployment)

        purge(deployment, clock, recipient, copy.id)
        assert not blobs(deployment)

    def test_the_source_outlives_its_copy(self, owner: Tenant, deployment: Deployment, clock: Clock):
        source = owner.active("source", CONTENT)
        copy = owner.copied(source.id, "copy")

        purge(deployment, clock, owner, copy.id)

        assert owner.download(source.id) == CONTENT
        assert not references(deployment)

    def test_its_bytes_count_for_its_owner(self, owner: Tenant, as_: As):
        source = owner.active("source", CONTENT)
        recipient = as_("recipient")
        lend(owner, recipient, source.id)
        recipient.copied(source.id, "mine")

        quotas = recipient.GetQuotas().quotas

        assert (quotas.private_images.used, quotas.stored_bytes.used) == (1, len(CONTENT))
        assert (quotas.copies.used, quotas.copies.limit, quotas.creations.used) == (0, 5, 0)

    def test_an_encrypted_image_keeps_its_key(self, owner: Tenant, deployment: Deployment):
        source = owner.active("source", CONTENT, encryption_key_id="key-1")

        copy = owner.copied(source.id, "copy")

        assert copy.encryption_key_id == "key-1"
        assert len(blobs(deployment)) == 1
        assert owner.download(copy.id) == CONTENT

    def test_another_key_wraps_the_data_key_anew(
        self, owner: Tenant, deployment: Deployment, service: Service
    ):
        source = owner.active("source", CONTENT, encryption_key_id="key-1")

        copy = owner.CopyImage(image_id=source.id, name="copy", encryption_key_id="key-2")

        assert copy.done
        assert len(blobs(deployment)) == 1
        disable(service, "key-1")
        assert owner.download(image_of(copy).id) == CONTENT
        with declined() as lost:
            owner.download(source.id)
        assert lost.reason == "KEY_UNAVAILABLE"


def disable(service: Service, key_id: str) -> None:
    keys = service.settings.keys
    keys.write_text(keys.read_text().replace(f"[keys.{key_id}]", f"[keys.{key_id}]\ndisabled = true"))


class TestBytesThatChange:
    """They are copied by an operation."""

    def test_an_image_is_encrypted_and_decrypted_again(self, owner: Tenant, deployment: Deployment):
        source = owner.active("source", CONTENT)
        operation = owner.copy(source.id, "sealed", encryption_key_id="key-1")
        sealed = image_of(operation)
        plain = owner.copied(sealed.id, "plain", decrypt=True)

        assert (sealed.encryption_key_id, plain.encryption_key_id) == ("key-1", "")
        assert sealed.disks == source.disks == plain.disks
        assert owner.download(sealed.id) == CONTENT == owner.download(plain.id)
        assert len(blobs(deployment)) == 3
        assert not references(deployment)
        metadata = metadata_of(operation)
        assert metadata.state == metadata.SUCCEEDED
        assert metadata.done_bytes == metadata.total_bytes == len(CONTENT)
        assert (metadata.image_id, metadata.source_image_id) == (sealed.id, source.id)

    def test_the_image_is_there_from_the_beginning_and_nobody_fills_or_deletes_it(
        self, idle: Service, as_: As
    ):
        owner = as_("owner", of=idle)
        operation = owner.CopyImage(
            image_id=owner.active("source").id, name="copy", encryption_key_id="key-1"
        )
        copy_id = metadata_of(operation).image_id

        copy = owner.GetImage(image_id=copy_id).image
        assert copy.state == copy.SAVING
        assert owner.GetQuotas().quotas.copies.used == 1
        assert owner.GetQuotas().quotas.creations.used == 0
        for refused in (
            lambda: owner.upload(copy_id, b"other bytes"),
            lambda: owner.StartUpload(image_id=copy_id, size_bytes=5, sha256="0" * 64),
            lambda: owner.DeleteImage(image_id=copy_id),
        ):
            with declined() as busy:
                refused()
            assert busy.reason == "IMAGE_BUSY"
        # The operation's id is known, and is no upload's.
        with declined() as unknown:
            owner.AbortUpload(image_id=copy_id, upload_id=operation.name.partition("/")[2])
        assert unknown.reason == "UPLOAD_NOT_FOUND"
        with declined() as taken:
            owner.create("copy")
        assert taken.reason == "IMAGE_NAME_TAKEN"

    @pytest.mark.parametrize(
        ("happens", "reason"),
        [
            ("unshared", "IMAGE_NOT_FOUND"),
            ("rejected", "SHARE_NOT_ACCEPTED"),
            ("deactivated", "IMAGE_NOT_ACTIVE"),
            ("suspended", "TENANT_SUSPENDED"),
            ("disabled", "KEY_UNAVAILABLE"),
        ],
    )
    def test_what_ends_the_access_to_the_source_ends_the_copying(
        self, idle: Service, as_: As, happens: str, reason: str
    ):
        owner, recipient = as_("owner", of=idle), as_("recipient", of=idle)
        source = owner.active("source", CONTENT)
        lend(owner, recipient, source.id)
        operation = recipient.CopyImage(image_id=source.id, name="mine", encryption_key_id="key-1")
        admin = as_("root", "admin", of=idle)
        admin.RegisterTenant(tenant_id="recipient", region="eu-de")
        {
            "unshared": lambda: owner.UnshareImage(image_id=source.id, all_tenants=True),
            "rejected": lambda: recipient.RejectShare(image_id=source.id),
            "deactivated": lambda: owner.DeactivateImage(image_id=source.id),
            "suspended": lambda: admin.SuspendTenant(tenant_id="recipient"),
            "disabled": lambda: disable(idle, "key-1"),
        }[happens]()

        assert idle._executor.do_next()

        if happens == "suspended":
            admin.ResumeTenant(tenant_id="recipient")
        failed = error_of(recipient.GetOperation(name=operation.name))
        assert failed.reason == reason
        nothing_is_left_of(operation, recipient, idle.deployment, blobs_before=1)

    def test_what_becomes_of_a_copy_is_on_record_for_its_owner_alone(self, idle: Service, as_: As):
        owner, recipient = as_("owner", of=idle), as_("recipient", of=idle)
        source = owner.active("source", CONTENT)
        lend(owner, recipient, source.id)
        events = {}
        for name, cancelled in (("good", False), ("ill", True)):
            operation = recipient.CopyImage(image_id=source.id, name=name, encryption_key_id="key-1")
            if cancelled:
                recipient.CancelOperation(name=operation.name)
            assert idle._executor.do_next() is not cancelled
            about = {"image_id": metadata_of(operation).image_id}
            events[name] = [
                (event.action, event.actor.Kind.Name(event.actor.kind), *map(event.details.get, _STATES))
                for event in recipient.ListAuditEvents(filter=about, order_by="time").events
            ]
            assert not owner.ListAuditEvents(filter=about).events

        assert events == {
            "good": [
                ("CopyImage", "TENANT", None, "SAVING"),
                ("CopyImage", "TENANT", "SAVING", "ACTIVE"),
            ],
            "ill": [
                ("CopyImage", "TENANT", None, "SAVING"),
                ("AbandonCopy", "TENANT", "SAVING", None),
            ],
        }

    def test_bytes_that_are_not_what_was_stored_are_not_copied(self, idle: Service, as_: As, files_of):
        owner = as_("owner", of=idle)
        source = owner.active("source", CONTENT)
        operation = owner.CopyImage(image_id=source.id, name="copy", encryption_key_id="key-1")
        (file,) = files_of(idle)
        file.chmod(0o600)
        file.write_bytes(b"x" + CONTENT[1:])

        assert idle._executor.do_next()

        failed = error_of(owner.GetOperation(name=operation.name))
        assert (failed.code, failed.reason) == ("DATA_LOSS", "DISK_DATA_DAMAGED")
        nothing_is_left_of(operation, owner, idle.deployment, blobs_before=1)


def nothing_is_left_of(operation, owner: Tenant, deployment: Deployment, *, blobs_before: int) -> None:
    """See that of a copy there is no image, no byte, nothing pending and nothing taken of a quota."""
    with declined() as gone:
        owner.GetImage(image_id=metadata_of(operation).image_id)
    assert gone.reason == "IMAGE_NOT_FOUND"
    assert len(blobs(deployment)) == blobs_before
    quotas = owner.GetQuotas().quotas
    assert quotas.copies.used == 0
    images = owner.ListImages(relation=image_pb2.Relation.OWNED).images
    assert quotas.private_images.used == len(images)
    assert quotas.stored_bytes.used == sum(image.size_bytes for image in images)
    with deployment.database.reading() as reading:
        assert not reading.pending_blobs.abandoned(now=deployment.now() + timedelta(days=1))


class TestWhatIsRefused:
    def refusal(self, caller: Tenant, image_id: str, **fields: object) -> Declined:
        with declined() as refused:
            caller.CopyImage(**{"image_id": image_id, "name": "copy", **fields})
        return refused

    def test_a_full_ecs_image(self, owner: Tenant, as_: As):
        image = as_("cbr", "service").active("server", **CBR)

        refused = self.refusal(owner, image.id)

        assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "FULL_ECS_NOT_COPYABLE")

    def test_the_key_that_it_has(self, owner: Tenant):
        image = owner.active("sealed", encryption_key_id="key-1")

        refused = self.refusal(owner, image.id, encryption_key_id="key-1")

        assert (refused.reason, refused.metadata) == ("SAME_KEY", {"keyId": "key-1"})

    @pytest.mark.parametrize("key", ["unknown", "not-a-tenants"])
    def test_a_key_that_the_caller_cannot_use(self, owner: Tenant, service: Service, key: str):
        add_key(service.settings.keys, KeyId("not-a-tenants"), tenant="other")
        plain, sealed = owner.active("plain"), owner.active("sealed", encryption_key_id="key-1")

        for image in (plain, sealed):
            assert self.refusal(owner, image.id, encryption_key_id=key).reason == "KEY_UNAVAILABLE"

    def test_an_image_for_bare_metal_to_be_encrypted(self, owner: Tenant):
        image = owner.active("metal", for_bms=True)

        refused = self.refusal(owner, image.id, encryption_key_id="key-1")

        assert refused.reason == "IMAGE_NOT_ENCRYPTABLE"
        assert owner.copied(image.id, "copy").for_bms

    def test_without_acceptance(self, owner: Tenant, as_: As):
        image = owner.active("source")
        owner.ShareImage(image_id=image.id, recipients=[{"tenant_id": "recipient"}])

        assert self.refusal(as_("recipient"), image.id).reason == "SHARE_NOT_ACCEPTED"
        assert self.refusal(as_("stranger"), image.id).reason == "IMAGE_NOT_FOUND"

    def test_not_active(self, owner: Tenant):
        assert self.refusal(owner, owner.create("queued").id).reason == "IMAGE_NOT_ACTIVE"

    @pytest.mark.parametrize("name", ["", "source", " x", "__x"])
    def test_a_name_that_is_none_or_taken(self, owner: Tenant, name: str):
        image = owner.active("source")

        reasons = {"": "INVALID_FIELD", "source": "IMAGE_NAME_TAKEN", " x": "INVALID_NAME"}
        assert self.refusal(owner, image.id, name=name).reason == reasons.get(name, "RESERVED_NAME")

    def test_not_to_decrypt_is_nothing_to_ask_for(self, owner: Tenant):
        refused = self.refusal(owner, owner.active("source").id, decrypt=False)

        assert refused.metadata["field"] == "decrypt"

    def test_the_sixth_copy_at_once_and_none_whose_bytes_stay(self, idle: Service, as_: As):
        owner = as_("owner", of=idle)
        image = owner.active("source")
        for number in range(5):
            owner.CopyImage(image_id=image.id, name=f"copy-{number}", encryption_key_id="key-1")

        refused = self.refusal(owner, image.id, encryption_key_id="key-1")

        assert (refused.code, refused.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_COPIES")
        assert refused.metadata == {"limit": "5", "used": "5", "asked": "1"}
        assert owner.copied(image.id, "copy")
        assert idle._executor.do_next()
        owner.CopyImage(image_id=image.id, name="sixth", encryption_key_id="key-1")

    def test_the_limit_of_copies_is_overridden_for_a_tenant(self, idle: Service, as_: As):
        owner = as_("owner", of=idle)
        image = owner.active("source")
        as_("root", "admin", of=idle).SetTenantQuotas(
            tenant_id="owner", limits={"copies": 0}, update_mask={"paths": ["copies"]}
        )

        refused = self.refusal(owner, image.id, encryption_key_id="key-1")

        assert refused.reason == "TOO_MANY_COPIES"
        assert owner.GetQuotas().quotas.copies.overridden

    def test_one_image_or_byte_too_many(self, owner: Tenant, as_: As):
        image = owner.active("source", CONTENT)
        admin = as_("root", "admin")
        for quota, limit, reason in (
            # What is deleted below gives its place back, and its bytes only when it is purged.
            ("stored_bytes", 2 * len(CONTENT) - 1, "STORAGE_QUOTA_EXCEEDED"),
            ("private_images", 1, "IMAGE_QUOTA_EXCEEDED"),
        ):
            admin.SetTenantQuotas(
                tenant_id="owner", limits={quota: limit}, update_mask={"paths": [quota]}
            )
            assert self.refusal(owner, image.id).reason == reason
            admin.SetTenantQuotas(
                tenant_id="owner", limits={quota: limit + 1}, update_mask={"paths": [quota]}
            )
            copy = owner.copied(image.id, f"copy within {quota}")
            owner.DeleteImage(image_id=copy.id)
            admin.SetTenantQuotas(tenant_id="owner", limits={}, update_mask={"paths": [quota]})


def test_8_threads_that_copy_and_purge_at_once_leave_exact_references(
    service: Service, owner: Tenant, deployment: Deployment
):
    """Each copies what the one before has made, and purges most of it: the counts stay exact."""
    source = owner.active("source", CONTENT)
    (blob_key,) = blobs(deployment)
    pool = [source.id]
    lock = threading.Lock()
    troubles: list[BaseException] = []

    def play(number: int) -> None:
        caller = Tenant(f"127.0.0.1:{service.port}", "owner")
        try:
            for turn in range(6):
                with lock:
                    image_id = pool[(number * 7 + turn) % len(pool)]
                try:
                    copy = caller.copied(image_id, f"copy-{number}-{turn}")
                except Exception:  # noqa: BLE001 - deleted meanwhile by another
                    continue
                with lock:
                    pool.append(copy.id)
                    victim = pool.pop(0) if turn % 3 else None
                if victim is not None:
                    _purge_now(deployment, caller, victim)
        except BaseException as trouble:  # noqa: BLE001
            troubles.append(trouble)
        finally:
            caller.close()

    threads = [threading.Thread(target=play, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not troubles
    left = [image.id for image in owner.ListImages(page_size=1000).images]
    assert len(left) > 2
    assert references(deployment) == {blob_key: len(left)}
    for image_id in left:
        assert owner.download(image_id) == CONTENT
    for image_id in left:
        _purge_now(deployment, owner, image_id)
    give_up_dead_uploads(deployment)
    assert not blobs(deployment)
    assert not references(deployment)


def _purge_now(deployment: Deployment, caller: Tenant, image_id: str) -> None:
    """Delete an image and purge it as if its grace period had ended."""
    caller.DeleteImage(image_id=image_id)

    def later() -> datetime:
        return deployment.now() + timedelta(days=8)

    purge_image(replace(deployment, now=later), ImageId(image_id))
