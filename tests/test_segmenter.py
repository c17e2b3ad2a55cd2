"""A study in, a mask on its own grid out."""

import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from pleural.preprocess import ChestCT
from pleural.segmenter import Segmenter
from tests.test_preprocess import patient
from tests.test_volume import CODES


class AboveWater(nn.Module):
    """Logits that are positive where the prepared image lies above 0 HU."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return 50 * image


def segmenter(patch_size=(32, 32, 16), **changes):
    preprocess = ChestCT((-1000, 1000), (2, 2, None), crop_to_body=True, margin_mm=10)
    inferer = SlidingWindowInferer(patch_size, overlap=0.25, mode="gaussian")
    return Segmenter(AboveWater(), preprocess, inferer, patch_size, **changes)


@pytest.mark.parametrize("codes", CODES[::5])
def test_the_mask_lies_on_the_study_s_own_grid(codes):
    scan = patient()[0].reoriented(codes)
    mask = segmenter().segment(scan)
    assert mask.array.dtype == np.uint8
    np.testing.assert_array_equal(mask.affine, scan.affine)
    body = scan.array > 0
    x, y, z = np.nonzero(mask.array)
    assert body[x, y, z].mean() > 0.97
    assert mask.array.sum() > 0.9 * body.sum() * (1 - 0.1)


def test_the_table_outside_the_box_is_no_effusion():
    scan, _ = patient()
    assert segmenter().segment(scan).array[:, :20].sum() == 0


def test_probabilities_lie_between_0_and_1():
    probability = segmenter().probability(patient()[0])
    assert 0 <= probability.array.min() < 0.5 < probability.array.max() <= 1


def test_a_volume_smaller_than_a_window_is_padded_and_cut_back():
    scan, _ = patient()
    small = scan.cropped((slice(None), slice(None), slice(0, 5)))
    assert segmenter(patch_size=(256, 256, 16)).segment(small).shape == small.shape


def test_a_lower_threshold_finds_more():
    scan, _ = patient()
    strict, lenient = (segmenter(threshold=t).segment(scan).array.sum() for t in (0.7, 0.05))
    assert lenient > strict > 0
