"""The UNet, and adapters that fit any other network into the same pipeline.

Shapes: B batch, C channels, X Y Z space. A network takes ``(B, 1, X, Y, Z)`` in [-1, 1] and gives
logits ``(B, 1, X, Y, Z)``; while training it may give a list of them, the finest first. Networks
of MONAI's need no code here: ``conf/model/`` names them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from pleural.window import value

AIR = -1.0  # the lowest value of an image, with which it is padded


class UNet(nn.Module):
    """Encoder, decoder and the skips between them (Ronneberger et al. 2015, arXiv 1505.04597).

    Most of its time goes into the full resolution. A stem with a stride passes that only once on
    the way down and once, in the head, a transposed convolution of the same stride, on the way up:
    every voxel still has a logit of its own, but thin rims are found less well.

    Args:
        dimensions: 3, or 2 (see :class:`SliceWise`).
        channels: of each level, the finest first.
        stem_stride: of the image to the finest level, an axis each; 1 for none.
        contrasts_hu: lowest and highest HU of each channel that the first convolution sees, cut to
            the window. A narrow one sets fluid off from muscle and liver, from which it differs by
            some hundredths of a window that also holds lung and bone.
        window_hu: HU that are -1 and 1 in the image, as the preprocessing has it.
        prior: probability that the untrained network gives every voxel, about the share that is
            effusion; from one half, the first hundreds of steps go into learning this share.
        coarse_heads: so many of the levels below the finest, or all where there are fewer, have a
            head of their own while training (deep supervision, Lee et al. 2015, arXiv 1409.5185),
            the finer ones first; the network then gives a list.

    Images of any size are taken. ``multiples`` holds ``stem_stride`` times 2 to the number of
    levels less one: to sizes divisible by it, nothing is added and cut off again.
    """

    def __init__(
        self,
        dimensions: int,
        channels: Sequence[int],
        stem_stride: Sequence[int],
        contrasts_hu: Sequence[Sequence[float]],
        window_hu: Sequence[float],
        prior: float,
        coarse_heads: int = 0,  # runs from before there were any
    ) -> None:
        super().__init__()
        if coarse_heads < 0:
            raise ValueError(f"coarse_heads is 0 or more; got {coarse_heads}")
        conv: Any = nn.Conv2d if dimensions == 2 else nn.Conv3d
        up: Any = nn.ConvTranspose2d if dimensions == 2 else nn.ConvTranspose3d
        block = partial(_block, dimensions)
        self.stride, finest = tuple(stem_stride), channels[0]
        self.contrasts = _in_window(contrasts_hu, window_hu)
        stem = nn.Sequential(block(len(contrasts_hu), finest, self.stride), block(finest, finest))
        self.encoder = nn.ModuleList([stem])
        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for fine, coarse in pairwise(channels):
            self.encoder.append(nn.Sequential(block(fine, coarse, 2), block(coarse, coarse)))
            self.up.insert(0, up(coarse, fine, kernel_size=2, stride=2))
            self.decoder.insert(0, block(2 * fine, fine))
        self.head = up(finest, 1, kernel_size=self.stride, stride=self.stride)
        headed = channels[1 : 1 + coarse_heads]
        self.coarse_heads = nn.ModuleList(conv(n, 1, kernel_size=1) for n in headed)
        self.multiples = [step * 2 ** (len(channels) - 1) for step in self.stride]
        for head in (self.head, *self.coarse_heads):
            nn.init.constant_(head.bias, math.log(prior / (1 - prior)))

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        skips = []
        # (B, C, X, Y, Z), halved and with more channels at every level
        features = seen_in(self.contrasts, _to_multiples(image, self.multiples))
        for encode in self.encoder:
            features = encode(features)
            skips.append(features)
        levels = [skips.pop()]  # decoded, the finest first
        for up, decode in zip(self.up, self.decoder, strict=True):
            levels.insert(0, decode(torch.cat([up(levels[0]), skips.pop()], dim=1)))
        size = image.shape[2:]
        logits = cut_back(self.head(levels[0]), size)
        if not (self.training and self.coarse_heads):
            return logits
        return [logits, *self._coarse(levels[1:], size)]

    def _coarse(self, levels: Sequence[Tensor], size: Sequence[int]) -> Iterator[Tensor]:
        """Logits of the levels that have a head, for an image of ``size``."""
        for depth, head in enumerate(self.coarse_heads):
            steps = [step * 2 ** (depth + 1) for step in self.stride]
            parts = [-(-n // step) for n, step in zip(size, steps, strict=True)]
            yield cut_back(head(levels[depth]), parts)


def _block(
    dimensions: int, n_in: int, n_out: int, stride: Sequence[int] | int = 1
) -> nn.Sequential:
    conv: Any = nn.Conv2d if dimensions == 2 else nn.Conv3d
    norm: Any = nn.BatchNorm2d if dimensions == 2 else nn.BatchNorm3d
    return nn.Sequential(
        conv(n_in, n_out, kernel_size=3, stride=stride, padding=1, bias=False),
        norm(n_out),
        nn.LeakyReLU(0.01, inplace=True),
    )


def _in_window(
    ranges_hu: Sequence[Sequence[float]], window_hu: Sequence[float]
) -> list[tuple[float, float]]:
    """Ranges of HU, cut to the window, on the scale of an image, on which that is -1 to 1."""
    least_hu, most_hu = window_hu
    cut = [(max(low, least_hu), min(high, most_hu)) for low, high in ranges_hu]
    if any(low >= high for low, high in cut):
        raise ValueError(f"contrasts_hu lie within window_hu, {[*window_hu]}; got {[*ranges_hu]}")
    return [(value(low, window_hu), value(high, window_hu)) for low, high in cut]


def seen_in(contrasts: Sequence[tuple[float, float]], image: Tensor) -> Tensor:
    """``(B, 1, ...)`` to ``(B, C, ...)``: each range of values brought to 0 to 2, and clipped.

    Air is 0, as what convolutions pad with: were that the middle of the range, there would be a
    film of water around every volume, on air, as an effusion lies on lung. To be done before
    anything is rounded to bf16.
    """
    channels = [((image - low) * (2 / (high - low))).clamp(0, 2) for low, high in contrasts]
    last = torch.channels_last if image.dim() == 4 else torch.channels_last_3d
    return torch.cat(channels, dim=1).contiguous(memory_format=last)


def filled_up(image: Tensor, shape: Sequence[int]) -> Tensor:
    """``image`` with air added at the far end of the axes that are shorter than in ``shape``."""
    missing = [max(0, n - size) for n, size in zip(shape, image.shape[2:], strict=True)]
    # `pad` counts from the last axis backwards, a pair (before, after) for each.
    sides = [side for n in reversed(missing) for side in (0, n)]
    return pad(image, sides, value=AIR) if any(missing) else image


def cut_back(logits: Tensor, size: Sequence[int]) -> Tensor:
    """``logits`` of ``size``, ``(X, Y, Z)``: what was filled up for is cut off again."""
    for axis, n in enumerate(size, start=2):
        logits = logits.narrow(axis, 0, n)
    return logits


def _to_multiples(image: Tensor, multiples: Sequence[int]) -> Tensor:
    sizes = zip(image.shape[2:], multiples, strict=True)
    return filled_up(image, [size + -size % multiple for size, multiple in sizes])


class SliceWise(nn.Module):
    """A 2D network on volumes: every axial slice by itself, so that nothing else must ask."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        multiples = getattr(net, "multiples", None)
        if multiples is not None:
            self.multiples = [*multiples, 1]

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        batch, channels, x, y, z = image.shape
        slices = image.permute(0, 4, 1, 2, 3).reshape(batch * z, channels, x, y)
        logits = self.net(slices.contiguous(memory_format=torch.channels_last))
        return (
            _stacked(logits, z) if isinstance(logits, Tensor) else [_stacked(n, z) for n in logits]
        )


def _stacked(slices: Tensor, n_slices: int) -> Tensor:
    """``(B * Z, C, X, Y)`` to ``(B, C, X, Y, Z)``."""
    return slices.unflatten(0, (-1, n_slices)).permute(0, 2, 3, 4, 1)


class Padded(nn.Module):
    """For networks that only take sizes divisible by some number: pad up, run, cut back.

    Args:
        multiple: of which each of X, Y and Z must be a multiple.
    """

    def __init__(self, net: nn.Module, multiple: int) -> None:
        super().__init__()
        self.net = net
        self.multiples = [multiple] * 3

    def forward(self, image: Tensor) -> Tensor:
        return cut_back(self.net(_to_multiples(image, self.multiples)), image.shape[2:])


class DeeplySupervised(nn.Module):
    """For networks that stack their heads while training, ``(B, heads, C, X, Y, Z)``: as a list."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor | Sequence[Tensor]:
        logits: Tensor = self.net(image)
        return logits.unbind(1) if self.training else logits
