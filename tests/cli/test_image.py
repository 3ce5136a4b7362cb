"""`ims image …`."""

import hashlib
import os
from pathlib import Path

import pytest

from cli.conftest import Ims
from disk_files.makers import TINY_QCOW2
from ims.client import Client, Disk, Image, sha256_of
from serving import Server


class TestCreate:
    def test_everything_that_is_said_arrives(self, ims: Ims, owner):
        created = ims(
            *("image", "create", "--name", "debian", "--type", "system-disk", "--format", "qcow2"),
            *("--description", "A small one.", "--os-type", "linux", "--os-platform", "Debian"),
            *("--os-version", "12", "--os-bits", "64", "--architecture", "aarch64"),
            *("--firmware", "UEFI", "--min-disk", "10", "--min-ram", "512", "--max-ram", "1024"),
            *("--tag", "stage=test", "--tag", "empty=", "--protected", "--for-bms"),
            tenant=owner,
            json=True,
        )

        assert created.code == 0, created
        image = created.json["image"]
        assert (image["name"], image["type"], image["state"]) == ("debian", "SYSTEM_DISK", "QUEUED")
        assert [disk["format"] for disk in image["disks"]] == ["QCOW2"]
        assert image["os"] == {"type": "LINUX", "platform": "Debian", "version": "12", "bits": 64}
        assert (image["architecture"], image["firmware"]) == ("AARCH64", "UEFI")
        assert (image["min_disk_gib"], image["min_ram_mib"], image["max_ram_mib"]) == (
            "10",
            "512",
            "1024",
        )
        assert image["tags"] == {"stage": "test", "empty": ""}
        assert (image["protected"], image["for_bms"]) == (True, True)

    @pytest.mark.parametrize(
        ("image_type", "options", "source"),
        [
            (
                "full-ecs",
                ["--from-ecs", "s", "--backup-service", "CBR"],
                {"ecs": {"server_id": "s", "backup_service": "CBR"}},
            ),
            ("system-disk", ["--from-bms", "s"], {"bms": {"server_id": "s"}}),
            ("data-disk", ["--from-volume", "v"], {"volume": {"volume_id": "v"}}),
            (
                "full-ecs",
                ["--from-cbr-backup", "b-1", "--received-by-sharing"],
                {"cbr_backup": {"backup_id": "b-1", "received_by_sharing": True}},
            ),
            ("full-ecs", ["--from-csbs-backup", "b-2"], {"csbs_backup": {"backup_id": "b-2"}}),
        ],
    )
    def test_a_service_says_where_it_comes_from_and_whose_it_is(
        self, ims: Ims, owner, image_type, options, source
    ):
        created = ims(
            *("image", "create", "--name", "made", "--type", image_type, "--format", "raw"),
            *(*options, "--owner", owner),
            tenant="nova",
            roles="service",
            json=True,
        )

        assert created.code == 0, created
        assert created.json["image"]["source"] == source
        assert created.json["image"]["owner_tenant_id"] == owner

    def test_a_full_ecs_image_has_a_format_for_each_disk(self, ims: Ims, owner):
        created = ims(
            *("image", "create", "--name", "server", "--type", "full_ecs"),
            *("--format", "qcow2", "--format", "raw", "--format", "raw"),
            *("--from-ecs", "s", "--backup-service", "cbr"),
            tenant=owner,
            roles="service",
            json=True,
        )

        roles = [(disk["format"], disk["role"]) for disk in created.json["image"]["disks"]]
        assert roles == [("QCOW2", "SYSTEM"), ("RAW", "DATA"), ("RAW", "DATA")]

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            (["--from-ecs", "s", "--from-volume", "v"], "An image comes from one thing."),
            (["--backup-service", "cbr"], "It goes with --from-ecs."),
            (["--received-by-sharing"], "It goes with --from-cbr-backup."),
            (["--tag", "no-value"], "'no-value' is not KEY=VALUE."),
            (["--type", "floppy"], "'floppy' is not one of system-disk|data-disk|full-ecs|iso."),
            (["--min-disk", "ten"], "Input should be a valid integer"),
        ],
    )
    def test_what_makes_no_sense_is_wrong_usage(self, ims: Ims, owner, options, complaint):
        ended = ims("image", "create", "--name", "x", "--format", "raw", *options, tenant=owner)

        assert ended.code == 2
        assert complaint in ended.usage_error

    def test_validation_stores_nothing(self, ims: Ims, owner):
        create = ("image", "create", "--name", "x", "--format", "raw", "--validate-only")

        assert "nothing was stored" in ims(*create, tenant=owner).stdout
        assert ims("image", "list", tenant=owner, json=True).json["images"] == []

    def test_people_are_told_what_to_do_next(self, ims: Ims, owner):
        created = ims("image", "create", "--name", "debian", "--format", "raw", tenant=owner)

        assert created.stdout.startswith("Created debian (")
        assert "waits for its disk" in created.stdout


class TestUpload:
    def test_a_file_becomes_an_image(self, ims: Ims, owner):
        uploaded = ims(
            *("image", "upload", TINY_QCOW2, "--name", "tiny", "--type", "data-disk", "--tag", "a=b"),
            tenant=owner,
            json=True,
        )

        assert uploaded.code == 0, uploaded
        image, disk = uploaded.json["image"], uploaded.json["disk"]
        assert (image["state"], image["type"], image["tags"]) == ("ACTIVE", "DATA_DISK", {"a": "b"})
        assert (disk["format"], disk["size_bytes"]) == ("QCOW2", str(TINY_QCOW2.stat().st_size))
        assert disk["sha256"] == hashlib.sha256(TINY_QCOW2.read_bytes()).hexdigest()

    def test_the_disks_of_an_image_are_filled_one_by_one(self, ims: Ims, owner):
        service = {"tenant": owner, "roles": "service,member"}
        ims(
            *("image", "create", "--name", "server", "--type", "full-ecs"),
            *("--format", "qcow2", "--format", "qcow2", "--from-ecs", "s", "--backup-service", "cbr"),
            **service,
        )

        first = ims("image", "upload", TINY_QCOW2, "--image", "server", "--disk", "1", **service)
        second = ims("image", "upload", TINY_QCOW2, "--image", "server", **service)

        assert "The image is QUEUED; 1 of its disks are missing." in first.stdout
        assert "The image is ACTIVE." in second.stdout

    def test_a_service_fills_the_disks_of_another_tenants_image(self, ims: Ims, owner):
        service = {"tenant": "nova", "roles": "service"}
        image = ims(
            *("image", "create", "--name", "volume", "--type", "data-disk", "--format", "qcow2"),
            *("--from-volume", "v", "--owner", owner),
            **service,
            json=True,
        ).json["image"]

        uploaded = ims("image", "upload", TINY_QCOW2, "--image", image["id"], **service)

        assert uploaded.code == 0, uploaded
        assert ims("image", "list", tenant=owner, json=True).json["images"][0]["state"] == "ACTIVE"

    def test_a_refused_file_leaves_no_image_unless_told(self, ims: Ims, owner, tmp_path):
        path = tmp_path / "text.qcow2"
        path.write_text("not a disk at all")

        refused = ims("image", "upload", path, "--name", "bad", tenant=owner)
        assert refused.code == 1
        assert "FORMAT_MISMATCH" in refused.stderr
        assert "--format RAW" in refused.stderr
        assert ims("image", "list", tenant=owner).stdout == "No images.\n"

        ims("image", "upload", path, "--name", "bad", "--keep", tenant=owner)
        assert "QUEUED" in ims("image", "list", tenant=owner).stdout

    def test_a_record_that_stays_behind_is_named(self, ims: Ims, owner, tmp_path):
        path = tmp_path / "text.qcow2"
        path.write_text("not a disk at all")
        upload = ("image", "upload", path, "--name", "bad", "--protected")

        refused = ims(*upload, tenant=owner)

        image = ims("image", "list", tenant=owner, json=True).json["images"][0]
        assert "FORMAT_MISMATCH" in refused.stderr
        assert f"The record of the image is still there, as {image['id']}" in refused.stderr

    @pytest.mark.parametrize(
        "options",
        [
            [],
            ["--name", "x", "--image", "y"],
            ["--name", "x", "--disk", "1"],
            ["--image", "y", "--tag", "a=b"],
            ["--image", "y", "--format", "raw"],
            ["--image", "y", "--type", "iso"],
            ["--image", "y", "--keep"],
        ],
    )
    def test_either_a_new_image_or_a_disk_of_one(self, ims: Ims, owner, options):
        assert ims("image", "upload", TINY_QCOW2, *options, tenant=owner).code == 2


class TestShowing:
    def test_people_get_a_table(self, ims: Ims, owner, tiny):
        title, rule, line = ims("image", "list", tenant=owner).stdout.splitlines()

        assert title.split()[:5] == ["ID", "NAME", "TYPE", "STATE", "CLASS"]
        assert set(rule) == {"─"}
        assert line.split()[:5] == [tiny, "tiny", "SYSTEM_DISK", "ACTIVE", "PRIVATE"]
        assert owner in line

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            (["--name", "tiny"], ["tiny"]),
            (["--name-prefix", "ti"], ["tiny"]),
            (["--name", "other"], []),
            (["--state", "active"], ["tiny"]),
            (["--state", "QUEUED"], []),
            (["--type", "iso"], []),
            (["--class", "private"], ["tiny"]),
            (["--relation", "shared-with-me"], []),
            (["--os-type", "windows"], []),
            (["--tag", "a=b"], []),
            (["--any-tag", "a", "--any-tag", "c=d"], []),
            (["--no-tag", "a", "--no-tag", "c=d"], ["tiny"]),
            (["--min-size", "1"], ["tiny"]),
            (["--max-size", "1"], []),
            (["--created-from", "2026-01-01"], ["tiny"]),
            (["--created-before", "2026-01-01T00:00+01:00"], []),
            (["--updated-from", "2126-01-01"], []),
            (["--updated-before", "2126-01-01"], ["tiny"]),
            (["--order-by", "size_bytes desc"], ["tiny"]),
        ],
    )
    def test_a_list_is_filtered(self, ims: Ims, owner, tiny, filters, expected):
        listed = ims("image", "list", *filters, tenant=owner, json=True)

        assert [image["name"] for image in listed.json["images"]] == expected

    def test_a_sheet_shows_everything(self, ims: Ims, owner, tiny):
        sheet = ims("image", "show", tiny, tenant=owner).stdout

        for text in (tiny, "tiny", "ACTIVE", "eu-de", "tiny.qcow2", "QCOW2", "8.0 MiB", "own it"):
            assert text in sheet

    def test_what_a_terminal_would_obey_is_not_printed(self, ims: Ims, owner, recipient, tiny):
        ims("image", "update", tiny, "--description", "\x1b[2J\x9b31mred", tenant=owner)
        ims("share", "add", tiny, recipient, tenant=owner)

        shown = ims("image", "show", tiny, tenant=recipient)
        document = ims("image", "show", tiny, tenant=recipient, json=True)

        assert "red" in shown.stdout
        assert not {"\x1b", "\x9b"} & set(shown.stdout)
        assert not {"\x1b", "\x9b"} & set(document.stdout)
        assert document.json["image"]["description"] == "\x1b[2J\x9b31mred"

    def test_square_brackets_are_text(self, ims: Ims, owner, tiny):
        ims("image", "update", tiny, "--description", "[red]not markup[/red]", tenant=owner)

        assert "[red]not markup[/red]" in ims("image", "show", tiny, tenant=owner).stdout


class TestUpdate:
    def test_what_is_not_named_stays(self, ims: Ims, owner, tiny):
        ims("image", "update", "tiny", "--tag", "a=b", "--os-platform", "Debian", tenant=owner)

        changed = ims(
            *("image", "update", "tiny", "--name", "renamed", "--os-version", "12", "--no-tags"),
            tenant=owner,
            json=True,
        ).json["image"]

        assert (changed["name"], changed["tags"]) == ("renamed", {})
        assert (changed["os"]["platform"], changed["os"]["version"]) == ("Debian", "12")

    def test_protection_is_put_on_and_taken_off(self, ims: Ims, owner, tiny):
        ims("image", "update", "tiny", "--protected", tenant=owner)
        refused = ims("image", "delete", "tiny", tenant=owner)
        ims("image", "update", "tiny", "--unprotected", tenant=owner)

        assert refused.code == 1
        assert "--unprotected" in refused.stderr
        assert ims("image", "delete", "tiny", tenant=owner).code == 0

    def test_an_old_etag_is_declined(self, ims: Ims, owner, tiny):
        ended = ims("image", "update", tiny, "--name", "x", "--etag", '"0"', tenant=owner)

        assert ended.code == 1
        assert "ETAG_MISMATCH" in ended.stderr

    @pytest.mark.parametrize("options", [[], ["--no-tags", "--tag", "a=b"]])
    def test_what_makes_no_sense_is_wrong_usage(self, ims: Ims, owner, tiny, options):
        assert ims("image", "update", tiny, *options, tenant=owner).code == 2


class TestLife:
    def test_a_deleted_image_is_restored_by_its_name(self, ims: Ims, owner, recipient, tiny):
        ims("share", "add", tiny, recipient, tenant=owner)

        would = ims("image", "delete", "tiny", "--validate-only", tenant=owner)
        deleted = ims("image", "delete", "tiny", tenant=owner)
        listed = ims("image", "list", "--state", "deleted", tenant=owner, json=True)
        restored = ims("image", "undelete", "tiny", tenant=owner)

        assert "Nothing was deleted" in would.stdout
        assert "1 share ended" in deleted.stdout
        assert [image["id"] for image in listed.json["images"]] == [tiny]
        assert "and 1 share." in restored.stdout

    def test_a_deactivated_image_serves_nobody_until_it_is_reactivated(
        self, ims: Ims, owner, tiny, tmp_path
    ):
        download = ("image", "download", "tiny", "--output", tmp_path / "copy")

        assert ims("image", "deactivate", "tiny", tenant=owner).code == 0
        refused = ims(*download, tenant=owner)
        assert ims("image", "reactivate", "tiny", tenant=owner).code == 0
        allowed = ims(*download, tenant=owner)

        assert (refused.code, allowed.code) == (1, 0)
        assert "ims image reactivate" in refused.stderr

    def test_an_administrator_publishes_and_takes_back(self, ims: Ims, owner, recipient, tiny):
        refused = ims("image", "publish", tiny, tenant=owner)
        published = ims("image", "publish", tiny, tenant="op", roles="admin")
        seen = ims("image", "show", tiny, tenant=recipient)
        taken_back = ims("image", "unpublish", tiny, tenant="op", roles="admin")

        assert "--roles: admin" in refused.stderr
        assert (published.code, seen.code, taken_back.code) == (0, 0, 0)
        assert ims("image", "show", tiny, tenant=recipient).code == 1

    def test_an_image_is_resolved(self, ims: Ims, owner, tiny):
        purpose = ("image", "resolve", "tiny", "--purpose", "create-ecs")

        allowed = ims(*purpose, tenant=owner, json=True)
        refused = ims(*purpose, "--in-region", "eu-nl", "--disk-gib", "1", tenant=owner)
        for_another = ims(
            "image",
            "resolve",
            tiny,
            "--purpose",
            "CREATE_ECS",
            "--for-tenant",
            owner,
            tenant="nova",
            roles="service",
        )

        assert allowed.json["disks"][0]["read_with"]["image_id"] == tiny
        assert "IMAGE_NOT_IN_REGION" in refused.stderr
        assert for_another.code == 0


class TestDownload:
    def test_the_bytes_are_equal(self, ims: Ims, owner, tiny, tmp_path):
        target = tmp_path / "copy"

        ended = ims("image", "download", "tiny", "-o", target, tenant=owner, json=True)

        assert target.read_bytes() == TINY_QCOW2.read_bytes()
        assert ended.json["disk"]["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
        assert ended.json["length_bytes"] == str(target.stat().st_size)

    def test_a_part_is_downloaded(self, ims: Ims, owner, tiny, tmp_path):
        target = tmp_path / "part"

        ims("image", "download", "tiny", "-o", target, "--offset", "1", "--length", "2", tenant=owner)

        assert target.read_bytes() == TINY_QCOW2.read_bytes()[1:3]

    def test_a_service_downloads_for_a_tenant(self, ims: Ims, owner, tiny, tmp_path):
        ended = ims(
            *("image", "download", tiny, "-o", tmp_path / "copy", "--for-tenant", owner),
            tenant="nova",
            roles="service",
        )

        assert ended.code == 0, ended

    def test_a_file_that_is_there_stays_unless_told(self, ims: Ims, owner, tiny, tmp_path):
        target = tmp_path / "copy"
        target.write_bytes(b"old")

        refused = ims("image", "download", "tiny", "-o", target, tenant=owner)
        assert (refused.code, target.read_bytes()) == (4, b"old")
        assert "--overwrite" in refused.stderr

        assert ims("image", "download", "tiny", "-o", target, "--overwrite", tenant=owner).code == 0
        assert target.read_bytes() == TINY_QCOW2.read_bytes()

    def test_a_declined_download_leaves_no_file(self, ims: Ims, recipient, tiny, tmp_path):
        ended = ims("image", "download", tiny, "-o", tmp_path / "copy", tenant=recipient)

        assert ended.code == 1
        assert list(tmp_path.iterdir()) == []


class TestNames:
    def test_a_name_that_two_images_have_is_not_guessed(self, ims: Ims, owner, recipient, tiny):
        ims("image", "upload", TINY_QCOW2, "--name", "tiny", tenant=recipient)
        ims("share", "add", tiny, recipient, tenant=owner)
        ims("share", "accept", "tiny", tenant=recipient)

        ambiguous = ims("image", "show", "tiny", tenant=recipient)
        own = ims("image", "update", "tiny", "--description", "mine", tenant=recipient)

        assert ambiguous.code == 2
        assert "2 images are called 'tiny'" in ambiguous.usage_error
        assert tiny in ambiguous.usage_error
        assert ims("image", "show", tiny, tenant=recipient).code == 0
        assert own.code == 0

    def test_an_id_goes_before_a_name(self, ims: Ims, owner, tiny):
        ims("image", "upload", TINY_QCOW2, "--name", tiny, tenant=owner)

        assert ims("image", "show", tiny, tenant=owner, json=True).json["image"]["name"] == "tiny"

    def test_what_nothing_is_called_is_declined_by_the_service(self, ims: Ims, owner):
        unknown = ims("image", "show", "ghost", tenant=owner)

        assert unknown.code == 1
        assert "IMAGE_NOT_FOUND" in unknown.stderr
        assert "ims image list" in unknown.stderr


class TestAnInterruptedUpload:
    def test_the_same_command_goes_on_with_it(
        self, ims: Ims, server: Server, owner: str, tmp_path: Path
    ):
        path = tmp_path / "disk.raw"
        path.write_bytes(os.urandom(3 * 1024**2))
        with Client(server.target, tenant=owner) as client:
            image = client.create_image(name="half", type=Image.SYSTEM_DISK, formats=[Disk.RAW])
            upload = client.start_upload(image.id, size_bytes=3 * 1024**2, sha256=sha256_of(path))
            client.write_upload(upload, [path.read_bytes()[: 1024**2]])

        uploaded = ims("image", "upload", path, "--image", "half", tenant=owner)

        assert uploaded.code == 0, uploaded
        assert "ACTIVE" in uploaded.stdout

    def test_it_is_ended(self, ims: Ims, server: Server, owner: str):
        with Client(server.target, tenant=owner) as client:
            image = client.create_image(name="half", type=Image.SYSTEM_DISK, formats=[Disk.RAW])
            client.start_upload(image.id, size_bytes=10, sha256="ab" * 32)

        ended = ims("image", "abort-upload", "half", tenant=owner)
        again = ims("image", "abort-upload", "half", tenant=owner)

        assert ended.code == 0, ended
        assert "half" in ended.stdout
        assert again.code == 1
        assert ims("image", "delete", "half", tenant=owner).code == 0
