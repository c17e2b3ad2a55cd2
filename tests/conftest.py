"""What several test files share."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def plethora_root() -> Path:
    """Seven real scans with masks (see docs/data.md on how to get them)."""
    root = SHARED_DATA / "plethora"
    if not root.is_dir():
        pytest.skip(f"the real scans are not here ({root})")
    return root


@pytest.fixture(scope="session")
def dicom_odd_root() -> Path:
    """Odd DICOM series that a loader must survive."""
    root = SHARED_DATA / "dicom_odd"
    if not root.is_dir():
        pytest.skip(f"the odd DICOM series are not here ({root})")
    return root
