"""Agreement of two masks: known answers, an independent implementation, and empty masks."""

import math
from dataclasses import astuple
from itertools import pairwise

import numpy as np
import pytest
import surface_distance
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from pleural.data.plethora import Plethora
from pleural.errors import InputError
from pleural.metrics import Agreement, agreement
from pleural.volume import Volume

SPACING_MM = (0.977, 0.977, 3.0)
SPACINGS_MM = [SPACING_MM, (1.0, 1.0, 1.0), (2.5, 0.7, 1.2)]
TOLERANCE_MM = 2.0

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:surface_distance.metrics")


def volume(array, spacing_mm=SPACING_MM):
    return Volume(np.asarray(array, np.uint8), np.diag([*spacing_mm, 1.0]))


def blob(seed, shape=(26, 22, 12)):
    """Random islands and holes, some of them cut by the edge of the scan."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    return gaussian_filter(noise, 1.5) > 0.08


def box(*bounds, shape=(24, 20, 16)):
    array = np.zeros(shape, bool)
    array[tuple(slice(*b) for b in bounds)] = True
    return array


def sphere(centre_mm, radius_mm, spacing_mm=(1.0, 1.0, 1.5), shape=(92, 92, 62)):
    index = np.indices(shape).transpose(1, 2, 3, 0)
    away_mm = np.linalg.norm(index * spacing_mm - centre_mm, axis=-1)
    return volume(away_mm < radius_mm, spacing_mm)


def theirs(prediction, reference, tolerance_mm):
    """NSD and HD95 of DeepMind's package, with which the surface Dice was published."""
    distances = surface_distance.compute_surface_distances(
        reference.array > 0, prediction.array > 0, reference.spacing_mm
    )
    return (
        surface_distance.compute_surface_dice_at_tolerance(distances, tolerance_mm),
        surface_distance.compute_robust_hausdorff(distances, 95),
    )


@pytest.mark.parametrize("spacing_mm", SPACINGS_MM)
@pytest.mark.parametrize("seed", range(4))
def test_surfaces_agree_with_an_independent_implementation(seed, spacing_mm):
    prediction, reference = (volume(blob(s, (26, 22, 12)), spacing_mm) for s in (seed, 100 + seed))
    for tolerance_mm in (0.0, 1.1, 2.3):
        ours = agreement(prediction, reference, tolerance_mm)
        nsd, hd95_mm = theirs(prediction, reference, tolerance_mm)
        assert ours.nsd == pytest.approx(nsd, abs=1e-5)
        assert ours.hd95_mm == pytest.approx(hd95_mm, abs=1e-5)


def test_a_real_effusion_agrees_with_an_independent_implementation(plethora_root):
    case = next(c for c in Plethora(plethora_root).cases() if c.patient == "LUNG1-016")
    _, reference = case.load()
    prediction = reference.with_array(np.roll(reference.array, 3, axis=0))
    ours = agreement(prediction, reference, TOLERANCE_MM)
    nsd, hd95_mm = theirs(prediction, reference, TOLERANCE_MM)
    assert (ours.nsd, ours.hd95_mm) == pytest.approx((nsd, hd95_mm), abs=1e-5)


@pytest.mark.parametrize("spacing_mm", SPACINGS_MM)
@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("voxels", [1, 3])
def test_parallel_planes(axis, voxels, spacing_mm):
    """Two plates of 80 x 80 x 8 voxels, the lower one's top inside the upper one."""
    thick = [8 if a == axis else 80 for a in range(3)]
    plate = np.pad(np.ones(thick), [(5, 5) if a == axis else (0, 0) for a in range(3)])
    reference = volume(plate, spacing_mm)
    prediction = volume(np.roll(plate, voxels, axis), spacing_mm)
    away_mm = voxels * spacing_mm[axis]
    result = agreement(prediction, reference, away_mm)
    assert result.nsd == 1
    assert result.hd95_mm == pytest.approx(away_mm)

    below_mm = 0.9 * away_mm  # now far: the outer face, the inner but for a rim, bits of the sides
    height, *width = np.roll(np.multiply(thick, spacing_mm), -axis)
    outer, inner = np.prod(width), np.prod(np.subtract(width, 2 * below_mm))
    far = outer + inner + 2 * sum(width) * (away_mm - below_mm)
    expected = 1 - far / (2 * outer + 2 * sum(width) * height)
    assert agreement(prediction, reference, below_mm).nsd == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("axis", range(3))
def test_shifted_spheres(axis):
    """A sphere moved by s: its points lie off the other by distances spread evenly, over the area,
    from 0 to s (after Archimedes), so that NSD is tolerance / s and HD95 is 0.95 s, as well as
    voxels of 1 mm can tell."""
    shift_mm, radius_mm, voxel_mm = 15.0, 36.0, 1.0
    centre_mm = np.array([38.0, 38.5, 38.0])
    step_mm = shift_mm * np.eye(3)[axis]
    a, b = (sphere(mm, radius_mm) for mm in (centre_mm, centre_mm + step_mm))
    for tolerance_mm in (5.0, 10.0):
        result = agreement(a, b, tolerance_mm)
        assert result.nsd == pytest.approx(tolerance_mm / shift_mm, abs=voxel_mm / shift_mm)
        assert result.hd95_mm == pytest.approx(0.95 * shift_mm, abs=voxel_mm)
    assert result.reference_ml == pytest.approx(4 / 3 * math.pi * 3.6**3, rel=0.01)


def test_volumes_and_shares_worked_by_hand():
    reference = volume(box((2, 6), (2, 6), (2, 6)), (1, 2, 5))  # 64 voxels of 0.01 mL
    prediction = volume(box((4, 9), (2, 6), (2, 6)), (1, 2, 5))  # 80, of which 32 are right
    result = agreement(prediction, reference, TOLERANCE_MM)
    assert result.reference_ml == pytest.approx(0.64)
    assert result.predicted_ml == pytest.approx(0.80)
    assert result.volume_error_ml == pytest.approx(0.16)
    assert result.dice == pytest.approx(2 * 32 / (64 + 80))
    assert (result.sensitivity, result.precision) == (32 / 64, 32 / 80)
    less = agreement(reference, prediction, TOLERANCE_MM)
    assert less.volume_error_ml == pytest.approx(-0.16)
    assert less.absolute_volume_error_ml == pytest.approx(0.16)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.integers(100, 199))
def test_exchanging_the_two_exchanges_sensitivity_and_precision(one, other):
    a, b = volume(blob(one)), volume(blob(other))
    there, back = agreement(a, b, TOLERANCE_MM), agreement(b, a, TOLERANCE_MM)
    assert (there.dice, there.sensitivity, there.precision) == pytest.approx(
        (back.dice, back.precision, back.sensitivity)
    )
    assert (there.nsd, there.hd95_mm) == pytest.approx((back.nsd, back.hd95_mm))
    assert there.volume_error_ml == pytest.approx(-back.volume_error_ml)
    same = agreement(a, a, 0.0)
    assert astuple(same)[2:] == (1, 1, 0, 1, 1)


@pytest.mark.parametrize("codes", ["LPS", "SRA", "AIL"])
def test_the_order_of_the_axes_changes_nothing(codes):
    a, b = volume(blob(1), (2.5, 0.7, 1.2)), volume(blob(2), (2.5, 0.7, 1.2))
    straight = agreement(a, b, TOLERANCE_MM)
    turned = agreement(a.reoriented(codes), b.reoriented(codes), TOLERANCE_MM)
    assert astuple(turned) == pytest.approx(astuple(straight))


@pytest.mark.parametrize("dtype", [bool, np.int16, np.float32])
def test_the_type_of_the_masks_changes_nothing(dtype):
    a, b = volume(blob(1)), volume(blob(2))
    expected = agreement(a, b, TOLERANCE_MM)
    assert agreement(a.with_array(a.array.astype(dtype)), b, TOLERANCE_MM) == expected
    assert all(type(value) is float for value in astuple(expected))


def test_the_scan_around_the_masks_changes_nothing():
    """But for its diagonal, which is not asked for here; a mask at the edge is closed by it."""
    a, b = blob(1), blob(2)
    wide = [np.pad(mask, ((9, 0), (3, 14), (0, 5))) for mask in (a, b)]
    assert agreement(*map(volume, wide), TOLERANCE_MM) == agreement(
        volume(a), volume(b), TOLERANCE_MM
    )


def test_spacing_rounded_by_a_file_keeps_a_surface_within_the_tolerance():
    """NIfTI keeps spacing in single precision: three voxels of 0.6 mm are then 1.80000007 mm."""
    rounded_mm = float(np.float32(0.6))
    assert 3 * rounded_mm > 3 * 0.6
    a, b = (volume(box((n, n + 8), (4, 9), (4, 9)), [rounded_mm] * 3) for n in (4, 7))
    assert agreement(a, b, 3 * 0.6).nsd == 1


DIAGONAL_MM = math.sqrt((24 * 1) ** 2 + (20 * 2) ** 2 + (16 * 5) ** 2)
SOME = box((2, 6), (2, 6), (2, 6))  # 64 voxels of 0.01 mL
NONE = np.zeros_like(SOME)


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        pytest.param(
            NONE, SOME, Agreement(0.64, 0.0, 0.0, 0.0, DIAGONAL_MM, 0.0, 0.0), id="missed"
        ),
        pytest.param(
            SOME, NONE, Agreement(0.0, 0.64, 0.0, 0.0, DIAGONAL_MM, None, 0.0), id="false alarm"
        ),
        pytest.param(
            NONE, NONE, Agreement(0.0, 0.0, 1.0, 1.0, 0.0, None, None), id="true negative"
        ),
    ],
)
def test_empty_masks(prediction, reference, expected):
    result = agreement(
        volume(prediction, (1, 2, 5)), volume(reference, (1, 2, 5)), tolerance_mm=TOLERANCE_MM
    )
    assert astuple(result) == pytest.approx(astuple(expected))


def test_every_scan_that_is_missed_makes_the_mean_worse():
    """Where a missed scan has no distance, the mean improves with each (MONAI issue 9095)."""
    reference = volume(SOME)
    found = agreement(volume(np.roll(SOME, 3, axis=0)), reference, TOLERANCE_MM)
    missed = agreement(volume(NONE), reference, TOLERANCE_MM)
    scans = [[missed] * n + [found] * (5 - n) for n in range(6)]
    for better, worse in pairwise(scans):
        assert np.mean([s.hd95_mm for s in better]) < np.mean([s.hd95_mm for s in worse])
        assert np.mean([s.nsd for s in better]) > np.mean([s.nsd for s in worse])


def test_no_prediction_is_worse_than_none():
    """Two voxels in opposite corners: the distance comes close to the diagonal, never beyond."""
    corners = box((0, 1), (0, 1), (0, 1)), box((23, 24), (19, 20), (15, 16))
    far = agreement(*map(volume, corners), TOLERANCE_MM)
    missed = agreement(volume(NONE), volume(corners[0]), TOLERANCE_MM)
    assert 0.9 * missed.hd95_mm < far.hd95_mm < missed.hd95_mm


def moved(mask, voxels):
    affine = mask.affine.copy()
    affine[:3, 3] += voxels * affine[:3, 2]
    return Volume(mask.array, affine)


def test_one_grid_is_one_grid_to_a_hundredth_of_a_voxel():
    a, b = volume(blob(1)), volume(blob(2))
    expected = agreement(a, b, TOLERANCE_MM)
    assert agreement(moved(a, 0.009), b, TOLERANCE_MM).dice == expected.dice
    stretched = Volume(a.array, a.affine @ np.diag([1 + 1e-4, 1, 1, 1]))
    assert agreement(stretched, b, TOLERANCE_MM).dice == expected.dice


def test_other_grids_are_refused():
    a = volume(SOME)
    with pytest.raises(InputError, match=r"24 x 20 x 15 voxels .* 24 x 20 x 16 voxels .*: bring"):
        agreement(a.cropped((slice(None), slice(None), slice(15))), a, TOLERANCE_MM)
    with pytest.raises(InputError, match=r"up to 0\.02 voxels apart: bring"):
        agreement(moved(a, 0.02), a, TOLERANCE_MM)
    with pytest.raises(InputError, match=r"LPS from \(22\.471, 18\.563, 0\) mm"):
        agreement(a.reoriented("LPS"), a, TOLERANCE_MM)
    stretched = Volume(a.array, a.affine @ np.diag([1 + 1e-3, 1, 1, 1]))
    with pytest.raises(InputError, match=r"0\.977977 x 0\.977 x 3 mm, .* up to 0\.024 voxels"):
        agreement(stretched, a, TOLERANCE_MM)
