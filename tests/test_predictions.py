"""A folder of predicted masks, ours or anyone's."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pleural.errors import InputError
from pleural.io import nifti
from pleural.prediction_folder import PredictionFolder
from pleural.predictions import Predictions


@pytest.fixture
def folder(phantoms, tmp_path):
    """Masks beside what other programs leave."""
    for case in phantoms:
        nifti.write(case.load()[1], tmp_path / f"{case.name}.nii.gz")
    (tmp_path / "summary.json").write_text("[]")
    (tmp_path / ".hidden.nii.gz").write_bytes(b"")
    return tmp_path


def test_masks_are_found_by_the_names_of_cases(folder, phantoms):
    found = Predictions.of(folder, phantoms)
    assert sorted(found.masks) == [case.name for case in phantoms]
    assert (found.left_out, found.failed) == ([], [])


def test_any_positive_value_marks_effusion(folder, phantoms):
    scan, mask = phantoms[0].load()
    nifti.write(mask.with_array(mask.array * 3), folder / "phantom_000.nii.gz")
    found = Predictions.of(folder, phantoms).mask("phantom_000", scan)
    np.testing.assert_array_equal(found.array, mask.array)


def test_many_missing_masks_are_counted_not_all_named(folder, phantoms):
    strangers = [replace(phantoms[0], name=f"stranger_{i}") for i in range(12)]
    with pytest.raises(InputError, match=r"stranger_7 and 4 more"):
        Predictions.of(folder, strangers)


def test_the_records_of_our_own_folder_are_heard(folder, phantoms):
    ours = PredictionFolder(folder)
    ours.save_record({"left_out": ["phantom_001"], "failed": ["phantom_002"]})
    ours.save_study({"name": "phantom_000", "trained_on_by": []})
    ours.masks.mkdir()
    (folder / "phantom_000.nii.gz").rename(ours.mask("phantom_000"))
    found = Predictions.of(folder, phantoms)
    assert list(found.masks) == ["phantom_000"]
    scan, _ = phantoms[2].load()
    assert not found.mask("phantom_002", scan).array.any()
    ours.save_study({"name": "phantom_000", "trained_on_by": ["run"]})
    for given in (folder, ours.masks):  # the folder of masks by itself has no records
        with pytest.raises(InputError, match="trained on it, which shows nothing"):
            Predictions.of(given, phantoms)
    ours.save_study({"name": "phantom_001", "trained_on_by": ["run"]})  # left out since
    ours.save_study({"name": "phantom_000", "trained_on_by": []})
    assert Predictions.of(folder, phantoms).left_out == ["phantom_001"]


def test_a_prediction_that_was_cut_off_is_not_judged(folder, phantoms):
    ours = PredictionFolder(folder)
    ours.save_study({"name": "phantom_000", "trained_on_by": []})
    with pytest.raises(InputError, match="has not come to its end"):
        Predictions.of(folder, phantoms)
    ours.save_record({})
    assert len(Predictions.of(folder, phantoms).masks) == len(phantoms)


def test_a_prediction_of_another_image_is_not_judged(folder, phantoms):
    ours = PredictionFolder(folder)
    for case in phantoms:
        ours.save_study({"name": case.name, "image_sha256": case.image_hash})
    ours.save_record({})
    assert len(Predictions.of(folder, phantoms).masks) == len(phantoms)
    ours.save_study({"name": "phantom_001", "image_sha256": phantoms[0].image_hash})
    with pytest.raises(InputError, match="phantom_001: predicted of another image"):
        Predictions.of(folder, phantoms)
    ours.save_record({"failed": ["phantom_001"]})  # judged as empty, whatever was found before
    assert Predictions.of(folder, phantoms).failed == ["phantom_001"]


def test_who_is_not_judged_is_not_told_of(folder, phantoms):
    PredictionFolder(folder).save_record({"left_out": ["other"], "failed": ["phantom_002", "more"]})
    found = Predictions.of(folder, phantoms)
    assert (found.left_out, found.failed) == ([], ["phantom_002"])


def test_two_masks_of_one_name_are_refused(folder, phantoms):
    nifti.write(phantoms[0].load()[1], folder / "phantom_000.nii")
    with pytest.raises(InputError, match=r"phantom_000.nii and phantom_000.nii.gz"):
        Predictions.of(folder, phantoms)


def test_a_damaged_record_is_named(folder, phantoms):
    (folder / "predict.json").write_text(json.dumps(["no", "record"]))
    with pytest.raises(InputError, match=r"predict.json: holds a list"):
        Predictions.of(folder, phantoms)
