"""Turns and scales against scipy; synthetic findings in a lung of known size."""

import monai
import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform, distance_transform_edt

from pleural.augmentation import (
    RandAffine,
    RandConsolidation,
    RandCyst,
    RandEffusion,
    RandEnhancement,
    RandHypodensity,
    RandOtherFluid,
)
from pleural.augmentation.affine import _grid
from pleural.augmentation.painting import noise, noise_sd
from pleural.loss import UNKNOWN


@pytest.fixture(scope="module")
def sample():
    x, y, z = np.ogrid[-1:1:20j, -1:1:16j, -1:1:12j]
    smooth = np.sin(3 * x) + np.cos(2 * y + 1) * z
    image = torch.from_numpy(smooth.astype(np.float32))[None]
    label = (image > 0.3).float()
    return {"image": image, "label": label, "name": "kept", "spacing_mm": np.array([2.0, 2.0, 5.0])}


def affine(prob=1.0, rotate=(0.3, 0.2, 0.4), scale=(0.2, 0.1, 0.15)):
    return RandAffine(prob, rotate, scale).set_random_state(0)


def test_image_and_label_move_together(sample):
    moved = affine()({**sample, "label": sample["image"].clone()})
    torch.testing.assert_close(moved["image"], moved["label"])
    assert not torch.allclose(moved["image"], sample["image"], atol=0.05)
    assert moved["name"] == "kept"
    assert moved["image"].shape == sample["image"].shape


def test_the_grid_is_that_of_scipy(sample):
    matrix = np.array([[0.95, -0.2, 0.05], [0.25, 1.05, 0.1], [0.0, -0.15, 0.9]])
    image = sample["image"]
    moved = torch.nn.functional.grid_sample(
        image[None], _grid(matrix, image.shape[1:]), padding_mode="border", align_corners=False
    )
    middle = (np.array(image.shape[1:]) - 1) / 2
    expected = affine_transform(
        image[0].numpy(), matrix, middle - matrix @ middle, order=1, mode="nearest"
    )
    np.testing.assert_allclose(moved[0, 0], expected, atol=1e-4)


def test_of_a_part_that_is_cut_only_that_part_is_made(sample):
    part = (slice(3, 15), slice(0, 9), slice(5, 12))
    moved, whole = affine()({**sample, "patch": part}), affine()(sample)
    for key in ("image", "label"):
        torch.testing.assert_close(moved[key], whole[key][(slice(None), *part)])
    assert moved["image"][(slice(None), *moved["patch"])].shape == (1, 12, 9, 7)


def test_turns_are_turns_in_millimetres():
    flat = np.zeros((40, 40, 40), np.float32)
    flat[:, 18:22] = 1  # a slab that lies level
    sample = {
        **dict.fromkeys(("image", "label"), torch.from_numpy(flat)[None]),
        "spacing_mm": np.array([1.0, 1.0, 3.0]),
    }
    turn = RandAffine(1.0, (0.5, 0, 0), (0, 0, 0)).set_random_state(3)
    slab = turn(sample)["image"][0, 20].numpy()  # Y, Z
    centre = (slab * np.arange(40)[:, None]).sum(0) / slab.sum(0)
    rise_mm = np.polyfit(3.0 * np.arange(10, 30), centre[10:30], 1)[0]
    turn.set_random_state(3)
    turn.randomize(None)
    angle = turn.R.uniform(-turn.rotate_range, turn.rotate_range)[0]
    assert abs(rise_mm) == pytest.approx(abs(np.tan(angle)), rel=0.02)


def test_nothing_to_turn_or_scale_changes_nothing(sample):
    moved = affine(rotate=(0, 0, 0), scale=(0, 0, 0))(sample)
    torch.testing.assert_close(moved["image"], sample["image"], atol=1e-5, rtol=0)


def test_as_many_patches_as_asked_for_are_changed(sample):
    change = affine(prob=0.3)
    changed = sum(change(sample)["image"] is not sample["image"] for _ in range(300))
    assert 60 < changed < 120


def test_the_same_seed_is_the_same_change(sample):
    one, other = (affine()(sample)["image"] for _ in range(2))
    assert torch.equal(one, other)


def test_a_seeded_compose_reaches_it(sample):
    changes = monai.transforms.Compose([RandAffine(1.0, (0.3,) * 3, (0.1,) * 3)])
    results = [changes.set_random_state(seed)(sample)["image"] for seed in (1, 1, 2)]
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.fixture
def chest():
    """One lung, on the patient's right, 60 x 60 x 120 mm, in tissue."""
    depth = torch.zeros(1, 50, 40, 40)
    depth[0, 15:45, 5:35] = 1
    inside = distance_transform_edt(depth[0].numpy(), sampling=(2, 2, 1e6))
    image = torch.full_like(depth, 0.04)
    image[depth > 0] = -0.85
    return {
        "image": image,
        "label": torch.zeros_like(image),
        "lung_depth_mm": torch.from_numpy(inside).float()[None],
        "spacing_mm": np.array([2.0, 2.0, 3.0]),
        "name": "kept",
    }


WINDOW_HU = (-1000, 1000)


def effusion(seed=0, prob=1.0, thickness_mm=(20, 20), rim_mm=10):
    pour = RandEffusion(prob, WINDOW_HU, thickness_mm, (6, 0), (1, 1), rim_mm)
    return pour.set_random_state(seed)


def test_fluid_lies_in_the_lung_and_looks_like_water(chest):
    poured = effusion()(chest)
    full = poured["label"] == 1
    assert full.sum() * 12 / 1000 > 20  # mL
    assert not poured["label"][chest["lung_depth_mm"] == 0].any()
    hu = 1000 * poured["image"][full]
    assert hu.mean() == pytest.approx(6, abs=1)


def test_what_is_no_lung_stays_as_it_is(chest):
    poured = effusion()(chest)
    outside = chest["lung_depth_mm"] == 0
    torch.testing.assert_close(poured["image"][outside], chest["image"][outside])
    assert poured["name"] == "kept"


def test_fluid_lies_behind(chest):
    for seed in range(20):
        label = effusion(seed)(chest)["label"][0]
        y = (label * torch.arange(40)[:, None]).sum() / label.sum()
        assert y < 20  # the middle of the lung; y grows to the front


@pytest.mark.parametrize("thickness_mm", [6, 25])
def test_it_is_as_thick_as_asked_for(chest, thickness_mm):
    thickest = []
    for seed in range(30):
        poured = effusion(seed, thickness_mm=(thickness_mm, thickness_mm))(chest)
        thickest.append(
            2 * float(poured["label"][0, 30].sum(dim=0).max())
        )  # above the lowest point
    assert np.median(thickest) == pytest.approx(thickness_mm, rel=0.4)


def test_it_adds_to_the_effusion_that_is_there(chest):
    chest["label"][0, :10] = 1
    poured = effusion()(chest)
    assert (poured["label"] >= chest["label"]).all()
    assert poured["label"].max() == 1


def test_what_was_unknown_stays_so_where_little_or_no_fluid_is_poured(chest):
    chest["label"][:] = UNKNOWN
    poured = effusion()(chest)["label"]
    clean = effusion()({**chest, "label": torch.zeros_like(chest["label"])})["label"]
    assert ((clean > 0) & (clean < 0.5)).any()
    assert torch.equal(poured, torch.where(clean > 0.5, clean, UNKNOWN))


def test_the_side_is_drawn_where_there_are_two(chest):
    chest["lung_depth_mm"][0, :25] *= -1
    sides = set()
    for seed in range(20):
        label = effusion(seed)(chest)["label"][0]
        sides.add((bool(label[:25].any()), bool(label[25:].any())))
    assert sides == {(True, False), (False, True)}


def test_noise_is_that_of_a_scan():
    drawn = noise(np.random.RandomState(0), (60, 50, 40), 20.0).numpy()
    assert drawn.shape == (60, 50, 40)
    assert drawn.std() == pytest.approx(20, rel=0.03)
    for axis, expected in ((0, 0.25), (1, 0.25), (2, 0.5)):
        moved = np.moveaxis(drawn, axis, 0)
        correlation = np.corrcoef(moved[1:].ravel(), moved[:-1].ravel())[0, 1]
        assert correlation == pytest.approx(expected, abs=0.03)


def test_the_noise_of_a_scan_is_read_from_its_soft_tissue():
    drawn = noise(np.random.RandomState(0), (60, 50, 40), 0.02)
    assert noise_sd(drawn + 0.05, WINDOW_HU) == pytest.approx(0.02, rel=0.05)
    drawn[:30] -= 0.9  # lung
    assert noise_sd(drawn + 0.05, WINDOW_HU) == pytest.approx(0.02, rel=0.1)
    assert noise_sd(drawn - 0.8, WINDOW_HU) == 0.018  # no soft tissue


def test_fluid_is_as_noisy_as_the_scan(chest):
    own = noise(np.random.RandomState(0), chest["image"].shape[1:], 0.03)
    poured = effusion()({**chest, "image": chest["image"] + own})
    assert poured["image"][poured["label"] == 1].std() == pytest.approx(0.03, rel=0.1)


def test_some_effusions_fill_the_lowest_recess_and_some_do_not(chest):
    chest["lung_depth_mm"][..., :8] = 0  # the lung begins at the ninth slice
    lowest = [effusion(seed)(chest)["label"][0, 30, :, 8].sum() * 2 for seed in range(40)]
    assert 10 < sum(mm > 12 for mm in lowest) < 35


def dense_lung(poured, before):
    return (poured["image"] > -0.5) & (before["image"] < -0.5) & (poured["label"] == 0)


def test_compressed_lung_is_no_effusion(chest):
    assert any(dense_lung(effusion(seed)(chest), chest).any() for seed in range(20))


def test_deep_fluid_compresses_more_of_a_lung(chest):
    def wide(seed, mm):
        poured = effusion(seed, thickness_mm=(mm, mm))(chest)
        return dense_lung(poured, chest)[0, 30].sum(dim=0).max()  # above the lowest point

    shallow, deep = (np.mean([wide(seed, mm) for seed in range(40)]) for mm in (3, 30))
    assert 0 < 1.5 * shallow < deep


def test_compressed_lung_is_as_noisy_as_the_scan():
    air = torch.full((30, 30, 30), -0.85)
    inside_mm = torch.full_like(air, 100.0)
    dense = effusion()._compressed(air, inside_mm, 40.0, [2.0, 2.0, 3.0], 0.03)
    assert dense.min() > -0.5
    steps = dense.diff(dim=0)  # which leave out what is uneven over many voxels
    assert steps.std() == pytest.approx(0.03 * np.sqrt(2 * (1 - 0.25)), rel=0.1)


def test_without_a_rim_no_lung_is_compressed(chest):
    for seed in range(20):
        poured = effusion(seed, rim_mm=0)(chest)
        assert poured["image"].isfinite().all()
        assert not dense_lung(poured, chest).any()


def test_no_lung_no_fluid(chest):
    chest["lung_depth_mm"].zero_()
    assert effusion()(chest) is chest
    assert effusion(prob=0.0)(chest) is chest


def test_the_same_seed_is_the_same_fluid(chest):
    one, same, other = (effusion(seed)(chest)["image"] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_threads_share_the_work_and_change_nothing(sample):
    before = torch.get_num_threads()
    results = []
    try:
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            results.append(affine()(sample))
    finally:
        torch.set_num_threads(before)
    for key in ("image", "label"):
        for other in results[1:]:
            torch.testing.assert_close(other[key], results[0][key])


def consolidation(seed=0, prob=1.0, radius_mm=(15, 15)):
    fill = RandConsolidation(prob, WINDOW_HU, radius_mm, (30, 50), (1, 1))
    return fill.set_random_state(seed)


def test_a_consolidation_is_dense_and_no_effusion(chest):
    for seed in range(10):
        filled = consolidation(seed)(chest)
        changed = filled["image"] != chest["image"]
        assert changed.any()
        assert (filled["image"] >= chest["image"]).all()  # air gives way, vessels do not
        assert not changed[chest["lung_depth_mm"] == 0].any()
        assert not filled["label"].any()
        assert 1000 * filled["image"].max() < 100
    assert filled["name"] == "kept"


def test_a_consolidation_is_about_as_large_as_asked_for(chest):
    chest["lung_depth_mm"][:] = 10  # nothing but lung
    chest["image"][:] = -0.85
    volumes_ml = []
    for seed in range(60):
        filled = consolidation(seed)(chest)["image"] > -0.3
        volumes_ml.append(float(filled.sum()) * 12 / 1000)
    sphere_ml = 4 / 3 * np.pi * 1.5**3
    assert 0.3 * sphere_ml < np.median(volumes_ml) < 1.5 * sphere_ml


def test_both_lungs_may_be_consolidated(chest):
    chest["lung_depth_mm"][0, :25] *= -1
    changed = sum(
        (consolidation(seed)(chest)["image"] != chest["image"])[0].any(dim=2).any(dim=1).int()
        for seed in range(20)
    )
    assert changed[15:25].any() and changed[25:45].any()


def test_no_lung_no_consolidation(chest):
    assert consolidation(prob=0.0)(chest) is chest
    chest["lung_depth_mm"].zero_()
    assert consolidation()(chest) is chest


def test_the_same_seed_is_the_same_consolidation(chest):
    one, same, other = (consolidation(seed)(chest)["image"] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.fixture
def fatty(chest):
    """The same, in fat instead of muscle, with a little effusion in front."""
    chest["image"][chest["lung_depth_mm"] == 0] = -0.1
    chest["image"][0, -8:, :8] = 0.05  # an organ
    chest["image"][0, 20:30, -6:] = 0.01
    chest["label"][0, 20:30, -6:] = 1
    return chest


def other_fluid(seed=0, prob=1.0, radius_mm=(30, 30)):
    soak = RandOtherFluid(prob, WINDOW_HU, radius_mm, (10, 10), (1, 1))
    return soak.set_random_state(seed)


def test_other_fluid_is_in_fat_and_no_effusion(fatty):
    everywhere = torch.zeros_like(fatty["image"], dtype=torch.bool)
    for seed in range(30):
        soaked = other_fluid(seed)(fatty)
        changed = soaked["image"] != fatty["image"]
        everywhere |= changed
        assert torch.equal(soaked["label"], fatty["label"])
        assert (fatty["image"][changed] == -0.1).all()
        assert 1000 * soaked["image"][changed].min() >= -100
        assert 1000 * soaked["image"][changed].max() < 100
    assert everywhere.any()
    assert soaked["name"] == "kept"


def test_other_fluid_keeps_away_from_lung_and_effusion(fatty):
    pleural = ((fatty["lung_depth_mm"] != 0) | (fatty["label"] > 0))[0].numpy()
    far_mm = distance_transform_edt(~pleural, sampling=fatty["spacing_mm"])
    for seed in range(30):
        changed = (other_fluid(seed)(fatty)["image"] != fatty["image"])[0].numpy()
        assert not changed.any() or far_mm[changed].min() > 8


def test_no_fat_no_other_fluid(chest):
    assert other_fluid(prob=0.0)(chest) is chest
    chest["image"][:] = 0.05
    assert other_fluid()(chest) is chest


def test_the_same_seed_is_the_same_other_fluid(fatty):
    one, same, other = (other_fluid(seed)(fatty)["image"] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.fixture
def below_lung(fatty):
    """The same, with 75 mm of fat and an organ below the lung, bone beside them, and no recess."""
    fatty["lung_depth_mm"][..., :25] = 0
    fatty["image"][..., :25] = -0.1
    fatty["image"][0, :30, :, :15] = 0.05
    fatty["image"][0, 25:28, 20:25, :15] = 0.6
    return fatty


def cyst(seed=0, prob=1.0, radius_mm=(15, 15), gas=0.0):
    return RandCyst(prob, WINDOW_HU, radius_mm, (10, 10), (1, 1), gas).set_random_state(seed)


def test_a_cyst_is_in_fat_and_organs_alike_and_no_effusion(below_lung):
    image = below_lung["image"]
    tissues = {"fat": image == -0.1, "organ": image == 0.05}
    bone, reached = image == 0.6, dict.fromkeys(tissues, 0)
    for seed in range(30):
        made = cyst(seed)(below_lung)
        changed = made["image"] != image
        assert torch.equal(made["label"], below_lung["label"])
        assert not (changed & bone).any()
        for name, tissue in tissues.items():
            reached[name] += int((changed & tissue).sum())
    assert min(reached.values()) > 1000
    assert made["name"] == "kept"


def test_a_cyst_lies_below_the_lung_and_reaches_nearly_up_to_it(below_lung):
    pleural = ((below_lung["lung_depth_mm"] != 0) | (below_lung["label"] > 0))[0].numpy()
    away_mm = distance_transform_edt(~pleural, sampling=below_lung["spacing_mm"])
    beside = ~pleural[:, :, 25:].any(axis=2)
    nearest_mm = []
    for seed in range(60):
        changed = (cyst(seed)(below_lung)["image"] != below_lung["image"])[0].numpy()
        assert changed[~beside].any()
        assert not (changed & beside[..., None] & (away_mm <= 8)).any()
        nearest_mm.append(away_mm[changed].min())
    assert 3 < min(nearest_mm) < 8


def test_no_cyst_is_in_a_heart(below_lung):
    image, lung = below_lung["image"].clone(), below_lung["lung_depth_mm"].clone()
    image[..., :20] = 0.6  # bone, which leaves little room below the lung
    image[0, 18:30, 18:30, 25:35] = 0.05  # a heart where the lungs are widest
    lung[0, 18:30, 18:30, 25:35] = 0
    lung[0, :, :15, 35:] = 0
    changed = torch.zeros_like(lung, dtype=torch.bool)
    for seed in range(30):
        made = cyst(seed, radius_mm=(4, 4))({**below_lung, "image": image, "lung_depth_mm": lung})
        changed |= made["image"] != image
    assert changed[..., 20:25].any()
    assert not changed[..., 30:].any()


def test_gas_in_a_stomach_is_in_front_above_a_level(below_lung):
    levels = []
    for seed in range(20):
        image = cyst(seed, gas=1.0)(below_lung)["image"][0]
        changed = (image != below_lung["image"][0]).numpy()
        gas, fluid = (changed & part.numpy() for part in (image < -0.9, image.abs() < 0.08))
        back = np.flatnonzero(gas.any(axis=(0, 2)))
        front = np.flatnonzero((fluid & (distance_transform_edt(changed) > 4)).any(axis=(0, 2)))
        if len(back) and len(front):
            levels.append((front[-1], back[0]))
    assert len(levels) > 10
    assert all(front <= back + 1 for front, back in levels)


def test_some_stomachs_and_some_cysts(below_lung):
    with_gas = sum(
        bool((cyst(seed, gas=0.5)(below_lung)["image"] < -0.9).sum() > 50) for seed in range(60)
    )
    assert 10 < with_gas < 50


def test_gas_is_the_same_however_many_threads_there_are(below_lung):
    before = torch.get_num_threads()
    drawn = []
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            drawn.append([cyst(seed, gas=1.0)(below_lung)["image"] for seed in range(30)])
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, *drawn))


def test_nothing_below_a_lung_no_cyst(fatty):
    assert cyst()(fatty) is fatty


def test_a_cyst_is_as_rare_as_asked_for(below_lung):
    assert cyst(prob=0.0)(below_lung) is below_lung
    made = sum(cyst(seed, prob=0.3)(below_lung) is not below_lung for seed in range(100))
    assert 15 < made < 45


def test_the_same_seed_is_the_same_cyst(below_lung):
    one, same, other = (cyst(seed)(below_lung)["image"] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.fixture
def abdomen():
    """A liver of 56 mm between fat, a muscle of 8 mm, bone, and some fluid on the liver."""
    image = torch.full((1, 50, 50, 30), -0.1)
    image[0, 10:38, 10:38, 5:25] = 0.11
    image[0, 44:48, :, :] = 0.06
    image[0, 21:23, 21:23, :] = 0.6
    label = torch.zeros_like(image)
    label[0, 10:38, 34:38, 5:25] = 1
    image[label == 1] = 0.012
    return {
        "image": image,
        "label": label,
        "lung_depth_mm": torch.zeros_like(image),
        "spacing_mm": np.array([2.0, 2.0, 3.0]),
        "name": "kept",
    }


def hypodensity(seed=0, prob=1.0, radius_mm=(60, 60), diffuse=0.0):
    made = RandHypodensity(prob, WINDOW_HU, radius_mm, (10, 10), (1, 1), diffuse)
    return made.set_random_state(seed)


def test_a_fatty_liver_is_as_dense_as_fluid_and_none(abdomen):
    for seed in range(10):
        dark = hypodensity(seed)(abdomen)
        changed = (dark["image"] != abdomen["image"])[0]
        assert changed.sum() > 1000
        assert torch.equal(dark["label"], abdomen["label"])
        assert dark["name"] == "kept"
        assert not changed[abdomen["label"][0] == 1].any()
        outside = torch.ones_like(changed)
        outside[9:39, 9:39] = False  # smoothing in plane reaches a voxel into the fat
        assert not changed[outside].any()  # the muscle is no organ
        assert not changed[21:23, 21:23].any()  # bone
    darkest = hypodensity(0, radius_mm=(200, 200))(abdomen)["image"][0, 12:18, 12:32, 8:22]
    assert 1000 * darkest.mean() == pytest.approx(10, abs=10)


def test_a_diffuse_one_takes_a_whole_organ_with_its_texture(abdomen):
    liver = torch.zeros(50, 50, 30, dtype=torch.bool)
    liver[10:38, 10:34, 5:25] = True
    liver[19:25, 19:25] = False  # bone, and what it is smoothed into
    abdomen["image"][0, 30, 30, 12] = 0.15  # a vessel, 40 HU more
    dark = hypodensity(diffuse=1.0)(abdomen)
    shift_hu = 1000 * (dark["image"] - abdomen["image"])[0]
    assert (shift_hu[liver] < -80).float().mean() > 0.95
    assert shift_hu[30, 30, 12] == pytest.approx(float(shift_hu[30, 30, 13]), abs=0.1)
    assert 1000 * dark["image"][0][liver].median() == pytest.approx(10, abs=10)
    assert not shift_hu[abdomen["label"][0] == 1].any()
    assert not shift_hu[44:48].any()  # the muscle
    assert torch.equal(dark["label"], abdomen["label"])


def test_a_diffuse_one_stays_within_an_organ(abdomen):
    abdomen["image"][0, 10:38, 10:38, 15:25] = 0.06  # another, of 60 HU
    for seed in range(10):
        shift = (hypodensity(seed, diffuse=1.0)(abdomen)["image"] - abdomen["image"])[0]
        lower, upper = (shift[11:37, 11:33, z].abs().sum() for z in (8, 22))
        assert (lower == 0) != (upper == 0)


@pytest.mark.parametrize("diffuse", [0.0, 1.0])
def test_no_organ_no_hypodensity(chest, abdomen, diffuse):
    assert hypodensity(prob=0.0, diffuse=diffuse)(abdomen) is abdomen
    chest["image"][:] = -0.1
    assert hypodensity(diffuse=diffuse)(chest) is chest


def test_the_same_seed_is_the_same_hypodensity(abdomen):
    one, same, *others = (
        hypodensity(seed, diffuse=0.5)(abdomen)["image"] for seed in (1, 1, 2, 3, 4, 5)
    )
    assert torch.equal(one, same)
    assert not all(torch.equal(one, other) for other in others)


def test_contrast_medium_leaves_fluid_alone(sample):
    image = torch.tensor([-900.0, 10, 30, 130, 1030]).reshape(1, 5, 1, 1) / 1000
    for seed in range(10):
        change = RandEnhancement(1.0, WINDOW_HU, 30, (0.5, 2)).set_random_state(seed)
        hu = 1000 * change({**sample, "image": image})["image"].flatten()
        torch.testing.assert_close(hu[:3], torch.tensor([-900.0, 10, 30]))
        factor = float(hu[3] - 30) / 100
        assert 0.5 <= factor <= 2
        assert float(hu[4] - 30) / 1000 == pytest.approx(factor, rel=1e-4)
    assert RandEnhancement(0.0, WINDOW_HU, 30, (0.5, 2))(sample) is sample
