"""The main job: a tenant registers a disk file, another gets it shared, uses it, and loses it again."""

import hashlib

from calling import declined
from conftest import As
from disk_files.makers import TINY_QCOW2, TINY_QCOW2_CAPACITY


def test_a_disk_file_is_registered_shared_used_and_lost_again(as_: As):
    owner, recipient = as_("owner"), as_("recipient")
    content = TINY_QCOW2.read_bytes()

    image = owner.create("debian-12", disks=[{"format": "QCOW2"}])
    uploaded = owner.upload(image.id, content)
    assert uploaded.image.State.Name(uploaded.image.state) == "ACTIVE"
    assert uploaded.disk.capacity_bytes == TINY_QCOW2_CAPACITY
    assert uploaded.disk.sha256 == hashlib.sha256(content).hexdigest()
    assert uploaded.image.min_disk_gib == 1

    with declined() as unseen:
        recipient.GetImage(image_id=image.id)
    assert unseen.reason == "IMAGE_NOT_FOUND"

    shared = owner.ShareImage(image_id=image.id, recipients=[{"tenant_id": "recipient"}])
    assert [result.share.status for result in shared.results] == [1]
    with declined() as pending:
        recipient.download(image.id)
    assert (pending.code, pending.reason) == ("FAILED_PRECONDITION", "SHARE_NOT_ACCEPTED")

    recipient.AcceptShare(image_id=image.id)
    assert recipient.download(image.id) == content
    assert [each.id for each in recipient.ListImages().images] == [image.id]
    resolved = recipient.ResolveImage(image_id=image.id, purpose="CREATE_ECS", disk_gib=40)
    assert (
        recipient.call("DownloadImageData", resolved.disks[0].read_with)[0].start.disk == uploaded.disk
    )

    owner.UnshareImage(image_id=image.id, tenant_ids=["recipient"])
    with declined() as lost:
        recipient.GetImage(image_id=image.id)
    assert lost.status_bytes == unseen.status_bytes
    assert not recipient.ListImages().images
