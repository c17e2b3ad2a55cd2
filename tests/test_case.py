"""One small chest with a known effusion, its mask given in every good and bad way."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleural.data.case import Case, marked, natural
from pleural.errors import Findings, InputError
from pleural.io import dicom, nifti
from pleural.volume import Volume

SHAPE = (12, 10, 8)
AFFINE = np.array([[-1.0, 0, 0, 30], [0, -1, 0, 20], [0, 0, 2.5, -40], [0, 0, 0, 1]])
EFFUSION_ML = 6 * 10 * 8 * 2.5 / 1000


def chest() -> Volume:
    """Air beside tissue."""
    array = np.full(SHAPE, -900, np.int16)
    array[6:] = 40
    return Volume(array, AFFINE)


def effusion() -> Volume:
    """Half of the chest: a slab, of which linear interpolation loses nothing."""
    array = np.zeros(SHAPE, np.uint8)
    array[6:] = 1
    return Volume(array, AFFINE)


def with_values(inside: float, outside: float = 0, dtype: type = np.float32) -> Volume:
    return Volume(np.where(effusion().array, inside, outside).astype(dtype), AFFINE)


def with_one(volume: Volume, value: float) -> Volume:
    """As float32, with one voxel changed."""
    array = volume.array.astype(np.float32)
    array[0, 0, 0] = value
    return volume.with_array(array)


def moved(volume: Volume, x_mm: float) -> Volume:
    affine = volume.affine.copy()
    affine[0, 3] += x_mm
    return Volume(volume.array, affine)


def padded(volume: Volume) -> Volume:
    """A margin of zeros, three voxels wide."""
    affine = volume.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ [3, 3, 3]
    return Volume(np.pad(volume.array, 3), affine)


def finer(volume: Volume) -> Volume:
    """Each voxel cut into eight."""
    halves = np.diag([0.5, 0.5, 0.5, 1.0])
    halves[:3, 3] = -0.25
    return Volume(np.kron(volume.array, np.ones((2, 2, 2), np.uint8)), volume.affine @ halves)


MakeCase = Callable[..., Case]


@pytest.fixture
def make(tmp_path: Path) -> MakeCase:
    def make(scan: Volume, mask: Volume | None = None, negative: bool = False) -> Case:
        nifti.write(scan, tmp_path / "scan.nii.gz")
        if mask is not None:
            nifti.write(mask, tmp_path / "mask.nii.gz")
        path = None if mask is None else tmp_path / "mask.nii.gz"
        return Case("A1", "A", tmp_path / "scan.nii.gz", path, negative=negative)

    return make


def findings(case: Case) -> list[str]:
    """Without the files' folder."""
    with pytest.raises(Findings, match="A1 cannot be used:") as caught:
        case.load()
    return [
        finding.replace(f"{case.image.parent}{os.sep}", "") for finding in caught.value.findings
    ]


@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(effusion(), id="as it is"),
        pytest.param(effusion().reoriented("RAS"), id="flipped"),
        pytest.param(effusion().reoriented("SPL"), id="turned"),
        pytest.param(effusion().cropped((slice(5, 12), slice(None), slice(None))), id="cropped"),
        pytest.param(padded(effusion()), id="shifted"),
        pytest.param(effusion().resampled((2, 2, 5)), id="coarser"),
        pytest.param(finer(effusion()), id="finer"),
        pytest.param(with_values(255, dtype=np.uint8), id="0 and 255"),
        pytest.param(with_values(3, dtype=np.int16), id="0 and 3"),
        pytest.param(with_values(1.0), id="float"),
    ],
)
def test_a_mask_is_brought_onto_its_scan_as_0_and_1(make: MakeCase, mask: Volume) -> None:
    case = make(chest(), mask)
    scan, placed = case.load()
    assert placed is not None
    assert placed.array.dtype == np.uint8
    np.testing.assert_array_equal(scan.array, chest().array)
    np.testing.assert_array_equal(placed.array, effusion().array)
    np.testing.assert_array_equal(placed.affine, scan.affine)
    assert case.volume_ml == pytest.approx(EFFUSION_ML)


@pytest.mark.parametrize(("away_mm", "share"), [(4, "33%"), (6, "0%"), (500, "0%")])
def test_a_mask_that_lies_beside_its_scan_is_refused(
    make: MakeCase, away_mm: float, share: str
) -> None:
    """The slab reaches from the middle to the edge in x; its voxels are 1 mm wide."""
    assert findings(make(chest(), moved(effusion(), -away_mm))) == [
        f"mask.nii.gz: only {share} of the mask lies on its scan: another's mask, or a wrong affine"
    ]


def test_a_mask_may_reach_beyond_its_scan(make: MakeCase) -> None:
    _, placed = make(chest(), moved(effusion(), -2)).load()
    assert placed is not None
    assert np.count_nonzero(placed.array) == 4 * 10 * 8


@pytest.mark.parametrize(
    ("mask", "finding"),
    [
        (with_values(0), "the mask is empty; if the scan is free of effusion, list the case under"),
        (with_one(effusion(), 2), "a mask holds 0 and one positive value; this one holds 0, 1, 2"),
        (with_one(effusion(), 0.5), "a mask holds 0 and one positive value; this one holds 0, 0.5"),
        (with_one(effusion(), np.nan), "the mask has NaN or infinite values"),
        (with_one(effusion(), np.inf), "the mask has NaN or infinite values"),
        (with_values(-1), "a mask holds 0 and one positive value; this one holds -1, 0"),
        (with_values(1, 1), "a mask holds 0 and one positive value; this one holds 1"),
    ],
)
def test_values_that_are_no_mask_are_refused(make: MakeCase, mask: Volume, finding: str) -> None:
    (found,) = findings(make(chest(), mask))
    assert found.startswith(f"mask.nii.gz: {finding}")


def test_of_many_values_the_first_are_shown(make: MakeCase) -> None:
    ramp = effusion().with_array(np.arange(960, dtype=np.int16).reshape(SHAPE))
    (finding,) = findings(make(chest(), ramp))
    assert finding.endswith("holds 0, 1, 2, 3, 4 and 955 more")


@pytest.mark.parametrize(
    ("scan", "finding"),
    [
        (with_one(chest(), np.nan), "0.10% of the voxels are NaN or infinite"),
        (with_one(chest(), -np.inf), "0.10% of the voxels are NaN or infinite"),
        (with_values(1, 0), "no voxel below -500 (lowest 0): not in HU, or no chest CT"),
        (with_values(1064, 124), "no voxel below -500 (lowest 124): not in HU, or no chest CT"),
        (with_values(0), "no voxel below -500 (lowest 0): not in HU, or no chest CT"),
        (with_values(-1000, -1000), "no voxel above 0 HU (highest -1000): no tissue in the scan"),
        (with_values(40_000, -900), "values from -900 to 40000 are no HU"),
    ],
    ids=["NaN", "infinite", "from 0 to 1", "shifted by 1024", "0", "air", "too bright"],
)
def test_values_that_are_no_chest_ct_are_refused(
    make: MakeCase, scan: Volume, finding: str
) -> None:
    assert findings(make(scan, effusion())) == [f"scan.nii.gz: {finding}"]


def test_all_that_is_wrong_with_image_and_mask_comes_at_once(make: MakeCase) -> None:
    case = make(with_values(1), with_values(0))
    assert [finding.split(": ")[0] for finding in findings(case)] == ["scan.nii.gz", "mask.nii.gz"]
    case.image.write_bytes(b"damaged")
    assert [finding.split(": ")[0] for finding in findings(case)] == ["scan.nii.gz", "mask.nii.gz"]
    assert case.mask is not None
    case.mask.unlink()
    assert findings(case)[1:] == ["mask.nii.gz: there is no such file or folder"]


def test_dicom_of_another_modality_is_named(tmp_path: Path) -> None:
    dicom.write_series(chest(), tmp_path / "series", patient_id="A")
    case = Case("A1", "A", tmp_path / "series")
    scan, mask = case.load()
    assert (scan.shape, mask) == (SHAPE, None)
    for file in (tmp_path / "series").iterdir():
        header = pydicom.dcmread(file)
        header.Modality = "MR"
        header.save_as(file)
    (finding,) = findings(case)
    assert finding.startswith("series: 0001.dcm is of modality MR, not CT (8 of 8 DICOM files)")


def test_unlabelled_is_not_negative(make: MakeCase) -> None:
    case = make(chest())
    assert not case.labelled
    assert case.load()[1] is None
    with pytest.raises(InputError, match="A1: unlabelled, so its volume is unknown"):
        _ = case.volume_ml


@pytest.mark.parametrize("mask", [None, with_values(0, dtype=np.uint8)])
def test_a_negative_case_has_an_empty_mask_or_none(make: MakeCase, mask: Volume | None) -> None:
    case = make(chest(), mask, negative=True)
    _, placed = case.load()
    assert placed is not None
    assert (placed.shape, placed.array.dtype, placed.array.any()) == (SHAPE, np.uint8, False)
    assert (case.labelled, case.volume_ml) == (True, 0)


def test_a_negative_case_with_an_effusion_is_a_contradiction(make: MakeCase) -> None:
    assert findings(make(chest(), effusion(), negative=True)) == [
        "mask.nii.gz: listed as negative, but its mask holds 1.2 mL"
    ]


def cases(*names: str) -> list[Case]:
    return [Case(name, name.split("_")[0], Path(name)) for name in names]


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        ([], []),
        (["healthy_*"], ["healthy_1", "healthy_2"]),
        ("healthy_*", ["healthy_1", "healthy_2"]),
        (["healthy"], ["healthy_1", "healthy_2"]),
        (["*_1", "healthy_?"], ["anna_1", "healthy_1", "healthy_2"]),
        ([12], ["12"]),
        (12, ["12"]),
    ],
)
def test_patterns_of_negatives_and_distrusted(patterns: list[str], found: list[str]) -> None:
    """A word alone is one pattern, and what YAML took for a number is a name."""
    given = cases("anna_1", "healthy_1", "healthy_2", "12")
    found_cases = marked(given, negatives=patterns, distrusted=[])
    assert [case.name for case in found_cases if case.negative] == found
    assert [replace(case, negative=False) for case in found_cases] == given
    doubted = marked(given, negatives=[], distrusted=patterns)
    assert [case.name for case in doubted if case.distrusted] == found
    assert [replace(case, distrusted=False) for case in doubted] == given


@pytest.mark.parametrize("patterns", [["anna_*", "ANNA_*"], "ANNA_*"])
@pytest.mark.parametrize("key", ["negatives", "distrusted"])
def test_a_pattern_that_fits_nothing_is_refused(key: str, patterns: str | list[str]) -> None:
    with pytest.raises(InputError, match=rf"data\.{key}: 'ANNA_\*' fits none of the 2 cases"):
        marked(cases("anna_1", "bert_1"), **{"negatives": [], "distrusted": [], key: patterns})


def test_no_patterns_fit_nothing() -> None:
    assert marked(cases("anna_1"), negatives=None, distrusted=None) == cases("anna_1")


def test_the_hash_is_that_of_the_content_wherever_it_lies(make: MakeCase, tmp_path: Path) -> None:
    case = make(chest(), effusion())
    before = case.content_hash
    assert len(before) == 64
    assert case.mask is not None
    image = case.image.rename(tmp_path / "other.nii.gz")
    mask = case.mask.rename(tmp_path / "another.nii.gz")
    assert Case("B1", "B", image, mask, {"second": mask}).content_hash == before
    assert Case("B1", "B", image).content_hash != before
    assert Case("B1", "B", mask, image).content_hash != before
    for file in (image, mask):
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert Case("B1", "B", image, mask).content_hash != before
        file.write_bytes(content)
    assert Case("B1", "B", image, mask).content_hash == before


def test_the_hash_of_a_series_is_that_of_its_slices(tmp_path: Path) -> None:
    series = tmp_path / "series"
    dicom.write_series(chest(), series, patient_id="A")
    before = Case("A1", "A", series).content_hash
    for name in (".DS_Store", "DICOMDIR"):
        (series / name).write_text("not a slice")
    (series / "deeper").mkdir()
    (series / "deeper" / "0001.dcm").write_text("another series")
    (series / "0001.dcm").rename(series / "last.dcm")
    moved = series.rename(tmp_path / "moved")
    assert Case("A1", "A", moved).content_hash == before
    content = (moved / "0002.dcm").read_bytes()
    (moved / "0002.dcm").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert Case("A1", "A", moved).content_hash != before
    (moved / "0002.dcm").unlink()
    assert Case("A1", "A", moved).content_hash != before


def test_the_hash_of_what_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"scan\.nii: cannot be read \(No such file"):
        _ = Case("A1", "A", tmp_path / "scan.nii").content_hash


@pytest.mark.parametrize(
    "names",
    [
        ["LUNG1-1", "LUNG1-2", "LUNG1-10"],
        ["1", "2", "10"],
        ["a", "a1", "a1b2", "a1b10", "ab"],
        ["a_2²", "a_10", "²"],
    ],
)
def test_natural_order(names: list[str]) -> None:
    assert sorted(reversed(names), key=natural) == names


@given(st.lists(st.text("a0123²٣ _", max_size=6), unique=True), st.randoms())
def test_natural_order_leaves_nothing_to_chance(names: list[str], random: Random) -> None:
    shuffled = list(names)
    random.shuffle(shuffled)
    assert sorted(shuffled, key=natural) == sorted(names, key=natural)
