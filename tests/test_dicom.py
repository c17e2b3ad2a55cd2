"""DICOM series: written and read back, broken in one way at a time, and odd ones from scanners."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage, SecondaryCaptureImageStorage

from pleural.errors import InputError
from pleural.io import dicom, dicom_header, nifti
from pleural.volume import Volume

STEP_MM = 2.5
ORIGIN_MM = (31.5, -20.25, 107.0)


def world(slices: int = 6) -> Volume:
    """A small volume (LPS) in which every voxel has its own value, from -1024 HU up."""
    array = np.arange(12 * 10 * slices, dtype=np.int16).reshape(12, 10, slices) - 1024
    affine = np.diag([-0.7, -0.9, STEP_MM, 1.0])
    affine[:3, 3] = ORIGIN_MM
    return Volume(array, affine)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A good series of six slices, named 0001.dcm to 0006.dcm from the feet up."""
    dicom.write_series(world(), tmp_path / "series", patient_id="P1")
    return tmp_path / "series"


def edit(path: Path, **tags: Any) -> None:
    """Set tags of a file, or of each file in a folder; ``None`` takes a tag away."""
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        header = pydicom.dcmread(file)
        for keyword, value in tags.items():
            if value is None:
                delattr(header, keyword)
            else:
                setattr(header, keyword, value)
        header.save_as(file)


def move(path: Path, *offset_mm: float) -> None:
    """Shift one slice in LPS+."""
    position = np.array(pydicom.dcmread(path).ImagePositionPatient, dtype=float) + offset_mm
    edit(path, ImagePositionPatient=[f"{value:.9g}" for value in position])


def pad(folder: Path, value: int, vr: str = "SS") -> None:
    for file in folder.iterdir():
        header = pydicom.dcmread(file)
        header.add_new("PixelPaddingValue", vr, value)
        header.save_as(file)


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as refused:
        dicom.read(folder)
    message = str(refused.value)
    assert message.startswith(str(folder)), "names the folder"
    assert "\n" not in message, "one sentence"
    return message


def rounded_to_a_tenth(folder: Path) -> Path:
    """A series of thin slices whose positions lost their second decimal."""
    affine = world().affine.copy()
    affine[2, 2] = 0.625
    dicom.write_series(Volume(world(40).array, affine), folder, patient_id="P1")
    for file in folder.iterdir():
        position = pydicom.dcmread(file).ImagePositionPatient
        edit(file, ImagePositionPatient=[f"{float(value):.1f}" for value in position])
    return folder


def assert_same_world(one: Volume, other: Volume) -> None:
    one, other = one.reoriented(), other.reoriented()
    np.testing.assert_array_equal(one.array, other.array)
    np.testing.assert_allclose(one.affine, other.affine, atol=1e-6)


# --- good series ------------------------------------------------------------------------------


@pytest.mark.parametrize("codes", ["LPS", "RAS", "LPI", "RPS", "LAS", "PSL", "SLP", "AIR"])
def test_round_trip_whichever_way_the_axes_point(tmp_path: Path, codes: str) -> None:
    volume = world().reoriented(codes)
    dicom.write_series(volume, tmp_path / "series", patient_id="P1")
    assert_same_world(dicom.read(tmp_path / "series"), volume)


@pytest.mark.parametrize("flip", [1, -1])
@pytest.mark.parametrize("seed", range(3))
def test_round_trip_of_oblique_volumes(tmp_path: Path, seed: int, flip: int) -> None:
    axes, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = axes * (0.7, 0.9, STEP_MM * flip)
    affine[:3, 3] = ORIGIN_MM
    volume = Volume(world().array, affine)
    dicom.write_series(volume, tmp_path / "series", patient_id="P1")
    assert_same_world(dicom.read(tmp_path / "series"), volume)


def test_axes_follow_the_file(series: Path) -> None:
    volume = dicom.read(series)
    lowest = pydicom.dcmread(series / "0001.dcm")
    np.testing.assert_array_equal(volume.array[:, :, 0], lowest.pixel_array.T)
    assert volume.codes == "LPS"
    assert volume.array.dtype == np.int16
    np.testing.assert_allclose(volume.affine, world().affine, atol=1e-9)


def test_order_comes_from_positions_not_from_names(series: Path) -> None:
    for number, file in enumerate(sorted(series.iterdir())):
        file.rename(series / f"{(number * 5) % 6}.slice")
    assert_same_world(dicom.read(series), world())


def test_other_files_are_passed_over(series: Path) -> None:
    (series / "notes.txt").write_text("read me")
    for name in ("empty", "md5sums", "README_v2", "v1.0", "notes.1"):
        (series / name).touch()
    (series / "._0001.dcm").write_bytes(b"left by a Mac")
    shutil.copy(series / "0001.dcm", series / "DICOMDIR")
    shutil.copytree(series, series / "deeper")
    assert dicom.read(series).shape == (12, 10, 6)


@pytest.mark.parametrize("named", ["{}", "1.2.840.113619.{}", "IM{}.ima"])
@pytest.mark.parametrize("left", [b"", bytes(5000)])
def test_an_outer_slice_that_was_not_copied_is_told(series: Path, named: str, left: bytes) -> None:
    """No gap tells of it, as the others follow one another."""
    for file in series.iterdir():
        file.rename(series / named.format(file.stem))
    lost = series / named.format("0006")
    lost.write_bytes(left)
    assert f"{lost}: named like the slices beside it" in refusal(series)
    lost.rename(series / "left.txt")
    assert dicom.read(series).shape == (12, 10, 5)


def test_each_slice_has_its_own_slope_and_intercept(series: Path) -> None:
    edit(series / "0002.dcm", RescaleSlope=2, RescaleIntercept=-10)
    expected = world().array.copy()
    expected[:, :, 1] = expected[:, :, 1] * 2 - 10
    np.testing.assert_array_equal(dicom.read(series).array, expected)


def test_fractions_of_a_hu_are_kept(series: Path) -> None:
    edit(series / "0004.dcm", RescaleSlope=0.5)
    array = dicom.read(series).array
    expected = world().array.astype(np.float32)
    expected[:, :, 3] /= 2
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, expected)


def test_values_beyond_16_bits_are_kept(series: Path) -> None:
    edit(series, RescaleIntercept=-40000)
    array = dicom.read(series).array
    assert array.dtype == np.float32
    assert array.min() == -41024


def test_padding_becomes_air(series: Path) -> None:
    edit(series, RescaleIntercept=-1024)
    pad(series, -1000)
    array, stored = dicom.read(series).array, world().array
    assert (array[stored == -1000] == -1024).all()
    np.testing.assert_array_equal(array[stored != -1000], stored[stored != -1000] - 1024)


def test_padding_written_without_its_sign(series: Path) -> None:
    edit(series, RescaleIntercept=-1024)
    pad(series, 65536 - 1000, vr="US")
    assert (dicom.read(series).array[world().array == -1000] == -1024).all()


def test_padding_within_tissue_is_left_alone(series: Path) -> None:
    pad(series, -600)
    np.testing.assert_array_equal(dicom.read(series).array, world().array)


def test_noise_of_real_scanners_passes(series: Path) -> None:
    rng = np.random.default_rng(0)
    for file in series.iterdir():
        move(file, *rng.uniform(-0.02, 0.02, size=3))
        cosines = np.array([1, 0, 0, 0, 1, 0]) + rng.uniform(-1e-4, 1e-4, size=6)
        edit(file, ImageOrientationPatient=[f"{c:.6f}" for c in cosines])
    assert dicom.read(series).spacing_mm == pytest.approx((0.7, 0.9, STEP_MM), abs=0.02)


def test_positions_rounded_to_a_tenth_pass(tmp_path: Path) -> None:
    series = rounded_to_a_tenth(tmp_path / "series")
    assert dicom.read(series).spacing_mm[2] == pytest.approx(0.625, abs=0.005)


# --- writing ----------------------------------------------------------------------------------


def test_writing_is_deterministic(tmp_path: Path) -> None:
    for name in ("one", "two"):
        dicom.write_series(world(), tmp_path / name, patient_id="P1", description="dünn")
    dicom.write_series(world(), tmp_path / "other", patient_id="P1", description="thick")
    for one, two in zip(*(sorted((tmp_path / n).iterdir()) for n in ("one", "two")), strict=True):
        assert one.read_bytes() == two.read_bytes()
    assert pydicom.dcmread(tmp_path / "one" / "0001.dcm").SeriesDescription == "dünn"
    headers = [pydicom.dcmread(tmp_path / name / "0001.dcm") for name in ("one", "other")]
    assert headers[0].SeriesInstanceUID != headers[1].SeriesInstanceUID
    assert headers[0].StudyInstanceUID == headers[1].StudyInstanceUID
    assert len({pydicom.dcmread(f).SOPInstanceUID for f in (tmp_path / "one").iterdir()}) == 6


def test_written_values_are_rounded_to_whole_hu(tmp_path: Path) -> None:
    volume = world().with_array(world().array + np.float32(0.4))
    dicom.write_series(volume, tmp_path / "series", patient_id="P1")
    assert_same_world(dicom.read(tmp_path / "series"), world())


def test_writing_leaves_what_is_there_alone(series: Path) -> None:
    with pytest.raises(InputError, match="exists already"):
        dicom.write_series(world(), series, patient_id="P1")


@pytest.mark.parametrize("value", [np.nan, 40000.0])
def test_writing_refuses_what_16_bits_cannot_hold(tmp_path: Path, value: float) -> None:
    array = world().array.astype(np.float32)
    array[0, 0, 0] = value
    with pytest.raises(ValueError, match="16 bits"):
        dicom.write_series(world().with_array(array), tmp_path / "series", patient_id="P1")
    assert not list(tmp_path.iterdir())


def test_writing_refuses_sheared_axes(tmp_path: Path) -> None:
    affine = world().affine.copy()
    affine[1, 2] = 1.0
    with pytest.raises(ValueError, match="right angles"):
        dicom.write_series(Volume(world().array, affine), tmp_path / "series", patient_id="P1")


def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(pydicom.Dataset, "save_as", full_disk)
    with pytest.raises(OSError, match="no space"):
        dicom.write_series(world(), tmp_path / "series", patient_id="P1")
    assert not list(tmp_path.iterdir())


# --- refusals: one broken thing, one sentence -------------------------------------------------


def keep(series: Path, *names: str) -> None:
    for file in series.iterdir():
        if file.name not in names:
            file.unlink()


def tilt(series: Path, degrees: float) -> None:
    for number, file in enumerate(sorted(series.iterdir())):
        move(file, 0, np.tan(np.radians(degrees)) * STEP_MM * number, 0)


def spread(series: Path, growth_mm: float) -> None:
    for number, file in enumerate(sorted(series.iterdir())):
        move(file, 0, 0, growth_mm * number**2)


def cut(path: Path, bytes_left: int) -> None:
    path.write_bytes(path.read_bytes()[:bytes_left])


REFUSED_SERIES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "nothing DICOM": (keep, ["none of its 0 files is DICOM"]),
    "MR": (
        lambda s: edit(s, Modality="MR"),
        ["0001.dcm is of modality MR, not CT", "6 of 6"],
    ),
    "a segmentation among the slices": (
        lambda s: edit(s / "0003.dcm", Modality="SEG"),
        ["0003.dcm is of modality SEG", "1 of 6"],
    ),
    "cut early": (lambda s: cut(s / "0003.dcm", 712), ["0003.dcm does not say to which series"]),
    "no modality": (lambda s: edit(s / "0002.dcm", Modality=None), ["0002.dcm", "unknown"]),
    "secondary capture": (
        lambda s: edit(s, SOPClassUID=SecondaryCaptureImageStorage),
        ["Secondary Capture Image Storage"],
    ),
    "enhanced": (
        lambda s: edit(s, SOPClassUID=EnhancedCTImageStorage),
        ["Enhanced CT Image Storage", "one slice a file"],
    ),
    "localizer": (
        lambda s: edit(s / "0001.dcm", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        ["0001.dcm is a localizer", "1 of 6"],
    ),
    "colour": (lambda s: edit(s, SamplesPerPixel=3), ["in colour (3 samples"]),
    "frames": (lambda s: edit(s / "0001.dcm", NumberOfFrames=4), ["0001.dcm holds 4 frames"]),
    "no HU": (lambda s: edit(s, RescaleType="Z_EFF"), ["type Z_EFF, not HU"]),
    "two series": (
        lambda s: edit(s / "0006.dcm", SeriesInstanceUID="1.2.3"),
        ["2 series (5 file(s) like 0001.dcm, 1 file(s) like 0006.dcm)", "its own folder"],
    ),
    "one slice": (lambda s: keep(s, "0001.dcm"), ["1 slice(s) are too few", "needs 3"]),
    "two slices": (lambda s: keep(s, "0001.dcm", "0002.dcm"), ["2 slice(s) are too few"]),
    "other size": (
        lambda s: edit(s / "0003.dcm", Rows=11),
        ["no volume", "0001.dcm has (12, 10), 0003.dcm has (12, 11)"],
    ),
    "other spacing": (
        lambda s: edit(s / "0003.dcm", PixelSpacing=[0.9, 0.8]),
        ["PixelSpacing", "0001.dcm has (0.7, 0.9), 0003.dcm has (0.8, 0.9)"],
    ),
    "mixed orientations": (
        lambda s: edit(s / "0004.dcm", ImageOrientationPatient=[1, 0, 0, 0, 0, -1]),
        ["no volume", "mixed in orientation", "0004.dcm"],
    ),
    "same place twice": (
        lambda s: move(s / "0003.dcm", 0, 0, -STEP_MM),
        ["1 of 6 slices", "0002.dcm and 0003.dcm at 109.5 mm"],
    ),
    "one missing": (
        lambda s: (s / "0003.dcm").unlink(),
        ["1 slice(s) missing", "0002.dcm", "from 109.5 to 114.5 mm", "2.5 mm"],
    ),
    "one missing of four": (
        lambda s: keep(s, "0001.dcm", "0003.dcm", "0004.dcm"),
        ["1 slice(s) missing", "0001.dcm"],
    ),
    "two missing": (
        lambda s: keep(s, "0001.dcm", "0002.dcm", "0003.dcm", "0006.dcm"),
        ["2 slice(s) missing", "0003.dcm", "from 112 to 119.5 mm"],
    ),
    "uneven": (lambda s: spread(s, 0.1), ["spaced unevenly, 2.6 to 3.4 mm"]),
    "one out of step": (
        lambda s: move(s / "0002.dcm", 0, 0, 0.8),
        ["spaced unevenly, 1.7 to 3.3 mm"],
    ),
    "tilted": (lambda s: tilt(s, 12), ["sheared by 12.0 degrees", "gantry tilt"]),
    "tilted a little": (lambda s: tilt(s, 1), ["sheared by 1.0 degrees"]),
    "tilted and one missing": (
        lambda s: [tilt(s, -20), (s / "0004.dcm").unlink()],
        ["sheared by 20.0 degrees", "and 1 slice(s) missing", "0003.dcm"],
    ),
    "one shifted sideways": (
        lambda s: move(s / "0004.dcm", 3, 0, 0),
        ["0004.dcm lies 3.00 mm sideways"],
    ),
}


@pytest.mark.parametrize("broken, words", REFUSED_SERIES.values(), ids=REFUSED_SERIES.keys())
def test_refused_series(series: Path, broken: Callable[[Path], object], words: list[str]) -> None:
    broken(series)
    message = refusal(series)
    for word in words:
        assert word in message


REFUSED_FILES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    **{
        f"no {keyword}": (lambda f, k=keyword: edit(f, **{k: None}), [f"no {keyword}", reason])
        for keyword, reason in dicom_header.WHY_NEEDED.items()
    },
    "empty spacing": (lambda f: edit(f, PixelSpacing=""), ["no PixelSpacing"]),
    "three spacings": (lambda f: edit(f, PixelSpacing=[1, 1, 1]), ["not 2 finite number(s)"]),
    "no spacing at all": (lambda f: edit(f, PixelSpacing=[0, 0.7]), ["PixelSpacing of 0.7 x 0 mm"]),
    "spacing in another unit": (lambda f: edit(f, PixelSpacing=[700, 700]), ["700 x 700 mm"]),
    "no direction": (
        lambda f: edit(f, ImageOrientationPatient=[0, 0, 0, 0, 1, 0]),
        ["not two unit vectors at a right angle"],
    ),
    "skewed": (
        lambda f: edit(f, ImageOrientationPatient=[1, 0, 0, 0.6, 0.8, 0]),
        ["not two unit vectors at a right angle"],
    ),
    "slope of nothing": (lambda f: edit(f, RescaleSlope=0), ["RescaleSlope is 0"]),
    "empty file": (lambda f: cut(f, 0), ["lacks the mark of a DICOM file (its 0 bytes"]),
    "cut before its geometry": (lambda f: cut(f, 980), ["the header has no"]),
    "cut in the pixels": (
        lambda f: cut(f, -20),
        ["cannot be decoded", "Explicit VR Little Endian"],
    ),
    "text called .dcm": (lambda f: f.write_text("hello"), ["lacks the mark"]),
}


@pytest.mark.parametrize("broken, words", REFUSED_FILES.values(), ids=REFUSED_FILES.keys())
def test_refused_file_is_named(
    series: Path, broken: Callable[[Path], object], words: list[str]
) -> None:
    broken(series / "0003.dcm")
    message = refusal(series)
    for word in [str(series / "0003.dcm"), *words]:
        assert word in message


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize(
    "keyword, good, bad",
    [
        ("PixelSpacing", b"DS\x08\x000.9\\0.7 ", b"DS\x08\x000.9\\abc "),
        ("NumberOfFrames", b"IS\x02\x001 ", b"IS\x02\x00a "),
    ],
)
def test_unreadable_number_is_named(series: Path, keyword: str, good: bytes, bad: bytes) -> None:
    path = series / "0003.dcm"
    edit(path, NumberOfFrames=1)
    assert good in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(good, bad))
    assert f"{path}: {keyword} is unreadable" in refusal(series)


def test_refusal_is_cheap(series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (series / "0003.dcm").unlink()
    monkeypatch.setattr(dicom, "_stored", None)
    assert "missing" in refusal(series)


def test_no_such_folder(tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "nowhere")


def test_slices_kilometres_apart(series: Path) -> None:
    for number, file in enumerate(sorted(series.iterdir())):
        move(file, 0, 0, 1000 * number)
    assert "distance between slices of 1002.5 mm" in refusal(series)


# --- real and odd series ----------------------------------------------------------------------


def as_ct(files: Iterable[Path], folder: Path) -> Path:
    """Copies that call themselves CT in HU, pixels untouched."""
    folder.mkdir()
    for number, file in enumerate(files):
        shutil.copy(file, folder / f"{number:04d}.dcm")
    edit(folder, Modality="CT", SOPClassUID=CTImageStorage, RescaleSlope=1, RescaleIntercept=0)
    return folder


ODD_CT = {
    "gantrytilting/001": ["sheared by 14.0 degrees"],
    "notavolume/001": ["3 of 4 slices lie where another lies", "61.5 mm"],
    "sliceincrement/001": ["1 slice(s) missing", "from 28.1075 to 38.1075 mm"],
    "sliceincrement/002": ["sheared by 15.5 degrees", "1 slice(s) missing"],
}
ODD_MR = {
    "slicecount/001": ["2 slice(s) are too few"],
    "sliceorientation/001": ["no volume", "mixed in"],
}
PACKED = ["compressed", "compressed_j2k", "compressed_jpeg", "compressed_jpegls", "compressed_rle"]


@pytest.mark.parametrize("name, words", ODD_CT.items())
def test_odd_ct_is_refused(dicom_odd_root: Path, name: str, words: list[str]) -> None:
    message = refusal(dicom_odd_root / "dicom2nifti" / "failing" / name)
    for word in words:
        assert word in message


@pytest.mark.parametrize("name, words", ODD_MR.items())
def test_odd_mr_is_refused_as_mr_and_as_ct_for_its_shape(
    dicom_odd_root: Path, tmp_path: Path, name: str, words: list[str]
) -> None:
    folder = dicom_odd_root / "dicom2nifti" / "failing" / name
    assert "modality MR" in refusal(folder)
    message = refusal(as_ct(sorted(folder.iterdir()), tmp_path / "ct"))
    for word in words:
        assert word in message


@pytest.mark.parametrize("name", PACKED)
def test_packed_mr_is_refused_but_decodes_right(
    dicom_odd_root: Path, tmp_path: Path, name: str
) -> None:
    folder = dicom_odd_root / "dicom2nifti" / name
    assert "modality MR" in refusal(folder / "001")
    volume = dicom.read(as_ct(sorted((folder / "001").iterdir()), tmp_path / "ct"))
    assert_same_world(volume, nifti.read(folder / "001_ground_truth.nii.gz"))


LOSSY_HU = {  # the largest difference and the mean one
    "1.2.840.10008.1.2.4.91": (5, 1),
    "1.2.840.10008.1.2.4.81": (1, 1),
    "1.2.840.10008.1.2.4.50": (65, 18),  # 8 bits: a grey level is 32 HU
}
UNDECODABLE = ["1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55"]


def three_times(file: Path, folder: Path) -> Path:
    """A series from one slice."""
    folder.mkdir()
    for number in range(3):
        shutil.copy(file, folder / f"{number}.dcm")
        move(folder / f"{number}.dcm", 0, 0, 3.0 * number)
    return folder


def test_transfer_syntaxes(dicom_odd_root: Path, tmp_path: Path) -> None:
    files = sorted((dicom_odd_root / "ct_slice_transfer_syntaxes").glob("*.dcm"))
    plain = dicom.read(three_times(files[0], tmp_path / "plain")).array
    assert (plain.dtype, plain.min(), plain.max()) == (np.int16, -3024, 1378)
    scanned = pydicom.dcmread(files[0]).pixel_array.T > -1000
    refused = []
    for number, file in enumerate(files):
        folder = three_times(file, tmp_path / f"{number}")
        syntax = pydicom.dcmread(file, stop_before_pixels=True).file_meta.TransferSyntaxUID
        if syntax in UNDECODABLE:
            message = refusal(folder)
            assert f"{folder / '0.dcm'}: the pixels cannot be decoded" in message
            assert UID(syntax).name in message
            refused.append(syntax)
            continue
        difference = np.abs(dicom.read(folder).array - plain.astype(float))[scanned]
        most, mean = LOSSY_HU.get(syntax, (0, 0))
        assert difference.max() <= most and difference.mean() <= mean, UID(syntax).name
    assert (len(files), sorted(refused)) == (16, UNDECODABLE)


@pytest.mark.parametrize("case, slices, top_hu", [("LUNG1-016", 82, 3071), ("LUNG1-005", 91, 3071)])
def test_real_chest_ct(plethora_root: Path, case: str, slices: int, top_hu: int) -> None:
    """LUNG1-016 is implicit VR, LUNG1-005 is JPEG-LS."""
    (folder,) = (plethora_root / "subset" / case).glob("*/*/*")
    volume = dicom.read(folder)
    assert volume.shape == (512, 512, slices)
    assert volume.spacing_mm == pytest.approx((0.977, 0.977, 3.0), abs=1e-3)
    assert volume.codes == "LPS"
    assert (volume.array.dtype, volume.array.min(), volume.array.max()) == (
        np.int16,
        -1024,
        top_hu,
    )
