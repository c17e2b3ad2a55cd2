"""DICOM SEG: where a mask lies and what it refers to, told by plain pydicom and by highdicom."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes as dictionary
from pydicom.uid import ImplicitVRLittleEndian, JPEGLSLossless, SegmentationStorage
from scipy.spatial import cKDTree

from pleural.data.plethora import Plethora
from pleural.errors import InputError
from pleural.io import dicom, dicom_seg
from pleural.volume import Volume
from tests.test_dicom import STEP_MM, edit, move, rounded_to_a_tenth, tilt, world
from tests.test_volume import CODES, oblique_affine

TO_LPS = np.diag([-1.0, -1.0, 1.0])


def effusion(scan: Volume) -> Volume:
    """A mask that no flip or swap of axes brings onto itself; its slice 3 (world's z) is empty."""
    mask = scan.reoriented("LPS")
    array = np.zeros(mask.shape, np.uint8)
    array[2:5, 1:3, 1:5] = 1
    array[7, 6:9, 2] = 1
    array[9, 8, 4] = 1
    array[:, :, 3] = 0
    return mask.with_array(array).reoriented(scan.codes)


def save(mask: Volume, series: Path, path: Path) -> Path:
    dicom_seg.write(mask, series, path, algorithm="pleural unet3d", version="run 7")
    return path


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """Six slices (LPS), 0001.dcm to 0006.dcm from the feet up."""
    dicom.write_series(world(), tmp_path / "series", patient_id="P1")
    return tmp_path / "series"


def marked_by_mask(mask: Volume) -> np.ndarray:
    """``(n, 3)`` places of the marked voxels in LPS+ mm."""
    index = np.argwhere(mask.array)
    return (index @ mask.affine[:3, :3].T + mask.affine[:3, 3]) @ TO_LPS


def marked_by_file(path: Path) -> np.ndarray:
    """The same by the formula of DICOM PS3.3 C.7.6.2.1.1 from the tags alone."""
    seg = pydicom.dcmread(path)
    shared = seg.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    down_mm, across_mm = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    frames = np.atleast_3d(seg.pixel_array).reshape(seg.NumberOfFrames, seg.Rows, seg.Columns)
    places = []
    for frame, group in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        origin = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        row, column = np.nonzero(frame)
        right, below = column[:, None] * across_mm, row[:, None] * down_mm
        places.append(origin + right * cosines[:3] + below * cosines[3:])
    return np.concatenate(places)


def assert_same_places(path: Path, mask: Volume, within_mm: float = 1e-4) -> None:
    """The file marks as many voxels as the mask, and each lies on one of the mask's."""
    there, here = marked_by_file(path), marked_by_mask(mask)
    away_mm, nearest = cKDTree(here).query(there)
    assert away_mm.max() < within_mm
    assert sorted(nearest) == list(range(len(here)))


def assert_holds(path: Path, mask: Volume) -> None:
    """The file marks the voxels of the mask, where the mask marks them."""
    assert_same_places(path, mask)
    back = dicom_seg.read(path)
    assert back.array.dtype == np.uint8
    np.testing.assert_array_equal(back.onto(mask).array, mask.array)
    assert back.nonzero_ml == pytest.approx(mask.nonzero_ml, rel=1e-6)


def sources(path: Path) -> list[str]:
    """The slice that each frame refers to."""
    found = []
    for group in pydicom.dcmread(path).PerFrameFunctionalGroupsSequence:
        (derivation,) = group.DerivationImageSequence
        (source,) = derivation.SourceImageSequence
        assert source.SpatialLocationsPreserved == "YES"
        assert derivation.DerivationCodeSequence[0].CodeMeaning == "Segmentation"
        found.append(source.ReferencedSOPInstanceUID)
    return found


def assert_refers(path: Path, series: Path) -> None:
    """Each frame refers to the one slice that lies at its place; the file, to all slices."""
    seg = pydicom.dcmread(path)
    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in series.iterdir()]
    slices = {header.SOPInstanceUID: header for header in headers}
    for group, uid in zip(seg.PerFrameFunctionalGroupsSequence, sources(path), strict=True):
        place = group.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(place, slices[uid].ImagePositionPatient, atol=1e-6)
    (referenced,) = seg.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == headers[0].SeriesInstanceUID
    instances = {i.ReferencedSOPInstanceUID for i in referenced.ReferencedInstanceSequence}
    assert instances == set(slices)
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        assert seg[keyword].value == headers[0][keyword].value


# --- places -----------------------------------------------------------------------------------


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("oblique", [False, True], ids=["straight", "oblique"])
def test_whichever_way_the_slices_lie(tmp_path: Path, codes: str, oblique: bool) -> None:
    scan = world()
    if oblique:
        scan = Volume(scan.array, oblique_affine((-0.7, -0.9, STEP_MM)))
    scan = scan.reoriented(codes)
    dicom.write_series(scan, tmp_path / "series", patient_id="P1")
    path = save(effusion(scan), tmp_path / "series", tmp_path / "mask.dcm")
    assert_holds(path, effusion(scan))
    assert_refers(path, tmp_path / "series")


@pytest.mark.parametrize("codes", CODES)
def test_whichever_way_the_mask_was_turned(series: Path, tmp_path: Path, codes: str) -> None:
    mask = effusion(world())
    path = save(mask.reoriented(codes), series, tmp_path / "mask.dcm")
    assert_holds(path, mask)
    assert sources(path) == sources(save(mask, series, tmp_path / "straight.dcm"))


def test_the_test_mask_is_like_none_of_its_mirror_images() -> None:
    mask = effusion(world())
    alike = [c for c in CODES if np.array_equal(mask.reoriented(c).array, mask.array)]
    assert alike == ["LPS"]


def test_neither_names_nor_numbers_tell_the_order(series: Path, tmp_path: Path) -> None:
    for number, file in enumerate(sorted(series.iterdir())):
        edit(file, InstanceNumber=6 - number)
        file.rename(series / f"{(number * 5) % 6}.slice")
    path = save(effusion(world()), series, tmp_path / "mask.dcm")
    assert_holds(path, effusion(world()))
    assert_refers(path, series)


@pytest.mark.parametrize("marked", [[0], [5], [0, 5], [2, 4], range(6)])
def test_frames_reach_from_the_first_to_the_last_slice(
    series: Path, tmp_path: Path, marked: list[int]
) -> None:
    mask = world().with_array(np.zeros(world().shape, np.uint8))
    mask.array[:, -1, list(marked)] = 1
    mask.array[3, 0, list(marked)] = 1
    path = save(mask, series, tmp_path / "mask.dcm")
    assert_holds(path, mask)
    assert_refers(path, series)
    back, first = dicom_seg.read(path), min(marked)
    assert back.shape == (12, 10, max(marked) - first + 1)
    assert (back.codes, back.spacing_mm[2]) == ("LPS", pytest.approx(STEP_MM))
    np.testing.assert_allclose(back.affine @ [0, 0, -first, 1], mask.affine[:, 3], atol=1e-6)


def test_an_empty_mask_is_all_slices_empty(series: Path, tmp_path: Path) -> None:
    empty = world().with_array(np.zeros(world().shape, bool))
    path = save(empty, series, tmp_path / "mask.dcm")
    assert len(marked_by_file(path)) == 0
    assert_refers(path, series)
    back = dicom_seg.read(path)
    assert (back.shape, back.nonzero_ml) == (empty.shape, 0)
    np.testing.assert_allclose(back.affine, empty.affine, atol=1e-6)


def test_noise_of_real_scanners(series: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for file in series.iterdir():
        move(file, *rng.uniform(-0.02, 0.02, size=3))
        cosines = np.array([1, 0, 0, 0, 1, 0]) + rng.uniform(-1e-3, 1e-3, size=6)
        edit(file, ImageOrientationPatient=[f"{c:.6f}" for c in cosines])
    mask = effusion(dicom.read(series))
    path = save(mask, series, tmp_path / "mask.dcm")
    assert_same_places(path, mask, within_mm=0.05)
    np.testing.assert_array_equal(dicom_seg.read(path).onto(mask).array > 0.5, mask.array)
    assert len(set(sources(path))) == 4


def test_positions_rounded_to_a_tenth(tmp_path: Path) -> None:
    series = rounded_to_a_tenth(tmp_path / "series")
    mask = effusion(dicom.read(series))
    path = save(mask, series, tmp_path / "mask.dcm")
    assert_holds(path, mask)
    assert len(set(sources(path))) == 4


# --- what the file says -----------------------------------------------------------------------


def test_the_segment_says_what_it_is(series: Path, tmp_path: Path) -> None:
    seg = hd.seg.segread(save(effusion(world()), series, tmp_path / "mask.dcm"))
    assert seg.SOPClassUID == SegmentationStorage
    assert seg.segmentation_type == hd.seg.SegmentationTypeValues.BINARY
    assert (seg.Modality, seg.number_of_segments, seg.ContentLabel) == (
        "SEG",
        1,
        "PLEURAL_EFFUSION",
    )
    segment = seg.get_segment_description(1)
    assert segment.segment_label == "Pleural effusion"
    assert segment.segmented_property_category == dictionary.SCT.MorphologicallyAbnormalStructure
    assert segment.segmented_property_type == dictionary.SCT.Effusion
    assert [(r.value, r.scheme_designator) for r in segment.anatomic_regions] == [
        ("91381003", "SCT")
    ]
    assert segment.algorithm_type == hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC
    assert segment.algorithm_identification.family == dictionary.DCM.ArtificialIntelligence
    assert segment.algorithm_identification.name == "pleural unet3d"
    assert segment.algorithm_identification.version == "run 7"


def test_each_writing_is_a_series_of_its_own_in_the_study(series: Path, tmp_path: Path) -> None:
    edit(series, SeriesNumber=3, PatientID="P1", StudyID="S", StudyDate="20200131")
    one, two = (
        pydicom.dcmread(save(effusion(world()), series, tmp_path / name)) for name in ("1", "2")
    )
    scan = pydicom.dcmread(series / "0001.dcm")
    uids = {d.SOPInstanceUID for d in (one, two, scan)} | {
        d.SeriesInstanceUID for d in (one, two, scan)
    }
    assert len(uids) == 6
    assert one.StudyInstanceUID == two.StudyInstanceUID == scan.StudyInstanceUID
    assert (one.SeriesNumber, one.InstanceNumber) == (1003, 1)
    assert (one.Manufacturer, one.SeriesDescription) == (
        "pleural",
        "Pleural effusion (pleural unet3d)",
    )


def test_pixels_of_the_scan_are_not_read(
    series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom, "_stored", None)
    assert_holds(save(effusion(world()), series, tmp_path / "mask.dcm"), effusion(world()))


# --- odd headers that must not matter ---------------------------------------------------------

PATIENT = ["PatientName", "PatientID", "PatientBirthDate", "PatientSex"]
STUDY = ["StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"]


def drop(series: Path, *keywords: str) -> None:
    for file in series.iterdir():
        header = pydicom.dcmread(file)
        for keyword in keywords:
            if keyword in header:
                del header[keyword]
        header.save_as(file)


def rewrite(series: Path, change: Callable[[pydicom.Dataset], Any]) -> None:
    for file in series.iterdir():
        header = pydicom.dcmread(file)
        change(header)
        header.save_as(file)


def unreadable(series: Path) -> None:
    edit(series, XRayTubeCurrent=15)
    for file in series.iterdir():
        file.write_bytes(file.read_bytes().replace(b"IS\x02\x0015", b"IS\x02\x00.5"))


def implicit(header: pydicom.Dataset) -> None:
    header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


def procedure(header: pydicom.Dataset) -> None:
    header.SpecificCharacterSet = "ISO_IR 100"
    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99X", "Thoraxröntgen"
    header.ProcedureCodeSequence = [code]


def undeclared(series: Path) -> None:
    edit(series, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Ärzte", PatientID="Mü1")
    for file in series.iterdir():
        declared = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100"
        assert declared in file.read_bytes()
        file.write_bytes(file.read_bytes().replace(declared, b""))


ODD: dict[str, Callable[[Path], Any]] = {
    "nothing of patient or study": lambda s: drop(s, *PATIENT, *STUDY, "SeriesNumber"),
    "no SOP class": lambda s: drop(s, "SOPClassUID"),
    "no thickness, no manufacturer": lambda s: drop(s, "SliceThickness", "Manufacturer"),
    "a wrong distance between slices": lambda s: edit(s, SpacingBetweenSlices="7.5"),
    "a negative distance": lambda s: edit(s, SpacingBetweenSlices="-2.5"),
    "no distance": lambda s: edit(s, SpacingBetweenSlices="0", SliceThickness=""),
    "a sex of its own": lambda s: edit(s, PatientSex="U"),
    "a date that is none": lambda s: edit(s, PatientBirthDate="19620000", StudyDate="2020"),
    "a name of one word": lambda s: edit(s, PatientName="Anonymous"),
    "a name of odd signs": lambda s: edit(s, PatientName="d'Été [x]/%&?^^^Dr.^jr"),
    "Latin": lambda s: edit(s, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Ärzte"),
    "Greek": lambda s: edit(s, SpecificCharacterSet="ISO_IR 126", PatientName="Διονυσιος"),
    "Japanese": lambda s: edit(
        s,
        SpecificCharacterSet=["", "ISO 2022 IR 87"],
        PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    "Latin without a character set": undeclared,
    "no character set": lambda s: drop(s, "SpecificCharacterSet"),
    "a procedure in Latin": lambda s: rewrite(s, procedure),
    "a number that is none": unreadable,
    "implicit": lambda s: rewrite(s, implicit),
    "compressed": lambda s: rewrite(s, lambda h: h.compress(JPEGLSLossless)),
}


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_odd_headers(series: Path, tmp_path: Path, odd: Callable[[Path], Any]) -> None:
    odd(series)
    path = save(effusion(world()), series, tmp_path / "mask.dcm")
    assert_holds(path, effusion(world()))
    seg, scan = pydicom.dcmread(path), pydicom.dcmread(series / "0001.dcm")
    assert seg.SpecificCharacterSet == "ISO_IR 192"
    for keyword in [*PATIENT, *STUDY]:
        assert (seg.get(keyword) or "") == (scan.get(keyword) or ""), keyword
    if "ProcedureCodeSequence" in scan:
        assert seg.ProcedureCodeSequence[0].CodeMeaning == "Thoraxröntgen"


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_every_transfer_syntax(dicom_odd_root: Path, tmp_path: Path) -> None:
    """Also those whose pixels nothing here can decode."""
    files = sorted((dicom_odd_root / "ct_slice_transfer_syntaxes").glob("*.dcm"))
    for file in files:
        series = tmp_path / file.stem
        series.mkdir()
        for number in range(3):
            header = pydicom.dcmread(file)
            header.SOPInstanceUID = f"1.2.3.{number}"
            header.ImagePositionPatient[2] += 3 * number
            header.save_as(series / f"{number}.dcm")
        _, grid = dicom_seg._source(series)
        blank = Volume(np.zeros(grid.spatial_shape, np.uint8), grid.get_affine("RAS"))
        blank.array[1, 100:120, 300:310] = 1
        path = save(blank, series, tmp_path / f"{file.stem}.dcm")
        assert_holds(path, blank)
    assert len(files) == 16


# --- refusals ---------------------------------------------------------------------------------


def refusal(mask: Volume, series: Path, path: Path) -> str:
    with pytest.raises(InputError) as refused:
        save(mask, series, path)
    message = str(refused.value)
    assert message.startswith(str(series))
    assert "\n" not in message
    assert not path.parent.exists() or not list(path.parent.iterdir())
    return message


REFUSED: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "no frame of reference": (
        lambda s: drop(s, "FrameOfReferenceUID"),
        ["FrameOfReferenceUID is missing in its 6 slices", "export the series again"],
    ),
    "one slice without frame of reference": (
        lambda s: edit(s / "0002.dcm", FrameOfReferenceUID=None),
        ["FrameOfReferenceUID is missing"],
    ),
    "an empty study": (lambda s: edit(s, StudyInstanceUID=""), ["StudyInstanceUID is missing"]),
    "two studies": (
        lambda s: edit(s / "0002.dcm", StudyInstanceUID="1.2.3"),
        ["StudyInstanceUID has 2 values, not 1"],
    ),
    "slices without reference": (
        lambda s: drop(s, "SOPInstanceUID"),
        ["SOPInstanceUID is missing"],
    ),
    "one reference for all": (
        lambda s: edit(s, SOPInstanceUID="1.2.3"),
        ["SOPInstanceUID has 1 values, not 6"],
    ),
    "a missing slice": (lambda s: (s / "0003.dcm").unlink(), ["1 slice(s) missing"]),
    "MR": (lambda s: edit(s, Modality="MR"), ["modality MR"]),
}


@pytest.mark.parametrize("broken, words", REFUSED.values(), ids=REFUSED.keys())
def test_refused_series(
    series: Path, tmp_path: Path, broken: Callable[[Path], Any], words: list[str]
) -> None:
    broken(series)
    message = refusal(effusion(world()), series, tmp_path / "out" / "mask.dcm")
    for word in words:
        assert word in message


def test_what_highdicom_refuses_is_told_in_a_sentence(
    series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("too odd,\n  really")

    monkeypatch.setattr(hd.seg, "Segmentation", refuse)
    message = refusal(effusion(world()), series, tmp_path / "out" / "mask.dcm")
    assert "no DICOM SEG can be made of its headers (too odd, really)" in message


def shifted(mask: Volume, voxels: float) -> Volume:
    affine = mask.affine.copy()
    affine[:3, 3] += voxels * affine[:3, 0]
    return Volume(mask.array, affine)


def boxed(mask: Volume, *shape: int) -> Volume:
    """Other voxels between the same corners."""
    steps = (np.array(mask.shape) - 1) / (np.array(shape) - 1)
    return Volume(np.zeros(shape, np.uint8), mask.affine @ np.diag([*steps, 1]))


OTHER_GRIDS: dict[str, Callable[[Volume], Volume]] = {
    "a voxel aside": lambda m: shifted(m, 1),
    "a tenth of a voxel aside": lambda m: shifted(m, 0.1),
    "cropped": lambda m: m.cropped((slice(1, None), slice(None), slice(None))),
    "resampled": lambda m: m.with_array(m.array).resampled((1.4, 0.9, STEP_MM)),
    "twice as fine in the same box": lambda m: boxed(m, 23, 19, 11),
    "as many voxels in the same box": lambda m: boxed(m, 10, 12, 6),
}


@pytest.mark.parametrize("other", OTHER_GRIDS.values(), ids=OTHER_GRIDS.keys())
def test_a_mask_of_another_grid_is_refused(
    series: Path, tmp_path: Path, other: Callable[[Volume], Volume]
) -> None:
    mask = other(effusion(world()))
    mask = mask.with_array((mask.array > 0.5).astype(np.uint8))
    message = refusal(mask, series, tmp_path / "out" / "mask.dcm")
    assert "is not that of the mask" in message
    assert "6 (2.5 mm) x 10 (0.9 mm) x 12 (0.7 mm)" in message


@pytest.mark.parametrize("degrees", [0.05, 0.28])
def test_a_trace_of_tilt_is_refused_where_it_adds_up(tmp_path: Path, degrees: float) -> None:
    series, step_mm = tmp_path / "series", 20
    affine = world().affine.copy()
    affine[2, 2] = step_mm
    dicom.write_series(Volume(world(16).array, affine), series, patient_id="P1")
    tilt(series, np.degrees(np.arctan(np.tan(np.radians(degrees)) * step_mm / STEP_MM)))
    mask = effusion(dicom.read(series))
    if degrees < 0.1:
        assert_same_places(save(mask, series, tmp_path / "mask.dcm"), mask, within_mm=0.1)
    else:
        message = refusal(mask, series, tmp_path / "out" / "mask.dcm")
        assert "up to 0.37 mm off; use the NIfTI mask" in message


@pytest.mark.parametrize(
    ("array", "algorithm", "version"),
    [
        (np.full((12, 10, 6), 2, np.uint8), "a", "1"),
        (np.zeros((12, 10, 6), np.float32), "a", "1"),
        (np.zeros((12, 10, 6), np.uint8), "", "1"),
        (np.zeros((12, 10, 6), np.uint8), "a", "1" * 65),
        (np.zeros((12, 10, 6), np.uint8), "a\\b", "1"),
    ],
)
def test_what_is_no_mask_or_no_name_is_refused(
    series: Path, tmp_path: Path, array: np.ndarray, algorithm: str, version: str
) -> None:
    mask = Volume(array, world().affine)
    with pytest.raises(ValueError, match=r"a mask is uint8|is no text"):
        dicom_seg.write(mask, series, tmp_path / "o.dcm", algorithm=algorithm, version=version)
    assert not (tmp_path / "o.dcm").exists()


@pytest.mark.parametrize("content", [b"hello", None])
def test_what_is_no_segmentation_is_refused(
    series: Path, tmp_path: Path, content: bytes | None
) -> None:
    path = series / "0001.dcm"  # a CT slice
    if content:
        path = tmp_path / "text.dcm"
        path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as a DICOM SEG") as refused:
        dicom_seg.read(path)
    assert str(refused.value).startswith(str(path))


# --- what must never leave the house ----------------------------------------------------------


def mirrored(axis: int) -> Callable[[Volume], Volume]:
    return lambda v: v.with_array(np.flip(v.array, axis))


def one_more(volume: Volume) -> Volume:
    array = volume.array.copy()
    array[0, 0, 0] = 1
    return volume.with_array(array)


def one_less(volume: Volume) -> Volume:
    array = volume.array.copy()
    array[tuple(np.argwhere(array)[0])] = 0
    return volume.with_array(array)


def one_moved(volume: Volume) -> Volume:
    return one_more(one_less(volume))


def stretched(times: float) -> Callable[[Volume], Volume]:
    return lambda v: Volume(v.array, v.affine @ np.diag([1, 1, times, 1]))


def moved(mm: float) -> Callable[[Volume], Volume]:
    def change(volume: Volume) -> Volume:
        affine = volume.affine.copy()
        affine[0, 3] += mm
        return Volume(volume.array, affine)

    return change


TAMPERED: dict[str, tuple[Callable[[Volume], Volume], str]] = {
    "mirrored left-right": (mirrored(0), "other voxels are marked"),
    "mirrored front-back": (mirrored(1), "other voxels are marked"),
    "mirrored head-feet": (mirrored(2), "other voxels are marked"),
    "a voxel aside": (moved(0.7), "reaches beyond the scan"),
    "a fraction of a mm aside": (moved(0.02), "0.02 mm off"),
    "twice the distance of slices": (stretched(2), "another size"),
    "a little more distance of slices": (stretched(1.1), "mm off"),
    "one voxel more": (one_more, "other voxels are marked"),
    "one voxel less": (one_less, "other voxels are marked"),
    "one voxel elsewhere": (one_moved, "other voxels are marked"),
}


@pytest.mark.parametrize("tamper, finding", TAMPERED.values(), ids=TAMPERED.keys())
def test_a_file_that_reads_back_otherwise_is_not_left(
    series: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tamper: Callable[[Volume], Volume],
    finding: str,
) -> None:
    true_read = dicom_seg.read
    monkeypatch.setattr(dicom_seg, "read", lambda path: tamper(true_read(path)))
    path = tmp_path / "out" / "mask.dcm"
    with pytest.raises(RuntimeError, match=finding) as refused:
        save(effusion(world()), series, path)
    assert str(refused.value).startswith(f"{path}: not written")
    assert not list(path.parent.iterdir())


def test_a_slice_of_another_thickness_is_found_out(
    series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The centres of a single slice's voxels cannot tell; highdicom takes 1 mm if told nothing."""
    mask = world().with_array(np.zeros(world().shape, np.uint8))
    mask.array[3:5, 2, 4] = 1
    true_read = dicom_seg.read
    monkeypatch.setattr(dicom_seg, "read", lambda path: stretched(0.8)(true_read(path)))
    with pytest.raises(RuntimeError, match="mm off"):
        save(mask, series, tmp_path / "mask.dcm")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mirroring_library_is_found_out(
    series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, axis: int
) -> None:
    true = hd.Volume.match_geometry

    def mirror(self: hd.Volume, *args: Any, **options: Any) -> hd.Volume:
        matched = true(self, *args, **options)
        return matched.with_array(np.flip(matched.array, axis))

    monkeypatch.setattr(hd.Volume, "match_geometry", mirror)
    with pytest.raises(RuntimeError, match="other voxels are marked"):
        save(effusion(world()), series, tmp_path / "out" / "mask.dcm")
    assert not list((tmp_path / "out").iterdir())


def test_what_was_there_stays_if_writing_fails(
    series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(effusion(world()), series, tmp_path / "out" / "mask.dcm")
    before = path.read_bytes()

    def full_disk(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(pydicom.Dataset, "save_as", full_disk)
    with pytest.raises(OSError, match="no space"):
        save(effusion(world()), series, path)
    assert [p.read_bytes() for p in path.parent.iterdir()] == [before]


# --- real scans -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["LUNG1-016", "LUNG1-024"])
def test_real_scan(plethora_root: Path, tmp_path: Path, name: str) -> None:
    """Masks stored LAS, scans LPS; LUNG1-016 is implicit VR, LUNG1-024 JPEG-LS."""
    (case,) = [c for c in Plethora(plethora_root).cases() if c.name == name]
    scan, mask = case.load()
    assert mask is not None
    path = save(mask.reoriented("RAS"), case.image, tmp_path / "mask.dcm")
    assert_holds(path, mask)
    assert_refers(path, case.image)
    back = dicom_seg.read(path)
    assert back.nonzero_ml == pytest.approx(case.volume_ml, rel=1e-3)
    assert back.codes == scan.codes
    seg, slice_ = pydicom.dcmread(path), pydicom.dcmread(next(case.image.iterdir()))
    assert seg.PatientID == slice_.PatientID != ""
