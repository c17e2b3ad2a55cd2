"""What an effusion is called by its size, and from when on it is one."""

import pytest

from pleural.size import band


@pytest.mark.parametrize(
    ("volume_ml", "expected"),
    [
        (0, "<50"),
        (49.999, "<50"),
        (50, "50–200"),
        (200, "50–200"),
        (200.001, "200–500"),
        (500, "200–500"),
        (500.001, ">500"),
        (4000, ">500"),
    ],
)
def test_bands(volume_ml, expected):
    assert band(volume_ml) == expected
