"""What several test files share."""

from pathlib import Path

import pytest

from pleural.data.case import Case
from pleural.data.phantom import Phantom

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


def shared(name: str, what: str) -> Path:
    """A folder of shared data; a test that needs it skips where it is absent."""
    root = SHARED_DATA / name
    if not root.is_dir():
        pytest.skip(f"the {what} are not here ({root})")
    return root


@pytest.fixture(scope="session")
def plethora_root() -> Path:
    """Seven real scans with masks (see docs/data.md on how to get them)."""
    return shared("plethora", "real scans")


@pytest.fixture(scope="session")
def dicom_odd_root() -> Path:
    """Odd DICOM series that a loader must survive."""
    return shared("dicom_odd", "odd DICOM series")


@pytest.fixture(scope="session")
def phantom_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the coarse phantoms of the tests lie."""
    return tmp_path_factory.mktemp("phantoms")


@pytest.fixture(scope="session")
def phantoms(phantom_root: Path) -> list[Case]:
    """Three coarse phantoms with effusion: some 60 x 50 x 24 voxels each."""
    return Phantom(phantom_root, n_cases=3, spacing_mm=(6, 6, 12)).cases()
