"""Windows: as few as the network allows, and what is seen in them."""

import pytest
import torch
from torch import nn

from pleural.errors import InputError
from pleural.inference import Windows

WINDOWS = Windows(patch_size=(8, 8, 4), overlap=0.5, slab=32, slab_overlap=0.25)


class Seen(nn.Module):
    """Gives what it is shown, and notes the sizes."""

    def __init__(self, *modules):
        super().__init__()
        self.parts = nn.ModuleList(modules)
        self.multiples = [1, 1, 1]
        self.sizes = []

    def forward(self, image):
        self.sizes.append(tuple(image.shape[2:]))
        return 3 * image


@pytest.mark.parametrize("shape", [(20, 15, 90), (20, 15, 32), (3, 5, 2), (9, 8, 33), (7, 30, 47)])
@pytest.mark.parametrize("norm", [nn.BatchNorm3d(2), nn.InstanceNorm3d(2), nn.GroupNorm(1, 2)])
def test_every_voxel_gets_its_logit_back(shape, norm):
    torch.manual_seed(0)
    image, net = torch.rand(1, 1, *shape), Seen(norm)
    torch.testing.assert_close(WINDOWS(image, net), 3 * image)


def test_a_network_without_norms_of_the_window_sees_slabs_as_wide_as_the_volume():
    net = Seen(nn.BatchNorm3d(2))
    WINDOWS(torch.rand(1, 1, 20, 15, 90), net)
    assert {size[:2] for size in net.sizes} == {(20, 15)}
    assert max(size[2] for size in net.sizes) <= WINDOWS.slab
    assert sum(size[2] for size in net.sizes) < 1.6 * 90


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d(2), nn.InstanceNorm3d(2), nn.GroupNorm(1, 2)])
def test_a_network_that_norms_the_window_sees_windows_like_its_patches(norm):
    net = Seen(nn.Sequential(nn.Identity(), norm))
    WINDOWS(torch.rand(1, 1, 20, 15, 90), net)
    assert set(net.sizes) == {WINDOWS.patch_size}


def test_a_network_that_does_not_take_any_size_sees_windows_like_its_patches():
    net = Seen()
    del net.multiples
    WINDOWS(torch.rand(1, 1, 20, 15, 90), net)
    assert set(net.sizes) == {WINDOWS.patch_size}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ((0.5, 0, 0.5), "slab is a multiple of 16"),
        ((0.5, 40, 0.5), "slab is a multiple of 16"),
        ((1, 32, 0.5), "overlap is from 0 up to 1"),
        ((0.5, 32, -0.1), "slab_overlap is from 0 up to 1"),
    ],
)
def test_windows_that_cannot_be(settings, words):
    with pytest.raises(InputError, match=words):
        Windows((8, 8, 4), *settings)


@pytest.mark.parametrize("slices", range(1, 200, 7))
@pytest.mark.parametrize("overlap", [0, 0.25, 0.5])
def test_slabs_are_even_and_no_thicker_than_allowed(slices, overlap):
    slab = Windows((8, 8, 4), 0.5, slab=32, slab_overlap=overlap).slab_for((9, 7, slices))
    assert slab[:2] == (9, 7)
    assert slab[2] in (16, 32)
    assert slab[2] == 16 or slices > 16


def test_what_lies_beyond_a_small_volume_is_air():
    class Least(Seen):
        def forward(self, image):
            assert image.shape[2:] == (4, 4, 16)
            assert image.min() == -1
            return image

    WINDOWS(torch.rand(1, 1, 4, 4, 5), Least())
