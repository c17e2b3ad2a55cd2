"""What is found in a folder: kinds of files, and what is passed over."""

from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from pleural.errors import InputError
from pleural.io import find


def dicom(path: Path, modality: str = "CT", *image_type: str) -> Path:
    """A file with no more of a header than tells its kind; its folder comes back."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    header.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.ImageType = list(image_type) or ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.Modality = modality
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)
    return path.parent


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a.nii.gz", "a"), ("a.b.NII.GZ", "a.b"), ("a.nii", "a"), ("a.dcm", "a.dcm"), ("a", "a")],
)
def test_stem(name: str, stem: str) -> None:
    assert find.stem(Path("folder.nii", name)) == stem


def test_entries_lie_flat_and_are_not_hidden(tmp_path: Path) -> None:
    (tmp_path / "b" / "deeper").mkdir(parents=True)
    for name in ("c", "a", "._a", ".DS_Store"):
        (tmp_path / name).touch()
    assert find.entries(tmp_path) == [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    assert find.entries(tmp_path / "missing") == []


def test_slice_files_are_no_index_and_no_folders(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    for name in ("2.dcm", "1", ".1", "DICOMDIR", "dicomdir"):
        (tmp_path / name).touch()
    assert find.slice_files(tmp_path) == [tmp_path / "1", tmp_path / "2.dcm"]


def test_contents_are_nifti_files_and_folders_of_a_kind(tmp_path: Path) -> None:
    ct = dicom(tmp_path / "study" / "ct" / "1.dcm")
    dicom(ct / "2.dcm")
    scout = dicom(tmp_path / "study" / "scout" / "1", "CT", "ORIGINAL", "PRIMARY", "LOCALIZER")
    mr = dicom(tmp_path / "study" / "[mr] *" / "1.dcm", "MR")
    mask = tmp_path / "mask.NII.gz"
    mask.touch()
    assert find.contents(tmp_path) == {ct: "CT", scout: "scout", mr: "MR", mask: "NIfTI"}
    assert find.contents(ct) == {ct: "CT"}
    assert find.contents(mask) == {mask: "NIfTI"}


def test_hidden_and_other_files_are_passed_over(tmp_path: Path) -> None:
    dicom(tmp_path / ".hidden" / "1.dcm")
    for name in ("._scan.nii.gz", "notes.txt", "empty.dcm"):
        (tmp_path / name).write_text("not DICOM" if name != "empty.dcm" else "")
    assert find.contents(tmp_path) == {}


def test_dicom_kind(tmp_path: Path) -> None:
    dicom(tmp_path / "ct")
    dicom(tmp_path / "unsaid", "")
    (tmp_path / "notes").write_text("not DICOM")
    kinds = [find.dicom_kind(tmp_path / name) for name in ("ct", "unsaid", "notes")]
    assert kinds == ["CT", None, None]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = dicom(tmp_path / "1.dcm") / "1.dcm"
    file.write_bytes(file.read_bytes().replace(b"\x60\0CS", b"\x60\0XX"))
    with pytest.raises(InputError, match=r"1\.dcm: cannot be read as DICOM"):
        find.contents(tmp_path)
