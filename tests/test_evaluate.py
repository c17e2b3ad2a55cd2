"""Predicted masks against references: whose they are, which count, and what is told."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from pleural.errors import InputError
from pleural.evaluate import evaluate
from pleural.io import nifti
from pleural.predict import predict
from pleural.volume import Volume
from tests.conftest import Source, without, write_run


def evaluated(cases, predictions, run_dir, against=None, **changes):
    given = {"tolerance_mm": 3.0, "detection_ml": 10.0, **changes}
    return evaluate(Source(cases), predictions, against, run_dir=run_dir, **given)


def rows(run_dir):
    with (run_dir / "cases.csv").open(encoding="utf-8") as file:
        return {(row["name"], row["reader"]): row for row in csv.DictReader(file)}


def summary(run_dir):
    return json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def judged(phantoms, half, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    return evaluated(phantoms, half, folder), folder


def test_a_missed_case_stays_in_the_mean(judged):
    dice, folder = judged
    assert dice == pytest.approx((1 + 2 / 3 + 0) / 3, abs=1e-3)
    model = summary(folder)["readers"]["model"]
    assert model["missed"] == ["phantom_002"]
    assert model["mean"]["dice"]["value"] == pytest.approx(dice)
    assert model["mean"]["dice"]["n"] == 3
    assert model["mean"]["hd95_mm"]["value"] > 100  # as far as the scan is wide, for the missed one
    assert "n = 3" in model["warning"]
    assert (folder / "summary.md").read_text(encoding="utf-8").count("phantom_002") == 2


def test_each_case_has_a_row(judged, phantoms):
    _, folder = judged
    row = rows(folder)["phantom_001", "model"]
    reference_ml = phantoms[1].volume_ml
    assert float(row["volume_error_ml"]) == pytest.approx(-reference_ml / 2, rel=0.01)
    assert float(row["sensitivity"]) == pytest.approx(0.5, abs=0.01)
    assert float(row["precision"]) == 1
    assert row["found"] == "True"
    assert rows(folder)["phantom_002", "model"]["found"] == "False"


def test_bands_and_detection(judged):
    model = summary(judged[1])["readers"]["model"]
    assert {name: band["n_cases"] for name, band in model["bands"].items()} == {
        "50–200": 1,
        ">500": 2,
    }
    assert model["detection"]["sensitivity"]["value"] == pytest.approx(2 / 3)
    assert model["detection"]["specificity"]["n"] == 0


def test_cases_without_effusion_are_judged_apart(phantoms, tmp_path):
    healthy = replace(phantoms[0], name="healthy", patient="healthy", mask=None, negative=True)
    for case in (phantoms[0], healthy):
        nifti.write(phantoms[0].load()[1], tmp_path / "masks" / f"{case.name}.nii.gz")
    assert evaluated([phantoms[0], healthy], tmp_path / "masks", tmp_path / "out") == 1
    model = summary(tmp_path / "out")["readers"]["model"]
    assert (model["n_with_effusion"], model["n_without"]) == (1, 1)
    assert model["invented_ml"]["value"] == pytest.approx(phantoms[0].volume_ml)
    assert model["detection"]["specificity"]["value"] == 0
    text = (tmp_path / "out" / "summary.md").read_text(encoding="utf-8")
    assert "invented on cases without effusion" in text
    assert "| healthy     | model  | –     |" in text  # no overlap to speak of


def test_only_negative_cases_have_no_dice(phantoms, tmp_path):
    healthy = replace(phantoms[0], mask=None, negative=True)
    empty = phantoms[0].load()[0]
    nifti.write(
        empty.with_array(np.zeros(empty.shape, np.uint8)), tmp_path / f"{healthy.name}.nii.gz"
    )
    assert math.isnan(evaluated([healthy], tmp_path, tmp_path / "out"))


@pytest.mark.parametrize("name", ["model", "against"])
def test_a_reader_that_is_called_as_predictions_are_is_refused(phantoms, half, tmp_path, name):
    read = replace(phantoms[0], readers={name: phantoms[0].mask})
    with pytest.raises(InputError, match=f"a further reader is called {name}"):
        evaluated([read, *phantoms[1:]], half, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_further_readers_are_judged_beside_the_model(phantoms, half, tmp_path):
    a, b, c = phantoms
    nifti.write(without(b.load()[1], 0.2), tmp_path / "second.nii.gz")
    cases = [a, replace(b, readers={"second": tmp_path / "second.nii.gz"}), c]
    evaluated(cases, half, tmp_path / "out")
    readers = summary(tmp_path / "out")["readers"]
    assert set(readers) == {"model", "second", "model, where second read"}
    assert readers["second"]["mean"]["dice"]["value"] == pytest.approx(0.8 / 0.9, abs=0.01)
    same = readers["model, where second read"]
    assert same["n_cases"] == 1
    assert same["mean"]["dice"]["value"] == pytest.approx(2 / 3, abs=0.01)


def test_two_folders_are_compared_case_by_case(phantoms, half, tmp_path):
    for case in phantoms:
        nifti.write(case.load()[1], tmp_path / "perfect" / f"{case.name}.nii.gz")
    evaluated(phantoms, half, tmp_path / "out", against=tmp_path / "perfect")
    dice = summary(tmp_path / "out")["difference"]["dice"]
    assert dice["difference"]["value"] == pytest.approx(-(1 / 3 + 1) / 3, abs=0.01)
    assert dice["difference"]["n"] == 3
    assert 0 < dice["p"] <= 1
    assert "Wilcoxon" in (tmp_path / "out" / "summary.md").read_text(encoding="utf-8")


def test_a_mask_in_another_order_of_axes_is_the_same_mask(phantoms, tmp_path):
    scan, mask = phantoms[0].load()
    codes = "RAS" if scan.codes != "RAS" else "LPS"
    nifti.write(mask.reoriented(codes), tmp_path / f"{phantoms[0].name}.nii.gz")
    assert evaluated(phantoms[:1], tmp_path, tmp_path / "out") == 1


def refused(phantoms, tmp_path, **masks):
    for case in phantoms:
        mask = masks.get(case.name, case.load()[1])
        if mask is not None:
            nifti.write(mask, tmp_path / "masks" / f"{case.name}.nii.gz")
    with pytest.raises(InputError) as refusal:
        evaluated(phantoms, tmp_path / "masks", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    return str(refusal.value)


def test_all_grids_that_do_not_match_are_told_in_one_list(phantoms, tmp_path):
    masks = {case.name: case.load()[1] for case in phantoms}
    masks["phantom_000"] = masks["phantom_000"].cropped((slice(None), slice(None), slice(0, 9)))
    shifted = masks["phantom_002"].affine.copy()
    shifted[0, 3] += 3
    masks["phantom_002"] = Volume(masks["phantom_002"].array, shifted)
    told = refused(phantoms, tmp_path, **masks)
    assert "2 findings in 3 cases" in told
    assert "phantom_000: the prediction has" in told
    assert "phantom_002: the prediction has" in told


def test_a_case_without_a_prediction_is_named_not_dropped(phantoms, tmp_path):
    told = refused(phantoms, tmp_path, phantom_001=None)
    assert "no mask for phantom_001" in told
    assert "phantom_001.nii.gz" in told


def test_probabilities_are_no_masks(phantoms, tmp_path):
    mask = phantoms[0].load()[1]
    soft = mask.with_array(mask.array * np.linspace(0.1, 1, mask.shape[2], dtype=np.float32))
    assert "one positive value" in refused(phantoms, tmp_path, phantom_000=soft)


def test_a_small_effusion_is_found_by_overlap(phantoms, half, tmp_path):
    evaluated(phantoms, half, tmp_path / "out", detection_ml=5000.0)
    found = {name: row["found"] for (name, _), row in rows(tmp_path / "out").items()}
    assert found == {"phantom_000": "True", "phantom_001": "True", "phantom_002": "False"}


def test_unlabelled_data_cannot_be_judged_by(phantoms, half, tmp_path):
    with pytest.raises(InputError, match="no case has a reference mask"):
        evaluated([replace(phantoms[0], mask=None)], half, tmp_path / "out")


def test_no_such_folder(phantoms, tmp_path):
    with pytest.raises(InputError, match="there is no such folder"):
        evaluated(phantoms, tmp_path / "nowhere", tmp_path / "out")


@pytest.fixture
def run(phantoms, tmp_path):
    return write_run(tmp_path / "run", phantoms[:1], phantoms[1:2])


def predicted(cases, run, run_dir, held_out):
    fixed = {"mirror": "", "probability": False, "detection_ml": 10.0, "device": "cpu"}
    fixed |= {"identifiers": "drop"}
    folders = {"shard": None, "shards": 1, "run_dir": run_dir, "shared_dir": run_dir}
    predict(Source(cases), run, held_out, **fixed, **folders, debug=False)
    return run_dir


def test_a_case_is_not_judged_by_what_trained_on_it(phantoms, run, tmp_path):
    folder = predicted(phantoms, run, tmp_path / "p", held_out=False)
    with pytest.raises(InputError, match="phantom_000: predicted by a network that trained on it"):
        evaluated(phantoms, folder, tmp_path / "out")


def test_what_was_held_out_is_judged_and_the_rest_is_named(phantoms, run, tmp_path):
    folder = predicted(phantoms, run, tmp_path / "p", held_out=True)
    evaluated(phantoms, folder, tmp_path / "out")
    assert {name for name, _ in rows(tmp_path / "out")} == {"phantom_001", "phantom_002"}
    assert summary(tmp_path / "out")["sources"]["model"]["left_out"] == ["phantom_000"]
    text = (tmp_path / "out" / "summary.md").read_text(encoding="utf-8")
    assert "Left out, as every run trained on them: phantom_000" in text


def test_a_study_that_failed_in_prediction_is_judged_as_missed(phantoms, run, tmp_path):
    torn = tmp_path / "torn.nii.gz"
    torn.write_bytes(phantoms[2].image.read_bytes()[:3000])
    cases = [phantoms[1], replace(phantoms[2], image=torn)]
    with pytest.raises(InputError, match="1 of 2 studies failed"):
        predicted(cases, run, tmp_path / "p", held_out=True)
    evaluated(phantoms[1:], tmp_path / "p", tmp_path / "out")
    assert float(rows(tmp_path / "out")["phantom_002", "model"]["dice"]) == 0
    assert summary(tmp_path / "out")["readers"]["model"]["missed"] == ["phantom_002"]
