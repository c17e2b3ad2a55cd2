"""What synthetic findings are painted with: densities, noise, smooth unevenness, boxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate


def value(hu: float, window_hu: Sequence[float]) -> float:
    """Of ``hu`` in an image whose -1 and 1 stand for the ends of ``window_hu``."""
    return difference(hu - window_hu[0], window_hu) - 1


def difference(hu: float, window_hu: Sequence[float]) -> float:
    """Between two values of such an image that lie ``hu`` apart."""
    low, high = window_hu
    return hu * 2 / (high - low)


def noise(random: np.random.RandomState, shape: Sequence[int], sd: float) -> Tensor:
    """Of standard deviation ``sd``; each voxel shares half of it with its neighbours in plane.

    So does the noise of a scan that was brought to 2 mm. White noise would give away what was
    painted.
    """
    generator = torch.Generator().manual_seed(int(random.randint(2**31)))
    n_x, n_y, n_z = shape
    white = torch.randn((n_x + 1, n_y + 1, n_z), generator=generator)
    along_x = white[1:] + white[:-1]
    return (along_x[:, 1:] + along_x[:, :-1]) * (sd / 2)


def uneven(random: np.random.RandomState, shape: Sequence[int], step: Iterable[float]) -> Tensor:
    """Standard normal values some ``step`` voxels apart on each axis, linear between them."""
    coarse = [1 + max(1, round(n / s)) for n, s in zip(shape, step, strict=True)]
    drawn = torch.from_numpy(random.normal(size=(1, 1, *coarse))).float()
    mode = "bilinear" if len(coarse) == 2 else "trilinear"
    return interpolate(drawn, tuple(shape), mode=mode, align_corners=True)[0, 0]


def box_of(where: Tensor) -> tuple[slice, ...]:
    """The smallest one, along X, Y and Z, that holds all of ``where``, which holds something."""
    planes = where.any(dim=0)
    found = (where.any(dim=1).any(dim=1), planes.any(dim=1), planes.any(dim=0))
    ends = [axis.nonzero().flatten()[[0, -1]].tolist() for axis in found]
    return tuple(slice(first, last + 1) for first, last in ends)
