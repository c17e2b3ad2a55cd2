"""Networks as they run fastest: the same values."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from pleural.tuned import InstanceNorm, PReLU, tuned


@pytest.mark.parametrize("net", [nn.Conv3d(2, 3, 3), nn.Conv2d(2, 3, 3), nn.Linear(2, 3)])
def test_a_tuned_network_keeps_its_weights(net):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    for name, value in tuned(net).state_dict().items():
        torch.testing.assert_close(value, before[name])


@pytest.mark.parametrize("n_in", [1, 2])
def test_a_tuned_network_has_its_channels_last(n_in):
    weight = tuned(nn.Conv3d(n_in, 1, 3)).weight
    assert weight.stride(1) == 1  # of a single channel as well: oneDNN looks at the strides


ORDERS = [torch.channels_last_3d, torch.contiguous_format]


@pytest.mark.parametrize("n_patches", [1, 3])
@pytest.mark.parametrize("n_channels", [1, 4])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("gradient_order", ORDERS)
@pytest.mark.parametrize("affine", [True, False])
def test_a_tuned_instance_norm_is_right(n_patches, n_channels, order, gradient_order, affine):
    """Against torch's in double precision and one order: in mixed ones its gradient is wrong."""
    torch.manual_seed(0)
    plain = nn.InstanceNorm3d(n_channels, affine=affine)
    for parameter in plain.parameters():
        nn.init.normal_(parameter)
    (ours,) = tuned(nn.Sequential(deepcopy(plain)))
    assert type(ours) is InstanceNorm
    shape = (n_patches, n_channels, 12, 10, 6)
    features, gradient = 5 + 3 * torch.randn(shape), 1 + torch.randn(shape)
    ordered = features.clone(memory_format=order).requires_grad_()
    exact = features.double().requires_grad_()
    results = []
    for norm, x, g in (
        (ours, ordered, gradient.contiguous(memory_format=gradient_order)),
        (plain.double(), exact, gradient.double()),
    ):
        normed = norm(x)
        normed.backward(g)
        results.append([normed, x.grad, *(p.grad for p in norm.parameters())])
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("slope", [0.25, 0.0, -0.5])
def test_a_tuned_prelu_agrees_with_torchs(slope):
    plain = nn.PReLU(init=slope)
    (quick,) = tuned(nn.Sequential(deepcopy(plain)))
    assert type(quick) is PReLU
    results = []
    for activation in (plain, quick):
        torch.manual_seed(0)
        features = torch.randn(2, 3, 6, 5, 4, requires_grad=True)
        active = activation(features)
        (active**3).sum().backward()
        results.append([active, features.grad, activation.weight.grad])
    for ours, torchs in zip(*results, strict=True):
        torch.testing.assert_close(ours, torchs)


def test_a_prelu_with_a_weight_for_each_channel_stays_torchs():
    (activation,) = tuned(nn.Sequential(nn.PReLU(3)))
    assert type(activation) is nn.PReLU


def test_an_instance_norm_with_running_statistics_stays_torchs():
    (norm,) = tuned(nn.Sequential(nn.InstanceNorm3d(4, track_running_stats=True)))
    assert type(norm) is nn.InstanceNorm3d
