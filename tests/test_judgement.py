"""How the best epoch does on the scans themselves."""

import math

import pytest

from pleural.data.case import Case
from pleural.data.split import Split
from pleural.judgement import Score, described, judge, mean_dice, summary
from pleural.run_folder import RunFolder
from pleural.segmenter import Segmentation


class Oracle:
    """Predicts what it is given, as a segmenter would."""

    def __init__(self, case, shift=0):
        _, self.reference = case.load()
        self.shift = shift

    def segment(self, scan):
        moved = self.reference.array.copy()
        if self.shift:
            moved[: self.shift] = 0
        mask = scan.with_array(moved)
        return Segmentation(mask, mask, 0.0)


def test_a_perfect_mask_is_scored_on_the_scan_s_own_grid(phantoms):
    (score,) = judge(Oracle(phantoms[0]), phantoms[:1])
    assert score.dice == 1
    assert score.reference_ml == score.predicted_ml == pytest.approx(phantoms[0].volume_ml)


def test_a_missed_case_counts_as_zero_and_is_never_dropped(phantoms):
    missed = Oracle(phantoms[0], shift=10_000)
    (score,) = judge(missed, phantoms[:1])
    assert score.dice == 0
    assert score.predicted_ml == 0
    found = Score("b", "b", 0.8, 100.0, 90.0, 0)
    assert mean_dice([score, found]) == pytest.approx(0.4)


def test_cases_without_effusion_are_no_part_of_the_mean():
    scores = [
        Score("a", "a", 0.6, 100, 80, 0),
        Score("b", "b", 1.0, 0, 0, 0),
        Score("c", "c", 0.0, 0, 12, 0),
    ]
    assert mean_dice(scores) == 0.6
    assert math.isnan(mean_dice(scores[1:]))


def test_the_summary_warns_of_few_cases_and_shows_every_one(tmp_path):
    scores = [Score("a", "a", 0.6, 100, 80, 0), Score("h", "h", 0.0, 0, 12, 0)]
    told = summary(RunFolder(tmp_path), "best epoch 3", 9, scores)
    assert "best epoch 3 of 9" in told
    assert "mean Dice 0.600 over 1 validation case with effusion" in told
    assert "n = 1 patient: too few" in told
    assert "12.0" in told  # invented millilitres are shown, not a Dice
    assert str(tmp_path) in told


def test_patients_are_counted_not_their_scans(tmp_path):
    def told(n_patients: int) -> str:
        scores = [Score(f"{i}", f"{i % n_patients}", 0.5, 10, 10, 0) for i in range(20)]
        return summary(RunFolder(tmp_path), "best epoch 3", 9, scores)

    assert "n = 5 patients: too few" in told(5)
    assert "too few" not in told(20)


def test_without_effusion_there_is_no_mean(tmp_path):
    told = summary(RunFolder(tmp_path), "last epoch 1", 2, [Score("h", "h", 1.0, 0, 0, 0)])
    assert "no validation case has effusion" in told
    assert "nan" not in told
    assert "too few" not in told


def test_unlabelled_cases_are_named_but_not_read(phantoms, tmp_path):
    gone = Case("u", "p", tmp_path / "gone.nii.gz")
    parts = described(Split(phantoms[:1], phantoms[1:2], [gone]))
    assert parts["unlabelled"] == [{"name": "u", "patient": "p"}]
    assert len(parts["training"][0]["sha256"]) == 64
    assert parts["validation"][0]["volume_ml"] == pytest.approx(phantoms[1].volume_ml, abs=1e-3)


def test_the_summary_tells_what_is_left_out(tmp_path):
    scores = [Score("a", "a", 0.6, 100, 80, 0), Score("b", "b", 0.7, 100, 90, 37.25)]
    told = summary(RunFolder(tmp_path), "best epoch 3", 9, scores)
    assert "b: 37.2 mL more are left out" in told
    assert "a: " not in told
