"""Turns and scales of a patch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from monai.transforms import RandomizableTransform
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn.functional import grid_sample

from pleural.prepared import Sample

KEYS = ("image", "label")
WHOLE = (slice(None),) * 3


class RandAffine(RandomizableTransform):
    """Turns and scales image and label together, about the middle of the patch.

    In half the time of MONAI's ``RandAffined``, which takes each by itself, in double precision.
    Linear interpolation; what lies beyond the patch repeats its border. Where ``patch`` tells which
    part is to be cut from a larger one (:class:`pleural.dataset.Patches`), only that part is made.

    Args:
        prob: of changing a patch at all.
        rotate_range: radians about X, Y and Z, each up to this, either way.
        scale_range: share by which each axis grows or shrinks, up to this.
    """

    def __init__(
        self, prob: float, rotate_range: Sequence[float], scale_range: Sequence[float]
    ) -> None:
        super().__init__(prob)
        self.rotate_range = np.array(rotate_range)
        self.scale_range = np.array(scale_range)

    def __call__(self, sample: Sample) -> Sample:
        self.randomize(None)
        if not self._do_transform:
            return sample
        angles = self.R.uniform(-self.rotate_range, self.rotate_range)
        scales = 1 + self.R.uniform(-self.scale_range, self.scale_range)
        turned = Rotation.from_euler("xyz", angles).as_matrix() * scales
        spacing_mm = np.asarray(sample["spacing_mm"], np.float64)
        turned = turned * spacing_mm / spacing_mm[:, None]  # in voxels, which are no cubes
        both = torch.stack([sample[key] for key in KEYS], dim=1)
        wanted = sample.get("patch", WHOLE)
        moved = _sampled(both, _grid(turned, both.shape[2:], wanted))
        return {**sample, **dict(zip(KEYS, moved.split(1), strict=True)), "patch": WHOLE}


def _sampled(volumes: Tensor, grid: Tensor) -> Tensor:
    """``volumes`` ``(1, C, X, Y, Z)`` at the places of ``grid``, ``(C, X, Y, Z)``.

    A CPU gives each of a batch a thread, so the grid is one of as many parts along X: the weights
    of a place are computed once for all channels, and by all threads.
    """
    n_parts = math.gcd(grid.shape[1], torch.get_num_threads())
    parts = grid.reshape(n_parts, -1, *grid.shape[2:])
    volumes = volumes.expand(n_parts, -1, -1, -1, -1)
    sampled = grid_sample(volumes, parts, padding_mode="border", align_corners=False)
    return sampled.transpose(0, 1).flatten(1, 2)


def _grid(
    matrix: np.ndarray, shape: Sequence[int], wanted: tuple[slice, ...] = WHOLE
) -> torch.Tensor:
    """Where each ``wanted`` voxel comes from, ``(1, X, Y, Z, 3)``; ``matrix`` is in voxels.

    As torch wants it: each axis from -1 to 1, the last one first. By sums along the axes, in a
    third of the time of ``affine_grid``.
    """
    relative = (matrix * np.array(shape) / np.array(shape)[:, None]).astype(np.float32)
    columns = torch.from_numpy(np.ascontiguousarray(relative[::-1].T))
    x, y, z = (  # the middle of each voxel
        ((2 * torch.arange(n) + 1) / n - 1)[part] for n, part in zip(shape, wanted, strict=True)
    )
    in_plane = x[:, None, None] * columns[0] + y[:, None] * columns[1]
    return (in_plane[:, :, None] + z[:, None] * columns[2])[None]
