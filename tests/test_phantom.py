"""The phantom writes the same kind of files that real studies are, once."""

from __future__ import annotations

import importlib
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pleural import io
from pleural.data.phantom import VOLUMES_ML, Phantom
from pleural.errors import InputError
from pleural.run_folder import CONFIG
from pleural.start import SHIPPED

ROOT = Path(__file__).resolve().parents[1]

COARSE_MM = (5.0, 5.0, 8.0)


def files(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    phantom = Phantom(tmp_path_factory.mktemp("phantom"), spacing_mm=COARSE_MM)
    phantom.cases()
    return phantom


def test_ten_studies_from_none_to_a_litre_and_a_half(written: Phantom) -> None:
    cases = written.cases()
    assert [case.name for case in cases] == [f"phantom_{i:03d}" for i in range(10)]
    assert [case.patient for case in cases] == [case.name for case in cases]
    for case, wanted_ml in zip(cases, VOLUMES_ML, strict=True):
        assert case.volume_ml == pytest.approx(wanted_ml, rel=0.1)
        assert case.negative == (wanted_ml == 0)
    assert sum(case.negative for case in cases) == 1
    assert not any(case.negative for case in cases[:4])


def test_files_read_back_and_agree_with_the_truth(written: Phantom) -> None:
    for case in written.cases():
        scan, mask = io.read(case.image), io.read(case.mask)
        assert scan.shape == mask.shape
        np.testing.assert_allclose(scan.affine, mask.affine, atol=1e-4)
        assert scan.array.min() < -900
        truth = json.loads((case.image.parent / "truth.json").read_text())
        assert truth["volume_ml"] == pytest.approx(case.volume_ml, rel=1e-3)
        assert truth["right_ml"] + truth["left_ml"] == pytest.approx(truth["volume_ml"], abs=0.01)
        assert {"contrast", "fluid_hu", "ascites_mm"} <= truth["contents"].keys()


def test_what_is_there_is_not_written_again(written: Phantom, capsys) -> None:
    before = files(Path(written.root))
    written.cases()
    assert files(Path(written.root)) == before
    assert capsys.readouterr().out == ""


def test_only_what_is_missing_is_written(tmp_path: Path, capsys) -> None:
    Phantom(tmp_path, n_cases=1, spacing_mm=COARSE_MM).cases()
    before = files(tmp_path)
    more = Phantom(tmp_path, n_cases=2, spacing_mm=COARSE_MM)
    more.cases()
    after = files(tmp_path)
    assert len(after) == 2 * len(before)
    assert {path: after[path] for path in before} == before
    assert "phantom_001" in capsys.readouterr().out
    assert not list(more.folder.glob(".*"))


def test_interrupted_writing_is_harmless(tmp_path: Path, monkeypatch) -> None:
    phantom = Phantom(tmp_path, n_cases=1, spacing_mm=COARSE_MM)
    leftover = phantom.folder / ".phantom_000.killed" / "phantom_000"
    leftover.mkdir(parents=True)
    (leftover / "ct.nii.gz").write_bytes(b"half a file")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("pleural.data.phantom.nifti.write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            phantom.cases()
    assert not (phantom.folder / "phantom_000").exists()
    (case,) = phantom.cases()
    assert case.volume_ml > 0
    assert io.read(case.image).array.min() < -900


def test_other_settings_live_apart() -> None:
    settings: list[dict] = [{}, {"seed": 1}, {"image_format": "dicom"}, {"spacing_mm": (3, 3, 5)}]
    settings.append({"volumes_ml": [0]})
    folders = {Phantom("root", **setting).folder for setting in settings}
    assert len(folders) == len(settings)
    assert Phantom("root", spacing_mm=[3, 3, 5]).folder in folders  # as a list from YAML
    assert Phantom("root", n_cases=3).folder in folders
    assert Phantom("root", volumes_ml=[*map(float, VOLUMES_ML)]).folder in folders


def test_any_volumes_are_to_be_had(tmp_path: Path) -> None:
    cases = Phantom(tmp_path, n_cases=3, spacing_mm=COARSE_MM, volumes_ml=[0, 300]).cases()
    assert [case.negative for case in cases] == [True, False, True]
    assert [case.volume_ml for case in cases] == pytest.approx([0, 300, 0], rel=0.1)


def test_the_same_seed_writes_the_same_study(written: Phantom, tmp_path: Path) -> None:
    (again,) = Phantom(tmp_path, n_cases=1, spacing_mm=COARSE_MM).cases()
    first = written.cases()[0]
    assert np.array_equal(io.read(again.image).array, io.read(first.image).array)
    assert np.array_equal(io.read(again.mask).array, io.read(first.mask).array)


def test_a_dicom_series_is_the_same_scan(written: Phantom, tmp_path: Path) -> None:
    (series,) = Phantom(tmp_path, 1, image_format="dicom", spacing_mm=COARSE_MM).cases()
    assert series.image.is_dir()
    scan, mask = io.read(series.image), io.read(series.mask)
    nifti = io.read(written.cases()[0].image)
    np.testing.assert_allclose(nifti.onto(scan).array, scan.array, atol=0.5)
    assert np.count_nonzero(mask.onto(scan).array > 0.5) == np.count_nonzero(mask.array)


def test_bad_settings_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'nifti' or 'dicom'; got 'png'"):
        Phantom(tmp_path, image_format="png")
    with pytest.raises(InputError, match="at least 1; got 0"):
        Phantom(tmp_path, n_cases=0)
    with pytest.raises(InputError, match="volumes_ml must name at least one"):
        Phantom(tmp_path, volumes_ml=[])


def test_a_study_is_made_without_torch() -> None:
    source = Path(importlib.import_module("pleural.anatomy").__file__ or "").parent
    for path in source.glob("*.py"):
        assert "torch" not in path.read_text() and "monai" not in path.read_text()


def test_phantoms_that_judge_are_no_bodies_that_anything_learns_from() -> None:
    judging = runpy.run_path(str(ROOT / "benchmarks/accuracy/false_alarms.py"))["SEED"]
    started_from = OmegaConf.load(SHIPPED["phantoms"] / CONFIG)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        default = compose("config")
        learnt = compose("config", ["experiment=phantoms"])
        with_companions = compose("config", ["data=folder", "data.root=none"])
    seeds = [default.data.seed, with_companions.companions.seed, learnt.data.seed]
    assert judging not in [*seeds, started_from.data.seed]
    assert learnt.data.seed == started_from.data.seed
