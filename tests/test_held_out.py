"""Who may judge whom: never a network that saw the case or its patient."""

from dataclasses import replace
from pathlib import Path

import pytest

from pleural.errors import InputError
from pleural.held_out import Exposure, exposures_for
from pleural.trained import Run


def run(name, training=(), validation=(), along=(), before=()):
    def entries(cases):
        return [
            {"name": case.name, "patient": case.patient, "image_sha256": case.image_hash}
            for case in cases
        ]

    record = {"split": {"training": entries(training), "validation": entries(validation)}}
    record |= {"companions": entries(along), "start": {"training": entries(before)}}
    return Run(Path(name), record, "")


def chosen(case, runs, cases, held_out=True):
    exposures = [Exposure.of(run, cases) for run in runs]
    return [one.run.path.name for one in exposures_for(case, exposures, held_out)]


def test_each_case_is_predicted_by_the_fold_that_held_it_out(phantoms):
    a, b, c = phantoms
    folds = [run("0", (b, c), (a,)), run("1", (a, c), (b,)), run("2", (a, b), (c,))]
    assert [chosen(case, folds, phantoms) for case in phantoms] == [["0"], ["1"], ["2"]]


def test_without_held_out_all_runs_predict(phantoms):
    runs = [run("0", phantoms), run("1")]
    assert chosen(phantoms[0], runs, phantoms, held_out=False) == ["0", "1"]


def test_a_case_that_all_saw_is_nobody_s(phantoms):
    assert chosen(phantoms[0], [run("0", phantoms), run("1", phantoms)], phantoms) == []


def test_a_case_that_nobody_knows_is_predicted_by_all(phantoms):
    a, b, c = phantoms
    assert chosen(c, [run("0", (a,), (b,)), run("1", (b,), (a,))], phantoms) == ["0", "1"]


def test_another_scan_of_a_patient_is_seen_as_well(phantoms):
    a, b, _ = phantoms
    later = replace(b, name="later", patient=a.patient)
    cases = [a, later]
    assert chosen(later, [run("0", (a,))], cases) == []


def test_a_patient_s_name_in_other_data_is_a_coincidence(phantoms):
    a, b, _ = phantoms
    namesake = replace(b, name="elsewhere", patient=a.patient)
    assert chosen(namesake, [run("0", (a,))], [namesake]) == ["0"]


def test_names_in_what_it_started_from_or_trained_along_are_not_the_run_s_own(phantoms):
    a, b, c = phantoms
    namesake = replace(c, patient=b.patient)  # of the case that validates, in other data
    for elsewhere in ({"before": (namesake,)}, {"along": (namesake,)}):
        fold = run("0", (a,), (b,), **elsewhere)
        assert chosen(b, [fold], [a, b]) == ["0"]
        assert chosen(c, [fold], [a, c]) == []  # the same image is seen, wherever it was


def test_another_scan_of_a_patient_that_it_started_from_is_seen(phantoms):
    a, b, c = phantoms
    later = replace(c, name="later", patient=b.patient)
    assert chosen(later, [run("0", (a,), before=(b,))], [a, b, later]) == []


def test_the_same_image_under_another_name_is_seen(phantoms):
    a, _, _ = phantoms
    renamed = replace(a, name="renamed", patient="renamed")
    assert chosen(renamed, [run("0", (a,))], [renamed]) == []


@pytest.mark.parametrize(
    "record", [{}, {"split": {"training": []}}, {"split": {"training": [{}], "validation": []}}]
)
def test_a_run_that_does_not_say_what_it_saw_judges_nobody(phantoms, record):
    with pytest.raises(InputError, match="does not say which images it trained on"):
        Exposure.of(Run(Path("old"), record, ""), phantoms)


def test_a_coincidence_is_said_aloud(phantoms, capsys):
    a, b, _ = phantoms
    Exposure.of(run("0", (a,)), [replace(b, patient=a.patient)])
    assert "taken for other patients" in capsys.readouterr().out


def test_a_case_that_cannot_be_read_is_nobody_s_namesake(phantoms, tmp_path):
    a, b, _ = phantoms
    gone = replace(a, image=tmp_path / "gone.nii.gz")
    assert chosen(b, [run("0", (a,))], [gone, b]) == ["0"]


def test_a_distrusted_case_chose_no_epoch(phantoms):
    a, b, c = phantoms
    one = run("0", (c,), (a, b))
    one.record["split"]["distrusted"] = [{"name": b.name, "patient": b.patient}]
    exposure = Exposure.of(one, phantoms)
    assert exposure.validated_on(b)
    assert [exposure.chosen_on(case) for case in phantoms] == [True, False, False]
