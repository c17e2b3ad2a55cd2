"""Geometry: what crop, flip and resampling must keep true."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pleural.volume import Volume

CODES = ["".join(code) for axes in permutations(("LR", "PA", "IS")) for code in product(*axes)]


def oblique_affine(spacing_mm, degrees=(7, -12, 20), origin_mm=(-50.0, 30.0, 10.0)):
    rotation = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(3)
        i, j = [a for a in range(3) if a != axis]
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ turn
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing_mm
    affine[:3, 3] = origin_mm
    return affine


def ball(shape=(40, 36, 20), spacing_mm=(2.0, 2.0, 4.0), oblique=False, radius_mm=25.0):
    affine = oblique_affine(spacing_mm) if oblique else np.diag([*spacing_mm, 1.0])
    volume = Volume(np.zeros(shape), affine)
    centre = affine @ [*(np.array(shape) / 2), 1]
    index = np.stack([*np.indices(shape), np.ones(shape)])
    world = np.einsum("ij,jxyz->ixyz", affine, index)
    away = np.linalg.norm(world[:3] - centre[:3, None, None, None], axis=0)
    return volume.with_array((away < radius_mm).astype(np.uint8))


def centroid_mm(volume):
    index = np.argwhere(volume.array > 0.5).mean(axis=0)
    return (volume.affine @ [*index, 1])[:3]


def test_spacing_volume_and_codes_of_a_known_grid():
    volume = Volume(np.zeros((4, 5, 6)), np.diag([-2.0, -3.0, 5.0, 1.0]))
    assert volume.spacing_mm == (2.0, 3.0, 5.0)
    assert volume.voxel_ml == pytest.approx(0.03)
    assert volume.codes == "LPS"


@pytest.mark.parametrize(
    ("array", "affine", "word"),
    [
        (np.zeros((2, 2)), np.eye(4), "three axes"),
        (np.zeros((2, 0, 2)), np.eye(4), "none empty"),
        (np.zeros((2, 2, 2)), np.eye(3), "4x4"),
        (np.zeros((2, 2, 2)), np.full((4, 4), np.nan), "finite"),
        (np.zeros((2, 2, 2)), np.diag([1.0, 0, 1, 1]), "no volume"),
    ],
)
def test_what_is_no_volume_is_refused(array, affine, word):
    with pytest.raises(ValueError, match=word):
        Volume(array, affine)


def test_all_48_axis_orders_are_tried():
    assert len(set(CODES)) == 48


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("oblique", [False, True])
def test_reorienting_keeps_every_voxel_where_it_is(codes, oblique):
    rng = np.random.default_rng(0)
    affine = oblique_affine((1.0, 2.0, 3.0)) if oblique else np.diag([1.0, 2.0, 3.0, 1.0])
    volume = Volume(rng.integers(0, 99, (3, 4, 5)), affine)
    turned = volume.reoriented(codes)
    assert turned.codes == codes
    back = turned.reoriented(volume.codes)
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-12)
    np.testing.assert_array_equal(turned.onto(volume).array, volume.array)


def test_codes_must_name_each_axis_once():
    with pytest.raises(ValueError, match="once"):
        Volume(np.zeros((2, 2, 2)), np.eye(4)).reoriented("RAA")


def test_cropping_moves_the_origin():
    volume = ball()
    part = volume.cropped((slice(5, 30), slice(None), slice(2, -1)))
    assert part.shape == (25, 36, 17)
    np.testing.assert_allclose(part.affine[:3, 3], [10, 0, 8])
    np.testing.assert_array_equal(
        part.onto(volume).array[5:30, :, 2:-1], volume.array[5:30, :, 2:-1]
    )


def test_voxels_outside_get_the_fill():
    volume = Volume(np.ones((4, 4, 4)), np.eye(4))
    grid = Volume(np.zeros((8, 4, 4)), np.eye(4))
    np.testing.assert_array_equal(volume.onto(grid, fill=-7).array[:, 0, 0], [1] * 4 + [-7] * 4)


def test_what_lies_beyond_does_not_count():
    """A last voxel that the old ones cover in part is their mean, whichever end they start from."""
    volume = Volume(np.arange(1.0, 11.0).reshape(10, 1, 1), np.eye(4))
    for coarse, expected in (
        (volume.resampled((3, None, None), fill=-7), [2, 5, 8, 10]),
        (volume.reoriented("LAS").resampled((3, None, None), fill=-7), [9, 6, 3, 1]),
        (volume.resampled((20, None, None), fill=-7), [5.5]),
    ):
        np.testing.assert_allclose(coarse.array[:, 0, 0], expected, rtol=1e-6)
    beyond = Volume(np.zeros((3, 1, 1)), np.diag([4.0, 1, 1, 1]) + np.eye(4, k=3) * 9.5)
    np.testing.assert_allclose(volume.onto(beyond, fill=-7).array[:, 0, 0], [9.5, -7, -7])


def test_halving_takes_the_mean_of_whole_blocks():
    rng = np.random.default_rng(1)
    volume = Volume(rng.random((8, 6, 4)), np.diag([1.0, 1.0, 3.0, 1.0]))
    halved = volume.resampled((2, 2, None))
    blocks = volume.array.reshape(4, 2, 3, 2, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(halved.array, blocks, rtol=1e-6)
    assert halved.spacing_mm == (2.0, 2.0, 3.0)


def test_a_finer_grid_is_interpolated_linearly():
    ramp = Volume(np.arange(5.0)[:, None, None] * np.ones((5, 2, 2)), np.eye(4))
    finer = Volume(np.zeros((9, 2, 2)), np.diag([0.5, 1, 1, 1]))
    np.testing.assert_allclose(ramp.onto(finer).array[:, 0, 0], np.arange(9) / 2, atol=1e-6)


def test_a_mask_comes_down_as_occupancy_that_keeps_its_volume():
    mask = ball()
    coarse = mask.resampled((5.3, 4.1, 4.0))
    assert coarse.array.min() >= 0
    assert coarse.array.max() <= 1 + 1e-6
    own_ml = mask.array.sum() * mask.voxel_ml
    assert coarse.array.sum() * coarse.voxel_ml == pytest.approx(own_ml, rel=0.01)


def test_a_turned_grid_agrees_in_world_space():
    volume = ball(oblique=True)
    straight = Volume(np.zeros((80, 80, 60)), np.diag([2.0, 2, 2, 1]))
    centre = centroid_mm(volume)
    straight.affine[:3, 3] = centre - 0.5 * straight.affine[:3, :3] @ straight.shape
    there = volume.onto(straight)
    assert np.linalg.norm(centroid_mm(there) - centre) < 0.5
    assert (there.array > 0.5).sum() * there.voxel_ml == pytest.approx(
        volume.array.sum() * volume.voxel_ml, rel=0.05
    )


def test_a_coarser_turned_grid_averages():
    volume = ball(shape=(60, 60, 60), spacing_mm=(1.0, 1.0, 1.0), oblique=True)
    coarse = Volume(np.zeros((20, 20, 20)), np.diag([5.0, 5, 5, 1]))
    coarse.affine[:3, 3] = centroid_mm(volume) - 50
    there = volume.onto(coarse)
    assert ((there.array > 0.05) & (there.array < 0.95)).any()
    assert there.array.sum() * there.voxel_ml == pytest.approx(
        volume.array.sum() * volume.voxel_ml, rel=0.05
    )


@settings(max_examples=40, deadline=None)
@given(
    codes=st.sampled_from(CODES),
    oblique=st.booleans(),
    spacing_mm=st.tuples(*[st.floats(0.7, 3.0)] * 2, st.floats(1.0, 6.0)),
    target_mm=st.floats(1.0, 3.0),
)
def test_there_and_back_again(codes, oblique, spacing_mm, target_mm):
    mask = ball(spacing_mm=spacing_mm, radius_mm=9 * min(spacing_mm), oblique=oblique)
    source = mask.reoriented(codes)
    there = source.reoriented().cropped((slice(1, 39), slice(1, 35), slice(1, 19)))
    back = there.resampled((target_mm, target_mm, None)).onto(source)
    both = np.minimum(back.array >= 0.5, source.array).sum()
    overlap = 2 * both / ((back.array >= 0.5).sum() + source.array.sum())
    coarsening = target_mm / min(spacing_mm)
    # Of a ball of nine voxels' radius, of which 2,500 drawn have 0.991, 0.965 and 0.88 at least.
    assert overlap > (0.98 if coarsening < 1.5 else 0.95 if coarsening < 2 else 0.85)
    np.testing.assert_allclose(back.affine, source.affine)
