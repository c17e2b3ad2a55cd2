"""NIfTI files as written here, as written elsewhere, and damaged."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pleural.errors import InputError
from pleural.io import nifti
from pleural.volume import Volume

OBLIQUE = np.array(
    [[-0.75, 0.125, 0, 31.5], [0.125, 0.75, 0, -20.25], [0, 0, 2.5, 107], [0, 0, 0, 1]]
)
HU = np.arange(24, dtype=np.int16).reshape(4, 3, 2) - 1024
SROW_Y = slice(296, 312)  # bytes of the header
FORMATS = ("scan.nii", "scan.nii.gz")


def saved(
    path: Path, array: np.ndarray = HU, affine: np.ndarray | None = OBLIQUE, **header: int
) -> Path:
    """As other programs write; ``header`` sets fields."""
    image = nib.Nifti1Image(array, affine)
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def refusal(path: Path) -> str:
    """What follows on the name of the file."""
    with pytest.raises(InputError) as caught:
        nifti.read(path)
    name, sentence = str(caught.value).split(": ", 1)
    assert name == str(path)
    return sentence


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_what_is_written_is_read(tmp_path: Path, name: str, dtype: type) -> None:
    written = Volume(HU.astype(dtype), OBLIQUE)
    nifti.write(written, tmp_path / "new" / name)
    read = nifti.read(tmp_path / "new" / name)
    assert read.array.dtype == dtype
    np.testing.assert_array_equal(read.array, written.array)
    np.testing.assert_array_equal(read.affine, written.affine)
    assert nib.load(tmp_path / "new" / name).header.get_xyzt_units()[0] == "mm"


def test_sheared_axes_are_refused(tmp_path: Path) -> None:
    sheared = np.diag([1.0, 1.0, 5.0, 1.0])
    sheared[1, 2] = 5 * np.tan(np.radians(12))
    assert "sheared by 12.0 degrees" in refusal(saved(tmp_path / "scan.nii", affine=sheared))
    rounded = np.round(OBLIQUE / 0.76 * 0.71, 2)
    assert nifti.read(saved(tmp_path / "scan.nii", affine=rounded)).shape == HU.shape
    sheared[1, 2] = 0.05  # of two slices, what a rounded position leaves
    assert nifti.read(saved(tmp_path / "scan.nii", affine=sheared)).shape == HU.shape


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    image = nib.Nifti1Image(HU, OBLIQUE)
    image.header.set_slope_inter(0.5, -10)
    nib.save(image, tmp_path / "scan.nii.gz")
    read = nifti.read(tmp_path / "scan.nii.gz")
    assert read.array.dtype == np.float32
    np.testing.assert_array_equal(read.array, HU * 0.5 - 10)


def test_the_other_byte_order_becomes_this_machines(tmp_path: Path) -> None:
    image = nib.Nifti1Image(HU, OBLIQUE, nib.Nifti1Header(endianness=">"))
    nib.save(image, tmp_path / "scan.nii")
    read = nifti.read(tmp_path / "scan.nii")
    assert read.array.dtype.isnative
    np.testing.assert_array_equal(read.array, HU)


def test_nifti_2(tmp_path: Path) -> None:
    nib.save(nib.Nifti2Image(HU, OBLIQUE), tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(nifti.read(tmp_path / "scan.nii.gz").array, HU)


def test_a_fourth_axis_of_one_is_dropped(tmp_path: Path) -> None:
    read = nifti.read(saved(tmp_path / "scan.nii.gz", HU[..., None]))
    np.testing.assert_array_equal(read.array, HU)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((4, 3, 2, 5), np.int16), "has three axes, none empty; got shape (4, 3, 2, 5)"),
        (np.zeros((4, 3), np.int16), "has three axes, none empty; got shape (4, 3)"),
        (np.zeros((4, 3, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "are no HU values and no"),
        (np.zeros((4, 3, 2), np.complex64), "voxels of type complex64 are no HU values and no"),
    ],
    ids=["4-D", "2-D", "colour", "complex"],
)
def test_what_is_no_scan_and_no_mask_is_refused(
    tmp_path: Path, array: np.ndarray, sentence: str
) -> None:
    assert sentence in refusal(saved(tmp_path / "scan.nii.gz", array))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_a_file_cut_short_is_refused(tmp_path: Path, name: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(-1000, 1000, (20, 20, 20), dtype=np.int16)
    content = saved(tmp_path / name, noise).read_bytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    assert refusal(tmp_path / name).startswith("cannot be read as NIfTI (")


@pytest.mark.parametrize("name", FORMATS)
def test_garbage_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(np.random.default_rng(0).bytes(5000))
    assert refusal(tmp_path / name).startswith("cannot be read as NIfTI (")


def test_a_file_that_goes_while_it_is_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scan.nii.gz"

    def load(path: Path) -> None:
        path.unlink()
        raise nib.filebasedimages.ImageFileError(f"Could not read file: {path}")

    path.write_bytes(b"")
    monkeypatch.setattr(nib, "load", load)
    with pytest.raises(InputError, match=r"scan\.nii\.gz: .*no such file"):
        nifti.read(path)


def test_without_sform_and_qform_it_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "scan.nii", affine=None)
    assert refusal(path) == "neither sform nor qform is set: left and right are unknown"


def test_an_affine_that_is_no_grid_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "scan.nii")
    content = bytearray(path.read_bytes())
    content[SROW_Y] = bytes(16)
    path.write_bytes(content)
    assert refusal(path).startswith("the affine has no volume")


@pytest.mark.parametrize(
    ("unit", "mm"),
    [("unknown", 1), ("meter", 1000), ("mm", 1), ("micron", 0.001)],
)
def test_units_of_length_become_mm(tmp_path: Path, unit: str, mm: float) -> None:
    in_unit = np.diag([1 / mm, 1 / mm, 1 / mm, 1]) @ OBLIQUE
    image = nib.Nifti1Image(HU, in_unit)
    image.header.set_xyzt_units(unit, "msec")
    nib.save(image, tmp_path / "scan.nii")
    read = nifti.read(tmp_path / "scan.nii")
    np.testing.assert_allclose(read.affine, OBLIQUE, rtol=1e-6)


def test_a_unit_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "scan.nii", xyzt_units=5)
    assert refusal(path) == "its unit of length is 5, a code that NIfTI does not have"


def test_the_sform_wins_over_the_qform(tmp_path: Path) -> None:
    image = nib.Nifti1Image(HU, OBLIQUE)
    image.set_qform(np.diag([5.0, 5.0, 5.0, 1.0]), code=1)
    image.set_sform(OBLIQUE, code=1)
    nib.save(image, tmp_path / "scan.nii")
    np.testing.assert_array_equal(nifti.read(tmp_path / "scan.nii").affine, OBLIQUE)


def test_the_qform_places_what_has_no_sform(tmp_path: Path) -> None:
    placed = np.diag([-0.5, -0.5, 3.0, 1.0])
    image = nib.Nifti1Image(HU, None)
    image.set_qform(placed, code=1)
    nib.save(image, tmp_path / "scan.nii")
    np.testing.assert_allclose(nifti.read(tmp_path / "scan.nii").affine, placed, atol=1e-6)


def test_a_file_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(b"of old")

    def fails(image: nib.Nifti1Image, partial: Path) -> None:
        partial.write_bytes(b"half a file")
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(nib, "save", fails)
        nifti.write(Volume(HU, OBLIQUE), path)
    assert path.read_bytes() == b"of old"
    nifti.write(Volume(HU, OBLIQUE), path)
    np.testing.assert_array_equal(nifti.read(path).array, HU)


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_else_is_left_behind(tmp_path: Path, name: str) -> None:
    nifti.write(Volume(HU, OBLIQUE), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
