"""Every layout that a folder of scans may have, and every refusal."""

import re
from pathlib import Path

import numpy as np
import pytest

from pleural.data.case import Case
from pleural.data.folder import Folder
from pleural.errors import Findings, InputError
from pleural.io import nifti
from pleural.volume import Volume
from tests.test_find import dicom


def volumes(root: Path, *names: str) -> list[Path]:
    for name in names:
        nifti.write(Volume(np.zeros((2, 2, 2), np.uint8), np.eye(4)), root / name)
    return [root / name for name in names]


def zips(root: Path, *names: str) -> None:
    """What is in them is told by their reader alone."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def found(root: Path) -> dict[str, tuple[str, str | None]]:
    """Name, image and mask of all cases, both relative to the root."""

    def paths(case: Case) -> tuple[str, str | None]:
        mask = case.mask and case.mask.relative_to(root).as_posix()
        return case.image.relative_to(root).as_posix(), mask

    return {case.name: paths(case) for case in Folder(root).cases()}


def findings(root: Path) -> list[str]:
    with pytest.raises(Findings) as caught:
        Folder(root).cases()
    return caught.value.findings


def test_images_and_masks_of_the_same_name(tmp_path: Path) -> None:
    volumes(tmp_path, "images/a_10.nii.gz", "images/a_2.nii", "masks/a_2.nii.gz", "masks/b.nii")
    dicom(tmp_path / "images" / "b" / "study" / "series" / "1.dcm")
    dicom(tmp_path / "images" / "b" / "study" / "contours" / "1.dcm", "RTSTRUCT")
    (tmp_path / "images" / "README.txt").write_text("neither an image nor a folder")
    (tmp_path / "images" / "._a_2.nii").write_bytes(b"left by a Mac")
    assert found(tmp_path) == {
        "a_2": ("images/a_2.nii", "masks/a_2.nii.gz"),
        "a_10": ("images/a_10.nii.gz", None),
        "b": ("images/b/study/series", "masks/b.nii"),
    }
    assert list(found(tmp_path)) == ["a_2", "a_10", "b"]


def test_images_alone_are_unlabelled(tmp_path: Path) -> None:
    volumes(tmp_path, "images/a.nii.gz")
    (case,) = Folder(tmp_path).cases()
    assert (case.name, case.patient, case.labelled) == ("a", "a", False)


def test_medical_segmentation_decathlon(tmp_path: Path) -> None:
    volumes(tmp_path, "imagesTr/lung_0001.nii.gz", "labelsTr/lung_0001.nii.gz")
    volumes(tmp_path, "imagesTr/lung_0000.nii.gz", "labelsTr/lung_0000.nii.gz")
    volumes(tmp_path, "imagesTs/lung_0002.nii.gz")
    (tmp_path / "dataset.json").write_text("{}")
    assert found(tmp_path) == {
        "lung_0000": ("imagesTr/lung_0000.nii.gz", "labelsTr/lung_0000.nii.gz"),
        "lung_0001": ("imagesTr/lung_0001.nii.gz", "labelsTr/lung_0001.nii.gz"),
        "lung_0002": ("imagesTs/lung_0002.nii.gz", None),
    }


def test_nnunet(tmp_path: Path) -> None:
    volumes(tmp_path, "imagesTr/lung_001_0000.nii.gz", "labelsTr/lung_001.nii.gz")
    volumes(tmp_path, "imagesTs/lung_002_0000.nii.gz")
    assert found(tmp_path) == {
        "lung_001": ("imagesTr/lung_001_0000.nii.gz", "labelsTr/lung_001.nii.gz"),
        "lung_002": ("imagesTs/lung_002_0000.nii.gz", None),
    }


def test_nnunet_with_two_channels_is_refused(tmp_path: Path) -> None:
    volumes(tmp_path, "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz")
    assert findings(tmp_path) == [
        "a: 2 scans where there may be one: imagesTr/a_0000.nii.gz, imagesTr/a_0001.nii.gz"
    ]


def test_a_folder_for_each_case(tmp_path: Path) -> None:
    volumes(tmp_path, "a/image.nii.gz", "a/mask.nii.gz", "b/CT_thorax.nii", "b/Segmentation.nii")
    volumes(tmp_path, "c/effusion.nii.gz", "d/scan.nii.gz")
    dicom(tmp_path / "c" / "series" / "1")
    dicom(tmp_path / "e" / "1.dcm")
    dicom(tmp_path / "e" / "report" / "1.dcm", "SR")
    assert found(tmp_path) == {
        "a": ("a/image.nii.gz", "a/mask.nii.gz"),
        "b": ("b/CT_thorax.nii", "b/Segmentation.nii"),
        "c": ("c/series", "c/effusion.nii.gz"),
        "d": ("d/scan.nii.gz", None),
        "e": ("e", None),
    }


def test_bare_scans(tmp_path: Path) -> None:
    volumes(tmp_path, "a.nii.gz", "b.nii")
    dicom(tmp_path / "c" / "1.dcm")
    assert found(tmp_path) == {
        "a": ("a.nii.gz", None),
        "b": ("b.nii", None),
        "c": ("c", None),
    }


def test_the_folder_of_one_dicom_series(tmp_path: Path) -> None:
    root = dicom(tmp_path / "somebody" / "1.dcm")
    assert found(root) == {"somebody": (".", None)}


def test_that_folder_may_hold_its_mask(tmp_path: Path) -> None:
    root = dicom(tmp_path / "somebody" / "1.dcm")
    volumes(root, "mask.nii.gz")
    assert found(root) == {"somebody": (".", "mask.nii.gz")}


def test_a_zip_stands_for_the_scan_of_a_pair(tmp_path: Path) -> None:
    volumes(tmp_path, "images/a.nii.gz", "masks/a.nii.gz", "masks/b.nii.gz", "masks/c.nii.gz")
    zips(tmp_path, "images/b.zip", "images/c/study/series.ZIP", "images/d.nii.gz.zip")
    assert found(tmp_path) == {
        "a": ("images/a.nii.gz", "masks/a.nii.gz"),
        "b": ("images/b.zip", "masks/b.nii.gz"),
        "c": ("images/c/study/series.ZIP", "masks/c.nii.gz"),
        "d": ("images/d.nii.gz.zip", None),
    }


def test_a_zip_stands_for_the_scan_of_nnunet(tmp_path: Path) -> None:
    volumes(tmp_path, "labelsTr/lung_001.nii.gz")
    zips(tmp_path, "imagesTr/lung_001_0000.zip", "imagesTs/lung_002_0000.zip")
    assert found(tmp_path) == {
        "lung_001": ("imagesTr/lung_001_0000.zip", "labelsTr/lung_001.nii.gz"),
        "lung_002": ("imagesTs/lung_002_0000.zip", None),
    }


def test_a_zip_stands_for_the_scan_of_a_case_folder(tmp_path: Path) -> None:
    volumes(tmp_path, "a/mask.nii.gz", "b/ct.nii.gz", "b/mask.nii.gz")
    zips(tmp_path, "a/whatever.zip", "c.zip")
    assert found(tmp_path) == {
        "a": ("a/whatever.zip", "a/mask.nii.gz"),
        "b": ("b/ct.nii.gz", "b/mask.nii.gz"),
        "c": ("c.zip", None),
    }
    zips(tmp_path, "b/again.zip")
    (finding,) = findings(tmp_path)
    assert finding == "b: 2 scans where there may be one: b/again.zip, b/ct.nii.gz"


def test_bare_zips(tmp_path: Path) -> None:
    zips(tmp_path, "b.zip", "Пациент 1.zip")
    volumes(tmp_path, "a.nii.gz")
    (tmp_path / "viewer.exe").write_bytes(b"not a scan")
    assert found(tmp_path) == {
        "a": ("a.nii.gz", None),
        "b": ("b.zip", None),
        "Пациент 1": ("Пациент 1.zip", None),
    }


def test_without_masks_each_scan_is_a_case(tmp_path: Path) -> None:
    """Named after the folders at which the ways to the scans of a patient part."""
    for path in ("A/study 1/ct/3", "A/study 1/ct/12", "A/study 2/ct/3", "B/study 1/ct/3"):
        dicom(tmp_path / path / "1.dcm")
    dicom(tmp_path / "A" / "study 1" / "scout" / "1.dcm", "CT", "ORIGINAL", "PRIMARY", "LOCALIZER")
    dicom(tmp_path / "A" / "study 2" / "contours" / "1.dcm", "RTSTRUCT")
    volumes(tmp_path, "C/2021/lung.nii.gz", "C/2022/lung.nii.gz", "D/x.nii")
    zips(tmp_path, "E/2021.zip", "E/2022.zip", "F.zip")
    cases = Folder(tmp_path).cases()
    assert {case.name: case.image.relative_to(tmp_path).as_posix() for case in cases} == {
        "A_study_1_3": "A/study 1/ct/3",
        "A_study_1_12": "A/study 1/ct/12",
        "A_study_2": "A/study 2/ct/3",
        "B": "B/study 1/ct/3",
        "C_2021": "C/2021/lung.nii.gz",
        "C_2022": "C/2022/lung.nii.gz",
        "D": "D/x.nii",
        "E_2021": "E/2021.zip",
        "E_2022": "E/2022.zip",
        "F": "F.zip",
    }
    assert [case.patient for case in cases] == [*"AAABCCDEEF"]
    assert [case.name for case in cases][:3] == ["A_study_1_3", "A_study_1_12", "A_study_2"]


def test_with_a_mask_anywhere_several_scans_are_refused(tmp_path: Path) -> None:
    for path in ("A/1", "A/2"):
        dicom(tmp_path / path / "1.dcm")
    assert list(found(tmp_path)) == ["A_1", "A_2"]
    volumes(tmp_path, "B/ct.nii", "B/mask.nii")
    assert findings(tmp_path) == ["A: 2 scans where there may be one: A/1, A/2"]


def test_two_series_of_one_patient_in_the_other_layouts(tmp_path: Path) -> None:
    for path in ("images/A/1", "images/A/2", "images/B", "root", "root/later"):
        dicom(tmp_path / path / "1.dcm")
    assert list(found(tmp_path)) == ["A_1", "A_2", "B"]
    assert found(tmp_path / "root") == {"root": (".", None), "root_later": ("later", None)}


def test_names_of_scans_are_safe_and_stay(tmp_path: Path) -> None:
    """Wherever the root lies, and however a file system spells ä."""
    decomposed = "a\u0308"
    for path in ("患者 (一)/頭:1", "患者 (一)/胸,2", f"{decomposed}/x=y", f"{decomposed}/é"):
        dicom(tmp_path / "here" / path / "1.dcm")
    names = list(found(tmp_path / "here"))
    assert all(re.fullmatch(r"[\w.-]+", name) for name in names)
    assert sorted(names) == sorted(["患者_一_頭_1", "患者_一_胸_2", "ä_x_y", "ä_é"])
    assert list(found((tmp_path / "here").rename(tmp_path / "there"))) == names


def test_two_entries_may_have_names_that_begin_alike(tmp_path: Path) -> None:
    for path in ("b/1", "b/2", "b_1/x", "b_1/y"):
        dicom(tmp_path / path / "1.dcm")
    assert {name: image for name, (image, _) in found(tmp_path).items()} == {
        "b_1": "b/1",
        "b_1_x": "b_1/x",
        "b_1_y": "b_1/y",
        "b_2": "b/2",
    }


def test_long_names_are_cut_and_stay_apart(tmp_path: Path) -> None:
    for end in "12":
        dicom(tmp_path / "患者" / ("9" * 99) / ("胸" * 60 + end) / "ct" / "1.dcm")
    first, second = found(tmp_path)
    assert first != second
    assert first.startswith("患者_胸胸胸") and re.search(r"胸-[0-9a-f]{8}$", first)
    assert 150 < len(first.encode()) <= 160
    volumes(tmp_path, "B/ct.nii")
    assert list(found(tmp_path))[1:] == [first, second]


def test_scans_that_would_be_called_the_same_are_refused(tmp_path: Path) -> None:
    zips(tmp_path, "a.zip", "b_1.zip", "b/1.zip", "b/2.zip", "c/x y.zip", "c/x_y.zip")
    volumes(tmp_path, "a.nii.gz")
    assert findings(tmp_path) == [
        "a: 2 scans where there may be one: a.nii.gz, a.zip",
        "b_1: 2 scans where there may be one: b_1.zip, b/1.zip",
        "c_x_y: 2 scans where there may be one: c/x y.zip, c/x_y.zip",
    ]


@pytest.mark.parametrize("other", ["a/P1_seg.nii.gz", "a/P1_Mask.nii.gz", "a/ct.nii.gz"])
def test_what_may_be_a_mask_is_no_scan_without_masks_either(tmp_path: Path, other: str) -> None:
    volumes(tmp_path, "a/P1.nii.gz", other)
    (finding,) = findings(tmp_path)
    assert finding.startswith("a: scan or mask? a/P1.nii.gz")
    zips(tmp_path, "a/ct_1.zip", "a/ct_2.zip")
    assert findings(tmp_path)[-1] == finding


def test_links_that_go_in_circles_end(tmp_path: Path) -> None:
    for name in "AB":
        series = dicom(tmp_path / name / "series" / "1.dcm")
        for number, target in enumerate([".", "..", "../..", "../../A", "../../B"]):
            (series / f"circle_{number}").symlink_to(target)
    names = [case.patient for case in Folder(tmp_path).cases()]
    assert set(names) == {"A", "B"}


def test_everything_wrong_with_case_folders_comes_in_one_list(tmp_path: Path) -> None:
    volumes(tmp_path, "a/ct.nii.gz", "a/image.nii.gz", "b/mask.nii.gz", "c/lung.nii.gz")
    volumes(tmp_path, "d/ct.nii.gz", "d/label.nii.gz", "d/seg.nii.gz", "fine/ct.nii.gz")
    dicom(tmp_path / "e" / "1.dcm", "MR")
    (tmp_path / "f").mkdir()
    assert findings(tmp_path) == [
        "a: 2 scans where there may be one: a/ct.nii.gz, a/image.nii.gz",
        "b: a mask without a scan: b/mask.nii.gz",
        "c: scan or mask? c/lung.nii.gz; names of scans start with image/ct/scan, of masks with"
        " mask/label/effusion/seg",
        "d: 2 masks where there may be one: d/label.nii.gz, d/seg.nii.gz",
        "e: no scan (MR)",
        "f: no scan (neither NIfTI nor DICOM)",
    ]


def test_everything_wrong_with_pairs_comes_in_one_list(tmp_path: Path) -> None:
    volumes(tmp_path, "images/a.nii", "images/a.nii.gz", "images/fine.nii.gz", "masks/b.nii.gz")
    assert findings(tmp_path) == [
        "a: 2 scans where there may be one: images/a.nii, images/a.nii.gz",
        "b: a mask without a scan: masks/b.nii.gz",
    ]


def test_long_lists_are_cut(tmp_path: Path) -> None:
    volumes(tmp_path, *(f"a/lung_{i}.nii" for i in range(9)), "b/ct.nii", "b/mask.nii")
    (finding,) = findings(tmp_path)
    assert "a/lung_4.nii and 4 more; names" in finding


def test_a_folder_without_scans_is_told_the_layouts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no scan in it(.|\n)*DIR/labelsTr/NAME\.nii\.gz"):
        Folder(tmp_path).cases()
    dicom(tmp_path / "head" / "1.dcm", "MR")
    with pytest.raises(InputError, match=r"DIR/labelsTr(.|\n)*head: no scan \(MR\)"):
        Folder(tmp_path).cases()
    with pytest.raises(InputError, match=r"there is no such folder(.|\n)*DIR/labelsTr"):
        Folder(tmp_path / "missing").cases()


def test_studies_of_one_patient(tmp_path: Path) -> None:
    volumes(tmp_path, "anna_1.nii.gz", "anna_2.nii.gz", "bert_1.nii.gz")
    cases = Folder(tmp_path, patient_pattern=r"^([a-z]+)_").cases()
    assert [case.patient for case in cases] == ["anna", "anna", "bert"]
    assert [case.name for case in cases] == ["anna_1", "anna_2", "bert_1"]
    with pytest.raises(Findings, match=r"bert_1: data\.patient_pattern finds no patient"):
        Folder(tmp_path, patient_pattern="(anna)").cases()


@pytest.mark.parametrize(
    ("pattern", "reason"), [("(a", "no regular expression"), ("a", "0 groups"), ("(a)(b)", "2 gr")]
)
def test_patient_patterns_have_one_group(tmp_path: Path, pattern: str, reason: str) -> None:
    volumes(tmp_path, "a.nii.gz")
    with pytest.raises(InputError, match=rf"data\.patient_pattern: .* {reason}"):
        Folder(tmp_path, patient_pattern=pattern).cases()


def test_negatives(tmp_path: Path) -> None:
    volumes(tmp_path, "images/healthy_1.nii.gz", "images/a.nii.gz", "masks/a.nii.gz")
    cases = Folder(tmp_path, negatives=["healthy_*"]).cases()
    assert [(case.name, case.negative) for case in cases] == [("a", False), ("healthy_1", True)]
    assert Folder(tmp_path, negatives="healthy_*").cases() == cases
    with pytest.raises(InputError, match=r"'well_\*' fits none"):
        Folder(tmp_path, negatives=["well_*"]).cases()
