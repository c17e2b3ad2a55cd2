"""Augmentation that MONAI does not have, or at too high a cost; the rest is MONAI's.

Shapes: samples hold ``image``, ``label`` and ``lung_depth_mm``, plain tensors ``(1, X, Y, Z)``, and
``spacing_mm``, ``(3,)``. X grows to the patient's Right, Y to Anterior, Z to Superior.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from monai.transforms import RandomizableTransform
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from pleural.prepared import Sample

KEYS = ("image", "label")

# Of synthetic effusions; by eye, on scans with real ones.
LEVEL_SHARE = 0.3  # have a level surface
HIGHER_MM = (25.0, 60.0)  # than their depth is how far they climb
THINNING = (0.3, 1.2)  # power of the height: the smaller, the blunter the upper end
UNEVEN = 0.25  # standard deviation of the depth along the wall
LENGTH_MM = (40.0, 300.0)
ENDS_MM = 25.0  # over which they thin out towards head and feet
COMPRESSED_HU = (-250.0, 80.0)


class RandAffine(RandomizableTransform):
    """Turns and scales image and label together, about the middle of the patch.

    In half the time of MONAI's ``RandAffined``, which takes each by itself, in double precision.
    Linear interpolation; what lies beyond the patch repeats its border.

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
        moved = _sampled(both, _grid(turned, both.shape[2:]))
        return {**sample, **dict(zip(KEYS, moved.split(1), strict=True))}


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


def _grid(matrix: np.ndarray, shape: Sequence[int]) -> torch.Tensor:
    """Where each voxel comes from, ``(1, X, Y, Z, 3)``; ``matrix`` is in voxels of X, Y, Z.

    As torch wants it: each axis from -1 to 1, the last one first. By sums along the axes, in a
    third of the time of ``affine_grid``.
    """
    relative = (matrix * np.array(shape) / np.array(shape)[:, None]).astype(np.float32)
    columns = torch.from_numpy(np.ascontiguousarray(relative[::-1].T))
    x, y, z = ((2 * torch.arange(n) + 1) / n - 1 for n in shape)  # the middle of each voxel
    in_plane = x[:, None, None] * columns[0] + y[:, None] * columns[1]
    return (in_plane[:, :, None] + z[:, None] * columns[2])[None]


class RandEffusion(RandomizableTransform):
    """Pours synthetic fluid into the chest, between one lung and the wall it lies on.

    The patient is taken to lie on the back. The fluid is deepest at the lowest point of each slice
    and thins out upwards along the wall and the mediastinum, as free fluid does; or it has a level
    surface. Lung next to it may be compressed. What is poured adds to the label, so few scans with
    small effusions stand for many with effusions of every size, and no scan needs to be labelled
    for it: sides and slices without fluid are as good.

    Args:
        prob: of pouring at all.
        window_hu: what -1 and 1 of the image stand for.
        thickness_mm: least and greatest depth of the fluid; as likely to be halved as doubled.
        fluid_hu: mean and standard deviation, between effusions, of its HU.
        noise_hu: least and greatest standard deviation of HU within one.
        rim_mm: greatest width of compressed lung.
    """

    def __init__(
        self,
        prob: float,
        window_hu: Sequence[float],
        thickness_mm: Sequence[float],
        fluid_hu: Sequence[float],
        noise_hu: Sequence[float],
        rim_mm: float,
    ) -> None:
        super().__init__(prob)
        self.window_hu = window_hu
        self.thickness_mm = np.array(thickness_mm)
        self.fluid_hu = fluid_hu
        self.noise_hu = noise_hu
        self.rim_mm = rim_mm

    def __call__(self, sample: Sample) -> Sample:
        self.randomize(None)
        depth_mm = sample["lung_depth_mm"][0]
        sides = [side for side in (-1, 1) if (side * depth_mm > 0).any()]
        if not (self._do_transform and sides):
            return sample
        depth_mm = self.R.choice(sides) * depth_mm
        box = (slice(None), *_box(depth_mm > 0))  # of one lung: a fraction of the patch
        image, label = sample["image"].clone(), sample["label"].clone()
        image[box], label[box] = self._poured(
            image[box][0], label[box][0], depth_mm[box[1:]].clamp(min=0), sample["spacing_mm"]
        )
        return {**sample, "image": image, "label": label}

    def _poured(
        self, image: Tensor, label: Tensor, depth_mm: Tensor, spacing_mm: Sequence[float]
    ) -> tuple[Tensor, Tensor]:
        spacing_mm = [float(mm) for mm in spacing_mm]
        surface_mm = self._surface_mm(depth_mm > 0, spacing_mm)
        share = ((surface_mm - depth_mm) / spacing_mm[0] + 0.5).clamp(0, 1) * (depth_mm > 0)
        fluid = self._value(self.R.normal(*self.fluid_hu)) + self._noise(share > 0)
        image = torch.lerp(self._compressed(image, depth_mm, surface_mm), fluid, share)
        return image, torch.maximum(label, share)

    def _surface_mm(self, lung: Tensor, spacing_mm: Sequence[float]) -> Tensor:
        """``(Y, Z)``: the depth in the lung to which fluid stands, by height and slice."""
        _, n_y, n_z = lung.shape
        thickness = np.exp(self.R.uniform(*np.log(self.thickness_mm)))
        in_slice = lung.any(dim=0)
        lowest = in_slice.float().argmax(dim=0)
        height_mm = (torch.arange(n_y)[:, None] - lowest) * spacing_mm[1]
        along = self._along(in_slice.any(dim=0), spacing_mm[2])
        if self.R.random() < LEVEL_SHARE:
            return torch.where((height_mm < thickness) & (along > 0.5), torch.inf, 0.0)
        top_mm = thickness + self.R.uniform(*HIGHER_MM)
        thinner = (1 - height_mm / top_mm).clamp(0, 1) ** self.R.uniform(*THINNING)
        coarse = torch.from_numpy(self.R.normal(1, UNEVEN, (1, 1, 1 + n_y // 12, 1 + n_z // 8)))
        uneven = interpolate(coarse.float(), (n_y, n_z), mode="bilinear", align_corners=True)
        return thickness * thinner * along * uneven[0, 0]

    def _along(self, slices: Tensor, slice_mm: float) -> Tensor:
        """``(Z,)``, 0 to 1: the slices that the fluid reaches, thinning out at both ends."""
        low, high = np.flatnonzero(slices.numpy())[[0, -1]] * slice_mm
        start = self.R.uniform(low - ENDS_MM, high)
        stop = start + self.R.uniform(*LENGTH_MM)
        z_mm = torch.arange(len(slices)) * slice_mm
        return torch.minimum(z_mm - start, stop - z_mm).div(ENDS_MM).clamp(0, 1)

    def _compressed(self, image: Tensor, depth_mm: Tensor, surface_mm: Tensor) -> Tensor:
        """Denser lung, half of the time, for some millimetres beyond the fluid."""
        width = self.R.uniform(0, self.rim_mm)
        value = self._value(self.R.uniform(*COMPRESSED_HU))
        if self.R.random() < 0.5 or width == 0:
            return image
        share = ((surface_mm + width - depth_mm) / width).clamp(0, 1)
        return torch.lerp(image, image.clamp(min=value), share * (surface_mm > 0) * (depth_mm > 0))

    def _noise(self, where: Tensor) -> Tensor:
        noise = torch.zeros(where.shape)
        sd = self.R.uniform(*self.noise_hu) * 2 / (self.window_hu[1] - self.window_hu[0])
        noise[where] = torch.from_numpy(self.R.normal(0, sd, int(where.sum()))).float()
        return noise

    def _value(self, hu: float) -> float:
        low, high = self.window_hu
        return (hu - low) * 2 / (high - low) - 1


def _box(where: Tensor) -> tuple[slice, ...]:
    """The smallest one, along X, Y and Z, that holds all of ``where``, which holds something."""
    planes = where.any(dim=0)
    found = (where.any(dim=1).any(dim=1), planes.any(dim=1), planes.any(dim=0))
    ends = [axis.nonzero().flatten()[[0, -1]].tolist() for axis in found]
    return tuple(slice(first, last + 1) for first, last in ends)
