"""How numbers look."""

import pytest

from ims.cli import printing

KIB = 1024


@pytest.mark.parametrize(
    ("size_bytes", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (KIB, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (KIB**2, "1.0 MiB"),
        (128 * KIB**3, "128.0 GiB"),
        (KIB**4, "1.0 TiB"),
        (5000 * KIB**4, "5000.0 TiB"),
    ],
)
def test_sizes(size_bytes, expected):
    assert printing.size(size_bytes) == expected


@pytest.mark.parametrize(("number", "expected"), [(0, "0 shares"), (1, "1 share"), (2, "2 shares")])
def test_counts(number, expected):
    assert printing.count(number, "share") == expected
