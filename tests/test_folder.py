"""Every layout that a folder of scans may have, and every refusal."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from pleural.data.case import Case
from pleural.data.folder import Folder
from pleural.errors import Findings, InputError
from pleural.io import nifti
from pleural.volume import Volume
from tests.test_find import dicom

CONF = Path(__file__).resolve().parents[1] / "conf" / "data" / "folder.yaml"


def volumes(root: Path, *names: str) -> list[Path]:
    for name in names:
        nifti.write(Volume(np.zeros((2, 2, 2), np.uint8), np.eye(4)), root / name)
    return [root / name for name in names]


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
    volumes(tmp_path, *(f"a/lung_{i}.nii" for i in range(9)), "b/ct.nii")
    (finding,) = findings(tmp_path)
    assert "a/lung_4.nii, and 4 more; names" in finding


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


def test_the_yaml_repeats_the_constructor_in_names_and_defaults() -> None:
    conf = OmegaConf.to_container(OmegaConf.load(CONF))
    assert isinstance(conf, dict)
    assert conf.pop("_target_") == f"{Folder.__module__}.{Folder.__name__}"
    assert list(conf) == [field.name for field in fields(Folder)]
    assert Folder("???") == Folder(**{**conf, "negatives": tuple(conf["negatives"])})
