"""What several test files share."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from benchmarks.broken import ROOT, TINY
from pleural.data.case import Case
from pleural.data.phantom import Phantom
from pleural.data.split import Split
from pleural.io import nifti
from pleural.judgement import described
from pleural.run_folder import CONFIG, RunFolder
from pleural.volume import Volume
from tests import warm

SMALL = [*TINY, "epochs=4", "trainer.precision=32-true", "trainer.enable_progress_bar=false"]
SHARED_DATA = ROOT.parent / "shared" / "data"


def pytest_configure() -> None:
    """Tests that run side by side share the cores, as do the trainings that they start."""
    if n_workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
        n_threads = max(1, (os.cpu_count() or 1) // int(n_workers))
        os.environ["OMP_NUM_THREADS"] = str(n_threads)
        torch.set_num_threads(n_threads)


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


class Source:
    """A data source of the cases it is given."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self.given = cases

    def cases(self) -> list[Case]:
        return list(self.given)


def without(mask: Volume, share: float) -> Volume:
    """A mask that lacks the last ``share`` of its voxels."""
    array = mask.array.copy()
    filled = np.flatnonzero(array)
    array.flat[filled[round((1 - share) * len(filled)) :]] = 0
    return mask.with_array(array)


@pytest.fixture(scope="session")
def half(phantoms: list[Case], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Anyone's folder: all of the first, half of the second, nothing of the third effusion."""
    folder = tmp_path_factory.mktemp("anyones")
    for case, missing in zip(phantoms, (0, 0.5, 1), strict=True):
        nifti.write(without(case.load()[1], missing), folder / f"{case.name}.nii.gz")
    return folder


def write_run(
    path: Path,
    training: Sequence[Case] = (),
    validation: Sequence[Case] = (),
    above_hu: float = 0.0,
    **changes: Any,
) -> Path:
    """A run folder whose network finds all that is brighter than ``above_hu``."""
    config = {
        "model": {
            "_target_": "torch.nn.Conv3d",
            **{"in_channels": 1, "out_channels": 1, "kernel_size": 1},
        },
        "preprocess": {
            "_target_": "pleural.preprocess.ChestCT",
            **{"window_hu": [-1000, 1000], "spacing_mm": [6, 6, None]},
            **{"crop_to_body": True, "margin_mm": 10},
        },
        "inference": {
            "_target_": "monai.inferers.SlidingWindowInferer",
            **{"roi_size": "${patch_size}", "overlap": 0.25, "mode": "gaussian"},
        },
        "patch_size": [32, 32, 16],
        "threshold": 0.5,
        "task": {"_target_": "pleural.train.train"},
        **changes,
    }
    (path / ".hydra").mkdir(parents=True)
    (path / CONFIG).write_text(yaml.safe_dump(config), encoding="utf-8")
    run = RunFolder(path)
    steepness = 50.0
    weights = {
        "weight": torch.full((1, 1, 1, 1, 1), steepness),
        "bias": torch.tensor([-steepness * above_hu / 1000]),
    }
    run.save_best(weights, epoch=0, val_dice=None)
    run.save_record({"split": described(Split([*training], [*validation], []))})
    return path


def typed(script: str, *arguments: str) -> list[str]:
    """The command of a script of ours."""
    return [sys.executable, str(ROOT / script), *arguments]


def run(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A script of ours as if typed in ``folder``, which gets the outputs."""
    return warm.run(folder, str(ROOT / script), *arguments)


def run_anew(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """The same by a process that begins with nothing, for what depends on how it begins."""
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def begun(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """A training in ``folder / "run"`` that has its first epoch behind it."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        typed("run.py", *arguments), cwd=folder, stdout=pipe, stderr=pipe, text=True
    )
    while not (folder / "run" / "last.ckpt").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    return process
