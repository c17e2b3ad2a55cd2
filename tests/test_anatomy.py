"""The synthetic chest: what is asked for is there, where gravity and anatomy put it."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pytest
from scipy import ndimage

from pleural.anatomy import Chest, chest
from pleural.anatomy.shapes import Canvas, Grid, capsule, ellipsoid
from pleural.data.phantom import VOLUMES_ML
from pleural.errors import InputError
from pleural.volume import Volume

COARSE_MM = (4.0, 4.0, 6.0)


def world(volume: Volume) -> Grid:
    return Grid.of(volume.shape, volume.affine)


@cache
def default(index: int) -> Chest:
    """The chest that the phantom writes as its study ``index``."""
    return chest((0, index), VOLUMES_ML[index])


def best_window_dice(made: Chest) -> float:
    """Dice of the best of all HU intervals, chosen with the mask in hand."""
    hu = made.scan.array.clip(-101, 200) + 101
    inside = np.bincount(hu[made.effusion.array > 0], minlength=302)
    below = np.concatenate([[0], np.cumsum(np.bincount(hu.ravel(), minlength=302))])
    hit = np.concatenate([[0], np.cumsum(inside)])
    low, high = np.triu_indices(len(below), k=1)
    low, high = low[low > 0], high[low > 0]  # never the air
    return float((2 * (hit[high] - hit[low]) / (below[high] - below[low] + hit[-1])).max())


@pytest.fixture(scope="module")
def right_sided() -> Chest:
    return chest(5, 700, "right", spacing_mm=(3, 3, 5), codes="LPS")


def test_the_same_seed_gives_the_same_bytes() -> None:
    one, again, other = (chest(seed, 300, spacing_mm=COARSE_MM) for seed in (1, 1, 2))
    assert one.scan.array.tobytes() == again.scan.array.tobytes()
    assert one.effusion.array.tobytes() == again.effusion.array.tobytes()
    assert one.contents == again.contents
    assert one.contents != other.contents


@pytest.mark.parametrize(
    ("seed", "wanted_ml", "sides"),
    [
        *product((0, 1), (50, 400), ("right", "left", "both")),
        *product((2, 3, 4), (40, 1500), ("any",)),
    ],
)
def test_the_wanted_volume_is_reached(seed: int, wanted_ml: float, sides: str) -> None:
    made = chest(seed, wanted_ml, sides, spacing_mm=COARSE_MM)
    assert made.volume_ml == pytest.approx(wanted_ml, rel=0.1)
    counted_ml = np.count_nonzero(made.effusion.array) * made.effusion.voxel_ml
    assert made.volume_ml == pytest.approx(counted_ml)
    assert (made.right_ml == 0) == (sides == "left") or sides == "any"
    assert (made.left_ml == 0) == (sides == "right") or sides == "any"


def test_no_effusion_is_an_empty_mask() -> None:
    made = chest(3, 0, spacing_mm=COARSE_MM)
    assert not made.effusion.array.any()
    assert made.volume_ml == made.right_ml == made.left_ml == 0


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="do not fit"):
        chest(0, 4000, "left", spacing_mm=COARSE_MM)
    with pytest.raises(InputError, match="'middle'"):
        chest(0, 100, "middle")
    with pytest.raises(InputError, match="-5"):
        chest(0, -5)


@pytest.mark.parametrize("codes", ["LPS", "RAS", "LAS", "SPR"])
def test_right_is_the_patients_right_in_every_orientation(codes: str) -> None:
    made = chest(5, 400, "right", spacing_mm=COARSE_MM, codes=codes)
    assert made.scan.codes == made.effusion.codes == codes
    assert np.array_equal(made.scan.affine, made.effusion.affine)
    x = np.broadcast_to(world(made.effusion).x, made.effusion.shape)
    assert x[made.effusion.array > 0].min() > 0
    straight = chest(5, 400, "right", spacing_mm=COARSE_MM, codes="RAS")
    assert np.array_equal(made.scan.reoriented("RAS").array, straight.scan.array)


def test_types_and_the_air_around(right_sided: Chest) -> None:
    scan, mask = right_sided.scan, right_sided.effusion
    assert scan.array.dtype == np.int16
    assert mask.array.dtype == np.uint8
    assert set(np.unique(mask.array)) == {0, 1}
    corners = scan.array[:: scan.shape[0] - 1, :: scan.shape[1] - 1]
    assert np.median(corners) < -950


def test_fluid_is_as_dense_as_its_contents_say(right_sided: Chest) -> None:
    core = ndimage.binary_erosion(right_sided.effusion.array, iterations=2)
    mean_hu = right_sided.scan.array[core].mean()
    assert mean_hu == pytest.approx(right_sided.contents["fluid_hu"], abs=3)
    assert 0 < mean_hu < 25
    assert right_sided.scan.array[core].max() < 150  # no bone reaches in


def test_fluid_lies_behind_the_lung(right_sided: Chest) -> None:
    grid = world(right_sided.scan)
    y = np.broadcast_to(grid.y, right_sided.scan.shape)
    inner = ndimage.gaussian_filter(right_sided.scan.array.astype(np.float32), 1)
    lung = (inner > -950) & (inner < -600) & (grid.x > 0) & (np.abs(grid.y) < 80)
    fluid = right_sided.effusion.array > 0
    assert y[fluid].mean() < y[lung].mean() - 30
    middle = fluid & (np.abs(grid.z) < 10)
    assert np.percentile(y[middle], 95) - y[middle].min() > 25  # a layer with a depth


def test_a_table_lies_below_the_body_with_air_between(right_sided: Chest) -> None:
    dense = ndimage.gaussian_filter(right_sided.scan.array.astype(np.float32), 0.5) > -650
    parts, _ = ndimage.label(dense)
    sizes = np.bincount(parts.ravel())[1:]
    body, table = (np.argsort(sizes)[::-1] + 1)[:2]
    y = np.broadcast_to(world(right_sided.scan).y, right_sided.scan.shape)
    assert y[parts == table].mean() < y[parts == body].min()
    fluid = right_sided.effusion.array > 0
    assert np.mean(parts[fluid] == body) > 0.99


def test_scans_differ_in_orientation_spacing_and_slant() -> None:
    made = [default(index).scan for index in range(len(VOLUMES_ML))]
    assert len({scan.codes for scan in made}) > 1
    assert len({scan.spacing_mm for scan in made}) == len(made)
    slanted = [np.count_nonzero(np.abs(scan.affine[:3, :3]) > 1e-6) > 3 for scan in made]
    assert 0 < sum(slanted) < len(made)
    for scan in made:
        assert all(130 <= size <= 200 for size in sorted(scan.shape)[1:])
        assert 40 <= min(scan.shape) <= 60


def test_a_grid_can_be_asked_for() -> None:
    made = chest(0, 200, spacing_mm=(4.0, 5.0, 9.0), shape=(100, 64, 30), codes="RAS")
    assert made.scan.shape == (100, 64, 30)
    assert made.scan.spacing_mm == pytest.approx((4.0, 5.0, 9.0))


def test_loculated_fluid_also_lies_high() -> None:
    made = chest(7, 400, "both", spacing_mm=COARSE_MM)
    assert made.contents["loculated_share"]
    parts, count = ndimage.label(made.effusion.array)
    sizes = np.bincount(parts.ravel())[1:]
    assert count >= 2
    assert np.sum(sizes * made.effusion.voxel_ml > 20) >= 2
    assert made.volume_ml == pytest.approx(400, rel=0.1)


@pytest.mark.parametrize("index", [i for i, ml in enumerate(VOLUMES_ML) if ml])
def test_no_window_finds_the_effusion(index: int) -> None:
    assert best_window_dice(default(index)) < 0.5


def test_shapes_know_their_size() -> None:
    grid = Grid.of(
        (60, 60, 60), np.array([[1, 0, 0, -30], [0, 1, 0, -30], [0, 0, 1, -30], [0, 0, 0, 1]])
    )
    canvas = Canvas(grid, np.zeros(grid.shape, dtype=np.float32))
    canvas.ellipsoid((1, 2, 3), (20, 10, 15), 1.0, turn_deg=30)
    assert canvas.hu.sum() == pytest.approx(4 / 3 * np.pi * 20 * 10 * 15, rel=0.02)
    whole = Canvas(grid, np.zeros(grid.shape, dtype=np.float32))
    whole.fill(ellipsoid(grid, (1, 2, 3), (20, 10, 15), 30), 1.0)
    assert np.array_equal(canvas.hu, whole.hu)
    tube = Canvas(grid, np.zeros(grid.shape, dtype=np.float32))
    tube.tube([(-15, 0, 0), (15, 0, 0)], 5.0, 1.0)
    assert tube.hu.sum() == pytest.approx(np.pi * 25 * 30 + 4 / 3 * np.pi * 125, rel=0.02)
    assert capsule(grid, (-15, 0, 0), (15, 0, 0), 5.0).min() == pytest.approx(-5)
