"""Studies in, masks and what belongs to them out."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from pleural.data.case import Case
from pleural.data.folder import Folder
from pleural.data.phantom import Phantom
from pleural.errors import InputError
from pleural.io import dicom, dicom_seg, nifti
from pleural.predict import predict
from pleural.prediction_folder import PredictionFolder
from pleural.run_folder import RunFolder
from pleural.versions import versions
from tests.conftest import Source, write_run


def predicted(cases, runs, run_dir, **changes):
    given = {
        **{
            "held_out": False,
            "mirror": "",
            "probability": False,
            "detection_ml": 10.0,
            "identifiers": "drop",
        },
        **{"device": "cpu", "debug": False, "shard": None, "shards": 1, "shared_dir": run_dir},
    }
    data = Source(cases) if isinstance(cases, list) else cases
    return predict(data, runs, run_dir=run_dir, **{**given, **changes})


def table(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture(scope="module")
def dicom_phantom(phantom_root):
    source = Phantom(phantom_root, n_cases=1, spacing_mm=(6, 6, 12), image_format="dicom")
    return source.cases()[0]


@pytest.fixture(scope="module")
def done(phantoms, dicom_phantom, run, tmp_path_factory):
    """Two phantoms in NIfTI and one in DICOM, predicted by something that finds tissue."""
    folder = tmp_path_factory.mktemp("predicted")
    series = replace(dicom_phantom, name="series")
    assert predicted([*phantoms[:2], series], run, folder, probability=True) == 3
    return PredictionFolder(folder)


def test_the_mask_has_the_study_s_own_grid_to_the_last_digit(done, phantoms):
    scan, mask = (nib.load(path) for path in (phantoms[0].image, done.mask("phantom_000")))
    assert mask.shape == scan.shape
    np.testing.assert_array_equal(mask.affine, scan.affine)
    for field in nifti.PLACE_FIELDS:
        np.testing.assert_array_equal(mask.header[field], scan.header[field])
    assert set(np.unique(mask.dataobj)) == {0, 1}


def test_a_dicom_study_gets_a_dicom_seg_that_holds_the_same_mask(done, dicom_phantom):
    scan = dicom.read(dicom_phantom.image)
    mask = nifti.read(done.mask("series"))
    np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-4)
    seg = dicom_seg.read(done.seg("series"))
    np.testing.assert_array_equal(seg.onto(scan).array > 0.5, mask.array > 0)
    assert not done.seg("phantom_000").exists()


def test_the_probability_is_read_as_0_to_1_and_agrees_with_the_mask(done):
    probability, mask = (
        np.asarray(nib.load(path).dataobj)
        for path in (done.probability("phantom_000"), done.mask("phantom_000"))
    )
    assert 0 <= probability.min() < probability.max() == pytest.approx(1)
    assert probability[mask == 1].min() > 0.5 - 1 / 255
    assert probability[mask == 0].max() < 0.5 + 1 / 255


def test_tables_and_records_hold_the_measurements(done, run):
    rows = table(done.cases)
    assert [row["name"] for row in rows] == ["phantom_000", "phantom_001", "series"]
    study = json.loads(done.study("phantom_000").read_text(encoding="utf-8"))
    mask = nifti.read(done.mask("phantom_000"))
    assert study["measurement"]["volume_ml"] == pytest.approx(mask.nonzero_ml)
    assert float(rows[0]["volume_ml"]) == pytest.approx(mask.nonzero_ml, abs=1e-3)
    assert study["runs"][0]["path"] == str(run)
    assert set(study["seconds"]) == {"read", "segment", "measure", "write"}
    assert not done.failures.exists()
    assert done.preview("phantom_000").stat().st_size > 10_000
    assert done.load_record()["failed"] == []


def test_what_the_network_is_unsure_of_is_told_but_in_no_mask(phantoms, done, tmp_path, capsys):
    """Tissue from 0 to 59 HU is found with less than 95 %."""
    run = write_run(tmp_path / "run", sure_inside=[0, 1])
    predicted(phantoms[:1], run, tmp_path / "out", probability=True)
    out, name = PredictionFolder(tmp_path / "out"), phantoms[0].name
    study, (row,) = out.load_study(name), table(out.cases)
    assert study["unsure_ml"] > 0
    assert study["sure_inside"] == [0, 1]
    assert float(row["unsure_ml"]) == pytest.approx(study["unsure_ml"], abs=1e-3)
    assert f"({study['unsure_ml']:.1f} mL more left out as unsure)" in capsys.readouterr().out
    everything = done.load_study(name)
    assert everything["unsure_ml"] == 0
    volumes = [found["measurement"]["volume_ml"] for found in (study, everything)]
    assert volumes[0] + study["unsure_ml"] == pytest.approx(volumes[1])
    probabilities = [nib.load(of.probability(name)).get_fdata() for of in (out, done)]
    np.testing.assert_array_equal(*probabilities)


def test_finished_studies_are_skipped(done, phantoms, run, capsys):
    before = done.mask("phantom_000").stat().st_mtime_ns
    predicted(phantoms[:2], run, done.path, probability=True)
    assert capsys.readouterr().out.count("(was there)") == 2
    assert done.mask("phantom_000").stat().st_mtime_ns == before


def test_a_study_without_its_files_is_predicted_anew(phantoms, run, tmp_path, capsys):
    out = PredictionFolder(tmp_path / "out")
    predicted(phantoms[:1], run, out.path, probability=True)
    for file in (out.mask("phantom_000"), out.probability("phantom_000")):
        file.unlink()
        predicted(phantoms[:1], run, out.path, probability=True)
        assert file.exists()
    assert "(was there)" not in capsys.readouterr().out


def test_other_weights_or_settings_predict_anew(phantoms, run, tmp_path, capsys, monkeypatch):
    def again(runs, **changes):
        predicted(phantoms[:1], runs, tmp_path / "out", **changes)
        return "(was there)" not in capsys.readouterr().out

    assert again(run)
    assert not again(run)
    assert again(run, mirror="x")
    assert again(write_run(tmp_path / "other", above_hu=30), mirror="x")
    assert again(tmp_path / "other", mirror="x", detection_ml=20.0)
    folder = RunFolder(tmp_path / "other")  # the same weights, trained with other settings
    folder.save_record({**folder.load_record(), "settings": "another digest"})
    monkeypatch.setattr("pleural.trained.digest", lambda _: "another digest")
    assert again(tmp_path / "other", mirror="x", detection_ml=20.0)
    assert not again(tmp_path / "other", mirror="x", detection_ml=20.0)


def test_a_mask_is_never_left_to_an_older_record(phantoms, run, tmp_path, monkeypatch):
    """Stopped between the mask and the record, the study counts as not done."""
    out, other = PredictionFolder(tmp_path / "out"), write_run(tmp_path / "other", above_hu=60)
    predicted(phantoms[:1], run, out.path, probability=True)
    first = nifti.read(out.mask("phantom_000")).array

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("pleural.predict.preview", stopped)
        predicted(phantoms[:1], other, out.path)
    assert not np.array_equal(nifti.read(out.mask("phantom_000")).array, first)
    assert not out.study("phantom_000").exists()
    assert not out.probability("phantom_000").exists()
    assert not out.record.exists()
    predicted(phantoms[:1], run, out.path)
    np.testing.assert_array_equal(nifti.read(out.mask("phantom_000")).array, first)


def test_a_prediction_that_fails_leaves_the_one_before(phantoms, run, tmp_path, monkeypatch):
    out, name = PredictionFolder(tmp_path / "out"), phantoms[0].name
    predicted(phantoms[:1], run, out.path)
    before = out.load_study(name), out.mask(name).read_bytes()

    def too_large(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("pleural.predict.Segmenter.segment", too_large)
    with pytest.raises(InputError, match="1 of 1 studies failed"):
        predicted(phantoms[:1], run, out.path, detection_ml=20.0)
    assert (out.load_study(name), out.mask(name).read_bytes()) == before


def test_a_torn_record_is_made_anew(phantoms, run, tmp_path, capsys):
    out, name = PredictionFolder(tmp_path / "out"), phantoms[0].name
    predicted(phantoms[:1], run, out.path)
    whole = out.load_study(name)
    out.study(name).write_text(out.study(name).read_text(encoding="utf-8")[:100], encoding="utf-8")
    predicted(phantoms[:1], run, out.path)
    assert "predicted anew" in capsys.readouterr().out
    assert out.load_study(name)["measurement"] == whole["measurement"]


def test_other_versions_predict_anew_and_other_machines_do_not(
    phantoms, run, tmp_path, capsys, monkeypatch
):
    predicted(phantoms[:1], run, tmp_path)
    for change, n_there in (({"machine": "another"}, 1), ({"torch": "9.9"}, 0)):
        monkeypatch.setattr("pleural.predict.versions", lambda now=change: {**versions(), **now})
        capsys.readouterr()
        predicted(phantoms[:1], run, tmp_path)
        assert capsys.readouterr().out.count("(was there)") == n_there


def test_tables_are_not_written_after_each_of_many_studies(phantoms, run, tmp_path, monkeypatch):
    written, save = [], PredictionFolder.save_tables

    def counted(folder, studies, failures):
        written.append(len(studies))
        save(folder, studies, failures)

    monkeypatch.setattr(PredictionFolder, "save_tables", counted)
    monkeypatch.setattr("pleural.predict.SAVED_EVERY_S", 1e9)
    predicted(phantoms, run, tmp_path)
    assert written == [1, len(phantoms)]


def test_cases_that_chose_their_epoch_are_named(phantoms, tmp_path):
    run = write_run(tmp_path / "run", phantoms[:1], phantoms[1:2])
    out = PredictionFolder(tmp_path / "out")
    predicted(phantoms, run, out.path, held_out=True)
    assert out.load_record()["chosen_on"] == ["phantom_001"]
    folder = RunFolder(run)
    folder.save_record({**folder.load_record(), "kept": "last"})
    predicted(phantoms, run, out.path, held_out=True)
    assert out.load_record()["chosen_on"] == []


def test_why_a_zip_has_no_seg_is_told_of_the_zip(dicom_phantom, run, tmp_path, monkeypatch):
    def refused(mask, series, *_, **__):
        raise InputError(f"{series}: FrameOfReferenceUID is missing")

    monkeypatch.setattr("pleural.io.dicom_seg.write", refused)
    packed = Path(shutil.make_archive(str(tmp_path / "study"), "zip", dicom_phantom.image))
    predicted([Case("study", "study", packed)], run, tmp_path / "out")
    no_seg = PredictionFolder(tmp_path / "out").load_study("study")["no_seg"]
    assert no_seg == f"{packed}: FrameOfReferenceUID is missing"


def test_the_same_run_by_another_path_is_the_same_run(phantoms, run, tmp_path, capsys, monkeypatch):
    predicted(phantoms[:1], run, tmp_path / "out")
    monkeypatch.chdir(run.parent)
    predicted(phantoms[:1], run.name, tmp_path / "out")
    assert "(was there)" in capsys.readouterr().out
    study = PredictionFolder(tmp_path / "out").load_study("phantom_000")
    assert study["runs"][0]["path"] == str(run)


def test_a_study_that_fails_is_told_and_the_others_go_on(phantoms, run, tmp_path):
    torn, damaged = tmp_path / "torn.nii.gz", tmp_path / "damaged.zip"
    torn.write_bytes(phantoms[0].image.read_bytes()[:2000])
    damaged.write_bytes(b"no zip")
    cases = [Case("torn", "torn", torn), Case("zip", "zip", damaged), *phantoms[:1]]
    out = PredictionFolder(tmp_path / "out")
    with pytest.raises(InputError, match=r"2 of 3 studies failed.*failures.csv"):
        predicted(cases, run, out.path)
    assert [row["name"] for row in table(out.cases)] == ["phantom_000"]
    by_name = {failure["name"]: failure["reason"] for failure in table(out.failures)}
    assert "cannot be read as NIfTI" in by_name["torn"]
    assert "cannot be unpacked" in by_name["zip"]
    assert out.load_record()["failed"] == ["torn", "zip"]
    shutil.copy(phantoms[1].image, torn)
    cases = [Case("torn", "torn", torn), *phantoms[:1]]
    assert predicted(cases, run, out.path) == 2
    assert not out.failures.exists()


def test_what_would_fail_for_every_study_fails_at_the_door(phantoms, run, tmp_path):
    evil = write_run(tmp_path / "evil", model={"_target_": "os.system", "command": "true"})
    with pytest.raises(InputError, match=r"os.system, which is not a class of"):
        predicted(phantoms, evil, tmp_path / "out")
    with pytest.raises(InputError, match="axes among x, y and z; got l, r"):
        predicted(phantoms, run, tmp_path / "out", mirror="lr")
    with pytest.raises(InputError, match="device=gpu"):
        predicted(phantoms, run, tmp_path / "out", device="gpu")
    assert not (tmp_path / "out").exists()


def test_an_unforeseen_fault_fails_one_study_only(phantoms, run, tmp_path, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("what nobody thought of")

    monkeypatch.setattr("pleural.predict.measure", broken)
    with pytest.raises(InputError, match="1 of 1 studies failed"):
        predicted(phantoms[:1], run, tmp_path)
    assert "what nobody thought of" in table(PredictionFolder(tmp_path).failures)[0]["reason"]
    with pytest.raises(ZeroDivisionError):
        predicted(phantoms[:1], run, tmp_path, debug=True)


def test_a_scan_that_is_no_ct_fails_with_its_finding(phantoms, run, tmp_path):
    scan = nifti.read(phantoms[0].image)
    nifti.write(scan.with_array((scan.array.clip(0) + 1).astype(np.int16)), tmp_path / "mr.nii.gz")
    with pytest.raises(InputError, match="studies failed"):
        predicted([Case("mr", "mr", tmp_path / "mr.nii.gz")], run, tmp_path / "out")
    assert "not in HU" in table(tmp_path / "out" / "failures.csv")[0]["reason"]


def test_held_out_predicts_each_case_by_its_own_fold(phantoms, tmp_path):
    a, b, c = phantoms
    for name, training, validation in (("0", (b,), (a,)), ("1", (a,), (b,))):
        write_run(tmp_path / "cv" / name, training, validation)
    out = PredictionFolder(tmp_path / "out")
    predicted(phantoms, tmp_path / "cv", out.path, held_out=True)
    by_run = {
        case.name: [one["path"][-1] for one in out.load_study(case.name)["runs"]]
        for case in phantoms
    }
    assert by_run == {a.name: ["0"], b.name: ["1"], c.name: ["0", "1"]}
    assert not any(row["trained_on"] == "True" for row in table(out.cases))


def test_held_out_leaves_out_what_every_run_trained_on(phantoms, tmp_path, capsys):
    run = write_run(tmp_path / "run", phantoms[:2], phantoms[2:])
    out = PredictionFolder(tmp_path / "out")
    assert predicted(phantoms, run, out.path, held_out=True) == 1
    assert out.load_record()["left_out"] == [case.name for case in phantoms[:2]]
    assert "left out" in capsys.readouterr().out


def test_a_prediction_of_a_training_case_is_marked(phantoms, tmp_path):
    run = write_run(tmp_path / "run", phantoms[:1], phantoms[1:2])
    predicted(phantoms[:2], run, tmp_path / "out")
    marks = [row["trained_on"] for row in table(tmp_path / "out" / "cases.csv")]
    assert marks == ["True", "False"]


def test_every_study_below_a_folder_is_found(dicom_phantom, phantoms, run, tmp_path):
    """DICOM at any depth, several series of a patient, a zip, NIfTI, and things that are none."""
    inbox = tmp_path / "in"
    shutil.copytree(dicom_phantom.image, inbox / "A" / "1" / "ct")
    shutil.copytree(dicom_phantom.image, inbox / "A" / "2" / "ct")
    shutil.make_archive(str(inbox / "B"), "zip", dicom_phantom.image)
    shutil.copy(phantoms[0].image, inbox / "C.nii.gz")
    (inbox / "viewer").mkdir()
    (inbox / "viewer" / "readme.txt").write_text("hello")
    out = PredictionFolder(tmp_path / "out")
    assert predicted(Folder(inbox), run, out.path) == 4
    assert [row["name"] for row in table(out.cases)] == ["A_1", "A_2", "B", "C"]
    masks = [nifti.read(out.mask(name)).array for name in ("A_1", "A_2", "B")]
    assert all(np.array_equal(mask, masks[0]) for mask in masks)
    assert out.seg("B").exists()


def test_the_real_scans_are_predicted_from_dicom(plethora_root, run, tmp_path):
    series = next((plethora_root / "subset" / "LUNG1-016").rglob("*.dcm")).parent
    predicted([Case("LUNG1-016", "LUNG1-016", series)], run, tmp_path)
    scan = dicom.read(series)
    mask = nifti.read(PredictionFolder(tmp_path).mask("LUNG1-016"))
    assert mask.shape == scan.shape
    seg = dicom_seg.read(PredictionFolder(tmp_path).seg("LUNG1-016"))
    np.testing.assert_array_equal(seg.onto(scan).array > 0.5, mask.array > 0)


def test_a_series_that_a_dicom_seg_cannot_refer_to_still_gets_its_mask(
    dicom_phantom, run, tmp_path
):
    series = shutil.copytree(dicom_phantom.image, tmp_path / "series")
    for path in series.iterdir():
        one = pydicom.dcmread(path)
        del one.FrameOfReferenceUID
        one.save_as(path)
    out = PredictionFolder(tmp_path / "out")
    assert predicted([Case("a", "a", series)], run, out.path) == 1
    assert out.mask("a").exists()
    assert not out.seg("a").exists()
    assert "FrameOfReferenceUID is missing" in out.load_study("a")["no_seg"]


def test_a_study_whose_dicom_seg_reads_back_otherwise_keeps_its_mask(
    dicom_phantom, run, tmp_path, monkeypatch
):
    def marks_others(*_, **__):
        raise RuntimeError("read back from the file, other voxels are marked")

    monkeypatch.setattr(dicom_seg, "write", marks_others)
    out = PredictionFolder(tmp_path)
    assert predicted([Case("a", "a", dicom_phantom.image)], run, out.path) == 1
    assert out.mask("a").exists()
    assert "other voxels are marked" in out.load_study("a")["no_seg"]


def comparable(path):
    """The rows of a table without times."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in table(path)]


@pytest.mark.parametrize("detection_ml", [-3, "ten", float("nan")])
def test_a_threshold_that_is_no_volume_is_refused(phantoms, run, tmp_path, detection_ml):
    with pytest.raises(InputError, match="detection_ml is a volume"):
        predicted(phantoms[:1], run, tmp_path, detection_ml=detection_ml)


def test_shards_are_disjoint_complete_and_end_in_one_folder(phantoms, run, tmp_path, capsys):
    cases = [replace(case, name=f"{case.name}_{i}") for i in range(2) for case in phantoms][:5]
    cases[3] = replace(cases[3], image=tmp_path / "gone.nii.gz", mask=None)
    whole, sharded = tmp_path / "whole", tmp_path / "sharded"
    with pytest.raises(InputError, match="1 of 5 studies failed"):
        predicted(cases, run, whole)
    for shard in (1, 0):
        shared = {"shard": shard, "shards": 2, "shared_dir": sharded}
        if shard == 1:
            with pytest.raises(InputError, match="1 of 2 studies failed"):
                predicted(cases, run, tmp_path / f"job{shard}", **shared)
            assert "when these shards are done in the same way: 0" in capsys.readouterr().out
            assert not (sharded / "predict.json").exists()
        else:
            assert predicted(cases, run, tmp_path / f"job{shard}", **shared) == 3
    assert not (tmp_path / "job0").exists()
    assert "all 2 shards are done: 4 studies" in capsys.readouterr().out
    for name in ("cases.csv", "failures.csv"):
        assert comparable(sharded / name) == comparable(whole / name)
    a, b = (PredictionFolder(folder).load_record() for folder in (whole, sharded))
    assert a == b
    names = [{row["name"] for row in table(sharded / f"cases_{i}_of_2.csv")} for i in (0, 1)]
    assert not names[0] & names[1]


@pytest.mark.parametrize(
    ("change", "told"), [({}, "all 2 shards"), ({"mirror": "x"}, "they differ in mirror")]
)
def test_shards_may_be_done_by_unlike_machines_but_not_in_unlike_ways(
    phantoms, run, tmp_path, capsys, monkeypatch, change, told
):
    shared = {"shards": 2, "shared_dir": tmp_path / "out"}
    predicted(phantoms, run, tmp_path / "a", shard=0, **shared)
    elsewhere = {**versions(), "machine": "another, 64 cores"}
    monkeypatch.setattr("pleural.predict.versions", lambda: elsewhere)
    predicted(phantoms, run, tmp_path / "b", shard=1, **shared, **change)
    assert told in capsys.readouterr().out


def test_shards_of_other_cases_are_no_parts_of_one_whole(phantoms, run, tmp_path, capsys):
    shared = {"shards": 2, "shared_dir": tmp_path / "out"}
    for shard in (0, 1):
        predicted(phantoms[:2], run, tmp_path / "a", shard=shard, **shared)
    assert "all 2 shards are done: 2 studies" in capsys.readouterr().out
    predicted(phantoms, run, tmp_path / "b", shard=0, **shared)
    assert "they differ in all_cases" in capsys.readouterr().out
    assert not (tmp_path / "out" / "predict.json").exists()
    predicted(phantoms, run, tmp_path / "b", shard=1, **shared)
    assert f"all 2 shards are done: {len(phantoms)} studies" in capsys.readouterr().out


def test_a_shard_that_was_killed_is_resumed(phantoms, run, tmp_path, capsys):
    shared = {"shard": 0, "shards": 2, "shared_dir": tmp_path}
    assert predicted(phantoms[:1], run, tmp_path / "job", **shared) == 1
    assert predicted(phantoms, run, tmp_path / "job", **shared) == 2
    assert capsys.readouterr().out.count("(was there)") == 1


def namesakes(phantoms):
    """Two scans of a patient, of which a run saw the first."""
    return [replace(case, patient="anna") for case in phantoms[:2]]


def test_another_scan_of_a_patient_that_was_trained_on_is_known_from_another_shard(
    phantoms, tmp_path
):
    cases = namesakes(phantoms)
    run = write_run(tmp_path / "run", cases[:1], phantoms[2:])
    shared = {"shard": 1, "shards": 2, "shared_dir": tmp_path / "out"}
    assert predicted(cases, run, tmp_path / "job", **shared) == 1
    (row,) = table(tmp_path / "out" / "cases_1_of_2.csv")
    assert (row["name"], row["trained_on"]) == (cases[1].name, "True")


def test_what_later_studies_tell_of_an_earlier_one_is_noted(phantoms, tmp_path, capsys):
    cases = namesakes(phantoms)
    run = write_run(tmp_path / "run", cases[:1], phantoms[2:])
    out = PredictionFolder(tmp_path / "out")
    predicted(cases[1:], run, out.path)
    assert out.load_study(cases[1].name)["trained_on_by"] == []
    predicted(cases, run, out.path)
    assert out.load_study(cases[1].name)["trained_on_by"] == [str(run)]
    assert capsys.readouterr().out.count("(was there)") == 1


@pytest.mark.parametrize(("shard", "shards"), [(None, 2), (2, 2), (-1, 2), (0, 0), (1, 1)])
def test_a_shard_that_is_none_is_refused(phantoms, run, tmp_path, shard, shards):
    with pytest.raises(InputError, match=r"task.shard is one of 0 to task.shards - 1"):
        predicted(phantoms, run, tmp_path, shard=shard, shards=shards)
