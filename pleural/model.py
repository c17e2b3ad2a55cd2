"""Adapters that fit any network into the same pipeline.

Shapes: B batch, C channels, X Y Z space. A network takes ``(B, C, X, Y, Z)`` in [-1, 1] and gives
logits ``(B, 1, X, Y, Z)``; while training it may give a list of them, the finest first. The
networks themselves are MONAI's, named in ``conf/model/``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


class SliceWise(nn.Module):
    """A 2D network on volumes: every axial slice by itself, so that nothing else must ask."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        batch, channels, x, y, z = image.shape
        slices = image.permute(0, 4, 1, 2, 3).reshape(batch * z, channels, x, y)
        logits: Tensor = self.net(slices.contiguous(memory_format=torch.channels_last))
        return logits.reshape(batch, z, -1, x, y).permute(0, 2, 3, 4, 1)  # B C X Y Z


class Padded(nn.Module):
    """For networks that only take sizes divisible by some number: pad up, run, cut back.

    Args:
        multiple: of which each of X, Y and Z must be a multiple.
    """

    def __init__(self, net: nn.Module, multiple: int) -> None:
        super().__init__()
        self.net = net
        self.multiple = multiple

    def forward(self, image: Tensor) -> Tensor:
        x, y, z = image.shape[2:]
        # `pad` counts from the last axis backwards, a pair (before, after) for each.
        missing = [side for size in (z, y, x) for side in (0, -size % self.multiple)]
        logits: Tensor = self.net(pad(image, missing, value=-1.0))
        return logits[..., :x, :y, :z]


class DeeplySupervised(nn.Module):
    """For networks that stack their heads while training, ``(B, heads, C, X, Y, Z)``: as a list."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor | Sequence[Tensor]:
        logits: Tensor = self.net(image)
        return logits.unbind(1) if self.training else logits


def channels_last(net: nn.Module) -> nn.Module:
    """3D convolution weights in the memory format that is fastest on CPUs and tensor cores."""
    for parameter in net.parameters():
        if parameter.dim() == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return net
