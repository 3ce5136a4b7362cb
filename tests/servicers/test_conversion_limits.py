"""What an operator lets a conversion take (law 5.14)."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builders import OWNER
from calling import error_of, image_of
from conftest import As, MakeService, needs
from disk_files.makers import TINY_QCOW2
from ims.bootstrap import Service
from ims.disk_files.conversion import ConversionLimits
from ims.domain.image import GIB
from ims.settings import ConversionSetting, Settings
from providers.web import HOST, Source, file, sources

MIB = 1024**2
TINY_CAPACITY_BYTES = 8 * MIB


@pytest.fixture
def source() -> Iterator[Source]:
    with sources() as make:
        yield make(file(TINY_QCOW2.read_bytes()))


@pytest.fixture
def convert(make_service: MakeService, as_: As, source: Source) -> Any:
    """Have a small disk converted by a service with such limits; return the operation's end."""
    needs(shutil.which("qemu-img"), "qemu-img")

    def converted(target: str, **limits: object) -> Any:
        hosts = (f"{HOST}:{source.port}",)
        service = make_service(import_allowed_hosts=hosts, conversion=limits)
        owner = as_(OWNER, of=service)
        image = owner.create("one", disks=[{"format": target}])
        return owner.ended(
            owner.ImportImage(image_id=image.id, url=source.url + "/disk", source_format="QCOW2")
        )

    return converted


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize(
    ("target", "limits", "exceeded"),
    [
        ("VDI", {"max_seconds": 0.001}, "TIME"),
        ("RAW", {"max_file_bytes": TINY_CAPACITY_BYTES - 1}, "FILE_SIZE"),
        ("VDI", {"max_capacity_bytes": TINY_CAPACITY_BYTES - 1}, "CAPACITY"),
    ],
)
def test_more_than_a_setting_allows_ends_the_operation(target, limits, exceeded, convert):
    error = error_of(convert(target, **limits))

    assert (error.reason, error.metadata["exceeded"]) == ("CONVERSION_LIMIT_EXCEEDED", exceeded)


@pytest.mark.databases("sqlite")
def test_just_as_much_as_the_settings_allow_is_converted(convert):
    made = convert("RAW", max_file_bytes=TINY_CAPACITY_BYTES, max_capacity_bytes=TINY_CAPACITY_BYTES)

    assert image_of(made).disks[0].size_bytes == TINY_CAPACITY_BYTES


def limits_of(folder: Path, **settings: Any) -> ConversionLimits:
    service = Service(Settings(listen="127.0.0.1:0", data=folder, **settings))
    service.stop()
    return service.deployment.converter.limits


def test_every_setting_is_a_limit_of_its_own(tmp_path: Path):
    setting = ConversionSetting(
        memory_bytes=2 * GIB,
        processor_seconds=5,
        max_seconds=7.5,
        max_file_bytes=11 * MIB,
        max_capacity_bytes=13 * MIB,
    )

    assert limits_of(tmp_path, conversion=setting) == ConversionLimits(
        memory_bytes=2 * GIB,
        processor_seconds=5,
        seconds=7.5,
        file_bytes=11 * MIB,
        capacity_bytes=13 * MIB,
    )


def test_what_is_not_set_is_as_it_always_was(tmp_path: Path):
    assert limits_of(tmp_path) == ConversionLimits()


@pytest.mark.parametrize("larger", [None, 12 * MIB])
def test_no_converted_file_is_larger_than_an_uploaded_one(larger: int | None, tmp_path: Path):
    setting = ConversionSetting(max_file_bytes=larger)

    assert limits_of(tmp_path, max_image_file_bytes=10 * MIB, conversion=setting).file_bytes == 10 * MIB
