"""What is found in a folder: kinds of files, what is passed over, and links that go in circles."""

from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

from pleural.errors import InputError
from pleural.io import find, plausible


def dicom(path: Path, modality: str = "CT", *image_type: str, sop_class: str = "") -> Path:
    """A file with no more of a header than tells its kind; its folder comes back."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    header.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.ImageType = list(image_type) or ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.Modality = modality
    if sop_class:
        header.SOPClassUID = sop_class
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)
    return path.parent


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.nii.gz", "a"),
        ("a.b.NII.GZ", "a.b"),
        ("a.nii", "a"),
        ("a.dcm", "a.dcm"),
        ("a", "a"),
        ("a.ZIP", "a"),
        ("a.nii.gz.zip", "a"),
        ("a.zip.nii", "a.zip"),
        ("a.gz", "a.gz"),
        ("azip", "azip"),
    ],
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


def test_what_may_hold_a_scan(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    names = ["folder", "a.nii", "a.NII.gz", "a.Zip", "a.gz", "a.dcm"]
    held = [name for name in names if find.may_hold_scan(tmp_path / name)]
    assert held == ["folder", "a.nii", "a.NII.gz", "a.Zip"]


def test_contents_are_nifti_files_and_folders_of_a_kind(tmp_path: Path) -> None:
    ct = dicom(tmp_path / "study" / "ct" / "1.dcm")
    dicom(ct / "2.dcm")
    scout = dicom(tmp_path / "study" / "scout" / "1", "CT", "ORIGINAL", "PRIMARY", "LOCALIZER")
    mr = dicom(tmp_path / "study" / "[mr] *" / "1.dcm", "MR")
    mask = tmp_path / "mask.NII.gz"
    mask.touch()
    packed = tmp_path / "study" / "packed.ZIP"
    packed.write_bytes(b"looked into by its reader")
    kinds = {ct: "CT", scout: "scout", mr: "MR", mask: "NIfTI", packed: "zip"}
    assert find.contents(tmp_path) == kinds
    assert find.contents(packed) == {packed: "zip"}
    assert find.contents(ct) == {ct: "CT"}
    assert find.contents(mask) == {mask: "NIfTI"}


def test_hidden_and_other_files_are_passed_over(tmp_path: Path) -> None:
    dicom(tmp_path / ".hidden" / "1.dcm")
    for name in ("._scan.nii.gz", "notes.txt", "empty.dcm"):
        (tmp_path / name).write_text("not DICOM" if name != "empty.dcm" else "")
    assert find.contents(tmp_path) == {}


def test_a_ct_slice_anywhere_in_a_folder_makes_it_a_ct(tmp_path: Path) -> None:
    """It is for the reader to say that there is more; passed over, it would go unseen."""
    dicom(tmp_path / "1.dcm", "CT", "ORIGINAL", "PRIMARY", "LOCALIZER")
    dicom(tmp_path / "2.dcm", "SR")
    assert find.contents(tmp_path) == {tmp_path: "scout"}
    dicom(tmp_path / "3.dcm")
    dicom(tmp_path / "4.dcm", "MR")
    assert find.contents(tmp_path) == {tmp_path: "CT"}


def test_dicom_kind(tmp_path: Path) -> None:
    dicom(tmp_path / "ct", sop_class=CTImageStorage)
    dicom(tmp_path / "dose", sop_class=SecondaryCaptureImageStorage)
    dicom(tmp_path / "unsaid", "")
    (tmp_path / "notes").write_text("not DICOM")
    kinds = [find.dicom_kind(tmp_path / name) for name in ("ct", "dose", "unsaid", "notes")]
    assert kinds == ["CT", "secondary capture", None, None]


def test_files_lie_at_any_depth(tmp_path: Path) -> None:
    for name in ("b/c/1", "b/2", "a", "b/.hidden/3"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(find.files(tmp_path)) == [tmp_path / name for name in ("a", "b/2", "b/c/1")]
    assert list(find.files(tmp_path / "a")) == [tmp_path / "a"]


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    """Two circles in one folder are 2 to the power of 40 paths to who follows them blindly."""
    ct, elsewhere = dicom(tmp_path / "a" / "b" / "1"), dicom(tmp_path / "elsewhere" / "1")
    for number, target in enumerate([".", "..", "../..", "../../.."]):
        (ct / f"circle_{number}").symlink_to(target)
    (tmp_path / "a" / "link").symlink_to(elsewhere)
    assert find.contents(tmp_path / "a") == {ct: "CT", tmp_path / "a" / "link": "CT"}
    assert find.contents(ct / "circle_1") == {}


def test_a_damaged_file_is_left_to_who_reads_it(tmp_path: Path) -> None:
    file = dicom(tmp_path / "1.dcm") / "1.dcm"
    file.write_bytes(file.read_bytes().replace(b"\x60\0CS", b"\x60\0XX"))
    with pytest.raises(InputError, match=r"1\.dcm: cannot be read as DICOM"):
        find.dicom_kind(file)
    assert find.contents(tmp_path) == {file.parent: "CT"}


def test_a_packed_file_that_grows_beyond_any_slice_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"
    dataset.Modality = "CT"
    dataset.add_new(0x00091010, "OB", bytes(3 << 20))
    dataset.save_as(tmp_path / "slice.dcm", enforce_file_format=True)
    assert find.dicom_kind(tmp_path / "slice.dcm") == "CT"
    monkeypatch.setattr(plausible, "MOST_INFLATED", 2 << 20)
    with pytest.raises(InputError, match="unpacks to more than 2 MiB"):
        find.dicom_kind(tmp_path / "slice.dcm")
