"""A study in, a mask on its own grid out."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from pleural.errors import InputError
from pleural.parts import mask_on
from pleural.preprocess import ChestCT
from pleural.segmenter import Segmenter
from pleural.trained import Trained
from tests.test_preprocess import patient
from tests.test_volume import CODES


class AboveWater(nn.Module):
    """Logits that are positive where the prepared image lies above 0 HU."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return 50 * image


def member(patch_size=(32, 32, 16), net=None, threshold=0.5, spacing_mm=2):
    preprocess = ChestCT(
        (-1000, 1000), (spacing_mm, spacing_mm, None), crop_to_body=True, margin_mm=10
    )
    inferer = SlidingWindowInferer(patch_size, overlap=0.25, mode="gaussian")
    return Trained(net or AboveWater(), preprocess, inferer, patch_size, threshold)


def segmenter(**changes):
    return Segmenter([member(**changes)])


def segment(scan, **changes):
    return segmenter(**changes).segment(scan).mask


@pytest.mark.parametrize("codes", CODES[::5])
def test_the_mask_lies_on_the_study_s_own_grid(codes):
    scan = patient()[0].reoriented(codes)
    mask = segment(scan)
    assert mask.array.dtype == np.uint8
    np.testing.assert_array_equal(mask.affine, scan.affine)
    body = scan.array > 0
    x, y, z = np.nonzero(mask.array)
    assert body[x, y, z].mean() > 0.97
    assert mask.array.sum() > 0.9 * body.sum() * (1 - 0.1)


def test_the_table_outside_the_box_is_no_effusion():
    scan, _ = patient()
    assert segment(scan).array[:, :20].sum() == 0


def test_probabilities_lie_between_0_and_1():
    probability = segmenter().probability(member(), patient()[0])
    assert 0 <= probability.array.min() < 0.5 < probability.array.max() <= 1


def test_a_volume_smaller_than_a_window_is_padded_and_cut_back():
    scan, _ = patient()
    small = scan.cropped((slice(None), slice(None), slice(0, 5)))
    assert segment(small, patch_size=(256, 256, 16)).shape == small.shape


def test_a_lower_threshold_finds_more():
    scan, _ = patient()
    strict, lenient = (segment(scan, threshold=t).array.sum() for t in (0.7, 0.05))
    assert lenient > strict > 0


class Constant(nn.Module):
    """The same probability everywhere."""

    def __init__(self, probability):
        super().__init__()
        self.logit = float(np.log(probability / (1 - probability)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.full_like(image, self.logit)


class Overflows(nn.Module):
    """Gives no numbers in half precision; in any, where it is ``broken``."""

    def __init__(self, broken=False):
        super().__init__()
        self.broken = broken

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        half = torch.is_autocast_enabled("cpu")
        return 50 * image * (math.nan if half or self.broken else 1)


def test_what_is_no_number_is_predicted_again_in_single_precision():
    scan, _ = patient()
    half = Segmenter([member(net=Overflows())], precision="bf16-mixed").segment(scan).mask
    np.testing.assert_array_equal(half.array, segment(scan).array)


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_what_is_no_number_is_never_no_effusion(precision):
    broken = Segmenter([member(net=Overflows(broken=True))], precision=precision)
    with pytest.raises(InputError, match="gives no numbers"):
        broken.segment(patient()[0])


class LeftHalf(nn.Module):
    """Certain of every voxel whose neighbour on the patient's left is air: not symmetric."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        left = torch.roll(image, 1, dims=2)
        return 50 * ((left < -0.9) & (image > -0.5)).float() - 25


def test_an_ensemble_averages_probabilities():
    scan = patient()[0]
    members = [member(net=Constant(0.2)), member(net=Constant(0.9), spacing_mm=3)]
    found = Segmenter(members).segment(scan)
    middle = (80, 75, 20)
    assert found.probability.array[middle] == 140  # 0.55 of 255, whatever each one's grid
    assert found.mask.array[middle] == 1
    assert not Segmenter(members[:1]).segment(scan).mask.array.any()


def test_the_stored_probability_is_that_of_the_mask():
    scan = patient()[0]
    found = segmenter(threshold=0.3).segment(scan)
    assert found.probability.array.dtype == np.uint8
    marked = found.mask.array > 0
    assert found.probability.array[marked].min() >= np.floor(0.3 * 255)
    assert found.probability.array[~marked].max() <= np.ceil(0.3 * 255)


class TwoParts(nn.Module):
    """Sure of a box on the patient's right, and half sure of a smaller one on the left."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits = torch.full_like(image, -10)
        half = image.shape[2] // 2
        logits[:, :, half + 6 : half + 26, 20:40, 2:14] = 10
        logits[:, :, half - 20 : half - 6, 20:34, 2:14] = 1
        return logits


def test_what_the_network_is_unsure_of_is_left_out_and_told():
    scan = patient()[0]
    whole = (160, 160, 64)
    everything, sure = (
        replace(member(whole, TwoParts()), sure_inside=rule) for rule in (None, (0.3, 0.75))
    )
    found, kept = (Segmenter([one]).segment(scan) for one in (everything, sure))
    assert found.unsure_ml == 0
    assert 0 < kept.mask.nonzero_ml < found.mask.nonzero_ml
    assert kept.mask.nonzero_ml + kept.unsure_ml == pytest.approx(found.mask.nonzero_ml)
    np.testing.assert_array_equal(kept.probability.array, found.probability.array)
    left_out = (found.mask.array > kept.mask.array) & (found.probability.array < 250)
    assert left_out.sum() * scan.voxel_ml == pytest.approx(kept.unsure_ml)
    probability = Segmenter([sure]).probability(sure, scan)
    exported = mask_on(scan, probability, 0.5, (0.3, 0.75))
    np.testing.assert_array_equal(exported.array, kept.mask.array)
    alike = Segmenter([sure, sure]).segment(scan)
    np.testing.assert_array_equal(alike.mask.array, kept.mask.array)
    with pytest.raises(InputError, match="one threshold and one sure_inside"):
        Segmenter([sure, everything])


@pytest.mark.parametrize("mirror", ["x", "yz", "xyz"])
def test_mirroring_makes_what_is_mirrored_alike(mirror):
    """A mirrored study gets the mirrored result, which a single pass of this network denies it."""
    scan = patient()[0]
    axes = ["xyz".index(axis) for axis in mirror]
    mirrored = scan.with_array(np.flip(scan.array, axes))
    own_grid = ChestCT((-1000, 1000), (None, None, None), crop_to_body=False, margin_mm=0)
    at_once = (160, 144, 48)
    inferer = SlidingWindowInferer(at_once, mode="constant")
    one = Trained(LeftHalf(), own_grid, inferer, at_once, 0.5)

    def of(study, mirror):
        return Segmenter([one], mirror=mirror).probability(one, study).array

    np.testing.assert_allclose(of(scan, mirror), np.flip(of(mirrored, mirror), axes), atol=1e-3)
    if "x" in mirror:
        assert np.abs(of(scan, "") - np.flip(of(mirrored, ""), axes)).max() > 0.9


def test_slabs_do_not_show(monkeypatch):
    scan = patient()[0]
    whole = segment(scan)
    monkeypatch.setattr("pleural.segmenter.SLAB_VOXELS", 1)
    np.testing.assert_array_equal(segment(scan).array, whole.array)


def test_members_must_agree_on_the_threshold():
    with pytest.raises(InputError, match=r"its runs have 0.3 and None, 0.5 and None"):
        Segmenter([member(threshold=0.5), member(threshold=0.3)])
    with pytest.raises(InputError, match="none at all"):
        Segmenter([])


def test_an_axis_that_is_none_is_refused():
    with pytest.raises(InputError, match="axes among x, y and z; got q"):
        Segmenter([member()], mirror="xq")
