"""PleThora's layouts, the one in the README of the data and the one that TCIA delivers."""

from pathlib import Path

import numpy as np
import pytest

from pleural.data.plethora import Plethora
from pleural.errors import Findings, InputError
from pleural.io import nifti
from pleural.volume import Volume
from tests.test_find import dicom

REVIEWERS = ("first", "second", "third")


def volume(path: Path) -> Path:
    nifti.write(Volume(np.zeros((2, 2, 2), np.uint8), np.eye(4)), path)
    return path


def mask(root: Path, patient: str, reviewer: str = "first") -> Path:
    return volume(root / patient / f"{patient}_effusion_{reviewer}_reviewer.nii.gz")


def as_downloaded(root: Path, patient: str) -> Path:
    study = root / "NSCLC-Radiomics" / patient / "09-18-2008-StudyID-NA-69331"
    dicom(study / "3.000000-Segmentation-9.554" / "1-1.dcm", "SEG")
    dicom(study / "0.000000-NA-82047" / "1-1.dcm", "RTSTRUCT")
    dicom(study / "0.000000-NA-82046" / "1-002.dcm", "CT")
    return dicom(study / "0.000000-NA-82046" / "1-001.dcm", "CT")


def test_the_seven_real_cases(plethora_root: Path) -> None:
    cases = Plethora(plethora_root).cases()
    numbers = ["001", "005", "008", "013", "016", "024", "028"]
    assert [case.name for case in cases] == [f"LUNG1-{number}" for number in numbers]
    for case in cases:
        assert case.patient == case.name
        assert case.mask is not None
        assert case.mask.name == f"{case.name}_effusion_first_reviewer.nii.gz"
        assert len(list(case.image.glob("*.dcm"))) >= 82
        assert (case.readers, case.negative) == ({}, False)


def test_as_downloaded_with_three_reviewers_and_thoracic_cavities(tmp_path: Path) -> None:
    ct = as_downloaded(tmp_path, "LUNG1-001")
    first, second, third = (mask(tmp_path / "Effusions", "LUNG1-001", n) for n in REVIEWERS)
    name = "LUNG1-001_thor_cav_primary_reviewer.nii.gz"
    volume(tmp_path / "Effusions" / "LUNG1-001" / name)
    (tmp_path / "NSCLC-Radiomics" / "LICENSE").write_text("CC BY-NC 3.0")
    (case,) = Plethora(tmp_path).cases()
    assert (case.image, case.mask) == (ct, first)
    assert case.readers == {"second": second, "third": third}


def test_nifti_scans_and_masks_may_lie_in_the_same_folder(tmp_path: Path) -> None:
    images = [volume(tmp_path / name) for name in ("A/scan.nii.gz", "B.nii.gz")]
    masks = [mask(tmp_path, "A"), volume(tmp_path / "B_effusion_first_reviewer.nii.gz")]
    cases = Plethora(str(tmp_path), images=".", masks=".").cases()
    assert [case.name for case in cases] == ["A", "B"]
    assert [case.image for case in cases] == images
    assert [case.mask for case in cases] == masks


def test_a_missing_mask_means_unlabelled_and_only_negatives_are_negative(tmp_path: Path) -> None:
    for patient in ("LUNG1-10", "LUNG1-9", "LUNG1-2", "LUNG1-1"):
        dicom(tmp_path / "subset" / patient / "series" / "slice", "CT")
    mask(tmp_path / "subset_masks", "LUNG1-1")
    second = mask(tmp_path / "subset_masks", "LUNG1-2", "second")
    cases = Plethora(tmp_path, negatives=["LUNG1-9"]).cases()
    assert [case.name for case in cases] == ["LUNG1-1", "LUNG1-2", "LUNG1-9", "LUNG1-10"]
    assert [case.labelled for case in cases] == [True, False, True, False]
    assert [case.negative for case in cases] == [False, False, True, False]
    assert (cases[1].mask, cases[1].readers) == (None, {"second": second})


def test_everything_wrong_comes_in_one_list(tmp_path: Path) -> None:
    images, masks = tmp_path / "subset", tmp_path / "subset_masks"
    thick, thin = (dicom(images / "A" / name / "1.dcm", "CT") for name in ("thick", "thin"))
    dicom(images / "B" / "contours" / "1.dcm", "RTSTRUCT")
    (images / "C").mkdir()
    dicom(images / "D" / "1.dcm", "CT")
    twice = [mask(masks, "D"), mask(masks / "copy", "D")]
    for patient in "ABE":
        mask(masks, patient)
    with pytest.raises(Findings) as caught:
        Plethora(tmp_path).cases()
    assert caught.value.findings == [
        f"A: 2 scans, keep one of {thick}, {thin}",
        "B: no CT series (RTSTRUCT)",
        "C: no CT series (no DICOM files)",
        f"D: masks by the first reviewer, keep one of {twice[0]}, {twice[1]}",
        "E: a mask without a scan; fetch the scan or take the mask out",
    ]


@pytest.mark.parametrize(
    ("distrusted", "found"),
    [(None, ["LUNG1-005"]), ((), []), (("LUNG1-001",), ["LUNG1-001"])],
)
def test_masks_known_to_be_poor_are_distrusted_unless_others_are(
    tmp_path: Path, distrusted: tuple[str] | None, found: list[str]
) -> None:
    for name in ("LUNG1-001", "LUNG1-005"):
        as_downloaded(tmp_path, name)
        mask(tmp_path / "Effusions", name)
    source = Plethora(tmp_path, distrusted=distrusted)
    assert [case.name for case in source.cases() if case.distrusted] == found


def test_a_choice_of_scans_comes_before_all_and_what_is_named_before_both(tmp_path: Path) -> None:
    for folder in ("NSCLC-Radiomics", "subset", "mine"):
        dicom(tmp_path / folder / folder / "1.dcm", "CT")
    for folder in ("Effusions", "subset_masks"):
        mask(tmp_path / folder, folder)
    mask(tmp_path / "marked", "mine")
    with pytest.raises(Findings, match="subset_masks: a mask without a scan"):
        Plethora(tmp_path).cases()
    (case,) = Plethora(tmp_path, images="mine", masks="marked").cases()
    assert case.name == "mine"
    with pytest.raises(InputError, match="there is no folder yours in it"):
        Plethora(tmp_path, images="yours").cases()


def test_scouts_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    patient = tmp_path / "subset" / "A"
    dicom(patient / "scout" / "1.dcm", "CT", "ORIGINAL", "PRIMARY", "LOCALIZER")
    ct = dicom(patient / "ct" / "1.dcm", "CT")
    hidden = mask(tmp_path / "subset_masks", "A")
    hidden.with_name(f"._{hidden.name}").write_bytes(b"left by a Mac")
    assert [case.image for case in Plethora(tmp_path).cases()] == [ct]


def test_missing_and_empty_folders_are_named(tmp_path: Path) -> None:
    no_scans = r"there is no folder subset or NSCLC-Radiomics in it(.|\n)*LUNG1-001"
    with pytest.raises(InputError, match=no_scans):
        Plethora(tmp_path).cases()
    (tmp_path / "subset").mkdir()
    with pytest.raises(InputError, match="no folder subset_masks or Effusions in it"):
        Plethora(tmp_path).cases()
    (tmp_path / "subset_masks").mkdir()
    with pytest.raises(InputError, match="subset: no patient"):
        Plethora(tmp_path).cases()
    dicom(tmp_path / "subset" / "A" / "1.dcm", "CT")
    with pytest.raises(InputError, match="subset_masks: no mask of an effusion"):
        Plethora(tmp_path).cases()
