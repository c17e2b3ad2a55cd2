"""The adapters."""

import pytest
import torch
from torch import nn

from pleural.model import DeeplySupervised, Padded, SliceWise, channels_last


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


@pytest.mark.parametrize("net", [nn.Conv3d(2, 3, 3), nn.Conv2d(2, 3, 3), nn.Linear(2, 3)])
def test_channels_last_changes_no_value(net):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    for name, value in channels_last(net).state_dict().items():
        torch.testing.assert_close(value, before[name])
