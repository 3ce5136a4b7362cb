"""Plays the main job against a server of its own: `make demo`.

A tenant registers a real disk file and shares it; another accepts, uses and loses it again; and
everything that the law of sharing forbids is tried and declined. Every step is a real call; one
that does not end as it must ends the play with an error.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from ims.client import Client, Declined, Disk, Image, Recipient, ResolveImageRequest, Source, sha256_of
from serving import Server

TINY_QCOW2 = Path(__file__).parents[1] / "data" / "tiny.qcow2"
LIMIT = 128


class Play:
    """Tells each step as it happens."""

    def __init__(self) -> None:
        self._number = 0

    def act(self, title: str) -> None:
        print(f"\n{title}")

    def step(self, text: str) -> None:
        self._number += 1
        print(f"  {self._number:2}. {text}")

    def must_be_declined(self, text: str, reason: str, call: Callable[[], object]) -> Declined:
        """Tell a step that the law forbids. Raises AssertionError unless that is why it is declined."""
        try:
            call()
        except Declined as declined:
            if declined.reason != reason:
                message = f"{text}: declined for {declined.reason}, not for {reason}"
                raise AssertionError(message) from declined
            self.step(f"{text}\n        {declined.code} {declined.reason}: {declined.message}")
            return declined
        message = f"{text}: it was not declined"
        raise AssertionError(message)

    def must_hold(self, text: str, *, holds: bool) -> None:
        """Tell a step that says how things are. Raises AssertionError when they are not."""
        if not holds:
            raise AssertionError(text)
        self.step(text)


def a_disk_file(folder: Path) -> Path:
    """Make a QCOW2 file with data in it; without qemu-img, take the small one of the tests."""
    qemu_img = shutil.which("qemu-img")
    if qemu_img is None:
        return TINY_QCOW2
    raw, qcow2 = folder / "disk.raw", folder / "disk.qcow2"
    with raw.open("wb") as file:
        file.write(bytes(range(256)) * 4096)
        file.truncate(64 * 1024**2)
    subprocess.run([qemu_img, "convert", "-f", "raw", "-O", "qcow2", raw, qcow2], check=True)
    return qcow2


def play(target: str, folder: Path) -> None:
    tale = Play()
    owner = Client(target, tenant="acme")
    globex, initech, stranger = (Client(target, tenant=name) for name in ("globex", "initech", "hooli"))
    service = Client(target, tenant="backup-service", roles=["service"])
    admin = Client(target, tenant="operations", roles=["admin"])
    source = a_disk_file(folder)

    tale.act("A tenant registers a disk file")
    image = owner.create_from_file(source, name="debian-12", os_type="LINUX")
    (disk,) = image.disks
    tale.must_hold(
        f"acme uploads {source.name}: {Image.State.Name(image.state)}, {Disk.Format.Name(disk.format)}, "
        f"{disk.size_bytes} bytes, for a disk of {disk.capacity_bytes} bytes",
        holds=image.state == Image.ACTIVE and disk.format == Disk.QCOW2,
    )
    tale.must_hold(
        f"its SHA-256 is the file's, {disk.sha256[:16]}…", holds=disk.sha256 == sha256_of(source)
    )

    tale.act("It is shared; one accepts, one rejects")
    never_existed = tale.must_be_declined(
        "globex asks for it and cannot tell that it exists",
        "IMAGE_NOT_FOUND",
        lambda: globex.get_image(image.id),
    )
    shared = owner.share_image(image.id, ["globex", "initech"])
    tale.must_hold(
        f"acme shares it with globex and initech ({shared.share_count} of {shared.share_limit})",
        holds=shared.share_count == 2,
    )
    tale.must_be_declined(
        "globex tries to download before it has accepted",
        "SHARE_NOT_ACCEPTED",
        lambda: globex.download(image.id, folder / "too-early"),
    )
    globex.accept_share(image.id)
    tale.step("globex accepts")
    initech.reject_share(image.id)
    tale.must_hold(
        "initech rejects; the image is not in its list", holds=not list(initech.list_images())
    )
    copy = folder / "copy.qcow2"
    globex.download(image.id, copy)
    tale.must_hold("globex downloads it; the digest is the same", holds=sha256_of(copy) == disk.sha256)
    answer = globex.resolve_image(image.id, ResolveImageRequest.CREATE_ECS, disk_gib=40)
    tale.must_hold(
        f"globex may create a server from it: etag {answer.etag}, {len(answer.disks)} disk to read",
        holds=answer.disks[0].disk.sha256 == disk.sha256,
    )

    tale.act("What the law of sharing forbids")
    owner.unshare_image(image.id, ["initech"])
    for first in (0, 64):
        owner.share_image(
            image.id, [f"tenant-{number}" for number in range(first, min(first + 64, LIMIT - 1))]
        )
    tale.must_be_declined(
        f"acme shares it with tenant {LIMIT + 1}",
        "SHARE_LIMIT_EXCEEDED",
        lambda: owner.share_image(image.id, ["one-more"]),
    )
    tale.must_be_declined(
        "acme shares it with a tenant of another region",
        "CROSS_REGION_SHARE",
        lambda: owner.share_image(image.id, [Recipient(tenant_id="far-away", region="eu-nl")]),
    )
    encrypted = owner.create_from_file(source, name="secret", encryption_key_id="demo")
    tale.must_be_declined(
        "acme shares an image that is encrypted at rest",
        "ENCRYPTED_IMAGE_NOT_SHAREABLE",
        lambda: owner.share_image(encrypted.id, ["globex"]),
    )
    whole_server = service.create_image(
        name="whole-server",
        type=Image.FULL_ECS,
        formats=[Disk.QCOW2, Disk.QCOW2],
        source=Source(csbs_backup=Source.CsbsBackup(backup_id="backup-1")),
        owner_tenant_id="acme",
    )
    for index in range(2):
        service.upload(whole_server.id, source, index)
    tale.must_be_declined(
        "acme shares a full-ECS image that was not created using CBR",
        "FULL_ECS_NOT_FROM_CBR",
        lambda: owner.share_image(whole_server.id, ["globex"]),
    )
    public = owner.create_from_file(source, name="for-everyone")
    admin.publish_image(public.id)
    tale.must_hold(
        "an administrator publishes an image; a stranger sees it",
        holds=[each.id for each in stranger.list_images()] == [public.id],
    )
    tale.must_be_declined(
        "acme shares the public image",
        "PUBLIC_IMAGE_NOT_SHAREABLE",
        lambda: owner.share_image(public.id, ["globex"]),
    )
    tale.must_be_declined(
        "globex shares on what it has received",
        "NOT_IMAGE_OWNER",
        lambda: globex.share_image(image.id, ["hooli"]),
    )
    hidden = tale.must_be_declined(
        "a stranger asks for the shared image", "IMAGE_NOT_FOUND", lambda: stranger.get_image(image.id)
    )
    tale.must_hold(
        "… and is told the same as of an image that never existed",
        holds=str(hidden) == str(never_existed) and hidden.metadata == never_existed.metadata,
    )

    tale.act("The owner stops sharing")
    owner.unshare_image(image.id, ["globex"])
    tale.step("acme stops sharing with globex, without asking or notifying it")
    tale.must_be_declined(
        "globex has lost it at once",
        "IMAGE_NOT_FOUND",
        lambda: globex.download(image.id, folder / "too-late"),
    )
    for client in (owner, globex, initech, stranger, service, admin):
        client.close()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ims-demo-") as name:
        folder = Path(name)
        key_file = folder / "keys.toml"
        ims = str(Path(sys.executable).parent / "ims")
        subprocess.run([ims, "key", "new", "demo", "--file", key_file], check=True)
        with Server(folder / "data", "--key-file", str(key_file)) as server:
            print(server.greeting, end="")
            play(server.target, folder)
    print("\nEverything ended as it must.")


if __name__ == "__main__":
    main()
