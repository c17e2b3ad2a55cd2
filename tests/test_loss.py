"""Dice + BCE."""

import pytest
import torch
from monai.losses import DiceFocalLoss, DiceLoss

from pleural.errors import InputError
from pleural.loss import UNKNOWN, DiceBCE, KnownOnly


def loss(**changes):
    settings = {
        "pos_weight": 3,
        "dice_weight": 1,
        "bce_weight": 1,
        "dice_over": "batch",
        "smooth": 1e-5,
    }
    return DiceBCE(**{**settings, **changes})


def patches(share=0.2, batch=2):
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(batch, 1, 8, 8, 8, generator=generator) < share).float()


def test_a_perfect_prediction_costs_nothing():
    target = patches()
    assert loss()(40 * (target - 0.5), target) < 1e-3


def test_bce_of_known_values():
    logits, target = torch.zeros(1, 1, 2, 1, 1), torch.tensor([1.0, 0.0]).reshape(1, 1, 2, 1, 1)
    ln2 = torch.log(torch.tensor(2.0))
    bce = loss(dice_weight=0, pos_weight=3)(logits, target)
    assert bce == pytest.approx(float((3 * ln2 + ln2) / 2))


def test_dice_of_known_values():
    logits, target = torch.full((1, 1, 4, 1, 1), 40.0), torch.tensor([1.0, 1, 0, 0])
    only_dice = loss(bce_weight=0)(logits, target.reshape(1, 1, 4, 1, 1))
    assert only_dice == pytest.approx(1 - 2 * 2 / (4 + 2), abs=1e-4)


def test_a_missed_voxel_costs_pos_weight_times_more():
    target = torch.ones(1, 1, 4, 4, 4)
    missed = torch.full_like(target, -2.0)
    once, thrice = (loss(dice_weight=0, pos_weight=w)(missed, target) for w in (1, 3))
    assert thrice == pytest.approx(3 * float(once))


def test_soft_targets_are_best_met_by_themselves():
    occupancy = torch.tensor([0.3, 0.6, 0.0, 1.0]).reshape(1, 1, 4, 1, 1)
    only_dice = loss(bce_weight=0)
    at_target = only_dice(torch.logit(occupancy, eps=1e-6), occupancy)
    at_mask = only_dice(40 * ((occupancy > 0.5).float() - 0.5), occupancy)
    assert at_target < 1e-3 < at_mask


@pytest.mark.parametrize("dice_over", ["batch", "patch"])
def test_dice_agrees_with_an_independent_implementation(dice_over):
    torch.manual_seed(0)
    logits, target = 3 * torch.randn(3, 1, 8, 8, 8), patches(batch=3) * torch.rand(3, 1, 8, 8, 8)
    target[1] = 0
    monais = DiceLoss(
        sigmoid=True, soft_label=True, batch=dice_over == "batch", smooth_nr=5, smooth_dr=5
    )
    ours = loss(bce_weight=0, dice_over=dice_over, smooth=5)
    torch.testing.assert_close(ours(logits, target), monais(logits, target))


def test_a_patch_without_effusion_does_not_hide_the_others_in_a_batch():
    target = patches()
    target[1] = 0
    logits = 40 * (target - 0.5)
    logits[1, 0, 0, 0, 0] = 40  # one invented voxel
    assert loss(bce_weight=0, dice_over="batch")(logits, target) < 0.02
    assert loss(bce_weight=0, dice_over="patch")(logits, target) > 0.4


def test_patches_of_their_own_count_alike_whatever_their_effusions_size():
    target = torch.zeros(2, 1, 8, 8, 8)
    target[0, 0, :, :, :4] = 1
    target[1, 0, 0, 0] = 1
    logits = 40 * (target - 0.5)
    logits[1] = -20  # the small one is missed
    assert loss(bce_weight=0, dice_over="batch")(logits, target) < 0.02
    assert loss(bce_weight=0, dice_over="patch")(logits, target) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("dice_over", ["patch", "effusion"])
@pytest.mark.parametrize("n_invented", [0, 10, 90])
def test_in_a_patch_without_effusion_what_is_invented_costs_by_its_size(n_invented, dice_over):
    logits = torch.full((1, 1, 512, 1, 1), -40.0)
    logits[0, 0, :n_invented] = 40
    only_dice = loss(bce_weight=0, dice_over=dice_over, smooth=10)(logits, torch.zeros_like(logits))
    assert only_dice == pytest.approx(n_invented / (n_invented + 10), abs=1e-4)


def test_patches_with_effusion_count_together_and_those_without_by_themselves():
    logits, target = torch.full((4, 1, 8, 8, 8), -40.0), torch.zeros(4, 1, 8, 8, 8)
    target[:2, 0, :4] = 1
    logits[0, 0, :4] = 40  # found; the second is missed, 256 voxels are invented in the third
    logits[2, 0, :4] = 40
    apart = loss(bce_weight=0, dice_over="effusion", smooth=64)(logits, target)
    found = (2 * 256 + 64) / (256 + 512 + 64)
    assert apart == pytest.approx((2 * (1 - found) + 256 / (256 + 64)) / 4, abs=1e-4)


def test_what_dice_is_taken_over_is_one_of_three():
    with pytest.raises(InputError, match="batch, patch or effusion; got 'all'"):
        loss(dice_over="all")


@pytest.mark.parametrize("smooth", [0, -1])
def test_without_a_smooth_patches_without_effusion_would_teach_no_number(smooth):
    with pytest.raises(InputError, match=r"loss\.smooth is above 0"):
        loss(smooth=smooth)


def test_it_is_computed_in_fp32():
    target = patches()
    assert loss()(torch.zeros_like(target).bfloat16(), target).dtype == torch.float32


OTHERS = [
    *(loss(dice_over=over, smooth=100) for over in ("batch", "patch", "effusion")),
    DiceFocalLoss(sigmoid=True),
]


@pytest.mark.parametrize("other", OTHERS)
def test_what_is_unknown_costs_and_teaches_nothing(other):
    target = patches()
    target[:, :, :3] = UNKNOWN
    target[:, :, 3] = UNKNOWN / 4  # interpolated towards it
    first, second = (torch.randn_like(target, requires_grad=True) for _ in range(2))
    with torch.no_grad():
        second[:, :, 4:] = first[:, :, 4:]
    costs = [KnownOnly(other)(logits, target) for logits in (first, second)]
    costs[0].backward()
    assert costs[0] > 0.1
    assert costs[0] == costs[1]
    assert not first.grad[:, :, :4].any()
    assert first.grad[:, :, 4:].all()


def test_where_all_is_known_a_loss_is_what_it_was():
    target, logits = patches(), torch.randn(2, 1, 8, 8, 8)
    assert KnownOnly(loss())(logits, target) == loss()(logits, target)
