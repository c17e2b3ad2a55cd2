"""Tables as people write them: commas or semicolons, with or without BOM; and their mistakes."""

from pathlib import Path

import numpy as np
import pytest

from pleural.data.table import Table
from pleural.errors import Findings, InputError
from pleural.io import nifti
from pleural.volume import Volume


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with scans a2, a10 and b (b a folder) and masks of the first two."""
    for name in ("scans/a2", "scans/a10", "masks/a2", "masks/a10"):
        nifti.write(Volume(np.zeros((2, 2, 2), np.uint8), np.eye(4)), tmp_path / f"{name}.nii.gz")
    (tmp_path / "scans" / "b").mkdir()
    return tmp_path


def table(folder: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path = folder / "cases.csv"
    path.write_text("\n".join(lines), encoding=encoding)
    return path


def findings(path: Path) -> list[str]:
    with pytest.raises(Findings) as caught:
        Table(path).cases()
    return caught.value.findings


def test_one_case_a_row_in_natural_order(files: Path) -> None:
    path = table(
        files,
        "image,mask,patient",
        "scans/a10.nii.gz,masks/a10.nii.gz,A",
        f"{files}/scans/a2.nii.gz,masks/a2.nii.gz,A",
        "",
        ",,",
        "scans/b/,,",
    )
    cases = Table(path).cases()
    assert [case.name for case in cases] == ["a2", "a10", "b"]
    assert [case.patient for case in cases] == ["A", "A", "b"]
    assert [case.labelled for case in cases] == [True, True, False]
    assert cases[0].image == files / "scans" / "a2.nii.gz"
    assert cases[1].mask == files / "masks" / "a10.nii.gz"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_as_saved_by_a_spreadsheet(files: Path, separator: str) -> None:
    header = separator.join(["Name", "Note", " Patient ", '"mask"', "image"])
    row = separator.join(["Jürgen 1", '"5,2; moved"', "J", "", "scans/a2.nii.gz"])
    (case,) = Table(table(files, header, row, encoding="utf-8-sig")).cases()
    assert (case.name, case.patient, case.mask) == ("Jürgen 1", "J", None)
    assert case.image == files / "scans" / "a2.nii.gz"


def test_relative_paths_start_from_root_where_it_is_given(files: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "lists"
    elsewhere.mkdir()
    path = table(elsewhere, "image,mask,patient", "a2.nii.gz,,")
    (case,) = Table(path, root=files / "scans").cases()
    assert case.image == files / "scans" / "a2.nii.gz"


def test_negatives_fit_names_and_patients(files: Path) -> None:
    path = table(files, "image,mask,patient", "scans/a2.nii.gz,,healthy_1", "scans/b,,B")
    assert [case.negative for case in Table(path, negatives=["healthy_*"]).cases()] == [True, False]


def test_everything_wrong_comes_in_one_list_with_its_line(files: Path) -> None:
    path = table(
        files,
        "image,mask,patient,name",
        "scans/a2.nii.gz,masks/missing.nii.gz,A,",
        "scans/missing.nii.gz,,A,",
        "scans/a10.nii.gz,cases.csv,A,../a10",
        "cases.csv,,A,",
        ",masks/a2.nii.gz,A,c",
        "scans/b,,A",
        "scans/b,masks/a2.nii.gz,A,a2",
        "scans/b,,A,b",
    )
    assert findings(path) == [
        f"line 2: there is no mask {files}/masks/missing.nii.gz",
        f"line 3: there is no image {files}/scans/missing.nii.gz",
        f"line 4: mask {files}/cases.csv is no NIfTI file",
        "line 4: name '../a10' cannot be the name of a file",
        f"line 5: image {files}/cases.csv is neither NIfTI, nor a folder, nor a zip",
        "line 6: no image",
        "line 7: 3 fields, the header has 4",
        f"line 8: mask {files}/masks/a2.nii.gz is that of line 6 too",
        "line 8: name a2 is that of line 2 too; tell them apart in a column name",
        f"line 9: image {files}/scans/b is that of line 8 too",
    ]


def test_missing_columns_are_named_beside_those_that_are_there(files: Path) -> None:
    with pytest.raises(InputError, match=r"no column mask, patient; its first line has image, x"):
        Table(table(files, "image,x", "a,b")).cases()
    with pytest.raises(InputError, match=r"no column mask, patient(.|\n)*image,mask,patient"):
        Table(table(files, "image", "a")).cases()


def test_files_that_are_no_table(files: Path) -> None:
    with pytest.raises(InputError, match=r"no such file; expected:\n\nimage,mask,patient"):
        Table(files / "missing.csv").cases()
    with pytest.raises(InputError, match="no such file"):
        Table(files).cases()
    with pytest.raises(InputError, match=r"cases\.csv: empty"):
        Table(table(files, "", "")).cases()
    with pytest.raises(InputError, match="no rows below the header"):
        Table(table(files, "image,mask,patient", ",,")).cases()
    with pytest.raises(InputError, match="not UTF-8"):
        Table(table(files, "image,mask,patient", "Jürgen,,", encoding="cp1252")).cases()
    with pytest.raises(InputError, match="is no CSV"):
        Table(table(files, "image,mask,patient", '"' + "x" * 200_000)).cases()
