"""Turns and scales, against scipy and MONAI."""

import monai
import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from pleural.augmentation import RandAffine, _grid


@pytest.fixture(scope="module")
def sample():
    x, y, z = np.ogrid[-1:1:20j, -1:1:16j, -1:1:12j]
    smooth = np.sin(3 * x) + np.cos(2 * y + 1) * z
    image = torch.from_numpy(smooth.astype(np.float32))[None]
    return {"image": image, "label": (image > 0.3).float(), "name": "kept"}


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
