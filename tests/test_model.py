"""The adapters."""

import pytest
import torch
from torch import nn

from pleural.model import (
    DeeplySupervised,
    Padded,
    SliceWise,
    UNet,
    seen_in,
)


def test_slice_wise_runs_every_slice_by_itself():
    torch.manual_seed(0)
    flat = nn.Conv2d(1, 1, 3, padding=1)
    volume = torch.randn(2, 1, 6, 5, 4)
    logits = SliceWise(flat)(volume)
    assert logits.shape == volume.shape
    for z in range(4):
        torch.testing.assert_close(logits[..., z], flat(volume[..., z]))


def test_padded_gives_the_net_what_it_needs_and_takes_it_back():
    class Picky(nn.Module):
        def forward(self, image):
            assert all(size % 8 == 0 for size in image.shape[2:])
            assert (image[:, :, 5:] == -1).all()  # air, not water
            return image

    image = torch.randn(1, 1, 5, 8, 9)
    torch.testing.assert_close(Padded(Picky(), 8)(image), image)


def test_deep_supervision_is_a_list_in_training_only():
    class Heads(nn.Module):
        def forward(self, image):
            return torch.stack([image, 2 * image], dim=1) if self.training else image

    image = torch.randn(2, 1, 4, 4, 4)
    net = DeeplySupervised(Heads())
    heads = net(image)
    assert len(heads) == 2
    torch.testing.assert_close(heads[1], 2 * image)
    torch.testing.assert_close(net.eval()(image), image)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_each_contrast_is_a_channel_of_its_own(dimensions):
    image = torch.linspace(-1, 1, 81).reshape(1, 1, 9, *(9, 1)[: dimensions - 1])
    whole, soft = seen_in([(-1, 1), (-0.2, 0.2)], image)[0]
    torch.testing.assert_close(whole, image[0, 0] + 1)
    torch.testing.assert_close(soft, (5 * image[0, 0]).clamp(-1, 1) + 1)


def test_contrasts_are_in_hu_whatever_the_window():
    contrasts_hu = [(-1000, 1000), (-160, 240)]
    nets = [
        UNet(3, (4, 8), (1, 1, 1), contrasts_hu, window_hu, 0.02)
        for window_hu in ((-1000, 1000), (-1024, 3071), (-500, 300))
    ]
    hu = torch.tensor([-160.0, 0.0, 240.0])
    for net, (low, high) in zip(nets, [(-1000, 1000), (-1024, 3071), (-500, 300)], strict=True):
        image = ((hu - low) / (high - low) * 2 - 1).reshape(1, 1, 1, 1, 3)
        torch.testing.assert_close(seen_in(net.contrasts, image)[0, 1, 0, 0], (hu + 160) / 200)
    air = torch.full((1, 1, 1, 1, 1), -1.0)
    assert all(not seen_in(net.contrasts, air).any() for net in nets)
    with pytest.raises(ValueError, match="lie within window_hu"):
        UNet(3, (4, 8), (1, 1, 1), contrasts_hu, (300, 900), 0.02)


def test_beyond_its_border_a_volume_goes_on_as_air():
    net = UNet(3, (4, 8), (2, 2, 1), [(-1000, 1000), (-160, 240)], (-1000, 1000), 0.02)
    first = net.encoder[0][0][0]
    with torch.inference_mode():
        seen = first(seen_in(net.contrasts, torch.full((1, 1, 8, 8, 4), -1.0)))
    assert (seen == seen[..., :1, :1, :1]).all()


def test_a_contrast_tells_apart_what_bf16_rounds_to_one():
    image = torch.tensor([0.2401, 0.2399]).reshape(1, 1, 1, 1, 2)
    (narrow,) = seen_in([(0.2, 0.28)], image)[0]
    assert image.bfloat16().unique().numel() == 1
    assert narrow.bfloat16().unique().numel() == 2


def test_a_unet_takes_images_of_any_size():
    net = UNet(3, (4, 8), (2, 2, 1), [(-1000, 1000), (-160, 240)], (-1000, 1000), 0.02).eval()
    with torch.inference_mode():
        logits = net(torch.full((1, 1, 13, 10, 7), 0.01))
    assert logits.shape == (1, 1, 13, 10, 7)


def deep(coarse_heads=2, stem_stride=(2, 2, 1)):
    return UNet(
        len(stem_stride), (4, 8, 8), stem_stride, [(-1000, 1000)], (-1000, 1000), 0.02, coarse_heads
    )


def test_coarse_levels_have_logits_of_their_own_while_training():
    net = deep()
    image = torch.full((1, 1, 13, 10, 7), 0.01)
    shapes = [tuple(logits.shape[2:]) for logits in net(image)]
    assert shapes == [(13, 10, 7), (4, 3, 4), (2, 2, 2)]  # of 2 x 2 x 1, 4 x 4 x 2, 8 x 8 x 4
    for logits in net(image):
        assert logits.sigmoid().median().item() == pytest.approx(0.02, abs=0.03)
    assert net.eval()(image).shape == image.shape


def test_coarse_heads_teach_the_levels_below():
    net = deep()
    net(torch.rand(1, 1, 16, 16, 8))[2].sum().backward()
    assert net.encoder[2][0][0].weight.grad.abs().sum() > 0
    assert net.head.weight.grad is None


def test_slice_wise_coarse_logits_are_volumes():
    net = SliceWise(deep(stem_stride=(1, 1)))
    image = torch.rand(2, 1, 12, 8, 5)
    finest, *coarse = net(image)
    assert finest.shape == image.shape
    assert [tuple(logits.shape) for logits in coarse] == [(2, 1, 6, 4, 5), (2, 1, 3, 2, 5)]
    net.eval()
    torch.testing.assert_close(net(image)[..., 3], net(image[..., 3:4])[..., 0])


def test_coarse_heads_are_as_many_as_there_are_levels_for():
    assert len(deep(coarse_heads=3).coarse_heads) == 2
    with pytest.raises(ValueError, match="coarse_heads is 0 or more; got -1"):
        deep(coarse_heads=-1)
