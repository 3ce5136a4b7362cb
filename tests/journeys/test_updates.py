"""Updates change what they name, and nothing else."""

import pytest

from calling import declined
from conftest import As


def test_a_firmware_that_is_named_and_not_said_is_no_change(as_: As):
    """An image for AARCH64 once got BIOS so, the default of another architecture."""
    owner = as_("owner")
    image = owner.create("arm", architecture="AARCH64")
    assert image.firmware == image.UEFI

    for field in ("firmware", "architecture"):
        with declined() as refused:
            owner.UpdateImage(image_id=image.id, image={}, update_mask={"paths": [field]})
        assert refused.violations[0][:2] == ("INVALID_FIELD", f"image.{field}")

    assert owner.GetImage(image_id=image.id).image == image


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "another"),
        ("description", "said"),
        ("tags", {"env": "prod"}),
        ("protected", True),
        ("os.version", "12"),
        ("architecture", "AARCH64"),
        ("firmware", "UEFI"),
        ("min_disk_gib", 40),
        ("min_ram_mib", 1024),
        ("max_ram_mib", 4096),
    ],
)
def test_one_field_is_changed_and_all_others_stay(as_: As, path, value):
    owner = as_("owner")
    before = owner.active("image", os={"type": "LINUX", "platform": "Debian"})
    new = {"os": {"version": value}} if path == "os.version" else {path: value}

    after = owner.UpdateImage(image_id=before.id, image=new, update_mask={"paths": [path]}).image

    assert after.etag != before.etag
    assert after != before
    for message in (before, after):
        for changed in (path.partition(".")[0], "etag", "update_time"):
            if changed == "os":
                message.os.version = ""
            else:
                message.ClearField(changed)
    assert after == before
