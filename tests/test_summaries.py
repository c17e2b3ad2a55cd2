"""From a row for each case to what is said of all."""

import pytest

from pleural.summaries import difference, summary
from pleural.summary_text import as_markdown


def row(name, reference_ml, predicted_ml, dice=0.5, patient=None, **changes):
    error = predicted_ml - reference_ml
    return {
        **{"name": name, "patient": patient or name, "reader": "model"},
        **{"reference_ml": reference_ml, "predicted_ml": predicted_ml, "dice": dice},
        **{"nsd": dice, "hd95_mm": 10.0},
        **{"sensitivity": dice if reference_ml else None, "precision": dice},
        **{"volume_error_ml": error, "absolute_volume_error_ml": abs(error)},
        "found": predicted_ml >= 10 and (dice > 0 or not reference_ml),
        **changes,
    }


ROWS = [
    row("a", 100.0, 80.0, 0.8),
    row("b", 300.0, 330.0, 0.6),
    row("c", 40.0, 0.0, 0.0),
    row("healthy", 0.0, 4.0, 0.0),
    row("noisy", 0.0, 30.0, 0.0),
    row("trace", 5.0, 0.0, 0.0),
]


def test_positives_and_negatives_are_told_apart():
    told = summary(ROWS, detection_ml=10)
    assert (told["n_cases"], told["n_with_effusion"], told["n_without"]) == (6, 4, 2)
    assert told["mean"]["dice"]["value"] == pytest.approx((0.8 + 0.6) / 4)
    assert told["mean"]["volume_error_ml"]["value"] == pytest.approx((-20 + 30 - 40 - 5) / 4)
    assert told["median"]["absolute_volume_error_ml"]["value"] == pytest.approx(25)
    assert told["missed"] == ["c", "trace"]
    assert told["invented_ml"]["value"] == pytest.approx(17)
    assert list(told["bands"]) == ["<50", "50–200", "200–500"]
    assert told["bands"]["<50"]["n_cases"] == 2


def test_the_threshold_parts_references_and_predictions_alike():
    detection = summary(ROWS, detection_ml=10)["detection"]
    assert detection["sensitivity"]["value"] == pytest.approx(2 / 3)  # a and b of a, b, c
    assert detection["specificity"]["value"] == pytest.approx(2 / 3)  # all but noisy
    assert summary(ROWS, detection_ml=50)["detection"]["specificity"]["value"] == 1


def test_nothing_is_never_detected():
    """Of 0 mL, whatever the threshold: neither an effusion nor a false alarm."""
    empty = [row(name, 0.0, 0.0, 1.0, found=False) for name in "ab"]
    detection = summary([*empty, row("c", 400.0, 0.0, 0.0)], detection_ml=0)["detection"]
    assert (detection["sensitivity"]["value"], detection["sensitivity"]["n"]) == (0, 1)
    assert (detection["specificity"]["value"], detection["specificity"]["n"]) == (1, 2)


def test_no_mean_of_shares_is_beyond_them():
    """Of few patients the interval reaches further than their values, but not beyond 0 and 1."""
    told = summary([row("a", 100.0, 90.0, 0.9), row("b", 100.0, 70.0, 0.5)], 10)["mean"]
    assert (told["dice"]["low"], told["dice"]["high"]) == (0, 1)
    assert told["hd95_mm"]["low"] == 10
    assert told["volume_error_ml"]["low"] < -100


def test_scans_of_one_patient_count_once():
    twice = [row("a", 100.0, 80.0, 0.8), row("a2", 100.0, 80.0, 0.8, patient="a")]
    assert summary(twice, 10)["mean"]["dice"]["n"] == 1


def test_the_warning_ends_at_twenty_patients():
    assert "n = 4 patients" in summary(ROWS, 10)["warning"]
    assert summary([row(str(i), 100.0, 90.0) for i in range(20)], 10)["warning"] is None


def test_only_cases_that_both_hold_are_compared():
    theirs = [row("a", 100.0, 80.0, 0.5), row("b", 300.0, 330.0, 0.5), row("other", 9.0, 9.0)]
    told = difference(ROWS, theirs)
    assert told["n_cases"] == 2
    assert told["dice"]["difference"]["value"] == pytest.approx(0.2)
    assert told["warning"]


def told_in_words(rows):
    source = {"folder": "masks", "left_out": ["x"], "failed": ["y"]}
    result = {"readers": {"model": summary(rows, 10)}, "sources": {"model": source}}
    return as_markdown(result, {"model": rows})


def test_the_text_names_what_is_missed_left_out_and_failed():
    text = told_in_words(ROWS)
    for words in ("Missed: c, trace.", "trained on them: x.", "judged as empty masks: y."):
        assert words in text
    assert "sensitivity 0.667" in text
    widths = {len(line) for line in text.split("## Case by case")[1].splitlines()[2:9]}
    assert len(widths) == 1  # the columns stand in line


def test_what_cannot_be_said_is_not_said():
    text = told_in_words([row("healthy", 0.0, 0.0, 1.0)])
    assert "Bland" not in text
    assert "concordance" not in text
    assert "specificity 1.000" in text
    assert "sensitivity –" not in text
